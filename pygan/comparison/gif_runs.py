"""The two runs of a ``pygan gif`` folder, read from its summary and its GIFs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pygan.comparison.runs import FinishedRun, machine, part
from pygan.comparison.trained_runs import trace_run
from pygan.errors import DataError
from pygan.files import read_json
from pygan.pictures.gif import read_gif

STACKS = ("flux", "torch")


def gif_runs(folder: Path) -> list[FinishedRun]:
    """The runs in ``folder``, Flux first."""
    summary = _summary(folder)
    found = [gif_run(folder, stack, f"{folder}, {stack}") for stack in STACKS if stack in summary]
    if not found:
        raise DataError(f"{folder / 'summary.json'} names neither flux nor torch, so it is no summary of `pygan gif`")
    return found


def gif_run(folder: Path, stack: str, name: str) -> FinishedRun:
    """The run of ``stack`` in ``folder``; its losses are those of the steps with pictures, or those of the trace that a
    stopped run left."""
    path = folder / "summary.json"
    summary = _summary(folder)
    if stack not in STACKS or stack not in summary:
        raise DataError(f"{path} tells of no run called {stack!r}; name flux.gif, torch.gif or a run's folder")
    facts = part(summary, stack, dict, path)
    live = bool(facts.get("live"))
    steps = part(summary, "steps_done", dict, path).get(stack, summary.get("steps"))
    if type(steps) is not int or steps < 0:
        raise DataError(f"{path}: steps is {steps!r:.60}, expected a whole number")
    seconds = facts.get("seconds")
    run = FinishedRun(
        name,
        str(facts.get("title", stack)),
        part(summary, "config", dict, path),
        part(summary, "data", dict, path),
        machine(part(summary, "environment", dict, path) if live else facts),
        steps,
        seconds=float(seconds) if isinstance(seconds, int | float) and math.isfinite(seconds) else None,
    )
    trace = folder / f"{stack}.trace"
    if trace.name in part(summary, "files", list, path):
        whole = trace_run(trace)
        return replace(run, losses=whole.losses, pictures=whole.pictures, states=whole.states)
    drawn = part(part(summary, "pictures", dict, path), "steps", list, path)
    return _with_pictures(replace(run, losses=_losses(drawn, stack)), drawn, folder / f"{stack}.gif")


def _losses(drawn: list[Any], stack: str) -> dict[str, dict[int, float]]:
    """Losses at the steps with pictures; the summary gives each as ``[torch, flux]``."""
    losses: dict[str, dict[int, float]] = {}
    for one in drawn:
        for name, pair in one["losses"].items():
            value = pair[stack == "flux"]
            losses.setdefault(name, {})[int(one["step"])] = math.nan if value is None else float(value)
    return losses


def _with_pictures(run: FinishedRun, drawn: list[Any], path: Path) -> FinishedRun:
    """``run`` with the frames of its GIF, the last one in any case."""
    if not path.is_file() or not run.steps:
        return run
    frames = read_gif(path).frames
    if len(frames) == len(drawn):
        done = [int(one["step"]) + (int(one["step"]) < run.steps) for one in drawn]
        return replace(run, pictures=list(zip(done, frames, strict=True)))
    note = f"summary.json does not say when the {len(frames)} frames of {path} were drawn: only the last is used"
    return replace(run, pictures=[(run.steps, frames[-1])], notes=(*run.notes, note))


def _summary(folder: Path) -> Mapping[str, Any]:
    path = folder / "summary.json"
    try:
        found = read_json(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no JSON object")
    return found
