"""What Flux 0.16.9 and NNlib 0.9.36 compute in single layers, written down in numpy from their sources.

Arrays are Flux's: images ``(W, H, C, N)``, features ``(F, N)``, kernels ``(W, H, in, out)``. Padding is given as
``(left, right, top, bottom)``, as Flux's ``pad`` takes it: both ends of the first axis, then of the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

EPS = float(np.float32(1e-5))
"""The default of the norms, 1f-5."""
Tensors = Mapping[str, np.ndarray]


def dense(x: np.ndarray, t: Tensors) -> np.ndarray:
    """``W * x``."""
    return t["weight"] @ x


def sides(pad: Any, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """``SamePad`` puts the larger half before (``calc_padding`` in src/layers/conv.jl)."""
    if pad == "same":
        return tuple(side for k in kernel for side in (-(-(k - 1) // 2), (k - 1) // 2))
    return (pad,) * 4 if isinstance(pad, int) else tuple(pad)


def pad(x: np.ndarray, t: Tensors, *, pad: Any) -> np.ndarray:
    """``NNlib.pad_zeros`` of the first two axes."""
    left, right, top, bottom = sides(pad, ())
    return np.pad(x, ((left, right), (top, bottom), (0, 0), (0, 0)))


def conv(x: np.ndarray, t: Tensors, *, stride: int, pad: Any) -> np.ndarray:
    """A true convolution: the kernel runs backwards."""
    w = t["weight"]
    left, right, top, bottom = sides(pad, w.shape[:2])
    x = np.pad(x, ((left, right), (top, bottom), (0, 0), (0, 0)))
    size = [(n - k) // stride + 1 for n, k in zip(x.shape, w.shape[:2], strict=False)]
    y = np.zeros((*size, w.shape[3], x.shape[3]))
    for i, j in product(*map(range, w.shape[:2])):
        seen = x[i : i + stride * size[0] : stride, j : j + stride * size[1] : stride][: size[0], : size[1]]
        y += np.einsum("xycn,co->xyon", seen, w[-1 - i, -1 - j])
    return y


def conv_transpose(x: np.ndarray, t: Tensors, *, stride: int, pad: Any) -> np.ndarray:
    """The adjoint of :func:`conv`, whose kernel is ``(W, H, out, in)`` here; padding is cut off."""
    w = t["weight"]
    left, right, top, bottom = sides(pad, w.shape[:2])
    size = [(n - 1) * stride + k for n, k in zip(x.shape, w.shape[:2], strict=False)]
    y = np.zeros((*size, w.shape[2], x.shape[3]))
    for i, j in product(*map(range, w.shape[:2])):
        places = slice(i, i + stride * x.shape[0], stride), slice(j, j + stride * x.shape[1], stride)
        y[places][: x.shape[0], : x.shape[1]] += np.einsum("xycn,oc->xyon", x, w[-1 - i, -1 - j])
    return y[left : size[0] - right, top : size[1] - bottom]


def layer_norm(x: np.ndarray, t: Tensors) -> np.ndarray:
    """Over the first axes, as many as the affine part has. ``normalise`` in src/layers/stateless.jl squares eps."""
    axes = tuple(range(t["weight"].ndim))
    normed = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + EPS**2)
    weight, bias = (t[name].reshape(*t[name].shape, *(1,) * (x.ndim - len(axes))) for name in ("weight", "bias"))
    return normed * weight + bias


def group_norm(x: np.ndarray, t: Tensors, *, groups: int) -> np.ndarray:
    """Neighbouring channels share a group: the channel axis is split in memory order, its first part inside."""
    split = x.reshape((*x.shape[:2], -1, groups, x.shape[3]), order="F")
    mean, var = split.mean((0, 1, 2), keepdims=True), split.var((0, 1, 2), keepdims=True)
    normed = ((split - mean) / np.sqrt(var + EPS)).reshape(x.shape, order="F")
    return normed * t["weight"][:, None] + t["bias"][:, None]


def mean_pool(x: np.ndarray, t: Tensors, *, size: int, stride: int, pad: int) -> np.ndarray:
    """Zeros of the border are counted."""
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0), (0, 0)))
    out = [(n - size) // stride + 1 for n in x.shape[:2]]
    windows = [x[i : i + stride * out[0] : stride, j : j + stride * out[1] : stride][: out[0], : out[1]]
               for i, j in product(range(size), repeat=2)]  # fmt: skip
    return np.sum(windows, axis=0) / size**2


def upsample(x: np.ndarray, t: Tensors, *, scale: int) -> np.ndarray:
    """Nearest: each pixel as often as the scale says."""
    return x.repeat(scale, 0).repeat(scale, 1)


def gelu(x: np.ndarray, t: Tensors) -> np.ndarray:
    """``gelu`` is ``gelu_tanh`` in NNlib."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def sigmoid(x: np.ndarray, t: Tensors) -> np.ndarray:
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray, t: Tensors) -> np.ndarray:
    """Without the threshold that PyTorch's has."""
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)
