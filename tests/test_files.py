"""What people really have opens, wherever it lies, with every row under the right label."""

import os
import re
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import pandas as pd
import pytest
from conftest import write_csv
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from test_data import load, load_files, rows_of, warnings_of, with_labels

ROWS = [(f'text {i}, well; a "word"', ("bad", "good")[i % 2]) for i in range(60)]
TABLE = pd.DataFrame(ROWS, columns=["text", "label"])
CSV = TABLE.to_csv(index=False)


# ---- One file of each kind ----
def write_comma(path):
    TABLE.to_csv(path, index=False)


def write_semicolon(path):
    TABLE.to_csv(path, index=False, sep=";")


def write_tab(path):
    TABLE.to_csv(path, index=False, sep="\t")


def write_bar(path):
    TABLE.to_csv(path, index=False, sep="|")


def write_with_a_mark(path):
    TABLE.to_csv(path, index=False, sep=";", encoding="utf-8-sig")


def write_windows(path):
    TABLE.to_csv(path, index=False, lineterminator="\r\n")


def write_numbered(path):
    TABLE.to_csv(path)


def write_trailing_commas(path):
    Path(path).write_text(CSV.replace("\n", ",\n").replace("label,", "label", 1))


def write_blank_lines(path):
    Path(path).write_text(CSV.replace("\n", "\n\n"))


def write_workbook(path):
    TABLE.to_excel(
        "written.xlsx", index=False
    )  # pandas wants the suffix in small letters
    os.rename("written.xlsx", path)


def write_array(path):
    TABLE.to_json(path, orient="records")


def write_indented(path):
    TABLE.to_json(path, orient="records", indent=2)


def write_array_with_a_mark(path):
    Path(path).write_text(TABLE.to_json(orient="records"), encoding="utf-8-sig")


def write_lines(path):
    TABLE.to_json(path, orient="records", lines=True)


def write_lines_with_a_mark(path):
    lines = TABLE.to_json(orient="records", lines=True)
    Path(path).write_text(lines.replace("\n", "\r\n"), encoding="utf-8-sig")


def write_columns(path):
    TABLE.to_json(path)


def write_shuffled_columns(path):
    TABLE.sample(frac=1, random_state=0).to_json(path)


def write_parquet(path):
    TABLE.to_parquet(path)


def write_class_labels(path):
    kind = ClassLabel(names=["bad", "good"])
    ids = [kind.str2int(label) for _, label in ROWS]
    columns = {"text": [text for text, _ in ROWS], "label": ids}
    features = Features({"text": Value("string"), "label": kind})
    Dataset.from_dict(columns, features).to_parquet(path)


def zip_of(*files):
    """A writer of an archive that holds these files, (name, content)."""

    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files:
                archive.writestr(name, content)

    return write


LONG_NAME = "%E5%B7%A5%E5%8D%95" * 15 + ".json"  # what a browser makes of 汉字
KINDS = [
    ("comma.csv", write_comma),
    ("semicolon.csv", write_semicolon),
    ("tab.csv", write_tab),
    ("bar.csv", write_bar),
    ("mark.csv", write_with_a_mark),
    ("windows.csv", write_windows),
    ("numbered.csv", write_numbered),
    ("trailing.csv", write_trailing_commas),
    ("gaps.csv", write_blank_lines),
    ("LOUD.CSV", write_semicolon),
    ("table.tsv", write_tab),
    ("table.txt", write_tab),
    ("comma.txt", write_comma),
    ("book.xlsx", write_workbook),
    ("LOUD.XLSX", write_workbook),
    ("array.json", write_array),
    ("indented.json", write_indented),
    ("mark.json", write_array_with_a_mark),
    ("lines.json", write_lines),
    ("lines.jsonl", write_lines),
    ("mark.jsonl", write_lines_with_a_mark),
    ("lines.ndjson", write_lines),
    ("columns.json", write_columns),
    ("shuffled.json", write_shuffled_columns),
    ("table.parquet", write_parquet),
    ("classes.parquet", write_class_labels),
    ("packed.csv.gz", write_semicolon),
    ("packed.csv.bz2", write_comma),
    ("packed.csv.xz", write_comma),
    ("packed.csv.zip", write_comma),
    ("packed.tsv.gz", write_tab),
    ("packed.json.gz", write_array),
    ("packed.jsonl.gz", write_lines),
    ("packed.jsonl.zip", write_lines),
    ("comma.zip", zip_of(("tickets.csv", CSV))),
    ("inner.zip", zip_of(("data/工单.csv", CSV))),
    ("json.zip", zip_of(("tickets.json", TABLE.to_json(orient="records")))),
    ("folder.zip", zip_of(("data/", ""), ("data/tickets.csv", CSV))),
    ("mac.zip", zip_of(("tickets.csv", CSV), ("__MACOSX/._tickets.csv", b"\0\5"))),
    ("mac.csv.zip", zip_of(("tickets.csv", CSV), ("__MACOSX/._tickets.csv", b"\0\5"))),
    ("from.xlsx.csv", write_comma),
    ("from.json.csv", write_comma),
]


@pytest.mark.parametrize(("name", "write"), KINDS, ids=[name for name, _ in KINDS])
def test_one_file_of_each_kind(pf, capsys, name, write):
    write(name)
    assert rows_of(load(pf, name)) == sorted(ROWS)
    assert warnings_of(capsys) == []


@pytest.mark.parametrize(
    ("header", "text_column", "label_column"),
    [
        ('"Text (de, en)";Label', "Text (de, en)", "Label"),
        ("The text;The label", "The text", "The label"),
        (" text ; label ", "text", "label"),
        ("文本;标签", "文本", "标签"),
    ],
)
def test_a_header_of_any_words(pf, header, text_column, label_column):
    lines = [header, *(f"good, or bad {i};{i % 2}" for i in range(40))]
    Path("data.csv").write_text("\n".join(lines), encoding="utf-8")
    columns = {"TEXT_COLUMN": text_column, "LABEL_COLUMN": label_column}
    rows = rows_of(load(pf, "data.csv", **columns))
    assert rows == sorted((f"good, or bad {i}", str(i % 2)) for i in range(40))


def test_commas_in_the_header_of_a_tsv(pf):
    lines = [
        "Text (de, en, fr)\tLabel",
        *(f"good, bad {i}\t{i % 2}" for i in range(40)),
    ]
    Path("data.tsv").write_text("\n".join(lines))
    columns = {"TEXT_COLUMN": "Text (de, en, fr)", "LABEL_COLUMN": "Label"}
    rows = rows_of(load(pf, "data.tsv", **columns))
    assert rows == sorted((f"good, bad {i}", str(i % 2)) for i in range(40))


def test_a_csv_of_texts_alone(pf):
    """New rows to be labelled have one column: nothing in a text separates."""
    texts = ["a; b", "c", "d, e", 'f "g"', "h|i"]
    pd.DataFrame({"text": texts}).to_csv("new.csv", index=False)
    assert pf.read_files("new.csv")["text"].tolist() == texts


def test_a_list_of_texts_by_hand(pf):
    texts = ["good, very good", "so; so", "bad"]
    Path("new.txt").write_text("\n".join(["text", *texts]))
    assert pf.read_files("new.txt")["text"].tolist() == texts


# ---- Wherever it lies ----
PLACES = [
    "my data/the tickets.csv",
    "data[2024]/tickets[1].csv",
    "data (1)/tickets (copy).csv",
    "工单/数据.csv",
    "it's 100% #1 & more+/a.b.c.csv",
    "{curly}/what?*.csv",
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_may_hold_any_sign(pf, place, kind):
    Path(place).parent.mkdir()
    write_comma(place)
    write_csv("other.csv", [("new good", "good"), ("new bad", "bad")])
    assert rows_of(load(pf, kind(place))) == sorted(ROWS)
    assert rows_of(load_files(pf, kind(place))) == sorted(ROWS)
    files = {"train": kind(place), "test": kind("other.csv")}
    assert len(rows_of(load_files(pf, files))) == 62
    assert rows_of(load_files(pf, [kind(place)])) == sorted(ROWS)


def test_a_name_with_brackets_is_no_pattern(pf):
    """As a pattern, the name would be that of the other file."""
    write_comma("tickets[1].csv")
    write_csv("tickets1.csv", with_labels(("x", "y")))
    assert rows_of(load(pf, "tickets[1].csv")) == sorted(ROWS)


@pytest.mark.parametrize("place", PLACES)
def test_a_folder_may_hold_any_sign(pf, place):
    folder = Path(place).parent
    folder.mkdir()
    write_comma(folder / "train.csv")
    assert rows_of(load(pf, str(folder))) == sorted(ROWS)
    assert rows_of(load(pf, folder)) == sorted(ROWS)


def test_the_home_folder_is_found(pf, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    Path("data").mkdir()
    write_comma("data/train.csv")
    assert rows_of(load(pf, "~/data/train.csv")) == sorted(ROWS)
    assert rows_of(load_files(pf, {"train": "~/data/*.csv"})) == sorted(ROWS)
    assert rows_of(load(pf, "~/data")) == sorted(ROWS)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Say nothing."""


@contextmanager
def serve(folder):
    """Serve a folder on this machine; yield the address."""
    handler = partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of a server that has a file of each kind."""
    folder = tmp_path_factory.mktemp("site")
    before = Path.cwd()
    os.chdir(folder)
    for name, write in KINDS:
        write(name)
    write_array("工单" * 15 + ".json")
    os.chdir(before)
    with serve(folder) as address:
        yield address


@pytest.mark.parametrize(
    "name",
    [
        "semicolon.csv",
        "packed.csv.gz",
        "comma.zip",
        "table.tsv",
        "lines.jsonl",
        "array.json",
        "book.xlsx",
        "table.parquet",
        "comma.csv?download=true",
        "lines.jsonl?raw=true",
        LONG_NAME,
    ],
)
def test_a_file_by_its_address(pf, site, name):
    assert rows_of(load(pf, f"{site}/{name}")) == sorted(ROWS)
    assert rows_of(load_files(pf, {"train": f"{site}/{name}"})) == sorted(ROWS)


# ---- Several files ----
@pytest.mark.parametrize(
    "files", [["data/a.csv", "data/b.jsonl"], "data/*", ["data/*"]]
)
def test_several_files_are_one_split(pf, files):
    Path("data").mkdir()
    TABLE[:20].to_csv("data/a.csv", index=False, sep=";")
    TABLE[20:].to_json("data/b.jsonl", orient="records", lines=True)
    assert rows_of(load_files(pf, files)) == sorted(ROWS)
    assert rows_of(load_files(pf, {"train": files})) == sorted(ROWS)


def test_a_pattern_goes_through_folders(pf):
    Path("data/x/y").mkdir(parents=True)
    TABLE[:20].to_csv("data/a.csv", index=False)
    TABLE[20:40].to_csv("data/x/b.csv", index=False)
    TABLE[40:].to_csv("data/x/y/c.csv", index=False)
    assert rows_of(load_files(pf, "data/**/*.csv")) == sorted(ROWS)


@pytest.mark.parametrize("name", ["one.json", "one.jsonl"])
def test_json_of_one_row(pf, name):
    write_comma("train.csv")
    TABLE[:1].to_json(name, orient="records", lines=True)
    dataset = load_files(pf, {"train": "train.csv", "test": name})
    assert dataset["test"]["text"][:] == [ROWS[0][0]]


def test_a_pattern_is_a_data_set(pf):
    TABLE[:20].to_csv("a.csv", index=False, sep=";")
    TABLE[20:].to_csv("b.csv", index=False)
    assert rows_of(load(pf, "*.csv")) == sorted(ROWS)


def test_each_file_has_its_own_separator_and_kind(pf):
    TABLE[:40].to_csv("train.csv", index=False, sep=";")
    TABLE[40:50].to_csv("validation.tsv", index=False, sep="\t")
    TABLE[50:].to_excel("test.xlsx", index=False)
    files = {"train": "train.csv", "validation": "validation.tsv", "test": "test.xlsx"}
    dataset = load_files(pf, files)
    assert [len(part) for part in dataset.values()] == [40, 10, 10]
    assert rows_of(dataset) == sorted(ROWS)


@pytest.mark.parametrize("name", ["csv", "stanfordnlp/imdb", "anything at all"])
def test_data_files_stand_in_for_the_data_set(pf, name):
    write_comma("data.csv")
    assert rows_of(load(pf, name, DATA_FILES={"train": "data.csv"})) == sorted(ROWS)


def write_competition(folder, test_labels):
    """Files as a competition has them: the columns differ, also those not used."""
    Path(folder).mkdir()
    train = TABLE[:50].rename(columns={"label": "target"})
    train = train.assign(id=range(50), keyword="", length=1.5)
    train.to_csv(f"{folder}/train.csv", index=False)
    test = pd.DataFrame({"id": ["A1"] * 10, "text": TABLE["text"][50:], "keyword": 7})
    if test_labels:
        test["target"] = TABLE["label"][50:]
    test.to_csv(f"{folder}/test.csv", index=False)
    Path(folder, "sample_submission.csv").write_text("id,target\nA1,good\n")


@pytest.mark.parametrize("as_folder", [True, False])
def test_columns_that_are_not_used_may_differ(pf, capsys, as_folder):
    write_competition("contest", test_labels=True)
    files = {"train": "contest/train.csv", "test": "contest/test.csv"}
    files = None if as_folder else files
    dataset = load(pf, "contest", DATA_FILES=files, LABEL_COLUMN="target")
    assert rows_of(dataset) == sorted(ROWS)
    assert sorted(dataset["test"]["text"]) == sorted(TABLE["text"][50:])
    assert warnings_of(capsys) == []


@pytest.mark.parametrize("as_folder", [True, False])
def test_a_test_file_without_labels_is_not_used(pf, capsys, as_folder):
    write_competition("contest", test_labels=False)
    files = {"train": "contest/train.csv", "test": "contest/test.csv"}
    files = None if as_folder else files
    dataset = load(pf, "contest", DATA_FILES=files, LABEL_COLUMN="target")
    assert rows_of(dataset) == sorted(ROWS[:50])
    assert [len(part) for part in dataset.values()] == [30, 10, 10]
    (line,) = warnings_of(capsys)
    assert "{'test': 10}" in line


# ---- Folders ----
def split_files(*names):
    """The first 40 rows go to the first file, 10 to the second and 10 to the third."""
    for name, rows in zip(names, [TABLE[:40], TABLE[40:50], TABLE[50:]], strict=False):
        Path(name).parent.mkdir(exist_ok=True, parents=True)
        if name.endswith("parquet"):
            rows.to_parquet(name)
        elif name.endswith("xlsx"):
            rows.to_excel(name, index=False)
        else:
            rows.to_csv(name, index=False)


@pytest.mark.parametrize(
    "names",
    [
        ["train.csv", "validation.csv", "test.csv"],
        ["train.csv", "dev.csv", "test.csv"],
        ["train.csv.gz", "val.csv.gz", "test.csv.gz"],
        ["train.xlsx", "valid.xlsx", "test.xlsx"],
        ["Train.csv", "Dev.csv", "Test.csv"],
        ["train.parquet", "validation.parquet", "test.parquet"],
        ["my_train.csv", "my_validation.csv", "my_test.csv"],
        ["train/a.csv", "validation/b.csv", "test/c.csv"],
        [
            "data/train-00000-of-00001.parquet",
            "data/validation-00000-of-00001.parquet",
            "data/test-00000-of-00001.parquet",
        ],
    ],
)
@pytest.mark.parametrize("page", [True, False])
def test_a_folder_of_three_parts(pf, capsys, names, page):
    split_files(*[f"folder/{name}" for name in names])
    if page:
        Path("folder/README.md").write_text("# About these data\n")
    dataset = load(pf, "folder")
    assert [len(part) for part in dataset.values()] == [40, 10, 10]
    assert rows_of(dataset) == sorted(ROWS)
    assert warnings_of(capsys) == []


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("tickets.xlsx", write_workbook),
        ("tickets.csv", write_semicolon),
        ("TICKETS.CSV", write_comma),
        ("devices, latest values.csv", write_semicolon),
        ("tickets.tsv", write_tab),
    ],
)
def test_a_folder_of_one_table(pf, name, write):
    folder = Path("folder")
    folder.mkdir()
    write(folder / name)
    # Excel and macOS leave the first two beside a file that is open or copied.
    for other in ("~$tickets.xlsx", "._tickets.csv", "meta.json", "notes.txt"):
        (folder / other).write_text('{"this": "is not data"}')
    assert rows_of(load(pf, "folder")) == sorted(ROWS)


def test_a_folder_of_tables_without_the_names_of_parts(pf, capsys):
    folder = Path("folder")
    folder.mkdir()
    TABLE[:20].to_csv(folder / "b.csv", index=False)
    TABLE[20:40].to_csv(folder / "C.CSV", index=False, sep=";")
    TABLE[40:].to_excel(folder / "a.xlsx", index=False)
    assert rows_of(load(pf, "folder")) == sorted(ROWS)
    files = re.search(r"files 文件: .*", capsys.readouterr().out)[0]
    assert re.findall(r"\w\.\w+", files) == ["C.CSV", "a.xlsx", "b.csv"]


@pytest.mark.parametrize(
    "other",
    ["train (1).csv", "train_small.csv", "train_results.json", "eval_results.csv"],
)
def test_beside_train_csv_no_other_file_trains(pf, other):
    Path("folder").mkdir()
    write_comma("folder/train.csv")
    write_comma(f"folder/{other}")
    assert rows_of(load(pf, "folder")) == sorted(ROWS)


@pytest.mark.parametrize("config", ["en", "de"])
def test_a_page_is_heard_where_names_say_train(pf, config):
    split_files("folder/train_en.csv", "folder/train_de.csv")
    lines = ["---", "configs:"]
    for name in ("en", "de"):
        lines += [f"- config_name: {name}", f"  data_files: train_{name}.csv"]
    Path("folder/README.md").write_text("\n".join([*lines, "---", ""]))
    rows = rows_of(load(pf, "folder", DATASET_CONFIG=config))
    assert len(rows) == {"en": 40, "de": 10}[config]


def test_a_folder_of_text_tables(pf):
    folder = Path("folder")
    folder.mkdir()
    TABLE[:50].to_csv(folder / "train.txt", index=False, sep="\t")
    TABLE[50:].to_csv(folder / "test.txt", index=False, sep="\t")
    dataset = load(pf, "folder")
    assert sorted(dataset["test"]["text"]) == sorted(TABLE["text"][50:])


def test_a_folder_holds_other_things_too(pf):
    Path("folder").mkdir()
    write_comma("folder/train.csv")
    # Excel and macOS leave the last two beside a file that is open or copied.
    others = ["train.py", "train.log", "train.md", "test.sh", "test.png"]
    others += ["~$train.xlsx", "._train.csv"]
    for other in others:
        Path("folder", other).write_text("print('this is not data')\n")
    assert rows_of(load(pf, "folder")) == sorted(ROWS)


@pytest.mark.parametrize("name", ["train.csv", "tickets.csv"])
def test_labels_of_a_folder_stay_as_they_are_written(pf, name):
    rows = with_labels(("NA", "None", "nan", "null", "007"))
    Path("folder").mkdir()
    write_csv(f"folder/{name}", rows)
    assert rows_of(load(pf, "folder")) == sorted(rows)


def write_one_file(folder):
    write_comma(f"{folder}/train.csv")


def write_shards(folder):
    TABLE[:20].to_parquet(f"{folder}/train-00000-of-00002.parquet")
    TABLE[20:].to_parquet(f"{folder}/train-00001-of-00002.parquet")


def save_one_split(folder):
    Dataset.from_pandas(TABLE).save_to_disk(folder)


def save_two_splits(folder):
    rows = Dataset.from_pandas(TABLE)
    train, test = rows.select(range(40)), rows.select(range(40, 60))
    DatasetDict(train=train, test=test).save_to_disk(folder)


def content_of(folder):
    """Each file below a folder, with what is in it and when it was written."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize(
    "write", [write_one_file, write_shards, save_one_split, save_two_splits]
)
def test_nothing_is_written_beside_the_data(pf, tiny, write):
    Path("folder").mkdir()
    write("folder")
    before = content_of("folder")
    os.chmod("folder", 0o555)
    dataset = load(pf, "folder")
    tokens = pf.tokenize(dataset, pf.load_tokenizer(tiny()))
    os.chmod("folder", 0o755)
    assert rows_of(tokens) == sorted(ROWS)
    assert content_of("folder") == before


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("data.csv", write_comma),
        ("data.json", write_array),
        ("data.parquet", write_parquet),
        ("data.xlsx", write_workbook),
    ],
)
def test_nothing_is_written_beside_a_file(pf, tiny, name, write):
    Path("folder").mkdir()
    write(f"folder/{name}")
    before = content_of("folder")
    pf.tokenize(load(pf, f"folder/{name}"), pf.load_tokenizer(tiny()))
    assert content_of("folder") == before


def test_a_cache_that_cannot_be_written_does_not_matter(pf, tiny, monkeypatch):
    Path("a file").write_text("No folder can be made below a file.")
    cache = Path("a file/cache").absolute()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    write_comma("data.csv")
    save_one_split("saved")
    split_files("folder/train.csv", "folder/validation.csv", "folder/test.csv")
    for name in ("data.csv", "saved", "folder"):
        tokens = pf.tokenize(load(pf, name), pf.load_tokenizer(tiny()))
        assert rows_of(tokens) == sorted(ROWS)


# ---- Configurations ----
@pytest.fixture
def two_configurations(pf):
    """A folder with two configurations, as a data set on the Hub may have."""
    split_files("folder/small.csv", "folder/large.csv")
    lines = ["---", "configs:"]
    for name in ("small", "large"):
        lines += [f"- config_name: {name}", f"  data_files: {name}.csv"]
    Path("folder/README.md").write_text("\n".join([*lines, "---", ""]))


@pytest.mark.usefixtures("two_configurations")
def test_a_configuration_is_chosen(pf):
    assert len(rows_of(load(pf, "folder", DATASET_CONFIG="small"))) == 40
    assert len(rows_of(load(pf, "folder", DATASET_CONFIG="large"))) == 10


@pytest.mark.usefixtures("two_configurations")
@pytest.mark.parametrize("config", [None, "plain_text"])
def test_a_configuration_that_is_missing_is_named(pf, config):
    with pytest.raises(pf.FinetuneError, match="set DATASET_CONFIG 请设置") as stop:
        load(pf, "folder", DATASET_CONFIG=config)
    assert "small" in str(stop.value) and "large" in str(stop.value)


@pytest.mark.parametrize("write", [write_one_file, save_one_split])
def test_a_configuration_left_from_another_data_set_does_no_harm(pf, write):
    Path("folder").mkdir()
    write("folder")
    assert rows_of(load(pf, "folder", DATASET_CONFIG="plain_text")) == sorted(ROWS)
