"""The catalogue of the torch side, and one comparison of a faulty torch stack with real Flux."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from compared_runs import load_or_skip, torch_like

from planted import layer_faults, step_faults, update_faults
from planted.fault import Fault, Planted
from planted.paths import TRACES
from pygan.config import RunConfig
from pygan.data import Dataset
from pygan.parity.locate import Diagnosis
from pygan.parity.stepping import diagnose
from pygan.parity.sides import Live, Recorded, Together
from pygan.recipes import torch_recipe
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

FAULTS: tuple[Fault, ...] = (*layer_faults.FAULTS, *step_faults.FAULTS, *update_faults.FAULTS)


@cache
def clean() -> Trace:
    """Four steps of real Flux at width 1 in Float64: batches of 3, 3, 2, then the next epoch's first."""
    return Trace(TRACES / "flux-tiny-layers")


@cache
def data() -> Dataset:
    """What the clean run saw."""
    return load_or_skip(clean().header.data["name"], clean().header.data["images"])


def chance(name: str, seed: int) -> np.random.Generator:
    """The chance that places the fault ``name``."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def faulty(fault: Fault, seed: int, kind: type[TorchStack] = TorchStack) -> Callable[[RunConfig], TorchStack]:
    """Makes stacks of ``kind`` with the fault in them, as a port with the fault in its source would make them: in
    either dtype, and anew whenever a run starts from the beginning. ``made.planted`` says what was planted."""

    class Faulty(kind):  # type: ignore[misc, valid-type]
        planted: Planted

        def initialise(self) -> None:
            self._recipe = torch_recipe(self.config.recipe)
            super().initialise()
            self.planted = fault.plant(self, chance(fault.name, seed))

    return Faulty


def search(fault: Fault, seed: int, kind: type[TorchStack] = TorchStack) -> tuple[Planted, Diagnosis | None]:
    """Plant the fault in a torch stack of ``kind`` and compare that with recorded Flux.

    Where the fault needs a state of its own, a clean torch stack that starts from it stands in for Flux.
    """
    make = faulty(fault, seed, kind)
    config = torch_like(clean(), kind).config
    stack: Any = make(config)
    reference: Live | Recorded = Recorded(clean())
    if stack.planted.start is not None:
        right = torch_like(clean())
        right.load_state(stack.planted.start(right.state()))
        reference = Live(right, data())
    return stack.planted, diagnose(Together(Live(stack, data(), make), reference), clean().steps)
