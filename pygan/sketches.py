"""Sketches: 17 numbers that stand for a large tensor in a full-width trace.

A sketch is ``(17,)`` Float64: the 2-norm, 8 projections on fixed random sign vectors, 8 fixed elements. The signs
and places come from Philox (stream ``sketch``, seed 0) and run over the tensor in PyTorch's memory order, so a
permuted or flipped tensor has another sketch with the same norm. Julia's twin is ``julia/src/sketches.jl``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from pygan.draws import words

PROJECTIONS = 8
ELEMENTS = 8


@lru_cache(maxsize=64)
def _signs(size: int) -> np.ndarray:
    """``(8, size)`` int8: +1 where bit j of byte i of the stream is set, else -1."""
    drawn = words(0, "sketch/signs", 0, -(-size // 8)).astype("<u8", copy=False).view(np.uint8)[:size]
    bits = np.unpackbits(drawn[:, None], axis=1, bitorder="little", count=PROJECTIONS)
    return np.ascontiguousarray(bits.T.astype(np.int8) * 2 - 1)


def element_places(size: int) -> np.ndarray:
    """The 8 flat places (with repeats where the tensor is small): ``(8,)`` int64."""
    return (words(0, "sketch/places", size, ELEMENTS) % np.uint64(size)).astype(np.int64)


def sketch(array: np.ndarray) -> np.ndarray:
    """Sketch of ``array`` (any shape, PyTorch layout): ``(17,)`` Float64.

    A tensor that was flipped by mistake has the same norm, which comes first, and other projections:

    >>> kernel = np.arange(12.0).reshape(3, 4)
    >>> right, flipped = sketch(kernel), sketch(kernel[::-1])
    >>> right.shape, bool(right[0] == flipped[0]), bool((right[1:9] == flipped[1:9]).all())
    ((17,), True, False)
    """
    flat = np.ascontiguousarray(array).reshape(-1).astype(np.float64)
    projections = [float(np.dot(signs, flat)) for signs in _signs(flat.size)]
    return np.array([float(np.sqrt(np.dot(flat, flat))), *projections, *flat[element_places(flat.size)]])
