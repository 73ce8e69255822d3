"""What ``pygan parity`` prints: progress, the table of levels, a diagnosis, and one spot of one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pygan.cli.output import console, folded, say
from pygan.cli.parity_table import STYLES, closing_of, header_of, notes_of, number, table_of
from pygan.errors import ConfigError

if TYPE_CHECKING:
    from pygan.parity.report import Report
    from pygan.parity.sides import Side

NOTHING = "torch"
"""The first argument of ``pygan parity`` where none is given."""
LEGEND = (
    "measured and tolerance are relative differences (norm of the difference over the norm of the tensor), {of}, "
    "unless a unit is named; a row without numbers is a yes-or-no check; pygan parity --explain tells every level and "
    "word"
)
OF = {"float64": "between the two runs", "float32": "between a run and its Float64 referee"}


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


def print_report(report: Report) -> None:
    """Who was compared, the table of levels, the diagnosis where the runs differ, and the verdict with its extent."""
    from pygan.parity.causes.names import CAUSES

    for line in header_of(report):
        say(line, "bold")
    console.print()
    for text in table_of(report.rows, console.width):
        console.print(text)
    console.print()
    dtype = str(report.config["dtype"])
    say(LEGEND.format(of=OF[dtype]), "dim")
    for note in notes_of(report.rows):
        say(note)
    if report.minimum is not None:
        shown = "" if dtype == "float64" else " (the referee decides, not this)"
        say(f"largest relative difference between the two runs in one step: {number(report.minimum)}{shown}")
    if report.diagnosis is not None:
        console.print(f"\n{report.diagnosis}", markup=False)
        say(f"what to look at: {CAUSES[report.diagnosis.cause.name]}")
        if report.replay:
            console.print(f"replay this spot: {report.replay}", markup=False)
    console.print()
    say(closing_of(report), STYLES[report.verdict])


def print_explained(word: str) -> dict[str, str]:
    """Sentences for a level, claim or word, by name; for ``torch``, which is what no word is, everything there is."""
    from pygan.parity.explain import explained, names

    found = dict(names() if word == NOTHING else explained(word))
    if not found:
        raise ConfigError(f"--explain {word!r}: no such level, claim or word; pygan parity --explain lists them")
    for name, text in found.items():
        say(name, "bold")
        for line in folded(text, max(30, console.width - 2)).split("\n") if text else ():
            console.print(f"  {line}", markup=False)
    if word == NOTHING:
        say("pygan parity --explain 5, or tolerance, or 'sign flip'", "dim")
    return found


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
