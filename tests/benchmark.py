"""Measure the program against the recipe that tutorials publish, on a model and CSV files.

    python tests/benchmark.py MODEL TRAIN.csv TEST.csv
    python tests/benchmark.py MODEL TRAIN.csv TEST.csv --seeds 2 --learning-rates 2e-4
    python tests/benchmark.py MODEL TRAIN.csv TEST.csv --first-step 25000

"published" pads each text to MAX_LENGTH, reads its first tokens, starts from a random head
and trains with no evaluation or checkpoint in between. "program" is the script as shipped,
"without ..." the script with one ingredient switched off. Every run is a process of its
own, one at a time, and all get the same rows and constants; on a GPU "published" computes
in fp32 and the program in bf16.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

from edit import edit_constants

SCRIPT = Path(__file__).resolve().parent.parent / "pretrain_finetune.py"
RECIPES = {  # name → the constants that make it
    "published": {},
    "program": {},
    "without the text's end": {"TRUNCATION_SIDE": "right"},
    "without mean pooling": {"MEAN_POOLING": False},
    "without the fitted head": {"FIT_HEAD": False},
    "without frozen embeddings": {"FREEZE_EMBEDDINGS": False},
    "without dropout 0": {"DROPOUT": None},
    "without like lengths": {"GROUP_BY_LENGTH": False},
}
PUBLISHED = """
import numpy as np
import pretrain_finetune as pf
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers import Trainer, TrainingArguments, set_seed

pf.start_logging()
dataset = pf.load_data()
set_seed(pf.SEED)
tokenizer = AutoTokenizer.from_pretrained(pf.MODEL_NAME)


def tokenize(batch):
    return tokenizer(
        batch["text"], truncation=True, padding="max_length", max_length=pf.MAX_LENGTH
    )


tokenized = dataset.map(tokenize, batched=True)
model = AutoModelForSequenceClassification.from_pretrained(
    pf.MODEL_NAME, num_labels=dataset["train"].features["label"].num_classes
)
args = TrainingArguments(
    output_dir=pf.OUTPUT_DIR,
    num_train_epochs=pf.NUM_EPOCHS,
    per_device_train_batch_size=pf.BATCH_SIZE,
    per_device_eval_batch_size=pf.BATCH_SIZE,
    learning_rate=pf.LEARNING_RATE,
    weight_decay=pf.WEIGHT_DECAY,
    warmup_steps=pf.WARMUP_RATIO,
    save_strategy="no",
    seed=pf.SEED,
)
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=tokenized["train"],
    compute_metrics=lambda p: {"accuracy": float(np.mean(p[0].argmax(-1) == p[1]))},
)
trainer.save_metrics("train", trainer.train().metrics)
test = trainer.predict(tokenized["test"], metric_key_prefix="test").metrics
trainer.save_metrics("test", test)
"""
FIRST_STEP = """
import pretrain_finetune


def stop(*_):
    raise SystemExit


pretrain_finetune.Trainer.training_step = stop
pretrain_finetune.main()
"""


def run(script, constants, folder):
    """Run `script` beside the program with edited `constants`, in a process of its own.

    Returns the seconds it took and its peak memory in GiB.
    """
    program = edit_constants(SCRIPT.read_text(encoding="utf-8"), constants)
    Path(folder, SCRIPT.name).write_text(program, encoding="utf-8")
    Path(folder, "run.py").write_text(script, encoding="utf-8")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{folder}/cache"}
    start = time.time()
    with open(f"{folder}/log.txt", "w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "run.py"],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(Path(folder, "log.txt").read_text(encoding="utf-8"))
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return time.time() - start, usage.ru_maxrss * unit / 2**30


def measure(recipe, constants):
    """Train and test once: accuracy, training seconds, test samples/s, GiB."""
    script = "import pretrain_finetune\npretrain_finetune.main()\n"
    with tempfile.TemporaryDirectory() as folder:
        _, memory = run(
            PUBLISHED if recipe == "published" else script,
            constants | RECIPES[recipe],
            folder,
        )
        out = Path(folder, "out")
        train = json.loads((out / "train_results.json").read_text())
        test = json.loads((out / "test_results.json").read_text())
    seconds = train["train_runtime"] + train.get("warm_up_runtime", 0)
    return test["test_accuracy"], seconds, test["test_samples_per_second"], memory


def table(runs, rows):
    """Print a line for each recipe and learning rate, with ratios to the published one."""
    print(
        "| recipe | learning rate | accuracy: mean (worst to best) | training s, ratio "
        "| training samples/s, ratio | evaluation samples/s, ratio | peak GiB, ratio |"
    )
    print("|---|---|---|---|---|---|---|")
    for (recipe, rate), results in runs.items():
        accuracy, *figures = zip(*results, strict=True)
        seconds, evaluation, memory = map(mean, figures)
        against = runs.get(("published", rate), results)
        _, base_s, base_e, base_m = (
            mean(column) for column in zip(*against, strict=True)
        )
        print(
            f"| {recipe} | {rate} | {mean(accuracy):.3f} ({min(accuracy):.3f} to "
            f"{max(accuracy):.3f}), {len(results)} seeds "
            f"| {seconds:.1f}, {seconds / base_s:.2f} "
            f"| {rows / seconds:.1f}, {base_s / seconds:.2f} "
            f"| {evaluation:.1f}, {evaluation / base_e:.2f} "
            f"| {memory:.2f}, {memory / base_m:.2f} |"
        )


def first_step(constants, rows):
    """Time and peak memory until `rows` training rows reach the first step."""
    with tempfile.TemporaryDirectory() as folder:
        with open(
            constants["DATA_FILES"]["train"], newline="", encoding="utf-8"
        ) as file:
            source = list(csv.reader(file))
        column = source[0].index("text")
        with open(f"{folder}/many.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(source[0])
            for i in range(rows):
                row = list(source[1 + i % (len(source) - 1)])
                row[column] += f" {i}"
                writer.writerow(row)
        files = constants["DATA_FILES"] | {"train": f"{folder}/many.csv"}
        constants = constants | {"DATA_FILES": files, "TRAIN_SIZE": None}
        seconds, memory = run(FIRST_STEP, constants, folder)
    print(
        f"{rows} rows to the first step: {seconds:.0f} s, peak memory {memory:.2f} GiB"
    )


def main():
    """Parse the command line, run one after the other, print the table."""
    csv.field_size_limit(2**31 - 1)
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("model", help="a folder with a model and its tokenizer")
    parser.add_argument("train", help="a CSV with the columns text and label")
    parser.add_argument("test", help="another one")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[2e-5, 2e-4])
    parser.add_argument("--train-size", type=int, default=200)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--test-size", type=int, help="default: the whole file")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument(
        "--first-step", type=int, metavar="ROWS", help="measure only this"
    )
    args = parser.parse_args()
    constants = {
        "MODEL_NAME": str(Path(args.model).resolve()),
        "DATASET_NAME": "csv",
        "DATA_FILES": {
            "train": str(Path(args.train).resolve()),
            "test": str(Path(args.test).resolve()),
        },
        "TRAIN_SIZE": args.train_size,
        "TEST_SIZE": args.test_size,
        "MAX_LENGTH": args.max_length,
        "OUTPUT_DIR": "out",
    }
    if args.first_step:
        first_step(constants, args.first_step)
        return
    todo = [
        (recipe, rate, seed)
        for seed in (42, *range(args.seeds - 1))  # in turn, so that drift is shared
        for rate in args.learning_rates
        for recipe in args.recipes
    ]
    runs = {}
    for done, (recipe, rate, seed) in enumerate(todo):
        bar = "█" * (20 * done // len(todo))
        text = f"\r{bar:░<20} {done}/{len(todo)} {recipe}, {rate}, seed {seed}"
        print(f"{text:<79}", end="", file=sys.stderr, flush=True)
        edits = constants | {"LEARNING_RATE": rate, "SEED": seed}
        runs.setdefault((recipe, rate), []).append(measure(recipe, edits))
    print(f"\r{'':79}\r", end="", file=sys.stderr)
    table(dict(sorted(runs.items(), key=lambda item: item[0][1])), args.train_size)


if __name__ == "__main__":
    main()
