"""A folder of 28 x 28 pictures (PNG, JPEG, BMP) as images.

Colour becomes grey as Pillow's ``convert("L")`` does it (ITU-R 601-2 luma,
``(19595 R + 38470 G + 7471 B + 32768) >> 16``); a transparent picture is first laid over black. A picture's size
is read from its header, and only one of 28 x 28 is decoded, so a picture that would unpack to gigabytes is
refused unread.
"""

from __future__ import annotations

import itertools
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np

from pygan.errors import DataError

SIDE = 28
FORMATS = ("PNG", "JPEG", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


def list_pictures(folder: Path) -> list[Path]:
    """The picture files directly in ``folder``, by suffix, sorted by name; hidden files are left out."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(files, key=lambda path: path.name)


def read_pictures(folder: Path, limit: int | None = None) -> np.ndarray:
    """The first ``limit`` pictures of ``folder`` by name: ``(N, 28, 28)`` uint8, N at least 1.

    Raises ``DataError`` naming the file that cannot be read or has another size, or the folder without a picture.
    """
    paths = list_pictures(folder)
    if not paths:
        raise DataError(
            f"{folder} holds no picture; expected files ending in {', '.join(SUFFIXES)}, {SIDE} x {SIDE} pixels. "
            "Name a folder with pictures, or with train-images-idx3-ubyte, directly in it."
        )
    return np.stack([read_picture(path) for path in itertools.islice(paths, limit)])


def read_picture(path: Path) -> np.ndarray:
    """One picture as ``(28, 28)`` uint8; ``DataError`` names any fault."""
    from PIL import Image  # only folders of pictures need Pillow

    fix = "Replace or remove the file."
    if not path.is_file():
        raise DataError(f"{path} is not a regular file; expected {', '.join(FORMATS)}. {fix}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                if picture.size != (SIDE, SIDE):
                    width, height = picture.size
                    raise DataError(
                        f"{path} is {width} x {height} pixels; expected {SIDE} x {SIDE}. Resize or remove it."
                    )
                if picture.mode not in _MODES:
                    raise DataError(
                        f"{path} has pixels of kind {picture.mode!r}; expected one of {', '.join(_MODES)}. {fix}"
                    )
                picture.load()
                if picture.has_transparency_data:
                    opaque = picture.convert("RGBA")
                    black = Image.new("RGBA", opaque.size, (0, 0, 0, 255))
                    return np.asarray(Image.alpha_composite(black, opaque).convert("L"), dtype=np.uint8)
                return np.asarray(picture.convert("L"), dtype=np.uint8)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} claims far too many pixels; expected {SIDE} x {SIDE}. {fix}") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"cannot read {path} as a picture: {error}; expected {', '.join(FORMATS)}. {fix}") from error
