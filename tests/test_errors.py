"""What the user can mend ends in one line on standard error, exit code 2, no traceback."""

import json
import re
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from benchmark import edit_constants
from conftest import ROOT, reviews, write_csv

FILES = {  # name: (content of the file, what the error line must say)
    "empty.csv": (b"", "No columns to parse"),
    "header_only.csv": (b"text,label\n", "corresponds to no data"),
    "no_text.csv": (
        b"review,label\na,0\nb,1\n",
        "Current columns in the dataset: ['review', 'label']",
    ),
    "no_label.csv": (
        b"text,stars\na,0\nb,1\n",
        "Current columns in the dataset: ['text', 'stars']",
    ),
    "one_class.csv": (b"text,label\n" + b"a,1\n" * 30, "fewer than two classes"),
    "all_empty.csv": (b"text,label\n" + b",1\n , 0\n" * 9, "fewer than two classes"),
    "fractions.csv": (b"text,label\n" + b"a,0.5\nb,1.5\n" * 9, "holds fractions"),
    "infinite.csv": (b"text,label\n" + b"a,inf\nb,1\n" * 9, "holds fractions"),
    "gbk.csv": ("text,label\n好看,1\n难看,0\n".encode("gbk"), "can't decode byte"),
    "ragged.csv": (b"text,label\na,1\nb,2,3,4\nc,1\n", "Expected 2 fields in line 3"),
    "unquoted.csv": (
        b"text,label\nvery, very good,1\nbad, bad,0\n",
        "Length of header or names does not match",
    ),
    "quote.csv": (b'text,label\n"abc,1\nd,2\n', "close each quotation mark"),
    "two_rows.csv": (b"text,label\na,0\nb,1\n", "fewer than two classes"),
    "broken.json": (b'{"text": "a", "label": 1}\n{"text": "b", "la', "cannot load"),
    "lists.json": (
        json.dumps([{"text": "a", "label": [1]}] * 9).encode(),
        "one label a row",
    ),
    "not.parquet": (b"hello" * 99, "cannot load DATASET_NAME"),
}


@pytest.fixture
def error(pf, settings, capsys, complaints, monkeypatch):
    """Run main() with edited constants; give the error line after checking its form."""

    monkeypatch.setenv("HOME", str(Path.cwd()))

    def run(**constants):
        edits = settings | constants
        kept = Path("out/keep").exists()
        with pytest.raises(SystemExit) as stop:
            pf.edit(**edits).main()
        assert stop.value.code == 2
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        (line,) = (line for line in lines if line.startswith("error: "))
        # progress bars end in a carriage return or a rate; nothing else may stand there
        others = [other for other in lines if other != line]
        bar = r"examples/s|(it|ba)/s|^$"
        assert all(re.search(bar, other) for other in others), others
        assert "Traceback" not in captured.err + captured.out
        assert complaints == []
        assert "eval_loss" not in captured.out  # no training began
        assert kept == Path("out/keep").exists()
        assert any("\u4e00" <= letter <= "\u9fff" for letter in line)
        return line

    return run


@pytest.mark.parametrize("name", FILES)
def test_bad_files(error, tmp_path, name):
    content, expected = FILES[name]
    (tmp_path / name).write_bytes(content)
    kind = name.rsplit(".", 1)[1]
    files = {"train": str(tmp_path / name)}
    assert expected in error(DATASET_NAME=kind, DATA_FILES=files)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("TRAIN_SIZE", value) for value in (0, -1, 2.5, "10")),
        *(("BATCH_SIZE", value) for value in (0, 1.5, None)),
        *(("MAX_LENGTH", 0), ("EVAL_STEPS", 0.5), ("SEED", -1), ("SEED", 2**32)),
        *(("NUM_EPOCHS", value) for value in (0, -1, float("nan"), float("inf"), "3")),
        *(("LEARNING_RATE", value) for value in (0, -1e-5, 1, "2e-5")),
        *(("WEIGHT_DECAY", None), ("WARMUP_RATIO", None), ("EVAL_STEPS", None)),
        *(("WEIGHT_DECAY", -0.1), ("WARMUP_RATIO", 1), ("DROPOUT", 1)),
        *(("DATA_FILES", "a.csv"), ("DATA_FILES", 5), ("TRUNCATION_SIDE", "Right")),
    ],
)
def test_constants_out_of_range(error, name, value):
    line = error(**{name: value})
    assert line.startswith("error: a constant 常量有误: ") and "must be" in line
    assert name in line.upper()


@pytest.mark.parametrize(
    ("constants", "expected"),
    [
        ({"DATA_FILES": {"train": "nowhere.csv"}}, "nowhere.csv"),
        (
            {"DATA_FILES": {"test": "train.csv"}},
            "'train' (check it; with DATA_FILES = {\"train\": …}",
        ),
        ({"DATA_FILES": None}, "cannot load DATASET_NAME = 'csv'"),
        ({"DATASET_NAME": "nobody/nothing", "DATA_FILES": None}, "'nobody/nothing'"),
        ({"TEXT_COLUMN": "review"}, "['review'] not in the dataset. Current columns"),
        ({"LABEL_COLUMN": "text"}, "set TEXT_COLUMN and LABEL_COLUMN"),
        ({"LABEL_COLUMN": "stars"}, "['stars'] not in the dataset. Current columns"),
        ({"LABEL_NAMES": ["a", "b", "c"]}, "(list a name for each of 0, 1 "),
        ({"LABEL_NAMES": ["a", "a"]}, "LABEL_NAMES = ['a', 'a']: Some label"),
        ({"LABEL_NAMES": {0: "a", 1: "b"}}, "LABEL_NAMES must be an instance of list"),
        ({"LABEL_NAMES": "ab"}, "LABEL_NAMES must be an instance of list"),
        ({"LABEL_NAMES": [0, 1]}, "LABEL_NAMES must be an instance of str"),
        ({"SAMPLE_TEXTS": "a film"}, "SAMPLE_TEXTS or LABEL_NAMES must be an"),
        ({"SAMPLE_TEXTS": ["a", 5]}, "each of SAMPLE_TEXTS and LABEL_NAMES"),
        ({"CLASS_WEIGHTS": "auto"}, "a str among {'balanced'} or None. Got 'auto'"),
        ({"CLASS_WEIGHTS": [1, 5]}, "the training cannot be set up: The classes"),
        ({"REPORT_TO": "nothing"}, "the training cannot be set up"),
        ({"OUTPUT_DIR": None}, "OUTPUT_DIR = None"),
        ({"MODEL_NAME": None}, "MODEL_NAME"),
        ({"LABEL_NAMES": ["a", "b", "b"]}, "Got 3 names VS 2 num_classes"),
        ({"TRAIN_SIZE": 1}, "train has rows of fewer than two classes: add rows"),
        ({"MODEL_NAME": "nobody/nothing"}, "cannot load MODEL_NAME = 'nobody/nothing'"),
        ({"MODEL_NAME": "./nowhere"}, "cannot load MODEL_NAME = './nowhere'"),
        ({"MAX_LENGTH": 67}, "a text of MAX_LENGTH = 67: "),
        ({"OUTPUT_DIR": "train.csv"}, "OUTPUT_DIR = 'train.csv'"),
        ({"OUTPUT_DIR": "."}, "OUTPUT_DIR = '.': it is in use"),
        ({"OUTPUT_DIR": "~/runs"}, "OUTPUT_DIR = '~/runs': write the home folder out"),
        ({"OUTPUT_DIR": ""}, "OUTPUT_DIR = ''"),
    ],
)
def test_what_else_the_user_can_mend(error, constants, expected):
    assert expected in error(**constants)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_label_that_training_never_saw(error, settings, split):
    other = write_csv("b.csv", [*reviews(10), ("good", 2)])
    files = settings["DATA_FILES"] | {split: other}
    assert error(DATA_FILES=files).endswith("出现训练集里没有的标签: [2]")


DAMAGE = {
    "tok*": (None, "no tokenizer files"),
    "model.safetensors": (b"0" * 50, "cannot load MODEL"),
    "config.json": (b'{"model_type": "vit"}', "cannot load"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_folders_that_hold_no_whole_model(error, tiny, name):
    content, expected = DAMAGE[name]
    shutil.copytree(tiny(), "model")
    for file in Path("model").glob(name):
        file.write_bytes(content) if content else file.unlink()
    assert expected in error(MODEL_NAME="model")


def test_an_empty_folder_may_be_the_current_one(pf):
    pf.edit(OUTPUT_DIR=".").check_output_folder()  # MODEL_NAME is on the Hub, not in it


@pytest.mark.parametrize("name", ["README.md", "config.json", "notes.txt"])
def test_a_folder_of_someone_elses_is_not_written_to(error, name):
    Path("mine").mkdir()
    Path("mine", name).write_text("precious")
    assert "is in use" in error(OUTPUT_DIR="mine")
    assert Path("mine", name).read_text() == "precious"
    assert len(list(Path("mine").iterdir())) == 1


def test_an_error_loses_nothing_of_an_earlier_run(error, pf, settings, capsys):
    pf.edit(**settings).main()
    capsys.readouterr()

    def files():
        return {p: p.read_bytes() for p in Path("out").rglob("*.*") if p.is_file()}

    before = files()
    error(MODEL_NAME="nobody/nothing")
    error(LABEL_COLUMN="stars")
    for name in ("out", "out/checkpoint-5"):  # its own folder, or within it
        assert "it holds MODEL_NAME" in error(MODEL_NAME=name)
    assert files() == before


def test_pasted_into_a_notebook_whose_output_cannot_be_set(tmp_path, monkeypatch):
    source = (ROOT / "pretrain_finetune.py").read_text(encoding="utf-8")
    script = tmp_path / "cell.py"
    script.write_text(edit_constants(source, {"SEED": -1}), encoding="utf-8")
    monkeypatch.setattr("sys.stdout", SimpleNamespace(write=print, flush=print))
    with pytest.raises(SystemExit):  # of the seed
        runpy.run_path(str(script), run_name="__main__")
