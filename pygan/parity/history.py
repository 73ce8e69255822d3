"""Faults that one step from a loaded state does not show: what a run carries over, and what is not deterministic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pygan.parity.judge import flat
from pygan.parity.locate import FULL_CAPTURE
from pygan.parity.sides import Live, Pair, Together, same_bits
from pygan.records import StepRecord
from pygan.state import State

NONE, CARRIED, RANDOM = "", "carried over from earlier steps", "not deterministic"
KINDS = ("loss", "logits", "gradient", "state", "sketch")


def first_unlike(one: StepRecord, other: StepRecord) -> str:
    """The first tensor in which two records of one step are not the same bits; empty where there is none."""
    mine, theirs = flat(one, KINDS), flat(other, KINDS)
    return next((key for key in mine if key in theirs and not same_bits(mine[key], theirs[key])), "")


def history_of(together: Together, pair: Pair, befores: Mapping[int, State]) -> tuple[str, str]:
    """What the follower's step of ``pair`` owes to its history: a word, and a sentence for the reader.

    The step is taken anew by a fresh stack from the same state. Where that gives other bits, another fresh stack takes
    all earlier steps too, from the states ``befores`` that the run itself had: if that brings the first result back,
    the run carried something over; if not, it is not deterministic.
    """
    follow = pair.candidate if together.follower is together.candidate else pair.reference
    fresh = together.follower.spare
    fresh.stack.initialise()
    words = [word for word in FULL_CAPTURE if word != "layers" or follow.activation]
    words += ["sketches"] if follow.sketch else []
    alone = fresh.step(pair.step, words, pair.before)
    unlike = first_unlike(follow, alone)
    if not unlike:
        return NONE, ""
    if sorted(befores) != list(range(min(befores, default=0), pair.step + 1)):
        return CARRIED, f"a fresh stack makes another {unlike} from the same state (earlier states were not kept)"
    again = _replayed(fresh, sorted(befores), befores, words)
    if not first_unlike(follow, again):
        return CARRIED, f"a fresh stack makes another {unlike} from the same state, the same after the earlier steps"
    return RANDOM, f"two runs of the same steps from the same states differ in {first_unlike(follow, again)}"


def _replayed(side: Live, numbers: Sequence[int], befores: Mapping[int, State], words: Sequence[str]) -> StepRecord:
    side.stack.initialise()
    for number in numbers:
        record = side.step(number, words, befores[number])  # alike: what is recorded may change what is computed
    return record
