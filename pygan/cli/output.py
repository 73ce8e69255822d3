"""What commands print: progress with rate, time left and losses, the lines around it, and answers for machines."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from pygan.cli.faults import explained
from pygan.cli.process import interrupts_held, stop_code
from pygan.config import RunConfig
from pygan.divergence import Watch
from pygan.records import StepRecord
from pygan.stacks import Stack

console = Console(soft_wrap=True, highlight=False)
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
        end = {"exit_code": stop_code(), "stopped": True}
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
    sys.stdout.write(json.dumps(_plain(value), indent=1, allow_nan=False) + "\n")
    sys.stdout.flush()


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


def followed(records: Iterable[StepRecord], label: str, steps: int, watch: Watch | None = None) -> Iterator[StepRecord]:
    """Pass ``records`` through while a progress bar shows them; plain lines where there is no terminal.

    Ctrl-C takes effect between two steps, so that a state saved after it is one that a run really has. ``watch`` looks
    at every record once the reader is done with it; without one the first number that is not finite is only told.
    """
    watch = watch or Watch(False, say_diverged, warn=warn)
    with interrupts_held() as stop_if_asked:
        for record in _shown(records, label, steps):
            yield record
            watch.record(record)
            stop_if_asked()


def _shown(records: Iterable[StepRecord], label: str, steps: int) -> Iterator[StepRecord]:
    if not console.file.isatty():
        begun, first = time.monotonic(), -1
        for record in records:
            first = record.step if first < 0 else first
            if record.loss and (record.step % max(1, steps // 10) == 0 or record.step == steps - 1):
                pace = _pace(record.step - first, steps - record.step - 1, time.monotonic() - begun)
                console.print(f"{label}: step {record.step + 1}/{steps}  {losses(record)}{pace}", markup=False)
            yield record
        return
    with progress_bar() as bar:
        task = bar.add_task(label, total=steps, info="")
        for record in records:
            if record.loss:
                bar.update(task, completed=record.step + 1, info=short_losses(record))
            yield record


def _pace(taken: int, left: int, seconds: float) -> str:
    """Rate and time left, once there is a rate: the first step compiles and is not counted."""
    if not taken or seconds <= 0:
        return ""
    rate = taken / seconds
    return f"  {rate:.3g} steps/s" + (f", {datetime.timedelta(seconds=round(left / rate))} left" if left else "")


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


def warn(text: str) -> None:
    """Print a warning for people."""
    say(text, "bold yellow", "warning:")


def say_config(config: RunConfig) -> None:
    """Print in one line which recipe runs and which of its values are not the published ones."""
    values = [(item.name, getattr(config, item.name), item.default) for item in dataclasses.fields(config)]
    changed = [f"{name} = {value}" for name, value, default in values if value != default]
    say(f"{config.recipe}: {', '.join(changed) or 'as published'}", "dim")


def say_warning(stack: Stack) -> None:
    """Print what a stack that has just started must tell its user, if anything."""
    if warning := stack.describe().get("warning"):
        warn(str(warning))


def say_notes(notes: Iterable[str]) -> None:
    """Print what a user must know of the data before a run on them."""
    for note in notes:
        warn(note)


def say_rate(fps: float) -> None:
    """Print the rate of a GIF where it is not the one that was asked for: its times are hundredths of a second."""
    from pygan.pictures.gif import frame_milliseconds

    written = 1000 / frame_milliseconds(fps)
    if written != fps:
        say(f"a GIF cannot show {fps:g} pictures a second; it is written with {written:.4g} a second")


def say_diverged(text: str) -> None:
    """Print that a training came to numbers that are not finite."""
    say(text, "bold red", "warning:")


def say_caveats(config: RunConfig) -> None:
    """Print what a run of this config must tell its user."""
    for caveat in config.caveats:
        warn(caveat)
