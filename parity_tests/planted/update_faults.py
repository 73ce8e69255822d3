"""Planted bugs in torch's optimiser: rates, moments, corrections, updates that are left out."""

from __future__ import annotations

from typing import Any

import torch
from numpy.random import Generator
from torch import Tensor

from planted.fault import Fault, Planted, catalogue, factor, pick
from pygan.recipes.adam import OptimisersAdam
from pygan.stacks.torch_stack import TorchStack

FAULTS: list[Fault] = []


def group_of(stack: TorchStack, rng: Generator) -> tuple[str, dict[str, Any]]:
    """A network by chance, and the numbers of its Adam."""
    name, optimiser = pick(rng, stack.optimisers)
    return name, optimiser.param_groups[0]


def parameter_of(stack: TorchStack, rng: Generator) -> tuple[str, Tensor, OptimisersAdam]:
    """A parameter by chance, and the Adam that updates it."""
    name, optimiser = pick(rng, stack.optimisers)
    path, parameter = pick(rng, dict(stack.networks[name].named_parameters()))
    return f"{name}.{path}", parameter, optimiser


class Update:
    """Optimisers.jl's Adam written out, so that a fault can change one of its lines."""

    def __init__(self, only: Tensor | None = None) -> None:
        self.only, self._own = only, OptimisersAdam._update

    def __call__(self, x: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        if self.only is not None and x is not self.only:
            return self._own(x, g, state, group)
        g = self.gradient(x, g)
        b1, b2 = group["betas"]
        m, v, power = state["exp_avg"], state["exp_avg_sq"], state["beta_power"]
        m.mul_(b1).add_(g * (1 - b1))
        v.mul_(b2).add_(g * g * (1 - b2))
        c1, c2 = self.corrections(*(1 - power).tolist(), b1, b2)
        moved = self.moment(m / c1, g, power, b1) / self.root(v / c2, group["eps"])
        x.sub_(group["lr"] * moved + self.decay(x, group["lr"]))
        power.mul_(torch.tensor([b1, b2], dtype=x.dtype))

    def gradient(self, x: Tensor, g: Tensor) -> Tensor:
        """The gradient that enters the moments."""
        return g

    def corrections(self, c1: float, c2: float, b1: float, b2: float) -> tuple[float, float]:
        """What the moments are divided by."""
        return c1, c2

    def moment(self, m: Tensor, g: Tensor, power: Tensor, b1: float) -> Tensor:
        """The step before it is divided."""
        return m

    def root(self, v: Tensor, eps: float) -> Tensor:
        """What the step is divided by."""
        return v.sqrt() + eps

    def decay(self, x: Tensor, lr: float) -> Tensor | float:
        """What is taken from the parameter besides."""
        return 0.0


def updates_by(stack: TorchStack, rng: Generator, update: Update) -> Planted:
    """One network's Adam computes as ``update``."""
    name, optimiser = pick(rng, stack.optimisers)
    optimiser._update = update
    return Planted(name)


# --- numbers -------------------------------------------------------------------------------------------------


@catalogue(FAULTS, "learning rate")
def learning_rate(stack: TorchStack, rng: Generator) -> Planted:
    """A network's learning rate is off by a relative 1e-4 to a factor of 10."""
    name, group = group_of(stack, rng)
    group["lr"] *= factor(rng, 1.1, 10) if rng.integers(2) else 1 + float(10 ** rng.uniform(-4, -1))
    return Planted(name, f"{group['lr']:.5g}")


@catalogue(FAULTS, "beta1")
def beta1(stack: TorchStack, rng: Generator) -> Planted:
    """A network's beta1 lies between 0 and 0.89: the DCGAN paper's 0.5 is the classic."""
    name, group = group_of(stack, rng)
    group["betas"] = (0.5 if rng.integers(2) else float(rng.uniform(0, 0.89)), group["betas"][1])
    return Planted(name, f"{group['betas'][0]:.3g}")


@catalogue(FAULTS, "beta2")
def beta2(stack: TorchStack, rng: Generator) -> Planted:
    """A network's beta2 lies between 0.9 and 0.998."""
    name, group = group_of(stack, rng)
    group["betas"] = (group["betas"][0], float(rng.uniform(0.9, 0.998)))
    return Planted(name, f"{group['betas'][1]:.4g}")


@catalogue(FAULTS, "Adam eps")
def adam_eps(stack: TorchStack, rng: Generator) -> Planted:
    """A network's eps is 10 to 1000 times too large or too small."""
    name, group = group_of(stack, rng)
    group["eps"] *= factor(rng, 10, 1000)
    return Planted(name, f"{group['eps']:.2e}")


@catalogue(FAULTS, "betas swapped")
def betas_swapped(stack: TorchStack, rng: Generator) -> Planted:
    """A network's two betas are exchanged."""
    name, group = group_of(stack, rng)
    group["betas"] = group["betas"][::-1]
    return Planted(name)


@catalogue(FAULTS, "learning rate", shows=1)
def learning_rate_decays(stack: TorchStack, rng: Generator) -> Planted:
    """A network's learning rate is 0.5 to 0.99 of the published one from the second step on."""
    name, optimiser = pick(rng, stack.optimisers)
    group, own, right = optimiser.param_groups[0], optimiser.step, optimiser.param_groups[0]["lr"]
    share = float(rng.uniform(0.5, 0.99))

    def step(closure: Any = None) -> Any:
        group["lr"] = right * share if stack._steps > 0 else right
        return own(closure)

    optimiser.step = step
    return Planted(name, f"times {share:.3g}")


# --- formula -------------------------------------------------------------------------------------------------


@catalogue(FAULTS, "Adam eps inside the root")
def eps_inside_the_root(stack: TorchStack, rng: Generator) -> Planted:
    """A network's step divides by sqrt(v + eps) in place of sqrt(v) + eps."""

    class Inside(Update):
        def root(self, v: Tensor, eps: float) -> Tensor:
            return (v + eps).sqrt()

    return updates_by(stack, rng, Inside())


@catalogue(FAULTS, "no bias correction")
def no_bias_correction(stack: TorchStack, rng: Generator) -> Planted:
    """A network's moments are used as they are."""

    class Uncorrected(Update):
        def corrections(self, c1: float, c2: float, b1: float, b2: float) -> tuple[float, float]:
            return 1.0, 1.0

    return updates_by(stack, rng, Uncorrected())


@catalogue(FAULTS, "stale beta powers", shows=1)
def bias_correction_of_the_first_step(stack: TorchStack, rng: Generator) -> Planted:
    """A network's bias correction stays that of the first step, where nothing can be seen of it."""

    class Frozen(Update):
        def corrections(self, c1: float, c2: float, b1: float, b2: float) -> tuple[float, float]:
            return 1 - b1, 1 - b2

    return updates_by(stack, rng, Frozen())


@catalogue(FAULTS, "stale beta powers")
def powers_of_beta_not_advanced(stack: TorchStack, rng: Generator) -> Planted:
    """A network's running powers of beta stay what they were."""

    class Standing(Update):
        def __call__(self, x: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
            power = state["beta_power"].clone()
            super().__call__(x, g, state, group)
            state["beta_power"].copy_(power)

    return updates_by(stack, rng, Standing())


@catalogue(FAULTS, "weight decay", "weight decay in the gradient")
def weight_decay_in_the_gradient(stack: TorchStack, rng: Generator) -> Planted:
    """A network's gradients carry 1e-5 to 1e-2 of the weights."""
    size = float(10 ** rng.uniform(-5, -2))

    class Decayed(Update):
        def gradient(self, x: Tensor, g: Tensor) -> Tensor:
            return g + size * x

    return Planted(updates_by(stack, rng, Decayed()).place, f"{size:.1e}")


@catalogue(FAULTS, "weight decay")
def weight_decay_apart(stack: TorchStack, rng: Generator) -> Planted:
    """A network's weights lose lr times 1e-4 to 1e-1 of themselves, as in AdamW."""
    size = float(10 ** rng.uniform(-4, -1))

    class Decayed(Update):
        def decay(self, x: Tensor, lr: float) -> Tensor:
            return lr * size * x

    return Planted(updates_by(stack, rng, Decayed()).place, f"{size:.1e}")


@catalogue(FAULTS, "weight decay", "weight decay in the gradient", shows=1)
def weight_decay_on_biases_only(stack: TorchStack, rng: Generator) -> Planted:
    """A network's gradients carry 1e-3 to 1e-1 of the biases, which start at zero: the weights have none."""
    name, optimiser = pick(rng, stack.optimisers)
    size = float(10 ** rng.uniform(-3, -1))
    biases = {id(x) for path, x in stack.networks[name].named_parameters() if path.endswith("bias")}

    class Decayed(Update):
        def gradient(self, x: Tensor, g: Tensor) -> Tensor:
            return g + size * x if id(x) in biases else g

    optimiser._update = Decayed()
    return Planted(name, f"{size:.1e}")


@catalogue(FAULTS, "gradient clipped")
def gradient_clipped(stack: TorchStack, rng: Generator) -> Planted:
    """A network's gradients are clipped to half their own largest value before the update."""

    class Clipped(Update):
        def gradient(self, x: Tensor, g: Tensor) -> Tensor:
            top = float(g.abs().max()) / 2
            return g.clamp(-top, top)

    return updates_by(stack, rng, Clipped())


# --- other rules -------------------------------------------------------------------------------------------------


@catalogue(FAULTS, "other optimiser", "carried over from earlier steps", shows=1)
def amsgrad(stack: TorchStack, rng: Generator) -> Planted:
    """A network's Adam has ``amsgrad=True``: the largest second moment so far lives outside the state."""

    class Amsgrad(Update):
        def __init__(self) -> None:
            super().__init__()
            self.tops: dict[int, Tensor] = {}

        def gradient(self, x: Tensor, g: Tensor) -> Tensor:
            self.at = id(x)
            return g

        def corrections(self, c1: float, c2: float, b1: float, b2: float) -> tuple[float, float]:
            self.c2 = c2
            return c1, c2

        def root(self, v: Tensor, eps: float) -> Tensor:
            top = self.tops[self.at] = torch.maximum(self.tops.get(self.at, v * self.c2), v * self.c2)
            return super().root(top / self.c2, eps)

    return updates_by(stack, rng, Amsgrad())


@catalogue(FAULTS, "other optimiser")
def nadam(stack: TorchStack, rng: Generator) -> Planted:
    """A network is trained by NAdam."""

    class Nadam(Update):
        def moment(self, m: Tensor, g: Tensor, power: Tensor, b1: float) -> Tensor:
            now = float(power[0])
            return b1 * m * (1 - now) / (1 - now * b1) + (1 - b1) * g / (1 - now)

    return updates_by(stack, rng, Nadam())


@catalogue(FAULTS, "other optimiser")
def rmsprop(stack: TorchStack, rng: Generator) -> Planted:
    """A network is trained by RMSprop: no first moment, no corrections; the state's slots for them stay."""

    class RMSprop(Update):
        def __call__(self, x: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
            beta, v = group["betas"][1], state["exp_avg_sq"]
            v.mul_(beta).add_(g * g * (1 - beta))
            x.sub_(group["lr"] * g / (v.sqrt() + group["eps"]))

    return updates_by(stack, rng, RMSprop())


# --- steps left out, done twice, done otherwise ------------------------------------------------------------------


@catalogue(FAULTS, "sign of the update")
def update_uphill(stack: TorchStack, rng: Generator) -> Planted:
    """A network climbs its loss: the step is added."""

    class Uphill(Update):
        def root(self, v: Tensor, eps: float) -> Tensor:
            return -super().root(v, eps)

    return updates_by(stack, rng, Uphill())


@catalogue(FAULTS, "missing update")
def parameter_never_updated(stack: TorchStack, rng: Generator) -> Planted:
    """One parameter is left out of the update, moments included."""
    path, parameter, optimiser = parameter_of(stack, rng)
    own = OptimisersAdam._update
    optimiser._update = lambda x, g, state, group: None if x is parameter else own(x, g, state, group)
    return Planted(path)


@catalogue(FAULTS, "moments not kept")
def moments_not_kept(stack: TorchStack, rng: Generator) -> Planted:
    """One parameter is updated by its gradient while its stored moments stay what they were."""
    path, parameter, optimiser = parameter_of(stack, rng)
    own = OptimisersAdam._update

    def update(x: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        kept = {slot: state[slot].clone() for slot in ("exp_avg", "exp_avg_sq")}
        own(x, g, state, group)
        if x is parameter:
            for slot, value in kept.items():
                state[slot].copy_(value)

    optimiser._update = update
    return Planted(path)


@catalogue(FAULTS, "update applied twice")
def parameter_updated_twice(stack: TorchStack, rng: Generator) -> Planted:
    """One parameter is in the optimiser twice."""
    path, parameter, optimiser = parameter_of(stack, rng)
    own = OptimisersAdam._update

    def update(x: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        own(x, g, state, group)
        if x is parameter:
            own(x, g, state, group)

    optimiser._update = update
    return Planted(path)
