"""The referee: the recipe's idiomatic torch step in Float64, with the constants of the Float32 run, widened.

It takes a step from a Float32 run's state in three ways: as it is, with that run's on/off patterns imposed, and shaken:
every result off by the rounding of a Float32 step (:mod:`pygan.parity.rounding`). The distances of shaken steps from
the plain one say how far Float32 may end up, and no run that is judged has a say in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pygan.data import Dataset
from pygan.draws import Draws
from pygan.parity.rounding import (
    ELEMENTWISE,
    UNIT,
    LayerNoise,
    Noise,
    backward_noise,
    correction_noise,
    elementwise_backward,
    exact_power,
    forward_noise,
    update_levels,
)
from pygan.records import Arrays, StepRecord
from pygan.schedule import Schedule
from pygan.stacks.optimiser_state import beta_powers
from pygan.stacks.torch_run import KINKS, Run, to_numpy
from pygan.stacks.torch_stack import TorchStack
from pygan.state import State, widen

MEMBERS, MEMBERS_OF_MANY, MANY = 8, 4, 200_000
"""Shaken steps from each state; fewer where networks have ``MANY`` parameters or more, whose norms vary less."""


@dataclass
class Levels:
    """Noise of one step. ``levels`` are 2-norms by ``kind/name`` (one result from exact inputs), ``calls`` the noise of
    each layer's call, ``ends`` that of the gradient that a call's result gets from the loss."""

    squares: dict[str, float] = field(default_factory=dict)
    calls: dict[str, LayerNoise] = field(default_factory=dict)
    ends: dict[str, Noise] = field(default_factory=dict)
    kinks: Arrays = field(default_factory=dict)

    def add(self, key: str, square: float) -> None:
        """Count independent noise of the given squared norm."""
        self.squares[key] = self.squares.get(key, 0.0) + square

    def level(self, key: str) -> float | None:
        """The 2-norm of the noise in ``kind/name``; None where no rule covers it."""
        return None if key not in self.squares else self.squares[key] ** 0.5


class _Through(torch.autograd.Function):
    """``x`` itself; the gradient that comes back goes through ``change``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.change(gradient), None


class RefereeRun(Run):
    """A step that measures the noise of its layers, or shakes every result by noise that was measured."""

    _stack: RefereeStack

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._levels, self._shake, self._scale = self._stack.levels, self._stack.generator, self._stack.scale
        self._parameters: dict[str, Tensor] = {}

    def call(self, name: str, network: str, x: Tensor, *, train: bool) -> Tensor:
        """``network(x)``, measured or shaken layer by layer."""
        if self._levels is None:
            return super().call(name, network, x, train=train)
        hooks = []
        for path, layer in self.network(network).named_modules():
            if list(layer.children()):
                continue
            key = f"{name}/{network}.{path}"
            held: dict[str, Tensor] = {}
            hooks.append(layer.register_forward_pre_hook(self._entering(key, held)))
            hooks.append(layer.register_forward_hook(self._leaving(key, f"{network}.{path}", held)))
        try:
            result = super().call(name, network, x, train=train)
        finally:
            for hook in hooks:
                hook.remove()
        return self._ended(f"{name}/{network}", result)

    def _entering(self, key: str, held: dict[str, Tensor]) -> Any:
        def enter(layer: nn.Module, inputs: tuple[Any, ...]) -> Any:
            x = inputs[0]
            held["x"] = x.detach()
            if isinstance(layer, KINKS):
                self._seen(key, held["x"])
            if not x.requires_grad:
                return None
            source = self._made.get(id(x), ("",))[0]
            through = _Through.apply(x, lambda gradient: self._back(layer, key, source, held, gradient))  # type: ignore[no-untyped-call]
            if source:
                self._made[id(through)] = (source, through)
            return (through, *inputs[1:])

        return enter

    def _leaving(self, key: str, path: str, held: dict[str, Tensor]) -> Any:
        def leave(layer: nn.Module, _: tuple[Any, ...], y: Tensor) -> Tensor:
            levels = self._levels
            assert levels is not None
            if self._shake is None:
                noise = forward_noise(layer, held["x"], y.detach())
                levels.calls[key] = noise
                levels.add(f"activation/{key}", noise.output.square(y))
                for name, level in noise.buffers.items():
                    square = float(level.square().sum())
                    levels.add(f"buffer/{key}.{name}", square)
                    levels.add(f"state/buffer/{path}.{name}", square)
            else:
                noise = levels.calls[key]
                y = y + self._scale * noise.output.draw(y.detach(), self._shake)
                for name, level in noise.buffers.items():
                    getattr(layer, name).data += (
                        self._scale * level * torch.randn(level.shape, generator=self._shake, dtype=level.dtype)
                    )
            if y.requires_grad:
                y.register_hook(lambda gradient: self._returned(layer, key, path, held, gradient))  # type: ignore[no-untyped-call]
            return y

        return leave

    def _returned(self, layer: nn.Module, key: str, path: str, held: dict[str, Tensor], gradient: Tensor) -> None:
        """The gradient of a layer's output has come."""
        assert self._levels is not None
        held["gradient"] = gradient.detach()
        noise = self._levels.calls[key]
        if self._shake is None:
            backward_noise(layer, held["x"], held["gradient"], noise)
        for name, square in noise.parameters.items():
            whole = f"{path}.{name}"
            self._parameters[whole] = self._parameters[whole] + square if whole in self._parameters else square

    def _back(self, layer: nn.Module, key: str, source: str, held: dict[str, Tensor], gradient: Tensor) -> Tensor:
        """The gradient of a layer's input as it goes on."""
        assert self._levels is not None
        noise = self._levels.calls[key]
        if self._shake is not None:
            return gradient + self._scale * noise.input_gradient.draw(gradient, self._shake)
        if not noise.input_gradient.parts and "gradient" in held:
            noise.input_gradient = elementwise_backward(layer, held["gradient"], gradient)
        if source:
            self._levels.add(f"activation_gradient/{source}", noise.input_gradient.square(gradient))
        return gradient

    def _ended(self, call: str, result: Tensor) -> Tensor:
        """The result of a call, whose gradient comes from another call or from the loss."""
        if not result.requires_grad:
            return result
        source = self._made.get(id(result), ("",))[0]

        def end(gradient: Tensor) -> Tensor:
            assert self._levels is not None
            if self._shake is not None:
                return gradient + self._scale * self._levels.ends[call].draw(gradient, self._shake)
            level = ELEMENTWISE * UNIT * (gradient.abs() + 1 / gradient.numel())
            self._levels.ends[call] = noise = Noise(((level, tuple(level.shape)),))
            if source:
                self._levels.add(f"activation_gradient/{source}", noise.square(gradient))
            return gradient

        through: Tensor = _Through.apply(result, end)  # type: ignore[no-untyped-call]
        if source:
            self._made[id(through)] = (source, through)
        return through

    def _seen(self, key: str, x: Tensor) -> None:
        """What enters a kink, to learn how far shaking moves it."""
        assert self._levels is not None
        if self._shake is None:
            self._levels.kinks[key] = to_numpy(x)
        elif self._scale == 1.0:
            gap = to_numpy(x) - self._levels.kinks[key]
            axes = tuple(axis for axis in range(gap.ndim) if axis != 1)
            self._stack.kink_squares.setdefault(key, []).append(np.mean(gap**2, axis=axes))

    def update(self, name: str, loss: Tensor) -> None:
        """The update, with the noise of the gradients that it uses."""
        self._parameters = {}
        self._name = name
        super().update(name, loss)

    def _gradients(self, network: str, loss: Tensor) -> None:
        super()._gradients(network, loss)
        if self._levels is None:
            return
        for path, parameter in self.network(network).named_parameters():
            square = self._parameters.get(f"{network}.{path}")
            if parameter.grad is None or square is None:
                continue
            self._levels.add(
                f"gradient/{self._name}/{network}.{path}", float(square.sum()) if self._shake is None else 0
            )
            if self._shake is not None:
                parameter.grad += (
                    self._scale
                    * square.sqrt()
                    * torch.randn(parameter.shape, generator=self._shake, dtype=parameter.dtype)
                )


class RefereeStack(TorchStack):
    """The idiomatic torch stack in Float64. With ``levels`` set its steps measure noise, with ``generator`` too they
    shake by it."""

    run_class = RefereeRun
    levels: Levels | None = None
    generator: torch.Generator | None = None
    scale = 1.0
    """What the noise is multiplied by when steps are shaken."""
    kink_squares: dict[str, list[np.ndarray]]


class Referee:
    """Steps of the referee on the batches of ``dataset``, for Float32 runs of ``config``."""

    def __init__(self, config: Any, dataset: Dataset) -> None:
        self.stack = RefereeStack(config.replace(dtype="float64", device="cpu", randomness="keyed"))
        self.stack.kink_squares = {}
        self._schedule = Schedule.of(config, dataset.images)
        self._draws = Draws(config.seed)

    @property
    def members(self) -> int:
        """Shaken steps from each state."""
        sizes = (parameter.numel() for network in self.stack.networks.values() for parameter in network.parameters())
        return MEMBERS if sum(sizes) < MANY else MEMBERS_OF_MANY

    def step(
        self, number: int, before: State, capture: Sequence[str], batch: np.ndarray | None = None, **how: Any
    ) -> StepRecord:
        """The plain step, or one with ``impose``, ``look`` or ``force`` (as the torch stack takes them); on ``batch``
        in place of the schedule's where given."""
        self.stack.load_state(widen(before, "float64"))
        given = self._schedule[number] if batch is None else batch
        return self.stack.step(given, self._draws.at(number), capture, **how)

    def measured(self, number: int, before: State, capture: Sequence[str]) -> tuple[StepRecord, Levels]:
        """The plain step, and the noise of every result in it."""
        self.stack.levels = levels = Levels()
        try:
            return self.step(number, before, capture), levels
        finally:
            self.stack.levels = None

    def shaken(
        self,
        number: int,
        before: State,
        truth: StepRecord,
        levels: Levels,
        capture: Sequence[str] = ("logits", "gradients", "state"),
    ) -> tuple[list[StepRecord], dict[str, np.ndarray]]:
        """Steps in which every result is off by its noise, with the patterns of ``truth``; and by
        ``call/network.layer`` how far that moves what enters a kink, root mean square by channel."""
        self.stack.levels, self.stack.kink_squares = levels, {}
        made = []
        try:
            for member in range(self.members):
                self.stack.generator = torch.Generator().manual_seed(1000 * number + member)
                made.append(self.step(number, before, capture, impose=truth.pattern))
        finally:
            self.stack.levels = self.stack.generator = None
        return made, {key: np.sqrt(np.mean(rows, axis=0)) for key, rows in self.stack.kink_squares.items()}

    def pictures(self, state: State, latent: np.ndarray) -> tuple[np.ndarray, float]:
        """The pictures of a state, and the root mean square distance of shaken ones from them, over their norm."""
        self.stack.load_state(widen(state, "float64"))
        self.stack.levels = Levels()
        try:
            truth = self.stack.generate(latent)
            gaps = []
            for member in range(self.members):
                self.stack.generator = torch.Generator().manual_seed(member)
                gaps.append(float(np.sum((self.stack.generate(latent) - truth) ** 2)))
        finally:
            self.stack.levels = self.stack.generator = None
        return truth, float(np.sqrt(np.mean(gaps) / max(float(np.sum(truth**2)), 1e-300)))

    def updated(self, before: State, gradients: Arrays, order: Iterable[str]) -> tuple[Arrays, dict[str, float]]:
        """What a step's updates make of given gradients, by ``kind/name``, and the noise of each tensor.

        ``gradients`` by ``update/network.layer.tensor``, ``order`` the step's, which has the updates in turn.
        """
        self.stack.load_state(widen(before, "float64"))
        names = dict.fromkeys(key.split("/", 1)[1].rpartition("/")[0] for key in order if key.startswith("gradient/"))
        left = {name.partition("/")[0]: name for name in names}
        made: Arrays = {}
        levels: dict[str, float] = {}
        for name in names:
            network = name.partition("/")[0]
            moved = {k: v for k, v in self.stack.tensors_of(network).items() if not k.startswith("buffer/")}
            start = {key: tensor.clone() for key, tensor in moved.items()}
            noise = self._corrections(network)
            for path, parameter in self.stack.networks[network].named_parameters():
                given = gradients.get(f"{name}/{network}.{path}")
                fits = given is not None and given.shape == tuple(parameter.shape)  # else a finding of its own
                parameter.grad = torch.from_numpy(given.astype(np.float64)) if given is not None and fits else None
            self.stack.optimisers[network].step()
            kind = "state" if left[network] == name else f"updated/{name}"
            made |= {f"{kind}/{key}": to_numpy(tensor) for key, tensor in moved.items()}
            levels |= {f"{kind}/{key}": level for key, level in update_levels(start, moved, noise).items()}
        for network in left:
            power = beta_powers(self.stack.optimisers[network])
            if power is not None:
                key = f"state/beta_power/{network}"
                made[key], levels[key] = power, UNIT * float(np.linalg.norm(power))
        return made, levels

    def _corrections(self, network: str) -> float:
        """Relative noise of the network's next update through the powers of its betas."""
        powers = beta_powers(self.stack.optimisers[network])
        if powers is None:
            return 0.0
        numbers = self.stack.update_numbers()[network]
        return correction_noise(powers.tolist(), (numbers["beta1"], numbers["beta2"]))

    def with_exact_powers(self, state: State) -> State:
        """A Float32 run's state, widened, with the powers of the betas as Float64 has them. Float32 has rounded them at
        every update, and ``1 - 0.999^2`` is off by 1e-5 for it: that is the run's rounding and no part of the step."""
        made = widen(state, "float64")
        for network in self.stack.networks:
            if (key := f"beta_power/{network}") in made:
                numbers = self.stack.update_numbers()[network]
                both = zip(made[key].tolist(), (numbers["beta1"], numbers["beta2"]), strict=True)
                made[key] = np.array([exact_power(power, beta) for power, beta in both])
        return made


def distance(value: np.ndarray, truth: np.ndarray) -> float:
    """2-norm of the difference, in Float64."""
    return float(np.linalg.norm((value.astype(np.float64) - truth).reshape(-1)))


def root_mean_square(shaken: Sequence[StepRecord], truth: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Distances of the shaken steps from the true values, by ``kind/name``: their root mean square."""
    rows = [one.to_arrays() for one in shaken]
    return {
        key: float(np.sqrt(np.mean([distance(row[key], value) ** 2 for row in rows])))
        for key, value in truth.items()
        if all(key in row for row in rows) and value.dtype.kind == "f"
    }
