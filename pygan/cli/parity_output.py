"""What ``pygan parity`` prints: progress, the table of levels, a diagnosis, and one spot of one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pygan.cli.output import console

if TYPE_CHECKING:
    from pygan.parity.report import Report
    from pygan.parity.sides import Side

_STYLES = {"agree": "green", "differs": "bold red", "beyond horizon": "yellow", "not run": "dim"}


class Bar:
    """Progress of a comparison; call it with what is done, how far and of how many steps."""

    def __enter__(self) -> Bar:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._progress.start()
        self._tasks: dict[str, Any] = {}
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of ``what`` are done."""
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done)


def number(value: float | None) -> str:
    """A tolerance or error in few characters."""
    return "" if value is None else ("0" if value == 0 else f"{value:.1e}")


def print_report(report: Report) -> None:
    """The table of levels, and the diagnosis where the runs differ."""
    from pygan.parity.report import LEVELS

    config = report.config
    console.print(
        f"{report.candidate} against {report.reference}: {config['recipe']}, {config['dtype']}, seed {config['seed']}",
        style="bold",
        markup=False,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, title in enumerate(("level", "", "of", "measured", "admitted", "would pass")):
        table.add_column(title, justify="left" if place < 2 else "right", no_wrap=place > 0)
    level, notes = 0, []
    for row in report.rows:
        if row.level != level:
            level = row.level
            table.add_row(f"[bold]{level:>2} {LEVELS[level]}[/]")
        cells = (str(row.compared or ""), number(row.measured), number(row.allowed), number(row.minimum))
        table.add_row(f"   {row.claim}", f"[{_STYLES[row.verdict]}]{row.verdict}[/]", *cells)
        if row.verdict != "agree" or "never updated" in row.reason:
            told = "; ".join(part for part in (row.where, row.reason) if part)
            notes.append(f"level {row.level}, {row.claim}: {row.verdict}; {told}")
    console.print(table)
    for note in notes:
        console.print(note, markup=False)
    if report.minimum is not None:
        console.print(f"smallest relative tolerance that passes every step: {number(report.minimum)}", markup=False)
    if report.diagnosis is not None:
        console.print(f"\n{report.diagnosis}", markup=False)
        console.print(f"replay this spot: {report.replay}", markup=False)
    console.print(f"\n{report.verdict}", style=_STYLES[report.verdict], markup=False)


def print_spot(candidate: Side, reference: Side, step: int, key: str) -> None:
    """Both runs' values of one tensor at one step, its worst elements in both layouts, from equal and free inputs."""
    from pygan.parity.spot import look

    found = look(candidate, reference, step, key)
    console.print(f"step {step}: {found.title}", style="bold", markup=False)
    for line in found.lines:
        console.print(line, markup=False)
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for title in ("element (PyTorch)", "element (Julia)", "candidate", "reference", "difference"):
        table.add_column(title, justify="right")
    for place, flux, mine, theirs in found.elements:
        told = (str(list(place)), str(list(flux)) if flux else "", f"{mine:.9g}", f"{theirs:.9g}")
        table.add_row(*(cell.replace("[", "\\[") for cell in told), f"{np.float64(mine) - np.float64(theirs):.3g}")
    console.print(table)
