"""Factors in place of a matrix, and adapters made out of matrices."""

import copy
import math

import pytest
import torch
from adapted import CASES, Case
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from lorabook.adapters import inject
from lorabook.factors import LowRankLinear, extract_lora, resize_lora
from lorabook.layers import LoRALayer, LoRALinear
from lorabook.linalg import truncated_svd
from lorabook.measure import count_flops

F64 = torch.float64
sizes = st.integers(1, 8)
seeds = st.integers(0, 2**32 - 1)
every_kind = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def trained_lora(
    d_in: int = 7,
    d_out: int = 5,
    r: int = 3,
    alpha: float = 6.0,
    dtype: torch.dtype = F64,
) -> LoRALinear:
    """Return a layer as after training: B is no longer zero."""
    layer = LoRALinear(nn.Linear(d_in, d_out, dtype=dtype), r, alpha)
    nn.init.normal_(layer.B)
    return layer


# LowRankLinear


@given(sizes, sizes, seeds, st.booleans())
def test_factored_is_dense_with_the_product(
    d_in: int, d_out: int, seed: int, bias: bool
) -> None:
    torch.manual_seed(seed)
    r = 1 + seed % min(d_in, d_out)
    layer = LowRankLinear(d_in, d_out, r, bias, dtype=torch.float64)
    x = torch.randn(2, 3, d_in, dtype=torch.float64)
    y = x @ layer.weight().T + (layer.bias if bias else 0)
    assert_close(layer(x), y)
    assert torch.linalg.matrix_rank(layer.weight()) <= r


def test_factored_parameters_are_the_factors_and_the_bias() -> None:
    shapes = {n: tuple(p.shape) for n, p in _parameters(7, 5, 3, True)}
    assert shapes == {"A": (3, 7), "B": (5, 3), "bias": (5,)}
    assert [n for n, _ in _parameters(7, 5, 3, False)] == ["A", "B"]


def _parameters(*args) -> list[tuple[str, nn.Parameter]]:
    return list(LowRankLinear(*args).named_parameters())


@given(sizes, sizes, seeds, st.booleans())
def test_from_dense_holds_the_best_approximation(
    d_in: int, d_out: int, seed: int, bias: bool
) -> None:
    torch.manual_seed(seed)
    r = 1 + seed % min(d_in, d_out)
    dense = nn.Linear(d_in, d_out, bias, dtype=torch.float64)
    layer = LowRankLinear.from_dense(dense, r)
    U, S, Vh = truncated_svd(dense.weight.detach(), r)
    assert_close(layer.weight(), U * S @ Vh)
    # Balanced: both factors carry the same spectrum.
    assert_close(layer.B.T @ layer.B, layer.A @ layer.A.T)
    assert_close(layer.B.T @ layer.B, torch.diag(S))
    assert (layer.bias is not None) == bias


def test_from_dense_of_full_rank_computes_the_same() -> None:
    torch.manual_seed(0)
    dense = nn.Linear(6, 4, dtype=torch.float64)
    x = torch.randn(9, 6, dtype=torch.float64)
    assert_close(LowRankLinear.from_dense(dense, 4)(x), dense(x))


def test_from_dense_copies_and_can_be_trained() -> None:
    dense = nn.Linear(6, 4).requires_grad_(False)
    before = copy.deepcopy(dense.state_dict())
    layer = LowRankLinear.from_dense(dense, 2)
    assert all(p.requires_grad and p.is_leaf for p in layer.parameters())
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(1)
    for name, value in dense.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16]
)
def test_from_dense_keeps_dtype_and_device(dtype: torch.dtype) -> None:
    dense = nn.Linear(6, 4, dtype=dtype)
    with torch.device("meta"):  # whatever is the default
        layer = LowRankLinear.from_dense(dense, 2)
    assert {(p.dtype, p.device.type) for p in layer.parameters()} == {
        (dtype, "cpu")
    }
    assert layer(torch.ones(6, dtype=dtype)).dtype == dtype


def test_factored_describes_itself() -> None:
    text = repr(LowRankLinear(7, 5, 3))
    assert text == "LowRankLinear(d_in=7, d_out=5, r=3, bias=True)"


@pytest.mark.parametrize("bias", [True, False])
def test_factored_is_made_where_it_is_told(bias: bool) -> None:
    layer = LowRankLinear(7, 5, 3, bias, device="meta", dtype=torch.float16)
    assert {p.device.type for p in layer.parameters()} == {"meta"}
    assert {p.dtype for p in layer.parameters()} == {torch.float16}


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_what_is_cut_from_a_weight_of_low_rank_can_learn(rank: int) -> None:
    """With both factors at zero a direction would never move."""
    dense = nn.Linear(6, 4, dtype=F64)
    M = torch.randn(4, rank, dtype=F64) @ torch.randn(rank, 6, dtype=F64)
    dense.weight.data = M
    layer = LowRankLinear.from_dense(dense, 3)
    assert_close(layer.weight(), M)
    layer(torch.randn(9, 6, dtype=F64)).square().sum().backward()
    assert (layer.A.grad.norm(dim=1) + layer.B.grad.norm(dim=0) > 1e-6).all()


@pytest.mark.parametrize("r", [0, 6, -1, 1.0, True])
def test_the_rank_must_fit(r: object) -> None:
    with pytest.raises(ValueError, match=r"need 1 <= r <= 5, got"):
        LowRankLinear(7, 5, r)
    with pytest.raises(ValueError, match=r"need 1 <= r <= 5, got"):
        LowRankLinear.from_dense(nn.Linear(7, 5), r)


# extract_lora


def tuned_as(base: nn.Module, delta: Tensor) -> nn.Module:
    tuned = copy.deepcopy(base)
    tuned.weight = nn.Parameter(base.weight + delta)
    return tuned


@given(sizes, sizes, seeds)
def test_the_error_of_an_extracted_adapter_is_the_tail(
    d_in: int, d_out: int, seed: int
) -> None:
    torch.manual_seed(seed)
    base, tuned = (nn.Linear(d_in, d_out, dtype=F64) for _ in range(2))
    difference = (tuned.weight - base.weight).detach()
    s = torch.linalg.svdvals(difference)
    r = 1 + seed % min(d_in, d_out)
    layer = extract_lora(base, tuned, r, alpha=3.0)
    left = difference - layer.delta_weight()
    assert_close(left.norm(), s[r:].norm(), rtol=1e-9, atol=1e-12)
    assert_close(layer.B.T @ layer.B, layer.A @ layer.A.T)


single = [name for name, case in CASES.items() if not case.settings]


@pytest.mark.parametrize("name", single)
def test_at_full_rank_the_extracted_adapter_is_the_tuned_layer(
    name: str,
) -> None:
    case = CASES[name]
    base = case.base()
    tuned = tuned_as(base, torch.randn_like(base.weight))
    before = copy.deepcopy(base.state_dict()), copy.deepcopy(tuned)
    r = min(case.new().in_features, case.new().out_features)
    layer = extract_lora(base, tuned, r, alpha=0.5)
    x = case.input(F64)
    assert_close(layer(x), tuned(x))
    assert layer.base is base
    for key, value in base.state_dict().items():
        assert torch.equal(before[0][key], value)
    assert torch.equal(before[1].weight, tuned.weight)
    assert tuned.weight.requires_grad
    assert [n for n, p in layer.named_parameters() if p.requires_grad] == [
        "A",
        "B",
    ]


@pytest.mark.parametrize("alpha", [0.25, 1.0, 16.0])
@pytest.mark.parametrize("scaling", ["alpha/r", "alpha/sqrt(r)"])
def test_the_scale_is_absorbed(alpha: float, scaling: str) -> None:
    base, tuned = (nn.Linear(6, 4, dtype=F64) for _ in range(2))
    layer = extract_lora(base, tuned, 2, alpha, scaling)
    expected = extract_lora(base, tuned, 2, 2.0).delta_weight()
    assert layer.scale == alpha / (2 if scaling == "alpha/r" else 2**0.5)
    assert_close(layer.delta_weight(), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_decomposed_in_float32(dtype: torch.dtype) -> None:
    base, tuned = (nn.Linear(6, 4, dtype=dtype) for _ in range(2))
    layer = extract_lora(base, tuned, 4, 4.0)
    assert layer.A.dtype == layer.B.dtype == torch.float32
    difference = tuned.weight.float() - base.weight.float()
    assert_close(layer.delta_weight(), difference)
    assert resize_lora(layer.to(dtype), 4, 2.0).A.dtype == torch.float32


@pytest.mark.parametrize("alpha", [1e-6, 4e3])
def test_a_small_update_of_a_float16_layer_is_found(alpha: float) -> None:
    base = nn.Linear(64, 64, bias=False).half()
    D = torch.randn(64, 4) @ torch.randn(4, 64) * 1e-5
    layer = extract_lora(base, tuned_as(base.float(), D), 4, alpha)
    layer.base.half()
    assert (layer.delta_weight() - D).norm() < 1e-3 * D.norm()
    halved = copy.deepcopy(layer).half()
    assert (halved.delta_weight() - D).norm() < 1e-2 * D.norm()


def test_a_small_direction_of_a_large_layer_is_no_rounding() -> None:
    """What rounding leaves of a zero grows like the root of a side."""
    n, small = 512, 2e-5
    U, V = (torch.linalg.qr(torch.randn(n, 2)).Q for _ in range(2))
    D = U * torch.tensor([1.0, small]) @ V.T
    assert n**0.5 < small / torch.finfo(D.dtype).eps < n
    base, dense = nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)
    nn.init.zeros_(base.weight)
    dense.weight.data = D
    layer = extract_lora(base, dense, 2, 1.0)
    for found in (
        layer.delta_weight(),
        resize_lora(layer, 2, 3.0).delta_weight(),
        LowRankLinear.from_dense(dense, 2).weight(),
    ):
        assert (found - D).norm() < 0.2 * small


def refused(base: nn.Module) -> list[object]:
    return [(id(p), p.requires_grad, p.clone()) for p in base.parameters()]


@pytest.mark.parametrize(
    ("tuned", "settings", "message"),
    [
        (nn.Linear(6, 5), (2, 1.0), r"\(4, 6\) and \(5, 6\)"),
        (nn.Linear(6, 4), (5, 1.0), "1 <= r <= 4, got 5"),
        (nn.Linear(6, 4), (2, 0.0), "alpha > 0, got 0"),
        (nn.Linear(6, 4), (2, 1.0, "no"), "need a scaling of"),
        (
            nn.Conv2d(6, 4, 1),
            (2, 1.0),
            "kind Linear or QuantizedLinear, got a Conv2d",
        ),
        (nn.LazyLinear(4), (2, 1.0), "LazyLinear has no weight yet"),
        (
            tuned_as(nn.Linear(6, 4), torch.tensor(math.nan)),
            (2, 1.0),
            "not finite",
        ),
        (
            tuned_as(nn.Linear(6, 4), torch.tensor(math.inf)),
            (2, 1.0),
            "not finite",
        ),
        (None, (2, 1.0), "kind Linear or QuantizedLinear, got a NoneType"),
    ],
)
def test_a_refused_extraction_leaves_the_base_as_it_was(
    tuned: nn.Module, settings: tuple, message: str
) -> None:
    base = nn.Linear(6, 4)
    base.bias.requires_grad_(False)
    before = refused(base)
    with pytest.raises((ValueError, TypeError), match=message):
        extract_lora(base, tuned, *settings)
    for (i, flag, value), (j, was, old) in zip(
        refused(base), before, strict=True
    ):
        assert (i, flag) == (j, was)
        assert torch.equal(value, old)


# resize_lora


@given(sizes, sizes, seeds)
def test_a_resized_adapter_is_the_nearest(
    d_in: int, d_out: int, seed: int
) -> None:
    torch.manual_seed(seed)
    full = min(d_in, d_out)
    layer = trained_lora(d_in, d_out, full)
    r = 1 + seed % full
    resized = resize_lora(layer, r, alpha=5.0)
    delta = layer.delta_weight().detach()
    U, S, Vh = truncated_svd(delta, r)
    assert_close(resized.delta_weight(), U * S @ Vh)
    assert (resized.r, resized.alpha) == (r, 5.0)
    assert resized.base is layer.base
    assert_close(layer.delta_weight(), delta)


@every_kind
def test_resizing_every_kind(case: Case) -> None:
    layer = case.trained(scaling="alpha/sqrt(r)")
    x = case.input(F64)
    same = resize_lora(layer, 2, 1.0)
    assert type(same) is type(layer)
    assert same.scaling == "alpha/sqrt(r)"
    assert_close(same(x), layer(x))
    smaller = resize_lora(layer, 1, 1.0)
    for (B, A), (old_B, old_A) in zip(
        smaller.blocks(), layer.blocks(), strict=True
    ):
        M = layer.scale * old_B @ old_A
        if not M.any():
            continue
        U, S, Vh = truncated_svd(M.detach(), 1)
        assert_close(smaller.scale * B @ A, U * S @ Vh)
        assert_close(B.T @ B, A @ A.T)


@every_kind
def test_an_adapter_can_grow_and_then_learns_in_every_direction(
    case: Case,
) -> None:
    small = case.trained(1)
    layer = resize_lora(small, 2, 7.0)
    x = case.input(F64)
    assert_close(layer(x), small(x))
    layer(x).square().sum().backward()
    moved = layer.A.grad.norm(dim=1) + sum(
        B.norm(dim=0).repeat(len(layer.A) // 2)
        for B in layer.B.grad.split(len(layer.B.grad) // (len(layer.A) // 2))
    )
    assert (moved > 1e-9).all()


@every_kind
def test_an_untrained_adapter_stays_one_that_can_learn(case: Case) -> None:
    layer = resize_lora(case.new(), 1, 1.0)
    x = case.input(F64)
    assert torch.equal(layer(x), layer.base(x))
    layer(x).square().sum().backward()
    assert layer.A.grad.any() != layer.B.grad.any()


def test_resizing_never_forms_the_update() -> None:
    layer = trained_lora(d_in=300, d_out=200, r=4)
    # At most the QR factors are multiplied: 2 (m + n) r^2 and the core.
    flops = count_flops(resize_lora, layer, 2, 1.0, products_only=True)
    assert 0 < flops <= 2 * (300 + 200) * 4**2 + 2 * 4**3


@every_kind
def test_resizing_keeps_what_was_set(case: Case) -> None:
    p = 0.25 if case.new().can_drop(case.base()) else 0.0
    layer = case.new(dropout=p).eval()
    layer.enabled = False
    # Its bias, if it has one.
    list(layer.base.parameters())[-1].requires_grad_(True)
    flags = [p.requires_grad for p in layer.base.parameters()]
    resized = resize_lora(layer, 1, 1.0)
    assert resized.dropout.p == p
    assert not resized.enabled
    assert not any(m.training for m in resized.modules())
    assert [p.requires_grad for p in layer.base.parameters()] == flags
    for name in ("parts", "sizes"):
        assert getattr(resized, name, ()) == getattr(layer, name, ())


def test_resizing_a_scale_that_was_changed_by_hand() -> None:
    layer = trained_lora()
    layer.scale *= 10
    assert_close(
        resize_lora(layer, 3, 1.0).delta_weight(), layer.delta_weight()
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((6, 1.0), "need 1 <= r <= 5, got 6"),
        ((0, 1.0), "need 1 <= r <= 5, got 0"),
        ((2, -1.0), "alpha > 0"),
    ],
)
def test_a_refused_resizing_changes_nothing(
    settings: tuple, message: str
) -> None:
    layer = trained_lora()
    layer.base.bias.requires_grad_(True)
    with pytest.raises(ValueError, match=message):
        resize_lora(layer, *settings)
    layer.A.data[0, 0] = math.nan
    with pytest.raises(ValueError, match="finite"):
        resize_lora(layer, 2, 1.0)
    assert layer.base.bias.requires_grad


def test_a_resized_adapter_takes_the_place_of_the_other() -> None:
    model = nn.Sequential(nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 5))
    for name, layer in inject(model, 3, 6.0, ("0", "2")).items():
        nn.init.normal_(layer.B)
        resized = resize_lora(layer, 2, 6.0)
        assert isinstance(resized, LoRALayer)
        model[int(name)] = resized
    model(torch.randn(4, 7)).square().sum().backward()
    assert all(layer.B.grad.all() for layer in (model[0], model[2]))


def test_a_fresh_layer_draws_what_a_dense_one_draws() -> None:
    """Its product and its bias have the sizes of ``nn.Linear``'s weight."""
    d_in, d_out, r = 400, 300, 50
    layer = LowRankLinear(d_in, d_out, r)
    bound = d_in**-0.5
    assert layer.bias is not None
    for drawn, most in (
        (layer.A, bound),
        (layer.B, (3 / r) ** 0.5),
        (layer.bias, bound),
    ):
        # Uniform: it fills the interval, evenly on both sides of zero.
        assert 0.95 * most < drawn.max() <= most
        assert -most <= drawn.min() < -0.95 * most
        assert drawn.mean().abs() < 0.1 * most
        torch.testing.assert_close(
            drawn.std().item(), most / 3**0.5, rtol=0.08, atol=0
        )
    product = layer.B @ layer.A
    torch.testing.assert_close(
        product.std().item(), bound / 3**0.5, rtol=0.05, atol=0
    )
