"""Counts against arithmetic; timings against functions of known duration."""

import gc
import time
from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from lorabook import measure
from lorabook.layers import LoRALinear
from lorabook.measure import (
    Interval,
    Ratio,
    Timings,
    compare_times,
    count_flops,
    mean_interval,
    parameter_count,
    saved_bytes,
    step_flops,
)
from lorabook.models import TinyGPT

sizes = st.integers(1, 9)


# parameter_count


def test_parameters_are_counted() -> None:
    net = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5))
    assert parameter_count(net) == 7 * 5 + 5 + 5 + 5


@given(sizes, sizes)
def test_lora_trains_r_times_the_sum_of_widths(d_in: int, d_out: int) -> None:
    r = min(d_in, d_out)
    layer = LoRALinear(nn.Linear(d_in, d_out), r, 1.0)
    assert parameter_count(layer, trainable_only=True) == r * (d_in + d_out)
    assert parameter_count(layer) == (
        r * (d_in + d_out) + d_in * d_out + d_out
    )


def test_a_shared_parameter_counts_once() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    assert parameter_count(nn.Sequential(first, second)) == 16 + 4 + 4


# count_flops


@given(sizes, sizes, sizes)
def test_a_multiply_add_counts_two(m: int, k: int, n: int) -> None:
    A, B = torch.ones(m, k), torch.ones(k, n)
    assert count_flops(torch.matmul, A, B) == 2 * m * k * n


def test_a_backward_pass_counts() -> None:
    """Two more products: one for the weight, one for the input."""
    layer = nn.Linear(6, 5)
    x = torch.ones(4, 6, requires_grad=True)
    forward = count_flops(layer, x)
    assert forward == 2 * 4 * 6 * 5
    assert count_flops(lambda: layer(x).sum().backward()) == 3 * forward


def test_order_matters_for_flops() -> None:
    d, r, n = 64, 4, 10
    x, A, B = torch.ones(n, d), torch.ones(r, d), torch.ones(d, r)
    assert count_flops(lambda: (x @ A.T) @ B.T) == 4 * n * d * r
    assert count_flops(lambda: x @ (B @ A).T) == 2 * d * d * (r + n)


def test_work_entry_by_entry_counts_nothing() -> None:
    x = torch.ones(4, 4)
    assert count_flops(lambda: (x + x).square().sum().sqrt() * x) == 0
    assert count_flops(lambda: x.cumsum(0) + x.norm(dim=0)) == 0
    assert count_flops(nn.Sequential(nn.LayerNorm(4), nn.GELU()), x) == 0


def test_a_step_is_a_forward_and_a_backward_pass() -> None:
    layer = nn.Linear(6, 5)
    once = 2 * 4 * 6 * 5
    x = torch.ones(4, 6)
    assert step_flops(layer, x) == 2 * once
    assert step_flops(layer, x.requires_grad_()) == 3 * once
    lora = LoRALinear(layer, 2, 1.0)
    # The gradients of A and B, and of x through all three matrices.
    assert step_flops(lora, x) == 2 * once + 3 * 2 * 4 * 2 * (6 + 5)


def test_what_pytorch_does_not_compute_is_not_called_free() -> None:
    A = np.ones((3, 3))
    for work in (lambda: A @ A, lambda: None):
        with pytest.raises(ValueError, match="no operation of PyTorch"):
            count_flops(work)


def test_flops_are_counted_in_silence(capsys) -> None:
    count_flops(torch.matmul, torch.ones(2, 2), torch.ones(2, 2))
    assert capsys.readouterr() == ("", "")


# What each operation costs, and what is refused: test_operations.py


# saved_bytes


def x_of(n: int, d: int) -> torch.Tensor:
    """Return an activation, as from an earlier layer that trains."""
    return torch.ones(n, d, requires_grad=True)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_fast_paths_of_attention_are_left_as_they_were(enabled):
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(enabled)
    try:
        count_flops(torch.mm, torch.ones(2, 2), torch.ones(2, 2))
        assert torch.backends.mha.get_fastpath_enabled() is enabled
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


@pytest.mark.parametrize(
    "wrap", [lambda net: net, lambda net: lambda x: net(x)]
)
def test_what_linear_layers_save(wrap) -> None:
    """A trained one its input, a frozen one nothing, LoRA also x Aᵀ."""
    # With more rows than inputs it would make x Aᵀ anew.
    n, d_in, d_out, r = 8, 8, 6, 3
    base = nn.Linear(d_in, d_out)
    assert saved_bytes(wrap(base), x_of(n, d_in)) == 4 * n * d_in
    lora = LoRALinear(base, r, 1.0)
    assert saved_bytes(wrap(base), x_of(n, d_in)) == 0
    assert saved_bytes(wrap(lora), x_of(n, d_in)) == 4 * n * (d_in + r)


def test_a_tensor_saved_twice_counts_once() -> None:
    x = x_of(10, 8)
    assert saved_bytes(lambda: x * x) == 4 * 80
    assert saved_bytes(lambda: x.T @ x) == 4 * 80
    one, two = nn.Linear(8, 6), nn.Linear(8, 4)
    assert saved_bytes(lambda: (one(x), two(x))) == 4 * 80


def test_a_saved_slice_keeps_its_whole_storage() -> None:
    x = x_of(10, 8)
    assert saved_bytes(lambda: x[:2].square()) == 4 * 80


def test_an_output_may_be_what_is_saved() -> None:
    x = x_of(10, 8).double()
    assert saved_bytes(torch.exp, x) == 8 * 80


def test_freed_addresses_are_not_mistaken() -> None:
    """Each exp saves its own result, wherever it lies."""
    x = x_of(10, 8)
    assert saved_bytes(lambda: [x.exp() for _ in range(20)]) == 20 * 320


def test_parameters_in_a_closure_are_left_out_views_too() -> None:
    W = nn.Parameter(torch.ones(6, 8))
    frozen = nn.Parameter(torch.ones(6, 8), requires_grad=False)
    x = x_of(10, 8)
    assert saved_bytes(lambda: x @ W.T) == 320
    assert saved_bytes(lambda: x @ frozen.T) == 0
    assert saved_bytes(lambda: x @ frozen[:3].T) == 0


def test_a_modules_own_weights_are_known_in_disguise() -> None:
    class Detached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.W = nn.Parameter(torch.ones(6, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.W.detach().T

    assert saved_bytes(Detached(), x_of(10, 8)) == 0


def test_raw_weights_are_left_out_when_named() -> None:
    W = torch.ones(6, 8, requires_grad=True)
    x = x_of(10, 8)
    assert saved_bytes(lambda: x @ W.T) == 4 * (80 + 48)
    assert saved_bytes(lambda: x @ W.T, exclude=[W]) == 4 * 80
    assert saved_bytes(lambda: x @ W.T, exclude=iter([W, x])) == 0


def test_checkpointing_keeps_the_input_alone() -> None:
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    x = x_of(10, 8)
    assert saved_bytes(net, x) == 4 * 10 * (8 + 16)
    kept = saved_bytes(lambda: checkpoint(net, x, use_reentrant=False))
    assert kept == 4 * 10 * 8


def test_gradients_are_on_inside_and_as_before_outside() -> None:
    with torch.no_grad():
        assert saved_bytes(torch.exp, x_of(10, 8)) == 320
        assert not torch.is_grad_enabled()


def test_inference_mode_hides_nothing() -> None:
    """Within it nothing would be saved, and the answer would be 0."""
    x = x_of(10, 8)
    with torch.inference_mode():
        assert saved_bytes(torch.exp, x) == 320
        assert torch.is_inference_mode_enabled()


class Keeps(torch.autograd.Function):
    """Doubles, and keeps tensors of its own beside those it saves."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.one, ctx.more = x, (x.exp(), {"sum": [x.sum(dim=0)]})
        return 2 * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


def test_what_a_custom_function_keeps_by_itself_counts() -> None:
    x = x_of(10, 8)
    expected = 320 + 320 + 32  # x, its exponential, and the sum
    assert saved_bytes(Keeps.apply, x) == expected
    assert saved_bytes(lambda: {"out": [(Keeps.apply(x) + 1).sum()]}) == (
        expected
    )
    W = nn.Parameter(torch.ones(10, 8))
    assert saved_bytes(lambda: Keeps.apply(W)) == expected - 320


def test_what_many_paths_lead_to_is_looked_at_once() -> None:
    """Along a residual stream they double with every block."""
    y = Keeps.apply(x_of(10, 8))
    for _ in range(10):
        y = y + y.sin()
    # What the function keeps: x, its exponential, and the sum.
    assert len(list(measure._kept_by_contexts(y, 0))) == 3


def test_a_backward_pass_inside_is_refused() -> None:
    x = x_of(10, 8)
    with pytest.raises(ValueError, match="ran a backward pass"):
        saved_bytes(lambda: x.exp().sum().backward())
    # Afterwards is another matter.
    outside = []
    assert saved_bytes(lambda: outside.append(x.exp().sum())) == 320
    outside[0].backward()
    assert torch.equal(x.grad, x.detach().exp())


def shapes(device) -> list[int]:
    """Return what different networks keep, made on that device."""
    with device:
        tokens = torch.zeros(2, 16, dtype=torch.long)
        x = torch.ones(2, 16, 8, requires_grad=True)
        mask = torch.ones(16, 16, dtype=torch.bool)
        bias = torch.ones(16, 16, requires_grad=True)
        gpt = TinyGPT(d=16, layers=2, heads=2, context=16)
        encoder = nn.TransformerEncoderLayer(8, 2, batch_first=True)
        attend = nn.functional.scaled_dot_product_attention
        wide = torch.ones(2, 4, 16, 8, requires_grad=True)
        half = wide.detach().bfloat16().requires_grad_()
        return [
            saved_bytes(gpt, tokens),
            saved_bytes(encoder, x),
            saved_bytes(encoder.eval(), x),
            saved_bytes(lambda: [x.exp(), x.exp(), x * x]),
            saved_bytes(lambda: checkpoint(gpt, tokens, use_reentrant=False)),
            saved_bytes(attend, x, x, x, mask),
            saved_bytes(attend, x, x, x, None, 0.5),
            saved_bytes(attend, x[None], x[None], x[None], mask),
            # One that learns takes PyTorch away from its fused kernel.
            saved_bytes(attend, x[None], x[None], x[None], bias),
            saved_bytes(attend, x[None], x[None], x[None], None, 0.5),
            saved_bytes(attend, half, half, half, mask),
            saved_bytes(lambda: attend(query=x, key=x, value=x, scale=2.0)),
            saved_bytes(
                lambda: attend(wide, wide[:, :2], wide[:, :2], enable_gqa=True)
            ),
            # Nor does it take what does not lie in rows.
            saved_bytes(attend, wide.mT, wide.mT, wide.mT),
            saved_bytes(attend, wide.mT.contiguous(), wide.mT, wide.mT),
        ]


def test_tensors_without_memory_give_the_same_bytes() -> None:
    """All storages lie at the address 0 there."""
    real = shapes(torch.device("cpu"))
    assert all(real)
    assert len(set(real)) > 5
    assert shapes(torch.device("meta")) == real
    assert shapes(FakeTensorMode()) == real


def test_a_backend_that_was_asked_for_is_used_on_meta_too() -> None:
    found = []
    for device in ("cpu", "meta"):
        x = torch.ones(1, 2, 16, 8, device=device, requires_grad=True)
        for backend in (SDPBackend.MATH, SDPBackend.FLASH_ATTENTION):
            with sdpa_kernel(backend):
                found.append(
                    saved_bytes(
                        nn.functional.scaled_dot_product_attention, x, x, x
                    )
                )
    assert found[:2] == found[2:]
    assert found[0] > found[1]


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
def test_sparse_and_ragged_tensors_have_bytes() -> None:
    x = torch.ones(8, 10, requires_grad=True)
    eye = torch.eye(8)
    coo = saved_bytes(lambda: torch.sparse.mm(eye.to_sparse(), x))
    assert coo == 8 * (2 * 8) + 4 * 8  # row and column, and the value
    columns = torch.arange(8)
    for make, values in (
        (torch.sparse_csr_tensor, torch.ones(8)),
        (torch.sparse_csc_tensor, torch.ones(8)),
        (torch.sparse_bsr_tensor, torch.ones(8, 1, 1)),
        (torch.sparse_bsc_tensor, torch.ones(8, 1, 1)),
    ):
        given = (torch.arange(9), columns, values, (8, 8))
        S = make(*given, check_invariants=True)
        parts = (9 + 8) * 8 + 4 * 8
        assert sum(measure._storage_sizes([S]).values()) == parts
    rows = [torch.ones(3, 4), torch.ones(5, 4)]
    ragged = torch.nested.nested_tensor(
        rows, layout=torch.jagged, requires_grad=True
    )
    assert saved_bytes(torch.exp, ragged) == 4 * 32 + 8 * 3  # and the offsets


def test_a_tensor_without_a_storage_is_refused() -> None:
    with pytest.raises(ValueError, match=r"of torch\._mkldnn are not known"):
        measure._storage_sizes([torch.ones(2, 2).to_mkldnn()])


def test_without_gradients_nothing_is_saved() -> None:
    assert saved_bytes(torch.exp, torch.ones(10, 8)) == 0


# Timings and Ratio


TIMINGS = Timings({"a": (1.0, 4.0, 3.0), "b": (2.0, 2.0, 2.0)})


# mean_interval


def test_an_interval_agrees_with_scipy() -> None:
    values = [0.91, 0.93, 0.9, 0.95, 0.92]
    result = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = mean_interval(values)
    assert found.mean == pytest.approx(np.mean(values))
    assert (found.low, found.high) == pytest.approx(tuple(result))


def test_an_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(3, 2, size=(1000, 5))
    found = [mean_interval(row) for row in draws]
    covered = np.mean([x.low <= 3 <= x.high for x in found])
    assert covered == pytest.approx(0.95, abs=0.025)


def test_equal_values_leave_no_doubt() -> None:
    assert mean_interval([2.0, 2.0]) == Interval(2.0, 2.0, 2.0)
    assert str(mean_interval([2, 2])) == "2.000 (2.000 to 2.000)"
    assert str(Interval(-1e-4, -0.5, 0)) == "0.000 (−0.500 to 0.000)"
    # The mean of these, in floating point, is not 0.1.
    assert mean_interval([0.1] * 3) == Interval(0.1, 0.1, 0.1)


def test_a_narrow_interval_does_not_print_as_one_number() -> None:
    assert str(Interval(2e-4, 1e-4, 3e-4)) == "0.00020 (0.00010 to 0.00030)"
    assert str(Interval(1, 0.9996, 1.0004)) == "1.00000 (0.99960 to 1.00040)"
    assert str(Interval(1, 0.998, 1.002)) == "1.000 (0.998 to 1.002)"
    assert str(Interval(1, 1, 1 + 1e-15)) == "1.000 (1.000 to 1.000)"
    # At the ends: half a thousandth's interval needs no more digits, and what
    # is rounding gets none.
    assert str(Interval(1e-3, 0.0, 2e-3)) == "0.001 (0.000 to 0.002)"
    assert str(Interval(1e-9, 0.0, 2e-9)) == "0.000 (0.000 to 0.000)"


@pytest.mark.parametrize(
    "values", [[], [1.0], [1.0, float("nan")], [1e200, -1e200], [1e308] * 3]
)
def test_too_little_for_an_interval_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="at least two finite values, of"):
        mean_interval(values)


def test_a_ratio_is_of_pairs() -> None:
    """The median of the ratios is not the ratio of the medians."""
    timings = Timings({"a": (1.0, 4.0, 9.0), "b": (1.0, 2.0, 10.0)})
    assert timings.ratio("a", "b").median == 1.0
    assert timings.median("a") / timings.median("b") == 2.0


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9))
def test_a_ratio_has_numpys_quartiles(times: list[float]) -> None:
    timings = Timings({"a": tuple(times), "b": (2.0,) * len(times)})
    ratio = timings.ratio("a", "b")
    expected = np.percentile(np.array(times) / 2, [25, 50, 75])
    assert [ratio.low, ratio.median, ratio.high] == expected.tolist()
    assert timings.median("a") == np.median(times)


def test_a_ratio_to_itself_is_one() -> None:
    assert TIMINGS.ratio("a", "a") == Ratio(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (Ratio(0.521, 0.489, 0.5501), "0.52 (0.49 to 0.55)"),
        (Ratio(12.0, 9.5, 13.25), "12.00 (9.50 to 13.25)"),
        (Ratio(0.00412, 0.0039, 0.0051), "0.0041 (0.0039 to 0.0051)"),
        (Ratio(0.0987, 0.0954, 0.1), "0.099 (0.095 to 0.100)"),
        (Ratio(0.1, 0.0954, 0.1041), "0.10 (0.10 to 0.10)"),
        (Ratio(0.0, 0.0, 0.0), "0.00 (0.00 to 0.00)"),
        (Ratio(1.05, 1.04, 1.06), "1.05 (1.04 to 1.06)"),
    ],
)
def test_a_ratio_prints_short(ratio: Ratio, text: str) -> None:
    assert str(ratio) == text


@pytest.mark.parametrize(
    "ask",
    [
        lambda: TIMINGS.median("c"),
        lambda: TIMINGS.ratio("c", "a"),
        lambda: TIMINGS.ratio("a", "c"),
    ],
)
def test_an_unknown_name_is_named(ask) -> None:
    with pytest.raises(ValueError, match=r"^timed 'a', 'b'; there is no 'c'$"):
        ask()


def test_no_time_is_no_ratio() -> None:
    timings = Timings({"a": (1.0, 2.0), "b": (1.0, 0.0)})
    assert timings.ratio("b", "a").low == 0.25
    with pytest.raises(ValueError, match=r"^'b' took no time"):
        timings.ratio("a", "b")


def test_results_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        TIMINGS.seconds = {}
    with pytest.raises(AttributeError):
        Ratio(1.0, 1.0, 1.0).median = 0.5


# compare_times


def test_times_are_those_of_the_functions() -> None:
    timings = compare_times(
        {
            "short": lambda: time.sleep(0.002),
            "long": lambda: time.sleep(0.006),
        },
        rounds=5,
    )
    # A sleep is never shorter; on a busy machine it may be longer.
    assert timings.median("short") >= 0.002
    assert timings.median("long") >= 0.006
    assert timings.ratio("long", "short").median > 1
    assert {len(t) for t in timings.seconds.values()} == {5}


class FakeClock:
    """Time passes only inside the functions timed: exact arithmetic."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def function(self, name: str, seconds: float):
        def run() -> None:
            self.calls.append(name)
            self.now += seconds

        return run


@pytest.fixture
def clock(monkeypatch) -> FakeClock:
    clock = FakeClock()
    monkeypatch.setattr(measure, "time", clock)
    return clock


def test_seconds_are_of_one_call(clock: FakeClock) -> None:
    timings = compare_times(
        {"a": clock.function("a", 1e-5), "b": clock.function("b", 0.5)}
    )
    assert np.allclose(timings.seconds["a"], 1e-5)
    assert np.allclose(timings.seconds["b"], 0.5)
    assert len(timings.seconds["a"]) == 15


def test_short_functions_fill_a_measurement(clock: FakeClock) -> None:
    rounds = 40
    compare_times({"a": clock.function("a", 1e-6)}, rounds)
    # 3000 calls fill one; warm-up and calibration are called besides.
    assert 3000 <= len(clock.calls) / rounds < 6000


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        # Tenfold each time, and no further once a measurement is full.
        (measure.SHORTEST_MEASUREMENT / 1000, 1000),
        # A fifth more than would just fill it.
        (measure.SHORTEST_MEASUREMENT / 5, 6),
    ],
)
def test_the_number_of_calls_follows_from_the_first(
    monkeypatch, seconds: float, calls: int
) -> None:
    monkeypatch.setattr(measure, "_time", lambda fn, n: n * seconds)
    assert measure._calls_needed(lambda: None) == calls


def test_what_takes_no_time_on_the_clock_is_called_more_often(
    monkeypatch,
) -> None:
    monkeypatch.setattr(measure, "_time", lambda fn, n: 0.0 if n < 50 else 1.0)
    assert measure._calls_needed(lambda: None) == 100


def test_one_round_is_enough(clock: FakeClock) -> None:
    timings = compare_times({"a": clock.function("a", 0.1)}, rounds=1)
    assert len(timings.seconds["a"]) == 1


def test_long_functions_are_not_repeated(clock: FakeClock) -> None:
    compare_times({"a": clock.function("a", 0.1)}, rounds=4)
    # Once to warm up, once to calibrate, once a round.
    assert len(clock.calls) == 1 + 1 + 4


def test_the_order_rotates(clock: FakeClock) -> None:
    names = "abc"
    compare_times({n: clock.function(n, 0.1) for n in names}, rounds=9)
    # To the last: none is in one place more often than in another.
    assert "".join(clock.calls[-27:]) == 3 * ("abc" + "bca" + "cab")


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_waits(enabled: bool) -> None:
    seen = set()
    was_enabled = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        compare_times({"a": lambda: seen.add(gc.isenabled())}, rounds=2)
        assert seen == {False}
        assert gc.isenabled() == enabled
        with pytest.raises(ZeroDivisionError):
            compare_times({"a": lambda: 1 / 0})
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_a_gpu_is_waited_for(clock: FakeClock, monkeypatch) -> None:
    """Queued work ends during `synchronize`; its time must be counted."""
    queued = []

    def synchronize() -> None:
        clock.now += 0.1 * len(queued)
        queued.clear()

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)

    def launch() -> None:
        clock.now += 0.004
        queued.append(1)

    timings = compare_times({"a": launch}, rounds=3)
    assert np.allclose(timings.seconds["a"], 0.104)


@pytest.mark.parametrize(
    ("functions", "rounds"), [({}, 5), ({"a": lambda: None}, 0)]
)
def test_nothing_to_time_is_refused(functions, rounds: int) -> None:
    with pytest.raises(ValueError, match="at least one function and one r"):
        compare_times(functions, rounds)


class Holds(torch.autograd.Function):
    """Holds a thousand numbers on its context."""

    @staticmethod
    def forward(ctx, x):
        ctx.held = SimpleNamespace(big=torch.ones(1000))
        return x * 1

    @staticmethod
    def backward(ctx, grad):
        return grad


def test_what_a_context_keeps_is_seen_through_objects() -> None:
    x = torch.ones(3, requires_grad=True)
    for wrap in (lambda y: y, lambda y: SimpleNamespace(y=[y])):
        assert saved_bytes(lambda wrap=wrap: wrap(Holds.apply(x))) == 4000


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held


def around(held: object) -> list[object]:
    """Return a list that also contains itself."""
    found = [held]
    found.append(found)
    return found


WRAPS: dict[str, Callable[[Tensor], object]] = {
    "attribute": lambda y: y,
    "set": lambda y: {y},
    "slot": Slotted,
    "closure": lambda y: lambda: y,
    "default": lambda y: lambda z=y: z,
    "default of a name": lambda y: lambda *, z=y: z,
    "partial": lambda y: partial(torch.add, y),
    "generator": lambda y: (z for z in [y]),
    "itself": around,
}


class Wraps(torch.autograd.Function):
    """Keep a thousand numbers in an attribute, in one of many ways."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, how: str) -> Tensor:
        ctx.held = WRAPS[how](torch.ones(1000))
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return 2 * grad, None


@pytest.mark.parametrize("how", WRAPS)
def test_what_a_context_keeps_is_found_in_whatever_it_stands(how: str) -> None:
    x = torch.ones(3, requires_grad=True)
    assert saved_bytes(Wraps.apply, x, how) == 4000
    # And the output is.
    assert saved_bytes(lambda: WRAPS[how](Holds.apply(x))) == 4000


SEEN = torch.ones(1000)


def test_what_a_function_merely_sees_is_not_kept(monkeypatch) -> None:
    module = ModuleType("module")
    module.seen = SEEN
    x = torch.ones(3, requires_grad=True)
    for held in (lambda: SEEN, module, type("Class", (), {"seen": SEEN})):
        monkeypatch.setitem(WRAPS, "sees", lambda _, held=held: held)
        assert saved_bytes(Wraps.apply, x, "sees") == 0


def test_what_was_computed_before_is_not_counted() -> None:
    x = Holds.apply(torch.ones(3, requires_grad=True))
    assert saved_bytes(torch.sin, x) == saved_bytes(lambda: x.sin()) == 12
    assert saved_bytes(lambda: Holds.apply(x).sin()) == 4012
