"""The catalogue of the torch side, and one comparison of a faulty torch stack with recorded Flux."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import numpy as np
from compared_runs import load_or_skip, recorded, torch_like

from planted import gan_faults, late_faults, layer_faults, port_faults, start_faults, step_faults, update_faults
from planted.fault import OVERRIDDEN, Fault, Planted
from planted.paths import TRACES
from pygan.config import RunConfig
from pygan.data import Dataset
from pygan.parity.report import Report
from pygan.parity.run import ALL_LEVELS, compare_runs
from pygan.parity.sides import Live, Recorded
from pygan.recipes import torch_recipe
from pygan.stacks.torch_stack import TorchStack
from pygan.state import State
from pygan.traces import Trace

FAULTS: tuple[Fault, ...] = (
    *layer_faults.FAULTS,
    *step_faults.FAULTS,
    *update_faults.FAULTS,
    *port_faults.FAULTS,
    *start_faults.FAULTS,
    *gan_faults.FAULTS,
    *late_faults.FAULTS,
)
TINY, NARROW64, NARROW32 = "flux-tiny-layers", "flux-narrow-float64", "flux-narrow-float32"
"""Recordings of real Flux that faulty stacks are compared with. The tiny one: width 1, Float64, batches of 3, 3, 2,
then the next epoch's first."""


@cache
def clean(name: str = TINY) -> Trace:
    """A recording of real Flux: the tiny one of the tests, or one that is shipped."""
    return Trace(TRACES / name) if name == TINY else recorded(name)


@cache
def data(name: str = TINY) -> Dataset:
    """What the clean run saw."""
    return load_or_skip(clean(name).header.data["name"], clean(name).header.data["images"])


def chance(name: str, seed: int) -> np.random.Generator:
    """The chance that places the fault ``name``."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def faulty(fault: Fault, seed: int, kind: type[TorchStack] = TorchStack) -> Callable[[RunConfig], TorchStack]:
    """Makes stacks of ``kind`` with the fault in them, as a port with the fault in its source would make them: in
    either dtype, and anew whenever a run starts from the beginning. ``made.planted`` says what was planted."""

    class Faulty(kind):  # type: ignore[misc, valid-type]
        planted: Planted

        def initialise(self) -> None:
            for name in OVERRIDDEN:
                vars(self).pop(name, None)
            self._recipe = torch_recipe(self.config.recipe)
            super().initialise()
            self.planted = fault.plant(self, chance(fault.name, seed))
            if self.planted.start is not None:
                self.load_state(self.planted.start(self.state()))

    return Faulty


def starting(start: Callable[[State], State]) -> Callable[[RunConfig], TorchStack]:
    """Makes right stacks whose initial state ``start`` has changed."""

    class Starting(TorchStack):
        def initialise(self) -> None:
            super().initialise()
            self.load_state(start(self.state()))

    return Starting


def compare(
    fault: Fault,
    seed: int,
    kind: type[TorchStack] = TorchStack,
    name: str = TINY,
    levels: Collection[int] = ALL_LEVELS,
    steps: int | None = None,
) -> tuple[Planted, Report]:
    """Plant the fault in a torch stack of ``kind`` and compare that with the recording ``name``, as a user compares a
    port without Julia: ``pygan parity torch recorded``.

    Where the fault needs a state of its own, a right torch stack that starts from it stands in for Flux.
    """
    make = faulty(fault, seed, kind)
    stack: Any = make(torch_like(clean(name), kind).config)
    reference: Live | Recorded = Recorded(clean(name))
    if stack.planted.start is not None:
        right = starting(stack.planted.start)
        reference = Live(right(stack.config), data(name), right)
        steps = steps or clean(name).training_steps
    return stack.planted, compare_runs(Live(stack, data(name), make), reference, steps, levels)
