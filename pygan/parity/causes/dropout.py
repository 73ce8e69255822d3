"""Dropout: the scale of the kept units, and which units were kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor

from pygan.parity.causes.common import Hypothesis, resolved, solve
from pygan.parity.causes.formula import Formula, Function, Layer, numbered, tensor
from pygan.parity.evidence import ForwardEvidence


def _active(formula: Formula) -> list[Layer]:
    return [layer for layer in formula.of_kind("dropout") if layer.train]


def _masked(mask: Tensor) -> Function:
    return lambda layer, x: replace(layer, mask=mask)(x)


def _inverted(layer: Layer, x: Tensor) -> Tensor:
    return layer(x) if layer.mask is None else replace(layer, mask=1 - layer.mask)(x)


def dropout_scale(formula: Formula) -> Iterator[Hypothesis]:
    """Kept units multiplied by another number, solved."""
    for layer in _active(formula):
        nothing, kept = (formula.value({layer.path: numbered("scale", scale)}) for scale in (0.0, 1.0))
        scale = solve(nothing, kept - nothing, formula.evidence.candidate)
        if scale is not None and scale > 0 and resolved(formula.evidence, scale, layer.scale):
            value = nothing + scale * (kept - nothing)
            yield Hypothesis("dropout scale", value, free=1, constant=("scale", scale, layer.scale))


def dropout_off(formula: Formula) -> Iterator[Hypothesis]:
    """Nothing dropped, nothing scaled."""
    for layer in _active(formula):
        yield Hypothesis("dropout off", formula.value({layer.path: lambda _, x: x}))


def mask_inverted(formula: Formula) -> Iterator[Hypothesis]:
    """The kept units dropped and the dropped ones kept."""
    for layer in _active(formula):
        value = formula.value({layer.path: _inverted})
        yield Hypothesis("dropout mask inverted", value)


def mask_order(formula: Formula) -> Iterator[Hypothesis]:
    """The keep pattern of another stream of the step."""
    masks = formula.calls[0].masks
    for layer in _active(formula):
        own, *others = formula.streams(layer)
        for stream in others:
            if masks[stream].shape == masks[own].shape:
                value = formula.value({layer.path: _masked(tensor(masks[stream]))})
                yield Hypothesis("mask order", value, f"{stream} instead of {own}")


def _entered(formula: Formula) -> np.ndarray | None:
    """What enters an active Dropout whose output the candidate is; None where it is no such output."""
    evidence = formula.evidence
    if type(evidence) is not ForwardEvidence or formula.layers[-1] not in _active(formula):
        return None
    x = formula.input_of(len(formula.layers) - 1).numpy()
    return x if x.shape == evidence.candidate.shape else None


def over_channels(formula: Formula) -> Iterator[Hypothesis]:
    """Whole channels dropped, as Dropout2d does; which ones is read from the candidate's output."""
    evidence, last, x = formula.evidence, formula.layers[-1], _entered(formula)
    if x is None or x.ndim < 3:
        return
    kept = evidence.candidate.any(tuple(range(2, x.ndim)), keepdims=True)
    if not kept.all():
        yield Hypothesis("dropout over channels", x * (kept * last.scale))


def other_rate(formula: Formula) -> Iterator[Hypothesis]:
    """Another rate: of the same uniform numbers more units or fewer are kept, and the factor is that rate's."""
    evidence, last, x = formula.evidence, formula.layers[-1], _entered(formula)
    streams = formula.streams(last)
    own = evidence.masks[streams[0]].astype(bool) if streams else np.ones(0, bool)
    if x is None or own.shape != x.shape:
        return
    kept = (evidence.candidate != 0) | ((x == 0) & own)
    more, fewer = np.count_nonzero(kept & ~own), np.count_nonzero(own & ~kept)
    if bool(more) == bool(fewer):  # units drawn by other numbers, or the same units
        return
    solved = solve(np.zeros_like(x), x * kept, evidence.candidate) or 0.0
    mine, theirs = (f"{float(1 - one.mean()):.2g}" for one in (kept, own))
    for scale, free in ((last.scale, 0), (solved, 1)):
        of_rate = abs(kept.mean() - 1 / max(scale, 1.0)) < 5 * np.sqrt(0.25 / kept.size)
        if of_rate or not free:  # a port may change the rate alone, and the factor only with it
            told = ("share of dropped units", mine, theirs)
            yield Hypothesis("dropout rate", scale * x * kept, free=free, constant=told)


RULES = (dropout_scale, dropout_off, mask_inverted, mask_order, over_channels, other_rate)
