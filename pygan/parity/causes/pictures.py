"""Pictures: the layout of their grid, and the statistics that they were drawn with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isqrt

import numpy as np

from pygan.parity.evidence import UNKNOWN, Cause


def grid_cause(candidate: np.ndarray, reference: np.ndarray, count: int) -> Cause:
    """What lays out the ``count`` pictures of the reference's grid ``(H, W)`` uint8 as the candidate's does."""
    side = isqrt(count)
    if candidate.shape != reference.shape or side * side != count or any(size % side for size in reference.shape):
        return UNKNOWN
    height, width = (size // side for size in reference.shape)
    cells = reference.reshape(side, height, side, width).swapaxes(1, 2)  # row, column, y, x
    ways = {
        "row by row instead of column by column": cells.swapaxes(0, 1),
        "rows from the bottom up": cells[::-1],
        "columns from right to left": cells[:, ::-1],
        "each picture upside down": cells[:, :, ::-1],
        "each picture mirrored": cells[..., ::-1],
        "dark for bright": 255 - cells,
    }
    if height == width:
        ways["each picture transposed"] = cells.swapaxes(2, 3)
    unlike = {told: _unlike(candidate, way.swapaxes(1, 2).reshape(reference.shape)) for told, way in ways.items()}
    (told, least), *others = sorted(unlike.items(), key=lambda item: item[1])
    holds = least <= MOST_UNLIKE * _unlike(candidate, reference) and least < others[0][1]
    return Cause("grid laid out otherwise", told) if holds else UNKNOWN


MOST_UNLIKE = 0.02
"""Share of the unlike pixels that a layout may leave: where rounding to 8 bits falls between two values."""


def _unlike(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.count_nonzero(one != other))


def values_cause(
    candidate: np.ndarray, state: Mapping[str, np.ndarray], draw: Callable[[dict[str, np.ndarray]], np.ndarray]
) -> Cause:
    """What ``draw`` makes of an altered ``state`` as the candidate made its pictures of that state."""
    statistics = {key: value for key, value in state.items() if key.startswith("buffer/")}
    fresh = {key: np.full_like(value, key.endswith("running_var")) for key, value in statistics.items()}
    near = 1e-4 if candidate.dtype == np.float32 else 1e-9
    if fresh and np.allclose(draw({**state, **fresh}), candidate, rtol=near, atol=near):
        return Cause("stale buffers", "the pictures are those of the running statistics before the first step")
    return UNKNOWN
