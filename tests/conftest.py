"""What every test needs: no Hub, a cache of its own, the program as a learner edits it."""

import csv
import functools
import gc
import json
import logging
import os
import re
import runpy
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = tempfile.TemporaryDirectory(prefix="pretrain-finetune-tests-")
# The libraries read these when they are imported, below. What is expected is what a CPU
# gives: a GPU, if there is one, is left alone.
os.environ["HF_HOME"] = CACHE.name
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import models
import pytest
from benchmark import edit_constants
from safetensors.torch import load_file, save_file

import pretrain_finetune

CLOSED = "http://127.0.0.1:9"  # a port where nobody listens
# The end of each training collects garbage: the libraries themselves are none.
gc.freeze()


@pytest.fixture
def pf(monkeypatch, tmp_path):
    """The program as a module, in an empty folder; `pf.edit(NAME=value)` edits constants."""
    monkeypatch.chdir(tmp_path)

    def edit(**constants):
        for name, value in constants.items():
            assert hasattr(pretrain_finetune, name), name
            monkeypatch.setattr(pretrain_finetune, name, value)
        return pretrain_finetune

    monkeypatch.setattr(pretrain_finetune, "edit", edit, raising=False)
    return pretrain_finetune


@pytest.fixture
def fp32(pf, monkeypatch):
    """The arithmetic of training is exact, whatever this CPU can do."""
    monkeypatch.setattr(pf, "multiplies_bf16", lambda: False)


@pytest.fixture
def without_picture(pf, monkeypatch):
    """Nothing is drawn, where nobody looks at the picture."""
    monkeypatch.setattr(pf, "draw", lambda *_: None)


@pytest.fixture
def complaints():
    """What the libraries log at warning level or above; it would reach the screen."""
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    for name in ("transformers", "datasets"):
        logging.getLogger(name).addHandler(handler)
    yield said
    for name in ("transformers", "datasets"):
        logging.getLogger(name).removeHandler(handler)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """`tiny(family)`: a folder with a tiny random model of that family."""

    @functools.cache
    def folder(family="bert"):
        made = tmp_path_factory.mktemp(family)
        models.save_tiny(family, made)
        move_biases(made / "model.safetensors")
        return str(made)

    return folder


def move_biases(path):
    """Give each bias another value than 0, as pretraining does."""
    weights = load_file(path)
    for name in weights:
        if name.endswith("bias"):
            weights[name] += 0.1
    save_file(weights, path, metadata={"format": "pt"})


@pytest.fixture
def settings(tmp_path, tiny):
    """Constants of a run that takes a second: a tiny model, 61 rows in one CSV."""
    return {
        "MODEL_NAME": tiny(),
        "DATA_FILES": {"train": write_csv(tmp_path / "train.csv", uneven_reviews(61))},
        "TRAIN_SIZE": 40,
        "VALIDATION_SIZE": 10,
        "TEST_SIZE": 11,
        "MAX_LENGTH": 16,
        "LEARNING_RATE": 1e-3,
        "OUTPUT_DIR": "out",
    }


class Stopped(Exception):
    """Ends main() where a test has seen enough."""


@pytest.fixture
def built(pf, settings, tiny, monkeypatch):
    """`built(family, **constants)`: the Trainer that main() built, before it trains."""

    def build(family="bert", **constants):
        pf.edit(**settings | {"MODEL_NAME": tiny(family)} | constants)
        trainers = []

        def stop(trainer):
            trainers.append(trainer)
            raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(pf, "train", stop)
            with pytest.raises(Stopped):
                pf.main()
        return trainers[0]

    return build


@pytest.fixture
def finished(pf, settings, tiny, without_picture, monkeypatch):
    """`finished(family, **constants)`: the Trainer after all of main()."""

    def finish(family="bert", **constants):
        pf.edit(**settings | {"MODEL_NAME": tiny(family)} | constants)
        trainers = []
        train = pf.train

        def watch(trainer):
            trainers.append(trainer)
            return train(trainer)

        with monkeypatch.context() as patch:
            patch.setattr(pf, "train", watch)
            pf.main()
        return trainers[0]

    return finish


def reviews(rows=60):
    """Tiny reviews that the tiny tokenizer can read, as (text, 0 or 1)."""
    words = (("bad", "awful", "dull"), ("good", "great", "fine"))
    things = ("film", "plot", "story")
    return [
        (f"the {things[i % 3]} was {words[i % 2][i // 2 % 3]} {i}", i % 2)
        for i in range(rows)
    ]


def uneven_reviews(rows):
    """Like `reviews`, but a third is good, lengths differ, and some labels are wrong."""
    made = []
    for i in range(rows):
        label = int(i % 3 == 0)
        word = ("bad", "good")[label]
        more = " and the story was fine" * (i % 4)
        if i % 10 == 7:
            label = 1 - label
        made.append((f"the film was {word}{more} {i}", label))
    return made


def write_csv(path, rows, header=("text", "label")):
    """Write `rows` as a CSV, quoted by the csv module."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def write_script(folder, constants):
    """A copy of the script with edited constants in `folder`; its path."""
    source = (ROOT / "pretrain_finetune.py").read_text(encoding="utf-8")
    script = folder / "pretrain_finetune.py"
    script.write_text(edit_constants(source, constants), encoding="utf-8")
    return script


@pytest.fixture
def as_script(pf, tmp_path, capsys):
    """`as_script(**constants)`: what a shell sees of a copy: exit code, output, errors."""

    def start(**constants):
        script = write_script(tmp_path, constants)
        handlers = pf.log.handlers
        code = 0
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        pf.log.handlers = handlers
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return start


def run_script(folder, constants=None, env=None, command=(), program=None, wait=True):
    """Run a copy of the script with edited constants as a user would, in a process.

    `program`: Python that imports the copy, to be run in its place.
    """
    script = write_script(folder, constants or {})
    if program:
        script = folder / "program.py"
        script.write_text(program, encoding="utf-8")
    environment = dict(os.environ)
    del environment["HF_HUB_OFFLINE"]
    environment["HF_HOME"] = str(folder / "hf")
    environment["HF_ENDPOINT"] = CLOSED
    environment["PYTHONIOENCODING"] = "utf-8"
    environment.update(env or {})
    process = subprocess.Popen(
        [sys.executable, *command, str(script)],
        cwd=folder,
        env=environment,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if not wait:
        return process
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def run(tmp_path):
    """`run(constants, …)`: run_script() in the folder of the test."""
    return functools.partial(run_script, tmp_path)


@pytest.fixture(scope="session")
def embedded_default(tmp_path_factory):
    """The folder and the process of the unedited script, run without a Hub."""
    folder = tmp_path_factory.mktemp("embedded")
    # a Hub that takes every connection and never says a word
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        return folder, run_script(folder, env={"HF_ENDPOINT": address})


LOG_LINE = re.compile(r"\d\d:\d\d:\d\d \| (INFO|WARNING) \| ")


def assert_clean(done):
    """The run succeeded, its lines have the agreed form, and no library complained."""
    assert done.returncode == 0, done.stderr[-3000:]
    for line in done.stdout.splitlines():  # Trainer logs its own as {...}
        assert LOG_LINE.match(line) or line.startswith("{"), line
    bar = re.compile(r"\d+%\||[a-zA-Z]/s|^$")  # of a progress bar
    lines = re.split(r"[\r\n]", done.stderr.replace("\x1b[A", ""))
    noise = [line.strip() for line in lines if not bar.search(line.strip())]
    # without a Hub, datasets says which of the cached versions it uses
    # and Trainer wonders at checkpoints that are made within a second, as tiny ones are
    known = re.compile("latest cached|mtime may not be reliable")
    assert [line for line in noise if not known.search(line)] == []


def scores_on_screen(output):
    """The `name = 0.0000` lines of the console as a dict."""
    return {k: float(v) for k, v in re.findall(r"(\w+) = (\d\.\d{4})", output)}


def answers(output):
    """The labels after the arrows of the inference block."""
    return re.findall(r"→ (\S+)", output.split("Inference / 推理:")[1])


def share_right(answers, rows):
    """Accuracy of pipeline answers against the labels of `rows`."""
    names = rows.features["label"].names
    pairs = zip(answers, rows["label"], strict=True)
    return sum(answer["label"] == names[i] for answer, i in pairs) / len(rows)


def results(folder, name="test_results.json"):
    return json.loads(Path(folder, name).read_text())


def steady(folder):
    """The test's results without those that depend on the clock."""
    found = results(folder)
    return {k: v for k, v in found.items() if not re.search("_per_second|time", k)}


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
    command = [sys.executable, "-c", FRESH, str(folder), str(questions)]
    return json.loads(subprocess.check_output(command).splitlines()[-1])
