"""Seeds reach every generator; settings come back as they were."""

import os
import random
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from lorabook.seeding import deterministic, seed_all

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def draw() -> list[float]:
    return [random.random(), np.random.rand(), torch.rand(()).item()]


@pytest.fixture(autouse=True)
def _own_randomness() -> Iterator[None]:
    """Give the other tests back their random numbers."""
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    yield
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])


def test_each_generator_starts_again() -> None:
    seed_all(5)
    first = draw()
    later = draw()
    seed_all(5)
    again = draw()
    assert first == again
    for a, b in zip(first, later, strict=True):
        assert a != b


def test_another_seed_gives_other_numbers_everywhere() -> None:
    seed_all(5)
    first = draw()
    seed_all(6)
    for a, b in zip(first, draw(), strict=True):
        assert a != b


def test_the_numbers_are_those_of_each_library() -> None:
    seed_all(5)
    assert draw() == [
        random.Random(5).random(),
        np.random.RandomState(5).rand(),
        torch.rand((), generator=torch.Generator().manual_seed(5)).item(),
    ]


def test_gpu_generators_are_seeded_too(monkeypatch) -> None:
    """Without a GPU, it shows in what PyTorch is asked to do."""
    asked = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", asked.append)
    seed_all(5)
    assert asked == [5]


@pytest.mark.parametrize("seed", [0, 2**32 - 1, np.int64(5), np.uint32(7)])
def test_the_whole_range_is_accepted(seed: int) -> None:
    seed_all(seed)
    first = draw()
    seed_all(int(seed))
    assert draw() == first


@pytest.mark.parametrize(
    "seed",
    [
        -1,
        2**32,
        True,
        np.True_,
        1.0,
        np.float32(1),
        np.int64(-1),
        "1",
        None,
        torch.tensor(1),
    ],
)
def test_anything_else_is_refused_before_it_does_harm(seed: object) -> None:
    states = random.getstate(), torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    message = r"^need a whole number with 0 <= seed < 2\*\*32, got "
    with pytest.raises(ValueError, match=message):
        seed_all(seed)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert (np.random.get_state()[1] == numpy_state).all()


# deterministic


def settings() -> tuple[object, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.enabled,
        os.environ.get(WORKSPACE),
    )


# Enabled, warn only, cudnn.deterministic, cudnn.benchmark, workspace.
FOUND = [
    (False, False, False, False, None),
    (False, False, True, True, ":16:8"),
    (True, True, False, True, None),
    (True, False, True, False, ":16:8"),
]


@pytest.fixture(params=FOUND)
def found(request, monkeypatch) -> Iterator[tuple[object, ...]]:
    """Put PyTorch into some state; return what `settings` says of it."""
    before = settings()
    enabled, warn_only, cudnn_deterministic, benchmark, workspace = (
        request.param
    )
    monkeypatch.delenv(WORKSPACE, raising=False)
    if workspace is not None:
        monkeypatch.setenv(WORKSPACE, workspace)
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    torch.backends.cudnn.deterministic = cudnn_deterministic
    torch.backends.cudnn.benchmark = benchmark
    yield settings()
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    torch.backends.cudnn.deterministic = before[2]
    torch.backends.cudnn.benchmark = before[3]


def test_inside_everything_is_deterministic(found) -> None:
    workspace = found[-1] or ":4096:8"
    with deterministic():
        assert settings() == (True, False, True, False, found[4], workspace)


def test_afterwards_it_is_as_before(found) -> None:
    with deterministic():
        pass
    assert settings() == found


def test_also_after_an_error(found) -> None:
    with pytest.raises(ZeroDivisionError), deterministic():
        raise ZeroDivisionError
    assert settings() == found


def test_also_after_changes_inside(found) -> None:
    with deterministic():
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = True
        os.environ[WORKSPACE] = ":0:0"
    assert settings() == found


def test_it_nests(found) -> None:
    with deterministic():
        inside = settings()
        with deterministic():
            pass
        assert settings() == inside
    assert settings() == found


def test_it_is_pytorch_that_obeys() -> None:
    """An algorithm with no deterministic version is refused, inside only."""
    x = torch.zeros(3)
    index = torch.tensor([0, 0])

    def put() -> None:
        x.put_(index, torch.tensor([1.0, 2.0]), accumulate=False)

    put()
    with (
        deterministic(),
        pytest.raises(RuntimeError, match="deterministic"),
    ):
        put()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        put()
