"""From a network's output to bytes: rounding, and the article's column-major grid.

Twin of ``pixels`` and ``picture_grid`` in ``julia/src/pictures.jl``; equal bytes for equal values.
"""

from __future__ import annotations

import numpy as np

from pygan.errors import PyganError


class PictureError(PyganError):
    """A value, shape or dtype from which no picture can be made."""


def pixels(values: np.ndarray) -> np.ndarray:
    """Grey levels of values in [-1, 1]: ``255 * (y + 1) / 2`` rounded to nearest, ties to even.

    ``values``: ``(n, 1, H, W)`` float; returns uint8 of the same shape. Every operation is rounded to Float32, wider
    values are rounded to Float32 first, and what lies outside [-1, 1] is cut off. Source: the article saves
    ``Gray{Float32}`` pictures, which its PNG writer rounds to nearest.
    Raises ``PictureError`` naming the picture that holds a NaN or an infinity, or the wrong shape or dtype.

    >>> pixels(np.float32([-1, 0, 0.5, 1, 7]).reshape(1, 1, 1, 5)).tolist()
    [[[[0, 128, 191, 255, 255]]]]
    """
    if values.ndim != 4 or values.shape[1] != 1 or not np.issubdtype(values.dtype, np.floating):
        raise PictureError(
            f"pictures have shape {values.shape}, {values.dtype}; expected (n, 1, H, W), floating point in [-1, 1]"
        )
    broken = np.argwhere(~np.isfinite(values))
    if broken.size:
        picture, _, row, column = (int(place) for place in broken[0])
        raise PictureError(
            f"picture {picture} of {len(values)} holds {values[picture, 0, row, column]} at row {row}, column {column} "
            f"({len(broken):,} values of {values.size:,} are not finite): the training that drew it has diverged"
        )
    with np.errstate(over="ignore"):
        levels = (values.astype(np.float32) + np.float32(1)) / np.float32(2) * np.float32(255)
    rounded: np.ndarray = np.rint(np.clip(levels, np.float32(0), np.float32(255))).astype(np.uint8)
    return rounded


def grid(values: np.ndarray, side: int) -> np.ndarray:
    """Pictures in a square, column-major: picture ``k`` at row ``k % side``, column ``k // side``, upright.

    ``values``: ``(side * side, 1, H, W)`` float in [-1, 1]; returns ``(side * H, side * W)`` uint8, rounded by
    :func:`pixels`. Raises ``PictureError`` if there are more or fewer pictures, or as :func:`pixels` does.

    Four pictures of one pixel, ever brighter: the second lies under the first, the third beside it.

    >>> grid(np.linspace(-1, 1, 4).reshape(4, 1, 1, 1), side=2).tolist()
    [[0, 170], [85, 255]]
    """
    levels = pixels(values)
    count, _, height, width = levels.shape
    if side < 1 or count != side * side:
        raise PictureError(f"{count} pictures do not fill a grid of {side} x {side}")
    by_column = levels.reshape(side, side, height, width)  # column, row, y, x
    return np.ascontiguousarray(by_column.transpose(1, 2, 0, 3).reshape(side * height, side * width))


def split(picture: np.ndarray, side: int) -> np.ndarray:
    """The pictures of a grid in the order in which :func:`grid` took them.

    ``picture``: ``(side * H, side * W)`` uint8; returns ``(side * side, H, W)`` uint8.
    Raises ``PictureError`` if the grid is no uint8 matrix or does not divide into ``side`` rows and columns.
    """
    if picture.ndim != 2 or picture.dtype != np.uint8:
        raise PictureError(f"a grid has shape {picture.shape}, {picture.dtype}; expected (H, W), uint8")
    rows, columns = picture.shape
    if side < 1 or rows % side or columns % side or not picture.size:
        raise PictureError(f"a grid of {rows} x {columns} pixels does not divide into {side} rows and columns")
    height, width = rows // side, columns // side
    by_row = picture.reshape(side, height, side, width)  # row, y, column, x
    return np.ascontiguousarray(by_row.transpose(2, 0, 1, 3).reshape(side * side, height, width))
