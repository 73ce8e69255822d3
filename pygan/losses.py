"""The losses of a run as a table and as a plot."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from pygan.files import write_bytes
from pygan.pictures.plots import losses_of_runs_plot
from pygan.records import StepRecord

FILES = ("losses.csv", "losses.png")


def write_losses(folder: Path, records: Iterable[StepRecord], label: str) -> list[Path]:
    """Write ``losses.csv`` (a row a step, counted from 0, a column a loss, every digit of its dtype) and
    ``losses.png``; nothing where no record has a loss. Raises ``OutputError`` where they cannot be written."""
    rows = [(record.step, record.loss) for record in records if record.loss]
    names = list(dict.fromkeys(name for _, losses in rows for name in losses))
    if not rows:
        return []
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["step", *names])
    table.writerows([step, *(str(losses[name]) if name in losses else "" for name in names)] for step, losses in rows)
    files = [folder / name for name in FILES]
    write_bytes(files[0], text.getvalue().encode())
    curves = {name: [(step, float(losses[name])) for step, losses in rows if name in losses] for name in names}
    series = {name: ([step for step, _ in curve], [value for _, value in curve]) for name, curve in curves.items()}
    losses_of_runs_plot(files[1], {label: series})
    return files
