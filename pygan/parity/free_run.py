"""Two free runs' pictures side by side: what GIFs and their summaries say of each step.

Float32 runs drift apart by rounding, later by chaos: their pictures are shown with their distance and not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pygan.files import finite
from pygan.parity.compare import norm
from pygan.parity.verdicts import DIFFERS, NOT_RUN
from pygan.pictures.of_record import picture_values
from pygan.records import StepRecord


@dataclass(frozen=True)
class PictureStep:
    """The pictures of one step: relative 2-norm of their difference, and both runs' losses."""

    step: int
    relative: float
    verdict: str
    losses: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class FreeRunVerdict:
    """What is said of two free runs: per picture, and as a whole."""

    verdict: str
    reason: str
    steps: Sequence[PictureStep]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, which has neither infinity nor NaN: such a number is None."""
        return finite(asdict(self))  # type: ignore[no-any-return]


def relative_picture(candidate: StepRecord, reference: StepRecord) -> float:
    """Relative difference of two records' pictures; infinite where they cannot be compared."""
    a, b = picture_values(candidate), picture_values(reference)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    size = norm(b)
    gap = norm(a - b)
    return gap / size if size > 0 else (0.0 if gap == 0 else float("inf"))


def shown(candidate: Sequence[StepRecord], reference: Sequence[StepRecord]) -> FreeRunVerdict:
    """Both runs' pictures at the steps at which both drew some. A picture that is not finite, or of another size than
    the other run's, differs; the rest is shown."""
    theirs = {record.step: record for record in reference}
    steps = []
    for mine in candidate:
        other = theirs.get(mine.step)
        if other is None or not mine.pictures or not other.pictures:
            continue
        relative = relative_picture(mine, other)
        losses = {
            name: (float(value), float(other.loss[name])) for name, value in mine.loss.items() if name in other.loss
        }
        steps.append(PictureStep(mine.step, relative, NOT_RUN if np.isfinite(relative) else DIFFERS, losses))
    if not steps:
        return FreeRunVerdict(NOT_RUN, "no step has pictures in both runs", [])
    if bad := [step for step in steps if step.verdict == DIFFERS]:
        reason = f"step {bad[0].step}: a picture is not finite, or not of the other run's size"
        return FreeRunVerdict(DIFFERS, reason, steps)
    small = max((step.step for step in steps if step.relative <= CLOSE), default=None)
    close = "" if small is None else f"; up to step {small} they differ by less than {CLOSE:.0%}"
    return FreeRunVerdict(NOT_RUN, f"free Float32 runs part by rounding and are shown, not judged{close}", steps)


CLOSE = 0.01
"""Relative difference of pictures that the eye does not see."""
