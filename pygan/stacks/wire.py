"""How the flux worker and its client talk: one JSON line a message, arrays in two memory-mapped files.

The client owns both files, in a private folder that it unlinks as soon as the worker has opened them. A message's
``arrays`` entry gives dtype, shape (PyTorch's order) and byte offset of each array in the file of its direction.
Sizes are checked against the file before anything is mapped. Julia's twin is ``julia/src/worker.jl``.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from pygan.errors import WorkerError
from pygan.files import parse_json

_DTYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "U8": np.uint8, "BOOL": np.bool_}
_NAMES = {np.dtype(dtype): name for name, dtype in _DTYPES.items()}
_ALIGN = 64


def parse_answer(line: bytes, op: str) -> dict[str, Any]:
    """The worker's answer to ``op`` (``start`` for its first line). Raises ``WorkerError`` where ``line`` is none."""
    expected = {"ready"} if op == "start" else {"error", "arrays"}
    try:
        answer = parse_json(line)
        if not (isinstance(answer, dict) and answer.keys() & expected and isinstance(answer.get("arrays", {}), dict)):
            raise ValueError
    except ValueError:
        raise WorkerError(f"the flux worker answered {op!r} with what is no answer: {line[:200]!r}") from None
    return answer


class ArrayFile:
    """One direction's memory-mapped file; grows when it must."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._map: mmap.mmap | None = None

    def close(self) -> None:
        """Unmap and close."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _mapped(self, size: int) -> mmap.mmap:
        actual = os.fstat(self._descriptor).st_size
        if self._map is None or len(self._map) < size or len(self._map) > actual:
            if actual < size:
                raise WorkerError(f"the worker's reply ends beyond its file: {size} bytes of {actual}")
            if self._map is not None:
                self._map.close()
            self._map = mmap.mmap(self._descriptor, actual)
        return self._map

    def send(self, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Write ``arrays`` from the file's start; returns the table that describes them."""
        table: dict[str, Any] = {}
        offset = 0
        for name, value in arrays.items():
            if value.dtype not in _NAMES:
                raise WorkerError(f"{name} has dtype {value.dtype}; the wire carries {', '.join(_DTYPES)}")
            table[name] = {"dtype": _NAMES[value.dtype], "shape": list(value.shape), "offset": offset}
            offset = -(-(offset + value.nbytes) // _ALIGN) * _ALIGN
        if offset > os.fstat(self._descriptor).st_size:
            os.ftruncate(self._descriptor, offset)
        if offset:
            mapped = self._mapped(offset)
            for name, value in arrays.items():
                place = np.frombuffer(mapped, value.dtype, value.size, table[name]["offset"])
                place[:] = value.reshape(-1)
                del place
        return table

    def receive(self, table: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Copies of the arrays that ``table`` describes. Raises ``WorkerError`` if they do not fit the file."""
        arrays = {}
        for name, entry in table.items():
            try:
                dtype, shape, offset = _DTYPES[entry["dtype"]], tuple(entry["shape"]), entry["offset"]
                sound = all(type(number) is int and number >= 0 for number in (offset, *shape))
            except (KeyError, TypeError):
                sound = False
            if not sound:
                raise WorkerError(f"the worker describes {name} by {entry!r}, which is no array")
            count = prod(shape)
            try:
                if count == 0:
                    arrays[name] = np.empty(shape, dtype)
                    continue
                mapped = self._mapped(offset + count * np.dtype(dtype).itemsize)
                arrays[name] = np.frombuffer(mapped, dtype, count, offset).reshape(shape).copy()
            except (ValueError, OverflowError) as error:  # more axes, or longer ones, than numpy has
                raise WorkerError(f"the worker describes {name} by {entry!r}: {error}") from error
        return arrays
