"""GIF files: one frame a picture, exact pixels, stated timing."""

import os

import imageio.v3 as iio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pygan import files
from pygan.errors import DataError, OutputError
from pygan.pictures import PictureError, frame_milliseconds, read_gif, write_gif

RNG = np.random.default_rng(7)


def greys(count, height=30, width=40):
    return [RNG.integers(0, 256, (height, width), dtype=np.uint8) for _ in range(count)]


def colours(count, height=30, width=40, shades=(0, 60, 120, 180, 255)):
    return [RNG.choice(np.array(shades, np.uint8), (height, width, 3)) for _ in range(count)]


def check(path, frames, milliseconds=100):
    gif = read_gif(path)
    assert len(gif.frames) == len(frames)
    assert all(np.array_equal(found, frame) for found, frame in zip(gif.frames, frames, strict=True))
    assert gif.durations == [milliseconds] * len(frames)
    assert gif.loop == 0
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == len(frames)


def test_grey_frames_come_back_exactly_with_all_256_levels(tmp_path):
    frames = [np.arange(256, dtype=np.uint8).reshape(16, 16), *greys(5, 16, 16)]
    assert write_gif(tmp_path / "a.gif", frames, fps=10) == 100
    check(tmp_path / "a.gif", frames)


def test_another_reader_sees_the_same_frames(tmp_path):
    frames = greys(4)
    write_gif(tmp_path / "a.gif", [*frames, frames[-1]], fps=10)
    seen = iio.imread(tmp_path / "a.gif", mode="RGB")
    assert seen.shape == (5, 30, 40, 3)
    assert np.array_equal(seen[..., 0], np.stack([*frames, frames[-1]]))


@pytest.mark.parametrize("make", [greys, colours])
def test_equal_frames_are_all_kept(tmp_path, make):
    same = make(1) * 13
    write_gif(tmp_path / "same.gif", same, fps=10)
    check(tmp_path / "same.gif", same)
    first, second = make(2)
    mixed = [first, first, second, second, second, first, first]
    write_gif(tmp_path / "mixed.gif", mixed, fps=10)
    check(tmp_path / "mixed.gif", mixed)


def test_black_frames_are_all_kept(tmp_path):
    frames = [np.zeros((140, 140), np.uint8)] * 25
    write_gif(tmp_path / "a.gif", frames, fps=10)
    check(tmp_path / "a.gif", frames)


def test_colour_frames_are_exact_where_only_a_part_changes(tmp_path):
    first = colours(1)[0]
    frames = [first]
    for box in ((slice(0, 1), slice(0, 1)), (slice(29, 30), slice(3, 40)), (slice(4, 20), slice(39, 40))):
        changed = frames[-1].copy()
        changed[box] = 255 - changed[box]
        frames.append(changed)
    frames.append(first)
    write_gif(tmp_path / "a.gif", frames, fps=10, palette=None)
    check(tmp_path / "a.gif", frames)


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    count=st.integers(1, 4),
    levels=st.integers(1, 256),
    colour=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_frames_come_back_exactly(tmp_path_factory, height, width, count, levels, colour, seed):
    rng = np.random.default_rng(seed)
    frames = list(rng.integers(0, levels, (count, height, width), dtype=np.uint8))
    if colour:  # at most 255 colours, and one that is no grey
        frames = [np.stack([np.minimum(f, 253), 255 - np.minimum(f, 253), f * 0], axis=2) for f in frames]
    path = tmp_path_factory.mktemp("gif") / "a.gif"
    write_gif(path, frames, fps=10)
    check(path, frames)


def test_a_palette_takes_each_pixel_to_its_nearest_colour(tmp_path):
    frames = [RNG.integers(0, 256, (50, 50, 3), dtype=np.uint8) for _ in range(3)]
    with pytest.raises(PictureError, match="give a palette"):
        write_gif(tmp_path / "a.gif", frames, fps=10)
    palette = RNG.integers(0, 256, (255, 3), dtype=np.uint8)
    write_gif(tmp_path / "a.gif", frames, 10, palette)
    for frame, found in zip(frames, read_gif(tmp_path / "a.gif").frames, strict=True):
        distance = ((frame[:, :, None].astype(int) - palette.astype(int)) ** 2).sum(axis=3)
        assert np.array_equal(((frame.astype(int) - found) ** 2).sum(axis=2), distance.min(axis=2))


@pytest.mark.parametrize(
    ("fps", "milliseconds"),
    [(10, 100), (4, 250), (12, 80), (50, 20), (60, 20), (1000, 20), (0.5, 2000), (1e-9, 655350)],
)
def test_the_stated_duration_is_the_one_in_the_file(tmp_path, fps, milliseconds):
    assert frame_milliseconds(fps) == milliseconds
    frames = greys(3, 5, 5)
    assert write_gif(tmp_path / "a.gif", frames, fps) == milliseconds
    check(tmp_path / "a.gif", frames, milliseconds)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(tmp_path, fps):
    with pytest.raises(PictureError, match="frame rate"):
        write_gif(tmp_path / "a.gif", greys(1), fps)


@pytest.mark.parametrize(
    ("frames", "palette", "message"),
    [
        ([], None, "at least one"),
        ([np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8)], None, "picture 1 has shape"),
        ([np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8)], None, "picture 1 has shape"),
        ([np.zeros((2, 2), np.float32)], None, "expected"),
        ([np.zeros((1, 65536), np.uint8)], None, "do not fit"),
        ([np.zeros((2, 2, 3), np.uint8)], np.zeros((256, 3), np.uint8), "a palette has shape"),
        ([np.zeros((2, 2, 3), np.uint8)], np.zeros((0, 3), np.uint8), "a palette has shape"),
        ([np.zeros((2, 2, 3), np.uint8)], np.zeros((4, 3)), "a palette has shape"),
    ],
)
def test_unfit_frames_are_refused_and_nothing_written(tmp_path, frames, palette, message):
    with pytest.raises(PictureError, match=message):
        write_gif(tmp_path / "a.gif", frames, 10, palette)
    assert not os.listdir(tmp_path)


def test_an_unwritable_place_is_an_output_error_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError, match="cannot write"):
        write_gif(tmp_path / "file" / "a.gif", greys(1), 10)
    assert os.listdir(tmp_path) == ["file"]


def test_an_interrupted_write_leaves_the_old_gif(tmp_path, monkeypatch):
    path, old = tmp_path / "a.gif", greys(3)
    write_gif(path, old, 10)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_gif(path, greys(5), 10)
    assert os.listdir(tmp_path) == ["a.gif"]
    check(path, old)


def test_missing_and_damaged_files_are_data_errors(tmp_path):
    with pytest.raises(DataError, match="no GIF"):
        read_gif(tmp_path / "none.gif")
    write_gif(tmp_path / "whole.gif", greys(2), 10)
    whole = (tmp_path / "whole.gif").read_bytes()
    broken = tmp_path / "broken.gif"
    for content in (b"", b"GIF89a", b"not a picture", whole[:790], whole[:1200]):
        broken.write_bytes(content)
        with pytest.raises(DataError, match="no readable GIF"):
            read_gif(broken)


def test_equal_inputs_give_equal_files(tmp_path):
    frames = colours(3)
    write_gif(tmp_path / "a.gif", frames, 10)
    write_gif(tmp_path / "b.gif", [frame.copy() for frame in frames], 10)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
