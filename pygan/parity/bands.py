"""Tolerances. Each has a reason and a measured floor beside it; a band over 10 times its floor fails the build.

``floors.json`` is written by ``python -m pygan.parity.noise`` from varied runs; the factors are committed here by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pygan.parity.compare import Difference

MAX_BAND_OVER_FLOOR = 10.0
PICTURE_CEILING = 0.1
"""Relative picture difference above which comparing two free runs point by point says nothing: the horizon."""


@dataclass(frozen=True)
class Band:
    """Largest admissible relative norm of a difference, or else its absolute norm, with the reason for both."""

    relative: float
    absolute: float
    reason: str

    def admits(self, difference: Difference) -> bool:
        """Is the difference inside the band? A fault never is."""
        return not difference.fault and (difference.relative <= self.relative or difference.absolute <= self.absolute)


FLOAT64 = Band(
    1e-11,
    1e-14,
    "one Float64 step with equal constants: 1e-12 and below measured over narrow and full width; the absolute floor is "
    "for gradients that vanish by cancellation, where rounding of terms of order 1 remains",
)


def outside(differences: Iterable[Difference], band: Band) -> list[Difference]:
    """Those that the band does not admit, worst first."""
    bad = [difference for difference in differences if not band.admits(difference)]
    return sorted(bad, key=lambda difference: (not difference.fault, -difference.relative))


def minimum_relative(differences: Iterable[Difference]) -> float:
    """The smallest relative tolerance that would pass; infinite if there is a fault."""
    return max((float("inf") if d.fault else d.relative for d in differences), default=0.0)


@cache
def floors() -> Mapping[str, Any]:
    """The committed noise floors."""
    stored: dict[str, Any] = json.loads((Path(__file__).parent / "floors.json").read_text(encoding="utf-8"))
    return stored


@dataclass(frozen=True)
class PictureBand:
    """Band of a free run's pictures over steps: ``factor`` times the envelope of the measured spread."""

    steps: np.ndarray
    floor: np.ndarray
    factor: float

    def at(self, step: int) -> float:
        """Admissible relative difference of the pictures drawn at ``step`` (log-linear between measured steps)."""
        return self.factor * float(np.exp(np.interp(step, self.steps, np.log(self.floor))))

    @property
    def horizon(self) -> int:
        """Last step whose band stays under :data:`PICTURE_CEILING`; beyond it nothing is judged."""
        inside = [step for step in range(int(self.steps[-1]) + 1) if self.at(step) <= PICTURE_CEILING]
        gap = next((i for i, step in enumerate(inside) if i != step), len(inside))
        return gap - 1


PICTURE_FACTOR = 4.0
"""Both stacks drift, each by its own rounding and its own kink flips, and the floor is one machine's sample."""

FLOAT32_FACTOR = 4.0
"""The floor is the larger of the variants' spread and both stacks' distance to the referee on one machine and trace;
other processors and another sign of both errors fit inside four times that."""


_WITHOUT_EFFECT = ("seed", "device", "threads", "epochs", "picture_every", "grid")
"""Config fields that leave the size of rounding noise as it is."""


def picture_band(config: Mapping[str, Any]) -> PictureBand | None:
    """The committed band for free runs of ``config``; None where no floor was measured for such a run."""
    row = floors()["pictures"]
    given, measured = (
        {key: value for key, value in one.items() if key not in _WITHOUT_EFFECT} for one in (config, row["config"])
    )
    if given != measured:
        return None
    return PictureBand(np.array(row["steps"]), np.array(row["relative"]), PICTURE_FACTOR)


def float32_band(key: str, job: str = "narrow") -> Band:
    """Band of one Float32 step for a tensor, with the on/off patterns imposed.

    ``job``: ``narrow`` for the teacher-forced narrow trace, ``first_step`` for the sketches of the full-width one.
    """
    floor = floors()[job]["floor"][key]
    return Band(FLOAT32_FACTOR * floor, 0.0, f"{FLOAT32_FACTOR:g} times the measured floor of {key}, {floor:.1e}")
