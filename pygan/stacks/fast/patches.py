"""Convolutions whose images have one channel, as one matrix product over patches.

A patch is the ``K x K`` window that meets one place of the smaller map. Reading patches of the one-channel images
costs little, and what is left is a product of a tall matrix with ``(K^2, channels)``, whose result lies in
channels-last memory already.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Forward = Callable[[Any, Tensor], Tensor]


def in_weights_dtype(forward: Forward) -> Forward:
    """Under autocast, whose lower precision is for oneDNN's convolutions, compute in the weights' own dtype."""

    @functools.wraps(forward)
    def computed(layer: Any, x: Tensor) -> Tensor:
        if x.device.type not in ("cpu", "cuda") or not torch.is_autocast_enabled(x.device.type):
            return forward(layer, x)
        with torch.autocast(x.device.type, enabled=False):
            return forward(layer, x.to(layer.weight.dtype))

    return computed


def patches(images: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Images ``(N, 1, H, W)`` to windows ``(N, h, w, K, K)``, copied once."""
    padded = F.pad(images[:, 0], (padding,) * 4).contiguous()
    count, height, width = padded.shape
    places = [(length - kernel) // stride + 1 for length in (height, width)]
    view = padded.as_strided((count, *places, kernel, kernel), (height * width, stride * width, stride, width, 1))
    return view.contiguous()


def from_patches(windows: Tensor, kernel: int, stride: int, padding: int, size: tuple[int, int]) -> Tensor:
    """Windows ``(N, K^2, h w)`` to images ``(N, 1, H, W)``, overlaps added: the transpose of :func:`patches`."""
    return F.fold(windows, size, kernel, padding=padding, stride=stride)


def rows_of(maps: Tensor) -> Tensor:
    """Maps ``(N, C, h, w)`` to ``(N h w, C)``; a view where memory is channels-last."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def _to_windows(rows: Tensor, kernels: Tensor, count: int) -> Tensor:
    """Rows ``(N h w, C)`` times kernels ``(C, K^2)``: windows ``(N, K^2, h w)``."""
    return torch.matmul(kernels.t(), rows.view(count, -1, rows.shape[1]).transpose(1, 2))


def empty_maps(like: Tensor, count: int, channels: int, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Maps ``(N, C, h, w)`` in channels-last memory, to be filled through their rows ``(N h w, C)``."""
    maps = torch.empty(
        (count, channels, *size), dtype=like.dtype, device=like.device, memory_format=torch.channels_last
    )
    return maps, maps.permute(0, 2, 3, 1).view(-1, channels)


class _Gather(torch.autograd.Function):
    """One-channel images to maps of features: a convolution."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, layer: PatchConv2d) -> Tensor:
        stride, padding = layer.stride[0], int(layer.padding[0])
        ctx.size, ctx.stride, ctx.padding, ctx.layer = images.shape[2:], stride, padding, layer
        windows = patches(images, weight.shape[2], stride, padding)
        flat = windows.view(-1, weight.shape[2] ** 2)
        ctx.save_for_backward(flat, weight)
        kernels = weight.flatten(1).t()
        ctx.places = windows.shape[1:3]
        maps, rows = empty_maps(images, len(images), len(weight), ctx.places)
        torch.mm(flat, kernels, out=rows) if bias is None else torch.addmm(bias, flat, kernels, out=rows)
        return maps

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        flat, weight = ctx.saved_tensors
        rows = rows_of(gradient)
        by_images = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            windows = _to_windows(rows, weight.flatten(1), len(gradient))
            by_images = from_patches(windows, weight.shape[2], ctx.stride, ctx.padding, ctx.size)
        if ctx.needs_input_grad[1] and not ctx.layer.frozen:
            by_weight = (rows.t() @ flat).view_as(weight)
        if ctx.needs_input_grad[2] and not ctx.layer.frozen:
            by_bias = rows.sum(0)
        return by_images, by_weight, by_bias, None


class _Scatter(torch.autograd.Function):
    """Maps of features to one-channel images: a transposed convolution."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.stride, ctx.padding = stride, padding
        kernel, rows = weight.shape[2], rows_of(maps)
        size = tuple((length - 1) * stride + kernel - 2 * padding for length in maps.shape[2:])
        ctx.save_for_backward(rows, weight)
        return from_patches(
            _to_windows(rows, weight.flatten(1), len(maps)), kernel, stride, padding, (size[0], size[1])
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        windows = patches(gradient, weight.shape[2], ctx.stride, ctx.padding)
        flat = windows.view(rows.shape[0], -1)
        by_maps = by_weight = None
        if ctx.needs_input_grad[0]:
            by_maps, back = empty_maps(gradient, len(gradient), len(weight), windows.shape[1:3])
            torch.mm(flat, weight.flatten(1).t(), out=back)
        if ctx.needs_input_grad[1]:
            by_weight = (rows.t() @ flat).view_as(weight)
        return by_maps, by_weight, None, None


class PatchConv2d(nn.Conv2d):
    """``nn.Conv2d`` of one-channel images ``(N, 1, H, W)``; the result ``(N, C, h, w)`` lies channels-last.

    While it is ``frozen``, a backward pass leaves out the gradients by its parameters: autograd does not tell functions
    written in Python which of them the pass is for.
    """

    frozen = False

    @in_weights_dtype
    def forward(self, input: Tensor) -> Tensor:
        """``(N, 1, H, W)`` to ``(N, C, h, w)``."""
        y: Tensor = _Gather.apply(input, self.weight, self.bias, self)  # type: ignore[no-untyped-call]
        return y


class PatchConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` to one-channel images, without bias."""

    @in_weights_dtype
    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        """``(N, C, h, w)`` to ``(N, 1, H, W)``."""
        y: Tensor = _Scatter.apply(input, self.weight, self.stride[0], int(self.padding[0]))  # type: ignore[no-untyped-call]
        return y
