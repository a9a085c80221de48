"""Kills, signals, full disks and many processes: nothing is lost, and the run goes on."""

import json
import os
import pickle
import re
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
import transformers
from conftest import (
    assert_clean,
    results,
    share_right,
    steady,
    uneven_reviews,
    write_csv,
)
from safetensors.torch import load_file, save_file

LONG = {"NUM_EPOCHS": 3, "EVAL_STEPS": 4}  # 15 steps; checkpoints at 4, 8, 12 and 15
RANDOM = {"GROUP_BY_LENGTH": False, "DROPOUT": 0.3}  # these draw from the random state
GO_ON = "run again: it goes on from the last checkpoint"


class Killed(BaseException):
    """Ends the program on the spot: like kill -9, it leaves the files as they are."""


def kill():
    raise Killed


@pytest.fixture
def at_step(monkeypatch):
    """`at_step(number, event)`: that step of training begins with the event.

    Returns the list of the steps that were begun, and that of none before.
    """
    steps = []
    training_step = transformers.Trainer.training_step
    plan = {"step": None, "event": None}

    def step(*args, **kwargs):
        steps.append(len(steps) + 1)
        if len(steps) == plan["step"]:
            plan["event"]()
        return training_step(*args, **kwargs)

    def make_plan(number, event):
        steps.clear()
        plan["step"] = number
        plan["event"] = event
        return steps

    monkeypatch.setattr(transformers.Trainer, "training_step", step)
    return make_plan


@pytest.fixture
def train(pf, settings, at_step, without_picture, capsys):
    """`train(at=step, event=function, **constants)`: main(), and how it ended.

    Returns the exit code (or "killed"), what was printed, and the number of steps.
    """

    def run(at=None, event=None, **constants):
        steps = at_step(at, event)
        code = 0
        message = ""
        pf.edit(**settings | LONG | {"DATA_FILES": "train.csv"} | constants)
        try:
            pf.main()
        except pf.FinetuneError as error:
            code = error.exit_code
            message = str(error)
        except Killed:
            code = "killed"
        return code, capsys.readouterr().out + message, len(steps)

    return run


def checkpoint(step, folder="out"):
    """The folder of that checkpoint, of whatever run."""
    (found,) = Path(folder).glob(f"run-*/checkpoint-{step}")
    return found


def checkpoints(folder="out"):
    return sorted(Path(folder).glob("run-*/checkpoint-*"))


def going_on(out):
    """The step of the checkpoint from which the run says that it goes on, or None."""
    found = re.search(r"Going on from \S+/checkpoint-(\d+) 从检查点继续", out)
    return found and int(found[1])


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])


def empty(path):
    path.write_bytes(b"")


def same(one, other):
    """Whether two structures of tensors, numbers and the like are equal."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        pairs = zip(one, other, strict=True)
        return len(one) == len(other) and all(same(a, b) for a, b in pairs)
    return one == other


@pytest.mark.parametrize("constants", [{}, RANDOM], ids=["shipped", "random"])
def test_a_killed_run_goes_on_to_the_same_end(train, pf, monkeypatch, constants):
    """The same last step: weights, optimizer, rate and curve, not only the scores."""
    monkeypatch.setattr(pf, "remove_checkpoints", lambda _: None)
    assert train(at=11, event=kill, **constants)[0] == "killed"
    code, out, steps = train(**constants)
    assert (code, going_on(out), steps) == (0, 8, 15 - 8)
    # OUTPUT_DIR is all that differs.
    code, out, steps = train(**constants, OUTPUT_DIR="whole")
    assert (code, going_on(out), steps) == (0, None, 15)
    last, whole = checkpoint(15), checkpoint(15, "whole")
    weights = (last / "model.safetensors").read_bytes()
    assert weights == (whole / "model.safetensors").read_bytes()
    for name in ("optimizer.pt", "scheduler.pt"):
        assert same(torch.load(last / name), torch.load(whole / name))
    state = json.loads((last / "trainer_state.json").read_text())
    state_of_whole = json.loads((whole / "trainer_state.json").read_text())
    curve = validations(state)
    curve_of_whole = validations(state_of_whole)
    assert curve == curve_of_whole
    assert list(curve) == [0, 4, 8, 12, 15]
    assert len(set(curve.values())) == 5  # the loss tells the steps apart
    assert steady("out") == steady("whole")
    saved = Path("out/model.safetensors").read_bytes()
    assert saved == Path("whole/model.safetensors").read_bytes()


def test_weights_under_their_old_names_go_on_as_well(train, settings, without_picture):
    """Files of the first BERTs say gamma and beta for the weights of LayerNorm."""
    shutil.copytree(settings["MODEL_NAME"], "old")
    weights = load_file("old/model.safetensors")
    renamed = {}
    for name, weight in weights.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        renamed[name.replace("LayerNorm.bias", "LayerNorm.beta")] = weight
    assert renamed.keys() != weights.keys()
    save_file(renamed, "old/model.safetensors", metadata={"format": "pt"})
    assert train(at=11, event=kill, MODEL_NAME="old")[0] == "killed"
    _, out, _ = train(MODEL_NAME="old")
    assert going_on(out) == 8
    train(MODEL_NAME="old", OUTPUT_DIR="whole")
    saved = Path("out/model.safetensors").read_bytes()
    assert saved == Path("whole/model.safetensors").read_bytes()


def validations(state):
    """The loss of each validation, step → loss."""
    log = [entry for entry in state["log_history"] if "eval_loss" in entry]
    return {entry["step"]: entry["eval_loss"] for entry in log}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder for the files of the killed run that several tests begin with."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def killed(train, kept):
    """In out lies a run that was killed at step 14; its checkpoints, oldest first."""
    rows = [(text, f"other {text}", label) for text, label in uneven_reviews(61)]
    write_csv("train.csv", rows, ("text", "other", "label"))
    if not (kept / "out").exists():
        assert train(at=14, event=kill)[0] == "killed"
        shutil.copytree("out", kept / "out")
    else:
        shutil.copytree(kept / "out", "out")
    found = sorted(checkpoints(), key=lambda path: int(path.name[11:]))
    assert found[-1].name == "checkpoint-12"
    assert len(found) == 2
    return found


FILES = [
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "config.json",
    "trainer_state.json",
]


@pytest.mark.parametrize("damage", [cut, empty, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_checkpoint_that_does_not_open_is_passed_over(train, killed, name, damage):
    older, newest = killed
    damage(newest / name)
    _, out, _ = train(at=1, event=kill)
    assert f"{newest} is passed over 跳过: " in out
    assert f"Going on from {older} 从检查点继续" in out


def test_without_a_checkpoint_that_opens_the_run_starts_afresh(train, killed):
    for folder in killed:
        cut(folder / "optimizer.pt")
    code, out, steps = train()
    assert (code, going_on(out), steps) == (0, None, 15)


@pytest.mark.parametrize(
    "change", [{"LEARNING_RATE": 2e-3}, {"TEST_SIZE": 9}, "an edited file"], ids=str
)
def test_another_run_starts_afresh_and_the_unfinished_one_waits(train, killed, change):
    unfinished = killed[0].parent
    before = contents(unfinished)
    original = Path("train.csv").read_text()
    constants = {}
    if change == "an edited file":
        Path("train.csv").write_text(original.replace("good", "fine", 1))
    else:
        constants = change
    code, out, steps = train(**constants)
    assert (code, going_on(out), steps) == (0, None, 15)
    lines = [line for line in out.splitlines() if "nfinished" in line]
    assert len(lines) == 1
    assert unfinished.name in lines[0]
    assert "未完成的运行" in lines[0]
    assert contents(unfinished) == before
    Path("train.csv").write_text(original)
    code, out, steps = train()
    assert (code, going_on(out), steps) == (0, 12, 15 - 12)
    assert "nfinished" not in out


OTHERS = {
    "MODEL_NAME": "model",  # a copy of the model under another name
    "TEXT_COLUMN": "other",
    "LABEL_NAMES": ["no", "yes"],
    "TRAIN_SIZE": 39,
    "VALIDATION_SIZE": 9,
    "MAX_LENGTH": 15,
    "BATCH_SIZE": 7,
    "NUM_EPOCHS": 4,
    "WEIGHT_DECAY": 0.02,
    "WARMUP_RATIO": 0.2,
    "EVAL_STEPS": 5,
    "CLASS_WEIGHTS": "balanced",
    "TRUNCATION_SIDE": "right",
    "MEAN_POOLING": False,
    "DROPOUT": None,
    "GROUP_BY_LENGTH": False,
    "SEED": 7,
}


@pytest.mark.parametrize("name", OTHERS)
def test_no_run_goes_on_with_other_constants(train, killed, settings, name):
    shutil.copytree(settings["MODEL_NAME"], "model")
    _, out, _ = train(at=1, event=kill, **{name: OTHERS[name]})
    assert going_on(out) is None
    assert "nfinished" in out


def test_what_training_does_not_use_may_change(train, killed):
    _, out, _ = train(SAMPLE_TEXTS=["good film"])
    assert going_on(out) == 12


def test_a_finished_run_leaves_no_checkpoint_starts_afresh_and_ends_alike(train):
    train()
    assert list(Path("out").glob("run-*")) == []
    before = steady("out"), Path("out/model.safetensors").read_bytes()
    _, out, steps = train()
    assert (going_on(out), steps) == (None, 15)
    assert (steady("out"), Path("out/model.safetensors").read_bytes()) == before


def test_few_checkpoints_are_kept(train):
    train(at=15, event=kill, EVAL_STEPS=2)
    assert len(checkpoints()) <= 2


def test_an_earlier_model_stays_whole_until_the_next_one_is_saved(train, pf):
    train()
    before = Path("out/model.safetensors").read_bytes()
    train(at=11, event=kill, SEED=7)
    assert Path("out/model.safetensors").read_bytes() == before
    assert pf.predict(["good film"])


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(3.2)  # Trainer waits for 3 seconds before it saves


@pytest.fixture
def handler():
    """What handles SIGTERM before and after a run: it ends the run, not the tests."""

    def end(*_):
        raise Killed

    before = signal.signal(signal.SIGTERM, end)
    yield end
    signal.signal(signal.SIGTERM, before)


def test_sigterm_leaves_a_checkpoint_and_ends_with_143(train, handler):
    code, out, _ = train(at=6, event=terminate)
    assert code == 143
    assert f"SIGTERM: stopped 已停止; {GO_ON}" in out
    assert "5/6" not in out  # no test, no save
    assert signal.getsignal(signal.SIGTERM) == handler
    code, out, steps = train()
    assert code == 0
    assert going_on(out) >= 5
    assert steps == 15 - going_on(out)
    train(OUTPUT_DIR="whole")
    assert steady("out") == steady("whole")


@pytest.mark.parametrize("name", ["save", "show_results"])
def test_a_run_is_finished_after_its_last_screen_not_before(
    train, pf, monkeypatch, name
):
    with monkeypatch.context() as patch:
        patch.setattr(pf, name, lambda *_: kill())
        assert train()[0] == "killed"
    code, out, steps = train()
    assert (code, going_on(out), steps) == (0, 15, 0)  # all was trained
    assert checkpoints() == []
    train(OUTPUT_DIR="whole")
    assert steady("out") == steady("whole")


def press_ctrl_c():
    raise KeyboardInterrupt


def fill_the_disk():
    """Files of more than 2,000 bytes cannot be written any more."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))


@pytest.fixture
def room_again():
    """After the test the disk has room, as before."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("event", "code", "start"),
    [
        (press_ctrl_c, 130, "\nstopped 已中断: "),
        (fill_the_disk, 2, "error: disk full 磁盘已满: make room 请腾出空间, "),
    ],
)
def test_an_interruption_is_one_line_and_the_run_goes_on(
    as_script, settings, at_step, train, room_again, event, code, start
):
    at_step(6, event)
    files = {"DATA_FILES": "train.csv"}
    end, out, err = as_script(**settings | LONG | files)
    room_again()
    assert end == code
    assert "Traceback" not in out + err
    assert err.count(f"{start}{GO_ON}") == 1
    assert err.endswith("再次运行：若已有检查点，就从那里继续\n")
    end, out, steps = train()
    assert (end, going_on(out), steps) == (0, 4, 15 - 4)


def test_a_kernel_is_left_as_it_was_found(train, pf, handler):
    """After an interruption, too, the Hub is asked again."""
    offline = pf.huggingface_hub.constants
    before = offline.HF_HUB_OFFLINE, pf.datasets.config.HF_HUB_OFFLINE
    offline.HF_HUB_OFFLINE = False
    pf.datasets.config.HF_HUB_OFFLINE = False
    for interrupted in (True, False):
        if interrupted:
            train(at=6, event=press_ctrl_c)
        else:
            train()
        assert offline.HF_HUB_OFFLINE is False
        assert pf.datasets.config.HF_HUB_OFFLINE is False
        assert signal.getsignal(signal.SIGTERM) == handler
    offline.HF_HUB_OFFLINE, pf.datasets.config.HF_HUB_OFFLINE = before


def test_after_kill_9_and_a_truncated_checkpoint_the_run_goes_on(
    run, settings, tmp_path, train
):
    constants = {"NUM_EPOCHS": 20, "EVAL_STEPS": 10, "DATA_FILES": "train.csv"}
    process = run(settings | constants, wait=False)
    deadline = time.time() + 200
    while len(list(tmp_path.glob("out/run-*/checkpoint-*/trainer_state.json"))) < 2:
        assert process.poll() is None
        assert time.time() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()
    newest = max(checkpoints(), key=lambda path: int(path.name[11:]))
    cut(newest / "model.safetensors")
    code, out, _ = train(**constants)
    assert code == 0
    assert f"{newest} is passed over" in out
    assert going_on(out)


class Trap:
    """Unpickled, it makes a file."""

    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_a_pickle_in_a_checkpoint_is_not_executed(train, killed, name):
    trap = pickle.dumps(Trap(), protocol=2)
    (killed[-1] / name).write_bytes(trap)
    _, out, _ = train(at=1, event=kill)
    assert "passed over" in out
    assert not Path("executed").exists()


TOGETHER = """
import os
import torch
import pretrain_finetune as pf

fit_head = pf.fit_head

def fit(trainer):
    assert isinstance(trainer.model_wrapped, torch.nn.parallel.DistributedDataParallel)
    assert trainer.state.global_step == 9  # three epochs of three
    fit_head(trainer)
    torch.save(trainer.model.state_dict(), f"rank{os.environ['RANK']}")

pf.fit_head = fit
pf.main()
"""
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def test_two_processes_train_as_one_and_one_speaks(run, settings, pf, tmp_path, fp32):
    constants = settings | LONG | {"VALIDATION_SIZE": 9}
    done = run(constants, ONE_THREAD, TORCHRUN, TOGETHER)
    assert done.returncode == 0, done.stderr
    for line in ("1/6", "5/6", "6/6", "Evaluation results", "Inference /"):
        assert done.stdout.count(line) == 1, line
    assert [line for line in done.stderr.splitlines() if "arn" in line] == []
    first, second = (torch.load(tmp_path / f"rank{i}") for i in range(2))
    for name in first:
        assert torch.equal(first[name], second[name]), name
    test = pf.edit(**constants).load_data("")["test"]
    right = share_right(pf.predict(list(test["text"])), test)
    assert len(test) == 11  # an odd number, each row counted once
    assert results(tmp_path / "out")["test_accuracy"] == pytest.approx(right)
    assert checkpoints() == []


def test_two_processes_end_in_the_line_of_an_error(run, settings):
    wrong = run(settings | {"LABEL_COLUMN": "stars"}, ONE_THREAD, TORCHRUN)
    assert wrong.returncode != 0
    assert "error: train has no column 没有这一列 ['stars']" in wrong.stderr
    assert 'pretrain_finetune.py", line' not in wrong.stderr


def test_accelerate_launch_runs_it_as_python_does(run, settings, train, tmp_path):
    launch = (
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes=1",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
    )
    constants = settings | LONG | {"DATA_FILES": "train.csv"}
    done = run(constants, ONE_THREAD, launch)
    assert_clean(done)
    train(OUTPUT_DIR="whole")
    assert steady("out") == steady("whole")
