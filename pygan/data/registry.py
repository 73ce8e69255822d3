"""The published data sets that pygan knows: their files, checksums and mirrors, and the places files may lie.

Sizes and checksums of the packed files are those of the original distributions; ``content_sha256`` is that of
the unpacked file, so a re-packed or unpacked copy is recognised too. None of these files ships with pygan.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from pygan.errors import DataError

ENV_DIR = "PYGAN_DATA_DIR"

Progress = Callable[[str, int, int], None]
"""Called with what is under way, how much is done, and how much there is in all."""

SPLITS = {"train": "train", "test": "t10k"}
"""The splits, and how their file names begin."""


@dataclass(frozen=True)
class SetFile:
    """One file of a published set: packed name and size in bytes, SHA-256 packed and unpacked (hex)."""

    name: str
    size: int
    sha256: str
    content_sha256: str


@dataclass(frozen=True)
class PublishedSet:
    """A published set of IDX files. ``mirrors`` are https folders, tried in order."""

    name: str
    title: str
    licence: str
    mirrors: tuple[str, ...]
    files: tuple[SetFile, ...]


MNIST = PublishedSet(
    name="mnist",
    title="MNIST handwritten digits (LeCun, Cortes, Burges)",
    licence="no explicit terms from its authors; commonly quoted as CC BY-SA 3.0",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files=(
        SetFile(
            "train-images-idx3-ubyte.gz",
            9912422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        SetFile(
            "train-labels-idx1-ubyte.gz",
            28881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        SetFile(
            "t10k-images-idx3-ubyte.gz",
            1648877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        SetFile(
            "t10k-labels-idx1-ubyte.gz",
            4542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
)

FASHION_MNIST = PublishedSet(
    name="fashion-mnist",
    title="Fashion-MNIST articles of clothing (Zalando SE, 2017)",
    licence="MIT",
    mirrors=(
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    ),
    files=(
        SetFile(
            "train-images-idx3-ubyte.gz",
            26421880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        SetFile(
            "train-labels-idx1-ubyte.gz",
            29515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        SetFile(
            "t10k-images-idx3-ubyte.gz",
            4422102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        SetFile(
            "t10k-labels-idx1-ubyte.gz",
            5148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
)

PUBLISHED = {one.name: one for one in (MNIST, FASHION_MNIST)}
DIGITS = "digits"
NAMES = (*PUBLISHED, DIGITS)
"""The names that ``pygan.data.load`` knows."""


def cache_dir() -> Path:
    """The user's own cache folder for data sets; it need not exist. Raises ``DataError`` where there is no home."""
    try:
        return platformdirs.user_cache_path("pygan")
    except RuntimeError as error:
        raise DataError(f"no home folder: set HOME, XDG_CACHE_HOME or {ENV_DIR}, or name a --data-dir") from error


def search_dirs(data_dir: Path | None = None) -> list[Path]:
    """Folders searched for a named set, first to last: ``data_dir``, ``PYGAN_DATA_DIR``, the user's cache if any."""
    places = [Path(place) for place in (data_dir, os.environ.get(ENV_DIR)) if place]
    with contextlib.suppress(DataError):
        places.append(cache_dir())
    return places


def owned_dir(name: str, data_dir: Path | None = None) -> Path:
    """The folder that pygan itself fills for a set: under ``data_dir`` if given, else under the user's cache."""
    return (Path(data_dir) if data_dir else cache_dir()) / name


def file_prefix(split: str) -> str:
    """How the file names of a split begin; ``DataError`` for an unknown split."""
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r}; expected one of: {', '.join(SPLITS)}.")
    return SPLITS[split]
