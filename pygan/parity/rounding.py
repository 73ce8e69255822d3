"""What Float32 rounding leaves in each result of a layer, as a level of noise on the Float64 referee's own values.

A sum of ``n`` terms that is rounded after every addition is off by some ``2^-24 sqrt(n)`` times the size of its partial
sums: the root of the sum of its squared terms where signs are mixed, the sum itself where they are not (Higham,
"Accuracy and Stability of Numerical Algorithms", 2nd ed., section 4.2, with roundings of random sign). Products of a
layer with its weights, batch statistics and gradients are such sums; everything else is a few roundings of each
element. Layers without a rule of their own count as sums over a sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

UNIT = 2.0**-24
"""Half a unit in the last place of a Float32 between 1 and 2: the most that one rounding changes, relative."""
ELEMENTWISE = 4.0
"""Roundings counted for an elementwise function: some four of them, or a library's tanh good to two units."""

PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
MOVES = (nn.Flatten, nn.Unflatten, nn.Identity, nn.ConstantPad2d)
"""Layers that only move their input, or put constants around it."""
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)


@dataclass(frozen=True)
class Noise:
    """Independent parts ``(basis, shape)``: a part is ``basis`` times standard normals of ``shape``, broadcast. A basis
    may have axes of its own, such as groups of channels; with as many numbers as a sample it is read in their order."""

    parts: tuple[tuple[Tensor, tuple[int, ...]], ...] = ()

    def draw(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """One sample, in the shape of ``like``."""
        made = torch.zeros_like(like)
        for basis, shape in self.parts:
            drawn = basis * torch.randn(shape, generator=generator, dtype=like.dtype)
            made += drawn.reshape(made.shape) if drawn.numel() == made.numel() else drawn
        return made

    def square(self, like: Tensor) -> float:
        """Expected square of the 2-norm of a sample in the shape of ``like``."""
        return sum(float(basis.square().sum()) * (like.numel() / max(basis.numel(), 1)) for basis, _ in self.parts)


def plain(level: Tensor) -> Noise:
    """Noise of its own level in every element."""
    return Noise(((level, tuple(level.shape)),))


@dataclass
class LayerNoise:
    """What one layer's call leaves: in its output, in the gradient of its input, in those of its parameters (squared
    levels by name), and in its running statistics."""

    output: Noise = field(default_factory=Noise)
    input_gradient: Noise = field(default_factory=Noise)
    parameters: dict[str, Tensor] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)


def forward_noise(layer: nn.Module, x: Tensor, y: Tensor) -> LayerNoise:
    """Noise in ``y = layer(x)`` and in what the call moves."""
    if isinstance(layer, PRODUCTS):
        squares, counts = _product(layer, x.square(), 2), _product(layer, torch.ones_like(x[:1]), 0)
        return LayerNoise(plain(_of_sum(squares, counts, y)))
    if isinstance(layer, NORMS):
        return _norm_forward(layer, x, y)
    if isinstance(layer, MOVES) or _repeats(layer):
        return LayerNoise()
    if isinstance(layer, nn.AvgPool2d):  # a sum of as many terms as the window has, each divided by their number
        count = _window(layer)
        return LayerNoise(plain(_of_sum(layer.forward(x.square()) / count, count, y)))
    if isinstance(layer, nn.GELU):  # 1 + tanh and 1 + erf cancel: what is left of half the input has the noise of a 1
        return LayerNoise(plain(ELEMENTWISE * UNIT * (y.abs() + x.abs() / 2)))
    if y.shape == x.shape and not list(layer.parameters()):
        return LayerNoise(plain(ELEMENTWISE * UNIT * y.abs()))
    return LayerNoise(plain(UNIT * x[0].numel() ** 0.5 * (y.abs() + y.square().mean().sqrt())))


def backward_noise(layer: nn.Module, x: Tensor, gradient: Tensor, own: LayerNoise) -> None:
    """Add to ``own`` what the layer leaves in its parameters' gradients, for the ``gradient`` of its output, and in
    that of its input where this does not depend on it."""
    if isinstance(layer, PRODUCTS):
        _product_backward(layer, x, gradient, own)
    elif isinstance(layer, NORMS):
        _norm_backward(layer, x, gradient, own)
    elif _repeats(layer):  # each pixel gets the sum of its copies' gradients
        squares, total = _vjp(layer, x, gradient.square()), _vjp(layer, x, gradient)
        own.input_gradient = plain(_of_sum(squares, gradient.numel() / x.numel(), total))
    elif isinstance(layer, nn.AvgPool2d):  # each pixel is divided in every window that it lies in, and these are added
        share = _vjp(layer, x, gradient.abs())
        own.input_gradient = plain(ELEMENTWISE * UNIT * share)
    else:
        for name, parameter in layer.named_parameters():
            own.parameters[name] = torch.full_like(
                parameter, UNIT**2 * gradient.numel() * float(gradient.square().sum())
            )


def elementwise_backward(layer: nn.Module, gradient: Tensor, input_gradient: Tensor) -> Noise:
    """Noise in the gradient of the input of a layer that is neither a product nor a BatchNorm."""
    if isinstance(layer, MOVES):
        return Noise()
    if gradient.shape == input_gradient.shape and not list(layer.parameters()):
        return plain(ELEMENTWISE * UNIT * torch.maximum(gradient.abs(), input_gradient.abs()))
    many = UNIT * input_gradient[0].numel() ** 0.5
    return plain(many * (input_gradient.abs() + input_gradient.square().mean().sqrt()))


def _repeats(layer: nn.Module) -> bool:
    """Does the layer give every pixel several times, unchanged?"""
    return isinstance(layer, nn.Upsample) and layer.mode in ("nearest", "nearest-exact")


def _window(layer: nn.AvgPool2d) -> float:
    """How many pixels a window of the pooling has."""
    size = layer.kernel_size
    return float(size**2 if isinstance(size, int) else math.prod(size))


def _vjp(layer: nn.Module, x: Tensor, gradient: Tensor) -> Tensor:
    """What ``gradient`` of the output becomes at the input of a layer without parameters."""
    enters = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(layer.forward(enters), enters, gradient)
    return found


def _of_sum(squares: Tensor, counts: Tensor | float, total: Tensor) -> Tensor:
    """Noise of sums with the given sum of squared terms, number of terms and value."""
    return UNIT * ((squares.to(total.dtype).clamp_min(0) + total.square()) * counts).sqrt()


# --- products --------------------------------------------------------------------------------------------------


def _with(layer: nn.Module, parameters: Mapping[str, Tensor | None], x: Tensor) -> Tensor:
    """``layer(x)`` with other parameters and without its hooks."""
    bare = copy(layer)
    bare.__dict__["_parameters"] = dict(parameters)
    made: Tensor = bare.forward(x)
    return made


def _product(layer: nn.Module, x: Tensor, power: int) -> Tensor:
    """The layer's sums of products with its parameters to the ``power``: 2 for sums of squares, 0 to count terms.
    Three digits will do, so they are computed in Float32."""
    parameters = {
        name: None if parameter is None else (parameter.detach().abs() ** power).float()
        for name, parameter in layer._parameters.items()
    }
    with torch.no_grad():
        return _with(layer, parameters, x.float())


def _product_backward(layer: nn.Module, x: Tensor, gradient: Tensor, own: LayerNoise) -> None:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    top = gradient.abs().max().clamp_min(torch.finfo(gradient.dtype).tiny)  # squares of small gradients would vanish
    squares = _vector_products(layer, x.square(), weight.detach().square(), (gradient / top).square())
    one = [torch.ones_like(value) for value in (x[:1], weight.detach(), gradient[:1])]
    counts = _vector_products(layer, *one)
    sums = _vector_products(layer, x, weight.detach(), gradient / top)
    own.input_gradient = plain(top * _of_sum(squares[0], counts[0], sums[0].to(x.dtype)))
    own.parameters["weight"] = (top * _of_sum(squares[1], counts[1] * len(x), sums[1].to(x.dtype))).square()
    if isinstance(layer.bias, Tensor):
        rest = [axis for axis in range(gradient.dim()) if axis != _channels_at(gradient)]
        terms = gradient.numel() / gradient.shape[_channels_at(gradient)]
        own.parameters["bias"] = _of_sum(gradient.square().sum(rest), terms, gradient.sum(rest)).square()


def _vector_products(layer: nn.Module, x: Tensor, weight: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """What ``gradient`` becomes for ``x`` and for the weight of a layer with these values, in Float32."""
    enters, factor = x.detach().float().requires_grad_(), weight.float().requires_grad_()
    with torch.enable_grad():
        y = _with(layer, {"weight": factor, "bias": None}, enters)
        found = torch.autograd.grad(y, (enters, factor), gradient.float())
    return found[0], found[1]


def _channels_at(y: Tensor) -> int:
    return y.dim() - 1 if y.dim() < 3 else 1


# --- BatchNorm, LayerNorm, GroupNorm ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rows:
    """How a normalising layer sees its input: viewed as ``shape``, its statistics run over the axes ``over``, and a
    parameter's gradient is a sum over the axes ``along``."""

    shape: tuple[int, ...]
    over: tuple[int, ...]
    along: tuple[int, ...]

    def mean(self, x: Tensor) -> Tensor:
        """The mean over the axes of the statistics."""
        return x.mean(self.over, keepdim=True)

    @property
    def count(self) -> float:
        """Values that a statistic is made of."""
        return float(math.prod(self.shape[axis] for axis in self.over))

    def parameter(self, given: Any, like: Tensor) -> Tensor:
        """A parameter or running statistic, to broadcast over the rows; ones for one that is not there."""
        shape = [1 if axis in self.along else size for axis, size in enumerate(self.shape)]
        return like.new_ones(shape) if given is None else given.detach().view(shape)

    def to_parameter(self, of_elements: Tensor) -> Tensor:
        """Noise of the sum over ``along`` of what each statistic leaves in its elements: those of one statistic are all
        off together, those of another independently; squared."""
        together = tuple(axis for axis in self.along if axis in self.over)
        apart = tuple(axis for axis in self.along if axis not in self.over)
        sums = of_elements.sum(together, keepdim=True) if together else of_elements
        return (sums.square().sum(apart, keepdim=True) if apart else sums.square()).flatten()


def _rows(layer: nn.Module, x: Tensor) -> _Rows:
    if isinstance(layer, nn.LayerNorm):
        inner = math.prod(layer.normalized_shape)
        return _Rows((x.numel() // inner, inner), (1,), (0,))
    if isinstance(layer, nn.GroupNorm):
        of_group = x.shape[1] // layer.num_groups
        return _Rows((len(x), layer.num_groups, of_group, math.prod(x.shape[2:])), (2, 3), (0, 3))
    return _Rows((len(x), x.shape[1], math.prod(x.shape[2:])), (0, 2), (0, 2))


def _by_batch(layer: nn.Module) -> bool:
    """Are the statistics those of the input?"""
    return layer.training or getattr(layer, "running_mean", None) is None


def _statistics(layer: nn.Module, rows: _Rows, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, 1 / sqrt(var + eps) and gamma, each to broadcast over ``x`` viewed as rows."""
    mean, var = rows.mean(x), x.var(rows.over, unbiased=False, keepdim=True)
    if not _by_batch(layer):
        mean, var = (rows.parameter(one, x) for one in (layer.running_mean, layer.running_var))
    inverse = (var + layer.eps).rsqrt()  # type: ignore[operator]
    return mean, inverse, rows.parameter(layer.weight, x)


def _mean_noise(rows: _Rows, x: Tensor) -> Tensor:
    """Noise of the mean of ``x`` over the axes of the statistics."""
    return UNIT * (rows.mean(x.square()) + rows.count * rows.mean(x).square()).sqrt()


def _norm_forward(layer: nn.Module, x: Tensor, y: Tensor) -> LayerNoise:
    rows = _rows(layer, x)
    x, y = x.reshape(rows.shape), y.reshape(rows.shape)
    mean, inverse, gamma = _statistics(layer, rows, x)
    scaled = gamma * inverse
    elements = plain(ELEMENTWISE * UNIT * (y.abs() + (scaled * mean).abs() + (scaled * x).abs()))
    if not _by_batch(layer):
        return LayerNoise(elements)
    of_mean, many, shape = _mean_noise(rows, x), UNIT * rows.count**0.5, tuple(mean.shape)
    common = (scaled * of_mean).expand(rows.shape), (many * scaled * (x - mean))
    made = LayerNoise(Noise((*elements.parts, *((basis, shape) for basis in common))))
    momentum = getattr(layer, "momentum", None)
    momentum = momentum if isinstance(momentum, float) else 1.0
    for name, moved in (("running_mean", of_mean), ("running_var", many / inverse.square())):
        if isinstance(statistic := getattr(layer, name, None), Tensor):
            made.buffers[name] = momentum * moved.view(-1) + ELEMENTWISE * UNIT * statistic.abs()
    return made


def _norm_backward(layer: nn.Module, x: Tensor, gradient: Tensor, own: LayerNoise) -> None:
    rows = _rows(layer, x)
    x, gradient = x.reshape(rows.shape), gradient.reshape(rows.shape)
    mean, inverse, gamma = _statistics(layer, rows, x)
    normed, scaled = (x - mean) * inverse, gamma * inverse
    weighted = gradient * gamma  # what the statistics see of it: gamma may differ within a group
    along = rows.mean(weighted), rows.mean(weighted * normed)
    size = scaled.abs() * gradient.abs()
    if _by_batch(layer):
        size = size + inverse * (along[0].abs() + (normed * along[1]).abs())
    elements = plain(ELEMENTWISE * UNIT * size)
    own.input_gradient = elements
    shift = _mean_noise(rows, x) * inverse
    if _by_batch(layer):
        of_mean = _mean_noise(rows, weighted) + shift * along[1].abs()
        of_product = _mean_noise(rows, weighted * normed) + shift * along[0].abs()
        whole = inverse * (weighted - along[0] - normed * along[1])
        common = (inverse * of_mean).expand(rows.shape), inverse * normed * of_product, UNIT * rows.count**0.5 * whole
        own.input_gradient = Noise((*elements.parts, *((basis, tuple(mean.shape)) for basis in common)))
    if not isinstance(layer.weight, Tensor):
        return
    terms = float(math.prod(rows.shape[axis] for axis in rows.along))
    shape = layer.weight.shape
    for name, one in (("bias", gradient), ("weight", gradient * normed)):
        if isinstance(getattr(layer, name, None), Tensor):
            total = one.sum(rows.along)
            own.parameters[name] = _of_sum(one.square().sum(rows.along), terms, total).square().view(shape)
    by_mean = rows.to_parameter(gradient * shift)
    own.parameters["weight"] = own.parameters["weight"] + by_mean.view(shape)


def update_levels(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], corrections: float = 0.0
) -> dict[str, float]:
    """Level of noise in each tensor that an update moves: a few roundings of what was there and of what was added, and
    of a parameter's way the relative noise of Adam's ``corrections``."""
    levels = {
        key: ELEMENTWISE * UNIT * float(torch.maximum(before[key].abs(), after[key].abs()).norm())
        for key in after.keys() & before.keys()
    }
    for key in levels:
        if key.startswith("parameter/"):
            levels[key] = math.hypot(levels[key], corrections * float((after[key] - before[key]).norm()))
    return levels


def _factors(power: float, beta: float) -> int:
    """How many factors a running product of ``beta`` has; 0 where it has none that can be counted."""
    return round(math.log(power) / math.log(beta)) if 0 < power < 1 and 0 < beta < 1 else 0


def exact_power(power: float, beta: float) -> float:
    """The power of ``beta`` of which ``power`` is a rounded running product."""
    count = _factors(power, beta)
    return beta**count if count else power


def correction_noise(powers: Sequence[float], betas: Sequence[float]) -> float:
    """Relative noise of an Adam update through its corrections ``1 - beta1^t`` and ``sqrt(1 - beta2^t)``: a running
    product of ``t`` factors was rounded ``t - 1`` times, and its difference from 1 is off by ``beta^t / (1 - beta^t)``
    times as much. A run may keep such products or make the powers anew from ``t``."""
    parts = []
    for power, beta, root in zip(powers, betas, (1.0, 0.5), strict=True):
        if (roundings := _factors(power, beta) - 1) > 0:
            parts.append(root * UNIT * roundings**0.5 * power / (1 - power))
    return math.hypot(*parts)
