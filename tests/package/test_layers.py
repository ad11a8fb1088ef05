"""Every kind of adapter against the dense layer, PEFT and loralib."""

import copy
import io
import math
import warnings
from contextlib import nullcontext
from typing import Any

import loralib
import peft
import pytest
import torch
from adapted import CASES, Case, delta_by_hand, dense
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint
from transformers.pytorch_utils import Conv1D

from lorabook import bases
from lorabook.adapters import adapt
from lorabook.factors import extract_lora, resize_lora
from lorabook.layers import (
    LoRAConv1D,
    LoRAConv2d,
    LoRAEmbedding,
    LoRAFused,
    LoRALayer,
    LoRALinear,
)

F64 = torch.float64
sizes = st.integers(1, 8)
seeds = st.integers(0, 2**32 - 1)
every_kind = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


# Each kind: the formula


@every_kind
def test_a_layer_is_the_dense_one_with_the_update(case: Case) -> None:
    layer = case.trained()
    x = case.input(F64)
    delta = delta_by_hand(layer, case)
    assert_close(layer.delta_weight(), delta)
    assert_close(layer.weight, layer.base.weight + delta)
    expected = dense(layer, delta)(x)
    assert (expected - layer.base(x)).norm() > 0.1 * expected.norm()
    assert_close(layer(x), expected)


@given(sizes, sizes, seeds, st.booleans(), st.floats(0.1, 64))
def test_a_linear_layer_of_any_shape_is_its_formula(
    d_in: int, d_out: int, seed: int, bias: bool, alpha: float
) -> None:
    torch.manual_seed(seed)
    r = 1 + seed % min(d_in, d_out)
    layer = LoRALinear(nn.Linear(d_in, d_out, bias, dtype=F64), r, alpha)
    nn.init.normal_(layer.B)
    x = torch.randn(2, 3, d_in, dtype=F64)
    W0, b = layer.base.weight, layer.base.bias
    delta = alpha / r * layer.B @ layer.A
    assert_close(layer.delta_weight(), delta)
    assert_close(layer(x), x @ (W0 + delta).T + (b if bias else 0))
    assert_close(layer(x[0, 0]), layer(x)[0, 0])
    assert_close(layer.merge()(x), layer(x))
    assert torch.linalg.matrix_rank(layer.delta_weight()) <= r


@given(
    st.sampled_from([1, 2, 3]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    seeds,
)
def test_a_convolution_of_any_geometry_is_the_dense_one(
    groups: int,
    height: int,
    width: int,
    stride: int,
    dilation: int,
    mode: str,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    base = nn.Conv2d(
        2 * groups,
        3 * groups,
        (height, width),
        stride=stride,
        padding=(1, 0),
        dilation=dilation,
        groups=groups,
        padding_mode=mode,
        dtype=F64,
    )
    layer = LoRAConv2d(base, 1 + seed % 2, 2.0)
    nn.init.normal_(layer.B)
    x = torch.randn(2, 2 * groups, 7, 8, dtype=F64)
    assert_close(layer(x), dense(layer, layer.delta_weight())(x))
    assert_close(layer(x[0]), layer(x)[0])


@every_kind
@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32]
)
def test_a_new_layer_computes_exactly_what_the_base_does(
    case: Case, dtype: torch.dtype
) -> None:
    layer = case.new(dtype=dtype)
    x = case.input(dtype)
    assert torch.equal(layer(x), layer.base(x))
    with torch.no_grad():
        assert torch.equal(layer(x), layer.base(x))


@every_kind
def test_the_factors_have_the_shapes_of_the_book(case: Case) -> None:
    layer = case.new()
    d, k = layer.out_features, layer.in_features
    W = layer.base.weight
    M = layer.matrix(W)
    assert M.shape == (d, k)
    assert torch.equal(layer.shaped(M), W)
    n = sum(case.settings.get("parts", (1,)))
    assert layer.A.shape == (2 * n, k)
    assert layer.B.shape[1] == 2
    assert layer.B.shape[0] <= d
    assert sum(len(B) for B, _ in layer.blocks()) == d


@every_kind
def test_the_scale(case: Case) -> None:
    assert case.new(2, 6.0).scale == 3.0
    assert case.new(2, 6.0, scaling="alpha/sqrt(r)").scale == 6 / 2**0.5
    with pytest.raises(ValueError, match=r"alpha/sqrt\(r\)'\], got 'rs'"):
        case.new(2, 6.0, scaling="rs")


def test_a_starts_as_a_dense_weight_does() -> None:
    """kaiming_uniform_(a=√5) is U(-1/√k, 1/√k), whatever r is."""
    A = LoRALinear(nn.Linear(400, 300), 100, 1.0).A
    assert A.shape == (100, 400)
    assert A.abs().max() <= 400**-0.5
    assert math.isclose(A.std().item(), (3 * 400) ** -0.5, rel_tol=0.02)


def test_an_embedding_starts_with_a_at_zero() -> None:
    layer = LoRAEmbedding(nn.Embedding(30, 400), 20, 1.0)
    assert not layer.A.any()
    assert 0.95 < layer.B.std() < 1.05


# Each kind: what trains


@every_kind
def test_gradients_are_those_of_the_chain_rule(case: Case) -> None:
    """∇B = s G Aᵀ and ∇A = s Bᵀ G, with G the gradient of the weight."""
    layer = case.trained()
    full = dense(layer, layer.delta_weight().detach())
    x = case.input(F64)
    x_bar = None
    if x.is_floating_point():
        x = x.requires_grad_()
    y = layer(x)
    y_bar = torch.randn_like(y)
    y.backward(y_bar)
    if x.is_floating_point():
        x_bar, x.grad = x.grad, None
    full(x).backward(y_bar)
    G = layer.matrix(full.weight.grad.to_dense())
    grad_A = torch.split(layer.A.grad, [len(A) for _, A in layer.blocks()])
    grad_B = torch.split(
        layer.B.grad, [len(B) * bool(len(A)) for B, A in layer.blocks()]
    )
    row = 0
    for (B, A), a, b in zip(layer.blocks(), grad_A, grad_B, strict=True):
        part = G[row : row + len(B)]
        row += len(B)
        if len(A):
            assert_close(b, layer.scale * part @ A.T)
            assert_close(a, layer.scale * B.T @ part)
    assert_close(x_bar, x.grad)
    assert all(p.grad is None for p in layer.base.parameters())


@every_kind
def test_frozen_numbers_stay_as_they_are_to_the_bit(case: Case) -> None:
    layer = case.new(dtype=torch.float32)
    before = copy.deepcopy(layer.state_dict())
    learning = [n for n, p in layer.named_parameters() if p.requires_grad]
    assert learning == ["A", "B"]
    # Decay would move whatever an optimizer can reach.
    rule = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        rule.zero_grad()
        layer(case.input(torch.float32)).square().sum().backward()
        rule.step()
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in ("A", "B"))


@every_kind
def test_every_direction_gets_a_gradient_at_the_start(case: Case) -> None:
    layer = case.new()
    layer(case.input(F64)).square().sum().backward()
    moved = layer.B.grad.norm(dim=0)
    if isinstance(layer, LoRAEmbedding):
        moved = layer.A.grad.norm(dim=1)
        assert not layer.B.grad.any()
    else:
        assert not layer.A.grad.any()
    assert (moved > 0).all()


def test_rare_words_step_as_far_as_frequent_ones_if_the_base_asks() -> None:
    """scale_grad_by_freq divides by how often a word occurs in the batch."""
    text = torch.tensor([[3, 3, 3, 7]])
    grads = []
    for scaled in (False, True):
        layer = LoRAEmbedding(
            nn.Embedding(11, 5, scale_grad_by_freq=scaled), 2, 3.0
        )
        nn.init.ones_(layer.B)
        layer(text).sum().backward()
        grads.append(layer.A.grad)
    assert_close(grads[0][:, 3], 3 * grads[1][:, 3])
    assert_close(grads[0][:, 7], grads[1][:, 7])


# Each kind: stands in for its base


@every_kind
@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_that_of_the_base(case: Case, training: bool) -> None:
    base = case.base().train(training)
    layer = adapt(base, 2, 3.0, **case.settings)
    assert {m.training for m in layer.modules()} == {training}


@every_kind
def test_code_that_reads_the_weight_trains_the_adapter(case: Case) -> None:
    layer = case.trained()
    W = layer.weight
    G = torch.randn_like(W)
    W.backward(G)
    full = layer.base.weight.detach().clone().requires_grad_()
    assert_close(W, full + layer.delta_weight())
    M = layer.matrix(G)
    row = 0
    expected = []
    for B, A in layer.blocks():
        if len(A):
            expected.append(layer.scale * M[row : row + len(B)] @ A.T)
        row += len(B)
    assert_close(layer.B.grad, torch.cat(expected))
    layer.enabled = False
    assert layer.weight is layer.base.weight


@every_kind
def test_settings_of_the_base_can_be_read(case: Case) -> None:
    layer = case.new()
    for name, value in vars(layer.base).items():
        if not name.startswith("_") and name != "training":
            assert getattr(layer, name) == value
    if hasattr(layer.base, "bias"):
        assert layer.bias is layer.base.bias
    else:
        assert not hasattr(layer, "bias")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = layer.nothing


@every_kind
def test_what_would_compute_with_w0_alone_is_not_handed_out(
    case: Case,
) -> None:
    layer = case.new()
    layer.base.weight_mask = torch.ones(2)
    layer.base.register_buffer("scales", torch.ones(2))
    layer.base.child = nn.Identity()
    for name in ("weight_mask", "scales", "child", "_conv_forward"):
        assert not hasattr(layer, name)


@every_kind
def test_the_weight_cannot_be_replaced_in_silence(case: Case) -> None:
    layer = case.new()
    with pytest.raises(KeyError, match="already exists"):
        layer.weight = nn.Parameter(torch.ones(2, 2))
    with pytest.raises(AttributeError):
        layer.weight = torch.ones(2, 2)
    with pytest.raises(AttributeError):
        layer.bias = None


@every_kind
def test_a_disabled_layer_is_its_base(case: Case) -> None:
    layer = case.trained()
    x = case.input(F64)
    layer.enabled = False
    assert torch.equal(layer(x), layer.base(x))
    layer.enabled = True
    assert not torch.allclose(layer(x), layer.base(x))


@every_kind
def test_copies_and_files_keep_everything(case: Case) -> None:
    layer = case.trained(dropout=0.0, scaling="alpha/sqrt(r)")
    x = case.input(F64)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    read = torch.load(file, weights_only=False)
    other = case.trained(scaling="alpha/sqrt(r)")
    other.load_state_dict(layer.state_dict())
    for one in (copy.deepcopy(layer), read, other):
        assert type(one) is type(layer)
        assert torch.equal(one(x), layer(x))
        assert one.A is not layer.A
        assert not any(p.requires_grad for p in one.base.parameters())
    expected = {"A", "B"} | {f"base.{n}" for n in layer.base.state_dict()}
    assert set(layer.state_dict()) == expected


@every_kind
def test_meta_tensors_are_computed_with_and_filled_later(case: Case) -> None:
    with torch.device("meta"):
        base = case.base()
    layer = adapt(base, 2, 3.0, **case.settings)
    assert {p.device.type for p in layer.parameters()} == {"meta"}
    assert layer(case.input(F64).to("meta")).shape[-1] > 0
    merged = layer.merge()
    assert merged.weight.is_meta
    layer.to_empty(device="cpu")
    with torch.no_grad():
        for p in layer.parameters():
            p.fill_(math.nan)
    layer.reset_parameters()
    assert layer.A.isfinite().all()
    assert layer.B.isfinite().all()
    assert layer.A.any() != layer.B.any()


def test_a_layer_describes_itself() -> None:
    layer = LoRALinear(nn.Linear(7, 5), 3, 6.0, dropout=0.1)
    assert repr(layer).splitlines()[:3] == [
        "LoRALinear(",
        "  r=3, alpha=6.0",
        "  (base): Linear(in_features=7, out_features=5, bias=True)",
    ]


def test_there_is_no_layer_of_no_kind() -> None:
    with pytest.raises(TypeError, match="abstract"):
        LoRALayer(nn.Linear(7, 5), 2, 1.0)


# Dropout


@pytest.mark.parametrize(
    ("base", "shape"),
    [
        (nn.Linear(50, 4), (50,)),
        (Conv1D(4, 50), (1, 50)),
        (nn.Conv2d(2, 4, 5), (1, 2, 5, 5)),
    ],
)
def test_dropout_falls_on_the_adapter_input_alone(
    base: nn.Module, shape: tuple[int, ...]
) -> None:
    layer = adapt(base, 4, 4.0, dropout=0.4)
    nn.init.normal_(layer.B)
    x = torch.rand(shape) + 1
    seen = []
    layer.dropout.register_forward_hook(lambda *args: seen.append(args[2]))
    y = layer(x)
    (z,) = seen
    dropped = z == 0
    assert 0 < dropped.sum() < 50
    assert_close(z[~dropped], x[~dropped] / 0.6)
    delta = z.flatten() @ layer.matrix(layer.delta_weight()).T
    assert_close((y - base(x)).flatten(), delta)
    layer.eval()
    assert_close(layer(x), layer.merge()(x))


def test_dropout_that_would_not_happen_is_refused() -> None:
    """Words cannot be half there; attention reads the weight itself."""
    attention = nn.MultiheadAttention(8, 2)
    for base in (nn.Embedding(5, 4), attention.out_proj):
        with pytest.raises(ValueError, match=r"need dropout=0, got 0\.1"):
            adapt(base, 2, 1.0, dropout=0.1)
        assert base.weight.requires_grad


# Merging


@every_kind
@pytest.mark.parametrize("training", [True, False])
def test_merging_changes_no_output_and_nothing_else(
    case: Case, training: bool
) -> None:
    layer = case.trained().train(training)
    before = copy.deepcopy(layer.state_dict())
    merged = layer.merge()
    x = case.input(F64)
    assert_close(merged(x), layer(x))
    assert type(merged) is type(layer.base)
    assert merged.training == training
    assert vars(merged).keys() == vars(layer.base).keys()
    assert not any(p.requires_grad for p in merged.parameters())
    with torch.no_grad():
        for p in merged.parameters():
            p.add_(1)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, before[name])


@every_kind
def test_a_disabled_adapter_is_not_merged(case: Case) -> None:
    layer = case.trained()
    layer.enabled = False
    with pytest.raises(ValueError, match="disabled: enable it"):
        layer.merge()


def test_a_merged_weight_that_overflows_is_refused() -> None:
    layer = LoRALinear(nn.Linear(4, 4).half(), 1, 1.0)
    nn.init.constant_(layer.A, 300)
    nn.init.constant_(layer.B, 300)
    with pytest.raises(ValueError, match=r"not finite in torch\.float16"):
        layer.merge()
    # What was infinite before is not the adapter's fault.
    base = nn.Linear(4, 4)
    base.weight.data[0, 0] = math.inf
    assert LoRALinear(base, 1, 1.0).merge().weight[0, 0] == math.inf


def left_after_merging(dtype: torch.dtype, share: float, seed: int) -> Tensor:
    """Return what merging leaves of an update, and how far it is off.

    The update has `share` of the weight's norm; both answers are parts of the
    update's own norm.
    """
    torch.manual_seed(seed)
    layer = LoRALinear(nn.Linear(256, 256).to(dtype), 8, 8.0)
    nn.init.normal_(layer.base.weight, std=0.02)
    nn.init.normal_(layer.B)
    with torch.no_grad():
        W0 = layer.base.weight.double()
        layer.scale *= float(share * W0.norm() / layer.delta_weight().norm())
        delta = layer.delta_weight().double()
        left = layer.merge().weight.double() - W0
    size = delta.norm()
    return torch.stack(
        [(left * delta).sum() / size**2, (left - delta).norm() / size]
    )


@pytest.mark.parametrize("seed", range(4))
def test_merging_in_16_bits_loses_what_the_docstring_says(seed: int) -> None:
    kept, off = left_after_merging(torch.bfloat16, 0.01, seed)
    assert 0.98 < kept < 1.02
    assert 0.12 < off < 0.22
    assert 0.7 < left_after_merging(torch.bfloat16, 0.002, seed)[0] < 0.9
    assert 0.35 < left_after_merging(torch.bfloat16, 0.001, seed)[0] < 0.65
    kept, off = left_after_merging(torch.float32, 0.001, seed)
    assert_close(kept, torch.ones_like(kept), rtol=0, atol=1e-4)
    assert off < 1e-3


# 16 bits


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_factors_beside_16_bits_are_float32(
    case: Case, dtype: torch.dtype
) -> None:
    layer = case.trained(dtype=dtype)
    assert layer.A.dtype == layer.B.dtype == torch.float32
    x = case.input(dtype)
    y = layer(x)
    assert y.dtype == dtype
    assert layer.weight.dtype == layer.merge().weight.dtype == dtype
    assert layer.delta_weight().dtype == torch.float32
    exact = copy.deepcopy(layer).double()
    fine = x.double() if x.is_floating_point() else x
    assert (y - exact(fine)).norm() < 0.02 * y.norm()
    y.float().square().sum().backward()
    assert layer.A.grad.dtype == torch.float32


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_sum_beside_16_bits_is_rounded_once(
    case: Case, dtype: torch.dtype
) -> None:
    layer = case.trained(dtype=dtype)
    x = case.input(dtype)
    y, update = layer.base(x), layer.update(x)
    assert update.dtype == torch.float32
    assert torch.equal(layer(x), (y.float() + update).to(dtype))
    W, delta = layer.base.weight, layer.delta_weight()
    for found in (layer.weight, layer.merge().weight):
        assert torch.equal(found, (W.float() + delta).to(dtype))


@pytest.mark.parametrize("name", ["linear", "conv1d", "conv2d", "fused"])
def test_dropout_scales_in_the_dtype_of_the_products(name: str) -> None:
    """In 16 bits it would round; a float32 copy would be cast again."""
    case = CASES[name]
    layer = case.new(dtype=torch.bfloat16, dropout=0.5)
    seen = []
    layer.dropout.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].dtype)
    )
    x = case.input(torch.bfloat16)
    layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x)
        # Elsewhere nothing is cast: it is that of the input's device.
        layer.to("meta")(x.to("meta"))
    assert seen == [torch.float32, torch.bfloat16, torch.float32]


@every_kind
@pytest.mark.parametrize("alpha", [1e-6, 1e6])
def test_nothing_of_the_update_vanishes_in_float16(
    case: Case, alpha: float
) -> None:
    """A tiny product times a large scale, and the other way round."""
    layer = case.trained(alpha=alpha, dtype=torch.float16).half()
    with torch.no_grad():
        layer.B.mul_(1e-3 if alpha > 1 else 1e3)
        layer.A.mul_(1e-3 if alpha > 1 else 1e3)
        layer.base.weight.zero_()
    B, A = layer.blocks()[0]
    exact = layer.scale * B.double() @ A.double()
    assert 1e-3 < exact.abs().max() < 100
    delta = layer.matrix(layer.delta_weight())[: len(B)].double()
    merged = layer.matrix(layer.merge().weight)[: len(B)].double()
    read = layer.matrix(layer.weight)[: len(B)].double()
    for found in (delta, merged, read):
        assert (found - exact).norm() < 1e-3 * exact.norm()


@every_kind
def test_what_is_derived_is_exact_inside_autocast_too(case: Case) -> None:
    """Somebody merges while the model is being evaluated."""
    layer = case.trained(dtype=torch.float32)
    expected = layer.delta_weight(), layer.weight, layer.merge().weight
    small = resize_lora(layer, 1, 1.0).delta_weight()
    with torch.autocast("cpu", torch.bfloat16):
        found = layer.delta_weight(), layer.weight, layer.merge().weight
        again = resize_lora(layer, 1, 1.0).delta_weight()
    for ours, other in zip(found, expected, strict=True):
        assert torch.equal(ours, other)
    assert_close(again, small)


@every_kind
def test_autocast_is_put_off_where_the_factors_are(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU it is the GPU's, on this machine that of the CPU."""
    asked = []
    monkeypatch.setattr(
        bases,
        "full_precision",
        lambda device: asked.append(device) or nullcontext(),
    )
    layer = case.trained()
    resize_lora(layer, 1, 1.0)
    assert set(asked) == {"cpu"}
    asked.clear()
    layer.to("meta").delta_weight()
    assert asked == ["meta"]


@every_kind
def test_what_is_made_lies_where_the_weight_does(case: Case) -> None:
    """Whatever the default device is, and whatever the default dtype."""
    base, tuned = case.base(), case.base()
    layers = [adapt(base, 2, 3.0, **case.settings)]
    with torch.device("meta"):
        layers.append(adapt(base, 2, 3.0, **case.settings))
        layers.append(resize_lora(layers[0], 1, 3.0))
        if not case.settings:
            layers.append(extract_lora(base, tuned, 2, 3.0))
        merged = layers[0].merge()
    for made in (*layers, merged):
        assert {(p.device.type, p.dtype) for p in made.parameters()} == {
            ("cpu", F64)
        }


# The libraries that people use


class Model(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def with_peft(
    layer: LoRALayer, copy_factors: bool = True, **settings: Any
) -> nn.Module:
    """Adapt the same base with PEFT, by default with the same factors."""
    config = peft.LoraConfig(
        r=layer.r,
        lora_alpha=layer.alpha,
        target_modules=["layer"],
        fan_in_fan_out=isinstance(layer.base, Conv1D),
        use_rslora=layer.scaling == "alpha/sqrt(r)",
        **settings,
    )
    base = copy.deepcopy(layer.base)
    theirs = peft.get_peft_model(Model(base), config).base_model.model.layer
    if copy_factors:
        for ours, other in zip(
            (layer.A, layer.B), factors(theirs), strict=True
        ):
            other.data.copy_(ours.reshape(other.shape))
    return theirs


def with_loralib(layer: LoRALayer, copy_factors: bool = True) -> nn.Module:
    """Build loralib's layer with the same weight."""
    settings = {"r": layer.r, "lora_alpha": layer.alpha}
    if isinstance(layer, LoRAFused):
        theirs = loralib.MergedLinear(
            layer.in_features,
            layer.out_features,
            enable_lora=list(layer.parts),
            fan_in_fan_out=isinstance(layer.base, Conv1D),
            **settings,
        )
    elif isinstance(layer, LoRAEmbedding):
        theirs = loralib.Embedding(*layer.base.weight.shape, **settings)
    else:
        theirs = loralib.Linear(
            layer.in_features, layer.out_features, **settings
        )
    loralib.mark_only_lora_as_trainable(theirs)
    theirs.to(layer.A.dtype)
    state = {k: v for k, v in layer.base.state_dict().items()}
    if copy_factors:
        state |= {"lora_A": layer.A, "lora_B": layer.B}
    theirs.load_state_dict(state, strict=copy_factors)
    return theirs


def factors(layer: nn.Module) -> list[nn.Parameter]:
    """Return A and B of a layer of either library."""
    named = dict(layer.named_parameters())
    return [
        next(p for n, p in named.items() if key in n)
        for key in (
            ("lora_A", "lora_B")
            if "lora_A" in str([*named])
            else ("embedding_A", "embedding_B")
        )
    ]


def assert_same(
    layer: LoRALayer, theirs: nn.Module, x: Tensor, share: float = 0.0
) -> None:
    """Compare the outputs and all gradients.

    In 16 bits the order of the same operations decides on the last digits, so
    they may be off by a share of the norm.
    """
    xs = [x.clone(), x.clone()]
    if x.is_floating_point():
        xs = [one.requires_grad_() for one in xs]
    ys = layer(xs[0]), theirs(xs[1])
    assert ys[0].dtype == ys[1].dtype
    y_bar = torch.randn_like(ys[0])
    for y in ys:
        y.backward(y_bar)
    pairs = [ys, (xs[0].grad, xs[1].grad)] + [
        (ours.grad, other.grad.view(ours.shape))
        for ours, other in zip(
            (layer.A, layer.B), factors(theirs), strict=True
        )
    ]
    for ours, other in pairs:
        if share and ours is not None:
            apart = (ours.double() - other.double()).norm()
            assert apart < share * other.double().norm()
        else:
            assert_close(ours, other)


# PEFT knows neither dilation nor the mode of padding, and its grouped
# convolutions cannot be merged: those are compared with the dense layer alone.
in_peft = [
    "linear",
    "linear_many_rows",
    "conv1d",
    "embedding",
    "embedding_padded",
    "conv2d",
]


@pytest.mark.parametrize("name", in_peft)
@pytest.mark.parametrize("scaling", ["alpha/r", "alpha/sqrt(r)"])
def test_agrees_with_peft(name: str, scaling: str) -> None:
    case = CASES[name]
    for r, alpha in ((3, 6), (2, 5), (5, 1)):
        layer = case.trained(r, alpha, torch.float32, scaling=scaling)
        theirs = with_peft(layer)
        assert_same(layer, theirs, case.input(torch.float32))
        assert_close(theirs.get_delta_weight("default"), layer.delta_weight())
        theirs.merge()
        merged = theirs.get_base_layer()
        ours = layer.merge()
        for key, value in merged.state_dict().items():
            assert_close(ours.state_dict()[key], value)


@pytest.mark.parametrize("name", in_peft)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_agrees_with_peft_beside_16_bits(
    name: str, dtype: torch.dtype
) -> None:
    """PEFT's own default is factors in float32, and a sum in float32."""
    case = CASES[name]
    layer = case.trained(dtype=dtype)
    theirs = with_peft(layer)
    assert {p.dtype for p in factors(theirs)} == {torch.float32}
    step = torch.finfo(dtype).eps
    assert_same(layer, theirs, case.input(dtype), 4 * step)
    theirs.merge()
    merged = theirs.get_base_layer().weight
    assert_close(layer.merge().weight, merged, rtol=step, atol=step)


@pytest.mark.parametrize("name", in_peft)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_agrees_with_peft_under_autocast(
    name: str, dtype: torch.dtype
) -> None:
    case = CASES[name]
    layer = case.trained(dtype=dtype)
    theirs = with_peft(layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(layer, theirs, case.input(dtype), 0.03)


def test_a_convolution_keeps_the_padding_that_peft_forgets() -> None:
    """PEFT 0.21.2 pads the adapter's input with zeros, whatever the mode."""
    base = nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect")
    layer = LoRAConv2d(base, 2, 4.0)
    nn.init.normal_(layer.B)
    theirs = with_peft(layer)
    x = torch.randn(1, 2, 6, 6)
    y = layer(x)
    assert_close(layer.merge()(x), y)
    wrong = theirs(x)
    theirs.merge()
    assert_close(theirs(x), y)
    assert (wrong - y).abs().max() > 0.1
    assert_close(wrong[..., 1:-1, 1:-1], y[..., 1:-1, 1:-1])


@pytest.mark.parametrize("parts", [(1, 0, 1), (1, 1), (0, 1, 0), (1, 1, 1, 0)])
@pytest.mark.parametrize("stored", [nn.Linear, Conv1D])
def test_fused_maps_agree_with_loralib(
    parts: tuple[int, ...], stored: type[nn.Module]
) -> None:
    sizes = (7, 4 * len(parts))
    base = stored(*(sizes if stored is nn.Linear else sizes[::-1]))
    layer = LoRAFused(base, 3, 6.0, tuple(map(bool, parts)))
    nn.init.normal_(layer.B)
    theirs = with_loralib(layer)
    assert_same(layer, theirs, torch.randn(2, 4, 7))
    assert_close(theirs.merge_AB() * theirs.scaling, layer.delta_weight())
    theirs.eval()
    assert theirs.merged
    assert_close(theirs.weight, layer.merge().weight)


@pytest.mark.parametrize("name", ["linear", "linear_many_rows", "embedding"])
def test_agrees_with_loralib(name: str) -> None:
    case = CASES[name]
    layer = case.trained(3, 6.0, torch.float32)
    if name == "linear_many_rows":
        layer.base.bias = nn.Parameter(torch.randn(5), requires_grad=False)
    theirs = with_loralib(layer)
    assert_same(layer, theirs, case.input(torch.float32))
    # Not chained: loralib's eval() merges, and returns None.
    theirs.eval()
    assert theirs.merged
    assert_close(theirs.weight, layer.merge().weight)


@pytest.mark.parametrize("library", [with_peft, with_loralib])
@pytest.mark.parametrize("name", ["linear", "embedding"])
def test_starts_as_they_do(library, name: str) -> None:
    """A reader's seeds are of no use, but shapes and bounds agree."""
    layer = CASES[name].new(3, dtype=torch.float32)
    theirs = library(layer, copy_factors=False)
    for ours, other in zip((layer.A, layer.B), factors(theirs), strict=True):
        assert ours.shape == other.shape
        assert bool(ours.any()) == bool(other.any())
        if ours.any() and name == "linear":
            for A in (ours, other):
                assert 0.5 * 7**-0.5 < A.abs().max() <= 7**-0.5


# What is refused


@pytest.mark.parametrize("r", [0, 6, -1, 1.0, True])
def test_the_rank_must_fit(r: object) -> None:
    with pytest.raises(ValueError, match=r"need 1 <= r <= 5, got"):
        LoRALinear(nn.Linear(7, 5), r, 1.0)


def test_the_rank_of_a_part_must_fit_the_smallest() -> None:
    with pytest.raises(ValueError, match="need 1 <= r <= 2, got 3"):
        LoRAFused(nn.Linear(7, 12), 3, 1.0, (True, True), (10, 2))
    # A part that does not learn has no say.
    LoRAFused(nn.Linear(7, 12), 3, 1.0, (True, False), (10, 2))
    # Nor can A have more rows than columns.
    with pytest.raises(ValueError, match="need 1 <= r <= 2, got 3"):
        LoRAFused(nn.Linear(2, 12), 3, 1.0)


def test_queries_and_values_are_adapted_unless_told_otherwise() -> None:
    layer = LoRAFused(nn.Linear(7, 12), 2, 1.0)
    assert (layer.parts, layer.sizes) == ((True, False, True), (4, 4, 4))


@pytest.mark.parametrize("kind", [LoRALinear, LoRAFused])
def test_what_attention_does_not_call_cannot_drop(kind: type) -> None:
    base = nn.MultiheadAttention(9, 3).out_proj
    with pytest.raises(ValueError, match="dropout does not reach the input"):
        kind(base, 2, 1.0, dropout=0.5)
    assert kind(base, 2, 1.0).dropout.p == 0


def test_a_part_may_be_one_wide() -> None:
    layer = LoRAFused(nn.Linear(7, 4), 1, 1.0, (True, False), (3, 1))
    assert layer.delta_weight()[3].abs().max() == 0


@pytest.mark.parametrize("alpha", [0, -1.0, math.nan, math.inf])
def test_alpha_must_be_positive(alpha: float) -> None:
    with pytest.raises(ValueError, match="need a finite alpha > 0, got"):
        LoRALinear(nn.Linear(7, 5), 2, alpha)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, math.nan])
def test_dropout_must_be_a_probability(dropout: float) -> None:
    with pytest.raises(ValueError, match="need 0 <= dropout < 1, got"):
        LoRALinear(nn.Linear(7, 5), 2, 1.0, dropout)


@pytest.mark.parametrize(
    ("parts", "sizes", "message"),
    [
        ((), None, "need a part that learns"),
        ((False, False), None, "need a part that learns"),
        ((True,) * 5, None, "5 parts that add up to 12, got none"),
        ((True, False), (6, 5), r"2 parts that add up to 12, got \(6, 5\)"),
        ((True, False), (12,), r"2 parts that add up to 12, got \(12,\)"),
        ((True, False), (12, 0), r"add up to 12, got \(12, 0\)"),
    ],
)
def test_the_parts_must_make_up_the_output(
    parts: tuple, sizes: tuple, message: str
) -> None:
    base = nn.Linear(7, 12)
    with pytest.raises(ValueError, match=message):
        LoRAFused(base, 2, 1.0, parts, sizes)
    assert base.weight.requires_grad


@pytest.mark.parametrize(
    ("kind", "base", "message"),
    [
        (
            LoRALinear,
            nn.Conv2d(3, 3, 1),
            "kind Linear or QuantizedLinear, got a Conv2d",
        ),
        (
            LoRALinear,
            torch.ones(5, 7),
            "kind Linear or QuantizedLinear, got a Tensor",
        ),
        (
            LoRALinear,
            nn.Bilinear(2, 3, 4),
            "kind Linear or QuantizedLinear, got a Bilinear",
        ),
        (LoRAConv2d, nn.Conv1d(3, 3, 1), "kind Conv2d, got a Conv1d"),
        (LoRAConv2d, nn.ConvTranspose2d(3, 3, 1), "got a ConvTranspose2d"),
        (LoRAConv1D, nn.Linear(7, 5), "kind Conv1D, got a Linear"),
        (LoRAEmbedding, nn.EmbeddingBag(7, 5), "got a EmbeddingBag"),
        (LoRAFused, nn.Conv2d(3, 3, 1), "QuantizedLinear or Conv1D, got"),
    ],
)
def test_only_its_own_kind_is_adapted(
    kind: type[LoRALayer], base: object, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        kind(base, 1, 1.0)


# Gradient checkpointing


@every_kind
def test_checkpointing_changes_no_gradient(case: Case) -> None:
    layer = case.trained()
    x = case.input(F64)
    layer(x).square().sum().backward()
    expected = layer.A.grad, layer.B.grad
    layer.zero_grad()
    checkpoint(layer, x, use_reentrant=False).square().sum().backward()
    assert_close((layer.A.grad, layer.B.grad), expected)


def test_the_reentrant_form_warns_and_cuts_off_what_needs_no_input() -> None:
    """It decides by the inputs; the frozen embedding below wants nothing."""
    layer = CASES["linear"].trained()
    x = CASES["linear"].input(F64)
    with pytest.warns(UserWarning, match="requires_grad=True"):
        y = checkpoint(layer, x, use_reentrant=True)
    assert not y.requires_grad
    # PyTorch still takes this form where none is named.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        y = checkpoint(layer, x)
    assert "should be passed explicitly" in str(caught[0].message)
    assert not y.requires_grad
    # The cure that libraries call `enable_input_require_grads`.
    wanted = x.clone().requires_grad_()
    checkpoint(layer, wanted, use_reentrant=True).sum().backward()
    assert layer.A.grad.any()
    assert layer.B.grad.any()
