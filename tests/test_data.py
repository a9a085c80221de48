"""Labels, sizes and warnings: what load_data makes of the rows that it was given."""

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from conftest import reviews, write_csv
from datasets import ClassLabel, Dataset, Features, Value

ALL = {"TRAIN_SIZE": None, "VALIDATION_SIZE": None, "TEST_SIZE": None}
SMALL = {"TRAIN_SIZE": 20, "VALIDATION_SIZE": 10, "TEST_SIZE": 10}


def load(pf, name, **constants):
    """Load all rows of the data set of that name, as main() would."""
    pf.edit(**{"DATASET_NAME": name, "DATA_FILES": None} | ALL | constants)
    pf.check_constants()
    return pf.load_data(str(name))


def load_files(pf, files, **constants):
    """Load all rows of DATA_FILES, which the shipped DATASET_NAME does not disturb."""
    return load(pf, "stanfordnlp/imdb", DATA_FILES=files, **constants)


def names_of(dataset):
    return dataset["train"].features["label"].names


def rows_of(dataset):
    """All rows of the three parts, sorted, as (text, name of the class)."""
    rows = []
    for part in dataset.values():
        names = part.features["label"].names
        for row in part:
            rows.append((row["text"], names[row["label"]]))
    return sorted(rows)


def warnings_of(capsys):
    """The warning lines on the screen, without the time."""
    lines = capsys.readouterr().out.splitlines()
    return [line.split("WARNING | ")[1] for line in lines if "WARNING" in line]


def write_json_lines(path, rows):
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
    Path(path).write_text("\n".join(lines), encoding="utf-8")


def write_json_array(path, rows):
    objects = [{"text": text, "label": label} for text, label in rows]
    Path(path).write_text(json.dumps(objects), encoding="utf-8")


def write_parquet(path, rows):
    pd.DataFrame(rows, columns=["text", "label"]).to_parquet(path)


def write_workbook(path, rows):
    pd.DataFrame(rows, columns=["text", "label"]).to_excel(path, index=False)


WRITERS = {
    "csv": write_csv,
    "jsonl": write_json_lines,
    "json": write_json_array,
    "parquet": write_parquet,
    "xlsx": write_workbook,
}


def with_labels(labels, count=120):
    """Rows whose labels take turns, the last one first."""
    return [(f"text {i}", labels[i % len(labels)]) for i in reversed(range(count))]


def check_labels(pf, kind, labels, names, **constants):
    """Write rows with these labels; each must come back under the name of its label."""
    WRITERS[kind](f"data.{kind}", with_labels(labels))
    dataset = load(pf, f"data.{kind}", **constants)
    assert rows_of(dataset) == sorted(with_labels(names))
    return dataset


# ---- Labels and texts, as they are written ----
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("labels", "names"),  # in the order that the classes must have
    [
        ((0, 1), ("0", "1")),
        ((-1, 1), ("-1", "1")),
        ((1, 2, 3, 4), ("1", "2", "3", "4")),
        ((9, 10, 100), ("9", "10", "100")),
        (range(12), [str(number) for number in range(12)]),
        (("8", "9", "10", "11"), ("8", "9", "10", "11")),
        ((1.0, 2.0), ("1", "2")),
        ((False, True), ("False", "True")),
        (("neg", "pos"), ("NEGATIVE", "POSITIVE")),
        (("negative", "positive"), ("negative", "positive")),
        (("NEG", "POS", "neutral"), ("NEG", "POS", "neutral")),
        (("neg", "neutral", "pos"), ("neg", "neutral", "pos")),
        (("007", "08"), ("007", "08")),
        (("Sci/Tech", "Sport", "World"), ("Sci/Tech", "Sport", "World")),
        (("NA", "None", "nan", "null"), ("NA", "None", "nan", "null")),
        (("1", "two"), ("1", "two")),
        (("$", "$$"), ("$", "$$")),
        (("好评", "差评"), ("好评", "差评")),
    ],
)
def test_labels_keep_their_names_and_their_order(pf, kind, labels, names):
    dataset = check_labels(pf, kind, labels, names)
    assert names_of(dataset) == list(names)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
@pytest.mark.parametrize("first", [12345678901234567890, 98765432109876543210])
def test_labels_of_twenty_digits_stay_apart(pf, kind, first):
    check_labels(pf, kind, (first, first + 1), (str(first), str(first + 1)))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet"])
def test_long_numbers_stay_apart_beside_gaps(pf, kind):
    """A column with a gap must not become one of floats, which are less exact."""
    rows = with_labels((9007199254740992, 9007199254740993))
    labels = pd.Series([*(label for _, label in rows), None], dtype="Int64")
    texts = [*(text for text, _ in rows), "a gap"]
    if kind == "parquet":
        pd.DataFrame({"text": texts, "label": labels}).to_parquet("data.parquet")
    else:
        gap = "" if kind == "csv" else None
        WRITERS[kind](f"data.{kind}", [*rows, ("a gap", gap)])
    dataset = load(pf, f"data.{kind}")
    assert rows_of(dataset) == sorted((text, str(label)) for text, label in rows)


@pytest.mark.parametrize("kind", ["jsonl", "json"])
def test_json_of_several_kinds_in_a_column_stays_as_it_is(pf, kind):
    texts = ["被扣了两次钱", "good", 5, 1.5, True]
    labels = [0, 1, "other"]
    rows = [(texts[i % 5], labels[i % 3]) for i in range(60)]
    WRITERS[kind](f"data.{kind}", rows)
    dataset = load(pf, f"data.{kind}")
    assert rows_of(dataset) == sorted((str(text), str(label)) for text, label in rows)


@pytest.mark.parametrize("kind", WRITERS)
def test_texts_stay_as_they_are_written(pf, kind):
    texts = ["007", "NA", "None", "null", "nan", "1e5", "1.50", "True", "=1", " a  b "]
    rows = [(text, i % 2) for i, text in enumerate(texts * 6)]
    WRITERS[kind](f"data.{kind}", rows)
    # In a workbook, = begins a formula, whose value only Excel can work out.
    expected = {text for text in texts if kind != "xlsx" or text != "=1"}
    assert {text for text, _ in rows_of(load(pf, f"data.{kind}"))} == expected


def test_a_text_may_be_a_book(pf):
    book = "a long sentence " * 20_000
    write_csv("data.csv", [*reviews(60), (book, 1)])
    assert (book, "1") in rows_of(load(pf, "data.csv"))


def test_any_columns_will_do(pf):
    rows = [(i, "x", label, text) for i, (text, label) in enumerate(reviews(60))]
    write_csv("data.csv", rows, ("id", "text", "stars", "review"))
    dataset = load(pf, "data.csv", TEXT_COLUMN="review", LABEL_COLUMN="stars")
    assert rows_of(dataset) == sorted((text, str(label)) for text, label in reviews(60))


def test_columns_that_are_not_used_may_hold_anything(pf):
    kinds = [40, "", "A1", "2024-01-01", "1.5"]
    rows = [(*row, kinds[i % 5]) for i, row in enumerate(reviews(60))]
    write_csv("data.csv", rows, ("text", "label", "other"))
    assert len(rows_of(load(pf, "data.csv"))) == 60


# ---- What nobody sees does not make a class ----
@pytest.mark.parametrize(
    ("usual", "seldom"),
    [
        ("a b", "a\u00a0b"),  # a blank that does not break the line
        ("a b", "a\u3000b"),  # the blank of Chinese and Japanese keyboards
        ("a b", "a\u2009b"),  # a thin blank
        ("a b", "a  b"),
        ("a b", "a\nb"),
        ("a b", "a\tb"),
        ("a b", " a b "),
        ("a b", "\u3000a b\u00a0"),
        ("a b", "\ta b\r\n"),
        ("ab", "a\u200bb"),  # a blank without width
        ("ab", "\ufeffab"),  # a byte order mark
        ("ab", "ab\u00ad"),  # a hyphen that shows only at the end of a line
        ("ab", "ab\u200e"),  # marks of the direction of writing
        ("ab", "\u202aab\u202c"),
        ("ab", "\u2066ab\u2069"),
        ("ab", "\u200cab\u200d"),  # what joins letters or keeps them apart, at the ends
        ("é", "e\u0301"),  # an accent as a sign of its own
        ("e\u0301", "é"),
        ("긍정", "\u1100\u1173\u11bc\u110c\u1165\u11bc"),
        ("ABC", "ＡＢＣ"),  # of full width
        ("ＡＢＣ", "ABC"),
        ("退款（急）", "退款(急)"),
        ("1", "１"),
        ("1", "1.0"),
    ],
)
def test_labels_that_look_alike_are_one_class(pf, capsys, usual, seldom):
    """The class has the name that is written most often, as it is written there."""
    names = (usual, usual, usual, "other")
    # The last one is read first: the seldom spelling comes before the usual one.
    check_labels(pf, "jsonl", (usual, usual, seldom, "other"), names)
    assert warnings_of(capsys) == []


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet"])
def test_blanks_in_labels_of_other_kinds_of_files(pf, kind):
    labels = ("好评", "好评\u3000", " 好评\u00a0", "差评\u200b")
    check_labels(pf, kind, labels, ("好评", "好评", "好评", "差评"))


@pytest.mark.parametrize(
    "labels", [("a b", "ab"), ("a-b", "a_b"), ("👩\u200d💻", "👨\u200d💻"), ("é", "e")]
)
def test_labels_that_look_different_are_two_classes(pf, capsys, labels):
    check_labels(pf, "jsonl", labels, labels)
    assert warnings_of(capsys) == []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"cut \ud83d", "cut \ufffd"),
        (r"\uDE00 cut", "\ufffd cut"),
        (r"\ude00\ud83d", "\ufffd\ufffd"),
        (r"\ud83d\ude00", "😀"),
        (r"\ud83d\ud83d\ude00", "\ufffd😀"),
        (r"\u5dee\u8bc4", "差评"),
    ],
)
def test_half_an_emoji_in_json(pf, written, read):
    """It is what a text ends in that was cut by another program."""
    lines = [f'{{"text": "{i} {written}", "label": {i % 2}}}' for i in range(40)]
    Path("data.jsonl").write_text("\n".join(lines))
    dataset = load(pf, "data.jsonl")
    assert rows_of(dataset) == sorted((f"{i} {read}", str(i % 2)) for i in range(40))


# ---- LABEL_NAMES ----
@pytest.mark.parametrize(
    ("labels", "given", "names"),
    [
        # The data's own names give the order.
        (("positive", "negative"), ["positive", "negative"], ("positive", "negative")),
        (("b", "a", "c"), ["c", "a", "b"], ("b", "a", "c")),
        (("0", "1"), ["1", "0"], ("0", "1")),
        (("good", "bad"), ["Good", "BAD"], ("Good", "BAD")),
        (("pos", "neg"), ["POSITIVE", "NEGATIVE"], ("POSITIVE", "NEGATIVE")),
        (("pos", "neg"), ["pos", "neg"], ("pos", "neg")),
        (("pos", "neg"), ["POS", "NEG"], ("POS", "NEG")),
        (("Pos", "Neg"), ["POSITIVE", "NEGATIVE"], ("POSITIVE", "NEGATIVE")),
        (("neg", "pos"), ["positive", "negative"], ("negative", "positive")),
        (("Spam", "spam", "x"), ["x", "spam", "Spam"], ("Spam", "spam", "x")),
        (("spam", "ham"), ["spam\u00a0", "ＨＡＭ"], ("spam\u00a0", "ＨＡＭ")),
        (("so  so", "bad"), ["so  so", "b\u200bad"], ("so  so", "b\u200bad")),
        # Other names are new names, in the order of the classes.
        (("0", "1"), ["bad", "good"], ("bad", "good")),
        (("neg", "pos"), ["差评", "好评"], ("差评", "好评")),
        ((10, 9), ["nine", "ten"], ("ten", "nine")),
    ],
)
def test_label_names_are_an_order_or_new_names(pf, labels, given, names):
    dataset = check_labels(pf, "csv", labels, names, LABEL_NAMES=given)
    assert names_of(dataset) == given


@pytest.mark.parametrize(
    "given", [["good", "awful"], ["one"], ["x", "y", "z"], ["x", "x"], ["good"] * 2]
)
def test_label_names_that_do_not_fit(pf, given):
    write_csv("data.csv", with_labels(("good", "bad")))
    with pytest.raises(pf.FinetuneError, match="LABEL_NAMES") as stop:
        load(pf, "data.csv", LABEL_NAMES=given)
    line = str(stop.value)
    if len(set(given)) == len(given):  # the others need no look at the data
        assert "'bad'" in line and "'good'" in line
    assert any("\u4e00" <= sign <= "\u9fff" for sign in line)


def test_a_class_labels_names_keep_their_order(pf):
    kind = ClassLabel(names=["z", "a"])
    features = Features({"text": Value("string"), "label": kind})
    columns = {"text": [f"text {i}" for i in range(40)], "label": [0, 1] * 20}
    Dataset.from_dict(columns, features).to_parquet("data.parquet")
    dataset = load(pf, "data.parquet")
    assert names_of(dataset) == ["z", "a"]
    again = load(pf, "data.parquet", LABEL_NAMES=["last", "first"])
    assert names_of(again) == ["last", "first"]
    assert again["test"]["label"] == dataset["test"]["label"]


# ---- Three parts ----
@pytest.mark.parametrize(
    "given", [("train",), ("train", "test"), ("train", "validation")]
)
def test_parts_are_disjoint_and_stratified(pf, given):
    files = {}
    for split in given:  # sorted by label, a quarter of them positive
        rows = [(f"{split} {i}", int(i >= 90)) for i in range(120)]
        files[split] = write_csv(f"{split}.csv", rows)
    dataset = load_files(pf, files, **SMALL)
    texts = [text for text, _ in rows_of(dataset)]
    assert len(texts) == len(set(texts)) == 40
    assert [len(part) for part in dataset.values()] == [20, 10, 10]
    for part in dataset.values():
        assert abs(sum(part["label"]) - len(part) / 4) <= 1
    if len(given) == 2:  # where there is no test split, validation becomes the test
        assert all(text.startswith(given[1]) for text in dataset["test"]["text"])
        assert all(text.startswith("train") for text in dataset["validation"]["text"])


@pytest.mark.parametrize(
    ("rows", "sizes", "expected"),
    [
        (1000, (200, 50, 50), (200, 50, 50)),
        (300, (200, 50, 50), (200, 50, 50)),
        (300, (None, None, None), (180, 60, 60)),  # a fifth each
        (1000, (None, None, None), (600, 200, 200)),
        (100, (None, 50, 50), (60, 20, 20)),  # at most a fifth
        (100, (200, 50, 50), (60, 20, 20)),
        (1000, (200, None, 30), (200, 200, 30)),
        (10, (None, None, None), (6, 2, 2)),
        (4, (None, None, None), (2, 1, 1)),
        (1000, (960, 50, 50), (900, 50, 50)),  # no part takes rows that it will not use
    ],
)
def test_sizes_where_all_is_cut_off_train(pf, rows, sizes, expected):
    write_csv("data.csv", reviews(rows))
    train, validation, test = sizes
    sizes = {"TRAIN_SIZE": train, "VALIDATION_SIZE": validation, "TEST_SIZE": test}
    dataset = load(pf, "data.csv", **sizes)
    assert tuple(map(len, dataset.values())) == expected


def test_sizes_beyond_the_data_take_all_of_it(pf):
    files = {"train": write_csv("a.csv", reviews(60))}
    files["test"] = write_csv("b.csv", reviews(20))
    sizes = {"TRAIN_SIZE": 100, "VALIDATION_SIZE": 50, "TEST_SIZE": 30}
    dataset = load_files(pf, files, **sizes)
    assert list(map(len, dataset.values())) == [48, 12, 20]


def test_the_seed_decides_the_rows(pf):
    write_csv("data.csv", reviews(90))
    one = load(pf, "data.csv", **SMALL, SEED=1)["train"]["text"][:]
    two = load(pf, "data.csv", **SMALL, SEED=2)["train"]["text"][:]
    again = load(pf, "data.csv", **SMALL, SEED=1)["train"]["text"][:]
    assert set(one) != set(two)
    assert one == again


def test_the_order_of_the_files_does_not_matter(pf):
    files = {}
    for split in ("train", "validation", "test"):
        rows = [(f"{text} {split}", label) for text, label in reviews(60)]
        files[split] = write_csv(f"{split}.csv", rows)
    dataset = load_files(pf, files, **SMALL)
    in_another_order = dict(sorted(files.items()))
    assert list(in_another_order) != list(files)
    again = load_files(pf, in_another_order, **SMALL)
    assert rows_of(again) == rows_of(dataset)


@pytest.mark.parametrize("column", [ClassLabel(names=["neg", "pos"]), Value("int64")])
def test_splits_without_labels_are_not_used(pf, capsys, column):
    """SST-2's test split has -1 for each label; IMDB has a split `unsupervised`."""
    features = Features({"text": Value("string"), "label": column})
    splits = {"train": [0, 1] * 30, "validation": [1, 0] * 6, "test": [-1] * 9}
    splits["unsupervised"] = [-1] * 99
    Path("data").mkdir()
    for split, labels in splits.items():
        texts = [f"{split} {i}" for i in range(len(labels))]
        rows = Dataset.from_dict({"text": texts, "label": labels}, features)
        rows.to_parquet(f"data/{split}.parquet")
    dataset = load(pf, "data")
    assert [len(part) for part in dataset.values()] == [48, 12, 12]
    assert all(text.startswith("validation") for text in dataset["test"]["text"])
    (line,) = warnings_of(capsys)
    assert "dropped" in line and "{'test': 9}" in line


# ---- Warnings: a line each, with the right count ----
THREE = with_labels(("a", "b", "c"))
NEW = [("a new good one", "a"), ("a new bad one", "b")]
WARNINGS = {
    "gaps": (
        [
            *THREE,
            (None, "a"),
            ("good", None),
            ("", "b"),
            ("  ", "b"),
            ("good", "\u200b"),
        ],
        NEW,
        ["dropped", "{'train': 5}"],
    ),
    "gaps in the test": (
        THREE,
        [*NEW, ("good", ""), ("", "a")],
        ["dropped", "{'test': 2}"],
    ),
    "leakage": (
        THREE,
        [*NEW, *THREE[:3]],
        ["3 texts", "leakage", "泄漏"],
    ),
    "two labels": (
        [*THREE, ("good", "a"), ("good", "b"), ("bad", "a"), ("bad", "b")],
        NEW,
        ["2 texts with two labels", "'good'", "'bad'"],
    ),
    "three labels": (
        [*THREE, ("good", "a"), ("good", "b"), ("good", "c")],
        NEW,
        ["1 text", "with two labels", "['good']"],
    ),
    "nan": (
        with_labels(("a", "b", "nan")),
        NEW,
        ["1 class", "gap", "缺失", "'nan'"],
    ),
    "case": (
        with_labels(("a", "b", "B")),
        NEW,
        ["2 classes", "case only", "大小写", "'B'", "'b'"],
    ),
}


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("case", WARNINGS)
def test_what_is_odd_is_one_warning(pf, capsys, kind, case):
    train, test, words = WARNINGS[case]
    parts = {"train": train, "test": test, "validation": [("another one", "a")]}
    files = {}
    for part, rows in parts.items():
        files[part] = f"{part}.{kind}"
        WRITERS[kind](files[part], rows)
    load_files(pf, files)
    (line,) = warnings_of(capsys)
    for word in words:
        assert word in line


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("size", [None, 4])
def test_all_in_order_is_no_warning(pf, capsys, kind, size):
    WRITERS[kind](f"data.{kind}", reviews(60))
    load(pf, f"data.{kind}", TRAIN_SIZE=size)
    assert warnings_of(capsys) == []


def test_doubled_rows_leak_into_the_test(pf, capsys):
    write_csv("data.csv", reviews(60) * 2)
    dataset = load(pf, "data.csv")
    train_texts = set(dataset["train"]["text"])
    leaks = sum(text in train_texts for text in dataset["test"]["text"])
    (line,) = warnings_of(capsys)
    assert leaks > 0
    assert line.startswith(f"{leaks} texts")
    assert "leakage" in line


@pytest.mark.parametrize(("size", "count"), [(20, 0), (None, 1)])
def test_a_class_without_or_with_one_training_row(pf, size, count, capsys):
    """A label that is misspelt once is such a class."""
    write_csv("data.csv", [*reviews(60), ("a lonely one", 7)])
    dataset = load(pf, "data.csv", TRAIN_SIZE=size)
    assert names_of(dataset) == ["0", "1", "7"]
    assert list(dataset["train"]["label"]).count(2) == count
    (line,) = warnings_of(capsys)
    assert line.startswith("1 class")
    assert line.endswith("['7']")
    assert "fewer than 2 training rows" in line


def test_rows_that_are_too_short_are_gaps(pf, capsys):
    write_csv("data.csv", reviews(60))
    with open("data.csv", "a") as file:
        file.write("only a text\nanother one\n")
    assert len(rows_of(load(pf, "data.csv"))) == 60
    (line,) = warnings_of(capsys)
    assert line.endswith("{'train': 2}")


def test_rows_of_no_class_are_gaps(pf, capsys):
    kind = ClassLabel(names=["neg", "pos"])
    features = Features({"text": Value("string"), "label": kind})
    columns = {"text": [f"text {i}" for i in range(60)], "label": [0, 1, -1] * 20}
    Dataset.from_dict(columns, features).to_parquet("data.parquet")
    assert len(rows_of(load(pf, "data.parquet"))) == 40
    (line,) = warnings_of(capsys)
    assert line.endswith("{'train': 20}")


def test_line_breaks_in_texts(pf, capsys):
    rows = [(f"a line\nand another {i}", i % 2) for i in range(3)]
    write_csv("data.csv", reviews(60) + rows)
    dataset = load(pf, "data.csv")
    assert {(text, str(label)) for text, label in rows} <= set(rows_of(dataset))
    (line,) = warnings_of(capsys)
    assert line.startswith("3 ") and "line break" in line


def test_a_quotation_mark_that_is_closed_lines_later(pf, capsys):
    """It makes one text of four rows, which no reader can tell from a long text."""
    lines = ["text\tlabel", *(f"good film {i}\t{i % 2}" for i in range(20))]
    lines[5] = '"Great film\t1'
    lines[9] = 'a bad one"\t0'
    Path("data.tsv").write_text("\n".join(lines))
    load(pf, "data.tsv")
    (line,) = warnings_of(capsys)
    assert line.startswith("1 ") and "line break" in line
    assert "quotation mark" in line and "引号" in line


@pytest.mark.usefixtures("without_picture")
def test_no_better_than_the_most_frequent_label(pf, settings, capsys):
    rows = [(f"the film was {i}", int(i % 20 == 0)) for i in range(400)]
    write_csv("rare.csv", rows)
    pf.edit(**settings | {"DATA_FILES": "rare.csv"}).main()
    remedy = [line for line in warnings_of(capsys) if "baseline 不比基线好" in line]
    assert len(remedy) == 1
    assert 'CLASS_WEIGHTS = "balanced"' in remedy[0]


# ---- The embedded default ----
def test_embedded_reviews_cannot_be_solved_by_counting_words(pf):
    splits = pf.embedded_reviews()
    assert list(splits) == ["train", "test"]
    for split in splits.values():
        assert Counter(split["label"])["pos"] * 2 == len(split)
    votes = Counter()
    train, test = splits["train"], splits["test"]
    for text, label in zip(train["text"], train["label"], strict=True):
        for word in text.split():
            votes[word] += 1 if label == "pos" else -1
    right = 0
    for text, label in zip(test["text"], test["label"], strict=True):
        answer = "pos" if sum(votes[word] for word in text.split()) > 0 else "neg"
        right += answer == label
    assert right / len(test) < 0.65
