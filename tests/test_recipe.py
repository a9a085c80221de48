"""What makes the model better out of the same rows: each ingredient alone."""

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import ROOT, results, reviews, write_csv
from datasets import Dataset
from sklearn.linear_model import Ridge
from transformers import AutoModelForSequenceClassification, pipeline

ENCODERS = ("distilbert", "bert", "roberta")


@pytest.fixture
def settings(tmp_path, tiny):
    return {
        "MODEL_NAME": tiny(),
        "DATASET_NAME": "csv",
        "DATA_FILES": {"train": write_csv(tmp_path / "train.csv", reviews(60))},
        "TRAIN_SIZE": 40,
        "VALIDATION_SIZE": 10,
        "TEST_SIZE": 10,
        "MAX_LENGTH": 16,
        "LEARNING_RATE": 1e-3,
        "OUTPUT_DIR": "out",
    }


@pytest.fixture
def prepare(pf, settings, tiny):
    """`prepare(family)`: a trainer on tiny reviews, as `main` makes it, and the report."""

    def make(family="bert", **constants):
        pf.edit(**settings | {"MODEL_NAME": tiny(family)} | constants)
        dataset, tokenizer = pf.load_data(), pf.load_tokenizer()
        tokenized = pf.tokenize(dataset, tokenizer)
        pf.set_seed(pf.SEED)
        model, load_report = pf.build_model(["NEGATIVE", "POSITIVE"])
        pf.start_with_mean_pooling(model, load_report)
        trainer = pf.build_trainer(model, tokenizer, tokenized, torch.device("cpu"))
        return trainer, load_report

    return make


# The end of a text 文本的结尾


@pytest.mark.parametrize(("side", "kept"), [("left", "good"), ("right", "bad")])
def test_the_side_that_is_cut_is_saved(pf, settings, side, kept, tmp_path):
    pf.edit(**settings, TRUNCATION_SIDE=side)
    tokenizer = pf.load_tokenizer()
    text = "bad " * 300 + "good " * 300
    tokenizer.save_pretrained(tmp_path / "saved")
    for tool in (tokenizer, type(tokenizer).from_pretrained(tmp_path / "saved")):
        ids = tool(text, truncation=True)["input_ids"]
        words = tool.convert_ids_to_tokens(ids)
        assert len(ids) == 16
        assert set(words) == {"[CLS]", kept, "[SEP]"}


# The top layer as an average 顶层即平均


def last_states(model, **inputs):
    return model.base_model(**inputs, output_hidden_states=True).hidden_states[-2:]


@pytest.mark.parametrize("family", ENCODERS)
def test_the_top_layer_starts_as_the_average_of_the_tokens(pf, tiny, family):
    pf.edit(MODEL_NAME=tiny(family), MAX_LENGTH=16)
    model, load_report = pf.build_model(["a", "b"])
    pf.start_with_mean_pooling(model.eval(), load_report)
    ids = torch.tensor([[2, 7, 8, 9, 3], [2, 8, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with torch.no_grad():
        below, top = last_states(model, input_ids=ids, attention_mask=mask)
    weights = mask[:, :, None] / mask.sum(1)[:, None, None]
    mean = (below * weights).sum(1, keepdim=True)  # padding has no part in it
    norm = torch.nn.functional.layer_norm
    expected = norm(norm(below + mean, top.shape[-1:]), top.shape[-1:])
    assert torch.allclose(top[mask == 1], expected[mask == 1], atol=1e-4)


@pytest.mark.parametrize("family", ENCODERS)
def test_what_the_average_says_reaches_the_head(pf, tiny, family):
    pf.edit(MODEL_NAME=tiny(family), MAX_LENGTH=16)
    model, load_report = pf.build_model(["a", "b"])
    pf.start_with_mean_pooling(model.eval(), load_report)
    with torch.no_grad():
        _, top = last_states(model, input_ids=torch.tensor([[2, 7, 8, 9, 3]]))
        name = "out_proj" if family == "roberta" else "classifier"
        parent = model.classifier if family == "roberta" else model
        setattr(parent, name, torch.nn.Identity())
        seen = model(input_ids=torch.tensor([[2, 7, 8, 9, 3]])).logits
    squash = torch.relu if family == "distilbert" else torch.tanh
    assert torch.allclose(seen, squash(0.3 * top[:, 0] + 0.5), atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "albert"])
def test_other_architectures_keep_their_top_layer(pf, tiny, family, capsys):
    pf.edit(MODEL_NAME=tiny(family), MAX_LENGTH=16)
    model, load_report = pf.build_model(["a", "b"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pf.start_with_mean_pooling(model, load_report)
    assert "MEAN_POOLING is not used" in capsys.readouterr().out
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


def test_a_finished_classifier_is_not_taken_apart(pf, settings, capsys):
    pf.edit(**settings).main()
    capsys.readouterr()
    again = settings | {"MODEL_NAME": "out", "OUTPUT_DIR": "again"}
    pf.edit(**again | {"LEARNING_RATE": 1e-9}).main()
    said = capsys.readouterr().out
    assert "top layer" not in said
    assert "no head is fitted" in said
    assert results("again")["test_accuracy"] == results("out")["test_accuracy"]


# The fitted head 直接解出的分类头


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    features = rng.normal(3, [1] * 10 + [20] * 10, (60, 20))
    classes = (features[:, 0] + rng.normal(0, 1, 60) > 3).astype(int)
    classes[:5] = 2
    return features, np.eye(3)[classes]


def scaled(features):
    spread = features.std(0)
    return features / (spread + 0.1 * np.median(spread) + 1e-6)


def test_ridge_agrees_with_a_library_at_the_strength_it_chose(pf, problem):
    features, targets = problem
    weights, bias, _ = pf.fit_ridge(features, targets)
    ours = features @ weights.T + bias
    n = len(features)
    theirs = [
        Ridge(alpha=alpha).fit(scaled(features), targets).predict(scaled(features))
        for alpha in n * np.logspace(-2, 2, 17)
    ]
    assert min(np.abs(ours + 1 / 3 - fit).max() for fit in theirs) < 1e-4


@pytest.mark.parametrize("centre", [True, False])
def test_left_out_answers_are_those_of_fits_without_the_row(pf, problem, centre):
    features, targets = problem
    _, bias, unseen = pf.fit_ridge(features, targets, centre)
    assert centre or np.allclose(bias, 0)  # a decoder's head has none
    x, n = scaled(features), len(features)
    targets = targets - 1 / 3
    errors, answers = [], []
    for alpha in n * np.logspace(-2, 2, 17):
        each = [
            Ridge(alpha=alpha, fit_intercept=centre)
            .fit(np.delete(x, i, 0), np.delete(targets, i, 0))
            .predict(x[[i]])[0]
            for i in range(n)
        ]
        answers.append(each)
        errors.append(np.mean((np.array(each) - targets) ** 2))
    best = answers[int(np.argmin(errors))]  # so the strength is the best of them, too
    assert np.allclose(unseen, best, atol=1e-4)


def test_features_that_are_constant_do_no_harm(pf, problem):
    features, targets = problem
    with_constant = np.hstack([features, np.full((60, 3), 7.0)])
    for fit in (pf.fit_ridge(with_constant, targets), pf.fit_ridge(features, targets)):
        assert np.isfinite(fit[0]).all()
    few = pf.fit_ridge(features[:4], targets[:4])  # fewer rows than features
    assert np.isfinite(few[0]).all()


def test_the_scale_makes_confidence_mean_what_it_says(pf):
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-true))).astype(int)
    logits = np.stack([-true, true], 1) / 2 / 7  # seven times too timid
    assert pf.best_scale(logits, np.eye(2)[labels]) == pytest.approx(7, rel=0.1)


@pytest.mark.parametrize("family", [*ENCODERS, "albert", "gpt2"])
def test_the_head_is_solved_for_in_every_family(prepare, pf, family, capsys):
    trainer, load_report = prepare(family)
    before = {n: v.clone() for n, v in trainer.model.state_dict().items()}
    pf.fit_head(trainer, load_report)
    after = trainer.model.state_dict()
    changed = {n for n, v in after.items() if not torch.equal(v, before[n])}
    name = {"roberta": "classifier.out_proj", "gpt2": "score"}.get(family, "classifier")
    bias = set() if family == "gpt2" else {f"{name}.bias"}
    assert changed == {f"{name}.weight"} | bias
    assert "left out in turn" in capsys.readouterr().out
    # its answers are those of the ridge on what the head sees
    rows = trainer.train_dataset
    logits = trainer.predict(rows).predictions
    parent, _, leaf = name.rpartition(".")
    parent = trainer.model.get_submodule(parent)
    head = getattr(parent, leaf)
    setattr(parent, leaf, torch.nn.Identity())
    features = trainer.predict(rows.remove_columns("label")).predictions
    setattr(parent, leaf, head)
    targets = np.eye(2)[rows["label"]]
    weights, bias, _ = pf.fit_ridge(features, targets, family != "gpt2")
    bias = bias if family != "gpt2" else 0
    assert np.allclose(logits, features @ weights.T + bias, atol=1e-3)


def test_the_head_stays_fixed_while_the_body_trains(prepare, pf):
    trainer, load_report = prepare(GROUP_BY_LENGTH=False)
    pf.fit_head(trainer, load_report)
    head = trainer.model.classifier.weight.clone()
    layer = trainer.model.bert.encoder.layer[0].output.dense.weight.clone()
    trainer.train()
    assert torch.equal(trainer.model.classifier.weight, head)
    assert not torch.equal(
        trainer.model.bert.encoder.layer[0].output.dense.weight, layer
    )


def test_the_head_is_fitted_again_to_the_trained_body(prepare, pf):
    trainer, load_report = prepare()
    metrics = pf.fine_tune(trainer, load_report)
    assert 0 < metrics["warm_up_runtime"] < 60
    head = trainer.model.classifier.weight.clone()
    pf.fit_head(trainer, load_report)  # the same direction, at another scale
    again = trainer.model.classifier.weight
    turn = torch.nn.functional.cosine_similarity(again.ravel(), head.ravel(), dim=0)
    assert turn == pytest.approx(1, abs=1e-4)


def test_validation_decides_between_the_old_head_and_the_new(prepare, pf, monkeypatch):
    trainer, load_report = prepare()
    pf.fine_tune(trainer, load_report)
    good = trainer.predict(trainer.eval_dataset).predictions.argmax(1)
    head = trainer.model.classifier
    upside_down = -head.weight.numpy(force=True), -head.bias.numpy(force=True)
    wrong = *upside_down, np.eye(2)[[0] * 40]
    monkeypatch.setattr(pf, "fit_ridge", lambda *_: wrong)
    pf.fit_head(trainer, load_report, trained=True)
    after = trainer.predict(trainer.eval_dataset).predictions.argmax(1)
    assert (after == good).all()


def test_a_diverged_body_keeps_its_head_and_says_so(prepare, pf, capsys):
    trainer, load_report = prepare()
    with torch.no_grad():
        trainer.model.bert.embeddings.LayerNorm.weight.fill_(float("nan"))
    head = trainer.model.classifier.weight.clone()
    pf.fit_head(trainer, load_report, trained=True)
    assert "lower LEARNING_RATE" in capsys.readouterr().out
    assert torch.equal(trainer.model.classifier.weight, head)


def test_the_fit_is_bounded_and_judges_by_training_rows_alone(prepare, pf, monkeypatch):
    trainer, load_report = prepare()
    seen = []
    fit = pf.fit_ridge
    monkeypatch.setattr(
        pf, "fit_ridge", lambda f, *rest: seen.append(f.shape) or fit(f, *rest)
    )
    pf.fit_head(trainer, load_report, most_rows=24)
    assert seen == [(24, 16)]


def test_a_kept_head_is_not_fitted(prepare, pf, capsys):
    trainer, _ = prepare()
    head = trainer.model.classifier.weight.clone()
    pf.fit_head(trainer, {"missing_keys": []})
    assert torch.equal(trainer.model.classifier.weight, head)
    assert "no head is fitted" in capsys.readouterr().out


# Lengths, dropout, embeddings 长度、随机失活、词向量


def rows_of(lengths, labels):
    ids = [[1] * n for n in lengths]
    return Dataset.from_dict({"input_ids": ids, "label": labels})


def test_batches_hold_like_lengths_and_equal_shares(pf):
    rng = np.random.default_rng(0)
    lengths, labels = rng.integers(5, 256, 203), rng.integers(0, 2, 203)
    grouped = pf.group_by_length(rows_of(lengths, labels), 8)
    sizes = [len(ids) for ids in grouped["input_ids"]]
    assert sorted(sizes) == sorted(lengths)
    assert sum(grouped["label"]) == labels.sum()
    batches = [slice(i, i + 8) for i in range(0, 200, 8)]
    padded = sum(8 * max(sizes[b]) for b in batches) / sum(sizes[:200])
    assert (
        padded < 1.25 < 8 * sum(max(lengths[b]) for b in batches) / lengths[:200].sum()
    )
    assert all(2 <= sum(grouped["label"][b]) <= 6 for b in batches)
    starts = [sizes[b][0] for b in batches]
    assert any(a > b for a, b in pairwise(starts))  # the batches themselves are mixed
    assert any(a < b for a, b in pairwise(starts))


@pytest.mark.parametrize("rows", [1, 5, 8, 9])
def test_few_rows_are_grouped_too(pf, rows):
    grouped = pf.group_by_length(rows_of(range(1, rows + 1), [0] * rows), 8)
    assert sorted(map(len, grouped["input_ids"])) == list(range(1, rows + 1))


def test_evaluation_goes_by_length(pf):
    order = pf.order_by_length(rows_of([3, 9, 5, 7], [0, 1, 2, 3]))
    assert list(order) == [1, 3, 2, 0]


@pytest.mark.parametrize("family", ["distilbert", "bert", "albert", "gpt2"])
def test_dropout_is_the_constant(pf, tiny, family):
    def rates(model):
        dropouts = [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]
        return {module.p for module in dropouts}

    pf.edit(MODEL_NAME=tiny(family), MAX_LENGTH=16)
    assert rates(pf.build_model(["a", "b"])[0]) == {0.0}
    pf.edit(DROPOUT=0.3)
    assert rates(pf.build_model(["a", "b"])[0]) == {0.3}
    pf.edit(DROPOUT=None)
    assert rates(pf.build_model(["a", "b"])[0]) & {0.1, 0.2}


@pytest.mark.parametrize("frozen", [True, False])
def test_word_embeddings_stay_or_move(prepare, frozen):
    trainer, _ = prepare(FREEZE_EMBEDDINGS=frozen)
    before = trainer.model.get_input_embeddings().weight.clone()
    trainer.train()
    same = torch.equal(trainer.model.get_input_embeddings().weight, before)
    assert same == frozen


@pytest.mark.parametrize(("rate", "said"), [(2e-5, True), (1e-3, False)])
def test_a_run_too_short_for_its_rate_is_told_so(prepare, rate, said, capsys):
    prepare(LEARNING_RATE=rate)
    assert ("the body will hardly move" in capsys.readouterr().out) == said


@pytest.mark.parametrize(
    "edit",
    [
        {"TRUNCATION_SIDE": "end"},
        {"MEAN_POOLING": 1},
        {"FIT_HEAD": None},
        {"FREEZE_EMBEDDINGS": "yes"},
        {"GROUP_BY_LENGTH": 0},
        {"DROPOUT": 1.0},
        {"DROPOUT": -0.1},
    ],
)
def test_the_new_constants_are_checked(pf, edit, capsys):
    pf.edit(**edit)
    with pytest.raises(SystemExit) as caught:
        pf.check_constants()
    assert caught.value.code == 2
    assert next(iter(edit)) in capsys.readouterr().err


def test_everything_switched_off_is_the_plain_recipe(prepare, pf, settings):
    off = dict.fromkeys(("MEAN_POOLING", "FIT_HEAD", "FREEZE_EMBEDDINGS"), False)
    trainer, load_report = prepare(DROPOUT=None, GROUP_BY_LENGTH=False, **off)
    before = {n: v.clone() for n, v in trainer.model.named_parameters()}
    metrics = pf.fine_tune(trainer, load_report)
    assert metrics["warm_up_runtime"] < 0.1
    still = [
        n for n, v in trainer.model.named_parameters() if torch.equal(v, before[n])
    ]
    assert still == []
    assert trainer.args.train_sampling_strategy == "random"
    assert math.isfinite(metrics["train_loss"])


# The whole 合在一起


def test_saved_and_deployed_with_the_recipe(pf, settings, tiny, tmp_path):
    pf.edit(**settings | {"MODEL_NAME": tiny("distilbert")})
    pf.main()
    model = AutoModelForSequenceClassification.from_pretrained("out")
    assert type(model).__name__ == "DistilBertForSequenceClassification"
    texts = ["the film was good", "bad " * 300]
    ours = pf.predict(texts)
    theirs = pipeline("text-classification", model="out")(texts, truncation=True)
    assert ours == theirs
    assert results("out", "train_results.json")["warm_up_runtime"] > 0


def test_the_benchmark_runs_and_prints_its_table(tiny, tmp_path):
    train = write_csv(tmp_path / "train.csv", reviews(60))
    test = write_csv(tmp_path / "test.csv", reviews(21))
    options = "--seeds 1 --learning-rates 1e-3 --train-size 40 --max-length 16 "
    options += "--recipes published program"
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "tests/benchmark.py",
            tiny(),
            train,
            test,
            *options.split(),
        ],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| published", "| program"]
    assert "1.00" in lines[2]
