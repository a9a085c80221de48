"""The script as its users run it: a copy, edited constants, a process of its own."""

import re
import shutil
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from conftest import (
    CLOSED,
    answers,
    ask_in_fresh_process,
    metrics,
    results,
    reviews,
    write_csv,
)
from datasets import Dataset, Features, Value
from hub import serve
from models import save_minilm_as_distilbert, save_tiny

import pretrain_finetune

SIGNS = ["POSITIVE", "NEGATIVE", "POSITIVE", "NEGATIVE"]
LOG_LINE = re.compile(r"\d\d:\d\d:\d\d \| (INFO|WARNING) \| ")


@contextmanager
def silent_hub():
    """A Hub that takes every connection and never says a word; counts them."""
    server = socket.create_server(("127.0.0.1", 0))
    taken = []

    def take():
        while True:
            try:
                taken.append(server.accept()[0])
            except OSError:
                return

    threading.Thread(target=take, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}", taken
    finally:
        server.close()


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    """What the loopback Hub serves: the shipped names, and smaller things beside them."""
    root = tmp_path_factory.mktemp("hub")
    model = root / "models" / "distilbert-base-uncased"
    model.mkdir(parents=True)
    save_minilm_as_distilbert(model)
    save_tiny("bert", root / "models" / "tiny" / "bert")

    imdb = root / "datasets" / "stanfordnlp" / "imdb"
    (imdb / "plain_text").mkdir(parents=True)
    splits = pretrain_finetune.embedded_reviews()  # stored sorted by label
    features = splits["train"].features
    unlabelled = {"text": ["Never to be used."] * 99, "label": [-1] * 99}
    splits["unsupervised"] = Dataset.from_dict(unlabelled, features=features)
    card = "---\nconfigs:\n- config_name: plain_text\n  data_files:\n"
    for split, data in splits.items():
        data.to_parquet(imdb / "plain_text" / f"{split}-00000-of-00001.parquet")
        card += f"  - split: {split}\n    path: plain_text/{split}-*\n"
    (imdb / "README.md").write_text(card + "---\n# Movie reviews\n")

    rotten = root / "datasets" / "rotten_tomatoes"
    rotten.mkdir(parents=True)
    features = Features({"text": Value("string"), "label": Value("int64")})
    for split, rows in {"train": 60, "validation": 20, "test": 20}.items():
        columns = {"text": [], "label": []}
        for text, label in reviews(rows):
            columns["text"].append(f"{text} {split}")
            columns["label"].append(label)
        Dataset.from_dict(columns, features=features).to_parquet(
            rotten / f"{split}.parquet"
        )
    (rotten / "README.md").write_text("---\ntags: []\n---\n# Small reviews\n")
    return root


def assert_clean(done):
    """The run succeeded, its lines have the agreed form, and no library complained."""
    assert done.returncode == 0, done.stderr[-3000:]
    for line in done.stdout.splitlines():  # Trainer logs its own as {...}
        assert LOG_LINE.match(line) or line.startswith("{"), line
    bar = re.compile(r"\d+%\||[a-zA-Z]/s|^$")  # of a progress bar
    lines = (
        re.sub(r"\x1b\[A", "", line).strip()
        for line in re.split(r"[\r\n]", done.stderr)
    )
    noise = [line for line in lines if not bar.search(line)]
    # without a Hub, datasets says which of the cached versions it uses
    noise = [line for line in noise if "latest cached" not in line]
    assert noise == []


def assert_deployed_is_tested(folder, rows, accuracy, tmp_path):
    """A fresh process scores exactly `accuracy` on `rows`, and takes an 800-word text."""
    names = [name for _, name in rows]
    given = ask_in_fresh_process(
        folder, [text for text, _ in rows] + ["good " * 800], tmp_path
    )
    hits = [a["label"] == name for a, name in zip(given[:-1], names, strict=True)]
    assert sum(hits) / len(hits) == accuracy
    assert given[-1]["label"] in SIGNS


def embedded_test_rows(pf):
    data = pf.edit(DATASET_NAME=pf.EMBEDDED_DATASET).load_data()["test"]
    return [(row["text"], ("NEGATIVE", "POSITIVE")[row["label"]]) for row in data]


def test_embedded_default(run, pf, tmp_path):
    """No Hub: found out with one question, said twice, and a model that has learnt."""
    with silent_hub() as (address, taken):
        first = run(env={"HF_ENDPOINT": address})
    assert_clean(first)
    assert len(taken) == 1
    assert first.stdout.count("EMBEDDED DEFAULT") == 2
    assert first.stdout.count("NOT IMDB figures") == 2
    assert first.stdout.index("EMBEDDED DEFAULT") < first.stdout.index("1/7")
    scores = metrics(first.stdout.split("Evaluation results / 评估结果:")[1])
    assert scores["accuracy"] >= 0.90
    assert scores["majority_baseline"] == 0.5
    assert answers(first.stdout) == SIGNS
    output = tmp_path / "finetune-output"
    test = results(output)
    assert round(test["test_accuracy"], 4) == scores["accuracy"]
    assert "not IMDB figures" in (output / "README.md").read_text(encoding="utf-8")
    assert_deployed_is_tested(
        output, embedded_test_rows(pf), test["test_accuracy"], tmp_path
    )

    assert "learning rate 0.0002" in (output / "README.md").read_text(encoding="utf-8")

    second = run()  # a port where nobody listens, and the same result
    assert_clean(second)
    assert metrics(second.stdout) == metrics(first.stdout)
    same = ("test_loss", "test_accuracy", "test_f1", "test_precision", "test_recall")
    again = results(output)
    assert [again[name] for name in same] == [test[name] for name in same]


@pytest.mark.parametrize(
    ("status", "answers"),
    [(200, True), (401, True), (404, True), (429, False), (451, False), (503, False)],
)
def test_what_counts_as_an_answer(pf, monkeypatch, status, answers):
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda *names: address)
    assert pf.hub_answers() is answers
    server.server_close()


def test_an_edited_learning_rate_survives_the_fallback(pf):
    pf.edit(LEARNING_RATE=1e-4).choose_source()
    assert (pf.DATASET_NAME, pf.LEARNING_RATE) == (pf.EMBEDDED_DATASET, 1e-4)


def test_unedited_against_a_hub(run, hub_folder, tmp_path):
    with serve(hub_folder) as address:
        done = run(env={"HF_ENDPOINT": address})
    assert_clean(done)
    assert "EMBEDDED" not in done.stdout
    report = {
        line.split("|")[2].split()[0]: line
        for line in done.stdout.splitlines()
        if "MISSING" in line or "UNEXPECTED" in line
    }
    assert "MISSING" in report["classifier.weight"]
    assert "MISSING" in report["pre_classifier.weight"]
    assert "UNEXPECTED" in report["vocab_transform.weight"]
    # stratified, though stored sorted, and no row of `unsupervised`
    assert "200 rows 行: NEGATIVE 100, POSITIVE 100\n" in done.stdout
    output = tmp_path / "finetune-output"
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "base_model: distilbert-base-uncased" in card
    assert "stanfordnlp/imdb" in card
    answer = ask_in_fresh_process(output, ["A wonderful film."], tmp_path)
    assert answer[0]["label"] in SIGNS

    # What was fetched once is used when the Hub is gone.
    quick = {"TRAIN_SIZE": 16, "VALIDATION_SIZE": 4, "TEST_SIZE": 4}
    cached = run(quick, env={"HF_ENDPOINT": CLOSED})
    assert_clean(cached)
    assert "EMBEDDED" not in cached.stdout
    assert "local cache only" in cached.stdout
    assert "UNEXPECTED" in cached.stdout


def test_downloaded_folders_in_place_of_names(pf, hub_folder):
    """What `hf download --local-dir` brings works as MODEL_NAME and DATASET_NAME."""
    pf.edit(
        MODEL_NAME=str(hub_folder / "models" / "distilbert-base-uncased"),
        DATASET_NAME=str(hub_folder / "datasets" / "stanfordnlp" / "imdb"),
    )
    pf.choose_source()
    assert pf.DATASET_NAME != pf.EMBEDDED_DATASET
    dataset = pf.tokenize(pf.load_data(), pf.load_tokenizer())
    assert [len(part) for part in dataset.values()] == [200, 50, 50]
    assert "classifier.weight" in pf.build_model(["a", "b"])[1]["missing_keys"]


def test_other_names_on_a_hub(run, hub_folder, tmp_path):
    constants = {
        "MODEL_NAME": "tiny/bert",
        "DATASET_NAME": "rotten_tomatoes",
        "DATASET_CONFIG": None,
        "TRAIN_SIZE": None,
        "VALIDATION_SIZE": None,
        "TEST_SIZE": None,
        "MAX_LENGTH": 32,
        "LABEL_NAMES": ["NEGATIVE", "POSITIVE"],
    }
    with serve(hub_folder) as address:
        here = {"HF_ENDPOINT": address}
        first = run(constants, env=here)
        assert_clean(first)
        assert re.search(r"train +60 rows", first.stdout)
        assert re.search(r"validation +20 rows", first.stdout)
        rows = [(f"{text} test", SIGNS[1 - label]) for text, label in reviews(20)]
        output = tmp_path / "finetune-output"
        accuracy = results(output)["test_accuracy"]
        assert_deployed_is_tested(output, rows, accuracy, tmp_path)

        saved = (output / "model.safetensors").read_bytes()
        for wrong, expected in (
            ({"MODEL_NAME": "nobody/nothing"}, "nobody/nothing"),
            ({"DATASET_NAME": "nobody/nothing"}, "nobody/nothing"),
            ({"DATASET_NAME": "nothing"}, "'nothing'"),
            ({"DATASET_CONFIG": "plain_text"}, "default"),
        ):
            done = run(constants | wrong, env=here)
            assert done.returncode == 2
            last = done.stderr.splitlines()[-1]
            assert last.startswith("error: ") and expected in last
            assert "Traceback" not in done.stderr
        assert (output / "model.safetensors").read_bytes() == saved
    cached = run(constants)  # the Hub is gone
    assert_clean(cached)
    assert metrics(cached.stdout) == metrics(first.stdout)


def test_own_choice_never_falls_back(run, tmp_path):
    rows = write_csv(tmp_path / "a.csv", reviews())
    done = run({"DATASET_NAME": "csv", "DATA_FILES": {"train": rows}})
    assert done.returncode == 2
    assert "EMBEDDED" not in done.stdout
    assert done.stderr.splitlines()[-1].startswith(
        "error: cannot load MODEL_NAME = 'distilbert-base-uncased'"
    )


def test_a_terminal_without_chinese(run, tiny, tmp_path):
    constants = {
        "MODEL_NAME": tiny(),
        "DATASET_NAME": "csv",
        "DATA_FILES": {"train": write_csv(tmp_path / "a.csv", reviews())},
        "TRAIN_SIZE": 16,
        "MAX_LENGTH": 32,
        "LABEL_NAMES": ["NEGATIVE", "POSITIVE"],
    }
    done = run(constants, env={"PYTHONIOENCODING": "ascii"})
    assert_clean(done)
    assert "Inference / ??:" in done.stdout
    shutil.rmtree(tmp_path / "finetune-output")
    done = run(constants | {"TRAIN_SIZE": 0}, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    expected = "error: TRAIN_SIZE = 0 must be a whole number from 2 up, or None "
    assert line.rstrip("?") == expected
    assert not Path(tmp_path, "finetune-output").exists()
