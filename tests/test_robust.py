"""Kills, signals, full disks and many processes: nothing is lost, and the run goes on."""

import json
import os
import pickle
import signal
import time
from pathlib import Path

import pytest
import torch
import transformers
from conftest import answers, results, share_right, steady

LONG = {"NUM_EPOCHS": 3, "EVAL_STEPS": 4}  # 15 steps; checkpoints at 4, 8, 12 and 15


class Killed(BaseException):
    """Ends the program on the spot: like kill -9, it leaves the files as they are."""


@pytest.fixture
def train(pf, settings, monkeypatch, capsys):
    """`train(at=step, does=function, **constants)`: main(), with an event; its output."""
    handlers = {number: signal.getsignal(number) for number in (2, 15)}

    def run(at=None, does=None, **constants):
        steps, original = [], transformers.Trainer.training_step

        def step(trainer, *args, **kwargs):
            steps.append(1)
            if len(steps) == at:
                does()
            return original(trainer, *args, **kwargs)

        code = 0
        with monkeypatch.context() as patch:
            patch.setattr(transformers.Trainer, "training_step", step)
            try:
                pf.edit(**settings | LONG | constants).main()
            except SystemExit as stop:
                code = stop.code
            except Killed:
                code = "killed"
        captured = capsys.readouterr()
        return code, captured.out, captured.err, len(steps)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def whole_run():
    """The scores and weights of a run of LONG that nobody interrupted, once it is made."""
    return {}


@pytest.fixture
def same_as_a_whole_run(train, whole_run):
    """`same_as_a_whole_run()`: whether out holds what a run never interrupted ends with."""

    def same():
        if not whole_run:
            train(OUTPUT_DIR="whole")
            whole_run.update(scores=steady("whole"), weights=weights("whole"))
        return {"scores": steady("out"), "weights": weights("out")} == whole_run

    return same


def kill():
    raise Killed


def weights(folder="out"):
    return Path(folder, "model.safetensors").read_bytes()


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    "constants",
    [{}, {"GROUP_BY_LENGTH": False, "DROPOUT": 0.3, "FIT_HEAD": False}],
    ids=["shipped", "random order and dropout"],
)
def test_a_killed_run_goes_on_to_the_same_end(train, constants):
    train(at=11, does=kill, **constants)
    code, out, _, steps = train(**constants)
    assert (code, steps) == (0, 15 - 8)
    assert f"Going on from {Path('out/checkpoint-8')} 从检查点继续" in out
    # OUTPUT_DIR is all that differs
    assert train(**constants, OUTPUT_DIR="whole")[3] == 15
    assert steady("out") == steady("whole") and weights("out") == weights("whole")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", cut),
        ("model.safetensors", Path.unlink),
        ("optimizer.pt", cut),
        ("trainer_state.json", cut),
        ("trainer_state.json", Path.unlink),
    ],
)
def test_a_checkpoint_that_does_not_open_is_passed_over(
    train, name, damage, same_as_a_whole_run
):
    train(at=14, does=kill)
    damage(Path("out/checkpoint-12", name))
    code, out, _, steps = train()
    assert code == 0
    assert f"{Path('out/checkpoint-12')} is passed over 跳过: " in out
    assert f"Going on from {Path(f'out/checkpoint-{15 - steps}')} " in out
    assert same_as_a_whole_run()


@pytest.mark.parametrize(
    "change", [{"LEARNING_RATE": 2e-3}, {"TEST_SIZE": 9}, {"DROPOUT": None}]
)
def test_a_changed_constant_is_named_and_nothing_is_deleted(train, pf, change):
    (name,) = change
    train(at=11, does=kill)
    before = {path: path.read_bytes() for path in Path("out").rglob("*.*")}
    back = {name: getattr(pf, name)}
    code, _, err, steps = train(**change)
    assert (code, steps) == (2, 0)
    line = err.splitlines()[-1]
    assert line.startswith(f"error: out holds an unfinished run with {{{name!r}: ")
    assert "put it back to go on" in line and "改回去可继续" in line
    assert {path: path.read_bytes() for path in Path("out").rglob("*.*")} == before
    code, out, _, steps = train(**back)  # the constant is put back
    assert (code, steps) == (0, 15 - 8) and "Going on from out/checkpoint-8" in out


def test_what_training_does_not_use_may_change(train):
    train(at=6, does=kill)
    assert "Going on from" in train(SAMPLE_TEXTS=["good film"])[1]


def test_a_finished_run_starts_afresh_and_ends_alike(train):
    train()
    before = steady("out"), weights()
    _, out, _, steps = train()
    assert steps == 15 and "Going on" not in out
    assert (steady("out"), weights()) == before


def test_sigterm_leaves_a_checkpoint_and_ends_with_143(train, same_as_a_whole_run):
    code, out, _, steps = train(
        at=6, does=lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(3.2))
    )
    assert code == 143
    assert "SIGTERM: stopped; the same command goes on" in out
    assert "5/7" not in out  # no test, no save
    done = max(int(f.name.split("-")[1]) for f in Path("out").glob("checkpoint-*[0-9]"))
    assert done >= 5
    code, out, _, steps = train()
    assert (code, steps) == (0, 15 - done)
    assert same_as_a_whole_run()


def test_a_run_is_finished_after_its_last_screen_not_before(train, pf, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pf, "draw", lambda *_: kill())
        assert train()[0] == "killed"
    code, out, _, steps = train()
    assert (code, steps) == (0, 0)  # all was trained; the picture was lacking
    assert "Going on from out/checkpoint-15" in out
    assert json.loads(Path("out/run.json").read_text())["finished"] is True


INTERRUPT = """
import os, runpy, signal, transformers
# a shell starts what runs in the background deaf to Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)
training_step, steps = transformers.Trainer.training_step, []
def step(*args, **kwargs):
    steps.append(1)
    if len(steps) == 6:
        {what}
    return training_step(*args, **kwargs)
transformers.Trainer.training_step = step
runpy.run_path("pretrain_finetune.py", run_name="__main__")
"""
FULL = "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (2000, r.RLIM_INFINITY))"
GO_ON = "run again: it goes on from the last checkpoint"
ENDS = {"Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT)", 130, "stopped 已中断: ")}
ENDS["full disk"] = (FULL, 2, "error: disk full 磁盘已满: make room 请腾出空间, then ")


@pytest.mark.parametrize(("what", "code", "said"), ENDS.values(), ids=ENDS)
def test_an_interruption_is_one_line_and_the_run_goes_on(
    run, settings, what, code, said, train
):
    done = run(settings | LONG, program=INTERRUPT.format(what=what))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert f"\n{said}{GO_ON}" in done.stderr
    code, out, _, steps = train()
    assert (code, steps) == (0, 15 - 4) and "Going on from out/checkpoint-4" in out


def test_kill_9_and_a_truncated_checkpoint_end_as_if_nothing_had_happened(
    run, settings, tmp_path, train
):
    constants = {"NUM_EPOCHS": 30, "EVAL_STEPS": 5}
    process = run(settings | constants, wait=False)
    deadline = time.time() + 200
    folder = tmp_path / "out"
    while len(list(folder.glob("checkpoint-*/trainer_state.json"))) < 2:
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    newest = max(folder.glob("checkpoint-*"), key=lambda f: int(f.name.split("-")[1]))
    cut(newest / "model.safetensors")
    code, out, _, _ = train(**constants)
    assert code == 0
    assert f"out/{newest.name} is passed over" in out
    assert "Going on from out/checkpoint-" in out
    _, whole, _, _ = train(**constants, OUTPUT_DIR="whole")
    assert "Going on from" not in whole
    assert steady("out") == steady("whole") and weights("out") == weights("whole")
    assert answers(out) == answers(whole)


class Trap:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_pickle_in_a_checkpoint_is_not_executed(train):
    train(at=6, does=kill)
    Path("out/checkpoint-4/optimizer.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    assert "passed over" in train()[1] and not Path("executed").exists()


TOGETHER = """
import os
import torch
import pretrain_finetune as pf

fit_head = pf.fit_head
def fit(trainer):
    assert isinstance(trainer.model_wrapped, torch.nn.parallel.DistributedDataParallel)
    fit_head(trainer)
    torch.save(trainer.model.state_dict(), f"rank{os.environ['RANK']}")

pf.fit_head = fit
pf.main()
"""


def test_two_processes_train_as_one_and_one_speaks(run, settings, pf, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    threads = {"OMP_NUM_THREADS": "1"}
    constants = settings | LONG | {"VALIDATION_SIZE": 9}
    done = run(constants, threads, torchrun, TOGETHER)
    assert done.returncode == 0, done.stderr
    state = json.loads((tmp_path / "out/checkpoint-9/trainer_state.json").read_text())
    assert state["global_step"] == 9  # three epochs of three
    for line in ("1/7", "5/7", "Save in", "Evaluation results", "Inference /"):
        assert done.stdout.count(line) == 1, line
    noise = [line for line in done.stderr.splitlines() if "arn" in line]
    assert noise == []
    first, second = (torch.load(tmp_path / f"rank{i}") for i in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    test = pf.edit(**constants).load_data("csv")["test"]
    right = share_right(pf.predict(list(test["text"])), test)
    assert len(test) == 11  # an odd number, each row counted once
    assert results(tmp_path / "out")["test_accuracy"] == pytest.approx(right)

    wrong = run(settings | {"LABEL_COLUMN": "stars"}, threads, torchrun)
    assert wrong.returncode != 0
    assert "error: train: Column name ['stars'] not in the dataset" in wrong.stderr
    assert 'pretrain_finetune.py", line' not in wrong.stderr
