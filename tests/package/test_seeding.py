"""Seeds reach every generator, and one variable shifts them all."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from lorabook.seeding import generator, rng, seed_all, seed_shift


def draw() -> list[float]:
    return [random.random(), np.random.rand(), torch.rand(()).item()]


@pytest.fixture(autouse=True)
def _own_randomness(monkeypatch) -> Iterator[None]:
    """Start without a shift; give others their random numbers back."""
    monkeypatch.delenv("LORABOOK_SEED", raising=False)
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


# generator and rng


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1, np.int64(5)])
def test_a_generator_is_the_librarys_own(seed: int) -> None:
    plain = torch.Generator().manual_seed(int(seed))
    assert torch.equal(
        torch.randn(9, generator=generator(seed)),
        torch.randn(9, generator=plain),
    )
    assert (
        rng(seed).random(9) == np.random.default_rng(int(seed)).random(9)
    ).all()


def test_a_generator_leaves_the_global_ones_alone() -> None:
    seed_all(5)
    first = draw()
    seed_all(5)
    torch.rand(3, generator=generator(6))
    rng(6).random(3)
    assert draw() == first


@pytest.mark.parametrize("make", [generator, rng])
@pytest.mark.parametrize("seed", [-1, 2**32, True, 1.0, "1", None])
def test_a_generator_refuses_what_is_no_seed(make, seed: object) -> None:
    with pytest.raises(ValueError, match=r"0 <= seed < 2\*\*32, got "):
        make(seed)


# The shift


def numbers_of(seed: int) -> list[float]:
    """Draw from everything that a seed reaches."""
    seed_all(seed)
    return [
        *draw(),
        torch.rand((), generator=generator(seed)).item(),
        rng(seed).random(),
    ]


def test_the_shift_is_added_to_every_seed(monkeypatch) -> None:
    expected = numbers_of(1005)
    monkeypatch.setenv("LORABOOK_SEED", "1000")
    assert numbers_of(5) == expected
    assert seed_shift() == 1000


def test_a_stored_run_is_made_again_without_the_shift(monkeypatch) -> None:
    seed_all(5)
    expected = draw()
    monkeypatch.setenv("LORABOOK_SEED", "1000")
    seed_all(5, shifted=False)
    assert draw() == expected
    with pytest.raises(ValueError, match=r"0 <= seed < 2\*\*32, got -1"):
        seed_all(-1, shifted=False)


@pytest.mark.parametrize("text", ["0", "00"])
def test_a_shift_of_zero_is_none(text: str, monkeypatch) -> None:
    expected = numbers_of(5)
    monkeypatch.setenv("LORABOOK_SEED", text)
    assert numbers_of(5) == expected


@pytest.mark.parametrize(
    "text", ["", "-1", "1.0", "x", " 7", "1_000", "²", "٣", str(2**32)]
)
@pytest.mark.parametrize("seed", [seed_all, generator, rng])
def test_a_shift_that_is_no_number_is_refused(
    seed, text: str, monkeypatch
) -> None:
    monkeypatch.setenv("LORABOOK_SEED", text)
    state = random.getstate()
    message = r"^need a whole number with 0 <= LORABOOK_SEED < 2\*\*32, got '"
    with pytest.raises(ValueError, match=message):
        seed(5)
    assert random.getstate() == state


def test_seed_and_shift_stay_in_the_range(monkeypatch) -> None:
    monkeypatch.setenv("LORABOOK_SEED", "2")
    generator(2**32 - 3)
    with pytest.raises(
        ValueError, match=r"LORABOOK_SEED < 2\*\*32, got 4294967294 \+ 2$"
    ):
        generator(2**32 - 2)
