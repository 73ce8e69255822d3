import contextlib
import gzip
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pygan.data import idx
from pygan.errors import DataError, OutputError

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
LABELS = np.array([7, 0, 9], dtype=np.uint8)

UNCHECKED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def plain(array: np.ndarray) -> bytes:
    head = struct.pack(">HBB", 0, 8, array.ndim) + b"".join(struct.pack(">I", size) for size in array.shape)
    return head + array.tobytes()


def fault(path: Path, content: bytes, read=idx.read_images) -> str:
    """The message for a file with this content; it must name the file and say what was expected."""
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "expected" in message
    assert message.endswith(".")
    return message


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some-images"


@pytest.mark.parametrize("ending", ["", ".gz"])
@settings(max_examples=25, suppress_health_check=UNCHECKED, deadline=None)
@given(shape=st.one_of(st.tuples(*[st.integers(1, 9)] * 3), st.tuples(st.integers(1, 700))), seed=st.integers(0, 2**32))
def test_write_then_read_gives_the_same_array(tmp_path: Path, ending: str, shape: tuple[int, ...], seed: int) -> None:
    array = np.random.Generator(np.random.Philox(seed)).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / f"round-trip{ending}"
    idx.write(path, array)
    found = (idx.read_images if array.ndim == 3 else idx.read_labels)(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array)


def test_plain_bytes_are_those_of_the_format(file: Path) -> None:
    idx.write(file, IMAGES)
    assert file.read_bytes() == plain(IMAGES)
    idx.write(file, LABELS)
    assert file.read_bytes() == bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 9])


def test_a_view_with_strides_is_written_in_row_major_order(file: Path) -> None:
    idx.write(file, IMAGES.transpose(0, 2, 1))
    np.testing.assert_array_equal(idx.read_images(file), IMAGES.transpose(0, 2, 1))


def test_gzip_output_is_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idx.write(tmp_path / "a.gz", IMAGES)
    monkeypatch.setattr("time.time", lambda: 2e9)
    idx.write(tmp_path / "b.gz", IMAGES)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_gzip_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    (tmp_path / "packed").write_bytes(gzip.compress(plain(IMAGES)))
    (tmp_path / "plain.gz").write_bytes(plain(IMAGES))
    for name in ("packed", "plain.gz"):
        np.testing.assert_array_equal(idx.read_images(tmp_path / name), IMAGES)


@pytest.mark.parametrize("array", [IMAGES.astype(np.int32), IMAGES[0], IMAGES[:0], np.zeros((2, 2, 2, 2), np.uint8)])
def test_writer_refuses_what_the_format_or_the_reader_would_not_take(file: Path, array: np.ndarray) -> None:
    with pytest.raises(DataError, match="expected images"):
        idx.write(file, array)
    assert not file.exists()


def test_writer_that_fails_leaves_the_old_file_and_nothing_else(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idx.write(file, IMAGES)
    before = file.read_bytes()

    def no_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", no_disk)
    with pytest.raises(OutputError, match="No space left"):
        idx.write(file, IMAGES[:1])
    assert file.read_bytes() == before
    assert list(file.parent.glob(".some*")) == []


@settings(max_examples=60, suppress_health_check=UNCHECKED, deadline=None)
@given(data=st.data(), packed=st.booleans())
def test_every_cut_is_a_fault(file: Path, data: st.DataObject, packed: bool) -> None:
    whole = gzip.compress(plain(IMAGES)) if packed else plain(IMAGES)
    fault(file, whole[: data.draw(st.integers(0, len(whole) - 1))])


@settings(max_examples=100, suppress_health_check=UNCHECKED, deadline=None)
@given(junk=st.binary(min_size=0, max_size=64))
def test_arbitrary_bytes_never_raise_anything_but_a_data_error(file: Path, junk: bytes) -> None:
    for content in (junk, b"\x1f\x8b" + junk, b"\0\0\x08\x03" + junk):
        file.write_bytes(content)
        with contextlib.suppress(DataError):
            idx.read_images(file)


def test_trailing_bytes_are_a_fault(file: Path) -> None:
    assert "is 77 bytes long; expected 76" in fault(file, plain(IMAGES) + b"x")
    assert "more bytes follow the header; expected exactly 60" in fault(file, gzip.compress(plain(IMAGES) + b"x"))


def test_junk_after_a_gzip_file_is_a_fault(file: Path) -> None:
    assert "damaged gzip" in fault(file, gzip.compress(plain(IMAGES)) + b"junk")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_too_few_bytes_are_a_fault(file: Path, pack) -> None:
    assert "expected" in fault(file, pack(plain(IMAGES)[:-1]))
    assert "inside its header, after 9 bytes" in fault(file, pack(plain(IMAGES)[:9]))


def test_labels_where_images_are_expected_are_named_so(file: Path) -> None:
    assert "starts with 00 00 08 01 (IDX labels); expected 00 00 08 03 (images)" in fault(file, plain(LABELS))
    assert "(IDX images); expected 00 00 08 01 (labels)" in fault(file, plain(IMAGES), idx.read_labels)
    assert "(not IDX)" in fault(file, b"<html><body>moved</body></html>")


def test_empty_and_zero_sized_files_are_faults(file: Path) -> None:
    assert "is empty" in fault(file, b"")
    assert "is empty" in fault(file, gzip.compress(b""))
    assert "at least one byte" in fault(file, struct.pack(">HBBIII", 0, 8, 3, 0, 28, 28))


def test_missing_folder_and_unreadable_files_are_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"nothing does not exist; expected an IDX file of images\. Check the path"):
        idx.read_images(tmp_path / "nothing")
    with pytest.raises(DataError, match="not a regular file"):
        idx.read_images(tmp_path)
    (tmp_path / "secret").write_bytes(plain(IMAGES))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        idx.read_images(tmp_path / "secret")


def forbid_big_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object, **__: object) -> None:
        raise AssertionError("allocated")

    monkeypatch.setattr(np, "frombuffer", no)
    monkeypatch.setattr(idx, "bytearray", no, raising=False)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_huge_claim_is_refused_before_anything_is_allocated(
    file: Path, monkeypatch: pytest.MonkeyPatch, pack
) -> None:
    forbid_big_reads(monkeypatch)
    over_cap = struct.pack(">HBBIII", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)
    assert f"at most {idx.MAX_BYTES}" in fault(file, pack(over_cap + b"x"))
    under_cap = struct.pack(">HBBIII", 0, 8, 3, 1_000_000, 28, 28)
    assert "expected 784000016" in fault(file, pack(under_cap + bytes(100)))


def test_a_gzip_bomb_is_unpacked_no_further_than_its_header_claims(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = packer.compress(plain(IMAGES))
    for _ in range(64):
        bomb += packer.compress(bytes(1 << 20))
    bomb += packer.flush()
    taken = []
    real_read = gzip.GzipFile.read

    def counting_read(self: gzip.GzipFile, size: int = -1) -> bytes:
        got = real_read(self, size)
        taken.append(len(got))
        return got

    monkeypatch.setattr(gzip.GzipFile, "read", counting_read)
    assert "more bytes follow" in fault(file, bomb)
    assert sum(taken) == len(plain(IMAGES)) + 1


def test_a_wrong_crc_is_a_fault(file: Path) -> None:
    packed = bytearray(gzip.compress(plain(IMAGES)))
    packed[-8] ^= 1
    assert "CRC" in fault(file, bytes(packed))


def test_a_flipped_bit_in_the_packed_data_is_a_fault(file: Path) -> None:
    packed = gzip.compress(plain(np.tile(IMAGES, (50, 1, 1))))
    for position in range(40, len(packed) - 8, 7):
        bent = bytearray(packed)
        bent[position] ^= 16
        fault(file, bytes(bent))


def test_counts_of_images_and_labels_must_match(tmp_path: Path) -> None:
    idx.write(tmp_path / "images", IMAGES)
    idx.write(tmp_path / "labels", LABELS[:2])
    with pytest.raises(DataError, match=r"images holds 3 images, .*labels holds 2 labels; expected one label"):
        idx.read_pair(tmp_path / "images", tmp_path / "labels")


def test_content_sha256_is_that_of_the_unpacked_file(file: Path) -> None:
    assert idx.content_sha256(IMAGES) == hashlib.sha256(plain(IMAGES)).hexdigest()
