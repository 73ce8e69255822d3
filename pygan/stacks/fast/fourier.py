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

from pygan.stacks.fast.patches import empty_maps, in_weights_dtype, rows_of


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

    Products are made in parts along T, about as large as the activations beside them: larger blocks would come and
    go between those and leave gaps that nothing else fills.

    With ``differentiate`` the products of ``x`` are kept for the gradient by weight. Those of the kernels are as many
    and cheaper to make anew than to hold while the next network's activations need the memory.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, spectrum: list[Tensor], given: Transforms, differentiate: bool
    ) -> Tensor:
        ctx.given = given
        spread = [to_products(x, part) for part in in_parts(given.to_products)]
        if differentiate:
            ctx.save_for_backward(weight)
            ctx.spread = spread  # not saved: the gradient by weight is its last use, before others need memory
        products = x.new_empty(len(given.to_output), len(x), weight.shape[1])
        for one, other, out in zip(spread, spectrum, in_parts(products), strict=True):
            torch.bmm(one.transpose(0, 1), other, out=out)
        del spread, one
        y, rows = _empty_rows(x, weight.shape[1], given.to_output)
        _from_products(rows, products, given.to_output)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        given, spread = ctx.given, ctx.spread
        if spread is None:
            raise RuntimeError("this call was differentiated once already and keeps nothing; call the layer again")
        back = to_products(gradient, given.to_output).transpose(0, 1)
        by_input = by_weight = None
        if ctx.needs_input_grad[1]:
            by_weight = _by_weight(spread, back, given.kernel_to_products).view(weight.shape)
        ctx.spread = spread = None
        if ctx.needs_input_grad[0]:
            by_input, rows = _empty_rows(gradient, weight.shape[0], given.to_products)
            matrices = (in_parts(one) for one in (back, given.kernel_to_products, given.to_products))
            for at, (one, kernels, matrix) in enumerate(zip(*matrices, strict=True)):
                spectrum = kernel_spectrum(weight, kernels).transpose(1, 2)
                _from_products(rows, torch.bmm(one, spectrum), matrix, add=at > 0)
                del spectrum
        return by_input, by_weight, None, None, None


def in_parts(products: Tensor) -> tuple[Tensor, ...]:
    """Two parts along T, which comes first."""
    return products.chunk(2)


def _by_weight(spread: list[Tensor], back: Tensor, matrix: Tensor) -> Tensor:
    """From products of inputs ``(N, T, C)``, in parts, and of gradients ``(T, N, O)``: ``(C O, K^2)``."""
    made = matrix.new_empty(spread[0].shape[2] * back.shape[2], matrix.shape[1])
    for at, (one, other, part) in enumerate(zip(spread, in_parts(back), in_parts(matrix), strict=True)):
        made.addmm_(torch.bmm(one.permute(1, 2, 0), other).flatten(1).t(), part, beta=float(at > 0))
    return made


def to_products(x: Tensor, matrix: Tensor) -> Tensor:
    """``(N, C, S, S)`` to the factors of products ``(N, T, C)``."""
    return torch.matmul(matrix, rows_of(x).view(len(x), -1, x.shape[1]))


def _empty_rows(like: Tensor, channels: int, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Maps ``(N, O, S, S)`` to which ``matrix`` ``(T, S^2)`` leads, and their memory as rows ``(N, S^2, O)``."""
    places = matrix.shape[1]
    maps, rows = empty_maps(like, len(like), channels, (round(places**0.5),) * 2)
    return maps, rows.view(len(like), places, channels)


def _from_products(rows: Tensor, products: Tensor, matrix: Tensor, add: bool = False) -> None:
    """What products ``(T, N, O)`` give ``rows`` ``(N, S^2, O)``, in place of what these hold or added to it."""
    rows.baddbmm_(matrix.t().expand(len(rows), -1, -1), products.transpose(0, 1), beta=float(add))


def kernel_spectrum(weight: Tensor, matrix: Tensor) -> Tensor:
    """Kernels ``(C, O, K, K)`` to products ``(T, C, O)``."""
    return torch.bmm(matrix.expand(len(weight), -1, -1), weight.flatten(2).transpose(1, 2)).transpose(0, 1)


class FourierConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` of stride 1, without bias, by transforms where they pay, as on small square maps.

    A call without gradients keeps the spectrum of the kernels for the next one; whoever changes the weights must call
    :meth:`forget`.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._spectrum: list[Tensor] | None = None

    def forget(self) -> None:
        """The weights have changed."""
        self._spectrum = None

    @in_weights_dtype
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """``(N, C, S, S)`` to ``(N, O, So, So)``."""
        size, kernel, padding = x.shape[2], self.kernel_size[0], int(self.padding[0])
        if x.shape[2] != x.shape[3] or not pays(size, kernel, padding):
            return super().forward(x.contiguous(memory_format=torch.channels_last))
        given = transforms(size, kernel, padding, x.dtype, x.device)
        spectrum = self._spectrum
        if spectrum is None:
            spectrum = [kernel_spectrum(self.weight.detach(), part) for part in in_parts(given.kernel_to_products)]
        differentiate = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        self._spectrum = None if differentiate else spectrum
        y: Tensor = _Convolve.apply(x, self.weight, spectrum, given, differentiate)  # type: ignore[no-untyped-call]
        return y
