"""Quantised tensors and layers: bounds, round trips, and other libraries."""

import copy
import io
import math
import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor, nn
from torch.testing import assert_close

from lorabook import bases, cost, measure
from lorabook.adapters import inject, merge
from lorabook.factors import extract_lora
from lorabook.layers import LoRAFused, LoRALinear
from lorabook.quantize import (
    NF4,
    Int8,
    Int8Linear,
    NF4Linear,
    dynamic_levels,
    from_levels,
    loftq,
    normal_levels,
    q4_1,
    to_levels,
    unchanged_share,
)
from lorabook.tracker import weightless

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
FLOATS = [torch.float16, BF16, F32, F64]
# As they stand in the QLoRA code (bitsandbytes 0.50.2, get_4bit_type).
PUBLISHED = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
]

shapes = st.lists(st.integers(0, 6), min_size=0, max_size=3).map(tuple)
full_shapes = st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple)
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from(FLOATS)
blocks = st.sampled_from([1, 2, 5, 16, 64, 1000])
double = st.booleans()

FORMATS: dict[str, Callable[[Tensor], Any]] = {
    "int8": Int8.of,
    "nf4": NF4.of,
    "nf4_double": lambda W: NF4.of(W, double=True),
}
each_format = pytest.mark.parametrize("of", FORMATS.values(), ids=FORMATS)
LAYERS: dict[str, Callable[[nn.Linear], bases.QuantizedLinear]] = {
    "int8": Int8Linear.from_linear,
    "nf4": NF4Linear.from_linear,
    "nf4_double": lambda base: NF4Linear.from_linear(
        base, block=32, double=True
    ),
}
each_layer = pytest.mark.parametrize("wrap", LAYERS.values(), ids=LAYERS)
Wrap = Callable[[nn.Linear], bases.QuantizedLinear]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def drawn(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    """Return numbers of many sizes, some of them 0."""
    g = torch.Generator().manual_seed(seed)
    W = torch.randn(shape, generator=g, dtype=F64)
    sizes = torch.randint(-8, 5, shape, generator=g)
    kept = torch.rand(shape, generator=g) < 0.8
    return (W * 2.0**sizes * kept).to(dtype)


def unpacked(q: NF4) -> Tensor:
    both = torch.stack([q.codes >> 4, q.codes & 15], dim=1)
    return both.flatten()[: math.prod(q.shape)]


def assert_same(one: bases.Quantized, other: bases.Quantized) -> None:
    assert type(one) is type(other)
    assert one.shape == other.shape
    for name, tensor in one.tensors().items():
        their = other.tensors()[name]
        if tensor is None or their is None:
            assert tensor is their
        else:
            assert tensor.dtype == their.dtype
            assert torch.equal(tensor, their), name


# Levels


def test_the_levels_of_nf4_are_the_published_ones() -> None:
    # Equal, not close.
    assert normal_levels().tolist() == PUBLISHED


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_normal_levels_are_even_quantiles(bits: int) -> None:
    levels = normal_levels(bits).double()
    n = 2**bits
    assert levels.shape == (n,)
    assert levels[0] == -1
    assert levels[-1] == 1
    assert levels[n // 2 - 1] == 0
    last = 1 - (1 / (2 * n) + 1 / (2 * n - 2)) / 2
    shares = norm.cdf(levels.numpy() * norm.ppf(last))
    above, below = shares[n // 2 - 1 :], shares[: n // 2]
    assert_close(np.diff(above), np.full(n // 2, (last - 0.5) / (n // 2)))
    if bits > 2:
        step = (last - 0.5) / (n // 2 - 1)
        assert np.allclose(np.diff(below), step, rtol=1e-4)


@pytest.mark.parametrize("bits", [1, 9, 2.5])
def test_other_numbers_of_bits_are_refused(bits: Any) -> None:
    with pytest.raises(ValueError, match=f"2 <= bits <= 8, got {bits}"):
        normal_levels(bits)


def test_the_levels_of_scales_are_the_middles_of_parts() -> None:
    levels = dynamic_levels()
    expected = {0.0, 1.0}
    for e in range(7):
        for i in range(2**e):
            middle = 10.0 ** (e - 6) * (0.1 + 0.9 * (i + 0.5) / 2**e)
            expected |= {middle, -middle}
    assert len(expected) == 256
    assert_close(levels, torch.tensor(sorted(expected)))
    assert (levels.diff() > 0).all()


def test_the_levels_are_made_anew() -> None:
    normal_levels().zero_()
    dynamic_levels().zero_()
    assert normal_levels()[0] == -1
    W = torch.ones(3)
    assert torch.equal(NF4.of(W, double=True).dequantized(), W)


# Tensors of any shape


@given(full_shapes, seeds, dtypes)
def test_int8_is_off_by_half_a_step_at_most(
    shape: tuple[int, ...], seed: int, dtype: torch.dtype
) -> None:
    W = drawn(shape, seed, dtype)
    q = Int8.of(W)
    largest = W.to(F64).abs().amax(-1, keepdim=True)
    assert_close(q.scales.to(F64), largest)
    error = (q.dequantized(F64) - W.to(F64)).abs()
    assert (error <= largest / 254 * (1 + 1e-4)).all()
    assert q.codes.dtype == torch.int8
    assert q.codes.abs().max() <= 127
    assert (q.dequantized().abs().amax(-1, keepdim=True) == q.scales).all()


@given(full_shapes, seeds, dtypes, blocks)
def test_nf4_takes_the_nearest_level(
    shape: tuple[int, ...], seed: int, dtype: torch.dtype, block: int
) -> None:
    W = drawn(shape, seed, dtype)
    q = NF4.of(W, block)
    x = W.to(F64).flatten()
    rows = x.split(block)
    scales = torch.stack([row.abs().max() for row in rows])
    assert_close(q.scales.to(F64), scales)
    scale = scales.repeat_interleave(block)[: len(x)]
    error = (q.dequantized(F64).flatten() - x).abs()
    # The least error that any level gives, by trying all.
    levels = torch.tensor(PUBLISHED, dtype=F64)
    least = (x[:, None] - levels * scale[:, None]).abs().amin(1)
    assert (error <= least + 1e-6 * scale).all()
    half_gap = levels.diff().max() / 2
    assert half_gap == pytest.approx(0.152, abs=1e-4)
    assert (error <= half_gap * scale * (1 + 1e-6)).all()


@given(full_shapes, seeds, blocks)
def test_quantised_scales_are_off_by_half_a_gap_at_most(
    shape: tuple[int, ...], seed: int, block: int
) -> None:
    W = drawn(shape, seed, F32)
    once, twice = NF4.of(W, block), NF4.of(W, block, double=True)
    assert torch.equal(once.codes, twice.codes)
    apart = once.scales.double() - once.scales.double().mean()
    # At the lower end there is no level at -1, half a gap away.
    bound = 0.00704 * apart.abs().max() + 1e-6 * once.scales.max()
    error = (twice.block_scales() - once.scales).abs()
    assert (error <= bound).all()


def test_a_quantised_scale_can_be_negative() -> None:
    # Beside one large scale the step between small ones is larger than they.
    W = torch.full((100,), 0.5)
    W[0], W[1] = 1e-3, 2.0
    q = NF4.of(W, block=1, double=True)
    assert -0.01 < q.block_scales()[0] < 0
    assert q.dequantized()[0] < 0
    assert (NF4.of(W, block=1).dequantized() == W).all()


@given(shapes, seeds, dtypes, blocks)
def test_what_is_quantised_again_stays(
    shape: tuple[int, ...], seed: int, dtype: torch.dtype, block: int
) -> None:
    W = drawn(shape, seed, dtype)
    int8, nf4 = Int8.of(W), NF4.of(W, block)
    assert_same(Int8.of(int8.dequantized()), int8)
    assert_same(NF4.of(nf4.dequantized(), block), nf4)


@pytest.mark.slow
@given(shapes, seeds, dtypes, double)
def test_shape_dtype_and_device_come_back(
    shape: tuple[int, ...], seed: int, dtype: torch.dtype, double: bool
) -> None:
    W = drawn(shape, seed, F32)
    for q in (Int8.of(W), NF4.of(W, 5, double)):
        assert q.shape == shape
        back = q.dequantized(dtype)
        assert back.shape == shape
        assert back.dtype == dtype
        assert_close(back, q.dequantized().to(dtype), rtol=0, atol=0)
        empty = type(q).of(W.to("meta"), *([5, double] * (type(q) is NF4)))
        assert empty.nbytes == q.nbytes
        assert empty.dequantized(dtype).is_meta
        assert empty.dequantized(dtype).shape == shape


@each_format
def test_numbers_are_taken_in_their_order(
    of: Callable[[Tensor], Any],
) -> None:
    W = torch.randn(6, 50)
    for view in (W.T, W[::2, ::3], W.expand(2, 6, 50), W[None].mT):
        assert_same(of(view), of(view.contiguous()))
    before = W.clone()
    W.requires_grad_()
    assert not of(W).dequantized().requires_grad
    assert torch.equal(W, before)


@each_format
def test_zeros_stay_zero(of: Callable[[Tensor], Any]) -> None:
    assert torch.equal(
        of(torch.zeros(5, 64)).dequantized(), torch.zeros(5, 64)
    )
    W = torch.randn(5, 64)
    W[2] = 0
    W[3, ::2] = 0
    back = of(W).dequantized()
    assert torch.equal(back == 0, back == 0.0 * back)
    assert (back[2] == 0).all()
    assert (back[3, ::2] == 0).all()


@each_format
@pytest.mark.parametrize("size", [1e-45, 1e-38, 1e-35, 1e35, 3.4e38])
def test_neither_tiny_nor_huge_numbers_become_nan(
    of: Callable[[Tensor], Any], size: float
) -> None:
    W = torch.linspace(-1, 1, 128).view(2, 64) * size
    if size > 1e38 and of is FORMATS["nf4_double"]:
        # Their mean overflows, in the library as here.
        with pytest.raises(ValueError, match="infinite in float32"):
            of(W)
        return
    back = of(W).dequantized()
    assert back.isfinite().all()
    error = (back.double() - W.double()).abs().max()
    # Below 1e-36 all becomes 0.
    assert error <= max(0.16 * size, 1e-36)


@each_format
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(
    of: Callable[[Tensor], Any], bad: float
) -> None:
    W = torch.ones(3, 3)
    W[1, 2] = bad
    with pytest.raises(ValueError, match="some that are NaN or infinite"):
        of(W)
    with pytest.raises(ValueError, match="infinite in float32"):
        of(torch.tensor([1e300], dtype=F64))
    for dtype in (torch.int64, torch.complex64):
        with pytest.raises(ValueError, match=f"floating-point.*{dtype}"):
            of(torch.ones(2, dtype=dtype))


def test_a_block_has_a_number() -> None:
    for block in (0, -1):
        with pytest.raises(
            ValueError, match=f"at least 1 number, got {block}"
        ):
            NF4.of(torch.ones(3), block)


@pytest.mark.slow
@given(st.integers(0, 70_000), st.sampled_from([32, 64, 256]))
def test_bits_are_counted_exactly(n: int, block: int) -> None:
    W = torch.empty(n, device="meta")
    scales = -(-n // block)
    once, twice = NF4.of(W, block), NF4.of(W, block, double=True)
    assert once.nbytes == -(-n // 2) + 4 * scales
    mean = 4
    assert twice.nbytes == -(-n // 2) + scales + 4 * -(-scales // 256) + mean
    assert Int8.of(W).nbytes == n + 4
    assert once.bits == (8 * once.nbytes / n if n else 0)


def test_double_quantisation_saves_what_the_paper_says() -> None:
    W = torch.empty(4096, 4096, device="meta")
    once, twice = NF4.of(W), NF4.of(W, double=True)
    assert once.bits == 4 + 32 / 64
    mean = 32 / W.numel()
    assert twice.bits == 4 + 8 / 64 + 32 / (64 * 256) + mean
    assert round(twice.bits - 4, 3) == 0.127
    for q, name, doubled in (
        (once, "nf4", False),
        (twice, "nf4", True),
        (Int8.of(W), "int8", False),
    ):
        formula = cost._quantised(4096, 4096, name, doubled)
        # The formula leaves out one number, the mean.
        assert q.nbytes == formula + 4 * doubled


@given(full_shapes, seeds, st.integers(2, 8), blocks)
def test_any_levels_will_do(
    shape: tuple[int, ...], seed: int, bits: int, block: int
) -> None:
    x = drawn(shape, seed, F32)
    levels = normal_levels(bits)
    codes, scales = to_levels(x, levels, block)
    back = from_levels(codes, scales, levels, block)
    assert codes.shape == back.shape == (x.numel(),)
    if bits == 4:
        assert torch.equal(back.view(shape), NF4.of(x, block).dequantized())
    again, same = to_levels(back, levels, block)
    assert torch.equal(again, codes)
    assert torch.equal(same, scales)


def test_the_error_of_gaussian_weights() -> None:
    W = torch.randn(512, 512)
    error = {
        name: float((of(W).dequantized() - W).norm() / W.norm())
        for name, of in FORMATS.items()
    }
    # Of the largest of 512 normal numbers, 1/254; spread evenly: over √3.
    assert 0.006 < error["int8"] < 0.009
    assert 0.09 < error["nf4"] < 0.095
    assert abs(error["nf4_double"] - error["nf4"]) < 2e-4


# What other libraries make of the same numbers


def test_codes_and_scales_are_those_of_bitsandbytes() -> None:
    """Compare with what it has written.

    Made by bitsandbytes 0.50.2 with torch 2.13.0 on a CPU:
    ``quantize_4bit(W, quant_type="nf4")``, the same with
    ``compress_statistics=True``, and ``int8_vectorwise_quant(W)``.
    """
    i = torch.arange(256)
    W = ((i * 37 % 101 - 50) * (1 + i // 64) / 16).view(4, 64)
    once, twice, int8 = NF4.of(W), NF4.of(W, double=True), Int8.of(W)
    codes = (
        "04c16e29f3b05d17e29f3c05d18e2af4c16e18e3b05d17e29f3b05d18e2af4c1"
        "6d18e3b04c17e29f3b05d17e2af4c06d18e2a04c16e29f3b05d17e29f3c05d18"
        "e2af4c16e18e3b05d17e29f3b05d18e2af4c16d18e3b04c17e29f3b05d17e2af"
        "4c06d18e2a04c16e29f3b05d17e29f3c05d18e2af4c16e18e3b05d17e29f3b05"
    )
    assert once.codes.numpy().tobytes().hex() == codes
    assert twice.codes.numpy().tobytes().hex() == codes
    assert once.scales.tolist() == [3.125, 6.25, 9.375, 12.5]
    assert twice.scales.tolist() == [0, 47, 207, 255]
    assert twice.scale_scales.tolist() == [4.6875]
    assert twice.scale_mean == 7.8125
    row = [-3.5555171966552734, 5.508872985839844, -12.5, -1.1381254196166992]
    assert once.dequantized()[3, :4].tolist() == row
    assert twice.dequantized()[3, :4].tolist() == row
    assert once.dequantized().double().sum() == -16.01814368367195
    assert twice.dequantized().double().sum() == -16.04620948433876
    assert int8.scales.flatten().tolist() == [3.125, 6.25, 9.375, 12.5]
    assert int8.codes[0].numpy().tobytes().hex() == (
        "81df3d9af856b41270cd2b89e745a2005ebb1977d53390ee4caa0866c3217fdc"
        "3a98f654b10f6dcb2986e4429ffd5bb91775d2308eec4aa70563c01e7cda3895"
    )


@given(st.integers(0, 4), seeds)
def test_q4_1_is_read_as_it_is_defined(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data, expected = b"", []
    for _ in range(n):
        d, m = (float(np.float16(x)) for x in rng.normal(size=2))
        q = rng.integers(0, 16, 32)
        halves = [int(q[j]) + 16 * int(q[j + 16]) for j in range(16)]
        data += struct.pack("<ee16B", d, m, *halves)
        expected += [d * int(c) + m for c in q]
    back = q4_1(data)
    assert back.dtype == F32
    assert_close(back, torch.tensor(expected, dtype=F32))
    assert torch.equal(q4_1(bytearray(data)), back)


@pytest.mark.parametrize("size", [1, 19, 39])
def test_a_block_of_q4_1_is_whole(size: int) -> None:
    with pytest.raises(ValueError, match=f"20 bytes, got {size} bytes"):
        q4_1(bytes(size))


def test_q4_1_is_what_gguf_reads() -> None:
    gguf = pytest.importorskip("gguf")
    x = np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32)
    kind = gguf.GGMLQuantizationType.Q4_1
    packed = gguf.quants.quantize(x, kind)
    expected = gguf.quants.dequantize(packed, kind)
    assert torch.equal(
        q4_1(packed.tobytes()), torch.from_numpy(expected).flatten()
    )


# Layers


def linear(dtype: torch.dtype = F32, bias: bool = True) -> nn.Linear:
    return nn.Linear(70, 24, bias, dtype=dtype)


@each_layer
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [BF16, F32, F64])
def test_a_layer_is_a_linear_one_with_that_weight(
    wrap: Wrap, bias: bool, dtype: torch.dtype
) -> None:
    base = linear(dtype, bias)
    layer = wrap(base)
    plain = layer.plain()
    assert type(plain) is nn.Linear
    assert torch.equal(plain.weight, layer.dequantized())
    assert plain.weight.dtype == layer.weight.dtype == dtype
    assert not any(p.requires_grad for p in plain.parameters())
    assert [layer.train(x).plain().training for x in (True, False)] == [1, 0]
    assert (layer.in_features, layer.out_features) == (70, 24)
    for shape in ((70,), (3, 70), (2, 5, 70), (0, 70)):
        x, x2 = (torch.zeros(shape, dtype=dtype) for _ in "ab")
        x.copy_(torch.randn(shape))
        x2.copy_(x)
        y, y2 = (f(v.requires_grad_()) for f, v in ((layer, x), (plain, x2)))
        assert torch.equal(y, y2)  # not close: equal
        y_bar = torch.randn_like(y)
        y.backward(y_bar)
        y2.backward(y_bar)
        assert_close(x.grad, x2.grad)


@each_layer
def test_autocast_computes_as_for_a_linear_layer(wrap: Wrap) -> None:
    layer = wrap(linear())
    x = torch.randn(3, 70, requires_grad=True)
    found = []
    for f in (layer, layer.plain()):
        with torch.autocast("cpu", BF16):
            y = f(x)
        (gradient,) = torch.autograd.grad(y.float().square().sum(), x)
        found.append((y, gradient))
    assert found[0][0].dtype == BF16
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@each_layer
def test_gradients_of_any_order_and_of_the_bias(wrap: Wrap) -> None:
    layer = wrap(linear(F64))
    x = torch.randn(2, 3, 70, dtype=F64, requires_grad=True)

    def f(x: Tensor) -> Tensor:
        return layer(x).tanh().sum(-1)[:, :2]

    assert torch.autograd.gradcheck(f, x)
    assert torch.autograd.gradgradcheck(f, x[:1, :1].detach().requires_grad_())
    assert layer.bias is not None
    layer.bias.requires_grad_()
    for rows in (x, x[0], x[0, 0]):  # a vector too
        layer.bias.grad = None
        layer(rows).square().sum().backward()
        assert_close(layer.bias.grad, 2 * layer(rows).reshape(-1, 24).sum(0))
    each = torch.func.vmap(torch.func.grad(lambda v: layer(v).sum()))
    (whole,) = torch.autograd.grad(layer(x).sum(), x)
    assert_close(each(x.detach()[0]), whole[0])


@each_layer
def test_what_is_saved_is_packed(wrap: Wrap) -> None:
    base = linear()
    layer = wrap(base)
    packed = layer.quantized.nbytes
    assert packed < base.weight.nbytes / 3
    x = torch.randn(5, 70, requires_grad=True)
    assert measure.saved_bytes(layer, x) == packed
    assert measure.saved_bytes(layer, x, exclude=layer.buffers()) == 0
    assert measure.saved_bytes(layer, x.detach()) == 0
    frozen = measure.saved_bytes(LoRALinear(base, 2, 4.0), x)
    ours = LoRALinear(layer, 2, 4.0)
    assert measure.saved_bytes(ours, x, exclude=layer.buffers()) == frozen
    assert measure.count_flops(layer, x) == measure.count_flops(base, x)
    assert measure.step_flops(layer, x) == measure.step_flops(layer.plain(), x)


@each_layer
def test_a_change_of_dtype_leaves_what_is_held(wrap: Wrap) -> None:
    layer = wrap(linear())
    before = {k: v.clone() for k, v in layer.named_buffers()}
    W = layer.dequantized()
    for dtype in (BF16, torch.float16, F64, F32):
        assert layer.to(dtype) is layer
        assert layer.dtype == dtype
        for name, held in layer.named_buffers():
            assert held.dtype == before[name].dtype
            assert torch.equal(held, before[name]), name
        assert torch.equal(layer.dequantized(), W.to(dtype))
        assert layer(torch.randn(2, 70, dtype=dtype)).dtype == dtype
    meta = copy.deepcopy(layer).to("meta")
    assert all(t.is_meta for t in meta.state_dict().values())
    assert meta(torch.empty(2, 70, device="meta")).shape == (2, 24)
    # Both at once: the device changes, and what is held keeps its dtype.
    both = copy.deepcopy(layer).to("meta", F64)
    for name, held in both.named_buffers():
        assert held.is_meta
        assert held.dtype == before[name].dtype


@each_layer
def test_a_layer_is_stored_and_loaded(wrap: Wrap) -> None:
    layer = wrap(linear())
    x = torch.randn(2, 70)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other = wrap(linear())
    assert not torch.equal(other(x), layer(x))
    other.load_state_dict(state)
    assert torch.equal(other(x), layer(x))
    # Without memory for the weight that it is made from.
    empty = wrap(nn.Linear(70, 24, device="meta"))
    assert empty.quantized.nbytes == layer.quantized.nbytes
    empty.load_state_dict(state, assign=True)
    assert torch.equal(empty(x), layer(x))
    bare = wrap(nn.Linear(70, 24, device="meta")).to_empty(device="cpu")
    bare.load_state_dict(state)
    assert torch.equal(bare(x), layer(x))
    copied = copy.deepcopy(layer)
    layer.codes.zero_()
    assert torch.equal(copied(x), other(x))


def test_what_a_layer_is_made_from() -> None:
    base = linear().eval()
    before = copy.deepcopy(base.state_dict())
    layer = NF4Linear.from_linear(base, block=32, double=True)
    assert not layer.training
    assert all(torch.equal(v, before[k]) for k, v in base.state_dict().items())
    assert base.weight.requires_grad
    assert not any(p.requires_grad for p in layer.parameters())
    assert_same(layer.quantized, NF4.of(base.weight, 32, double=True))
    assert "in_features=70, out_features=24, bias=True, bits=" in repr(layer)
    assert layer.quantized.bits == 8 * layer.quantized.nbytes / (70 * 24)
    with pytest.raises(TypeError, match="kind Linear, got a Embedding"):
        NF4Linear.from_linear(nn.Embedding(3, 4))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"weight \(d, k\), got.*\(2, 3, 4\)"):
        Int8Linear(Int8.of(torch.ones(2, 3, 4)))
    with pytest.raises(TypeError, match="abstract"):
        bases.QuantizedLinear(NF4.of(torch.ones(2, 3)))  # type: ignore[abstract]


@each_layer
def test_layers_made_from_one_another_share_no_numbers(wrap: Wrap) -> None:
    base = linear(F32)
    layer = wrap(base)
    x = torch.randn(5, 70)
    before = layer(x)
    for other in (base, layer.plain(), LoRALinear(layer, 2, 1.0).merge()):
        with torch.no_grad():
            for p in other.parameters():
                p.add_(1)
        assert torch.equal(layer(x), before)


# Adapters beside quantised layers


def model() -> nn.Sequential:
    return nn.Sequential(linear(F32), nn.Tanh(), nn.Linear(24, 6))


@each_layer
def test_an_adapter_beside_a_quantised_layer(wrap: Wrap) -> None:
    net = model()
    net[0] = wrap(net[0])
    buffers = {k: v.clone() for k, v in net.named_buffers()}
    x = torch.randn(9, 70)
    before = net(x)
    new = inject(net, 3, 6.0, "all-linear")
    assert {*new} == {"0", "2"}
    layer = net[0]
    assert type(layer) is LoRALinear
    assert torch.equal(net(x), before)
    trainable = {n for n, p in net.named_parameters() if p.requires_grad}
    assert trainable == {"0.A", "0.B", "2.A", "2.B"}
    optimizer = torch.optim.SGD([p for p in net.parameters()], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    for name, value in buffers.items():
        now = dict(net.named_buffers())[name.replace("0.", "0.base.")]
        assert torch.equal(now, value)
    W = layer.base.dequantized() + layer.scale * layer.B @ layer.A
    assert (layer.delta_weight().norm() / W.norm()) > 1e-3
    assert_close(layer.weight, W)
    assert_close(layer(x), x @ W.T + layer.bias)
    y = net(x)
    merged = merge(net)
    assert [type(m) for m in merged] == [nn.Linear, nn.Tanh, nn.Linear]
    assert_close(merged[0].weight, W)
    assert_close(merged(x), y)
    assert not any(p.requires_grad for p in merged.parameters())


def test_memory_can_be_followed_without_numbers() -> None:
    base = nn.Linear(128, 64, device="meta")
    layer = LoRALinear(NF4Linear.from_linear(base, double=True), 2, 2.0)
    with weightless(layer):
        x = torch.empty(5, 128, requires_grad=True)
        layer(x).sum().backward()
        assert x.grad is not None
        assert x.grad.shape == x.shape


def test_adapters_of_other_ranks_and_of_parts() -> None:
    base = linear()
    quantized = NF4Linear.from_linear(base)
    fused = LoRAFused(quantized, 2, 4.0, (True, False, True))
    nn.init.normal_(fused.B)
    x = torch.randn(3, 70)
    W = quantized.dequantized() + fused.delta_weight()
    assert_close(fused(x), x @ W.T + base.bias)
    assert (fused.delta_weight()[8:16] == 0).all()
    other = LoRALinear(quantized, 3, 1.0).like(5, 2.0)
    assert other.base is quantized
    assert other.r == 5


def test_layers_of_another_forward_are_refused_by_name() -> None:
    class Own(Int8Linear):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return x

    net = nn.Sequential(linear())
    net[0] = Own.from_linear(net[0])
    with pytest.raises(TypeError, match="0: the Own has a forward of its own"):
        inject(net, 2, 2.0, "all-linear")
    with torch.inference_mode():
        frozen = Int8.of(torch.randn(4, 6))
    net = nn.Sequential(Int8Linear(frozen))
    with pytest.raises(TypeError, match=r"0: .* inside inference_mode"):
        inject(net, 2, 2.0, "all-linear")


# Factors that make up for quantisation


@given(st.integers(1, 12), st.integers(1, 12), seeds, st.integers(1, 4))
def test_loftq_is_never_worse_than_a_start_at_zero(
    d: int, k: int, seed: int, steps: int
) -> None:
    W = drawn((d, k), seed, F32)
    r = 1 + seed % min(d, k)
    found = loftq(W, r, steps, quantize=lambda W: NF4.of(W, 16))
    alone = float((W - NF4.of(W, 16).dequantized()).norm())
    base = found.base.dequantized()
    error = float((W - base - found.B @ found.A).norm())
    assert error <= alone * (1 + 1e-5)
    assert found.errors[0] == pytest.approx(alone)
    assert len(found.errors) == 1 + steps
    size = 1e-6 * float(W.norm())
    assert error == pytest.approx(min(found.errors[1:]), abs=10 * size)
    # Balanced, but for directions that make up for nothing.
    inner = found.B.T @ found.B
    used = inner.diagonal() > 0
    assert_close(
        inner[used][:, used],
        (found.A @ found.A.T)[used][:, used],
        atol=100 * size,
        rtol=1e-3,
    )
    assert (found.A.norm(dim=1) > 0).all()


def test_loftq_returns_the_best_step_not_the_last_that_was_better() -> None:
    telling = 0  # where the error that falls last is not the least
    for seed in range(80):
        W = torch.randn(8, 8, generator=torch.Generator().manual_seed(seed))
        found = loftq(W, 2, 12)
        errors = found.errors[1:]
        last = [b for a, b in pairwise(errors) if b < a][-1:]
        telling += bool(last) and last[0] > min(errors) + 1e-3
        error = W - found.base.dequantized() - found.B @ found.A
        assert float(error.norm()) == pytest.approx(min(errors), rel=1e-4)
    assert telling >= 2


def test_one_step_of_loftq_is_the_svd_of_the_error() -> None:
    base = linear()
    quantized = NF4Linear.from_linear(base)
    expected = extract_lora(quantized, base, 4, 8.0)
    found = loftq(base.weight, 4, steps=1, scale=expected.scale)
    assert_same(found.base, quantized.quantized)
    assert_close(expected.scale * found.B @ found.A, expected.delta_weight())


def test_steps_of_loftq_lower_the_error() -> None:
    W = torch.randn(64, 64)
    one, five = (loftq(W, 8, steps) for steps in (1, 5))
    assert five.errors[:2] == one.errors
    assert five.errors[1] < 0.95 * five.errors[0]
    assert min(five.errors) < 0.99 * five.errors[1]
    error = float((W - five.base.dequantized() - five.B @ five.A).norm())
    assert error == pytest.approx(min(five.errors), rel=1e-5)
    in8 = loftq(W, 8, quantize=Int8.of)
    assert isinstance(in8.base, Int8)
    assert in8.errors[0] < 0.1 * five.errors[0]


def test_loftq_can_stop_before_it_gets_worse() -> None:
    # By the paper's rule, the result would be the last, whatever it is.
    def spoiled(W: Tensor) -> NF4:
        calls.append(1)
        return NF4.of(W if len(calls) == 1 else 0 * W)

    calls: list[int] = []
    W = torch.randn(32, 32)
    found = loftq(W, 2, 3, quantize=spoiled)
    assert found.errors[2] > found.errors[1]
    assert_same(found.base, NF4.of(W))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 5}, "need 1 <= r <= 4, got 5"),
        ({"steps": 0}, "need steps >= 1 and a finite scale > 0, got 0 and 1"),
        ({"scale": 0.0}, "got 5 and 0.0"),
        ({"scale": math.inf}, "got 5 and inf"),
    ],
)
def test_loftq_refuses(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loftq(torch.randn(4, 6), **{"r": 2, **settings})


# Rounding


@given(
    st.integers(1, 20),
    seeds,
    st.sampled_from([BF16, torch.float16, F32]),
    st.integers(-14, 0),
)
def test_an_update_of_less_than_half_a_step_is_lost(
    n: int, seed: int, dtype: torch.dtype, size: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    W = torch.randn(n, generator=g).to(dtype)
    dW = (torch.randn(n, generator=g) * 2.0**size).float()
    kept = []
    for w, delta in zip(W, dW, strict=True):
        toward = torch.tensor(math.copysign(math.inf, delta)).to(dtype)
        step = Fraction(float(torch.nextafter(w, toward))) - Fraction(float(w))
        share = Fraction(float(delta)) / step
        # So near to a tie, the sum in float32 decides.
        if dtype != F32 and abs(share - Fraction(1, 2)) < 1e-3:
            return
        kept.append(share < Fraction(1, 2) or (share == Fraction(1, 2)))
    expected = sum(kept) / n
    if dtype != F32:
        assert unchanged_share(W, dW, dtype) == pytest.approx(expected)
    assert unchanged_share(W, 0 * dW, dtype) == 1
    assert unchanged_share(W, 2 * W, dtype) == 0


def test_a_weight_is_rounded_before_its_share_is_taken() -> None:
    W = torch.randn(1000)
    held = W.to(BF16).float()
    for size in (1e-3, 3e-3, 1e-2):
        share = unchanged_share(W, size * W, BF16)
        assert share == unchanged_share(held, size * W, BF16)
        merged = (held + size * W).to(BF16).float()
        assert share == pytest.approx(float((merged == held).float().mean()))


@given(seeds, st.sampled_from([BF16, torch.float16, F32, F64]))
def test_it_is_what_merging_loses(seed: int, dtype: torch.dtype) -> None:
    torch.manual_seed(seed)
    base = nn.Linear(6, 5, dtype=dtype)
    layer = LoRALinear(base, 2, 2.0)
    nn.init.normal_(layer.B, std=0.01)
    W = layer.merge().weight
    share = float((base.weight == W).double().mean())
    dW = layer.delta_weight()
    assert unchanged_share(base.weight, dW, dtype) == share


def test_the_share_grows_as_the_update_shrinks() -> None:
    W, dW = torch.randn(2, 300, 300).bfloat16().double()
    shares = []
    for size in (1e-1, 1e-2, 1e-3, 1e-4):
        shares.append(unchanged_share(W, size * dW, BF16))
        # bfloat16 has 7 digits after the first.
        step = 2.0 ** (W.abs().log2().floor() - 7)
        lost = (size * dW.abs() < step / 2).double().mean()
        assert shares[-1] == pytest.approx(float(lost), abs=0.003)
    assert shares == sorted(shares)
    assert shares[0] < 0.05
    assert shares[-1] > 0.95


@pytest.mark.parametrize(
    ("W", "dW", "dtype", "message"),
    [
        (torch.ones(2), torch.ones(3), F32, r"got \(2,\) and \(3,\)"),
        (torch.ones(0), torch.ones(0), F32, r"with entries, got \(0,\)"),
        (torch.ones(2), torch.ones(2), torch.int8, "got torch.int8"),
    ],
)
def test_there_is_no_share_of(
    W: Tensor, dW: Tensor, dtype: torch.dtype, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        unchanged_share(W, dW, dtype)
