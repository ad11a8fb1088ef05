"""The explorable `alpha-lr`, driven in a browser, against PyTorch.

PyTorch trains the same problem from its inputs, with autograd and its own
optimisers; the page computes gradients from the covariance of the inputs.
"""

from __future__ import annotations

import math
import re
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Locator, expect
from stills import alpha_run, random
from test_explorables import number, opened

# Exponents of two, as the sliders have them.
KNOBS = {
    "alpha": (0, 8, 1),
    "rank": (0, 4, 1),
    "rate": (-10, -1, 0.5),
    "start": (-2, 3, 0.5),
    "ratio": (-4, 6, 1),
}
YOURS = {"alpha": 6, "rank": 3, "rate": -7, "start": 0, "ratio": 0}
SHARED = [(o, s) for o in ("adam", "sgd") for s in ("r", "root")]
Knobs = dict[str, float]


def uniform(numbers: Any, m: int, n: int) -> torch.Tensor:
    draws = [2 * next(numbers) - 1 for _ in range(m * n)]
    return torch.tensor(draws, dtype=torch.float64).view(m, n)


def problem() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    numbers = random(1)
    A, X = uniform(numbers, 16, 24) / 24**0.5, uniform(numbers, 32, 24)
    for j in range(1, 24):
        X[:, j] += 0.8 * X[:, j - 1]
    U, V = uniform(numbers, 16, 8), uniform(numbers, 8, 24)
    T = sum(torch.outer(U[:, k], V[k]) / (k + 1) for k in range(8))
    T = 4 * T / T.norm()
    return A, T, X / (X @ T.T).norm()


A0, T, X = problem()


def loss_of(W: torch.Tensor) -> torch.Tensor:
    """Mean squares over the inputs, 1 at W = 0."""
    return (X @ (W - T).T).square().sum()


def scale_of(knobs: Knobs, scaling: str) -> float:
    r = 2 ** knobs["rank"]
    return 2 ** knobs["alpha"] / (r if scaling == "r" else r**0.5)


def train(
    knobs: Knobs, optimizer: str, scaling: str
) -> tuple[list[torch.Tensor], list[float]]:
    """Return ΔW and the loss before each of 30 steps and after the last."""
    s, lr = scale_of(knobs, scaling), 2 ** knobs["rate"]
    A = (2 ** knobs["start"] * A0[: 2 ** int(knobs["rank"])]).clone()
    B = torch.zeros(16, len(A), dtype=torch.float64)
    groups = [
        {"params": [A.requires_grad_()], "lr": lr},
        {"params": [B.requires_grad_()], "lr": lr * 2 ** knobs["ratio"]},
    ]
    rule = (
        torch.optim.SGD(groups, lr=lr)
        if optimizer == "sgd"
        else torch.optim.Adam(groups, lr=lr, eps=1e-30)
    )
    changes, losses = [], []
    while True:
        W = s * B @ A
        loss = loss_of(W)
        changes.append(W.detach())
        losses.append(loss.item())
        if len(losses) == 31 or not losses[-1] < 1e4:
            return changes, losses
        rule.zero_grad()
        loss.backward()
        rule.step()


def apart(one: list[torch.Tensor], two: list[torch.Tensor]) -> float:
    """Return the relative distance at the last step that both reached."""
    last = min(len(one), len(two)) - 1
    return float((two[last] - one[last]).norm() / one[last].norm())


def set_all(
    element: Locator, optimizer: str, scaling: str, yours: Knobs, hers: Knobs
) -> str:
    """Set everything at once; return the verdict."""
    return element.evaluate(
        """(e, [optimizer, scaling, yours, hers]) => {
          Object.assign(e, { shared: { optimizer, scaling }, yours, hers });
          e.compute();
          return e.shadowRoot.getElementById("same").textContent;
        }""",
        [optimizer, scaling, yours, hers],
    )


def slide(element: Locator, who: str, knobs: Knobs) -> None:
    for name, value in knobs.items():
        element.locator(f"#{name}-{who}").fill(str(value))
    frames(element)


def frames(element: Locator) -> None:
    """Wait until what was set has been drawn."""
    element.evaluate(
        """() => new Promise(done => requestAnimationFrame(() =>
          requestAnimationFrame(done)))"""
    )


def shown(element: Locator, key: str) -> str:
    return element.locator(f"#{key}").inner_text()


def paths(element: Locator) -> dict[str, list[tuple[float, float]]]:
    """Return the points of the three curves of the chart."""
    drawn = element.evaluate("""e => Object.fromEntries(
      ["body", "cut", "dash"].map(kind => [kind, e.shadowRoot.querySelector(
        `svg[role=img] path.${kind}`).getAttribute("d")]))""")
    return {
        kind: [
            (float(x), float(y))
            for x, y in (p.split(" ") for p in d[1:].split("L"))
        ]
        for kind, d in drawn.items()
    }


def changed(**by: float) -> Knobs:
    return {k: v + by.get(k, 0) for k, v in YOURS.items()}


SETTINGS = [
    (YOURS, changed(alpha=-2)),
    (YOURS, changed(alpha=-2, rate=2)),
    (YOURS, changed(alpha=-1, rate=0.5, start=0.5)),
    (YOURS, changed(ratio=2, start=-1)),
    (changed(rank=-1), changed(rank=1)),
    (changed(rank=-3), changed(rank=1, alpha=-6, rate=4, start=3)),
    (changed(alpha=-6, rate=-3), changed(alpha=2, rate=-3, start=-2)),
    (changed(alpha=2, rate=1), changed(rate=6, ratio=6)),
    (changed(rate=6), changed(rate=6, alpha=2)),
]


@pytest.mark.parametrize(("optimizer", "scaling"), SHARED)
def test_the_runs_are_pytorchs(open_page, optimizer, scaling):
    element = opened(open_page, "alpha-lr")
    exploded = 0
    for yours, hers in SETTINGS:
        verdict = set_all(element, optimizer, scaling, yours, hers)
        runs = [train(k, optimizer, scaling) for k in (yours, hers)]
        for key, (changes, losses) in zip(("one", "two"), runs, strict=True):
            found = element.evaluate(
                """(e, key) => e[key].found.map(({ W, loss }) =>
                  [loss, ...W.flatMap(row => [...row])])""",
                key,
            )
            assert len(found) == len(losses)
            for (loss, *entries), W, other in zip(
                found, changes, losses, strict=True
            ):
                assert loss == pytest.approx(other, rel=1e-7, abs=1e-12)
                error = torch.tensor(entries).double() - W.flatten()
                assert error.norm() <= 1e-7 * W.norm()
        for k, (changes, losses) in enumerate(runs):
            if len(losses) < 31:
                exploded += 1
                assert shown(element, f"loss-{k}") == "–"
                words = f"{('yours', 'hers')[k]} explodes at step "
                assert f"{words}{len(losses) - 1}" in verdict
                continue
            for key, value in (
                ("loss", losses[-1]),
                ("end", changes[-1].norm()),
                ("size", changes[1].norm()),
            ):
                # As many digits as are shown.
                assert number(shown(element, f"{key}-{k}")) == pytest.approx(
                    float(value), rel=0.06 if value < 1e-3 else 6e-3
                )
        if "explode" not in verdict:
            percent = number(verdict.split(":")[1])
            distance = apart(runs[0][0], runs[1][0])
            assert percent == pytest.approx(100 * distance, rel=0.06, abs=1e-9)
    assert exploded or optimizer == "adam"


@pytest.mark.parametrize(("optimizer", "scaling"), SHARED)
def test_the_table_says_what_the_theorem_says(open_page, optimizer, scaling):
    element = opened(open_page, "alpha-lr")
    W = torch.zeros_like(T, requires_grad=True)
    loss_of(W).backward()
    p = 1 if optimizer == "adam" else 2
    for yours, hers in SETTINGS[:7]:
        set_all(element, optimizer, scaling, yours, hers)
        values: dict[str, list[float]] = {}
        for knobs in (yours, hers):
            s = scale_of(knobs, scaling)
            sigma = 2 ** knobs["start"] / 72**0.5
            eta = 2 ** knobs["rate"]
            step = train(knobs, optimizer, scaling)[0][1]
            for key, value in (
                ("scale", s),
                ("first", eta / sigma**p),
                ("second", (s * sigma) ** p * eta * 2 ** knobs["ratio"]),
                ("along", -(step * W.grad).sum() / W.grad.norm()),
            ):
                values.setdefault(key, []).append(float(value))
        for key, (one, two) in values.items():
            for k, value in enumerate((one, two)):
                assert number(shown(element, f"{key}-{k}")) == pytest.approx(
                    value, rel=0.06 if value < 1e-3 else 6e-3
                )
            text = shown(element, f"{key}-2")
            if two / one == pytest.approx(1, abs=1e-9):
                assert text == "same"
            else:
                ratio = two / one
                assert number(text) == pytest.approx(
                    ratio, rel=0.06 if ratio < 1e-3 else 6e-3
                )


def equivalent(
    yours: Knobs, optimizer: str, a: float, alpha: float
) -> Knobs | None:
    """Return her settings by the theorem, if the sliders have them.

    Her A is 2^a times yours; her α is 2^alpha times yours, so that her B is
    2^(-alpha - a) times yours.
    """
    p = 1 if optimizer == "adam" else 2
    b = -alpha - a
    hers = dict(yours)
    hers["alpha"] += alpha
    hers["start"] += a
    hers["rate"] += p * a
    hers["ratio"] += p * b - p * a
    fits = all(
        low <= hers[k] <= high and (hers[k] - low) % step == 0
        for k, (low, high, step) in KNOBS.items()
    )
    return hers if fits else None


@pytest.mark.parametrize(("optimizer", "scaling"), SHARED)
def test_every_equivalence_is_named_and_no_near_miss(
    open_page, optimizer, scaling
):
    """PyTorch finds the same runs equal, also to the bit."""
    element = opened(open_page, "alpha-lr")
    seen, draw = {"=": 0, "≈": 0, "≠": 0}, Random(0)
    for yours in (YOURS, changed(rank=-2, rate=-1)):
        mine = train(yours, optimizer, scaling)[0]
        for a in np.arange(-2, 3.5, 0.5):
            for alpha in (-4, -2, -1, 1):
                hers = equivalent(yours, optimizer, float(a), alpha)
                if hers is None:
                    continue
                verdict = set_all(element, optimizer, scaling, yours, hers)
                note = shown(element, "note")
                theirs = train(hers, optimizer, scaling)[0]
                seen[verdict[0]] += 1
                if a == int(a):
                    assert verdict.startswith("= The same run, to the last")
                    assert all(map(torch.equal, mine, theirs))
                    assert not a or f"her A is {2**a:g} times yours" in note
                else:
                    assert verdict.startswith("≈ The same run up to roundi")
                    assert apart(mine, theirs) < 1e-9
                name = draw.choice(list(KNOBS))
                low, high, step = KNOBS[name]
                for near in (hers[name] - step, hers[name] + step):
                    if low <= near <= high:
                        missed = {**hers, name: near}
                        text = set_all(
                            element, optimizer, scaling, yours, missed
                        )
                        seen[text[0]] += 1
                        assert text.startswith("≠ Another run"), (a, missed)
    assert all(count >= 5 for count in seen.values()), seen


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_runs_that_hardly_differ_do_differ(open_page, optimizer):
    """At the smallest steps, where A hardly moves: far above rounding."""
    element = opened(open_page, "alpha-lr")
    low = {**YOURS, "alpha": 0, "rank": 4, "rate": -10}
    hers = {**low, "rate": -9, "ratio": -1}  # the second number is kept
    verdict = set_all(element, optimizer, "r", low, hers)
    distance = apart(*(train(k, optimizer, "r")[0] for k in (low, hers)))
    assert verdict.startswith("≠ Another run")
    assert number(verdict) == pytest.approx(100 * distance, rel=0.06)
    assert distance > 1e-6


def test_any_pair_of_settings_is_judged_as_the_theorem_does(open_page):
    element = opened(open_page, "alpha-lr")
    draw = Random(0)

    def some(base: Knobs) -> Knobs:
        # Often near the other: settings far apart are no test.
        knobs = dict(base)
        for name in draw.sample(list(KNOBS), draw.choice([1, 2, 3, 5])):
            low, high, step = KNOBS[name]
            near = base[name] + step * draw.randint(-3, 3)
            knobs[name] = min(high, max(low, near))
        return knobs

    for _ in range(200):
        optimizer, scaling = draw.choice(SHARED)
        yours = some({**YOURS, "rate": draw.choice([-10, -8, -5, -2])})
        hers = some(yours)
        p = 1 if optimizer == "adam" else 2
        first, second = (
            [
                k["rate"] - p * k["start"],
                p * math.log2(scale_of(k, scaling) * 2 ** k["start"])
                + k["rate"]
                + k["ratio"],
            ]
            for k in (yours, hers)
        )
        same = yours["rank"] == hers["rank"] and first == pytest.approx(second)
        verdict = set_all(element, optimizer, scaling, yours, hers)
        assert (verdict[0] != "≠") == same, (optimizer, scaling, yours, hers)


PRESETS = {
    "nothing else": "",
    "the saying: η × 4": "",
    "Adam’s rule: η × 2, start × 2": "adam",
    "SGD’s rule: η × 4, start × 2": "sgd",
    "LoRA+: B’s rate × 4": "adam",
    "B’s rate × 16": "sgd",
    "rank 4 → 16": "",
}


@pytest.mark.parametrize(("optimizer", "scaling"), SHARED)
def test_presets(open_page, optimizer, scaling):
    """Each rule holds for its own optimiser, and the saying for none."""
    element = opened(open_page, "alpha-lr")
    element.locator(f"input[value={optimizer}]").check()
    element.locator(f"input[value={scaling}]").check()
    for name, right in PRESETS.items():
        element.get_by_role("button", name=name, exact=True).click()
        frames(element)
        verdict = shown(element, "same")
        assert verdict.startswith("=" if right == optimizer else "≠"), name
        # A preset leaves alone what both share.
        assert element.locator(f"input[value={optimizer}]").is_checked()
        assert element.locator(f"input[value={scaling}]").is_checked()
        curves = paths(element)
        assert (curves["body"] == curves["cut"]) == (right == optimizer)
        flat = len({y for _, y in curves["dash"]}) == 1
        assert flat == (right == optimizer)


def test_the_sliders_mean_what_they_show(open_page):
    element = opened(open_page, "alpha-lr")
    slide(element, "yours", {"alpha": 5, "rank": 2, "rate": -5.5})
    slide(element, "hers", changed(rank=-1, rate=0.5, start=-0.5, ratio=3))
    texts = {
        "alpha-yours": "32",
        "rank-yours": "4",
        "rate-yours": "√2·2⁻⁶",
        "alpha-hers": "64",
        "rank-hers": "4",
        "rate-hers": "√2·2⁻⁷",
        "start-hers": "× 0.707",
        "ratio-hers": "× 8",
    }
    for key, text in texts.items():
        assert element.locator(f"#{key}").get_attribute("aria-valuetext") == (
            text
        )
    one = train(changed(alpha=-1, rank=-1, rate=1.5), "adam", "r")
    two = train(changed(rank=-1, rate=0.5, start=-0.5, ratio=3), "adam", "r")
    for k, (_, losses) in enumerate((one, two)):
        assert number(shown(element, f"loss-{k}")) == pytest.approx(
            losses[-1], rel=6e-3
        )


def test_every_slider_answers_to_the_keyboard(open_page):
    element = opened(open_page, "alpha-lr")
    for who, name in [
        *(("yours", k) for k in ("alpha", "rank", "rate")),
        *(("hers", k) for k in KNOBS),
    ]:
        slider = element.locator(f"#{name}-{who}")
        text = slider.get_attribute("aria-valuetext")
        before = shown(element, "loss-0"), shown(element, "loss-1")
        slider.focus()
        slider.press("ArrowRight")
        frames(element)
        assert slider.get_attribute("aria-valuetext") != text
        after = shown(element, "loss-0"), shown(element, "loss-1")
        mine = ("yours", "hers").index(who)
        assert after[mine] != before[mine]
        assert after[1 - mine] == before[1 - mine]


def test_the_radios_answer_to_the_keyboard(open_page):
    element = opened(open_page, "alpha-lr")
    element.get_by_role("button", name="Adam’s rule").click()
    element.get_by_role("radio", name="Adam").focus()
    element.page.keyboard.press("ArrowRight")
    frames(element)
    assert shown(element, "same").startswith("≠")
    expect(element.locator("tr.key").first).to_contain_text("ηA/σ²")


def test_attributes_set_your_run(open_page):
    page = opened(open_page, "alpha-lr").page
    page.evaluate("""() => {
      const e = document.createElement("lr-alpha-lr");
      Object.entries({ optimizer: "sgd", scaling: "root", alpha: "2",
        rank: "4", lr: "0.0625" }).forEach(([k, v]) => e.setAttribute(k, v));
      document.querySelector(".lr-explorable").before(e);
      e.id = "tried";
    }""")
    element = page.locator("#tried")
    element.scroll_into_view_if_needed()
    expect(element).to_have_attribute("data-ready", "")
    yours = {**YOURS, "alpha": 1, "rank": 2, "rate": -4}
    for k, knobs in enumerate((yours, {**yours, "alpha": 0})):
        losses = train(knobs, "sgd", "root")[1]
        assert number(shown(element, f"loss-{k}")) == pytest.approx(
            losses[-1], rel=6e-3
        )


def test_the_guess(open_page):
    element = opened(open_page, "alpha-lr")
    element.get_by_role("radio", name="SGD").check()
    box, verdict = element.locator("#guess"), element.locator("#verdict")
    for nonsense in ("", "-1", "1001"):
        box.fill(nonsense)
        box.press("Enter")
        expect(verdict).to_have_text("Type a number from 0 to 1000 first.")
    mine = train(YOURS, "adam", "r")[0]
    for guess in ("4", "1.5", "16"):
        box.fill(guess)
        box.press("Enter")
        expect(verdict).to_contain_text(f"You said {guess}. It is 2")
        by = math.log2(float(guess))
        off = train(changed(alpha=-2, rate=by, start=by), "adam", "r")[0]
        words = verdict.inner_text().split("ends")[1]
        assert number(words) == pytest.approx(100 * apart(mine, off), rel=0.05)
        # The figure shows the answer, whatever was guessed.
        assert element.get_by_role("radio", name="Adam").is_checked()
        assert shown(element, "same").startswith("= The same run")
    for guess, words in (("0", "100% away"), ("1000", "explodes")):
        box.fill(guess)
        box.press("Enter")
        expect(verdict).to_contain_text(words)
    box.fill("2")
    box.press("Enter")
    expect(verdict).to_contain_text("Yes: times 2")


def test_an_explosion_is_named(open_page):
    element = opened(open_page, "alpha-lr")
    element.get_by_role("radio", name="SGD").check()
    slide(element, "hers", {"rate": -1, "alpha": 8})
    steps = len(train(changed(rate=6, alpha=2), "sgd", "r")[0]) - 1
    verdict = shown(element, "same")
    assert verdict == f"≠ Another run: hers explodes at step {steps}."
    assert "a smaller rate helps" in shown(element, "note")
    assert shown(element, "loss-1") == "–"
    assert shown(element, "loss-2") == "–"
    # Both alike: the same run, for all its faults.
    slide(element, "yours", {"rate": -1, "alpha": 8})
    assert shown(element, "same") == (
        f"= The same run, to the last bit: both explode at step {steps}."
    )
    drawn = element.evaluate("e => e.shadowRoot.innerHTML")
    assert not re.search(r"NaN|Infinity|undefined", drawn)


@pytest.mark.parametrize(("optimizer", "scaling"), SHARED)
def test_another_rank_and_the_theory_of_the_first_step(
    open_page, optimizer, scaling
):
    """The average over starts is PyTorch's, and the theorem foretells it."""
    element = opened(open_page, "alpha-lr")
    element.locator(f"input[value={optimizer}]").check()
    element.locator(f"input[value={scaling}]").check()
    element.get_by_role("button", name="rank 4 → 16").click()
    frames(element)
    words = re.findall(r"× (\d[\d.]*\d|\d)", shown(element, "note"))
    found = [float(word) for word in words]
    W = torch.zeros_like(T, requires_grad=True)
    loss_of(W).backward()
    means = []
    for r in (4, 16):
        numbers = random(2)
        s = scale_of({**YOURS, "rank": math.log2(r)}, scaling)
        along = square = 0.0
        for _ in range(200):
            A = uniform(numbers, r, 24) / 24**0.5
            B = torch.zeros(16, r, dtype=torch.float64, requires_grad=True)
            loss_of(s * B @ A).backward()
            step = B.grad.sign() if optimizer == "adam" else B.grad
            change = -s * step @ A
            along -= float((change * W.grad).sum())
            square += float(change.square().sum())
        means.append((along, square**0.5))
    (along, size), (other, larger) = means
    # α/r and Adam: as far along -G, and a smaller step; and so on.
    theory = {
        ("adam", "r"): 1,
        ("adam", "root"): 2,
        ("sgd", "r"): 1 / 4,
        ("sgd", "root"): 1,
    }[optimizer, scaling]
    assert found[0] == pytest.approx(other / along, rel=6e-3)
    assert found[1] == pytest.approx(theory)
    assert found[0] == pytest.approx(theory, rel=0.1)
    if optimizer == "sgd":
        assert len(found) == 2
        return
    spread = (24 + 2 / math.pi * 15) / (24 + 2 / math.pi * 3)
    theory = math.sqrt(spread * (1 / 4 if scaling == "r" else 1))
    assert found[2] == pytest.approx(larger / size, rel=6e-3)
    assert found[3] == pytest.approx(theory, rel=6e-3)
    assert found[2] == pytest.approx(theory, rel=0.05)


def test_on_a_phone_nothing_scrolls_sideways(open_page):
    element = opened(
        open_page, "alpha-lr", viewport={"width": 390, "height": 844}
    )
    for name in [*PRESETS, "explosion"]:
        if name == "explosion":
            element.get_by_role("radio", name="SGD").check()
            slide(element, "hers", {"rate": -1, "start": 2.5, "ratio": 6})
            assert "explodes" in shown(element, "same")
        else:
            element.get_by_role("button", name=name, exact=True).click()
            slide(element, "hers", {"rate": -6.5, "start": 0.5})
        assert element.evaluate("""e => {
          const f = e.shadowRoot.querySelector("figure");
          const edge = f.getBoundingClientRect().right;
          return [...f.querySelectorAll("*:not(svg *):not(.hidden)")].every(
            x => x.getBoundingClientRect().right <= edge) &&
            f.scrollWidth <= f.clientWidth;
        }""")


def test_paper_has_the_settings(open_page):
    element = opened(open_page, "alpha-lr")
    words = element.locator(".paper")
    expect(words).to_be_hidden()
    element.page.emulate_media(media="print")
    expect(words).to_have_text(
        "Adam, scale α/r; yours: α 64, rank r 8, rate η 2⁻⁷; hers: α 16, "
        "rank r 8, rate η 2⁻⁷, start of A × 1, rate of B × 1."
    )


def test_the_still_picture_shows_these_runs():
    for alpha, lr, size in ((64, -7, 0), (16, -5, 0), (16, -6, 1)):
        knobs = {**YOURS, "alpha": math.log2(alpha), "rate": lr, "start": size}
        expected = torch.stack(train(knobs, "adam", "r")[0]).numpy()
        found = alpha_run(alpha, 2.0**lr, 2.0**size)
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-10)
    assert np.array_equal(alpha_run(64, 2**-7, 1), alpha_run(16, 2**-6, 2))
