"""What a report says of the things that were not compared: a row for each, what to do about it, and how much was."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from pygan.parity.claims import LEVELS
from pygan.parity.report import Extent, Row
from pygan.parity.sides import Recorded
from pygan.parity.verdicts import BEYOND, NOT_RUN

_HOLDS = {
    3: "layers@0:2",
    4: "logits",
    5: "gradients",
    6: "state",
    7: "state,gradients",
    8: "state",
}
_TO_DO = (
    ("holds no initial state", "record it anew with --capture state@0"),
    ("which layers ran in which mode", "record it with --capture layers@0:2"),
    ("no random numbers of its own", "name live stacks: pygan parity torch flux"),
    ("states no laws", "give its config initial_laws() and step_laws()"),
    ("no second order of batches", "compare with a live stack, or with a recording of this pygan"),
    ("correctness failed", "mend the Float64 step first: only then can Float32 be rounding"),
    ("no common first step in Float64", "record both with --capture state,gradients@0, in Float32 with --twin too"),
    ("no step has states or sketches", "record with --capture state, or sketches@0:1000:10 for a long run"),
    ("free Float32 runs part", "--dtype float64 judges them"),
    ("no step has exact pictures", "record with --every 10, and without --exact-pictures-until"),
    ("no step has a grid", "record with --every 10"),
    ("no state beside its pictures", "record with --capture state"),
    ("draws no pictures", "record with --every 10"),
    ("names or shapes differ", "mend level 1 first"),
)


def advised(row: Row) -> Row:
    """A row that was not run with what to do about it behind its reason."""
    if row.verdict != NOT_RUN:
        return row
    told = next((advice for words, advice in _TO_DO if words in row.reason), "")
    if "does not hold what this level compares" in row.reason:
        told = f"record it with --capture {_HOLDS[row.level]}" if row.level in _HOLDS else "record it with --every 10"
    return replace(row, reason=f"{row.reason}; {told}") if told else row


def for_every_level(rows: Collection[Row], levels: Collection[int], reason: str) -> tuple[Row, ...]:
    """The rows by level, with a row that says why for each level that has none."""
    missing = [Row(n, LEVELS[n], NOT_RUN, reason=reason) for n in levels if n not in {row.level for row in rows}]
    return tuple(sorted(map(advised, [*rows, *missing]), key=lambda row: row.level))


def extent_of(
    rows: Collection[Row], steps: int, free: int, recorded: Collection[Recorded], twins: int | None = None
) -> Extent:
    """How much the rows compared, of what the shorter of the ``recorded`` sides holds."""
    judged = [row for row in rows if row.verdict not in (NOT_RUN, BEYOND)]
    return Extent(
        steps if any(3 <= row.level <= 7 for row in judged) else 0,
        free if any(row.level == 8 for row in judged) else 0,
        min((side.trace.training_steps for side in recorded), default=0),
        max((row.compared for row in judged if row.level == 9), default=0),
        min((len(side.trace.steps_with("pictures")) for side in recorded), default=0),
        twins,
    )
