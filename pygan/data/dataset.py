"""Loading a data set by name or folder, as bytes, and scaling bytes to what the networks see."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pygan.data import digits, idx, picture_folder, registry
from pygan.data.registry import DIGITS, NAMES, PUBLISHED, Progress, PublishedSet, SetFile
from pygan.errors import DataError

SIDE = 28
_CHEAP = 2048  # up to so many digits are made on the spot sooner than the whole set is read or written


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images of one split, in file order.

    ``images``: ``(N, 28, 28)`` uint8, row by row. ``labels``: ``(N,)`` uint8 or None. ``sha256``: hex SHA-256 of
    the bytes of ``images`` as held here (so of the first ``limit`` ones). ``sources``: the files or the folder
    they were read from; empty if made on the spot. ``notes``: what a user must know before training on them.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray | None
    sha256: str
    sources: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """Name, number and hash of the images, as traces, reports and answers say what a run was made on."""
        told = {"notes": list(self.notes)} if self.notes else {}
        return {"name": self.name, "images": len(self.images), "sha256": self.sha256, **told}


def load(
    name: str | Path,
    data_dir: Path | None = None,
    split: str = "train",
    limit: int | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load a split of a data set.

    ``name``: ``"mnist"``, ``"fashion-mnist"``, ``"digits"``, or a folder that holds IDX files or 28 x 28
    pictures (a ``Path``, or a string that is no known name). Published sets are searched in ``data_dir``, then
    ``PYGAN_DATA_DIR``, then the user's cache, there under the set's name or directly; their SHA-256 is checked.
    ``split``: ``"train"`` or ``"test"``. ``limit``: keep the first so many images. Nothing is downloaded.

    Raises ``DataError`` saying what was found, what was expected and how to mend it.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}; expected at least 1, or none for all images.")
    registry.file_prefix(split)
    if isinstance(name, str) and name in PUBLISHED:
        return _published(PUBLISHED[name], data_dir, split, limit)
    if name == DIGITS:
        return _digits(data_dir, split, limit, progress)
    return _folder(name, split, limit)


def scale(images: np.ndarray, how: str = "2*x/255-1") -> np.ndarray:
    """Bytes to Float32, by default in [-1, 1]: ``2 * (byte / 255f0) - 1``, each operation rounded to Float32.

    ``how`` is one of :data:`pygan.config.SCALINGS`. The default is ``2x - 1`` of
    MLDatasets' ``x = byte / 255f0`` (a true division: multiplying by ``1 / 255f0`` differs for 126 of the 256 bytes).
    ``images``: ``(N, 28, 28)`` uint8; returns ``(N, 1, 28, 28)`` float32.

    >>> scaled = scale(np.full((2, 28, 28), 255, np.uint8))
    >>> scaled.shape, scaled.dtype, float(scaled.max())
    ((2, 1, 28, 28), dtype('float32'), 1.0)
    """
    if images.dtype != np.uint8 or images.ndim != 3:
        raise DataError(f"images to scale have shape {images.shape}, {images.dtype}; expected (N, H, W), uint8.")
    scaled = images[:, None].astype(np.float32)
    scaled /= np.float32(127.5 if how == "x/127.5-1" else 255)
    if how == "2*x/255-1":
        scaled *= np.float32(2)
    if how != "x/255":
        scaled -= np.float32(0.5 if how == "x/255-0.5" else 1)
    return scaled


def published_paths(one: PublishedSet, data_dir: Path | None, split: str) -> tuple[Path, Path]:
    """Images and labels of a published split: the first place that holds both; ``DataError`` lists the places.

    Sub-folders with the set's name come before bare folders, whose files may be another set's of the same names.
    """
    prefix = registry.file_prefix(split)
    stems = [file.name.removesuffix(".gz") for file in one.files if file.name.startswith(prefix)]
    folders = registry.search_dirs(data_dir)
    searched = ""
    for place in [*(folder / one.name for folder in folders), *folders]:
        found = [path for stem in stems if (path := _first_file(place, stem, f"{stem}.gz"))]
        if len(found) == len(stems):
            return found[0], found[1]
        searched += f"\n  {place}" + (f" (holds only {found[0].name})" if found else "")
    raise DataError(
        f"the {split} files of {one.name} ({', '.join(stems)}, plain or .gz) were not found. Searched:{searched}\n"
        f"Fetch them with `pygan data fetch {one.name}`, or set {registry.ENV_DIR} to a folder that holds {one.name}/."
    )


def check_content(one: PublishedSet, path: Path, array: np.ndarray) -> None:
    """Compare the unpacked content of ``path`` with the published SHA-256; ``DataError`` on a mismatch."""
    found = idx.content_sha256(array)
    file = _file_of(one, path)
    if found != file.content_sha256:
        other = [known.name for known in PUBLISHED.values() if found in (file.content_sha256 for file in known.files)]
        raise DataError(
            f"{path} is not {one.name}'s{f' but a file of {other[0]}' if other else ''}: "
            f"SHA-256 of its unpacked content is {found}; expected {file.content_sha256}. "
            f"Move it away and run `pygan data fetch {one.name}`, or load a set of your own by its folder's path."
        )


def _file_of(one: PublishedSet, path: Path) -> SetFile:
    return next(file for file in one.files if file.name == path.name.removesuffix(".gz") + ".gz")


def _first_file(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if os.path.isfile(folder / name)), None)  # no error if forbidden


def _published(one: PublishedSet, data_dir: Path | None, split: str, limit: int | None) -> Dataset:
    paths = published_paths(one, data_dir, split)
    images, labels = idx.read_pair(*paths)
    check_content(one, paths[0], images)
    check_content(one, paths[1], labels)
    return _dataset(one.name, images, labels, limit, paths)


def _digits(data_dir: Path | None, split: str, limit: int | None, progress: Progress | None) -> Dataset:
    if limit is not None and limit <= _CHEAP:
        images, labels = digits.generate(0, limit, split, progress)
        return _dataset(DIGITS, images, labels, limit, ())
    folder = digits.find(split, data_dir)
    try:
        own = registry.owned_dir(DIGITS, data_dir)
    except DataError:
        if folder is None:  # nowhere to keep them: made anew each time
            return _dataset(DIGITS, *digits.make(split, progress), limit, ())
        own = None
    folder = folder or own
    assert folder is not None
    found = digits.read_or_make(own, split, progress) if folder == own else digits.read(folder, split)
    return _dataset(DIGITS, found.images, found.labels, limit, found.paths)


def _folder(name: str | Path, split: str, limit: int | None) -> Dataset:
    folder = Path(name)
    if not folder.is_dir():
        close = difflib.get_close_matches(str(name), NAMES, n=1)
        guess = f" Did you mean {close[0]!r}?" if close else ""
        raise DataError(
            f"no data set and no folder is called {str(name)!r}.{guess} "
            f"Expected one of {', '.join(NAMES)}, or a folder of IDX files or 28 x 28 pictures."
        )
    try:
        images_path, labels_path = (_idx_file(folder, split, kind) for kind in ("images-idx3", "labels-idx1"))
        if images_path:
            labels = None
            if labels_path:
                images, labels = idx.read_pair(images_path, labels_path)
            else:
                images = idx.read_images(images_path)
            if images.shape[1:] != (SIDE, SIDE):
                raise DataError(
                    f"{images_path} holds images of {images.shape[1]} rows and {images.shape[2]} columns; "
                    f"expected {SIDE} x {SIDE}. Resize the images."
                )
            files = tuple(path for path in (images_path, labels_path) if path)
            loose = picture_folder.left_out(folder, ())
            notes = [f"{folder}: {images_path.name} is read; left out: {loose}"] if loose else []
            return _dataset(folder.name, images, labels, limit, files, notes + _useless(folder, images[:limit]))
        if split != "train":
            raise DataError(
                f"{folder} holds no {registry.file_prefix(split)}-images-idx3-ubyte file, and pictures have no split "
                f"{split!r}. Name the folder of the pictures you want, with split 'train'."
            )
        images, treated = picture_folder.read_folder(folder, limit)
        other = picture_folder.left_out(folder)
        notes = [f"{folder}: {len(images)} pictures are read; left out: {other}"] if other else []
        told = [f"{count} of them {how}" for how, count in treated.items()]
        notes += _useless(folder, images, told)
        notes += [f"{folder}: of {len(images)} pictures {one}" for one in told if picture_folder.OPAQUE in one]
        return _dataset(folder.name, images, None, limit, (folder,), notes)
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}. Check its permissions.") from error


def _useless(folder: Path, images: np.ndarray, treated: Sequence[str] = ()) -> list[str]:
    """What is odd about ``images`` of a user's own, ``treated`` so. Raises ``DataError`` where each is of one grey
    level: nothing can be learned from them."""
    flat = images.reshape(len(images), -1)
    plain = int((flat.min(axis=1) == flat.max(axis=1)).sum())
    over = "".join(f"; {one}" for one in treated)
    if plain == len(images):
        raise DataError(
            f"{folder}: all {plain} images are of one grey level ({'black' if not images.any() else 'blank'}){over}. "
            "Draw white ink on black, or lay transparent pictures over white yourself."
        )
    notes = [f"{folder}: {plain} of {len(images)} images are of one grey level{over}"] if plain else []
    if images.max() <= 1:
        notes.append(f"{folder}: no pixel is above 1 of 255; were pixels from 0 to 1 stored as bytes?")
    if len(images) > 1 and (flat == flat[0]).all():
        notes.append(f"{folder}: all {len(images)} images are equal")
    return notes


def _idx_file(folder: Path, split: str, kind: str) -> Path | None:
    """The IDX file of a split, under the usual spellings of its name."""
    prefix, (what, rank) = registry.file_prefix(split), kind.split("-")
    stems = (f"{prefix}-{what}-{rank}-ubyte", f"{prefix}-{what}.{rank}-ubyte")
    return _first_file(folder, *(f"{stem}{end}" for stem in stems for end in ("", ".gz")))


def _dataset(
    name: str,
    images: np.ndarray,
    labels: np.ndarray | None,
    limit: int | None,
    sources: tuple[Path, ...],
    notes: Sequence[str] = (),
) -> Dataset:
    kept = np.ascontiguousarray(images[:limit])
    return Dataset(
        name,
        kept,
        None if labels is None else labels[:limit],
        hashlib.sha256(kept.data).hexdigest(),
        sources,
        tuple(notes),
    )
