"""The flux worker with real Julia: killed, stopped and refused, it is one clear error and leaves nothing behind."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pygan.draws import Draws
from pygan.errors import StateError, WorkerError
from pygan.stacks import flux_stack
from pygan.stacks.flux_stack import FluxStack
from pygan.stacks.julia_setup import JuliaSetup, find_julia

pytestmark = [pytest.mark.live, pytest.mark.slow]


@pytest.fixture(scope="module")
def setup() -> JuliaSetup:
    return find_julia()


@pytest.fixture
def stack(setup: JuliaSetup, narrow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flux_stack.tempfile, "tempdir", str(tmp_path))
    made = FluxStack(narrow, setup, timeout=60)
    yield made
    made.close()


@pytest.fixture
def check_gone(tmp_path: Path) -> Callable[[int], None]:
    def check(pid: int) -> None:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert list(tmp_path.iterdir()) == []

    return check


def many_batches(batch: np.ndarray) -> list[np.ndarray]:
    """Work for seconds: long enough to be interrupted, in one request."""
    return [batch] * 1500


def test_errors_in_julia_are_passed_on_and_a_killed_worker_is_an_error(
    stack: FluxStack, a_batch: np.ndarray, check_gone
) -> None:
    with pytest.raises(WorkerError, match=r"Julia refused 'step': draw noise was given with size .*asks for"):
        stack.step(a_batch, Draws(0, 0, {"noise": np.zeros((3, 3), np.float32)}))
    state = stack.state()
    with pytest.raises(StateError, match=r"state does not fit: .*step is missing"):
        stack.load_state({key: value for key, value in state.items() if key != "step"})
    record = stack.step(a_batch, Draws(0, 0))
    assert sorted(record.loss) == ["discriminator", "generator"]

    pid = stack.worker.pid
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(WorkerError, match=r"the flux worker died at 'time_steps' \(exit code -9\)"):
        stack.time_steps(many_batches(a_batch), Draws(0))
    check_gone(pid)
    with pytest.raises(WorkerError, match="the flux worker has ended; 'state' cannot be asked"):
        stack.state()


def test_a_stopped_worker_is_an_error_after_the_timeout(stack: FluxStack, a_batch: np.ndarray, check_gone) -> None:
    stack.step(a_batch, Draws(0, 0))
    stack.worker._timeout = 1.0
    pid = stack.worker.pid
    os.kill(pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(WorkerError, match="did not answer 'step' in 1 s and was stopped; PYGAN_WORKER_TIMEOUT"):
        stack.step(a_batch, Draws(0, 1))
    assert time.monotonic() - begun < 5
    check_gone(pid)
