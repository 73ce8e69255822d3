"""A dense layer that two calls of one step share: the noise that is judged as fakes is the one the generator trains on.

Between the two calls the generator's parameters stand still, so that its first layer, which no BatchNorm precedes,
gives the same features in eval and in train mode.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _Known(torch.autograd.Function):
    """``x W^T + b`` whose value is known."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, value: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return value.detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        by_x = gradient @ weight if ctx.needs_input_grad[0] else None
        by_weight = gradient.t() @ x if ctx.needs_input_grad[1] else None
        by_bias = gradient.sum(0) if ctx.needs_input_grad[2] else None
        return by_x, by_weight, by_bias, None


class SharedLinear(nn.Linear):
    """``nn.Linear`` of features ``(N, in)`` that computes nothing where it was called with this input just before.

    A call without gradients keeps its result for the next call. Whoever changes the weights calls :meth:`forget`.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.forget()

    def forget(self) -> None:
        """The weights have changed."""
        self._kept: tuple[Tensor, Tensor, list[int]] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """``(N, in)`` to ``(N, out)``."""
        kept, self._kept = self._kept, None
        if kept is not None and kept[0] is input and kept[2] == self._versions(input, kept[1]):
            y: Tensor = _Known.apply(input, self.weight, self.bias, kept[1])  # type: ignore[no-untyped-call]
            return y
        y = super().forward(input)
        if input.dim() == 2 and not torch.is_grad_enabled() and not torch.is_autocast_enabled(input.device.type):
            self._kept = (input, y, self._versions(input, y))
        return y

    def _versions(self, *others: Tensor) -> list[int]:
        """How often each tensor that must not have changed was written to."""
        return [one._version for one in (self.weight, self.bias, *others) if one is not None]
