"""The program: its commands, and how it ends. Loads neither torch nor Julia; each command imports what it needs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from pygan import __version__
from pygan.cli import bench, compare, data, doctor, gif, julia, new, parity, recipes, record, sample, train
from pygan.cli.faults import BAD_INPUT, expected, explained, interrupted, is_usage, write_log
from pygan.cli.options import Command, asked_recipe
from pygan.cli.output import folded, json_printed, print_json
from pygan.cli.process import ignore_further, lasting_streams, signals_end_it, stop_code
from pygan.config import RunConfig


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
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(options)
    for name, command in COMMANDS.items():
        app.command(name)(command.of(kind) if isinstance(command, Command) else command)
    app.add_typer(data.app, name="data")
    app.add_typer(julia.app, name="julia")
    return app


def run() -> None:
    """Run the command line to its end: always by ``SystemExit``, or by returning where all is well.

    No exception leaves with 1, which means "differs", and none shows its traceback.
    """
    json_printed.clear()
    with lasting_streams(), signals_end_it():
        code = _code()
    if code:
        sys.exit(code)


def _code() -> int:
    try:
        code = make_app(asked_recipe(sys.argv[1:]))(standalone_mode=False) or 0
        if code == 130:  # typer's word for Ctrl-C
            raise KeyboardInterrupt
        return int(code)
    except KeyboardInterrupt:
        return _stopped()
    except SystemExit as stop:
        return _code_of(stop)
    except BaseException as error:
        aborted = type(error).__name__ == "Abort"  # what typer makes of an EOFError
        cause = error.__cause__ if aborted and error.__cause__ else error
        return _stopped() if interrupted(cause) else _failed(cause)


def _code_of(stop: SystemExit) -> int:
    """A command's own exit code."""
    return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else BAD_INPUT


def _stopped() -> int:
    ignore_further()
    _error_console().print("stopped; every file written so far is valid")
    _answer_once({"exit_code": stop_code(), "stopped": True})
    return stop_code()


def _failed(error: BaseException) -> int:
    """Say in one message what went wrong, with the details of the unexpected in a file; returns the exit code."""
    code, words = explained(error)
    if is_usage(error) and "--json" not in sys.argv:
        from typer import rich_utils

        rich_utils.rich_format_error(error)  # type: ignore[arg-type]
        return code
    log = "" if expected(error) else write_log(error)
    console = _error_console()
    text = f"error: {words}" + (f"; details are in {log}" if log else "")
    message = Text(folded(text, console.width) if sys.stderr.isatty() else text)
    message.stylize("bold red", 0, len("error:"))
    console.print(message)
    _answer_once({"exit_code": code, "error": words, **({"log": log} if log else {})})
    return code


def _error_console() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)


def _answer_once(end: dict[str, Any]) -> None:
    """With ``--json``, answer a machine whatever happened, unless the command has."""
    if "--json" in sys.argv and not json_printed:
        print_json(end)
