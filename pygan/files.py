"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pygan.errors import OutputError

MAX_JSON_BYTES = 256 << 20
"""Longest JSON file that is read: a trace of 5 million steps in 100,000 chunks stays below."""
TEMPORARY = ".pygan-tmp"
"""How the names of files and folders end that are not finished; after a kill they are of no use."""


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed over ``path``.

    On any exception (Ctrl-C included) the temporary file is removed and ``path`` stays as it was.
    Raises ``OutputError`` if the folder cannot be written.

    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "result.txt"
    >>> write_bytes(path, b"old")
    >>> with atomic_path(path) as temporary:
    ...     _ = temporary.write_bytes(b"half of the new")
    ...     raise ZeroDivisionError("in mid-writing")
    Traceback (most recent call last):
    ZeroDivisionError: in mid-writing
    >>> path.read_bytes(), os.listdir(folder.name)
    (b'old', ['result.txt'])
    >>> folder.cleanup()
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=TEMPORARY, dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise cannot_write(target, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Raise ``OutputError`` unless ``folder``, or the nearest one above it that exists, takes new files."""
    try:
        with tempfile.TemporaryFile(dir=_nearest(Path(folder))):
            pass
    except OSError as error:
        raise cannot_write(Path(folder), error) from error


def cannot_write(target: Path, error: OSError) -> OutputError:
    """The error to raise where the system refuses a file or folder that is to be made."""
    there = _nearest(target)
    if isinstance(error, FileExistsError | NotADirectoryError):
        reason = f"{there} is a file, not a folder"
    else:
        reason = f"{error.strerror or error} at {there}"
    return OutputError(f"cannot write {target}: {reason}. Choose a folder you may write to.")


def _nearest(path: Path) -> Path:
    """``path``, or the nearest one above it that exists."""
    there = path.absolute()
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    return there


def sync_folder(folder: Path) -> None:
    """Have the names in ``folder`` on disk, where the system can open folders for that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove what a killed process left half written in ``folder`` and the folders in it; only for who holds it."""
    for place in (folder, *(one for one in folder.iterdir() if one.is_dir())):
        for path in place.glob(f".*{TEMPORARY}"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 atomically. Half a character, as the name of a file that is not UTF-8 may hold, is
    written as its escape (``\\udcff``), which JSON and Python read back."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON (UTF-8, NaN refused) atomically."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_limited(path: str | os.PathLike[str], most: int) -> bytes:
    """The content of a text file, which may be a pipe. Raises ``ValueError`` beyond ``most`` bytes, ``OSError``."""
    content = bytearray()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):  # asked for all at once, ``most`` bytes would be allocated
            content += chunk
            if len(content) > most:
                raise ValueError(f"it is longer than {most} bytes")
    return bytes(content)


def parse_json(content: str | bytes) -> Any:
    """What JSON in UTF-8, -16 or -32 says. Every fault is a ``ValueError``, nesting that is too deep as well."""
    try:
        return json.loads(content)
    except (RecursionError, MemoryError) as error:
        raise ValueError("it is nested too deep") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """What the JSON file at ``path`` says. Raises ``OSError``, or ``ValueError`` where it is no JSON."""
    return parse_json(read_limited(path, MAX_JSON_BYTES))


def finite(value: Any) -> Any:
    """``value`` ready for :func:`write_json`: tuples as lists, and None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return value


def sha256(content: bytes | memoryview) -> str:
    """Hex SHA-256 of ``content``."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of the file at ``path``."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
