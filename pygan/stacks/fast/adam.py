"""Optimisers.jl's Adam through torch's fused kernel: one pass over the memory in place of fourteen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.adam import adam

from pygan.recipes.adam import OptimisersAdam


class FusedAdam(OptimisersAdam):
    """:class:`~pygan.recipes.adam.OptimisersAdam` to rounding, over the same state.

    torch's kernel computes the corrections 1 - beta^t itself. It is always told that t = 1, and the two corrections
    that Optimisers.jl would use, from its running products of betas, go into the rate and eps instead:

        lr m / c1 / (sqrt(v / c2) + eps)  =  lr' m / (1 - b1) / (sqrt(v / (1 - b2)) + eps')
        with  s = sqrt(c2 / (1 - b2)),  lr' = lr s (1 - b1) / c1,  eps' = eps s
    """

    @classmethod
    def over(cls, plain: Optimizer) -> Optimizer:
        """The fused form of ``plain``, over its own groups and state; an optimiser of another kind stays as it is."""
        if type(plain) is not OptimisersAdam:
            return plain
        made = cls.__new__(cls)  # its constructor would make moments of its own
        made.__setstate__(plain.__getstate__())
        return made

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient, all that stand at the same step in one call."""
        if "_update" in vars(self):  # somebody computes single updates in another way
            return super().step(closure)
        loss = None if closure is None else closure()
        for group in self.param_groups:
            together: dict[tuple[float, ...], list[Tensor]] = {}
            for x in group["params"]:
                if x.grad is not None:
                    together.setdefault(tuple(self.state[x]["beta_power"].tolist()), []).append(x)
            for parameters in together.values():
                _update([(x, x.grad, self.state[x]) for x in parameters], group)
        return loss


def _update(parameters: Sequence[tuple[Tensor, Any, dict[str, Tensor]]], group: dict[str, Any]) -> None:
    """Update parameters ``(x, gradient, state)`` whose next update has the same number."""
    xs, gradients, states = zip(*parameters, strict=True)
    power = states[0]["beta_power"]
    betas = torch.tensor(group["betas"], dtype=power.dtype)
    b1, b2 = betas.tolist()
    c1, c2 = (1 - power).tolist()
    scale = sqrt(c2 / (1 - b2))
    adam(
        list(xs), list(gradients), [one["exp_avg"] for one in states], [one["exp_avg_sq"] for one in states], [],
        [torch.zeros((), device=x.device) for x in xs],
        fused=True, amsgrad=False, beta1=b1, beta2=b2, lr=group["lr"] * scale * (1 - b1) / c1, weight_decay=0.0,
        eps=group["eps"] * scale, maximize=False,
    )  # fmt: skip
    for one in states:
        one["beta_power"].mul_(betas)
