"""Two free runs of one recipe and one key: up to which step do their pictures agree?

Float32 runs drift apart by rounding, later by chaos. Up to the committed horizon the pictures must stay inside the
band measured from runs of the same stack under other threads and instruction sets; beyond it nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pygan.files import finite
from pygan.parity.bands import PictureBand
from pygan.parity.compare import norm
from pygan.pictures.of_record import picture_values
from pygan.records import StepRecord

AGREE, DIFFERS, BEYOND, NOT_RUN = "agree", "differs", "beyond horizon", "not run"
VERDICTS = (AGREE, DIFFERS, BEYOND, NOT_RUN)
QUANTISED = 0.5 / 127.5
"""Half a grey level in [-1, 1]: what storing one side as 8-bit grids may add to a pixel."""


@dataclass(frozen=True)
class PictureStep:
    """The verdict on the pictures of one step."""

    step: int
    relative: float
    band: float
    verdict: str
    losses: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class FreeRunVerdict:
    """The verdict on two free runs: per picture, and as a whole (``agree`` only up to ``agreed_until``)."""

    verdict: str
    agreed_until: int
    horizon: int
    reason: str
    steps: Sequence[PictureStep]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, which has neither infinity nor NaN: such a number is None."""
        return finite(asdict(self))  # type: ignore[no-any-return]


def relative_picture(candidate: StepRecord, reference: StepRecord) -> tuple[float, float]:
    """``(relative difference, what quantisation may add)`` of two records' pictures."""
    a, b = picture_values(candidate), picture_values(reference)
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf"), 0.0
    quantised = "grid" in candidate.pictures or "grid" in reference.pictures
    size = norm(b)
    if size == 0:
        return (0.0 if norm(a - b) == 0 else float("inf")), 0.0
    return norm(a - b) / size, QUANTISED * float(np.sqrt(b.size)) / size if quantised else 0.0


def judge(candidate: Sequence[StepRecord], reference: Sequence[StepRecord], band: PictureBand | None) -> FreeRunVerdict:
    """The verdict on two runs' records; steps with pictures on both sides are compared, losses beside them.

    Without a ``band`` the differences are listed and nothing is judged (but a picture that is not finite differs).
    """
    horizon = band.horizon if band else -1
    theirs = {record.step: record for record in reference}
    steps, differs, agreed = [], None, -1
    for mine in candidate:
        other = theirs.get(mine.step)
        if other is None or not mine.pictures or not other.pictures:
            continue
        relative, quantisation = relative_picture(mine, other)
        allowed = band.at(mine.step) + quantisation if band else 0.0
        if not np.isfinite(relative):
            verdict = DIFFERS
        elif band is None:
            verdict = NOT_RUN
        elif mine.step > horizon:
            verdict = BEYOND
        else:
            verdict = AGREE if relative <= allowed else DIFFERS
        if verdict == DIFFERS and differs is None:
            differs = mine.step
        if verdict == AGREE and differs is None:
            agreed = mine.step
        losses = {
            name: (float(value), float(other.loss[name])) for name, value in mine.loss.items() if name in other.loss
        }
        steps.append(PictureStep(mine.step, relative, allowed, verdict, losses))
    if not steps:
        return FreeRunVerdict(NOT_RUN, -1, horizon, "no step has pictures in both runs", [])
    if differs is not None:
        bad = next(step for step in steps if step.step == differs)
        reason = f"step {differs}: pictures differ by {bad.relative:.2e}, the band admits {bad.band:.2e}"
        return FreeRunVerdict(DIFFERS, agreed, horizon, reason, steps)
    if band is None:
        reason = "no noise floor is committed for such a run, so its pictures are shown and not judged"
        return FreeRunVerdict(NOT_RUN, -1, horizon, reason, steps)
    if agreed < 0:
        return FreeRunVerdict(NOT_RUN, -1, horizon, f"no picture at or before the horizon, step {horizon}", steps)
    beyond = sum(step.verdict == BEYOND for step in steps)
    tail = f"; {beyond} later pictures are beyond the horizon (step {horizon}) and not judged" if beyond else ""
    return FreeRunVerdict(AGREE, agreed, horizon, f"pictures agree up to step {agreed}{tail}", steps)
