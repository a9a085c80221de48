"""What cannot be used says why, in one line, and gives the advice that mends it or none."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import reviews, write_csv
from test_data import load, load_files, rows_of
from test_files import CSV, TABLE, zip_of

ADVICE = {
    "encoding": "save it as UTF-8",
    "quotation marks": "close each quotation mark",
    "separator in a text": "put quotation marks around texts",
    "no separator": "separate the columns by comma, semicolon or tab",
    "path": "check the path",
    "columns": "does the first line hold the columns' names?",
    "configuration": "set DATASET_CONFIG",
    "name or Hub": "HF_ENDPOINT",
}


def complaint(pf, name, **constants):
    """The one line that says why these data cannot be used."""
    with pytest.raises(pf.FinetuneError) as stop:
        load(pf, name, **constants)
    line = str(stop.value)
    assert stop.value.exit_code == 2
    assert "\n" not in line
    assert len(line) < 600
    assert any("\u4e00" <= sign <= "\u9fff" for sign in line)  # both languages
    return line


def advice_in(line):
    return [cause for cause, advice in ADVICE.items() if advice in line]


def text_file(header, *rows):
    return "\n".join([header, *rows, ""])


def with_line(number, line, separator=","):
    """A table of twenty short texts, in which one line is another."""
    rows = [f"film {i} is fine{separator}{('bad', 'good')[i % 2]}" for i in range(20)]
    rows[number] = line
    return text_file(f"text{separator}label", *rows)


CHINESE = text_file("text,label", *["很好看,好评", "不好看,差评"] * 10)
EUROPEAN = text_file("text,label", *["été,bon", "hiver,mauvais"] * 10)
JSON_LINES = "\n".join(
    json.dumps({"text": text, "label": label}) for text, label in reviews(20)
)
NOTHING = None  # No advice is needed: the line itself says what is wrong.

# name of the file → what is in it, a word that must be said, the advice that is right
CAUSES = {
    "gb18030.csv": (CHINESE.encode("gb18030"), "utf-8", "encoding"),
    "big5.csv": (CHINESE.replace("评", "").encode("big5"), "utf-8", "encoding"),
    "gb18030.tsv": (CHINESE.encode("gb18030"), "utf-8", "encoding"),
    "latin.csv": (EUROPEAN.encode("latin-1"), "utf-8", "encoding"),
    "utf16.csv": (CHINESE.encode("utf-16"), "utf-8", "encoding"),
    "utf16.txt": (CHINESE.replace(",", "\t").encode("utf-16"), "utf-8", "encoding"),
    "gb18030.jsonl": ('{"text": "好看"}'.encode("gb18030"), "utf-8", "encoding"),
    "open_to_the_end.csv": (
        with_line(5, '"Great,good'),
        "end of data",
        "quotation marks",
    ),
    "open_to_the_end.tsv": (
        with_line(5, '"Great\tgood', "\t"),
        "end of data",
        "quotation marks",
    ),
    "two_open.csv": (
        with_line(5, '"Great,good').replace("film 9", '"film 9'),
        "'\"'",
        "quotation marks",
    ),
    "two_open.tsv": (
        with_line(5, '"Great\tgood', "\t").replace("film 9", '"film 9'),
        "'\"'",
        "quotation marks",
    ),
    "one_comma.csv": (with_line(9, "very, very,good"), "11", "separator in a text"),
    "two_commas.csv": (with_line(9, "so, so, so,good"), "11", "separator in a text"),
    "first_comma.csv": (
        with_line(0, "so, so, so,good"),
        "first_comma.csv",
        "separator in a text",
    ),
    "all_commas.csv": (
        text_file("text,label", *["so, so,good", "no, no,bad"] * 10),
        "all_commas.csv",
        "separator in a text",
    ),
    "label_first.csv": (
        text_file("label,text", *["good,so, so", "bad,no, no"] * 10),
        "label_first.csv",
        "separator in a text",
    ),
    "no_header.csv": (CSV.removeprefix("text,label\n"), "label", "columns"),
    "other_names.csv": (CSV.replace("text,label", "review,stars"), "review", "columns"),
    "other_case.csv": (CSV.replace("text,label", "Text,Label"), "Text", "columns"),
    "empty.csv": ("", "empty.csv", NOTHING),
    "empty.tsv": ("", "empty.tsv", NOTHING),
    "empty.json": ("", "empty.json", NOTHING),
    "empty.jsonl": ("", "empty.jsonl", NOTHING),
    "empty.xlsx": ("", "empty.xlsx", NOTHING),
    "empty.parquet": ("", "0 bytes", NOTHING),
    "header_only.csv": ("text,label\n", "add rows", NOTHING),
    "broken.json": ('[{"text": "a", "label": 1}, {"text": "b"', "broken.json", NOTHING),
    "comma_too_many.json": (
        '[{"text": "a", "label": 1},]',
        "comma_too_many.json",
        NOTHING,
    ),
    "quotes.json": ("[{'text': 'a', 'label': 1}]", "quotes.json", NOTHING),
    "broken.jsonl": (JSON_LINES + '\n{"text": "b", "label":', "broken.jsonl", NOTHING),
    "commas.jsonl": (JSON_LINES.replace("\n", ",\n"), "commas.jsonl", NOTHING),
    "broken.xlsx": (b"PK\3\4 cut off", "broken.xlsx", NOTHING),
    "a_table.xlsx": (CSV, "a_table.xlsx", NOTHING),
    "broken.parquet": (CSV, "broken.parquet", NOTHING),
    "broken.csv.gz": (gzip.compress(CSV.encode())[:50], "broken.csv.gz", NOTHING),
    "not_packed.csv.gz": (CSV, "gzip", NOTHING),
    "broken.zip": ("not an archive", "zip", NOTHING),
    "lists.json": ('[{"text": "a", "label": ["x"]}]', "one label a row", NOTHING),
    "objects.json": ('[{"text": "a", "label": {"x": 1}}]', "one label a row", NOTHING),
    "two_texts.jsonl": (
        JSON_LINES + '\n{"text": ["a", "b"], "label": 1}',
        "one text",
        NOTHING,
    ),
    "fractions.csv": (
        CSV.replace("bad", "0.5").replace("good", "1.5"),
        "frac",
        NOTHING,
    ),
    "one_class.csv": (CSV.replace("bad", "good"), "two classes", NOTHING),
    "no_labels.csv": (
        text_file("text,label", *[f"text {i}," for i in range(9)]),
        "two classes",
        NOTHING,
    ),
}


@pytest.mark.parametrize("name", CAUSES)
def test_the_advice_fits_the_cause(pf, name):
    content, word, cause = CAUSES[name]
    if isinstance(content, str):
        content = content.encode()
    Path(name).write_bytes(content)
    line = complaint(pf, name)
    assert word in line
    assert advice_in(line) in ([], [cause])


@pytest.mark.parametrize(
    "name", ["gb18030.csv", "one_comma.csv", "open_to_the_end.csv"]
)
def test_the_usual_causes_get_their_advice(pf, name):
    content, _, cause = CAUSES[name]
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert advice_in(complaint(pf, name)) == [cause]


@pytest.mark.parametrize(
    "header", ["text", "text|label", "text^label", "text，label", "文本、标签"]
)
def test_where_no_separator_is_found(pf, header):
    """The columns that are named must be those of the file, not pieces of a word."""
    sign = header.removeprefix("text").removesuffix("label")
    rows = [f"film {i}{sign}good" for i in range(9)]
    Path("data.csv").write_text(text_file(header, *rows), encoding="utf-8")
    line = complaint(pf, "data.csv")
    assert "Unnamed" not in line and "'ex'" not in line
    assert advice_in(line) in ([], ["columns"], ["no separator"])


@pytest.mark.parametrize(
    "name", ["none.csv", "none*.csv", "nowhere/none.xlsx", "n.json"]
)
def test_a_file_that_is_missing(pf, name):
    assert advice_in(complaint(pf, name)) == ["path"]
    line = complaint(pf, "imdb", DATA_FILES={"train": name})
    assert name in line and advice_in(line) == ["path"]


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing"])
def test_a_data_set_that_is_missing(pf, name):
    line = complaint(pf, name)
    assert name in line and advice_in(line) == ["name or Hub"]


@pytest.mark.parametrize("name", ["data.zip", "data.csv.zip", "data.json.zip"])
def test_an_archive_of_several_files_names_them(pf, name):
    zip_of(("train.csv", CSV), ("test.csv", CSV))(name)
    line = complaint(pf, name)
    assert "train.csv" in line and "test.csv" in line
    assert advice_in(line) == []


def test_a_missing_column_of_other_kinds_of_files(pf):
    table = TABLE.rename(columns={"label": "stars"})
    table.to_excel("data.xlsx", index=False)
    table.to_parquet("data.parquet")
    table.to_json("data.json")
    for name in ("data.xlsx", "data.parquet", "data.json"):
        line = complaint(pf, name)
        assert "['label']" in line and "'stars'" in line
        assert "LABEL_COLUMN" in line


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl"])
def test_two_columns_of_one_name(pf, name):
    """Blanks around a column's name are not seen, so that these two are alike."""
    table = TABLE.assign(**{"text ": "another text"})
    table.to_csv("data.csv", index=False)
    table.to_json("data.jsonl", orient="records", lines=True)
    assert "text" in complaint(pf, name)


def test_text_and_label_columns_swapped(pf):
    write_csv("data.csv", reviews(120))
    line = complaint(pf, "data.csv", TEXT_COLUMN="label", LABEL_COLUMN="text")
    assert "120 classes in 120" in line
    assert "LABEL_COLUMN = 'text'" in line


@pytest.mark.parametrize(
    ("classes", "fits"), [(30, True), (31, False)], ids=["half the rows", "more"]
)
def test_more_classes_than_half_the_rows(pf, classes, fits):
    write_csv("data.csv", [(f"text {i}", f"class {i % classes}") for i in range(60)])
    if fits:
        assert len(rows_of(load(pf, "data.csv"))) == 60
    else:
        assert "31 classes in 60" in complaint(pf, "data.csv")


def test_a_label_that_training_never_saw(pf):
    write_csv("train.csv", reviews(60))
    write_csv("test.csv", [("good", 1), ("bad", 2)])
    files = {"train": "train.csv", "test": "test.csv"}
    assert "['2']" in complaint(pf, "imdb", DATA_FILES=files)


def test_two_text_columns(pf):
    write_csv("data.csv", reviews(60))
    line = complaint(pf, "data.csv", TEXT_COLUMN=["question", "answer"])
    assert "TEXT_COLUMN" in line
    assert "list" in line


@pytest.mark.parametrize(
    "files",
    [
        {"train": "train.csv", "dev": "train.csv"},
        {"train": "train.csv", "Test": "train.csv"},
        {"test": "train.csv"},
        {},
        [],
        5,
        {"train": None},
        {"train": []},
        {"train": 5},
    ],
)
def test_data_files_name_the_three_splits(pf, files):
    write_csv("train.csv", reviews(60))
    line = complaint(pf, "imdb", DATA_FILES=files)
    assert "DATA_FILES" in line
    for split in ("train", "validation", "test"):
        assert f'"{split}"' in line


def test_a_data_set_without_training_rows(pf):
    Path("folder").mkdir()
    write_csv("folder/test.csv", reviews(60))
    line = complaint(pf, "folder")
    assert "train" in line and "never saw" not in line


def test_a_folder_is_no_file(pf):
    Path("folder").mkdir()
    write_csv("folder/train.csv", reviews(60))
    line = complaint(pf, "imdb", DATA_FILES="folder")
    assert "folder" in line and advice_in(line) == []


def test_a_folder_without_data(pf):
    Path("folder").mkdir()
    Path("folder/notes.doc").write_text("nothing")
    line = complaint(pf, "folder")
    assert "folder" in line and advice_in(line) == []


def test_the_part_with_the_wrong_columns_is_named(pf):
    write_csv("train.csv", reviews(60))
    write_csv("test.csv", reviews(20), header=("review", "label"))
    with pytest.raises(pf.FinetuneError, match="test has no column"):
        load_files(pf, {"train": "train.csv", "test": "test.csv"})


def test_a_workbook_whose_table_is_on_the_second_sheet(pf):
    with pd.ExcelWriter("data.xlsx") as book:
        pd.DataFrame({"notes": ["made in May"]}).to_excel(book, sheet_name="Notes")
        TABLE.to_excel(book, sheet_name="Data", index=False)
    assert "notes" in complaint(pf, "data.xlsx")
