"""What every test needs: no Hub, a cache of its own, and the program as a learner edits it."""

import csv
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = tempfile.mkdtemp(prefix="pretrain-finetune-tests-")
# The libraries read these when they are imported, below.
os.environ |= {"HF_HOME": CACHE, "HF_HUB_OFFLINE": "1"}
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import models
import pytest
from edit import edit_constants

import pretrain_finetune

CLOSED = "http://127.0.0.1:9"  # a port where nobody listens


@pytest.fixture(scope="session", autouse=True)
def remove_cache():
    yield
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture
def pf(monkeypatch, tmp_path):
    """The program as a module, in an empty folder; `pf.edit(NAME=value)` edits constants."""
    monkeypatch.chdir(tmp_path)

    def edit(**constants):
        pretrain_finetune.start_logging()  # to the test's own standard output
        for name, value in constants.items():
            assert name in vars(pretrain_finetune), name
            monkeypatch.setattr(pretrain_finetune, name, value)
        return pretrain_finetune

    for name in ("MODEL_NAME", "DATASET_NAME", "LEARNING_RATE"):  # main() may set them
        monkeypatch.setattr(pretrain_finetune, name, getattr(pretrain_finetune, name))
    monkeypatch.setattr(pretrain_finetune, "edit", edit, raising=False)
    return pretrain_finetune


@pytest.fixture
def complaints():
    """What the libraries log at warning level or above; it would reach the screen."""
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    libraries = [logging.getLogger(name) for name in ("transformers", "datasets")]
    for library in libraries:
        library.addHandler(handler)
    yield said
    for library in libraries:
        library.removeHandler(handler)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """`tiny(family)`: a folder with a tiny random model of that family."""
    folders = {}

    def folder(family="bert"):
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(family)
            models.save_tiny(family, folders[family])
        return str(folders[family])

    return folder


def reviews(rows=60):
    """Tiny reviews that the tiny tokenizer can read, as (text, 0 or 1)."""
    good, bad = ("good", "great", "fine"), ("bad", "awful", "dull")
    return [
        (
            f"the {('film', 'plot', 'story')[i % 3]} was {(bad, good)[i % 2][i // 2 % 3]} {i}",
            i % 2,
        )
        for i in range(rows)
    ]


def write_csv(path, rows, header=("text", "label")):
    """Write `rows` as a CSV, quoted by the csv module."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


@pytest.fixture
def run(tmp_path):
    """Run a copy of the script with edited constants as a user would, in a process."""

    def start(constants=None, env=None, command=(sys.executable,), timeout=300):
        source = (ROOT / "pretrain_finetune.py").read_text(encoding="utf-8")
        script = tmp_path / "pretrain_finetune.py"
        script.write_text(edit_constants(source, constants or {}), encoding="utf-8")
        environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
        environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": CLOSED}
        environment |= {"PYTHONIOENCODING": "utf-8"} | (env or {})
        return subprocess.run(
            [*command, str(script)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
            check=False,
        )

    return start


def metrics(output):
    """The `name = 0.0000` lines of the console as a dict."""
    return {k: float(v) for k, v in re.findall(r"(\w+) = (\d\.\d{4})", output)}


def answers(output):
    """The labels after the arrows of the inference block."""
    return re.findall(r"→ (\S+)", output.split("Inference / 推理:")[1])


def results(folder, name="test_results.json"):
    return json.loads(Path(folder, name).read_text())


FRESH = """
import json, sys
from transformers import pipeline
classifier = pipeline("text-classification", model=sys.argv[1])
texts = json.load(open(sys.argv[2], encoding="utf-8"))
print(json.dumps(classifier(texts, truncation=True)))
"""


def ask_in_fresh_process(folder, texts, tmp_path):
    """What `pipeline(model=folder)` answers in a process that knows nothing else."""
    questions = tmp_path / "questions.json"
    questions.write_text(json.dumps(texts))
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(folder), str(questions)],
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout.splitlines()[-1])
