"""PNG files of 8-bit pictures, under the article's names."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from pygan.errors import DataError
from pygan.files import atomic_path, read_limited
from pygan.pictures.grid import PictureError

BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
"""What Pillow raises of a header that claims a gigantic picture."""

PATTERN = "dcgan_steps_*.png"


def file_name(step: int) -> str:
    """The article's name for the picture drawn at ``step``.

    >>> file_name(1000)
    'dcgan_steps_001000.png'
    """
    if step < 0:
        raise PictureError(f"step {step} has no picture; steps count from 0")
    return f"dcgan_steps_{step:06d}.png"


def picture_files(folder: str | os.PathLike[str]) -> list[Path]:
    """The pictures of a run in ``folder``, in the sorted name order in which the article makes its GIF."""
    return sorted(Path(folder).glob(PATTERN))


def write_png(path: str | os.PathLike[str], picture: np.ndarray) -> None:
    """Write ``picture`` atomically: ``(H, W)`` uint8 as 8-bit grey, ``(H, W, 3)`` uint8 as RGB.

    Raises ``PictureError`` on another shape or dtype, ``OutputError`` if ``path`` cannot be written.
    """
    check_picture(picture)
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(picture)).save(temporary, format="PNG", optimize=True)


def read_png(path: str | os.PathLike[str]) -> np.ndarray:
    """The picture at ``path``: ``(H, W)`` uint8 if grey, ``(H, W, 3)`` uint8 if RGB.

    Raises ``DataError`` if there is no such file, or it is no whole 8-bit grey or RGB PNG.
    """
    try:
        content = io.BytesIO(read_limited(path, MAX_FILE_BYTES))  # a part that claims to be longer is not allocated
        with no_bombs(), Image.open(content, formats=("PNG",)) as image:
            check_size(image.size)
            image.load()
            if image.mode not in ("L", "RGB"):
                raise DataError(f"{path} holds pixels of kind {image.mode!r}; expected an 8-bit grey or RGB PNG")
            return np.array(image)
    except FileNotFoundError as error:
        raise DataError(f"there is no picture {path}") from error
    except (OSError, SyntaxError, ValueError, struct.error, *BOMBS) as error:
        raise DataError(f"{path} is no readable PNG: {error}") from error


MAX_PIXELS, MAX_PIXELS_IN_ALL, MAX_FILE_BYTES = 1 << 23, 1 << 26, 1 << 30
"""Largest picture that is read (8 million pixels), all frames of a file together (64 million, or 1,000 for each of its
bytes), and longest file: so that a small file cannot unpack to gigabytes."""


@contextlib.contextmanager
def no_bombs() -> Iterator[None]:
    """Pillow's warning of a header that claims a gigantic picture is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def check_size(size: tuple[int, int], frames: int = 1, file_bytes: int = 0) -> None:
    """Raise ``ValueError`` if ``frames`` pictures of ``size`` (width, height) are more than a run ever writes."""
    width, height = size
    if width * height > MAX_PIXELS or width * height * frames > max(MAX_PIXELS_IN_ALL, 1000 * file_bytes):
        raise ValueError(f"{frames} x {width} x {height} pixels are more than are read of such a file")


def check_picture(picture: np.ndarray) -> None:
    """Raise ``PictureError`` unless ``picture`` is a non-empty uint8 ``(H, W)`` or ``(H, W, 3)``."""
    flat = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
    if picture.dtype != np.uint8 or not flat or not picture.size:
        raise PictureError(
            f"a picture has shape {picture.shape}, {picture.dtype}; expected (H, W) or (H, W, 3), uint8, not empty"
        )
