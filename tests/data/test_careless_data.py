"""Data that look fine and are useless, or are read otherwise than a viewer shows them."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pygan.data import idx, load
from pygan.data.picture_folder import read_picture
from pygan.errors import DataError


def digit(number: int = 0) -> np.ndarray:
    pixels = np.zeros((28, 28), np.uint8)
    pixels[4:24, 8 + number % 8 : 11 + number % 8] = 255
    pixels[4:8, 6:20] = 200
    return pixels


def bmp32(pixels: np.ndarray, alpha: int) -> bytes:
    """A BMP of 32 bits with colour masks, as Windows programs write it."""
    body = b"".join(bytes((v, v, v, alpha)) for row in pixels[::-1] for v in row.tolist())
    head = struct.pack("<IiiHHIIiiII", 108, 28, 28, 1, 32, 3, len(body), 2835, 2835, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


def ink_on_nothing(mode: str) -> Callable[[Path, int], None]:
    """Black strokes with nothing behind: all that differs between pictures is alpha."""

    def write(path: Path, number: int) -> None:
        alpha = Image.fromarray(digit(number))
        picture = Image.merge("LA", (Image.new("L", (28, 28)), alpha))
        if mode == "P":  # colour 0 is transparent, and colour 1 is black too
            picture = Image.fromarray((digit(number) > 0).astype(np.uint8), "P")
            picture.putpalette([0] * 768)
            picture.save(path, transparency=0)
        else:
            picture.convert(mode).save(path)

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "set"
    place.mkdir()
    return place


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P"])
def test_ink_on_transparent_is_refused_with_its_reason(folder: Path, mode: str) -> None:
    for number in range(5):
        ink_on_nothing(mode)(folder / f"{number}.png", number)
    with pytest.raises(DataError, match=r"all 5 images are of one grey level.*; 5 of them are transparent"):
        load(folder)


@pytest.mark.parametrize(("mode", "level"), [("1", 0), ("1", 255), ("L", 0), ("L", 128), ("RGB", 255), ("RGBA", 7)])
def test_a_set_of_blank_pictures_is_refused(folder: Path, mode: str, level: int) -> None:
    for number in range(3):
        Image.new("L", (28, 28), level).convert(mode).save(folder / f"{number}.png")
    with pytest.raises(DataError, match="all 3 images are of one grey level"):
        load(folder)


def test_blank_idx_images_are_refused_and_odd_ones_told(folder: Path) -> None:
    place = folder / "train-images-idx3-ubyte"
    idx.write(place, np.full((4, 28, 28), 9, np.uint8))
    with pytest.raises(DataError, match=r"all 4 images are of one grey level \(blank\)"):
        load(folder)
    images = np.stack([digit(number) for number in range(4)])
    images[2] = 0
    idx.write(place, images)
    assert load(folder).notes == (f"{folder}: 1 of 4 images are of one grey level",)
    idx.write(place, np.stack([digit()] * 4) // 200)
    assert [note.partition(": ")[2] for note in load(folder).notes] == [
        "no pixel is above 1 of 255; were pixels from 0 to 1 stored as bytes?", "all 4 images are equal",
    ]  # fmt: skip
    idx.write(place, np.stack([digit(number) for number in range(4)]))
    assert load(folder).notes == ()
    assert "notes" not in load(folder).facts()


def test_a_bmp_whose_alpha_is_0_everywhere_is_opaque(folder: Path) -> None:
    for number in range(3):
        (folder / f"{number}.bmp").write_bytes(bmp32(digit(number), 0))
    data = load(folder)
    np.testing.assert_array_equal(data.images[1], digit(1))
    assert data.notes == (f"{folder}: of 3 pictures 3 of them have an alpha of 0 everywhere and are read as opaque",)
    (folder / "0.bmp").write_bytes(bmp32(digit(), 255))
    assert "of 3 pictures 2 of them" in load(folder).notes[0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("end", ["jpg", "png"])
def test_pictures_are_turned_as_viewers_show_them(folder: Path, end: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = folder / f"a.{end}"
    Image.fromarray(digit()).save(path, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(read_picture(path), expected)
    assert (orientation == 1) == bool(np.array_equal(expected, np.asarray(Image.open(path))))


@pytest.mark.parametrize(
    "damage", [b"Exif\x00\x00", b"Exif\x00\x00MM\x00*\xff\xff\xff\xff", b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff"]
)
def test_damaged_exif_data_are_passed_over(folder: Path, damage: bytes) -> None:
    Image.fromarray(digit()).save(folder / "a.jpg", exif=damage, quality=95)
    assert np.abs(read_picture(folder / "a.jpg").astype(int) - digit()).max() < 40


def animation(path: Path) -> None:
    Image.fromarray(digit()).save(path, save_all=True, append_images=[Image.fromarray(digit(3))])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: Image.fromarray(digit().astype(np.uint16) * 257).save(path), "kind 'I;16'; expected one of 1, L"),
        (lambda path: Image.fromarray(digit()).convert("CMYK").save(path, "JPEG"), "kind 'CMYK'"),
        (animation, "an animation of 2 frames"),
        (lambda path: path.write_bytes(b""), "cannot read"),
        (lambda path: Image.new("L", (28, 29)).save(path), "28 x 29 pixels"),
        (lambda path: path.mkdir(), "no regular file|not a regular file"),
    ],
)  # fmt: skip
def test_other_pictures_are_refused_by_name(folder: Path, write: Callable[[Path], object], words: str) -> None:
    write(folder / "a.png")
    with pytest.raises(DataError, match=words) as raised:
        load(folder)
    assert str(folder / "a.png") in str(raised.value)


def test_a_truncated_picture_and_a_bomb_are_refused(folder: Path) -> None:
    Image.fromarray(digit()).save(folder / "a.png")
    whole = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"cannot read .*a\.png as a picture"):
        load(folder)
    (folder / "a.png").write_bytes(whole[:16] + struct.pack(">II", 60_000, 60_000) + whole[24:])
    with pytest.raises(DataError, match=r"60000 x 60000|far too many pixels|cannot read"):
        load(folder)


def test_what_a_folder_of_pictures_leaves_out_is_told(folder: Path) -> None:
    for end, count in {"png": 3, "webp": 4, "tif": 2, "GIF": 1, "heic": 1}.items():
        for number in range(count):
            (folder / f"{number}.{end}").write_bytes(b"x")
            if end == "png":
                Image.fromarray(digit(number)).save(folder / f"{number}.{end}")
    for name in ("Thumbs.db", ".DS_Store", "labels.csv", "README", ".hidden.webp"):
        (folder / name).write_bytes(b"x")
    assert load(folder).notes == (f"{folder}: 3 pictures are read; left out: 4 .webp, 2 .tif, 1 .gif and 1 .heic",)
    (folder / "more").mkdir()
    assert load(folder).notes[0].endswith("1 .gif, 1 .heic and 1 sub-folder")
    idx.write(folder / "train-images-idx3-ubyte", np.stack([digit(number) for number in range(4)]))
    assert load(folder).notes[0].startswith(f"{folder}: train-images-idx3-ubyte is read; left out: 4 .webp, 3 .png,")
    assert load(folder).facts()["notes"] == list(load(folder).notes)


def test_a_folder_of_other_pictures_alone_names_them(folder: Path) -> None:
    (folder / "a.webp").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no picture.*; there are 1 \.webp"):
        load(folder)
