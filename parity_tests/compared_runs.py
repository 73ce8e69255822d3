"""What the parity claims compare: configs, shipped traces, torch stacks like them, and the batches they saw."""

from __future__ import annotations

import numpy as np
import pytest

from pygan.data import Dataset, load
from pygan.data.dataset import published_paths
from pygan.data.registry import PUBLISHED
from pygan.draws import Draws
from pygan.errors import DataError
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.resources import traces_dir
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace
from pygan.schedule import Schedule


def config(width: str, dtype: str = "float32", **changes: object) -> FluxTutorialConfig:
    """The recipe's config: ``narrow`` (on one thread, tiny tensors are slower on two) or ``full``."""
    return FluxTutorialConfig(dtype=dtype, **{**({**NARROW, "threads": 1} if width == "narrow" else {}), **changes})  # type: ignore[arg-type]


def recorded(name: str) -> Trace:
    """A shipped trace of real Flux."""
    return Trace(traces_dir() / name)


def torch_like(trace: Trace, kind: type[TorchStack] = TorchStack, **changes: object) -> TorchStack:
    """A torch stack with the config of ``trace`` (and its threads: tiny tensors are slower on two)."""
    values = {**trace.header.config, **changes}
    return kind(FluxTutorialConfig.from_dict(values))


def load_or_skip(name: str, limit: int | None = None) -> Dataset:
    """The data set. Skips only where the files of a published one are not here; damaged files are failures."""
    if name in PUBLISHED:
        try:
            published_paths(PUBLISHED[name], None, "train")
        except DataError as error:
            pytest.skip(f"recorded on {name}: {error}")
    return load(name, limit=limit)


def schedule_of(trace: Trace) -> Schedule:
    """The batches that the recorded run saw, from the same data (checked by hash). Skips where it is not here."""
    data = load_or_skip(trace.header.data["name"], trace.header.data["images"])
    assert data.sha256 == trace.header.data["sha256"], "the data is not what the trace was recorded on"
    stack_config = trace.header.config
    return Schedule(data.images, stack_config["batch"], Draws(stack_config["seed"]))


def batches(width: str, count: int) -> list[np.ndarray]:
    """Batches of digits ``(N, 1, 28, 28)``; for the narrow recipe the last one is partial (6 of 8)."""
    size = 8 if width == "narrow" else 128
    images = load("digits", limit=size * count - (2 if width == "narrow" else 32)).images
    schedule = Schedule(images, size, Draws(0))
    return [schedule[step] for step in range(count)]
