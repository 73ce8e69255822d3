"""An operation in lower precision: its own result, from right inputs, is off by more than Float32 rounds."""

from __future__ import annotations

import math

from pygan.parity.evidence import UNKNOWN, Cause
from pygan.parity.judge import Judged

FORMATS = ((8.0, 10.5, "bfloat16 keeps 8 bits"), (10.5, 14.0, "TF32 and half keep 11 bits"))
"""Bits that a result is good to, relative to its norm, and the formats that leave so many: rounding factors or results
to p bits leaves p to p + 2 of a sum."""


def lowered(one: Judged) -> Cause:
    """The cause of a single Float32 operation that is off, if the size of the error is that of a shorter format."""
    bits = -math.log2(one.value) if one.value > 0 else math.inf
    for low, high, words in FORMATS:
        if low - 0.5 <= bits < high:
            return Cause("lowered precision", f"good to {bits:.0f} bits; {words}")
    return UNKNOWN
