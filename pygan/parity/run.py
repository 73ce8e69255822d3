"""Comparing two runs through the levels, whichever of them are live."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import numpy as np

from pygan import environment
from pygan.draws import Draws
from pygan.errors import ConfigError
from pygan.parity.compare import compare_arrays
from pygan.parity.free_run import NOT_RUN
from pygan.parity.free_running import FREE_FLOAT64_STEPS, free_rows, picture_curve, picture_rows
from pygan.parity.judge import Judged, error, judge_float64, weighed
from pygan.parity.levels import init_law_rows, learning_rows, structure_rows
from pygan.parity.report import LEVELS, Report, Row, Tally
from pygan.parity.sides import Live, Pair, Recorded, Side, Together, referee_of
from pygan.parity.stepping import Stepping, claim_of
from pygan.records import StepRecord
from pygan.state import State, widen

Watch = Callable[[str, int, int], None]
"""``watch(what, done, total)`` is called after every step."""
PLAIN_STEPS = 5
"""Plain steps that are timed."""
PICTURE_NOISE = 5e-6
"""Distance of Float32 pictures from the referee's below which stacks are not weighed; 5e-7 measured at most."""
ALL_LEVELS = tuple(range(1, 11))


def checkpoints(steps: int) -> list[int]:
    """Steps at which free runs are compared: 0, 1, 2, 5, 10, 20, 40, ... and the last."""
    doubling = [10 * 2**power for power in range(20)]
    return sorted({step for step in (0, 1, 2, 5, *doubling) if step < steps} | {steps - 1})


def compare_runs(
    candidate: Side, reference: Side, steps: int, levels: Collection[int] = ALL_LEVELS, watch: Watch | None = None
) -> Report:
    """Every level in ``levels`` that the two sides allow, over the first ``steps`` steps.

    Raises ``ConfigError`` where the two sides are not runs of one recipe and config.
    """
    same_run(candidate, reference)
    same_images(candidate, reference)
    watch = watch or (lambda what, done, total: None)
    if candidate.live or reference.live:
        return _Comparison(Together(candidate, reference), steps, levels, watch).report()
    return _two_traces(candidate, reference, steps, levels)


_MAY_DIFFER = ("device", "threads", "epochs", "picture_every")


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


def _for_every_level(rows: list[Row], levels: Collection[int], reason: str) -> tuple[Row, ...]:
    """The rows by level, with a row that says why for each level that has none."""
    missing = [
        Row(level, LEVELS[level], NOT_RUN, reason=reason) for level in levels if level not in {r.level for r in rows}
    ]
    return tuple(sorted([*rows, *missing], key=lambda row: row.level))


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
    def __init__(self, together: Together, steps: int, levels: Collection[int], watch: Watch) -> None:
        self.together, self.levels, self.watch = together, set(levels), watch
        self.follower = together.follower
        leader = together.leader
        self.steps = min(steps, leader.trace.training_steps) if isinstance(leader, Recorded) else steps
        self.config = self.follower.config
        self.lead_records: list[StepRecord] = []
        self.pictures = Tally(9, "pictures from the same state")
        self.first: State = {}

    def report(self) -> Report:
        rows: list[Row] = []
        stepping = self._step_together()
        if 1 in self.levels:
            rows += structure_rows(self.together, stepping.first)
        if 2 in self.levels:
            rows += init_law_rows(self.together.candidate, self.together.reference)
        rows += [row for row in stepping.rows() if row.level in self.levels]
        curves: dict[str, Any] = {}
        if self.levels & {8, 9, 10}:
            free = self._free_run()
            sides = (free, self.lead_records)
            mine, theirs = sides if self.follower is self.together.candidate else sides[::-1]
            config = self.config.to_dict()
            if 8 in self.levels:
                free_part, curves = free_rows(mine, theirs, config)
                rows += free_part
            if 9 in self.levels:
                rows.append(self.pictures.row("the recipe draws no pictures, or none were recorded"))
                rows += picture_rows(mine, theirs, config)
                curves["pictures"] = picture_curve(mine, theirs)
            if 10 in self.levels:
                rows += learning_rows(self.together, self.first, free, self.lead_records)
        diagnosis = stepping.diagnosis
        return Report(
            self.together.candidate.title,
            self.together.reference.title,
            self.config.to_dict(),
            _environment(self.together.candidate, self.together.reference),
            _for_every_level(rows, self.levels, "the recording does not hold what this level compares"),
            diagnosis,
            curves=curves,
            kinks=tuple(stepping.kinks),
            data=images_of(self.follower),
            seconds={**stepping.seconds, "steps": float(self.steps), **self._plain_seconds()},
        )

    def _plain_seconds(self) -> dict[str, float]:
        """Seconds that as many plain steps of the live sides would have taken, from the median of a few."""
        count = min(self.steps, PLAIN_STEPS)
        found = {}
        for role, side in (("plain lead", self.together.leader), ("plain follow", self.follower)):
            if isinstance(side, Live):
                batches = [side.schedule[number] for number in range(count)]
                timed = side.stack.time_steps(batches, Draws(self.config.seed))
                found[role] = float(np.median(timed.seconds)) * self.steps
        return found

    def _has_states(self) -> bool:
        leader = self.together.leader
        return not isinstance(leader, Recorded) or bool(leader.trace.record(leader.trace.steps[0]).state)

    def _step_together(self) -> Stepping:
        referee = referee_of(self.follower)
        stepping = Stepping(self.together, referee)
        self.first = self.follower.stack.state()
        if not self._has_states():
            self.lead_records = [self.together.leader.step(number) for number in range(self.steps)]
            return stepping
        marks = set(checkpoints(self.steps))
        for pair in stepping.run(range(self.steps)):
            lead = pair.reference if self.follower is self.together.candidate else pair.candidate
            self.lead_records.append(self._kept(lead, pair.step in marks, referee))
            self.watch("from the same states", pair.step + 1, self.steps)
        return stepping

    def _kept(self, lead: StepRecord, mark: bool, referee: Live | None) -> StepRecord:
        """What the free runs need of a leader's step; at checkpoints its pictures are compared from the same state."""
        pictures = lead.pictures
        leader = self.together.leader
        if mark and isinstance(leader, Live) and 9 in self.levels:
            pictures = _drawn(leader)
        if "values" in pictures and 9 in self.levels:
            self._same_state_pictures(replace(lead, pictures=pictures), referee)
        keep = mark or not leader.live
        if not keep:
            lead = replace(lead, state={}, gradient={})
        return replace(lead, pictures=pictures, activation={}, activation_gradient={}, pattern={})

    def _same_state_pictures(self, lead: StepRecord, referee: Live | None) -> None:
        self.follower.stack.load_state(widen(lead.state, self.config.dtype))
        mine = _drawn(self.follower)
        if not mine:
            return
        candidate, reference = self.together.roles(lead, replace(lead, pictures=mine))
        (difference,) = compare_arrays(
            {"pictures/values": candidate.pictures["values"]}, {"pictures/values": reference.pictures["values"]}
        )
        if referee is None:
            value, allowed, reason = difference.relative, 1e-11, "the same pictures in Float64"
        else:
            referee.stack.load_state(widen(lead.state, "float64"))
            truth = _drawn(referee)["values"]
            own, other = (error(one.pictures["values"], truth) for one in (candidate, reference))
            value, allowed, reason = weighed(own, other, PICTURE_NOISE)
        self.pictures.add(lead.step, [Judged(difference, value, allowed, reason)])

    def _free_run(self) -> list[StepRecord]:
        """The follower on its own way, recorded where the leader was."""
        self.follower.stack.initialise()
        records = []
        for number in range(self.steps):
            lead = self.lead_records[number]
            words = [word for word, part in (("state", lead.state), ("sketches", lead.sketch)) if part]
            record = self.follower.step(number, [*words, "gradients"] if number == 0 else words)
            pictures = _drawn(self.follower) if lead.pictures else {}
            records.append(replace(record, pictures=pictures))
            self.watch("on their own ways", number + 1, self.steps)
        return records


def _drawn(side: Live) -> dict[str, np.ndarray]:
    """Pictures of a live side now; empty for a recipe that draws none."""
    if not getattr(side.config, "pictures", 0):
        return {}
    from pygan.training import fixed_latent

    return {"values": side.stack.generate(fixed_latent(side.config))}


def _two_traces(candidate: Side, reference: Side, steps: int, levels: Collection[int]) -> Report:
    """Two recordings: the first step from the same start, then both as free runs. In Float32 a live side is needed."""
    assert isinstance(candidate, Recorded) and isinstance(reference, Recorded)
    both = sorted(set(candidate.trace.steps) & set(reference.trace.steps))[:steps]
    if not both:
        raise ConfigError(f"{candidate.trace.folder} and {reference.trace.folder} have no step in common")
    mine = [candidate.trace.record(step) for step in both]
    theirs = [reference.trace.record(step) for step in both]
    claims = {4: "logits and losses", 5: "gradients", 6: "state"}
    tallies = {level: Tally(level, claim) for level, claim in claims.items() if level in levels}
    rows: list[Row] = []
    if config_of(candidate)["dtype"] == "float64":
        for ours, other in zip(mine[:FREE_FLOAT64_STEPS], theirs[:FREE_FLOAT64_STEPS], strict=True):
            for one in judge_float64(Pair(ours.step, {}, ours, other, {}), first=ours.step == both[0]):
                tally = tallies.get(claim_of(one.key, set())[0])
                if tally and not one.key.startswith("activation_gradient/"):
                    tally.add(ours.step, [one])
        rows += [tally.row() for tally in tallies.values()]
    else:
        reason = "two Float32 recordings have no referee; compare one of them with a live stack"
        rows += [Row(tally.level, tally.claim, NOT_RUN, reason=reason) for tally in tallies.values()]
    config = config_of(candidate)
    free_part, curves = free_rows(mine, theirs, config)
    rows += [row for row in (*free_part, *picture_rows(mine, theirs, config)) if row.level in levels]
    titles = [f"{side.title} ({side.trace.folder.name})" for side in (candidate, reference)]
    if 9 in levels:
        curves["pictures"] = picture_curve(mine, theirs)
    facts = _environment(candidate, reference)
    every = _for_every_level(rows, levels, "needs a live side")
    return Report(titles[0], titles[1], config, facts, every, curves=curves, data=images_of(candidate))
