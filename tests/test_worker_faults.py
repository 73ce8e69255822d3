"""The flux worker's client, with a fake worker: whatever the process does, one clear error and nothing left behind."""

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pygan.errors import ConfigError, JuliaNotFound, StateError, WorkerError
from pygan.stacks import flux_stack
from pygan.stacks.flux_stack import FluxStack, Worker, default_timeout
from pygan.stacks.julia_setup import JuliaSetup


class FakeSetup(JuliaSetup):
    def check(self) -> dict[str, str]:
        return {}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made; the worker is the fake one."""
    fake = Path(__file__).parent / "fake_flux_worker.py"
    monkeypatch.setattr(flux_stack.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(flux_stack, "worker_command", lambda: [sys.executable, "-S", str(fake)])
    monkeypatch.delenv("PYGAN_WORKER_TIMEOUT", raising=False)
    return tmp_path


SETUP = FakeSetup("julia", "project", "fake")


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(SETUP, timeout=20)
    yield made
    made.close()


@pytest.fixture
def gone(folder: Path) -> Callable[[int], None]:
    """Assert that the process has ended and was reaped (a zombie would still take a signal), and its files are gone."""

    def check(pid: int) -> None:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert list(folder.iterdir()) == []

    return check


def test_a_sound_worker_answers_and_leaves_nothing_behind(worker: Worker, folder: Path, gone) -> None:
    answer, arrays = worker.ask("hello", {"x": np.zeros(3)})
    assert (answer, arrays) == ({"echo": "hello"}, {})
    [private] = folder.iterdir()
    assert private.stat().st_mode & 0o077 == 0
    assert [path.name for path in private.iterdir()] == ["worker.log"], "the mapped files must be unlinked"
    pid = worker.pid
    worker.close()
    worker.close()
    gone(pid)


def test_a_closed_worker_says_so(worker: Worker) -> None:
    worker.close()
    with pytest.raises(WorkerError, match=r"the flux worker has ended; 'step' cannot be asked"):
        worker.ask("step")


def test_a_worker_that_crashes_is_an_error_with_its_exit_code_and_last_words(worker: Worker, gone) -> None:
    with pytest.raises(WorkerError) as caught:
        worker.ask("die")
    text = str(caught.value)
    assert text.startswith("the flux worker died at 'die' (exit code -11).")
    assert "Its last words:\nfake Julia is starting\nsignal (11): Segmentation fault\nin expression at boot" in text
    gone(worker.pid)


def test_a_worker_killed_in_mid_request_is_an_error(worker: Worker, gone) -> None:
    threading.Timer(0.6, os.kill, (worker.pid, signal.SIGKILL)).start()
    with pytest.raises(WorkerError, match=r"died at 'hang' \(exit code -9\).*\n.*\n.*\nabout to hang"):
        worker.ask("hang")
    gone(worker.pid)


def test_a_worker_killed_between_requests_is_an_error_at_the_next(worker: Worker, gone) -> None:
    os.kill(worker.pid, signal.SIGKILL)
    time.sleep(0.2)
    with pytest.raises(WorkerError, match=r"died at 'step' \(exit code -9\)"):
        worker.ask("step", {"batch": np.zeros(8)})
    gone(worker.pid)


def test_a_hung_worker_is_stopped_after_the_timeout_without_more_waiting(gone) -> None:
    worker = Worker(SETUP, timeout=0.4)
    begun = time.monotonic()
    with pytest.raises(WorkerError) as caught:
        worker.ask("hang")
    assert time.monotonic() - begun < 4
    assert "did not answer 'hang' in 0.4 s and was stopped" in str(caught.value)
    assert "PYGAN_WORKER_TIMEOUT sets the patience" in str(caught.value)
    assert "about to hang" in str(caught.value)
    gone(worker.pid)


def test_a_worker_that_dies_at_start_is_an_error_with_julias_words(monkeypatch, folder: Path) -> None:
    monkeypatch.setenv("FAKE_WORKER_START", "die")
    with pytest.raises(WorkerError, match=r"died at 'start' \(exit code 3\)(.*\n)*ERROR: LoadError: Flux is broken"):
        Worker(SETUP, timeout=5)
    assert list(folder.iterdir()) == []


def test_a_worker_that_prints_garbage_at_start_is_an_error_that_quotes_it(monkeypatch, folder: Path) -> None:
    monkeypatch.setenv("FAKE_WORKER_START", "garbage")
    with pytest.raises(WorkerError, match=r"answered 'start' with what is no answer: b'Precompiling project"):
        Worker(SETUP, timeout=5)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("op", ["garbage", "number", "empty", "half", "ready"])
def test_an_answer_that_is_none_is_an_error_that_quotes_it_and_ends_the_worker(worker: Worker, op: str, gone) -> None:
    with pytest.raises(WorkerError, match=rf"answered '{op}' with what is no answer: b'"):
        worker.ask(op)
    gone(worker.pid)


def test_a_request_that_cannot_be_written_as_json_costs_nothing(worker: Worker) -> None:
    with pytest.raises(TypeError):
        worker.ask("hello", field=object())
    assert worker.ask("again")[0] == {"echo": "again"}


def test_an_error_in_julia_is_passed_on_and_the_worker_lives(worker: Worker) -> None:
    with pytest.raises(WorkerError, match=r"Julia refused 'error': DimensionMismatch: arrays could not be broadcast"):
        worker.ask("error")
    assert worker.ask("again")[0] == {"echo": "again"}


def test_an_answer_that_claims_bytes_beyond_its_file_is_an_error(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="ends beyond its file: 8000 bytes of 0"):
        worker.ask("lie")


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[float], None]]:
    """Sends this very thread a Ctrl-C after so many seconds."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    assert main is not None
    yield lambda seconds: threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGINT)).start()
    signal.signal(signal.SIGINT, before)


def test_the_answer_to_an_interrupted_request_is_not_taken_for_the_next_ones(worker: Worker, ctrl_c) -> None:
    ctrl_c(0.2)
    with pytest.raises(KeyboardInterrupt):
        worker.ask("slow")
    assert worker.ask("state")[0] == {"echo": "state"}
    assert worker.ask("more")[0] == {"echo": "more"}


def test_an_interrupted_request_that_never_ends_is_an_error_at_the_next(ctrl_c, gone) -> None:
    worker = Worker(SETUP, timeout=1.5)
    ctrl_c(0.2)
    with pytest.raises(KeyboardInterrupt):
        worker.ask("hang")
    with pytest.raises(WorkerError, match="still busy with an interrupted request; 'state' cannot be asked"):
        worker.ask("state")
    gone(worker.pid)


def test_a_worker_that_nobody_holds_any_more_is_ended(gone) -> None:
    worker = Worker(SETUP, timeout=5)
    pid = worker.pid
    del worker
    gc.collect()
    gone(pid)


def test_ctrl_c_of_a_terminal_does_not_reach_the_worker(worker: Worker) -> None:
    assert os.getpgid(worker.pid) == worker.pid != os.getpgid(0)


# --- the stack on top --------------------------------------------------------------------------------------------


def test_a_stack_that_cannot_set_its_threads_says_so_and_leaves_no_worker(narrow, monkeypatch, folder: Path) -> None:
    monkeypatch.setenv("FAKE_WORKER_START", "threads")
    with pytest.raises(WorkerError, match="BLAS runs 3 threads, 2 were asked for") as held:
        FluxStack(narrow.replace(threads=2), SETUP, timeout=5)
    assert held.traceback
    assert list(folder.iterdir()) == [], "whoever still holds the error must not keep the worker alive"


def test_a_state_that_does_not_fit_is_a_state_error_as_with_torch(narrow) -> None:
    stack = FluxStack(narrow, SETUP, timeout=5)
    try:
        with pytest.raises(StateError, match="state does not fit: step is missing"):
            stack.load_state({"x": np.zeros(2)})
    finally:
        stack.close()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_stack_asked_for_a_gpu_that_flux_does_not_have_says_so_in_its_description(narrow, device: str) -> None:
    stack = FluxStack(narrow.replace(device=device), SETUP, timeout=5)
    try:
        assert stack.describe()["device"] == "cpu"
        assert ("warning" in stack.describe()) == (device == "cuda")
    finally:
        stack.close()


def test_an_environment_that_does_not_serve_starts_nothing(narrow, folder: Path) -> None:
    (folder / "project").mkdir()
    with pytest.raises(JuliaNotFound, match=r"Manifest\.toml cannot be read"):
        FluxStack(narrow, JuliaSetup("julia", str(folder / "project"), "test"), timeout=5)
    assert [path.name for path in folder.iterdir()] == ["project"]


def test_the_patience_comes_from_the_environment(monkeypatch) -> None:
    assert default_timeout() == 600
    monkeypatch.setenv("PYGAN_WORKER_TIMEOUT", "2.5")
    assert default_timeout() == 2.5


@pytest.mark.parametrize("text", ["soon", "", "0", "-3", "nan", "inf", "1e99"])
def test_a_patience_that_is_no_time_is_an_error(monkeypatch, text: str) -> None:
    monkeypatch.setenv("PYGAN_WORKER_TIMEOUT", text)
    with pytest.raises(ConfigError, match=f"PYGAN_WORKER_TIMEOUT = '{text}' is no number of seconds above 0"):
        default_timeout()
