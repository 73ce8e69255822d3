"""Tolerances. Each has a reason and a measured floor beside it; a band over 10 times its floor fails the build.

``floors.json`` is written by ``pygan parity --measure-noise`` from varied runs; the factors are committed here by hand.
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


FLOAT64_RELATIVE = 1e-11
FLOAT64_ABSOLUTE = {"gradient": 5e-16, "exp_avg": 5e-17}
"""Norm that rounding leaves in a gradient that vanishes by cancellation: three times the 1.7e-16 measured in a sum of
256 terms of order 1/2, and a tenth of it in the first moment. Every other kind is held to the relative norm alone."""


LOCAL_TOLERANCE = {"float64": 1e-11, "float32": 3e-5}
"""Relative norm by which one layer's own output may differ between stacks when both start it from the same values."""


def float64_band(key: str) -> Band:
    """Band of one Float64 step with equal constants for a tensor ``kind/name``: measured 3e-12 and far below."""
    kind = key.removeprefix("state/").partition("/")[0]
    return Band(FLOAT64_RELATIVE, FLOAT64_ABSOLUTE.get(kind, 0.0), "one Float64 step; measured 3e-12 at most")


FORWARD_NOISE = 5e-5
"""Relative to a layer's root mean square: what Float32 rounding leaves in what enters a relu or leaky relu of the first
full-width step; 1.8e-5 measured at most over 4 million units. A unit may flip sign only inside it."""

REFEREE_FACTOR = 3.0
"""How much further from the referee than the other stack a Float32 stack may be, beyond :data:`REFEREE_NOISE`."""

REFEREE_NOISE = 1e-5
"""Distance from the referee below which two stacks are not weighed against each other, for kinds without a measured
floor."""

LATE_FACTOR = 5.0
"""Over the floors measured along a full-width training: largest distance from the referee of torch under other threads,
instruction sets and without oneDNN (whose convolution by weight is ten times coarser than any other part)."""


def referee_floor(key: str) -> float:
    """Distance from the referee below which a Float32 tensor is not weighed, by its kind and network."""
    if key.startswith(("activation/", "logits/")):
        return FORWARD_NOISE
    measured = floors()["late"]["floor"].get(group_of(key))
    return REFEREE_NOISE if measured is None else LATE_FACTOR * float(measured)


def group_of(key: str) -> str:
    """Kind and network of a tensor: ``state/exp_avg/generator`` of ``state/exp_avg/generator.dense.weight``."""
    return key.rpartition("/")[0] + "/" + key.rpartition("/")[2].partition(".")[0]


EARLY_LOSS = Band(0.0, 1e-5, "losses of the first 4 free full-width steps, of order 1: 1.0e-6 measured at most")
EARLY_WEIGHTS = Band(
    4e-3, 0.0, "weights' sketches in the first 4 free full-width steps, kink flips included: 8.4e-4 measured at most"
)
FREE_FLOAT64 = Band(
    5e-12,
    2e-14,
    "20 free narrow Float64 steps: 1e-12 measured at most; or 1e-10 of a learning rate, for a bias that crosses zero",
)


def outside_float64(differences: Iterable[Difference]) -> list[Difference]:
    """Those that their Float64 band does not admit, worst first."""
    bad = [difference for difference in differences if not float64_band(difference.key).admits(difference)]
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


_WITHOUT_EFFECT = ("seed", "threads", "epochs", "picture_every", "grid")
"""Config fields that leave the size of rounding noise as it is."""


def picture_band(config: Mapping[str, Any]) -> PictureBand | None:
    """The committed band for free runs of ``config``; None where no floor was measured for such a run."""
    row = floors()["pictures"]
    if _without(config) != _without(row["config"]):
        return None
    return PictureBand(np.array(row["steps"]), np.array(row["relative"]), PICTURE_FACTOR)


@dataclass(frozen=True)
class TensorBands:
    """Bands of a free run's tensors over steps, per tensor: ``factor`` times the envelope of the measured spread."""

    steps: np.ndarray
    floor: Mapping[str, np.ndarray]
    factor: float

    @property
    def horizon(self) -> int:
        """Last step that was measured."""
        return int(self.steps[-1])

    def at(self, key: str, step: int) -> float:
        """Admissible relative difference of ``key`` after ``step`` (log-linear between measured steps)."""
        return self.factor * float(np.exp(np.interp(step, self.steps, np.log(self.floor[key]))))


TENSOR_FACTOR = 4.0
"""As for pictures."""


def tensor_bands(config: Mapping[str, Any]) -> TensorBands | None:
    """The committed bands of a free run's tensors; None where no floor was measured for such a run.

    A tensor's floor is the largest of its own spread, the median of its kind and network (six runs of a single number,
    such as the bias of one logit, can happen to agree) and both stacks' distance from the referee after the first step.
    """
    row = floors()["pictures"]
    if "tensors" not in row or _without(config) != _without(row["config"]):
        return None
    first = floors()["first_step"]["floor"]
    own = {
        key: np.maximum(np.array(values), first.get(f"sketch/{key}", 1e-9))
        for key, values in row["tensors"]["relative"].items()
    }
    groups: dict[str, list[np.ndarray]] = {}
    for key, values in own.items():
        groups.setdefault(group_of(key), []).append(values)
    middle = {group: np.median(rows, axis=0) for group, rows in groups.items()}
    floor = {key: np.maximum(values, middle[group_of(key)]) for key, values in own.items()}
    return TensorBands(np.array(row["tensors"]["steps"]), floor, TENSOR_FACTOR)


def _without(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _WITHOUT_EFFECT}


def float32_band(key: str, job: str = "narrow") -> Band:
    """Band of one Float32 step for a tensor, with the on/off patterns imposed.

    ``job``: ``narrow`` for the teacher-forced narrow trace, ``first_step`` for the sketches of the full-width one.
    """
    floor = floors()[job]["floor"][key]
    return Band(FLOAT32_FACTOR * floor, 0.0, f"{FLOAT32_FACTOR:g} times the measured floor of {key}, {floor:.1e}")
