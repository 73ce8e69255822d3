"""Losses on logits: reduction, labels, terms and factors.

Two losses are known, binary cross-entropy against one constant label per call and softmax cross-entropy; which one it
is, and with which labels, is found by reproducing the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pygan.parity.causes.common import NARROW, Hypothesis, reproduces_reference, solve
from pygan.parity.evidence import LossEvidence

MOST_LABELLINGS = 4096
USUAL_FACTORS = (0.5, 2.0, 0.25, 4.0, 0.1, 10.0, 0.01, 100.0, 1 / np.log(2), np.log(2))
"""A single number is always some factor of another one: only these are named from a loss alone."""
USUAL_SMOOTHING = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)


@dataclass(frozen=True)
class Term:
    """One call's share of a loss: ``factor`` times the mean or sum of the cross-entropy of ``logits`` with ``label``.

    For the binary loss ``label`` is one number; for the softmax loss the class of every row of ``logits`` ``(N, K)``.
    """

    name: str
    logits: np.ndarray
    label: float | np.ndarray
    factor: float = 1.0

    @property
    def count(self) -> int:
        """What a mean divides by."""
        return self.logits.size if self.binary else len(self.logits)

    @property
    def binary(self) -> bool:
        """Binary or softmax?"""
        return not isinstance(self.label, np.ndarray)

    def _wanted(self) -> np.ndarray:
        """One-hot rows."""
        wanted = np.zeros_like(self.logits)
        wanted[np.arange(len(wanted)), np.asarray(self.label)] = 1
        return wanted

    def mean(self) -> float:
        """The mean cross-entropy."""
        z = self.logits
        if self.binary:
            return float(np.mean(np.logaddexp(0, z) - self.label * z))
        return float(np.mean(_log_sum(z) - np.sum(z * self._wanted(), axis=1)))

    def gradient(self) -> np.ndarray:
        """Of the mean with respect to the logits."""
        z = self.logits
        if self.binary:
            return np.asarray((_sigmoid(z) - self.label) / self.count)
        return np.asarray((np.exp(z - _log_sum(z)[:, None]) - self._wanted()) / self.count)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-np.logaddexp(0, -z)))


def _log_sum(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.logaddexp.reduce(z, axis=1))


class Loss:
    """The terms of a loss, or the one whose gradient is looked at, as the reference computes them."""

    def __init__(self, evidence: LossEvidence, terms: tuple[Term, ...]) -> None:
        self.evidence, self.terms = evidence, terms
        self.of_gradient = evidence.key.startswith("activation_gradient/")

    def value(self, terms: tuple[Term, ...]) -> np.ndarray:
        """The loss made of ``terms``, or its gradient, in the evidence's shape."""
        reference = self.evidence.reference
        if self.of_gradient:
            total = sum((term.factor * term.gradient() for term in terms), np.zeros_like(self.terms[0].logits))
            return np.asarray(total).reshape(reference.shape)
        return np.full(reference.shape, sum(term.factor * term.mean() for term in terms))

    def holds(self) -> bool:
        """Is this what the reference computed?"""
        return reproduces_reference(self.evidence, self.value(self.terms))


def recognise(evidence: LossEvidence) -> Iterator[Loss]:
    """Every known loss that reproduces the reference: means or sums, labels as they come, whole or halved."""
    calls = dict(evidence.logits)
    if evidence.key.startswith("activation_gradient/"):
        call = evidence.key.split("/")[1]
        calls = {call: calls[call]} if call in calls else {}
        calls = {name: z for name, z in calls.items() if z.size == evidence.reference.size}
    elif evidence.key.partition("/")[0] != "loss" or evidence.reference.size != 1:
        return
    if not calls or any(z.size == 0 for z in calls.values()):
        return
    for terms in _labellings(evidence, calls):
        for summed, share in product((False, True), (1.0, 0.5)):
            made = tuple(replace(term, factor=share * (term.count if summed else 1)) for term in terms)
            loss = Loss(evidence, made)
            if loss.holds():
                yield loss


def _labellings(evidence: LossEvidence, calls: dict[str, np.ndarray]) -> Iterator[tuple[Term, ...]]:
    if 2 ** len(calls) <= MOST_LABELLINGS:
        for labels in product((0.0, 1.0), repeat=len(calls)):
            yield tuple(Term(name, z, label) for (name, z), label in zip(calls.items(), labels, strict=True))
    if not all(z.ndim == 2 and z.shape[1] > 1 for z in calls.values()):
        return
    classes = [range(z.shape[1]) for z in calls.values()]
    if np.prod([len(one) for one in classes]) <= MOST_LABELLINGS:
        for chosen in product(*classes):
            yield tuple(Term(name, z, np.full(len(z), k)) for (name, z), k in zip(calls.items(), chosen, strict=True))
    if len(calls) > 1:
        return
    ((name, z),) = calls.items()
    if evidence.reference.size == z.size:  # softmax minus one-hot: only the wanted class's gradient is negative
        yield (Term(name, z, evidence.reference.reshape(z.shape).argmin(axis=1)),)
    elif evidence.tolerance <= NARROW and z.shape[1] ** len(z) <= MOST_LABELLINGS:
        for each in product(range(z.shape[1]), repeat=len(z)):
            yield (Term(name, z, np.array(each)),)


# --- hypotheses --------------------------------------------------------------------------------------------------


def reduction(loss: Loss) -> Iterator[Hypothesis]:
    """Sums for means or means for sums, in all terms or in one."""
    for terms in _subsets(loss.terms):
        if all(term.count > 1 for term in terms):
            summed = all(term.factor >= term.count for term in terms)
            name = "mean instead of sum" if summed else "sum instead of mean"
            altered = _with(
                loss, {t.name: replace(t, factor=t.factor * t.count ** (-1 if summed else 1)) for t in terms}
            )
            yield Hypothesis(name, loss.value(altered), _in_terms(loss, terms))


def labels_swapped(loss: Loss) -> Iterator[Hypothesis]:
    """The other of two labels in all terms or in some."""
    for terms in _subsets(loss.terms):
        if all(term.binary or term.logits.shape[1] == 2 for term in terms):
            altered = _with(loss, {term.name: replace(term, label=1 - term.label) for term in terms})
            yield Hypothesis("labels swapped", loss.value(altered), _in_terms(loss, terms))


def term_missing(loss: Loss) -> Iterator[Hypothesis]:
    """A call contributes nothing."""
    for term in loss.terms:
        yield Hypothesis(
            "loss term missing", loss.value(tuple(t for t in loss.terms if t is not term)), f"without {term.name}"
        )


def scaled(loss: Loss) -> Iterator[Hypothesis]:
    """A constant factor: solved from a gradient, one of the usual ones from a single number."""
    reference, candidate = loss.evidence.reference, loss.evidence.candidate
    factors: tuple[float | None, ...] = USUAL_FACTORS
    if reference.size > 1:
        factors = (solve(np.zeros_like(reference), reference, candidate),)
    for factor in factors:
        if factor is not None and factor > 0:
            yield Hypothesis("loss scaled", factor * reference, f"times {factor:.8g}", 1)


def label_smoothing(loss: Loss) -> Iterator[Hypothesis]:
    """A label moved inwards in one call (one-sided): solved from a gradient, a usual amount from a single number."""
    for term in loss.terms:
        if not isinstance(term.label, float):
            continue
        labels: tuple[float | None, ...] = tuple(abs(term.label - amount) for amount in USUAL_SMOOTHING)
        ends = [loss.value(_with(loss, {term.name: replace(term, label=label)})) for label in (0.0, 1.0)]
        if loss.evidence.reference.size > 1:
            labels = (solve(ends[0], ends[1] - ends[0], loss.evidence.candidate),)
        for label in labels:
            if label is not None and 0 < label < 1:
                value = ends[0] + label * (ends[1] - ends[0])
                yield Hypothesis(
                    "label smoothing", value, _in_terms(loss, (term,)), 1, ("label", label, float(term.label))
                )


def flipped_labels(loss: Loss) -> Iterator[Hypothesis]:
    """Some samples of a call with the other label: read from a gradient's elements; from a loss alone one or two."""
    for term in loss.terms:
        if not term.binary or term.count < 2:
            continue
        if loss.evidence.reference.size > 1:
            other = loss.value(_with(loss, {term.name: replace(term, label=1 - term.label)}))
            mine, theirs = loss.evidence.candidate, loss.evidence.reference
            if mine.shape == theirs.shape and loss.evidence.reference.size == term.count:
                flipped = np.abs(mine - other) < np.abs(mine - theirs)
                if 0 < np.count_nonzero(flipped) < flipped.size:
                    yield Hypothesis("some labels flipped", np.where(flipped, other, theirs), _of(term, flipped))
            continue
        if loss.evidence.tolerance > NARROW:  # any number is some sum of two logits
            continue
        share = term.factor / term.count * (2 * float(term.label) - 1) * term.logits.reshape(-1)
        for count in (1, 2):
            for places in combinations(range(min(term.count, MOST_FLIPPED)), count):
                value = np.full_like(loss.evidence.reference, loss.value(loss.terms).item() + share[list(places)].sum())
                detail = f"in the term of {term.name}: sample {' and '.join(map(str, places))}"
                yield Hypothesis("some labels flipped", value, detail)


MOST_FLIPPED = 128


def _of(term: Term, flipped: np.ndarray) -> str:
    return f"in the term of {term.name}: {np.count_nonzero(flipped)} of {flipped.size} samples"


Other = Callable[[Tensor, float], Tensor]
OTHER_LOSSES: dict[str, dict[str, Other]] = {
    "least-squares loss": {
        "of raw logits": lambda z, label: (z - label).square(),
        "half, of raw logits": lambda z, label: (z - label).square() / 2,
        "of probabilities": lambda z, label: (z.sigmoid() - label).square(),
        "half, of probabilities": lambda z, label: (z.sigmoid() - label).square() / 2,
    },
    "saturating loss": {"": lambda z, label: -F.softplus((2 * label - 1) * z)},
    "Wasserstein loss": {"": lambda z, label: (1 - 2 * label) * z},
    "hinge loss": {"": lambda z, label: (1 - (2 * label - 1) * z).relu()},
}
"""Losses of other GANs, of one logit and its label; a saturating loss is log(1 - D) where -log(D) is meant."""


def other_losses(loss: Loss) -> Iterator[Hypothesis]:
    """A loss of another GAN of the same logits and labels, averaged or summed."""
    if not all(term.binary for term in loss.terms):
        return
    for name, forms in OTHER_LOSSES.items():
        for detail, form in forms.items():
            for summed in (False, True):
                value = _made(loss, form, summed)
                yield Hypothesis(name, value, ", ".join(one for one in (detail, "summed" * summed) if one))


def _made(loss: Loss, form: Other, summed: bool) -> np.ndarray:
    """The loss by ``form``, or its gradient, in the evidence's shape."""
    total, gradient = 0.0, np.zeros_like(loss.terms[0].logits)
    for term in loss.terms:
        z = torch.from_numpy(np.ascontiguousarray(term.logits)).requires_grad_()
        value = form(z, float(term.label))
        made = value.sum() if summed else value.mean()
        total += made.item()
        if loss.of_gradient:
            gradient = gradient + torch.autograd.grad(made, z)[0].numpy()
    return (
        gradient.reshape(loss.evidence.reference.shape)
        if loss.of_gradient
        else np.full(loss.evidence.reference.shape, total)
    )


def _subsets(terms: tuple[Term, ...]) -> Iterator[tuple[Term, ...]]:
    for count in range(len(terms), 0, -1):
        yield from combinations(terms, count)


def _with(loss: Loss, changed: dict[str, Term]) -> tuple[Term, ...]:
    return tuple(changed.get(term.name, term) for term in loss.terms)


def _in_terms(loss: Loss, terms: tuple[Term, ...]) -> str:
    return "" if len(terms) == len(loss.terms) else f"in the term of {', '.join(term.name for term in terms)}"


RULES = (reduction, labels_swapped, term_missing, scaled, label_smoothing, flipped_labels, other_losses)
