"""The torch stack whose whole step, draws included, is one replay of a CUDA graph."""

from __future__ import annotations

import gc
from typing import Any

import torch

from pygan.config import RunConfig
from pygan.errors import ConfigError
from pygan.stacks.fast.static import StaticStep, StaticTorchStack


class GraphTorchStack(StaticTorchStack):
    """Runs a recipe on a CUDA GPU by replays of one graph per batch size. Raises ``ConfigError`` on another device."""

    step_form = "graph"

    def __init__(self, config: RunConfig, precision: str = "float32") -> None:
        if config.device != "cuda":
            raise ConfigError(f"the graph step needs device = cuda, got {config.device}; the fast step runs on any")
        super().__init__(config, precision)

    def _make_ready(self, static: StaticStep) -> None:
        """Warm up and capture on one stream beside the current one, as libraries keep handles by stream."""
        current = torch.cuda.current_stream()
        side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            super()._make_ready(static)
        current.wait_stream(side)
        for optimiser in self.optimisers.values():
            optimiser.zero_grad()  # gradients of the warm-up are not the graph's
        gc.collect()  # a node of autograd that outlived an earlier step would pull that step's stream into the capture
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            static.compute()
        static.graph = graph

    def _mark(self, idle: bool = False) -> Any:
        """A point in the device's work, for which the host does not wait."""
        if idle:
            torch.cuda.synchronize()
        mark: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        mark.record()
        return mark

    def _between(self, start: Any, end: Any) -> float:
        """Seconds from one mark to the next; waits until the device has passed both."""
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3
