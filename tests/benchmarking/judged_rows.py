"""First steps as rows would store them, and the referee that judges them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pygan.benchmarking.batches import CAPTURE, Batches
from pygan.benchmarking.judge import RowReferee
from pygan.data import load
from pygan.draws import Draws
from pygan.parity.float32 import RefereeStep
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.records import Arrays, StepRecord
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Header, TraceWriter


def first_step(
    config: FluxTutorialConfig,
    stack: type[TorchStack] = TorchStack,
    plant: Callable[[TorchStack], Any] = lambda stack: None,
    impose: Arrays | None = None,
    images: int = 0,
) -> StepRecord:
    """The first step of a row, in which ``plant`` has done something to the stack."""
    made = stack(config)
    plant(made)
    return made.step(Batches(load("digits"), config, images or config.batch)[0], Draws(config.seed), CAPTURE, impose)


def stored(record: StepRecord, config: FluxTutorialConfig, folder: Path, of: str = "torch", **facts: Any) -> Path:
    """The trace of a row of a stack, with the ``facts`` of its environment."""
    header = Header(of, config.to_dict(), {"name": "digits", "images": 60000, "sha256": ""}, facts, "test")
    with TraceWriter(folder, header) as trace:
        trace.write(record)
    return folder


def referee_step(config: FluxTutorialConfig) -> RefereeStep:
    """What the judge holds the first step of ``config`` to."""
    referee = RowReferee(config, load("digits"), config.batch)
    return RefereeStep(referee, 0, referee.stack.state(), CAPTURE)


def by_distance(step: RefereeStep) -> list[tuple[float, str, tuple[int, ...]]]:
    """In each place with a kink the units nearest to zero and furthest from it, in units of their noise."""
    found = []
    for key, inputs in step.levels.kinks.items():
        if key in step.truth.pattern:
            noise = step._kink_noise[key].reshape((1, -1) + (1,) * (inputs.ndim - 2))
            away = np.where(inputs == 0, np.inf, np.abs(inputs) / noise)
            for at in (int(np.argmin(away)), int(np.argmax(np.where(np.isinf(away), 0, away)))):
                place = tuple(int(i) for i in np.unravel_index(at, away.shape))
                found.append((float(away[place]), key, place))
    return sorted(found)


def with_other_sign(config: FluxTutorialConfig, key: str, place: tuple[int, ...]) -> StepRecord:
    """A step that computed with one unit of another sign all along."""
    pattern = {name: value.copy() for name, value in first_step(config).pattern.items()}
    pattern[key][place] ^= True
    record = first_step(config, impose=pattern)
    return StepRecord.from_arrays(
        0,
        {**record.to_arrays(), **{f"pattern/{name}": value for name, value in pattern.items()}},
        record.batch_sha256,
        record.order,
    )


def in_tf32(network: str, layer: str) -> Callable[[TorchStack], Any]:
    """What enters the layer is rounded to the 11 bits that TF32 keeps of factors."""

    def rounded(_: Any, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        (x,) = inputs
        short = ((x.detach().contiguous().view(torch.int32) + (1 << 12)) >> 13 << 13).view(torch.float32)
        return x + (short - x.detach())

    return lambda stack: stack.networks[network].get_submodule(layer).register_forward_pre_hook(rounded)
