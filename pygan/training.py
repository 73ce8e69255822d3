"""The one loop that drives any stack; parity, GIFs, recording and plain training all read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pygan.data import Dataset
from pygan.draws import Draws
from pygan.records import Arrays, StepRecord
from pygan.schedule import Schedule
from pygan.stacks import Stack

CaptureAt = Callable[[int], Sequence[str]]
"""What to record of a step, by its number."""


def nothing(step: int) -> Sequence[str]:
    """Record losses only."""
    return ()


def picture_latent(config: Any, step: int) -> np.ndarray:
    """The latent vectors that the pictures after ``step`` are made from: ``(pictures, latent_dim)`` Float32. They are
    those of the whole run, or the step's own where the recipe draws them fresh."""
    stream, at = ("picture_latent", step) if config.fresh_latent else ("fixed_latent", 0)
    return Draws(config.seed).at(at).normal(stream, (config.pictures, config.latent_dim))


def total_steps(config: Any, dataset: Dataset) -> int:
    """Steps of the whole published training on ``dataset``."""
    return int(config.epochs) * Schedule.of(config, dataset.images).steps_per_epoch


def train(
    stack: Stack,
    dataset: Dataset,
    steps: int,
    *,
    first: int = 0,
    picture_every: int = 0,
    capture: CaptureAt = nothing,
) -> Iterator[StepRecord]:
    """Run ``steps`` training steps and yield a record after each; ``first`` continues a run at that step.

    ``capture`` says what to record of each step.

    With ``picture_every`` the record of every such step (counting from 0) carries pictures, and a last record,
    numbered by the total, carries only the pictures of the finished run, as the article's loop does.
    """
    config: Any = stack.config
    draws = Draws(config.seed)
    schedule = Schedule.of(config, dataset.images)
    for step in range(first, first + steps):
        record = stack.step(schedule[step], draws.at(step), capture(step))
        if picture_every and step % picture_every == 0:
            record = replace(record, pictures=drawn(stack, step))
        yield record
    if picture_every:
        yield StepRecord(step=first + steps, pictures=drawn(stack, first + steps))


def drawn(stack: Stack, step: int) -> Arrays:
    """The pictures of a stack as it is after ``step``: values and, where all are finite, the grid as the stack lays
    it out."""
    values = stack.generate(picture_latent(stack.config, step))
    return {"values": values} | ({"grid": stack.grid(values)} if np.isfinite(values).all() else {})
