"""Kills, full disks and corrupt files: nothing is lost, and the run goes on."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import CLOSED, ROOT, results, reviews, write_csv
from edit import edit_constants

STEPS = 15  # 40 rows, batches of 8, 3 epochs; checkpoints after 4, 8, 12 and 15


class Killed(BaseException):
    """Ends the program on the spot: like kill -9, it leaves the files as they are."""


@pytest.fixture(scope="module")
def settings(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {
        "MODEL_NAME": tiny(),
        "DATASET_NAME": "csv",
        "DATA_FILES": {"train": write_csv(folder / "train.csv", reviews(61))},
        "TRAIN_SIZE": 40,
        "VALIDATION_SIZE": 10,
        "TEST_SIZE": 11,
        "MAX_LENGTH": 16,
        "NUM_EPOCHS": 3,
        "EVAL_STEPS": 4,
        "LEARNING_RATE": 1e-3,
        "SEED": 42,
        "OUTPUT_DIR": "out",
    }


@pytest.fixture
def train(pf, settings, monkeypatch, capsys):
    """`train(at=step, does=function, **constants)`: main(), with an event; its output."""
    handlers = {number: signal.getsignal(number) for number in (2, 15)}

    def run(at=None, does=None, **constants):
        steps, original = [], pf.Trainer.training_step

        def step(trainer, *args, **kwargs):
            steps.append(1)
            if len(steps) == at:
                does()
            return original(trainer, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(pf.Trainer, "training_step", step)
            try:
                pf.edit(**settings | constants).run()
                code = 0
            except SystemExit as stop:
                code = stop.code
            except Killed:
                code = "killed"
        out, err = capsys.readouterr()
        return code, out, err, len(steps)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def kill():
    raise Killed


def scores(folder="out"):
    found = results(folder)
    return {k: v for k, v in found.items() if not re.search("_per_second|time", k)}


def weights(folder="out"):
    return Path(folder, "model.safetensors").read_bytes()


@pytest.fixture
def finished(train):
    """The scores and weights of a run that nobody interrupted."""

    def reference(**constants):
        train(**constants | {"OUTPUT_DIR": "whole"})
        return scores("whole"), weights("whole")

    return reference


# Going on after a kill 中断后继续


@pytest.mark.parametrize(
    "constants",
    [{}, {"GROUP_BY_LENGTH": False, "DROPOUT": 0.3, "FIT_HEAD": False}],
    ids=["shipped", "random order and dropout"],
)
def test_a_killed_run_goes_on_to_the_same_end(train, finished, constants):
    assert train(at=11, does=kill, **constants)[0] == "killed"
    code, out, _, steps = train(**constants)
    assert code == 0
    assert "Going on from out/checkpoint-8 " in out
    assert steps == STEPS - 8
    assert (scores(), weights()) == finished(**constants)


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def killed_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("killed") / "out"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", cut),
        ("model.safetensors", flip),
        ("model.safetensors", Path.unlink),
        ("optimizer.pt", cut),
        ("scheduler.pt", Path.unlink),
        ("trainer_state.json", cut),
        ("rng_state.pth", flip),
        ("sha256.json", Path.unlink),
        ("sha256.json", cut),
    ],
)
def test_a_damaged_checkpoint_is_passed_over(train, killed_folder, name, damage):
    if not killed_folder.exists():
        train(at=14, does=kill)
        shutil.copytree("out", killed_folder)
    shutil.copytree(killed_folder, "out", dirs_exist_ok=True)
    newest, older, *_ = sorted(
        Path("out").glob("checkpoint-*"), key=lambda f: -int(f.name.split("-")[1])
    )
    damage(newest / name)
    code, out, _, steps = train()
    assert code == 0
    assert f"{newest} is damaged or incomplete: passed over" in out
    assert f"Going on from {older} " in out
    assert steps == STEPS - int(older.name.split("-")[1])


def test_damaged_checkpoints_end_as_if_nothing_had_happened(train, finished):
    train(at=14, does=kill)
    cut(Path("out/checkpoint-12/model.safetensors"))
    train()
    assert (scores(), weights()) == finished()


def test_with_no_checkpoint_left_it_starts_again(train):
    train(at=10, does=kill)
    for folder in Path("out").glob("checkpoint-*"):
        cut(folder / "optimizer.pt")
    code, out, _, steps = train()
    assert (code, steps) == (0, STEPS)
    assert out.count("passed over") == 2


def test_a_checkpoint_needs_its_best_one(train, pf):
    train(at=14, does=kill)
    state = Path("out/checkpoint-12/trainer_state.json")
    best = Path(json.loads(state.read_text())["best_model_checkpoint"])
    assert best != state.parent
    cut(best / "model.safetensors")
    assert not pf.is_complete(state.parent)


# When to start afresh 何时重新开始


@pytest.mark.parametrize(
    ("constant", "value"),
    [
        ("LEARNING_RATE", 2e-3),
        ("SEED", 7),
        ("DROPOUT", None),
        ("NUM_EPOCHS", 4),
        ("WEIGHT_DECAY", 0.1),
    ],
)
def test_a_changed_constant_is_named_and_means_a_fresh_start(train, constant, value):
    train(at=6, does=kill)
    code, out, _, steps = train(**{constant: value})
    assert code == 0
    assert f"Fresh start: {constant} changed since out/checkpoint-4" in out
    assert steps == 5 * (4 if constant == "NUM_EPOCHS" else 3)


def test_what_training_does_not_see_may_change(train):
    train(at=6, does=kill)
    assert "Going on from" in train(SAMPLE_TEXTS=["good film"])[1]


def test_changed_rows_under_the_same_name_mean_a_fresh_start(train, tmp_path):
    mine = {"DATA_FILES": {"train": str(tmp_path / "mine.csv")}}
    write_csv(tmp_path / "mine.csv", reviews(61))
    train(at=6, does=kill, **mine)
    other = [(text.replace("good", "fine"), label) for text, label in reviews(61)]
    write_csv(tmp_path / "mine.csv", other)
    assert "Fresh start: the rows changed since" in train(**mine)[1]


def test_changed_weights_under_the_same_name_mean_a_fresh_start(train, tiny, tmp_path):
    shutil.copytree(tiny(), tmp_path / "model")
    train(at=6, does=kill, MODEL_NAME="./model")
    flip(tmp_path / "model/model.safetensors")
    assert "Fresh start: the weights changed since" in train(MODEL_NAME="./model")[1]


def test_a_finished_run_starts_afresh(train):
    train()
    before = scores(), weights()
    _, out, _, steps = train()
    assert steps == STEPS
    assert "Going on" not in out and "Fresh start" not in out
    assert (scores(), weights()) == before


def test_a_finished_runs_checkpoints_are_never_taken_up(train):
    train()
    assert train(at=2, does=kill)[0] == "killed"
    _, out, _, steps = train()
    assert steps == STEPS
    assert "Going on" not in out


def test_checkpoints_that_are_not_ours_are_left_alone(train, tmp_path):
    theirs = Path("out/checkpoint-500")
    theirs.mkdir(parents=True)
    (theirs / "trainer_state.json").write_text("{}")
    code, _, err, _ = train()
    assert code == 2
    assert "OUTPUT_DIR = 'out' is in use" in err
    assert [path.name for path in theirs.iterdir()] == ["trainer_state.json"]


# Signals 信号


def test_sigterm_writes_a_checkpoint_and_ends_with_143(train, finished):
    train()
    old = weights()
    code, out, _, steps = train(
        at=6, does=lambda: os.kill(os.getpid(), signal.SIGTERM), SEED=1
    )
    assert (code, steps) == (143, 6)
    assert "goes on from out/checkpoint-6 " in out
    assert "5/7" not in out  # no test, no save
    assert weights() == old
    code, out, _, steps = train(SEED=1)
    assert (code, steps) == (0, STEPS - 6)
    assert (scores(), weights()) == finished(SEED=1)


def test_sigterm_outside_of_training_ends_with_143(train, pf, monkeypatch):
    def stopped(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    monkeypatch.setattr(pf, "load_data", stopped)
    code, out, err, _ = train()
    assert code == 143
    assert "Traceback" not in out + err


@pytest.mark.parametrize(("step", "then"), [(6, "goes on"), (2, "starts again")])
def test_ctrl_c_says_how_to_go_on(train, step, then):
    code, _, err, _ = train(at=step, does=lambda: os.kill(os.getpid(), signal.SIGINT))
    assert code == 130
    last = err.strip().splitlines()[-1]
    assert last.startswith("stopped 已中断: the same command " + then)
    assert "Traceback" not in err


def start(folder, constants, env=None):
    """The script as a user starts it, in the background."""
    source = (ROOT / "pretrain_finetune.py").read_text(encoding="utf-8")
    script = folder / "pretrain_finetune.py"
    script.write_text(edit_constants(source, constants), encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": "utf-8", "HF_ENDPOINT": CLOSED}
    return subprocess.Popen(
        [sys.executable, str(script)],
        cwd=folder,
        env=environment | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def test_two_runs_at_once_one_killed_both_end_alike(settings, tmp_path):
    constants = settings | {"NUM_EPOCHS": 60, "EVAL_STEPS": 5}
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
    both = [start(folder, constants) for folder in folders]
    deadline = time.time() + 200
    while not list((tmp_path / "a/out").glob("checkpoint-*/sha256.json")):
        assert both[0].poll() is None and time.time() < deadline
        time.sleep(0.01)
    both[0].kill()
    assert both[0].communicate()[0].count("1/7") == 1
    again = start(folders[0], constants)
    outputs = [process.communicate(timeout=300)[0] for process in (again, both[1])]
    assert "Going on from out/checkpoint-" in outputs[0]
    assert "Going on from" not in outputs[1]
    assert scores(tmp_path / "a/out") == scores(tmp_path / "b/out")
    assert weights(tmp_path / "a/out") == weights(tmp_path / "b/out")


# The saved model 保存的模型


def test_a_crash_while_saving_leaves_the_old_model(train, pf, monkeypatch):
    train()
    before = {p.name: p.read_bytes() for p in Path("out").iterdir() if p.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(pf, "model_card", lambda *_: kill())
        assert train(SEED=1)[0] == "killed"
    after = {p.name: p.read_bytes() for p in Path("out").iterdir() if p.is_file()}
    assert before.pop("run.json") != after.pop("run.json")
    assert after == before
    _, out, _, steps = train(SEED=1)
    assert "Going on from out/checkpoint-15" in out
    assert steps == 0
    assert weights() != before["model.safetensors"]
    assert not Path("out/incomplete").exists() and not Path("out/complete").exists()


def test_at_no_moment_is_there_half_a_model(pf, tmp_path, monkeypatch):
    names = ["config.json", "model.safetensors", "tokenizer.json"]

    def prepare(folder):
        new = folder / "incomplete"
        new.mkdir(parents=True)
        for name in [*names, "spiece.model"]:
            (folder / name).write_text("old")
        (folder / "mine.txt").write_text("mine")
        for name in names:
            (new / name).write_text("new")
        pf.write_json(folder / "run.json", {"files": [*names, "spiece.model"]})
        return new

    calls = 0
    for last in range(1, 99):
        folder = tmp_path / str(last)
        pf.edit(OUTPUT_DIR=str(folder))
        new, done = prepare(folder), []

        def act(original, *args, done=done, last=last, **kwargs):
            done.append(1)
            if len(done) == last:
                raise Killed
            return original(*args, **kwargs)

        try:
            with monkeypatch.context() as patch:
                for module, name in (
                    (os, "replace"),
                    (Path, "unlink"),
                    (Path, "rmdir"),
                ):
                    original = getattr(module, name)
                    patch.setattr(
                        module, name, lambda *a, _o=original, **k: act(_o, *a, **k)
                    )
                pf.replace_model(new)
            calls = last
        except Killed:
            state = {
                (folder / name).read_text() if (folder / name).exists() else None
                for name in [*names, "spiece.model"]
            }
            whole = state in ({"old"}, {"new", None}, {"new"})
            loadable = (folder / "config.json").exists()
            assert whole or not loadable, state
            if (folder / "complete").exists():
                pf.move_model()  # as the next run does
        if (folder / "complete").exists() or not new.exists():
            assert {p.name for p in folder.iterdir()} == {
                *names,
                "run.json",
                "mine.txt",
            }
            assert {(folder / name).read_text() for name in names} == {"new"}
            assert pf.read_json(folder / "run.json")["finished"]
        if calls:
            break
    assert calls > 8


FULL = """
import resource, sys
import pretrain_finetune as pf

def full(*_):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))

steps, training_step, evaluate = [], pf.Trainer.training_step, pf.evaluate
def step(*args, **kwargs):
    steps.append(1)
    if sys.argv[1] == "checkpoint" and len(steps) == 6:
        full()
    return training_step(*args, **kwargs)

def evaluated(*args):
    metrics = evaluate(*args)
    if sys.argv[1] == "model":
        full()
    return metrics

pf.Trainer.training_step, pf.evaluate = step, evaluated
pf.run()
"""


@pytest.mark.parametrize("what", ["checkpoint", "model"])
def test_a_full_disk_is_said_and_loses_nothing(train, settings, tmp_path, what, pf):
    source = (ROOT / "pretrain_finetune.py").read_text(encoding="utf-8")
    (tmp_path / "pretrain_finetune.py").write_text(edit_constants(source, settings))
    (tmp_path / "full.py").write_text(FULL)
    train(SEED=1)
    old = weights()
    done = subprocess.run(
        [sys.executable, "full.py", what],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    newest = "out/checkpoint-4" if what == "checkpoint" else "out/checkpoint-15"
    assert last.startswith("error: disk full 磁盘已满?"), last
    assert f"the same command goes on from {newest} " in last
    assert pf.is_complete(Path(newest))
    assert weights() == old
    code, out, *_ = train()
    assert code == 0 and f"Going on from {newest} " in out


# Nothing is executed 绝不执行外来代码


class Trap:
    """Unpickled, it runs a command."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_a_pickled_checkpoint_is_not_unpickled(train, tiny, tmp_path):
    shutil.copytree(tiny(), tmp_path / "model")
    (tmp_path / "model/model.safetensors").unlink()
    mark = tmp_path / "executed"
    with open(tmp_path / "model/pytorch_model.bin", "wb") as file:
        pickle.dump(Trap(mark), file)
    code, _, err, _ = train(MODEL_NAME="./model")
    assert code == 2
    assert "cannot load MODEL_NAME" in err
    assert not mark.exists()
    os.system(pickle.loads(pickle.dumps(f"touch {mark}")))
    assert mark.exists()  # the trap works


@pytest.mark.parametrize("name", ["rng_state.pth", "optimizer.pt", "scheduler.pt"])
def test_a_trap_in_a_checkpoint_is_not_unpickled(train, pf, tmp_path, name):
    train(at=6, does=kill)
    folder, mark = Path("out/checkpoint-4"), tmp_path / "executed"
    with open(folder / name, "wb") as file:
        pickle.dump(Trap(mark), file)
    pf.write_json(folder / pf.SEAL, pf.checksums(folder))
    with pytest.raises(pickle.UnpicklingError):
        train()
    assert not mark.exists()


def test_a_data_sets_script_is_not_run(train, tmp_path):
    folder, mark = tmp_path / "data_set", tmp_path / "executed"
    folder.mkdir()
    write_csv(folder / "train.csv", reviews(61))
    script = f"open({str(mark)!r}, 'w')\n"
    for name in ("data_set.py", "train.py", "__init__.py"):
        (folder / name).write_text(script)
    code, _, err, _ = train(
        DATASET_NAME="./data_set", DATASET_CONFIG=None, DATA_FILES=None
    )
    assert not mark.exists()
    assert code == 0 or "cannot load DATASET_NAME" in err


def test_a_models_code_is_not_run(train, tiny, tmp_path):
    shutil.copytree(tiny(), tmp_path / "model")
    mark = tmp_path / "executed"
    (tmp_path / "model/evil.py").write_text(f"open({str(mark)!r}, 'w')\n")
    for name, key in (
        ("config.json", {"AutoConfig": "evil.C", "AutoModel": "evil.M"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["evil.T", None]}),
    ):
        path = tmp_path / "model" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": key}))
    code, _, err, _ = train(MODEL_NAME="./model")
    assert not mark.exists()
    assert code == 0 or "cannot load MODEL_NAME" in err


# Many processes 多进程


def processes(run, constants, program=None, **env):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone")
    return run(
        constants, {"OMP_NUM_THREADS": "1"} | env, (*torchrun, "--nproc_per_node=2")
    )


def test_two_processes_train_as_two_and_speak_as_one(run, settings, pf, tmp_path):
    done = processes(run, settings | {"OUTPUT_DIR": "two", "VALIDATION_SIZE": 9})
    assert done.returncode == 0, done.stderr
    assert "40 rows / batch 16 = 3 steps an epoch" in done.stdout  # half the steps
    state = json.loads((tmp_path / "two/checkpoint-9/trainer_state.json").read_text())
    assert state["global_step"] == 9
    for line in ("1/7", "5/7", "Saved in", "Evaluation results", "Going on"):
        assert done.stdout.count(line) == (line != "Going on"), line
    assert done.stdout.count("head fitted") == 2
    for bar in ("Preparing train", "Tokenizing"):
        assert len(re.findall(rf"{bar}[^\n]*100%", done.stderr)) <= 3, done.stderr
    noise = re.findall(r".*(?:[Ww]arn|find_unused|destroy_process).*", done.stderr)
    assert noise == []
    # 11 test rows do not divide by two: the saved model agrees on every one of them
    pf.edit(**settings | {"OUTPUT_DIR": str(tmp_path / "two"), "VALIDATION_SIZE": 9})
    test = pf.load_data()["test"]
    names = test.features["label"].names
    answers = [answer["label"] for answer in pf.predict(list(test["text"]))]
    right = [
        answer == names[label]
        for answer, label in zip(answers, test["label"], strict=True)
    ]
    found = results(tmp_path / "two")
    assert len(test) == 11
    assert found["test_accuracy"] == pytest.approx(np.mean(right), abs=1e-9)
    assert found["test_majority_baseline"] == pytest.approx(
        max(np.bincount(test["label"])) / 11
    )


TOGETHER = """
import hashlib, os
import torch
import pretrain_finetune as pf

training_step = pf.Trainer.training_step
def step(self, model, *args, **kwargs):
    assert isinstance(model, torch.nn.parallel.DistributedDataParallel)
    return training_step(self, model, *args, **kwargs)

show_movement = pf.show_movement
def show(trainer, *args):
    digest = hashlib.sha256()
    for parameter in trainer.model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    with open(f"rank{os.environ['RANK']}", "w") as file:
        file.write(digest.hexdigest())
    show_movement(trainer, *args)

pf.Trainer.training_step, pf.show_movement = step, show
pf.run()
"""


def torchrun(settings, folder, program):
    source = (ROOT / "pretrain_finetune.py").read_text(encoding="utf-8")
    (folder / "pretrain_finetune.py").write_text(edit_constants(source, settings))
    (folder / "program.py").write_text(program)
    words = "-m torch.distributed.run --standalone --nproc_per_node=2 program.py"
    return subprocess.run(
        [sys.executable, *words.split()],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"},
        timeout=600,
        check=False,
    )


def test_processes_average_their_gradients_and_end_with_one_model(settings, tmp_path):
    done = torchrun(settings, tmp_path, TOGETHER)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rank0").read_text() == (tmp_path / "rank1").read_text()


def test_two_processes_say_an_error_once(run, settings):
    done = processes(run, settings | {"LABEL_COLUMN": "stars"})
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(ours) == 1 and "no column 'stars'" in ours[0]


ONE_FAILS = """
import os
import pretrain_finetune as pf

fit_head = pf.fit_head
def failing(*args, **kwargs):
    if os.environ["RANK"] == "1":
        raise RuntimeError("only here")
    return fit_head(*args, **kwargs)

pf.fit_head = failing
pf.run()
"""


def test_an_error_in_one_process_ends_all(settings, tmp_path):
    done = torchrun(settings, tmp_path, ONE_FAILS)
    assert done.returncode != 0
    assert "only here" in done.stderr
    assert not (tmp_path / "out/config.json").exists()


FIRST_FULL = """
import os, resource
import pretrain_finetune as pf

training_step, steps = pf.Trainer.training_step, []
def step(*args, **kwargs):
    steps.append(1)
    if len(steps) == 6 and os.environ["RANK"] == "0":
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
    return training_step(*args, **kwargs)

pf.Trainer.training_step = step
pf.run()
"""


def test_a_full_disk_is_said_by_the_first_process_alone(settings, tmp_path):
    done = torchrun(settings, tmp_path, FIRST_FULL)
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(ours) == 1 and "the same command goes on from out/checkpoint-" in ours[0]
    # torchrun has a traceback of its own; ours there is none
    assert 'pretrain_finetune.py", line' not in done.stderr


# What the user keeps there 用户自己的文件


def test_folders_and_files_of_the_user_stay(train):
    train()
    for name in ("checkpoint-best", "checkpoint-old.bak"):
        Path("out", name).mkdir()
        Path("out", name, "mine").write_text("mine")
    Path("out/notes.txt").write_text("mine")
    train(SEED=1)
    for name in ("checkpoint-best/mine", "checkpoint-old.bak/mine", "notes.txt"):
        assert Path("out", name).read_text() == "mine"


def test_never_more_than_the_newest_two_and_their_best(train, pf):
    train(NUM_EPOCHS=8, EVAL_STEPS=2)
    newest = pf.checkpoints("out")[:2]
    bests = {pf.best_checkpoint(folder) for folder in newest}
    assert set(pf.checkpoints("out")) == {*newest, *bests}
    assert all(map(pf.is_complete, newest))


def test_a_renamed_output_dir_means_a_fresh_start(train):
    train(at=14, does=kill)
    Path("out").rename("renamed")
    assert "Fresh start: OUTPUT_DIR changed" in train(OUTPUT_DIR="renamed")[1]


@pytest.mark.parametrize("content", ["[]", "", '{"the rows": '])
def test_a_damaged_record_is_refused(train, content):
    train(at=6, does=kill)
    Path("out/run.json").write_text(content)
    code, _, err, _ = train()
    assert code == 2 and "is in use" in err
    assert Path("out/checkpoint-4").exists()
