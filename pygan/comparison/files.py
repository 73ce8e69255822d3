"""A comparison as files: curves, last pictures, JSON."""

from __future__ import annotations

from pathlib import Path

from pygan.comparison.compare import Comparison
from pygan.comparison.table import count, plain
from pygan.errors import ConfigError
from pygan.files import write_json
from pygan.pictures.panels import Panel, write_panels
from pygan.pictures.plots import losses_of_runs_plot


def check_folder(out: Path, runs: list[Path]) -> None:
    """Raise ``ConfigError`` where ``out`` is the folder of a run, whose files would be replaced."""
    for path in runs:
        if out.resolve() == (path.parent if path.is_file() else path).resolve():
            raise ConfigError(f"--out {out} holds the run {path}; choose another folder")


def write_comparison(out: Path, found: Comparison) -> list[Path]:
    """Write ``losses.png`` and ``last_pictures.png``, each where something was recorded, and ``comparison.json``."""
    names = [f"{label}: {plain(run.name)}" for label, run in zip(found.labels, found.runs, strict=True)]
    files = []
    if found.losses:
        files.append(out / "losses.png")
        curves = {
            name: {loss: (list(values), list(values.values())) for loss, values in run.losses.items()}
            for name, run in zip(names, found.runs, strict=True)
        }
        losses_of_runs_plot(files[-1], curves)
    if any(run.pictures for run in found.runs):
        files.append(out / "last_pictures.png")
        write_panels(files[-1], _panels(found, names))
    files.append(out / "comparison.json")
    content = {**found.to_dict(), "files": [path.name for path in files]}
    write_json(files[-1], content)
    return files


def _panels(found: Comparison, names: list[str]) -> list[list[Panel]]:
    """A row of every run's last pictures, and where these are not after equally many steps, a row of the last that all
    runs drew."""
    ends = [run.last_drawn for run in found.runs]
    rows = [ends]
    if found.drawn is not None and set(ends) != {found.drawn}:
        rows.append([found.drawn] * len(ends))
    return [
        [
            Panel(name, "" if at is None else f"after {count(at)}", run.drawn(at))
            for name, run, at in zip(names, found.runs, row, strict=True)
        ]
        for row in rows
    ]
