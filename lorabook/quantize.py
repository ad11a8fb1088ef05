"""Weights in 8 and in 4 bits, and what rounding takes from an update.

    Int8     one scale for each row            8 bits a number, and the scales
    NF4      one scale for each 64 numbers     4.5 bits
             the scales in 8 bits as well      4.127 bits
    q4_1     reads what a GGUF file holds      5 bits

A block of numbers is divided by the largest magnitude in it, its *scale*, and
each quotient is replaced by the number of the nearest *level* in a short,
sorted list that all blocks share.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lorabook.bases import Quantized, QuantizedLinear
from lorabook.linalg import at_least_float32, truncated_svd

# A smaller scale has no inverse in float32: its numbers become zeros.
SMALLEST_SCALE = 1e-36
# Scales that share one scale of their own.
SCALES_TOGETHER = 256


def normal_levels(bits: int = 4) -> Tensor:
    """Return the levels of NormalFloat, NF4 if `bits` is 4.

    They are quantiles of the normal distribution, so that each level would be
    the nearest to about as many numbers as any other, with 0 among them, and
    one more above 0 than below (Dettmers et al. 2023, section 3). The
    probabilities are even, from 1/2 to just below 1: short of 1 by the mean of
    half a step for ``2**bits`` levels and half a step for one less. All are
    divided by the largest.

    Parameters
    ----------
    bits : int
        From 2 to 8.

    Returns
    -------
    Tensor, shape (2**bits,)
        Ascending, from -1 to 1. For 4 bits, bit for bit what the QLoRA code
        has, so probabilities and quotients are float32.

    Raises
    ------
    ValueError
        If `bits` is not allowed.
    """
    if bits not in range(2, 9):
        raise ValueError(f"need 2 <= bits <= 8, got {bits}")
    n = 2**bits
    # As many digits as in the QLoRA code.
    last = round(1 - (1 / (2 * n) + 1 / (2 * (n - 1))) / 2, 7)
    quantile = NormalDist().inv_cdf
    above, below = (
        [quantile(p) for p in _even(last, 0.5, steps)]
        for steps in (n // 2, n // 2 - 1)
    )
    values = [*(-x for x in below), 0.0, *reversed(above)]
    levels = torch.tensor(values, dtype=torch.float32, device="cpu")
    return levels / levels[-1]


def dynamic_levels() -> Tensor:
    """Return the 256 levels of the 8-bit numbers that hold scales.

    Seven decades, each split evenly into twice as many parts as the one below
    it, on both sides of 0; the levels are the middles of the parts, 0 and 1
    (Dettmers 2016, as in the QLoRA code). Close to 0 they are dense.

    Returns
    -------
    Tensor, shape (256,)
        Ascending, from -0.993 to 1.
    """
    above = torch.cat([_decade(e) for e in range(7)])
    ends = torch.tensor([0.0, 1.0], dtype=torch.float32, device="cpu")
    return torch.cat([-above, ends, above]).sort().values


def _even(start: float, end: float, steps: int) -> list[float]:
    """Return `steps` numbers from `start` towards `end`, without `end`."""
    return torch.linspace(
        start, end, steps + 1, dtype=torch.float32, device="cpu"
    ).tolist()[:-1]


def _decade(e: int) -> Tensor:
    """Return the middles of 2**e even parts of 10**(e-7) to 10**(e-6)."""
    edges = torch.linspace(0.1, 1, 2**e + 1, dtype=torch.float32, device="cpu")
    return 10.0 ** (e - 6) * ((edges[:-1] + edges[1:]) / 2)


# As numbers, which belong to no device.
_NORMAL: list[float] = normal_levels().tolist()
_DYNAMIC: list[float] = dynamic_levels().tolist()


def _on(values: Any, like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)


# Blocks and levels


@torch.no_grad()
def to_levels(
    x: Tensor, levels: Tensor, block: int = 64
) -> tuple[Tensor, Tensor]:
    """Replace each number by that of a level, and each block by its scale.

    Parameters
    ----------
    x : Tensor
        n numbers of any shape, in its order; the last block may be shorter.
    levels : Tensor, shape (at most 256,)
        Ascending.
    block : int
        Numbers that share a scale.

    Returns
    -------
    codes : Tensor of uint8, shape (n,)
        The number of the level that is nearest to the quotient of the number
        and its scale; of two that are as near, the lower.
    scales : Tensor of float32, shape (number of blocks,)
        The largest magnitude in each block, or 0 if that is below 1e-36.

    Raises
    ------
    ValueError
        If `x` is not real and finite in float32, or `block` is below 1.
    """
    if block < 1:
        raise ValueError(f"need a block of at least 1 number, got {block}")
    x = _float32(x)
    rows = _blocks(x.reshape(-1), block)
    scales = _scales(rows)
    scaled = _times_inverse(rows, scales).reshape(-1)[: x.numel()]
    middles = (levels[:-1] + levels[1:]) / 2
    codes = torch.bucketize(scaled, middles.to(x.device), out_int32=True)
    return codes.to(torch.uint8), scales[:, 0]


def from_levels(
    codes: Tensor, scales: Tensor, levels: Tensor, block: int = 64
) -> Tensor:
    """Return the numbers that codes and scales stand for.

    Parameters
    ----------
    codes, scales : Tensor, shapes (n,) and (number of blocks,)
        As `to_levels` returns them.
    levels, block
        As they were there.

    Returns
    -------
    Tensor of float32, shape (n,)
    """
    return _times(levels.to(codes.device)[codes.int()], scales, block)


def _float32(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        raise ValueError(f"need real floating-point numbers, got {x.dtype}")
    x = x.detach().to(torch.float32)
    if not (x.is_meta or bool(x.isfinite().all())):
        raise ValueError(
            "need finite numbers, got some that are NaN or infinite in float32"
        )
    return x


def _blocks(x: Tensor, block: int) -> Tensor:
    """Lay n numbers out as (number of blocks, block); zeros fill the last."""
    return F.pad(x, (0, -x.numel() % block)).view(-1, block)


def _scales(rows: Tensor) -> Tensor:
    """Return the largest magnitudes in rows (..., k), as (..., 1)."""
    if rows.numel() == 0:
        return rows.new_zeros((*rows.shape[:-1], 1))
    largest = rows.abs().amax(-1, keepdim=True)
    return torch.where(largest < SMALLEST_SCALE, 0.0, largest)


def _times_inverse(rows: Tensor, scales: Tensor, top: float = 1.0) -> Tensor:
    """Return ``top * rows / scales``; zeros where the scale is 0."""
    return rows * torch.where(scales > 0, top / scales, 0.0)


def _times(x: Tensor, scales: Tensor, block: int) -> Tensor:
    """Multiply each block of the n numbers by its scale."""
    rows = _blocks(x, block) * scales[:, None]
    return rows.reshape(-1)[: x.numel()]


# The formats


@final
@dataclass(frozen=True, eq=False)
class Int8(Quantized):
    """A tensor whose rows are whole numbers from -127 to 127 times a scale.

    Attributes
    ----------
    codes : Tensor of int8
        In the shape of the tensor.
    scales : Tensor of float32, shape (..., 1)
        The largest magnitude in each row, which is 127. A row runs along the
        last dimension.
    """

    codes: Tensor
    scales: Tensor

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        """The shape of the tensor."""
        return self.codes.shape

    @classmethod
    @torch.no_grad()
    def of(cls, W: Tensor) -> Self:
        """Quantise a tensor of any shape; it is not changed.

        No number moves by more than half a step, 1/254 of the scale.

        Raises
        ------
        ValueError
            If `W` is not real and finite in float32.
        """
        W = _float32(W)
        scales = _scales(W)
        codes = _times_inverse(W, scales, 127.0).round().to(torch.int8)
        return cls(codes.reshape(W.shape), scales)

    def dequantized(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the numbers, computed in float32."""
        shares = self.codes.to(torch.float32) / 127
        return (shares * self.scales).to(dtype)


@final
@dataclass(frozen=True, eq=False)
class NF4(Quantized):
    """A tensor of 4-bit NormalFloats (Dettmers et al. 2023).

    Attributes
    ----------
    codes : Tensor of uint8, shape (half of the numbers,)
        Two codes in each byte, the first in the upper half.
    scales : Tensor, shape (number of blocks,)
        float32; or, quantised as well, codes of `dynamic_levels`, uint8.
    scale_scales : Tensor of float32, shape (number of blocks / 256,)
        The scales of the scales, if these are quantised.
    scale_mean : Tensor of float32, shape ()
        What was taken off all scales before.
    shape : torch.Size
        That of the tensor.
    block : int
        Numbers in a block, which follow each other along the rows.
    """

    codes: Tensor
    scales: Tensor
    scale_scales: Tensor | None
    scale_mean: Tensor | None
    shape: torch.Size
    block: int

    @classmethod
    @torch.no_grad()
    def of(cls, W: Tensor, block: int = 64, double: bool = False) -> Self:
        """Quantise a tensor of any shape; it is not changed.

        No number moves by more than half of the widest gap between levels,
        0.152 of its scale, if the scales are not quantised.

        Parameters
        ----------
        W : Tensor
        block : int
            Numbers that share a scale.
        double : bool
            Quantise the scales too: their mean is taken off, and each 256 of
            what remains share a scale. One that is far below that mean can
            come back slightly negative.

        Raises
        ------
        ValueError
            If `W` is not real and finite in float32, or `block` is below 1.
        """
        codes, scales = to_levels(W, _on(_NORMAL, W), block)
        first, second = F.pad(codes, (0, codes.numel() % 2)).view(-1, 2).T
        packed = first << 4 | second
        if not double:
            return cls(packed, scales, None, None, W.shape, block)
        mean = scales.mean() if scales.numel() else scales.new_zeros(())
        small, scale_scales = to_levels(
            scales - mean, _on(_DYNAMIC, W), SCALES_TOGETHER
        )
        return cls(packed, small, scale_scales, mean, W.shape, block)

    def dequantized(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the numbers, computed in float32."""
        levels = _on(_NORMAL, self.codes)
        # One look-up for a byte, which is two numbers.
        pairs = torch.cartesian_prod(levels, levels)  # (256, 2)
        values = F.embedding(self.codes.int(), pairs).reshape(-1)
        values = values[: math.prod(self.shape)]
        scaled = _times(values, self.block_scales(), self.block)
        return scaled.reshape(self.shape).to(dtype)

    def block_scales(self) -> Tensor:
        """Return the scales as float32, shape (number of blocks,)."""
        if self.scale_scales is None or self.scale_mean is None:
            return self.scales
        levels = _on(_DYNAMIC, self.codes)
        apart = from_levels(
            self.scales, self.scale_scales, levels, SCALES_TOGETHER
        )
        return apart + self.scale_mean


@final
class Int8Linear(QuantizedLinear):
    """A frozen linear layer in 8 bits, with one scale for each output."""

    @staticmethod
    def quantize(W: Tensor, **settings: Any) -> Int8:
        """Return a weight in 8 bits; there are no settings."""
        return Int8.of(W, **settings)


@final
class NF4Linear(QuantizedLinear):
    """A frozen linear layer in 4 bits."""

    @staticmethod
    def quantize(W: Tensor, **settings: Any) -> NF4:
        """Return a weight in 4 bits; the settings are those of `NF4.of`."""
        return NF4.of(W, **settings)


def q4_1(data: bytes) -> Tensor:
    """Read numbers in the format Q4_1 of a GGUF file.

    A block of 32 numbers takes 20 bytes: a scale d and a minimum m, each in
    two bytes of float16, and 16 bytes of 4-bit codes q. Byte j holds those of
    the numbers j (lower half) and j + 16 (upper half). A number is d q + m.

    Parameters
    ----------
    data : bytes
        Whole blocks.

    Returns
    -------
    Tensor of float32, shape (32 for each block,)

    Raises
    ------
    ValueError
        If the last block is not whole.
    """
    if len(data) % 20:
        raise ValueError(
            f"need blocks of 20 bytes, got {len(data)} bytes in all"
        )
    blocks = np.frombuffer(data, np.uint8).reshape(-1, 20)
    d, m = blocks[:, :4].copy().view("<f2").astype(np.float32).T
    q = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return torch.from_numpy((d[:, None] * q + m[:, None]).reshape(-1))


# What quantising and rounding take away


@dataclass(frozen=True, eq=False)
class LoftQ:
    """A quantised weight, and factors that make up for a part of its error.

    Attributes
    ----------
    base : Quantized, shape (d, k)
    A, B : Tensor, shapes (r, k) and (d, r)
    errors : tuple of float
        The Frobenius norm of what W differs by from the base alone, and from
        base and factors after each step.
    """

    base: Quantized
    A: Tensor
    B: Tensor
    errors: tuple[float, ...]


@torch.no_grad()
def loftq(
    W: Tensor,
    r: int,
    steps: int = 5,
    scale: float = 1.0,
    quantize: Callable[[Tensor], Quantized] = NF4.of,
) -> LoftQ:
    """Choose a quantised base and factors together (Li et al. 2024).

    In turn, the base is what quantising makes of W - s B A, and s B A the best
    approximation of rank r to what W differs by from the base. The first step
    can only lower the error (Eckart and Young 1936). Later ones mostly do, but
    nothing says that they must: the result is the best of all steps, where the
    paper takes the last.

    Parameters
    ----------
    W : Tensor, shape (d, k)
        Not changed.
    r : int
        Rank of the factors, from 1 to min(d, k).
    steps : int
        At least 1.
    scale : float
        The s of the adapter that the factors are meant for; positive.
    quantize : callable
        What makes the base, as ``NF4.of`` or ``Int8.of``.

    Returns
    -------
    LoftQ
        The singular values are shared out evenly, so that BᵀB = AAᵀ. A
        direction without error to make up for is zero in B alone, where it can
        still learn.

    Raises
    ------
    ValueError
        If `W` is no finite matrix, or `r`, `steps` or `scale` is not allowed.
    """
    if steps < 1 or not 0 < scale < math.inf:
        raise ValueError(
            f"need steps >= 1 and a finite scale > 0, got {steps} and {scale}"
        )
    W = at_least_float32(W.detach())
    best: tuple[Quantized, Tensor, Tensor] | None = None
    errors: list[float] = []
    update = torch.zeros_like(W)
    for _ in range(steps):
        base = quantize(W - update)
        residual = W - base.dequantized(W.dtype)
        if not errors:
            errors.append(float(residual.norm()))
        U, S, Vh = truncated_svd(residual, r)
        update = (U * S) @ Vh
        errors.append(float((residual - update).norm()))
        if best is None or errors[-1] < min(errors[1:-1]):
            root = (S / scale).sqrt()
            A = torch.where(S > 0, root, 1.0)[:, None] * Vh
            best = base, A, U * root
    assert best is not None  # there was a step
    return LoftQ(*best, tuple(errors))


@torch.no_grad()
def unchanged_share(W: Tensor, dW: Tensor, dtype: torch.dtype) -> float:
    """Return the share of entries that an update does not change.

    A weight that is held in `dtype` can only move to a neighbour in it, or
    further. What is added is lost if W + ΔW is rounded to W again: that is,
    if ΔW is less than half of the way to the neighbour. Merging adds in
    float32 at least, and so does this.

    Parameters
    ----------
    W, dW : Tensor, of the same shape
        The weight, which is rounded to `dtype` first, and the update.
    dtype : torch.dtype

    Returns
    -------
    float
        From 0 to 1. Entries whose update is 0 are unchanged.

    Raises
    ------
    ValueError
        If the shapes differ, or there is no entry, or `dtype` is no format of
        real numbers.
    """
    if W.shape != dW.shape or W.numel() == 0:
        raise ValueError(
            "need a weight and an update of one shape with entries, got "
            f"{tuple(W.shape)} and {tuple(dW.shape)}"
        )
    if not dtype.is_floating_point:
        raise ValueError(f"need a format of real numbers, got {dtype}")
    held = W.to(dtype)
    merged = (at_least_float32(held) + at_least_float32(dW)).to(dtype)
    same = at_least_float32(merged) == at_least_float32(held)
    return float(same.double().mean())
