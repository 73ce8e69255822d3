"""Running a stack into a trace on disk."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from pygan import environment
from pygan.checkpoints import Checkpoints
from pygan.data import Dataset
from pygan.draws import Draws
from pygan.files import sha256
from pygan.pictures.of_record import grid_of
from pygan.records import StepRecord
from pygan.schedule import Schedule
from pygan.stacks import Stack
from pygan.state import widen
from pygan.traces import Header, TraceWriter
from pygan.training import CaptureAt, nothing, train


def header(stack: Stack, dataset: Dataset, command: str) -> Header:
    """The header of a trace of ``stack`` on ``dataset``, made by ``command``."""
    facts = {**environment.describe(), "stack": stack.describe()}
    return Header(stack.name, stack.config.to_dict(), dataset.facts(), facts, command)


def digests(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """SHA-256 of every array's bytes, ``(32,)`` uint8 each."""
    return {key: np.frombuffer(bytes.fromhex(sha256(value.tobytes())), np.uint8) for key, value in arrays.items()}


def flipped(record: StepRecord, twin: StepRecord) -> StepRecord:
    """``record`` with the units whose on/off pattern is not the twin's in place of its patterns."""
    both = {key: (pattern, twin.pattern[key]) for key, pattern in record.pattern.items() if key in twin.pattern}
    return replace(record, pattern={}, flip={key: np.argwhere(mine != theirs) for key, (mine, theirs) in both.items()})


def digested(twin: StepRecord) -> StepRecord:
    """``twin`` with digests in place of its patterns."""
    return replace(twin, pattern={}, digest=digests({f"pattern/{key}": value for key, value in twin.pattern.items()}))


def record(
    stack: Stack,
    dataset: Dataset,
    steps: int,
    folder: Path,
    *,
    command: str = "",
    picture_every: int = 0,
    exact_pictures_until: int | None = None,
    capture: CaptureAt = nothing,
    twin: Stack | None = None,
    twin_capture: CaptureAt = nothing,
    first: int = 0,
    checkpoints: Checkpoints | None = None,
) -> Iterator[StepRecord]:
    """Train and store every record in a trace at ``folder``; yields them as they come.

    Pictures after step ``exact_pictures_until`` are stored as an 8-bit grid in place of their values. The initial
    state is stored where the first step's state is captured, digests of it where its sketches are. Stop iterating at
    any time: the trace stays valid.

    ``twin`` is the same stack in Float64: at every step for which ``twin_capture`` names something, it takes the step
    from the Float32 run's state too, and is stored beside it.

    ``first`` goes on at that step with the trace that is there, from the state that the stack has. ``checkpoints`` are
    written where they are due, once the reader of the step before is done with it, and the trace then reaches as far.
    """
    draws = Draws(stack.config.seed)
    schedule = Schedule.of(stack.config, dataset.images)
    made = train(stack, dataset, steps - first, first=first, picture_every=picture_every, capture=capture)
    initial = None if first else _initial(stack, capture(0))
    with TraceWriter(folder, header(stack, dataset, command), initial, first or None) as trace:
        for number in itertools.count(first):
            if checkpoints is not None and first < number < steps and checkpoints.due(number):
                trace.flush()
                checkpoints.save(number, stack)
            wanted = twin_capture(number) if twin is not None and number < steps else ()
            before = stack.state() if wanted else {}
            one = next(made, None)
            if one is None:
                return
            right = None
            if twin is not None and wanted:
                twin.load_state(widen(before, "float64"))
                right = twin.step(schedule[number], draws.at(number), [*wanted, "patterns"])
                one, right = flipped(one, right), digested(right)
            if one.pictures and exact_pictures_until is not None and one.step > exact_pictures_until:
                trace.write(replace(one, pictures={"grid": grid_of(one)}), right)
            else:
                trace.write(one, right)
            yield one


def _initial(stack: Stack, capture: Collection[str]) -> StepRecord | None:
    """The state before the first step, or digests of it; None where neither is asked for."""
    if not {"state", "sketches"} & set(capture):
        return None
    state = stack.state()
    if "state" in capture:
        return StepRecord(-1, state=state)
    return StepRecord(-1, digest=digests({f"state/{key}": value for key, value in state.items()}))
