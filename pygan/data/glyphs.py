"""The strokes of the made digits: pygan's own drawing, a few ways of writing each digit.

A glyph is text: ``x,y`` points in a box of 100 by 100 units (y grows downwards), a space between points,
`` | `` after a point where the pen turns sharply, `` ; `` where it is lifted. Between corners the pen follows a
uniform Catmull-Rom curve through the points, whose weights are integers here, so that every machine
computes the same points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import isqrt

import numpy as np

UNIT = 256
"""Fixed-point steps in one glyph unit."""

WEIGHT_BITS = 12
"""Curve weights are multiples of ``2 ** -WEIGHT_BITS``."""

_SPACING = 2  # glyph units between neighbouring points of a curve: 0.4 pixels where 100 units are 20 pixels

GLYPHS: dict[int, tuple[str, ...]] = {
    0: (
        "52,0 27,13 16,48 25,85 50,100 75,86 85,50 76,14 50,1",
        "64,6 42,4 22,32 20,72 42,100 68,88 82,50 76,14 54,2 38,12",
        "40,6 20,30 18,68 38,97 64,94 82,66 80,28 58,2 34,10",
    ),
    1: (
        "50,0 50,50 50,100",
        "52,0 51,34 49,66 50,100",
        "33,20 44,11 54,0 | 53,50 52,100",
        "32,22 44,12 54,0 | 54,50 54,100 ; 28,100 54,99 80,100",
    ),
    2: (
        "18,25 30,6 54,0 76,14 75,38 50,68 16,99 | 50,98 86,97",
        "20,22 38,3 62,3 76,22 66,52 40,84 20,96 12,86 26,78 56,92 88,94",
        "22,16 46,0 70,10 74,32 56,62 20,98 | 36,92 60,97 84,90",
    ),
    3: (
        "18,14 42,0 68,8 72,28 56,43 36,47 | 62,51 80,70 68,94 40,100 16,87",
        "20,3 46,3 74,2 | 60,20 45,41 | 70,48 80,72 64,95 38,100 17,89",
        "20,10 44,0 70,10 66,34 46,44 34,48 38,51 56,48 76,60 78,82 58,100 30,98 14,84",
    ),
    4: (
        "27,2 21,30 15,57 | 50,56 88,54 ; 68,14 66,56 64,100",
        "64,100 64,50 65,0 | 38,34 10,68 | 50,68 90,67",
        "22,6 17,38 28,56 50,56 72,46 ; 78,2 74,50 66,100",
        "52,0 34,30 14,60 | 50,60 86,58 ; 62,34 60,66 58,100",
    ),
    5: (
        "30,5 27,24 24,45 | 50,37 74,50 78,74 60,96 36,100 15,88 ; 30,5 56,5 82,3",
        "80,3 56,5 32,5 | 27,24 23,44 | 48,40 72,52 76,78 56,98 30,99 14,90",
        "78,2 54,6 36,4 28,14 26,36 34,44 58,46 74,62 70,88 46,100 18,94",
    ),
    6: (
        "68,2 42,17 23,46 18,78 38,99 64,94 75,74 62,55 40,55 22,73",
        "56,0 36,32 21,66 30,94 54,99 72,84 66,64 46,60 24,76",
        "74,8 56,0 34,16 20,48 20,80 42,100 68,90 72,66 52,52 28,62 20,80",
    ),
    7: (
        "14,6 50,5 85,2 | 66,36 52,68 45,100",
        "16,5 50,6 82,3 | 62,50 42,100 ; 34,53 54,50 76,47",
        "14,22 17,5 | 50,7 84,4 | 68,32 54,62 50,100",
        "15,12 28,3 46,11 66,10 84,2 72,26 54,60 42,100",
    ),
    8: (
        "75,14 50,0 28,12 32,34 54,48 76,66 74,90 50,100 26,90 26,68 48,48 70,32 75,12",
        "50,47 28,34 28,11 50,0 72,11 72,34 50,47 24,62 22,88 50,100 78,88 76,62 50,47",
        "66,6 40,2 28,18 42,40 66,60 74,82 54,100 30,90 32,68 54,46 74,24 64,5",
    ),
    9: (
        "74,20 54,1 30,9 23,32 40,48 62,40 74,19 | 73,60 70,100",
        "76,20 54,0 30,8 24,32 42,48 66,38 76,16 79,44 72,78 52,99 28,92",
        "72,10 46,0 26,18 28,42 48,48 68,32 73,10 | 64,56 48,100",
        "68,8 40,6 24,30 40,48 64,34 70,10 | 70,50 74,82 88,96",
    ),
}
"""Ways of writing each digit, drawn with equal chance."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A glyph made ready for drawing: its points are ``weights @ controls >> WEIGHT_BITS``.

    ``controls``: ``(C, 2)`` int64, x and y in steps of ``1 / UNIT``. ``weights``: ``(P, C)`` int64, rows adding
    up to ``2 ** WEIGHT_BITS``. ``along``: ``(P,)`` int64, how far along the pen is, 0 to 1024.
    """

    digit: int
    controls: np.ndarray
    weights: np.ndarray
    along: np.ndarray


def _span(n: int) -> list[tuple[int, int, int, int]]:
    """Catmull-Rom weights of the four controls around a span, at ``k / n`` for ``k`` in ``0 .. n - 1``."""
    rows = []
    one, bottom = 1 << WEIGHT_BITS, 2 * n**3
    for k in range(n):
        tops = (
            -k * n * n + 2 * k * k * n - k**3,
            0,  # the rest, so that the four add up to one
            k * n * n + 4 * k * k * n - 3 * k**3,
            -k * k * n + k**3,
        )
        before, _, after, beyond = ((2 * top * one + bottom) // (2 * bottom) for top in tops)
        rows.append((before, one - before - after - beyond, after, beyond))
    return rows


def _parse(text: str) -> tuple[list[tuple[int, int]], list[list[int]]]:
    """Control points, and the runs of control indices that one smooth curve goes through."""
    points: list[tuple[int, int]] = []
    runs: list[list[int]] = [[]]
    for token in text.split():
        if token == ";":
            runs.append([])
        elif token == "|":
            runs.append([runs[-1][-1]])
        else:
            x, y = token.split(",")
            runs[-1].append(len(points))
            points.append((int(x), int(y)))
    return points, runs


def curve(digit: int, text: str) -> Curve:
    """Turn a glyph's text into a ``Curve`` with points about 2 units apart."""
    points, runs = _parse(text)
    rows: list[np.ndarray] = []
    for run in runs:
        for position in range(len(run) - 1):
            here, there = run[position], run[position + 1]
            ends = (run[max(position - 1, 0)], here, there, run[min(position + 2, len(run) - 1)])
            dx, dy = (points[there][axis] - points[here][axis] for axis in (0, 1))
            n = max(isqrt(dx * dx + dy * dy) // _SPACING, 2)
            last = position == len(run) - 2
            for weights in [*_span(n), *([(0, 0, 1 << WEIGHT_BITS, 0)] if last else [])]:
                row = np.zeros(len(points), dtype=np.int64)
                for control, weight in zip(ends, weights, strict=True):
                    row[control] += weight
                rows.append(row)
    count = len(rows)
    return Curve(
        digit,
        np.array(points, dtype=np.int64) * UNIT,
        np.stack(rows),
        np.arange(count, dtype=np.int64) * 1024 // (count - 1),
    )


@cache
def curves() -> tuple[tuple[Curve, ...], ...]:
    """All glyphs made ready, by digit."""
    return tuple(tuple(curve(digit, text) for text in GLYPHS[digit]) for digit in range(10))


@cache
def most_controls() -> int:
    """The largest number of control points in a glyph."""
    return max(len(one.controls) for ways in curves() for one in ways)
