"""What runs in the process of a torch row."""

from __future__ import annotations

import gc
import io
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pygan.benchmarking.batches import CAPTURE, Batches
from pygan.benchmarking.rows import Row
from pygan.data import load
from pygan.draws import Draws
from pygan.pictures.grid import grid
from pygan.recording import header
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace, TraceWriter
from pygan.training import picture_latent


class TorchRunner:
    """A torch row. See :class:`pygan.benchmarking.child.Runner` for the methods."""

    def __init__(self, row: Row, cores: int, data: str) -> None:
        self._row, self._cores, self._dataset = row, cores, load(data)

    def configure(self, config: Any, images: int, phases: bool) -> None:
        """Build the stack; with ``phases`` the end of the discriminator's update is noted."""
        self._config = config.replace(randomness=self._row.randomness, device=self._row.device, threads=self._cores)
        self._changes = self._row.changes  # which the request "changes" may have altered
        self._batches = Batches(self._dataset, self._config, images)
        self.stack = self._stack(self._config)
        self._marks: list[float] = []
        if phases:
            self.stack._recipe = _Marked(self.stack._recipe, self._mark)

    def _stack(self, config: Any) -> TorchStack:
        if self._row.graph:
            from pygan.stacks.fast.graph import GraphTorchStack

            return GraphTorchStack(config, self._row.precision)
        if self._changes is None:
            return TorchStack(config)
        return FastTorchStack(config, self._changes, self._row.precision)

    def _mark(self) -> None:
        if self._config.device == "cuda":
            torch.cuda.synchronize()
        self._marks.append(time.perf_counter())

    def facts(self) -> dict[str, Any]:
        """Of the process as it is now."""
        described = self.stack.describe()
        matmul = torch.backends.cuda.matmul.allow_tf32 if self._config.device == "cuda" else False
        return {
            "stack": "torch",
            "randomness": self._config.randomness,
            "precision": "tf32" if described["tf32"] or matmul else described.get("precision", self._config.dtype),
            "device": described["device"],
            "changes": list(self._changes or ()),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else self._cores,
            "torch_threads": torch.get_num_threads(),
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "described": described,
        }

    def first_step(self, folder: Path, reference: Path | None) -> None:
        """The first step of the keyed twin, with the on/off patterns of ``reference`` where one is given."""
        twin = self._stack(self._config.replace(randomness="keyed"))
        impose = Trace(reference).record(0).pattern if reference else None
        record = twin.step(self._batches[0], Draws(self._config.seed), CAPTURE, impose=impose)
        with TraceWriter(folder, header(twin, self._dataset, "first step of a benchmark row")) as trace:
            trace.write(record)
        del twin, record, impose
        gc.collect()  # the twin's hooks and its graph hold each other; no timed step should find them

    def steps(self, count: int) -> dict[str, Any]:
        """Seconds and losses of the first ``count`` steps of a fresh run, and Python's garbage collection in them."""
        self.stack.initialise()
        batches = self._batches.first(count)
        self._marks = []
        with collections() as collected:
            timed = self.stack.time_steps(batches, Draws(self._config.seed))
        sample = {"seconds": timed.seconds, "losses": timed.losses, **collected}
        if self._marks:
            sample["discriminator_seconds"] = [
                end - start for start, end in zip(self._marks[::2], self._marks[1::2], strict=True)
            ]
        return sample

    def phase(self, name: str, repeats: int) -> list[float]:
        """See the protocol."""
        config, draws = self._config, Draws(self._config.seed)
        asked = self._asked_draws() if name == "draws" else []
        latent = picture_latent(config, 0)
        values = self.stack.generate(latent)
        step = iter(range(10**9))
        work: dict[str, Callable[[], Any]] = {
            "generate": lambda: self.stack.generate(latent),
            "draws": lambda: [make(draws) for make in asked],
            "data": lambda: self._batches[next(step)],
            "picture": lambda: Image.fromarray(grid(values, config.grid)).save(
                io.BytesIO(), format="PNG", optimize=True
            ),
        }
        return timed_calls(work[name], repeats, self._config.device)

    def _asked_draws(self) -> list[Callable[[Draws], Any]]:
        """What one step draws."""
        noted = _Noted(self._config.seed)
        TorchStack(self._config.replace(randomness="keyed")).time_steps(self._batches.first(1), noted)
        return noted.asked

    def operations(self, operations: Sequence[Mapping[str, Any]], repeats: int) -> dict[str, Any]:
        """Each operation alone, and the profile of real steps."""
        from pygan.benchmarking.torch_operations import alone, profiled

        seconds = [float(np.median(timed_calls(alone(one), repeats + 1, "cpu")[1:])) for one in operations]
        return {"seconds": seconds, "profile": profiled(self.stack, self._batches.first(repeats), self._config.seed)}

    def ask(self, what: str, **fields: Any) -> dict[str, Any]:
        """``rates``: what this machine does at best; ``law``: is torch's own dropout and noise what it should be;
        ``changes``: what the fast step changes from now on."""
        if what == "changes":
            self._changes = tuple(fields["changes"])
            self.stack = self._stack(self._config)
            return {}
        if what == "rates":
            from pygan.benchmarking.torch_operations import rates

            return rates()
        if what == "law":
            from pygan.benchmarking.native_law import torch_sample

            return torch_sample(self.stack.networks, self._config.device)
        raise ValueError(f"a torch row has no request {what!r}")

    def close(self) -> None:
        """Nothing to release."""


@dataclass(frozen=True)
class _Noted(Draws):
    """Draws that note what they are asked for."""

    asked: list[Callable[[Draws], Any]] = field(default_factory=list)

    def at(self, step: int) -> Draws:
        return self

    def normal(self, stream: str, shape: tuple[int, ...]) -> np.ndarray:
        self.asked.append(lambda draws: draws.normal(stream, shape))
        return super().normal(stream, shape)

    def keep(self, stream: str, shape: tuple[int, ...], rate: float) -> np.ndarray:
        self.asked.append(lambda draws: draws.keep(stream, shape, rate))
        return super().keep(stream, shape, rate)


class _Marked:
    """A recipe that tells when a step starts and when its first update has ended."""

    def __init__(self, recipe: Any, mark: Callable[[], None]) -> None:
        self._recipe, self._mark = recipe, mark

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recipe, name)

    def train_step(self, run: Any, real: Any) -> None:
        update, self._first = run.update, True

        def marked(network: str, loss: Any) -> None:
            update(network, loss)
            if self._first:
                self._mark()
                self._first = False

        run.update = marked
        self._mark()
        self._recipe.train_step(run, real)


def timed_calls(work: Callable[[], Any], repeats: int, device: str) -> list[float]:
    """Seconds of each of ``repeats`` calls, the device synchronised on both sides."""
    seconds = []
    for _ in range(repeats):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


@contextmanager
def collections() -> Iterator[dict[str, Any]]:
    """Filled with the seconds and the number of Python's garbage collections inside the block."""
    found: dict[str, Any] = {"gc_seconds": 0.0, "gc_pauses": 0}
    started = 0.0

    def note(phase: str, _: dict[str, int]) -> None:
        nonlocal started
        if phase == "start":
            started = time.perf_counter()
        else:
            found["gc_seconds"] += time.perf_counter() - started
            found["gc_pauses"] += 1

    gc.callbacks.append(note)
    try:
        yield found
    finally:
        gc.callbacks.remove(note)
