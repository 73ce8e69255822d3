"""Layers that change the size of images without parameters: pooling, upsampling, padding and cropping."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from pygan.parity.causes.common import Hypothesis
from pygan.parity.causes.formula import Formula, Function, Layer, pair, pool, upsample

POOLS = {"avgpool2d": "the mean", "maxpool2d": "the largest"}


def _value(formula: Formula, path: str, function: Function) -> np.ndarray | None:
    """The altered value; None where it has another shape."""
    try:
        value = formula.value({path: function})
    except (RuntimeError, ValueError):  # a window that does not fit, or another shape than the output gradient's
        return None
    return value if value.shape == formula.evidence.candidate.shape else None


def other_pooling(formula: Formula) -> Iterator[Hypothesis]:
    """The mean, the largest or one pixel of windows of another size or place, or a border counted otherwise."""
    for layer in formula.of_kind(*POOLS):
        size, stride = _window(layer)
        own = f"{POOLS[layer.kind]} of {size}, stride {stride}"
        for kind, k, s in product(POOLS, range(1, 7), range(1, 5)):
            for p in range(k // 2 + 1):
                how = F.avg_pool2d if kind == "avgpool2d" else F.max_pool2d
                told = f"{POOLS[kind]} of {k}, stride {s}" + (f", padding {p}" if p else "")
                value = _value(formula, layer.path, pool(how, kernel_size=k, stride=s, padding=p))
                if value is not None:
                    yield Hypothesis("other pooling", value, constant=("", told, own))
        if layer.kind == "avgpool2d" and layer.numbers.get("padding", 0):
            counted = not layer.numbers.get("count_include_pad", True)
            value = _value(formula, layer.path, pool(count_include_pad=counted))
            if value is not None:
                words = ("not counted", "counted")
                yield Hypothesis("other pooling", value, constant=("border", words[counted], words[not counted]))


def _window(layer: Layer) -> tuple[int, int]:
    size = pair(layer.numbers["kernel_size"])[0]
    return size, pair(layer.numbers["stride"])[0] if layer.numbers.get("stride") else size


MODES: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest"},
    "bilinear": {"mode": "bilinear", "align_corners": False},
    "bilinear, corners aligned": {"mode": "bilinear", "align_corners": True},
    "bicubic": {"mode": "bicubic", "align_corners": False},
    "bicubic, corners aligned": {"mode": "bicubic", "align_corners": True},
}


def other_upsampling(formula: Formula) -> Iterator[Hypothesis]:
    """Another interpolation, or zeros between the pixels."""
    for layer in formula.of_kind("upsample"):
        own = str(layer.numbers.get("mode", "nearest"))
        for told, numbers in MODES.items():
            value = _value(formula, layer.path, lambda one, x, numbers=numbers: upsample(one, x, **numbers))  # type: ignore[misc]
            if value is not None:
                yield Hypothesis("other upsampling", value, constant=("", told, own))
        value = _value(formula, layer.path, _spread)
        if value is not None:
            yield Hypothesis("other upsampling", value, constant=("", "zeros between the pixels", own))


def _spread(layer: Layer, x: Tensor) -> Tensor:
    whole = upsample(layer, x, "nearest")
    rows, columns = (one // other for one, other in zip(whole.shape[2:], x.shape[2:], strict=True))
    made = whole.new_zeros(whole.shape)
    made[..., ::rows, ::columns] = x
    return made


def padding_elsewhere(formula: Formula) -> Iterator[Hypothesis]:
    """As much padding or cropping in all, more of it on another side; or a border filled otherwise."""
    for layer in formula.of_kind("zeropad2d"):
        sides = layer.numbers["padding"]
        left, right, top, bottom = (sides,) * 4 if isinstance(sides, int) else sides
        own = str((left, right, top, bottom))
        shifts = sorted(range(-3, 4), key=abs)
        for dx, dy in product(shifts, shifts):
            if (dx, dy) != (0, 0):
                moved = (left + dx, right - dx, top + dy, bottom - dy)
                yield from _padded(formula, layer, moved, "constant", (str(moved), own))
        if min(left, right, top, bottom) >= 0:
            for mode in ("reflect", "replicate", "circular"):
                yield from _padded(formula, layer, (left, right, top, bottom), mode, (mode, "zeros"))


def _padded(
    formula: Formula, layer: Layer, sides: tuple[int, ...], mode: str, told: tuple[str, str]
) -> Iterator[Hypothesis]:
    value = _value(formula, layer.path, lambda _, x: F.pad(x, sides, mode))
    if value is not None:
        what = "border" if mode != "constant" else "padding (left, right, top, bottom)"
        yield Hypothesis("stride or padding", value, constant=(what, *told))


RULES = (other_pooling, other_upsampling, padding_elsewhere)
