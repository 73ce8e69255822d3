"""The draws of :mod:`pygan.draws`, bit for bit, in torch's integer arithmetic on any device.

Words are int64 tensors that hold the 64 bits of an unsigned word; sums and products wrap as unsigned ones do. Seed and
step are tensors on the device, so that a replayed CUDA graph, which repeats the same operations on the same memory,
still draws anew at every step. Nothing here reads a value on the host.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from math import prod

import numpy as np
import torch
from torch import Tensor

from pygan.draws import _DEGREE, _SUB_BITS, _quantile_table, keep_threshold, stream_id, words
from pygan.errors import ConfigError

_FACTORS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_LOW = (1 << 32) - 1
_ROUNDS = 10


def signed(word: int) -> int:
    """The int64 with the bits of an unsigned 64-bit ``word``.

    >>> signed(5), signed(2**64 - 1)
    (5, -1)
    """
    return word - (1 << 64) if word >> 63 else word


def _high(x: Tensor) -> Tensor:
    """The upper 32 bits of each word as a number; torch's own shift would fill in the sign."""
    return (x >> 32) & _LOW


def _product(x: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Low and high words of the 128-bit products of unsigned ``x`` with ``factor``. No partial sum exceeds 64 bits."""
    low, high = factor & _LOW, factor >> 32
    x_low, x_high = x & _LOW, _high(x)
    middle = x_high * low + _high(x_low * low)
    other = x_low * high + (middle & _LOW)
    return x * signed(factor), x_high * high + _high(middle) + _high(other)


def philox(blocks: Tensor, step: Tensor, seed: Tensor, stream: Tensor) -> Tensor:
    """Philox4x64-10 of the counters ``(block, step, 0, 0)`` under the key ``(seed, stream)``.

    ``blocks`` ``(n,)``, the others ``()``, all int64; returns the words ``(n, 4)``.
    """
    zero = step ^ step
    counter = (blocks, step, zero, zero)
    for number in range(_ROUNDS):
        if number:
            seed, stream = seed + signed(_KEY_STEPS[0]), stream + signed(_KEY_STEPS[1])
        (low0, high0), (low2, high2) = _product(counter[0], _FACTORS[0]), _product(counter[2], _FACTORS[1])
        counter = (high2 ^ counter[1] ^ seed, low2, high0 ^ counter[3] ^ stream, low0)
    return torch.stack(counter, dim=-1)


Cipher = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@cache
def fused_philox(device: torch.device) -> Cipher:
    """:func:`philox` compiled to one kernel in place of some four hundred; itself where torch cannot compile it
    to one that gives the words of :func:`pygan.draws.words`.

    Only the integer part is compiled: a compiler may contract the normals' ``*`` and ``+``, which changes their bits.
    """
    compiled = torch.compile(philox, dynamic=True, fullgraph=True)

    def quiet(blocks: Tensor, step: Tensor, seed: Tensor, stream: Tensor) -> Tensor:
        with torch.no_grad(), warnings.catch_warnings():  # such as advice to allow TF32
            warnings.simplefilter("ignore")
            return compiled(blocks, step, seed, stream)

    seed, step = (1 << 63) + 5, (1 << 64) - 3  # bits that signed arithmetic could get wrong
    key = (torch.full((), signed(value), device=device) for value in (step, seed, stream_id("known")))
    expected = torch.from_numpy(words(seed, "known", step, 4 * 5000).view(np.int64)).view(-1, 4).to(device)
    try:
        right = torch.equal(quiet(torch.arange(1, 5001, device=device), *key), expected)
    except Exception:  # no compiler, no Triton, a GPU that it does not know: the reasons are many and none matters
        return philox
    return quiet if right else philox


class DeviceDraws:
    """:class:`~pygan.draws.Draws` whose key lies on ``device`` and whose methods return tensors there.

    >>> draws = DeviceDraws(torch.device("cpu"))
    >>> draws.set(seed=7, step=3)
    >>> draws.keep("mask", (2, 3), 0.5)
    tensor([[False, False,  True],
            [False, False,  True]])
    """

    def __init__(self, device: torch.device) -> None:
        self.seed, self.step = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        self._device = device
        self._table = torch.from_numpy(_quantile_table()).to(device)
        self._blocks: dict[int, Tensor] = {}
        self._streams: dict[str, Tensor] = {}
        self._philox = fused_philox(device) if device.type == "cuda" else philox

    @property
    def fused(self) -> bool:
        """Are the words made by one compiled kernel?"""
        return self._philox is not philox

    def set(self, seed: int, step: int) -> None:
        """Draw the numbers of ``Draws(seed, step)`` from now on. Raises ``ConfigError`` outside 0 .. 2^64 - 1."""
        for name, value, held in (("seed", seed, self.seed), ("step", step, self.step)):
            if not 0 <= value < 1 << 64:
                raise ConfigError(f"{name} must lie in 0 .. 2^64 - 1, got {value}")
            held.fill_(signed(value))

    def advance(self) -> None:
        """On to the next step, on the device."""
        self.step.add_(1)

    def words(self, stream: str, count: int) -> Tensor:
        """The first ``count`` words of a draw: ``(count,)`` int64 with the bits of :func:`pygan.draws.words`."""
        number = -(-count // 4)
        if number not in self._blocks:
            self._blocks[number] = torch.arange(1, number + 1, device=self._device)
        if stream not in self._streams:
            self._streams[stream] = torch.full((), signed(stream_id(stream)), dtype=torch.int64, device=self._device)
        drawn = self._philox(self._blocks[number], self.step, self.seed, self._streams[stream])
        return drawn.view(-1)[:count]

    def fields(self, stream: str, count: int, bits: int) -> Tensor:
        """``count`` unsigned fields of 16 or 32 bits, lowest bits of a word first: ``(count,)`` int32 or int64."""
        narrow, wide = (torch.int16, torch.int32) if bits == 16 else (torch.int32, torch.int64)
        halves = self.words(stream, -(-count // (64 // bits))).view(narrow)  # processors and GPUs are little-endian
        return halves[:count].to(wide) & ((1 << bits) - 1)

    def normal(self, stream: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normals, Float32; see :func:`pygan.draws.normals_from_fields`."""
        field32 = self.fields(stream, prod(shape), 32)
        bits = ((field32 & 0x7FFFFFFF) * 2 + 1).to(torch.float64).view(torch.int64)
        segment = (bits >> (52 - _SUB_BITS)) - (1023 << _SUB_BITS)
        low = (bits << _SUB_BITS) & ((1 << 52) - 1)
        t = (low | (1023 << 52)).view(torch.float64) - 1.0
        value = self._table[0, segment]
        for power in range(1, _DEGREE + 1):  # two operations, rounded each
            value = value * t
            value = value + self._table[power, segment]
        return torch.where(field32 >> 31 == 1, -value, value).to(torch.float32).view(shape)

    def uniform(self, stream: str, shape: tuple[int, ...]) -> Tensor:
        """Multiples of 2^-24 in [0, 1), Float32."""
        return ((self.fields(stream, prod(shape), 32) >> 8).to(torch.float32) * 2**-24).view(shape)

    def keep(self, stream: str, shape: tuple[int, ...], rate: float) -> Tensor:
        """Dropout pattern: True where the unit stays; P(False) is ``rate`` to the nearest 2^-16. Bool."""
        return (self.fields(stream, prod(shape), 16) >= keep_threshold(rate)).view(shape)
