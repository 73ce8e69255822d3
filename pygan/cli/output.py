"""What commands print: progress with rate, time left and losses, the lines around it, and answers for machines."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from pygan.cli.faults import explained
from pygan.config import RunConfig
from pygan.records import StepRecord
from pygan.stacks import Stack


class PatientConsole(Console):
    """A console whose reader may go away (``head``, ``less``): the run goes on and no more is printed."""

    def on_broken_pipe(self) -> None:
        """Print no more."""
        silence(self.file)


def open_closed_streams() -> None:
    """Give a process that was started with closed standard streams (``>&-``) ones that go nowhere: else the next files
    that it opens would take their numbers, and be written by whoever prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8", closefd=False))


def silence(stream: IO[str]) -> None:
    """Let what is still written to a stream whose reader is gone go nowhere."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def flush_or_silence() -> None:
    """Flush both standard streams; one whose reader is gone is silenced, so that Python's end is quiet too."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            silence(stream)
        except (ValueError, AttributeError):  # it is closed, or there is none
            pass


console = PatientConsole(soft_wrap=True, highlight=False)
"""Where text for people goes: standard output, or standard error while a command answers with ``--json``."""


@contextlib.contextmanager
def answering(as_json: bool) -> Iterator[dict[str, Any]]:
    """What a command has to say to a machine; the block fills it in.

    With ``as_json`` it is printed as one JSON object on standard output, however the block ends: with ``exit_code``,
    and ``error`` or ``stopped`` where it failed or was stopped. Text for people then goes to standard error.
    """
    answer: dict[str, Any] = {}
    if not as_json:
        yield answer
        return
    end: dict[str, Any] = {"exit_code": 0}
    console.stderr = True
    try:
        yield answer
    except Exception as error:
        code, words = explained(error)
        end = {"exit_code": code, "error": words}
        raise
    except KeyboardInterrupt:
        end = {"exit_code": 130, "stopped": True}
        raise
    except SystemExit as stop:
        end = {"exit_code": stop.code}
        raise
    finally:
        console.stderr = False
        print_json({**answer, **end})


json_printed: list[bool] = []
"""Not empty once this process has answered a machine."""


def print_json(value: Any) -> None:
    """Write ``value`` as JSON in ASCII on standard output; paths become text, what JSON lacks (NaN, inf) null."""
    json_printed.append(True)
    try:
        sys.stdout.write(json.dumps(_plain(value), indent=1, allow_nan=False) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


Row = tuple[str, str, str]
"""One fact about this machine: what, state (``ok``, ``gap``, ``broken`` or ``unverified``), detail."""

_COLOURS = {"ok": "green", "gap": "yellow", "broken": "red", "unverified": "magenta"}


def show_rows(rows: Sequence[Row], as_json: bool) -> None:
    """Print facts as a table, or as a JSON list of objects.

    A terminal shows details in a column of their own. Indented lines of a detail are commands: they start at the left
    and are never cut, so that they can be copied.
    """
    if as_json:
        print_json([dict(zip(("what", "state", "detail"), row, strict=True)) for row in rows])
        return
    widths = [max(map(len, column)) + 2 for column in zip(("what", "state", ""), *rows, strict=True)][:2]
    margin = " " * sum(widths)
    room = max(30, console.width - len(margin)) if console.file.isatty() else sys.maxsize
    console.print(f"{'what':{widths[0]}}{'state':{widths[1]}}detail", style="bold", markup=False)
    for what, state, detail in rows:
        line = Text(f"{what:{widths[0]}}")
        line.append(f"{state:{widths[1]}}", style=_COLOURS[state])
        lines = folded(detail, room).split("\n")
        line.append("\n".join(part if part.startswith("  ") else margin + part for part in lines).removeprefix(margin))
        console.print(line)


def folded(text: str, width: int) -> str:
    """``text`` in lines of at most ``width``, broken between words; an indented line is a command and stays whole."""
    lines: list[str] = []
    for line in text.split("\n"):
        whole = line.startswith("  ") or len(line) <= width
        lines += [line] if whole else textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Steps a second."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.2f}/s" if speed else "-/s", style="cyan")


def progress_bar() -> Progress:
    """A bar with count, rate, time left and a free text (the losses)."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
        console=console,
        refresh_per_second=4,
    )


def followed(records: Iterable[StepRecord], label: str, steps: int) -> Iterator[StepRecord]:
    """Pass ``records`` through while a progress bar shows them; plain lines where there is no terminal.

    Ctrl-C takes effect between two steps, so that a state saved after it is one that a run really has.
    """
    with interrupts_held() as stop_if_asked:
        for record in _shown(records, label, steps):
            yield record
            stop_if_asked()


BETWEEN_STEPS = "between two steps"
"""What a Ctrl-C carries that took effect where the state is whole; one without it may have cut a step in half."""


@contextlib.contextmanager
def interrupts_held() -> Iterator[Callable[[], None]]:
    """Hold the first Ctrl-C back until the yielded function is called; a second one takes effect at once."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: None  # another thread's business, or Ctrl-C is ignored
        return
    asked = False

    def hold(*_: Any) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)

    def stop_if_asked() -> None:
        if asked:
            raise KeyboardInterrupt(BETWEEN_STEPS)

    signal.signal(signal.SIGINT, hold)
    try:
        yield stop_if_asked
    finally:
        signal.signal(signal.SIGINT, before)


def _shown(records: Iterable[StepRecord], label: str, steps: int) -> Iterator[StepRecord]:
    if not console.file.isatty():
        for record in records:
            if record.loss and (record.step % max(1, steps // 10) == 0 or record.step == steps - 1):
                console.print(f"{label}: step {record.step + 1}/{steps}  {losses(record)}", markup=False)
            yield record
        return
    with progress_bar() as bar:
        task = bar.add_task(label, total=steps, info="")
        for record in records:
            if record.loss:
                bar.update(task, completed=record.step + 1, info=short_losses(record))
            yield record


def losses(record: StepRecord) -> str:
    """``discriminator loss 1.3863  generator loss 0.6931`` from a record's losses."""
    return "  ".join(f"{name} loss {float(value):.4f}" for name, value in record.loss.items())


def short_losses(record: StepRecord) -> str:
    """``loss D 1.3863  G 0.6931``, so that a progress bar has room in 80 columns."""
    return "loss " + "  ".join(f"{name[0].upper()} {float(value):.4f}" for name, value in record.loss.items())


def say(text: str, style: str = "", label: str = "") -> None:
    """Print text for people, on a terminal broken between words; ``style`` is the label's if there is one."""
    whole = f"{label} {text}" if label else text
    line = Text(folded(whole, console.width) if console.file.isatty() else whole)
    line.stylize(style, 0, len(label) or None)
    console.print(line)


def say_config(config: RunConfig) -> None:
    """Print in one line which recipe runs and which of its values are not the published ones."""
    values = [(item.name, getattr(config, item.name), item.default) for item in dataclasses.fields(config)]
    changed = [f"{name} = {value}" for name, value, default in values if value != default]
    say(f"{config.recipe}: {', '.join(changed) or 'as published'}", "dim")


def say_warning(stack: Stack) -> None:
    """Print what a stack that has just started must tell its user, if anything."""
    if warning := stack.describe().get("warning"):
        say(str(warning), "bold yellow", "warning:")


def say_notes(notes: Iterable[str]) -> None:
    """Print what a user must know of the data before a run on them."""
    for note in notes:
        say(note, "bold yellow", "warning:")


def say_rate(fps: float) -> None:
    """Print the rate of a GIF where it is not the one that was asked for: its times are hundredths of a second."""
    from pygan.pictures.gif import frame_milliseconds

    written = 1000 / frame_milliseconds(fps)
    if written != fps:
        say(f"a GIF cannot show {fps:g} pictures a second; it is written with {written:.4g} a second")


def say_caveats(config: RunConfig) -> None:
    """Print what a run of this config must tell its user."""
    for caveat in config.caveats:
        say(caveat, "bold yellow", "warning:")
