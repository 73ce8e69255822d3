"""A folder of 28 x 28 pictures (PNG, JPEG, BMP) as images.

A picture is read as viewers show it: turned as its EXIF orientation says, and a BMP whose alpha is 0 everywhere is
opaque. Colour becomes grey as Pillow's ``convert("L")`` does it (ITU-R 601-2 luma,
``(19595 R + 38470 G + 7471 B + 32768) >> 16``); a transparent picture is first laid over black. A picture's size
is read from its header, and only one of 28 x 28 is decoded, so a picture that would unpack to gigabytes is
refused unread.
"""

from __future__ import annotations

import collections
import contextlib
import io
import itertools
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pygan.errors import DataError
from pygan.files import read_limited

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SIDE = 28
MAX_BYTES = 1 << 24
FORMATS = ("PNG", "JPEG", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
OVER_BLACK, OPAQUE = "are transparent and were laid over black", "have an alpha of 0 everywhere and are read as opaque"
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, KeyError, TypeError, IndexError)
_BROKEN_TOO = (AttributeError, OverflowError, MemoryError, AssertionError, RecursionError)
"""What Pillow's readers raise on damaged files."""


def list_pictures(folder: Path) -> list[Path]:
    """The picture files directly in ``folder``, by suffix, sorted by name; hidden files are left out."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(files, key=lambda path: path.name)


def left_out(folder: Path, used: tuple[str, ...] = SUFFIXES) -> str:
    """What of ``folder`` looks like pictures but is not read: ``90 .webp, 20 .tif and 1 sub-folder``; else empty.
    Hidden files and those that are no pictures (labels, Thumbs.db) stay unmentioned."""
    from PIL import Image

    known = set(Image.registered_extensions()) | {".heic", ".heif", ".avif", ".jxl", ".svg"}
    there = [path for path in folder.iterdir() if not path.name.startswith(".")]
    counts = collections.Counter(path.suffix.lower() for path in there if path.is_file())
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    told = [f"{count} {suffix}" for suffix, count in ordered if suffix in known - set(used)]
    if folders := sum(path.is_dir() for path in there):
        told.append(f"{folders} sub-folder{'s' if folders > 1 else ''}")
    return " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)


def read_pictures(folder: Path, limit: int | None = None) -> np.ndarray:
    """The first ``limit`` pictures of ``folder`` by name: ``(N, 28, 28)`` uint8, N at least 1.

    Raises ``DataError`` naming the file that cannot be read or has another size, or the folder without a picture.
    """
    return read_folder(folder, limit)[0]


def read_folder(folder: Path, limit: int | None = None) -> tuple[np.ndarray, dict[str, int]]:
    """As :func:`read_pictures`, and how many of the pictures were treated in which way (``OVER_BLACK``, ``OPAQUE``)."""
    paths = list_pictures(folder)
    if not paths:
        there = f"; there are {other}" if (other := left_out(folder)) else ""
        raise DataError(
            f"{folder} holds no picture; expected files ending in {', '.join(SUFFIXES)}, {SIDE} x {SIDE} pixels"
            f"{there}. "
            "Name a folder with pictures, or with train-images-idx3-ubyte, directly in it."
        )
    read = [_read(path) for path in itertools.islice(paths, limit)]
    return np.stack([pixels for pixels, _ in read]), collections.Counter(how for _, how in read if how)


def read_picture(path: Path) -> np.ndarray:
    """One picture as ``(28, 28)`` uint8; ``DataError`` names any fault."""
    return _read(path)[0]


def _read(path: Path) -> tuple[np.ndarray, str]:
    from PIL import Image  # only folders of pictures need Pillow

    fix = "Replace or remove the file."
    if not path.is_file():
        raise DataError(f"{path} is not a regular file; expected {', '.join(FORMATS)}. {fix}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            content = io.BytesIO(read_limited(path, MAX_BYTES))  # a part that claims to be longer is not allocated
            with Image.open(content, formats=FORMATS) as picture:
                if picture.size != (SIDE, SIDE):
                    width, height = picture.size
                    raise DataError(
                        f"{path} is {width} x {height} pixels; expected {SIDE} x {SIDE}. Resize or remove it."
                    )
                if picture.mode not in _MODES:
                    raise DataError(
                        f"{path} has pixels of kind {picture.mode!r}; expected one of {', '.join(_MODES)}, 8 bits a "
                        f"channel. Convert it to 8-bit grey or remove it."
                    )
                if picture.format == "PNG" and (frames := getattr(picture, "n_frames", 1)) > 1:
                    raise DataError(f"{path} is an animation of {frames} frames; expected one picture. {fix}")
                picture.load()
                return _grey(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} claims far too many pixels; expected {SIDE} x {SIDE}. {fix}") from error
    except (*_BROKEN, *_BROKEN_TOO) as error:
        told = str(error) or type(error).__name__
        raise DataError(f"cannot read {path} as a picture: {told}; expected {', '.join(FORMATS)}. {fix}") from error


def _grey(picture: Picture) -> tuple[np.ndarray, str]:
    """Pixels ``(28, 28)`` uint8 of a loaded picture as a viewer shows it over black, and how they were treated."""
    from PIL import Image, ImageOps

    shown, how = picture, ""
    with contextlib.suppress(*_BROKEN, *_BROKEN_TOO):  # viewers pass over damaged EXIF data
        shown = ImageOps.exif_transpose(picture)
    if picture.format == "BMP" and shown.mode == "RGBA" and not np.asarray(shown)[..., 3].any():
        shown, how = shown.convert("RGB"), OPAQUE  # the fourth byte is unused
    if shown.has_transparency_data:
        layer = shown.convert("RGBA")
        how = OVER_BLACK if (np.asarray(layer)[..., 3] < 255).any() else ""
        shown = Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer)
    return np.asarray(shown.convert("L"), dtype=np.uint8), how
