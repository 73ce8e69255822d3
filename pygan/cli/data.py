"""``pygan data``: list, fetch, verify and remove the named data sets. Only ``fetch`` downloads, and says so first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from pygan.cli.output import console, print_json
from pygan.errors import DataError

if TYPE_CHECKING:
    from pygan.data import registry

app = typer.Typer(
    help="List, fetch, verify and remove data sets. Nothing is downloaded unless you ask for it with fetch.",
    no_args_is_help=True,
)

NameArgument = Annotated[str, typer.Argument(help="mnist, fashion-mnist or digits.", show_default=False)]
FolderOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the data sets, each in one of its name (else the cache).")
]


@app.command("list")
def list_sets(
    data_dir: FolderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List the data sets: what each is, its licence, where its files lie, and what fetching it would bring."""
    from pygan.data import fetch, registry

    facts: list[dict[str, Any]] = [
        {
            "name": one.name,
            "title": one.title,
            "licence": one.licence,
            "found": {split: paths and [str(path) for path in paths] for split, paths in one.found.items()},
            "fetch_to": _fetch_to(one.name, data_dir),
            "fetch_bytes": _size(one.name),
        }
        for one in fetch.list_sets(data_dir)
    ]
    if as_json:
        print_json(facts)
        return
    for one in facts:
        console.print(f"[bold]{one['name']}[/]  {one['title']}")
        console.print(f"  licence  {one['licence']}", markup=False)
        for split, paths in one["found"].items():
            for label, path in zip((split, ""), paths or ["not here"], strict=False):
                console.print(f"  {label:7}  {path}", markup=False)
        if None in one["found"].values():
            does = "makes" if one["name"] == registry.DIGITS else "downloads"
            how = f"{does} {decimal(one['fetch_bytes'])} in {one['fetch_to']}"
            console.print(f"  `pygan data fetch {one['name']}` {how}", markup=False)


def _fetch_to(name: str, data_dir: Path | None) -> str:
    """Where a set would be put, or why it cannot be."""
    from pygan.data import registry

    try:
        return str(registry.owned_dir(name, data_dir))
    except DataError as error:
        return str(error)


@app.command("fetch")
def fetch_set(name: NameArgument, data_dir: FolderOption = None) -> None:
    """Download a set's missing files, each checked against its published SHA-256. A broken download goes on later."""
    from pygan.data import fetch, registry
    from pygan.files import sha256_file

    if name in registry.PUBLISHED:
        folder = registry.owned_dir(name, data_dir)
        one = registry.PUBLISHED[name]
        there = [f for f in one.files if (folder / f.name).is_file() and sha256_file(folder / f.name) == f.sha256]
        missing = [file for file in one.files if file not in there]
        if not missing:
            console.print(f"{name} is complete in {folder}", markup=False)
            return
        files = f"{len(missing)} of {len(one.files)} files, {decimal(sum(file.size for file in missing))}"
        console.print(f"fetching {one.title} (licence: {one.licence})", markup=False)
        console.print(f"{files}, from {one.mirrors[0]} (and mirrors) to {folder}", markup=False)
    elif name == registry.DIGITS:
        place = f"{decimal(_size(name))} in {registry.owned_dir(name, data_dir)}"
        console.print(f"making digits: {place}, nothing is downloaded", markup=False)
    try:
        with _progress(name in registry.PUBLISHED) as progress:
            paths = fetch.fetch(name, data_dir, progress)
    except KeyboardInterrupt:
        console.print("the same command goes on where this download broke off")
        raise
    console.print(f"{name} is complete in {paths[0].parent}", markup=False)


@app.command("verify")
def verify_set(name: NameArgument, data_dir: FolderOption = None) -> None:
    """Read every file found for a set and compare its SHA-256 with the published one."""
    from pygan.data import fetch

    for path in fetch.verify(name, data_dir):
        console.print(f"[green]ok[/]  {escape(str(path))}")


@app.command("remove")
def remove_set(name: NameArgument, data_dir: FolderOption = None) -> None:
    """Delete a set's files from the cache, or from --data-dir if given; PYGAN_DATA_DIR is never touched."""
    from pygan.data import fetch, registry

    gone = fetch.remove(name, data_dir)
    for path in gone:
        console.print(f"removed {path}", markup=False)
    if not gone:
        console.print(f"nothing of {name} is in {registry.owned_dir(name, data_dir)}", markup=False)
    kept = {path.parent for one in fetch.list_sets(data_dir) if one.name == name for path in _all(one.found)}
    for folder in sorted(kept):
        console.print(f"the files in {folder} stay", markup=False)


def _all(found: dict[str, tuple[Path, Path] | None]) -> list[Path]:
    return [path for paths in found.values() if paths for path in paths]


def _size(name: str) -> int:
    """Bytes that fetching all of a set brings."""
    from pygan.data import digits, registry

    if name in registry.PUBLISHED:
        return sum(file.size for file in registry.PUBLISHED[name].files)
    return sum(digits.COUNTS.values()) * (28 * 28 + 1) + 2 * len(digits.COUNTS) * 12


@contextlib.contextmanager
def _progress(of_bytes: bool) -> Iterator[registry.Progress]:
    """Shows bars with amount, rate and time left, or a line for each finished file where there is no terminal."""
    if not console.file.isatty():
        started: dict[str, float] = {}

        def line(what: str, done: int, total: int) -> None:
            begun = started.setdefault(what, time.perf_counter())
            if done == total:
                console.print(f"{what}: done in {time.perf_counter() - begun:.1f} s", markup=False)

        yield line
        return
    amount = (DownloadColumn(), TransferSpeedColumn()) if of_bytes else (MofNCompleteColumn(),)
    tasks: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:

        def bar(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield bar
