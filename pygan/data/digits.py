"""``digits``: the data set that pygan makes itself, 60,000 + 10,000 pictures of digits in MNIST's form.

The pictures are drawn from pygan's own strokes (``glyphs.py``) by integer arithmetic (``raster.py``), and
picture ``i`` depends on the seed, the split and ``i`` only. So every machine makes the same bytes, whose SHA-256 is
written here and checked after making and after reading. The set is written once, as plain IDX files, and every
stack reads those.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pygan.data import idx, raster, registry
from pygan.data.registry import DIGITS, SPLITS, Progress, file_prefix
from pygan.draws import Draws, fields
from pygan.errors import DataError

SEED = 28
COUNTS = {"train": 60_000, "test": 10_000}

SHA256 = {
    "train": (
        "ee29a42f0e43ec7b4c1772ab0fe3be50c63a3ee8b387148764d6b781847e6500",
        "f41b9bfd5122c4da3ce4e5ab3d28c1a346fa4dbd2221a199dfd0ced026480a65",
    ),
    "test": (
        "2f3ffc949f78c836f0fc24be12c2feed668c68419dfb391cc1d697d049197159",
        "b8e7cefbc64438b72aef8f329d5627c672bbddd6f9c6bd1a4a68e3759ecfc2c2",
    ),
}
"""By split: SHA-256 of all image bytes and of all label bytes (without the IDX headers)."""

_CHUNK = 2000


@dataclass(frozen=True, eq=False)
class Digits:
    """One split: ``images (N, 28, 28)`` uint8, ``labels (N,)`` uint8 and the two IDX files that hold them."""

    images: np.ndarray
    labels: np.ndarray
    paths: tuple[Path, Path]


def generate(
    start: int = 0, stop: int | None = None, split: str = "train", progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Make pictures ``start .. stop - 1`` of a split, at a cost in proportion to their number.

    Returns images ``(n, 28, 28)`` uint8, ink up to 255 on 0, and labels ``(n,)`` uint8. Each digit comes
    equally often in a split, in a drawn order. Raises ``DataError`` for a range outside the split.
    """
    file_prefix(split)
    count = COUNTS[split]
    stop = count if stop is None else stop
    if not 0 <= start <= stop <= count:
        raise DataError(f"digits {start} .. {stop} asked for; expected a range within 0 .. {count} ({split}).")
    stream = f"{DIGITS}.{split}"
    order = Draws(SEED).permutation(f"{stream}.order", count)
    labels = (order[start:stop] % 10).astype(np.uint8)
    images = np.empty((stop - start, raster.SIDE, raster.SIDE), dtype=np.uint8)
    needed = raster.fields_needed()
    for low in range(start, stop, _CHUNK):
        high = min(low + _CHUNK, stop)
        drawn = np.stack([fields(SEED, stream, i, needed, 16) for i in range(low, high)])
        images[low - start : high - start] = raster.pictures(labels[low - start : high - start], drawn)
        if progress:
            progress(f"making {DIGITS} ({split})", high - start, stop - start)
    return images, labels


def file_paths(folder: Path, split: str) -> tuple[Path, Path]:
    """Where the images and the labels of a split lie in ``folder``."""
    prefix = file_prefix(split)
    return folder / f"{prefix}-images-idx3-ubyte", folder / f"{prefix}-labels-idx1-ubyte"


def find(split: str, data_dir: Path | None = None) -> Path | None:
    """The first of the folders searched that holds both files of a split."""
    folders = (place / DIGITS for place in registry.search_dirs(data_dir))
    return next((folder for folder in folders if all(map(os.path.isfile, file_paths(folder, split)))), None)


def read(folder: Path, split: str = "train") -> Digits:
    """Read a split's files from ``folder`` and check their SHA-256; ``DataError`` names any fault."""
    paths = file_paths(folder, split)
    images, labels = idx.read_pair(*paths)
    _check(
        images, labels, split, f"{paths[0]} or {paths[1].name}", "Delete both files, they are made anew when needed."
    )
    return Digits(images, labels, paths)


def read_or_make(folder: Path, split: str = "train", progress: Progress | None = None) -> Digits:
    """Read a split from ``folder``; if its files are missing or damaged, make and write them first.

    Raises ``DataError`` if what was made has not the known SHA-256, ``OutputError`` if it cannot be written.
    """
    paths = file_paths(folder, split)
    try:
        return read(folder, split)
    except DataError:
        images, labels = make(split, progress)
    idx.write(paths[1], labels)
    idx.write(paths[0], images)
    return Digits(images, labels, paths)


def make(split: str = "train", progress: Progress | None = None) -> tuple[np.ndarray, np.ndarray]:
    """All images ``(N, 28, 28)`` and labels ``(N,)`` of a split, uint8, made anew. Raises ``DataError`` if they have
    not the known SHA-256."""
    images, labels = generate(split=split, progress=progress)
    told = "Report this machine, Python and numpy version as a defect of pygan."
    _check(images, labels, split, "the digits made here", told)
    return images, labels


def remove(folder: Path) -> list[Path]:
    """Delete the files of both splits from ``folder``; returns those that were there."""
    gone = [path for split in SPLITS for path in file_paths(folder, split) if path.exists()]
    for path in gone:
        path.unlink()
    return gone


def _check(images: np.ndarray, labels: np.ndarray, split: str, what: str, fix: str) -> None:
    for name, array, expected in zip(("images", "labels"), (images, labels), SHA256[split], strict=True):
        found = hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
        if found != expected:
            raise DataError(f"{what}: SHA-256 of the {name} is {found}; expected {expected}. {fix}")
