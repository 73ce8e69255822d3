"""What ``pygan gif`` leaves when it is stopped: the half that is done, as files to look at and to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pygan import environment
from pygan.data import Dataset
from pygan.files import write_json, write_text
from pygan.gifs import Run, Shown, StepVerdict, verdicts
from pygan.pictures.gif import write_gif
from pygan.pictures.of_record import grid_of
from pygan.records import StepRecord
from pygan.traces import Header, TraceWriter

TRACE = "flux.trace"
"""Folder under ``out`` that keeps what Flux did live, for ``pygan gif --flux``."""


def write_stopped(
    out: Path, runs: Mapping[str, Run], step: StepVerdict, dataset: Dataset, fps: float, facts: Mapping[str, Any]
) -> tuple[str, list[Path]]:
    """Write what the ``runs`` of a stopped ``pygan gif`` have; returns ``(reason, files)``.

    ``runs``: those that were begun, by stack. A GIF of each that drew pictures, the trace of Flux where it ran live
    (unless ``out`` holds one already), and ``summary.json`` and ``summary.md``: the verdict on the first step, which
    was judged before the training, and that the pictures were not compared. They name the files: others in ``out`` are
    of an earlier run. ``facts``: config, data and ``steps``, the total asked for.
    """
    total = facts["steps"]
    done = {name: sum(1 for record in run.records if record.loss) for name, run in runs.items()}
    steps = " and ".join(f"{count} of {total} steps of {name}" for name, count in done.items())
    reason = f"stopped after {steps}, so the pictures were not compared"
    files = []
    for name, run in runs.items():
        if run.framed:
            files.append(out / f"{name}.gif")
            write_gif(files[-1], [grid_of(record) for record in run.framed], fps)
    flux = runs.get("flux")
    if flux is not None and flux.facts["live"] and done["flux"] and not (out / TRACE).exists():
        files.append(out / TRACE)
        described = {**environment.describe(), "stack": flux.facts}
        with TraceWriter(
            out / TRACE, Header("flux", facts["config"], dataset.facts(), described, "pygan gif, stopped")
        ) as trace:
            for record in flux.records:
                trace.write(_slim(record))
    files += [out / "summary.json", out / "summary.md"]
    summary = {
        **verdicts(step, Shown(reason)),
        "stopped": True,
        "steps_done": done,
        "files": [path.name for path in files],
        **{name: {"title": run.title, **run.facts} for name, run in runs.items()},
        "environment": environment.describe(),
        **facts,
    }
    write_json(out / "summary.json", summary)
    lines = [f"# {' against '.join(run.title for run in runs.values())}", ""]
    lines += [f"First step: **{step.verdict}**: {step.reason}.", "", f"Pictures: {reason}.", ""]
    lines += [f"Files of this run: {', '.join(path.name for path in files)}. Any others here are of an earlier one."]
    if out / TRACE in files:
        lines += [
            "",
            f"`pygan gif --flux {out / TRACE} --steps {done['flux']}` (and the same other options) replays Flux.",
        ]
    write_text(out / "summary.md", "\n".join(lines) + "\n")
    return reason, files


def _slim(record: StepRecord) -> StepRecord:
    """``record`` without a grid that the pictures' values give again, byte for byte."""
    values = {name: value for name, value in record.pictures.items() if name != "grid"}
    again = "grid" in record.pictures and "values" in values
    if again and np.array_equal(grid_of(replace(record, pictures=values)), record.pictures["grid"]):
        return replace(record, pictures=values)
    return record
