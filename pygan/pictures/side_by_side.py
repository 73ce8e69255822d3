"""Two trainings side by side: both stacks' pictures, where they differ, their losses, a verdict and a note."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from pygan.pictures import canvas
from pygan.pictures.gif import write_gif
from pygan.pictures.grid import PictureError

MARGIN, GAP = 24, 20
HEADER, TITLE = 64, 34
FOOTER, NOTE = 74, 24
NARROWEST = 280
SHORT_NAMES = {"discriminator": "D", "generator": "G"}


@dataclass(frozen=True)
class SideBySideFrame:
    """One step of both trainings; a stack without a picture at this step gives ``None``.

    ``left``, ``right``: grids ``(H, W)`` uint8, as :func:`pygan.pictures.grid` makes them. Losses by name, of this
    step. ``verdict``: agree, differs, beyond horizon or not run, a reason may follow; empty where nothing is judged.
    ``note``: a line at the foot.
    """

    step: int
    left: np.ndarray | None
    right: np.ndarray | None
    left_losses: Mapping[str, float] = field(default_factory=dict)
    right_losses: Mapping[str, float] = field(default_factory=dict)
    verdict: str = ""
    note: str = ""


def compose(frames: Sequence[SideBySideFrame], titles: tuple[str, str], scale: int | None = None) -> list[np.ndarray]:
    """Each frame drawn as ``(H, W, 3)`` uint8, all of one size: left stack, right stack, absolute difference.

    ``titles``: what the stacks are, e.g. ``("Flux 0.16.9 (recorded)", "PyTorch 2.13 (live)")``. ``scale``: screen
    pixels per pixel of a grid; by default 2 for the article's 140 x 140. The colours of the difference mean the same
    number of grey levels in every frame and every file; the scale under that panel states them.
    Raises ``PictureError`` on no frames, no picture at all, grids that disagree in shape, or an unknown verdict.
    """
    shape = _shape(frames)
    if scale is None:
        scale = max(1, 340 // max(shape))
    if scale < 1:
        raise PictureError(f"a scale of {scale} draws nothing; expected at least 1")
    return [_drawn(frame, titles, shape, scale) for frame in frames]


def write_side_by_side(
    path: str | os.PathLike[str],
    frames: Sequence[SideBySideFrame],
    titles: tuple[str, str],
    fps: float = 4,
    scale: int | None = None,
) -> int:
    """Write the frames of :func:`compose` as a GIF, one frame per step; return the milliseconds of a frame.

    In the GIF the pictures keep 32 of their 256 grey levels (the colours of the difference are exact, and so are the
    pixels that it is taken from). Size: about 15 to 60 kB a frame at scale 2, under half of that at scale 1.
    Raises as :func:`compose` and :func:`pygan.pictures.write_gif` do.
    """
    return write_gif(path, compose(frames, titles, scale), fps, canvas.palette())


def _shape(frames: Sequence[SideBySideFrame]) -> tuple[int, int]:
    """The one shape of every grid."""
    shape: tuple[int, int] | None = None
    for frame in frames:
        for name, picture in (("left", frame.left), ("right", frame.right)):
            if picture is None:
                continue
            if picture.ndim != 2 or picture.dtype != np.uint8 or not picture.size:
                raise PictureError(
                    f"the {name} grid of step {frame.step} has shape {picture.shape}, {picture.dtype}; "
                    "expected (H, W), uint8"
                )
            if shape is not None and picture.shape != shape:
                raise PictureError(
                    f"the {name} grid of step {frame.step} has shape {picture.shape}, those before it {shape}"
                )
            shape = (picture.shape[0], picture.shape[1])
    if shape is None:
        raise PictureError("there is no picture on either side, so nothing to show side by side")
    return shape


def _drawn(frame: SideBySideFrame, titles: tuple[str, str], shape: tuple[int, int], scale: int) -> np.ndarray:
    size = (shape[1] * scale, shape[0] * scale)
    column = max(size[0], NARROWEST)
    width = 2 * MARGIN + 3 * column + 2 * GAP
    height = HEADER + TITLE + size[1] + FOOTER + NOTE
    image, pen = canvas.new_canvas(width, height)
    edge = width - MARGIN
    if frame.verdict:
        edge = canvas.pill(image, edge, 18, frame.verdict, canvas.verdict_colour(frame.verdict), width // 2)
    heading = canvas.font(24, "-Bold")
    counter = canvas.fitted(f"Step {frame.step:,}", heading, edge - MARGIN - GAP)
    pen.text((MARGIN, 32), counter, canvas.INK, heading, "lm")
    pen.line((MARGIN, HEADER - 6, width - MARGIN, HEADER - 6), canvas.EDGE)

    top = HEADER + TITLE
    lefts = [MARGIN + number * (column + GAP) for number in range(3)]
    sides = ((canvas.LEFT, frame.left, frame.left_losses), (canvas.RIGHT, frame.right, frame.right_losses))
    for left, title, (colour, picture, losses) in zip(lefts, titles, sides, strict=False):
        face = canvas.font(14, "-Bold")
        pen.rectangle((left, HEADER + 8, left + 4, HEADER + 23), fill=colour)
        pen.text((left + 12, HEADER + 16), canvas.fitted(title, face, column - 12), canvas.INK, face, "lm")
        if picture is None:
            canvas.place_vacant(image, size, left, top, "no picture at this step")
        else:
            canvas.place(image, canvas.enlarged(picture, scale), left, top)
        _losses(pen, losses, left, top + size[1] + 12, column)
    _difference(image, pen, frame, lefts[2], top, size, column, scale)
    face = canvas.font(12)
    pen.text((MARGIN, height - 22), canvas.fitted(frame.note, face, width - 2 * MARGIN), canvas.MUTED, face, "lm")
    return np.array(image)


def _losses(pen: ImageDraw.ImageDraw, losses: Mapping[str, float], left: int, top: int, width: int) -> None:
    """One line per loss, its name and value."""
    value_face = canvas.font(13, "Mono")
    if not losses:
        pen.text((left, top + 8), "no losses at this step", canvas.MUTED, canvas.font(13), "lm")
    for number, (name, value) in enumerate(list(losses.items())[:3]):
        line = f"loss {SHORT_NAMES.get(name, name)}  {value:.6f}"
        pen.text((left, top + 8 + 18 * number), canvas.fitted(line, value_face, width), canvas.INK, value_face, "lm")


def _difference(
    image: Image.Image,
    pen: ImageDraw.ImageDraw,
    frame: SideBySideFrame,
    left: int,
    top: int,
    size: tuple[int, int],
    column: int,
    scale: int,
) -> None:
    """Third panel: absolute difference in colour, its largest value in words, and the scale of the colours."""
    face, small = canvas.font(14, "-Bold"), canvas.font(12)
    pen.text((left, HEADER + 16), "Difference", canvas.INK, face, "lm")
    if frame.left is None or frame.right is None:
        canvas.place_vacant(image, size, left, top, "nothing to compare")
    else:
        levels = np.abs(frame.left.astype(np.int16) - frame.right.astype(np.int16))
        canvas.place(image, canvas.enlarged(canvas.difference_colours()[levels], scale), left, top)
        count = int(np.count_nonzero(levels))
        words = f"max {int(levels.max())} in {count:,} px" if count else "none: equal pixels"
        pen.text((left + column, HEADER + 16), words, canvas.MUTED, small, "rm")
    bar = np.round(2 ** (np.linspace(0, 8, column)) - 1).astype(np.int64)
    foot = top + size[1] + 12
    canvas.place(image, np.repeat(canvas.difference_colours()[bar][None], 10, axis=0), left, foot)
    tick_face = canvas.font(11)
    for power in (0, 1, 2, 3, 4, 5, 6, 8):
        anchor = "lt" if power == 0 else "rt" if power == 8 else "mt"
        pen.text((left + column * power // 8, foot + 15), str(2**power - 1), canvas.MUTED, tick_face, anchor)
    pen.text((left, foot + 38), "grey levels of 255, log scale", canvas.MUTED, tick_face, "lm")
