"""Where a step's time goes, in both stacks: a table of lines, from operations timed alone and from a profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pygan.benchmarking.floor import Rates, floor_seconds
from pygan.benchmarking.work import Operation, step_flop, table_line

LINES = (
    "convolutions, forward",
    "convolutions, gradient by input",
    "convolutions, gradient by weight",
    "dense layers",
    "BatchNorm",
    "activations",
    "dropout and draws",
    "optimiser",
)
UNUSED = "gradients that nobody uses"
GC = "garbage collection"
REST = "rest"


def times_of(operations: Sequence[Operation], seconds: Sequence[float]) -> dict[Operation, float]:
    """Seconds of one execution by operation, counts left aside."""
    return {once(one): time for one, time in zip(operations, seconds, strict=True)}


def once(operation: Operation) -> Operation:
    """The operation, done once."""
    return Operation(**{**operation.__dict__, "count": 1})


def lines_alone(
    operations: Sequence[Operation],
    unused: Sequence[Operation],
    times: Mapping[Operation, float],
    step: float,
    gc_seconds: float,
) -> dict[str, float]:
    """Seconds of a step by line, from the operations alone; garbage collection as measured in steps; and the rest.

    The rest is the difference to the measured ``step``, so it also holds what running alone makes faster (operands in
    the cache) or slower; it can be negative.
    """
    table = dict.fromkeys(LINES, 0.0)
    for one in operations:
        table[table_line(one)] += one.count * times[once(one)]
    table[UNUSED] = sum(one.count * times.get(once(one), 0.0) for one in unused)
    table[GC] = gc_seconds
    table[REST] = step - sum(table.values())
    return table


def lines_profiled(profile: Mapping[str, Any], alone: Mapping[str, float], step: float) -> dict[str, float]:
    """Seconds of a torch step by line, from the profiler's shares of real steps scaled to the ``step`` as timed.

    The profiler knows the convolutions' gradients as one operator; by input, by weight and those that nobody uses
    share it in the proportion of the same operations ``alone``.
    """
    whole = sum(profile["seconds"].values())
    shares = {line: seconds / whole * step for line, seconds in profile["seconds"].items()}
    both = shares.pop("convolutions, gradients", 0.0)
    parts = {line: alone[line] for line in (*LINES[1:3], UNUSED)}
    total = sum(parts.values()) or 1.0
    shares |= {line: both * part / total for line, part in parts.items()}
    return {line: shares.get(line, 0.0) for line in (*LINES, UNUSED, GC, REST)}


def table(
    operations: Sequence[Operation], rates: Rates, columns: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """The table's lines: work, floor, and seconds of a step in each column."""
    rows = []
    for line in (*LINES, UNUSED, GC, REST):
        here = [one for one in operations if line in LINES and table_line(one) == line]
        entry = {"line": line, "gflop": step_flop(here) / 1e9, "floor": floor_seconds(here, rates)}
        rows.append({**entry, "seconds": {name: column.get(line, 0.0) for name, column in columns.items()}})
    return rows


def layers(
    operations: Sequence[Operation], rates: Rates, times: Mapping[str, Mapping[Operation, float]]
) -> list[dict[str, Any]]:
    """Every product of the step alone: how often, work, floor and seconds of one execution in each stack."""
    return [
        {
            **one.to_dict(),
            "floor": floor_seconds([once(one)], rates),
            "seconds": {name: found[once(one)] for name, found in times.items()},
        }
        for one in operations
        if one.flop
    ]
