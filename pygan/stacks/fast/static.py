"""Steps of the torch stack over memory that stays where it is: what a CUDA graph can hold.

A CUDA graph repeats recorded operations on the same memory, without Python and without a word from the host. So batch,
key of the draws, running products of Adam and losses are tensors on the device, and no operation reads one. Taken
operation by operation, such a step runs on any device; :mod:`pygan.stacks.fast.graph` records and replays it. Steps
that keep or impose more than losses take the plain way through :class:`~pygan.stacks.fast.stack.FastTorchStack`, over
the same parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pygan.config import RunConfig
from pygan.draws import Draws
from pygan.errors import ConfigError
from pygan.files import sha256
from pygan.records import StepRecord
from pygan.stacks import TimedSteps
from pygan.stacks.fast.device_adam import DeviceAdam
from pygan.stacks.fast.device_draws import DeviceDraws
from pygan.stacks.fast.stack import FastRun, FastTorchStack
from pygan.stacks.settings import under_own_settings
from pygan.stacks.torch_run import Run, to_numpy

PRECISIONS = ("float32", "tf32", "bf16")
"""``float32``: the config's dtype in every operation, ``tf32``: Float32, but convolutions and matrix products may round
what they multiply to TF32, ``bf16``: as :class:`~pygan.stacks.fast.stack.FastTorchStack` has it."""

_DIRECT = ("memory", "norm", "joined", "gradients")
_CHANGES = {"float32": (*_DIRECT, "patches", "fourier"), "tf32": _DIRECT, "bf16": _DIRECT}
"""Of :data:`pygan.stacks.fast.CHANGES`. Where tensor cores multiply, torch's own convolutions are fast enough, and
transforms would spread their rounding. Adam is :class:`~pygan.stacks.fast.device_adam.DeviceAdam`."""

WARM_UP = 3
"""Steps before a capture, after which libraries have chosen their algorithms and compiled their kernels."""


class StaticRun(FastRun):
    """A :class:`~pygan.stacks.fast.stack.FastRun` that takes draws made on the device and follows the precision."""

    _stack: StaticTorchStack

    def tensor(self, array: Any) -> Tensor:
        """A drawn array or tensor on the stack's device in its dtype."""
        if isinstance(array, Tensor):
            return array.to(self._stack.device, self._stack.dtype)
        return super().tensor(array)

    def _source(self, stream: str) -> Callable[[tuple[int, ...], float], Tensor]:
        if isinstance(self.draws, DeviceDraws):
            return Run._source(self, stream)
        return super()._source(stream)


class StaticStep:
    """The step of one batch size over memory that stays. It reads nothing on the host and is replayed once captured.

    ``batch`` holds the input, ``losses`` ``(len(names),)`` what the last step recorded, ``order`` the record's.
    """

    def __init__(self, stack: StaticTorchStack, shape: tuple[int, ...]) -> None:
        self._stack = stack
        self.batch = torch.zeros(shape, dtype=stack.dtype, device=stack.device)
        self.losses = torch.zeros(0)
        self.names: list[str] = []
        self.order: list[str] = []
        self.graph: Any = None

    def compute(self) -> None:
        """Take the step operation by operation: the draws of the device's key, the recipe's step, the next key."""
        draws: Any = self._stack.device_draws
        run = StaticRun(self._stack, draws)
        self._stack._recipe.train_step(run, self.batch)
        kept = {key.partition("/")[2]: value for key, value in run.kept.items() if key.startswith("loss/")}
        losses = torch.stack(list(kept.values()))
        if not self.names:
            self.names, self.order, self.losses = list(kept), run.order, torch.zeros_like(losses)
        self.losses.copy_(losses)
        draws.advance()

    def __call__(self) -> None:
        """Take the step, by a replay where there is a graph."""
        if self.graph is None:
            self.compute()
        else:
            self.graph.replay()


class StaticTorchStack(FastTorchStack):
    """Runs a recipe by static steps, operation by operation: what a graph records, on any device.

    Raises ``ConfigError`` for randomness that is not keyed, for a lowered precision of a Float64 run, and where a
    network's optimiser is not :class:`~pygan.recipes.adam.OptimisersAdam`.
    """

    step_form = "static"
    run_class = StaticRun
    precisions = PRECISIONS

    def __init__(self, config: RunConfig, precision: str = "float32") -> None:
        if config.randomness != "keyed":
            raise ConfigError(f"the {self.step_form} step needs randomness = keyed, got {config.randomness}")
        super().__init__(config, _CHANGES.get(precision, ()), precision)

    def initialise(self) -> None:
        """Fresh networks and optimisers; what was made ready for the former ones is dropped."""
        super().initialise()
        self.optimisers = {name: DeviceAdam.like(optimiser) for name, optimiser in self.optimisers.items()}
        self.device_draws = DeviceDraws(self.device)
        self._static_steps: dict[tuple[int, ...], StaticStep] = {}

    def describe(self) -> dict[str, Any]:
        """As the fast stack, and what the static step adds."""
        return {**super().describe(), "tf32": self.precision == "tf32", "fused_draws": self.device_draws.fused}

    def static_step(self, shape: tuple[int, ...]) -> StaticStep:
        """The step for batches of ``shape``, made ready at first use; the state is then what it was."""
        if shape not in self._static_steps:
            static = StaticStep(self, shape)
            with self._unchanged():
                self._make_ready(static)
            self._static_steps[shape] = static
        return self._static_steps[shape]

    def _make_ready(self, static: StaticStep) -> None:
        for _ in range(WARM_UP):
            static.compute()

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Put all that a static step changes, but for the key, back to what it was, where it was."""
        tensors: list[Tensor] = []
        for name, network in self.networks.items():
            tensors += [*network.parameters(), *network.buffers()]
            tensors += [tensor for slot in self.optimisers[name].state.values() for tensor in slot.values()]
        saved = [tensor.detach().clone() for tensor in tensors]
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, saved, strict=True):
                    tensor.copy_(value)

    @under_own_settings
    def step(self, batch: np.ndarray, draws: Draws, *arguments: Any, **named: Any) -> StepRecord:
        """One step; a static one where only losses are asked for and all draws follow from the key."""
        with tf32(self.precision == "tf32"):
            if any((*arguments, *named.values())) or not _keyed(draws):
                return super().step(batch, draws, *arguments, **named)
            static = self.static_step(batch.shape)
            static.batch.copy_(torch.from_numpy(batch))
            self.device_draws.set(draws.seed, draws.step)
            static()
        self._steps += 1
        loss = {name: np.array(value) for name, value in zip(static.names, to_numpy(static.losses), strict=True)}
        order = tuple(static.order)
        return StepRecord(step=self._steps - 1, batch_sha256=sha256(batch.tobytes()), order=order, loss=loss)

    def generate(self, latent: np.ndarray) -> np.ndarray:
        """Pictures in the stack's precision."""
        with tf32(self.precision == "tf32"):
            return super().generate(latent)

    @under_own_settings
    def time_steps(self, batches: Sequence[np.ndarray], draws: Draws) -> TimedSteps:
        """Train on ``batches``, which are on the device before the first step; losses are read after the last."""
        with tf32(self.precision == "tf32"):
            if not _keyed(draws):
                return super().time_steps(batches, draws)
            statics = [self.static_step(batch.shape) for batch in batches]
            resident = [torch.from_numpy(batch).to(self.device, self.dtype) for batch in batches]
            losses = [torch.zeros_like(static.losses) for static in statics]
            self.device_draws.set(draws.seed, self._steps)
            marks = [self._mark(idle=True)]
            for static, batch, kept in zip(statics, resident, losses, strict=True):
                static.batch.copy_(batch)
                static()
                kept.copy_(static.losses)
                marks.append(self._mark())
            seconds = [self._between(start, end) for start, end in pairwise(marks)]
        self._steps += len(batches)
        return TimedSteps(seconds, [sum(values.tolist()) for values in losses])

    def _mark(self, idle: bool = False) -> Any:
        """A point in the run of the steps; with ``idle`` all earlier work is done by then."""
        return time.perf_counter()

    def _between(self, start: Any, end: Any) -> float:
        """Seconds from one mark to the next."""
        return float(end - start)


def _keyed(draws: Draws) -> bool:
    """Do all of ``draws`` follow from seed and step alone?"""
    return type(draws) is Draws and not draws.overrides


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in convolutions and matrix products for a while; torch's switches are the process's."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
