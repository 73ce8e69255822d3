"""Sampling the rows of a group in random rounds, one at a time, the others stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from pygan.benchmarking import machine

Sample = dict[str, Any]
Tick = Callable[[int, int, str], None]
"""``(rounds done, rounds planned, what)``: told after every sample."""

FEWEST_ROUNDS = 5


class Sampled(Protocol):
    """A row's process as sampling sees it."""

    @property
    def pid(self) -> int:
        """Process id."""

    def stop(self) -> None:
        """Take it off the processor."""

    def resume(self) -> None:
        """Let it run."""


def sample_rounds(
    processes: Mapping[str, Sampled],
    sample: Callable[[str], Sample],
    rounds: int,
    seconds: float,
    seed: int = 0,
    tick: Tick | None = None,
) -> tuple[dict[str, list[Sample]], dict[str, float], bool]:
    """``(samples by row, idle shares, stopped)``: every row once a round, in an order drawn anew each round.

    All rows but one are stopped while it is sampled. At most ``rounds`` rounds, fewer once ``seconds`` are spent, but
    :data:`FEWEST_ROUNDS` (or ``rounds``) in any case. ``idle shares``: the largest share of a sample's time that the
    stopped rows together used the processor. Ctrl-C ends it after the last whole round (``stopped``); with none, it
    is raised.
    """
    generator = np.random.Generator(np.random.Philox(key=seed))
    names = list(processes)
    found: dict[str, list[Sample]] = {name: [] for name in names}
    idle: dict[str, float] = dict.fromkeys(names, 0.0)
    began = time.monotonic()
    done = 0
    for process in processes.values():
        process.stop()
    try:
        while done < rounds and (done < min(rounds, FEWEST_ROUNDS) or time.monotonic() - began < seconds):
            for at in generator.permutation(len(names)):
                name = names[at]
                others = [process for other, process in processes.items() if other != name]
                before = _used(others)
                start = time.monotonic()
                processes[name].resume()
                found[name].append(sample(name))
                processes[name].stop()
                idle[name] = max(idle[name], (_used(others) - before) / max(time.monotonic() - start, 1e-9))
                if tick is not None:
                    tick(done, rounds, name)
            done += 1
    except KeyboardInterrupt:
        if done == 0:
            raise
        return {name: samples[:done] for name, samples in found.items()}, idle, True
    return found, idle, False


def _used(processes: Sequence[Sampled]) -> float:
    return sum(machine.processor_seconds(process.pid) for process in processes)


def per_step(samples: Sequence[Sample], key: str = "seconds") -> list[float]:
    """Mean seconds of a step in each sample."""
    return [float(np.mean(sample[key])) for sample in samples]
