"""The batches that a benchmark's steps see, the same ones in every row, and what a row's first step must show."""

from __future__ import annotations

from typing import Any

import numpy as np

from pygan.data import Dataset
from pygan.schedule import Schedule

CAPTURE = ("logits", "gradients", "patterns", "state")
"""What a row's first step must show for a verdict."""


class Batches(Schedule):
    """The first ``images`` images of each batch of a run."""

    def __init__(self, dataset: Dataset, config: Any, images: int) -> None:
        super().__init__(**vars(Schedule.of(config, dataset.images)))
        self.__dict__["_first"] = images  # a schedule is frozen

    def indices(self, step: int) -> np.ndarray:
        """Image numbers of ``step``."""
        return super().indices(step)[: self.__dict__["_first"]]

    def first(self, count: int) -> list[np.ndarray]:
        """The batches of the first ``count`` steps."""
        return [self[step] for step in range(count)]
