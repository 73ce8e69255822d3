"""The one loop that drives any stack; parity, GIFs, recording and plain training all read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pygan.data import Dataset, scale
from pygan.draws import Draws
from pygan.records import StepRecord
from pygan.stacks import Stack

CaptureAt = Callable[[int], Sequence[str]]
"""What to record of a step, by its number."""


def nothing(step: int) -> Sequence[str]:
    """Record losses only."""
    return ()


@dataclass(frozen=True)
class Schedule:
    """Which images a step sees: shuffled anew each epoch by the draw ``shuffle``, the partial last batch kept.

    >>> schedule = Schedule(np.zeros((10, 28, 28), np.uint8), batch=4, draws=Draws(seed=0))
    >>> schedule.steps_per_epoch
    3
    >>> [schedule.indices(step).tolist() for step in range(3)]
    [[5, 4, 2, 6], [8, 7, 0, 3], [1, 9]]
    >>> schedule[2].shape
    (2, 1, 28, 28)
    """

    images: np.ndarray
    batch: int
    draws: Draws

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass, the partial one included."""
        return -(-len(self.images) // self.batch)

    def indices(self, step: int) -> np.ndarray:
        """Image numbers of a step: ``(N,)`` int64."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        return order[place * self.batch : (place + 1) * self.batch]

    def _order(self, epoch: int) -> np.ndarray:
        cached: tuple[int, np.ndarray] | None = self.__dict__.get("_cached")
        if cached is None or cached[0] != epoch:
            cached = (epoch, self.draws.at(epoch).permutation("shuffle", len(self.images)))
            self.__dict__["_cached"] = cached
        return cached[1]

    def __getitem__(self, step: int) -> np.ndarray:
        """The batch of ``step``: ``(N, 1, H, W)`` Float32 in [-1, 1]."""
        return scale(self.images[self.indices(step)])


def fixed_latent(config: Any) -> np.ndarray:
    """The latent vectors that every picture of a run is made from: ``(grid * grid, latent_dim)`` Float32."""
    return Draws(config.seed).normal("fixed_latent", (config.pictures, config.latent_dim))


def total_steps(config: Any, dataset: Dataset) -> int:
    """Steps of the whole published training on ``dataset``."""
    return int(config.epochs) * -(-len(dataset.images) // int(config.batch))


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
    schedule = Schedule(dataset.images, config.batch, draws)
    latent = fixed_latent(config) if picture_every else None
    for step in range(first, first + steps):
        record = stack.step(schedule[step], draws.at(step), capture(step))
        if latent is not None and step % picture_every == 0:
            record = replace(record, pictures={"values": stack.generate(latent)})
        yield record
    if latent is not None:
        yield StepRecord(step=first + steps, pictures={"values": stack.generate(latent)})
