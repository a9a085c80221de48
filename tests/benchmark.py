"""Measure the program against what one would use in its place.

    python tests/benchmark.py MODEL TRAIN.csv TEST.csv
    python tests/benchmark.py MODEL TRAIN.csv TEST.csv --set LEARNING_RATE=2e-4
    python tests/benchmark.py MODEL TRAIN.csv TEST.csv --long --ideas
    python tests/benchmark.py distilbert-base-uncased

MODEL is a folder or a name on the Hub; the columns of the files are `text` and `label`.
Without files, the shipped data set is fetched from the Hub, and 500 of its rows test. Each
run is a process of its own, one at a time. The table can be pasted into an issue.

- word counts: TF-IDF of words and pairs of words, with logistic regression.
- frozen body: the program's averages and solved head, without any training.
- padded to 256: the recipe that tutorials publish. Each text is padded to MAX_LENGTH, its
  first tokens are read, the head starts at random, no validation and no checkpoint.
- textbook: the same, but a batch is padded to its longest text, as in Hugging Face's course.
- program: as shipped, or with the long settings.
- program fp32: the same on a device that does not multiply bf16 itself.
- without ...: the program without one of its ideas.

All learn from the same labelled rows, the training and the validation rows together: what
needs no validation trains on both. The opponents compute in fp32, as their authors run
them. Training seconds hold all validations, checkpoints and fits. The ratios are to
"padded to 256" with the same seeds.
"""

import argparse
import ast
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from unittest import mock

TESTS = Path(__file__).resolve().parent
SCRIPT = TESTS.parent / "pretrain_finetune.py"

# What is measured, each with the constants of the program that it changes.
RECIPES = {
    "word counts": {},
    "frozen body": {},
    "padded to 256": {},
    "textbook": {},
    "program": {},
    "program fp32": {},
}
IDEAS = {
    "without the text's end": {"TRUNCATION_SIDE": "right"},
    "without averages": {"MEAN_POOLING": False},
    "without the solved head": {"FIT_HEAD": False},
    "without batches by length": {"GROUP_BY_LENGTH": False},
    "with batches by length": {"GROUP_BY_LENGTH": True},
    "with dropout 0": {"DROPOUT": 0.0},
    "with the model's own dropout": {"DROPOUT": None},
}
# The long one of the program's two ready settings; the short one is as shipped.
LONG = {
    "NUM_EPOCHS": 3,
    "LEARNING_RATE": 5e-5,
    "DROPOUT": None,
    "GROUP_BY_LENGTH": False,
    "TRAIN_SIZE": None,
}


# ---- In the process of a run ----
def run_recipe(recipe):
    """Train and test once, here, and leave the figures in result.json."""
    import pretrain_finetune as pf

    pf.pick_device()
    model_name, dataset_name, _ = pf.choose_source()
    if dataset_name == pf.EMBEDDED_DATA:
        sys.exit("Neither the Hub nor the local cache has the shipped model and data.")
    if recipe == "word counts":
        result = count_words(pf, dataset_name)
    elif recipe == "frozen body":
        result = solve_on_frozen_body(pf, model_name, dataset_name)
    elif recipe == "padded to 256":
        result = train_as_published(pf, model_name, dataset_name, padding="max_length")
    elif recipe == "textbook":
        result = train_as_published(pf, model_name, dataset_name, padding=False)
    elif recipe == "program fp32":
        with mock.patch.object(pf, "multiplies_bf16", return_value=False):
            result = run_program(pf)
    else:
        result = run_program(pf)
    result["bf16"] = pf.multiplies_bf16()
    Path("result.json").write_text(json.dumps(result))


def run_program(pf):
    """Run the program as it stands; what solving the head takes is timed on the way."""
    fit_head = pf.fit_head
    fit_seconds = []

    def fit_head_timed(trainer):
        start = time.time()
        fit_head(trainer)
        fit_seconds.append(time.time() - start)

    pf.fit_head = fit_head_timed
    test_scores = pf.main()
    train_scores = json.loads(Path(pf.OUTPUT_DIR, "train_results.json").read_text())
    return {
        "accuracy": test_scores["test_accuracy"],
        "seconds": train_scores["train_runtime"] + sum(fit_seconds),
        "rows_per_second": test_scores["test_samples_per_second"],
    }


def train_as_published(pf, model_name, dataset_name, padding):
    """Train as tutorials do. With no padding here, Trainer pads each batch."""
    import transformers

    dataset = pf.load_data(dataset_name)
    transformers.set_seed(pf.SEED)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_name)

    def tokenize(batch):
        return tokenizer(
            batch["text"], truncation=True, max_length=pf.MAX_LENGTH, padding=padding
        )

    labelled_rows = join_labelled_rows(dataset).map(tokenize, batched=True)
    test_rows = dataset["test"].map(tokenize, batched=True)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_name, num_labels=test_rows.features["label"].num_classes
    )
    arguments = transformers.TrainingArguments(
        output_dir=pf.OUTPUT_DIR,
        num_train_epochs=pf.NUM_EPOCHS,
        per_device_train_batch_size=pf.BATCH_SIZE,
        per_device_eval_batch_size=pf.BATCH_SIZE,
        learning_rate=pf.LEARNING_RATE,
        weight_decay=pf.WEIGHT_DECAY,
        warmup_steps=pf.WARMUP_RATIO,
        save_strategy="no",
        report_to="none",
        seed=pf.SEED,
    )
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=labelled_rows,
        processing_class=tokenizer,
        compute_metrics=pf.compute_metrics,
    )
    train_scores = trainer.train().metrics
    test_scores = trainer.predict(test_rows).metrics
    return {
        "accuracy": test_scores["test_accuracy"],
        "seconds": train_scores["train_runtime"],
        "rows_per_second": test_scores["test_samples_per_second"],
    }


def solve_on_frozen_body(pf, model_name, dataset_name):
    """Solve for the output layer on the averages of the pretrained body.

    The scale of the confidence takes the validation rows; then all rows are solved on.
    """
    tokenizer = pf.load_tokenizer(model_name)
    dataset = pf.tokenize(pf.load_data(dataset_name), tokenizer)
    label_names = dataset["train"].features["label"].names
    model, new_weights = pf.load_model(model_name, tokenizer, label_names)
    pf.start_with_averages(model, new_weights)
    folder = Path(pf.OUTPUT_DIR)
    arguments = pf.training_arguments(folder, pf.LEARNING_RATE, bf16=False)
    trainer = pf.build_trainer(model, tokenizer, dataset, arguments)
    start = time.time()
    pf.fit_head(trainer)
    seconds = time.time() - start
    test_scores, _ = pf.evaluate(trainer, dataset["test"])
    return {
        "accuracy": test_scores["test_accuracy"],
        "seconds": seconds,
        "rows_per_second": test_scores["test_samples_per_second"],
    }


def count_words(pf, dataset_name):
    """Classify by the words and pairs of words that a text holds."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    dataset = pf.load_data(dataset_name)
    labelled_rows = join_labelled_rows(dataset)
    test_rows = dataset["test"]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    # On IMDB, the usual C = 1 is far worse.
    classifier = LogisticRegression(C=100)
    start = time.time()
    counts = vectorizer.fit_transform(labelled_rows["text"][:])
    classifier.fit(counts, labelled_rows["label"][:])
    seconds = time.time() - start
    start = time.time()
    counts = vectorizer.transform(test_rows["text"][:])
    accuracy = classifier.score(counts, test_rows["label"][:])
    test_seconds = time.time() - start
    return {
        "accuracy": accuracy,
        "seconds": seconds,
        "rows_per_second": len(test_rows) / test_seconds,
    }


def join_labelled_rows(dataset):
    """Return the training and the validation rows as one data set."""
    import datasets

    return datasets.concatenate_datasets([dataset["train"], dataset["validation"]])


# ---- In the process that starts the runs ----
def edit_constants(source, constants):
    """Return the source with each constant's assignment replaced, on one line or more."""
    for name, value in constants.items():
        assignment = rf"(?m)^{name} = (\[\n( .*\n)+\]|.*)$"
        # In what re.subn puts in, a backslash stands for itself only when doubled.
        line = f"{name} = {value!r}".replace("\\", "\\\\")
        source, count = re.subn(assignment, line, source)
        assert count == 1, f"{name} is assigned {count} times"
    return source


def measure(recipe, constants, environment):
    """Run a recipe in a process, in a folder of its own; return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        source = edit_constants(SCRIPT.read_text(encoding="utf-8"), constants)
        Path(folder, SCRIPT.name).write_text(source, encoding="utf-8")
        # The folder's copy of the program is what `import pretrain_finetune` finds.
        program = "import benchmark, sys; benchmark.run_recipe(sys.argv[1])"
        log = Path(folder, "log.txt")
        with open(log, "w", encoding="utf-8") as file:
            done = subprocess.run(
                [sys.executable, "-c", program, recipe],
                check=False,
                cwd=folder,
                env=environment,
                stdout=file,
                stderr=file,
            )
        if done.returncode != 0:
            last_words = log.read_text(encoding="utf-8")[-3000:]
            sys.exit(f"{last_words}\n{recipe} failed with {constants}")
        return json.loads(Path(folder, "result.json").read_text())


def measure_all(recipes, seeds, constants, jobs):
    """Measure each recipe with each seed. Returns recipe → its results."""
    environment = os.environ.copy()
    environment["PYTHONPATH"] = str(TESTS)
    environment["PYTHONIOENCODING"] = "utf-8"
    if jobs > 1:
        environment["OMP_NUM_THREADS"] = "1"
    pool = ThreadPoolExecutor(jobs)
    runs = []
    # The recipes take turns, so that all meet a machine that slows down.
    for seed in seeds:
        for recipe, differences in recipes.items():
            edits = constants | differences | {"SEED": seed}
            future = pool.submit(measure, recipe, edits, environment)
            runs.append((recipe, seed, future))
    results = {recipe: [] for recipe in recipes}
    start = time.time()
    print(f"{len(runs)} runs, {jobs} at a time", file=sys.stderr, flush=True)
    try:
        for number, (recipe, seed, future) in enumerate(runs, start=1):
            result = future.result()
            results[recipe].append(result)
            minutes = (time.time() - start) / 60
            line = (
                f"{number}/{len(runs)} after {minutes:.1f} min: {recipe}, seed {seed}"
            )
            line += f", accuracy {result['accuracy']:.3f}"
            if jobs == 1:
                line += f", training {result['seconds']:.1f} s"
                line += f", test {result['rows_per_second']:.1f} rows/s"
            print(line, file=sys.stderr, flush=True)
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def print_table(results, with_times):
    """Print a line for each recipe; what was timed comes with a ratio."""
    columns = ["recipe", "accuracy, mean", "worst"]
    if with_times:
        columns += ["training s", "ratio", "test rows/s", "ratio"]
    print_row(columns)
    print_row(["---"] * len(columns))
    for recipe, runs in results.items():
        accuracies = [run["accuracy"] for run in runs]
        cells = [recipe, f"{mean(accuracies):.3f}", f"{min(accuracies):.3f}"]
        if with_times:
            for name in ("seconds", "rows_per_second"):
                figure = mean_of(runs, name)
                cells.append(f"{figure:.1f}")
                if "padded to 256" in results:
                    ratio = figure / mean_of(results["padded to 256"], name)
                    cells.append(f"{ratio:.2f}")
                else:
                    cells.append("")
        print_row(cells)


def print_row(cells):
    """Print a row of a Markdown table."""
    print(f"| {' | '.join(cells)} |")


def mean_of(runs, name):
    """Return the mean of one figure over the runs."""
    return mean(run[name] for run in runs)


def print_conditions(args, constants, seeds, results):
    """Print what was measured, on what machine."""
    data = "the shipped data set"
    if args.train:
        data = f"{Path(args.train).name} and {Path(args.test).name}"
    print(f"\n{args.model} on {data}; seeds {seeds}; runs at a time: {args.jobs}")
    hidden = ("MODEL_NAME", "DATA_FILES", "OUTPUT_DIR")
    edited = [f"{name} = {constants[name]}" for name in constants if name not in hidden]
    print(f"Constants that differ from the shipped ones: {', '.join(edited)}")
    first_run = next(iter(results.values()))[0]
    print(
        f"{platform.platform()}, {os.cpu_count()} cores, "
        f"torch {importlib.metadata.version('torch')}; "
        f"the device multiplies bf16 itself: {first_run['bf16']}\n"
    )


def parse_arguments():
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a folder, or a name on the Hub")
    parser.add_argument("train", nargs="?", help="a file of labelled texts")
    parser.add_argument("test", nargs="?", help="another one")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--short", action="store_true", help="as shipped, the default")
    length.add_argument("--long", action="store_true", help="the long settings")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="constants of the program, such as LEARNING_RATE=2e-4 TRAIN_SIZE=1800",
    )
    parser.add_argument(
        "--ideas", action="store_true", help="also the program without each idea"
    )
    parser.add_argument(
        "--recipes", nargs="+", choices=[*RECIPES, *IDEAS], help="only these"
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, help="default 42 0 1 2 3, with --long 42 0 1"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs at a time; above 1, nothing is timed"
    )
    args = parser.parse_args()
    if args.train and not args.test:
        parser.error("give both files, TRAIN and TEST, or none")
    return args


def choose_recipes(args):
    """Return what to measure: recipe → the constants in which it differs."""
    recipes = RECIPES | IDEAS
    if args.recipes:
        return {name: recipes[name] for name in args.recipes}
    if not args.ideas:
        return RECIPES
    # What `program` does already is left out.
    if args.long:
        del recipes["with the model's own dropout"]
        del recipes["without batches by length"]
    else:
        del recipes["with dropout 0"]
        del recipes["with batches by length"]
    return recipes


def choose_constants(args):
    """Return the constants of the program that all runs have in common."""
    constants = {"MODEL_NAME": args.model, "OUTPUT_DIR": "out", "TEST_SIZE": 500}
    if Path(args.model).exists():
        constants["MODEL_NAME"] = str(Path(args.model).resolve())
    if args.train:
        constants["TEST_SIZE"] = None
        constants["DATA_FILES"] = {
            "train": str(Path(args.train).resolve()),
            "test": str(Path(args.test).resolve()),
        }
    if args.long:
        constants.update(LONG)
    for setting in args.set:
        name, value = setting.split("=", 1)
        constants[name] = ast.literal_eval(value)
    return constants


def main():
    """Measure what the command line asks for, and print the table."""
    args = parse_arguments()
    recipes = choose_recipes(args)
    constants = choose_constants(args)
    seeds = args.seeds
    if seeds is None and args.long:
        seeds = [42, 0, 1]
    elif seeds is None:
        seeds = [42, 0, 1, 2, 3]
    results = measure_all(recipes, seeds, constants, args.jobs)
    print_conditions(args, constants, seeds, results)
    print_table(results, with_times=args.jobs == 1)


if __name__ == "__main__":
    main()
