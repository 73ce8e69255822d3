import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pygan.data import load
from pygan.data.picture_folder import read_pictures
from pygan.errors import DataError

PIXELS = np.random.Generator(np.random.Philox(3)).integers(0, 256, (3, 28, 28), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, written in another order than that of their names."""
    there = tmp_path / "faces"
    there.mkdir()
    for number, name in ((2, "c.BMP"), (0, "a.png"), (1, "b.png")):
        Image.fromarray(PIXELS[number]).save(there / name)
    return there


def test_pictures_come_in_the_order_of_their_names(folder: Path) -> None:
    (folder / ".hidden.png").write_bytes(b"not a picture")
    (folder / "readme.txt").write_text("not a picture")
    data = load(folder)
    np.testing.assert_array_equal(data.images, PIXELS)
    assert (data.name, data.labels, data.sources) == ("faces", None, (folder,))
    np.testing.assert_array_equal(load(str(folder), limit=2).images, PIXELS[:2])


def test_jpeg_is_read(folder: Path) -> None:
    Image.fromarray(np.full((28, 28), 77, dtype=np.uint8)).save(folder / "0.jpeg")
    assert np.abs(read_pictures(folder)[0].astype(int) - 77).max() <= 1


def test_colour_becomes_luma(folder: Path) -> None:
    colour = np.random.Generator(np.random.Philox(4)).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    Image.fromarray(colour).save(folder / "0.png")
    expected = (colour.astype(np.int64) @ [19595, 38470, 7471] + 32768) >> 16
    np.testing.assert_array_equal(read_pictures(folder)[0], expected)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_a_transparent_picture_is_laid_over_black(folder: Path, mode: str) -> None:
    picture = Image.new("RGBA", (28, 28), (255, 255, 255, 0))
    picture.paste((200, 200, 200, 255), (0, 0, 14, 28))
    picture.convert(mode).save(folder / "0.png")
    grey = read_pictures(folder)[0]
    assert (grey[:, 14:] == 0).all()
    assert np.abs(grey[:, :14].astype(int) - 200).max() <= 4  # a palette may shift a colour a little


def test_one_bit_pictures_are_read(folder: Path) -> None:
    Image.fromarray(PIXELS[0] > 127).save(folder / "0.png")
    np.testing.assert_array_equal(read_pictures(folder)[0], np.where(PIXELS[0] > 127, 255, 0))


def refused(folder: Path, name: str, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        load(folder)
    assert str(folder / name) in str(caught.value)
    assert "expected" in str(caught.value)


def test_a_picture_of_another_size_is_named(folder: Path) -> None:
    Image.new("L", (32, 28)).save(folder / "b.png")
    refused(folder, "b.png", "is 32 x 28 pixels; expected 28 x 28")


def test_a_file_that_is_no_picture_is_named(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"hello")
    refused(folder, "b.png", "cannot read .* as a picture")


def test_a_picture_of_another_format_is_refused_whatever_its_name(folder: Path) -> None:
    Image.fromarray(PIXELS[0]).save(folder / "b.gif")
    (folder / "b.gif").rename(folder / "b.png")
    refused(folder, "b.png", "cannot read .* as a picture")


@pytest.mark.parametrize("name", ["a.png", "c.BMP"])
def test_a_cut_picture_is_named(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for length in (0, 10, len(content) // 2, len(content) - 60):
        (folder / name).write_bytes(content[:length])
        refused(folder, name, "cannot read .* as a picture")


def test_a_damaged_picture_never_raises_anything_but_a_data_error(folder: Path) -> None:
    content = (folder / "a.png").read_bytes()
    for position in range(0, len(content), 9):
        bent = bytearray(content)
        bent[position] ^= 0x55
        (folder / "a.png").write_bytes(bent)
        try:
            load(folder)
        except DataError as error:
            assert str(folder / "a.png") in str(error)


def test_sixteen_bit_pictures_are_refused(folder: Path) -> None:
    Image.fromarray(np.full((28, 28), 40000, dtype=np.uint16)).save(folder / "b.png")
    refused(folder, "b.png", "pixels of kind 'I;16'")


@pytest.mark.parametrize("side", [50_000, 12_000])
def test_a_decompression_bomb_is_refused_unread(folder: Path, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20))
    (folder / "b.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    loaded = []
    real = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda self: loaded.append(self.size) or real(self))
    refused(folder, "b.png", "claims far too many pixels; expected 28 x 28")
    assert (side, side) not in loaded


def test_a_folder_named_like_a_picture_is_refused(folder: Path) -> None:
    (folder / "d.png").mkdir()
    refused(folder, "d.png", "not a regular file")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "", "holds no picture; expected files ending in .png")


def test_pictures_have_no_test_split(folder: Path) -> None:
    with pytest.raises(DataError, match="pictures have no split 'test'"):
        load(folder, split="test")
