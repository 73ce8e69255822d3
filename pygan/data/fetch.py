"""Fetching, listing, checking and removing the named data sets. Nothing is downloaded unless ``fetch`` is called.

pygan fills and clears only its own folder for a set (``registry.owned_dir``); ``PYGAN_DATA_DIR`` is only read.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from pygan.data import digits, idx, registry
from pygan.data.dataset import check_content, published_paths
from pygan.data.download import download
from pygan.data.registry import DIGITS, NAMES, PUBLISHED, SPLITS, Progress, PublishedSet
from pygan.errors import DataError, OutputError
from pygan.files import sha256_file


@dataclass(frozen=True)
class SetInfo:
    """A named set, and by split the images and labels files found for it (None: not here)."""

    name: str
    title: str
    licence: str
    found: dict[str, tuple[Path, Path] | None]


def fetch(
    name: str,
    data_dir: Path | None = None,
    progress: Progress | None = None,
    timeout: float = 30.0,
    _allow_http: bool = False,
) -> list[Path]:
    """Bring all files of a set to ``data_dir/NAME``, by default in the user's cache; returns their paths.

    Files already there with the right SHA-256 stay; ``digits`` is made instead of downloaded. Raises ``DataError`` if
    no mirror gives a file, ``OutputError`` if the folder cannot be written.
    """
    folder = registry.owned_dir(_known(name), data_dir)
    if name == DIGITS:
        return [path for split in SPLITS for path in digits.read_or_make(folder, split, progress).paths]
    one = PUBLISHED[name]
    for file in one.files:
        target = folder / file.name
        if not (target.is_file() and sha256_file(target) == file.sha256):
            urls = [mirror + file.name for mirror in one.mirrors]
            download(urls, target, file.size, file.sha256, progress=progress, timeout=timeout, _allow_http=_allow_http)
    return [folder / file.name for file in one.files]


def list_sets(data_dir: Path | None = None) -> list[SetInfo]:
    """All named sets and where their files lie; looks at names only (``verify`` reads the files)."""
    return [_info(name, data_dir) for name in NAMES]


def verify(name: str, data_dir: Path | None = None) -> list[Path]:
    """Read every file found for a set and compare its SHA-256; returns the files, all of them right.

    Raises ``DataError`` for the first wrong file, or if no split of the set is there.
    """
    found = [(split, paths) for split, paths in _info(_known(name), data_dir).found.items() if paths]
    if not found:
        searched = "\n  ".join(str(folder / name) for folder in registry.search_dirs(data_dir))
        raise DataError(
            f"no files of {name} were found. Searched:\n  {searched}\nFetch them with `pygan data fetch {name}`."
        )
    for split, paths in found:
        if name == DIGITS:
            digits.read(paths[0].parent, split)
        else:
            for path, array in zip(paths, idx.read_pair(*paths), strict=True):
                check_content(PUBLISHED[name], path, array)
    return [path for _, paths in found for path in paths]


def remove(name: str, data_dir: Path | None = None) -> list[Path]:
    """Delete a set's files, and unfinished downloads of them, from pygan's own folder; returns what was deleted."""
    folder = registry.owned_dir(_known(name), data_dir)
    try:
        gone = digits.remove(folder) if name == DIGITS else _remove_published(PUBLISHED[name], folder)
    except OSError as error:
        raise OutputError(
            f"cannot delete {error.filename}: {error.strerror}. Check the folder's permissions."
        ) from error
    with contextlib.suppress(OSError):  # another file in it, or no such folder
        folder.rmdir()
    return gone


def _remove_published(one: PublishedSet, folder: Path) -> list[Path]:
    names = [name for file in one.files for name in (file.name, f"{file.name}.part")]
    gone = [folder / name for name in names if (folder / name).is_file()]
    for path in gone:
        path.unlink()
    return gone


def _known(name: str) -> str:
    if name not in NAMES:
        raise DataError(f"unknown data set {name!r}; expected one of: {', '.join(NAMES)}.")
    return name


def _info(name: str, data_dir: Path | None) -> SetInfo:
    if name == DIGITS:
        return SetInfo(
            name, "digits made by pygan itself", "pygan's own", {s: _digits_found(s, data_dir) for s in SPLITS}
        )
    one = PUBLISHED[name]
    return SetInfo(name, one.title, one.licence, {split: _published_found(one, split, data_dir) for split in SPLITS})


def _digits_found(split: str, data_dir: Path | None) -> tuple[Path, Path] | None:
    folder = digits.find(split, data_dir)
    return digits.file_paths(folder, split) if folder else None


def _published_found(one: PublishedSet, split: str, data_dir: Path | None) -> tuple[Path, Path] | None:
    try:
        return published_paths(one, data_dir, split)
    except DataError:
        return None
