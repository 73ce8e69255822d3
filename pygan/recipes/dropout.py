"""Dropout whose pattern can come from a keyed draw instead of torch's generator."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

KeepSource = Callable[[tuple[int, ...], float], Tensor]
"""``(shape, rate) -> keep``: a tensor of ``shape``, 1 where the unit stays and 0 where it is dropped."""


class Dropout(nn.Dropout):
    """``nn.Dropout`` with an optional ``source`` of patterns and the published ``scale`` of the kept units.

    With ``source`` None it is ``nn.Dropout``. Otherwise, in train mode, ``y = x * (keep * scale)`` as Flux's
    ``Dropout`` computes it; ``scale`` is 1 / (1 - p) as rounded by the config.
    """

    def __init__(self, p: float, scale: float) -> None:
        super().__init__(p)
        self.scale = scale
        self.source: KeepSource | None = None

    def forward(self, x: Tensor) -> Tensor:
        """``x`` with units dropped in train mode; unchanged in eval mode."""
        if not self.training or self.source is None:
            return super().forward(x)
        return x * self.source(tuple(x.shape), self.p).mul_(self.scale)
