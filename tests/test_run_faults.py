"""What ends a run from outside, and what must not: signals, readers that go away, two runs in one folder, full disks,
folders that vanish, numbers that are not finite."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from forked_pygan import SMALL, Server, hashes

from pygan import state
from pygan.cli import process
from pygan.cli.process import BETWEEN_STEPS, interrupts_held, signals_end_it
from pygan.errors import WorkerError
from pygan.run_folder import LOCK_FILE
from pygan.stacks.flux_stack import Worker
from pygan.stacks.julia_setup import JuliaSetup
from pygan.traces import Trace

LONG = ["train", *SMALL, "--steps", 1_000_000, "--every", 4, "--checkpoint-every", 5, "--out", "run"]


def wait_for(sign: Path) -> None:
    patience = time.monotonic() + 300  # on a busy machine
    while not sign.exists():
        assert time.monotonic() < patience, f"{sign} never came"
        time.sleep(0.02)


def as_if_it_was_short(server: Server, folder: Path, run: Path, steps: int) -> None:
    """Assert that ``run``, stopped after ``steps`` and gone on with to some more, is a run of so many."""
    more = steps + 3
    code, told = server.run(folder, "train", "--resume", "run", "--steps", more)
    assert code == 0 and f"going on at step {steps + 1} of {more}" in told
    (folder / "short").mkdir()
    assert server.run(folder / "short", *[more if one == 1_000_000 else one for one in LONG])[0] == 0
    assert hashes(run) == hashes(folder / "short" / "run")


# --- signals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)], ids=["term", "hup", "int"]
)
def test_a_signal_ends_a_training_after_the_step_under_way(server: Server, tmp_path: Path, number, code: int) -> None:
    run = tmp_path / "run"
    running = server.start(tmp_path, *LONG)
    wait_for(run / "dcgan_steps_000000.png")
    os.kill(running, number)
    ended, told = server.wait(running)
    assert ended == code, told
    assert "Traceback" not in told
    assert "`pygan train --resume run` goes on with it." in told
    assert told.endswith("stopped; every file written so far is valid\n")
    steps = int(state.load(run / "state.safetensors")[0]["step"])
    assert Trace(run / "torch.trace").steps == list(range(steps))
    assert (run / "checkpoints" / f"step-{steps:09d}" / "manifest.json").exists()
    assert not (run / LOCK_FILE).exists()
    if number == signal.SIGTERM:
        as_if_it_was_short(server, tmp_path, run, steps)


def test_who_runs_it_under_nohup_has_it_run_on(server: Server, tmp_path: Path) -> None:
    running = server.start(tmp_path, *LONG, ignored=[signal.SIGHUP])
    wait_for(tmp_path / "run" / "dcgan_steps_000000.png")
    os.kill(running, signal.SIGHUP)
    shown = len(list((tmp_path / "run").glob("*.png")))
    wait_for(tmp_path / "run" / f"dcgan_steps_{4 * shown + 8:06d}.png")
    os.kill(running, signal.SIGTERM)
    assert server.wait(running)[0] == 143


@pytest.mark.usefixtures("default_handler")
def test_a_step_that_takes_too_long_is_cut_by_sigterm_and_not_by_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    before = [signal.getsignal(one) for one in process.ENDING]
    with signals_end_it():
        with pytest.raises(KeyboardInterrupt) as cut, interrupts_held():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(20)
        assert BETWEEN_STEPS not in cut.value.args
        assert process.stop_code() == 143
        with pytest.raises(KeyboardInterrupt) as stopped, interrupts_held() as stop_if_asked:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)
            stop_if_asked()
        assert BETWEEN_STEPS in stopped.value.args
        assert process.stop_code() == 130
    assert [signal.getsignal(one) for one in process.ENDING] == before


@pytest.mark.usefixtures("default_handler")
def test_a_busy_worker_is_killed_when_its_run_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JuliaSetup, "check", lambda self: None)
    fake = [sys.executable, str(Path(__file__).with_name("fake_flux_worker.py"))]
    worker = Worker(JuliaSetup("julia", ".", "a test"), 60, fake)
    pid = worker.pid
    with signals_end_it():
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            worker.ask("hang")
    begun = time.monotonic()
    worker.close()
    assert time.monotonic() - begun < 4, "an idle one is given five seconds"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(WorkerError):
        worker.ask("state")


# --- readers and folders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", ["gone", "closed"])
def test_a_reader_that_goes_away_ends_nothing(server: Server, tmp_path: Path, reader: str) -> None:
    short = [3 if one == 1_000_000 else one for one in LONG]
    for folder, how in (("read", {}), ("unread", {"reader": reader})):
        (tmp_path / folder).mkdir()
        code, told = server.run(tmp_path / folder, *short, **how)
        assert code == 0 and "Traceback" not in told, told
    assert hashes(tmp_path / "unread" / "run") == hashes(tmp_path / "read" / "run")
    assert server.run(tmp_path, "recipes", reader=reader)[0] == 0, "1 would say that something differs"


def test_a_second_run_in_a_folder_is_refused_at_once_and_the_lock_dies_with_its_process(
    server: Server, tmp_path: Path
) -> None:
    running = server.start(tmp_path, *LONG)
    wait_for(tmp_path / "run" / "checkpoints" / "step-000000005")
    record = ["record", "--stack", "torch", *SMALL, "--steps", 1, "-o", "run"]
    for other in (LONG, ["train", "--resume", "run"], record, ["gif", "--flux", "recorded", "--out", "run"]):
        code, told = server.run(tmp_path, *other)
        assert code == 2, told
        assert "error: run is in use: another pygan run is writing into it. Wait for its end, or" in told
    os.killpg(running, signal.SIGKILL)
    assert server.wait(running)[0] == -9
    assert (tmp_path / "run" / LOCK_FILE).exists(), "the file stays, the lock does not"
    steps = max(Trace(tmp_path / "run" / "torch.trace").steps) + 2
    assert server.run(tmp_path, "train", "--resume", "run", "--steps", steps)[0] == 0


def test_a_full_disk_is_one_line_and_the_run_goes_on_once_there_is_room(server: Server, tmp_path: Path) -> None:
    """A limit on the size of a file fails as a full disk does; the open chunk of the trace is the first to reach it."""
    flags = ["train", *SMALL, "--steps", 12, "--every", 1, "--checkpoint-every", 2, "--out", "run"]
    code, told = server.run(tmp_path, *flags, largest_file=90_000)
    assert (code, "Traceback" in told) == (2, False), told
    assert "error: cannot write run/torch.trace/chunk-000000" in told and "File too large" in told
    kept = Trace(tmp_path / "run" / "torch.trace")
    assert kept.steps == list(range(len(kept))) and len(kept) >= 2
    code, told = server.run(tmp_path, "train", "--resume", "run")
    assert code == 0 and f"going on at step {len(kept) + 1} of 12" in told
    (tmp_path / "whole").mkdir()
    assert server.run(tmp_path / "whole", *flags)[0] == 0
    assert hashes(tmp_path / "run") == hashes(tmp_path / "whole" / "run")


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_folder_that_vanishes_ends_its_run_and_is_not_made_again(server: Server, tmp_path: Path, how: str) -> None:
    running = server.start(tmp_path, *LONG)
    wait_for(tmp_path / "run" / "checkpoints" / "step-000000005")
    (tmp_path / "run").rename(tmp_path / "moved")
    if how == "removed":
        shutil.rmtree(tmp_path / "moved")
    code, told = server.wait(running)
    assert (code, "Traceback" in told) == (2, False), told
    assert "error: run was removed or " in told.replace("run/torch.trace", "run")
    assert not (tmp_path / "run").exists()
    if how == "moved":
        steps = max(Trace(tmp_path / "moved" / "torch.trace").steps) + 2
        assert server.run(tmp_path, "train", "--resume", "moved", "--steps", steps)[0] == 0


def test_a_folder_that_cannot_be_written_is_told_before_anything_starts(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    record = ["record", "--stack", "flux", *SMALL]
    for command in (["train", *SMALL], ["gif", "--flux", "recorded"], record):
        code, told = server.run(tmp_path, *command, "--out", "file/run")
        assert code == 2
        assert "error: cannot write file/run: " in told and "/file is a file, not a folder. Choose a folder" in told
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        code, told = server.run(tmp_path, *LONG[:-1], "closed/run")
        assert code == 2 and "cannot write closed/run: Permission denied at " in told


# --- numbers -----------------------------------------------------------------------------------------------------

WILD = ["--discriminator-lr", "1e30", "--generator-lr", "1e30"]


def test_the_first_number_that_is_not_finite_stops_a_training(server: Server, tmp_path: Path) -> None:
    flags = ["train", *SMALL, *WILD, "--steps", 6, "--checkpoint-every", 1, "--out", "run"]
    code, told = server.run(tmp_path, *flags)
    assert (code, "Traceback" in told) == (4, False), told
    assert "error: the training diverged: " in told and " at step " in told
    assert "state.safetensors" not in told
    run = tmp_path / "run"
    assert not (run / "state.safetensors").exists(), "a state that is of no use"
    assert len(Trace(run / "torch.trace")) < 6, "it stopped there"
    assert server.run(tmp_path, "train", "--resume", "run")[0] == 4, "it comes to the same place again"

    code, told = server.run(tmp_path, "train", "--resume", "run", "--on-nan", "continue")
    assert code == 4, told
    assert told.count("the training diverged: ") == 2, "at once, and at the end"
    assert "warning: the training diverged: " in told and "error: the training diverged: " in told
    assert Trace(run / "torch.trace").training_steps == 6
    (tmp_path / "whole").mkdir()
    assert server.run(tmp_path / "whole", *flags, "--on-nan", "continue")[0] == 4
    assert hashes(run) == hashes(tmp_path / "whole" / "run")


def test_a_recording_stops_there_too_and_names_what_it_captured(server: Server, tmp_path: Path) -> None:
    flags = [*SMALL, *WILD, "--steps", 4, "--capture", "gradients"]
    code, told = server.run(tmp_path, "record", "--stack", "torch", *flags, "-o", "run")
    assert code == 4 and "error: the training diverged: " in told, told
    assert 1 <= len(Trace(tmp_path / "run")) <= 4
