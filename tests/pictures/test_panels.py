"""Panels: pictures of several sizes, empty places, and what is refused."""

import numpy as np
import pytest

from pygan.pictures.grid import PictureError
from pygan.pictures.panels import MARGIN, SIDE, TITLE, Panel, panels


def test_pictures_of_unlike_size_are_enlarged_by_whole_factors() -> None:
    small, wide = np.full((4, 4), 17, np.uint8), np.full((100, 200, 3), (7, 201, 99), np.uint8)
    drawn = panels([[Panel("A", "after 3 steps", small), Panel("B", "", wide)], [Panel("C", "", None)]])
    assert (drawn == 17).all(axis=2).sum() == SIDE * SIDE
    assert (drawn == (7, 201, 99)).all(axis=2).sum() == 100 * 200
    assert (drawn[MARGIN + TITLE, MARGIN] == 17).all()


def test_a_large_picture_is_drawn_as_it_is() -> None:
    drawn = panels([[Panel("A", "", np.full((300, 500), 9, np.uint8))]])
    assert (drawn == 9).all(axis=2).sum() == 300 * 500


@pytest.mark.parametrize("rows", [[], [[]], [[Panel("A", "", np.zeros((2, 2)))]]])
def test_what_cannot_be_drawn_is_refused(rows: list[list[Panel]]) -> None:
    with pytest.raises(PictureError):
        panels(rows)
