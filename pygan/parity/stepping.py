"""Levels 3 to 7: every step of the leader, and the follower's from the same state, tallied claim by claim."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from pygan.parity.compare import Difference
from pygan.parity.free_run import DIFFERS, NOT_RUN
from pygan.parity.judge import Judged, judge_step
from pygan.parity.locate import FULL_CAPTURE, Diagnosis, diagnose_step, mode_differences
from pygan.parity.report import Row, Tally
from pygan.parity.sides import Live, Pair, Together
from pygan.records import StepRecord

PLAIN_CAPTURE = ("logits", "gradients", "patterns", "state")
DETAILED_STEPS = 2
"""First steps of a pass that are compared layer by layer; later ones in everything but single layers."""


class Stepping:
    """A teacher-forced pass; ``run`` yields each pair after it was judged, the rest reads the tallies."""

    def __init__(self, together: Together, referee: Live | None, detailed: int = DETAILED_STEPS) -> None:
        self._together, self._referee, self._detailed = together, referee, detailed
        self._rules: Mapping[str, str] = together.follower.stack.rules()
        self._tallies: dict[tuple[int, str], Tally] = {}
        self._all = Tally(7, "every tensor of every step")
        self._partial = Tally(7, "steps with a partial batch")
        self._flips = Tally(7, "on/off patterns of relus and leaky relus")
        self._batch = together.follower.config.batch
        self._steps = 0
        self._previous: StepRecord | None = None
        self.diagnosis: Diagnosis | None = None
        self.kinks: list[dict[str, Any]] = []
        self.seconds = {"lead": 0.0, "follow": 0.0, "judge": 0.0}
        self.first: Pair | None = None
        self.modes: list[tuple[int, Difference]] = []

    def run(self, steps: range) -> Iterator[Pair]:
        """Judge ``steps``; those that are asked for layer by layer first."""
        for number in steps:
            capture = FULL_CAPTURE if number < self._detailed else PLAIN_CAPTURE
            started = time.perf_counter()
            before, lead = self._together.lead(number, capture)
            led = time.perf_counter()
            pair = self._together.pair(before, lead, self._together.follow(before, lead, capture))
            followed = time.perf_counter()
            self.take(pair)
            spent = (led - started, followed - led, time.perf_counter() - followed)
            self.seconds = {what: total + more for (what, total), more in zip(self.seconds.items(), spent, strict=True)}
            yield pair

    def take(self, pair: Pair) -> None:
        """Judge one pair and tally it; at the first that differs, find out where and why."""
        self.first = self.first or pair
        judged = judge_step(pair, self._referee, self._rules)
        patterns = [one for one in judged if one.key.startswith("pattern/")]
        tensors = [one for one in judged if not one.key.startswith("pattern/")]
        trained = {key.rpartition(".")[0] for key in pair.reference.activation_gradient}
        for one in tensors:
            level, claim = claim_of(one.key, trained)
            self._tallies.setdefault((level, claim), Tally(level, claim)).add(pair.step, [one])
        self._all.add(pair.step, tensors)
        self._flips.add(pair.step, patterns)
        if len(self._together.follower.schedule.indices(pair.step)) < self._batch:
            self._partial.add(pair.step, tensors)
        self.kinks += [
            {"step": pair.step, "where": one.key, "units": one.difference.shape[0], "largest": one.value}
            for one in patterns
        ]
        self.modes += [(pair.step, one) for one in mode_differences(pair)]
        if self.diagnosis is None and (self.modes or any(not one.ok for one in judged)):
            self.diagnosis = self._diagnose(pair)
        self._previous = pair.reference
        self._steps += 1

    def _diagnose(self, pair: Pair) -> Diagnosis | None:
        """Where and why; a live leader takes the step again where its layers were not recorded."""
        leader = self._together.leader
        if isinstance(leader, Live) and not pair.reference.activation:
            lead = leader.step(pair.step, FULL_CAPTURE, pair.before)
            pair = self._together.pair(pair.before, lead, self._together.follow(pair.before, lead, FULL_CAPTURE))
        return diagnose_step(self._together, pair, self._previous, self._referee)

    def rows(self) -> list[Row]:
        """One row a claim, in the order of the levels."""
        rows = [tally.row() for _, tally in sorted(self._tallies.items())]
        if self.modes:
            step, one = self.modes[0]
            told = f"{len(self.modes)} layers at calls; {one.fault}"
            rows.append(Row(7, "modes at every detailed step", DIFFERS, where=f"{one.key} @ step {step}", reason=told))
        rows.append(self._all.row())
        no_partial = f"every batch of the {self._steps} steps had {self._batch} images"
        rows.append(self._partial.row(no_partial))
        if self._flips.compared:
            rows.append(self._flips.row())
        else:
            verdict = "agree" if self._previous is not None and self._previous.pattern else NOT_RUN
            rows.append(Row(7, self._flips.claim, verdict, reason="no unit had another sign"))
        return rows

    @property
    def failed(self) -> list[tuple[int, Judged]]:
        """Everything outside its band, with its step."""
        return self._all.failed + self._flips.failed


def claim_of(key: str, trained: set[str]) -> tuple[int, str]:
    """Level and claim of a tensor ``kind/name``; ``trained`` are the calls ``call/network`` inside a gradient."""
    kind, _, name = key.partition("/")
    if kind == "activation":
        mode = "train mode" if name.rpartition(".")[0] in trained else "eval mode"
        return 3, f"outputs of every layer in {mode}"
    if kind == "logits":
        return 4, "logits"
    if kind == "loss":
        return 4, "losses"
    if kind == "activation_gradient":
        return 5, "gradients with respect to every layer's output"
    if kind == "gradient":
        return 5, f"gradients of the {name.partition('.')[0]}"
    group = name.partition("/")[0]
    claims = {
        "exp_avg": "first moments",
        "exp_avg_sq": "second moments",
        "parameter": "parameters",
        "buffer": "BatchNorm running statistics",
    }
    return 6, claims.get(group, "step counts and beta powers")
