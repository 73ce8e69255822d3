"""The two sides of a comparison, live or recorded, and stepping them together from the same states."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pygan.config import RunConfig
from pygan.data import Dataset
from pygan.draws import Draws
from pygan.errors import ConfigError, TraceError
from pygan.parity.batches import Batches
from pygan.records import Arrays, StepRecord
from pygan.schedule import Schedule
from pygan.stacks.choose import make_stack
from pygan.state import State, widen
from pygan.traces import Trace
from pygan.training import drawn

PLAIN_CAPTURE = ("logits", "gradients", "patterns", "state")
"""What is recorded of every compared step."""

Make = Callable[[RunConfig], Any]
"""Makes a stack for a config."""


class Live:
    """A stack and the batches that it sees. ``make`` makes another one like it; without it the stack's name does."""

    live = True

    def __init__(self, stack: Any, dataset: Dataset, make: Make | None = None) -> None:
        self.stack, self.config, self.dataset = stack, stack.config, dataset
        form = getattr(stack, "step_form", "idiomatic")
        self.title: str = stack.name if form == "idiomatic" else f"{stack.name}-{form}"
        self._make = make or (lambda config: make_stack(self.title, config))
        self.schedule = Schedule.of(self.config, dataset.images)

    @property
    def can_be_led(self) -> bool:
        """Can values of another run be forced on it?"""
        return self.title.partition("-")[0] == "torch"

    @cached_property
    def in_float64(self) -> Live:
        """The same stack in Float64, with the constants of the Float32 run. Itself, if it is in Float64 already."""
        if self.config.dtype == "float64":
            return self
        return Live(self._make(self.config.replace(dtype="float64")), self.dataset, self._make)

    @cached_property
    def spare(self) -> Live:
        """Another stack like this one, to look at steps with, so that this one's run is left alone."""
        return Live(self._make(self.config), self.dataset, self._make)

    def step(self, number: int, capture: Sequence[str] = (), before: State | None = None, **how: Any) -> StepRecord:
        """Step ``number``, from ``before`` (in the stack's dtype) where given; ``how`` is what the stack takes more."""
        if before is not None:
            self.stack.load_state(widen(before, self.config.dtype))
        return self.stack.step(self.schedule[number], Draws(self.config.seed).at(number), capture, **how)  # type: ignore[no-any-return]

    def twin_step(self, number: int, capture: Sequence[str], before: State) -> StepRecord | None:
        """The Float64 step from a Float32 run's state."""
        return self.in_float64.step(number, capture, before)

    def initial(self) -> StepRecord:
        """The state before the first step; the stack is there afterwards."""
        self.stack.initialise()
        return StepRecord(-1, state=self.stack.state())

    def state_before(self, number: int) -> State:
        """The state now; the run must be at ``number``."""
        state: State = self.stack.state()
        if int(state["step"]) != number:
            raise ConfigError(f"{self.title} is at step {int(state['step'])}, not at {number}")
        return state

    def drawn(self, step: int) -> Arrays:
        """Pictures of the stack as it is after ``step``; empty for a recipe that draws none."""
        return drawn(self.stack, step) if self.config.pictures else {}

    def close(self) -> None:
        """End the stack's processes."""
        self.stack.close()
        for name in ("in_float64", "spare"):
            other = self.__dict__.get(name)
            if other is not None and other is not self:
                other.close()


class Recorded:
    """A stored run."""

    live = can_be_led = False

    def __init__(self, trace: Trace) -> None:
        self.trace, self.config = trace, trace.config
        self.title: str = f"recorded {trace.header.stack}"

    @cached_property
    def in_float64(self) -> Recorded | None:
        """The recording of the same run in Float64 that lies beside this one; itself if it is one; else None."""
        if self.config["dtype"] == "float64":
            return self
        for folder in sorted(path.parent for path in self.trace.folder.parent.glob("*/trace.json")):
            try:
                other = Trace(folder)
            except TraceError:
                continue
            same = {**other.config, "threads": 0} == {**self.config, "dtype": "float64", "threads": 0}
            if same and (other.header.stack, other.header.data["sha256"]) == (
                self.trace.header.stack,
                self.trace.header.data["sha256"],
            ):
                return Recorded(other)
        return None

    def step(self, number: int, *_: object, **__: object) -> StepRecord:
        """The record of ``number``; it holds what was recorded, whatever is asked for."""
        return self.trace.record(number)

    def twin_step(self, number: int, *_: object) -> StepRecord | None:
        """The recorded Float64 step from the same state; None where there is none."""
        return self.trace.twin(number)

    def initial(self) -> StepRecord | None:
        """What was recorded of the state before the first step."""
        return self.trace.initial()

    def state_before(self, number: int) -> State:
        """The recorded state before ``number``. Raises ``TraceError`` where there is none."""
        return self.trace.state_before(number)

    def close(self) -> None:
        """Nothing to end."""


Side = Live | Recorded


@dataclass(frozen=True)
class Sides:
    """Candidate and reference, whether or not one of them can follow the other."""

    candidate: Side
    reference: Side


@dataclass(frozen=True)
class Pair:
    """One step of both sides from the state ``before``. ``batch_gap``: how far a grey level of one side is from the
    other's, where these differ by Float32 rounding alone."""

    step: int
    before: State
    candidate: StepRecord
    reference: StepRecord
    batch_gap: float = 0.0


def words_of(record: StepRecord) -> list[str]:
    """The capture words that record what ``record`` holds."""
    sketched = {key.partition("/")[0] for key in record.sketch}
    held = {
        "logits": record.logits,
        "gradients": record.gradient,
        "patterns": record.pattern or record.flip or record.digest,
        "state": record.state or record.buffer,
        "layers": record.activation,
        "sketches": sketched & {"state", "gradient"},
        "layer_sketches": sketched & {"activation", "activation_gradient"},
    }
    return [word for word, part in held.items() if part]


class Together:
    """Candidate and reference stepped together: one leads on its own way, the other follows from its states.

    A recorded side leads; of two live ones that which nothing can be forced on (Flux), else the reference. Raises
    ``ConfigError`` where neither side can follow.
    """

    def __init__(self, candidate: Side, reference: Side) -> None:
        self.candidate, self.reference = candidate, reference
        free = [side for side in (candidate, reference) if side.can_be_led]
        if not free:
            raise ConfigError("neither side is a live torch stack, so neither can be led by the other's states")
        follower = free[0]
        assert isinstance(follower, Live)
        self.follower: Live = follower
        self.leader = reference if follower is candidate else candidate
        self.batches = Batches(follower)
        self._at: tuple[int, State] | None = None

    @cached_property
    def in_float64(self) -> Together | None:
        """Both sides in Float64; None where a recording of that kind is missing."""
        sides = [side.in_float64 for side in (self.candidate, self.reference)]
        if sides[0] is None or sides[1] is None:
            return None
        return self if sides[0] is self.candidate else Together(sides[0], sides[1])

    def roles(self, lead: StepRecord, follow: StepRecord) -> tuple[StepRecord, StepRecord]:
        """``(candidate, reference)``."""
        return (follow, lead) if self.follower is self.candidate else (lead, follow)

    def lead(self, number: int, capture: Sequence[str]) -> tuple[State, StepRecord]:
        """State before and record of the leader's step; a live leader must be asked in order."""
        known = self._at is not None and self._at[0] == number and self.leader.live
        before = self._at[1] if known and self._at else self._before(number)
        record = self.leader.step(number, capture)
        if record.state:
            self._at = (number + 1, record.state)
        return before, record

    def _before(self, number: int) -> State:
        """The leader's state; of a recording that does not hold its initial state, the follower's (level 2 compares the
        two by their digests, or says that it could not)."""
        if number == 0 and isinstance(self.leader, Recorded):
            initial = self.leader.initial()
            if initial is None or not initial.state:
                return self.follower.initial().state
        return self.leader.state_before(number)

    def follow(self, before: State, lead: StepRecord, capture: Sequence[str], **how: Any) -> StepRecord:
        """The follower's step from ``before``, as it trains: nothing is imposed on it."""
        wanted = set(capture) if self.leader.live else {*words_of(lead), *PLAIN_CAPTURE}
        if self.follower.config.dtype == "float32":  # a layer that is watched is not computed together with the next
            wanted -= {"layers", "layer_sketches"}
        return self.follower.step(lead.step, sorted(wanted), before, **how)

    def steps(self, numbers: Iterable[int], capture: Sequence[str]) -> Iterator[Pair]:
        """Teacher forcing: every step of the leader, and the follower's from the same state."""
        for number in numbers:
            before, lead = self.lead(number, capture)
            yield self.pair(before, lead, self.follow(before, lead, capture))

    def pair(self, before: State, lead: StepRecord, follow: StepRecord) -> Pair:
        """Both records of a step as candidate and reference."""
        return Pair(lead.step, before, *self.roles(lead, follow))

    def as_one_batch(self, pair: Pair) -> Pair:
        """``pair`` as if both sides had seen the follower's batch, where theirs differ by Float32 rounding alone."""
        follow, lead = pair.candidate, pair.reference
        if self.follower is self.reference:
            follow, lead = lead, follow
        moved = self.batches.as_one(pair, lead, follow)
        if moved is lead:
            return pair
        return Pair(pair.step, pair.before, *self.roles(moved, follow), self.batches.gaps[pair.step])

    def close(self) -> None:
        """End both sides' processes."""
        self.candidate.close()
        self.reference.close()


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Are shape, dtype and every bit the same?"""
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
