"""Naming the cause of a difference: usual slips, each tried as a formula on the evidence's own numbers.

A name is given only where the reference is what its formula makes of the inputs and the candidate is what an altered
formula makes of them, element by element; constants are solved from the data. Everything else is an unknown cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pygan.parity.causes import (
    activation,
    batch_norm,
    convolution,
    dropout,
    gradient,
    gradient_descent,
    inputs,
    loss,
    optimiser,
    resampling,
    sample_norm,
)
from pygan.parity.causes.common import Hypothesis, best, named
from pygan.parity.causes.formula import Formula
from pygan.parity.causes.generic import lowered_precision, not_finite, scaled_output, sign_flipped
from pygan.parity.causes.names import CAUSES
from pygan.parity.causes.permutation import permutations
from pygan.parity.causes.widths import constant_width
from pygan.parity.evidence import (
    UNKNOWN,
    BackwardEvidence,
    BufferEvidence,
    Cause,
    Evidence,
    ForwardEvidence,
    GradientEvidence,
    InputEvidence,
    LossEvidence,
    UpdateEvidence,
)

__all__ = ["CAUSES", "name_cause"]

OF_LAYERS = (
    constant_width,
    *resampling.RULES,
    *(*convolution.RULES, *batch_norm.RULES, *sample_norm.RULES),
    *(*activation.RULES, *dropout.RULES),
)
OF_GRADIENTS = (gradient.not_reset, gradient.clipped, gradient.layout, gradient.weight_decay)
LAST_RESORTS = (sign_flipped, scaled_output)

CONSTANTS = frozenset(
    {
        *("constant in the wrong width", "BatchNorm eps", "BatchNorm momentum", "leaky slope", "other activation"),
        *("dropout scale", "stride or padding", "beta1", "beta2", "learning rate", "Adam eps"),
        *("momentum", "weight decay", "norm eps", "number of groups", "softplus", "other pooling", "other upsampling"),
    }
)
"""Slips that read the same from the other side: there the evidence's numbers may be the candidate's."""

MIRRORED = CONSTANTS | {"dropout rate", "betas swapped"}
"""The same for what is counted and not solved, and so differs from step to step."""

NO_EXPLANATION = frozenset({"sign flipped", "scaled output", "gradient scaled"})
"""Names that only describe the numbers."""


def name_cause(evidence: Evidence) -> Cause:
    """The cause that explains ``evidence``, or ``UNKNOWN``. Its name is a key of :data:`CAUSES`."""
    if evidence.reference.size == 0 or not np.isfinite(evidence.reference).all():
        return UNKNOWN
    broken = not_finite(evidence)
    if broken is not None and not isinstance(evidence, UpdateEvidence):  # an update's slots can still be explained
        return broken
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        ties: set[str] = set()
        found = best(evidence, [rules(evidence) for rules in (_specific, permutations, _last_resorts)], ties)
        other = _other_side(evidence)
        if other is not None and (found is None or found.name in NO_EXPLANATION):
            constant = best(other, [(one for one in _specific(other) if one.name in MIRRORED)])
            found = found if constant is None else _mirrored(constant)
    if found is None and broken is None and ties:
        return replace(UNKNOWN, either=tuple(sorted(ties)))
    return named(evidence, found) if found is not None or broken is None else broken


def _specific(evidence: Evidence) -> Iterator[Hypothesis]:
    """What the rules for this kind of evidence propose, in the order tried."""
    if isinstance(evidence, ForwardEvidence):
        yield from _of_layers(evidence)
    elif isinstance(evidence, UpdateEvidence):
        adam, sgd = optimiser.Update(evidence), gradient_descent.Update(evidence)
        for adam_rule in optimiser.RULES if adam.holds else ():
            yield from adam_rule(adam)
        for sgd_rule in gradient_descent.RULES if sgd.holds else ():
            yield from sgd_rule(sgd)
    elif isinstance(evidence, BufferEvidence):
        yield from batch_norm.buffers(evidence)
    elif isinstance(evidence, LossEvidence):
        for known in loss.recognise(evidence):
            for loss_rule in loss.RULES:
                yield from loss_rule(known)
    elif isinstance(evidence, InputEvidence):
        for input_rule in inputs.RULES:
            yield from input_rule(evidence)


def _of_layers(evidence: ForwardEvidence) -> Iterator[Hypothesis]:
    formula = Formula(evidence)
    for rule in OF_LAYERS if formula.holds else ():
        yield from rule(formula)
    if formula.holds and evidence.earlier:
        stale = replace(evidence, tensors={**evidence.tensors, **evidence.earlier})
        yield Hypothesis("order of updates", Formula(stale).value(), "the parameters are those of before the step")
    if isinstance(evidence, BackwardEvidence):
        yield from gradient.gradient_missing(evidence)
    if isinstance(evidence, GradientEvidence):
        yield from gradient.loss_term_missing(evidence, formula)
        for gradient_rule in OF_GRADIENTS:
            yield from gradient_rule(evidence)
    elif isinstance(evidence, BackwardEvidence):
        yield from gradient.clipped(evidence)


def _last_resorts(evidence: Evidence) -> Iterator[Hypothesis]:
    if not isinstance(evidence, UpdateEvidence):
        yield from lowered_precision(evidence)
    if isinstance(evidence, BackwardEvidence):
        yield from gradient.gradient_scaled(evidence)
        yield from sign_flipped(evidence)
    elif not isinstance(evidence, InputEvidence) or evidence.reference.ndim != 4:
        for rule in LAST_RESORTS:
            yield from rule(evidence)


def _other_side(evidence: Evidence) -> Evidence | None:
    """The evidence with its sides exchanged, where the numbers given make the candidate and not the reference."""
    given = isinstance(evidence, ForwardEvidence | BufferEvidence | UpdateEvidence)
    if not given or not np.isfinite(evidence.candidate).all():
        return None
    other = replace(evidence, candidate=evidence.reference, reference=evidence.candidate)
    if isinstance(other, UpdateEvidence):
        other = replace(other, after_candidate=other.after_reference, after_reference=other.after_candidate)
    return other


def _mirrored(found: Hypothesis) -> Hypothesis:
    """The hypothesis about the reference, said of the candidate."""
    if found.constant is None:
        return found
    what, theirs, mine = found.constant
    name = "activation missing" if mine == "identity" else found.name
    return replace(found, name=name, constant=(what, mine, theirs), detail="" if found.name == name else found.detail)
