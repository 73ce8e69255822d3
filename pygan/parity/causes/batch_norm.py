"""BatchNorm: mode, eps and affine part of the layer, and what became of its running statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pygan.parity.causes.common import Hypothesis, approached, other_widths, reproduces_reference, resolved, solve
from pygan.parity.causes.formula import Formula, Layer, batch_norm
from pygan.parity.evidence import BufferEvidence


def mode(formula: Formula) -> Iterator[Hypothesis]:
    """The batch's statistics where the running ones belong, or the reverse."""
    for layer in formula.of_kind("batch_norm"):
        if layer.train and "running_mean" not in layer.tensors:
            continue
        words = ("the running", "the batch's") if layer.train else ("the batch's", "the running")
        value = formula.value({layer.path: partial(batch_norm, batch=not layer.train)})
        yield Hypothesis("BatchNorm mode", value, f"{words[0]} statistics instead of {words[1]}")


def solved_eps(formula: Formula, path: str, norm: Callable[..., Tensor]) -> float | None:
    """The eps with which a normalising layer makes the candidate: ``1 / sqrt(var + eps)`` is convex and falls in it."""
    return approached(
        formula.evidence.candidate, lambda eps: formula.value({path: partial(norm, eps=eps)}), 1e-12, 1e-9, 10
    )


def eps_value(formula: Formula) -> Iterator[Hypothesis]:
    """Another eps inside the root, solved."""
    for layer in formula.of_kind("batch_norm"):
        own = float(layer.numbers.get("eps", 1e-5))
        eps = solved_eps(formula, layer.path, batch_norm)
        if eps is not None and resolved(formula.evidence, eps, own):
            value = formula.value({layer.path: partial(batch_norm, eps=eps)})
            yield Hypothesis("BatchNorm eps", value, free=1, constant=("eps", eps, own))


def eps_outside(formula: Formula) -> Iterator[Hypothesis]:
    """``sqrt(var) + eps`` in place of ``sqrt(var + eps)``."""
    for layer in formula.of_kind("batch_norm"):
        value = formula.value({layer.path: partial(batch_norm, eps_outside=True)})
        yield Hypothesis("BatchNorm eps outside the root", value)


def unbiased_variance(formula: Formula) -> Iterator[Hypothesis]:
    """The batch variance divided by n - 1."""
    for layer in formula.of_kind("batch_norm"):
        if layer.train:
            value = formula.value({layer.path: partial(batch_norm, unbiased=True)})
            yield Hypothesis("BatchNorm unbiased variance", value)


def over_parts(formula: Formula) -> Iterator[Hypothesis]:
    """Statistics of parts of the batch, each for itself (ghost BatchNorm), of single samples, or of the first one."""
    count = len(formula.calls[0].x)
    ways = {f"{parts} parts": even(count, parts) for parts in (2, 4, 8) if parts < count}
    ways |= {f"{parts} parts, the larger first": even(count, parts)[::-1] for parts in (2, 4, 8) if count % parts}
    ways |= {"every sample by itself": [1] * count}
    for layer in formula.of_kind("batch_norm") if count > 1 else ():
        if not layer.train:
            continue
        for detail, sizes in ways.items():
            value = formula.value({layer.path: partial(_by_parts, sizes=sizes)})
            yield Hypothesis("BatchNorm over parts of the batch", value, detail)
        value = formula.value({layer.path: _by_first})
        yield Hypothesis("BatchNorm over parts of the batch", value, "all by the first sample's statistics")


def even(count: int, parts: int) -> list[int]:
    """Sizes of nearly equal parts, the smaller ones first."""
    return sorted(count // parts + (place < count % parts) for place in range(parts))


def _by_parts(layer: Layer, x: Tensor, sizes: list[int]) -> Tensor:
    return torch.cat([batch_norm(layer, part) for part in torch.split(x, sizes)])


def _by_first(layer: Layer, x: Tensor) -> Tensor:
    axes = [axis for axis in range(x.ndim) if axis != 1]
    first = {"running_mean": x[:1].mean(axes), "running_var": x[:1].var(axes, unbiased=False)}
    return batch_norm(replace(layer, tensors={**layer.tensors, **first}), x, batch=False)


def affine_missing(formula: Formula) -> Iterator[Hypothesis]:
    """Weight and bias left out, or one of them."""
    for layer in formula.of_kind("batch_norm"):
        for kept, detail in ((), ""), (("bias",), "only the weight"), (("weight",), "only the bias"):
            value = formula.value({layer.path: partial(batch_norm, affine=kept)})
            yield Hypothesis("BatchNorm affine missing", value, detail)


RULES = (mode, eps_value, eps_outside, unbiased_variance, over_parts, affine_missing)


# --- running statistics ------------------------------------------------------------------------------------------


def statistics(x: np.ndarray, biased: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance ``(C,)`` of ``x`` ``(N, C, ...)``; the variance is divided by n - 1 unless ``biased``."""
    axes = (0, *range(2, x.ndim))
    return x.mean(axes), x.var(axes, ddof=0 if biased else 1)


USUAL = (0.1, float(np.float32(0.1)), 0.01, 0.9, 0.99)
"""Momenta that layers have by default."""


def buffers(evidence: BufferEvidence) -> Iterator[Hypothesis]:
    """``(1 - m) before + m new`` with another m, another variance, or another number of times."""
    before, momentum = evidence.before, evidence.layer.numbers.get("momentum", 0.1)
    of_variance = evidence.key.endswith("running_var")
    if evidence.x.ndim < 2 or evidence.x.size <= evidence.x.shape[1]:
        return
    new = statistics(evidence.x)[of_variance]
    known = [momentum, solve(before, new - before, evidence.reference), *USUAL]  # those known may be the candidate's
    given = [float(one) for one in known if one is not None]  # None: an average over all batches so far
    held = [one for one in given if reproduces_reference(evidence, (1 - one) * before + one * new)]
    if not held:
        return
    m = held[0]

    def moved(by: float, towards: np.ndarray = new, start: np.ndarray = before) -> np.ndarray:
        return (1 - by) * start + by * towards

    yield Hypothesis("stale buffers", before)
    yield Hypothesis("buffers updated twice", moved(m, start=moved(m)))
    yield Hypothesis("BatchNorm momentum", moved(1 - m), constant=("momentum", 1 - m, m), detail="the complement")
    for calls in (1, 2):  # in a step
        average = moved(1 / (calls * (evidence.step + 1)))
        yield Hypothesis("BatchNorm momentum", average, constant=("momentum", "None (a mean over all batches)", m))
    if of_variance:
        yield Hypothesis("biased running variance", moved(m, statistics(evidence.x, biased=True)[1]))
    if evidence.tolerance <= 1e-8:
        for other in other_widths(m):
            yield Hypothesis("constant in the wrong width", moved(other), constant=("momentum", other, m))
    solved = solve(before, new - before, evidence.candidate)
    if solved is not None and resolved(evidence, solved, m):
        yield Hypothesis("BatchNorm momentum", moved(solved), free=1, constant=("momentum", solved, m))
