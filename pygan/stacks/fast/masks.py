"""Dropout patterns drawn by two threads. numpy lets go of the interpreter while it computes Philox words."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from math import prod

import numpy as np

from pygan.draws import Draws, fields, keep_threshold

_SMALLEST = 1 << 16
"""Words below which a second thread costs more than it saves."""


@cache
def _second() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="pygan-draws")


def drawn_in_halves(draws: Draws, stream: str, shape: tuple[int, ...], rate: float) -> np.ndarray:
    """``draws.keep(stream, shape, rate)``: the same pattern, its second half drawn meanwhile by another thread."""
    count = prod(shape)
    total = -(-count // 4)  # four 16-bit fields a word
    half = total // 8 * 4  # whole blocks of four words
    if total < _SMALLEST or type(draws) is not Draws or stream in draws.overrides:
        return draws.keep(stream, shape, rate)
    kept = np.empty(total * 4, np.bool_)

    def draw(first: int, last: int) -> None:
        drawn = fields(draws.seed, stream, draws.step, 4 * (last - first), 16, first)
        np.greater_equal(drawn, keep_threshold(rate), out=kept[4 * first : 4 * last])

    other = _second().submit(draw, half, total)
    draw(0, half)
    other.result()
    return kept[:count].reshape(shape)
