"""Counts that do not depend on the machine, and times as ratios.

PyTorch itself counts the FLOPs and the bytes, and what it cannot count is
refused: an answer of 0 means 0. A wall time says little on a
shared machine, so alternatives are timed in turn and compared in pairs.
"""

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    is_traceable_wrapper_subclass,
)
from torch.utils.flop_counter import FlopCounterMode

from lorabook.operations import FORMULAS, AttentionAsOnCPU, check

# A measurement this long dwarfs the clock's resolution and the loop itself.
SHORTEST_MEASUREMENT = 3e-3  # seconds


def parameter_count(module: nn.Module, trainable_only: bool = False) -> int:
    """Count the numbers in a module's parameters, shared ones once.

    Parameters
    ----------
    module : nn.Module
        The module; buffers are not counted.
    trainable_only : bool
        Leave out parameters that do not require a gradient.

    Returns
    -------
    int
    """
    return sum(
        p.numel()
        for p in module.parameters()
        if p.requires_grad or not trainable_only
    )


def count_flops(
    fn: Callable[..., Any], *args: Any, products_only: bool = False
) -> int:
    """Count the floating-point operations of ``fn(*args)``.

    Counted are products of matrices and vectors, convolutions, attention and
    recurrent layers; a multiply-add counts 2. A mask saves attention nothing,
    and the zeros that pad a convolution count. Work entry by entry, sums,
    norms, pooling and resampling count 0, as is usual. A backward pass counts
    when `fn` runs it. Only PyTorch's work is seen.

    Parameters
    ----------
    fn : callable
        Called once.
    *args
        Its arguments.
    products_only : bool
        Leave out factorisations and solvers (SVD, QR, Cholesky, inverse ...),
        for which there is no exact formula. Otherwise they are refused.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        Naming the operation, if `fn` does one whose number is not known; or
        if it does none at all, as when it computes with NumPy.
    """
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    watch = _Watch(counter.flop_registry, products_only)
    # The fast paths of attention are one operation each, which hides its
    # products.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        # The counter comes second, so it takes operations apart first.
        with watch, counter:
            fn(*args)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    if not watch.seen:
        raise ValueError("no operation of PyTorch was seen: nothing to count")
    return int(counter.get_total_flops())


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Run operations as they are, but refuse those that cannot be counted."""

    supports_higher_order_operators = True

    def __init__(self, known: Mapping[Any, Any], products_only: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known, self.products_only = known, products_only
        self.seen = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        check(func, args, self.known, self.products_only)
        self.seen = True
        return func(*args, **(kwargs or {}))


def step_flops(fn: Callable[..., Any], *args: Any) -> int:
    """Count the operations of a forward and a backward pass.

    The backward pass is that of the sum of all that ``fn(*args)`` returns;
    another loss changes no product.

    Parameters
    ----------
    fn : callable
        Returns a tensor with a gradient. Called once.
    *args
        Its arguments. One that does not require a gradient gets none, which
        saves a product.

    Returns
    -------
    int
        As `count_flops`. An optimizer multiplies no matrices.

    Raises
    ------
    ValueError
        As `count_flops`.
    """
    return count_flops(lambda: fn(*args).sum().backward())


def saved_bytes(
    fn: Callable[..., Any], *args: Any, exclude: Iterable[Tensor] = ()
) -> int:
    """Count the bytes that ``fn(*args)`` keeps alive for its backward pass.

    The count is of storages, each once: two saved views of one tensor keep
    one storage, and a saved slice keeps the whole of it. The input counts
    where it is saved, as inside a network, where it is the activation of
    the layer before.

    Every `nn.Parameter`, frozen or not, is left out: it exists anyway and
    is counted with the weights. A raw tensor is not recognised as a weight,
    so name those in `exclude`.

    Parameters
    ----------
    fn : callable
        Runs a forward pass and no backward pass. Called once, with
        gradients enabled.
    *args
        Its arguments.
    exclude : iterable of Tensor
        Further tensors whose storages are not counted.

    Returns
    -------
    int
        Bytes. Tensors without memory, fake ones or on the device ``meta``,
        give the bytes that they would have; attention on ``meta`` does what
        it would do on the CPU. What a hook within `fn` replaces, as when
        tensors are moved to the CPU, is not seen.

    Raises
    ------
    ValueError
        If `fn` runs a backward pass, or if the bytes of a tensor that it
        saves are not known.
    """
    weights = list(exclude)
    if isinstance(fn, nn.Module):
        weights += fn.parameters()
    # The tensors are held until the end: a freed address could be reused.
    kept: list[Tensor] = []
    running = True

    def pack(t: Tensor) -> Tensor:
        owner = t if t._base is None else t._base
        (weights if isinstance(owner, nn.Parameter) else kept).append(t)
        return t

    def unpack(t: Tensor) -> Tensor:
        if running:
            raise ValueError(
                "the function ran a backward pass, which frees what it saved"
            )
        return t

    began = torch._C._autograd._get_sequence_nr()
    # In inference mode nothing is saved, even with gradients enabled.
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        saved_tensors_hooks(pack, unpack),
        AttentionAsOnCPU(),
    ):
        out = fn(*args)
    running = False
    for t in _kept_by_contexts(out, began):
        pack(t)
    sizes = _storage_sizes(kept)
    for storage in _storage_sizes(weights):
        sizes.pop(storage, None)
    return sum(sizes.values())


def _kept_by_contexts(out: Any, began: int) -> Iterator[Tensor]:
    """Yield what custom functions keep without ``save_for_backward``.

    What was computed before node `began` is the input's past, and kept by
    others.
    """

    def recent(nodes: Iterable[Any]) -> list[Any]:
        known = (node for node in nodes if node is not None)
        return [node for node in known if node._sequence_nr() >= began]

    for node in _reached(
        recent(t.grad_fn for t in _tensors(out)),
        lambda node: recent(n for n, _ in node.next_functions),
    ):
        if isinstance(node, BackwardCFunction):
            yield from _tensors(vars(node))


def _tensors(value: object) -> Iterator[Tensor]:
    """Return the tensors that a value holds, in whatever kind of object.

    PyTorch's own walk knows lists, tuples and dicts, and passes by the rest:
    sets, slots, closures and partial functions.
    """

    def inside(held: Any) -> Iterable[Any]:
        if isinstance(held, Tensor | type | ModuleType):
            return ()
        if isinstance(held, FunctionType):
            # And not its globals, which it merely sees.
            return (
                held.__closure__,
                held.__defaults__,
                held.__kwdefaults__,
                held.__dict__,
            )
        return gc.get_referents(held)

    found = _reached([value], inside)
    return (held for held in found if isinstance(held, Tensor))


def _reached(
    start: Iterable[Any], following: Callable[[Any], Iterable[Any]]
) -> Iterator[Any]:
    """Yield each object once that is among the first or follows from one."""
    todo = [*start]
    # By their identity, which is theirs alone while they are held.
    seen: dict[int, object] = {}
    while todo:
        held = todo.pop()
        if id(held) not in seen:
            seen[id(held)] = held
            yield held
            todo += following(held)


def _storage_sizes(tensors: Iterable[Tensor]) -> dict[int, int]:
    """Return the bytes of each storage, by its identity.

    Its address would not do: without memory, all of them are at 0.
    """
    storages = [p.untyped_storage() for t in tensors for p in _parts(t)]
    return {s._cdata: s.nbytes() for s in storages}


def _parts(t: Tensor) -> list[Tensor]:
    """Return the tensors with a storage that make up one without."""
    if is_traceable_wrapper_subclass(t):
        names, _ = t.__tensor_flatten__()
        return [p for name in names for p in _parts(getattr(t, name))]
    if t.layout == torch.strided:
        return [t]
    if t.layout == torch.sparse_coo:
        return [t._indices(), t._values()]
    if t.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [t.crow_indices(), t.col_indices(), t.values()]
    if t.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [t.ccol_indices(), t.row_indices(), t.values()]
    raise ValueError(f"the bytes of a tensor of {t.layout} are not known")


@dataclass(frozen=True)
class Interval:
    """A mean and its confidence interval.

    Attributes
    ----------
    mean, low, high : float
        The mean and the two ends.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Write the interval as ``0.943 (0.938 to 0.948)``.

        A narrow one gets the digits that tell its ends apart.
        """
        half = (self.high - self.low) / 2
        digits = 3
        if 1e-9 < half < 1e-3:  # below, it is rounding
            digits = 1 - math.floor(math.log10(half))
        # "z" makes a zero of what rounds to it from below.
        texts = (f"{x:z.{digits}f}" for x in (self.mean, self.low, self.high))
        mean, low, high = (x.replace("-", "−") for x in texts)
        return f"{mean} ({low} to {high})"


def mean_interval(values: Iterable[float]) -> Interval:
    """Return the mean of repeated runs with a 95 % confidence interval.

    The interval is Student's: the mean plus or minus t s / sqrt(n), where s
    is the standard deviation of the n values and t the quantile of the t
    distribution with n - 1 degrees of freedom. It assumes that the runs are
    independent and roughly normal. To compare two methods on the same seeds,
    give it the differences, run by run.

    Parameters
    ----------
    values : iterable of float
        One number a run, at least two.

    Returns
    -------
    Interval

    Raises
    ------
    ValueError
        For fewer than two values, or one that is not finite or has no finite
        square.
    """
    x = [float(v) for v in values]
    # A sum of squares that overflows would make the ends NaN.
    if len(x) < 2 or not math.isfinite(sum(v * v for v in x)):
        raise ValueError(
            f"need at least two finite values, of finite squares, got {x}"
        )
    if min(x) == max(x):  # SciPy's answer is NaN
        return Interval(x[0], x[0], x[0])
    mean = float(np.mean(x))
    low, high = stats.t.interval(0.95, len(x) - 1, mean, stats.sem(x))
    return Interval(mean, float(low), float(high))


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles of a ratio of times.

    Attributes
    ----------
    median, low, high : float
        The second, first and third quartile over the rounds.
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """Write the ratio as ``0.52 (0.49 to 0.55)``."""
        digits = 2
        if 0 < self.median < 0.1:
            digits = 1 - math.floor(math.log10(self.median))
        values = (self.median, self.low, self.high)
        median, low, high = (f"{v:.{digits}f}" for v in values)
        return f"{median} ({low} to {high})"


@dataclass(frozen=True)
class Timings:
    """What `compare_times` measured.

    Attributes
    ----------
    seconds : mapping of str to tuple of float
        For each name, the seconds of one call in round 1, 2, ...
    """

    seconds: Mapping[str, tuple[float, ...]]

    def median(self, name: str) -> float:
        """Return the median over the rounds, in seconds for one call.

        Raises
        ------
        ValueError
            If `name` was not timed.
        """
        return float(np.median(self._of(name)))

    def ratio(self, name: str, baseline: str) -> Ratio:
        """Compare two alternatives round by round.

        The two times of a round were taken within moments of each other, so
        a slow spell of the machine hits both and cancels in their ratio.

        Parameters
        ----------
        name, baseline : str
            Numerator and denominator; below 1, `name` is the faster one.

        Returns
        -------
        Ratio

        Raises
        ------
        ValueError
            If a name was not timed, or took no time at all.
        """
        if 0 in self._of(baseline):
            raise ValueError(f"{baseline!r} took no time: there is no ratio")
        ratios = np.divide(self._of(name), self._of(baseline))
        low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        return Ratio(float(median), float(low), float(high))

    def _of(self, name: str) -> tuple[float, ...]:
        if name not in self.seconds:
            names = ", ".join(repr(n) for n in self.seconds)
            raise ValueError(f"timed {names}; there is no {name!r}")
        return self.seconds[name]


def compare_times(
    functions: Mapping[str, Callable[[], Any]], rounds: int = 15
) -> Timings:
    """Time alternatives in turn, a measurement of each per round.

    Each function is first called until it is warm and the number of calls
    is known that fills a few milliseconds. The order rotates from round to
    round, so that none always runs first, and the garbage collector waits.
    Work queued on a GPU is waited for.

    Parameters
    ----------
    functions : mapping of str to callable
        The alternatives by name, called without arguments.
    rounds : int
        Measurements of each.

    Returns
    -------
    Timings

    Raises
    ------
    ValueError
        If there is nothing to time.
    """
    if not functions or rounds < 1:
        raise ValueError(
            "need at least one function and one round, "
            f"got {len(functions)} and {rounds}"
        )
    names = list(functions)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with _no_garbage_collection():
        calls = {name: _calls_needed(functions[name]) for name in names}
        for i in range(rounds):
            start = i % len(names)
            for name in names[start:] + names[:start]:
                total = _time(functions[name], calls[name])
                seconds[name].append(total / calls[name])
    return Timings({name: tuple(times) for name, times in seconds.items()})


def _calls_needed(fn: Callable[[], Any]) -> int:
    """Return how many calls of `fn` make one measurement; warms it up."""
    _time(fn, 1)
    calls = 1
    while (spent := _time(fn, calls)) < SHORTEST_MEASUREMENT:
        # At most tenfold: the first, short measurements are rough.
        growth = 1.2 * SHORTEST_MEASUREMENT / max(spent, 1e-9)
        calls = math.ceil(calls * min(growth, 10.0))
    return calls


def _time(fn: Callable[[], Any], calls: int) -> float:
    _wait_for_gpu()
    start = time.perf_counter()
    for _ in range(calls):
        fn()
    _wait_for_gpu()
    return time.perf_counter() - start


def _wait_for_gpu() -> None:
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
