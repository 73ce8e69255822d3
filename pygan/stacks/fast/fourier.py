"""A stride-1 transposed convolution of a small map by exact discrete Fourier transforms.

Convolving with ``K x K`` kernels is multiplication after a transform. Sizes here are so small (7 x 7 maps, 5 x 5
kernels) that each transform is one dense matrix product, and the multiplications are matrix products over channels:

    y = A^T [ (B x) * (C w) ]        x: S^2 -> T products,  w: K^2 -> T,  T -> So^2 values of y

``T`` counts real products: 1 for a real frequency, 3 for each pair of conjugate ones (a complex product by Gauss's
three real ones). With S = 7, K = 5 and padding 2 a cyclic length of 9 suffices, because the wrapped values fall on
places that the padding cuts off: T = 121 products take the place of 841 valid taps (29 an axis).
The same three matrices, transposed, give both gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pygan.stacks.fast.memory import Workspace
from pygan.stacks.fast.patches import empty_maps, in_weights_dtype


@dataclass(frozen=True)
class Transforms:
    """``to_products`` (B) ``(T, S^2)``, ``kernel_to_products`` (C) ``(T, K^2)``, ``to_output`` (A) ``(T, So^2)``."""

    to_products: Tensor
    kernel_to_products: Tensor
    to_output: Tensor


def cyclic_length(size: int, kernel: int, padding: int) -> int:
    """The least transform length at which no wrapped value falls on a kept one.

    >>> cyclic_length(7, 5, 2)
    9
    """
    return size + kernel - 1 - padding


def products(size: int, kernel: int, padding: int) -> int:
    """Real products for one pair of channels: 3 for each pair of conjugate frequencies, 1 for each real one.

    >>> products(7, 5, 2)
    121
    """
    n = cyclic_length(size, kernel, padding)
    real = 4 if n % 2 == 0 else 1
    return real + 3 * (n * n - real) // 2


def pays(size: int, kernel: int, padding: int) -> bool:
    """Do the products number at most a third of the direct method's valid taps?

    >>> pays(7, 5, 2), pays(7, 1, 0), pays(28, 5, 2)
    (True, False, True)
    """
    out = size + kernel - 1 - 2 * padding
    taps = sum(0 <= at + padding - k < size for at in range(out) for k in range(kernel))
    return out > 0 and padding < kernel and 3 * products(size, kernel, padding) <= taps**2


@cache
def transforms(size: int, kernel: int, padding: int, dtype: torch.dtype, device: torch.device) -> Transforms:
    """The three matrices, computed in Float64 and rounded once."""
    n = cyclic_length(size, kernel, padding)
    frequencies = [(u, v) for u in range(n) for v in range(n)]
    frequencies = [(u, v) for u, v in frequencies if (u, v) <= ((-u) % n, (-v) % n)]
    inputs, kernels, outputs = [], [], []
    for u, v in frequencies:
        cos_x, sin_x = _wave(n, u, v, np.arange(size))
        cos_w, sin_w = _wave(n, u, v, np.arange(kernel))
        cos_y, sin_y = _wave(n, u, v, np.arange(size + kernel - 1 - 2 * padding) + padding)
        if (u, v) == ((-u) % n, (-v) % n):
            inputs += [cos_x]
            kernels += [cos_w]
            outputs += [cos_y / n**2]
        else:  # x = a - ib, w = c - id: the products (a - b) c, a (c - d) ... in Gauss's form, twice for the conjugate
            inputs += [cos_x - sin_x, cos_x, -sin_x]
            kernels += [cos_w, -sin_w - cos_w, cos_w - sin_w]
            outputs += [2 * (cos_y - sin_y) / n**2, -2 * sin_y / n**2, -2 * cos_y / n**2]
    made = (torch.from_numpy(np.array(rows)).to(device, dtype) for rows in (inputs, kernels, outputs))
    return Transforms(*made)


def _wave(n: int, u: int, v: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of ``2 pi (u p + v q) / n`` over all pairs of ``places``."""
    angle = 2 * np.pi / n * ((u * places[:, None] + v * places[None, :]) % n)
    return np.cos(angle).ravel(), np.sin(angle).ravel()


class _Convolve(torch.autograd.Function):
    """``x`` ``(N, C, S, S)`` and ``weight`` ``(C, O, K, K)`` to ``(N, O, So, So)`` in channels-last memory.

    ``space`` lends the products; with ``differentiate`` those of ``x`` are kept for the gradient by weight.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, spectrum: Tensor, given: Transforms, space: Workspace, differentiate: bool
    ) -> Tensor:
        ctx.given, ctx.space, ctx.kernel = given, space, weight.shape[2]
        spread = to_products(x, given.to_products, space)
        made = space.take((len(spectrum), len(x), weight.shape[1]), x)
        y = _from_products(torch.bmm(spread.transpose(0, 1), spectrum, out=made), given.to_output)
        space.give(made)
        if differentiate:
            ctx.save_for_backward(spectrum)
            ctx.spread = spread  # lent, not saved: it goes back to the workspace
        else:
            space.give(spread)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (spectrum,) = ctx.saved_tensors
        given, space = ctx.given, ctx.space
        spread: Tensor | None = ctx.spread
        if spread is None:
            raise RuntimeError("this call was differentiated once already and keeps nothing; call the layer again")
        back = to_products(gradient, given.to_output, space)
        by_input = by_weight = None
        channels, outputs = spread.shape[2], back.shape[2]
        if ctx.needs_input_grad[1]:
            by_weight = gradient.new_zeros(ctx.kernel**2, channels * outputs)
            half = -(-len(spectrum) // 2)  # in two parts: less memory at once, and it fits what the output used
            for part in (slice(half), slice(half, None)):
                count = len(spectrum[part])
                made = space.take((count, channels, outputs), gradient)
                torch.bmm(spread[:, part].permute(1, 2, 0), back[:, part].transpose(0, 1), out=made)
                by_weight.addmm_(given.kernel_to_products[part].t(), made.view(count, -1))
                space.give(made)
            by_weight = by_weight.t().reshape(channels, outputs, ctx.kernel, ctx.kernel)
        space.give(spread)
        ctx.spread = None
        if ctx.needs_input_grad[0]:
            made = space.take((len(spectrum), len(gradient), channels), gradient)
            torch.bmm(back.transpose(0, 1), spectrum.transpose(1, 2), out=made)
            by_input = _from_products(made, given.to_products)
            space.give(made)
        space.give(back)
        return by_input, by_weight, None, None, None, None


def to_products(x: Tensor, matrix: Tensor, space: Workspace) -> Tensor:
    """``(N, C, S, S)`` to the factors of products ``(N, T, C)``, lent by ``space``."""
    count, channels = x.shape[:2]
    places = x.permute(0, 2, 3, 1).reshape(count, -1, channels)  # a view where memory is channels-last
    return torch.matmul(matrix, places, out=space.take((count, len(matrix), channels), x))


def _from_products(products: Tensor, matrix: Tensor) -> Tensor:
    """Products ``(T, N, O)`` to ``(N, O, S, S)`` in channels-last memory."""
    count, size = products.shape[1], round(matrix.shape[1] ** 0.5)
    maps, rows = empty_maps(products, count, products.shape[2], (size, size))
    torch.matmul(matrix.t(), products.transpose(0, 1), out=rows.view(count, size * size, -1))
    return maps


def kernel_spectrum(weight: Tensor, given: Transforms, out: Tensor) -> Tensor:
    """Kernels ``(C, O, K, K)`` to products ``(T, C, O)``, in ``out`` ``(T, C O)``."""
    return torch.mm(given.kernel_to_products, weight.flatten(2).flatten(0, 1).t(), out=out).view(-1, *weight.shape[:2])


class FourierConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` of stride 1, without bias, by transforms where they pay, as on small square maps.

    The spectrum of the kernels serves every call until :meth:`forget`, which whoever changes the weights must call.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._spectrum: Tensor | None = None
        self._space = Workspace()

    def forget(self) -> None:
        """The weights have changed."""
        if self._spectrum is not None:
            self._space.give(self._spectrum)
        self._spectrum = None

    @in_weights_dtype
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """``(N, C, S, S)`` to ``(N, O, So, So)``."""
        size, kernel, padding = x.shape[2], self.kernel_size[0], int(self.padding[0])
        if x.shape[2] != x.shape[3] or not pays(size, kernel, padding):
            return super().forward(x.contiguous(memory_format=torch.channels_last))
        given = transforms(size, kernel, padding, x.dtype, x.device)
        if self._spectrum is None:
            count = self.weight.shape[0] * self.weight.shape[1]
            made = self._space.take((len(given.to_products), count), self.weight)
            self._spectrum = kernel_spectrum(self.weight.detach(), given, made)
        differentiate = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        y: Tensor = _Convolve.apply(  # type: ignore[no-untyped-call]
            x, self.weight, self._spectrum, given, self._space, differentiate
        )
        return y
