"""What commands print: progress with rate, time left and losses, and the lines around it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

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
    """Pass ``records`` through while a progress bar shows them; plain lines where there is no terminal."""
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
