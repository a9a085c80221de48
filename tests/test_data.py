"""Loading: every label form, every way to split, what is dropped, what is reported."""

import json
from collections import Counter

import pandas as pd
import pytest
from conftest import reviews, write_csv
from datasets import ClassLabel, Dataset, Features, Value

SIZES = {"TRAIN_SIZE": 20, "VALIDATION_SIZE": 10, "TEST_SIZE": 10}
ALL = dict.fromkeys(SIZES)


def load(pf, files, **constants):
    kind = str(next(iter(files.values()))).rsplit(".", 1)[1].replace("jsonl", "json")
    pf.edit(DATASET_NAME=kind, DATA_FILES=files, **constants)
    return pf.load_data(kind)


def names_of(dataset):
    return dataset["train"].features["label"].names


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ((0, 1), ["0", "1"]),
        ((-1, 1), ["-1", "1"]),
        ((10, 9, 100), ["9", "10", "100"]),  # by size, not by spelling
        ((1.0, 2.0), ["1", "2"]),
        (("pos", "neg"), ["NEGATIVE", "POSITIVE"]),
        (("positive", "negative"), ["negative", "positive"]),  # as they are written
        (("NEG", "POS", "neutral"), ["NEG", "POS", "neutral"]),
        (("007", "08"), ["7", "8"]),
        (("World", "Sport", "Sci/Tech"), ["Sci/Tech", "Sport", "World"]),
        (("None", "NA", "null", "nan"), ["NA", "None", "nan", "null"]),
        (("1", "two"), ["1", "two"]),
        (("好评", "差评"), ["好评", "差评"]),
    ],
)
def test_label_forms(pf, tmp_path, kind, labels, names):
    rows = [(f"text {i}", labels[i % len(labels)]) for i in range(120)]
    path = tmp_path / f"train.{kind}"
    if kind == "csv":
        write_csv(path, rows)
    elif kind == "jsonl":
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
    else:
        columns = dict(zip(("text", "label"), zip(*rows, strict=True), strict=True))
        Dataset.from_dict(columns).to_parquet(path)
    dataset = load(pf, {"train": str(path)}, **ALL)
    assert names_of(dataset) == names
    for row in dataset["train"]:
        label = labels[int(row["text"].split()[1]) % len(labels)]
        label = str(label)
        if all(name.lstrip("-").isdigit() for name in names):
            label = str(int(float(label)))
        assert names[row["label"]].lower().startswith(label.lower())


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_booleans_keep_their_names(pf, tmp_path, kind):
    frame = pd.DataFrame({"text": [f"text {i}" for i in range(60)]})
    frame["label"] = frame.index % 3 == 0
    path = tmp_path / f"train.{kind}"
    if kind == "csv":
        frame.to_csv(path)
    elif kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path)
    dataset = load(pf, {"train": str(path)}, **ALL)
    assert [name.lower() for name in names_of(dataset)] == ["false", "true"]
    for row in dataset["train"]:
        assert row["label"] == (int(row["text"].split()[1]) % 3 == 0)


def test_a_class_labels_names_keep_their_order(pf, tmp_path):
    features = Features(
        {"text": Value("string"), "label": ClassLabel(names=["z", "a"])}
    )
    columns = {"text": [f"text {i}" for i in range(40)], "label": [0, 1] * 20}
    Dataset.from_dict(columns, features).to_parquet(tmp_path / "a.parquet")
    dataset = load(pf, {"train": str(tmp_path / "a.parquet")}, **SIZES)
    assert names_of(dataset) == ["z", "a"]
    renamed = {"LABEL_NAMES": ["last", "first"]}
    again = load(pf, {"train": str(tmp_path / "a.parquet")}, **SIZES | renamed)
    assert names_of(again) == ["last", "first"]
    assert again["test"]["label"] == dataset["test"]["label"]


def test_any_columns_will_do(pf, tmp_path):
    rows = [(i, "x", label, text) for i, (text, label) in enumerate(reviews(60))]
    path = write_csv(tmp_path / "a.csv", rows, ("id", "text", "stars", "review"))
    named = {"TEXT_COLUMN": "review", "LABEL_COLUMN": "stars"}
    dataset = load(pf, {"train": path}, **SIZES | named)
    assert set(dataset["train"]["text"]) <= {text for text, _ in reviews(60)}


def test_text_stays_as_it_is_written(pf, tmp_path):
    texts = ["007", "NA", "None", "null", "1e5", "1.50"]
    rows = [(text, i % 2) for i, text in enumerate(texts * 10)]
    dataset = load(pf, {"train": write_csv(tmp_path / "a.csv", rows)}, **ALL)
    assert {text for part in dataset.values() for text in part["text"]} == set(texts)


def test_a_column_that_is_not_used_may_have_gaps(pf, tmp_path):
    header = ("text", "label", "age")
    rows = [(*row, 40) for row in reviews(60)]
    train = write_csv(tmp_path / "a.csv", rows, header)
    test = write_csv(tmp_path / "b.csv", [*rows[:10], ("good", 1, "")], header)
    assert len(load(pf, {"train": train, "test": test}, **ALL)["test"]) == 11


def test_a_column_that_is_not_used_may_change_its_kind(pf, tmp_path):
    rows = [(f"good {i}", i % 2, i if i < 11_000 else f"A{i}") for i in range(12_000)]
    path = write_csv(tmp_path / "a.csv", rows, ("text", "label", "id"))
    assert len(load(pf, {"train": path}, **SIZES)["train"]) == 20


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_rows_with_gaps_are_dropped_and_counted(pf, tmp_path, capsys, kind):
    gaps = [("", 1), ("  ", 0), ("good", ""), (" ", " ")]
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        write_csv(path, reviews(40) + gaps)
    else:
        gaps = [(None, 1), ("good", None), ("", 0), (None, None)]
        columns = [{"text": t, "label": v} for t, v in reviews(40) + gaps]
        path.write_text(json.dumps(columns))
    dataset = load(pf, {"train": str(path)}, **ALL)
    assert sum(map(len, dataset.values())) == 40
    assert "4 of 44 rows dropped: gaps 文本或标签缺失" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given", [("train",), ("train", "test"), ("train", "validation")]
)
def test_parts_are_disjoint_and_stratified(pf, tmp_path, given):
    files = {}
    for split in given:  # sorted by label, a quarter of them positive
        rows = [(f"{split} {i}", int(i >= 90)) for i in range(120)]
        files[split] = write_csv(tmp_path / f"{split}.csv", rows)
    dataset = load(pf, files, **SIZES)
    texts = [text for part in dataset.values() for text in part["text"]]
    assert len(texts) == len(set(texts)) == 40
    assert [len(part) for part in dataset.values()] == [20, 10, 10]
    for part in dataset.values():
        assert abs(sum(part["label"]) - len(part) / 4) <= 1
    origin = "test" if "test" in given else "validation"  # that becomes the test
    if len(given) == 2:
        assert all(text.startswith(origin) for text in dataset["test"]["text"])
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
        (1000, (960, 50, 50), (900, 50, 50)),  # no part takes rows that it will not use
    ],
)
def test_sizes_where_all_is_carved_from_train(pf, tmp_path, rows, sizes, expected):
    path = write_csv(tmp_path / "a.csv", reviews(rows))
    given = dict(zip(SIZES, sizes, strict=True))
    dataset = load(pf, {"train": path}, **given)
    assert tuple(map(len, dataset.values())) == expected


def test_sizes_beyond_the_data_take_all_of_it(pf, tmp_path):
    files = {"train": write_csv(tmp_path / "a.csv", reviews(60))}
    files["test"] = write_csv(tmp_path / "b.csv", reviews(20))
    dataset = load(pf, files, TRAIN_SIZE=100, TEST_SIZE=30)
    assert list(map(len, dataset.values())) == [48, 12, 20]


def test_leakage_is_counted(pf, tmp_path, capsys):
    train = write_csv(tmp_path / "a.csv", reviews(60))
    test = write_csv(tmp_path / "b.csv", [*reviews(3), ("new good", 1), ("new bad", 0)])
    load(pf, {"train": train, "test": test}, **ALL | {"VALIDATION_SIZE": 1})
    out = capsys.readouterr().out
    assert "Leakage: 3 texts of test are in train too 数据泄漏" in out


@pytest.mark.parametrize("column", [ClassLabel(names=["neg", "pos"]), Value("int64")])
def test_splits_without_labels_are_not_used(pf, tmp_path, capsys, column):
    """SST-2's test split has -1 for each label; IMDB has a split `unsupervised`."""
    features = Features({"text": Value("string"), "label": column})
    splits = {"train": [0, 1] * 30, "validation": [1, 0] * 6, "test": [-1] * 9}
    splits["unsupervised"] = [-1] * 99
    for split, labels in splits.items():
        columns = {
            "text": [f"{split} {i}" for i in range(len(labels))],
            "label": labels,
        }
        Dataset.from_dict(columns, features).to_parquet(tmp_path / f"{split}.parquet")
    pf.edit(DATASET_NAME=str(tmp_path), DATASET_CONFIG=None, **ALL)
    dataset = pf.load_data(str(tmp_path))
    assert [len(part) for part in dataset.values()] == [48, 12, 12]
    assert all(text.startswith("validation") for text in dataset["test"]["text"])
    assert "9 of 81 rows dropped" in capsys.readouterr().out


def test_rows_without_a_class_are_gaps(pf, tmp_path, capsys):
    kind = ClassLabel(names=["neg", "pos"])
    features = Features({"text": Value("string"), "label": kind})
    columns = {"text": [f"text {i}" for i in range(60)], "label": [0, 1, -1] * 20}
    Dataset.from_dict(columns, features).to_parquet(tmp_path / "a.parquet")
    dataset = load(pf, {"train": str(tmp_path / "a.parquet")}, **ALL)
    assert sum(map(len, dataset.values())) == 40
    assert "20 of 60 rows dropped: gaps" in capsys.readouterr().out


def test_a_byte_order_mark_does_no_harm(pf, tmp_path):
    path = tmp_path / "a.csv"  # as Excel writes "CSV UTF-8"
    write_csv(path, reviews(60))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load(pf, {"train": str(path)}, **SIZES)["train"]) == 20


def test_embedded_reviews_cannot_be_solved_by_counting_words(pf):
    splits = pf.embedded_reviews()
    assert list(splits) == ["train", "test"]
    for split in splits.values():
        assert Counter(split["label"])["pos"] * 2 == len(split)
    votes = Counter()
    for row in splits["train"]:
        for word in row["text"].split():
            votes[word] += 1 if row["label"] == "pos" else -1
    tallies = [sum(votes[w] for w in text.split()) for text in splits["test"]["text"]]
    pairs = zip(tallies, splits["test"]["label"], strict=True)
    assert sum((n > 0) == (label == "pos") for n, label in pairs) / len(tallies) < 0.65


def test_the_seed_decides_the_rows(pf, tmp_path):
    path = write_csv(tmp_path / "a.csv", reviews(90))
    one, two = (load(pf, {"train": path}, **SIZES, SEED=s)["train"] for s in (1, 2))
    assert set(one["text"]) != set(two["text"])
