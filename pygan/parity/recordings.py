"""Two recordings: the first step from the same start, then both as free runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from pygan.errors import ConfigError
from pygan.parity.advice import extent_of, for_every_level
from pygan.parity.claims import CORRECTNESS, LEVELS, claims_of
from pygan.parity.free import SHOWN, free_rows, picture_curve, picture_rows
from pygan.parity.initial import compare_initial
from pygan.parity.judge import Judged, batch_difference, judge_float64
from pygan.parity.levels import layout_rows
from pygan.parity.report import Report, Row, Tally
from pygan.parity.sides import Pair, Recorded
from pygan.parity.verdicts import NOT_RUN

NO_REFEREE = "two recordings have no live torch side; compare one of them with a live stack"
NO_MEASURE = "only a live torch side can tell how far rounding parts two free runs; compare one of them with it"


def compare_recordings(
    candidate: Any, reference: Any, steps: int | None, levels: Collection[int], facts: dict[str, Any]
) -> Report:
    """Initial states and the first step are judged in Float64; Float32 steps by their Float64 twins, where both hold
    them. Later steps are free runs without a measure of their own: they are shown."""
    assert isinstance(candidate, Recorded) and isinstance(reference, Recorded)
    both = sorted(set(candidate.trace.steps) & set(reference.trace.steps))[:steps]
    if not both:
        raise ConfigError(f"{candidate.trace.folder} and {reference.trace.folder} have no step in common")
    mine = [candidate.trace.record(step) for step in both]
    theirs = [reference.trace.record(step) for step in both]
    initial = compare_initial(candidate.initial(), reference.initial())
    rows: list[Row] = [*layout_rows(initial.checks), initial.row]
    float64 = candidate.config["dtype"] == "float64"
    first: Pair | None = Pair(both[0], {}, mine[0], theirs[0])
    if not float64:
        twins = (candidate.trace.twin(both[0]), reference.trace.twin(both[0]))
        first = Pair(both[0], {}, twins[0], twins[1]) if twins[0] is not None and twins[1] is not None else None
        rows += [Row(level, LEVELS[level], NOT_RUN, reason=NO_REFEREE) for level in (3, 4, 5, 6)]
    if first is None or both[0] != 0:
        rows.append(Row(7, CORRECTNESS, NOT_RUN, reason="the recordings hold no common first step in Float64"))
    else:
        rows += _first_step(first, float64)
    free_part, curves = free_rows(mine, theirs, None)
    free_part += picture_rows(mine, theirs, None)
    rows += [replace(row, reason=NO_MEASURE) if float64 and row.reason == SHOWN else row for row in free_part]
    curves["pictures"] = picture_curve(mine, theirs)
    mine_title, other_title = (f"{side.title} ({side.trace.folder.name})" for side in (candidate, reference))
    every = for_every_level([row for row in rows if row.level in levels], levels, NO_REFEREE)
    extent = extent_of(every, 1, len(both), (candidate, reference))
    data = dict(candidate.trace.header.data)
    config = dict(candidate.config)
    found = initial.diagnosis
    return Report(mine_title, other_title, config, facts, every, found, curves=curves, data=data, extent=extent)


def _first_step(pair: Pair, float64: bool) -> list[Row]:
    tallies: dict[tuple[int, str], Tally] = {}
    trained = {key.rpartition(".")[0] for key in pair.reference.activation_gradient}
    judged: list[Judged] = [*batch_difference(pair), *judge_float64(pair)]
    for one in judged:
        claims = claims_of(one.key, trained, every=False) if float64 else [(7, CORRECTNESS)]
        for level, claim in claims:
            tallies.setdefault((level, claim), Tally(level, claim)).add(pair.step, [one])
    return [tally.row() for _, tally in sorted(tallies.items())]
