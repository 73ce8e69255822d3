"""The batches that a benchmark's steps see, the same ones in every row, and what a row's first step must show."""

from __future__ import annotations

from typing import Any

import numpy as np

from pygan.data import Dataset
from pygan.draws import Draws
from pygan.schedule import Schedule

CAPTURE = ("logits", "gradients", "sketches", "patterns")
"""What a row's first step must show for a verdict."""


class Batches:
    """The first ``images`` images of each batch of a run."""

    def __init__(self, dataset: Dataset, config: Any, images: int) -> None:
        self._schedule = Schedule(dataset.images, config.batch, Draws(config.seed))
        self._images = images

    def __getitem__(self, step: int) -> np.ndarray:
        """Those of ``step``: ``(images, 1, H, W)`` Float32 in [-1, 1]."""
        return np.ascontiguousarray(self._schedule[step][: self._images])

    def first(self, count: int) -> list[np.ndarray]:
        """Those of the first ``count`` steps."""
        return [self[step] for step in range(count)]
