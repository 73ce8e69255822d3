"""The capture of a CUDA graph, rehearsed on the CPU. What only a GPU can show is in
``parity_tests/test_torch_on_cuda.py``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from static_runs import TOLERANCE, assert_same_state, batches, config

from pygan.draws import Draws
from pygan.errors import ConfigError
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.stacks.fast.graph import GraphTorchStack
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.fast.static import StaticTorchStack


def test_a_graph_needs_cuda() -> None:
    with pytest.raises(ConfigError, match="the graph step needs device = cuda, got cpu"):
        GraphTorchStack(config())


class Rehearsal(GraphTorchStack):
    """The graph stack on the CPU, with torch's CUDA calls played by :func:`play_cuda`."""

    def __init__(self, wanted: FluxTutorialConfig) -> None:
        StaticTorchStack.__init__(self, wanted)


def play_cuda(monkeypatch: pytest.MonkeyPatch, stack: StaticTorchStack) -> list[str]:
    """Streams, graphs and events that note what is done with them; a replay takes the step that was captured."""
    did: list[str] = []

    class Stream:
        def __init__(self, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            did.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            did.append("replay")
            self.step.compute()  # type: ignore[attr-defined]

    @contextmanager
    def capture(graph: Graph, stream: Stream) -> Iterator[None]:
        assert all(x.grad is None for one in stack.networks.values() for x in one.parameters())
        did.append(f"capture on {stream.name}")
        real = stack._recipe.train_step
        monkeypatch.setattr(stack._recipe, "train_step", lambda run, batch: (did.append("recorded"), real(run, batch)))
        yield
        monkeypatch.setattr(stack._recipe, "train_step", real)

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = len([one for one in did if one == "replay"])

        def synchronize(self) -> None:
            did.append("event reached")

        def elapsed_time(self, end: Event) -> float:
            return 1000.0 * (end.at - self.at)

    fakes = SimpleNamespace(
        current_stream=lambda: Stream("current"), Stream=Stream, CUDAGraph=Graph, graph=capture, Event=Event,
        stream=lambda stream: nullcontext(did.append(f"warm up on {stream.name}")),
        synchronize=lambda: did.append("synchronise"),
    )  # fmt: skip
    for name, fake in vars(fakes).items():
        monkeypatch.setattr(torch.cuda, name, fake)
    real_static = stack.static_step

    def static_step(shape: tuple[int, ...]) -> Any:
        static = real_static(shape)
        static.graph.step = static
        return static

    monkeypatch.setattr(stack, "static_step", static_step)
    return did


def test_the_capture_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Order of calls, one capture per batch size, replays alone afterwards, no wait between timed steps."""
    stack, fast = Rehearsal(config()), FastTorchStack(config())
    did = play_cuda(monkeypatch, stack)
    captured = ["side waits for current", "warm up on side", "current waits for side", "capture on side", "recorded"]
    stack.step(batches()[0], Draws(0))
    assert did == [*captured, "replay"]
    del did[:]
    timed = stack.time_steps(batches()[1:], Draws(0))
    assert did == [*captured, "synchronise", *["replay"] * 5, *["event reached"] * 5]
    assert timed.seconds == [1.0] * 5
    del did[:]
    stack.step(batches()[0], Draws(0).at(6), ("state",))
    stack.step(batches()[0], Draws(0).at(7))
    assert did == ["replay"]
    for step, batch in enumerate([*batches(), batches()[0], batches()[0]]):
        fast.step(batch, Draws(0).at(step))
    assert_same_state(stack, fast, TOLERANCE["float64"])
    assert stack.describe()["step"] == "graph"
    stack.initialise()
    assert not stack._static_steps
