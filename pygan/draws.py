"""Every random number of a run, bit-identical in Python and Julia (``julia/src/draws.jl``).

A draw is named by ``(seed, stream, step)``. Its words are Philox4x64-10 blocks (Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3", SC 2011): block ``b`` is the cipher of counter ``(b + 1, step, 0, 0)``
under key ``(seed, stream_id(stream))``. The ``+ 1`` is numpy's: ``numpy.random.Philox`` increments its
counter before the first block, so its raw output can be taken as it is.

From words to numbers only bit fields, one table look-up and correctly rounded ``+ - * / sqrt`` in a fixed order
are used; no ``log``, ``cos`` or ``exp`` of any library and no fused multiply-add, because those differ between
machines. Numbers are computed once as Float32; Float64 runs widen them exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import prod

import numpy as np

from pygan.errors import ConfigError
from pygan.resources import shared_table

_MASK64 = (1 << 64) - 1
_SUB_BITS = 3  # sub-segments per octave of the quantile table: 2 ** 3
_DEGREE = 5


def stream_id(name: str) -> int:
    """64-bit FNV-1a hash of a stream's UTF-8 name: recipes name their draws, nobody keeps a list of numbers."""
    value = 0xCBF29CE484222325
    for byte in name.encode():
        value = ((value ^ byte) * 0x100000001B3) & _MASK64
    return value


def words(seed: int, stream: str, step: int, count: int, first: int = 0) -> np.ndarray:
    """``count`` Philox words of a draw from word ``first``, a multiple of 4, on: ``(count,)`` uint64.

    >>> bool((words(7, "noise", 3, 8, first=4) == words(7, "noise", 3, 12)[4:]).all())
    True
    """
    for name, value in (("seed", seed), ("step", step)):
        if not 0 <= value <= _MASK64:
            raise ConfigError(f"{name} must lie in 0 .. 2^64 - 1, got {value}")
    key = np.array([seed, stream_id(stream)], dtype=np.uint64)
    if first % 4:
        raise ConfigError(f"words come in blocks of 4: the first one asked for must be a multiple of 4, got {first}")
    counter = np.array([first // 4, step, 0, 0], dtype=np.uint64)
    return np.asarray(np.random.Philox(key=key, counter=counter).random_raw(count))


def fields(seed: int, stream: str, step: int, count: int, bits: int, first: int = 0) -> np.ndarray:
    """``count`` unsigned fields of 16 or 32 bits, lowest bits of a word first: ``(count,)`` uint16 or uint32.

    ``first``: the word to begin with, a multiple of 4.

    >>> word = int(words(seed=0, stream="noise", step=0, count=1)[0])
    >>> [f"{field:04x}" for field in fields(0, "noise", 0, 4, bits=16).tolist()], f"{word:016x}"
    (['1b4a', '7df2', 'ad1d', 'e9de'], 'e9dead1d7df21b4a')
    """
    per_word = 64 // bits
    raw = words(seed, stream, step, -(-count // per_word), first)
    return raw.astype("<u8", copy=False).view(f"<u{bits // 8}")[:count]


@cache
def _quantile_table() -> np.ndarray:
    """Coefficients ``(6, segments)`` Float64, made by ``tools/normal_table.py``, highest power first."""
    lines = shared_table("normal_quantile.txt").read_text(encoding="ascii").split()
    rows = np.array([int(line, 16) for line in lines], dtype=np.uint64).view(np.float64).reshape(-1, _DEGREE + 1)
    return np.ascontiguousarray(rows.T)


def normals_from_fields(field32: np.ndarray) -> np.ndarray:
    """Standard normals from 32-bit fields: bit 31 is the sign, the rest the two-sided tail probability.

    With ``v = 2k + 1`` (``k`` the low 31 bits) the magnitude is the normal quantile at tail ``v / 2^32``,
    piecewise a polynomial of degree 5 over eighths of octaves. The segment is read off the exponent and the
    top mantissa bits of ``v`` as Float64. ``field32``: ``(n,)`` uint32; returns ``(n,)`` Float32.
    """
    made = np.empty(len(field32), np.float32)
    for at in range(0, len(field32), _BLOCK):
        made[at : at + _BLOCK] = _normals(field32[at : at + _BLOCK])
    return made


_BLOCK = 1 << 13
"""Normals made at once: the Float64 intermediates of so many stay in the cache."""


def _normals(field32: np.ndarray) -> np.ndarray:
    table = _quantile_table()
    odd = (((field32 & np.uint32(0x7FFFFFFF)).astype(np.uint64) << np.uint64(1)) + np.uint64(1)).astype(np.float64)
    bits = odd.view(np.uint64)
    segment = ((bits >> np.uint64(52 - _SUB_BITS)) - np.uint64(1023 << _SUB_BITS)).astype(np.intp)
    low = (bits << np.uint64(_SUB_BITS)) & np.uint64((1 << 52) - 1)
    t = (low | np.uint64(1023 << 52)).view(np.float64) - 1.0
    value: np.ndarray = table[0].take(segment)
    for coefficients in table[1:]:
        value *= t
        value += coefficients.take(segment)
    return np.where(field32 >> np.uint32(31), -value, value).astype(np.float32)


def keep_threshold(rate: float) -> int:
    """Dropout keeps a unit whose 16-bit field is at least this: ``rate`` rounded to a multiple of 2^-16.

    >>> keep_threshold(0.5), keep_threshold(0.3)
    (32768, 19661)
    """
    return round(rate * 65536)


@dataclass(frozen=True)
class Draws:
    """All draws of one step, expanded on demand from ``(seed, step)``.

    ``overrides`` gives explicit arrays by stream name (for tests); their shape must be the one asked for.
    Methods take a stream name and a shape in PyTorch's layout; Julia's arrays have the reversed shape and so
    the same memory order.

    The same name gives the same numbers, whenever and however many are asked for:

    >>> draws = Draws(seed=7, step=3)
    >>> bool((draws.normal("noise", (2, 5)).reshape(-1)[:4] == draws.normal("noise", (4,))).all())
    True
    >>> bool((draws.normal("noise", (4,)) == draws.at(4).normal("noise", (4,))).any())
    False
    >>> draws.permutation("shuffle", 6).tolist()
    [2, 1, 5, 0, 4, 3]
    >>> Draws(7, overrides={"noise": np.zeros((2,))}).normal("noise", (3,))
    Traceback (most recent call last):
    pygan.errors.ConfigError: draw 'noise' was given with shape (2,), the recipe asks for (3,)
    """

    seed: int
    step: int = 0
    overrides: Mapping[str, np.ndarray] = field(default_factory=dict)

    def at(self, step: int) -> Draws:
        """The draws of another step of the same run."""
        return Draws(self.seed, step)

    def _given(self, stream: str, shape: tuple[int, ...], dtype: type) -> np.ndarray | None:
        value = self.overrides.get(stream)
        if value is None:
            return None
        if value.shape != shape:
            raise ConfigError(f"draw {stream!r} was given with shape {value.shape}, the recipe asks for {shape}")
        return value.astype(dtype, copy=False)

    def normal(self, stream: str, shape: tuple[int, ...]) -> np.ndarray:
        """Standard normals, Float32."""
        given = self._given(stream, shape, np.float32)
        if given is not None:
            return given
        return normals_from_fields(fields(self.seed, stream, self.step, prod(shape), 32)).reshape(shape)

    def uniform(self, stream: str, shape: tuple[int, ...]) -> np.ndarray:
        """Multiples of 2^-24 in [0, 1), Float32, the grid of Julia's ``rand(Float32)``."""
        given = self._given(stream, shape, np.float32)
        if given is not None:
            return given
        top = fields(self.seed, stream, self.step, prod(shape), 32) >> np.uint32(8)
        return (top.astype(np.float32) * np.float32(2**-24)).reshape(shape)

    def keep(self, stream: str, shape: tuple[int, ...], rate: float) -> np.ndarray:
        """Dropout pattern: True where the unit stays; P(False) is ``rate`` to the nearest 2^-16. Bool."""
        given = self._given(stream, shape, np.bool_)
        if given is not None:
            return given
        drawn = fields(self.seed, stream, self.step, prod(shape), 16)
        return (drawn >= keep_threshold(rate)).reshape(shape)

    def permutation(self, stream: str, count: int) -> np.ndarray:
        """Order of ``0 .. count - 1`` by 64-bit key, ties by index: ``(count,)`` int64."""
        given = self._given(stream, (count,), np.int64)
        if given is not None:
            return given
        return np.argsort(words(self.seed, stream, self.step, count), kind="stable").astype(np.int64)
