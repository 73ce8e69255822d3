"""What is known of a finished run, and the words for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pygan.errors import DataError
from pygan.state import State


@dataclass(frozen=True)
class FinishedRun:
    """One run. What is empty or None was not recorded.

    ``losses``: by name, then by step from 0. ``pictures``: ``(steps done, (H, W) uint8)`` in order. ``states``: by
    steps done. ``seconds``: of all steps, pictures included. ``notes``: what is there and could not be used.
    """

    name: str
    stack: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    machine: str = ""
    steps: int | None = None
    losses: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    pictures: Sequence[tuple[int, np.ndarray]] = ()
    states: Mapping[int, Callable[[], State]] = field(default_factory=dict)
    seconds: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def loss_steps(self) -> set[int]:
        """Steps at which it has a loss."""
        return {step for values in self.losses.values() for step in values}

    @property
    def last_drawn(self) -> int | None:
        """Steps done at its last pictures."""
        return self.pictures[-1][0] if self.pictures else None

    def drawn(self, steps: int | None) -> np.ndarray | None:
        """Its pictures after so many steps; None where it drew none then."""
        return None if steps is None else dict(self.pictures).get(steps)

    @property
    def seconds_a_step(self) -> float | None:
        """Seconds of a step; None where the run did not store them."""
        return self.seconds / self.steps if self.seconds is not None and self.steps else None


def stack_title(stack: str, described: Mapping[str, Any]) -> str:
    """``PyTorch 2.13.0, fast step`` or ``Flux 0.16.9``."""
    if stack == "flux":
        return f"Flux {described.get('packages', {}).get('Flux', '(version not recorded)')}"
    version = str(described.get("torch", "(version not recorded)")).partition("+")[0]
    form = described.get("step", "")
    return ("PyTorch" if stack == "torch" else stack) + f" {version}" + (f", {form} step" if form else "")


def machine(environment: Mapping[str, Any]) -> str:
    """``AMD EPYC, 2 cores``, as far as it is known."""
    cores = environment.get("cores")
    return ", ".join([str(environment["cpu"])] + [f"{cores} cores"] * bool(cores)) if environment.get("cpu") else ""


def part(of: Mapping[str, Any], key: str, kind: type, path: Path) -> Any:
    """``of[key]``, an empty ``kind`` where it is missing. Raises ``DataError`` where it is of another kind."""
    value = of.get(key, kind())
    if not isinstance(value, kind):
        raise DataError(f"{path}: {key} is {value!r:.60}, expected a JSON {'object' if kind is dict else 'list'}")
    return value
