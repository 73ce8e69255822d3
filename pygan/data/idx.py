"""IDX files of images and labels, plain or gzip: a strict reader and an atomic writer.

The format is the one of the MNIST page (LeCun, Cortes, Burges): two zero bytes, a type byte (8: unsigned
byte), the rank, one big-endian 32-bit size for each axis, then the bytes in row-major order. Whether a file is
gzip is told by its first two bytes, never by its name.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Callable
from math import prod
from pathlib import Path

import numpy as np

from pygan.errors import DataError
from pygan.files import atomic_path

MAX_BYTES = 1 << 30
"""Largest content that a file may claim: 1 GiB (MNIST's training images take 47 MB)."""

_UBYTE = 0x08
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_BEST = 1032  # DEFLATE never packs tighter than 1032 to 1
_CHUNK = 1 << 20
_KINDS = {1: "labels", 3: "images"}

PathLike = str | os.PathLike[str]


def read_images(path: PathLike) -> np.ndarray:
    """Images ``(N, H, W)`` uint8 of an ``idx3-ubyte`` file, plain or gzip; ``DataError`` names any fault."""
    return _read(Path(path), 3)


def read_labels(path: PathLike) -> np.ndarray:
    """Labels ``(N,)`` uint8 of an ``idx1-ubyte`` file, plain or gzip; ``DataError`` names any fault."""
    return _read(Path(path), 1)


def read_pair(images_path: PathLike, labels_path: PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(N, H, W)`` uint8 and their labels ``(N,)`` uint8; differing counts are a ``DataError``."""
    images, labels = read_images(images_path), read_labels(labels_path)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images, {labels_path} holds {len(labels)} labels; "
            "expected one label for each image. Take both files from the same set and the same split."
        )
    return images, labels


def write(path: PathLike, array: np.ndarray) -> None:
    """Write images ``(N, H, W)`` or labels ``(N,)`` uint8 atomically; gzip if the name ends in ``.gz``.

    The same array gives the same bytes on every day (gzip's time stamp is 0). Raises ``DataError`` for another
    dtype, rank or an empty array, ``OutputError`` if the file cannot be written.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name) / "labels.gz"
    >>> write(path, np.array([5, 0, 4], np.uint8))
    >>> read_labels(path).tolist()
    [5, 0, 4]
    >>> read_images(path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pygan.errors.DataError: ...labels.gz starts with 00 00 08 01 (IDX labels); expected 00 00 08 03 (images). ...
    >>> folder.cleanup()
    """
    if array.dtype != np.uint8 or array.ndim not in _KINDS or array.size == 0:
        raise DataError(
            f"cannot write {path}: an array of shape {array.shape}, {array.dtype}; "
            "expected images (N, H, W) or labels (N,), uint8, not empty."
        )
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        body = np.ascontiguousarray(array).data
        if os.fspath(path).endswith(".gz"):
            with gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed:
                packed.write(_header(array.shape))
                packed.write(body)
        else:
            stream.write(_header(array.shape))
            stream.write(body)


def content_sha256(array: np.ndarray) -> str:
    """Hex SHA-256 of the unpacked IDX file that holds ``array`` (uint8, rank 1 or 3)."""
    digest = hashlib.sha256(_header(array.shape))
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _header(shape: tuple[int, ...]) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, _UBYTE, len(shape), *shape)


def _read(path: Path, rank: int) -> np.ndarray:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(
                f"{path} is not a regular file; expected an IDX file of {_KINDS[rank]}. Name the file itself."
            )
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            packed = stream.read(2) == _GZIP_MAGIC
            stream.seek(0)
            if packed:
                with gzip.GzipFile(fileobj=stream) as unpacked:
                    return _parse(path, rank, unpacked.read, size * _GZIP_BEST, exact=False)
            return _parse(path, rank, stream.read, size, exact=True)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is a damaged gzip file: {error}; expected a whole one. Copy or download the file again."
        ) from error
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; expected an IDX file of {_KINDS[rank]}. Check the path.") from error
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or error}; expected an IDX file of {_KINDS[rank]}. "
            "Check the path and its permissions."
        ) from error


def _parse(path: Path, rank: int, read: Callable[[int], bytes], most: int, exact: bool) -> np.ndarray:
    """Read the array from ``read``; ``most`` bounds the bytes that can come, ``exact`` says it is their number."""
    header = read(4 + 4 * rank)
    if not header:
        raise DataError(f"{path} is empty; expected an IDX file of {_KINDS[rank]}. Copy or download the file again.")
    magic = bytes((0, 0, _UBYTE, rank))
    if header[:4] != magic:
        raise DataError(
            f"{path} starts with {header[:4].hex(' ')}{_meaning(header)}; expected {magic.hex(' ')} ({_KINDS[rank]}). "
            f"Name a file of {_KINDS[rank]}, uint8 IDX."
        )
    if len(header) < 4 + 4 * rank:
        raise DataError(
            f"{path} ends inside its header, after {len(header)} bytes; expected {4 + 4 * rank}. "
            "Copy or download the file again."
        )
    shape = struct.unpack(f">{rank}I", header[4:])
    claim = prod(shape)
    said = f"{path} says it holds {_KINDS[rank]} of shape {shape}"
    if claim == 0:
        raise DataError(f"{said}; expected at least one byte of data. Name a file that is not empty.")
    if claim > MAX_BYTES:
        raise DataError(
            f"{said}, {claim} bytes; expected at most {MAX_BYTES}. Check that the file is a data set of this kind."
        )
    whole = len(header) + claim
    if most < whole or (exact and most > whole):
        found = f"is {most} bytes long" if exact else f"cannot unpack to more than {most} bytes"
        raise DataError(f"{said}, but {found}; expected {whole}. Copy or download the file again.")
    content = bytearray()
    while len(content) <= claim:  # one byte more than claimed is asked for: it must not come
        chunk = read(min(_CHUNK, claim + 1 - len(content)))
        if not chunk:
            break
        content += chunk
    if len(content) != claim:
        found = "more bytes follow" if len(content) > claim else f"only {len(content)} bytes follow"
        raise DataError(
            f"{said}, {claim} bytes, but {found} the header; expected exactly {claim}. Copy or download the file again."
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _meaning(header: bytes) -> str:
    if header[:3] == bytes((0, 0, _UBYTE)) and len(header) > 3 and header[3] in _KINDS:
        return f" (IDX {_KINDS[header[3]]})"
    return " (not IDX)"
