"""A notebook: one kernel, cell by cell, as a learner runs it; and the file in a cell."""

import os
import shutil
import socket

import nbformat
import pytest
from benchmark import edit_constants
from conftest import ROOT, results, reviews, write_csv
from hub import serve
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

SCRIPT = (ROOT / "pretrain_finetune.py").read_text(encoding="utf-8")
# Ten steps, and a checkpoint after the fourth and the eighth.
SHORT = {
    "TEXT_COLUMN": "text",
    "TRAIN_SIZE": 40,
    "VALIDATION_SIZE": 10,
    "TEST_SIZE": 11,
    "MAX_LENGTH": 16,
    "BATCH_SIZE": 8,
    "NUM_EPOCHS": 2,
    "EVAL_STEPS": 4,
}
# What the stop button sends, in the seventh step.
INTERRUPTED_STEP = """
import gc, logging, signal, weakref
import datasets, huggingface_hub, matplotlib, transformers

training_step = transformers.Trainer.training_step
trainers = []

def interrupted_step(trainer, *arguments):
    trainers.append(weakref.ref(trainer))
    if trainer.state.global_step == 6:
        signal.raise_signal(signal.SIGINT)
    return training_step(trainer, *arguments)
"""
INTERRUPT = "transformers.Trainer.training_step = interrupted_step"
DO_NOT_INTERRUPT = "transformers.Trainer.training_step = training_step"
# What a run must leave as it was, remembered before the program is imported.
STATE = """
def state():
    names = ["transformers", "transformers.modeling_utils", "datasets", "root"]
    loggers = [logging.getLogger(name) for name in names]
    levels = [(logger.name, logger.level, logger.disabled) for logger in loggers]
    offline = huggingface_hub.constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    drawing = matplotlib.get_backend(), dict(matplotlib.rcParams)
    return levels, offline, drawing, signal.getsignal(signal.SIGTERM)

before = state()
"""


def printed(outputs):
    """What a cell printed."""
    return "".join(output.text for output in outputs if "text" in output)


def the_error(outputs):
    """The error that a cell ended in."""
    return next(output for output in outputs if output.output_type == "error")


def no_error(outputs):
    """Whether a cell ended well."""
    return all(output.output_type != "error" for output in outputs)


def assert_one_line(error, words):
    """The error is the program's own, one line; where it came from is not shown."""
    assert error.ename == "FinetuneError"
    assert words in error.evalue
    assert "\n" not in error.evalue
    traceback = "\n".join(error.traceback)
    assert "During handling" not in traceback
    assert "site-packages" not in traceback
    assert traceback.count("pretrain_finetune.py") <= 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the notebook, which holds one CSV."""
    made = tmp_path_factory.mktemp("notebook")
    write_csv(made / "reviews.csv", reviews(61))
    return made


@pytest.fixture(scope="module")
def port():
    """A port of this machine where nobody listens until a test serves a Hub there."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def kernel(folder, port):
    """`kernel(code)` runs a cell and returns its outputs; the kernel is this Python."""
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    environment["HF_ENDPOINT"] = f"http://127.0.0.1:{port}"
    environment["HF_HOME"] = str(folder / "cache")
    environment["HF_TOKEN"] = "hf_secret"
    environment["PYTHONPATH"] = str(ROOT)
    # Without folders to search, the manager takes the Python that runs the tests.
    specs = KernelSpecManager(kernel_dirs=[])
    manager = AsyncKernelManager(kernel_spec_manager=specs)
    notebook = nbformat.v4.new_notebook()
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, manager, resources=place, allow_errors=True)

    def run(code):
        cell = nbformat.v4.new_code_cell(code)
        notebook.cells.append(cell)
        client.execute_cell(cell, len(notebook.cells) - 1)
        return cell.outputs

    with client.setup_kernel(env=environment, cleanup_kc=True):
        assert no_error(run(INTERRUPTED_STEP))
        assert no_error(run(STATE))
        assert no_error(run("%%capture\nimport pretrain_finetune as pf"))
        yield run


@pytest.fixture
def constants(tiny):
    """The constants of a run that takes a second."""
    own = {"MODEL_NAME": tiny(), "DATASET_NAME": "reviews.csv", "OUTPUT_DIR": "out"}
    return SHORT | own


@pytest.fixture
def block(constants):
    """The cell that sets the constants."""
    return "\n".join(f"pf.{name} = {value!r}" for name, value in constants.items())


@pytest.fixture
def cell(kernel, block, folder):
    """`cell(code)` as `kernel` has it, with the constants set and no earlier output."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    kernel(block)
    kernel(DO_NOT_INTERRUPT)
    return kernel


def test_a_run_prints_its_steps_returns_its_scores_and_shows_its_picture(cell, folder):
    outputs = cell("scores = pf.main()")
    assert no_error(outputs)
    # The steps are printed although the import was captured.
    for step in ("1/6", "2/6", "3/6", "4/6", "5/6", "6/6"):
        assert f"----- {step} " in printed(outputs)
    assert "Evaluation results / 评估结果:" in printed(outputs)
    accuracy = results(folder / "out")["test_accuracy"]
    assert printed(cell("print(scores['test_accuracy'])")) == f"{accuracy}\n"
    outputs = cell("from IPython.display import Image\nImage('out/results.png')")
    assert "image/png" in outputs[0].data


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("pf.TEXT_COLUMN = 'review'", "train has no column 没有这一列 ['review']"),
        ("pf.DATASET_NAME = 'absent.csv'", "absent.csv"),
        ("pf.MODEL_NAME = 'someone/absent'", "MODEL_NAME = 'someone/absent'"),
        ("pf.BATCH_SIZE = 0", "BATCH_SIZE"),
    ],
)
def test_a_mistake_is_one_line_and_the_next_cell_mends_it(cell, block, mistake, words):
    cell(mistake)
    assert_one_line(the_error(cell("pf.main()")), words)
    cell(block)
    assert no_error(cell("pf.main()"))


def test_a_misspelt_constant_is_named(cell):
    cell("pf.TRAIN_SIZ = 5")
    error = the_error(cell("pf.main()"))
    cell("del pf.TRAIN_SIZ")
    assert_one_line(error, "TRAIN_SIZ: ")
    assert "TRAIN_SIZE" in error.evalue


def test_an_interrupted_run_says_run_again_and_then_goes_on(cell):
    cell("handler = signal.getsignal(signal.SIGTERM)")
    cell(INTERRUPT)
    assert_one_line(the_error(cell("pf.main()")), "run again: it goes on")
    cell(DO_NOT_INTERRUPT)
    same = cell("print(signal.getsignal(signal.SIGTERM) is handler)")
    assert printed(same) == "True\n"
    cell("gc.collect()")
    assert printed(cell("print(trainers[-1]())")) == "None\n"
    outputs = cell("pf.main()")
    assert no_error(outputs)
    assert "checkpoint-4 从检查点继续" in printed(outputs)


LOAD = """
model = transformers.AutoModelForSequenceClassification.from_pretrained("someone/{}")
"""


@pytest.mark.parametrize("end", ["finished", "wrong", "interrupted"])
def test_after_a_run_without_a_hub_the_kernel_asks_it_again(
    cell, tiny, tmp_path, port, end
):
    if end == "wrong":
        cell("pf.TEXT_COLUMN = 'review'")
    if end == "interrupted":
        cell(INTERRUPT)
    outputs = cell("pf.main()")
    assert "No answer from the Hub" in printed(outputs)
    assert no_error(outputs) == (end == "finished")
    shutil.copytree(tiny(), tmp_path / "models" / "someone" / end)
    with serve(tmp_path, port):
        outputs = cell(LOAD.format(end))
    assert no_error(outputs)
    # The library's report of the new weights is silenced in the program only.
    assert "MISSING" in printed(outputs)


def test_a_run_with_a_hub_after_one_without(cell, tiny, tmp_path, port):
    assert "No answer from the Hub" in printed(cell("pf.main()"))
    shutil.copytree(tiny(), tmp_path / "models" / "someone" / "tiny")
    cell("pf.MODEL_NAME = 'someone/tiny'")
    with serve(tmp_path, port):
        outputs = cell("pf.main()")
        cell("pf.DATASET_NAME = 'nothing'")
        error = the_error(cell("pf.main()"))
    assert no_error(outputs)
    assert "No answer from the Hub" not in printed(outputs)
    assert_one_line(error, "cannot load 无法加载 DATASET_NAME = 'nothing'")


def test_a_run_leaves_the_kernel_as_it_found_it(cell):
    assert no_error(cell("pf.main()"))
    assert printed(cell("print(state() == before)")) == "True\n"


# What else a notebook may hold; each value has the word secret in it.
BESIDE = """
import pandas as pd

API_KEY = "{nth}-secret-key"
X = pd.DataFrame({{"customer": ["{nth}-secret-customer"]}})
TABLE = {{("a", "{nth}-secret-pair"): 1}}

def LOSS():
    return "{nth}-secret-function"
"""


def assert_no_secrets(folder):
    """No file below the folder holds the word secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert b"secret" not in path.read_bytes(), path


def test_the_file_in_a_cell_tells_nothing_of_the_notebook(cell, constants, folder):
    program = edit_constants(SCRIPT, constants)
    cell(BESIDE.format(nth="first"))
    cell(INTERRUPT)
    interrupted = cell(program)
    assert_one_line(the_error(interrupted), "run again: it goes on")
    assert_no_secrets(folder / "out")
    cell(BESIDE.format(nth="second"))
    cell(DO_NOT_INTERRUPT)
    finished = cell(program)
    assert no_error(finished)
    # It goes on although these changed, and none of them is printed.
    assert "checkpoint-4 从检查点继续" in printed(finished)
    assert_no_secrets(folder / "out")
    assert "secret" not in str(interrupted + finished)
    assert printed(cell("print(LOSS())")) == "second-secret-function\n"
