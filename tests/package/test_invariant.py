"""Whatever is built in whatever way: every direction of it can learn.

And through every path on which the adapted layer is used. A model with all
kinds of layers, used in all kinds of ways, is adapted in all kinds of ways.
"""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.utils.prune as prune
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from lorabook.adapters import disabled, inject, layers, merge
from lorabook.factors import extract_lora, resize_lora
from lorabook.layers import LoRAEmbedding, LoRALayer

WORDS = torch.tensor([[0, 3, 2, 8], [3, 5, 7, 1]])
Path = Callable[["Zoo"], Tensor]


class Zoo(nn.Module):
    """Layers of all kinds, of 6 features each."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 6)
        self.first = nn.Linear(6, 6)
        self.second = self.first
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(6, 6))] * 2)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(
            6, 2, 8, dropout=0.0, batch_first=True
        )
        self.conv = nn.Conv2d(1, 6, 3, padding=1, padding_mode="reflect")
        self.grouped = nn.Conv2d(2, 6, 3, groups=2, bias=False)
        self.fused = Conv1D(18, 6)
        self.normed = nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
        # Frozen, or PyTorch could not copy it where it is not adapted.
        self.pruned = nn.Linear(6, 6).requires_grad_(False)
        prune.l1_unstructured(self.pruned, "weight", 0.3)
        self.read = nn.Linear(6, 6)
        self.x = torch.randn(2, 4, 6)

    def input(self) -> Tensor:
        return self.x.to(self.first.weight.dtype)


# Each path, and the layer that it uses, under its first name.
PATHS: dict[str, tuple[Path, tuple[str, ...]]] = {
    "embed": (lambda m: m.embed(WORDS), ("embed",)),
    "tied by hand": (lambda m: m.input() @ m.embed.weight.T, ("embed",)),
    "first": (lambda m: m.first(m.input()), ("first",)),
    "second": (lambda m: m.second(m.input()[0, 0]), ("first",)),
    "block": (lambda m: m.blocks[0](m.input()), ("blocks.0.0",)),
    "block again": (lambda m: m.blocks[1](m.input()), ("blocks.0.0",)),
    "attention": (
        lambda m: m.attention(m.input(), m.input(), m.input())[0],
        ("attention.out_proj",),
    ),
    "encoder": (
        lambda m: m.encoder(m.input()),
        (
            "encoder.self_attn.out_proj",
            "encoder.linear1",
            "encoder.linear2",
        ),
    ),
    "conv": (lambda m: m.conv(m.input()[:, None]), ("conv",)),
    "grouped": (lambda m: m.grouped(m.input()), ("grouped",)),
    "fused": (lambda m: m.fused(m.input()), ("fused",)),
    "normed": (lambda m: m.normed(m.input()), ("normed",)),
    "pruned": (lambda m: m.pruned(m.input()), ("pruned",)),
    "read": (lambda m: F.linear(m.input(), m.read.weight), ("read",)),
}
NAMES = list(dict.fromkeys(n for _, names in PATHS.values() for n in names))
LINEAR = [n for n in NAMES if n not in ("embed", "conv", "grouped", "fused")]
# A target need not be the first name of a layer.
OTHER_NAMES = {"first": "second", "blocks.0.0": "blocks.1.0"}


def put(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer everywhere where another one was."""
    old = model.get_submodule(name)
    for parent in list(model.modules()):
        for key, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, key, layer)


def by_extraction(model: Zoo, names: list[str], r: int, rank: int) -> None:
    """Adapt each by the difference to a copy that was moved in `rank`."""
    for name in names:
        base = model.get_submodule(name)
        tuned = nn.Linear(base.in_features, base.out_features)
        tuned.to(base.weight.dtype)
        delta = torch.randn(base.out_features, rank) @ torch.randn(
            rank, base.in_features
        )
        with torch.no_grad():
            tuned.weight.copy_(base.weight + delta)
        put(model, name, extract_lora(base, tuned, r, 2.0))
    factors = {p for m in layers(model).values() for p in (m.A, m.B)}
    for p in model.parameters():
        p.requires_grad_(p in factors)


def assert_invariant(model: Zoo, names: list[str], repeated: bool) -> None:
    """Assert the invariant for the layers of these (first) names."""
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learning == {
        f"{name}.{factor}" for name in names for factor in "AB"
    }
    frozen = {
        n: t.clone()
        for n, t in model.state_dict().items()
        # The vectors of spectral_norm go on moving in training, as before.
        if n not in learning and not n.endswith(("_u", "_v"))
    }
    for path, used in PATHS.values():
        model.zero_grad()
        y = (
            checkpoint(path, model, use_reentrant=False)
            if repeated
            else path(model)
        )
        if not set(used) & set(names):
            continue
        y.backward(torch.randn_like(y))
        for name in set(used) & set(names):
            layer = model.get_submodule(name)
            assert isinstance(layer, LoRALayer)
            for factor in (layer.A, layer.B):
                assert factor.grad.isfinite().all()
            # Each part of a fused layer has directions of its own.
            n = len(layer.A) // layer.r
            moved = layer.A.grad.norm(dim=1)
            for part, grad in enumerate(layer.B.grad.chunk(n)):
                rows = slice(part * layer.r, (part + 1) * layer.r)
                moved[rows] += grad.norm(dim=0)
            assert (moved > 0).all(), (name, moved)
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p.sub_(0.1 * p.grad)
    for n, t in model.state_dict().items():
        assert n not in frozen or torch.equal(t, frozen[n])


ways = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "names": st.sets(st.sampled_from(NAMES), min_size=1),
        "split": st.integers(0, len(NAMES)),
        "r": st.integers(1, 6),
        "resized": st.sampled_from([None, 1, 2, 3, 6]),
        "rank": st.integers(0, 3),
        "way": st.sampled_from(["inject", "extract"]),
        "scaling": st.sampled_from(["alpha/r", "alpha/sqrt(r)"]),
        "dtype": st.sampled_from([torch.float32, torch.float64]),
        "training": st.booleans(),
        "copied": st.booleans(),
        "repeated": st.booleans(),
    }
)


@given(ways)
@settings(max_examples=40)
def test_every_direction_learns_through_every_path(way: dict) -> None:
    torch.manual_seed(way["seed"])
    model = Zoo().to(way["dtype"]).train(way["training"])
    names = sorted(way["names"], key=NAMES.index)
    if way["way"] == "extract":
        names = [n for n in names if n in LINEAR] or ["first"]
        by_extraction(model, names, way["r"], way["rank"])
    else:
        targets = [OTHER_NAMES.get(n, n) for n in names]
        for some in (targets[: way["split"]], targets[way["split"] :]):
            rest = [n for n in some if n != "fused"]
            # A convolution here has as few as nine numbers in a window.
            r = min(way["r"], 2) if "grouped" in some else way["r"]
            if rest:
                inject(model, r, 2.0, rest, scaling=way["scaling"])
            if "fused" in some:
                inject(model, r, 2.0, "fused", parts=(True, False, True))
    if way["resized"]:
        for name, layer in layers(model).items():
            put(model, name, resize_lora(layer, way["resized"], 1.0))
    if way["copied"]:
        model = copy.deepcopy(model)
    assert_invariant(model, names, way["repeated"])


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=10)
@example(0, True)
def test_all_at_once_computes_the_same_in_every_way(
    seed: int, training: bool
) -> None:
    torch.manual_seed(seed)
    model = Zoo().double().train(training)
    # PyTorch takes another product, which may round otherwise, for a weight
    # that learns: how the bits come out is no question of the adapter.
    model.requires_grad_(False)
    # Until its vectors rest, spectral_norm moves with every call.
    model.normed.eval()
    with torch.no_grad():
        before = [path(model) for path, _ in PATHS.values()]
    inject(model, 2, 3.0, [n for n in NAMES if n != "fused"])
    inject(model, 2, 3.0, "fused", parts=(True, False, True))
    with torch.no_grad():
        for y, (path, _) in zip(before, PATHS.values(), strict=True):
            assert torch.equal(path(model), y)
    for layer in layers(model).values():
        nn.init.normal_(layer.A)
        nn.init.normal_(layer.B)
    after = [path(model) for path, _ in PATHS.values()]
    with torch.no_grad():  # where PyTorch may read instead of call
        for y, old, (path, _) in zip(
            after, before, PATHS.values(), strict=True
        ):
            assert_close(path(model), y)
            assert not torch.allclose(y, old)
            with disabled(model):
                assert_close(path(model), old)
    merge(model)
    for y, (path, _) in zip(after, PATHS.values(), strict=True):
        assert_close(path(model), y)
    assert not layers(model)


def test_the_zoo_has_a_path_to_each_layer() -> None:
    model = Zoo()
    found = inject(model, 1, 1.0, NAMES)
    assert list(found) == sorted(
        NAMES, key=list(dict(model.named_modules())).index
    )
    assert any(isinstance(m, LoRAEmbedding) for m in found.values())


@pytest.mark.parametrize("dead", ["A", "B", "detached"])
def test_the_invariant_notices_what_cannot_learn(dead: str) -> None:
    model = Zoo()
    layer = inject(model, 2, 1.0, "first")["first"]
    if dead == "detached":
        layer.update = lambda x: x.new_zeros(x.shape)
    else:
        layer.A.data[1] = 0
        layer.B.data[:, 1] = 0
    with pytest.raises((AssertionError, RuntimeError)):
        assert_invariant(model, ["first"], False)
