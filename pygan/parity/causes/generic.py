"""Last resorts that need no formula: a factor, a sign, numbers that are none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pygan.parity.causes.common import NARROW, Hypothesis, solve
from pygan.parity.evidence import Cause, Evidence


def sign_flipped(evidence: Evidence) -> Iterator[Hypothesis]:
    """Minus the reference."""
    yield Hypothesis("sign flipped", -evidence.reference)


def scaled_output(evidence: Evidence) -> Iterator[Hypothesis]:
    """A constant factor, solved."""
    factor = solve(np.zeros_like(evidence.reference), evidence.reference, evidence.candidate)
    if factor:
        yield Hypothesis("scaled output", factor * evidence.reference, f"times {factor:.8g}", 1)


def lowered_precision(evidence: Evidence) -> Iterator[Hypothesis]:
    """Every number of the candidate is one that a narrower type has, and next to the reference's."""
    mine, theirs = evidence.candidate, evidence.reference
    if evidence.tolerance > NARROW or mine.shape != theirs.shape or np.count_nonzero(mine) < 8:
        return
    near = np.allclose(mine, theirs, rtol=1e-2, atol=1e-3 * float(np.abs(theirs).max(initial=0.0)))
    if near and np.array_equal(mine.astype(np.float32), mine) and not np.array_equal(theirs.astype(np.float32), theirs):
        narrow = np.array_equal(mine.astype(np.float32).view(np.uint32) & 0xFFFF, np.zeros(mine.shape))
        yield Hypothesis("lowered precision", mine, "bfloat16 numbers" if narrow else "Float32 numbers")


def not_finite(evidence: Evidence) -> Cause | None:
    """NaN or infinity in the candidate where the reference has numbers."""
    mine, theirs = evidence.candidate, evidence.reference
    if np.isfinite(mine).all() or not np.isfinite(theirs).all():
        return None
    nan, infinite = int(np.isnan(mine).sum()), int(np.isinf(mine).sum())
    if nan:
        return Cause("NaN in the candidate", f"{nan} of {mine.size} elements")
    return Cause("not finite", f"{infinite} of {mine.size} elements infinite")
