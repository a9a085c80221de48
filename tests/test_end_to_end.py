"""The script as its users run it: a copy, edited constants, a process of its own."""

import re
from pathlib import Path

import conftest
import pandas as pd
import pytest
from conftest import (
    CLOSED,
    answers,
    assert_clean,
    results,
    reviews,
    write_csv,
)
from datasets import ClassLabel, Dataset, Features, Value
from hub import serve
from models import save_minilm_as_distilbert, save_tiny

import pretrain_finetune

SIGNS = ["POSITIVE", "NEGATIVE", "POSITIVE", "NEGATIVE"]


@pytest.fixture(scope="module")
def hub_folder(tmp_path_factory):
    """What the loopback Hub serves: the shipped names, and smaller things beside them."""
    root = tmp_path_factory.mktemp("hub")
    model = root / "models" / "distilbert-base-uncased"
    model.mkdir(parents=True)
    save_minilm_as_distilbert(model)
    save_tiny("bert", root / "models" / "tiny" / "bert")

    imdb = root / "datasets" / "stanfordnlp" / "imdb" / "plain_text"
    imdb.mkdir(parents=True)
    kind = ClassLabel(names=["neg", "pos"])
    features = Features({"text": Value("string"), "label": kind})
    splits = {}
    for split, table in pretrain_finetune.embedded_reviews().items():
        splits[split] = Dataset.from_pandas(table, features)  # sorted by label
    unlabelled = {"text": ["Never to be used."] * 99, "label": [-1] * 99}
    splits["unsupervised"] = Dataset.from_dict(unlabelled, features=features)
    card = "---\nconfigs:\n- config_name: plain_text\n  data_files:\n"
    for split, data in splits.items():
        data.to_parquet(imdb / f"{split}-00000-of-00001.parquet")
        card += f"  - split: {split}\n    path: plain_text/{split}-*\n"
    (imdb.parent / "README.md").write_text(card + "---\n# Movie reviews\n")

    rotten = root / "datasets" / "rotten_tomatoes"
    rotten.mkdir(parents=True)
    for split, rows in {"train": 60, "validation": 20, "test": 20}.items():
        columns = [{"text": f"{t} {split}", "label": v} for t, v in reviews(rows)]
        Dataset.from_list(columns).to_parquet(rotten / f"{split}.parquet")
    (rotten / "README.md").write_text("---\ntags: []\n---\n# Small reviews\n")
    return root


def test_embedded_default(embedded_default):
    """No Hub: found out, said at the start and the end, and a model that has learnt."""
    folder, done = embedded_default
    assert_clean(done)
    start, end = done.stdout.split("1/6")
    assert start.count(" | WARNING | ") == 3
    assert end.count(" | WARNING | ") == 1
    for part in (start, end):
        assert "EMBEDDED DEFAULT" in part
        assert "NOT IMDB figures" in part
    scores = conftest.scores_on_screen(end.split("Evaluation results / 评估结果:")[1])
    assert scores["accuracy"] >= 0.90
    assert scores["majority_baseline"] == 0.5
    assert answers(done.stdout) == SIGNS
    output = folder / "finetune-output"
    test = results(output)
    assert round(test["test_accuracy"], 4) == scores["accuracy"]
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "NOT IMDB" in card
    assert list(output.glob("run-*")) == []
    # A fresh process answers as was tested, and takes a text of 800 words.
    table = pd.read_csv(output / "test_predictions.csv")
    asked = [*table["text"], "good " * 800]
    *said, long = conftest.ask_in_fresh_process(output, asked, folder)
    assert [answer["label"] for answer in said] == table["prediction"].tolist()
    right = (table["label"] == table["prediction"]).mean()
    assert right == test["test_accuracy"]
    assert long["label"] in SIGNS


def test_a_full_disk_is_no_missing_hub(pf, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pf.transformers.AutoTokenizer, "from_pretrained", full)
    with pytest.raises(OSError, match="No space left"):
        pf.choose_source()


def test_unedited_against_a_hub(run, hub_folder, tmp_path):
    with serve(hub_folder) as address:
        done = run(env={"HF_ENDPOINT": address})
    assert_clean(done)
    assert "EMBEDDED" not in done.stdout
    report = re.findall(r"INFO \|   (\S+) +(MISSING|UNEXPECTED) ", done.stdout)
    assert ("classifier.weight", "MISSING") in report
    assert ("pre_classifier.weight", "MISSING") in report
    assert ("vocab_transform.weight", "UNEXPECTED") in report
    # stratified, though stored sorted, and no row of `unsupervised`
    assert re.search(r"train +200 rows 样本: {'\w+': 100, '\w+': 100}\n", done.stdout)
    output = tmp_path / "finetune-output"
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "fine-tuned on stanfordnlp/imdb" in card

    # What was fetched once is used when the Hub is gone.
    quick = {"TRAIN_SIZE": 16, "VALIDATION_SIZE": 4, "TEST_SIZE": 4}
    cached = run(quick, env={"HF_ENDPOINT": CLOSED})
    assert_clean(cached)
    assert "EMBEDDED" not in cached.stdout
    assert "UNEXPECTED" in cached.stdout
    assert "local cache only" in cached.stdout


def test_other_names_on_a_hub(run, hub_folder):
    constants = {"MODEL_NAME": "tiny/bert", "DATASET_NAME": "rotten_tomatoes"}
    constants |= {"TRAIN_SIZE": None, "VALIDATION_SIZE": None}
    constants |= {"MAX_LENGTH": 32, "LABEL_NAMES": ["NEGATIVE", "POSITIVE"]}
    with serve(hub_folder) as address:
        first = run(constants, env={"HF_ENDPOINT": address})
        assert_clean(first)
        for part, rows in (("train", 60), ("validation", 20), ("test", 20)):
            assert re.search(rf"{part} +{rows} rows", first.stdout)
    cached = run(constants)  # the Hub is gone
    assert_clean(cached)
    seen = conftest.scores_on_screen
    assert seen(cached.stdout) == seen(first.stdout)


def test_downloaded_folders_in_place_of_names(pf, hub_folder):
    """What `hf download --local-dir` brings works as MODEL_NAME and DATASET_NAME."""
    model = str(hub_folder / "models" / "distilbert-base-uncased")
    data = str(hub_folder / "datasets" / "stanfordnlp" / "imdb")
    pf.edit(MODEL_NAME=model, DATASET_NAME=data)
    assert pf.choose_source() == (model, data, 2e-5)
    dataset = pf.tokenize(pf.load_data(data), pf.load_tokenizer(model))
    assert [len(part) for part in dataset.values()] == [200, 50, 50]


def test_own_choice_never_falls_back_and_a_terminal_may_lack_chinese(run, tmp_path):
    rows = write_csv(tmp_path / "a.csv", reviews())
    constants = {"DATA_FILES": {"train": rows}}
    done = run(constants, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert "EMBEDDED" not in done.stdout
    assert "Device ??: CPU (" in done.stdout
    last = done.stderr.splitlines()[-1]
    name = "'distilbert-base-uncased'"
    assert last.startswith(f"error: cannot load ???? MODEL_NAME = {name}")
    assert not list(Path(tmp_path, "finetune-output").iterdir())


def test_without_a_hub_the_libraries_do_not_ask_it_again(pf, monkeypatch):
    """Otherwise each of them would retry for 23 seconds."""
    monkeypatch.setattr(pf.huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pf.datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(pf, "hub_is_up", lambda: False)
    pf.edit(MODEL_NAME="nobody/nothing").choose_source()
    assert pf.huggingface_hub.constants.HF_HUB_OFFLINE
    assert pf.datasets.config.HF_HUB_OFFLINE
