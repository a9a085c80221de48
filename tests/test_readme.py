"""The page: both halves say the same, and every block in it works."""

import ast
import json
import re
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import transformers
from conftest import ROOT, assert_clean, results
from hub import serve
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPT = (ROOT / "pretrain_finetune.py").read_text(encoding="utf-8")
ENGLISH, CHINESE = README.split("\n# 中文\n")
HALVES = pytest.mark.parametrize("half", [ENGLISH, CHINESE], ids=["English", "中文"])
BLOCK = r"(?ms)^( *)```(\w+)\n(.*?)^\1```"


def blocks(half, kind=None, about=""):
    """The code blocks of a half, of that kind and about that."""
    found = [(name, text) for _, name, text in re.findall(BLOCK, half)]
    return [text for name, text in found if kind in (None, name) and about in text]


def run_block(*texts):
    """Run code of the page, as a file of its own in the test's folder."""
    Path("block.py").write_text("\n".join(texts), encoding="utf-8")
    runpy.run_path("block.py")


def prose(half):
    """A half without its code, in blocks and in lines, and without list numbers."""
    return re.sub(r"`[^`]*`|(?m:^\d\. )", "", re.sub(BLOCK, "", half))


def numbers(half):
    """The numbers of a half, but not those in names such as UTF-8 and GB18030."""
    outside = re.sub(r"(?m)^\| `[A-Z_]+` \|.*$", "", re.sub(BLOCK, "", half))
    return sorted(re.findall(r"(?<![\w.-])\d+(?:[.,]\d+)*", prose(outside)))


def test_the_halves_have_the_same_blocks():
    kinds = [[kind for _, kind, _ in re.findall(BLOCK, h)] for h in (ENGLISH, CHINESE)]
    assert kinds[0] == kinds[1] and len(kinds[0]) > 20
    for kind in ("bash", "powershell"):
        pairs = zip(blocks(ENGLISH, kind), blocks(CHINESE, kind), strict=True)
        for one, other in pairs:
            commands = [re.sub(r" +#.*", "", text) for text in (one, other)]
            assert commands[0] == commands[1]


def test_the_halves_have_the_same_numbers():
    assert numbers(ENGLISH) == numbers(CHINESE)


def test_each_half_is_short():
    assert len(re.findall(r"[A-Za-z][A-Za-z'-]+", prose(ENGLISH))) <= 1500
    assert len(re.findall(r"[\u4e00-\u9fff]", prose(CHINESE))) <= 2600
    assert len(numbers(ENGLISH)) <= 60


@HALVES
def test_each_half_shows_errors_and_lines_that_exist(half):
    shown = re.findall(r"(?m)^\| `error: ([^`…]+)", half)
    assert len(shown) >= 8
    for line in shown:
        fixed = re.split(r" = |'|\d|…|: $", line)[0].strip().rstrip(":")
        assert fixed.removeprefix("train ") in SCRIPT, line
    for block in re.findall(r"(?ms)^   ```python\n(.*?)^   ```", half):
        for line in block.splitlines():
            known = line.strip() in SCRIPT
            assert known or "finetune-output" in block, line


def edited(block):
    """The constants that a block of the page sets."""
    return {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(block).body
    }


CHARACTERS = "银行卡被扣了两次款请退一笔打开地图应用就闪退怎么修改收货地址我钱不"


def save_tiny_chinese_bert(folder):
    """As bert-base-chinese: one token for each character."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(CHARACTERS))]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    names |= {"pad_token": "[PAD]", "mask_token": "[MASK]"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 32, "vocab_size": len(words)}
    torch.manual_seed(0)
    config = transformers.BertConfig(**sizes)
    transformers.BertForMaskedLM(config).save_pretrained(folder)


def write_tickets(half, path, column):
    """The page's example of a CSV, each row forty times."""
    first, *rows = blocks(half, "text", column)[0].splitlines()
    path.write_text("\n".join([first, *rows * 40]) + "\n", encoding="utf-8")
    return [row.rsplit(",", 1)[1] for row in rows]


def label_new_rows(half, folder, monkeypatch):
    """Run the page's block that labels new rows, in `folder`; the table it writes."""
    (block,) = blocks(half, "python", "labelled.csv")
    monkeypatch.chdir(folder)
    run_block(block)
    written = Path(folder, "labelled.csv").read_bytes()
    assert written.startswith(b"\xef\xbb\xbf")  # Excel opens it as UTF-8
    return pd.read_csv(folder / "labelled.csv")


def test_the_chinese_csv_to_the_labelled_file(run, tmp_path, monkeypatch):
    """The 中文 half as a user follows it, against a Hub that has a Chinese model."""
    (block,) = blocks(CHINESE, "python", "DATA_FILES")
    constants = edited(block)
    labels = write_tickets(CHINESE, tmp_path / constants["DATA_FILES"]["train"], "内容")
    save_tiny_chinese_bert(tmp_path / "hub/models/bert-base-chinese")
    with serve(tmp_path / "hub") as address:
        done = run(constants, env={"HF_ENDPOINT": address})
    assert_clean(done)
    assert all(label in done.stdout for label in labels)
    new = pd.DataFrame({"内容": ["我被扣了两次款。", None, "地图打不开。" * 200]})
    new.to_csv(tmp_path / "新工单.csv", index=False)
    table = label_new_rows(CHINESE, tmp_path, monkeypatch)
    assert set(table["model_label"]) <= set(labels)
    assert table["model_score"].between(1 / 3, 1).all()


def test_the_english_csv_to_the_labelled_file(pf, tiny, tmp_path, monkeypatch):
    (block,) = blocks(ENGLISH, "python", "DATA_FILES")
    labels = write_tickets(ENGLISH, tmp_path / "tickets.csv", "text,label")
    tiny_model = {"MODEL_NAME": tiny(), "MAX_LENGTH": 32}
    pf.edit(**edited(block) | tiny_model).main()
    pd.DataFrame({"text": ["My card.", "The map."] * 20}).to_csv("new_tickets.csv")
    table = label_new_rows(ENGLISH, tmp_path, monkeypatch)
    assert len(table) == 40 and set(table["model_label"]) <= set(labels)
    assert results("tickets-output")["test_samples_per_second"] > 0


@HALVES
def test_the_page_to_try_the_model_gives_each_label_its_score(
    half, pf, settings, monkeypatch
):
    pf.edit(**settings | {"OUTPUT_DIR": "tickets-output"}).main()
    asked = []

    class Interface:  # gradio is not among the requirements
        def __init__(self, function, inputs, outputs):
            asked.append(function("a good film"))

        def launch(self):
            asked.append("launched")

    monkeypatch.setitem(sys.modules, "gradio", SimpleNamespace(Interface=Interface))
    (block,) = blocks(half, "python", "gradio")
    run_block(block)
    scores, launched = asked
    assert set(scores) == {"0", "1"} and sum(scores.values()) == pytest.approx(1)
    assert launched == "launched"


@HALVES
def test_the_saved_model_answers_as_the_page_says(half, pf, settings, capsys):
    pf.edit(**settings).main()
    shutil.move("out", "finetune-output")
    capsys.readouterr()
    (block,) = re.findall(r"(?ms)^   ```python\n(   from transformers.*?)^   ```", half)
    run_block(re.sub(r"(?m)^   ", "", block))
    answer = ast.literal_eval(capsys.readouterr().out)
    assert set(answer[0]) == {"label", "score"}


def test_the_notebook_block_runs_it_all(pf, settings):
    (block,) = blocks(ENGLISH, "python", "pf.main()")
    pf.edit(**settings)
    run_block(block.replace("100", "30"))
    assert json.loads(Path("out/run.json").read_text())["TRAIN_SIZE"] == 30


def test_the_three_experiments(pf, capsys):
    """Real weights: pretraining carries over, little moves, a high rate destroys."""
    pf.edit(TEST_SIZE=50, OUTPUT_DIR="out")  # the blocks change both
    one, two, three = blocks(ENGLISH, "python", "experiment(")
    run_block(one.replace("500", "100"), two, three)
    said = capsys.readouterr().out
    found = dict(re.findall(r"(?m)^(pretrained|random|5e-3:) (0?[.\d]+)$", said))
    assert float(found["pretrained"]) >= 0.9
    assert float(found["random"]) <= 0.7
    assert float(found["5e-3:"]) <= 0.8
    moved = [float(x) for x in re.findall(r"(?m)^layer\.\d +([.\d]+)$", said)]
    assert len(moved) == 6 and 0 < max(moved) < 0.1
    for block in blocks(CHINESE, "python", "experiment("):
        ast.parse(block)
