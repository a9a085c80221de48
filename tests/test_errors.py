"""What the user can mend ends in one line on standard error, exit code 2, no traceback."""

import json
import re
import shutil
from pathlib import Path

import models
import pytest
from conftest import reviews, write_csv
from datasets import Dataset

GOOD_CSV = "text,label\n" + "\n".join(f"{text},{label}" for text, label in reviews())

FILES = {  # name: (content of the file, what the error line must say)
    "empty.csv": (b"", "No columns to parse"),
    "header_only.csv": (b"text,label\n", "has no rows"),
    "no_text_column.csv": (
        b"review,label\na,0\nb,1\n",
        "no column 'text', only 'review', 'label'",
    ),
    "no_label_column.csv": (
        b"text,stars\na,0\nb,1\n",
        "only 'text', 'stars': set LABEL_COLUMN",
    ),
    "one_class.csv": (b"text,label\n" + b"a,1\n" * 30, "one class only, 1"),
    "all_empty.csv": (
        b"text,label\n" + b",1\n , 0\n" * 9,
        "no train row has a text and a label",
    ),
    "fractions.csv": (b"text,label\n" + b"a,0.5\nb,1.5\n" * 9, "fractions such as 0.5"),
    "latin.csv": (
        "text,label\ncafé,1\nthé,0\n".encode("latin-1"),
        "not UTF-8 at byte 14",
    ),
    "gbk.csv": (
        "text,label\n好看,1\n难看,0\n".encode("gbk"),
        "not UTF-8 at byte 11; convert it, e.g. iconv -f gbk",
    ),
    "unmarked.csv": (GOOD_CSV.encode("utf-16-le"), "not UTF-8 at byte 1;"),
    "ragged.csv": (b"text,label\na,1\nb,2,3,4\nc,1\n", "Expected 2 fields in line 3"),
    "unquoted.csv": (
        b"text,label\ngood, very good,1\nbad, bad,0\n",
        "more fields than the header",
    ),
    "late.csv": (
        b"text,label\n" + b"a,1\nb,0\n" * 9000 + b"a,1,2,3\n",
        "in line 18002",
    ),
    "open_quote.csv": (b'text,label\n"abc,1\nd,2\n', "EOF inside string"),
    "binary.csv": (bytes(range(256)) * 20, "cannot read"),
    "two_rows.csv": (b"text,label\na,0\nb,1\n", "too few rows"),
    "broken.json": (b'{"text": "a", "label": 1}\n{"text": "b", "la', "cannot read"),
    "empty.json": (b"", "it is empty"),
    "not.json": (b"hello", "cannot read"),
    "list_label.json": (
        json.dumps([{"text": "a", "label": [1, 2]}] * 9).encode(),
        "one text and one label a row",
    ),
    "not.parquet": (b"hello" * 99, "not a parquet file"),
    "empty.parquet": (b"", "0 bytes"),
}


@pytest.fixture
def error(pf, tiny, capsys, complaints):
    """Run main() on a tiny model; give the error line after checking its form."""

    def run(**constants):
        out = Path("out")
        with pytest.raises(SystemExit) as stop:
            pf.edit(
                **(
                    {"MODEL_NAME": tiny(), "MAX_LENGTH": 32, "OUTPUT_DIR": "out"}
                    | constants
                )
            ).main()
        assert stop.value.code == 2
        captured = capsys.readouterr()
        lines = [
            line for line in captured.err.splitlines() if line.startswith("error: ")
        ]
        assert len(lines) == 1
        # progress bars end in a carriage return or a rate; nothing else may stand there
        others = [line for line in captured.err.splitlines() if line not in lines]
        assert all(re.search(r"examples/s|(it|ba)/s|^$", line) for line in others), (
            others
        )
        assert "Traceback" not in captured.err + captured.out
        assert complaints == []
        assert "steps an epoch" not in captured.out  # it ended before any training
        assert not out.exists() or out.is_file()
        assert any("\u4e00" <= letter <= "\u9fff" for letter in lines[0])
        return lines[0]

    return run


@pytest.mark.parametrize("name", FILES)
def test_bad_files(error, tmp_path, name):
    content, expected = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    kind = name.rsplit(".", 1)[1]
    assert expected in error(DATASET_NAME=kind, DATA_FILES={"train": str(path)})


def test_no_such_file(error):
    line = error(DATASET_NAME="csv", DATA_FILES={"train": "nowhere.csv"})
    assert "nowhere.csv" in line and "Unable to find" in line


@pytest.mark.parametrize("split", ["validation", "test"])
def test_label_that_training_never_saw(error, tmp_path, split):
    train = write_csv(tmp_path / "a.csv", reviews())
    other = write_csv(tmp_path / "b.csv", [*reviews(10), ("good", 2)])
    line = error(DATASET_NAME="csv", DATA_FILES={"train": train, split: other})
    assert f"the {split} data has labels that training never saw, 2" in line


def test_test_file_without_the_label_column(error, tmp_path):
    train = write_csv(tmp_path / "a.csv", reviews())
    other = write_csv(tmp_path / "b.csv", reviews(), ("text", "target"))
    line = error(DATASET_NAME="csv", DATA_FILES={"train": train, "test": other})
    assert "the test data has no column 'label', only 'text', 'target'" in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("VALIDATION_SIZE", "TEST_SIZE")
            for value in (0, -1, 2.5, "10", True)
        ),
        ("TRAIN_SIZE", 1),
        *(("BATCH_SIZE", value) for value in (0, -8, 1.5, None)),
        *(("MAX_LENGTH", value) for value in (0, 3, 33.0)),
        *(("EVAL_STEPS", value) for value in (0, 0.5)),
        *(("NUM_EPOCHS", value) for value in (0, -1, float("nan"), float("inf"), "3")),
        *(("LEARNING_RATE", value) for value in (0, -1e-5, 1, float("nan"), "2e-5")),
        *(("WEIGHT_DECAY", value) for value in (-0.1, 1.5, None)),
        *(("WARMUP_RATIO", value) for value in (-0.1, 1, 100)),
        *(("SEED", value) for value in (-1, 2**32, 1.5)),
        *(("SAMPLE_TEXTS", value) for value in ("a text", [], [""], [1])),
        *(("LABEL_NAMES", value) for value in (["a"], ["a", "a"], "ab", [0, 1])),
        ("LABEL_COLUMN", "text"),
        ("TEXT_COLUMN", None),
        ("MODEL_NAME", ""),
        ("MODEL_NAME", None),
        ("OUTPUT_DIR", ""),
    ],
)
def test_constants_out_of_range(error, tmp_path, name, value):
    path = write_csv(tmp_path / "a.csv", reviews())
    line = error(**{"DATASET_NAME": "csv", "DATA_FILES": {"train": path}, name: value})
    assert line.startswith(f"error: {name} = {value!r} must be ")


@pytest.mark.parametrize("names", [["only", "two"], ["a", "b", "c", "d"]])
def test_label_names_of_the_wrong_length(error, tmp_path, names):
    path = write_csv(tmp_path / "a.csv", [(f"text {i}", i % 3) for i in range(60)])
    line = error(DATASET_NAME="csv", DATA_FILES={"train": path}, LABEL_NAMES=names)
    assert f"LABEL_NAMES has {len(names)} names for the 3 labels 0, 1, 2" in line


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_format_without_files(error, kind):
    assert "files need both" in error(DATASET_NAME=kind)


@pytest.mark.parametrize(
    "files",
    ["a.csv", ["a.csv"], 5]
    + [{"train": "a.csv", "test": value} for value in (None, 5, [], [None], "")],
)
def test_files_that_are_no_dict(error, files):
    assert "DATA_FILES" in error(DATASET_NAME="csv", DATA_FILES=files)


def test_files_without_format(error):
    assert "files need both" in error(DATA_FILES={"train": "a.csv"})


@pytest.mark.parametrize(
    "files", [{"test": "a.csv"}, {"train": "a.csv", "dev": "b.csv"}]
)
def test_unknown_parts(error, files):
    assert "DATA_FILES" in error(DATASET_NAME="csv", DATA_FILES=files)


@pytest.fixture
def csv_file(tmp_path):
    return {
        "DATASET_NAME": "csv",
        "DATA_FILES": {"train": write_csv(tmp_path / "ok.csv", reviews())},
    }


def test_unknown_model_without_a_hub(error, csv_file):
    line = error(**csv_file, MODEL_NAME="nobody/nothing")
    assert line.startswith("error: cannot load MODEL_NAME = 'nobody/nothing': ")
    assert "HF_ENDPOINT" in line


def test_folder_that_is_no_model(error, csv_file, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("hello")
    assert "cannot load MODEL_NAME" in error(**csv_file, MODEL_NAME="folder")


def test_model_without_a_tokenizer(error, csv_file, tiny, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(Path(tiny(), name).read_bytes())
    assert "has no tokenizer files" in error(**csv_file, MODEL_NAME="folder")


def test_model_with_broken_weights(error, csv_file, tiny, tmp_path):
    folder = shutil.copytree(tiny(), tmp_path / "folder")
    (folder / "model.safetensors").write_bytes(b"\0" * 50)
    assert "cannot load MODEL_NAME" in error(**csv_file, MODEL_NAME="folder")


def test_model_that_cannot_classify_texts(error, csv_file, tiny, tmp_path):
    folder = shutil.copytree(tiny(), tmp_path / "folder")
    (folder / "config.json").write_text('{"model_type": "vit"}')
    assert "cannot load MODEL_NAME" in error(**csv_file, MODEL_NAME="folder")


@pytest.mark.parametrize(
    ("family", "limit"), [("bert", 66), ("roberta", 65), ("gpt2", 66)]
)
def test_max_length_above_the_limit(error, csv_file, tiny, family, limit):
    line = error(**csv_file, MODEL_NAME=tiny(family), MAX_LENGTH=limit + 1)
    assert f"MAX_LENGTH = {limit + 1}: " in line and f"reads {limit} at most" in line


def test_unknown_data_set_without_a_hub(error):
    line = error(DATASET_NAME="nobody/nothing", DATASET_CONFIG=None)
    assert "cannot load DATASET_NAME = 'nobody/nothing'" in line
    assert "HF_ENDPOINT" in line


def test_output_dir_that_is_a_file(error, csv_file, tmp_path):
    (tmp_path / "out").write_text("precious")
    assert "cannot be written" in error(**csv_file)
    assert "cannot be written" in error(**csv_file, OUTPUT_DIR="out/below")
    assert (tmp_path / "out").read_text() == "precious"


def test_output_dir_that_would_overwrite(error, csv_file, tiny, pf):
    for folder in (tiny(), Path(tiny()).parent, Path(pf.__file__).parent, "."):
        assert "is in use" in error(**csv_file, OUTPUT_DIR=str(folder))
    assert Path(tiny(), "model.safetensors").exists()


def test_output_dir_that_is_not_expanded(error, csv_file):
    assert "cannot be written" in error(**csv_file, OUTPUT_DIR="~/model")


@pytest.mark.parametrize("name", ["README.md", "config.json", "vocab.txt", "run.json"])
def test_output_dir_with_files_that_no_run_wrote(error, csv_file, tmp_path, name):
    mine = tmp_path / "mine" / name
    mine.parent.mkdir()
    mine.write_text('{"precious": 1}')
    assert "is in use" in error(**csv_file, OUTPUT_DIR="mine")
    assert mine.read_text() == '{"precious": 1}'


def test_tokenizer_of_another_model(error, csv_file, tmp_path):
    models.save_tiny("bert", tmp_path / "model")
    tokenizer = models.tiny_tokenizer()
    tokenizer.add_tokens(["superb", "lousy"])
    tokenizer.save_pretrained(tmp_path / "model")
    assert "more words than it knows" in error(**csv_file, MODEL_NAME="model")


def test_model_without_a_token_to_pad_with(error, csv_file, tmp_path):
    models.save_tiny("gpt2", tmp_path / "model")
    tokenizer = models.tiny_tokenizer(pad=False)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "model")
    assert "no pad token" in error(**csv_file, MODEL_NAME="model")


def test_weights_of_another_architecture(error, csv_file, tiny, tmp_path):
    shutil.copytree(tiny("distilbert"), tmp_path / "model")
    shutil.copy(Path(tiny("bert"), "model.safetensors"), tmp_path / "model")
    assert "do not fit its config.json" in error(**csv_file, MODEL_NAME="model")


def test_folder_that_does_not_exist(error, csv_file):
    assert "there is no such folder" in error(**csv_file, MODEL_NAME="./nowhere")


def test_imbalance_that_leaves_one_class(error, tmp_path):
    rows = [(f"text {i}", int(i % 500 == 0)) for i in range(2000)]
    line = error(
        DATASET_NAME="csv", DATA_FILES={"train": write_csv(tmp_path / "a.csv", rows)}
    )
    assert "train has 200 with 1 class(es); add rows or raise TRAIN_SIZE" in line


def test_parquet_with_a_column_of_bytes(error, tmp_path):
    columns = {"text": [b"\xff\xfe"] * 30, "label": [0, 1] * 15}
    Dataset.from_dict(columns).to_parquet(tmp_path / "a.parquet")
    line = error(
        DATASET_NAME="parquet", DATA_FILES={"train": str(tmp_path / "a.parquet")}
    )
    assert "one text and one label a row" in line
