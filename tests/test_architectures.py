"""A tiny random model of each kind of architecture, from its files to its last answer."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import sentencepiece
import torch
import transformers
from conftest import results, share_right, uneven_reviews, write_csv
from safetensors.torch import load_file

# The five families of test_recipe.py stand there. These have a head that reads [CLS]:
ENCODERS = ["electra", "esm", "convbert", "big_bird", "xlm"]
# In these the head stands before the body.
BEFORE = ["xlm-roberta", "camembert", "xlm-roberta-xl"]
# Averaging does not apply: positions in the attention, no query layer, letters for words,
# two queries a layer.
OTHERS = ["deberta", "deberta-v2", "mpnet", "fnet", "modernbert", "jina_embeddings_v3"]
OTHERS += ["canine", "longformer"]
DECODERS = ["opt", "llama", "qwen2", "qwen3", "mistral", "gemma", "gpt_neox", "phi"]
ENCODER_DECODERS = ["bart", "mbart", "plbart", "t5", "mt5"]
EVERY = [*ENCODERS, *BEFORE, *OTHERS, *DECODERS, *ENCODER_DECODERS]


@pytest.mark.parametrize("kind", EVERY)
def test_every_architecture(pf, settings, tiny, fp32, without_picture, kind, capsys):
    pf.edit(**settings | {"MODEL_NAME": tiny(kind)}).main()
    out = capsys.readouterr().out
    applies = kind in [*ENCODERS, *BEFORE]
    assert ("the top layer starts with uniform attention" in out) == applies
    assert ("MEAN_POOLING does not apply" in out) != applies
    assert "Output layer solved for" in out  # the output layer was found
    # What is deployed is what was tested.
    test = pf.load_data("")["test"]
    right = share_right(pf.predict(list(test["text"])), test)
    assert right == pytest.approx(results("out")["test_accuracy"])


@pytest.mark.parametrize(
    ("kind", "classes", "layer"),
    [
        ("xlm-roberta", 2, "classifier.out_proj.weight"),
        # Layers of the body have 16 outputs, too.
        ("xlm-roberta", 16, "classifier.out_proj.weight"),
        ("gpt2", 2, "score.weight"),
        ("bart", 2, "classification_head.out_proj.weight"),
        ("canine", 2, "classifier.weight"),
    ],
)
def test_what_is_solved_for_is_the_heads_output_layer(
    pf, settings, tiny, without_picture, kind, classes, layer
):
    """The body is the same with and without FIT_HEAD, the output layer is not."""
    rows = [(text, i % classes) for i, (text, _) in enumerate(uneven_reviews(80))]
    files = {"train": write_csv("classes.csv", rows)}
    for fit_head in (True, False):
        edits = {
            "MODEL_NAME": tiny(kind),
            "DATA_FILES": files,
            "OUTPUT_DIR": f"fit-{fit_head}",
        }
        pf.edit(**settings | edits, FIT_HEAD=fit_head).main()
    solved = load_file("fit-True/model.safetensors")
    trained = load_file("fit-False/model.safetensors")
    changed = {name for name in solved if not torch.equal(solved[name], trained[name])}
    assert {name for name in changed if name.endswith("weight")} == {layer}


def test_a_model_that_overflows_in_bf16_trains_in_fp32(pf, built, monkeypatch, capsys):
    monkeypatch.setattr(pf, "multiplies_bf16", lambda: True)
    assert not built("deberta").args.bf16
    line = "this model overflows in bf16: fp32 此模型用 bf16 会溢出，改用 fp32"
    assert capsys.readouterr().out.count(line) == 1
    assert built("bert").args.bf16
    assert "overflows in" not in capsys.readouterr().out


def save_sentencepiece(path, **special_tokens):
    """A small vocabulary of pieces of words, as sentencepiece writes it."""
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([text for text, _ in uneven_reviews(200)]),
            model_writer=file,
            vocab_size=60,
            hard_vocab_limit=False,
            minloglevel=2,
            **special_tokens,
        )


def save_t5_tokenizer(folder):
    special_tokens = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    save_sentencepiece(folder / "spiece.model", **special_tokens)
    return "T5Tokenizer"


def save_deberta_tokenizer(folder):
    ids = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
    pieces = {
        "pad_piece": "[PAD]",
        "bos_piece": "[CLS]",
        "eos_piece": "[SEP]",
        "unk_piece": "[UNK]",
    }
    save_sentencepiece(folder / "spm.model", **ids, **pieces)
    return "DebertaV2Tokenizer"


@pytest.mark.parametrize(
    ("kind", "save_tokenizer"),
    [("t5", save_t5_tokenizer), ("deberta-v2", save_deberta_tokenizer)],
)
@pytest.mark.usefixtures("without_picture")
def test_a_folder_whose_tokenizer_is_a_sentencepiece_file(
    pf, settings, tiny, fp32, kind, save_tokenizer, capsys
):
    """As T5 and DeBERTa-v3 are published: there is no tokenizer.json."""
    shutil.copytree(tiny(kind), "model")
    for file in Path("model").glob("*token*"):
        file.unlink()
    tokenizer = save_tokenizer(Path("model"))
    settings_of_tokenizer = f'{{"tokenizer_class": "{tokenizer}"}}'
    Path("model/tokenizer_config.json").write_text(settings_of_tokenizer)
    pf.edit(**settings | {"MODEL_NAME": "model"}).main()
    assert "The model does not know" not in capsys.readouterr().out
    tested = pd.read_csv("out/test_predictions.csv", dtype={"prediction": str})
    answers = pf.predict(tested["text"].tolist())
    assert [answer["label"] for answer in answers] == tested["prediction"].tolist()


def test_the_folder_of_an_adapter_is_one_line(pf, settings, tiny):
    Path("lora").mkdir()
    transformers.AutoTokenizer.from_pretrained(tiny()).save_pretrained("lora")
    adapter = f'{{"peft_type": "LORA", "base_model_name_or_path": "{tiny()}"}}'
    Path("lora/adapter_config.json").write_text(adapter)
    shutil.copy(Path(tiny(), "model.safetensors"), "lora/adapter_model.safetensors")
    with pytest.raises(
        pf.FinetuneError, match="merge the adapter into its model first"
    ):
        pf.edit(**settings | {"MODEL_NAME": "lora"}).main()


def test_a_checkpoint_that_lacks_a_layer_of_the_body_is_refused(pf, settings, tiny):
    model = transformers.BertForMaskedLM.from_pretrained(tiny())
    weights = model.state_dict()
    lost = [name for name in weights if ".layer.1." in name]
    for name in lost:
        del weights[name]
    model.save_pretrained("cut", state_dict=weights)
    transformers.AutoTokenizer.from_pretrained(tiny()).save_pretrained("cut")
    with pytest.raises(pf.FinetuneError) as error:
        pf.edit(**settings | {"MODEL_NAME": "cut"}).main()
    line = str(error.value)
    assert f"lacks {len(lost)} weights of the body, such as" in line
    assert "bert.encoder.layer.1." in line
    assert "模型缺少主干权重" in line


def test_a_model_that_reads_no_plain_text_says_so_itself(pf, settings, tiny):
    with pytest.raises(pf.FinetuneError) as error:
        pf.edit(**settings | {"MODEL_NAME": tiny("xmod")}).main()
    line = str(error.value)
    assert line.startswith("a text of MAX_LENGTH = 16 ")
    assert "Input language unknown" in line
    assert "lower it, or choose another MODEL_NAME 请调小，或换模型" in line


@pytest.mark.usefixtures("without_picture")
def test_a_multi_label_checkpoint_learns_one_label_a_row(pf, settings, tiny):
    kind = transformers.AutoModelForSequenceClassification
    model = kind.from_pretrained(
        tiny(), num_labels=2, problem_type="multi_label_classification"
    )
    model.save_pretrained("multi")
    transformers.AutoTokenizer.from_pretrained(tiny()).save_pretrained("multi")
    pf.edit(**settings | {"MODEL_NAME": "multi"}).main()
    assert results("out")["test_accuracy"] > 0.5
    answers = pf.predict(["the film was good", "the film was bad"])
    for answer in answers:
        assert answer["score"] >= 0.5  # softmax over two classes, not a sigmoid of each
