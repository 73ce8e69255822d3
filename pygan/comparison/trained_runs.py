"""Runs as ``pygan train``, ``pygan record`` and ``train.jl`` leave them: a trace, PNG files, the state of the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pygan import state as states
from pygan.comparison.runs import FinishedRun, machine, part, stack_title
from pygan.errors import DataError
from pygan.pictures.of_record import grid_of
from pygan.pictures.png import check_picture, picture_files, read_png
from pygan.state import State
from pygan.traces import Trace

EXPECTED = "trace.json, a folder *.trace, state.safetensors, dcgan_steps_*.png, or summary.json of `pygan gif`"


def trace_run(folder: Path) -> FinishedRun:
    """The run that the trace in ``folder`` holds."""
    trace = Trace(folder)
    about = trace.header
    for key in ("config", "data", "environment"):
        part(about.__dict__, key, dict, folder / "trace.json")
    losses: dict[str, dict[int, float]] = {}
    pictures, kept = [], {}
    for record in trace:
        done = record.step + 1 if record.loss else record.step  # the closing pictures come after no step
        for name, value in record.loss.items():
            losses.setdefault(name, {})[record.step] = float(value)
        if record.pictures:
            check_picture(grid_of(record))
            pictures.append((done, grid_of(record)))
        if record.state:
            kept[done] = _state_of(trace, record.step)
    described = part(about.environment, "stack", dict, folder / "trace.json")
    return FinishedRun(
        str(folder),
        stack_title(str(about.stack), described),
        about.config,
        about.data,
        machine(about.environment),
        len({step for values in losses.values() for step in values}),
        losses,
        pictures,
        kept,
    )


def _state_of(trace: Trace, step: int) -> Callable[[], State]:
    return lambda: trace.record(step).state


def trained_runs(folder: Path) -> list[FinishedRun]:
    """What ``pygan train`` or ``train.jl`` left in ``folder``: a run for each trace, as both stacks may share it."""
    traces = [trace_run(path.parent) for path in sorted(folder.glob("*.trace/trace.json")) if path.is_file()]
    state, files = folder / "state.safetensors", picture_files(folder)
    if len(traces) > 1:
        note = f"{folder} holds several traces: its state and pictures may be of any and are left out"
        return [replace(run, notes=(note,)) for run in traces]
    if not traces and not state.is_file() and not files:
        raise DataError(f"{folder} holds no run; expected {EXPECTED}")
    run = replace(traces[0], name=str(folder)) if traces else FinishedRun(str(folder))
    if state.is_file():
        run = _with_state(run, state)
    if not run.pictures and files:
        run = _with_pictures(run, files)
    return [run]


def _with_state(run: FinishedRun, path: Path) -> FinishedRun:
    """``run`` with the state of its end, if that is what ``path`` holds: another run may have left it there."""
    state, config = states.load(path)
    step = int(state["step"]) if "step" in state else None
    if run.config and config != run.config:
        return replace(run, notes=(*run.notes, f"{path} has another config than the trace and is left out"))
    if step is None or run.steps not in (None, step):
        at = "says no step" if step is None else f"is of step {step}, the trace ends at {run.steps},"
        return replace(run, notes=(*run.notes, f"{path} {at} and is left out"))
    return replace(run, config=config, steps=step, states={**run.states, step: lambda: state})


def _with_pictures(run: FinishedRun, files: list[Path]) -> FinishedRun:
    """``run`` with the PNG files of a training that has no pictures in a trace."""
    named = {path.stem.rpartition("_")[2]: path for path in files}
    numbered = {int(number): path for number, path in named.items() if number.isdecimal()}
    end = run.steps if run.steps is not None else max(numbered, default=0)  # a whole training closes with its total
    return replace(run, pictures=[(step + (step != end), read_png(numbered[step])) for step in sorted(numbered)])
