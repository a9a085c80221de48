"""Measure the program against the recipe that tutorials publish, one process at a time.

    python tests/benchmark.py MODEL TRAIN.csv TEST.csv
    python tests/benchmark.py   # the embedded default, on 500 of its test rows

"padded to 256" pads each text to MAX_LENGTH, reads its first tokens, starts from a random
head and trains with no evaluation or checkpoint in between; "textbook" is the same, but
pads a batch to its longest row, as Hugging Face's course does. "frozen body" trains nothing
and solves for the output layer on averages; "word counts" is TF-IDF of words and pairs with
logistic regression. "program" is the script as shipped, "constants off" the script without
its recipe, "without ..." without one idea. All get the same rows and constants. Training
seconds hold all fits, validations and checkpoints.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean

SCRIPT = Path(__file__).resolve().parent.parent / "pretrain_finetune.py"
OFF = {
    "the text's end": {"TRUNCATION_SIDE": "right"},
    "mean pooling": {"MEAN_POOLING": False},
    "the fitted head": {"FIT_HEAD": False},
    "frozen embeddings": {"FREEZE_EMBEDDINGS": False},
    "dropout 0": {"DROPOUT": None},
    "grouping by length": {"GROUP_BY_LENGTH": False},
}
RECIPES = ["word counts", "frozen body", "padded to 256", "textbook", "program"]
RECIPES = {name: {} for name in RECIPES}
RECIPES["constants off"] = {k: v for one in OFF.values() for k, v in one.items()}
RECIPES |= {f"without {name}": constants for name, constants in OFF.items()}
PROGRAM = "import pretrain_finetune\n\npretrain_finetune.main()\n"
PUBLISHED = """
import pretrain_finetune as pf
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers import Trainer, TrainingArguments, set_seed

dataset = pf.load_data(pf.DATASET_NAME)
set_seed(pf.SEED)
tokenizer = AutoTokenizer.from_pretrained(pf.MODEL_NAME)


def tokenize(batch):
    options = {"padding": "max_length", "max_length": pf.MAX_LENGTH}
    return tokenizer(batch["text"], truncation=True, **options)


tokenized = dataset.map(tokenize, batched=True)
model = AutoModelForSequenceClassification.from_pretrained(
    pf.MODEL_NAME, num_labels=dataset["train"].features["label"].num_classes
)
args = TrainingArguments(
    output_dir=pf.OUTPUT_DIR, num_train_epochs=pf.NUM_EPOCHS, seed=pf.SEED,
    per_device_train_batch_size=pf.BATCH_SIZE, save_strategy="no", report_to="none",
    per_device_eval_batch_size=pf.BATCH_SIZE, learning_rate=pf.LEARNING_RATE,
    weight_decay=pf.WEIGHT_DECAY, warmup_steps=pf.WARMUP_RATIO,
)
rows, metrics = tokenized["train"], pf.compute_metrics
trainer = Trainer(
    model, args, train_dataset=rows, processing_class=tokenizer, compute_metrics=metrics
)
trainer.save_metrics("train", trainer.train().metrics)
test = trainer.predict(tokenized["test"], metric_key_prefix="test").metrics
trainer.save_metrics("test", test)
"""
FROZEN = """
import time
import pretrain_finetune as pf

tokenizer = pf.load_tokenizer(pf.MODEL_NAME)
dataset = pf.tokenize(pf.load_data(pf.DATASET_NAME), tokenizer)
label_names = dataset["train"].features["label"].names
model, new_weights = pf.load_model(pf.MODEL_NAME, tokenizer, label_names)
pf.start_with_averages(model, new_weights)
trainer = pf.build_trainer(model, tokenizer, dataset, pf.LEARNING_RATE, 1)
began = time.time()
pf.fit_head(trainer)
trainer.save_metrics("train", {"train_runtime": time.time() - began})
trainer.save_metrics("test", pf.evaluate(trainer, dataset["test"])[0])
"""
COUNTS = """
import json
import time
from pathlib import Path
import pretrain_finetune as pf
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

dataset = pf.load_data(pf.DATASET_NAME)
train, test = dataset["train"].to_pandas(), dataset["test"].to_pandas()
counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
model = make_pipeline(counts, LogisticRegression(C=100))  # 1 is far worse on IMDB
began = time.time()
model.fit(train["text"], train["label"])
seconds = time.time() - began
began = time.time()
accuracy = model.score(test["text"], test["label"])
speed = len(test) / (time.time() - began)
results = {"test_accuracy": accuracy, "test_samples_per_second": speed}
Path("out").mkdir()
Path("out/train_results.json").write_text(json.dumps({"train_runtime": seconds}))
Path("out/test_results.json").write_text(json.dumps(results))
"""
SCRIPTS = {
    "padded to 256": PUBLISHED,
    "textbook": PUBLISHED.replace('"padding": "max_length", ', ""),
    "frozen body": FROZEN,
    "word counts": COUNTS,
}


def edit_constants(source, constants):
    """The source with the assignment of each constant replaced, on one line or more."""
    for name, value in constants.items():
        line = f"{name} = {value!r}".replace("\\", r"\\")
        assigned = rf"(?m)^{name} = (\[\n( .*\n)+\]|.*)$"
        source, count = re.subn(assigned, line, source)
        assert count == 1, f"{name} is assigned {count} times"
    return source


def measure(recipe, constants):
    """Train and test once: accuracy, training seconds, test samples/s, peak GiB."""
    with tempfile.TemporaryDirectory() as folder:
        program = edit_constants(SCRIPT.read_text(encoding="utf-8"), constants)
        Path(folder, SCRIPT.name).write_text(program, encoding="utf-8")
        script = SCRIPTS.get(recipe, PROGRAM)
        Path(folder, "run.py").write_text(script, encoding="utf-8")
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{folder}/cache"}
        with open(f"{folder}/log.txt", "w", encoding="utf-8") as log:
            command = [sys.executable, "run.py"]
            at = {"cwd": folder, "env": environment, "stdout": log, "stderr": log}
            process = subprocess.Popen(command, **at)
            _, status, usage = os.wait4(process.pid, 0)
        if status:
            sys.exit(Path(folder, "log.txt").read_text(encoding="utf-8"))
        out = Path(folder, "out")
        train = json.loads((out / "train_results.json").read_text())
        test = json.loads((out / "test_results.json").read_text())
    seconds = train["train_runtime"] + train.get("fit_head_runtime", 0)
    unit = 2**30 if sys.platform == "darwin" else 2**20  # of ru_maxrss, per GiB
    memory = usage.ru_maxrss / unit
    return test["test_accuracy"], seconds, test["test_samples_per_second"], memory


def table(runs):
    """Print a line for each recipe and learning rate, with ratios to "padded to 256"."""
    print(
        "| recipe | rate | accuracy: mean (worst to best) | training s, ratio |", end=""
    )
    print(" test rows/s, ratio | peak GiB, ratio |\n" + "|---" * 6 + "|")
    for (recipe, rate), results in runs.items():
        accuracy, *figures = zip(*results, strict=True)
        _, *bases = zip(*runs.get(("padded to 256", rate), results), strict=True)
        cells = [f"{mean(accuracy):.3f} ({min(accuracy):.3f} to {max(accuracy):.3f})"]
        for figure, base in zip(figures, bases, strict=True):
            cells.append(f"{mean(figure):.2f}, {mean(figure) / mean(base):.2f}")
        print("|", " | ".join([recipe, f"{rate:g}", *cells]), "|")


def main():
    """Parse the command line, run one after the other, print the table."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("model", nargs="?", help="a folder: model and tokenizer")
    parser.add_argument(
        "train", nargs="?", help="a CSV with the columns text and label"
    )
    parser.add_argument("test", nargs="?", help="another one")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--learning-rates", nargs="+", type=float, default=[2e-5, 2e-4])
    parser.add_argument("--train-size", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    args = parser.parse_args()
    constants = {"TEST_SIZE": None, "OUTPUT_DIR": "out"}
    constants |= {"TRAIN_SIZE": args.train_size, "NUM_EPOCHS": args.epochs}
    constants |= {"BATCH_SIZE": args.batch_size}
    recipes, rates = args.recipes, args.learning_rates
    if args.test:
        files = {
            name: str(Path(vars(args)[name]).resolve()) for name in ("train", "test")
        }
        constants |= {"MODEL_NAME": str(Path(args.model).resolve())}
        constants |= {"DATASET_NAME": "csv", "DATA_FILES": files}
    else:
        constants |= {"TEST_SIZE": 500}
        recipes, rates = ["program"], [2e-5]
    todo = [
        (recipe, rate, seed)
        for seed in (42, *range(args.seeds - 1))  # in turn, so that drift is shared
        for rate in rates
        for recipe in recipes
    ]
    runs = {}
    for done, (recipe, rate, seed) in enumerate(todo):
        text = f"\r{done}/{len(todo)} {recipe}, {rate}, seed {seed}"
        print(f"{text:<79}", end="", file=sys.stderr, flush=True)
        edits = constants | {"LEARNING_RATE": rate, "SEED": seed} | RECIPES[recipe]
        runs.setdefault((recipe, rate), []).append(measure(recipe, edits))
    print(f"\r{'':79}\r", end="", file=sys.stderr)
    table(dict(sorted(runs.items(), key=lambda item: item[0][1])))


if __name__ == "__main__":
    main()
