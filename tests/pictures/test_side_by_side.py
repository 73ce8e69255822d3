"""The composed frames: sizes, exact panels, colours of the difference, missing sides, the finished GIF."""

import os
from dataclasses import replace

import numpy as np
import pytest

from pygan.errors import OutputError
from pygan.pictures import PictureError, SideBySideFrame, compose, read_gif, write_side_by_side
from pygan.pictures.canvas import EDGE, GREEN, GREY, PALE, RED, VACANT, difference_colours, palette
from pygan.pictures.side_by_side import GAP, HEADER, MARGIN, TITLE

RNG = np.random.default_rng(3)
TITLES = ("Flux 0.16.9 (recorded)", "PyTorch 2.13 (live)")
LOSSES = {"discriminator": 1.386294, "generator": 0.693147}
TOP = HEADER + TITLE


def frame(step=0, size=140, verdict="agree", **changes):
    left = RNG.integers(0, 250, (size, size), dtype=np.uint8)
    made = SideBySideFrame(step, left, left + np.uint8(1), LOSSES, LOSSES, verdict, "a note")
    return replace(made, **changes)


def panel(picture, number, size=140, scale=2):
    """The pixels of a panel, taken back from the screen to the grid's own size."""
    left = MARGIN + number * (max(size * scale, 280) + GAP)
    return picture[TOP : TOP + size * scale, left : left + size * scale]


def has(picture, colour):
    """Whether a whole area of ``picture`` has exactly this colour."""
    return int((picture == np.array(colour, np.uint8)).all(axis=2).sum()) > 800


def test_all_frames_have_one_size_whatever_they_hold():
    frames = [
        frame(0),
        frame(123456789, verdict="differs: discriminator loss, 3 times its band, at the first step of all " * 3),
        frame(1, left=None, left_losses={}),
        frame(2, right=None, note=""),
        frame(3, left=None, right=None, verdict="not run", left_losses={}, right_losses={}),
        frame(4, left_losses={"a very long name of a loss that has no short form": float("nan")}, note="word " * 200),
        frame(5, left_losses={name: 1e30 for name in "abcdef"}),
    ]
    composed = compose(frames, TITLES)
    assert {picture.shape for picture in composed} == {composed[0].shape}
    assert all(picture.dtype == np.uint8 for picture in composed)
    assert composed[0].shape[1] == 928


def test_the_panels_show_each_pixel_twice_as_large():
    one = frame()
    (picture,) = compose([one], TITLES)
    for number, grid in ((0, one.left), (1, one.right)):
        shown = panel(picture, number)
        assert np.array_equal(shown, grid.repeat(2, axis=0).repeat(2, axis=1)[:, :, None].repeat(3, axis=2))


def test_the_difference_panel_shows_the_absolute_difference():
    left = np.zeros((140, 140), np.uint8)
    right = left.copy()
    right[3, 4], left[5, 6] = 1, 255
    shown = panel(compose([frame(left=left, right=right)], TITLES)[0], 2)[::2, ::2]
    colours = difference_colours()
    assert shown[3, 4].tolist() == colours[1].tolist()
    assert shown[5, 6].tolist() == colours[255].tolist()
    assert (shown == 255).all(axis=2).sum() == 140 * 140 - 2


def test_a_difference_of_one_grey_level_is_seen_and_colours_only_darken():
    colours = difference_colours().astype(int)
    assert colours[0].tolist() == [255, 255, 255]
    assert np.abs(colours[1] - 255).max() >= 80
    light = colours @ [0.299, 0.587, 0.114]
    assert (np.diff(light) <= 0).all()


@pytest.mark.parametrize(
    ("verdict", "colour"),
    [
        ("agree", GREEN),
        ("differs", RED),
        ("differs: max 41 of 255", RED),
        ("beyond horizon", GREY),
        ("not run", PALE),
    ],
)
def test_the_verdict_has_its_colour(verdict, colour):
    header = compose([frame(verdict=verdict)], TITLES)[0][:HEADER]
    assert has(header, colour)
    assert not any(has(header, other) for other in (GREEN, RED, GREY, PALE) if other != colour)


def test_without_a_verdict_its_place_stays_empty():
    (bare,) = compose([frame(verdict="")], TITLES)
    assert (bare[: HEADER - 6, bare.shape[1] // 2 :] == 255).all()
    assert bare.shape == compose([frame()], TITLES)[0].shape


def test_an_unknown_verdict_is_refused():
    with pytest.raises(PictureError, match="'fine' is no verdict"):
        compose([frame(verdict="fine")], TITLES)


@pytest.mark.parametrize(("side", "number"), [("left", 0), ("right", 1)])
def test_a_missing_side_says_so_in_place_of_its_panel(side, number):
    complete, without = compose([frame(), frame(**{side: None})], TITLES)
    shown = panel(without, number)
    assert has(shown, VACANT) and len(np.unique(shown)) > 2
    assert has(panel(without, 2), VACANT)
    assert not has(panel(complete, number), VACANT)
    kept = panel(without, 1 - number)
    assert np.ptp(kept, axis=2).max() == 0 and len(np.unique(kept)) > 100


def test_losses_step_and_note_are_drawn():
    base = frame()
    pictures = compose(
        [base, replace(base, step=1), replace(base, left_losses={**LOSSES, "generator": 0.693148}),
         replace(base, right_losses={}), replace(base, note="another note")],
        TITLES,
    )  # fmt: skip
    assert all((picture != pictures[0]).any() for picture in pictures[1:])
    changed = np.argwhere((pictures[2] != pictures[0]).any(axis=2))
    assert changed[:, 0].min() > TOP + 280 and changed[:, 1].max() < MARGIN + 280


@pytest.mark.parametrize(("size", "width"), [(28, 1096), (168, 1096), (56, 1096), (1000, 3088)])
def test_other_grids_are_enlarged_to_a_readable_size(size, width):
    (picture,) = compose([frame(size=size)], TITLES)
    assert picture.shape[1] == width
    (small,) = compose([frame(size=size)], TITLES, scale=1)
    assert small.shape[1] >= 2 * MARGIN + 3 * 280 + 2 * GAP


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "no picture on either side"),
        ([SideBySideFrame(0, None, None)], "no picture on either side"),
        ([frame(size=4), frame(7, size=6)], r"left grid of step 7 has shape \(6, 6\)"),
        ([frame(size=4, right=np.zeros((4, 5), np.uint8))], "right grid of step 0"),
        ([frame(size=4, right=np.zeros((4, 4), np.float32))], "expected"),
    ],
)
def test_unfit_frames_are_refused(frames, message):
    with pytest.raises(PictureError, match=message):
        compose(frames, TITLES)


def test_scale_must_be_positive():
    with pytest.raises(PictureError, match="scale"):
        compose([frame()], TITLES, scale=0)


def test_the_gif_has_a_frame_a_step_close_to_what_was_drawn(tmp_path):
    one = frame(10)
    frames = [one, one, one, frame(20, right=None), frame(30, verdict="differs")]
    assert write_side_by_side(tmp_path / "s.gif", frames, TITLES, fps=4) == 250
    gif = read_gif(tmp_path / "s.gif")
    assert (len(gif.frames), gif.durations, gif.loop) == (5, [250] * 5, 0)
    for found, drawn in zip(gif.frames, compose(frames, TITLES), strict=True):
        off = np.abs(found.astype(int) - drawn)
        assert np.percentile(off, 99.9) <= 5  # greys in 32 levels
        assert off.max() < 64  # soft edges of coloured letters
    levels = panel(compose(frames, TITLES)[4], 2)
    assert np.array_equal(panel(gif.frames[4], 2), levels), "colours of the difference are exact"


def test_a_gif_of_sixty_steps_of_digits_stays_small(tmp_path):
    digit = np.zeros((28, 28), np.uint8)
    digit[6:22, 10:18] = RNG.integers(0, 256, (16, 8))
    frames = []
    for step in range(60):
        left = np.tile(np.roll(digit, step % 5, axis=1), (5, 5))
        right = left.copy()
        right[RNG.integers(0, 140, 400), RNG.integers(0, 140, 400)] ^= np.uint8(1)
        frames.append(frame(step, left=left, right=right))
    write_side_by_side(tmp_path / "s.gif", frames, TITLES)
    assert os.path.getsize(tmp_path / "s.gif") < 1_500_000


def test_the_palette_fits_and_holds_what_is_drawn():
    colours = {tuple(colour) for colour in palette().tolist()}
    assert len(colours) == len(palette()) <= 255
    assert {(0, 0, 0), (255, 255, 255), VACANT, EDGE, GREEN, RED} <= colours


def test_an_unwritable_place_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OutputError):
        write_side_by_side(tmp_path / "file" / "s.gif", [frame()], TITLES)
    assert os.listdir(tmp_path) == ["file"]
