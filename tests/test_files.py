"""Writing files: whole or not at all."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from pygan.errors import OutputError
from pygan.files import atomic_path, sha256, sha256_file, write_bytes, write_json


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    for content in (b"old and long", b"new"):
        write_bytes(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
def test_a_write_that_is_stopped_leaves_the_old_file_and_no_other(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_bytes(b"half of the n")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_is_not_there_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"content")
        assert not path.exists()
        assert temporary.parent == path.parent, "a rename is atomic only within a folder"
    assert path.read_bytes() == b"content"


def test_what_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write .*file/inside: .*file is a file, not a folder"):
        write_bytes(tmp_path / "file" / "inside", b"")
    with pytest.raises(OutputError, match="file is a file, not a folder"):
        write_bytes(tmp_path / "file" / "deep" / "inside", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*folder: "):
        write_bytes(tmp_path / "folder", b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_json_is_utf_8_and_holds_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"Å": [1, 2.5, None]})
    assert json.loads((tmp_path / "file").read_bytes().decode("utf-8")) == {"Å": [1, 2.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "other", float("nan"))
    assert not (tmp_path / "other").exists()


def test_checksums_are_sha_256(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"abc")
    assert sha256(b"abc") == sha256_file(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
    assert sha256(b"abc").startswith("ba7816bf8f01cfea")
