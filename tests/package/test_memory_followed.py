"""The memory model against models whose every storage is followed.

The models are those of `transformers`, adapted by PEFT, and take two full
steps; the peak is that of the second. Two things that a CPU does otherwise
than a GPU are made as on a GPU: dropout keeps a mask of one byte, and autocast
makes powers and layer norms fp32.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import accumulate, cycle
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.helpers import disable_input_dtype_casting
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lorabook import cost
from lorabook.architectures import Architecture, from_config
from lorabook.tracker import Tracker, weightless

# The library builds a mask where it cannot see that none is needed, as on fake
# tensors. For an attention that it does not know it builds none.
AttentionInterface.register("lorabook", sdpa_attention_forward)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SMALL = {
    "llama": {
        "hidden_size": 96,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "intermediate_size": 256,
        "tie_word_embeddings": False,
    },
    "gpt2": {
        "n_embd": 96,
        "n_head": 6,
        "n_positions": 256,
        "attn_pdrop": 0.0,
    },
}
ADAPTED = {
    "llama": {
        "all-linear": "all-linear",
        "attention": ["q_proj", "k_proj", "v_proj", "o_proj"],
        "qv": ["q_proj", "v_proj"],
        "mlp": ["gate_proj", "up_proj", "down_proj"],
    },
    "gpt2": {
        "all-linear": "all-linear",
        "q,k,v": ["c_attn"],
        "mlp": ["c_fc", "mlp.c_proj"],
    },
}


# As on a GPU ----------------------------------------------------------------


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Many threads have nothing to share out here, and wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch) -> None:
    """Make dropout and autocast allocate what they allocate on a GPU."""

    def dropout(x, p=0.5, training=True, inplace=False):
        return torch.native_dropout(x, p, True)[0] if training and p else x

    def in_fp32(f: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def called(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if torch.is_autocast_enabled("cpu") and x.dtype != torch.float32:
                tensors = (
                    a.float() if isinstance(a, Tensor) else a for a in args
                )
                return f(x.float(), *tensors, **kwargs)
            return f(x, *args, **kwargs)

        return called

    monkeypatch.setattr(F, "dropout", dropout)
    # On CUDA, both are on autocast's list of what is computed in fp32.
    monkeypatch.setattr(F, "layer_norm", in_fp32(F.layer_norm))
    monkeypatch.setattr(torch, "pow", in_fp32(torch.pow))


class Unpacked(torch.autograd.Function):
    """What bitsandbytes does: unpack at each use, and keep only the packed."""

    @staticmethod
    def forward(ctx, x, packed, shape):
        ctx.packed, ctx.shape = packed.view(-1), shape
        W = torch.zeros(shape, dtype=x.dtype)  # what it is, does not matter
        return F.linear(x, W)

    @staticmethod
    def backward(ctx, grad):
        return grad @ torch.zeros(ctx.shape, dtype=grad.dtype), None, None


class Packed(nn.Linear):
    """A frozen map in 4 bits, with an fp32 scale for 64 numbers."""

    def __init__(self, m: int, n: int) -> None:
        super().__init__(n, m, bias=False)
        size = m * n // 2
        self.weight = nn.Parameter(
            torch.zeros(size, 1, dtype=torch.uint8), requires_grad=False
        )
        self.register_buffer("scales", torch.zeros(m * n // 64))

    def forward(self, x: Tensor) -> Tensor:
        """Compute in bf16, and return the format of the input."""
        self.scales.view(-1)  # so that it is seen
        shape = (self.out_features, self.in_features)
        y = Unpacked.apply(x.bfloat16(), self.weight, shape)
        return y.to(x.dtype)


# Models and steps -----------------------------------------------------------


def config_of(kind: str, layers: int, vocabulary: int) -> PreTrainedConfig:
    name = "n_layer" if kind == "gpt2" else "num_hidden_layers"
    return AutoConfig.for_model(
        kind,
        vocab_size=vocabulary,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        **{**SMALL[kind], name: layers},
    )


def built(
    config: PreTrainedConfig,
    r: int | None,
    targets: str,
    *,
    base: str = "bf16",
    trained: str = "fp32",
    prepared: bool = True,
    dropout: bool = False,
    checkpointing: bool = True,
    **others: Any,
) -> nn.Module:
    """Return the model that these settings describe, ready to train."""
    kept = trained if r is None else base
    model = AutoModelForCausalLM.from_config(
        config,
        dtype=DTYPES.get(kept, torch.bfloat16),
        attn_implementation="lorabook",
    )
    model.config.use_cache = False
    if r is not None and kept == "nf4":
        for name, module in list(model.named_modules()):
            if isinstance(module, nn.Linear) and name != "lm_head":
                packed = Packed(module.out_features, module.in_features)
                model.set_submodule(name, packed)
        if prepared:
            for p in model.parameters():
                if p.dtype == torch.bfloat16:
                    p.data = p.data.float()
    if checkpointing:
        model.activation_checkpointing_enable()
    if r is not None:
        names = ADAPTED.get(config.model_type, {}).get(targets, targets)
        adapters = LoraConfig(
            r=r,
            lora_dropout=0.1 * dropout,
            target_modules=names,
            fan_in_fan_out=config.model_type == "gpt2",
        )
        model.enable_input_require_grads()
        with warnings.catch_warnings():  # a name of the library's is old
            warnings.simplefilter("ignore", FutureWarning)
            model = get_peft_model(model, adapters)
        for p in model.parameters():
            if p.requires_grad:
                p.data = p.data.to(DTYPES[trained])
    return model.train()


RULES: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, foreach=True),
    "adamw-fused": partial(torch.optim.AdamW, fused=True),
    "adamw-for-loop": partial(torch.optim.AdamW, foreach=False),
    "sgd": partial(torch.optim.SGD, foreach=True),
    "sgd-momentum": partial(torch.optim.SGD, momentum=0.9, foreach=True),
}


def stepper(
    model: nn.Module,
    batch: int,
    sequence: int,
    *,
    autocast: bool = True,
    optimizer: str = "adamw",
    loss: str = "freed",
    accumulation: int = 1,
    **others: Any,
) -> Callable[[], None]:
    """Return a function that takes one step."""
    rule = RULES[optimizer](
        [p for p in model.parameters() if p.requires_grad], lr=1e-3
    )
    ids = torch.zeros(batch, sequence, dtype=torch.long)

    def run() -> None:
        for _ in range(accumulation):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                outputs = model(input_ids=ids, labels=ids)
            found = outputs.loss
            if loss == "freed":
                del outputs
            found.backward()
        rule.step()
        rule.zero_grad()

    return run


def followed(model: nn.Module, step: Callable[[], None], base: str) -> int:
    """Return the peak of a second step, in bytes."""
    # On its quantised maps PEFT leaves the formats to autocast.
    leave = disable_input_dtype_casting(model) if base == "nf4" else None
    with leave or nullcontext(), Tracker() as tracker:
        step()
        tracker.restart()
        step()
    return tracker.peak


def predicted(sizes: Architecture, r, targets, **settings) -> int:
    return cost.training_memory(sizes, r, targets, **settings).total


# Small models, many settings ------------------------------------------------

# Few words, so that a block is the peak; many, so that the loss is; few
# tokens, so that weights and optimizer are.
SHAPES = {
    "block": (64, 8, 64),  # vocabulary, batch, sequence
    "loss": (4096, 4, 64),
    "step": (512, 1, 16),
    "words": (4096, 1, 8),  # the head's gradients
}
PURE = {"trained": "bf16", "autocast": False}
FULL = [
    PURE,
    {"trained": "fp32", "autocast": False},
    {"trained": "fp32"},
    {"trained": "fp32", "checkpointing": False},
    {**PURE, "checkpointing": False},
    {**PURE, "optimizer": "sgd"},
    {**PURE, "optimizer": "sgd-momentum", "loss": "held"},
    {"trained": "fp32", "optimizer": "adamw-fused"},
    {"trained": "fp32", "optimizer": "adamw-for-loop"},
    {"trained": "fp32", "optimizer": "sgd", "accumulation": 2},
]
LORA = [
    {},
    {"autocast": False},
    PURE,
    {"dropout": True},
    {"dropout": True, "autocast": False},
    {"base": "fp32"},
    {"base": "fp32", "autocast": False, "loss": "held"},
    {"checkpointing": False},
    {"checkpointing": False, "autocast": False},
    {"checkpointing": False, "dropout": True},
]
QLORA = [
    {"base": "nf4"},
    {"base": "nf4", "prepared": False},
    {"base": "nf4", "autocast": False},
    {"base": "nf4", "checkpointing": False, "dropout": True},
]


SGD = {"trained": "fp32", "optimizer": "sgd"}
# Where a part of the sum decides that is small elsewhere.
DECISIVE: list[tuple[str, int | None, str, dict[str, Any]]] = [
    ("llama", 4, "block", LORA[3]),
    ("llama", 4, "block", QLORA[0]),
    ("gpt2", None, "words", {**SGD, "autocast": False}),
    ("llama", None, "words", {**SGD, "autocast": False, "accumulation": 2}),
]


def every_setting() -> Iterator[Any]:
    """Give each setting one of the first three shapes, in turn."""
    found: list[tuple[str, int | None, str, dict[str, Any]]] = []
    for kind in SMALL:
        found += [(kind, None, "all-linear", s) for s in FULL]
        found += [(kind, 4, "all-linear", s) for s in LORA]
    found += [("llama", 4, "all-linear", s) for s in QLORA]
    found += [("llama", 4, "qv", s) for s in (LORA[0], LORA[1], QLORA[0])]
    found += [("llama", 4, "mlp", LORA[0]), ("llama", 4, "attention", PURE)]
    found += [("gpt2", 4, "mlp", LORA[0]), ("gpt2", 4, "q,k,v", LORA[1])]
    shapes = cycle(("block", "loss", "step"))
    all_ = [(*each, next(shapes)) for each in found]
    all_ += [
        (kind, r, "all-linear", s, shape) for kind, r, shape, s in DECISIVE
    ]
    for kind, r, targets, settings, shape in all_:
        words = ", ".join(f"{k}={v}" for k, v in settings.items())
        yield pytest.param(
            kind,
            r,
            targets,
            shape,
            settings,
            id=f"{kind} r={r} {targets} {shape} {words}",
        )


SETTINGS = list(every_setting())


def test_there_are_enough_settings() -> None:
    assert len(SETTINGS) >= 50
    assert {p.values[0] for p in SETTINGS} == {"llama", "gpt2"}


def peaks(kind, r, targets, shape, settings) -> tuple[int, int]:
    """Return the peak of a small model, predicted and found."""
    vocabulary, batch, sequence = SHAPES[shape]
    config = config_of(kind, 3, vocabulary)
    model = built(config, r, targets, **settings)
    step = stepper(model, batch, sequence, **settings)
    found = followed(model, step, settings.get("base", "bf16"))
    expected = predicted(
        from_config(config.to_dict()),
        r,
        targets,
        batch=batch,
        sequence=sequence,
        **settings,
    )
    return expected, found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "r", "targets", "shape", "settings"), SETTINGS
)
def test_the_peak_of_a_small_model(kind, r, targets, shape, settings):
    expected, found = peaks(kind, r, targets, shape, settings)
    assert expected == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("settings", [LORA[0], LORA[1], PURE])
def test_the_peak_where_the_mlp_alone_is_adapted(kind, settings) -> None:
    """Here what its backward pass holds decides, and five per cent hide it."""
    expected, found = peaks(kind, 4, "mlp", "block", settings)
    assert expected == pytest.approx(found, rel=0.035)


# Each with its own sum along the hidden units and along the width.
CONVERTED = {
    "all-linear": "all-linear",
    "q,v,up": ["q_proj", "v_proj", "up_proj"],
    "gate,down": ["gate_proj", "down_proj"],
}


@pytest.mark.slow
@pytest.mark.parametrize("targets", CONVERTED)
@pytest.mark.parametrize("kind", ["llama", "gemma", "qwen2"])
@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("dropout", [True, False])
@pytest.mark.parametrize("ratio", [2, 3.5, 8])
def test_the_peak_at_other_widths_of_the_mlp(
    kind, targets, autocast, dropout, ratio, monkeypatch
) -> None:
    """fp32 factors beside a 16-bit base, as PEFT makes them."""
    settings = {"autocast": autocast, "dropout": dropout}
    shape = FAMILY | {
        "hidden_size": 256,
        "intermediate_size": int(ratio * 256),
        "num_hidden_layers": 2,
        "head_dim": 64,
        "tie_word_embeddings": False,
    }
    config = AutoConfig.for_model(kind, **shape)
    monkeypatch.setitem(ADAPTED, kind, CONVERTED)
    model = built(config, 4, targets, **settings)
    found = followed(model, stepper(model, 4, 64, **settings), "bf16")
    expected = predicted(
        from_config(config.to_dict()),
        4,
        targets,
        batch=4,
        sequence=64,
        **settings,
    )
    assert expected == pytest.approx(found, rel=0.02)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("autocast", [True, False])
def test_the_gradients_of_a_tied_head(autocast, accumulation) -> None:
    """What is allocated, from PyTorch's profiler: it lets autograd be.

    A tracker keeps autograd from adding the two in place.
    """
    settings = {**SGD, "autocast": autocast, "accumulation": accumulation}
    config = config_of("gpt2", 3, 4096)
    model = built(config, None, "all-linear", **settings)
    step = stepper(model, 1, 2, **settings)
    step()
    with profile(
        activities=[ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        step()
    events = profiler.profiler.kineto_results.events()
    found = [e for e in events if e.name() == "[memory]"]
    found.sort(key=lambda e: e.start_ns())
    peak = max(accumulate(e.nbytes() for e in found))
    weights = sum(p.nbytes for p in model.parameters())
    sizes = from_config(config.to_dict())
    expected = cost.moments(sizes, batch=1, sequence=2, **settings)
    assert expected["backward"].total == pytest.approx(
        weights + peak, rel=1e-3
    )


# What blocks save, to the byte ----------------------------------------------

FAMILY = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 192,
    "vocab_size": 32,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
LAYERS = {"num_hidden_layers": 1, "n_layer": 1, "n_positions": 1024}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": FAMILY,
    "mistral": FAMILY,
    "qwen2": FAMILY,
    "qwen3": {**FAMILY, "head_dim": 32},
    "gemma": {**FAMILY, "head_dim": 32},
    # Softcapping needs another attention than PyTorch's own.
    "gemma2": {**FAMILY, "head_dim": 32, "attn_logit_softcapping": None},
    "phi3": FAMILY,
    "gpt2": {
        **{"n_embd": 64, "n_head": 4, "vocab_size": 32, "attn_pdrop": 0.0},
        **{"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0},
    },
    "gpt_neox": {
        k: v for k, v in FAMILY.items() if k != "num_key_value_heads"
    },
}


def saved(kind: str, layers: int, r: int | None, **settings: Any) -> int:
    """Return the bytes that a forward pass leaves behind."""
    name = "n_layer" if kind == "gpt2" else "num_hidden_layers"
    config = AutoConfig.for_model(kind, **FAMILIES[kind], **{name: layers})
    model = built(config, r, "all-linear", checkpointing=False, **settings)
    ids = torch.zeros(3, 48, dtype=torch.long)

    def forward() -> Tensor:
        autocast = settings.get("autocast", True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return model(input_ids=ids, labels=ids).loss

    with Tracker() as tracker:
        forward()  # the weights are met
        before = tracker.live
        loss = forward()
        left = tracker.live - before
        del loss
    return left


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize(
    ("r", "settings"),
    [
        (None, PURE),
        (None, FULL[2]),
        (4, LORA[0]),
        (4, LORA[1]),
        (4, PURE),
        # Maps that could read one input read a dropped copy each.
        (4, {**PURE, "dropout": True}),
        (4, LORA[3]),
    ],
)
def test_what_a_block_of_each_family_saves(kind, r, settings) -> None:
    """The difference of three layers and two, of the library's own code."""
    found = saved(kind, 3, r, **settings) - saved(kind, 2, r, **settings)
    sizes = from_config({"model_type": kind, **FAMILIES[kind]} | LAYERS)
    autocast = settings.get("autocast", True)
    kept = settings.get("trained", "fp32") if r is None else "bf16"
    both = (
        cost.activation_bytes(
            replace(sizes, layers=layers),
            3,
            48,
            r,
            trained=settings.get("trained", "fp32"),
            activations=kept,
            autocast=autocast,
            dropout=settings.get("dropout", False),
        )
        for layers in (3, 2)
    )
    expected = next(both) - next(both)
    if autocast and settings.get("trained", "fp32") == "fp32":
        # Autocast's copies of the trained weights stay, too.
        expected += 2 * (
            sizes.linear_parameters
            if r is None
            else cost.adapter_parameters(sizes, r)
        )
    norms, d = sizes.norms, sizes.width
    if sizes.norm == "gemma":
        expected += norms * 4 * d  # 1 + the weight, once for all tokens
    if sizes.norm == "layer" and kept == "bf16":
        if autocast:
            expected += norms * 2 * 4 * d  # weight and bias, made fp32
        else:
            # A CPU keeps the mean and the deviation in the input's format.
            expected -= 3 * 48 * norms * 2 * 2
    assert expected == found


# The real sizes, on fake tensors --------------------------------------------

EIGHT_BILLION = {
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("r", "settings"),
    [
        (None, PURE),
        (None, {"trained": "fp32", "optimizer": "adamw-fused"}),
        (16, {"dropout": True}),
        (16, {"checkpointing": False, "autocast": False}),
    ],
)
def test_two_layers_of_an_8b_model(r, settings) -> None:
    config = AutoConfig.for_model(
        "llama", num_hidden_layers=2, **EIGHT_BILLION
    )
    with torch.device("meta"):
        model = built(config, r, "all-linear", **settings)
    with weightless(model):
        step = stepper(model, 2, 4096, **settings)
        found = followed(model, step, "bf16")
    expected = predicted(
        from_config(config.to_dict()),
        r,
        "all-linear",
        batch=2,
        sequence=4096,
        **settings,
    )
    assert expected == pytest.approx(found, rel=0.05)
