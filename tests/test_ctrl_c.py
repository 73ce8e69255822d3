"""Ctrl-C: exit code 130, one line, and every file is one that an uninterrupted run would have left at that step."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_pygan import MAIN, press

from pygan import state
from pygan.cli.output import followed
from pygan.cli.process import interrupts_held
from pygan.recipes import config_from_dict
from pygan.records import StepRecord
from pygan.stacks.fast.stack import FastTorchStack
from pygan.traces import Trace
from pygan.training import train


@pytest.fixture
def started() -> Iterator[Callable[[list[str], Path], subprocess.Popen[str]]]:
    """Starts ``pygan`` in a process of its own and returns once a file is there; nothing outlives the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(arguments: list[str], sign: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", MAIN, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        patience = time.monotonic() + 600  # on a busy machine
        while not sign.exists():
            if process.poll() is not None or time.monotonic() > patience:
                process.kill()
                pytest.fail(f"pygan never wrote {sign}: {process.communicate()}")
            time.sleep(0.02)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


FLAGS = ["--width", "2", "--latent-dim", "5", "--batch", "8", "--grid", "2", "--threads", "1", "--samples", "22"]


def test_train_stopped_in_mid_training_leaves_the_state_and_trace_of_its_last_whole_step(
    started, tmp_path: Path, digits, same_arrays
) -> None:
    out = tmp_path / "run"
    process = started(["train", *FLAGS, "--steps", "1000000", "--out", str(out)], out / "dcgan_steps_000000.png")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr == "stopped; every file written so far is valid\n"
    assert "Traceback" not in stdout

    stored, config = state.load(out / "state.safetensors")
    records = list(Trace(out / "torch.trace"))
    steps = int(stored["step"])
    assert 1 <= steps < 1_000_000
    assert [record.step for record in records] == list(range(steps))
    again = FastTorchStack(config_from_dict(config))
    losses = [record.loss for record in train(again, digits, steps)]
    assert losses == [record.loss for record in records]
    same_arrays(stored, again.state())
    left = ["checkpoints", "losses.csv", "losses.png", "run.json", "state.safetensors", "torch.trace"]
    assert sorted(path.name for path in out.iterdir() if "dcgan" not in path.name) == left


@pytest.mark.parametrize("pause", [0.0, 0.02, 0.2])
def test_an_impatient_user_sees_no_traceback(started, tmp_path: Path, pause: float) -> None:
    out = tmp_path / "run"
    process = started(["train", *FLAGS, "--steps", "1000000", "--out", str(out)], out / "dcgan_steps_000000.png")
    for _ in range(6):
        process.send_signal(signal.SIGINT)
        time.sleep(pause)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stderr == "stopped; every file written so far is valid\n" and "Traceback" not in stdout
    records = list(Trace(out / "torch.trace"))
    assert [record.step for record in records] == list(range(len(records)))


def test_record_stopped_in_mid_recording_leaves_a_valid_trace(started, tmp_path: Path) -> None:
    out = tmp_path / "trace"
    process = started(
        ["record", "--stack", "torch", *FLAGS, "--steps", "1000000", "--capture", "state@0:3", "-o", str(out)],
        out / "trace.json",
    )
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "stopped; every file written so far is valid\n")
    trace = Trace(out)
    assert [record.step for record in trace] == list(range(len(trace)))
    assert len(trace) >= 1
    assert trace.initial_state()
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoints",
        "chunk-000000.safetensors",
        "run.json",
        "trace.json",
    ]


# --- how it is held back -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("default_handler")
def test_the_step_under_way_is_finished_and_seen_before_ctrl_c_takes_effect() -> None:
    done, seen = [], []

    def steps() -> Iterator[StepRecord]:
        for step in range(5):
            if step == 2:
                press()
            done.append(step)
            yield StepRecord(step)

    with pytest.raises(KeyboardInterrupt):
        for record in followed(steps(), "test", 5):
            seen.append(record.step)
    assert done == seen == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("default_handler")
def test_a_second_ctrl_c_takes_effect_at_once() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        press()
        reached = True
        press()
        pytest.fail("the second Ctrl-C was held back too")
    assert reached


@pytest.mark.usefixtures("default_handler")
def test_a_run_that_ends_or_is_left_restores_ctrl_c() -> None:
    records = followed(iter([StepRecord(0), StepRecord(1)]), "test", 2)
    next(records)
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    records.close()  # type: ignore[attr-defined]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert len(list(followed(iter([StepRecord(0)]), "test", 1))) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("default_handler")
def test_where_ctrl_c_is_ignored_it_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts_held() as stop_if_asked:
        press()
        stop_if_asked()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_another_thread_may_follow_a_run_too() -> None:
    counts = []
    thread = threading.Thread(target=lambda: counts.append(len(list(followed(iter([StepRecord(0)]), "test", 1)))))
    thread.start()
    thread.join()
    assert counts == [1]
