"""The main job: both stacks train the same recipe from the same draws, and their pictures move side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pygan import environment
from pygan.data import Dataset
from pygan.errors import ConfigError, TraceError
from pygan.files import write_bytes, write_json
from pygan.parity.bands import PictureBand
from pygan.parity.free_run import AGREE, DIFFERS, FreeRunVerdict, judge
from pygan.pictures.contact_sheet import write_contact_sheet
from pygan.pictures.gif import write_gif
from pygan.pictures.of_record import grid_of
from pygan.pictures.plots import divergence_plot, loss_plot
from pygan.pictures.side_by_side import SideBySideFrame, write_side_by_side
from pygan.records import StepRecord
from pygan.resources import traces_dir
from pygan.traces import Trace

JUDGED = (AGREE, DIFFERS)
"""Verdicts that a band was applied for."""

_FREE = ("epochs", "picture_every", "device", "threads")
"""Config fields that a recorded stream need not share."""


@dataclass(frozen=True)
class Run:
    """One stack's run: how to call it, and its records."""

    title: str
    facts: dict[str, Any]
    records: Sequence[StepRecord]

    @property
    def framed(self) -> list[StepRecord]:
        """The records that carry pictures."""
        return [record for record in self.records if record.pictures]


def recorded_flux(config: Any, dataset: Dataset) -> Trace:
    """The shipped trace of real Flux for this config, seed and data. Raises ``TraceError`` saying what there is."""
    held = []
    for folder in sorted(path.parent for path in traces_dir().glob("*/trace.json")):
        trace = Trace(folder)
        if not misfits(trace, config, dataset):
            return trace
        about = trace.header.config
        held.append(f"{folder.name} (on {trace.header.data['name']}, width {about.get('width')}, {about.get('dtype')})")
    raise TraceError(
        f"no recorded Flux run fits this config on {dataset.name}; recorded: {', '.join(held) or 'none'}. "
        "Run real Flux live (`pygan doctor` says what it needs), or drop the flags that change the run."
    )


def given_trace(folder: Path, config: Any, dataset: Dataset) -> Trace:
    """A user's own trace of Flux. Raises ``TraceError`` naming every field in which its run was another one."""
    trace = Trace(folder)
    if faults := misfits(trace, config, dataset):
        raise TraceError(f"{folder} is of another run: {'; '.join(faults)}")
    return trace


def misfits(trace: Trace, config: Any, dataset: Dataset) -> list[str]:
    """In what the recorded run is not a run of Flux with this config on this data."""
    wanted, given = config.to_dict(), trace.header.config
    faults = [
        f"{key} = {given.get(key)!r}, wanted {wanted.get(key)!r}"
        for key in sorted(wanted.keys() | given.keys())
        if key not in _FREE and given.get(key) != wanted.get(key)
    ]
    if trace.header.stack != "flux":
        faults.append(f"stack = {trace.header.stack!r}")
    if trace.header.data.get("sha256") != dataset.sha256:
        faults.append(f"data = {trace.header.data.get('name')} of other content than {dataset.name}")
    return faults


def first_steps(trace: Trace, total: int, every: int) -> list[StepRecord]:
    """The records of a run's first ``total`` steps, with pictures only every ``every`` steps.

    The closing pictures, numbered by the total, are kept only where the recorded run ends there: in a longer run that
    number belongs to pictures of one update later. Raises ``TraceError`` if the recording is shorter than ``total``.
    """
    held = trace.training_steps
    if total > held:
        raise TraceError(
            f"{trace.folder.name} holds {held} steps of Flux, not {total}; use --steps {held} or --flux live"
        )
    kept = []
    for record in trace:
        if record.step < total:
            kept.append(record if record.step % every == 0 else replace(record, pictures={}))
        elif record.step == total == held:
            kept.append(record)
    return kept


def without_closing(run: Run, total: int) -> Run:
    """``run`` without the closing pictures, for which a recording that goes on, or was cut, has no counterpart."""
    return replace(run, records=[record for record in run.records if record.step < total])


def live_title(stack: Any) -> str:
    """``PyTorch 2.13.0 (live)``, ``PyTorch 2.13.0 (live, fast step)`` or ``Flux 0.16.9 (live)``."""
    described = stack.describe()
    form = described.get("step", "idiomatic")
    return f"{_versioned(stack.name, described)} (live{'' if form == 'idiomatic' else f', {form} step'})"


def recorded_title(trace: Trace) -> str:
    """``Flux 0.16.9 (recorded)``."""
    return (
        f"{_versioned(trace.header.stack, trace.header.environment.get('stack', trace.header.environment))} (recorded)"
    )


def _versioned(stack: str, facts: dict[str, Any]) -> str:
    return f"PyTorch {facts['torch'].partition('+')[0]}" if stack == "torch" else f"Flux {facts['packages']['Flux']}"


def write_gifs(
    out: Path,
    flux: Run,
    torch: Run,
    band: PictureBand | None,
    fps: float,
    facts: dict[str, Any],
    written: Callable[[Path], None] = lambda path: None,
) -> FreeRunVerdict:
    """Write ``flux.gif``, ``torch.gif``, ``side_by_side.gif``, three plots, ``summary.json`` and ``summary.md``."""
    if not torch.framed or not flux.framed:
        raise ConfigError("neither GIF can be made without pictures; run at least one step with --every 1")
    verdict = judge(torch.records, flux.records, band)
    milliseconds = 0
    for name, run in (("flux.gif", flux), ("torch.gif", torch)):
        milliseconds = write_gif(out / name, [grid_of(record) for record in run.framed], fps)
        written(out / name)
    write_side_by_side(
        out / "side_by_side.gif", side_by_side_frames(flux, torch, verdict), (flux.title, torch.title), fps
    )
    written(out / "side_by_side.gif")
    for path in write_plots(out, flux, torch, verdict):
        written(path)
    summary = {
        "verdict": verdict.to_dict(),
        "gif": {"frames": len(torch.framed), "milliseconds_a_frame": milliseconds, "loop": "forever"},
        "flux": {"title": flux.title, **flux.facts},
        "torch": {"title": torch.title, **torch.facts},
        "environment": environment.describe(),
        **facts,
    }
    write_json(out / "summary.json", summary)
    written(out / "summary.json")
    write_bytes(out / "summary.md", summary_text(flux, torch, verdict).encode())
    written(out / "summary.md")
    return verdict


def write_plots(out: Path, flux: Run, torch: Run, verdict: FreeRunVerdict) -> list[Path]:
    """Write ``contact_sheet.png``, ``losses.png`` and, where pictures were compared, ``divergence.png``."""
    titles = (flux.title, torch.title)
    grids = [{record.step: grid_of(record) for record in run.framed} for run in (flux, torch)]
    files = [out / "contact_sheet.png", out / "losses.png"]
    write_contact_sheet(files[0], grids[0], grids[1], titles)
    horizon = verdict.horizon if verdict.horizon >= 0 else None
    loss_plot(files[1], _loss_series(flux), _loss_series(torch), titles, horizon)
    judged = [step for step in verdict.steps if np.isfinite(step.relative)]
    if judged:
        band = [step.band if step.verdict in JUDGED else np.nan for step in judged]
        divergence = {"pictures": [step.relative for step in judged]}
        files.append(out / "divergence.png")
        divergence_plot(files[2], [step.step for step in judged], divergence, band, horizon)
    return files


def _loss_series(run: Run) -> dict[str, tuple[list[int], list[float]]]:
    series: dict[str, tuple[list[int], list[float]]] = {}
    for record in run.records:
        for name, value in record.loss.items():
            steps, values = series.setdefault(name, ([], []))
            steps.append(record.step)
            values.append(float(value))
    return series


def side_by_side_frames(flux: Run, torch: Run, verdict: FreeRunVerdict) -> list[SideBySideFrame]:
    """One frame per step that has pictures in either run, with that step's verdict."""
    left, right = ({record.step: record for record in run.framed} for run in (flux, torch))
    judged = {step.step: step for step in verdict.steps}
    frames = []
    for number in sorted(left.keys() | right.keys()):
        a, b, judgement = left.get(number), right.get(number), judged.get(number)
        note = f"relative difference of the pictures {judgement.relative:.1e}" if judgement else ""
        if judgement and judgement.verdict in JUDGED:
            note += f", band {judgement.band:.1e}"
        frames.append(
            SideBySideFrame(
                step=number,
                left=grid_of(a) if a else None,
                right=grid_of(b) if b else None,
                left_losses={name: float(value) for name, value in a.loss.items()} if a else {},
                right_losses={name: float(value) for name, value in b.loss.items()} if b else {},
                verdict=judgement.verdict if judgement else "not run",
                note=note,
            )
        )
    return frames


def summary_text(flux: Run, torch: Run, verdict: FreeRunVerdict) -> str:
    """The summary for a reader: the verdict, then one row per picture."""
    lines = [
        f"# {flux.title} against {torch.title}",
        "",
        f"**{verdict.verdict}**: {verdict.reason}.",
        "",
        "| step | verdict | pictures differ by | band | D loss Flux | D loss PyTorch | G loss Flux | G loss PyTorch |",
        "|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    for step in verdict.steps:
        band = f"{step.band:.1e}" if step.verdict in JUDGED else ""
        losses = [f"{value:.6f}" for name in sorted(step.losses) for value in reversed(step.losses[name])]
        cells = [str(step.step), step.verdict, f"{step.relative:.1e}", band, *(losses or [""] * 4)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
