"""Runs, recordings and planted faults for the tests of parity."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from run_pygan import Pygan, runner
from torch import nn

from pygan.data import load
from pygan.parity import levels, sides
from pygan.parity.referee import Referee
from pygan.parity.report import Report, Row
from pygan.parity.sides import Live, Side, Together
from pygan.parity.stepping import Stepping
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
KERNEL_GRADIENT = f"generator/{KERNEL}"
Plant = Callable[[TorchStack], None]


# --- runs --------------------------------------------------------------------------------------------------------


def config(dtype: str = "float64", **changes: Any) -> FluxTutorialConfig:
    """The narrow twin on one thread."""
    return FluxTutorialConfig(**{**NARROW, "threads": 1, "dtype": dtype, **changes})


def planted(plant: Plant | None = None, base: type[TorchStack] = TorchStack) -> type[TorchStack]:
    """A stack with a fault that outlives a fresh start."""

    class Planted(base):  # type: ignore[valid-type, misc]
        def initialise(self) -> None:
            super().initialise()
            if plant is not None:
                plant(self)

    return Planted


def live(
    dtype: str = "float64",
    plant: Plant | None = None,
    images: int = 14,
    base: type[TorchStack] = TorchStack,
    **changes: Any,
) -> Live:
    """A live torch side on batches of 8 and 6; its other stacks have its fault too."""
    kind = planted(plant, base)
    return Live(kind(config(dtype, **changes)), load("digits", limit=images), kind)


def stepped(candidate: Side, reference: Side, steps: int = 1) -> Stepping:
    """A pass over the first ``steps`` steps of both."""
    together = Together(candidate, reference)
    stepping = Stepping(together, Referee(together.follower.config, together.follower.dataset))
    assert len(list(stepping.run(range(steps)))) == steps
    return stepping


def built_by(change: Callable[[dict[str, nn.Module]], None], optimisers: Any = None) -> type[TorchStack]:
    """A stack whose recipe builds its networks (or makes its optimisers) otherwise."""

    class Other(TorchStack):
        def initialise(self) -> None:
            if not isinstance(self._recipe, SimpleNamespace):
                own: Any = self._recipe

                def build(config: Any) -> dict[str, nn.Module]:
                    networks: dict[str, nn.Module] = own.build(config)
                    change(networks)
                    return networks

                parts = {name: getattr(own, name) for name in ("initialise", "train_step", "pictures")}
                self._recipe = SimpleNamespace(build=build, optimisers=optimisers or own.optimisers, **parts)
            super().initialise()

    return Other


def of_kind(kind: type[TorchStack], dtype: str = "float64") -> Live:
    """A live side of ``kind``."""
    return Live(kind(config(dtype)), load("digits", limit=14), kind)


# --- recordings --------------------------------------------------------------------------------------------------


def traced(
    folder: Path,
    steps: int = 3,
    images: int = 14,
    dtype: str = "float64",
    words: Sequence[str] = EVERYTHING,
    twin: Sequence[str] = (),
    plant: Plant | None = None,
    base: type[TorchStack] = TorchStack,
    every: int = 1,
    **changes: Any,
) -> Trace:
    """A narrow torch run with ``words`` recorded of every step, and those of ``twin`` of a Float64 step beside it."""
    kind, dataset = planted(plant, base), load("digits", limit=images)
    beside = kind(config("float64", **changes)) if twin else None
    made = record(
        kind(config(dtype, **changes)),
        dataset,
        steps,
        folder,
        picture_every=every,
        capture=lambda step: words,
        twin=beside,
        twin_capture=lambda step: twin,
    )
    assert len(list(made)) == steps + bool(every)
    return Trace(folder)


def rewritten(trace: Trace, folder: Path, change: Callable[[StepRecord], StepRecord], **header: Any) -> Trace:
    """The trace again with every record changed; ``header`` fields are replaced."""
    with TraceWriter(folder, replace(trace.header, **header), initial=trace.initial()) as writer:
        for one in trace:
            writer.write(change(one), trace.twin(one.step))
    return Trace(folder)


def altered(trace: Trace, folder: Path, step: int, kind: str, name: str, change: Callable[[Any], Any]) -> Trace:
    """The trace again, with one tensor of one step changed."""

    def other(one: StepRecord) -> StepRecord:
        if one.step != step:
            return one
        part = getattr(one, kind)
        return replace(one, **{kind: {**part, name: change(part[name])}})

    return rewritten(trace, folder, other)


def a_little(value: np.ndarray) -> np.ndarray:
    return value * (1 + 1e-6)


# --- reports -----------------------------------------------------------------------------------------------------


def rows_of(report: Report, level: int) -> list[Row]:
    return [row for row in report.rows if row.level == level]


def verdicts(report: Report) -> dict[int, set[str]]:
    """The words of every level."""
    return {level: {row.verdict for row in rows_of(report, level)} for level in {row.level for row in report.rows}}


def levels_that_differ(report: Report) -> set[int]:
    return {level for level, words in verdicts(report).items() if "differs" in words}


# --- the command line --------------------------------------------------------------------------------------------


@pytest.fixture
def pygan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Pygan:
    """Run the command line in this process, in an empty folder: ``(exit code, stdout, stderr)``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYGAN_DATA_DIR", str(tmp_path / "no data"))
    return runner(monkeypatch, capsys)


def replay_of(out: str) -> list[str]:
    """The arguments of the replay command in what was printed."""
    (line,) = [line for line in out.splitlines() if line.startswith("replay this spot: ")]
    words = shlex.split(line.removeprefix("replay this spot: "))
    assert words[:2] == ["pygan", "parity"]
    return words[1:]


def turned(stack: TorchStack) -> None:
    """The discriminator turns its second kernel by 180 degrees."""
    conv: Any = stack.networks["discriminator"].conv2
    conv.forward = lambda x: conv._conv_forward(x, conv.weight.flip(-2, -1), conv.bias)


def offered(monkeypatch: pytest.MonkeyPatch, kind: type[TorchStack]) -> None:
    """Let ``torch-faulty`` be a side of the command line: a stack of ``kind``."""
    make = choose.make_stack
    kind.step_form = "faulty"

    def made(name: str, config: Any) -> Any:
        return kind(config) if name == "torch-faulty" else make(name, config)

    monkeypatch.setattr(choose, "NAMES", (*choose.NAMES, "torch-faulty"))
    for module in (choose, sides, levels):
        monkeypatch.setattr(module, "make_stack", made)


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch-faulty`` is a stack with a kernel that is not flipped."""
    offered(monkeypatch, planted(turned))
