"""What the user can mend ends in one line, before training, and nothing is lost."""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import reviews, write_csv

FILES = {  # name: (content of the file, what the error line must say)
    "empty.csv": (b"", "cannot read"),
    "header_only.csv": (b"text,label\n", "fewer than two classes"),
    "no_text.csv": (
        b"review,label\na,0\nb,1\n",
        "['text'], but 只有 ['review', 'label']",
    ),
    "no_label.csv": (
        b"text,stars\na,0\nb,1\n",
        "['label'], but 只有 ['text', 'stars']",
    ),
    "one_class.csv": (b"text,label\n" + b"a,1\n" * 30, "fewer than two classes"),
    "all_empty.csv": (b"text,label\n" + b",1\n , 0\n" * 9, "fewer than two classes"),
    "fractions.csv": (b"text,label\n" + b"a,0.5\nb,1.5\n" * 9, "holds fractions"),
    "texts_as_labels.csv": (
        b"text,label\n" + b"".join(b"a,%d\n" % i for i in range(30)),
        "30 classes in 30 training rows",
    ),
    "gbk.csv": ("text,label\n好看,1\n难看,0\n".encode("gbk"), "save it as UTF-8"),
    "ragged.csv": (b"text,label\na,1\nb,2,3,4\nc,1\n", "put quotation marks around"),
    "quote.csv": (b'text,label\n"abc,1\nd,2\n', "close each quotation mark"),
    "two_rows.csv": (b"text,label\na,0\nb,1\n", "2 classes in 2 training rows"),
    "broken.json": (b'{"text": "a", "label": 1}\n{"text": "b", "la', "cannot read"),
    "lists.json": (
        json.dumps([{"text": "a", "label": [1]}] * 9).encode(),
        "one label a row",
    ),
    "not.parquet": (b"hello" * 99, "cannot read"),
}


@pytest.fixture
def error(pf, settings, capsys, complaints, monkeypatch):
    """Run main() with edited constants; give the error line and what was printed."""

    monkeypatch.setenv("HOME", str(Path.cwd()))
    monkeypatch.setenv("USERPROFILE", str(Path.cwd()))
    earlier_result = Path("out/test_predictions.csv")
    earlier_result.parent.mkdir()
    earlier_result.write_text("of an earlier run")

    def run(**constants):
        with pytest.raises(pf.FinetuneError) as raised:
            pf.edit(**settings | constants).main()
        assert raised.value.exit_code == 2
        line = str(raised.value)
        assert "\n" not in line
        assert re.search("[\u4e00-\u9fff]", line)
        out = capsys.readouterr().out
        assert complaints == []
        assert "eval_loss" not in out  # no training began
        assert earlier_result.read_text() == "of an earlier run"
        return line, out

    return run


@pytest.mark.parametrize("name", FILES)
def test_bad_files(error, name):
    content, expected = FILES[name]
    Path(name).write_bytes(content)
    line, _ = error(DATA_FILES=None, DATASET_NAME=name)
    assert expected in line


NAN = float("nan")
WRONG = {
    "TRAIN_SIZE": [0, -1, 2.5, "10", True, NAN],
    "VALIDATION_SIZE": [0],
    "TEST_SIZE": [0],
    "MAX_LENGTH": [0, None, True],
    "BATCH_SIZE": [0, 1.5, None, True],
    "NUM_EPOCHS": [0, -1, NAN, float("inf"), "3", True, None],
    "EVAL_STEPS": [0, 0.5, None],
    "SEED": [-1, 2**32, True, None],
    "LEARNING_RATE": [0, -1e-5, 1, "2e-5", NAN, True, None],
    "WEIGHT_DECAY": [-0.1, None, NAN, True],
    "WARMUP_RATIO": [1, None, NAN, True],
    "DROPOUT": [1, NAN, True],
    "LABEL_NAMES": ["ab", {0: "a", 1: "b"}, [0, 1], ["a", "a"], ["a", "b", "b"], []],
    "SAMPLE_TEXTS": ["a film", ["a", 5], None],
    "TEXT_COLUMN": [["text", "title"], None],
    "LABEL_COLUMN": [["label"], None, "text"],
    "DATA_FILES": [
        5,
        {},
        {"test": "train.csv"},
        {"train": "train.csv", "dev": "a.csv"},
    ],
    "TRUNCATION_SIDE": ["Right", None],
    "CLASS_WEIGHTS": ["auto", [1, 5], True],
    "REPORT_TO": ["nothing", "comet_ml", None],
}
WRONG = [(name, value) for name, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_constant_is_found_before_anything_is_loaded(error, name, value):
    line, out = error(**{name: value})
    assert re.search(rf"\b{name}\b", line)
    assert out == ""


@pytest.mark.parametrize(
    ("constants", "expected"),
    [
        ({"DATA_FILES": {"train": "nowhere.csv"}}, "nowhere.csv"),
        ({"DATA_FILES": "nowhere.csv"}, "check the path"),
        ({"DATA_FILES": []}, "DATA_FILES"),
        ({"DATA_FILES": {"train": None}}, "DATA_FILES"),
        ({"DATA_FILES": None, "DATASET_NAME": "nobody/none"}, "'nobody/none'"),
        (
            {"DATA_FILES": None, "DATASET_NAME": "./none"},
            "cannot load 无法加载 DATASET_NAME",
        ),
        ({"TEXT_COLUMN": "review"}, "['review'], but 只有 ['text', 'label']"),
        ({"LABEL_COLUMN": "stars"}, "['stars'], but 只有 ['text', 'label']"),
        ({"LABEL_NAMES": ["a", "b", "c"]}, "LABEL_NAMES = ['a', 'b', 'c'], for"),
        ({"LABEL_NAMES": ["a"]}, "LABEL_NAMES = ['a'], for"),
        ({"LABEL_NAMES": ["0", "b"]}, "all of the data's names, or none"),
        ({"TRAIN_SIZE": 1}, "train has rows of fewer than two classes: add rows"),
        ({"MODEL_NAME": None}, "MODEL_NAME"),
        (
            {"MODEL_NAME": "nobody/none"},
            "cannot load 无法加载 MODEL_NAME = 'nobody/none'",
        ),
        ({"MODEL_NAME": "./none"}, "cannot load 无法加载 MODEL_NAME = './none'"),
        ({"MAX_LENGTH": 67}, "a text of MAX_LENGTH = 67 "),
    ],
)
def test_what_else_the_user_can_mend(error, constants, expected):
    line, _ = error(**constants)
    assert expected in line


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        (None, "OUTPUT_DIR"),
        ("", "OUTPUT_DIR = ''"),
        (".", "OUTPUT_DIR = '.'"),
        ("train.csv", "OUTPUT_DIR = 'train.csv'"),
        ("~/runs", "write the home folder out"),
        (Path("~/runs"), "write the home folder out"),
    ],
)
def test_a_wrong_output_folder_is_found_before_anything_is_loaded(
    error, folder, expected
):
    Path("out/test_predictions.csv").unlink()
    Path("out").rename("other")
    Path("notes.txt").write_text("precious")
    Path("out").mkdir()
    Path("out/test_predictions.csv").write_text("of an earlier run")
    line, out = error(OUTPUT_DIR=folder)
    assert expected in line
    assert out == ""
    assert not Path("~").exists()


@pytest.mark.parametrize("name", ["README.md", "config.json", "notes.txt", ".git"])
def test_a_folder_of_someone_elses_is_not_written_to(error, name):
    Path("mine").mkdir()
    Path("mine", name).write_text("precious")
    line, _ = error(OUTPUT_DIR="mine")
    assert "is in use" in line
    assert Path("mine", name).read_text() == "precious"
    assert os.listdir("mine") == [name]


@pytest.mark.usefixtures("without_picture")
def test_a_folder_that_is_new_or_empty_or_a_path_object_will_do(pf, settings):
    Path("empty").mkdir()
    for folder in ("empty", Path("new/below")):
        pf.edit(**settings | {"OUTPUT_DIR": folder}).main()
        assert Path(folder, "model.safetensors").exists()


@pytest.mark.parametrize("name", ["out", Path("out"), "./out/../out", "out/inner"])
def test_the_output_folder_may_not_hold_the_model(error, tiny, name):
    shutil.copytree(tiny(), name, dirs_exist_ok=True)
    before = Path(name, "model.safetensors").read_bytes()
    line, out = error(MODEL_NAME=name)
    assert f"it holds {Path(name)} " in line
    assert out == ""
    assert Path(name, "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_that_training_never_saw(error, settings, split):
    other = write_csv("b.csv", [*reviews(10), ("good", 2)])
    files = settings["DATA_FILES"] | {split: other}
    line, _ = error(DATA_FILES=files)
    assert "labels that training never saw 训练集里没有的标签: ['2']" in line


@pytest.mark.parametrize(
    ("pattern", "content", "expected"),
    [
        ("tok*", None, "no tokenizer files"),
        ("model.safetensors", b"0" * 50, "cannot load 无法加载 MODEL_NAME"),
        ("config.json", b'{"model_type": "vit"}', "cannot load 无法加载 MODEL_NAME"),
        ("config.json", None, "cannot load 无法加载 MODEL_NAME"),
    ],
)
def test_folders_that_hold_no_whole_model(error, tiny, pattern, content, expected):
    shutil.copytree(tiny(), "model")
    for file in Path("model").glob(pattern):
        if content is None:
            file.unlink()
        else:
            file.write_bytes(content)
    line, _ = error(MODEL_NAME="model")
    assert expected in line


@pytest.mark.usefixtures("without_picture")
def test_an_error_loses_nothing_of_an_earlier_run(pf, settings):
    pf.edit(**settings).main()

    def files():
        found = [path for path in Path("out").rglob("*") if path.is_file()]
        return {path: path.read_bytes() for path in found}

    before = files()
    for wrong in ({"MODEL_NAME": "nobody/none"}, {"LABEL_COLUMN": "stars"}):
        with pytest.raises(pf.FinetuneError):
            pf.edit(**settings | wrong).main()
    assert files() == before


def test_a_shell_gets_the_line_and_exit_code_2(as_script, settings):
    code, out, err = as_script(**settings | {"LABEL_COLUMN": "stars"})
    assert code == 2
    last = err.splitlines()[-1]
    assert last.startswith("error: train has no column 没有这一列 ['stars']")
    assert "Traceback" not in out + err


def test_what_the_user_cannot_mend_keeps_its_traceback(pf, settings, monkeypatch):
    """A slip in the file itself: it must not read as if a constant were wrong."""

    def slip(*_):
        raise NameError("name 'tainer' is not defined")

    for name in ("training_arguments", "compute_metrics", "tokenize", "read_file"):
        with monkeypatch.context() as patch:
            patch.setattr(pf, name, slip)
            with pytest.raises(NameError, match="tainer"):
                pf.edit(**settings).main()


def test_the_cause_behind_a_librarys_error_is_said(error, pf, monkeypatch):
    """Some errors only say that something went wrong."""

    def fail(_):
        raise ValueError("something went wrong") from OSError("a reason")

    monkeypatch.setattr(pf, "read_file", fail)
    line, _ = error()
    assert "something went wrong a reason" in line


def test_a_full_disk_while_loading_is_one_line_with_advice(error, pf, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    tokenizer = pf.transformers.AutoTokenizer
    monkeypatch.setattr(tokenizer, "from_pretrained", full)
    line, _ = error()
    assert "make room 请腾出空间" in line


def test_a_misspelt_constant_is_named(pf, settings, monkeypatch):
    monkeypatch.setattr(pf, "TRAIN_SIZ", 5, raising=False)
    with pytest.raises(pf.FinetuneError, match="del pf.TRAIN_SIZ$") as error:
        pf.edit(**settings).main()
    assert "TRAIN_SIZ: TRAIN_SIZE?" in str(error.value)


def test_pasted_into_a_notebook_whose_output_cannot_be_set(
    as_script, settings, monkeypatch
):
    """Its output has no `reconfigure`."""
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(write=print, flush=print))
    code, _, err = as_script(**settings | {"SEED": -1})
    assert code == 2
    assert re.search("error: .*SEED.* -1 ", err)


def test_a_missing_file_is_named_as_it_was_written(pf, settings):
    pf.edit(**settings | {"DATA_FILES": "nowhere.csv"})
    with pytest.raises(pf.FinetuneError, match="directory: 'nowhere.csv'"):
        pf.main()


def test_the_rows_of_a_run_are_not_overwritten_by_it(pf, settings, without_picture):
    """Its predictions, corrected by hand, are good rows to train on: elsewhere."""
    pf.edit(**settings).main()
    source = "out/test_predictions.csv"
    before = Path(source).read_bytes()
    for constants in ({"DATA_FILES": source}, {"DATASET_NAME": source}):
        pf.edit(**settings | {"DATA_FILES": None} | constants)
        with pytest.raises(pf.FinetuneError, match="it holds out/test_predictions.csv"):
            pf.main()
    assert Path(source).read_bytes() == before


def test_scores_are_shown_though_a_file_cannot_be_written(
    pf, settings, monkeypatch, capsys
):
    """On Windows, a CSV that is open in Excel is locked."""

    def locked(_):
        raise PermissionError(13, "Permission denied", "out/test_predictions.csv")

    monkeypatch.setattr(pf, "write_predictions", locked)
    with pytest.raises(pf.FinetuneError, match=r"test_predictions\.csv.*close it"):
        pf.edit(**settings).main()
    assert "Evaluation results" in capsys.readouterr().out


def test_a_full_gpu_is_one_line(pf, settings, monkeypatch):
    def fill(*_, **__):
        raise torch.OutOfMemoryError

    for place in ("__init__", "training_step"):
        with monkeypatch.context() as patch:
            patch.setattr(pf.transformers.Trainer, place, fill)
            with pytest.raises(pf.FinetuneError, match="out of memory"):
                pf.edit(**settings).main()
