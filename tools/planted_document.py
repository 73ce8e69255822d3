"""Write ``docs/planted-faults.md`` from ``docs/results/planted-bugs.json`` and ``clean-runs.json``; run nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parity_planted import WORDS, score_table
from parity_rows import table

from pygan.files import write_bytes

ROOT = Path(__file__).parents[1]
RESULTS, DOCUMENT = ROOT / "docs" / "results", ROOT / "docs" / "planted-faults.md"
UNKNOWN = "unknown cause"
Row = Mapping[str, Any]


def document(results: Path = RESULTS) -> str:
    """The whole page."""
    stored = json.loads((results / "planted-bugs.json").read_text("utf-8"))
    clean = json.loads((results / "clean-runs.json").read_text("utf-8"))
    what = {(one["side"], one["fault"]): one["what"] for one in stored["faults"]}
    parts = ["# Planted faults\n", f"Made by `make docs`; the numbers by\n\n```sh\n{stored['command']}\n```\n", WORDS]
    parts += ["Most names were written with these faults at hand: a set that nobody here has seen is harder.\n"]
    parts += ["## The score\n", score_table("command", {f"`{name}`": one for name, one in stored["commands"].items()})]
    for name, one in stored["commands"].items():
        parts += [f"By class, `{name}`:\n", score_table("class", one["classes"])]
    parts += ["In torch and in Julia, by dtype:\n", score_table("planted in", stored["totals"])]
    parts += ["## Clean runs beside it\n", clean_table(clean)]
    parts += ["## Faults in torch, against recorded Flux\n"]
    parts += [faults_table([one for one in stored["rows"] if one["side"] == "torch"], what)]
    julia = [one for one in stored["rows"] if one["side"] == "julia"]
    if julia:
        parts += ["## Faults in Flux, against torch\n", "`pygan parity torch` with a trace of the faulty Flux.\n"]
        parts += [faults_table(julia, what)]
    return "\n".join(parts)


def clean_table(stored: Mapping[str, Any]) -> str:
    """How many comparisons with nothing planted, of which kinds, and the alarms among them."""
    counts = stored["counts"]
    alarms = Counter(run["what"] for run in stored["runs"] if run["alarm"])
    rows = [(what, count, alarms[what]) for what, count in counts["by candidate"].items()]
    rows.append(("all", counts["comparisons"], counts["false alarms"]))
    return table(("a right run compared with a right run of", " comparisons", " false alarms"), rows)


def faults_table(rows: Sequence[Row], what: Mapping[tuple[str, str], str]) -> str:
    """A line for each fault and dtype: its class, what became of it, and what the user is told."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for one in rows:
        groups.setdefault((one["fault"], one["recording"] if one["side"] == "torch" else "", one["dtype"]), []).append(
            one
        )
    lines = []
    for (fault, recording, dtype), some in sorted(groups.items(), key=lambda item: item[0][0]):
        first = some[0]
        found = Counter(one["verdict"] for one in some)
        told = ", ".join(f"{name} ({count})" if len(found) > 1 else name for name, count in found.items())
        names = ", ".join(dict.fromkeys(one["cause"] for one in some if one["cause"] not in ("", UNKNOWN)))
        place = "" if first["step"] is None else f"step {first['step']}, "
        lines.append(
            (
                f"{fault}: {what[first['side'], fault]}",
                f"{dtype}, `{recording}`" if recording else dtype,
                first["kind"],
                told,
                names,
                f"{place}`{first['key'][:80]}`" if first["key"] else "",
            )
        )
    return table(("fault", "dtype, recording", "class", "verdict", "called", "found at"), lines)


if __name__ == "__main__":
    write_bytes(DOCUMENT, document().encode())
    print(f"wrote {DOCUMENT}")
