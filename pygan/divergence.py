"""Watching a run for numbers that are not finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pygan.errors import Diverged
from pygan.records import StepRecord

WATCHED = ("loss", "gradient", "state", "pictures")
"""Parts of a record that are looked at, in this order, where it has them."""


class Watch:
    """Finds the first number of a run that is not finite. It raises ``Diverged`` there with ``stop``; else ``tell``
    is called once and the run goes on. ``first``: what was found, also by an earlier part of the run."""

    def __init__(self, stop: bool, tell: Callable[[str], None] = lambda text: None, first: str = "") -> None:
        self._stop, self._tell, self.first = stop, tell, first

    def record(self, record: StepRecord) -> None:
        """Look at one step."""
        for kind in WATCHED:
            self._look(record.step, kind, getattr(record, kind))

    def state(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Look at the state after ``step``."""
        self._look(step, "state", arrays)

    def _look(self, step: int, kind: str, arrays: Mapping[str, np.ndarray]) -> None:
        if self.first and not self._stop:
            return
        for name, value in arrays.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                bad = value[~np.isfinite(value)][0] if value.ndim else value[()]
                what = f"the {name} loss is {bad}" if kind == "loss" else f"{kind} {name} holds {bad}"
                self.first = self.first or f"{what} at step {step}"
                if self._stop:
                    raise Diverged(f"the training diverged: {self.first}")
                self._tell(f"the training diverged: {self.first}, which is not finite; it goes on as asked")
                return
