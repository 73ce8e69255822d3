"""What the judge holds the referee to, without torch: the recording of real Flux at a row's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pygan.parity.shipped import shipped, unlike
from pygan.records import StepRecord
from pygan.traces import Trace

WITHOUT_EFFECT = {"dtype", "grid"}
"""Config fields, beside those without effect on a run, that leave the first step in Float64 as it is."""


def recorded_like(config: Mapping[str, Any], images: int, batch_sha256: str = "") -> Path | None:
    """The first shipped recording of Flux that holds the keyed first step of ``config`` on ``images`` images in
    Float64, on the batch with the given SHA-256 where one is given; None where there is none."""
    keyed = {**config, "randomness": "keyed"}
    for trace in shipped():
        fits = trace.header.stack == "flux" and not set(unlike(trace, keyed)) - WITHOUT_EFFECT
        step = float64_step(trace) if fits and trace.header.config["batch"] == images else None
        if step is not None and batch_sha256 in ("", step.batch_sha256):
            return trace.folder
    return None


def float64_step(trace: Trace) -> StepRecord | None:
    """The recording's first step in Float64, the step itself or the twin of a Float32 one; None where it has none."""
    if 0 not in trace.steps:
        return None
    return trace.record(0) if trace.header.config["dtype"] == "float64" else trace.twin(0)
