"""What people have, opens, with every row counted; what cannot be read says why."""

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from conftest import reviews, write_csv
from datasets import Dataset, DatasetDict

ROWS = [(f'text {i}, well; a "word"', i % 2) for i in range(60)]
ALL = dict.fromkeys(["TRAIN_SIZE", "VALIDATION_SIZE", "TEST_SIZE"])


def table(separator, rows=ROWS):
    """The rows as a file with that separator, quoted by the csv module, as bytes."""
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([("text", "label"), *rows])
    return text.getvalue().encode()


def lines(rows=ROWS):
    objects = [json.dumps({"text": t, "label": v}, ensure_ascii=False) for t, v in rows]
    return "\n".join(objects).encode()


def array(rows=ROWS):
    return json.dumps([{"text": text, "label": label} for text, label in rows]).encode()


BOM = b"\xef\xbb\xbf"
OPENS = {
    "comma.csv": table(","),
    "semicolon.csv": table(";"),
    "tab.csv": table("\t"),
    "tab.tsv": table("\t"),
    "mark.csv": BOM + table(","),
    "european.csv": BOM + table(";"),
    "unix.csv": table(",").replace(b"\r\n", b"\n"),
    "packed.csv.gz": gzip.compress(table(",")),
    "packed.tsv.gz": gzip.compress(table("\t")),
    "lines.json": lines(),
    "lines.jsonl": lines(),
    "mark.json": BOM + lines(),
    "array.json": array(),
    "array_mark.json": BOM + array(),
    "trailing.csv": table(",").replace(b"\r\n", b",\n").replace(b"label,", b"label", 1),
}


def load(pf, name, files=None, **constants):
    kind = "json" if ".json" in name else "csv"
    files = files or {"train": name}
    return pf.edit(DATASET_NAME=kind, DATA_FILES=files, **constants).load_data(kind)


def texts_of(dataset):
    return sorted(text for part in dataset.values() for text in part["text"])


@pytest.mark.parametrize("name", OPENS)
def test_what_people_have_opens(pf, name):
    Path(name).write_bytes(OPENS[name])
    dataset = load(pf, name, **ALL)
    assert texts_of(dataset) == sorted(text for text, _ in ROWS)
    for part in dataset.values():
        for row in part:
            assert row["label"] == int(row["text"].split()[1].strip(",")) % 2


@pytest.mark.parametrize("names", [["a.csv", "b.csv"], "*.csv"])
def test_several_files_are_one_split(pf, names):
    Path("a.csv").write_bytes(table(";", ROWS[:30]))
    Path("b.csv").write_bytes(table(";", ROWS[30:]))
    dataset = load(pf, "csv", {"train": names}, **ALL)
    assert texts_of(dataset) == sorted(text for text, _ in ROWS)


def test_paths_may_be_path_objects(pf):
    Path("a.csv").write_bytes(table(","))
    assert len(load(pf, "csv", {"train": Path("a.csv")}, **ALL)["train"]) == 36


@pytest.mark.parametrize("splits", [1, 2])
def test_a_folder_saved_by_save_to_disk(pf, splits):
    data = Dataset.from_list([{"text": text, "label": label} for text, label in ROWS])
    if splits == 2:
        data = DatasetDict(
            train=data.select(range(40)), test=data.select(range(40, 60))
        )
    data.save_to_disk("saved")
    pf.edit(DATASET_NAME="saved", DATASET_CONFIG=None, **ALL)
    assert texts_of(pf.load_data("saved")) == sorted(text for text, _ in ROWS)


def tab_rows(**changed):
    """A TSV of raw text, as people write it; `changed`: line5="…" replaces a line."""
    rows = ["text\tlabel", *(f"film {i} is good, very\t{i % 2}" for i in range(20))]
    for line, content in changed.items():
        rows[int(line.removeprefix("line"))] = content
    return "\n".join(rows).encode()


UTF_8 = "a file must be UTF-8 (in Excel: CSV UTF-8)"
QUOTE = 'close each quotation mark " 请检查'
TAB = 'a text holds a tab: close each quotation mark "'
LONG = "quote texts that hold the separator"
HEADER = "is the first line of the file a header?"
REFUSED = {
    "gb18030.csv": ("text,label\n好看,1\n难看,0\n".encode("gb18030"), UTF_8),
    "gb18030.json": ('{"text": "好看", "label": 1}'.encode("gb18030"), UTF_8),
    "latin.csv": ("text,label\nété,1\nhiver,0\n".encode("latin-1"), UTF_8),
    "utf16.csv": ("text,label\n好看,1\n难看,0\n".encode("utf-16"), UTF_8),
    "open_to_the_end.tsv": (tab_rows(line5='"Great film\t1'), QUOTE),
    "two_open.tsv": (tab_rows(line5='"Great film\t1', line9='"Bad film\t0'), QUOTE),
    "within.tsv": (tab_rows(line5='"Great film\t1', line9='a "bad" one\t0'), QUOTE),
    "closed_late.tsv": (tab_rows(line5='"Great film\t1', line9='a bad one"\t0'), TAB),
    "open.csv": (b'text,label\n"Great film,1\nBad film,0\n', QUOTE),
    "late_comma.csv": (b"text,label\n" + b"a,1\nb,0\n" * 9 + b"very, very,1\n", LONG),
    "all_commas.csv": (b"text,label\nvery, good,1\nvery, bad,0\n", LONG),
    "double.csv": (b"text,label\na,1\nvery, very, very,1\nb,0\n", LONG),
    "no_header.csv": (b"good film,1\nbad film,0\n" * 9, HEADER),
    "no_header.tsv": (b"good film\t1\nbad film\t0\n" * 9, HEADER),
    "one_column.csv": (b"text\ngood film\nbad film\n", HEADER),
    "pipes.csv": (b"text|label\ngood film|1\nbad film|0\n", HEADER),
    "lists.json": (b'[{"text": "a", "label": ["x"]}]', "one label a row are needed"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_says_why(pf, name, capsys):
    content, expected = REFUSED[name]
    Path(name).write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        load(pf, name, **ALL)
    assert stop.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ") and expected in line
    assert any("\u4e00" <= letter <= "\u9fff" for letter in line)
    assert len(line) < 500


def test_fields_that_a_row_lacks_are_gaps(pf, capsys):
    Path("short.csv").write_bytes(table(",") + b"only a text\nanother one\n")
    dataset = load(pf, "short.csv", **ALL)
    assert sum(map(len, dataset.values())) == 60
    assert "2 of 62 rows dropped: gaps" in capsys.readouterr().out


def said(capsys):
    """The warning lines, without the time."""
    out = capsys.readouterr().out
    return [
        line.split("WARNING | ")[1] for line in out.splitlines() if "WARNING" in line
    ]


@pytest.mark.parametrize("twins", [("spam", "Spam"), ("spam", "spam "), ("a b", "ab")])
def test_labels_that_look_alike_are_named(pf, twins, capsys):
    rows = [(f"text {i}", twins[i % 2]) for i in range(40)]
    write_csv("a.csv", rows)
    dataset = load(pf, "a.csv", **ALL)
    assert dataset["train"].features["label"].names == sorted(twins)
    (line,) = said(capsys)
    assert line.startswith("Labels alike but for case or spaces")
    assert all(repr(label) in line for label in twins)


def test_a_class_without_a_training_row_is_named(pf, capsys):
    rows = [*reviews(60), ("a lonely one", 7)]
    write_csv("a.csv", rows)
    dataset = load(pf, "a.csv", **ALL | {"TRAIN_SIZE": 20})
    assert 2 not in dataset["train"]["label"]
    (line,) = said(capsys)
    assert line == "Classes without a training row 没有训练样本的类别: ['7']"


@pytest.mark.parametrize("constants", [ALL, {"TRAIN_SIZE": 3}])
def test_all_in_order_is_no_warning(pf, constants, capsys):
    write_csv("a.csv", reviews(60))
    load(pf, "a.csv", **ALL | constants)
    assert said(capsys) == []


def test_no_better_than_the_most_frequent_label_is_said(pf, settings, capsys):
    rows = [(f"the film was {i}", int(i % 20 == 0)) for i in range(400)]
    files = {"train": write_csv("rare.csv", rows)}
    pf.edit(**settings | {"DATA_FILES": files}).main()
    lines = said(capsys)
    assert any(
        line.startswith("No better than the baseline 不比基线好") for line in lines
    )
    assert any('CLASS_WEIGHTS = "balanced"' in line for line in lines)
