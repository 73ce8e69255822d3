"""Running a stack into a trace on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pygan import environment
from pygan.data import Dataset
from pygan.pictures.of_record import grid_of
from pygan.records import StepRecord
from pygan.stacks import Stack
from pygan.traces import Header, TraceWriter
from pygan.training import CaptureAt, nothing, train


def header(stack: Stack, dataset: Dataset, command: str) -> Header:
    """The header of a trace of ``stack`` on ``dataset``, made by ``command``."""
    facts = {**environment.describe(), "stack": stack.describe()}
    return Header(stack.name, stack.config.to_dict(), dataset.facts(), facts, command)


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
) -> Iterator[StepRecord]:
    """Train and store every record in a trace at ``folder``; yields them as they come.

    Pictures after step ``exact_pictures_until`` are stored as an 8-bit grid in place of their values. The initial
    state is stored where the first step's state is captured. Stop iterating at any time: the trace stays valid.
    """
    initial = stack.state() if "state" in capture(0) else None
    with TraceWriter(folder, header(stack, dataset, command), initial) as trace:
        for one in train(stack, dataset, steps, picture_every=picture_every, capture=capture):
            stored = one
            if one.pictures and exact_pictures_until is not None and one.step > exact_pictures_until:
                stored = replace(one, pictures={"grid": grid_of(one)})
            trace.write(stored)
            yield one
