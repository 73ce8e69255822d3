"""The verdict of a row: is what was timed the recipe's step? No time is shown without it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pygan.benchmarking.process import child_environment
from pygan.parity.tolerances import FREE_FACTOR
from pygan.processes import python_command

AGREE, DIFFERS, NOT_RUN = "agree", "differs", "not run"
NATIVE = "agrees with injected draws; native law tested"
STEPS = 4
"""Steps of a sample at most: free Float32 runs stay together in the first few only."""
LOSS_BAND = FREE_FACTOR * 16 * 2.0**-24
"""Relative difference of a free step's loss between keyed rows. Two Float32 runs, as two Float64 ones, may part by
``FREE_FACTOR`` times what rounding leaves in one result: here sixteen roundings, four in each image's loss and twelve
in a pairwise sum over up to 4,096 images. Steps that leave out an update or take another batch are outside."""


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
    """The judge's verdict on the first step in ``trace``."""
    return judged_rows([trace], images, cores)[0]


def judged_rows(traces: Sequence[Path], images: int, cores: int) -> list[Verdict]:
    """The judge's verdicts on first steps, from a process of its own (it loads torch). Rows of one configuration are
    best judged together: most of the work is the referee's, and is done once."""
    command = [*python_command("pygan.benchmarking.judge"), str(images), str(cores), *map(str, traces)]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(cores), check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"verdict"')]
    words = done.stderr.strip().splitlines()[-1:] or [f"it ended with code {done.returncode}"]
    failed = Verdict(NOT_RUN, f"the judge failed: {words[0]}")
    said = [Verdict(line["verdict"], line["reason"]) for line in lines]
    return [*said, *[failed] * (len(traces) - len(said))]


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
    right = np.asarray(reference, np.float64)[: values.shape[1]]
    gaps = np.abs(values - right)
    worst, allowed = float(gaps.max()), _band(right)
    if (gaps > allowed).any():
        return worst, [f"a timed step's loss is {worst:.1e} from {reference_name}'s, {allowed.min():.1e} allowed"]
    return worst, []


def _band(losses: np.ndarray) -> np.ndarray:
    """What losses may be off by: those below 1 are made of logits of order 1."""
    return np.asarray(LOSS_BAND * np.maximum(np.abs(losses), 1.0))


UNITS = {"bf16": 2.0**-8, "tf32": 2.0**-11}
"""Unit roundoff of lowered precisions; a first loss may be that far from the judged one's."""


def as_judged(losses: Sequence[float], judged_loss: float, precision: str) -> list[str]:
    """Faults of the first timed losses against those of the step that was judged, which may have run in another form
    (layer by layer, or without a graph)."""
    worst = max(abs(value - judged_loss) for value in losses)
    allowed = UNITS.get(precision, float(_band(np.array(judged_loss))))
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
