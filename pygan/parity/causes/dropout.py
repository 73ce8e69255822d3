"""Dropout: the scale of the kept units, and which units were kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from pygan.parity.causes.common import Hypothesis, resolved, solve
from pygan.parity.causes.formula import Formula, Function, Layer, numbered, tensor


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


RULES = (dropout_scale, dropout_off, mask_inverted, mask_order)
