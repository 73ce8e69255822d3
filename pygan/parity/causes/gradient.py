"""Gradients of parameters and of activations: missing, piled up, clipped, laid out or decayed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from pygan.parity.causes.common import Hypothesis, solve
from pygan.parity.causes.formula import Formula
from pygan.parity.compare import norm
from pygan.parity.evidence import BackwardEvidence, GradientEvidence


def gradient_missing(evidence: BackwardEvidence) -> Iterator[Hypothesis]:
    """Zeros."""
    yield Hypothesis("gradient missing", np.zeros_like(evidence.reference))


def not_reset(evidence: GradientEvidence) -> Iterator[Hypothesis]:
    """The gradient of the step before still in it."""
    if evidence.previous is not None and evidence.previous.shape == evidence.reference.shape:
        yield Hypothesis("gradients not reset", evidence.reference + evidence.previous)


def loss_term_missing(evidence: GradientEvidence, formula: Formula | None = None) -> Iterator[Hypothesis]:
    """Some of the calls contribute nothing; without ``loss_terms`` the known call's own gradient is a term."""
    terms: Mapping[str, np.ndarray] = evidence.loss_terms
    several = len(evidence.calls) != 1  # with a single call there is no other to be missing
    if len(terms) < 2 and several and formula is not None and formula.own is not None and not formula.holds:
        if formula.own.shape != evidence.reference.shape:
            return
        terms = {"this call": formula.own, "the other calls": evidence.reference - formula.own}
    for count in range(1, len(terms)):
        for names in combinations(terms, count):
            missing = ", ".join(name for name in terms if name not in names)
            total = np.sum([terms[name] for name in names], axis=0)
            yield Hypothesis("loss term missing", total, f"without {missing}")


def clipped(evidence: BackwardEvidence) -> Iterator[Hypothesis]:
    """Every element clamped to a bound, or the tensor shrunk to a norm that is a round number.

    A single clamped element fits any bound, so then the bound must be a round number too.
    """
    mine, theirs = evidence.candidate, evidence.reference
    if mine.shape != theirs.shape or not np.isfinite(mine).all():
        return
    bound = float(np.max(np.abs(mine), initial=0.0))
    above = np.count_nonzero(np.abs(theirs) > bound * (1 + 1e-6))
    if bound > 0 and (above >= 2 or (above == 1 and is_round(bound, evidence.tolerance))):
        detail = f"elements clamped to {bound:.6g} in size"
        yield Hypothesis("gradient clipped", np.clip(theirs, -bound, bound), detail, 1)
    size, full = norm(mine), norm(theirs)
    if 0 < size < full and is_round(size, evidence.tolerance) and not is_round(size / full, evidence.tolerance):
        yield Hypothesis("gradient clipped", theirs * (size / full), f"shrunk to the norm {size:.6g}", 0)


def is_round(value: float, tolerance: float) -> bool:
    """Is ``value`` a number that people write: 1, 2, 3, 4, 5 or 8 times a power of ten, or the inverse of one?"""
    for one in (value, 1 / value):
        digits = one / 10 ** np.floor(np.log10(one) + 1e-12)
        if any(abs(digits - head) <= min(10 * tolerance, 1e-6) * head for head in (1, 2, 3, 4, 5, 8, 10)):
            return True
    return False


def layout(evidence: GradientEvidence) -> Iterator[Hypothesis]:
    """The right numbers in the layout of a flipped or transposed weight."""
    g = evidence.reference
    if g.ndim == 4 and max(g.shape[2:]) > 1:
        yield Hypothesis("kernel not flipped", g[..., ::-1, ::-1], "in the gradient's layout")
        if g.shape[2] == g.shape[3]:
            yield Hypothesis("kernel transposed", g.swapaxes(2, 3), "in the gradient's layout")
    if g.ndim >= 2 and g.shape[0] == g.shape[1] > 1:
        yield Hypothesis("weight transposed", g.swapaxes(0, 1), "in the gradient's layout")


def weight_decay(evidence: GradientEvidence) -> Iterator[Hypothesis]:
    """``g + decay * weight``, the decay solved."""
    decay = solve(evidence.reference, evidence.weight, evidence.candidate)
    if decay is not None and decay > 0 and evidence.weight.shape == evidence.reference.shape:
        value = evidence.reference + decay * evidence.weight
        yield Hypothesis("weight decay in the gradient", value, f"decay {decay:.6g}", 1)


def gradient_scaled(evidence: BackwardEvidence) -> Iterator[Hypothesis]:
    """A constant factor, solved."""
    factor = solve(np.zeros_like(evidence.reference), evidence.reference, evidence.candidate)
    if factor is not None and factor > 0:
        yield Hypothesis("gradient scaled", factor * evidence.reference, f"times {factor:.8g}", 1)
