"""Float32 runs against recordings of right ones, judged by referees that take each step from one state only once."""

from __future__ import annotations

from functools import cache
from typing import Any

from parity_runs import config

from pygan.data import load
from pygan.parity.referee import Levels, Referee
from pygan.parity.sides import Side, Together
from pygan.parity.stepping import Stepping
from pygan.records import StepRecord
from pygan.state import State


class Kept(Referee):
    """A referee that remembers its steps."""

    known: dict[tuple[int, bytes], tuple[StepRecord, Levels]]
    shakes: dict[int, Any]

    def measured(self, number: int, before: State, capture: Any) -> tuple[StepRecord, Levels]:
        key = (number, b"".join(value.tobytes() for _, value in sorted(before.items())))
        if key not in self.known:
            self.known[key] = super().measured(number, before, capture)
        return self.known[key]

    def shaken(self, number: int, before: State, truth: StepRecord, levels: Levels, *more: Any, **how: Any) -> Any:
        if id(truth) not in self.shakes:
            self.shakes[id(truth)] = super().shaken(number, before, truth, levels, *more, **how)
        return self.shakes[id(truth)]


@cache
def referee(seed: int = 0) -> Kept:
    """The referee of narrow Float32 runs on 14 images."""
    made = Kept(config("float32", seed=seed), load("digits", limit=14))
    made.known, made.shakes = {}, {}
    return made


def against(candidate: Side, reference: Side, steps: int = 1, seed: int = 0) -> Stepping:
    """A pass over the first ``steps`` steps of both."""
    stepping = Stepping(Together(candidate, reference), referee(seed))
    assert len(list(stepping.run(range(steps)))) == steps
    return stepping


def words(stepping: Stepping) -> set[str]:
    """The verdicts of all rows but that of partial batches."""
    return {row.verdict for row in stepping.rows() if not row.claim.startswith("steps with")}
