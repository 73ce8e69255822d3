"""``pygan bench``: how fast each stack runs a recipe, where the time goes, and whether it became slower."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pygan.cli.options import OutOption, with_config
from pygan.cli.output import console, progress_bar, say_caveats, say_config
from pygan.cli.places import OverwriteOption, result_file, result_folder
from pygan.errors import ConfigError, WorkerError


def _share(text: str) -> float:
    """``5%`` or ``0.05`` as a share."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 100:
        raise ConfigError(f"--max-slowdown {text}: expected a share such as 5% or 0.05")
    return value


@with_config()
def bench(
    config: Any,
    answer: dict[str, Any],
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    rows: Annotated[
        str, typer.Option("--rows", help="Only these rows, by comma; --rows list shows them.", show_default=False)
    ] = "",
    full: Annotated[
        bool, typer.Option("--full", help="Also other batch sizes (1 to 512, and 96) and core counts.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds a group at most; each samples every row once.")] = 15,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of sampling a group, about.")] = 100.0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Whole steps only: no phases, no table of operations.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option("--report", help="Show this report (or pytest-benchmark json) and measure nothing.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Also write the report as this .md file, plots beside it.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Is any row slower than in this older report?")
    ] = None,
    max_slowdown: Annotated[str, typer.Option(help="Slowdown that --against lets pass.")] = "5%",
    force: Annotated[bool, typer.Option("--force", help="Compare unlike reports all the same.")] = False,
) -> None:
    """Time every row in random rounds, each in a process of its own; no time is shown without a verdict.

    --against takes each row's time over that of the older report, with a 95% interval. The interval alone decides:
    wholly above 1 + --max-slowdown the row is slower (exit code 1), wholly below it is not (0), and where it holds that
    limit the reports cannot tell (3; 1 if another row is slower). "noisy" stands beside a verdict and changes none.

    Exit code 1 also where a row's verdict is that it differs.
    """
    from pygan.benchmarking import gate, plots, table
    from pygan.benchmarking.markdown import write_markdown
    from pygan.benchmarking.report import read
    from pygan.benchmarking.rows import ROWS

    if rows == "list":
        for row in ROWS.values():
            console.print(f"{row.name:22} {row.about}", markup=False)
        return
    if markdown is not None:
        result_file(markdown, "", overwrite)
    slowdown, old = _share(max_slowdown), read(against) if against else None
    if report is None:
        out = result_folder(out, "runs/bench", ("report.json", "*.png"), overwrite)
        names = [name for name in rows.split(",") if name]
        found = _measured(config, answer, out, names, full, quick, rounds=rounds, seconds=seconds)
    else:
        found = read(report)
    answer["report"] = found
    for line in table.lines(found):
        console.print(line, markup=False)
    answer["plots"] = plots.write_plots(out, found) if out is not None and report is None else []
    if markdown is not None:
        written = write_markdown(markdown, found)
        console.print(f"wrote {', '.join(map(str, written))}", markup=False)
    code = int(any(one["verdict"] == "differs" for group in found["groups"] for one in group["refused"]))
    if old is not None:
        answer["against"] = comparison = gate.against(found, old, slowdown, force=force)
        for line in gate.lines(comparison):
            console.print(line, markup=False)
        code = code or gate.EXIT_CODES[comparison["verdict"]]
    if found["stopped"] and report is None:
        raise KeyboardInterrupt
    if code:
        sys.exit(code)
    if report is None and not any(group["rows"] or group["refused"] for group in found["groups"]):
        raise WorkerError("no row ran, so nothing was measured; the reasons stand above")


def _measured(
    config: Any, answer: dict[str, Any], out: Path, names: list[str], full: bool, quick: bool, **settings: Any
) -> dict[str, Any]:
    import dataclasses

    from pygan.benchmarking.plan import default_plan, measure
    from pygan.files import write_json

    plan = default_plan(config, names, full, **settings)
    if quick:
        plan = dataclasses.replace(plan, phases=False, breakdown=False)
    say_caveats(config)
    say_config(config)
    file = out / "report.json"
    answer["file"] = file
    write = lambda report: write_json(file, report)  # noqa: E731
    with progress() as tell:
        found = measure(plan, tell, write, "pygan " + shlex.join(sys.argv[1:]))
    console.print(f"wrote {file}", markup=False)
    return found


@contextmanager
def progress() -> Iterator[Callable[[int, int, str], None]]:
    """A bar with rounds, rate and time left of the group that is being sampled; lines where there is no terminal."""
    if not console.file.isatty():
        last = ""

        def line(done: int, total: int, text: str) -> None:
            nonlocal last
            group = text.partition(":")[0]
            if group != last or total == 1:
                console.print(text, markup=False)
            last = group

        yield line
        return
    with progress_bar() as bar:
        task = bar.add_task("bench", total=1, info="")

        def show(done: int, total: int, text: str) -> None:
            title, _, row = text.partition(": ")
            if bar.tasks[0].description != title:
                bar.reset(task, total=total, description=title)
            bar.update(task, completed=done, total=total, info=row)

        yield show
