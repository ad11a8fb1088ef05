"""The tracker against counts by hand, and against PyTorch's own."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker

from lorabook.tracker import Tracker, peak_bytes, weightless

N = 100
SIZE = 4 * N


def test_inputs_and_outputs_count() -> None:
    x, w = torch.ones(4, 8), torch.ones(8, 16)
    assert peak_bytes(torch.matmul, x, w) == 4 * (4 * 8 + 8 * 16 + 4 * 16)


def test_what_is_freed_does_not_count_on() -> None:
    def chain() -> None:
        a = torch.ones(N)
        for _ in range(5):
            a = a + 1  # the old and the new at a time

    assert peak_bytes(chain) == 2 * SIZE


def test_nothing_is_live_in_the_end() -> None:
    with Tracker() as tracker:
        torch.ones(N) + 1
        assert tracker.live == 0
        kept = torch.ones(N)
        assert tracker.live == SIZE
        del kept
        assert tracker.live == 0
        assert tracker.peak == 2 * SIZE
        tracker.restart()
        assert tracker.peak == 0
        kept = torch.ones(N)
        kept + 1
        tracker.restart()
        assert tracker.peak == tracker.live == SIZE


def test_views_share_a_storage_and_slices_keep_it() -> None:
    with Tracker() as tracker:
        part = torch.ones(N)[:3].view(3, 1).T
        assert tracker.live == SIZE
        del part
    assert tracker.peak == SIZE


def test_in_place_takes_no_more() -> None:
    a = torch.ones(N)
    assert peak_bytes(lambda: a.add_(1).mul_(2)) == SIZE


def test_what_was_there_counts_even_if_it_is_met_late() -> None:
    """The peak comes first, the old tensor is touched after it."""
    old = torch.ones(N)

    def run() -> None:
        large = torch.ones(5 * N)
        del large
        old.add_(1)

    assert peak_bytes(run) == 6 * SIZE


def test_what_is_given_by_name_counts() -> None:
    """Attention takes its mask so, and an operation its result."""
    sorted_, order, x = torch.ones(N), torch.arange(N), torch.ones(1)
    find = partial(torch.searchsorted, sorter=order)
    assert peak_bytes(find, sorted_, x) == SIZE + 8 * N + 4 + 8
    add = partial(torch.add, out=torch.empty(N))
    assert peak_bytes(add, sorted_, sorted_) == 2 * SIZE


def test_a_tensor_that_is_met_twice_counts_once() -> None:
    a = torch.ones(N)
    with Tracker() as tracker:
        for _ in range(3):
            a.add_(1)
        assert tracker.live == SIZE


def test_a_storage_that_dies_later_is_no_error() -> None:
    kept = []
    with Tracker() as tracker:
        kept.append(torch.ones(N))
    kept.clear()
    assert tracker.peak == SIZE


def test_a_step_by_hand() -> None:
    """h = x Wᵀ, y = relu(h), the sum of y, and the gradient of W.

    The peak is the last product of the backward pass: x, W and its gradient,
    h, which has a name, and the gradient of h. y has been freed. The sum and
    its gradient are one number each.
    """
    T, k, d = 8, 16, 32
    x = torch.randn(T, k)
    W = nn.Parameter(torch.randn(d, k))

    def step() -> None:
        h = x @ W.T
        torch.relu(h).sum().backward()

    numbers = T * k + 2 * d * k + 2 * T * d + 2
    assert peak_bytes(step) == 4 * numbers


@pytest.mark.parametrize("foreach", [True, False])
def test_it_agrees_with_pytorchs_own(foreach: bool) -> None:
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64))
    rule = torch.optim.AdamW(model.parameters(), foreach=foreach)
    x = torch.randn(256, 64)

    def step() -> None:
        model(x).square().mean().backward()
        rule.step()
        rule.zero_grad()

    step()
    theirs = MemTracker()
    theirs.track_external(model, rule, x)
    with theirs:
        step()
    snapshot = theirs.get_tracker_snapshot("peak")[torch.device("cpu")]
    # It counts a few single numbers otherwise.
    assert peak_bytes(step) == pytest.approx(snapshot["Total"], abs=16)


class Tied(nn.Module):
    """A head that is the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 8)
        self.map = nn.Linear(8, 8)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("scale", torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.scale * self.map(self.embed(x)))


def taken(model: nn.Module) -> int:
    """Return the peak of two steps."""
    x = torch.zeros(3, 7, dtype=torch.long)
    rule = torch.optim.AdamW(model.parameters(), foreach=True)

    def step() -> None:
        model(x).square().mean().backward()
        rule.step()
        rule.zero_grad()

    return peak_bytes(lambda: (step(), step()))


def test_without_weights_it_takes_the_same() -> None:
    with torch.device("meta"):
        model = Tied()
    frozen = model.map.weight.requires_grad_(False)
    with weightless(model):
        assert model.head.weight is model.embed.weight
        assert not model.map.weight.requires_grad
        assert model.map.weight is not frozen
        found = taken(model)
    real = Tied()
    real.map.weight.requires_grad_(False)
    assert found == taken(real)
