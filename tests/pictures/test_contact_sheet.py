"""Which steps a contact sheet shows, and that each grid stands in its place."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pygan.errors import OutputError
from pygan.pictures import PictureError, chosen_steps, read_png, write_contact_sheet
from pygan.pictures.canvas import VACANT
from pygan.pictures.contact_sheet import GAP, HEADER, MARGIN, TITLE

TITLES = ("Flux", "PyTorch")


def grids(steps, size=140):
    return {step: np.random.default_rng(step).integers(0, 256, (size, size), dtype=np.uint8) for step in steps}


def cell(sheet, row, column, size=140):
    top, left = HEADER + row * (TITLE + size + 20) + TITLE, MARGIN + column * (size + GAP)
    return sheet[top : top + size, left : left + size]


def test_log_and_linear_choices():
    steps = list(range(0, 12000, 200))
    assert chosen_steps(steps, 8, "linear") == [0, 1600, 3400, 5000, 6800, 8400, 10200, 11800]
    assert chosen_steps(steps, 8, "log") == [0, 200, 400, 1000, 1800, 3600, 6400, 11800]
    assert chosen_steps([5, 3, 3, 9]) == [3, 5, 9]
    assert chosen_steps([]) == []


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=80), st.integers(2, 12), st.sampled_from(["log", "linear"]))
def test_chosen_steps_are_distinct_ordered_and_include_the_ends(steps, most, spacing):
    chosen = chosen_steps(list(steps), most, spacing)
    assert chosen == sorted(set(chosen)) and set(chosen) <= steps
    assert len(chosen) == min(most, len(steps))
    assert (chosen[0], chosen[-1]) == (min(steps), max(steps)) or len(steps) == 1


@pytest.mark.parametrize(("most", "spacing"), [(1, "log"), (8, "cubic")])
def test_unknown_choices_are_refused(most, spacing):
    with pytest.raises(PictureError, match="expected log or linear"):
        chosen_steps([1, 2], most, spacing)


def test_each_grid_stands_in_its_cell(tmp_path):
    left, right = grids(range(0, 300, 100)), grids(range(50, 350, 50))
    write_contact_sheet(tmp_path / "c.png", left, right, TITLES)
    sheet = read_png(tmp_path / "c.png")
    for column, step in enumerate((100, 200)):
        for row, side in ((0, left), (1, right)):
            assert np.array_equal(cell(sheet, row, column)[:, :, 1], side[step])


def test_a_side_without_a_step_says_so(tmp_path):
    write_contact_sheet(tmp_path / "c.png", grids([0, 10]), {}, TITLES)
    sheet = read_png(tmp_path / "c.png")
    assert (cell(sheet, 1, 0) == np.array(VACANT)).all(axis=2).any()
    assert not (cell(sheet, 0, 0) == np.array(VACANT)).all(axis=2).all()


def test_at_most_eight_columns_and_small_grids_are_enlarged(tmp_path):
    many = grids(range(100), 28)
    write_contact_sheet(tmp_path / "c.png", many, many, TITLES)
    assert read_png(tmp_path / "c.png").shape[1] == 2 * MARGIN + 8 * (84 + GAP) - GAP


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({}, {}),
        (grids([0], 4), grids([0], 6)),
        ({0: np.zeros((4, 4), np.float32)}, {}),
        ({0: np.zeros((4, 4, 3), np.uint8)}, {}),
    ],
)
def test_unfit_grids_are_refused(tmp_path, left, right):
    with pytest.raises(PictureError):
        write_contact_sheet(tmp_path / "c.png", left, right, TITLES)
    assert not os.listdir(tmp_path)


def test_an_unwritable_place_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError):
        write_contact_sheet(tmp_path / "file" / "c.png", grids([0]), grids([0]), TITLES)
