"""What torch's optimisers keep of each parameter and compute with, under canonical names (:mod:`pygan.state`).

Known are :class:`~pygan.recipes.adam.OptimisersAdam`, torch's ``Adam``, ``AdamW`` and ``SGD`` with their momentum and
weight decay; Julia's twin is ``julia/src/optimisers.jl``. Of any other optimiser only the slots of these names are
kept, so that a comparison says what the reference has and it has not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from pygan.state import SLOTS


def prepare(optimiser: Optimizer) -> None:
    """Make the slots that torch would make at the first step, so that a state before it is whole."""
    for group in optimiser.param_groups:
        for x in group["params"]:
            if optimiser.state[x]:
                continue
            if isinstance(optimiser, Adam):
                zeros = {slot: torch.zeros_like(x) for slot in ("exp_avg", "exp_avg_sq")}
                optimiser.state[x] = {"step": torch.tensor(0.0), **zeros}
            elif isinstance(optimiser, SGD) and group["momentum"] and not group["dampening"]:  # else the first differs
                optimiser.state[x] = {"momentum_buffer": torch.zeros_like(x)}


def slots_of(optimiser: Optimizer, x: nn.Parameter) -> dict[str, Tensor]:
    """What is kept of one parameter, by slot, not copied."""
    held = optimiser.state.get(x, {})
    return {slot: held[slot] for slot in SLOTS if isinstance(held.get(slot), Tensor)}


def beta_powers(optimiser: Optimizer) -> np.ndarray | None:
    """``(2,)`` products of Adam's betas that its next update will use; None for a rule without bias correction."""
    group = optimiser.param_groups[0]
    for x in group["params"]:
        held = optimiser.state.get(x, {})
        if "beta_power" in held:
            return np.array(held["beta_power"].detach().cpu().numpy())
        if isinstance(optimiser, Adam) and "step" in held:
            powers = np.array(group["betas"]) ** (float(held["step"]) + 1)
            return powers.astype(np.float32 if x.dtype == torch.float32 else np.float64)
    return None


def set_beta_powers(optimiser: Optimizer, powers: np.ndarray) -> None:
    """Continue from such products."""
    for group in optimiser.param_groups:
        for x in group["params"]:
            held = optimiser.state.get(x, {})
            if "beta_power" in held:
                held["beta_power"].copy_(torch.from_numpy(powers))
            elif "step" in held:
                held["step"] = torch.tensor(float(_factors(powers, group["betas"]) - 1))


def _factors(powers: np.ndarray, betas: tuple[float, float]) -> int:
    """How many updates' betas are in the products."""
    known = ((p, b) for p, b in zip(powers.tolist(), betas, strict=True) if 0 < b < 1 and 0 < p < 1)
    return next((max(1, round(math.log(p) / math.log(b))) for p, b in known), 1)


def numbers_of(optimiser: Optimizer) -> Mapping[str, float]:
    """The numbers of an optimiser's rule, as the run computes with them: of Adam ``lr``, ``beta1``, ``beta2``,
    ``eps``; of SGD ``lr``, ``momentum``, ``nesterov`` (0 or 1); of both ``weight_decay``, and ``decoupled`` where
    Adam takes it off the parameter itself (AdamW)."""
    group = optimiser.param_groups[0]
    numbers = {"lr": float(group["lr"])}
    if "betas" in group:
        numbers |= {"beta1": group["betas"][0], "beta2": group["betas"][1], "eps": group["eps"]}
    if isinstance(optimiser, SGD):
        numbers |= {"momentum": group["momentum"], "nesterov": float(group["nesterov"])}
    if decay := group.get("weight_decay", 0):
        decoupled = group.get("decoupled_weight_decay", isinstance(optimiser, torch.optim.AdamW))
        numbers |= {"weight_decay": decay, "decoupled": float(decoupled)}
    return numbers
