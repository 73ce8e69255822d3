"""Where a command writes: a new folder or file by default, never over an earlier result unless that is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from pygan.errors import OutputError
from pygan.files import check_writable
from pygan.run_folder import held as taken
from pygan.traces import remove_trace

OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Let what an earlier run left at --out be replaced.")
]


def result_folder(out: Path | None, default: str, patterns: Iterable[str], overwrite: bool) -> Path:
    """The folder that a command may fill: ``out``, else ``default`` or the first free of ``default-2``, ``-3`` ...

    ``patterns``: what the command writes. With ``overwrite`` earlier results of those names are removed, else they are
    refused; nothing else in the folder is touched. Raises ``OutputError``, also where the folder cannot be written.
    """
    patterns = list(patterns)
    folder = Path(default) if out is None else out
    number = 1
    while out is None and not overwrite and _held(folder, patterns):
        number += 1
        folder = Path(f"{default}-{number}")
    check_writable(folder)
    if held := _held(folder, patterns):
        with taken(folder):  # not while another run writes there
            if not overwrite:
                raise OutputError(
                    f"{folder} already holds {_named(held)}; choose another --out, or replace them: --overwrite"
                )
            for path in held:
                if path.is_dir():
                    remove_trace(path)
                else:
                    path.unlink(missing_ok=True)
    return folder


def result_file(out: Path | None, default: str, overwrite: bool) -> Path:
    """The file that a command may write: ``out``, else ``default`` or the first free of ``NAME-2.SUFFIX`` ...

    Raises ``OutputError`` where ``out`` is there already and ``overwrite`` is not asked for, or cannot be written.
    """
    file = Path(default) if out is None else out
    number = 1
    while out is None and not overwrite and file.exists():
        number += 1
        file = Path(default).with_stem(f"{Path(default).stem}-{number}")
    if file.is_dir():
        raise OutputError(f"{file} is a folder; name a file with --out")
    if file.exists() and not overwrite:
        raise OutputError(f"{file} is already there; choose another --out, or replace it: --overwrite")
    check_writable(file.parent)
    return file


def _held(folder: Path, patterns: list[str]) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(path for pattern in patterns for path in folder.glob(pattern))
    return []


def _named(held: list[Path]) -> str:
    names = [path.name for path in held[:3]]
    return ", ".join(names) + (f" and {len(held) - 3} more" if len(held) > 3 else "")
