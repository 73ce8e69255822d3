"""What the updates of any optimiser have in common: the evidence with its reference recomputed, and usual slips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from pygan.parity.causes.common import Hypothesis, reproduces_reference, resolved, solve
from pygan.parity.evidence import UpdateEvidence

Slots = dict[str, np.ndarray]
Numbers = Mapping[str, float]


class Update:
    """The evidence with its reference recomputed by a rule. ``holds``: is the reference's update this rule?"""

    numbers: ClassVar[frozenset[str]]
    """What the rule computes with."""
    slots: ClassVar[frozenset[str]]
    """What it must have of the parameter before the update."""

    def __init__(self, evidence: UpdateEvidence) -> None:
        self.evidence, self.k, self.g = evidence, evidence.numbers, evidence.gradient
        self.before = dict(evidence.before)
        self.holds = (
            self.numbers <= self.k.keys()
            and self.slots <= self.before.keys()
            and all(
                slot in self.before and value.shape == self.before[slot].shape
                for slot, value in evidence.after_candidate.items()
            )
        )
        if self.holds:
            self.x = self.before["parameter"]
            self.reference = self.rule()
            self.holds = reproduces_reference(evidence, self.reference)

    def rule(self) -> Slots:
        """Every slot after the update."""
        raise NotImplementedError

    @property
    def after(self) -> Mapping[str, np.ndarray]:
        """What the candidate made of it; the reference's slots where it has none of its own."""
        return {**self.reference, **self.evidence.after_candidate}


def learning_rate(u: Update) -> Iterator[Hypothesis]:
    """Another factor of the movement, solved."""
    unit = (u.reference["parameter"] - u.x) / u.k["lr"]
    rate = solve(u.x, unit, u.after["parameter"])
    if rate is not None and rate > 0 and resolved(u.evidence, rate, u.k["lr"]):
        slots = u.reference | {"parameter": u.x + rate * unit}
        yield Hypothesis("learning rate", slots, free=1, constant=("learning rate", rate, u.k["lr"]))


def sign(u: Update) -> Iterator[Hypothesis]:
    """The movement added instead of subtracted."""
    yield Hypothesis("sign of the update", u.reference | {"parameter": 2 * u.x - u.reference["parameter"]})


def clipped_weights(u: Update) -> Iterator[Hypothesis]:
    """The parameter clipped to [-c, c] after its update; c is the largest element that was left."""
    limit = float(np.max(np.abs(u.after["parameter"]), initial=0.0))
    clipped = np.clip(u.reference["parameter"], -limit, limit)
    if limit > 0 and np.count_nonzero(np.abs(clipped) == limit) > 1:
        yield Hypothesis("weights clipped", u.reference | {"parameter": clipped}, f"to {limit:.6g} and less", 1)


def other_decay(own: float, more: float | None) -> float | None:
    """The weight decay that is ``more`` than the reference's ``own``; 0 where they cancel, None for none."""
    if more is None or own + more < -1e-9 * own:
        return None
    return 0.0 if abs(own + more) < 1e-9 * own else own + more
