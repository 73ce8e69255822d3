"""What commands print: progress with rate, time left and losses, and the lines around it."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from pygan.config import RunConfig
from pygan.records import StepRecord

console = Console(soft_wrap=True, highlight=False)


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
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, hold)
    try:
        yield stop_if_asked
    finally:
        signal.signal(signal.SIGINT, before)


def _shown(records: Iterable[StepRecord], label: str, steps: int) -> Iterator[StepRecord]:
    if not sys.stdout.isatty():
        for record in records:
            if record.loss and (record.step % max(1, steps // 10) == 0 or record.step == steps - 1):
                console.print(f"{label}: step {record.step + 1}/{steps}  {losses(record)}", markup=False)
            yield record
        return
    with progress_bar() as bar:
        task = bar.add_task(label, total=steps, info="")
        for record in records:
            if record.loss:
                bar.update(task, completed=record.step + 1, info=losses(record))
            yield record


def losses(record: StepRecord) -> str:
    """``D loss 1.3863  G loss 0.6931`` from a record's losses."""
    return "  ".join(f"{name} loss {float(value):.4f}" for name, value in record.loss.items())


def say_caveats(config: RunConfig) -> None:
    """Print what a run of this config must tell its user."""
    for caveat in config.caveats:
        console.print(f"[bold yellow]warning:[/] {caveat}")
