"""One picture of two whole trainings: both stacks' grids at a few steps, one row a stack."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from pygan.pictures import canvas
from pygan.pictures.grid import PictureError
from pygan.pictures.png import write_png

MARGIN, GAP, TITLE, HEADER = 24, 12, 32, 34
NARROWEST = 84


def chosen_steps(steps: list[int], most: int = 8, spacing: str = "log") -> list[int]:
    """At most ``most`` of ``steps``, in order, first and last always among them.

    ``spacing`` "log" takes more of the early steps, where a training changes fastest; "linear" spaces them evenly.
    Raises ``PictureError`` on an unknown spacing or ``most`` below 2.
    """
    ordered = sorted(set(steps))
    if spacing not in ("log", "linear") or most < 2:
        raise PictureError(f"spacing {spacing!r} with at most {most} steps; expected log or linear, and at least 2")
    if len(ordered) <= most:
        return ordered
    times = np.array(ordered, np.float64) - ordered[0]
    if spacing == "log":
        times = np.log1p(times / times[1])
    wanted = np.linspace(times[0], times[-1], most)
    # Each wanted time takes the nearest step that leaves enough for those after it, so that none is taken twice.
    chosen: list[int] = []
    for number, time in enumerate(wanted):
        low = chosen[-1] + 1 if chosen else 0
        high = len(ordered) - (most - number)
        chosen.append(low + int(np.argmin(np.abs(times[low : high + 1] - time))))
    return [ordered[index] for index in chosen]


def contact_sheet(
    left: Mapping[int, np.ndarray],
    right: Mapping[int, np.ndarray],
    titles: tuple[str, str],
    most: int = 8,
    spacing: str = "log",
) -> np.ndarray:
    """Both stacks over time as ``(H, W, 3)`` uint8: two rows of grids, a column a step.

    ``left``, ``right``: grid ``(H, W)`` uint8 by step. The columns are :func:`chosen_steps` of the steps that both
    have, or of all if they share none; then the missing side says so.
    Raises ``PictureError`` if there is no grid at all, or grids disagree in shape.
    """
    shared = sorted(set(left) & set(right)) or sorted(set(left) | set(right))
    shapes = {(picture.shape, picture.dtype.name) for side in (left, right) for picture in side.values()}
    if len(shapes) != 1:
        found = ", ".join(sorted(f"{shape} {dtype}" for shape, dtype in shapes)) or "no picture at all"
        raise PictureError(f"a contact sheet needs grids of one shape; found {found}")
    ((shape, dtype),) = shapes
    if len(shape) != 2 or dtype != "uint8":
        raise PictureError(f"a grid has shape {shape}, {dtype}; expected (H, W), uint8")
    steps = chosen_steps(shared, most, spacing)
    scale = -(-NARROWEST // shape[1])
    size = (shape[1] * scale, shape[0] * scale)
    width = 2 * MARGIN + max(len(steps) * (size[0] + GAP) - GAP, 360)
    row_height = TITLE + size[1] + 20
    image, pen = canvas.new_canvas(width, HEADER + 2 * row_height + 8)
    face = canvas.font(12)
    for column, step in enumerate(steps):
        middle = MARGIN + column * (size[0] + GAP) + size[0] // 2
        words = f"step {step:,}"
        pen.text((middle, 26), canvas.fitted(words, face, size[0] + GAP), canvas.MUTED, face, "mm")
    bold = canvas.font(14, "-Bold")
    for row, (title, colour, side) in enumerate(zip(titles, (canvas.LEFT, canvas.RIGHT), (left, right), strict=False)):
        top = HEADER + row * row_height
        pen.rectangle((MARGIN, top + 8, MARGIN + 4, top + 23), fill=colour)
        pen.text((MARGIN + 12, top + 16), canvas.fitted(title, bold, width - 2 * MARGIN - 12), canvas.INK, bold, "lm")
        for column, step in enumerate(steps):
            at = (MARGIN + column * (size[0] + GAP), top + TITLE)
            if step in side:
                canvas.place(image, canvas.enlarged(side[step], scale), *at)
            else:
                canvas.place_vacant(image, size, *at, "no picture", 11)
    return np.array(image)


def write_contact_sheet(
    path: str | os.PathLike[str],
    left: Mapping[int, np.ndarray],
    right: Mapping[int, np.ndarray],
    titles: tuple[str, str],
    most: int = 8,
    spacing: str = "log",
) -> None:
    """Write :func:`contact_sheet` as a PNG, atomically. Raises as it does, and ``OutputError``."""
    write_png(path, contact_sheet(left, right, titles, most, spacing))
