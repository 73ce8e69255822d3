"""What entered a call: other draws, another batch, other scaling or orientation of the images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pygan.parity.causes.common import Hypothesis, solve
from pygan.parity.evidence import InputEvidence


def other_draws(evidence: InputEvidence) -> Iterator[Hypothesis]:
    """Another array of the reference's step, or the draws of a step beside it."""
    for name, other in evidence.others.items():
        if other.shape == evidence.candidate.shape:
            yield Hypothesis("other draws", other, f"{name} entered")


def last_batch(evidence: InputEvidence) -> Iterator[Hypothesis]:
    """A batch cut short, or filled up with zeros or with its own samples."""
    mine, theirs = evidence.candidate, evidence.reference
    if mine.ndim == 0 or mine.ndim != theirs.ndim or mine.shape[1:] != theirs.shape[1:]:
        return
    count, wanted = len(mine), len(theirs)
    if count < wanted:
        yield Hypothesis("last batch wrong", theirs[:count], f"{count} samples instead of {wanted}")
    same = min(count, wanted)
    if count > wanted:
        filled = _filled(theirs, count)
        for how, value in filled.items():
            yield Hypothesis("last batch wrong", value, f"{count} samples instead of {wanted}, filled with {how}")
        value = np.concatenate([theirs, mine[same:]])
        yield Hypothesis("last batch wrong", value, f"{count} samples instead of {wanted}", 1)
    elif count == wanted:
        agree = [np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True)]
        kept = agree.index(False) if False in agree else count
        if 0 < kept < count:
            for how, value in _filled(theirs[:kept], count).items():
                detail = f"samples from number {kept} on replaced by {how}"
                yield Hypothesis("last batch wrong", value, detail)


def _filled(samples: np.ndarray, count: int) -> dict[str, np.ndarray]:
    again = samples[np.arange(count) % len(samples)]
    zeros, last = np.zeros_like(again), again.copy()
    zeros[: len(samples)] = samples
    last[len(samples) :] = samples[-1]
    return {"zeros": zeros, "the batch again": again, "its last sample": last}


def scaled_otherwise(evidence: InputEvidence) -> Iterator[Hypothesis]:
    """Images mapped by ``factor * reference + shift``, both solved."""
    mine, theirs = evidence.candidate, evidence.reference
    if mine.ndim != 4 or mine.shape != theirs.shape or not np.isfinite(mine).all():
        return
    if np.count_nonzero(np.diff(np.unique(theirs)) > 1e-6 * np.ptp(theirs)) < 2:
        return  # two grey levels: any map would do
    centre = theirs.mean()
    factor = solve(np.full(mine.shape, mine.mean()), theirs - centre, mine)
    if factor:
        shift = float(mine.mean() - factor * centre)
        detail = f"{factor:.6g} times the reference plus {shift:.6g}: range {_span(mine)} instead of {_span(theirs)}"
        yield Hypothesis("images scaled otherwise", factor * theirs + shift, detail, 2)


def _span(values: np.ndarray) -> str:
    return f"{values.min():.3g} .. {values.max():.3g}"


def turned(evidence: InputEvidence) -> Iterator[Hypothesis]:
    """x and y of every image swapped, or an axis run backwards."""
    images = evidence.reference
    if images.ndim == 4:
        yield Hypothesis("images transposed", images.swapaxes(2, 3))
        yield Hypothesis("images flipped", images[..., ::-1], "in x")
        yield Hypothesis("images flipped", images[..., ::-1, :], "in y")
        yield Hypothesis("images flipped", images[..., ::-1, ::-1], "in x and y")


RULES = (other_draws, last_batch, scaled_otherwise, turned)
