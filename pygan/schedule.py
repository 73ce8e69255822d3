"""Which images a step sees. Julia's twin is ``batch_indices`` in ``julia/src/data.jl``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from pygan.data import scale
from pygan.draws import Draws, words


@dataclass(frozen=True)
class Schedule:
    """Which images a step sees, and how they are scaled.

    ``order``: ``shuffled`` anew each epoch by the draw ``shuffle``; ``in_order``; ``buffer_shuffled``, which takes
    one of the next ``shuffle_buffer`` images that are left, as tf.data does; or ``with_replacement``, each batch the
    draw ``batch``, and one batch an epoch. ``last_batch``: a partial one is ``kept`` or ``dropped``.

    >>> schedule = Schedule(np.zeros((10, 28, 28), np.uint8), batch=4, draws=Draws(seed=0))
    >>> schedule.steps_per_epoch
    3
    >>> [schedule.indices(step).tolist() for step in range(3)]
    [[5, 4, 2, 6], [8, 7, 0, 3], [1, 9]]
    >>> schedule[2].shape
    (2, 1, 28, 28)
    >>> in_order = Schedule(np.zeros((10, 28, 28), np.uint8), 4, Draws(0), order="in_order", last_batch="dropped")
    >>> [in_order.indices(step).tolist() for step in range(3)]
    [[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 2, 3]]
    """

    images: np.ndarray
    batch: int
    draws: Draws
    order: str = "shuffled"
    shuffle_buffer: int = 1000
    last_batch: str = "kept"
    scaling: str = "2*x/255-1"

    @classmethod
    def of(cls, config: Any, images: np.ndarray) -> Self:
        """The schedule of a run of ``config`` on ``images`` ``(N, H, W)`` uint8."""
        how = (config.order, config.shuffle_buffer, config.last_batch, config.scaling)
        return cls(images, config.batch, Draws(config.seed), *how)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass."""
        if self.order == "with_replacement":
            return 1
        whole = len(self.images) // self.batch
        return max(1, whole if self.last_batch == "dropped" else -(-len(self.images) // self.batch))

    def indices(self, step: int) -> np.ndarray:
        """Image numbers of a step: ``(N,)`` int64."""
        if self.order == "with_replacement":
            drawn = words(self.draws.seed, "batch", step, self.batch)
            return (drawn % np.uint64(len(self.images))).astype(np.int64)
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        return order[place * self.batch : (place + 1) * self.batch]

    def _order(self, epoch: int) -> np.ndarray:
        cached: tuple[int, np.ndarray] | None = self.__dict__.get("_cached")
        if cached is None or cached[0] != epoch:
            cached = (epoch, self._ordered(epoch))
            self.__dict__["_cached"] = cached
        return cached[1]

    def _ordered(self, epoch: int) -> np.ndarray:
        count = len(self.images)
        if self.order == "in_order":
            return np.arange(count)
        if self.order == "buffer_shuffled":
            return buffer_shuffled(words(self.draws.seed, "shuffle", epoch, count), self.shuffle_buffer)
        return self.draws.at(epoch).permutation("shuffle", count)

    def __getitem__(self, step: int) -> np.ndarray:
        """The batch of ``step``: ``(N, 1, H, W)`` Float32."""
        return scale(self.images[self.indices(step)], self.scaling)


def buffer_shuffled(drawn: np.ndarray, size: int) -> np.ndarray:
    """The order ``(n,)`` int64 in which a buffer of ``size`` gives the numbers ``0 .. n - 1``: each time the place in
    it that the next of the ``drawn`` words ``(n,)`` says, which the next number then fills.

    >>> buffer_shuffled(np.array([5, 0, 1, 7], np.uint64), 2).tolist()
    [1, 0, 2, 3]
    """
    count = len(drawn)
    held, order = list(range(min(size, count))), np.empty(count, np.int64)
    following = len(held)
    for place, word in enumerate(drawn.tolist()):
        at = word % len(held)
        order[place] = held[at]
        if following < count:
            held[at] = following
            following += 1
        else:
            held[at] = held[-1]
            held.pop()
    return order
