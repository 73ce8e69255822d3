"""Last resorts that need no formula: a factor, a sign, numbers that are none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pygan.parity.causes.common import Hypothesis, solve
from pygan.parity.evidence import Cause, Evidence


def sign_flipped(evidence: Evidence) -> Iterator[Hypothesis]:
    """Minus the reference."""
    yield Hypothesis("sign flipped", -evidence.reference)


def scaled_output(evidence: Evidence) -> Iterator[Hypothesis]:
    """A constant factor, solved."""
    factor = solve(np.zeros_like(evidence.reference), evidence.reference, evidence.candidate)
    if factor:
        yield Hypothesis("scaled output", factor * evidence.reference, f"times {factor:.8g}", 1)


def not_finite(evidence: Evidence) -> Cause | None:
    """NaN or infinity in the candidate where the reference has numbers."""
    mine, theirs = evidence.candidate, evidence.reference
    if np.isfinite(mine).all() or not np.isfinite(theirs).all():
        return None
    nan, infinite = int(np.isnan(mine).sum()), int(np.isinf(mine).sum())
    if nan:
        return Cause("NaN in the candidate", f"{nan} of {mine.size} elements")
    return Cause("not finite", f"{infinite} of {mine.size} elements infinite")
