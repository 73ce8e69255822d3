"""Adam as Optimisers.jl 0.4 computes it (``src/rules.jl``, v0.4.8), for networks that must match Flux 0.15 or later.

Against ``torch.optim.Adam``: every constant is cast to the parameters' dtype before use, and the bias corrections
come from running products of the betas kept in that dtype (facts: flux-semantics, section 4). With g the gradient,

    m  <- b1 m + (1 - b1) g            v  <- b2 v + (1 - b2) g^2
    x  <- x - m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) * lr
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class OptimisersAdam(torch.optim.Optimizer):
    """``torch.optim.Adam`` with Optimisers.jl's arithmetic. ``lr``, ``betas`` and ``eps`` as there.

    State per parameter: ``exp_avg`` and ``exp_avg_sq`` of its shape, ``beta_power`` ``(2,)``: the products
    beta1^t and beta2^t that the next update will use (so the betas themselves before the first).
    """

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})
        for group in self.param_groups:
            for x in group["params"]:
                self.state[x] = {
                    "exp_avg": torch.zeros_like(x),
                    "exp_avg_sq": torch.zeros_like(x),
                    "beta_power": torch.tensor(betas, dtype=x.dtype),
                }

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient; one without is left alone, moments included."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for x in group["params"]:
                if x.grad is not None:
                    self._update(x, x.grad, self.state[x], group)
        return loss

    @staticmethod
    def _update(x: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        m, v, power = state["exp_avg"], state["exp_avg_sq"], state["beta_power"]
        betas = torch.tensor(group["betas"], dtype=x.dtype)
        b1, b2 = betas.tolist()
        rest1, rest2 = (1 - betas).tolist()
        correction1, correction2 = (1 - power).tolist()
        m.mul_(b1).add_(g * rest1)
        v.mul_(b2).add_((g * g).mul_(rest2))
        x.sub_((m / correction1).div_((v / correction2).sqrt_().add_(group["eps"])).mul_(group["lr"]))
        power.mul_(betas)
