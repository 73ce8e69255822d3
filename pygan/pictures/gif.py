"""GIF files with exactly one frame for every picture.

The usual writers merge equal consecutive pictures into one long frame, so that a finished or stuck training loses
frames and frame ``k`` is no longer picture ``k``. Here only the compression of the pixels (LZW) is Pillow's; the blocks
around it are written as in the GIF89a specification, https://www.w3.org/Graphics/GIF/spec-gif89a.txt.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageSequence

from pygan.errors import DataError
from pygan.files import read_limited, write_bytes
from pygan.pictures.grid import PictureError
from pygan.pictures.png import BOMBS, MAX_FILE_BYTES, check_picture, check_size, no_bombs

TRANSPARENT = 255
KEEP = 1 << 2  # disposal "do not dispose": the next frame is drawn over this one
GREYS = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


@dataclass(frozen=True)
class Gif:
    """A decoded GIF: frames as ``(H, W)`` uint8 where every pixel of the file is grey, else ``(H, W, 3)``.

    ``durations``: milliseconds of each frame. ``loop``: how often it plays, 0 for ever, ``None`` if not stated.
    """

    frames: list[np.ndarray]
    durations: list[int]
    loop: int | None


def frame_milliseconds(fps: float) -> int:
    """How long a frame at ``fps`` is shown: whole hundredths of a second, at least 2 (browsers slow down faster ones).

    Raises ``PictureError`` unless ``fps`` is finite and positive.

    >>> frame_milliseconds(5), frame_milliseconds(40), frame_milliseconds(1000)
    (200, 30, 20)
    """
    if not (math.isfinite(fps) and fps > 0):
        raise PictureError(f"{fps} frames a second is no frame rate; expected a positive number")
    return 10 * min(65535, max(2, math.floor(100 / fps + 0.5)))


def write_gif(
    path: str | os.PathLike[str], frames: Sequence[np.ndarray], fps: float, palette: np.ndarray | None = None
) -> int:
    """Write one frame per picture, duplicates included, repeating for ever; return the milliseconds of a frame.

    ``frames``: equally sized uint8, all ``(H, W)`` grey or all ``(H, W, 3)`` RGB. Grey keeps its 256 levels exactly.
    RGB is exact too, with at most 255 colours in all; frames with more need ``palette``, ``(n, 3)`` uint8, to whose
    nearest colour each pixel goes. All frames share one palette. The file is written atomically.
    Raises ``PictureError`` on unfit frames, palette or ``fps``, ``OutputError`` if ``path`` cannot be written.
    """
    duration = frame_milliseconds(fps)
    if not frames:
        raise PictureError("a GIF needs at least one picture")
    for number, frame in enumerate(frames):
        check_picture(frame)
        if frame.shape != frames[0].shape:
            raise PictureError(f"picture {number} has shape {frame.shape}, picture 0 {frames[0].shape}; all must agree")
    height, width = frames[0].shape[:2]
    if max(height, width) > 65535:
        raise PictureError(f"pictures of {height} x {width} pixels do not fit in a GIF (65535 at most)")
    parts = [b"GIF89a"]
    if frames[0].ndim == 2:
        table, blocks = GREYS, [_image(frame, 0, 0, duration, opaque=True) for frame in frames]
    else:
        table, indices = _indexed(frames, palette)
        blocks = [_image(indices[0], 0, 0, duration, opaque=True)]
        blocks += [_change(before, after, duration) for before, after in itertools.pairwise(indices)]
    full_table = np.zeros((256, 3), np.uint8)
    full_table[: len(table)] = table
    parts.append(struct.pack("<HHBBB", width, height, 0xF7, 0, 0))  # 0xF7: 256 colours of 8 bits follow
    parts.append(full_table.tobytes())
    parts.append(b"\x21\xff\x0bNETSCAPE2.0" + struct.pack("<BBHB", 3, 1, 0, 0))  # repeat for ever
    write_bytes(path, b"".join([*parts, *blocks, b";"]))
    return duration


def read_gif(path: str | os.PathLike[str]) -> Gif:
    """Decode a GIF with Pillow. Raises ``DataError`` if there is none, or it is damaged."""
    try:
        content = io.BytesIO(read_limited(path, MAX_FILE_BYTES))
        with no_bombs(), Image.open(content, formats=("GIF",)) as image:
            loop = image.info.get("loop")
            frames: list[np.ndarray] = []
            durations: list[int] = []
            for frame in ImageSequence.Iterator(image):
                check_size(frame.size, len(frames) + 1, len(content.getbuffer()))
                durations.append(int(frame.info.get("duration", 0)))
                frames.append(np.array(frame.convert("RGB")))
    except FileNotFoundError as error:
        raise DataError(f"there is no GIF {path}") from error
    except (OSError, SyntaxError, ValueError, IndexError, struct.error, *BOMBS) as error:
        raise DataError(f"{path} is no readable GIF: {error}") from error
    if all((frame[:, :, :2] == frame[:, :, 1:]).all() for frame in frames):
        frames = [np.ascontiguousarray(frame[:, :, 0]) for frame in frames]
    return Gif(frames, durations, loop)


def _image(indices: np.ndarray, top: int, left: int, duration: int, *, opaque: bool) -> bytes:
    """Graphic control extension, image descriptor and compressed pixels of one frame."""
    flags, transparent = (KEEP, 0) if opaque else (KEEP | 1, TRANSPARENT)
    control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, flags, duration // 10, transparent, 0)
    height, width = indices.shape
    descriptor = struct.pack("<BHHHHB", 0x2C, left, top, width, height, 0)
    packed = Image.fromarray(np.ascontiguousarray(indices)).tobytes("gif", "L")  # sub-blocks of LZW codes
    return control + descriptor + b"\x08" + packed + b"\x00"


def _change(before: np.ndarray, after: np.ndarray, duration: int) -> bytes:
    """A frame that draws only what changed; one transparent pixel where nothing did."""
    changed = before != after
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    if not rows.size:
        return _image(np.full((1, 1), TRANSPARENT, np.uint8), 0, 0, duration, opaque=False)
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    drawn = np.where(changed[box], after[box], np.uint8(TRANSPARENT))
    return _image(drawn, int(rows[0]), int(columns[0]), duration, opaque=False)


def _indexed(frames: Sequence[np.ndarray], palette: np.ndarray | None) -> tuple[np.ndarray, list[np.ndarray]]:
    """Palette ``(n <= 255, 3)`` and each frame's palette indices ``(H, W)`` uint8."""
    seen = np.zeros(1 << 24, bool)
    for frame in frames:
        seen[_packed(frame)] = True
    codes = np.flatnonzero(seen)
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
    if palette is None:
        if len(colours) > TRANSPARENT:
            raise PictureError(
                f"the pictures have {len(colours):,} colours, a GIF has room for {TRANSPARENT}; give a palette"
            )
        palette = colours.astype(np.uint8)
    if palette.dtype != np.uint8 or palette.ndim != 2 or palette.shape[1] != 3 or not 0 < len(palette) <= TRANSPARENT:
        raise PictureError(
            f"a palette has shape {palette.shape}, {palette.dtype}; expected (n, 3), uint8, n from 1 to {TRANSPARENT}"
        )
    nearest = np.zeros(1 << 24, np.uint8)
    for start in range(0, len(codes), 4096):
        part = slice(start, start + 4096)
        distance = ((colours[part, None, :] - palette[None].astype(np.int64)) ** 2).sum(axis=2)
        nearest[codes[part]] = distance.argmin(axis=1)
    return palette, [nearest[_packed(frame)] for frame in frames]


def _packed(frame: np.ndarray) -> np.ndarray:
    """``(H, W)`` uint32 codes 0xRRGGBB."""
    wide = frame.astype(np.uint32)
    packed: np.ndarray = wide[:, :, 0] << 16 | wide[:, :, 1] << 8 | wide[:, :, 2]
    return packed
