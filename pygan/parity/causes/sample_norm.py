"""LayerNorm and GroupNorm: eps, groups, axes and affine part."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from pygan.parity.causes.batch_norm import solved_eps
from pygan.parity.causes.common import Hypothesis, resolved
from pygan.parity.causes.formula import Formula, Function, Layer, sample_norm

KINDS = ("layer_norm", "group_norm")


def eps_value(formula: Formula) -> Iterator[Hypothesis]:
    """Another eps inside the root, solved. Flux's LayerNorm squares what it is given."""
    for layer in formula.of_kind(*KINDS):
        own = float(layer.numbers.get("eps", 1e-5))
        eps = solved_eps(formula, layer.path, sample_norm)
        if eps is None or not resolved(formula.evidence, eps, own):
            continue
        value = formula.value({layer.path: partial(sample_norm, eps=eps)})
        squared = any(abs(one - other**2) <= 1e-3 * one for one, other in ((eps, own), (own, eps)))
        detail = "one is the square of the other, as in Flux's LayerNorm" if squared else ""
        yield Hypothesis("norm eps", value, detail, 1, ("eps", eps, own))


def eps_outside(formula: Formula) -> Iterator[Hypothesis]:
    """``sqrt(var) + eps`` in place of ``sqrt(var + eps)``."""
    for layer in formula.of_kind(*KINDS):
        value = formula.value({layer.path: partial(sample_norm, eps_outside=True)})
        yield Hypothesis("norm eps outside the root", value)


def unbiased_variance(formula: Formula) -> Iterator[Hypothesis]:
    """The variance divided by n - 1."""
    for layer in formula.of_kind(*KINDS):
        value = formula.value({layer.path: partial(sample_norm, unbiased=True)})
        yield Hypothesis("norm unbiased variance", value)


def number_of_groups(formula: Formula) -> Iterator[Hypothesis]:
    """The channels of a GroupNorm in more or fewer groups, or dealt out to the groups in turn."""
    for layer in formula.of_kind("group_norm"):
        own, channels = int(layer.numbers["num_groups"]), formula.input_of(formula.layers.index(layer)).shape[1]
        for count in range(1, channels + 1):
            if channels % count == 0 and count != own:
                value = formula.value({layer.path: partial(sample_norm, groups=count)})
                yield Hypothesis("number of groups", value, constant=("groups", str(count), str(own)))
        if 1 < own < channels:
            value = formula.value({layer.path: _dealt})
            yield Hypothesis("norm over other axes", value, "channels dealt out to the groups in turn")


def _dealt(layer: Layer, x: Tensor) -> Tensor:
    groups = int(layer.numbers["num_groups"])
    order = torch.arange(x.shape[1]).reshape(-1, groups).T.reshape(-1)
    back = torch.argsort(order)
    bare = sample_norm(layer, x[:, order], affine=())[:, back]
    return _affine(layer, bare)


def other_axes(formula: Formula) -> Iterator[Hypothesis]:
    """The statistics over other axes than the layer's, such as those of a BatchNorm."""
    for layer in formula.of_kind(*KINDS):
        x = formula.input_of(formula.layers.index(layer))
        names = ("samples", "channels", "y", "x")[: x.ndim] if x.ndim in (2, 4) else ()
        ways = ((0,), (0, 2, 3), (1,), (3,)) if len(names) == 4 else ((0,),) if names else ()
        if len(names) == 4 and layer.kind == "layer_norm":  # of a GroupNorm these are other numbers of groups
            ways = (*ways, (2, 3), (1, 2, 3))
        for axes in ways:
            value = formula.value({layer.path: _over(axes)})
            yield Hypothesis("norm over other axes", value, f"over {', '.join(names[axis] for axis in axes)}")


def _over(axes: tuple[int, ...]) -> Function:
    def norm(layer: Layer, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return _affine(layer, (x - mean) / (var + float(layer.numbers.get("eps", 1e-5))).sqrt())

    return norm


def _affine(layer: Layer, y: Tensor) -> Tensor:
    shape = (1, -1) + (1,) * (y.ndim - 2) if layer.kind == "group_norm" else layer.numbers["normalized_shape"]
    for name, given in layer.tensors.items():
        y = y * given.reshape(shape) if name == "weight" else y + given.reshape(shape)
    return y


def affine_missing(formula: Formula) -> Iterator[Hypothesis]:
    """Weight and bias left out, or one of them."""
    for layer in formula.of_kind(*KINDS):
        for kept, detail in ((), ""), (("bias",), "only the weight"), (("weight",), "only the bias"):
            value = formula.value({layer.path: partial(sample_norm, affine=kept)})
            yield Hypothesis("norm affine missing", value, detail)


RULES = (eps_value, eps_outside, unbiased_variance, number_of_groups, other_axes, affine_missing)
