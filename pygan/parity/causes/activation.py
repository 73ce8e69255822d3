"""Activations: slope, on/off pattern, missing or another function."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pygan.parity.causes.common import Hypothesis, approached, misfit, resolved, solve
from pygan.parity.causes.formula import ACTIVATIONS, KINKS, Formula, Function, Layer, numbered, plain
from pygan.parity.evidence import BackwardEvidence, GradientEvidence

FAR = 1e-3
"""A unit this far from zero, in units of the layer's root mean square, is not switched by rounding."""


def leaky_slope(formula: Formula) -> Iterator[Hypothesis]:
    """Off units multiplied by another slope, solved: what the layer does is affine in it."""
    for layer in formula.of_kind(*KINKS):
        flat, straight = (formula.value({layer.path: _kink(slope)}) for slope in (0.0, 1.0))
        slope = solve(flat, straight - flat, formula.evidence.candidate)
        if slope is not None and resolved(formula.evidence, slope, layer.slope):
            value = formula.value({layer.path: _kink(slope)})
            yield Hypothesis("leaky slope", value, free=1, constant=("slope", slope, layer.slope))


def _kink(slope: float, threshold: float = 0.0) -> Function:
    return lambda _, x: torch.where(x > threshold, x, slope * x)


def activation_missing(formula: Formula) -> Iterator[Hypothesis]:
    """The input passed on unchanged."""
    for layer in formula.of_kind(*KINKS, *ACTIVATIONS):
        if layer.kind != "identity":
            yield Hypothesis("activation missing", formula.value({layer.path: lambda _, x: x}), f"no {layer.kind}")


OTHERS: dict[str, Function] = {
    **{kind: plain(f) for kind, f in ACTIVATIONS.items() if kind not in ("identity", "gelu")},
    "gelu by erf": lambda _, x: F.gelu(x),
    "gelu by tanh": lambda _, x: F.gelu(x, approximate="tanh"),
    "gelu by sigmoid": lambda _, x: x * torch.sigmoid(1.702 * x),
    "relu": _kink(0.0),
    "leakyrelu of slope 0.01": _kink(0.01),
    "leakyrelu of slope 0.2": _kink(0.2),
    "2 sigmoid - 1": lambda _, x: 2 * torch.sigmoid(x) - 1,
    "1.7159 tanh(2x / 3)": lambda _, x: 1.7159 * torch.tanh(2 * x / 3),
}


def other_activation(formula: Formula) -> Iterator[Hypothesis]:
    """Another common function."""
    for layer in formula.of_kind(*KINKS, *ACTIVATIONS):
        own = layer.kind
        if own == "gelu":
            own = "gelu by tanh" if layer.numbers.get("approximate") == "tanh" else "gelu by erf"
        for kind, function in OTHERS.items():
            if kind == own or (own in KINKS and "relu" in kind):
                continue  # between relu and leaky relu only the slope differs
            value = formula.value({layer.path: function})
            yield Hypothesis("other activation", value, free=1, constant=("", kind, own))


def softplus_numbers(formula: Formula) -> Iterator[Hypothesis]:
    """Another beta, solved, or another threshold beyond which a softplus is its input; NNlib's has none."""
    for layer in formula.of_kind("softplus"):
        beta, threshold = (float(layer.numbers.get(name, value)) for name, value in (("beta", 1), ("threshold", 20)))
        soft = partial(_with_beta, formula, layer.path)
        solved = approached(formula.evidence.candidate, soft, 0.09, 0.1, 1e3)
        if solved is not None and resolved(formula.evidence, solved, beta):
            value = formula.value({layer.path: _soft(solved)})
            yield Hypothesis("softplus", value, free=1, constant=("beta", solved, beta))
        for other in (20.0, 1e4):
            if other != threshold:
                value = formula.value({layer.path: numbered("threshold", other)})
                yield Hypothesis("softplus", value, constant=("threshold", other, threshold))


def _with_beta(formula: Formula, path: str, beta: float) -> np.ndarray:
    return formula.value({path: _soft(beta)})


def _soft(beta: float) -> Function:
    """Computed without a threshold, so that it has no step where beta is solved."""
    return lambda _, x: F.softplus(beta * x, threshold=1e4) / beta


# --- on/off patterns ---------------------------------------------------------------------------------------------


def on_off_pattern(formula: Formula) -> Iterator[Hypothesis]:
    """Units on or off that should not be: each element shows which, or a threshold other than zero explains all."""
    for index, layer in enumerate(formula.layers):
        if layer.kind not in KINKS:
            continue
        x, e = formula.input_of(index), formula.evidence
        if not isinstance(e, BackwardEvidence) and index == len(formula.layers) - 1:
            yield from _seen(formula, layer, x.numpy(), x.numpy())
        elif type(e) is BackwardEvidence and len(formula.layers) == 1:
            yield from _seen(formula, layer, x.numpy(), e.output_gradient)
        else:
            yield from _searched(formula, layer, x)


def _seen(formula: Formula, layer: Layer, x: np.ndarray, passed: np.ndarray) -> Iterator[Hypothesis]:
    """Elements are ``passed`` where the unit was on, ``slope * passed`` where it was off."""
    candidate, slope = formula.evidence.candidate, layer.slope
    if candidate.shape != passed.shape or slope == 1:
        return
    gap_on, gap_off = np.abs(candidate - passed), np.abs(candidate - slope * passed)
    on = np.where(gap_on == gap_off, x > 0, gap_on < gap_off)
    wrong = on != (x > 0)
    if not wrong.any() or not on.any() or on.all():  # all on or all off tells nothing of a condition
        return
    far = np.abs(x[wrong]) > FAR * np.sqrt(np.mean(x * x))
    if not far.any():
        return
    value = np.where(on, passed, slope * passed)
    detail = f"{np.count_nonzero(wrong)} of {wrong.size} units, up to {np.abs(x[wrong]).max():.3g} from zero"
    highest_off, lowest_on = x[~on].max(initial=-np.inf), x[on].min(initial=np.inf)
    if highest_off < lowest_on and np.isfinite(highest_off + lowest_on):
        threshold = (highest_off + lowest_on) / 2
        yield Hypothesis("on/off pattern", value, detail, 1, ("threshold", float(f"{threshold:.3g}"), 0.0))
    else:
        yield Hypothesis("on/off pattern", value, detail, 3)


def _searched(formula: Formula, layer: Layer, x: Tensor) -> Iterator[Hypothesis]:
    """The threshold behind a gradient that mixes the units: the misfit falls towards it from both sides."""
    e = formula.evidence
    levels = np.unique(x.numpy())
    if len(levels) < 3 or not isinstance(e, BackwardEvidence | GradientEvidence):
        return
    middles = (levels[1:] + levels[:-1]) / 2

    def off(place: int) -> float:
        return misfit(formula.value({layer.path: _kink(layer.slope, float(middles[place]))}), e.candidate)

    coarse = np.unique(np.linspace(0, len(middles) - 1, 17).astype(int))
    gaps = [off(int(place)) for place in coarse]
    best = int(np.argmin(gaps))
    if not gaps[best] < 0.7 * misfit(e.reference, e.candidate):
        return
    low, high = int(coarse[max(best - 1, 0)]), int(coarse[min(best + 1, len(coarse) - 1)])
    while high - low > 2:
        third = (high - low) // 3
        a, b = low + third, high - third
        if off(a) <= off(b):
            high = b if b < high else b - 1
        else:
            low = a if a > low else a + 1
    threshold = float(middles[min(range(low, high + 1), key=off)])
    if abs(threshold) > FAR * float(x.square().mean().sqrt()):
        value = formula.value({layer.path: _kink(layer.slope, threshold)})
        shown = float(f"{threshold:.3g}")
        yield Hypothesis("on/off pattern", value, free=1, constant=("threshold", shown, 0.0))


RULES = (leaky_slope, activation_missing, other_activation, softplus_numbers, on_off_pattern)
