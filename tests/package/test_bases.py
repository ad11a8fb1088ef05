"""Layers whose weight is not what it seems: read rightly, or refused."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.utils.prune as prune
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.testing import assert_close

from lorabook import bases
from lorabook.adapters import adapt, inject, merge
from lorabook.factors import extract_lora
from lorabook.layers import LoRALinear

F64 = torch.float64


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def linear() -> nn.Linear:
    return nn.Linear(7, 5, dtype=F64)


def conv() -> nn.Conv2d:
    return nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular", dtype=F64)


class Doubled(nn.Module):
    """A parametrization of a reader's own."""

    def forward(self, W: Tensor) -> Tensor:
        return 2 * W


def own(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Doubled())
    return layer


def biased(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "bias", Doubled())
    return layer


def pruned_twice(layer: nn.Module) -> nn.Module:
    prune.random_unstructured(layer, "weight", 0.3)
    prune.l1_unstructured(layer, "weight", 0.5)
    prune.random_unstructured(layer, "bias", 0.5)
    return layer


DERIVED = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
    "own": own,
    "bias": biased,
    "pruned": lambda m: prune.random_unstructured(m, "weight", 0.5),
    "pruned_twice": pruned_twice,
    "pruned_structured": lambda m: prune.ln_structured(m, "weight", 0.5, 2, 0),
    "old_weight_norm": pytest.param(
        nn.utils.weight_norm,
        marks=pytest.mark.filterwarnings("ignore::FutureWarning"),
    ),
    "old_spectral_norm": nn.utils.spectral_norm,
}
derived = pytest.mark.parametrize("derive", DERIVED.values(), ids=DERIVED)
Derive = Callable[[nn.Module], nn.Module]


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in module.state_dict().items()}


def assert_bits(module: nn.Module, before: dict[str, Tensor]) -> None:
    state = module.state_dict()
    assert state.keys() == before.keys()
    for name, value in state.items():
        assert torch.equal(value, before[name]), name


@derived
@pytest.mark.parametrize("make", [linear, conv])
def test_a_derived_weight_is_adapted_and_merged(
    derive: Derive, make: Callable[[], nn.Module]
) -> None:
    base = derive(make()).eval()
    x = torch.randn(3, 7) if make is linear else torch.randn(3, 2, 6, 6)
    x = x.to(F64)
    before = bits(base), base(x)
    layer = adapt(base, 2, 3.0)
    assert_close(layer(x), before[1])
    nn.init.normal_(layer.B)
    y = layer(x)
    assert (y - before[1]).norm() > 0.1 * y.norm()
    merged = layer.merge()
    assert type(merged) is make().__class__
    assert set(merged.state_dict()) == {"weight", "bias"}
    assert not merged._forward_pre_hooks
    assert_close(merged(x), y)
    assert_close(merged.weight, layer.weight)
    # Neither reading nor merging has changed what it was made from.
    assert_bits(base, before[0])
    assert_close(base(x), before[1])
    assert_close(layer(x), y)


@derived
def test_what_a_weight_is_derived_from_is_frozen(derive: Derive) -> None:
    base = derive(linear())
    layer = LoRALinear(base, 2, 3.0)
    nn.init.normal_(layer.B)
    # What had been derived before is no way around, nor in the way.
    layer.weight.sum().backward()
    copy.deepcopy(layer)
    learning = {n for n, p in layer.named_parameters() if p.requires_grad}
    assert learning == {"A", "B"}
    layer(torch.randn(3, 7, dtype=F64)).square().sum().backward()
    assert layer.A.grad.any()
    assert {n for n, p in layer.named_parameters() if p.grad is not None} == {
        "A",
        "B",
    }


@derived
@pytest.mark.parametrize("training", [True, False])
def test_refusing_and_merging_touch_no_bit(
    derive: Derive, training: bool
) -> None:
    """In training a look at spectral_norm's weight moves its vectors on."""
    base = derive(linear()).train(training)
    before, was = bits(base), flags(base)
    with pytest.raises(ValueError, match="need 1 <= r <= 5, got 6"):
        LoRALinear(base, 6, 3.0)
    assert_bits(base, before)
    assert flags(base) == was
    layer = LoRALinear(base, 2, 3.0)
    was = flags(base)
    layer.merge()
    assert_bits(base, before)
    assert flags(base) == was
    assert {m.training for m in base.modules()} == {training}


def test_a_part_in_another_mode_keeps_it() -> None:
    """Somebody has stopped the power iteration of this layer alone."""
    base = nn.utils.parametrizations.spectral_norm(linear())
    base.parametrizations.eval()
    modes = [m.training for m in base.modules()]
    layer = LoRALinear(base, 2, 3.0)
    layer.merge()
    assert [m.training for m in base.modules()] == modes


@derived
def test_a_derived_weight_can_be_extracted_from(derive: Derive) -> None:
    base, tuned = derive(linear()).eval(), derive(linear()).eval()
    x = torch.randn(3, 7, dtype=F64)
    layer = extract_lora(base, tuned, 5, 2.0)
    weight = layer.merge().weight
    assert_close(x @ weight.T + tuned.bias, tuned(x))


@derived
def test_a_weight_that_has_moved_is_extracted_as_it_is_now(
    derive: Derive,
) -> None:
    """Pruning and the old hooks leave that of the last call lying about."""
    base, tuned = derive(linear()).eval(), derive(linear()).eval()
    with torch.no_grad():
        for p in (*base.parameters(), *tuned.parameters()):
            p.add_(torch.randn_like(p))
    layer = extract_lora(base, tuned, 5, 2.0)
    x = torch.randn(3, 7, dtype=F64)
    assert_close(layer(x) - base.bias, tuned(x) - tuned.bias)


def test_a_derived_layer_in_a_model_can_be_copied_and_merged() -> None:
    model = nn.Sequential(
        pruned_twice(linear()), own(nn.Linear(5, 5).double())
    )
    inject(model, 2, 3.0, ("0", "1"))
    for layer in model:
        nn.init.normal_(layer.B)
    x = torch.randn(3, 7, dtype=F64)
    y = model(x)
    assert_close(copy.deepcopy(model)(x), y)
    assert_close(merge(model)(x), y)
    assert [type(m) for m in model] == [nn.Linear, nn.Linear]


# Refused, in words


class Packed(nn.Linear):
    """As bitsandbytes packs: two numbers in a byte."""

    def __init__(self) -> None:
        super().__init__(64, 64, bias=False)
        packed = torch.zeros(64 * 64 // 2, 1, dtype=torch.uint8)
        self.weight = nn.Parameter(packed, requires_grad=False)


class ScaledEmbedding(nn.Embedding):
    """As Gemma scales: an adapter outside would be too small."""

    def forward(self, input: Tensor) -> Tensor:
        return 8 * super().forward(input)


class Standardised(nn.Conv2d):
    def _conv_forward(
        self, input: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        return super()._conv_forward(input, weight - weight.mean(), bias)


def with_weight(W: Tensor) -> nn.Linear:
    layer = nn.Linear(4, 4)
    layer.weight = nn.Parameter(W, requires_grad=False)
    return layer


def watched() -> nn.Linear:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda *args: None)
    return layer


def watched_backward() -> nn.Linear:
    layer = nn.Linear(4, 4)
    layer.register_full_backward_hook(lambda *args: None)
    return layer


def watched_before_backward() -> nn.Linear:
    layer = nn.Linear(4, 4)
    layer.register_full_backward_pre_hook(lambda *args: None)
    return layer


def watched_before() -> nn.Linear:
    layer = prune.random_unstructured(nn.Linear(4, 4), "weight", 0.5)
    layer.register_forward_pre_hook(lambda *args: None)
    return layer


def patched() -> nn.Linear:
    layer = nn.Linear(4, 4)
    layer.forward = lambda x: x
    return layer


def computed_by_hand() -> nn.Linear:
    layer = nn.Linear(4, 4)
    del layer.weight
    layer.weight = torch.randn(4, 4)
    return layer


def inferred() -> nn.Linear:
    with torch.inference_mode():
        return nn.Linear(4, 4)


def quantised() -> nn.Linear:
    return with_weight(
        torch.quantize_per_tensor(torch.randn(4, 4), 0.1, 0, torch.qint8)
    )


def wrapped() -> nn.Linear:
    from torch.testing._internal.two_tensor import TwoTensor

    return with_weight(TwoTensor(torch.randn(4, 4), torch.randn(4, 4)))


def sparse(layout: str) -> nn.Linear:
    return with_weight(getattr(torch.eye(4), f"to_sparse{layout}")())


REFUSED = {
    "lazy": (lambda: nn.LazyLinear(4), "LazyLinear has no weight yet: run"),
    "lazy_conv": (lambda: nn.LazyConv2d(4, 3), "LazyConv2d has no weight"),
    "packed": (Packed, "Packed is quantised .* uint8, allowed are float16"),
    "float8": (
        lambda: with_weight(torch.eye(4).to(torch.float8_e4m3fn)),
        "holds float8_e4m3fn, allowed are float16, bfloat16, float32, float64",
    ),
    "float8_e5m2": (
        lambda: with_weight(torch.eye(4).to(torch.float8_e5m2)),
        "holds float8_e5m2",
    ),
    "int8": (
        lambda: with_weight(torch.eye(4).to(torch.int8)),
        "holds int8, allowed",
    ),
    "quantised": (quantised, "holds qint8, allowed"),
    "bool": (lambda: with_weight(torch.eye(4).bool()), "holds bool"),
    "complex": (
        lambda: nn.Linear(4, 4, dtype=torch.complex64),
        "holds complex64",
    ),
    "sparse": (lambda: sparse(""), "sparse.*torch.sparse_coo.*need a dense"),
    "sparse_csr": (lambda: sparse("_csr"), "torch.sparse_csr"),
    "wrapped": (wrapped, "packed or spread .*TwoTensor"),
    "sharded": (lambda: with_weight(torch.empty(0)), r"the shape \(0,\)"),
    "empty": (lambda: with_weight(torch.empty(0, 4)), r"the shape \(0, 4\)"),
    "flat": (
        lambda: with_weight(torch.ones(16)),
        r"the shape \(16,\): need 2",
    ),
    "scaled": (lambda: ScaledEmbedding(4, 4), "forward of its own.*ADAPTED"),
    "standardised": (
        lambda: Standardised(4, 4, 3),
        "Standardised has a _conv_forward of its own",
    ),
    "watched": (watched, "hooks .* remove them, and put them on the adapter"),
    "watched_backward": (watched_backward, "hooks or a replaced forward"),
    "watched_before_backward": (
        watched_before_backward,
        "hooks or a replaced forward",
    ),
    "watched_before": (watched_before, "hooks or a replaced forward"),
    "patched": (patched, "hooks or a replaced forward"),
    "by_hand": (computed_by_hand, "is no parameter, nor made by"),
    "max_norm": (
        lambda: nn.Embedding(4, 4, max_norm=1.0),
        "rewrites its weight as it runs: need max_norm=None",
    ),
    "inference": (inferred, "inside inference_mode"),
    "conv3d": (lambda: nn.Conv3d(4, 4, 1), "no adapter for a Conv3d; there"),
    "lstm": (lambda: nn.LSTM(4, 4), "no adapter for a LSTM"),
    "attention": (
        lambda: nn.MultiheadAttention(4, 2),
        "no adapter for a MultiheadAttention; there are some for Linear, "
        "QuantizedLinear, Embedding, Conv2d and Conv1D",
    ),
    "norm": (lambda: nn.LayerNorm(4), "no adapter for a LayerNorm"),
    "prelu": (nn.PReLU, "no adapter for a PReLU"),
    "dynamic": (
        lambda: torch.ao.nn.quantized.dynamic.Linear(4, 4),
        "no adapter for a Linear",
    ),
    "qat": (
        lambda: torch.ao.nn.qat.Linear(
            4, 4, qconfig=torch.ao.quantization.get_default_qat_qconfig()
        ),
        "forward of its own",
    ),
}


def flags(module: nn.Module) -> list[object]:
    """Everything but numbers: what refuses may not change it either."""
    return [
        (
            id(m),
            m.training,
            [
                (n, id(p), p.requires_grad)
                for n, p in m._parameters.items()
                if p is not None
            ],
            [(n, id(b)) for n, b in m._buffers.items()],
            [(n, [*getattr(m, n)]) for n in vars(m) if n.endswith("hooks")],
            [(n, id(v)) for n, v in vars(m).items() if n not in bases.HOOKS],
        )
        for m in module.modules()
    ]


@pytest.mark.filterwarnings("ignore:.*deprecated.*")
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_adapted_is_refused_and_left_as_it_was(
    make: Callable[[], nn.Module], message: str
) -> None:
    base = make()
    before = flags(base)
    with pytest.raises(TypeError, match=message) as caught:
        adapt(base, 1, 1.0)
    assert "\n" not in str(caught.value)
    assert flags(base) == before
    model = nn.ModuleDict({"first": nn.Linear(4, 4), "second": base})
    before = flags(model)
    with pytest.raises(TypeError, match=f"^second: .*{message}"):
        inject(model, 1, 1.0, ("first", "second"))
    assert flags(model) == before


def test_inside_inference_mode_nothing_is_adapted() -> None:
    base = nn.Linear(4, 4)
    with (
        torch.inference_mode(),
        pytest.raises(TypeError, match="need to do so outside"),
    ):
        adapt(base, 1, 1.0)
    with torch.no_grad():
        layer = adapt(base, 1, 1.0)
    layer(torch.ones(4)).sum().backward()
    assert layer.B.grad.any()


def test_a_lazy_layer_that_has_run_is_like_any_other() -> None:
    base = nn.LazyLinear(4)
    base(torch.ones(2, 3))
    assert adapt(base, 1, 1.0)(torch.ones(2, 3)).shape == (2, 4)


def test_a_subclass_that_computes_the_same_is_adapted() -> None:
    class Named(nn.Linear):
        """Only named otherwise."""

    layer = adapt(Named(4, 4), 2, 1.0)
    assert isinstance(layer, LoRALinear)
    assert type(layer.merge()) is Named
