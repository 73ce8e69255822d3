"""Levels 8 and 9 over free runs: both from the same start on their own ways, and the pictures that they draw.

In Float64 they are held to how far the referee parts from itself: three runs of it that start one unit in the last
place apart. Free Float32 runs part by rounding, sooner or later; they are shown and not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from pygan.data import Dataset
from pygan.draws import Draws
from pygan.parity.compare import Difference, compare_arrays, compare_records, norm
from pygan.parity.judge import relative
from pygan.parity.report import Row
from pygan.parity.tolerances import FLOAT64_OVER_FLOAT32, FREE_FACTOR, FREE_LEAST, FREE_MOST, PIXEL
from pygan.parity.verdicts import AGREE, BEYOND, DIFFERS, NOT_RUN
from pygan.pictures.grid import PictureError
from pygan.pictures.grid import pixels as levels_of
from pygan.pictures.of_record import picture_values
from pygan.records import StepRecord
from pygan.schedule import Schedule
from pygan.state import State

RUNS = 3
"""Referee runs that start one unit in the last place apart."""
MEASURED_EVERY = 20
"""Steps between two measurements of the noise of their layers."""
SHOWN = "free Float32 runs part by rounding; they are shown and not judged"
Compared = list[tuple[int, Difference]]
"""Every compared tensor of two free runs, with its step."""
Spread = dict[int, dict[str, float]]
"""By step and tensor: the largest separation among the referee's runs up to that step, over the tensor's norm."""


def nudged(state: State, seed: int) -> State:
    """``state`` with every parameter moved by one unit in the last place, up or down by a keyed draw.

    Zeros stay: biases start there, and with them whole areas whose input of a ReLU is exactly zero in every run."""
    made = dict(state)
    for key, value in state.items():
        if key.startswith("parameter/"):
            up = Draws(seed).keep(f"nudge/{key}", value.shape, 0.5)
            made[key] = np.where(value == 0, value, np.nextafter(value, np.where(up, np.inf, -np.inf)))
    return made


SHAKEN_STEPS = 10
"""So many first steps of the referee's free runs are shaken, and every such step later."""


class Separation:
    """The referee's runs beside a free Float64 run, stepped with it: they start one unit in the last place apart, and
    each result is off by the rounding of Float64.

    Three runs may lie close together by chance, most of all in a single number. So a tensor's separation is the largest
    of all steps so far, and at least the noise of the one operation that made it.
    """

    def __init__(self, config: Any, dataset: Dataset, initial: State) -> None:
        from pygan.parity.referee import RefereeStack

        self._draws, self._schedule = Draws(config.seed), Schedule.of(config, dataset.images)
        self._stacks = [RefereeStack(config.replace(device="cpu", randomness="keyed")) for _ in range(RUNS)]
        for number, stack in enumerate(self._stacks):
            stack.load_state(nudged(initial, number))
            stack.scale = FLOAT64_OVER_FLOAT32
        self._measured: dict[int, Any] = {}
        self._largest: dict[str, float] = {}
        self.spread: Spread = {}

    def step(self, number: int, words: Sequence[str], latent: np.ndarray | None) -> None:
        """Step ``number`` of every run, with separations of losses, of what ``words`` record and of pictures drawn."""
        flats = [_tensors(record) for record in self._steps(number, words)]
        levels = self._measured[len(self._schedule.indices(number))]
        self._keep(number, flats, levels)
        if latent is not None:
            self.draw(number, latent)

    def draw(self, number: int, latent: np.ndarray) -> None:
        """The separation of every run's pictures, under the number of a step."""
        self._keep(number, [{"pictures/values": stack.generate(latent)} for stack in self._stacks], None)

    @property
    def at_checkpoints(self) -> Spread:
        """Separations of the steps that have more than losses."""
        return {step: held for step, held in self.spread.items() if any(key[:5] != "loss/" for key in held)}

    def _keep(self, number: int, flats: Sequence[Mapping[str, np.ndarray]], levels: Any) -> None:
        for key, value in flats[0].items():
            gaps = [norm(one[key].astype(np.float64) - other[key]) for one, other in combinations(flats, 2)]
            own = FLOAT64_OVER_FLOAT32 * (levels.level(key) or 0.0) if levels else 0.0
            largest = self._largest[key] = max(*gaps, own, self._largest.get(key, 0.0))
            self.spread.setdefault(number, {})[key] = relative(largest, value)

    def _steps(self, number: int, words: Sequence[str]) -> list[StepRecord]:
        """One step of each run; now and then shaken by the noise of every operation, which the first run measures.

        Runs that are one unit apart round differently by themselves: shaking takes nine times as long, and only keeps
        runs that would be equal for long from looking closer than another order of summation would be.
        """
        import torch

        from pygan.parity.referee import Levels

        batch, draws = self._schedule[number], self._draws.at(number)
        first, *others = self._stacks
        size = len(batch)
        if size in self._measured and number >= SHAKEN_STEPS and number % SHAKEN_STEPS:
            return [stack.step(batch, draws, words) for stack in self._stacks]
        records = []
        if size not in self._measured or number % MEASURED_EVERY == 0:
            self._measured[size] = first.levels = Levels()
            records.append(first.step(batch, draws, words))
        else:
            others = self._stacks
        for run, stack in enumerate(others):
            stack.levels, stack.generator = self._measured[size], torch.Generator().manual_seed(RUNS * number + run)
            records.append(stack.step(batch, draws, words))
        for stack in self._stacks:
            stack.levels = stack.generator = None
        return records


def _tensors(record: StepRecord) -> dict[str, np.ndarray]:
    kinds = ("loss", "logits", "gradient", "state", "sketch")
    return {
        f"{kind}/{name}": value
        for kind in kinds
        for name, value in getattr(record, kind).items()
        if value.dtype.kind == "f" and not name.startswith("beta_power")
    }


def compared(candidate: Sequence[StepRecord], reference: Sequence[StepRecord]) -> Compared:
    """Losses, logits, gradients, states and sketches at the steps that both runs recorded."""
    kinds = ("loss", "logits", "gradient", "state", "sketch")
    theirs = {record.step: record for record in reference}
    pairs = [(one, theirs[one.step]) for one in candidate if one.step in theirs]
    return [(mine.step, one) for mine, other in pairs for one in compare_records(mine, other, kinds=kinds)]


def curves(differences: Compared) -> dict[str, dict[int, float]]:
    """Relative difference of losses and of the state (of its sketches where only those are there), by key and step."""
    found: dict[str, dict[int, float]] = {}
    without = ("state/step", "state/beta_power", "sketch/gradient")
    for step, one in differences:
        if one.key.startswith(("loss/", "state/", "sketch/")) and not one.fault and not one.key.startswith(without):
            found.setdefault(one.key.removeprefix("sketch/"), {})[step] = one.relative
    return found


@dataclass
class Held:
    """Free differences held to the referee's own separation."""

    compared: int = 0
    worst: tuple[float, str, int, float, float] | None = None
    failed: list[tuple[float, str, int, float, float]] = field(default_factory=list)
    beyond: int | None = None

    def add(self, key: str, step: int, value: float, separation: float) -> None:
        """Count one tensor at one step, if the horizon allows."""
        allowed = max(FREE_FACTOR * separation, FREE_LEAST)
        if allowed > FREE_MOST:
            self.beyond = step if self.beyond is None else min(step, self.beyond)
            return
        self.compared += 1
        one = (value / allowed, key, step, value, allowed)
        self.worst = max(self.worst or one, one)
        if value > allowed:
            self.failed.append(one)

    def row(self, level: int, claim: str, steps: int) -> Row:
        """The claim's row."""
        if self.worst is None:
            return Row(level, claim, BEYOND, reason="the referee's own runs have parted by more than 1e-8")
        failed = min(self.failed, key=lambda one: one[2], default=None)
        _, key, step, value, allowed = failed or self.worst
        told = f"{steps} steps; {FREE_FACTOR:g} times the separation of {RUNS} referee runs, or {FREE_LEAST:g}"
        told += (
            f"; tensors beyond the horizon from step {self.beyond} on are not judged" if self.beyond is not None else ""
        )
        told = f"{len(self.failed)} of {self.compared} outside; {told}" if failed else told
        return Row(
            level,
            claim,
            DIFFERS if failed else AGREE,
            self.compared,
            value,
            allowed,
            value,
            f"{key} @ step {step}",
            told,
        )


def free_rows(
    candidate: Sequence[StepRecord], reference: Sequence[StepRecord], spread: Spread | None
) -> tuple[list[Row], dict[str, Any]]:
    """Rows of level 8 and the divergence curves. ``spread`` is None where free runs are not judged (Float32)."""
    claim = "tensors over steps"
    differences = compared(candidate, reference)
    found = curves(differences)
    if not found:
        return [Row(8, claim, NOT_RUN, reason="no step has states or sketches in both runs")], {}
    stored = {key: {"steps": list(points), "relative": list(points.values())} for key, points in found.items()}
    if bad := [(step, one) for step, one in differences if one.fault]:
        step, one = bad[0]
        reason = f"{one.fault} (and {len(bad) - 1} more)" if len(bad) > 1 else one.fault
        return [Row(8, claim, DIFFERS, len(found), where=f"{one.key} @ step {step}", reason=reason)], stored
    if spread is None:
        return [Row(8, claim, NOT_RUN, reason=SHOWN)], stored
    held = Held()
    for step, one in differences:
        if one.key in spread.get(step, {}):  # between checkpoints the referee's separation is not known
            held.add(one.key, step, one.relative, spread[step][one.key])
    return [held.row(8, claim, max(step for step, _ in differences) + 1)], stored


def picture_rows(candidate: Sequence[StepRecord], reference: Sequence[StepRecord], spread: Spread | None) -> list[Row]:
    """Level 9 of two free runs: their pictures as values, and as the grid that users see."""
    claim = "pictures of both free runs"
    if spread is None:
        return [Row(9, claim, NOT_RUN, reason=SHOWN)]
    theirs = {record.step: record for record in reference if record.pictures}
    both = [(one, theirs[one.step]) for one in candidate if one.pictures and one.step in theirs]
    exact = [(one, other) for one, other in both if "values" in one.pictures and "values" in other.pictures]
    if not exact:
        return [Row(9, claim, NOT_RUN, reason="no step has exact pictures in both runs")]
    held, last = Held(), 0
    for one, other in exact:
        (difference,) = compare_arrays({"pictures": one.pictures["values"]}, {"pictures": other.pictures["values"]})
        if difference.fault:
            return [Row(9, claim, DIFFERS, len(exact), where=f"pictures @ step {one.step}", reason=difference.fault)]
        held.add("pictures", one.step, difference.relative, spread.get(one.step, {}).get("pictures/values", 0.0))
        last = one.step
    return [held.row(9, claim, last + 1), grid_row(both, "grids as users see them, free runs")]


def grid_row(pairs: Sequence[tuple[StepRecord, StepRecord]], claim: str) -> Row:
    """Both stacks' own grids: the same size, and no pixel further apart than rounding to 8 bits allows."""
    seen, unlike, pixels = 0, 0, 0
    for one, other in pairs:
        if "grid" not in one.pictures or "grid" not in other.pictures:
            continue
        seen += 1
        mine, theirs = one.pictures["grid"], other.pictures["grid"]
        where = f"grid @ step {one.step}"
        if mine.shape != theirs.shape:
            return Row(9, claim, DIFFERS, seen, where=where, reason=f"grid {mine.shape} against {theirs.shape}")
        gap = np.abs(mine.astype(np.int16) - theirs)
        if int(gap.max(initial=0)) > PIXEL:
            far = int((gap > PIXEL).sum())
            return Row(
                9,
                claim,
                DIFFERS,
                seen,
                float(gap.max()),
                PIXEL,
                None,
                where,
                f"{far} of {gap.size} pixels differ by more than {PIXEL} grey level: other values or another layout",
            )
        differing, between = int((gap > 0).sum()), _between(one, other)
        if between is not None and differing > between:
            told = (
                f"{differing} of {gap.size} pixels differ by one grey level, rounding falls between the values of "
                f"{between} alone: another layout, or another rounding"
            )
            return Row(9, claim, DIFFERS, seen, float(gap.max()), PIXEL, None, where, told)
        unlike, pixels = unlike + differing, pixels + gap.size
    if not seen:
        return Row(9, claim, NOT_RUN, reason="no step has a grid of both stacks' own making")
    told = (
        f"{unlike} of {pixels} pixels differ by one grey level, where rounding falls between"
        if unlike
        else "every byte"
    )
    return Row(9, claim, AGREE, seen, float(unlike > 0), PIXEL, None, reason=told)


def _between(one: StepRecord, other: StepRecord) -> int | None:
    """For how many pixels rounding to 8 bits falls between both sides' values; None where these are not all known."""
    values = [side.pictures.get("values") for side in (one, other)]
    if values[0] is None or values[1] is None or values[0].shape != values[1].shape:
        return None
    try:
        mine, theirs = levels_of(values[0]), levels_of(values[1])
    except PictureError:
        return None
    return int((mine != theirs).sum())


def picture_curve(candidate: Sequence[StepRecord], reference: Sequence[StepRecord]) -> dict[str, list[float]]:
    """Relative difference of the pictures by step, where both runs drew some."""
    theirs = {record.step: record for record in reference if record.pictures}
    both = [one for one in candidate if one.pictures and one.step in theirs]
    pairs = [(picture_values(one).astype(np.float64), picture_values(theirs[one.step])) for one in both]
    return {
        "steps": [one.step for one in both],
        "relative": [relative(norm(mine - other), other) for mine, other in pairs],
    }


def horizon(spread: Spread, key: str = "pictures/values") -> dict[str, float]:
    """How the referee's separation grew over the latter half of the known steps, and when it would reach the limit of
    what is judged: ``power`` of the step, or ``doubling`` every so many steps, whichever lies closer; ``horizon`` is
    that step, left out where nothing grows. Empty where fewer than three steps are known."""
    points = [(step, row[key]) for step, row in sorted(spread.items()) if step > 0 and row.get(key, 0.0) > 0]
    if len(points) < 3:
        return {}
    points = points[min(len(points) // 2, len(points) - 3) :]
    steps, values = np.array([float(step) for step, _ in points]), np.log([value for _, value in points])
    limit, last = np.log(FREE_MOST / FREE_FACTOR), float(steps[-1])
    (power, at_1), of_power, *_ = np.polyfit(np.log(steps), values, 1, full=True)
    (rate, at_0), of_rate, *_ = np.polyfit(steps, values, 1, full=True)
    if of_rate.sum() < of_power.sum() and rate * last > 0.05:
        return {"doubling": float(np.log(2) / rate), "horizon": max(last, float((limit - at_0) / rate))}
    found = {"power": float(power)}
    if power > 0.05:
        found["horizon"] = max(last, float(np.exp((limit - at_1) / power)))
    return found
