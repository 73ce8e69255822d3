"""Random rounds, one row at a time, and the processes that rows run in."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pygan.benchmarking import machine, process
from pygan.benchmarking.groups import Measured
from pygan.benchmarking.process import RowProcess, child_environment
from pygan.benchmarking.rounds import FEWEST_ROUNDS, per_step, sample_rounds
from pygan.benchmarking.rows import CONTROL_SUFFIX, ROWS, available_cores
from pygan.benchmarking.session import Session, Settings, thread_settings
from pygan.benchmarking.torch_runner import TorchRunner
from pygan.benchmarking.verdicts import AGREE, DIFFERS, Verdict
from pygan.errors import ConfigError, WorkerError
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig

FAKE = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    match request["op"]:
        case "start": answer = {}
        case "spin":
            end = time.monotonic() + request["seconds"]
            while time.monotonic() < end: pass
            answer = {"seconds": [request["seconds"]]}
        case "configure": answer = {"error": "out of memory"} if request["images"] == 13 else {}
        case "steps": held, answer = bytearray(os.urandom(1 << 20) * 64), {"seconds": [1.0] * request["count"]}
        case "die": print("Segmentation fault", file=sys.stderr, flush=True); os._exit(3)
        case "refuse": answer = {"error": "CUDA out of memory"}
        case "garbage": print("Precompiling", flush=True); continue
        case "hang": time.sleep(60)
        case "threads": answer = {"omp": os.environ["OMP_NUM_THREADS"], "wait": os.environ["OMP_WAIT_POLICY"]}
    print(json.dumps(answer), flush=True)
"""


class Counted:
    """A process that must run only while it is sampled."""

    pid = os.getpid()

    def __init__(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def resume(self) -> None:
        self.running = True


def test_each_row_is_sampled_once_a_round_in_changing_order_with_the_others_stopped() -> None:
    processes = {name: Counted() for name in "abc"}
    order = []

    def sample(name: str) -> dict[str, list[float]]:
        assert [other for other, one in processes.items() if one.running] == [name]
        order.append(name)
        return {"seconds": [1.0, 3.0]}

    told = []
    found, idle, stopped = sample_rounds(processes, sample, 8, 60, tick=lambda *what: told.append(what))
    rounds = ["".join(order[at : at + 3]) for at in range(0, 24, 3)]
    assert all(sorted(one) == list("abc") for one in rounds)
    assert len(set(rounds)) > 2
    assert not stopped
    assert len(told) == 24
    assert {name: per_step(samples) for name, samples in found.items()} == dict.fromkeys("abc", [2.0] * 8)
    assert idle.keys() == processes.keys()


def test_spent_time_ends_the_rounds_but_not_before_the_fewest() -> None:
    found, _, _ = sample_rounds({"a": Counted()}, lambda name: {"seconds": [1.0]}, 50, 0.0)
    assert len(found["a"]) == FEWEST_ROUNDS


def test_ctrl_c_keeps_the_whole_rounds_and_without_one_is_raised() -> None:
    def stopping_at(last: int):  # type: ignore[no-untyped-def]
        taken = []

        def sample(name: str) -> dict[str, list[float]]:
            taken.append(name)
            if len(taken) == last:
                raise KeyboardInterrupt
            return {"seconds": [1.0]}

        return sample

    found, _, stopped = sample_rounds({"a": Counted(), "b": Counted()}, stopping_at(6), 9, 60)
    assert stopped
    assert {name: len(samples) for name, samples in found.items()} == {"a": 2, "b": 2}
    with pytest.raises(KeyboardInterrupt):
        sample_rounds({"a": Counted(), "b": Counted()}, stopping_at(2), 9, 60)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[RowProcess]:
    """A row's process that speaks the protocol without any stack."""
    monkeypatch.setattr(process, "child_command", lambda: [sys.executable, "-S", "-c", FAKE])
    made = RowProcess("torch-eager", {}, 2)
    yield made
    made.close()


@pytest.mark.skipif(not machine.has_proc(), reason="looks at processes through /proc")
def test_a_stopped_process_uses_no_processor_time_and_goes_on_when_asked(fake: RowProcess) -> None:
    fake.ask("spin", seconds=0.2)
    used = machine.processor_seconds(fake.pid)
    assert used > 0
    fake.stop()
    stat = Path(f"/proc/{fake.pid}/stat")
    deadline = time.monotonic() + 5
    while stat.read_text().rpartition(")")[2].split()[0] != "T" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stat.read_text().rpartition(")")[2].split()[0] == "T"
    assert machine.processor_seconds(fake.pid) - used <= 0.02
    assert fake.ask("spin", seconds=0.1) == {"seconds": [0.1]}


@pytest.mark.skipif(not machine.has_proc(), reason="looks at processes through /proc")
def test_the_tree_holds_the_children_and_its_peak_is_counted(fake: RowProcess) -> None:
    assert machine.tree(os.getpid()).index(os.getpid()) < machine.tree(os.getpid()).index(fake.pid)
    assert machine.peak_bytes(os.getpid()) > machine.peak_bytes(fake.pid) > 1 << 20


@pytest.mark.skipif(not machine.has_proc(), reason="looks at processes through /proc")
@pytest.mark.parametrize(("images", "fault"), [(128, ""), (13, "out of memory")])
def test_memory_is_that_of_a_process_that_only_trains(images: int, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "child_command", lambda: [sys.executable, "-S", "-c", FAKE])
    row = ROWS["torch-eager"]
    verdicts = {"torch-eager": AGREE, "torch-eager" + CONTROL_SUFFIX: AGREE, "torch-tuned": DIFFERS}
    measured = {label: Measured(row, {}, first_step=Verdict(word, "")) for label, word in verdicts.items()}
    with Session(2, Settings(rounds=1)) as session:
        timed = session.process("torch-eager", row)
        session._weigh("step", measured, FluxTutorialConfig(), images)
        assert timed.stopped and machine.peak_bytes(timed.pid) < 64 << 20
    weighed = measured.pop("torch-eager")
    assert weighed.peak_bytes > 64 << 20 if not fault else weighed.peak_bytes == 0
    assert fault in weighed.peak_fault and bool(fault) == bool(weighed.peak_fault)
    assert [one.peak_bytes for one in measured.values()] == [0, 0], "a control and a row without a time are not weighed"


def test_threads_are_set_for_every_library_and_none_waits_by_spinning(fake: RowProcess) -> None:
    assert fake.ask("threads") == {"omp": "2", "wait": "PASSIVE"}
    given = child_environment(3)
    assert {given[f"{library}_NUM_THREADS"] for library in ("OMP", "MKL", "OPENBLAS")} == {"3"}


def test_whatever_the_process_does_is_one_clear_error(fake: RowProcess) -> None:
    with pytest.raises(WorkerError, match="row torch-eager cannot do 'refuse': CUDA out of memory"):
        fake.ask("refuse")
    assert fake.ask("spin", seconds=0.0)
    with pytest.raises(WorkerError, match=r"answered 'garbage' with what is no answer: b'Precompiling"):
        fake.ask("garbage")
    with pytest.raises(WorkerError, match="has ended"):
        fake.ask("spin")


def test_a_death_carries_the_last_words(fake: RowProcess) -> None:
    with pytest.raises(WorkerError, match=r"died at 'die'.\nIts last words:\nSegmentation fault"):
        fake.ask("die")


def test_a_process_that_hangs_is_ended(fake: RowProcess) -> None:
    pid = fake.pid
    with pytest.raises(WorkerError, match=r"did not answer 'hang' in 0\.3 s"):
        fake.ask("hang", timeout=0.3)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_stopped_process_does_not_outlive_a_benchmark_that_is_killed() -> None:
    script = (
        "import sys, time; from pygan.benchmarking import process\n"
        "process.child_command = lambda: [sys.executable, '-c', sys.argv[1]]\n"
        "row = process.RowProcess('torch-eager', {}, 1); row.stop(); print(row.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, FAKE], stdout=subprocess.PIPE, text=True) as benchmark:
        assert benchmark.stdout is not None
        row = int(benchmark.stdout.readline())
        assert machine.tree(row) == [row]
        benchmark.kill()
    end = time.monotonic() + 10
    while (status := Path(f"/proc/{row}/stat")).exists() and status.read_text().split()[2] not in "ZX":
        assert time.monotonic() < end, "still there"
        time.sleep(0.05)


def test_a_stopped_process_can_be_closed(fake: RowProcess) -> None:
    fake.stop()
    fake.close()
    with pytest.raises(ProcessLookupError):
        os.kill(fake.pid, 0)


def test_settings_stay_within_the_first_steps() -> None:
    with pytest.raises(ConfigError, match=r"steps a sample = 5: 1 \.\. 4"):
        Settings(steps=5)
    with pytest.raises(ConfigError, match="rounds = 0"):
        Settings(rounds=0)


def test_thread_settings_never_exceed_the_cores() -> None:
    assert thread_settings(1) == [(1, 1)]
    assert thread_settings(2) == [(1, 2), (2, 1), (2, 2)]
    assert (4, 2) in thread_settings(8)
    assert available_cores() >= 1


def test_a_row_that_was_asked_for_other_changes_is_whole_again_when_it_is_configured(
    narrow: FluxTutorialConfig,
) -> None:
    runner = TorchRunner(ROWS["torch-tuned"], 1, "digits")
    runner.configure(narrow, 8, False)
    runner.ask("changes", changes=["memory"])
    assert runner.facts()["changes"] == ["memory"]
    runner.configure(narrow, 8, False)
    assert tuple(runner.facts()["changes"]) == ROWS["torch-tuned"].changes
