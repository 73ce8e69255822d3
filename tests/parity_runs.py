"""Runs, recordings and a planted fault for the tests of ``pygan parity``."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_pygan import Pygan, runner
from torch import nn

from pygan.data import load
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.recording import record
from pygan.records import StepRecord
from pygan.stacks import choose
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace, TraceWriter

SHORT = ("--samples", 14, "--steps", 2)
"""A batch of 8 and one of 6."""
EVERYTHING = ("logits", "gradients", "patterns", "state", "layers")
KERNEL = "generator.conv2.weight"


@pytest.fixture
def pygan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Pygan:
    """Run the command line in this process, in an empty folder: ``(exit code, stdout, stderr)``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYGAN_DATA_DIR", str(tmp_path / "no data"))
    return runner(monkeypatch, capsys)


def traced(folder: Path, steps: int = 3, images: int = 14, dtype: str = "float64", **changes: Any) -> Trace:
    """A narrow torch run with everything recorded."""
    stack = TorchStack(FluxTutorialConfig(**{**NARROW, "threads": 1, "dtype": dtype, **changes}))
    dataset = load("digits", limit=images)
    for _ in record(stack, dataset, steps, folder, picture_every=1, capture=lambda step: EVERYTHING):
        pass
    return Trace(folder)


def altered(trace: Trace, folder: Path, step: int, kind: str, name: str, change: Callable[[Any], Any]) -> None:
    """The trace again, with one tensor of one step changed."""

    def other(one: StepRecord) -> StepRecord:
        part = getattr(one, kind)
        return replace(one, **{kind: {**part, name: change(part[name])}})

    with TraceWriter(folder, trace.header, initial=trace.initial_state()) as writer:
        for one in trace:
            writer.write(other(one) if one.step == step else one)


def a_little(value: np.ndarray) -> np.ndarray:
    return value * (1 + 1e-6)


def replay_of(out: str) -> list[str]:
    """The arguments of the replay command in what was printed."""
    (line,) = [line for line in out.splitlines() if line.startswith("replay this spot: ")]
    words = shlex.split(line.removeprefix("replay this spot: "))
    assert words[:2] == ["pygan", "parity"]
    return words[1:]


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch:cpu`` is a stack whose discriminator turns the second kernel by 180 degrees, ``torch`` a sound one."""

    class Faulty(TorchStack):
        def initialise(self) -> None:
            super().initialise()
            conv: nn.Conv2d = self.networks["discriminator"].conv2
            conv.forward = lambda x: conv._conv_forward(x, conv.weight.flip(-2, -1), conv.bias)

    made: list[TorchStack] = []

    def make(name: str, config: Any) -> TorchStack:
        made.append((Faulty if len(made) % 2 == 0 else TorchStack)(config))
        return made[-1]

    monkeypatch.setattr(choose, "make_stack", make)
