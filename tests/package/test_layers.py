"""The layers against the formula, autograd's own rules, PEFT and loralib."""

import copy
import math

import loralib
import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from lorabook.layers import (
    LoRALinear,
    LowRankLinear,
    extract_lora,
    inject,
    resize_lora,
)
from lorabook.linalg import truncated_svd
from lorabook.measure import count_flops
from lorabook.models import TinyGPT

sizes = st.integers(1, 8)
seeds = st.integers(0, 2**32 - 1)


def trained_lora(
    d_in: int = 7,
    d_out: int = 5,
    r: int = 3,
    alpha: float = 6.0,
    bias: bool = True,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> LoRALinear:
    """Return a layer as after training: B is no longer zero."""
    torch.manual_seed(seed)
    layer = LoRALinear(nn.Linear(d_in, d_out, bias, dtype=dtype), r, alpha)
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


def test_factored_starts_at_the_scale_of_a_dense_layer() -> None:
    torch.manual_seed(0)
    dense = nn.Linear(300, 400)
    for r in (10, 100):
        layer = LowRankLinear(300, 400, r)
        ratio = layer.weight().std() / dense.weight.std()
        assert 0.9 < ratio < 1.1
        assert 0.95 * 300**-0.5 < layer.bias.abs().max() <= 300**-0.5


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
def test_from_dense_keeps_the_dtype(dtype: torch.dtype) -> None:
    layer = LowRankLinear.from_dense(nn.Linear(6, 4, dtype=dtype), 2)
    assert {p.dtype for p in layer.parameters()} == {dtype}
    assert layer(torch.ones(6, dtype=dtype)).dtype == dtype


def test_factored_describes_itself() -> None:
    text = repr(LowRankLinear(7, 5, 3))
    assert text == "LowRankLinear(d_in=7, d_out=5, r=3, bias=True)"


# LoRALinear: the formula


@given(sizes, sizes, seeds, st.booleans(), st.floats(0.1, 64))
def test_lora_is_its_formula(
    d_in: int, d_out: int, seed: int, bias: bool, alpha: float
) -> None:
    r = 1 + seed % min(d_in, d_out)
    layer = trained_lora(d_in, d_out, r, alpha, bias, seed)
    x = torch.randn(2, 3, d_in, dtype=torch.float64)
    W0, b = layer.base.weight, layer.base.bias
    delta = alpha / r * layer.B @ layer.A
    assert_close(layer.delta_weight(), delta)
    assert_close(layer(x), x @ (W0 + delta).T + (b if bias else 0))
    assert_close(layer(x[0, 0]), layer(x)[0, 0])
    assert_close(layer.merged()(x), layer(x))
    assert torch.linalg.matrix_rank(layer.delta_weight()) <= r


def test_a_new_layer_computes_exactly_what_the_base_does() -> None:
    torch.manual_seed(0)
    base = nn.Linear(7, 5)
    x = torch.randn(11, 7)
    assert torch.equal(LoRALinear(base, 3, 6.0)(x), base(x))


def test_a_starts_as_a_dense_weight_does() -> None:
    """kaiming_uniform_(a=√5) is U(-1/√d_in, 1/√d_in), whatever r is."""
    torch.manual_seed(0)
    A = LoRALinear(nn.Linear(400, 300), 100, 1.0).A
    assert A.shape == (100, 400)
    assert A.abs().max() <= 400**-0.5
    assert math.isclose(A.std().item(), (3 * 400) ** -0.5, rel_tol=0.02)


def test_the_product_is_never_formed() -> None:
    """Counted by PyTorch: 2 N (d_in d_out + r (d_in + d_out)) and no more."""
    layer = trained_lora(64, 48, 4, dtype=torch.float32)
    x = torch.randn(10, 64)
    assert count_flops(layer, x) == 2 * 10 * (64 * 48 + 4 * (64 + 48))


# LoRALinear: what trains


def test_only_the_factors_train() -> None:
    layer = trained_lora()
    before = copy.deepcopy(layer.base.state_dict())
    trainable = [n for n, p in layer.named_parameters() if p.requires_grad]
    assert trainable == ["A", "B"]
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    old_A, old_B = layer.A.detach().clone(), layer.B.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(4, 7, dtype=torch.float64)).square().sum().backward()
        optimizer.step()
    for name, value in layer.base.state_dict().items():
        assert torch.equal(value, before[name])
    assert not torch.equal(layer.A, old_A)
    assert not torch.equal(layer.B, old_B)


@given(sizes, sizes, seeds)
def test_gradients_are_those_of_the_chain_rule(
    d_in: int, d_out: int, seed: int
) -> None:
    """∇B = s G Aᵀ and ∇A = s Bᵀ G, with G the gradient of the weight."""
    r = 1 + seed % min(d_in, d_out)
    layer = trained_lora(d_in, d_out, r, seed=seed)
    x = torch.randn(6, d_in, dtype=torch.float64)
    y = layer(x)
    dy = torch.randn_like(y)
    y.backward(dy)
    G = dy.T @ x
    assert_close(layer.B.grad, layer.scale * G @ layer.A.T)
    assert_close(layer.A.grad, layer.scale * layer.B.T @ G)
    assert layer.base.weight.grad is None


def test_at_first_only_b_moves() -> None:
    layer = LoRALinear(nn.Linear(7, 5), 3, 6.0)
    layer(torch.randn(4, 7)).square().sum().backward()
    assert torch.count_nonzero(layer.A.grad) == 0
    assert torch.count_nonzero(layer.B.grad) > 0


# LoRALinear: merging


def test_merging_changes_nothing_else() -> None:
    layer = trained_lora()
    before = copy.deepcopy(layer.state_dict())
    merged = layer.merged()
    with torch.no_grad():
        merged.weight.add_(1)
        merged.bias.add_(1)
    assert type(merged) is nn.Linear
    assert not any(p.requires_grad for p in merged.parameters())
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


# LoRALinear: dropout and modes


def test_dropout_falls_on_the_adapter_input_alone() -> None:
    torch.manual_seed(0)
    base = nn.Linear(50, 4)
    layer = LoRALinear(base, 4, 4.0, dropout=0.4)
    nn.init.normal_(layer.B)
    x = torch.rand(50) + 1
    seen = []
    layer.dropout.register_forward_hook(lambda *args: seen.append(args[2]))
    y = layer(x)
    (z,) = seen
    dropped = z == 0
    assert 0 < dropped.sum() < 50
    assert_close(z[~dropped], x[~dropped] / 0.6)
    assert_close(y, base(x) + z @ layer.delta_weight().T)
    layer.eval()
    assert_close(layer(x), layer.merged()(x))


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_that_of_the_base(training: bool) -> None:
    base = nn.Linear(7, 5).train(training)
    layer = LoRALinear(base, 3, 6.0, dropout=0.5)
    assert {m.training for m in layer.modules()} == {training}


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16]
)
def test_lora_keeps_the_dtype(dtype: torch.dtype) -> None:
    layer = trained_lora(dtype=dtype)
    assert {p.dtype for p in layer.parameters()} == {dtype}
    assert layer(torch.ones(7, dtype=dtype)).dtype == dtype
    assert layer.merged().weight.dtype == dtype


def test_lora_keeps_the_device() -> None:
    layer = LoRALinear(nn.Linear(7, 5, device="meta"), 3, 6.0)
    assert {p.device.type for p in layer.parameters()} == {"meta"}


def test_a_state_dict_round_trip() -> None:
    layer, other = trained_lora(seed=1), trained_lora(seed=2)
    assert sorted(layer.state_dict()) == [
        "A",
        "B",
        "base.bias",
        "base.weight",
    ]
    other.load_state_dict(layer.state_dict())
    x = torch.randn(3, 7, dtype=torch.float64)
    assert torch.equal(other(x), layer(x))


def test_lora_describes_itself() -> None:
    layer = LoRALinear(nn.Linear(7, 5), 3, 6.0, dropout=0.1)
    lines = repr(layer).splitlines()
    assert lines[:3] == [
        "LoRALinear(",
        "  r=3, alpha=6.0",
        "  (base): Linear(in_features=7, out_features=5, bias=True)",
    ]


# LoRALinear: the libraries that people use


# extract_lora, resize_lora


def two_checkpoints(
    d_in: int, d_out: int, seed: int, dtype: torch.dtype = torch.float64
) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(seed)
    layers = [nn.Linear(d_in, d_out, dtype=dtype) for _ in range(2)]
    return layers[0], layers[1]


@given(sizes, sizes, seeds)
def test_the_error_of_an_extracted_adapter_is_the_tail(
    d_in: int, d_out: int, seed: int
) -> None:
    base, tuned = two_checkpoints(d_in, d_out, seed)
    difference = (tuned.weight - base.weight).detach()
    s = torch.linalg.svdvals(difference)
    r = 1 + seed % min(d_in, d_out)
    layer = extract_lora(base, tuned, r, alpha=3.0)
    left = difference - layer.delta_weight()
    assert_close(left.norm(), s[r:].norm(), rtol=1e-9, atol=1e-12)
    assert_close(layer.B.T @ layer.B, layer.A @ layer.A.T)


def test_at_full_rank_the_extracted_adapter_is_the_tuned_layer() -> None:
    base, tuned = two_checkpoints(6, 4, seed=1)
    tuned.bias = base.bias
    layer = extract_lora(base, tuned, 4, alpha=0.5)
    x = torch.randn(3, 6, dtype=torch.float64)
    assert_close(layer(x), tuned(x))


def test_extraction_keeps_the_base_and_its_bias() -> None:
    base, tuned = two_checkpoints(6, 4, seed=2)
    before = copy.deepcopy(base.state_dict()), copy.deepcopy(tuned)
    layer = extract_lora(base, tuned, 2, alpha=2.0)
    assert layer.base is base
    assert all(
        torch.equal(before[0][k], v) for k, v in base.state_dict().items()
    )
    assert torch.equal(before[1].weight, tuned.weight)
    assert [n for n, p in layer.named_parameters() if p.requires_grad] == [
        "A",
        "B",
    ]


@pytest.mark.parametrize("alpha", [0.25, 1.0, 16.0])
def test_the_scale_is_absorbed(alpha: float) -> None:
    base, tuned = two_checkpoints(6, 4, seed=3)
    layer = extract_lora(base, tuned, 2, alpha)
    expected = extract_lora(base, tuned, 2, 2.0).delta_weight()
    assert layer.scale == alpha / 2
    assert_close(layer.delta_weight(), expected)


def test_half_precision_is_decomposed_in_float32() -> None:
    base, tuned = two_checkpoints(6, 4, seed=4, dtype=torch.bfloat16)
    layer = extract_lora(base, tuned, 4, 4.0)
    assert layer.A.dtype == layer.B.dtype == torch.bfloat16
    difference = tuned.weight.float() - base.weight.float()
    error = (layer.delta_weight().float() - difference).norm()
    assert error < 0.02 * difference.norm()
    smaller = resize_lora(layer, 2, 2.0)
    assert smaller.A.dtype == torch.bfloat16


def test_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 6\) and \(5, 6\)"):
        extract_lora(nn.Linear(6, 4), nn.Linear(6, 5), 2, 1.0)
    base = nn.Linear(6, 4)
    with pytest.raises(ValueError, match="1 <= r <= 4, got 5"):
        extract_lora(base, nn.Linear(6, 4), 5, 1.0)
    assert base.weight.requires_grad


@given(sizes, sizes, seeds)
def test_a_resized_adapter_is_the_nearest(
    d_in: int, d_out: int, seed: int
) -> None:
    full = min(d_in, d_out)
    layer = trained_lora(d_in, d_out, full, seed=seed)
    r = 1 + seed % full
    resized = resize_lora(layer, r, alpha=5.0)
    delta = layer.delta_weight().detach()
    U, S, Vh = truncated_svd(delta, r)
    assert_close(resized.delta_weight(), U * S @ Vh)
    assert (resized.r, resized.alpha) == (r, 5.0)
    assert resized.base is layer.base
    assert_close(layer.delta_weight(), delta)


def test_resizing_to_the_same_rank_changes_no_output() -> None:
    layer = trained_lora()
    x = torch.randn(4, 7, dtype=torch.float64)
    assert_close(resize_lora(layer, 3, 1.0)(x), layer(x))


def test_an_untrained_adapter_can_be_resized() -> None:
    layer = LoRALinear(nn.Linear(7, 5), 3, 1.0)
    assert resize_lora(layer, 2, 1.0).delta_weight().norm() == 0


def test_resizing_never_forms_the_update() -> None:
    layer = trained_lora(d_in=300, d_out=200, r=4)
    # At most the QR factors are multiplied: 2 (m + n) r^2 and the core.
    flops = count_flops(resize_lora, layer, 2, 1.0, products_only=True)
    assert 0 < flops <= 2 * (300 + 200) * 4**2 + 2 * 4**3


def test_an_adapter_does_not_grow() -> None:
    with pytest.raises(ValueError, match="1 <= r <= 3, got 4"):
        resize_lora(trained_lora(r=3), 4, 1.0)


def test_resizing_keeps_the_dropout() -> None:
    layer = LoRALinear(nn.Linear(7, 5), 3, 1.0, dropout=0.25)
    assert resize_lora(layer, 2, 1.0).dropout.p == 0.25


class OneLinear(nn.Module):
    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


def with_peft(layer: LoRALinear, copy_factors: bool = True) -> nn.Module:
    """Adapt the same base with PEFT, by default with the same factors."""
    config = peft.LoraConfig(
        r=layer.r, lora_alpha=layer.alpha, target_modules=["linear"]
    )
    model = peft.get_peft_model(OneLinear(copy.deepcopy(layer.base)), config)
    theirs = model.base_model.model.linear
    if copy_factors:
        with torch.no_grad():
            theirs.lora_A["default"].weight.copy_(layer.A)
            theirs.lora_B["default"].weight.copy_(layer.B)
    return theirs


def with_loralib(layer: LoRALinear, copy_factors: bool = True) -> nn.Module:
    """Build loralib's layer with the same base weight."""
    d_out, d_in = layer.base.weight.shape
    theirs = loralib.Linear(
        d_in, d_out, r=layer.r, lora_alpha=layer.alpha, dtype=layer.A.dtype
    )
    loralib.mark_only_lora_as_trainable(theirs)
    state = layer.base.state_dict()
    if copy_factors:
        state |= {"lora_A": layer.A, "lora_B": layer.B}
    theirs.load_state_dict(state, strict=copy_factors)
    return theirs


def gradients(layer: nn.Module) -> list[Tensor]:
    """Return the gradients that arrived, in the order A, B."""
    return [p.grad for p in layer.parameters() if p.grad is not None]


@pytest.mark.parametrize("library", [with_peft, with_loralib])
@pytest.mark.parametrize(("r", "alpha"), [(3, 6), (2, 5), (5, 1)])
def test_agrees_with(library, r: int, alpha: int) -> None:
    layer = trained_lora(r=r, alpha=alpha, dtype=torch.float32)
    theirs = library(layer)
    x = torch.randn(2, 4, 7)
    x_ours, x_theirs = (x.clone().requires_grad_() for _ in range(2))
    dy = torch.randn(2, 4, 5)

    y_ours, y_theirs = layer(x_ours), theirs(x_theirs)
    y_ours.backward(dy)
    y_theirs.backward(dy)

    assert_close(y_ours, y_theirs)
    assert_close(x_ours.grad, x_theirs.grad)
    assert len(gradients(layer)) == 2
    assert_close(gradients(layer), gradients(theirs))


def test_merges_as_peft_does() -> None:
    layer = trained_lora(dtype=torch.float32)
    theirs = with_peft(layer)
    assert_close(theirs.get_delta_weight("default"), layer.delta_weight())
    theirs.merge()
    assert_close(theirs.get_base_layer().weight, layer.merged().weight)
    assert_close(theirs.get_base_layer().bias, layer.merged().bias)


def test_merges_as_loralib_does() -> None:
    layer = trained_lora(dtype=torch.float32)
    theirs = with_loralib(layer)
    # Not chained: loralib's eval() merges, and returns None.
    theirs.eval()
    assert theirs.merged
    assert_close(theirs.weight, layer.merged().weight)


@pytest.mark.parametrize("library", [with_peft, with_loralib])
def test_starts_as_they_do(library) -> None:
    """A reader's seeds are of no use, but shapes and bounds agree."""
    layer = LoRALinear(nn.Linear(7, 5), 3, 6.0)
    theirs = library(layer, copy_factors=False)
    starts = [p for name, p in theirs.named_parameters() if "lora" in name]
    for ours, other in zip([layer.A, layer.B], starts, strict=True):
        assert ours.shape == other.shape
    for A in (layer.A, starts[0]):
        assert 0.5 * 7**-0.5 < A.abs().max() <= 7**-0.5
    assert torch.count_nonzero(starts[1]) == 0


# What is refused


@pytest.mark.parametrize("r", [0, 6, -1, 1.0, True])
def test_the_rank_must_fit(r: object) -> None:
    with pytest.raises(ValueError, match=r"need 1 <= r <= 5, got"):
        LoRALinear(nn.Linear(7, 5), r, 1.0)
    with pytest.raises(ValueError, match=r"need 1 <= r <= 5, got"):
        LowRankLinear(7, 5, r)
    with pytest.raises(ValueError, match=r"need 1 <= r <= 5, got"):
        LowRankLinear.from_dense(nn.Linear(7, 5), r)


@pytest.mark.parametrize("alpha", [0, -1.0, math.nan, math.inf])
def test_alpha_must_be_positive(alpha: float) -> None:
    with pytest.raises(ValueError, match="need a finite alpha > 0, got"):
        LoRALinear(nn.Linear(7, 5), 2, alpha)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, math.nan])
def test_dropout_must_be_a_probability(dropout: float) -> None:
    with pytest.raises(ValueError, match="need 0 <= dropout < 1, got"):
        LoRALinear(nn.Linear(7, 5), 2, 1.0, dropout)


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        (trained_lora(), "LoRALinear"),
        (nn.Conv2d(3, 3, 1), "Conv2d"),
        (torch.ones(5, 7), "Tensor"),
    ],
)
def test_only_a_linear_layer_is_adapted(base: object, kind: str) -> None:
    message = f"adapts an nn.Linear, got a {kind}$"
    with pytest.raises(TypeError, match=message):
        LoRALinear(base, 2, 1.0)


def test_a_refused_layer_leaves_the_base_alone() -> None:
    base = nn.Linear(7, 5)
    with pytest.raises(ValueError, match="need 1 <= r"):
        LoRALinear(base, 9, 1.0)
    assert all(p.requires_grad for p in base.parameters())


# inject


def test_inject_adapts_what_is_named_and_freezes_the_rest() -> None:
    model = TinyGPT(d=16, layers=2, heads=2, context=8)
    text = torch.randint(256, (3, 8))
    before = model(text)
    layers = inject(model, 2, 4.0, ("q", "down"), dropout=0.1)
    assert list(layers) == [
        f"blocks.{i}.{name}"
        for i in range(2)
        for name in ("attention.q", "down")
    ]
    assert all(model.get_submodule(n) is x for n, x in layers.items())
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        f"{name}.{factor}" for name in layers for factor in "AB"
    }
    assert all(x.scale == 2 and x.dropout.p == 0.1 for x in layers.values())
    assert_close(model.eval()(text), before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ((2, 4.0, ("q", "nothing")), ValueError, "no layer is named nothing"),
        ((2, 4.0, ()), ValueError, "are named q, k, v, o, up, down, head"),
        ((2, 4.0, ("norm1",)), TypeError, "got a LayerNorm"),
        ((17, 4.0, ("q",)), ValueError, "17"),
        ((2, 0.0, ("q",)), ValueError, "alpha"),
    ],
)
def test_a_refused_injection_changes_nothing(
    settings: tuple, error: type[Exception], message: str
) -> None:
    model = TinyGPT(d=16, layers=1, heads=2, context=8)
    model.norm.requires_grad_(False)
    names = [n for n, _ in model.named_modules()]
    frozen = [p.requires_grad for p in model.parameters()]
    with pytest.raises(error, match=message):
        inject(model, *settings)
    assert [n for n, _ in model.named_modules()] == names
    assert [p.requires_grad for p in model.parameters()] == frozen
