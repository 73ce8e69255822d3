"""What the composed pictures share: one palette, fonts, text that fits, and panels."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pygan.pictures.grid import PictureError

Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (32, 32, 32)
MUTED: Colour = (104, 104, 104)
EDGE: Colour = (204, 204, 204)
VACANT: Colour = (240, 240, 240)
LEFT: Colour = (118, 82, 168)
RIGHT: Colour = (222, 92, 42)
GREEN: Colour = (26, 127, 75)
RED: Colour = (196, 38, 46)
GREY: Colour = (116, 116, 116)
PALE: Colour = (158, 158, 158)

VERDICTS: Mapping[str, Colour] = {"agree": GREEN, "differs": RED, "beyond horizon": GREY, "not run": PALE}
"""Each verdict's colour; a verdict may go on after these words with its reason."""

GREYS = 32  # levels that pictures keep in a colour GIF: fewer make a smaller file
RAMP = ((0, PAPER), (1, (255, 228, 150)), (7, (250, 150, 60)), (31, (206, 40, 48)), (255, (72, 8, 84)))
"""Colours of a pixel difference in grey levels; between them they run evenly in ``log2(1 + difference)``."""


def verdict_colour(verdict: str) -> Colour:
    """The colour of ``verdict``. Raises ``PictureError`` if it begins with none of the known words."""
    for word, colour in VERDICTS.items():
        if verdict.startswith(word):
            return colour
    raise PictureError(f"{verdict!r} is no verdict; expected one that begins with {', '.join(VERDICTS)}")


@functools.cache
def difference_colours() -> np.ndarray:
    """``(256, 3)`` uint8: the colour of each absolute difference, in 32 shades on a logarithmic scale."""
    at = np.log2(1 + np.array([level for level, _ in RAMP], np.float64)) / 8
    shades = np.round(np.log2(1 + np.arange(256)) / 8 * 31) / 31
    channels = [np.interp(shades, at, [colour[channel] for _, colour in RAMP]) for channel in range(3)]
    return np.round(np.stack(channels, axis=1)).astype(np.uint8)


@functools.cache
def palette() -> np.ndarray:
    """At most 255 colours ``(n, 3)`` uint8: even greys, the differences, and the soft edges of coloured shapes."""
    greys = np.repeat(np.round(np.linspace(0, 255, GREYS))[:, None], 3, axis=1)
    shades = np.linspace(0, 1, 10)[:, None]
    soft = [np.array(PAPER) * (1 - shades) + np.array(colour) * shades for colour in (GREEN, RED)]
    whole = np.concatenate([greys, difference_colours(), *soft, [LEFT, RIGHT, VACANT, EDGE]])
    return np.unique(np.round(whole).astype(np.uint8), axis=0)


@functools.cache
def font(size: int, style: str = "") -> ImageFont.FreeTypeFont:
    """DejaVu Sans in ``size`` pixels as matplotlib brings it along; ``style`` is "", "-Bold" or "Mono"."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{style}.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def fitted(text: str, face: ImageFont.FreeTypeFont, width: int) -> str:
    """``text`` in one line, cut with an ellipsis where it is wider than ``width`` pixels."""
    line = " ".join(text.split())
    if face.getlength(line) <= width:
        return line
    while line and face.getlength(line + "…") > width:
        line = line[:-1]
    return line.rstrip() + "…"


def new_canvas(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A blank RGB picture and the pen for it."""
    image = Image.new("RGB", (width, height), PAPER)
    return image, ImageDraw.Draw(image)


def enlarged(picture: np.ndarray, scale: int) -> np.ndarray:
    """``picture`` with every pixel drawn as ``scale`` x ``scale`` pixels."""
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def place(image: Image.Image, picture: np.ndarray, left: int, top: int) -> None:
    """Put ``picture`` (grey or RGB) with a thin edge around it at ``left``, ``top``."""
    height, width = picture.shape[:2]
    image.paste(Image.fromarray(np.ascontiguousarray(picture)).convert("RGB"), (left, top))
    ImageDraw.Draw(image).rectangle((left - 1, top - 1, left + width, top + height), outline=EDGE)


def place_vacant(image: Image.Image, size: tuple[int, int], left: int, top: int, text: str, points: int = 13) -> None:
    """An empty panel of ``size`` (width, height) that says ``text`` instead of showing a picture."""
    width, height = size
    pen = ImageDraw.Draw(image)
    pen.rectangle((left - 1, top - 1, left + width, top + height), outline=EDGE, fill=VACANT)
    face = font(points)
    pen.text((left + width // 2, top + height // 2), fitted(text, face, width - 8), MUTED, face, anchor="mm")


def pill(image: Image.Image, right: int, top: int, text: str, colour: Colour, width: int) -> int:
    """A rounded label that ends at ``right``, at most ``width`` wide; returns its left edge."""
    face, height, fine = font(14, "-Bold"), 28, 4
    line = fitted(text, face, width - height)
    length = round(face.getlength(line)) + height
    mask = Image.new("L", (length * fine, height * fine))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, length * fine - 1, height * fine - 1), height * fine // 2, fill=255)
    image.paste(colour, (right - length, top), mask.resize((length, height), Image.Resampling.BOX))
    ImageDraw.Draw(image).text((right - length // 2, top + height // 2), line, PAPER, face, anchor="mm")
    return right - length
