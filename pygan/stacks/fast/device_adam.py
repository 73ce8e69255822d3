"""Optimisers.jl's Adam without a look at the device from the host, so that a CUDA graph can hold its step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from pygan.errors import ConfigError
from pygan.recipes.adam import OptimisersAdam

_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


class DeviceAdam(OptimisersAdam):
    """:class:`~pygan.recipes.adam.OptimisersAdam`, the same operations in the same order, for a network at a time.

    The running products of betas lie beside the parameters, one ``(2,)`` tensor for all of them, since all are updated
    together. Rate, betas and eps are numbers on the host: a captured graph keeps those of its capture.
    """

    def __init__(self, params: Iterable[Any], lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, lr, betas, eps)
        (group,) = self.param_groups
        first = group["params"][0]
        power = torch.tensor(betas, dtype=first.dtype, device=first.device)
        for x in group["params"]:
            self.state[x]["beta_power"] = power

    @classmethod
    def like(cls, plain: Optimizer) -> DeviceAdam:
        """A fresh one for the parameters of ``plain``, with its numbers. Raises ``ConfigError`` for another kind."""
        if not isinstance(plain, OptimisersAdam) or len(plain.param_groups) != 1:
            raise ConfigError(
                f"the graph step has no form of {type(plain).__name__} with {len(plain.param_groups)} groups of "
                "parameters, only of OptimisersAdam with one; use the fast or the idiomatic step"
            )
        group = plain.param_groups[0]
        return cls(group["params"], group["lr"], group["betas"], group["eps"])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters; none where none has a gradient. Raises ``ConfigError`` where only some have."""
        loss = None if closure is None else closure()
        (group,) = self.param_groups
        xs: list[Tensor] = group["params"]
        gs = [x.grad for x in xs if x.grad is not None]
        if not gs:
            return loss
        if len(gs) < len(xs):
            raise ConfigError(
                f"{len(xs) - len(gs)} of {len(xs)} parameters of a network have no gradient; the graph step updates "
                "all or none, use the fast or the idiomatic step"
            )
        self._update_all(xs, gs, group)
        return loss

    def _update_all(self, xs: list[Tensor], gs: list[Tensor], group: dict[str, Any]) -> None:
        ms, vs = ([self.state[x][name] for x in xs] for name in ("exp_avg", "exp_avg_sq"))
        power = self.state[xs[0]]["beta_power"]
        betas = np.array(group["betas"], _NUMPY[power.dtype])
        (b1, b2), (rest1, rest2) = betas.tolist(), (1 - betas).tolist()
        correction1, correction2 = (1 - power).unbind()
        torch._foreach_mul_(ms, b1)
        torch._foreach_add_(ms, torch._foreach_mul(gs, rest1))
        squares = torch._foreach_mul(gs, gs)
        torch._foreach_mul_(squares, rest2)
        torch._foreach_mul_(vs, b2)
        torch._foreach_add_(vs, squares)
        steps, roots = torch._foreach_div(ms, correction1), torch._foreach_div(vs, correction2)
        torch._foreach_sqrt_(roots)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_div_(steps, roots)
        torch._foreach_mul_(steps, group["lr"])
        torch._foreach_sub_(xs, steps)
        torch._foreach_mul_(list(power.unbind()), [b1, b2])
