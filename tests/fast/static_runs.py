"""What the tests of static steps run: narrow configs, batches with a smaller last one, and states to compare."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from pygan.data import load
from pygan.draws import Draws
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.schedule import Schedule
from pygan.stacks.torch_stack import TorchStack

TOLERANCE = {"float64": 1e-13, "float32": 2e-5}
"""Float32: rounding of one step, grown by the later ones. A fault of the step is of order 1."""

EVERYTHING = ("logits", "gradients", "patterns", "state", "layers")


def config(dtype: str = "float64", **changes: Any) -> FluxTutorialConfig:
    """The narrow recipe."""
    return FluxTutorialConfig(**{**NARROW, "threads": 1, "dtype": dtype, **changes})


@cache
def batches() -> list[np.ndarray]:
    """8, 8, 6, 8, 8, 6 images ``(N, 1, 28, 28)``."""
    schedule = Schedule(load("digits", limit=22).images, 8, Draws(0))
    found = [schedule[step] for step in range(6)]
    assert [len(batch) for batch in found] == [8, 8, 6, 8, 8, 6]
    return found


def assert_same_state(mine: TorchStack, theirs: TorchStack, tolerance: float = 0.0) -> None:
    """Equal, or within ``tolerance`` by relative norm in every tensor."""
    expected = theirs.state()
    got = mine.state()
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        assert got[key].dtype == value.dtype, key
        error = np.linalg.norm(got[key] - value)
        assert error <= tolerance * np.linalg.norm(value), f"{key}: {error}"
