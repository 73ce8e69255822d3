"""What the bridge to Julia and the training loop cost beside a step, each as a row of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pygan.data import Dataset, load
from pygan.draws import Draws
from pygan.files import sha256
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.records import StepRecord
from pygan.stacks.flux_stack import FluxStack
from pygan.stacks.torch_stack import TorchStack
from pygan.training import train

CONFIG = FluxTutorialConfig()
TRANSPORT_LIMIT = 5e-3
LOOP_SHARE = 0.03


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load("digits", limit=2048)


@pytest.fixture(scope="module")
def flux() -> Iterator[FluxStack]:
    stack = FluxStack(CONFIG)
    yield stack
    stack.close()


@pytest.mark.live
@pytest.mark.benchmark(group="bridge")
def test_transport_of_a_step(benchmark: Any, flux: FluxStack) -> None:
    """A batch of 128 to Julia and the losses back, with nothing computed between."""
    batch = np.zeros((CONFIG.batch, 1, 28, 28), np.float32)
    result = benchmark.pedantic(lambda: flux.worker.ask("echo", {"batch": batch}), rounds=200, warmup_rounds=20)
    assert float(result[1]["sum"]) == 0.0
    assert benchmark.stats.stats.median < TRANSPORT_LIMIT


@pytest.mark.live
@pytest.mark.benchmark(group="bridge")
def test_expansion_of_draws_in_julia(benchmark: Any, flux: FluxStack) -> None:
    """Noise and the six dropout patterns of a step, from keys to arrays, in the worker."""
    benchmark.pedantic(lambda: flux.worker.ask("expand_draws", seed=0, step=0), rounds=50, warmup_rounds=5)


@pytest.mark.benchmark(group="bridge")
def test_expansion_of_draws_in_python(benchmark: Any) -> None:
    """Noise and the six dropout patterns of a step, from keys to arrays, in this process."""

    def expand() -> None:
        draws = Draws(0)
        draws.normal("noise", (CONFIG.batch, CONFIG.latent_dim))
        for call in ("real", "fake", "generator"):
            draws.keep(f"mask/{call}/discriminator.drop1", (CONFIG.batch, CONFIG.width, 14, 14), CONFIG.dropout)
            draws.keep(f"mask/{call}/discriminator.drop2", (CONFIG.batch, 2 * CONFIG.width, 7, 7), CONFIG.dropout)

    benchmark.pedantic(expand, rounds=50, warmup_rounds=5)


class _Idle:
    """A stack whose step only hashes its batch, as every stack does: what remains is the loop."""

    name = "idle"
    config = CONFIG

    def step(self, batch: np.ndarray, draws: Draws, capture: Any = ()) -> StepRecord:
        return StepRecord(step=draws.step, batch_sha256=sha256(batch.tobytes()))


@pytest.mark.benchmark(group="loop")
def test_loop_overhead(benchmark: Any, data: Dataset) -> None:
    """Schedule, batch and record of a step, against the step itself, measured in the same run."""
    stack = TorchStack(CONFIG)
    batch = np.zeros((CONFIG.batch, 1, 28, 28), np.float32)
    stack.time_steps([batch] * 2, Draws(0))
    step = float(np.median(stack.time_steps([batch] * 8, Draws(0)).seconds))
    steps = 200

    def loop() -> None:
        for _ in train(_Idle(), data, steps):  # type: ignore[arg-type]
            pass

    benchmark.pedantic(loop, rounds=5, warmup_rounds=1)
    share = benchmark.stats.stats.median / steps / step
    benchmark.extra_info["eager_step_seconds"] = step
    benchmark.extra_info["share_of_step"] = share
    assert share < LOOP_SHARE
