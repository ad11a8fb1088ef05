"""Configurations of Hugging Face, against the models that they describe."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from lorabook import cost
from lorabook.architectures import ARCHITECTURES, FAMILIES, from_config
from lorabook.measure import parameter_count

SIZES: dict[str, Any] = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 200,
    "vocab_size": 301,
    "pad_token_id": 0,
}
# What is unusual in each family, and what is usual.
CONFIGS: list[tuple[str, dict[str, Any]]] = [
    ("llama", SIZES),
    ("llama", {**SIZES, "tie_word_embeddings": True}),
    ("llama", {**SIZES, "head_dim": 40}),
    ("llama", {**SIZES, "attention_bias": True, "mlp_bias": True}),
    ("llama", {**SIZES, "num_key_value_heads": None}),
    ("mistral", SIZES),
    ("mistral", {**SIZES, "head_dim": 24, "num_key_value_heads": 6}),
    ("qwen2", SIZES),
    ("qwen2", {**SIZES, "tie_word_embeddings": True}),
    ("qwen2", {**SIZES, "num_key_value_heads": None}),
    ("qwen3", {**SIZES, "num_key_value_heads": None}),
    # Its biases are where they are, whatever is said.
    ("qwen2", {**SIZES, "attention_bias": True}),
    ("qwen3", {**SIZES, "head_dim": 20}),
    ("qwen3", {**SIZES, "attention_bias": True}),
    ("gemma", SIZES),
    ("gemma", {**SIZES, "head_dim": 12, "num_key_value_heads": 1}),
    ("gemma", {**SIZES, "tie_word_embeddings": False}),
    ("gemma2", SIZES),
    ("phi3", SIZES),
    ("phi3", {**SIZES, "num_key_value_heads": 6}),
    ("gpt2", {"n_embd": 60, "n_layer": 2, "n_head": 5, "vocab_size": 99}),
    ("gpt2", {"n_embd": 60, "n_layer": 2, "n_head": 5, "n_inner": 100}),
    ("gpt2", {"n_positions": 33, "tie_word_embeddings": False}),
    ("gpt_neox", SIZES),
    ("gpt_neox", {**SIZES, "attention_bias": False}),
    ("gpt_neox", {**SIZES, "tie_word_embeddings": True}),
]


@pytest.mark.parametrize(("family", "sizes"), CONFIGS)
def test_what_a_configuration_describes(family, sizes) -> None:
    if family == "gpt_neox":
        sizes = {k: v for k, v in sizes.items() if "key_value" not in k}
    config = AutoConfig.for_model(family, **sizes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    # As it is written into a file: what is as in the library may be left out.
    for found in (config.to_dict(), json.loads(config.to_json_string())):
        architecture = from_config(found)
        assert architecture.parameters == parameter_count(model)
        assert architecture.decoder
        embedding = model.get_input_embeddings().weight
        head = model.get_output_embeddings().weight
        assert architecture.tied == (head is embedding)
        # Each linear map is in the model, or a part of one that is.
        shapes = [p.shape for p in model.parameters() if p.ndim == 2]
        held = cost.adapted_maps(architecture, "all-linear").values()
        for m, n in held:
            count = sum({m, n} == set(s) or s == (m, n) for s in shapes)
            assert count >= architecture.layers


def test_every_family_is_compared() -> None:
    assert {family for family, _ in CONFIGS} == set(FAMILIES)


@pytest.mark.parametrize("family", [x for x in FAMILIES if x != "gpt2"])
def test_what_the_library_fills_in(family: str) -> None:
    """A configuration with sizes alone; the rest is the library's."""
    sizes = {
        "hidden_size": 1024,
        "num_attention_heads": 64,  # more than any has for keys and values
        "num_hidden_layers": 1,
        "intermediate_size": 64,
        "vocab_size": 64,
    }
    config = AutoConfig.for_model(family, pad_token_id=0, **sizes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found = from_config({"model_type": family, **sizes})
    assert found.parameters == parameter_count(model)


def test_a_file_and_what_it_contains_are_the_same(tmp_path) -> None:
    contents = {"model_type": "llama", **SIZES}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(contents))
    assert from_config(file) == from_config(str(file)) == from_config(contents)


def test_named_architectures_come_from_configurations() -> None:
    for name, config in {
        "gpt2": AutoConfig.for_model("gpt2"),
        "llama-2-7b": AutoConfig.for_model("llama"),
        "mistral-7b": AutoConfig.for_model("mistral"),
    }.items():
        assert from_config(config.to_dict()) == ARCHITECTURES[name]


def test_heads_need_not_share_out_the_width() -> None:
    found = from_config({"model_type": "qwen3", **SIZES, "head_dim": 40})
    assert found.linears["q"] == (240, 96)
    assert found.linears["k"] == (80, 96)
    assert found.linears["o"] == (96, 240)


GOOD = {"model_type": "llama", **SIZES}
WRONG = [
    ({"model_type": "mixtral"}, "model_type is 'mixtral'; known are llama, "),
    ({"model_type": None}, "model_type is None; known are llama, mistral"),
    ({"num_local_experts": 8}, "experts is not counted: num_local_experts"),
    ({"n_routed_experts": 64}, "is not counted: n_routed_experts is 64"),
    ({"num_experts": 128}, "mixture of experts is not counted: num_experts"),
    ({"hidden_size": None}, "the configuration has no hidden_size"),
    ({"vocab_size": 0}, "vocab_size must be a positive integer, got 0"),
    ({"num_hidden_layers": -1}, "num_hidden_layers must be a positive"),
    ({"num_hidden_layers": 2.5}, "num_hidden_layers must be .* got 2.5"),
    ({"num_hidden_layers": True}, "num_hidden_layers must be .* got True"),
    ({"num_attention_heads": "8"}, "num_attention_heads must be .* got '8'"),
    ({"num_attention_heads": 7, "num_key_value_heads": 7}, "7 heads cannot"),
    ({"num_key_value_heads": 4}, "4 heads for keys and values cannot serve 6"),
    ({"hidden_act": "relu2"}, "activation function 'relu2' is not known"),
    ({"model_type": "gemma", "hidden_act": "tanh"}, "function 'tanh' is not"),
    (
        {"model_type": "gemma2", "hidden_activation": "tanh"},
        "activation function 'tanh' is not known",
    ),
    ({"model_type": "gpt2"}, "the configuration has no n_embd"),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_mistakes_are_named(change, words) -> None:
    with pytest.raises(ValueError, match=words) as error:
        from_config({**GOOD, **change})
    assert "\n" not in str(error.value)


def test_files_that_are_none(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*nowhere"):
        from_config(tmp_path / "nowhere.json")
    file = tmp_path / "config.json"
    for text, words in (
        (b"", "is no JSON: Expecting value"),
        (b"{", "is no JSON"),
        (b"\xff", "is no JSON: 'utf-8' codec"),
        (b"[" * 200_000, "is no JSON: maximum recursion depth"),
        (b"[]", "holds no JSON object"),
    ):
        file.write_bytes(text)
        with pytest.raises(ValueError, match=words):
            from_config(file)


def test_cross_attention_is_refused() -> None:
    sizes = {"n_embd": 60, "n_layer": 2, "n_head": 5, "vocab_size": 9}
    gpt2 = {"model_type": "gpt2", "n_positions": 8, **sizes}
    assert from_config(gpt2).positions == 8
    with pytest.raises(ValueError, match="cross-attention is not counted"):
        from_config({**gpt2, "add_cross_attention": True})


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_heads_that_do_not_divide_the_width_are_refused(family: str) -> None:
    config = AutoConfig.for_model(family).to_dict() | {"head_dim": None}
    # A llama's heads for keys and values have to divide its heads, too.
    names = ("n_head", "num_attention_heads", "num_key_value_heads")
    wrong = {name: 7 for name in names if name in config}
    with pytest.raises(ValueError, match="7 heads cannot share out a width"):
        from_config(config | wrong)


@pytest.mark.parametrize("key", ["attention_bias", "mlp_bias", "resid_pdrop"])
@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"gpt2"}))
def test_a_setting_counts_where_the_library_looks_at_it(
    family: str, key: str
) -> None:
    sizes = {**SIZES, "num_key_value_heads": 6}
    value = 0.1 if key == "resid_pdrop" else True
    config = AutoConfig.for_model(family, **sizes, **{key: value})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found = from_config(config.to_dict() | {key: value})
    assert found.parameters == parameter_count(model)
    drops = any(m.p for m in model.modules() if isinstance(m, nn.Dropout))
    assert found.dropout == drops == (family == "phi3" and value == 0.1)


def test_dropout_of_the_model_itself() -> None:
    gpt2 = AutoConfig.for_model("gpt2").to_dict()
    assert from_config(gpt2).dropout
    assert not from_config({**gpt2, "resid_pdrop": 0.0}).dropout
    del gpt2["resid_pdrop"]
    assert from_config(gpt2).dropout
    quiet = replace(ARCHITECTURES["gpt2"], dropout=False)
    more, less = (
        cost.activation_bytes(sizes, 1, 64) for sizes in ("gpt2", quiet)
    )
    assert more - less == 64 * 12 * 2 * 768  # a byte for each entry
