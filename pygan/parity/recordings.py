"""Two recordings: the first step from the same start, then both as free runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from pygan.data import Dataset
from pygan.errors import ConfigError
from pygan.parity.advice import extent_of, for_every_level
from pygan.parity.claims import CORRECTNESS, claims_of
from pygan.parity.float32 import Float32Judge, in_noise_levels
from pygan.parity.free import SHOWN, Separation, free_rows, picture_curve, picture_rows
from pygan.parity.initial import compare_initial
from pygan.parity.judge import Judged, batch_difference, judge_float64
from pygan.parity.levels import layout_rows
from pygan.parity.referee import Referee
from pygan.parity.report import Report, Row, Tally
from pygan.parity.sides import Pair, Recorded, Sides, words_of
from pygan.parity.verdicts import NOT_RUN
from pygan.recipes import config_from_dict
from pygan.records import StepRecord
from pygan.stacks.torch_stack import TorchStack
from pygan.state import State
from pygan.training import picture_latent

NO_REFEREE = "two recordings have no live torch side; compare one of them with a live stack"
NO_IMAGES = "how far rounding parts these runs is computed from their images, which are not at hand (--data-dir)"


def compare_recordings(
    candidate: Any,
    reference: Any,
    steps: int | None,
    levels: Collection[int],
    facts: dict[str, Any],
    dataset: Dataset | None = None,
) -> Report:
    """Initial states and the first step are judged in Float64; Float32 steps by their Float64 twins, where both hold
    them. Where ``dataset`` is at hand, a referee is run on it: then the rounding of the first Float32 step is judged
    too, and Float64 free runs over all common steps."""
    assert isinstance(candidate, Recorded) and isinstance(reference, Recorded)
    both = sorted(set(candidate.trace.steps) & set(reference.trace.steps))[:steps]
    if not both:
        raise ConfigError(f"{candidate.trace.folder} and {reference.trace.folder} have no step in common")
    mine = [candidate.trace.record(step) for step in both]
    theirs = [reference.trace.record(step) for step in both]
    initial = compare_initial(candidate.initial(), reference.initial())
    rows: list[Row] = [*layout_rows(initial.checks), initial.row]
    float64 = candidate.config["dtype"] == "float64"
    config: Any = config_from_dict(dict(candidate.config)) if dataset is not None else None
    start = _start(candidate, config) if dataset is not None and initial.fits and both[0] == 0 else None
    first: Pair | None = Pair(both[0], {}, mine[0], theirs[0])
    if not float64:
        twins = (candidate.trace.twin(both[0]), reference.trace.twin(both[0]))
        first = Pair(both[0], {}, twins[0], twins[1]) if twins[0] is not None and twins[1] is not None else None
    if first is None or both[0] != 0:
        rows.append(Row(7, CORRECTNESS, NOT_RUN, reason="the recordings hold no common first step in Float64"))
    else:
        rows += _first_step(first, float64)
    if not float64 and start is not None and dataset is not None:
        rows += _rounding(Pair(0, start, mine[0], theirs[0]), Sides(candidate, reference), config, dataset)
    spread = None
    if float64 and start is not None and dataset is not None and {8, 9} & set(levels):
        spread = _spread(Separation(config, dataset, start), mine, theirs, config)
    free_part, curves = free_rows(mine, theirs, spread)
    free_part += picture_rows(mine, theirs, spread)
    rows += [replace(row, reason=NO_IMAGES) if float64 and row.reason == SHOWN else row for row in free_part]
    curves["pictures"] = picture_curve(mine, theirs)
    mine_title, other_title = (f"{side.title} ({side.trace.folder.name})" for side in (candidate, reference))
    every = for_every_level([row for row in rows if row.level in levels], levels, NO_REFEREE)
    extent = extent_of(every, 1, sum(bool(one.loss) for one in mine), (candidate, reference))
    data, ran = dict(candidate.trace.header.data), dict(candidate.config)
    found = initial.diagnosis
    return Report(mine_title, other_title, ran, facts, every, found, curves=curves, data=data, extent=extent)


def _start(side: Recorded, config: Any) -> State:
    """The state before the first step: as recorded, or as the draws make it (level 2 compares digests of the two)."""
    held = side.initial()
    return held.state if held is not None and held.state else TorchStack(config.replace(device="cpu")).state()


def _spread(
    separation: Separation, mine: list[StepRecord], theirs: list[StepRecord], config: Any
) -> dict[int, dict[str, float]]:
    """How far the referee's runs part, at every step where both recordings hold something."""
    held = {one.step: (one, other) for one, other in zip(mine, theirs, strict=True)}
    for number in range(max(held) + 1):
        pair = held.get(number)
        wanted = config.pictures and pair and all("values" in one.pictures for one in pair)
        drawn = picture_latent(config, number) if wanted else None
        if pair and not pair[0].loss:  # the closing pictures
            if drawn is not None:
                separation.draw(number, drawn)
            continue
        words = {*words_of(pair[0]), *words_of(pair[1])} - {"layers", "layer_sketches", "patterns"} if pair else ()
        separation.step(number, sorted(words), drawn)
    return separation.spread


def _rounding(pair: Pair, sides: Sides, config: Any, dataset: Dataset) -> list[Row]:
    """The first Float32 step of both, held to the referee's from the same state."""
    found = Float32Judge(sides, Referee(config, dataset)).judge(pair)
    flips = [in_noise_levels(one) for one in found.flips]
    titled = [(f"{title}, from its own gradients", rows) for title, rows in found.updates.items()]
    counted = (
        (one, claims_of(one.key, set(), title, every=not title))
        for title, rows in (*titled, ("", [*flips, *found.ensemble]))
        for one in rows
    )
    return [replace(row, minimum=None) for row in _tallied(pair.step, counted)]


def _first_step(pair: Pair, float64: bool) -> list[Row]:
    trained = {key.partition(".")[0] for key in pair.reference.activation_gradient}
    judged: list[Judged] = [*batch_difference(pair), *judge_float64(pair)]
    return _tallied(
        pair.step,
        ((one, claims_of(one.key, trained, every=False) if float64 else [(7, CORRECTNESS)]) for one in judged),
    )


def _tallied(step: int, counted: Iterable[tuple[Judged, list[tuple[int, str]]]]) -> list[Row]:
    """The rows of judged tensors, each counted for its levels and claims."""
    tallies: dict[tuple[int, str], Tally] = {}
    for one, claims in counted:
        for level, claim in claims:
            tallies.setdefault((level, claim), Tally(level, claim)).add(step, [one])
    return [tally.row() for _, tally in sorted(tallies.items())]
