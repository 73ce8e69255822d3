"""The verdict of a row: is what was timed the recipe's step? No time is shown without it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pygan.benchmarking.process import child_environment
from pygan.parity.bands import EARLY_LOSS

AGREE, DIFFERS, NOT_RUN = "agree", "differs", "not run"
NATIVE = "agrees with injected draws; native law tested"
STEPS = 4
"""Steps of a sample at most: the timed losses are held to the band of the first 4 free steps."""
LOSS_BAND = 2 * EARLY_LOSS.absolute
"""Largest difference of a step's two losses, summed, between keyed rows: that of each loss, twice."""


@dataclass(frozen=True)
class Verdict:
    """``verdict`` (agree, differs, not run) and the reason for it."""

    verdict: str
    reason: str

    @property
    def shows_time(self) -> bool:
        """May times be shown with it?"""
        return self.verdict == AGREE


def judged(trace: Path, images: int, cores: int) -> Verdict:
    """The judge's verdict on the first step in ``trace``, from a process of its own (it loads torch)."""
    command = [sys.executable, "-m", "pygan.benchmarking.judge", str(trace), str(images), str(cores)]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(cores), check=False)
    try:
        said = json.loads(done.stdout.splitlines()[-1])
        return Verdict(said["verdict"], said["reason"])
    except (IndexError, KeyError, ValueError):
        words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return Verdict(NOT_RUN, f"the judge failed: {words[0]}")


def timed_losses(
    losses: Sequence[Sequence[float]], reference: Sequence[float] | None, reference_name: str
) -> tuple[float, list[str]]:
    """``(largest difference, faults)`` of the losses of every timed step against those of the keyed ``reference``.

    ``losses``: one list a sample, each of the same first steps. Without a reference they must only be finite.
    """
    values = np.asarray(losses, np.float64)
    if not np.isfinite(values).all():
        return float("inf"), ["a timed step's loss is not finite"]
    if reference is None:
        return 0.0, []
    worst = float(np.abs(values - np.asarray(reference)[: values.shape[1]]).max())
    if worst > LOSS_BAND:
        return worst, [f"a timed step's loss is {worst:.1e} from {reference_name}'s, {LOSS_BAND:.1e} allowed"]
    return worst, []


UNITS = {"bf16": 2.0**-8, "tf32": 2.0**-11}
"""Unit roundoff of lowered precisions; a first loss may be that far from the judged one's."""


def as_judged(losses: Sequence[float], judged_loss: float, precision: str) -> list[str]:
    """Faults of the first timed losses against those of the step that was judged, which may have run in another form
    (layer by layer, or without a graph)."""
    worst, allowed = max(abs(value - judged_loss) for value in losses), UNITS.get(precision, LOSS_BAND)
    if worst <= allowed:
        return []
    return [f"the first timed step's loss is {worst:.1e} from that of the step that was judged, {allowed:.1e} allowed"]


def combined(first_step: Verdict, faults: Sequence[str], native: bool) -> Verdict:
    """The verdict of a row from that on its first step and from what else was found wrong."""
    if not first_step.shows_time:
        return first_step
    if faults:
        return Verdict(DIFFERS, "; ".join(faults))
    return Verdict(AGREE, f"{NATIVE} ({first_step.reason})" if native else first_step.reason)


def to_dict(verdict: Verdict) -> Mapping[str, Any]:
    """Ready for JSON."""
    return {"verdict": verdict.verdict, "reason": verdict.reason}
