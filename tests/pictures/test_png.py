"""PNG files: exact, atomic, named as the article names them."""

import os
import struct

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from pygan.errors import DataError, OutputError
from pygan.pictures import PictureError, file_name, picture_files, read_png, write_png

LEVELS = np.arange(256, dtype=np.uint8).reshape(8, 32)


def test_grey_comes_back_exactly_and_is_8_bit_grey_on_disk(tmp_path):
    path = tmp_path / "made" / "levels.png"
    write_png(path, LEVELS)
    assert np.array_equal(read_png(path), LEVELS)
    assert np.array_equal(iio.imread(path), LEVELS)
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", path.read_bytes()[16:29])
    assert (width, height, depth, colour) == (32, 8, 8, 0)
    assert os.listdir(path.parent) == ["levels.png"]


def test_colour_comes_back_exactly(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    write_png(tmp_path / "c.png", picture)
    assert np.array_equal(read_png(tmp_path / "c.png"), picture)


def test_a_picture_that_is_a_view_is_written_as_seen(tmp_path):
    write_png(tmp_path / "t.png", LEVELS.T[::-1])
    assert np.array_equal(read_png(tmp_path / "t.png"), LEVELS.T[::-1])


def test_names_are_the_articles_and_sort_by_step(tmp_path):
    steps = [11725, 0, 2000, 1000]
    assert file_name(1000) == "dcgan_steps_001000.png"
    for step in steps:
        write_png(tmp_path / file_name(step), LEVELS)
    write_png(tmp_path / "other.png", LEVELS)
    assert [path.name for path in picture_files(tmp_path)] == [file_name(step) for step in sorted(steps)]
    with pytest.raises(PictureError, match="step -1"):
        file_name(-1)


@pytest.mark.parametrize(
    "picture",
    [np.zeros((2, 2), np.float32), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2), np.uint8), np.zeros(4, np.uint8)],
)
def test_what_is_no_picture_is_refused_and_nothing_written(tmp_path, picture):
    with pytest.raises(PictureError, match="expected"):
        write_png(tmp_path / "x.png", picture)
    assert not os.listdir(tmp_path)


def test_an_unwritable_place_is_an_output_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "taken.png").mkdir()
    for path in (tmp_path / "file" / "x.png", tmp_path / "taken.png"):
        with pytest.raises(OutputError, match="cannot write"):
            write_png(path, LEVELS)
    assert sorted(os.listdir(tmp_path)) == ["file", "taken.png"]
    assert not os.listdir(tmp_path / "taken.png")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_the_old_picture(tmp_path, monkeypatch, stop):
    path = tmp_path / "x.png"
    write_png(path, LEVELS)

    def half(self, target, **options):
        target.write_bytes(b"\x89PNG half")
        raise stop

    monkeypatch.setattr(Image.Image, "save", half)
    with pytest.raises((KeyboardInterrupt, OutputError)):
        write_png(path, 255 - LEVELS)
    assert os.listdir(tmp_path) == ["x.png"]
    assert np.array_equal(read_png(path), LEVELS)


def test_missing_and_damaged_files_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="no picture"):
        read_png(tmp_path / "none.png")
    write_png(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8))
    whole = (tmp_path / "whole.png").read_bytes()
    broken = tmp_path / "broken.png"
    for content in (b"", b"not a picture", whole[:20], whole[:-200], whole[:60] + b"\0\0\0" + whole[63:]):
        broken.write_bytes(content)
        with pytest.raises(DataError, match="no readable PNG"):
            read_png(broken)


def test_other_kinds_of_png_are_data_errors(tmp_path):
    Image.new("RGBA", (3, 3)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="RGBA"):
        read_png(tmp_path / "a.png")
