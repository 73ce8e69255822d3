"""The pictures that a StepRecord carries, as values or as the 8-bit grid that people see."""

from __future__ import annotations

import numpy as np

from pygan.pictures.grid import grid
from pygan.records import StepRecord


def picture_values(record: StepRecord) -> np.ndarray:
    """The pictures of a record as ``(side * H, side * W)`` Float64 in [-1, 1], from values or from an 8-bit grid."""
    if "values" not in record.pictures:
        return record.pictures["grid"].astype(np.float64) / 127.5 - 1
    values = record.pictures["values"].astype(np.float64)
    side = int(len(values) ** 0.5)
    count, _, height, width = values.shape
    columns = values[:, 0].reshape(side, side, height, width)  # column, row, y, x
    assert count == side * side
    return columns.transpose(1, 2, 0, 3).reshape(side * height, side * width)


def grid_of(record: StepRecord) -> np.ndarray:
    """The 8-bit picture grid of a record: ``(side * H, side * W)`` uint8. A value that is not finite is drawn black."""
    if "grid" in record.pictures:
        return record.pictures["grid"]
    values = np.nan_to_num(record.pictures["values"], nan=-1.0, posinf=1.0, neginf=-1.0)
    return grid(values, int(len(values) ** 0.5))
