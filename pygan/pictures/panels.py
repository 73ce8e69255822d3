"""Pictures of any size in rows and columns, each under a title and a line of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pygan.pictures import canvas
from pygan.pictures.grid import PictureError
from pygan.pictures.png import check_picture, write_png

MARGIN, GAP, TITLE, SIDE = 20, 20, 44, 280


@dataclass(frozen=True)
class Panel:
    """One picture, grey or RGB; None leaves an empty place that says so."""

    title: str
    line: str
    picture: np.ndarray | None


def panels(rows: Sequence[Sequence[Panel]]) -> np.ndarray:
    """``rows`` of panels as ``(H, W, 3)`` uint8; small pictures are enlarged by whole factors.

    Raises ``PictureError`` without any panel, and on a picture of another form.
    """
    if not rows or not all(rows):
        raise PictureError("there is no panel to draw")
    drawn = [[_enlarged(panel.picture) for panel in row] for row in rows]
    sizes = [picture.shape[:2] for row in drawn for picture in row if picture is not None] or [(SIDE, SIDE)]
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    width = max(width, SIDE)
    columns = max(map(len, rows))
    image, pen = canvas.new_canvas(
        2 * MARGIN + columns * (width + GAP) - GAP, 2 * MARGIN + len(rows) * (height + TITLE + GAP) - GAP
    )
    bold, face = canvas.font(14, "-Bold"), canvas.font(12)
    for y, row in enumerate(rows):
        for x, panel in enumerate(row):
            left, top = MARGIN + x * (width + GAP), MARGIN + y * (height + TITLE + GAP)
            pen.text((left, top + 8), canvas.fitted(panel.title, bold, width), canvas.INK, bold, "lm")
            pen.text((left, top + 28), canvas.fitted(panel.line, face, width), canvas.MUTED, face, "lm")
            picture = drawn[y][x]
            if picture is None:
                canvas.place_vacant(image, (width, height), left, top + TITLE, "no picture recorded")
            else:
                canvas.place(image, picture, left, top + TITLE)
    return np.array(image)


def write_panels(path: str | os.PathLike[str], rows: Sequence[Sequence[Panel]]) -> None:
    """Write :func:`panels` as a PNG, atomically. Raises as it does, and ``OutputError``."""
    write_png(path, panels(rows))


def _enlarged(picture: np.ndarray | None) -> np.ndarray | None:
    if picture is None:
        return None
    check_picture(picture)
    return canvas.enlarged(picture, max(1, SIDE // max(picture.shape[:2])))
