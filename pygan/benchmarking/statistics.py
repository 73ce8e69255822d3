"""Medians and ratios of samples that were taken in rounds, with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

RESAMPLES = 4000
CONFIDENCE = 0.95
FEWEST = 6
"""With fewer samples not even their whole range holds the median so often: ``1 - 2**(1 - 5)`` is 0.94."""
ALONE = 2.0
"""How far off the ratio of one sample to one other may be: by this factor either way, as their spread is unknown."""


@dataclass(frozen=True)
class Ratio:
    """How many times as long one row takes as another: a ratio of medians and its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def straddles_one(self) -> bool:
        """Does the interval hold 1, so that no difference is shown?"""
        return self.low <= 1 <= self.high


def median(values: Sequence[float]) -> float:
    """The median of at least one value."""
    return float(np.median(np.asarray(values, np.float64)))


def ratio(numerator: Sequence[float], denominator: Sequence[float], *, paired: bool = True, seed: int = 0) -> Ratio:
    """Ratio of the medians, with a percentile bootstrap interval of :data:`CONFIDENCE`.

    ``paired``: sample i of both was taken in round i; rounds are resampled as wholes, so that what slows the machine
    for a while cancels. Otherwise each side is resampled alone, or, below :data:`FEWEST` samples, :func:`_of_few` gives
    the interval. Raises ``ValueError`` on samples that cannot be paired.
    """
    a, b = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if not a.size or not b.size or (paired and a.size != b.size):
        raise ValueError(f"{a.size} samples against {b.size} cannot be {'paired' if paired else 'compared'}")
    if not paired and min(a.size, b.size) < FEWEST:
        return _of_few(a, b)
    generator = np.random.Generator(np.random.Philox(key=seed))
    rounds = generator.integers(0, a.size, (RESAMPLES, a.size))
    others = rounds if paired else generator.integers(0, b.size, (RESAMPLES, b.size))
    resampled = np.median(a[rounds], axis=1) / np.median(b[others], axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, (tail, 1 - tail))
    return Ratio(float(np.median(a) / np.median(b)), float(low), float(high))


def _of_few(a: np.ndarray, b: np.ndarray) -> Ratio:
    """Ratio of the medians with Student's interval for logarithms of one spread; a median's standard error is at most
    ``sqrt(pi / 2)`` times a mean's."""
    value, freedom = float(np.median(a) / np.median(b)), a.size + b.size - 2
    factor = ALONE
    if freedom:
        logs = [np.log(side) for side in (a, b)]
        variance = sum(float(np.sum((side - side.mean()) ** 2)) for side in logs) / freedom
        error = np.sqrt(variance * np.pi / 2 * (1 / a.size + 1 / b.size))
        factor = float(np.exp(stdtrit(freedom, (1 + CONFIDENCE) / 2) * error))
    return Ratio(value, value / factor, value * factor)
