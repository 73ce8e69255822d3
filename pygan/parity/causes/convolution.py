"""Dense layers, convolutions and transposed convolutions: kernels turned, weights swapped, padding shifted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pygan.parity.causes.common import Constant, Hypothesis, misfit
from pygan.parity.causes.formula import LINEAR, Formula, Function, Layer, linear, pair
from pygan.parity.causes.permutation import match_rows
from pygan.parity.compare import norm
from pygan.parity.evidence import BackwardEvidence, GradientEvidence

CONVOLUTIONS = ("conv", "conv_transpose")


def _with_weight(change: Function) -> Function:
    """A linear layer whose weight is ``change(layer, weight)``."""
    return lambda layer, x: linear(layer, x, change(layer, layer.tensors["weight"]), layer.tensors.get("bias"))


def kernel_not_flipped(formula: Formula) -> Iterator[Hypothesis]:
    """Every kernel turned by 180 degrees: convolution taken for cross-correlation."""
    for layer in formula.of_kind(*CONVOLUTIONS):
        if max(layer.tensors["weight"].shape[2:]) > 1:
            yield Hypothesis("kernel not flipped", formula.value({layer.path: _with_weight(lambda _, w: w.flip(2, 3))}))


def kernel_mirrored(formula: Formula) -> Iterator[Hypothesis]:
    """Every kernel flipped along one of its axes."""
    for layer in formula.of_kind(*CONVOLUTIONS):
        for axis, name in ((2, "y"), (3, "x")):
            if layer.tensors["weight"].shape[axis] > 1:
                flipped = _with_weight(lambda _, w, axis=axis: w.flip(axis))  # type: ignore[misc]
                yield Hypothesis("kernel mirrored", formula.value({layer.path: flipped}), f"along {name}")


def kernel_transposed(formula: Formula) -> Iterator[Hypothesis]:
    """x and y of every kernel swapped."""
    for layer in formula.of_kind(*CONVOLUTIONS):
        height, width = layer.tensors["weight"].shape[2:]
        if height == width > 1:
            yield Hypothesis("kernel transposed", formula.value({layer.path: _with_weight(lambda _, w: w.mT)}))


def weight_transposed(formula: Formula) -> Iterator[Hypothesis]:
    """Inputs and outputs of the weight swapped: its axes where it is square, or the order its numbers were read in."""
    for layer in formula.of_kind(*LINEAR):
        shape = layer.tensors["weight"].shape
        if shape[0] == shape[1] > 1:
            swapped = _with_weight(lambda _, w: w.transpose(0, 1))
            yield Hypothesis("weight transposed", formula.value({layer.path: swapped}))
        if min(shape[:2]) > 1:
            yield Hypothesis(
                "weight transposed",
                formula.value({layer.path: _with_weight(lambda _, w: _read_across(w))}),
                "its numbers read with the first two axes in the other order",
            )
            if len(shape) > 2:
                backwards = _with_weight(lambda _, w: w.reshape(w.shape[::-1]).permute(*range(w.ndim - 1, -1, -1)))
                yield Hypothesis(
                    "weight transposed",
                    formula.value({layer.path: backwards}),
                    "its numbers read in column-major order",
                )


def _read_across(weight: Tensor) -> Tensor:
    first, second, *rest = weight.shape
    return weight.reshape(second, first, *rest).transpose(0, 1)


def bias_missing(formula: Formula) -> Iterator[Hypothesis]:
    """The bias left out."""
    for layer in formula.of_kind(*LINEAR):
        if "bias" in layer.tensors:
            yield Hypothesis(
                "bias missing", formula.value({layer.path: lambda one, x: linear(one, x, one.tensors["weight"], None)})
            )


# --- stride or padding -------------------------------------------------------------------------------------------


def stride_or_padding(formula: Formula) -> Iterator[Hypothesis]:
    """Another stride, padding, shift of the grid, or a border filled otherwise, with the candidate's shape."""
    evidence = formula.evidence
    if isinstance(evidence, GradientEvidence) or evidence.candidate.ndim != evidence.reference.ndim:
        return  # a layer's output shows it before its parameters' gradients do
    for layer in formula.of_kind(*CONVOLUTIONS):
        if isinstance(layer.numbers.get("padding", 0), str):
            continue
        for constant, function in [*_geometries(layer), *_borders(layer)]:
            value = _value(formula, {layer.path: function})
            if value is not None:
                yield Hypothesis("stride or padding", value, constant=constant)


def _value(formula: Formula, altered: dict[str, Function]) -> np.ndarray | None:
    """The altered value; None where it has another shape, or is already far off in the first two samples."""
    wanted = formula.evidence.candidate
    try:
        if formula.by_sample():
            first = formula.value(altered, samples=2)
            if not misfit(first, wanted[:2]) <= 1e-2 * norm(wanted[:2]):
                return None
        value = formula.value(altered)
    except RuntimeError:  # a kernel larger than the padding leaves, or another shape than the output gradient's
        return None
    return value if value.shape == wanted.shape else None


def _geometries(layer: Layer) -> Iterator[tuple[Constant, Function]]:
    own_stride, own_padding = pair(layer.numbers.get("stride", 1)), pair(layer.numbers.get("padding", 0))
    reach = max(layer.tensors["weight"].shape[2:])
    if own_stride[0] != own_stride[1] or own_padding[0] != own_padding[1]:
        return
    stride, padding = own_stride[0], own_padding[0]
    for s, p in product(range(1, 4), range(reach)):
        if (s, p) != (stride, padding):
            yield ("stride, padding", f"{s}, {p}", f"{stride}, {padding}"), _geometry(s, (p, p), (p, p))
    shifts = [one for one in range(-2, 3) if one]
    for dy, dx in [*((d, d) for d in shifts), *((d, 0) for d in shifts), *((0, d) for d in shifts)]:
        y, x = (padding + dy, padding - dy), (padding + dx, padding - dx)
        yield ("padding", f"{y} in y, {x} in x", f"{padding} on all sides"), _geometry(stride, y, x)


def _geometry(stride: int, y: tuple[int, int], x: tuple[int, int]) -> Function:
    """A (transposed) convolution padded (cropped) by ``(before, after)`` in y and x."""

    def apply(layer: Layer, image: Tensor) -> Tensor:
        bare = replace(layer, numbers={**layer.numbers, "stride": stride, "padding": 0, "output_padding": 0})
        weight, bias = layer.tensors["weight"], layer.tensors.get("bias")
        if layer.kind == "conv":
            return linear(bare, F.pad(image, (*x, *y)), weight, bias)
        full = linear(bare, image, weight, None)
        extra = pair(layer.numbers.get("output_padding", 0))
        cropped = F.pad(full, (-x[0], extra[1] - x[1], -y[0], extra[0] - y[1]))
        return cropped if bias is None else cropped + bias.reshape(1, -1, 1, 1)

    return apply


def _borders(layer: Layer) -> Iterator[tuple[Constant, Function]]:
    y, x = pair(layer.numbers.get("padding", 0))
    if layer.kind != "conv" or not (y or x):
        return

    def filled(mode: str) -> Function:
        def apply(one: Layer, image: Tensor) -> Tensor:
            bare = one.with_number("padding", 0)
            return linear(bare, F.pad(image, (x, x, y, y), mode=mode), one.tensors["weight"], one.tensors.get("bias"))

        return apply

    for mode in ("reflect", "replicate", "circular"):
        yield ("border", mode, "zeros"), filled(mode)


# --- input channels ----------------------------------------------------------------------------------------------


def input_channels_permuted(formula: Formula) -> Iterator[Hypothesis]:
    """Input channels in another order: the weight that the candidate used is solved and matched channel by channel."""
    layers, evidence = formula.layers, formula.evidence
    if evidence.candidate.shape != evidence.reference.shape:
        return
    if len(layers) != 1 or layers[0].kind not in LINEAR or isinstance(formula.evidence, BackwardEvidence):
        return
    layer = layers[0]
    weight = layer.tensors["weight"].detach()
    used = _weight_used(layer, formula.calls[0].x, formula.evidence.candidate)
    axis = 0 if layer.kind == "conv_transpose" else 1
    if used is None or weight.shape[axis] < 2:
        return
    own = weight.movedim(axis, 0).flatten(1).numpy()
    order = match_rows(used.movedim(axis, 0).flatten(1).numpy(), own)
    if order is None:
        return
    places = torch.from_numpy(order)
    yield Hypothesis(
        "channels permuted",
        formula.value({layer.path: _with_weight(lambda _, w: w.index_select(axis, places))}),
        "input channels",
        free=2,
    )


MOST_UNKNOWNS = 1200


def _weight_used(layer: Layer, x: Tensor, candidate: np.ndarray) -> Tensor | None:
    """The weight that makes ``candidate`` of ``x`` by least squares; None where it is not determined."""
    weight, bias = layer.tensors["weight"].detach(), layer.tensors.get("bias")
    inputs = weight.shape[0 if layer.kind == "conv_transpose" else 1]
    kernel = tuple(weight.shape[2:])
    unknowns = inputs * int(np.prod(kernel))
    y = torch.tensor(candidate)
    if layer.numbers.get("groups", 1) != 1 or unknowns > MOST_UNKNOWNS or y.ndim != x.ndim:
        return None
    if bias is not None:
        y = y - bias.detach().reshape(1, -1, *(1,) * (y.ndim - 2))
    wanted = y.movedim(1, -1).flatten(0, -2)
    rows = _patches(layer, x, kernel, tuple(y.shape[2:]))
    if rows is None or len(rows) != len(wanted) or len(rows) < unknowns:
        return None
    some = torch.linspace(0, len(rows) - 1, min(len(rows), 3 * unknowns)).long()
    solved: Tensor = torch.linalg.lstsq(rows[some], wanted[some]).solution.T.reshape(-1, inputs, *kernel)
    return solved.flip(2, 3).transpose(0, 1) if layer.kind == "conv_transpose" else solved


def _patches(layer: Layer, x: Tensor, kernel: tuple[int, ...], output: tuple[int, ...]) -> Tensor | None:
    """``(rows, inputs * kernel)``: what one output pixel of one sample sees."""
    if layer.kind == "dense":
        return x if x.ndim == 2 else None
    stride, padding = pair(layer.numbers.get("stride", 1)), pair(layer.numbers.get("padding", 0))
    if layer.kind == "conv_transpose":  # a convolution of the image with stride - 1 zeros between its pixels
        spread = torch.zeros(
            *x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True))
        ).double()
        spread[:, :, :: stride[0], :: stride[1]] = x
        border = [k - 1 - p for k, p in zip(kernel, padding, strict=True)]
        ends = [o + k - 1 - n - b for o, k, n, b in zip(output, kernel, spread.shape[2:], border, strict=True)]
        x, stride, padding = F.pad(spread, (border[1], ends[1], border[0], ends[0])), (1, 1), (0, 0)
    columns: Tensor = F.unfold(x, kernel, padding=padding, stride=stride)
    return columns.movedim(1, -1).flatten(0, -2)


RULES = (
    kernel_not_flipped,
    kernel_mirrored,
    kernel_transposed,
    weight_transposed,
    bias_missing,
    stride_or_padding,
    input_channels_permuted,
)
