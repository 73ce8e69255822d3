"""Clean runs: nothing is planted, so whatever the comparison finds is a false alarm.

Live Flux against torch at narrow width, one worker for all seeds; and torch against torch at full width, where only
threads and instruction sets differ. Caps on instruction sets act when a process starts, so such runs are their own
processes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from compared_runs import config, load_or_skip

from pygan import recording
from pygan.parity.judge import judge_step
from pygan.parity.locate import diagnose
from pygan.parity.noise import VARIANTS, varied_torch
from pygan.parity.sides import Live, Recorded, Together
from pygan.stacks.flux_stack import FluxStack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

STEPS = 3
NARROW_IMAGES = 14
"""Batches of 8 and 6, then the next epoch's first."""
FULL_IMAGES = 224
"""Batches of 128 and 96, then the next epoch's first."""
WITHOUT_LAYERS = ("logits", "gradients", "patterns", "state")
OTHERS = tuple(name for name in VARIANTS if name != "default")


@dataclass(frozen=True)
class Clean:
    """One clean comparison; ``alarm`` is what was found, empty as it should be."""

    what: str
    seed: int
    dtype: str
    steps: int
    alarm: str

    def __str__(self) -> str:
        return f"{'FALSE ALARM' if self.alarm else 'clean':13} {self.what}, seed {self.seed}, {self.dtype} {self.alarm}"


def flux_runs(seeds: Iterable[int], dtype: str = "float64") -> Iterator[Clean]:
    """Live Flux against torch at narrow width, ``STEPS`` steps for each seed; in Float32 with the Float64 referee."""
    data = load_or_skip("digits", NARROW_IMAGES)
    stack: FluxStack | None = None
    try:
        for seed in seeds:
            wanted = config("narrow", dtype, seed=seed)
            if stack is None:
                stack = FluxStack(wanted)
            else:  # a worker that runs can be given another config: that costs no new Julia process
                stack.worker.ask("configure", config=wanted.to_dict(), blas_threads=wanted.threads)
                stack.config = wanted
            together = Together(Live(TorchStack(wanted), data), Live(stack, data))
            referee = None if dtype == "float64" else Live(TorchStack(wanted.replace(dtype="float64")), data)
            found = diagnose(together, range(STEPS), referee)
            yield Clean("live Flux against torch, narrow", seed, dtype, STEPS, str(found or ""))
    finally:
        if stack is not None:
            stack.close()


def torch_runs(
    variants: Iterable[str] = OTHERS, steps: int = STEPS, capture: Sequence[str] = WITHOUT_LAYERS
) -> Iterator[Clean]:
    """Torch against torch at full width in Float32: here as it comes, there with other threads or instructions.

    A recorded step takes 40 MB, with layers 400 MB.
    """
    data = load_or_skip("digits", FULL_IMAGES)
    wanted = config("full")
    mine, referee = Live(TorchStack(wanted), data), Live(TorchStack(wanted.replace(dtype="float64")), data)
    for name in variants:
        with TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "planted.clean_runs", "--variant", folder, "--steps", str(steps)]
            place = Path(__file__).resolve().parents[1]
            environment = {**os.environ, **VARIANTS[name]}
            subprocess.run([*command, "--capture", *capture], env=environment, cwd=place, check=True)
            trace = Trace(folder)
            together = Together(mine, Recorded(trace))
            judged = [one for pair in together.steps(trace.steps, capture) for one in judge_step(pair, referee)]
        alarm = "\n".join(str(one) for one in judged if not one.ok)
        yield Clean(f"torch against torch with {name}, full width", wanted.seed, "float32", steps, alarm)


def main() -> None:
    """One variant's run in a process of its own; its trace goes to the folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--variant", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--capture", nargs="+", required=True)
    chosen = parser.parse_args()
    stack = varied_torch(config("full"))
    data = load_or_skip("digits", FULL_IMAGES)
    for _ in recording.record(stack, data, chosen.steps, chosen.variant, capture=lambda _: chosen.capture):
        pass


if __name__ == "__main__":
    main()
