"""A comparison as lines of a table: what, and a cell for each run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pygan.comparison.compare import Comparison, Curve, Extent
from pygan.comparison.runs import FinishedRun
from pygan.comparison.states import StateDistance

Row = tuple[str, list[str]]

ABSENT = "not recorded"


def rows(found: Comparison) -> Iterator[Row]:
    """Every line, blocks in the order of a reader's questions. A line without cells is a heading."""
    yield from _about(found)
    yield from _losses(found)
    yield "seconds a step", [_number(run.seconds_a_step) for run in found.runs]
    yield from _states(found)
    yield from _pictures(found)


def plain(value: Any) -> str:
    """A value from a file as text without control characters."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isprintable() else ascii(text)


def count(number: int, what: str = "step") -> str:
    """``1 step``, ``1,407 steps``."""
    return f"{number:,} {what}" + "s" * (number != 1)


def _about(found: Comparison) -> Iterator[Row]:
    yield "stack", [plain(run.stack) or ABSENT for run in found.runs]
    yield "data", [_data(run) for run in found.runs]
    yield "machine", [plain(run.machine) or ABSENT for run in found.runs]
    yield "compared", [_extent(one) for one in found.extents]
    for name, values in found.config.items():
        yield plain(name), [_field(run, name, value) for run, value in zip(found.runs, values, strict=True)]
    if found.equal_fields:
        yield f"{found.equal_fields} other config fields", ["equal", *[""] * (len(found.runs) - 1)]
    elif not found.config:
        yield "config", [ABSENT for _ in found.runs]


def _data(run: FinishedRun) -> str:
    if not run.data:
        return ABSENT
    images = run.data.get("images")
    count = f", {images:,} images" if isinstance(images, int) else ""
    return plain(f"{run.data.get('name')}{count}, {str(run.data.get('sha256'))[:8]}")


def _field(run: FinishedRun, name: str, value: Any) -> str:
    if not run.config:
        return ABSENT
    return plain(value) if name in run.config else "no such field"


def _extent(one: Extent) -> str:
    if one.of_steps is None:
        told = f"steps {ABSENT}"
    elif one.steps == one.of_steps and one.steps:
        told = f"all {count(one.steps)}"
    elif one.steps:
        told = f"{'first ' * one.first}{one.steps:,} of {count(one.of_steps)}"
    else:
        told = f"none of {count(one.of_steps)}"
    if not one.of_pictures:
        return f"{told}, pictures {ABSENT}"
    return f"{told}, {one.pictures:,} of {count(one.of_pictures, 'picture')}"


def _losses(found: Comparison) -> Iterator[Row]:
    if not found.losses:
        yield "losses", [ABSENT for _ in found.runs]
    own = "" if found.steps else " (no step in common: each run over its own)"
    for name, curves in found.losses.items():
        yield f"loss of {plain(name)}{own}", []
        for what in ("first", "median", "last"):
            yield f"  {what}", [_of(curve, what) for curve in curves]
        if any(curve and curve.end != curve.last for curve in curves):
            yield "  last of the whole run", [_of(curve, "end") for curve in curves]
        if any(curve and curve.not_finite for curve in curves):
            yield "  not finite", [str(curve.not_finite) if curve else ABSENT for curve in curves]


def _of(curve: Curve | None, what: str) -> str:
    return ABSENT if curve is None else f"{getattr(curve, what):.6g}"


def _states(found: Comparison) -> Iterator[Row]:
    shown = found.states[1:]
    if not any(one.groups or one.unfit for one in shown):
        yield "state", ["recorded" if run.states else ABSENT for run in found.runs]
        return
    yield f"state, distance from {found.labels[0]}", ["", *map(_after, shown)]
    for group in dict.fromkeys(name for one in shown for name in one.groups):
        yield f"  {plain(group)}", ["", *(_group(one, group) for one in shown)]
    if any(one.unfit for one in shown):
        yield "  does not fit", ["", *(_unfit(one) for one in shown)]


def _after(one: StateDistance) -> str:
    if one.missing:
        return one.missing
    first, other = one.steps
    return f"after {count(first)}" if first == other else f"after {count(other)}, from {first:,}"


def _group(one: StateDistance, name: str) -> str:
    if name not in one.groups:
        return "-"
    group = one.groups[name]
    return f"{_number(group.relative)} (largest {_number(group.largest_relative)}: {plain(group.largest)})"


def _unfit(one: StateDistance) -> str:
    if not one.unfit:
        return "-"
    more = f", and {len(one.unfit) - 1} more" if len(one.unfit) > 1 else ""
    return plain(one.unfit[0]) + more


def _pictures(found: Comparison) -> Iterator[Row]:
    yield (
        "last pictures",
        [ABSENT if run.last_drawn is None else f"after {count(run.last_drawn)}" for run in found.runs],
    )
    if found.drawn is not None and found.runs[0].pictures:
        after = f"after {count(found.drawn)}"
        told = [
            (f"do not fit {after}" if one is None else f"{_number(one)} {after}") if run.pictures else ABSENT
            for run, one in zip(found.runs, found.pictures, strict=True)
        ]
        yield f"  distance from {found.labels[0]}", ["", *told[1:]]


def _number(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3g}"
