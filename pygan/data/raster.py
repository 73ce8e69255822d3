"""Drawing the made digits, in integers only, so that every machine draws the same bytes.

A pen follows a glyph's curve (``glyphs.py``): a soft round brush is stamped at every point of the curve, and a
pixel keeps the strongest stamp. Before that a picture's own drawn numbers move its control points, bend the
plane by a coarse grid of displacements, shear, stretch and rotate it, and the result is brought to MNIST's form:
the longer side a little under 20 pixels, the ink centred in 28 x 28.
"""

from __future__ import annotations

from functools import cache
from math import isqrt

import numpy as np

from pygan.data.glyphs import UNIT, WEIGHT_BITS, Curve, curves, most_controls

SIDE = 28
_SUB = 16  # brush positions and radii are multiples of 1/16 pixel
_REACH = 3  # a stamp covers the pixels -3 .. 3 around its own
_STAMP = 2 * _REACH + 1
_PADDED = SIDE + 2 * _REACH
_SOFT = 9  # half the width of the brush's soft edge, 1/16 pixel
_THIN, _THICK = 9, 30  # smallest and largest brush radius, 1/16 pixel
_NODES = 4  # the bending grid has 4 x 4 nodes, 50 units apart
_CELL = 50 * UNIT


class Fields:
    """A queue of drawn 16-bit fields, one row for each picture, that hands out centred integers."""

    def __init__(self, values: np.ndarray) -> None:
        """``values``: ``(B, FIELDS)`` uint16."""
        self._values = values.astype(np.int64)
        self._used = 0

    def take(self, count: int) -> np.ndarray:
        """The next ``count`` raw fields: ``(B, count)`` int64 in 0 .. 65535."""
        self._used += count
        return self._values[:, self._used - count : self._used]

    def tent(self, count: int, reach: int) -> np.ndarray:
        """``(B, count)`` int64 around 0, at most ``reach`` either way, small values more often than large."""
        pairs = self.take(2 * count)
        tent: np.ndarray = ((pairs[:, :count] + pairs[:, count:]) * (2 * reach + 1) >> 17) - reach
        return tent


def fields_needed() -> int:
    """How many 16-bit fields a picture draws."""
    return 1 + 2 * (2 * most_controls() + 2 * _NODES * _NODES + 11)


@cache
def _brush() -> np.ndarray:
    """Stamps by radius, sub-pixel y and sub-pixel x: ``((radii * 16 * 16), 49)`` uint8."""
    fine = 16  # distances in 1/256 pixel
    centres = np.arange(-_REACH, _REACH + 1, dtype=np.int64) * _SUB + _SUB // 2
    offsets = centres[None, :] - np.arange(_SUB, dtype=np.int64)[:, None]  # (sub, 7)
    squares = offsets**2
    square = squares[:, None, :, None] + squares[None, :, None, :]  # (sub y, sub x, 7, 7)
    roots = np.array([isqrt(value * fine * fine) for value in range(int(square.max()) + 1)], dtype=np.int64)
    distance = roots[square]
    radius = np.arange(_THIN, _THICK + 1, dtype=np.int64)[:, None, None, None, None]
    ink: np.ndarray = np.clip(((radius + _SOFT) * fine - distance) * 255 // (2 * _SOFT * fine), 0, 255)
    return ink.astype(np.uint8).reshape(-1, _STAMP * _STAMP)


def _bend(points: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Displace ``points (B, P, 2)`` by the grid ``nodes (B, 16, 2)``, bilinear between its nodes."""
    low = np.clip(points + _CELL // 2, 0, (_NODES - 1) * _CELL - 1)
    cell = low // _CELL
    part = low - cell * _CELL
    corner = cell[..., 1] * _NODES + cell[..., 0]  # (B, P)
    px, py = part[..., :1], part[..., 1:]

    def node(step: int) -> np.ndarray:
        return np.take_along_axis(nodes, (corner + step)[..., None], axis=1)

    upper = node(0) * (_CELL - px) + node(1) * px
    lower = node(_NODES) * (_CELL - px) + node(_NODES + 1) * px
    bent: np.ndarray = points + (upper * (_CELL - py) + lower * py) // (_CELL * _CELL)
    return bent


def _lean(points: np.ndarray, drawn: Fields) -> np.ndarray:
    """Stretch, shear and rotate ``points (B, P, 2)`` about the middle of the glyph's box."""
    x, y = (points[..., axis] - 50 * UNIT for axis in (0, 1))
    x = x * (1060 + drawn.tent(1, 400)) >> 10
    x = x - (y * (140 + drawn.tent(1, 480)) >> 10)
    half = drawn.tent(1, 36)  # tangent of half the angle, in 1/256; the length 1 + tangent^2 is taken out later
    along, across = 65536 - half * half, 512 * half
    leaned: np.ndarray = np.stack([x * along - y * across, x * across + y * along], axis=-1) >> 16
    return leaned


def _place(points: np.ndarray, radius: np.ndarray, drawn: Fields) -> np.ndarray:
    """Bring ``points (B, P, 2)`` to 1/16 pixel: longer side 17 to 20 pixels with the pen, ink in the middle."""
    spread = (points.max(axis=1) - points.min(axis=1)).max(axis=1)[:, None, None]
    wide = (18 * _SUB + _SUB // 2 + drawn.tent(1, 3 * _SUB // 2))[:, :, None] - 2 * radius[:, :, None]
    middle = points.sum(axis=1, keepdims=True) // points.shape[1]
    shift = drawn.tent(2, _SUB)[:, None, :]
    placed = (points - middle) * wide // np.maximum(spread, 1) + SIDE * _SUB // 2 + shift
    inside: np.ndarray = np.clip(placed, 0, SIDE * _SUB - 1)
    return inside


def _radii(curve: Curve, radius: np.ndarray, drawn: Fields) -> np.ndarray:
    """The pen's radius ``(B, P)`` along the curve: ``radius (B, 1)`` changed at the start, the middle and the end."""
    press = drawn.tent(3, 4)
    first, second = np.maximum(512 - curve.along, 0), np.maximum(curve.along - 512, 0)
    change = press[:, :1] * first + press[:, 1:2] * (512 - first - second) + press[:, 2:] * second
    radii: np.ndarray = np.clip(radius + (change >> 9), _THIN, _THICK)
    return radii


def _stamp(at: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Stamp the brush at ``at (B, P, 2)`` with ``radii (B, P)``, both in 1/16 pixel: ``(B, 28, 28)`` uint8."""
    count = len(at)
    pixel, sub = at >> 4, at & 15
    stamps = _brush()[((radii - _THIN) * _SUB + sub[..., 1]) * _SUB + sub[..., 0]]  # (B, P, 49)
    steps = np.arange(_STAMP, dtype=np.int64)
    around = (steps[:, None] * _PADDED + steps).reshape(-1)
    first = np.arange(count, dtype=np.int64)[:, None] * _PADDED**2 + pixel[..., 1] * _PADDED + pixel[..., 0]
    canvas = np.zeros(count * _PADDED**2, dtype=np.uint8)
    np.maximum.at(canvas, (first[..., None] + around).reshape(-1), stamps.reshape(-1))
    return canvas.reshape(count, _PADDED, _PADDED)[:, _REACH:-_REACH, _REACH:-_REACH]


def draw(curve: Curve, values: np.ndarray) -> np.ndarray:
    """Draw one glyph once for each row of ``values (B, fields_needed())`` uint16: ``(B, 28, 28)`` uint8."""
    drawn = Fields(values)
    drawn.take(1)  # the way of writing, which chose the curve
    moves = drawn.tent(2 * most_controls(), 5 * UNIT).reshape(len(values), -1, 2)
    nodes = drawn.tent(2 * _NODES * _NODES, 16 * UNIT).reshape(len(values), -1, 2)
    controls = curve.controls + moves[:, : len(curve.controls)]
    points = _lean(_bend((curve.weights @ controls) >> WEIGHT_BITS, nodes), drawn)
    radius = 21 + drawn.tent(1, 10)
    ink = _stamp(_place(points, radius, drawn), _radii(curve, radius, drawn)).astype(np.int64)
    peak = np.minimum(290 - np.abs(drawn.tent(1, 90)), 255)
    faded: np.ndarray = ink * peak[:, :, None] // 255
    return faded.astype(np.uint8)


def pictures(labels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Draw a digit for each label.

    ``labels``: ``(B,)`` uint8 in 0 .. 9. ``values``: ``(B, fields_needed())`` uint16, a picture's drawn fields.
    Returns ``(B, 28, 28)`` uint8, ink up to 255 on 0. A picture depends on its own row alone.
    """
    images = np.zeros((len(labels), SIDE, SIDE), dtype=np.uint8)
    for digit, ways in enumerate(curves()):
        way = values[:, 0].astype(np.int64) * len(ways) >> 16
        for number, curve in enumerate(ways):
            chosen = np.flatnonzero((labels == digit) & (way == number))
            if len(chosen):
                images[chosen] = draw(curve, values[chosen])
    return images
