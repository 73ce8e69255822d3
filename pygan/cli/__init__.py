"""The command line. Importing this loads neither torch nor Julia; each command imports what it needs."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from pygan.cli import doctor, gif, record, train
from pygan.errors import PyganError

app = typer.Typer(
    help="Does the PyTorch port of a Flux.jl GAN compute the same thing? pygan runs both and shows it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("gif")(gif.gif)
app.command("train")(train.train)
app.command("record")(record.record)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line; every foreseeable fault is one message and an exit code (see :mod:`pygan.errors`)."""
    error_console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        app()
    except PyganError as error:
        error_console.print("[bold red]error:[/]", end=" ")
        error_console.print(str(error), markup=False)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:  # typer turns Ctrl-C into SystemExit(130)
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        error_console.print("stopped; every file written so far is valid")
        sys.exit(130)
