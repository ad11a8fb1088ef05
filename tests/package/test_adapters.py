"""Adapters in whole models: found, injected, turned off, merged, kept."""

import copy
import math
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import peft
import pytest
import torch
from small import unchanged
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.checkpoint import CheckpointError, checkpoint
from transformers.pytorch_utils import Conv1D

from lorabook import adapters
from lorabook.adapters import (
    ADAPTED,
    adapt,
    disabled,
    find,
    inject,
    layers,
    merge,
    state,
)
from lorabook.factors import extract_lora
from lorabook.layers import (
    LoRAConv1D,
    LoRAConv2d,
    LoRAEmbedding,
    LoRAFused,
    LoRALayer,
    LoRALinear,
)
from lorabook.models import TinyGPT
from lorabook.small import NAMES, logits_of, small_model


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def tiny() -> TinyGPT:
    return TinyGPT(d=16, layers=2, heads=2, context=8)


def text() -> Tensor:
    return torch.randint(256, (3, 8))


def train_all(found: dict[str, LoRALayer]) -> None:
    """Give both factors values, as training would."""
    for layer in found.values():
        nn.init.normal_(layer.A)
        nn.init.normal_(layer.B)


def learning(model: nn.Module) -> set[str]:
    return {n for n, p in model.named_parameters() if p.requires_grad}


def factors_of(*names: str) -> set[str]:
    return {f"{name}.{factor}" for name in names for factor in "AB"}


# adapt


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        (nn.Linear(4, 4), LoRALinear),
        (nn.modules.linear.NonDynamicallyQuantizableLinear(4, 4), LoRALinear),
        (Conv1D(4, 4), LoRAConv1D),
        (nn.Embedding(4, 4), LoRAEmbedding),
        (nn.Conv2d(4, 4, 1), LoRAConv2d),
    ],
)
def test_each_kind_of_layer_gets_its_own(
    base: nn.Module, kind: type[LoRALayer]
) -> None:
    layer = adapt(base, 2, 3.0, scaling="alpha/sqrt(r)")
    assert type(layer) is kind
    assert (layer.r, layer.alpha, layer.scaling) == (2, 3.0, "alpha/sqrt(r)")


def test_parts_make_it_fused() -> None:
    layer = adapt(
        nn.Linear(4, 8),
        2,
        3.0,
        dropout=0.5,
        scaling="alpha/sqrt(r)",
        parts=(True, False),
        sizes=(6, 2),
    )
    assert isinstance(layer, LoRAFused)
    assert (layer.parts, layer.sizes) == ((True, False), (6, 2))
    assert (layer.dropout.p, layer.scaling) == (0.5, "alpha/sqrt(r)")
    with pytest.raises(ValueError, match="need parts too"):
        adapt(nn.Linear(4, 8), 2, 3.0, sizes=(6, 2))


def test_an_adapter_is_not_adapted() -> None:
    layer = adapt(nn.Linear(4, 4), 2, 3.0)
    with pytest.raises(TypeError, match="has an adapter: merge it, or resize"):
        adapt(layer, 2, 3.0)


def test_a_new_kind_of_layer_is_entered_and_adapted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Scaled(nn.Embedding):
        def forward(self, input: Tensor) -> Tensor:
            return 8 * super().forward(input)

    class LoRAScaled(LoRALayer):
        @staticmethod
        def kinds() -> tuple[type[nn.Module], ...]:
            return (Scaled,)

        def matrix(self, W: Tensor) -> Tensor:
            return W.T

        def shaped(self, M: Tensor) -> Tensor:
            return M.T

        def update(self, x: Tensor) -> Tensor:
            return 8 * self.scale * F.linear(F.embedding(x, self.A.T), self.B)

    monkeypatch.setitem(ADAPTED, Scaled, LoRAScaled)
    model = nn.Sequential(Scaled(9, 4), nn.Linear(4, 3))
    found = inject(model, 2, 3.0, ("0", "1"))
    assert isinstance(found["0"], LoRAScaled)
    train_all(found)
    x = torch.arange(9)
    y = model(x)
    assert_close(merge(model)(x), y)


# find


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (("q",), ["blocks.0.attention.q", "blocks.1.attention.q"]),
        ("up", ["blocks.0.up", "blocks.1.up"]),
        (["blocks.1.up"], ["blocks.1.up"]),
        ({"attention.o"}, ["blocks.0.attention.o", "blocks.1.attention.o"]),
        (
            ("down", "0.up", "embed"),
            ["embed", "blocks.0.up", "blocks.0.down", "blocks.1.down"],
        ),
        (
            re.compile(r"blocks\.0\..*[qk]"),
            [f"blocks.0.attention.{n}" for n in "qk"],
        ),
        (re.compile(r".*\.norm1|head"), ["head"]),
        (
            iter(("q", "v")),
            [f"blocks.{i}.attention.{n}" for i in (0, 1) for n in "qv"],
        ),
    ],
)
def test_what_is_meant_is_found(targets: object, expected: list[str]) -> None:
    model = tiny()
    found = find(model, targets)
    assert list(found) == expected
    assert all(model.get_submodule(n) is m for n, m in found.items())


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("q", "nothing"), "no layer is named nothing; layers that can be"),
        (("tention.q",), "no layer is named tention.q"),
        ((), "adapted are named embed, position, q, k, v, o, up, down, head"),
        ("", "no layer is named '';"),
        (re.compile("attention.q"), "no layer is named 'attention.q'"),
        (re.compile(".*norm."), "no layer is named"),
    ],
)
def test_what_is_not_there_is_said(targets: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find(tiny(), targets)


def test_a_pattern_must_match_all_of_a_name() -> None:
    """Neither its beginning nor its end, nor that of an alternative."""
    model = nn.ModuleDict({n: nn.Linear(4, 4) for n in ("a_fc", "fc", "fc2")})
    pattern = re.compile("a|fc")
    assert list(find(model, pattern)) == ["fc"]
    inject(model, {pattern: 1, re.compile(".*"): 2}, 4.0, "all-linear")
    ranks = {name: layer.r for name, layer in layers(model).items()}
    assert ranks == {"a_fc": 2, "fc": 1, "fc2": 2}


def test_a_name_that_begins_as_another_is_no_part_of_that_layer() -> None:
    names = ["fc", "fc2", "fc2_out"]
    model = nn.ModuleDict({n: nn.Linear(4, 4) for n in names})
    assert list(find(model, "all-linear")) == names
    inject(model, 2, 4.0, "fc")
    assert list(find(model, "all-linear")) == names[1:]


# PEFT asks transformers for a name that will go.
newer = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")


@newer
@pytest.mark.filterwarnings("ignore:fan_in_fan_out")
@pytest.mark.parametrize("name", NAMES)
def test_all_linear_is_what_peft_takes(name: str) -> None:
    model = small_model(name)
    names = list(find(model, "all-linear"))
    config = peft.LoraConfig(r=2, target_modules="all-linear")
    theirs = peft.get_peft_model(copy.deepcopy(model), config)
    modules = theirs.base_model.model.named_modules()
    expected = [
        n for n, m in modules if isinstance(m, peft.tuners.lora.LoraLayer)
    ]
    assert names == expected
    assert len(names) > 4


def test_all_linear_says_what_it_leaves_out() -> None:
    model = nn.ModuleDict(
        {
            "attention": nn.MultiheadAttention(8, 2),
            "lstm": nn.LSTM(8, 4),
            "conv": nn.Conv1d(8, 8, 3),
            "table": nn.Embedding(9, 8),
        }
    )
    model.position = nn.Parameter(torch.zeros(1, 9, 8))
    model.experts = nn.Parameter(torch.zeros(3, 8, 8))
    with pytest.warns(UserWarning, match="all-linear leaves out") as caught:
        assert list(find(model, "all-linear")) == ["attention.out_proj"]
    with pytest.warns(UserWarning, match="all-linear leaves out") as again:
        inject(model, 2, 4.0, "all-linear")
    # Each points at the line that asked.
    assert {w.filename for w in (*caught, *again)} == {__file__}
    said = str(caught[0].message)
    left = ("attention.in_proj_weight", "lstm.weight_ih_l0", "'experts'")
    assert all(name in said for name in left)
    assert not any(name in said for name in ("position", "conv", "table"))


def test_all_linear_twice_adapts_what_is_new() -> None:
    model = tiny()
    first = inject(model, 2, 4.0, ("q", "v"))
    second = inject(model, 2, 4.0, "all-linear")
    assert len(first) == 4
    assert len(second) == 2 * 4 + 1
    assert layers(model).keys() == first.keys() | second.keys()
    with pytest.raises(ValueError, match="no linear layer without an adapter"):
        inject(model, 2, 4.0, "all-linear")


# inject


def test_inject_adapts_what_is_named_and_freezes_the_rest() -> None:
    model, x = tiny(), text()
    before = model(x)
    found = inject(model, 2, 4.0, ("q", "down"), dropout=0.1)
    assert list(found) == [
        f"blocks.{i}.{name}"
        for i in range(2)
        for name in ("attention.q", "down")
    ]
    assert all(model.get_submodule(n) is m for n, m in found.items())
    assert learning(model) == factors_of(*found)
    assert all(m.scale == 2 and m.dropout.p == 0.1 for m in found.values())
    assert_close(model.eval()(x), before, rtol=0, atol=0)


def test_every_setting_reaches_every_layer() -> None:
    model = nn.ModuleDict({n: nn.Linear(4, 8) for n in "ab"})
    inject(
        model,
        2,
        4.0,
        ("a", "b"),
        dropout=0.5,
        scaling="alpha/sqrt(r)",
        parts=(True, False),
        sizes=(6, 2),
    )
    for layer in layers(model).values():
        assert (layer.r, layer.alpha, layer.dropout.p) == (2, 4.0, 0.5)
        assert (layer.scaling, layer.sizes) == ("alpha/sqrt(r)", (6, 2))


def test_rank_and_alpha_by_name_and_pattern() -> None:
    model = tiny()
    inject(
        model,
        {"0.up": 1, "up": 2, re.compile(r".*\.[qv]"): 3},
        {"q": 5.0, re.compile(".*"): 7.0},
        ("q", "v", "up"),
    )
    assert {n: (m.r, m.alpha) for n, m in layers(model).items()} == {
        "blocks.0.attention.q": (3, 5.0),
        "blocks.0.attention.v": (3, 7.0),
        "blocks.0.up": (1, 7.0),
        "blocks.1.attention.q": (3, 5.0),
        "blocks.1.attention.v": (3, 7.0),
        "blocks.1.up": (2, 7.0),
    }


@pytest.mark.parametrize(
    ("r", "alpha", "message"),
    [
        ({"q": 2}, 4.0, r"blocks\.0\.up: no key of r matches it"),
        (2, {"up": 4.0}, r"attention\.q: no key of alpha matches it"),
        ({"q": 2, "up": 2, "Q": 3}, 4.0, r"\['Q'\]: these keys of r decide"),
        (
            {re.compile(".*"): 2, "q": 3},
            4.0,
            r"\['q'\]: these keys of r decide nothing",
        ),
        (2, {"": 4.0, re.compile(".*"): 1.0}, r"\[''\]: these keys of alpha"),
    ],
)
def test_a_key_that_matches_nothing_is_refused(
    r: object, alpha: object, message: str
) -> None:
    with unchanged(model := tiny()), pytest.raises(ValueError, match=message):
        inject(model, r, alpha, ("q", "up"))


def test_two_calls_freeze_nothing_that_learns() -> None:
    model = tiny()
    first = inject(model, 2, 4.0, ("q",))
    first["blocks.0.attention.q"].A.requires_grad_(False)
    # Adapters alone go on: nothing beside them, and nothing inside them.
    first["blocks.1.attention.q"].base.requires_grad_(True)
    model.norm.requires_grad_(True)
    second = inject(model, 1, 2.0, ("up", "down"))
    expected = factors_of(*first, *second) - {"blocks.0.attention.q.A"}
    assert learning(model) == expected
    model(text()).square().sum().backward()
    for layer in (*first.values(), *second.values()):
        assert layer.B.grad.norm(dim=0).all()


def test_adapters_made_by_hand_go_on_learning_too() -> None:
    base, tuned = nn.Linear(4, 4), nn.Linear(4, 4)
    model = nn.Sequential(
        LoRALinear(nn.Linear(4, 4), 2, 4.0),
        extract_lora(base, tuned, 2, 1.0),
        nn.Linear(4, 4),
    )
    inject(model, 2, 4.0, "2")
    assert learning(model) == factors_of("0", "1", "2")
    part = nn.ModuleDict({"first": model, "last": nn.Linear(4, 4)})
    inject(part, 2, 4.0, "last")
    assert learning(part) == factors_of(
        "first.0", "first.1", "first.2", "last"
    )


def shared() -> nn.Module:
    """One layer under three names, one block under two."""
    model = nn.Module()
    model.encoder = nn.Linear(6, 6)
    model.decoder = model.encoder
    model.blocks = nn.ModuleList([nn.Sequential(nn.Linear(6, 6))])
    model.blocks.append(model.blocks[0])
    model.blocks[0].append(model.encoder)
    return model


@pytest.mark.parametrize("targets", ["decoder", "encoder", "all-linear"])
def test_a_shared_layer_is_adapted_under_all_names(targets: str) -> None:
    model = shared()
    found = inject(model, 2, 4.0, targets)
    others = ["blocks.0.0"] if targets == "all-linear" else []
    assert list(found) == ["encoder", *others]
    layer = found["encoder"]
    assert model.decoder is model.encoder is model.blocks[0][1] is layer
    assert model.blocks[1] is model.blocks[0]
    x = torch.randn(3, 6)
    for path in (model.encoder, model.decoder, model.blocks[1]):
        model.zero_grad()
        path(x).square().sum().backward()
        assert layer.B.grad.norm(dim=0).all()
    assert layers(model).keys() == found.keys()
    assert state(model).keys() == factors_of(*found)
    train_all(found)
    y = model.decoder(x), model.blocks[1](x)
    merge(model)
    assert_close((model.decoder(x), model.blocks[1](x)), y)
    assert type(model.encoder) is nn.Linear
    assert model.decoder is model.encoder is model.blocks[1][1]


def test_a_layer_inside_an_adapter_is_not_adapted_again() -> None:
    model = shared()
    model.other = LoRALinear(model.encoder, 2, 4.0)
    with (
        unchanged(model),
        pytest.raises(ValueError, match="decoder: it is the base of the "),
    ):
        inject(model, 2, 4.0, "decoder")
    with unchanged(model), pytest.raises(TypeError, match=r"^other: .*merge"):
        inject(model, 2, 4.0, ("other", "0.0"))
    with pytest.raises(ValueError, match="no layer is named base"):
        find(model, "base")


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.head = nn.Linear(4, 9)
        self.head.weight = self.embed.weight


def two_tied() -> nn.Module:
    model = nn.ModuleDict({n: nn.Linear(4, 4) for n in ("a", "b")})
    model["b"].weight = model["a"].weight
    return model


def tied_normed() -> nn.Module:
    model = nn.ModuleDict({n: nn.Linear(4, 4) for n in ("a", "b")})
    model["b"].weight = model["a"].weight
    nn.utils.parametrizations.spectral_norm(model["b"])
    return model


@pytest.mark.parametrize(
    ("make", "targets", "message"),
    [
        (Tied, ("head",), "head: its weight is tied to that of embed, which"),
        (Tied, ("embed",), "embed: its weight is tied to that of head"),
        (Tied, ("embed", "head"), "copy of its own, or adapt another"),
        (two_tied, "a", "a: its weight is tied to that of b"),
        (tied_normed, "a", "a: its weight is tied to that of b"),
        (tied_normed, "b", "b: its weight is tied to that of a"),
    ],
)
def test_an_adapter_does_not_part_what_is_tied(
    make: Callable[[], nn.Module], targets: object, message: str
) -> None:
    model = make()
    with unchanged(model), pytest.raises(ValueError, match=message):
        inject(model, 2, 4.0, targets)


def test_untied_or_with_a_tied_bias_it_is_adapted() -> None:
    model = Tied()
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    inject(model, 2, 4.0, ("embed", "head"))
    model = nn.ModuleDict({n: nn.Linear(4, 4) for n in ("a", "b")})
    model["b"].bias = model["a"].bias
    inject(model, 2, 4.0, "a")


class Holder(nn.Module):
    """Calls its layer through something that is no submodule."""

    def __init__(self, hold: Callable[[nn.Module], object]) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        vars(self)["held"] = hold(self.layer)


@pytest.mark.parametrize(
    "hold",
    [
        lambda layer: [layer],
        lambda layer: (1, layer),
        lambda layer: {"a": layer},
        lambda layer: {layer},
        lambda layer: layer.forward,
        lambda layer: [layer.__call__],
        lambda layer: layer,
    ],
)
def test_a_layer_that_is_also_held_elsewhere_is_refused(
    hold: Callable[[nn.Module], object],
) -> None:
    model = nn.Sequential(Holder(hold))
    message = r"0\.layer: 0 also holds it in 'held', where the adapter would"
    with unchanged(model), pytest.raises(ValueError, match=message):
        inject(model, 2, 4.0, "layer")
    with pytest.raises(ValueError, match=r"^layer: the model also holds it"):
        inject(model[0], 2, 4.0, "layer")


@pytest.mark.slow
def test_a_model_that_was_compiled_before_is_compiled_again() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    compiled = torch.compile(model, backend="eager")
    x = torch.randn(3, 6)
    before = compiled(x)
    found = inject(compiled, 2, 4.0, ("_orig_mod.0", "2"))
    assert list(found) == ["_orig_mod.0", "_orig_mod.2"]
    train_all(found)
    y = compiled(x)
    assert not torch.allclose(y, before)
    assert_close(y, model(x))
    with disabled(compiled):
        assert_close(compiled(x), before)
    merge(compiled)
    assert_close(compiled(x), y)


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_a_model_that_is_no_longer_made_of_layers_is_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 6))
    exported = torch.export.export(model, (torch.randn(3, 6),)).module()
    for other in (torch.jit.script(model), exported):
        with pytest.raises(TypeError, match=r"^0: there is no adapter for a"):
            inject(other, 2, 4.0, "0")
    traced = torch.fx.symbolic_trace(model)
    found = inject(traced, 2, 4.0, "0")
    train_all(found)
    x = torch.randn(3, 6)
    assert_close(traced(x), found["0"](x))


# Code that reads a layer instead of calling it


@contextmanager
def gradients(model: nn.Module) -> Iterator[None]:
    """Assert that every direction of every adapter gets a gradient."""
    model.zero_grad()
    yield
    for name, layer in layers(model).items():
        moved = layer.A.grad.norm(dim=1) + layer.B.grad.norm(dim=0)
        assert (moved > 0).all(), name


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_reads_the_weight_of_its_output(
    training: bool, batch_first: bool
) -> None:
    model = nn.MultiheadAttention(8, 2, batch_first=batch_first)
    model.train(training)
    found = inject(model, 2, 4.0, "out_proj")
    x = torch.randn(3, 5, 8)
    with gradients(model):
        model(x, x, x)[0].sum().backward()
    train_all(found)
    y = model(x, x, x)[0]
    assert (y - run_disabled(model, x, x, x)[0]).norm() > 0.1 * y.norm()
    with torch.no_grad():
        fast = model(x, x, x, need_weights=False)[0]
    assert_close(fast, y)
    assert_close(merge(model)(x, x, x)[0], y)


def run_disabled(model: nn.Module, *args: Tensor) -> Tensor:
    with disabled(model):
        return model(*args)


@pytest.mark.filterwarnings("ignore:.*nested tensors")
@pytest.mark.parametrize("norm_first", [True, False])
def test_the_fast_path_of_an_encoder_is_the_slow_one(norm_first: bool) -> None:
    """In eval mode it calls no layer, but reads all weights."""
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(
            8, 2, 16, batch_first=True, norm_first=norm_first
        ),
        2,
        enable_nested_tensor=not norm_first,
    ).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = inject(model, 2, 4.0, "all-linear")
    assert len(found) == 6
    x = torch.randn(2, 5, 8)
    padding = torch.tensor([[False] * 3 + [True] * 2, [False] * 5])
    with gradients(model):
        model(x).square().sum().backward()
    train_all(found)
    y = model(x, src_key_padding_mask=padding)
    with torch.no_grad():
        fast = model(x, src_key_padding_mask=padding)
    assert_close(fast[~padding], y[~padding], rtol=1e-4, atol=1e-4)
    merged = merge(model)(x, src_key_padding_mask=padding)
    assert_close(merged[~padding], y[~padding], rtol=1e-4, atol=1e-4)


class FusedKernel(nn.Module):
    """As Mamba's kernels and absorbed attention do: weights only."""

    def __init__(self) -> None:
        super().__init__()
        self.proj, self.out = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        W = self.out.weight @ self.proj.weight
        return F.linear(x, W, self.out.weight @ self.proj.bias + self.out.bias)


class TiedByHand(nn.Module):
    """The output layer is a product with the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix = nn.Embedding(9, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(self.embed(x)) @ self.embed.weight.T


@pytest.mark.parametrize(
    ("make", "x", "targets"),
    [
        (FusedKernel, torch.randn(3, 6), ("proj", "out")),
        (TiedByHand, torch.arange(9), ("embed", "mix")),
    ],
)
def test_code_that_takes_the_weights_sees_the_update(
    make: Callable[[], nn.Module], x: Tensor, targets: tuple[str, ...]
) -> None:
    model = make()
    found = inject(model, 2, 4.0, targets)
    with gradients(model):
        model(x).square().sum().backward()
    train_all(found)
    y = model(x)
    assert not torch.allclose(y, run_disabled(model, x))
    # Sums of many terms: as close as the largest entry can be.
    assert_close(merge(model)(x), y, rtol=0, atol=2e-6 * y.abs().max().item())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_of_transformers_learn_everywhere(
    name: str, dtype: torch.dtype
) -> None:
    """T5 asks for wo.weight.dtype, GPT-2 has Conv1D, Llama grouped queries."""
    model = small_model(name).to(dtype)
    tokens = torch.randint(5, 30, (2, 7))
    # Which attention kernel runs depends on what wants a gradient.
    with torch.no_grad():
        before = logits_of(model, tokens)
    found = inject(model, 2, 4.0, "all-linear")
    assert learning(model) == factors_of(*found)
    with torch.no_grad():
        assert torch.equal(logits_of(model, tokens), before)
    with gradients(model):
        logits_of(model, tokens).float().square().sum().backward()
    if dtype == torch.float32:
        train_all(found)
        y = logits_of(model, tokens)
        assert not torch.allclose(y, before)
        assert_close(run_logits_disabled(model, tokens), before)
        assert_close(logits_of(merge(model), tokens), y, rtol=1e-4, atol=1e-4)


def run_logits_disabled(model: nn.Module, tokens: Tensor) -> Tensor:
    with disabled(model):
        return logits_of(model, tokens)


@newer
def test_gpt2_agrees_with_peft() -> None:
    model = small_model("gpt2")
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=["c_attn", "c_fc", "wpe"],
        fan_in_fan_out=True,
    )
    theirs = peft.get_peft_model(copy.deepcopy(model), config)
    found = inject(model, 3, 5.0, ("c_attn", "c_fc", "wpe"))
    train_all(found)
    for name, layer in found.items():
        other = theirs.base_model.model.get_submodule(name)
        key = "lora_embedding_{}" if "wpe" in name else "lora_{}"
        for factor, value in (("A", layer.A), ("B", layer.B)):
            held = getattr(other, key.format(factor)).default
            getattr(held, "weight", held).data.copy_(value)
    tokens = torch.randint(5, 30, (2, 7))
    assert_close(logits_of(model, tokens), theirs(input_ids=tokens).logits)
    merged = theirs.merge_and_unload()
    ours = merge(model)
    for name, value in merged.state_dict().items():
        assert_close(ours.state_dict()[name], value)


# Whatever is refused leaves the model as it was


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ((2, 4.0, ("q", "nothing")), ValueError, "no layer is named nothing"),
        ((2, 4.0, ()), ValueError, "no layer is named by targets"),
        ((2, 4.0, ("q", "norm1")), TypeError, "blocks.0.norm1: .*LayerNorm"),
        ((2, 4.0, "blocks"), TypeError, "^blocks: .* ModuleList"),
        ((17, 4.0, ("q",)), ValueError, "attention.q: need 1 <= r <= 16"),
        (({"q": 2, "up": 99}, 4.0, ("q", "up")), ValueError, "0.up: .*got 99"),
        ((2, 0.0, ("q",)), ValueError, "attention.q: need a finite alpha"),
        ((2, 4.0, ("q",), 1.0), ValueError, "attention.q: .*dropout < 1"),
        ((2, 4.0, ("q", "embed"), 0.1), ValueError, "embed: .*dropout=0"),
        ((2, 4.0, ("q",), 0, "a"), ValueError, "attention.q: need a scaling"),
        (
            (2, 4.0, ("q",), 0, "alpha/r", (True,) * 5),
            ValueError,
            "attention.q: need the sizes of 5 parts",
        ),
        ((2, 4.0, None), TypeError, "not iterable"),
        ((None, 4.0, "q"), ValueError, "attention.q: need 1 <= r <= 16"),
        ((2, None, "q"), TypeError, "attention.q: '<' not supported"),
    ],
)
def test_a_refused_injection_changes_nothing(
    settings: tuple, error: type[Exception], message: str
) -> None:
    model = tiny().eval()
    model.blocks[0].train()
    model.norm.requires_grad_(False)
    model.norm.register_forward_hook(print)
    # The first of them is frozen, and derived anew, before the next fails.
    nn.utils.prune.random_unstructured(
        model.blocks[0].attention.q, "weight", 0.5
    )
    with unchanged(model), pytest.raises(error, match=message):
        inject(model, *settings)


@pytest.mark.parametrize(
    "error", [RuntimeError, KeyboardInterrupt, MemoryError, SystemExit]
)
def test_whatever_happens_in_the_middle_is_undone(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny()
    inject(model, 2, 4.0, "o")
    # What is frozen before it happens has to learn again.
    model.requires_grad_(True)
    nn.utils.prune.random_unstructured(
        model.blocks[0].attention.q, "weight", 0.5
    )
    real, calls = adapters.adapt, []

    def failing(*args: object, **kwargs: object) -> LoRALayer:
        calls.append(1)
        if len(calls) == 3:
            raise error("in the middle")
        return real(*args, **kwargs)

    monkeypatch.setattr(adapters, "adapt", failing)
    with unchanged(model), pytest.raises(error, match="in the middle"):
        inject(model, 2, 4.0, ("q", "up"))
    assert len(calls) == 3


class Stubborn(nn.ModuleDict):
    """Lets itself be changed once."""

    changes = math.inf

    def __setattr__(self, name: str, value: object) -> None:
        if name in self._modules:
            self.changes -= 1
            if self.changes == 0:
                raise RuntimeError("not here")
        super().__setattr__(name, value)


def test_a_model_that_cannot_be_changed_is_not_half_changed() -> None:
    model = Stubborn({n: nn.Linear(4, 4) for n in "abc"})
    vars(model)["changes"] = 2
    before = [(k, id(m)) for k, m in model._modules.items()]
    with pytest.raises(RuntimeError, match="not here"):
        inject(model, 2, 4.0, tuple("abc"))
    assert [(k, id(m)) for k, m in model._modules.items()] == before
    assert all(p.requires_grad for p in model.parameters())
    vars(model)["changes"] = math.inf
    inject(model, 2, 4.0, tuple("abc"))
    vars(model)["changes"] = 2
    before = [(k, id(m)) for k, m in model._modules.items()]
    with pytest.raises(RuntimeError, match="not here"):
        merge(model)
    assert [(k, id(m)) for k, m in model._modules.items()] == before


# disabled


def test_disabled_computes_what_the_frozen_model_does() -> None:
    model, x = tiny(), text()
    before = model(x)
    train_all(inject(model, 2, 4.0, ("q", "down")))
    assert not torch.allclose(model(x), before)
    with disabled(model):
        assert torch.equal(model(x), before)
    assert not torch.allclose(model(x), before)


def test_each_adapter_is_afterwards_as_before() -> None:
    model = tiny()
    found = inject(model, 2, 4.0, "q")
    one = found["blocks.0.attention.q"]
    one.enabled = False
    one.A.requires_grad_(False)
    with unchanged(model), disabled(model):
        with disabled(model):
            pass
        assert not any(layer.enabled for layer in found.values())
    with unchanged(model), pytest.raises(KeyError), disabled(model):
        raise KeyError


def test_a_repeated_forward_pass_must_be_disabled_too() -> None:
    """Checkpointing repeats it on the way back, when the block has ended."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    inject(model, 2, 4.0, "0")
    x = torch.randn(3, 4, requires_grad=True)
    with disabled(model):
        y = checkpoint(model, x, use_reentrant=False)
        y.sum().backward(retain_graph=True)
    with disabled(model):
        y = checkpoint(model, x, use_reentrant=False)
    with pytest.raises(CheckpointError):
        y.sum().backward()


# merge, state


def test_merge_leaves_a_plain_model_that_computes_the_same() -> None:
    model, x = tiny().eval(), text()
    kinds = [type(m) for m in model.modules()]
    names = list(model.state_dict())
    found = inject(model, 2, 4.0, ("q", "down", "embed"))
    train_all(found)
    y = model(x)
    assert merge(model) is model
    assert [type(m) for m in model.modules()] == kinds
    assert list(model.state_dict()) == names
    assert not learning(model)
    assert not any(m.training for m in model.modules())
    assert_close(model(x), y, rtol=1e-4, atol=1e-4)


def test_an_adapter_alone_is_merged_into_a_layer() -> None:
    layer = LoRALinear(nn.Linear(4, 4), 2, 4.0)
    assert type(merge(layer)) is nn.Linear
    assert list(layers(layer)) == [""]
    assert list(state(layer)) == ["A", "B"]


def test_a_merge_that_is_refused_changes_nothing() -> None:
    model = tiny()
    found = inject(model, 2, 4.0, ("q", "up"))
    found["blocks.1.up"].enabled = False
    with (
        unchanged(model),
        pytest.raises(ValueError, match=r"^blocks\.1\.up: .*disabled"),
    ):
        merge(model)


def test_the_state_is_the_adapters_alone() -> None:
    model = tiny()
    found = inject(model, 2, 4.0, ("q", "embed"))
    train_all(found)
    kept = state(model)
    assert list(kept) == [f"{n}.{f}" for n in found for f in "AB"]
    assert not any(t.requires_grad for t in kept.values())
    full = model.state_dict()
    assert all(torch.equal(t, full[name]) for name, t in kept.items())
    other = copy.deepcopy(model)
    for layer in layers(other).values():
        layer.reset_parameters()
    missing, unexpected = other.load_state_dict(kept, strict=False)
    assert not unexpected
    assert not any(name in kept for name in missing)
    x = text()
    assert torch.equal(other(x), model(x))


@pytest.mark.parametrize(
    "use", [merge, state, lambda m: disabled(m).__enter__()]
)
def test_a_model_without_adapters_is_refused(
    use: Callable[[nn.Module], object],
) -> None:
    """An empty file, or a run that is called disabled, would be a silence."""
    assert layers(tiny()) == {}
    with pytest.raises(ValueError, match="no adapters: need inject first"):
        use(tiny())


# Checkpointing, as the trainers of language models use it


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_models_learn_everywhere(
    name: str, reentrant: bool
) -> None:
    model = small_model(name).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    inject(model, 2, 4.0, "all-linear")
    tokens = torch.randint(5, 30, (2, 7))
    with gradients(model):
        logits_of(model, tokens).square().sum().backward()
    expected = {n: m.B.grad for n, m in layers(model).items()}
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    if reentrant:
        # The older form needs an input that wants a gradient.
        model.enable_input_require_grads()
    with gradients(model):
        logits_of(model, tokens).square().sum().backward()
    for name, layer in layers(model).items():
        assert_close(layer.B.grad, expected[name])


def flags(model: nn.Module) -> list[list[bool]]:
    return [
        [p.requires_grad for p in model.parameters()],
        [m.training for m in model.modules()],
    ]


def test_a_layer_that_is_refused_after_others_were_frozen() -> None:
    """The first has room for the rank, the second has not."""
    model = nn.ModuleDict({"a": nn.Linear(8, 8), "b": nn.Linear(8, 2)})
    before = flags(model)
    with pytest.raises(ValueError, match="1 <= r <= 2"):
        inject(model, 4, 1.0, ("a", "b"))
    assert flags(model) == before
    assert isinstance(model["a"], nn.Linear)


@pytest.mark.parametrize("training", [True, False])
def test_adapters_train_when_the_model_does(training: bool) -> None:
    model = TinyGPT(d=16, layers=1, heads=2, context=8).train(training)
    inject(model, 2, 4.0, ("q", "down"), dropout=0.1)
    assert {m.training for m in model.modules()} == {training}
