"""Loading: every label form, every way to split, what is dropped, what is reported."""

import json
from collections import Counter
from unittest.mock import Mock

import numpy as np
import pandas
import pytest
from conftest import reviews, write_csv
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

SIZES = {"TRAIN_SIZE": 20, "VALIDATION_SIZE": 10, "TEST_SIZE": 10}


def load(pf, files, **constants):
    kind = str(next(iter(files.values()))).rsplit(".", 1)[1].replace("jsonl", "json")
    return pf.edit(DATASET_NAME=kind, DATA_FILES=files, **constants).load_data()


def names_of(dataset):
    return dataset["train"].features["label"].names


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ((0, 1), ["0", "1"]),
        ((1, 2, 3, 4), ["1", "2", "3", "4"]),
        ((-1, 1), ["-1", "1"]),
        ((10, 9, 100), ["9", "10", "100"]),  # by size, not by spelling
        ((1.0, 2.0), ["1", "2"]),
        (("1", "2.0", " 3 "), ["1", "2", "3"]),
        ((True, False), ["False", "True"]),
        (("pos", "neg"), ["NEGATIVE", "POSITIVE"]),
        (("Positive", "Negative"), ["NEGATIVE", "POSITIVE"]),
        (("NEG", "POS", "neutral"), ["NEGATIVE", "POSITIVE", "neutral"]),
        (("neg", "negative", "pos"), ["neg", "negative", "pos"]),  # would collide
        (("World", "Sport", "Sci/Tech"), ["Sci/Tech", "Sport", "World"]),
        (("None", "NA", "null", "nan", "inf"), ["NA", "None", "inf", "nan", "null"]),
        (("1", "two"), ["1", "two"]),
        (("3.1", "3.10", "other"), ["3.1", "3.10", "other"]),
        (("007", "7", "x"), ["007", "7", "x"]),
        (("1_0", "10", "1e1"), ["10", "1_0", "1e1"]),
        ((2**53, 2**53 + 1, 2**53 + 2), [str(2**53 + i) for i in range(3)]),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_label_forms(pf, tmp_path, kind, labels, names):
    rows = [(f"text {i}", labels[i % len(labels)]) for i in range(60)]
    path = tmp_path / f"train.{kind}"
    if kind == "csv":
        write_csv(path, rows)
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps({"text": t, "label": v}) for t, v in rows))
    else:
        columns = {"text": [t for t, _ in rows], "label": [v for _, v in rows]}
        Dataset.from_dict(columns).to_parquet(path)
    dataset = load(pf, {"train": str(path)}, **SIZES)
    assert names_of(dataset) == names
    truth = dict(rows)
    named = set()
    for part in dataset.values():
        for row in part:
            label = truth[row["text"]]
            numbers = [pf.as_number(str(v).strip()) for v in labels]
            words = any(isinstance(number, str) for number in numbers)
            spelt = label if words else numbers[labels.index(label)]
            value = str(spelt).strip()
            named.add((value, names[row["label"]]))
    assert len(named) == len(names)  # one name per label, and one label per name
    for value, name in named:
        assert name == value or name[:3] == value[:3].upper()


@pytest.mark.parametrize(
    "names",
    [["zebra", "ant", "0.5"], ["2", "1", "0"], ["0.5", "1", "1.5"], ["a ", " b", "c"]],
)
def test_class_label_names_keep_their_order(pf, tmp_path, names):
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    columns = {
        "text": [f"t{i}" for i in range(60)],
        "label": [i % 3 for i in range(60)],
    }
    Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "t.parquet")
    dataset = load(pf, {"train": str(tmp_path / "t.parquet")}, **SIZES)
    assert names_of(dataset) == [name.strip() for name in names]
    assert all(row["label"] == int(row["text"][1:]) % 3 for row in dataset["test"])


def test_label_names_are_taken_as_given(pf, tmp_path):
    path = write_csv(tmp_path / "a.csv", reviews())
    dataset = load(pf, {"train": path}, **SIZES, LABEL_NAMES=["bad", "good"])
    assert names_of(dataset) == ["bad", "good"]


def test_other_columns_and_their_order_do_not_matter(pf, tmp_path):
    rows = [(i, v, f"body {i}", "x" if i > 30 else 7) for i, v in enumerate("ab" * 30)]
    path = write_csv(tmp_path / "a.csv", rows, ("id", "label text", "text", "x"))
    dataset = load(
        pf, {"train": path}, **SIZES, LABEL_COLUMN="label text", TEXT_COLUMN="text"
    )
    assert dataset["train"].column_names == ["text", "label"]
    for row in dataset["train"]:
        assert row["label"] == int(row["text"].split()[1]) % 2


def test_columns_may_have_each_others_names(pf, tmp_path):
    path = write_csv(tmp_path / "a.csv", [(v, t) for t, v in reviews()])
    dataset = load(
        pf, {"train": path}, **SIZES, TEXT_COLUMN="label", LABEL_COLUMN="text"
    )
    assert dataset["train"][0]["text"].startswith("the ")


def test_numbers_stay_as_written_in_text(pf, tmp_path):
    rows = [(f"00{i}", i % 2) for i in range(40)]
    dataset = load(pf, {"train": write_csv(tmp_path / "a.csv", rows)}, **SIZES)
    assert {len(row["text"]) for row in dataset["train"]} <= {3, 4}


def test_empty_rows_are_dropped_and_counted(pf, tmp_path, capsys):
    rows = reviews(40) + [("", 1), ("   ", 0), ("no label", ""), ("None", 1), ("NA", 0)]
    sizes = {"TRAIN_SIZE": None, "VALIDATION_SIZE": 4, "TEST_SIZE": 4}
    dataset = load(pf, {"train": write_csv(tmp_path / "a.csv", rows)}, **sizes)
    texts = {row["text"] for part in dataset.values() for row in part}
    assert sum(map(len, dataset.values())) == 42
    assert {"None", "NA"} <= texts
    assert "3 of 45 rows dropped" in capsys.readouterr().out


def test_missing_json_values_are_dropped(pf, tmp_path, capsys):
    rows = [{"text": t, "label": v} for t, v in reviews(40)]
    rows += [{"text": None, "label": 1}, {"text": "x", "label": None}, {"label": 0}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows))
    load(pf, {"train": str(path)}, **SIZES)
    assert "3 of 43 rows dropped" in capsys.readouterr().out


@pytest.mark.parametrize(
    "given", [("train",), ("train", "test"), ("train", "validation")]
)
def test_parts_are_disjoint_and_stratified(pf, tmp_path, given):
    files = {}
    for k, split in enumerate(given):  # sorted by label, as IMDB is
        rows = sorted(
            ((f"{split} {i}", i % 4 == 0) for i in range(100)), key=lambda r: r[1]
        )
        files[split] = write_csv(tmp_path / f"{k}.csv", rows)
    dataset = load(pf, files, **SIZES)
    assert {part: len(data) for part, data in dataset.items()} == {
        "train": 20,
        "validation": 10,
        "test": 10,
    }
    texts = [row["text"] for part in dataset.values() for row in part]
    assert len(set(texts)) == 40
    for data in dataset.values():  # a quarter, as exactly as whole rows allow
        assert abs(sum(data["label"]) - len(data) / 4) < 1
    source = "train" if given == ("train",) else given[1]
    assert {text.split()[0] for text in dataset["test"]["text"]} == {source}
    assert {text.split()[0] for text in dataset["validation"]["text"]} == {"train"}


@pytest.mark.parametrize(
    ("rows", "sizes", "expected"),
    [
        (300, (200, 50, 50), (200, 50, 50)),
        (100, (200, 50, 50), (80, 10, 10)),
        (299, (200, 50, 50), (241 - 41, 29, 29)),
        (300, (None, 50, 50), (200, 50, 50)),
        (300, (None, None, None), (240, 30, 30)),
        (300, (50, None, None), (50, 30, 30)),
        (15, (None, 50, 50), (13, 1, 1)),
    ],
)
def test_sizes_where_all_is_carved_from_train(pf, rows, sizes, expected):
    names = ("TRAIN_SIZE", "VALIDATION_SIZE", "TEST_SIZE")
    pf.edit(**dict(zip(names, sizes, strict=True)))
    picked = pf.pick_rows({"train": np.arange(rows) % 2})
    assert tuple(len(positions) for _, positions in picked.values()) == expected
    every = np.concatenate([positions for _, positions in picked.values()])
    assert len(set(every)) == len(every)


def test_sizes_where_the_source_has_all_parts(pf):
    pf.edit(TRAIN_SIZE=None, VALIDATION_SIZE=7, TEST_SIZE=1000)
    labels = {split: np.arange(40) % 2 for split in ("train", "validation", "test")}
    picked = pf.pick_rows(labels)
    assert {part: (s, len(p)) for part, (s, p) in picked.items()} == {
        "train": ("train", 40),
        "validation": ("validation", 7),
        "test": ("test", 40),
    }


def test_too_large_sizes_are_said(pf, tmp_path, capsys):
    path = write_csv(tmp_path / "a.csv", reviews(30))
    load(pf, {"train": path, "test": path}, **SIZES | {"TEST_SIZE": 999})
    assert "TEST_SIZE = 999, but there are 30 rows" in capsys.readouterr().out


def test_a_class_without_training_rows_is_said(pf, tmp_path, capsys):
    rows = [(f"text {i}", "a" if i == 0 else "bc"[i % 2]) for i in range(200)]
    path = write_csv(tmp_path / "a.csv", rows)
    dataset = load(pf, {"train": path}, **SIZES)
    counts = np.bincount(dataset["train"]["label"], minlength=3)
    said = f"{sum(counts == 0)} classes have no training row"
    assert sum(counts == 0) > 0 and said in capsys.readouterr().out


def test_every_slice_of_the_order_is_stratified(pf):
    labels = np.sort(np.random.default_rng(1).choice(3, 1000, p=[0.7, 0.2, 0.1]))
    order = pf.stratified_order(labels)
    assert sorted(order) == list(range(1000))
    share = np.bincount(labels) / 1000
    for start, stop in ((0, 100), (100, 150), (350, 800)):
        counts = np.bincount(labels[order[start:stop]], minlength=3)
        assert np.all(np.abs(counts - share * (stop - start)) <= 1)


def test_the_seed_decides_the_rows(pf, tmp_path):
    path = write_csv(tmp_path / "a.csv", reviews(100))
    first = load(pf, {"train": path}, **SIZES)["train"]["text"][:]
    assert load(pf, {"train": path}, **SIZES)["train"]["text"][:] == first
    assert load(pf, {"train": path}, **SIZES, SEED=7)["train"]["text"][:] != first


def test_leakage_is_counted(pf, tmp_path, capsys):
    train = write_csv(tmp_path / "a.csv", reviews(40))
    test = write_csv(
        tmp_path / "b.csv", reviews(6) + [("fresh one", 0), ("fresh two", 1)]
    )
    sizes = {"TRAIN_SIZE": 36, "VALIDATION_SIZE": 4, "TEST_SIZE": None}
    dataset = load(pf, {"train": train, "test": test}, **sizes)
    shared = set(dataset["train"]["text"]) & set(dataset["test"]["text"])
    assert 0 < len(shared) <= 6
    assert f"Leakage: {len(shared)} test texts" in capsys.readouterr().out


@pytest.fixture
def loaded(pf, monkeypatch):
    """`loaded(splits)`: what load_dataset would have fetched from a Hub."""

    def use(splits):
        monkeypatch.setattr(
            pf.datasets, "load_dataset_builder", lambda *_: Mock(config=None)
        )
        monkeypatch.setattr(pf, "load_dataset", lambda *_: splits)
        return pf.edit(**SIZES).load_data()

    return use


def hub_splits(**labels):
    features = Features(
        {"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])}
    )
    return DatasetDict(
        {
            split: Dataset.from_dict(
                {"text": [f"{split} {i}" for i in range(len(ids))], "label": ids},
                features=features,
            )
            for split, ids in labels.items()
        }
    )


def test_unlabelled_test_split_gives_way_to_validation(loaded, capsys):
    splits = hub_splits(train=[0, 1] * 40, validation=[0, 1] * 10, test=[-1] * 20)
    dataset = loaded(splits)
    assert all(text.startswith("validation") for text in dataset["test"]["text"])
    assert all(text.startswith("train") for text in dataset["validation"]["text"])
    assert "test has no labels" in capsys.readouterr().out


def test_unsupervised_split_is_never_used(loaded):
    splits = hub_splits(train=[0] * 40 + [1] * 40, test=[0] * 20 + [1] * 20)
    splits["unsupervised"] = hub_splits(x=[-1] * 30)["x"]
    dataset = loaded(splits)
    assert [Counter(part["label"])[1] for part in dataset.values()] == [10, 5, 5]


def test_integer_labels_of_minus_one_are_no_labels_either(loaded):
    splits = hub_splits(train=[0, 1] * 40, validation=[0, 1] * 10, test=[-1] * 20)
    splits = splits.cast_column("label", Value("int64"))
    dataset = loaded(splits)
    assert all(text.startswith("validation") for text in dataset["test"]["text"])


def test_a_local_folder_as_data_set(pf, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write_csv(folder / "train.csv", reviews(60))
    write_csv(folder / "test.csv", reviews(20))
    pf.edit(DATASET_NAME=str(folder), DATASET_CONFIG=None, **SIZES)
    dataset = pf.load_data()
    assert [len(part) for part in dataset.values()] == [20, 10, 10]


def test_words_for_missing_are_words_in_a_local_folder_too(pf, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [
        (("None", "NA", "null")[i % 3] + f" {i}" * (i > 2), "ab"[i % 2])
        for i in range(60)
    ]
    write_csv(
        folder / "train.csv",
        [(text, ("NA", "EU")[label == "a"]) for text, label in rows],
    )
    pf.edit(DATASET_NAME=str(folder), DATASET_CONFIG=None, TRAIN_SIZE=None)
    dataset = pf.load_data()
    assert sum(map(len, dataset.values())) == 60
    assert names_of(dataset) == ["EU", "NA"]


def test_a_file_name_with_brackets(pf, tmp_path):
    path = write_csv(tmp_path / "reviews[1].csv", reviews(60))
    assert len(load(pf, {"train": path}, **SIZES)["train"]) == 20


def test_several_files_make_one_split(pf, tmp_path):
    paths = [write_csv(tmp_path / f"{k}.csv", reviews(40)) for k in "ab"]
    pf.edit(DATASET_NAME="csv", DATA_FILES={"train": paths}, TRAIN_SIZE=None)
    assert sum(map(len, pf.load_data().values())) == 80


def test_a_filtered_pandas_frame_in_parquet(pf, tmp_path):
    frame = pandas.DataFrame(reviews(90), columns=["text", "label"])
    frame[frame.index % 3 != 0].to_parquet(tmp_path / "a.parquet")
    dataset = load(pf, {"train": str(tmp_path / "a.parquet")}, **SIZES)
    assert dataset["train"].column_names == ["text", "label"]


def test_a_column_may_change_its_type_in_mid_file(pf, tmp_path):
    rows = [(f"text {i}", i % 2, i if i < 15_000 else "x") for i in range(20_000)]
    path = write_csv(tmp_path / "a.csv", rows, ("text", "label", "id"))
    dataset = load(pf, {"train": path}, TRAIN_SIZE=None)
    assert sum(map(len, dataset.values())) == 20_000


def test_embedded_reviews_cannot_be_solved_by_counting_words(pf):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    dataset = pf.edit(DATASET_NAME=pf.EMBEDDED_DATASET, TEST_SIZE=500).load_data()
    texts = [text for part in dataset.values() for text in part["text"]]
    assert len(set(texts)) == len(texts) == 750
    assert any(" not " in text for text in texts)
    assert any("lthough" in text for text in texts)
    counter = CountVectorizer()
    train, test = (
        set(counter.fit(dataset[part]["text"]).vocabulary_)
        for part in ("train", "test")
    )
    assert len(test - train) >= 20  # words of praise and blame, ten of each
    model = LogisticRegression(max_iter=1000)
    model.fit(
        counter.fit_transform(dataset["train"]["text"]), dataset["train"]["label"]
    )
    counts = counter.transform(dataset["test"]["text"])
    assert 0.4 < model.score(counts, dataset["test"]["label"]) < 0.6


@pytest.mark.parametrize("kind", ["csv", "json"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "marked utf-16-be"])
def test_files_with_a_byte_order_mark(pf, tmp_path, kind, encoding):
    texts = [f"好看, {i} 👍🏽 שלום" for i in range(30)]
    lines = [json.dumps({"text": t, "label": i % 2}) for i, t in enumerate(texts)]
    content = "\n".join(lines)
    if kind == "csv":
        content = "text,label\r\n"
        content += "".join(f'"{t}",{i % 2}\r\n' for i, t in enumerate(texts))
    mark = "\ufeff" if encoding.startswith("marked ") else ""
    path = tmp_path / f"data.{kind}"
    path.write_bytes((mark + content).encode(encoding.removeprefix("marked ")))
    pf.edit(DATASET_NAME=kind, DATA_FILES={"train": str(path)}, TRAIN_SIZE=None)
    loaded = pf.load_data()
    assert sorted(text for part in loaded.values() for text in part["text"]) == sorted(
        texts
    )
