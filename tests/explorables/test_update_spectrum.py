"""The explorable `update-spectrum`: what it says, against the file.

What the page says is compared with numbers worked out here from the file that
the experiment wrote, and with the spectrum of the model's own weights.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from node import call

from lorabook.assets import assets_folder
from lorabook.explorables import REGISTRY
from lorabook.models import load_tiny_gpt

FILE = assets_folder() / "results" / "update_spectra.json"
FOUND = json.loads(FILE.read_text("utf8"))
LAYERS = FOUND["layers"]
RANKS = [int(r) for r in FOUND["all"]]
KINDS = ("update", "weight", "noise")


def energies(kind: str, layer: str) -> np.ndarray:
    """Return the energies of the first 1 ... 128 directions."""
    some = list(LAYERS.values()) if layer == "all" else [LAYERS[layer]]
    squares = np.square([x[kind] for x in some])
    mean: np.ndarray = (
        squares.cumsum(axis=1) / squares.sum(axis=1, keepdims=True)
    ).mean(axis=0)
    return mean


def losses(layer: str) -> list[dict[int, float]]:
    """Return losses by rank, of all layers or of both ways of cutting one."""
    if layer == "all":
        tables = [FOUND["all"]]
    else:
        tables = [LAYERS[layer]["alone"], LAYERS[layer]["among"]]
    return [{int(r): x for r, x in table.items()} for table in tables]


def shares(layer: str) -> list[dict[int, float]]:
    """Return the shares of the gain: its own, or that of all together."""
    few, found = FOUND["few"], losses(layer)
    ends = [(table[0], table[128]) for table in found]
    if layer != "all":
        ends[1] = few["before"], few["after"]
    return [
        {r: (a - x) / (a - b) for r, x in table.items()}
        for table, (a, b) in zip(found, ends, strict=True)
    ]


def percent(text: str) -> float:
    return float(text.rstrip("%").replace("−", "-")) / 100


ALL_RANKS = [1, 2, 3, 4, 8, 11, 16, 32, 64, 127, 128]


@pytest.fixture(scope="module")
def said() -> dict[str, dict[int, dict]]:
    """Return all that the page says, by layer and rank."""
    names = ["all", *LAYERS]
    found = call(
        "update-spectrum",
        """(names, ranks) => {
          const U = LR.spectrum, data = LR.data.updates;
          const facts = U.allFacts(data);
          return names.map(name => {
            const gains = U.gains(data, name);
            return ranks.map(r => ({
              spectra: U.spectra(facts[name], r, name),
              losses: gains.map(gain => U.losses(data, r, gain)),
              ...U.reading(data, facts[name], gains, r, name) }));
          });
        }""",
        names,
        ALL_RANKS,
    )
    return {
        name: dict(zip(ALL_RANKS, rows, strict=True))
        for name, rows in zip(names, found, strict=True)
    }


def test_energies_agree_with_python(said):
    for layer, rows in said.items():
        some = LAYERS.values() if layer == "all" else [LAYERS[layer]]
        for kind in KINDS:
            e = energies(kind, layer)
            need, size = [], []
            for x in some:
                squares = np.square(x[kind])
                within = squares.cumsum() < 0.9 * squares.sum()
                need.append(within.sum() + 1)
                size.append(
                    np.linalg.norm(x[kind]) / np.linalg.norm(x["weight"])
                )
            for r, row in rows.items():
                text = row["spectra"]
                found = percent(text[f"{kind}-energy"])
                assert found == pytest.approx(e[r - 1], abs=7e-4)
                assert float(text[f"{kind}-need"]) == pytest.approx(
                    np.mean(need), abs=0.051
                )
                assert percent(text[f"{kind}-size"]) == pytest.approx(
                    np.mean(size), abs=5.1e-3
                )


def test_the_weight_is_the_models(said):
    model = load_tiny_gpt()
    of_layer = {}
    for name in LAYERS:
        W = model.get_submodule(name).weight.detach().double()
        s = torch.linalg.svdvals(W).square()
        of_layer[name] = (s.cumsum(0) / s.sum()).numpy()
    of_layer["all"] = np.mean(list(of_layer.values()), axis=0)
    for layer, rows in said.items():
        for r, row in rows.items():
            found = percent(row["spectra"]["weight-energy"])
            assert found == pytest.approx(of_layer[layer][r - 1], abs=7e-4)


def test_losses_agree_with_the_file(said):
    for layer, rows in said.items():
        columns = list(zip(losses(layer), shares(layer), strict=True))
        for r, row in rows.items():
            for (loss, share), (none, cut, whole, kept) in zip(
                columns, row["losses"], strict=True
            ):
                assert none == f"{loss[0]:.3f}"
                assert whole == f"{loss[128]:.3f}"
                if r in RANKS:
                    assert cut == f"{loss[r]:.3f}"
                    assert percent(kept) == pytest.approx(share[r], abs=7e-4)
                    continue
                # Nothing in between is made up: the neighbours are named.
                assert cut == "not measured"
                near = re.findall(r"(−?[\d.]+%) at (\d+)", kept)
                below = max(x for x in RANKS if x < r)
                above = min(x for x in RANKS if x > r)
                assert [int(x) for _, x in near] == [below, above]
                for value, at in near:
                    assert percent(value) == pytest.approx(
                        share[int(at)], abs=6e-4
                    )


def test_the_reading_is_true(said):
    few = FOUND["few"]
    gain = few["before"] - few["after"]
    for layer, rows in said.items():
        mine = shares(layer)
        for r, row in rows.items():
            found = re.findall(r"−?[\d.]+%", row["energy"])
            expected = [energies(kind, layer)[r - 1] for kind in KINDS]
            assert [percent(x) for x in found] == pytest.approx(
                expected, abs=5.1e-3
            )
            text, values = row["gain"], []
            if layer != "all":
                alone = losses(layer)[0]
                own = alone[0] - alone[128]
                assert f"saves {own:.3f} bits per byte" in text
                values.append(own / gain)
            assert ("not measured" in text) == (r not in RANKS)
            if r in RANKS:
                values.append(mine[0][r])
                more = r < 128 and mine[0][r] > expected[0]
                assert ("more than of the energy" in text) == more
            if layer != "all":
                values.append(mine[1][0])
            else:
                each = sum(
                    x["alone"]["0"] - x["alone"]["128"]
                    for x in LAYERS.values()
                )
                assert f"are {each / gain:.1f} times the gain of all" in text
            found = [percent(x) for x in re.findall(r"−?[\d.]+%", text)]
            assert found == pytest.approx(values, abs=5.1e-3)


def test_the_spectra_that_are_drawn():
    """The root mean square over layers; of one, itself."""
    norm, absolute, one = call(
        "update-spectrum",
        """name => {
          const facts = LR.spectrum.allFacts(LR.data.updates);
          return [facts.all.update.norm, facts.all.update.absolute,
            facts[name].noise.absolute];
        }""",
        "blocks.1.attention.v",
    )
    s = np.array([x["update"] for x in LAYERS.values()])
    shares_ = s / np.linalg.norm(s, axis=1, keepdims=True)
    for found, expected in (
        (norm, np.sqrt((shares_**2).mean(0))),
        (absolute, np.sqrt((s**2).mean(0))),
        (one, LAYERS["blocks.1.attention.v"]["noise"]),
    ):
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-7)


def test_the_data_is_that_of_the_file():
    got = call("update-spectrum", "() => LR.data.updates")
    about = FOUND["provenance"]["settings"]
    assert {k: got[k] for k in ("seed", "lr", "steps")} == {
        k: about[k] for k in ("seed", "lr", "steps")
    }
    assert got["ranks"] == RANKS
    assert got["layers"].keys() == LAYERS.keys()
    for name, x in LAYERS.items():
        for kind in KINDS:
            assert got["layers"][name][kind] == pytest.approx(
                x[kind], rel=5.1e-4
            )


def test_the_picture_in_words_is_true():
    alt = REGISTRY["update-spectrum"].alt
    for share in (
        *(energies(kind, "all")[7] for kind in KINDS),
        shares("all")[0][8],
    ):
        assert f"{share:.0%}" in alt
