"""The two sides of a comparison, live or recorded, and stepping them together from the same states."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pygan.data import Dataset
from pygan.draws import Draws
from pygan.errors import ConfigError
from pygan.records import StepRecord
from pygan.state import State, widen
from pygan.traces import Trace
from pygan.training import Schedule


class Live:
    """A stack and the batches that it sees."""

    live = True

    def __init__(self, stack: Any, dataset: Dataset) -> None:
        self.stack, self.config, self.dataset = stack, stack.config, dataset
        form = getattr(stack, "step_form", "idiomatic")
        self.title: str = stack.name if form == "idiomatic" else f"{stack.name}-{form}"
        self.schedule = Schedule(dataset.images, self.config.batch, Draws(self.config.seed))

    @property
    def can_be_led(self) -> bool:
        """Can patterns and values of another run be imposed on it?"""
        return self.title.partition("-")[0] == "torch"

    def step(self, number: int, capture: Sequence[str] = (), before: State | None = None, **how: Any) -> StepRecord:
        """Step ``number``, from ``before`` (in the stack's dtype) where given; ``how`` is what the stack takes more."""
        if before is not None:
            self.stack.load_state(widen(before, self.config.dtype))
        return self.stack.step(self.schedule[number], Draws(self.config.seed).at(number), capture, **how)  # type: ignore[no-any-return]

    def state_before(self, number: int) -> State:
        """The state now; the run must be at ``number``."""
        state: State = self.stack.state()
        if int(state["step"]) != number:
            raise ConfigError(f"{self.title} stands before step {int(state['step'])}, not {number}")
        return state


class Recorded:
    """A trace in the place of a stack."""

    live = False
    can_be_led = False

    def __init__(self, trace: Trace) -> None:
        self.trace, self.config = trace, trace.header.config
        self.title = trace.header.stack

    def step(self, number: int, capture: Sequence[str] = (), before: State | None = None, **how: Any) -> StepRecord:
        """The record of ``number``; it holds what was recorded, whatever is asked for."""
        return self.trace.record(number)

    def state_before(self, number: int) -> State:
        """The recorded state before ``number``. Raises ``TraceError`` where there is none."""
        return self.trace.state_before(number)


Side = Live | Recorded


@dataclass(frozen=True)
class Pair:
    """One step of both sides from the state ``before``; ``imposed`` are the leader's on/off patterns."""

    step: int
    before: State
    candidate: StepRecord
    reference: StepRecord
    imposed: Mapping[str, np.ndarray]


class Together:
    """Candidate and reference stepped together: one leads on its own way, the other follows from its states.

    A recorded side leads; of two live ones that which nothing can be imposed on (Flux), else the reference. Raises
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
        self._at: tuple[int, State] | None = None

    def roles(self, lead: StepRecord, follow: StepRecord) -> tuple[StepRecord, StepRecord]:
        """``(candidate, reference)``."""
        return (follow, lead) if self.follower is self.candidate else (lead, follow)

    def lead(self, number: int, capture: Sequence[str]) -> tuple[State, StepRecord]:
        """State before and record of the leader's step; a live leader must be asked in order."""
        known = self._at is not None and self._at[0] == number and self.leader.live
        before = self._at[1] if known and self._at else self.leader.state_before(number)
        record = self.leader.step(number, capture)
        if record.state:
            self._at = (number + 1, record.state)
        return before, record

    def follow(self, before: State, lead: StepRecord, capture: Sequence[str], **how: Any) -> StepRecord:
        """The follower's step from ``before``. In Float32 the leader's on/off patterns are imposed where recorded: a
        unit within rounding of zero may have either sign, and the judge looks at every one that has another."""
        impose = lead.pattern if self.follower.config.dtype == "float32" else None
        return self.follower.step(lead.step, capture, before, impose=impose, **how)

    def steps(self, numbers: Iterable[int], capture: Sequence[str]) -> Iterator[Pair]:
        """Teacher forcing: every step of the leader, and the follower's from the same state."""
        for number in numbers:
            before, lead = self.lead(number, capture)
            yield self.pair(before, lead, self.follow(before, lead, capture))

    def pair(self, before: State, lead: StepRecord, follow: StepRecord) -> Pair:
        """Both records of a step as candidate and reference."""
        return Pair(lead.step, before, *self.roles(lead, follow), lead.pattern)


def referee_of(follower: Live) -> Live | None:
    """The Float64 torch stack that a Float32 run is held to; None for a Float64 run, which needs none."""
    if follower.config.dtype == "float64":
        return None
    from pygan.stacks.torch_stack import TorchStack

    return Live(TorchStack(follower.config.replace(dtype="float64", device="cpu")), follower.dataset)
