"""The language model against Hugging Face's GPT-2 and against formulas."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import (
    DebertaV2Config,
    DebertaV2Model,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RobertaModel,
)

from lorabook.architectures import ARCHITECTURES
from lorabook.measure import parameter_count
from lorabook.models import (
    Attention,
    TinyGPT,
    bits_per_byte,
)


def small(seed: int = 0) -> TinyGPT:
    torch.manual_seed(seed)
    return TinyGPT(d=16, layers=2, heads=2, context=10).double()


def test_parameters_add_up() -> None:
    d, layers, context = 128, 4, 128
    block = 4 * (d * d + d) + (4 * d * d + 4 * d) + (4 * d * d + d) + 4 * d
    outside = 256 * d + context * d + 2 * d + 256 * d
    assert parameter_count(TinyGPT()) == layers * block + outside


def as_gpt2(model: TinyGPT, d: int, context: int) -> GPT2LMHeadModel:
    """Return Hugging Face's GPT-2 with the same weights."""
    config = GPT2Config(
        vocab_size=256,
        n_positions=context,
        n_embd=d,
        n_layer=len(model.blocks),
        n_head=model.blocks[0].attention.heads,
        activation_function="gelu",
        tie_word_embeddings=False,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    other = GPT2LMHeadModel(config).double()
    body = other.transformer

    def copy(conv, *layers):
        # Its Conv1D stores a weight as (in, out).
        weight = torch.cat([x.weight.T for x in layers], dim=1)
        bias = torch.cat([x.bias for x in layers])
        with torch.no_grad():
            conv.weight.copy_(weight)
            conv.bias.copy_(bias)

    body.wte.load_state_dict(model.embed.state_dict())
    body.wpe.load_state_dict(model.position.state_dict())
    body.ln_f.load_state_dict(model.norm.state_dict())
    other.lm_head.load_state_dict(model.head.state_dict())
    for mine, theirs in zip(model.blocks, body.h, strict=True):
        theirs.ln_1.load_state_dict(mine.norm1.state_dict())
        theirs.ln_2.load_state_dict(mine.norm2.state_dict())
        a = mine.attention
        copy(theirs.attn.c_attn, a.q, a.k, a.v)
        copy(theirs.attn.c_proj, a.o)
        copy(theirs.mlp.c_fc, mine.up)
        copy(theirs.mlp.c_proj, mine.down)
    return other


def test_computes_what_gpt2_computes() -> None:
    model = small()
    for p in model.parameters():  # also biases and norms
        nn.init.normal_(p, std=0.3)
    text = torch.randint(256, (3, 10))
    with torch.no_grad():
        assert_close(model(text), as_gpt2(model, 16, 10)(text).logits)


def test_no_byte_sees_the_future() -> None:
    model = small()
    text = torch.randint(256, (1, 10))
    other = text.clone()
    other[0, 6:] = (other[0, 6:] + 1) % 256
    a, b = model(text), model(other)
    assert_close(a[:, :6], b[:, :6])
    assert not torch.allclose(a[:, 6:], b[:, 6:])


def test_starts_near_a_guess() -> None:
    torch.manual_seed(0)
    model = TinyGPT()
    text = torch.randint(256, (4, 128))
    loss = F.cross_entropy(model(text).flatten(0, 1), text.flatten())
    assert loss.item() == pytest.approx(math.log(256), abs=0.1)
    for block in model.blocks:
        for layer, std in (
            (block.attention.q, 0.02),
            (block.attention.o, 0.02 / 8**0.5),
            (block.down, 0.02 / 8**0.5),
        ):
            assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
            assert layer.bias.abs().max() == 0


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="at most 10 bytes, got 11"):
        small()(torch.zeros(1, 11, dtype=torch.int64))
    with pytest.raises(ValueError, match="divide 16, got 3"):
        Attention(16, 3)


class Uniform(nn.Module):
    def forward(self, text):
        return torch.zeros(*text.shape, 256)


def test_guessing_costs_eight_bits() -> None:
    text = torch.randint(256, (1000,), dtype=torch.uint8)
    assert bits_per_byte(Uniform(), text) == pytest.approx(8)


def test_bits_are_those_of_each_window() -> None:
    model = small()
    text = torch.randint(256, (35,), dtype=torch.uint8)
    expected = []
    for start in (0, 10, 20):
        window = text[start : start + 11].long()
        logits = model(window[None, :10])[0]
        expected.append(F.cross_entropy(logits, window[1:]).item())
    expected_bits = sum(expected) / 3 / math.log(2)
    for batch in (1, 2, 32):
        found = bits_per_byte(model, text, context=10, batch=batch)
        assert found == pytest.approx(expected_bits, rel=1e-12)


def test_too_short_a_text_is_named() -> None:
    with pytest.raises(ValueError, match=r"more than 128 bytes .* got 128"):
        bits_per_byte(Uniform(), torch.zeros(128, dtype=torch.uint8))


@pytest.mark.parametrize(("context", "batch"), [(0, 1), (-1, 1), (9, 0)])
@pytest.mark.parametrize("n", [20, 300])
def test_no_window_is_not_a_loss_of_zero(n, context, batch) -> None:
    text = torch.zeros(n, dtype=torch.uint8)
    for size in (batch, -batch):
        if size < 1 or context < 1:
            with pytest.raises(ValueError, match="context >= 1 and batch >= "):
                bits_per_byte(Uniform(), text, context, size)


def test_a_loss_that_is_not_finite_is_told() -> None:
    class Broken(nn.Module):
        def forward(self, text: torch.Tensor) -> torch.Tensor:
            return torch.full((*text.shape, 256), torch.nan)

    with pytest.raises(FloatingPointError, match="cross-entropy is nan"):
        bits_per_byte(Broken(), torch.zeros(200, dtype=torch.uint8))


# The architectures ----------------------------------------------------------


def gpt2(d: int, layers: int, heads: int, context: int = 1024) -> nn.Module:
    return GPT2LMHeadModel(
        GPT2Config(n_embd=d, n_layer=layers, n_head=heads, n_positions=context)
    )


def roberta(d: int, layers: int, heads: int) -> nn.Module:
    return RobertaModel(
        RobertaConfig(
            vocab_size=50265,
            max_position_embeddings=514,
            type_vocab_size=1,
            hidden_size=d,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * d,
        )
    )


def llama(config, model, **sizes: int) -> nn.Module:
    names = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
        "vocab_size",
    )
    chosen = dict(zip(names, sizes["sizes"], strict=True))
    return model(config(tie_word_embeddings=False, **chosen))


def of_llama(*sizes: int):
    return lambda: llama(LlamaConfig, LlamaForCausalLM, sizes=sizes)


def deberta() -> nn.Module:
    return DebertaV2Model(
        DebertaV2Config(
            vocab_size=128100,
            hidden_size=1536,
            num_hidden_layers=48,
            num_attention_heads=24,
            intermediate_size=6144,
            relative_attention=True,
            position_buckets=256,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
            conv_kernel_size=3,
            conv_act="gelu",
            type_vocab_size=0,
        )
    )


# The sizes are those of the configurations that the models are published
# with; what they add up to is Hugging Face's code.
PUBLISHED = {
    "tiny-gpt": TinyGPT,
    "gpt2": lambda: gpt2(768, 12, 12),
    "gpt2-medium": lambda: gpt2(1024, 24, 16),
    "gpt2-large": lambda: gpt2(1280, 36, 20),
    "gpt2-xl": lambda: gpt2(1600, 48, 25),
    "gpt3-175b": lambda: gpt2(12288, 96, 96, 2048),
    "roberta-base": lambda: roberta(768, 12, 12),
    "roberta-large": lambda: roberta(1024, 24, 16),
    "deberta-v2-xxlarge": deberta,
    "smollm2-135m": lambda: LlamaForCausalLM(
        LlamaConfig(
            hidden_size=576,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            intermediate_size=1536,
            vocab_size=49152,
            tie_word_embeddings=True,
        )
    ),
    "llama-2-7b": of_llama(4096, 32, 32, 32, 11008, 32000),
    "llama-2-13b": of_llama(5120, 40, 40, 40, 13824, 32000),
    "llama-2-70b": of_llama(8192, 80, 64, 8, 28672, 32000),
    "llama-3-8b": of_llama(4096, 32, 32, 8, 14336, 128256),
    "llama-3-70b": of_llama(8192, 80, 64, 8, 28672, 128256),
    "mistral-7b": lambda: llama(
        MistralConfig,
        MistralForCausalLM,
        sizes=(4096, 32, 32, 8, 14336, 32000),
    ),
    "qwen2.5-7b": lambda: llama(
        Qwen2Config,
        Qwen2ForCausalLM,
        sizes=(3584, 28, 28, 4, 18944, 152064),
    ),
}


def test_every_architecture_is_compared() -> None:
    assert PUBLISHED.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_architectures_add_up_to_the_published_models(name: str) -> None:
    with torch.device("meta"):
        model = PUBLISHED[name]()
    architecture = ARCHITECTURES[name]
    assert architecture.parameters == parameter_count(model)
    # Each linear map stands in the model, as often as there are blocks.
    shapes = [
        tuple(p.shape) for n, p in model.named_parameters() if p.ndim == 2
    ]
    if not name.startswith(("gpt2", "gpt3")):  # those hold q, k, v as one
        for shape in set(architecture.linears.values()):
            count = list(architecture.linears.values()).count(shape)
            assert shapes.count(shape) >= count * architecture.layers
