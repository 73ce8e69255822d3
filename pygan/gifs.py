"""The main job: both stacks train the same recipe from the same draws, and their pictures move side by side.

Two things are said of the two runs: a verdict on their first step, which both take from the same initial state, and how
far the pictures of the free runs lie apart. The pictures are shown, not judged.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pygan import environment
from pygan.data import Dataset
from pygan.errors import ConfigError, TraceError
from pygan.files import finite, write_json, write_text
from pygan.parity.claims import CORRECTNESS, EVERY
from pygan.parity.free_run import CLOSE, PictureStep, shown
from pygan.parity.initial import compare_initial
from pygan.parity.levels import layout_rows, structure_rows
from pygan.parity.report import Report, Row
from pygan.parity.shipped import proves, shipped, unlike
from pygan.parity.sides import Live, Recorded, Together
from pygan.parity.tolerances import PIXEL
from pygan.parity.verdicts import AGREE, DIFFERS
from pygan.pictures.contact_sheet import write_contact_sheet
from pygan.pictures.gif import write_gif
from pygan.pictures.of_record import grid_of
from pygan.pictures.plots import divergence_plot, loss_plot
from pygan.pictures.side_by_side import SideBySideFrame, write_side_by_side
from pygan.records import StepRecord
from pygan.traces import Trace


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


# --- recordings of Flux ------------------------------------------------------------------------------------------


def recorded_pictures(config: Any, dataset: Dataset) -> Trace:
    """The shipped trace of this run of real Flux with the most pictures. Raises ``TraceError`` where there is none."""
    return max(_fitting(config, dataset), key=lambda trace: sum(1 for record in trace if record.pictures))


def recorded_step(config: Any, dataset: Dataset) -> Trace:
    """The shipped trace of this run of real Flux that says most of its first step: one with its Float64 twin, else with
    anything to compare. Raises ``TraceError`` where there is none."""
    return max(
        _fitting(config, dataset), key=lambda trace: (trace.twin(0) is not None, not_judged(config, trace) == "")
    )


def _fitting(config: Any, dataset: Dataset) -> list[Trace]:
    """The shipped traces of Flux with this config, seed and data. Raises ``TraceError`` saying what there is."""
    fitting, held = [], []
    for trace in shipped():
        if not misfits(trace, config, dataset):
            fitting.append(trace)
        about, name = trace.header.config, trace.folder.name
        held.append(f"{name} (on {trace.header.data['name']}, width {about.get('width')}, {about.get('dtype')})")
    if fitting:
        return fitting
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
    wanted, given = config.to_dict(), trace.config
    faults = [f"{key} = {given.get(key)!r}, wanted {wanted.get(key)!r}" for key in unlike(trace, wanted)]
    if trace.header.stack != "flux":
        faults.append(f"stack = {trace.header.stack!r}")
    if trace.header.data.get("sha256") != dataset.sha256:
        faults.append(f"data = {trace.header.data.get('name')} of other content than {dataset.name}")
    return faults


def first_steps(trace: Trace, total: int, every: int) -> list[StepRecord]:
    """Losses of a run's first ``total`` steps, and its pictures every ``every`` steps.

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
        if record.step < total or record.step == total == held:
            pictures = record.pictures if record.step % every == 0 or record.step == total else {}
            kept.append(StepRecord(record.step, loss=record.loss, pictures=pictures))
    return kept


def other_cadence(trace: Trace, kept: Sequence[StepRecord], total: int, every: int) -> str:
    """What a user must know before the run where the recording lacks pictures that ``every`` asks for; else empty."""
    asked, held = len(range(0, total, every)), sum(bool(one.pictures) for one in kept if one.step < total)
    if held == asked:
        return ""
    own = math.gcd(*(step for step in trace.steps_with("pictures") if step < trace.training_steps))
    return (
        f"Flux's recording has pictures at {held} of the {asked} steps that --every {every} asks for; only these are "
        f"shown; its own are drawn with --every {own}."
    )


def paired(run: Run, other: Run) -> Run:
    """``run`` with pictures only where ``other`` has some too: a recording has them at steps of its own, and one that
    goes on, or was cut, has no closing ones."""
    theirs = {record.step for record in other.framed}
    kept = [record for record in run.records if record.loss or record.step in theirs]
    return replace(run, records=[one if one.step in theirs else replace(one, pictures={}) for one in kept])


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


# --- what is said of the two runs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepVerdict:
    """The verdict on the first step, with its reason, the claims that were looked at, and whose step it was held to."""

    verdict: str
    reason: str
    rows: tuple[Row, ...] = ()
    against: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, in which a number that is not finite is None."""
        return finite(asdict(self))  # type: ignore[no-any-return]


def not_judged(config: Any, trace: Trace | None) -> str:
    """Why nothing can be said of the first step; empty where something can. ``trace`` is None beside live Flux."""
    if config.randomness == "native":
        return "with native random numbers each stack draws its own, and there is no step that both take"
    if trace is None:
        return ""
    if not proves(trace):
        return "the recording holds pictures and losses only"
    return "" if trace.initial() is not None else "the recording holds neither the initial state nor digests of it"


def first_step(torch: Live, flux: Live | Trace) -> StepVerdict:
    """Judge the first step of both stacks from the same initial state, as ``pygan parity`` does."""
    from pygan.parity.referee import Referee
    from pygan.parity.stepping import Stepping

    reference = flux if isinstance(flux, Live) else Recorded(flux)
    initial = compare_initial(torch.initial(), reference.initial())
    rows = layout_rows(initial.checks)
    if initial.fits:
        together = Together(torch, reference)
        stepping = Stepping(together, Referee(torch.config, torch.dataset))
        for _ in stepping.run(range(1)):
            pass
        rows += [*structure_rows(together, stepping.first), initial.row, *stepping.rows()]
    rows.sort(key=lambda row: row.level)
    verdict = Report(torch.title, reference.title, torch.config.to_dict(), {}, tuple(rows)).verdict
    against = live_title(flux.stack) if isinstance(flux, Live) else f"{recorded_title(flux)}: {flux.folder.name}"
    return StepVerdict(verdict, _reason(verdict, rows), tuple(rows), against)


def _reason(verdict: str, rows: Sequence[Row]) -> str:
    """One line: what differs, what agrees, or why nothing can be said."""
    named = {row.claim: row for row in rows}
    if verdict == DIFFERS:
        row = next(row for row in rows if row.verdict == DIFFERS)
        numbers = "" if row.measured is None else f"{row.measured:.1e}, tolerance {row.allowed:.1e}"
        told = "; ".join(part for part in (row.where, numbers, row.reason) if part)
        return f"{row.claim}: {told}. `pygan parity` looks for the place and the cause"
    proof = named.get(CORRECTNESS, named.get(EVERY))
    if verdict != AGREE or proof is None:
        return proof.reason if proof and proof.reason else "both runs have no part of the first step in common"
    told = f"the same step in Float64 ({proof.compared} tensors, largest relative difference {proof.minimum:.1e})"
    return f"{told}, and in Float32 they differ by rounding alone" if CORRECTNESS in named else told


@dataclass(frozen=True)
class Shown:
    """How far the pictures of two free runs lie apart, by step; how many from the first on are equal in every byte; up
    to which step the eye sees no difference. ``unfit``: a picture is not finite, or not of the other run's size."""

    reason: str
    steps: Sequence[PictureStep] = ()
    close_until: int | None = None
    unfit: bool = False
    equal: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, in which a number that is not finite is None."""
        return {name: value for name, value in finite(asdict(self)).items() if name != "unfit"}


def pictures_shown(flux: Run, torch: Run, config: Any) -> Shown:
    """The pictures of both free runs: shown with their distance, not judged."""
    theirs = {record.step: record for record in flux.framed}
    pairs = [_alike(one, theirs[one.step]) for one in torch.framed if one.step in theirs]
    found = shown([mine for mine, _ in pairs], [other for _, other in pairs])
    near = itertools.takewhile(lambda one: _near(*one), zip(found.steps, pairs, strict=True))
    until = max((step.step for step, _ in near), default=None)
    unfit = found.verdict == DIFFERS
    if unfit or not found.steps:
        return Shown(found.reason, found.steps, until, unfit)
    equal = sum(1 for _ in itertools.takewhile(lambda pair: _same_bytes(*pair), pairs))
    if equal == len(pairs):
        told = f"all {equal} of both free runs are equal in every byte of the GIFs, up to step {pairs[-1][0].step}"
        return Shown(told, found.steps, until, equal=equal)
    why = "each run draws its own random numbers" if config.randomness == "native" else "free runs part by rounding"
    close = "no" if until is None else f"to step {until} their"
    told = f"{why}; their pictures are shown, not judged: {close} relative difference is below {CLOSE:.0%}"
    if any("values" not in mine.pictures for mine, _ in pairs):
        told += f", or no pixel of the recorded 8-bit pictures is off by more than {PIXEL} grey level"
    if equal:
        told += f"; the first {equal} of {len(pairs)} are equal in every byte of the GIFs"
    return Shown(told, found.steps, until, equal=equal)


def _alike(one: StepRecord, other: StepRecord) -> tuple[StepRecord, StepRecord]:
    """Both records with 8-bit pictures where either has nothing else: exact values beside them would differ by the
    rounding to 8 bits."""
    both = (one, other)
    values = [record.pictures["values"] for record in both if "values" in record.pictures]
    if len(values) == 1 and np.isfinite(values[0]).all():
        one, other = (replace(record, pictures={"grid": grid_of(record)}) for record in both)
    return one, other


def _same_bytes(one: StepRecord, other: StepRecord) -> bool:
    """Do both records' pictures give the same 8-bit grid?"""
    return bool(np.array_equal(grid_of(one), grid_of(other)))


def _near(step: PictureStep, pair: tuple[StepRecord, StepRecord]) -> bool:
    """Does the eye see no difference? A pixel of 8 bits is off by one level wherever rounding falls between values."""
    grids = [record.pictures["grid"] for record in pair if "values" not in record.pictures]
    levels = np.abs(grids[0].astype(np.int16) - grids[1]) if len(grids) == 2 and np.isfinite(step.relative) else None
    return step.relative <= CLOSE or (levels is not None and int(levels.max()) <= PIXEL)


# --- files -------------------------------------------------------------------------------------------------------


def write_gifs(
    out: Path,
    flux: Run,
    torch: Run,
    step: StepVerdict,
    pictures: Shown,
    fps: float,
    facts: dict[str, Any],
    written: Callable[[Path], None] = lambda path: None,
) -> None:
    """Write ``flux.gif``, ``torch.gif``, ``side_by_side.gif``, three plots, ``summary.json`` and ``summary.md``."""
    if not torch.framed or not flux.framed:
        raise ConfigError("neither GIF can be made without pictures; run at least one step with --every 1")
    milliseconds = 0
    for name, run in (("flux.gif", flux), ("torch.gif", torch)):
        milliseconds = write_gif(out / name, [grid_of(record) for record in run.framed], fps)
        written(out / name)
    frames = side_by_side_frames(flux, torch, step, pictures)
    write_side_by_side(out / "side_by_side.gif", frames, (flux.title, torch.title), fps)
    written(out / "side_by_side.gif")
    for path in write_plots(out, flux, torch, pictures):
        written(path)
    summary = {
        **verdicts(step, pictures),
        "gif": {"frames": len(torch.framed), "milliseconds_a_frame": milliseconds, "loop": "forever"},
        "flux": {"title": flux.title, **flux.facts},
        "torch": {"title": torch.title, **torch.facts},
        "environment": environment.describe(),
        **facts,
    }
    write_json(out / "summary.json", summary)
    written(out / "summary.json")
    write_text(out / "summary.md", summary_text(flux, torch, step, pictures))
    written(out / "summary.md")


def verdicts(step: StepVerdict, pictures: Shown) -> dict[str, Any]:
    """Both statements as ``summary.json`` has them."""
    return {**step.to_dict(), "pictures": pictures.to_dict()}


def write_plots(out: Path, flux: Run, torch: Run, pictures: Shown) -> list[Path]:
    """Write ``contact_sheet.png``, ``losses.png`` and, where pictures were compared, ``divergence.png``."""
    titles = (flux.title, torch.title)
    grids = [{record.step: grid_of(record) for record in run.framed} for run in (flux, torch)]
    files = [out / "contact_sheet.png", out / "losses.png"]
    write_contact_sheet(files[0], grids[0], grids[1], titles)
    loss_plot(files[1], _loss_series(flux), _loss_series(torch), titles)
    compared = [step for step in pictures.steps if np.isfinite(step.relative)]
    if compared:
        files.append(out / "divergence.png")
        divergence_plot(files[2], [step.step for step in compared], {"pictures": [step.relative for step in compared]})
    return files


def _loss_series(run: Run) -> dict[str, tuple[list[int], list[float]]]:
    series: dict[str, tuple[list[int], list[float]]] = {}
    for record in run.records:
        for name, value in record.loss.items():
            steps, values = series.setdefault(name, ([], []))
            steps.append(record.step)
            values.append(float(value))
    return series


def side_by_side_frames(flux: Run, torch: Run, step: StepVerdict, pictures: Shown) -> list[SideBySideFrame]:
    """One frame per step that has pictures in either run; at its foot how far they lie apart, and the verdict on the
    first step."""
    left, right = ({record.step: record for record in run.framed} for run in (flux, torch))
    compared = {one.step: one for one in pictures.steps}
    frames = []
    for number in sorted(left.keys() | right.keys()):
        a, b, both = left.get(number), right.get(number), compared.get(number)
        note = f"First step: {step.verdict}."
        if both and both.verdict != DIFFERS:
            apart = f"Relative difference of the pictures {both.relative:.1e} (free runs: shown, not judged)."
            same = a is not None and b is not None and _same_bytes(a, b)
            note = f"{'Both pictures are equal in every byte.' if same else apart} {note}"
        frames.append(
            SideBySideFrame(
                step=number,
                left=grid_of(a) if a else None,
                right=grid_of(b) if b else None,
                left_losses={name: float(value) for name, value in a.loss.items()} if a else {},
                right_losses={name: float(value) for name, value in b.loss.items()} if b else {},
                verdict=DIFFERS if both and both.verdict == DIFFERS else "",
                note=note,
            )
        )
    return frames


def summary_text(flux: Run, torch: Run, step: StepVerdict, pictures: Shown) -> str:
    """The summary for a reader: the verdict on the first step, then the pictures, one row each."""
    against = f" (held to {step.against})" if step.against else ""
    lines = [
        f"# {flux.title} against {torch.title}",
        "",
        f"First step: **{step.verdict}**{against}: {step.reason}.",
        "",
        f"Pictures: {pictures.reason}.",
        "",
        "| step | relative difference of pictures | D loss Flux | D loss PyTorch | G loss Flux | G loss PyTorch |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for one in pictures.steps:
        losses = [f"{value:.6f}" for name in sorted(one.losses) for value in reversed(one.losses[name])]
        cells = [str(one.step), f"{one.relative:.1e}", *(losses or [""] * 4)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
