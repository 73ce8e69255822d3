"""The command line. Importing this loads neither torch nor Julia; each command imports what it needs."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from pygan import __version__
from pygan.cli import bench, compare, data, doctor, gif, julia, new, parity, recipes, record, sample, train
from pygan.cli.options import Command, asked_recipe
from pygan.cli.output import folded
from pygan.config import RunConfig
from pygan.errors import PyganError
from pygan.recipes.own import own_fault


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"pygan {__version__}")
        raise typer.Exit


def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and do no more.")
    ] = False,
) -> None:
    """Options of the program as a whole."""


COMMANDS: dict[str, Callable[..., None] | Command] = {
    "gif": gif.gif,
    "train": train.train,
    "parity": parity.parity,
    "compare": compare.compare,
    "sample": sample.sample,
    "record": record.record,
    "new": new.new,
    "bench": bench.bench,
    "recipes": recipes.recipes,
    "doctor": doctor.doctor,
}


def make_app(kind: type[RunConfig]) -> typer.Typer:
    """The commands, with the config options of one recipe."""
    app = typer.Typer(
        help="Does the PyTorch port of a Flux.jl model compute the same thing? pygan runs both and shows it.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(options)
    for name, command in COMMANDS.items():
        app.command(name)(command.of(kind) if isinstance(command, Command) else command)
    app.add_typer(data.app, name="data")
    app.add_typer(julia.app, name="julia")
    return app


def main() -> None:
    """Run the command line; every foreseeable fault is one message and an exit code (see :mod:`pygan.errors`)."""
    for stream in (sys.stdout, sys.stderr):  # a console that lacks a character shows "?" instead of ending the run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    error_console = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        make_app(asked_recipe(sys.argv[1:]))()
    except (PyganError, OSError) as error:
        text = f"error: {error}"
        message = Text(folded(text, error_console.width) if sys.stderr.isatty() else text)
        message.stylize("bold red", 0, len("error:"))
        error_console.print(message)
        sys.exit(error.exit_code if isinstance(error, PyganError) else PyganError.exit_code)
    except Exception as error:
        if not (told := own_fault(error)):
            raise
        error_console.print(Text(f"error: in your recipe: {told}"))
        sys.exit(PyganError.exit_code)
    except (KeyboardInterrupt, SystemExit) as stop:  # typer turns Ctrl-C into SystemExit(130)
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        error_console.print("stopped; every file written so far is valid")
        sys.exit(130)
