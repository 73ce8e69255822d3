"""Stacks: frameworks that execute recipes. A stack never knows what it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pygan.config import RunConfig
from pygan.draws import Draws
from pygan.records import StepRecord
from pygan.state import State


@dataclass(frozen=True)
class TimedSteps:
    """Wall seconds of each of ``n`` consecutive steps, measured inside the stack, device synchronised."""

    seconds: list[float]
    losses: list[float]


@dataclass(frozen=True)
class LayerSpec:
    """What a layer is: its ``kind`` (a key of the layout table, or torch's class name in lower case) and ``numbers``
    such as eps, momentum, slope, stride and padding, as the run computes with them."""

    kind: str
    numbers: Mapping[str, Any]


class Stack(Protocol):
    """What every stack can do. Arrays are numpy, in PyTorch's layout, on the host."""

    name: str
    config: RunConfig

    def describe(self) -> dict[str, Any]:
        """Versions, threads and device, for traces and reports."""

    def initialise(self) -> None:
        """Fresh networks and optimisers from the config's seed; step count 0."""

    def state(self) -> State:
        """The full state under canonical names."""

    def load_state(self, state: State) -> None:
        """Continue from ``state``. Raises ``StateError`` naming what does not fit."""

    def checkpoint(self) -> dict[str, np.ndarray]:
        """The state and, under ``exact/``, what else a run needs to go on bit for bit. Raises ``StateError`` where
        that cannot be stored."""

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what :meth:`checkpoint` gave. Raises ``StateError`` naming what does not fit."""

    def rules(self) -> dict[str, str]:
        """Layout rule of each parameter and buffer path."""

    def step(self, batch: np.ndarray, draws: Draws, capture: Sequence[str] = ()) -> StepRecord:
        """One training step on ``batch`` ``(N, 1, H, W)`` Float32; ``capture`` from ``records.CAPTURES``."""

    def generate(self, latent: np.ndarray) -> np.ndarray:
        """Pictures ``(n, 1, H, W)`` in [-1, 1] from latent vectors ``(n, latent_dim)``."""

    def grid(self, pictures: np.ndarray) -> np.ndarray:
        """Those pictures as the stack's own code lays them out for a reader: ``(H, W)`` uint8."""

    def batch_hashes(self, images: np.ndarray, steps: Sequence[int]) -> list[str]:
        """SHA-256 of the scaled batch of each step, by the stack's own order and scaling of ``images`` ``(N, H, W)``
        uint8."""

    def time_steps(self, batches: Sequence[np.ndarray], draws: Draws) -> TimedSteps:
        """Train on ``batches`` in a row, timing each step."""

    def close(self) -> None:
        """Release processes and memory."""
