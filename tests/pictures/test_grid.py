"""Rounding to bytes, and where each picture of a grid lies."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pygan.pictures import PictureError, grid, pixels, split


def one(value, dtype=np.float32):
    return int(pixels(np.full((1, 1, 1, 1), value, dtype))[0, 0, 0, 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_byte_comes_back_from_its_own_value(dtype):
    levels = np.arange(256, dtype=np.uint8)
    values = (levels.astype(dtype) / dtype(255) * dtype(2) - dtype(1)).reshape(1, 1, 16, 16)
    assert np.array_equal(pixels(values).ravel(), levels)


@pytest.mark.parametrize("level", range(255))
def test_values_round_to_the_nearer_level(level):
    assert one((level + 0.4) / 127.5 - 1) == level
    assert one((level + 0.6) / 127.5 - 1) == level + 1


def test_the_operations_are_those_of_float32_one_by_one():
    values = np.random.default_rng(0).uniform(-1, 1, (4, 1, 50, 50))
    expected = [
        int(np.rint(np.float32(np.float32(np.float32(np.float32(v) + 1) / np.float32(2)) * np.float32(255))))
        for v in values.ravel()
    ]
    assert pixels(values).ravel().tolist() == expected


def test_the_bytes_are_those_of_the_julia_twin():
    # Julia 1.10: bytes2hex(sha256(PyganFlux.pixels(Float32.(-32768:32768) ./ 32768f0)))
    values = (np.arange(-32768, 32769) / 32768).astype(np.float32).reshape(-1, 1, 1, 1)
    expected = "10bf0f38c4233112f876c36d85588af8ebbdaafd4e1366eaf3df01533862dcb2"
    assert hashlib.sha256(pixels(values).tobytes()).hexdigest() == expected


def test_ties_go_to_the_even_level():
    assert one(0) == 128
    halves = ((np.arange(255) + 0.5) / 127.5 - 1).astype(np.float32)
    ties = halves[(halves + np.float32(1)) / np.float32(2) * np.float32(255) % 1 == 0.5]
    assert len(ties) > 50
    assert all(one(v) % 2 == 0 for v in ties)


def test_values_outside_are_cut_off():
    assert [one(v) for v in (-1, 1, -1.5, 1.5, -3e38, 3e38)] == [0, 255, 0, 255, 0, 255]
    assert one(1e300, np.float64) == 255


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_an_error_that_names_the_picture(bad):
    values = np.zeros((9, 1, 4, 4), np.float32)
    values[5, 0, 2, 3] = bad
    with pytest.raises(PictureError, match=rf"picture 5 of 9 holds {bad} at row 2, column 3"):
        grid(values, 3)


@pytest.mark.parametrize(
    "values",
    [np.zeros((4, 28, 28), np.float32), np.zeros((4, 3, 8, 8), np.float32), np.zeros((4, 1, 8, 8), np.uint8)],
    ids=["no channel", "three channels", "integers"],
)
def test_other_shapes_and_dtypes_are_errors(values):
    with pytest.raises(PictureError, match=r"expected \(n, 1, H, W\)"):
        pixels(values)


@pytest.mark.parametrize("side", range(1, 7))
def test_picture_k_lies_at_row_k_mod_side_column_k_div_side(side):
    for k in range(side * side):
        values = np.full((side * side, 1, 3, 4), -1, np.float32)
        values[k] = 1
        expected = np.zeros((side * 3, side * 4), np.uint8)
        row, column = k % side, k // side
        expected[row * 3 : row * 3 + 3, column * 4 : column * 4 + 4] = 255
        assert np.array_equal(grid(values, side), expected)


def test_pictures_are_upright():
    values = np.full((1, 1, 3, 2), -1, np.float32)
    values[0, 0, 0, 1] = 1
    assert grid(values, 1).tolist() == [[0, 255], [0, 0], [0, 0]]


def test_the_articles_grid_is_140_by_140_and_the_model_zoos_168():
    for side, size in ((5, 140), (6, 168)):
        picture = grid(np.zeros((side * side, 1, 28, 28), np.float32), side)
        assert picture.shape == (size, size)
        assert picture.dtype == np.uint8
        assert picture.flags.c_contiguous


@pytest.mark.parametrize(("count", "side"), [(24, 5), (26, 5), (0, 0), (4, -2), (0, 1)])
def test_a_wrong_number_of_pictures_is_an_error(count, side):
    with pytest.raises(PictureError, match="do not fill a grid"):
        grid(np.zeros((count, 1, 2, 2), np.float32), side)


@given(side=st.integers(1, 6), height=st.integers(1, 5), width=st.integers(1, 5), seed=st.integers(0, 2**32 - 1))
def test_split_undoes_grid_and_grid_undoes_split(side, height, width, seed):
    values = np.random.default_rng(seed).uniform(-1.1, 1.1, (side * side, 1, height, width)).astype(np.float32)
    picture = grid(values, side)
    parts = split(picture, side)
    assert np.array_equal(parts, pixels(values)[:, 0])
    assert np.array_equal(grid((parts[:, None] / np.float32(127.5)) - np.float32(1), side), picture)


@pytest.mark.parametrize("side", [0, -1, 3])
def test_split_refuses_what_does_not_divide(side):
    with pytest.raises(PictureError, match="does not divide"):
        split(np.zeros((4, 6), np.uint8), side)


def test_split_refuses_other_arrays():
    with pytest.raises(PictureError, match="expected"):
        split(np.zeros((4, 4), np.float32), 2)
    with pytest.raises(PictureError, match="expected"):
        split(np.zeros((4, 4, 3), np.uint8), 2)
