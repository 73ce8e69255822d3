"""Batches that the two sides scaled by other operations, such as ``x * (1 / 255)`` for ``x / 255``: equal but for the
rounding of Float32. That is no other function, so the rest of the step is judged as if both had seen one batch.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pygan.files import sha256
from pygan.records import StepRecord

if TYPE_CHECKING:
    from pygan.parity.referee import Referee
    from pygan.parity.sides import Live, Pair

SCALING_GAP = 4 * 2.0**-23
"""What Float32 may leave between two scalings of grey levels to at most 1 in size: a division or product, a product and
a difference, each off by half a unit of a number up to 2."""
MOVED = ("loss", "logits", "activation", "activation_gradient", "gradient", "buffer", "updated", "state", "sketch")


class Batches:
    """The batches of a live torch side, the follower, beside those of the side that leads it."""

    def __init__(self, follower: Live) -> None:
        self._follower = follower
        self.gaps: dict[int, float] = {}
        """Largest difference of a grey level by step, where a batch differs by rounding alone."""

    @cached_property
    def _referee(self) -> Referee:
        from pygan.parity.referee import Referee

        return Referee(self._follower.config, self._follower.dataset)

    def gap(self, step: int, theirs: str) -> float | None:
        """The largest difference between the follower's batch and the one whose SHA-256 is ``theirs``; None where it is
        more than rounding, or where the other batch is not that of the recipe's schedule."""
        if step not in self.gaps:
            scheduled = self._follower.schedule[step]
            if sha256(scheduled.tobytes()) != theirs:
                return None
            seen = self._seen(step)
            gap = float(np.abs(seen - scheduled).max()) if seen.shape == scheduled.shape else np.inf
            if not 0 < gap <= SCALING_GAP:
                return None
            self.gaps[step] = gap
        return self.gaps[step]

    def _seen(self, step: int) -> np.ndarray:
        return self._follower.spare.step(step, ("batch",)).batch["images"]

    def as_one(self, pair: Pair, lead: StepRecord, follow: StepRecord) -> StepRecord:
        """``lead`` as the follower's batch would have made it, where the two batches differ by rounding alone.

        Float64 numbers are moved by as much as the referee's own move from one batch to the other, which leaves the
        square of the gap; Float32 numbers stay, as the gap is one more rounding for them.
        """
        theirs, mine = lead.batch_sha256, follow.batch_sha256
        if not (theirs and mine) or theirs == mine or self.gap(lead.step, theirs) is None:
            return lead
        from pygan.parity.sides import words_of

        words = words_of(lead)
        own, other = (
            self._referee.step(pair.step, pair.before, words, batch=batch)
            for batch in (self._seen(pair.step), self._follower.schedule[pair.step])
        )
        same = all(
            key in other.pattern and np.array_equal(value, other.pattern[key]) for key, value in own.pattern.items()
        )
        made: dict[str, Any] = {
            kind: _moved(getattr(lead, kind), getattr(own, kind), getattr(other, kind)) for kind in MOVED
        }
        if not same:  # a unit lay within the gap of zero: its sign says nothing
            made |= {"pattern": {}, "digest": {}}
        return replace(lead, batch_sha256=mine, **made)


def _moved(
    lead: dict[str, np.ndarray], own: dict[str, np.ndarray], other: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    def one(key: str, value: np.ndarray) -> np.ndarray:
        fits = key in own and key in other and own[key].shape == other[key].shape == value.shape
        return value + (own[key] - other[key]) if fits and value.dtype == np.float64 else value

    return {key: one(key, value) for key, value in lead.items()}
