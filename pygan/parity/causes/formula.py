"""The reference formula of a few layers in Float64, with a place to alter any one of them.

:class:`Formula` computes what the evidence compares: the output of the layers, its gradient with respect to their
input, or that of one parameter. A rule replaces one layer's function; gradients are taken through the replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pygan.parity.causes.common import reproduces_reference
from pygan.parity.evidence import BackwardEvidence, ForwardEvidence, GradientEvidence

Function = Callable[["Layer", Tensor], Tensor]
LINEAR = ("dense", "conv", "conv_transpose")
KINKS = ("relu", "leakyrelu")


@dataclass(frozen=True)
class Layer:
    """One layer with its tensors in Float64. ``mask`` is the keep pattern of a Dropout, 1 where a unit stays."""

    path: str
    kind: str
    numbers: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    train: bool
    mask: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """The layer's output."""
        return FUNCTIONS[self.kind](self, x)

    def with_number(self, name: str, value: float) -> Layer:
        """The layer with one of its numbers changed."""
        return replace(self, numbers={**self.numbers, name: value})

    @property
    def slope(self) -> float:
        """What a relu or leaky relu multiplies an off unit by."""
        return 0.0 if self.kind == "relu" else float(self.numbers.get("negative_slope", 0.01))

    @property
    def scale(self) -> float:
        """What a Dropout multiplies a kept unit by."""
        p = float(self.numbers.get("p", 0.0))
        return float(self.numbers["scale"]) if "scale" in self.numbers else 1 / (1 - p)


def linear(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Dense, convolution or transposed convolution with the layer's geometry."""
    if layer.kind == "dense":
        return F.linear(x, weight, bias)
    n = layer.numbers
    if layer.kind == "conv":
        padding = n.get("padding", 0)
        padding = padding if isinstance(padding, str) else pair(padding)
        return F.conv2d(
            x, weight, bias, pair(n.get("stride", 1)), padding, pair(n.get("dilation", 1)), n.get("groups", 1)
        )
    return F.conv_transpose2d(
        x,
        weight,
        bias,
        pair(n.get("stride", 1)),
        pair(n.get("padding", 0)),
        pair(n.get("output_padding", 0)),
        n.get("groups", 1),
        pair(n.get("dilation", 1)),
    )


def pair(value: Any) -> tuple[int, int]:
    """``(y, x)`` of a number or a sequence."""
    if isinstance(value, int | float):
        return int(value), int(value)
    first, second = value
    return int(first), int(second)


def batch_norm(
    layer: Layer,
    x: Tensor,
    *,
    batch: bool | None = None,
    eps: float | None = None,
    unbiased: bool = False,
    eps_outside: bool = False,
    affine: Sequence[str] = ("weight", "bias"),
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over all axes but 1.

    In train mode mean and variance are the batch's, unless ``batch`` says otherwise; ``affine`` is what is applied.
    """
    shape = (1, -1) + (1,) * (x.ndim - 2)
    eps = float(layer.numbers.get("eps", 1e-5)) if eps is None else eps
    if layer.train if batch is None else batch:
        axes = [axis for axis in range(x.ndim) if axis != 1]
        more = unbiased and x.numel() > x.shape[1]
        mean, var = x.mean(axes), x.var(axes, unbiased=more)
    else:
        mean, var = layer.tensors["running_mean"], layer.tensors["running_var"]
    root = var.sqrt() + eps if eps_outside else (var + eps).sqrt()
    y = (x - mean.reshape(shape)) / root.reshape(shape)
    if "weight" in layer.tensors and "weight" in affine:
        y = y * layer.tensors["weight"].reshape(shape)
    if "bias" in layer.tensors and "bias" in affine:
        y = y + layer.tensors["bias"].reshape(shape)
    return y


def sample_norm(
    layer: Layer,
    x: Tensor,
    *,
    eps: float | None = None,
    groups: int | None = None,
    unbiased: bool = False,
    eps_outside: bool = False,
    affine: Sequence[str] = ("weight", "bias"),
) -> Tensor:
    """LayerNorm or GroupNorm: ``(x - mean) / sqrt(var + eps) * weight + bias``, the statistics by sample (and group).

    ``groups`` is another number of groups of channels than the layer's; ``affine`` what is applied.
    """
    own = layer.numbers.get("num_groups") if groups is None else groups
    rows = x.reshape(len(x), own, -1) if own else x.flatten(-len(layer.numbers["normalized_shape"]))
    eps = float(layer.numbers.get("eps", 1e-5)) if eps is None else eps
    var, mean = torch.var_mean(rows, -1, correction=int(unbiased), keepdim=True)
    y = ((rows - mean) / (var.sqrt() + eps if eps_outside else (var + eps).sqrt())).reshape(x.shape)
    shape = (1, -1) + (1,) * (x.ndim - 2) if layer.kind == "group_norm" else layer.numbers["normalized_shape"]
    for name in affine:
        if name in layer.tensors:
            given = layer.tensors[name].reshape(shape)
            y = y * given if name == "weight" else y + given
    return y


def _pool(layer: Layer, x: Tensor, how: Callable[..., Tensor] = F.avg_pool2d, **geometry: Any) -> Tensor:
    n = {**layer.numbers, **geometry}
    size = pair(n["kernel_size"])
    stride = pair(n["stride"]) if n.get("stride") else size
    if how is F.avg_pool2d:
        more = {"ceil_mode": n.get("ceil_mode", False), "count_include_pad": n.get("count_include_pad", True)}
    else:
        more = {"ceil_mode": n.get("ceil_mode", False)}
    return how(x, size, stride, pair(n.get("padding", 0)), **more)


def pool(how: Callable[..., Tensor] = F.avg_pool2d, **geometry: Any) -> Function:
    """The layer's pooling by another function, or with other numbers."""
    return lambda layer, x: _pool(layer, x, how, **geometry)


def upsample(layer: Layer, x: Tensor, mode: str = "", align_corners: bool | None = None) -> Tensor:
    """Nearest or interpolated upsampling, by the layer's mode or another one."""
    n = layer.numbers
    aligned = align_corners if mode else n.get("align_corners")
    return F.interpolate(x, n.get("size"), n.get("scale_factor"), mode or n.get("mode", "nearest"), aligned)


def padded(layer: Layer, x: Tensor) -> Tensor:
    """Padded on the layer's sides (left, right, top, bottom), or cropped where these are negative."""
    sides = layer.numbers["padding"]
    return F.pad(x, (sides,) * 4 if isinstance(sides, int) else tuple(sides), value=layer.numbers.get("value", 0.0))


def _gelu(layer: Layer, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=layer.numbers.get("approximate", "none"))


def softplus(layer: Layer, x: Tensor) -> Tensor:
    """``log(1 + exp(beta x)) / beta``, and x itself beyond the threshold."""
    return F.softplus(x, layer.numbers.get("beta", 1.0), layer.numbers.get("threshold", 20.0))


def _dropout(layer: Layer, x: Tensor) -> Tensor:
    if not layer.train:
        return x
    if layer.mask is None:
        raise LookupError(f"no keep pattern for {layer.path}")
    return x * (layer.mask * layer.scale)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hardtanh": F.hardtanh,
    "hardsigmoid": F.hardsigmoid,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "silu": F.silu,
    "mish": F.mish,
    "identity": lambda x: x,
}
"""Activations without a number of their own."""


def plain(f: Callable[[Tensor], Tensor]) -> Function:
    """A function of the input alone."""
    return lambda _, x: f(x)


def numbered(name: str, value: float) -> Function:
    """The layer with one of its numbers changed."""
    return lambda layer, x: layer.with_number(name, value)(x)


def _affine(layer: Layer, x: Tensor) -> Tensor:
    return linear(layer, x, layer.tensors["weight"], layer.tensors.get("bias"))


def _bent(layer: Layer, x: Tensor) -> Tensor:
    return torch.where(x > 0, x, layer.slope * x)


FUNCTIONS: dict[str, Function] = {
    **dict.fromkeys(LINEAR, _affine),
    **dict.fromkeys(KINKS, _bent),
    **{kind: plain(f) for kind, f in ACTIVATIONS.items()},
    "gelu": _gelu,
    "softplus": softplus,
    "batch_norm": batch_norm,
    "layer_norm": sample_norm,
    "group_norm": sample_norm,
    "avgpool2d": _pool,
    "maxpool2d": pool(F.max_pool2d),
    "upsample": upsample,
    "zeropad2d": padded,
    "dropout": _dropout,
    "flatten": lambda _, x: x.flatten(1),
}
"""What each kind of layer computes; other kinds have no formula, and their evidence no specific cause."""


@dataclass(frozen=True)
class _Call:
    """One application of the layers inside the gradient."""

    name: str
    x: Tensor
    output_gradient: Tensor | None
    masks: Mapping[str, np.ndarray]


def tensor(array: np.ndarray) -> Tensor:
    """A Float64 copy."""
    return torch.tensor(np.ascontiguousarray(array, dtype=np.float64))


class Formula:
    """``evidence``'s layers, as its reference applies them. ``holds``: does it reproduce the reference?"""

    def __init__(self, evidence: ForwardEvidence) -> None:
        self.evidence = evidence
        own = {name: tensor(array) for name, array in evidence.tensors.items()}
        if isinstance(evidence, GradientEvidence):
            own.setdefault(evidence.path, tensor(evidence.weight))
            own[evidence.path].requires_grad_()
        self.layers = [
            Layer(
                path,
                spec.kind,
                spec.numbers,
                {name.rpartition(".")[2]: value for name, value in own.items() if name.rpartition(".")[0] == path},
                evidence.train,
            )
            for path, spec in evidence.layers
        ]
        self._leaf = own[evidence.path] if isinstance(evidence, GradientEvidence) else None
        self.calls = self._calls()
        self.own: np.ndarray | None = None
        self._check()

    def _check(self) -> None:
        """Sets ``own``, the value of the unaltered formula; None where a layer is of a kind that is not known."""
        try:
            self.own = self.value()
        except (KeyError, LookupError, RuntimeError, ValueError, TypeError, IndexError):
            self.own = None
        self.holds = self.own is not None and reproduces_reference(self.evidence, self.own)

    def _calls(self) -> list[_Call]:
        e = self.evidence
        given = tensor(e.output_gradient) if isinstance(e, BackwardEvidence) else None
        return [_Call(_call_of(e.key), tensor(e.x), given, e.masks)]

    def of_kind(self, *kinds: str) -> list[Layer]:
        """The layers of these kinds."""
        return [layer for layer in self.layers if layer.kind in kinds]

    def streams(self, layer: Layer, call: _Call | None = None) -> list[str]:
        """Streams of the keep patterns that fit a Dropout in shape, its own first."""
        call = call or self.calls[0]
        own = [f"mask/{call.name}/{layer.path}", *(name for name in call.masks if name.endswith(f"/{layer.path}"))]
        return [name for name in dict.fromkeys([*own, *call.masks]) if name in call.masks]

    def input_of(self, index: int) -> Tensor:
        """What enters layer ``index`` in the reference's (first) call."""
        with torch.no_grad():
            x = self.calls[0].x
            for layer in self.layers[:index]:
                x = self._with_mask(layer, self.calls[0], x)(x)
            return x

    def _with_mask(self, layer: Layer, call: _Call, x: Tensor) -> Layer:
        if layer.kind != "dropout" or layer.mask is not None:
            return layer
        fitting = [name for name in self.streams(layer, call) if call.masks[name].shape == tuple(x.shape)]
        return replace(layer, mask=tensor(call.masks[fitting[0]])) if fitting else layer

    def _forward(self, call: _Call, x: Tensor, altered: Mapping[str, Function]) -> Tensor:
        for layer in self.layers:
            layer = self._with_mask(layer, call, x)
            if layer.kind == "unflatten" and layer is self.layers[-1]:
                x = x.reshape(self.evidence.reference.shape)
            else:
                x = altered[layer.path](layer, x) if layer.path in altered else layer(x)
        return x

    def value(self, altered: Mapping[str, Function] | None = None, samples: int | None = None) -> np.ndarray:
        """What the evidence compares, with the functions of some layers replaced by ``altered``; of the first
        ``samples`` only where given (:meth:`by_sample` says whether that is possible)."""
        altered = altered or {}
        total: Tensor | None = None
        for call in self.calls:
            x = call.x[:samples]
            if call.output_gradient is None:
                with torch.no_grad():
                    return self._forward(call, x, altered).numpy()
            leaf = x.clone().requires_grad_() if self._leaf is None else self._leaf
            y = self._forward(call, leaf if self._leaf is None else x, altered)
            gradient: Tensor | None = None
            if y.requires_grad:
                (gradient,) = torch.autograd.grad(y, leaf, call.output_gradient[:samples], allow_unused=True)
            gradient = torch.zeros_like(leaf) if gradient is None else gradient
            total = gradient if total is None else total + gradient
        assert total is not None
        return total.detach().numpy()

    def by_sample(self) -> bool:
        """Does every sample's value depend on that sample alone?"""
        mixes = self.evidence.train and bool(self.of_kind("batch_norm"))
        return self._leaf is None and not mixes and not self.of_kind("dropout")


def _call_of(key: str) -> str:
    kind, _, rest = key.partition("/")
    return rest.partition("/")[0] if kind in ("activation", "activation_gradient") else ""
