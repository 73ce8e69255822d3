"""``pygan compare``: two finished runs side by side, without a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from pygan.cli.options import JsonOption
from pygan.cli.output import answering, console, say
from pygan.cli.places import OverwriteOption, result_folder

if TYPE_CHECKING:
    from pygan.comparison.compare import Comparison

_RUN = "Folder of a run, a trace, or a folder of `pygan gif` (or one GIF of it)."


def compare(
    one: Annotated[Path, typer.Argument(metavar="A", help=_RUN, show_default=False)],
    other: Annotated[Path, typer.Argument(metavar="B", help=_RUN, show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Also write losses.png, last_pictures.png and comparison.json here."),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show two finished runs side by side: config, losses, time, states and pictures. Nothing is judged.

    The runs may differ in anything (learning rate, seed, stack, data, length, recipe); `pygan parity` judges runs that
    should be the same. A folder of `pygan gif` holds two runs and shows both.
    """
    from pygan.comparison import files
    from pygan.comparison.compare import compare as compared
    from pygan.comparison.reading import read_runs

    with answering(as_json) as answer:
        if out is not None:
            files.check_folder(out, [one, other])
            result_folder(out, "", ("losses.png", "last_pictures.png", "comparison.json"), overwrite)
        found = compared([run for path in (one, other) for run in read_runs(path)])
        answer |= found.to_dict()
        _show(found)
        if out is not None:
            answer["files"] = files.write_comparison(out, found)
            for path in answer["files"]:
                console.print(f"wrote {path}", markup=False)


def _show(found: Comparison) -> None:
    from pygan.comparison.table import plain, rows

    for label, run in zip(found.labels, found.runs, strict=True):
        console.print(f"{label}  {plain(run.name)}", style="bold", markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("", *found.labels):
        table.add_column(title, overflow="fold")
    for what, cells in rows(found):
        table.add_row(Text(what), *map(Text, cells))
    console.print(table)
    for note in dict.fromkeys(note for run in found.runs for note in run.notes):
        say(plain(note), "bold yellow", "note:")
    say("Shown, not judged.", "dim")
