"""A tiny random model of each kind of architecture, from its files to its last answer."""

import pytest
import torch
import transformers
from conftest import results, share_right

# The five families of test_recipe.py stand there. These have a head that reads [CLS];
ENCODERS = ["electra", "esm", "convbert", "big_bird", "xlm"]
BEFORE = [
    "xlm-roberta",
    "camembert",
    "xlm-roberta-xl",
]  # here it stands before the body.
# Averaging does not apply: positions in the attention, no query layer, letters for words.
OTHERS = ["deberta", "deberta-v2", "mpnet", "fnet", "modernbert", "jina_embeddings_v3"]
OTHERS += ["canine"]
DECODERS = ["opt", "llama", "qwen2", "qwen3", "mistral", "gemma", "gpt_neox", "phi"]
ENCODER_DECODERS = ["bart", "mbart", "plbart", "t5", "mt5"]
EVERY = [*ENCODERS, *BEFORE, *OTHERS, *DECODERS, *ENCODER_DECODERS]


@pytest.mark.parametrize("kind", EVERY)
def test_every_architecture(pf, settings, tiny, kind, capsys):
    pf.edit(**settings | {"MODEL_NAME": tiny(kind)}).main()
    out = capsys.readouterr().out
    applies = kind in [*ENCODERS, *BEFORE]
    assert ("starts by looking at all tokens alike" in out) == applies
    assert ("MEAN_POOLING does not apply" in out) != applies
    assert ("FREEZE_EMBEDDINGS does not apply" in out) == (kind == "canine")
    assert "Output layer solved for" in out  # the output layer was found
    # deployed is tested: the saved folder gives the rows the answers that were scored
    test = pf.load_data("csv")["test"]
    right = share_right(pf.predict(list(test["text"])), test)
    assert right == pytest.approx(results("out")["test_accuracy"])


@pytest.mark.parametrize("kind", ["xlm-roberta", "gpt2", "bart", "canine"])
def test_the_output_layer_is_the_heads(pf, prepare, kind):
    trainer, *_ = prepare(kind)
    trainer.train()
    body = trainer.model.base_model
    before = {name: p.detach().clone() for name, p in body.named_parameters()}
    output = pf.find_output_layer(trainer.model)
    weight = output.weight.detach().clone()
    pf.fit_head(trainer)
    assert output.out_features == 2
    assert not torch.equal(output.weight, weight)
    for name, parameter in body.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_a_checkpoint_that_lacks_a_layer_of_the_body_is_refused(
    pf, settings, tiny, capsys
):
    model = transformers.BertForMaskedLM.from_pretrained(tiny())
    weights = model.state_dict()
    lost = [name for name in weights if ".layer.1." in name]
    for name in lost:
        del weights[name]
    model.save_pretrained("cut", state_dict=weights)
    pf.load_tokenizer(tiny()).save_pretrained("cut")
    with pytest.raises(SystemExit):
        pf.edit(**settings | {"MODEL_NAME": "cut"}).main()
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(
        f"error: cut lacks {len(lost)} weights of the body, such as "
    )
    assert "模型缺少主干权重" in line


def test_a_model_that_reads_no_plain_text_says_so_itself(pf, settings, tiny, capsys):
    with pytest.raises(SystemExit):
        pf.edit(**settings | {"MODEL_NAME": tiny("xmod")}).main()
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: a text of MAX_LENGTH = 16: Input language unknown")
    assert "lower it, or choose another MODEL_NAME 请调小，或换模型" in line


def test_a_multi_label_checkpoint_learns_one_label_a_row(pf, settings, tiny):
    kind = transformers.AutoModelForSequenceClassification
    multi = {"num_labels": 2, "problem_type": "multi_label_classification"}
    kind.from_pretrained(tiny(), **multi).save_pretrained("multi")
    pf.load_tokenizer(tiny()).save_pretrained("multi")
    pf.edit(**settings | {"MODEL_NAME": "multi"}).main()
    assert results("out")["test_accuracy"] > 0.5
