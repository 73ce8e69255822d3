"""BatchNorm over rows of channels, with relu where it follows: few passes over the memory, sums at rounding.

torch's own kernel for channels-last maps adds a channel's values one after the other in Float32, whose error grows with
their number; torch's sums over rows add in cascades, which keep it at rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pygan.stacks.fast.patches import empty_maps, rows_of


def _rows(x: Tensor) -> Tensor:
    """Maps ``(N, C, h, w)`` as ``(N h w, C)``; features ``(N, C)`` as they are."""
    return x if x.dim() == 2 else rows_of(x)


def _empty_like(x: Tensor) -> tuple[Tensor, Tensor]:
    """A tensor of the shape of ``x``, channels-last, and its rows."""
    if x.dim() == 2:
        made = torch.empty_like(x, memory_format=torch.contiguous_format)
        return made, made
    return empty_maps(x, x.shape[0], x.shape[1], x.shape[2:])


class _Normalise(torch.autograd.Function):
    """``weight (x - mean) / sqrt(var + eps) + bias`` with the batch's own mean and (biased) variance, and those two.

    With ``relu`` its positive part.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        rows = _rows(x)
        mean = rows.sum(0) / len(rows)
        centred = rows - mean
        y, out = _empty_like(x)
        variance = torch.mul(centred, centred, out=out).sum(0) / len(rows)
        inverse = (variance + eps).rsqrt()
        torch.addcmul(bias, centred, weight * inverse, out=out)
        if relu:
            out.relu_()
        ctx.relu = relu
        # maps are kept by the convolution that follows anyway, features by nobody else
        ctx.save_for_backward(centred, inverse, weight, bias, y if relu and x.dim() == 4 else None)
        ctx.mark_non_differentiable(mean, variance)
        return y, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        centred, inverse, weight, bias, y = ctx.saved_tensors
        g = _rows(gradient)
        if ctx.relu:
            y = torch.addcmul(bias, centred, weight * inverse) if y is None else _rows(y)
            g = torch.ops.aten.threshold_backward(g, y, 0)
            del y
        by_x, out = _empty_like(gradient)
        by_bias = g.sum(0)
        along = torch.mul(g, centred, out=out).sum(0)
        scale = weight * inverse
        torch.addcmul(-scale * by_bias / len(g), centred, -scale * inverse**2 * along / len(g), out=out)
        out.addcmul_(g, scale)
        return by_x, along * inverse, by_bias, None, None


class _FastBatchNorm(nn.modules.batchnorm._BatchNorm):
    """What both fast layers do in train mode; in eval mode they are torch's."""

    def normalised(self, x: Tensor, relu: bool) -> Tensor:
        """The layer in train mode; with ``relu`` its positive part. Updates the running statistics as torch does."""
        x = x.to(self.weight.dtype)  # under autocast a product may have come in bfloat16
        y: Tensor
        y, mean, variance = _Normalise.apply(x, self.weight, self.bias, self.eps, relu)  # type: ignore[no-untyped-call]
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
            assert self.num_batches_tracked is not None
            self.running_mean.mul_(1 - self.momentum).add_(mean, alpha=self.momentum)
            self.running_var.mul_(1 - self.momentum).add_(variance, alpha=self.momentum * count / (count - 1))
            self.num_batches_tracked.add_(1)
        return y

    def and_relu(self, x: Tensor) -> Tensor:
        """The layer's positive part."""
        return self.normalised(x, True) if self.training else F.relu_(super().forward(x))

    def forward(self, input: Tensor) -> Tensor:
        """The layer."""
        return self.normalised(input, False) if self.training else super().forward(input)


class FastBatchNorm1d(_FastBatchNorm, nn.BatchNorm1d):
    """``nn.BatchNorm1d`` of features ``(N, C)``."""


class FastBatchNorm2d(_FastBatchNorm, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` of maps ``(N, C, h, w)``; the result lies channels-last."""


def fast_norm(layer: nn.Module) -> nn.Module:
    """The fast form of a BatchNorm over its own parameters and buffers; another layer, or a variant, as it is."""
    kinds: dict[type[nn.Module], type[Any]] = {nn.BatchNorm1d: FastBatchNorm1d, nn.BatchNorm2d: FastBatchNorm2d}
    if type(layer) not in kinds:
        return layer
    given: Any = layer
    if not given.affine or not given.track_running_stats or given.momentum is None:
        return layer
    made = kinds[type(layer)](given.num_features, given.eps, given.momentum, device="meta")
    made.weight, made.bias = given.weight, given.bias
    for name, buffer in given.named_buffers():
        setattr(made, name, buffer)
    return made  # type: ignore[no-any-return]
