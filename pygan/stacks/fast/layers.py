"""Which layer is computed how in the fast step. Every fast layer holds the idiomatic one's own parameters.

Maps travel in channels-last memory, which oneDNN's convolutions and the products over patches and frequencies prefer;
shapes and values mean the same as in the idiomatic layers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pygan.recipes.dropout import Dropout
from pygan.stacks.fast import LAYER_CHANGES
from pygan.stacks.fast.dense import SharedLinear
from pygan.stacks.fast.fourier import FourierConvTranspose2d
from pygan.stacks.fast.norm import FastBatchNorm1d, FastBatchNorm2d, fast_norm
from pygan.stacks.fast.patches import PatchConv2d, PatchConvTranspose2d


class FastDropout(Dropout):
    """``Dropout`` whose pattern is brought to the memory order of what it drops."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with units dropped in train mode; unchanged in eval mode."""
        if not self.training or self.source is None:
            return super().forward(x)
        return x * self.kept(x).mul_(self.scale)

    def kept(self, x: Tensor) -> Tensor:
        """1 where a unit of ``x`` stays and 0 where it is dropped, in its dtype and memory order; the caller's own."""
        assert self.source is not None
        last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if last else torch.contiguous_format
        return self.source(tuple(x.shape), self.p).to(x.dtype, memory_format=order, copy=True)


class ChannelsLastConv2d(nn.Conv2d):
    """``nn.Conv2d`` in channels-last memory."""

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, H, W)`` to ``(N, O, h, w)``."""
        return super().forward(_last(input))


class ChannelsLastConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` in channels-last memory."""

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        """``(N, C, h, w)`` to ``(N, O, H, W)``."""
        return super().forward(_last(input))


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def untouched(layer: nn.Module) -> bool:
    """Is nothing hooked to ``layer`` and its ``forward`` its own, so that it may be computed together with others?"""
    return not (layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer))


Report = Callable[[Tensor], None]
"""Takes the on/off pattern of a relu or leaky relu: True where the unit was on."""


class Reported:
    """A relu or leaky relu whose pattern goes to ``report`` in every call, until this is removed."""

    def __init__(self, reports: dict[nn.Module, Report], kink: nn.Module, report: Report) -> None:
        self._reports, self._kink = reports, kink
        reports[kink] = report

    def remove(self) -> None:
        """From now on the pattern is not reported."""
        del self._reports[self._kink]


class FastSequential(nn.Sequential):
    """``nn.Sequential`` that computes neighbours together where neither is watched.

    Patterns asked for by :meth:`report_pattern` are no reason to compute layers alone: what computes a relu or leaky
    relu together with its neighbour hands out the pattern that it computed with.
    """

    def __init__(self, *layers: Any) -> None:
        super().__init__(*layers)
        self._reports: dict[nn.Module, Report] = {}

    def report_pattern(self, kink: nn.Module, report: Report) -> Reported:
        """Give the pattern of ``kink``, a layer of this chain, to ``report`` in every call."""
        return Reported(self._reports, kink, report)

    def forward(self, x: Tensor) -> Tensor:
        """The layers in their order."""
        layers = list(self)
        at = 0
        while at < len(layers):
            layer = layers[at]
            after = layers[at + 1] if at + 1 < len(layers) else None
            joined = _JOINED.get((type(layer), type(after)))
            if joined and after is not None and untouched(layer) and untouched(after):
                report = self._reports.get(layer) or self._reports.get(after)
                x, at = joined(layer, after, x, report), at + 2
            else:
                x, at = layer(x), at + 1
                if layer in self._reports:
                    self._reports[layer](x > 0)
        return x


def _norm_relu(norm: Any, relu: Any, x: Tensor, report: Report | None) -> Tensor:
    y: Tensor = norm.and_relu(x) if isinstance(norm, FastBatchNorm1d | FastBatchNorm2d) else F.relu_(norm(x))
    if report is not None:
        report(y > 0)
    return y


def _leaky_factor(whole: Tensor, x: Tensor, slope: float) -> Tensor:
    """What leaky relu multiplies ``x`` by, times the number ``whole`` ``()``: itself where ``x`` > 0."""
    factor: Tensor = torch.ops.aten.leaky_relu_backward(whole, x, slope, False)
    return factor


class _LeakyDropout(torch.autograd.Function):
    """``leaky_relu(x) * keep * scale`` in the memory of ``x``, as the product of ``x`` with one factor, which is kept.

    The pattern is read from that factor, before the units that are dropped become 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float, slope: float, report: Report | None) -> Tensor:
        whole = x.new_full((), scale)
        factor = _leaky_factor(whole, x, slope)
        if report is not None:
            report(factor == whole)
        factor.mul_(keep)
        ctx.mark_dirty(x.mul_(factor))
        ctx.save_for_backward(factor)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (factor,) = ctx.saved_tensors
        return gradient * factor, None, None, None, None


def _leaky_dropout(leaky: Any, dropout: Any, x: Tensor, report: Report | None) -> Tensor:
    if not (x.requires_grad and dropout.training and dropout.source is not None):
        y: Tensor = leaky(x)
        if report is not None:
            report(y > 0)
        return dropout(y)  # type: ignore[no-any-return]
    given = dropout.kept(x), dropout.scale, leaky.negative_slope, report
    y = _LeakyDropout.apply(x, *given)  # type: ignore[no-untyped-call]
    return y


def _flatten_dense(flatten: Any, dense: Any, x: Tensor, _: Report | None) -> Tensor:
    """The weights are brought to the order of the maps, which are larger."""
    if x.dim() != 4 or (flatten.start_dim, flatten.end_dim) != (1, -1):
        return dense(flatten(x))  # type: ignore[no-any-return]
    weight = dense.weight.view(-1, *x.shape[1:]).permute(0, 2, 3, 1).flatten(1)
    return F.linear(x.permute(0, 2, 3, 1).flatten(1), weight, dense.bias)


_JOINED: dict[tuple[Any, Any], Any] = {
    (nn.BatchNorm1d, nn.ReLU): _norm_relu,
    (nn.BatchNorm2d, nn.ReLU): _norm_relu,
    (FastBatchNorm1d, nn.ReLU): _norm_relu,
    (FastBatchNorm2d, nn.ReLU): _norm_relu,
    (nn.LeakyReLU, FastDropout): _leaky_dropout,
    (nn.Flatten, nn.Linear): _flatten_dense,
}


def fast_network(network: nn.Module, changes: Collection[str] = LAYER_CHANGES) -> nn.Module:
    """The fast form of a chain of layers, over its own parameters; another network stays as it is."""
    if not isinstance(network, nn.Sequential):
        return network
    layers = OrderedDict((name, fast_layer(layer, changes)) for name, layer in network.named_children())
    first, layer = next(iter(layers.items()), ("", None))
    if type(layer) is nn.Linear and "dense" in changes:
        layers[first] = shared = SharedLinear(layer.in_features, layer.out_features, layer.bias is not None, "meta")
        shared.weight, shared.bias = layer.weight, layer.bias
    kind = FastSequential if "joined" in changes else nn.Sequential
    return kind(layers).train(network.training)


def fast_layer(layer: nn.Module, changes: Collection[str] = LAYER_CHANGES) -> nn.Module:
    """The fast form of one layer, with its own parameters; itself where there is none."""
    if type(layer) is Dropout and "memory" in changes:
        return FastDropout(layer.p, layer.scale)
    if "norm" in changes:
        layer = fast_norm(layer)
    if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) or layer.padding_mode != "zeros":
        return layer
    plain = layer.groups == 1 and set(layer.dilation) == {1}
    kernel, stride = layer.kernel_size, layer.stride
    square = kernel[0] == kernel[1] and stride[0] == stride[1] and isinstance(layer.padding, tuple)
    square = square and layer.padding[0] == layer.padding[1]
    kind: type[nn.Module] | None = None
    last = "memory" in changes
    if type(layer) is nn.Conv2d:
        patches = plain and square and layer.in_channels == 1 and "patches" in changes
        kind = PatchConv2d if patches else ChannelsLastConv2d if last else None
    elif type(layer) is nn.ConvTranspose2d:
        kind = ChannelsLastConvTranspose2d if last else None
        bare = plain and square and layer.bias is None and set(layer.output_padding) == {0}
        if bare and layer.out_channels == 1 and "patches" in changes:
            kind = PatchConvTranspose2d
        elif bare and stride[0] == 1 and "fourier" in changes:
            kind = FourierConvTranspose2d
    return layer if kind is None else _rebuilt(layer, kind)


def _rebuilt(layer: Any, kind: Any) -> nn.Module:
    """A layer of ``kind`` with the numbers and the very parameters of ``layer``."""
    more = {"output_padding": layer.output_padding} if isinstance(layer, nn.ConvTranspose2d) else {}
    made = kind(
        layer.in_channels, layer.out_channels, layer.kernel_size, stride=layer.stride, padding=layer.padding,
        groups=layer.groups, dilation=layer.dilation, bias=layer.bias is not None, device="meta", **more,
    )  # fmt: skip
    made.weight, made.bias = layer.weight, layer.bias
    return made  # type: ignore[no-any-return]
