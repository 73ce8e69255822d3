"""Comparing two runs through the levels, whichever of them are live."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pygan import environment
from pygan.data import Dataset
from pygan.draws import Draws
from pygan.errors import ConfigError
from pygan.parity.advice import extent_of, for_every_level
from pygan.parity.causes.pictures import grid_cause, values_cause
from pygan.parity.compare import Difference, compare_arrays
from pygan.parity.evidence import UNKNOWN, Cause
from pygan.parity.float32 import pictures_judged
from pygan.parity.free import Separation, free_rows, grid_row, horizon, picture_curve, picture_rows
from pygan.parity.initial import compare_initial
from pygan.parity.judge import Judged
from pygan.parity.levels import batch_row, init_law_rows, layout_rows, learning_rows, structure_rows
from pygan.parity.locate import Diagnosis
from pygan.parity.recordings import compare_recordings
from pygan.parity.referee import Referee
from pygan.parity.report import Report, Row, Tally
from pygan.parity.sides import PLAIN_CAPTURE, Live, Recorded, Side, Together
from pygan.parity.stepping import Stepping
from pygan.parity.tolerances import FLOAT64_STEP
from pygan.parity.verdicts import DIFFERS, NOT_RUN
from pygan.records import StepRecord
from pygan.state import State, widen
from pygan.training import picture_latent

Watch = Callable[[str, int, int], None]
"""``watch(what, done, total)`` is called after every step."""
PLAIN_STEPS = 5
"""Plain steps that are timed."""
ALL_LEVELS = tuple(range(1, 11))
OF_STEPS = {3, 4, 5, 6, 7}
"""Levels that look into single steps."""
STEPS_BEFORE_A_FREE_RUN = 2
"""Where free runs alone are asked for, so many steps are looked into: a fault that shows at once has its place."""


def checkpoints(steps: int) -> list[int]:
    """Steps at which free runs are compared: 0, 1, 2, 5, 10, 20, 40, ... and the last."""
    doubling = [10 * 2**power for power in range(20)]
    return sorted({step for step in (0, 1, 2, 5, *doubling) if step < steps} | {steps - 1})


def compare_runs(
    candidate: Side,
    reference: Side,
    steps: int | None = None,
    levels: Collection[int] = ALL_LEVELS,
    watch: Watch | None = None,
    dataset: Dataset | None = None,
) -> Report:
    """Every level in ``levels`` that the two sides allow, over the first ``steps`` steps (all of a recording's, where
    not given; 8 of two live sides). ``dataset``: the images of two recordings, which have none of their own.

    Raises ``ConfigError`` where the two sides are not runs of one recipe and config.
    """
    same_run(candidate, reference)
    same_images(candidate, reference)
    watch = watch or (lambda what, done, total: None)
    if candidate.live or reference.live:
        return _Comparison(Together(candidate, reference), steps, levels, watch).report()
    return compare_recordings(candidate, reference, steps, levels, _environment(candidate, reference), dataset)


_MAY_DIFFER = ("device", "threads", "epochs", "picture_every")
DEFAULT_STEPS = 8


def config_of(side: Side) -> dict[str, Any]:
    """The side's config as a dict."""
    return dict(side.config) if isinstance(side, Recorded) else side.config.to_dict()


def same_run(candidate: Side, reference: Side) -> None:
    """Raise ``ConfigError`` naming every config field in which the sides differ and should not."""
    mine, theirs = config_of(candidate), config_of(reference)
    unlike = [key for key in sorted(mine.keys() | theirs.keys()) if mine.get(key) != theirs.get(key)]
    if bad := [key for key in unlike if key not in _MAY_DIFFER]:
        told = ", ".join(f"{key} = {mine.get(key)!r} against {theirs.get(key)!r}" for key in bad)
        raise ConfigError(f"the two runs are not of one config: {told}")


def images_of(side: Side) -> dict[str, Any]:
    """Name, number and hash of the images that a side was run on."""
    if isinstance(side, Recorded):
        return dict(side.trace.header.data)
    return side.dataset.facts()


def same_images(candidate: Side, reference: Side) -> None:
    """Raise ``ConfigError`` where the sides were run on other images."""
    mine, theirs = images_of(candidate), images_of(reference)
    if mine["sha256"] != theirs["sha256"]:
        told = " against ".join(f"{one['images']} of {one['name']}" for one in (mine, theirs))
        raise ConfigError(f"the two runs saw other images: {told} (SHA-256 of the pixels differs)")


def _environment(candidate: Side, reference: Side) -> dict[str, Any]:
    """This machine, and what each side ran on."""
    facts: dict[str, Any] = environment.describe()
    for role, side in (("candidate", candidate), ("reference", reference)):
        if isinstance(side, Recorded):
            facts[role] = {"trace": side.trace.folder.name, **side.trace.header.environment.get("stack", {})}
        else:
            facts[role] = side.stack.describe()
    return facts


class _Comparison:
    def __init__(self, together: Together, steps: int | None, levels: Collection[int], watch: Watch) -> None:
        self.together, self.levels, self.watch = together, set(levels), watch
        self.follower, self.leader = together.follower, together.leader
        held = self.leader.trace.training_steps if isinstance(self.leader, Recorded) else None
        self.steps = min(steps or held or DEFAULT_STEPS, held or steps or DEFAULT_STEPS)
        self.config = self.follower.config
        self.float64 = self.config.dtype == "float64"
        self.referee = Referee(self.config, self.follower.dataset)
        self.lead_records: list[StepRecord] = []
        self.pictures = Tally(9, "pictures from the same state")
        self.grids: list[tuple[StepRecord, StepRecord]] = []
        self.initial = compare_initial(together.candidate.initial(), together.reference.initial())
        self.first = self.follower.stack.state()

    def report(self) -> Report:
        rows: list[Row] = []
        if not self.initial.fits:  # nothing below can be stepped
            rows = [
                row for row in layout_rows(self.initial.checks) if row.level in self.levels or row.verdict == DIFFERS
            ]
            return self._report(rows, None, {}, "names or shapes differ at level 1, so no step was compared")
        stepping = self._step_together()
        if 1 in self.levels:
            rows += [*layout_rows(self.initial.checks), *structure_rows(self.together, stepping.first)]
        if 2 in self.levels:
            rows.append(self.initial.row)
            rows += init_law_rows(self.together.candidate, self.together.reference)
        rows += [row for row in stepping.rows() if row.level in self.levels]
        if 4 in self.levels:
            rows.append(batch_row(self.together, stepping.steps))
        curves: dict[str, Any] = {}
        if self.levels & {8, 9, 10}:
            free, separation = self._free_run()
            mine, theirs = self._as_roles(free)
            spread = separation.spread if separation is not None else None
            if 8 in self.levels:
                free_part, curves = free_rows(mine, theirs, spread)
                rows += self._comparable(free_part)
                if separation is not None:
                    known = separation.at_checkpoints
                    curves |= {"separation": known, "growth": horizon(known)} if known else {}
            if 9 in self.levels:
                rows.append(self.pictures.row(self._no_pictures()))
                if self.grids:
                    rows.append(grid_row(self.grids, "grids as users see them, from the same state"))
                rows += self._comparable(picture_rows(mine, theirs, spread))
                curves["pictures"] = picture_curve(mine, theirs)
            if 10 in self.levels:
                rows += learning_rows(self.together, self.first, free, self.lead_records)
        return self._report(rows, stepping, curves, "the recording does not hold what this level compares")

    def _comparable(self, rows: list[Row]) -> list[Row]:
        """Rows of free runs: not run in Float64 where the runs saw batches that Float32 had rounded otherwise."""
        if not (self.float64 and self.together.batches.gaps):
            return rows
        told = "the batches are equal but for Float32 rounding, by which free runs part from the first step on"
        return [Row(row.level, row.claim, NOT_RUN, reason=told) for row in rows]

    def _no_pictures(self) -> str:
        drawn = any(one.pictures for one in self.lead_records)
        held = "the recording holds no state beside its pictures"
        return held if drawn else "the recipe draws no pictures, or none were recorded"

    def _as_roles(self, free: list[StepRecord]) -> tuple[list[StepRecord], list[StepRecord]]:
        sides = (free, self.lead_records)
        return sides if self.follower is self.together.candidate else sides[::-1]

    def _report(self, rows: list[Row], stepping: Stepping | None, curves: dict[str, Any], reason: str) -> Report:
        diagnosis = self.initial.diagnosis
        if diagnosis is None and stepping is not None:
            diagnosis = stepping.diagnosis() or self._beside_the_steps(rows)
        every = for_every_level(rows, self.levels, reason)
        recorded = [side for side in (self.together.candidate, self.together.reference) if isinstance(side, Recorded)]
        steps, twins = (stepping.steps, stepping.twins) if stepping else (0, None)
        seconds = {**stepping.seconds, "steps": float(self.steps), **self._plain_seconds()} if stepping else {}
        return Report(
            self.together.candidate.title,
            self.together.reference.title,
            self.config.to_dict(),
            _environment(self.together.candidate, self.together.reference),
            every,
            diagnosis,
            curves=curves,
            kinks=tuple(stepping.flips) if stepping else (),
            data=images_of(self.follower),
            seconds=seconds,
            extent=extent_of(every, steps, self.steps, recorded, twins),
        )

    def _beside_the_steps(self, rows: Sequence[Row]) -> Diagnosis | None:
        """Where and why batches, pictures or their grid differ though all steps agree."""
        row = next((one for one in rows if one.verdict == DIFFERS and " @ step " in one.where), None)
        if row is None or row.level not in (4, 9):
            return None
        what, _, number = row.where.partition(" @ step ")
        cause = Cause("other batch", row.reason)
        if row.level == 9:
            pair = next((pair for pair in self.grids if pair[0].step == int(number)), None)
            cause = UNKNOWN if pair is None else self._picture_cause(*pair, of_grid=what == "grid")
        key = f"pictures/{what}" if what == "grid" else what
        return Diagnosis(int(number), key, cause, Difference(key, fault=row.reason or f"differs by {row.measured:.2g}"))

    def _picture_cause(self, candidate: StepRecord, reference: StepRecord, of_grid: bool) -> Cause:
        mine, theirs = candidate.pictures, reference.pictures
        if of_grid:
            return grid_cause(mine["grid"], theirs["grid"], len(theirs["values"]))

        def draw(state: State) -> np.ndarray:
            self.referee.stack.load_state(widen(state, "float64"))
            return self.referee.stack.generate(picture_latent(self.config, reference.step))

        return values_cause(mine["values"], reference.state, draw)

    def _plain_seconds(self) -> dict[str, float]:
        """Seconds that as many plain steps of the live sides would have taken, from the median of a few."""
        count = min(self.steps, PLAIN_STEPS)
        found = {}
        for role, side in (("plain lead", self.leader), ("plain follow", self.follower)):
            if isinstance(side, Live):
                batches = [side.schedule[number] for number in range(count)]
                timed = side.stack.time_steps(batches, Draws(self.config.seed))
                found[role] = float(np.median(timed.seconds)) * self.steps
        return found

    def _forced(self) -> int:
        """How many first steps can start from the leader's states."""
        if not isinstance(self.leader, Recorded):
            return self.steps if self.levels & OF_STEPS else min(self.steps, STEPS_BEFORE_A_FREE_RUN)
        held = 0
        while held < self.steps and (held == 0 or self.leader.trace.record(held - 1).state):
            held += 1
        return held

    def _step_together(self) -> Stepping:
        stepping = Stepping(self.together, self.referee)
        forced = self._forced()
        marks = set(checkpoints(self.steps))
        for pair in stepping.run(range(forced)):
            lead = pair.reference if self.follower is self.together.candidate else pair.candidate
            self.lead_records.append(self._kept(lead, pair.step in marks))
            self.watch("from the same states", pair.step + 1, self.steps)
        for number in range(forced, self.steps):
            mark = number in marks
            self.lead_records.append(self._kept(self.leader.step(number, PLAIN_CAPTURE if mark else ()), mark))
            self.watch("the reference's own way", number + 1, self.steps)
        return stepping

    def _kept(self, lead: StepRecord, mark: bool) -> StepRecord:
        """What the free runs need of a leader's step; at checkpoints its pictures are compared from the same state."""
        pictures = lead.pictures
        if mark and isinstance(self.leader, Live) and 9 in self.levels:
            pictures = self.leader.drawn(lead.step)
        if "values" in pictures and lead.state and 9 in self.levels:
            self._same_state_pictures(replace(lead, pictures=pictures))
        if not mark and self.leader.live:
            lead = replace(lead, state={}, gradient={}, buffer={}, updated={})
        return replace(lead, pictures=pictures, activation={}, activation_gradient={}, pattern={})

    def _same_state_pictures(self, lead: StepRecord) -> None:
        spare = self.follower.spare
        spare.stack.load_state(widen(lead.state, self.config.dtype))
        mine = spare.drawn(lead.step)
        if not mine:
            return
        candidate, reference = self.together.roles(lead, replace(lead, pictures=mine))
        (difference,) = compare_arrays(
            {"pictures/values": candidate.pictures["values"]}, {"pictures/values": reference.pictures["values"]}
        )
        if difference.fault or self.float64:
            judged = Judged(difference, difference.relative, FLOAT64_STEP, "the same pictures in Float64")
        else:
            both = candidate.pictures, reference.pictures
            judged = pictures_judged(self.referee, lead.state, picture_latent(self.config, lead.step), both, difference)
        self.pictures.add(lead.step, [judged])
        self.grids.append((candidate, reference))

    def _free_run(self) -> tuple[list[StepRecord], Separation | None]:
        """The follower on its own way, recorded where the leader was; in Float64 the referee's runs beside it."""
        self.follower.stack.initialise()
        judged = self.float64 and bool(self.levels & {8, 9})
        separation = Separation(self.config, self.follower.dataset, self.first) if judged else None
        records = []
        for number in range(self.steps):
            lead = self.lead_records[number]
            words = [word for word, part in (("state", lead.state), ("sketches", lead.sketch)) if part]
            words += ["gradients"] if lead.gradient and (number == 0 or self.float64) else []
            words += ["logits"] if lead.logits and words else []
            record = self.follower.step(number, words)
            drawn = self.follower.drawn(number) if lead.pictures else {}
            rounded = number in self.together.batches.gaps
            sha = lead.batch_sha256 if rounded else record.batch_sha256
            records.append(replace(record, pictures=drawn, batch_sha256=sha))
            if separation is not None:
                separation.step(number, words, picture_latent(self.config, number) if lead.pictures else None)
            self.watch("on their own ways", number + 1, self.steps)
        closing = self._closing()
        if closing is not None and self.config.pictures:
            self.lead_records.append(closing)
            records.append(replace(closing, pictures=self.follower.drawn(closing.step)))
            if separation is not None:
                separation.draw(closing.step, picture_latent(self.config, closing.step))
        return records, separation

    def _closing(self) -> StepRecord | None:
        """The recording's pictures after its last step, which are a record of their own."""
        trace = self.leader.trace if isinstance(self.leader, Recorded) else None
        if trace is None or self.steps != trace.training_steps or trace.steps[-1] != self.steps:
            return None
        return trace.record(self.steps)
