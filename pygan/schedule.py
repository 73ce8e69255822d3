"""Which images a step sees. Julia's twin is ``batch_indices`` in ``julia/src/data.jl``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pygan.data import scale
from pygan.draws import Draws


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
