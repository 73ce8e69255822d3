"""Watching a run for numbers that are not finite, and for a training that has stopped to learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from pygan.errors import Diverged
from pygan.records import StepRecord

WATCHED = ("loss", "gradient", "state", "pictures")
"""Parts of a record that are looked at, in this order, where it has them."""


FLAT_STEPS = 500
"""So many steps in a row with a loss of (almost) 0 are a training that has stopped to learn."""
FLAT_LOSS = 1e-6


class Watch:
    """Finds the first number of a run that is not finite. It raises ``Diverged`` there with ``stop``; else ``tell``
    is called once and the run goes on. ``first``: what was found, also by an earlier part of the run.

    ``warn`` is called once for each sign of collapse: pictures of one step that are all equal after the first step,
    and a loss that stays below :data:`FLAT_LOSS` for :data:`FLAT_STEPS` steps.
    """

    def __init__(
        self,
        stop: bool,
        tell: Callable[[str], None] = lambda text: None,
        first: str = "",
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._stop, self._tell, self.first, self._warn = stop, tell, first, warn
        self._flat: dict[str, int] = {}
        self._warned: set[str] = set()

    def record(self, record: StepRecord) -> None:
        """Look at one step."""
        for kind in WATCHED:
            self._look(record.step, kind, getattr(record, kind))
        for name, value in record.loss.items():
            self._flat[name] = self._flat.get(name, 0) + 1 if abs(float(value)) < FLAT_LOSS else 0
            if self._flat[name] == FLAT_STEPS:
                self._warn_once(
                    f"loss {name}",
                    f"the {name} loss is 0 since step {record.step - FLAT_STEPS + 1}: that network has nothing more to "
                    "learn, and gives the other no gradient to learn from",
                )
        pictures = record.pictures.get("values")
        if record.step > 0 and pictures is not None and len(pictures) > 1 and not np.ptp(pictures, axis=0).any():
            self._warn_once(
                "pictures", f"all {len(pictures)} pictures of step {record.step} are equal: the generator has collapsed"
            )

    def _warn_once(self, sign: str, text: str) -> None:
        if sign not in self._warned:
            self._warned.add(sign)
            self._warn(text)

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
