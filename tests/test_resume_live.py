"""Runs of real Flux that are killed or stopped at any moment: they go on exactly, and no worker outlives them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from forked_pygan import CHUNKS, SMALL, Server, hashes

from pygan.stacks.julia_setup import find_julia

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(1800)]

TRAIN = ["train", "--stack", "flux", *SMALL, "--steps", 6, "--every", 2, "--checkpoint-every", 2, "--out", "run"]


@pytest.fixture(autouse=True)
def julia() -> None:
    find_julia().check()


def workers(parent: int) -> list[int]:
    """Processes that a process has started."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(one) for one in found]


def ends_within(process: int, seconds: float) -> bool:
    patience = time.monotonic() + seconds
    while time.monotonic() < patience:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


MOMENTUM = """
optimisers(::Recipe{:mine}) = Dict("classifier" => OptimiserChain(WeightDecay(1.0f-4), Momentum(0.01f0, 0.9f0)))
"""
"""Velocities are kept as they are, not as the state has them: divided by the learning rate."""


@pytest.mark.parametrize("kind", ["keyed", "native", "own"])
def test_a_killed_training_goes_on_exactly(server: Server, tmp_path: Path, kind: str) -> None:
    (tmp_path / "whole").mkdir()
    command = [*TRAIN, "--randomness", kind]
    if kind == "own":
        assert server.run(tmp_path, "new", "mine")[0] == 0
        recipe = tmp_path / "mine" / "recipe.jl"
        recipe.write_text(recipe.read_text().replace("function optimisers(", "function unused(") + MOMENTUM)
        small = ["--recipe", tmp_path / "mine", "--samples", 38, "--threads", 1]
        command = ["train", "--stack", "flux", *small, "--steps", 6, "--checkpoint-every", 2, "--out", "run"]
    code, told = server.run(tmp_path / "whole", *command, **CHUNKS)
    assert code == 0, told
    running = server.start(tmp_path, *command, kill=("half:state.safetensors", 2), **CHUNKS)
    assert server.wait(running)[0] == -9
    code, told = server.run(tmp_path, "train", "--resume", "run", **CHUNKS)
    assert code == 0 and "going on at step 3 of 6" in told, told
    assert hashes(tmp_path / "run") == hashes(tmp_path / "whole" / "run")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)], ids=["term", "kill"])
@pytest.mark.parametrize("moment", ["start", "compilation"])
def test_no_worker_outlives_a_run_that_is_ended_while_julia_is_busy(
    server: Server, tmp_path: Path, moment: str, number: int, code: int
) -> None:
    running = server.start(tmp_path, *TRAIN)
    patience = time.monotonic() + 600
    index = tmp_path / "run" / "flux.trace" / "trace.json"
    while not (workers(running) if moment == "start" else index.exists()):
        assert time.monotonic() < patience
        time.sleep(0.05)
    time.sleep(2)
    (worker,) = workers(running)
    begun = time.monotonic()
    os.kill(running, number)
    assert server.wait(running)[0] == code
    assert time.monotonic() - begun < 10
    assert ends_within(worker, 10 - (time.monotonic() - begun))
    if moment == "start" and number == signal.SIGTERM:
        assert not (tmp_path / "run").exists(), "nothing was kept"
