"""Names for grids laid out otherwise, and for pictures drawn with other statistics."""

from __future__ import annotations

import numpy as np
import pytest

from pygan.parity.causes import CAUSES
from pygan.parity.causes.pictures import grid_cause, values_cause
from pygan.parity.evidence import UNKNOWN
from pygan.pictures.grid import grid

PICTURES = np.random.default_rng(0).uniform(-1, 1, (9, 1, 6, 6))
OWN = grid(PICTURES, 3)


def by_rows(pictures: np.ndarray) -> np.ndarray:
    return grid(pictures.reshape(3, 3, 1, 6, 6).swapaxes(0, 1).reshape(pictures.shape), 3)


LAYOUTS = [
    ("row by row instead of column by column", by_rows(PICTURES)),
    ("each picture upside down", grid(PICTURES[:, :, ::-1], 3)),
    ("each picture mirrored", grid(PICTURES[..., ::-1], 3)),
    ("each picture transposed", grid(PICTURES.swapaxes(2, 3), 3)),
    ("dark for bright", 255 - OWN),
]


@pytest.mark.parametrize(("told", "mine"), LAYOUTS)
def test_a_layout_is_named_by_what_was_done(told: str, mine: np.ndarray) -> None:
    cause = grid_cause(mine, OWN, 9)
    assert (cause.name, cause.detail) == ("grid laid out otherwise", told)
    assert cause.name in CAUSES


def test_other_pictures_and_other_sizes_have_no_name() -> None:
    other = grid(np.random.default_rng(1).uniform(-1, 1, (9, 1, 6, 6)), 3)
    assert grid_cause(other, OWN, 9) == UNKNOWN
    assert grid_cause(OWN[:6], OWN, 9) == UNKNOWN
    assert grid_cause(OWN, OWN, 8) == UNKNOWN
    grey = np.full_like(OWN, 128)
    assert grid_cause(grey + 1, grey, 9) == UNKNOWN, "nothing tells the layouts of equal pictures apart"


def test_stale_statistics_are_found_by_drawing_with_them() -> None:
    state = {"buffer/g.norm.running_mean": np.array([0.3]), "buffer/g.norm.running_var": np.array([2.0])}

    def draw(given: dict[str, np.ndarray]) -> np.ndarray:
        mean, variance = (given[f"buffer/g.norm.running_{name}"] for name in ("mean", "var"))
        return np.asarray((PICTURES - mean) / np.sqrt(variance))

    assert values_cause(PICTURES, state, draw).name == "stale buffers"
    assert values_cause(PICTURES + 1e-3, state, draw) == UNKNOWN
    assert values_cause(draw(state), {}, draw) == UNKNOWN
