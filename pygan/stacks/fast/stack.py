"""The torch stack with the fast step: the recipe's own step over the same parameters, computed in faster forms."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pygan.config import RunConfig
from pygan.draws import Draws
from pygan.errors import ConfigError
from pygan.stacks.fast import CHANGES
from pygan.stacks.fast.adam import FusedAdam
from pygan.stacks.fast.dense import SharedLinear
from pygan.stacks.fast.fourier import FourierConvTranspose2d
from pygan.stacks.fast.heap import keep_freed_memory
from pygan.stacks.fast.layers import FastSequential, fast_network
from pygan.stacks.fast.masks import drawn_in_halves
from pygan.stacks.fast.patches import PatchConv2d
from pygan.stacks.torch_run import Run
from pygan.stacks.torch_stack import TorchStack


class FastRun(Run):
    """A :class:`~pygan.stacks.torch_run.Run` that computes only the gradients that its update uses.

    Where gradients with respect to layers are to be recorded, all are computed, as the idiomatic step does.
    """

    _stack: FastTorchStack

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        for network in self._stack.networks.values():  # whoever had the parameters before may have changed them
            _forget(network)

    def call(self, name: str, network: str, x: Tensor, *, train: bool) -> Tensor:
        """``network(x)`` in train or eval mode, under autocast where the precision is bfloat16."""
        if self._stack.precision != "bf16":
            return super().call(name, network, x, train=train)
        with torch.autocast(x.device.type, torch.bfloat16):
            return super().call(name, network, x, train=train).float()

    def _source(self, stream: str) -> Callable[[tuple[int, ...], float], Tensor]:
        """Patterns in bytes: the layer brings them to its dtype and memory order at once."""
        network = self.network(stream.rpartition("/")[2].partition(".")[0])
        if "memory" not in self._stack.changes or not isinstance(network, nn.Sequential):
            return super()._source(stream)
        device, keep = self._stack.device, self._stack.keep
        return lambda shape, rate: torch.from_numpy(keep(self.draws, stream, shape, rate).view(np.uint8)).to(device)

    def _keep_pattern(self, network: nn.Module, kink: nn.Module, key: str) -> Any:
        """Ask the chain for the pattern, which leaves its joined layers joined. A layer that is watched otherwise has a
        hook, so that its pattern is kept before its output is changed."""
        watched = self._taps() or key in self._impose or key in self._look
        if watched or not isinstance(network, FastSequential) or kink not in network.children():
            return super()._keep_pattern(network, kink, key)
        return network.report_pattern(kink, lambda pattern: self._keep(f"pattern/{key}", pattern))

    def _taps(self) -> bool:
        """Is every layer watched?"""
        return not self._capture.isdisjoint(("layers", "layer_sketches"))

    def _keep(self, key: str, value: Tensor) -> None:
        super()._keep(key, value.float() if value.dtype is torch.bfloat16 else value)  # numpy has no bfloat16

    def _gradients(self, network: str, loss: Tensor) -> None:
        if self._taps() or "gradients" not in self._stack.changes:
            return super()._gradients(network, loss)
        others = [layer for name in self._stack.networks if name != network for layer in self.network(name).modules()]
        frozen = [layer for layer in others if isinstance(layer, PatchConv2d)]
        for layer in frozen:
            layer.frozen = True
        try:
            torch.autograd.backward(loss, inputs=list(self.network(network).parameters()))
        finally:
            for layer in frozen:
                layer.frozen = False

    def update(self, name: str, loss: Tensor) -> None:
        """Gradient of ``loss`` for the network of ``name`` alone and one step of its optimiser."""
        super().update(name, loss)
        network = name.partition("/")[0]
        self._stack.optimisers[network].zero_grad()  # not kept until the next step's update
        _forget(self.network(network))


def _forget(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, FourierConvTranspose2d | SharedLinear):
            layer.forget()


class FastTorchStack(TorchStack):
    """Runs a recipe as :class:`TorchStack` does, to rounding the same.

    ``changes``: some of :data:`pygan.stacks.fast.CHANGES`; ``heap`` has the whole process keep what it frees (on the
    CPU, see :mod:`pygan.stacks.fast.heap`). ``precision``: ``float32``, or ``bf16``: the
    networks under autocast to bfloat16, but for BatchNorm and the layers that have a form of their own (patches,
    transforms); another step, within bfloat16's rounding. Raises ``ConfigError`` on other words.
    """

    step_form = "fast"
    run_class = FastRun
    precisions: tuple[str, ...] = ("float32", "bf16")

    def __init__(self, config: RunConfig, changes: Collection[str] = CHANGES, precision: str = "float32") -> None:
        if unknown := sorted(set(changes) - set(CHANGES)):
            raise ConfigError(f"no change {', '.join(unknown)} of the fast step; known: {', '.join(CHANGES)}")
        if precision not in self.precisions:
            raise ConfigError(f"no precision {precision!r}; known: {', '.join(self.precisions)}")
        if precision != "float32" and config.dtype != "float32":
            raise ConfigError(f"precision = {precision} needs dtype = float32, got {config.dtype}")
        self.changes, self.precision = frozenset(changes), precision
        super().__init__(config)

    def keep(self, draws: Draws, stream: str, shape: tuple[int, ...], rate: float) -> np.ndarray:
        """A dropout pattern, by two threads where the run may use two."""
        if "masks" in self.changes and self.threads > 1:
            return drawn_in_halves(draws, stream, shape, rate)
        return draws.keep(stream, shape, rate)

    def describe(self) -> dict[str, Any]:
        """Versions, threads, device and precision."""
        own = {"precision": self.precision} if self.precision != "float32" else {}
        return {**super().describe(), **own}

    def initialise(self) -> None:
        """Fresh networks and optimisers, then their fast forms over the same parameters and moments."""
        if "heap" in self.changes and self.device.type == "cpu":
            keep_freed_memory()
        super().initialise()
        self.networks = {name: fast_network(network, self.changes) for name, network in self.networks.items()}
        if "adam" in self.changes:
            self.optimisers = {name: FusedAdam.over(optimiser) for name, optimiser in self.optimisers.items()}
