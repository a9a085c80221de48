"""The page: both halves say the same, and every block in it works."""

import ast
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


def blocks(half, kind, about=""):
    """The code blocks of a half, of that kind and about that."""
    found = []
    for indent, name, text in re.findall(BLOCK, half):
        if name == kind and about in text:
            found.append(re.sub(f"(?m)^{indent}", "", text))
    return found


def run_block(*texts):
    """Run code of the page, as a file of its own in the test's folder."""
    Path("block.py").write_text("\n".join(texts), encoding="utf-8")
    runpy.run_path("block.py")


def prose(half):
    """A half without its code, in blocks and in lines, and without list numbers."""
    without_blocks = re.sub(BLOCK, "", half)
    return re.sub(r"`[^`]*`|(?m:^\d\. )", "", without_blocks)


def numbers(half):
    """The numbers of a half, but not those in names such as UTF-8."""
    without_blocks = re.sub(BLOCK, "", half)
    without_constants = re.sub(r"(?m)^\| `[A-Z_]+` \|.*$", "", without_blocks)
    return sorted(re.findall(r"(?<![\w.-])\d+(?:[.,]\d+)*", prose(without_constants)))


def test_the_halves_have_the_same_blocks():
    english = [kind for _, kind, _ in re.findall(BLOCK, ENGLISH)]
    chinese = [kind for _, kind, _ in re.findall(BLOCK, CHINESE)]
    assert english == chinese
    assert len(english) > 20


@pytest.mark.parametrize("kind", ["bash", "powershell"])
def test_the_halves_have_the_same_commands(kind):
    english = re.sub(r" +#.*", "", "".join(blocks(ENGLISH, kind)))
    chinese = re.sub(r" +#.*", "", "".join(blocks(CHINESE, kind)))
    assert english == chinese


def test_the_halves_have_the_same_numbers():
    assert numbers(ENGLISH) == numbers(CHINESE)


def test_each_half_is_short():
    assert len(re.findall(r"[A-Za-z][A-Za-z'-]+", prose(ENGLISH))) <= 1500
    assert len(re.findall(r"[\u4e00-\u9fff]", prose(CHINESE))) <= 2600
    assert len(numbers(ENGLISH)) <= 60


def test_one_command_runs_and_one_tests():
    """Each is one line in a block of its own, and makes the environment that it uses."""
    run, test = blocks(ENGLISH, "bash", "-m pip install -r")
    for command, ending in ((run, "pretrain_finetune.py"), (test, "-m pytest")):
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv .venv && ")
        assert command.endswith(f"{ending}\n")
    assert (
        "-m pytest" in (ROOT / ".ci/run").read_text()
        or "pytest$" in (ROOT / ".ci/run").read_text()
    )


@HALVES
def test_each_half_shows_lines_that_exist(half):
    """What stands in the table of errors, and in the sample of the output."""
    shown = re.findall(r"(?m)^\| `([^`]+)` \|", half.split("| `OUTPUT_DIR` |")[-1])
    assert len(shown) >= 10
    for line in shown:
        for piece in re.split(r"…|error: | = |Expected 2|codec|SyntaxError.*", line):
            words = piece.strip(" :.")
            known = words in SCRIPT or words in ("can't decode", "fields in line", "")
            assert known, line


@HALVES
def test_the_steps_show_lines_of_the_script(half):
    steps = re.findall(r"(?ms)^   ```python\n(.*?)^   ```", half)
    assert len(steps) == 6
    for line in "".join(steps[:5]).splitlines():
        assert line.strip() in SCRIPT


def edited(block):
    """The constants that a block of the page sets."""
    constants = {}
    for node in ast.parse(block).body:
        constants[node.targets[0].id] = ast.literal_eval(node.value)
    return constants


CHARACTERS = "银行卡被扣了两次款请退一笔打开地图应用就闪退怎么修改收货地址我钱不"


def save_tiny_chinese_bert(folder):
    """As bert-base-chinese: one token for each character."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(CHARACTERS))]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        mask_token="[MASK]",
    )
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=len(words),
    )
    transformers.BertForMaskedLM(config).save_pretrained(folder)


def write_tickets(half, path, header):
    """The page's example of a file as a workbook, each row forty times; its labels."""
    example = blocks(half, "text", header)[0]
    Path("example.csv").write_text(example, encoding="utf-8")
    table = pd.read_csv("example.csv")
    pd.concat([table] * 40).to_excel(path, index=False)
    return set(table[header.split(",")[1]])


def label_new_rows(half, monkeypatch):
    """Run the page's block that labels new rows; the two tables that it writes."""
    monkeypatch.syspath_prepend(ROOT)
    (block,) = blocks(half, "python", "labelled.csv")
    run_block(block)
    assert Path("labelled.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # for Excel
    return pd.read_excel("labelled.xlsx"), pd.read_csv("labelled.csv")


def test_the_chinese_workbook_to_the_labelled_one(pf, run, tmp_path, monkeypatch):
    """The 中文 half as a user follows it, against a Hub that has a Chinese model."""
    block = blocks(CHINESE, "python", "MODEL_NAME = ")[0]
    constants = edited(block)
    labels = write_tickets(CHINESE, constants["DATASET_NAME"], "内容,类别")
    save_tiny_chinese_bert(tmp_path / "hub/models/bert-base-chinese")
    with serve(tmp_path / "hub") as address:
        done = run(constants, env={"HF_ENDPOINT": address})
    assert_clean(done)
    assert all(label in done.stdout for label in labels)
    new = pd.DataFrame({"内容": ["我被扣了两次款。", None, "地图打不开。" * 200]})
    new.to_excel("新工单.xlsx", index=False)
    pf.edit(**constants)  # label.py imports the edited file
    workbook, table = label_new_rows(CHINESE, monkeypatch)
    without_text = [False, True, False]
    assert workbook["内容"].isna().tolist() == without_text
    for answers in (workbook, table):
        assert answers["model_label"].isna().tolist() == without_text
    assert set(workbook["model_label"].dropna()) <= labels
    assert table["model_score"].dropna().between(1 / 3, 1).all()


@pytest.mark.usefixtures("without_picture")
def test_the_english_workbook_to_the_labelled_one(pf, tiny, monkeypatch):
    block = blocks(ENGLISH, "python", "MODEL_NAME = ")[0]
    labels = write_tickets(ENGLISH, "tickets.xlsx", "text,label")
    pf.edit(**edited(block) | {"MODEL_NAME": tiny(), "MAX_LENGTH": 32}).main()
    pd.DataFrame({"text": ["My card.", "The map."] * 20}).to_excel("new_tickets.xlsx")
    workbook, table = label_new_rows(ENGLISH, monkeypatch)
    assert len(workbook) == len(table) == 40
    assert set(table["model_label"]) <= labels
    assert results("tickets-output")["test_samples_per_second"] > 0


@HALVES
@pytest.mark.usefixtures("without_picture")
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
    assert set(scores) == {"0", "1"}
    assert sum(scores.values()) == pytest.approx(1)
    assert launched == "launched"


@HALVES
@pytest.mark.usefixtures("without_picture")
def test_the_saved_model_answers_as_the_page_says(half, pf, settings, capsys):
    pf.edit(**settings).main()
    shutil.move("out", "finetune-output")
    capsys.readouterr()
    (block,) = blocks(half, "python", "A joy from start to finish.")
    run_block(block)
    answer = ast.literal_eval(capsys.readouterr().out)
    assert set(answer[0]) == {"label", "score"}


@HALVES
def test_the_notebooks_block_trains_and_shows_the_picture(
    half, pf, tiny, monkeypatch, tmp_path
):
    (block,) = blocks(half, "python", "IPython.display")
    header = "text,label" if half == ENGLISH else "内容,类别"
    name = "tickets.xlsx" if half == ENGLISH else "工单.xlsx"
    write_tickets(half, name, header)
    # What the block sets on the module is put back after the test.
    for constant in re.findall(r"pf\.([A-Z_]+)", block):
        monkeypatch.setattr(pf, constant, getattr(pf, constant))
    monkeypatch.setattr(pf, "MODEL_NAME", tiny())
    monkeypatch.setattr(pf, "MAX_LENGTH", 32)
    shown = []
    display = SimpleNamespace(Image=shown.append)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    run_block(re.sub("bert-base-chinese", tiny(), block))
    assert shown == ["notebook-output/results.png"]
    assert Path("notebook-output/results.png").exists()


@HALVES
@pytest.mark.usefixtures("without_picture")
def test_the_experiments_in_another_order(half, pf, capsys, monkeypatch):
    """Real weights: pretraining carries over, little moves, a high rate destroys."""
    helper, *experiments = blocks(half, "python", "experiment(")
    transfer, adaptation, forgetting, labelling = experiments
    before = {name: getattr(pf, name) for name in ("TEST_SIZE", "OUTPUT_DIR")}
    helper = helper.replace("500", "100")
    monkeypatch.setattr(pf, "TRAIN_SIZE", 120)
    if half == ENGLISH:
        run_block(helper, forgetting, adaptation, transfer)
    else:
        run_block(helper, labelling.replace("(50, 100, 200, 400)", "(20, 200)"))
    assert before == {name: getattr(pf, name) for name in before}
    said = capsys.readouterr().out
    if half == ENGLISH:
        found = dict(re.findall(r"(?m)^(pretrained|random|5e-3): (0?[.\d]+)$", said))
        assert float(found["pretrained"]) >= 0.9
        assert float(found["random"]) <= 0.7
        assert float(found["5e-3"]) <= 0.8
        moved = [float(x) for x in re.findall(r"(?m)^\d +([.\d]+)$", said)]
        assert len(moved) == 6
        assert 0 < max(moved)
        assert min(moved) < 0.1
    else:
        found = re.findall(r"(?m)^(20|200) (0?[.\d]+|1.0)$", said)
        assert [rows for rows, _ in found] == ["20", "200"]


def test_the_sample_of_the_output_is_what_is_printed(embedded_default):
    """Each line of the sample stands in the output of a run, but for its figures."""
    _, done = embedded_default
    printed = [re.sub(r"[\d.,]+", "0", line) for line in done.stdout.splitlines()]
    for half in (ENGLISH, CHINESE):
        (sample,) = blocks(half, "text", "EMBEDDED DEFAULT")
        for line in sample.splitlines():
            shape = re.sub(r"[\d.,]+", "0", line).rstrip()
            assert any(shape in line for line in printed), line
