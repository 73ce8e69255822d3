import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pygan.data import digits, glyphs, idx, raster
from pygan.errors import DataError

FIRST_300 = "0c069508856f86edc54d0afcb8e6fdbc58f3a2b9381e2cdbf3b987a791fd993b"
"""SHA-256 of the first 300 training images: a quick check of what the whole digest says about all."""

SLICE_SCRIPT = """
import sys
from pygan.data import digits
images, labels = digits.generate(900, 1100)
sys.stdout.buffer.write(images.tobytes() + labels.tobytes())
"""


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {split: digits.generate(split=split) for split in digits.COUNTS}


@pytest.mark.parametrize("split", list(digits.COUNTS))
def test_all_bytes_have_the_committed_sha256(made, split: str) -> None:
    images, labels = made[split]
    assert (hashlib.sha256(images.data).hexdigest(), hashlib.sha256(labels.data).hexdigest()) == digits.SHA256[split]


@pytest.mark.parametrize("split", list(digits.COUNTS))
def test_each_digit_comes_equally_often_in_a_shuffled_order(made, split: str) -> None:
    images, labels = made[split]
    count = digits.COUNTS[split]
    assert images.shape == (count, 28, 28) and images.dtype == np.uint8
    assert labels.shape == (count,) and labels.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, count // 10))
    per_batch = np.bincount(labels[:1000], minlength=10)
    assert per_batch.min() > 60 and per_batch.max() < 140


def test_pictures_have_the_form_of_mnist(made) -> None:
    images, _ = made["train"]
    assert images.max() == 255
    assert 25 < images.mean() < 40  # MNIST: 33.3
    assert (images.reshape(len(images), -1).max(axis=1) >= 150).all()  # no empty picture
    border = np.ones((28, 28), dtype=bool)
    border[2:-2, 2:-2] = False
    assert images[:, border].any(axis=1).mean() < 0.12  # MNIST: 0.12
    rows, columns = images.sum(axis=2) > 0, images.sum(axis=1) > 0
    longer = np.maximum(rows.sum(axis=1), columns.sum(axis=1))
    assert 18 <= np.median(longer) <= 21
    centre = (images.sum(axis=(0, 1)) * np.arange(28)).sum() / images.sum()
    assert 13 < centre < 14
    soft = ((images > 0) & (images < 255)).mean() / (images > 0).mean()
    assert 0.5 < soft < 0.97  # MNIST: 0.97


def test_pictures_differ(made) -> None:
    images, _ = made["train"]
    assert len({image.tobytes() for image in images}) == len(images)
    assert not (made["test"][0][:1000] == images[:1000]).all(axis=(1, 2)).any()


def test_the_first_images_have_their_committed_sha256() -> None:
    images, _ = digits.generate(0, 300)
    assert hashlib.sha256(images.data).hexdigest() == FIRST_300


@settings(max_examples=15, deadline=None)
@given(start=st.integers(0, 9_990), count=st.integers(0, 10))
def test_an_image_depends_on_its_number_only(made, start: int, count: int) -> None:
    images, labels = digits.generate(start, start + count, "test")
    np.testing.assert_array_equal(images, made["test"][0][start : start + count])
    np.testing.assert_array_equal(labels, made["test"][1][start : start + count])


def test_without_simd_every_image_is_the_same(made) -> None:
    env = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(np._core._multiarray_umath.__cpu_dispatch__)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SLICE_SCRIPT], env=env, capture_output=True, check=True, timeout=120
    )
    found = np.frombuffer(done.stdout, dtype=np.uint8)
    images, labels = made["train"]
    for number, image in enumerate(found[: 200 * 784].reshape(200, 28, 28)):
        np.testing.assert_array_equal(image, images[900 + number], err_msg=f"image {900 + number}")
    np.testing.assert_array_equal(found[200 * 784 :], labels[900:1100])


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4), (0, 60_001)])
def test_a_range_outside_the_set_is_refused(start: int, stop: int) -> None:
    with pytest.raises(DataError, match=r"expected a range within 0 \.\. 60000"):
        digits.generate(start, stop)


def test_progress_is_told_after_every_chunk() -> None:
    told = []
    digits.generate(0, 2500, progress=lambda *what: told.append(what))
    assert told == [("making digits (train)", 2000, 2500), ("making digits (train)", 2500, 2500)]


@pytest.fixture
def ready(made, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Making takes no time here, and the list counts how often it was done."""
    calls: list[str] = []

    def quick(start=0, stop=None, split="train", progress=None):
        calls.append(split)
        return made[split]

    monkeypatch.setattr(digits, "generate", quick)
    return calls


def test_the_set_is_made_once_then_read(tmp_path: Path, made, ready: list[str]) -> None:
    for _ in range(2):
        got = digits.read_or_make(tmp_path, "test")
        np.testing.assert_array_equal(got.images, made["test"][0])
        np.testing.assert_array_equal(got.labels, made["test"][1])
    assert ready == ["test"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
    assert (tmp_path / "t10k-images-idx3-ubyte").read_bytes()[:16].hex() == "00000803000027100000001c0000001c"


@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_file_is_an_error_to_read_and_made_anew(tmp_path: Path, ready: list[str], which: int) -> None:
    digits.read_or_make(tmp_path, "test")
    path = digits.file_paths(tmp_path, "test")[which]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"SHA-256 of the (images|labels) is .*; expected .*Delete both files"):
        digits.read(tmp_path, "test")
    digits.read_or_make(tmp_path, "test")
    digits.read(tmp_path, "test")
    assert ready == ["test", "test"]


def test_wrong_bytes_from_the_generator_are_refused_and_not_written(tmp_path: Path, made, monkeypatch) -> None:
    images = made["test"][0].copy()
    images[5, 5, 5] ^= 1
    monkeypatch.setattr(digits, "generate", lambda **_: (images, made["test"][1]))
    with pytest.raises(DataError, match="the digits made here: SHA-256 of the images is"):
        digits.read_or_make(tmp_path, "test")
    assert list(tmp_path.iterdir()) == []


def test_remove_deletes_only_the_files_of_the_set(tmp_path: Path) -> None:
    idx.write(tmp_path / "train-labels-idx1-ubyte", np.ones(3, dtype=np.uint8))
    (tmp_path / "mine.txt").write_text("mine")
    assert [path.name for path in digits.remove(tmp_path)] == ["train-labels-idx1-ubyte"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_every_glyph_curve_goes_through_its_points() -> None:
    for ways in glyphs.curves():
        for curve in ways:
            assert (curve.weights.sum(axis=1) == 1 << glyphs.WEIGHT_BITS).all()
            points = (curve.weights @ curve.controls) >> glyphs.WEIGHT_BITS
            for control in curve.controls:
                assert (points == control).all(axis=1).any()
            steps = np.abs(np.diff(points, axis=0)).max(axis=1)
            lifted = steps > 5 * glyphs.UNIT
            assert lifted.sum() <= 1  # at most one lift of the pen, else no gap of more than a pixel
            assert 30 < len(points) < 200


def test_glyphs_of_every_digit_come_in_more_than_one_way() -> None:
    assert sorted(glyphs.GLYPHS) == list(range(10))
    assert all(len(ways) >= 3 for ways in glyphs.GLYPHS.values())


def test_tent_stays_within_its_reach_and_around_zero() -> None:
    values = np.array([[0, 0], [65535, 65535], [32768, 32767]], dtype=np.uint16)
    for reach in (1, 7, 16 * glyphs.UNIT):
        assert raster.Fields(values).tent(1, reach).ravel().tolist() == [-reach, reach, 0]


def test_a_picture_takes_exactly_the_fields_it_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    class Counting(raster.Fields):
        def take(self, count: int) -> np.ndarray:
            used.append(count)
            return super().take(count)

    monkeypatch.setattr(raster, "Fields", Counting)
    values = np.full((1, raster.fields_needed()), 32768, dtype=np.uint16)
    raster.draw(glyphs.curves()[3][0], values)
    assert sum(used) == raster.fields_needed()
