import dataclasses
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pygan.data import Dataset, digits, idx, load, registry, scale
from pygan.errors import DataError

IMAGES = np.random.Generator(np.random.Philox(5)).integers(0, 256, (7, 28, 28), dtype=np.uint8)
LABELS = np.arange(7, dtype=np.uint8)


def put(folder: Path, images: np.ndarray = IMAGES, labels: np.ndarray | None = LABELS, end: str = "", **names) -> None:
    idx.write(folder / f"{names.get('prefix', 'train')}-images-idx3-ubyte{end}", images)
    if labels is not None:
        idx.write(folder / f"{names.get('prefix', 'train')}-labels-idx1-ubyte{end}", labels)


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> registry.PublishedSet:
    """``mnist`` with the checksums of IMAGES and LABELS, so that tests need no published data."""
    content = {"images": idx.content_sha256(IMAGES), "labels": idx.content_sha256(LABELS)}
    files = tuple(
        dataclasses.replace(file, content_sha256=content[file.name.split("-")[1]]) for file in registry.MNIST.files
    )
    small = dataclasses.replace(registry.MNIST, files=files)
    monkeypatch.setitem(registry.PUBLISHED, "mnist", small)
    return small


def same(data: Dataset, images: np.ndarray = IMAGES, labels: np.ndarray | None = LABELS) -> None:
    np.testing.assert_array_equal(data.images, images)
    assert data.images.dtype == np.uint8
    assert data.sha256 == hashlib.sha256(images.tobytes()).hexdigest()
    if labels is None:
        assert data.labels is None
    else:
        np.testing.assert_array_equal(data.labels, labels)


def test_importing_the_package_loads_neither_torch_nor_pillow() -> None:
    code = "import sys, pygan.data; sys.exit(bool({'torch', 'PIL', 'juliacall'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


class TestPublished:
    @pytest.mark.parametrize("end", ["", ".gz"])
    @pytest.mark.parametrize("inside", ["mnist", ""])
    def test_found_by_name_in_each_place(
        self, small_mnist, tmp_path: Path, cache: Path, monkeypatch, end: str, inside: str
    ) -> None:
        given, from_env = tmp_path / "given", tmp_path / "env"
        monkeypatch.setenv("PYGAN_DATA_DIR", str(from_env))
        for place in (cache, from_env, given):  # each goes before the last one
            put(place / inside, end=end)
            data = load("mnist", data_dir=given)
            same(data)
            assert data.name == "mnist"
            assert [path.parent for path in data.sources] == [place / inside] * 2

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_splits_and_limit(self, small_mnist, tmp_path: Path, split: str) -> None:
        put(tmp_path / "mnist", prefix=registry.SPLITS[split])
        same(load("mnist", tmp_path, split))
        same(load("mnist", tmp_path, split, limit=3), IMAGES[:3], LABELS[:3])
        same(load("mnist", tmp_path, split, limit=100))

    def test_not_found_lists_the_places_and_the_fix(self, tmp_path: Path, cache: Path, monkeypatch) -> None:
        monkeypatch.setenv("PYGAN_DATA_DIR", str(tmp_path / "env"))
        put(tmp_path / "env", labels=None)
        with pytest.raises(DataError) as caught:
            load("fashion-mnist", tmp_path / "given")
        lines = str(caught.value).splitlines()
        sub_folders = [f"  {place / 'fashion-mnist'}" for place in (tmp_path / "given", tmp_path / "env", cache)]
        folders = [
            f"  {tmp_path / 'given'}",
            f"  {tmp_path / 'env'} (holds only train-images-idx3-ubyte)",
            f"  {cache}",
        ]
        assert lines[1:-1] == sub_folders + folders
        assert "pygan data fetch fashion-mnist" in lines[-1] and "PYGAN_DATA_DIR" in lines[-1]

    @pytest.mark.parametrize("which", ["images", "labels"])
    def test_other_content_is_refused_with_both_hashes(self, small_mnist, tmp_path: Path, which: str) -> None:
        images, labels = IMAGES.copy(), LABELS.copy()
        bent = images if which == "images" else labels
        bent.reshape(-1)[3] ^= 1
        put(tmp_path / "mnist", images, labels)
        with pytest.raises(DataError) as caught:
            load("mnist", tmp_path, limit=1)
        for words in (f"train-{which}", idx.content_sha256(bent), "expected", "pygan data fetch mnist"):
            assert words in str(caught.value)

    def test_a_file_of_another_set_is_named_so(self, small_mnist, tmp_path: Path) -> None:
        put(tmp_path)
        with pytest.raises(DataError, match="is not fashion-mnist's but a file of mnist: SHA-256"):
            load("fashion-mnist", tmp_path)

    def test_an_empty_variable_is_no_place(self, small_mnist, cache: Path, monkeypatch) -> None:
        monkeypatch.setenv("PYGAN_DATA_DIR", "")
        assert registry.search_dirs() == [cache]


class TestDigits:
    def test_a_few_are_made_on_the_spot(self, cache: Path) -> None:
        data = load("digits", limit=12, split="test")
        same(data, *digits.generate(0, 12, "test"))
        assert data.sources == ()
        assert not cache.exists()

    def test_all_are_written_to_the_cache_and_read_from_any_place(
        self, tmp_path: Path, cache: Path, monkeypatch
    ) -> None:
        told = []
        first = load("digits", split="test", progress=lambda *what: told.append(what))
        assert told[-1][1:] == (10_000, 10_000)
        assert first.sha256 == digits.SHA256["test"][0]
        assert first.sources == digits.file_paths(cache / "digits", "test")
        monkeypatch.setattr(digits, "generate", None)
        same(load("digits", split="test"), first.images, first.labels)
        same(load("digits", split="test", limit=3000), first.images[:3000], first.labels[:3000])

        cache.rename(tmp_path / "shared")
        monkeypatch.setenv("PYGAN_DATA_DIR", str(tmp_path / "shared"))
        assert load("digits", split="test").sources[0].parent == tmp_path / "shared" / "digits"
        (tmp_path / "shared" / "digits" / "t10k-labels-idx1-ubyte").write_bytes(b"")
        with pytest.raises(
            DataError, match="t10k-labels-idx1-ubyte is empty"
        ):  # a folder not pygan's own is not mended
            load("digits", split="test")

    def test_an_explicit_folder_is_filled(self, tmp_path: Path, cache: Path) -> None:
        data = load("digits", tmp_path / "here", split="test")
        assert data.sources[0].parent == tmp_path / "here" / "digits"
        assert not cache.exists()


class TestFolder:
    @pytest.mark.parametrize("end", ["", ".gz"])
    def test_idx_files_with_and_without_labels(self, tmp_path: Path, end: str) -> None:
        put(tmp_path / "mine", end=end)
        data = load(tmp_path / "mine")
        same(data)
        assert (data.name, len(data.sources)) == ("mine", 2)
        put(tmp_path / "bare", labels=None, end=end, prefix="t10k")
        same(load(str(tmp_path / "bare"), split="test", limit=2), IMAGES[:2], None)

    def test_the_other_usual_spelling(self, tmp_path: Path) -> None:
        idx.write(tmp_path / "train-images.idx3-ubyte", IMAGES)
        same(load(tmp_path), labels=None)

    def test_a_path_named_like_a_set_is_a_folder(self, tmp_path: Path, monkeypatch) -> None:
        put(tmp_path / "mnist", labels=None)
        monkeypatch.chdir(tmp_path)
        same(load(Path("mnist")), labels=None)
        same(load("./mnist"), labels=None)

    def test_faults_of_the_files_come_through(self, tmp_path: Path) -> None:
        put(tmp_path, labels=LABELS[:-1])
        with pytest.raises(DataError, match=r"holds 7 images, .* holds 6 labels"):
            load(tmp_path)
        put(tmp_path, IMAGES[:, :27], LABELS)
        with pytest.raises(DataError, match=r"images of 27 rows and 28 columns; expected 28 x 28"):
            load(tmp_path)

    @pytest.mark.parametrize(
        ("name", "guess"), [("mnits", "mnist"), ("fashion_mnist", "fashion-mnist"), ("digit", "digits")]
    )
    def test_an_unknown_name_lists_the_known_ones_and_guesses(self, name: str, guess: str) -> None:
        with pytest.raises(DataError, match=f"Did you mean '{guess}'.*Expected one of mnist, fashion-mnist, digits"):
            load(name)

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        idx.write(tmp_path / "images", IMAGES)
        with pytest.raises(DataError, match="no data set and no folder"):
            load(tmp_path / "images")

    def test_an_unreadable_folder_is_named(self, tmp_path: Path, monkeypatch) -> None:
        def refuse(self: Path) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "iterdir", refuse)
        with pytest.raises(DataError, match=f"cannot read {tmp_path}: Permission denied"):
            load(tmp_path)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(DataError, match="expected at least 1"):
        load("digits", limit=limit)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="unknown split 'validation'; expected one of: train, test"):
        load("digits", split="validation")


class TestScale:
    def test_every_byte_is_divided_doubled_and_shifted_in_float32(self) -> None:
        every = np.tile(np.arange(256, dtype=np.uint8), 49).reshape(16, 28, 28)
        scaled = scale(every)
        assert scaled.shape == (16, 1, 28, 28) and scaled.dtype == np.float32
        one, two = np.float32(1), np.float32(2)
        expected = [two * (np.float32(byte) / np.float32(255)) - one for byte in range(256)]
        assert all(isinstance(value, np.float32) for value in expected)
        np.testing.assert_array_equal(scaled.reshape(-1)[:256], np.array(expected))
        assert (scaled.min(), scaled.max()) == (-1, 1)

    def test_it_equals_byte_over_127_5_minus_1_but_not_the_reciprocal(self) -> None:
        byte = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
        scaled = scale(byte).reshape(-1)
        wide = byte.astype(np.float32).reshape(-1)
        np.testing.assert_array_equal(scaled, wide / np.float32(127.5) - np.float32(1))
        assert (wide * (np.float32(1) / np.float32(255)) != wide / np.float32(255)).sum() == 126

    @pytest.mark.parametrize("images", [IMAGES.astype(np.float32), IMAGES[0]])
    def test_anything_but_byte_images_is_refused(self, images: np.ndarray) -> None:
        with pytest.raises(DataError, match=r"expected \(N, H, W\), uint8"):
            scale(images)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", list(registry.PUBLISHED))
def test_the_published_sets_load_and_are_what_they_are_known_to_be(real_dir: Path, name: str, split: str) -> None:
    data = load(name, real_dir, split)
    count = {"train": 60_000, "test": 10_000}[split]
    assert data.images.shape == (count, 28, 28)
    assert data.labels is not None and len(np.unique(data.labels)) == 10
    if split == "train":
        mean = {"mnist": 33.318421449829934, "fashion-mnist": 72.94035223214286}[name]
        assert data.images.mean() == pytest.approx(mean, rel=1e-12)
        assert data.labels[:5].tolist() == {"mnist": [5, 0, 4, 1, 9], "fashion-mnist": [9, 0, 0, 3, 0]}[name]
