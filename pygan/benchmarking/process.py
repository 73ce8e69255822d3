"""A row's process: started for one row, asked by JSON lines, stopped while others are timed."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping
from typing import IO, Any

from pygan.benchmarking import machine
from pygan.errors import WorkerError
from pygan.files import parse_json
from pygan.processes import python_command, python_environment
from pygan.recipes.own import for_children

START_SECONDS = 1200.0
ANSWER_SECONDS = 1200.0


def child_command() -> list[str]:
    """The command that starts a row's process."""
    return python_command("pygan.benchmarking.child")


def child_environment(cores: int, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment with every library's thread count set to ``cores``, no thread that waits by spinning, and
    ``more``."""
    counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    threads = {**dict.fromkeys(counts, str(cores)), "OMP_WAIT_POLICY": "PASSIVE"}
    return {**python_environment(), **for_children(), **threads, **(more or {})}


class RowProcess:
    """The process that runs one row. Raises ``WorkerError`` with its last words when it dies, hangs or refuses."""

    def __init__(self, name: str, spec: Mapping[str, Any], cores: int) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the finalizer
        self._process = subprocess.Popen(
            child_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=child_environment(cores, dict(spec.get("row", {}).get("environment", ()))),
            process_group=0,  # in our session: a stopped process whose parent is killed is then ended by the system
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True).start()
        self._finalizer = weakref.finalize(self, _end, self._process, self._log)
        self.stopped = False
        self.ask("start", START_SECONDS, spec=dict(spec))

    @property
    def pid(self) -> int:
        """Process id of the row's process."""
        return self._process.pid

    def ask(self, op: str, timeout: float = ANSWER_SECONDS, **fields: Any) -> dict[str, Any]:
        """One request and its answer."""
        if not self._finalizer.alive:
            raise WorkerError(f"the process of row {self.name} has ended; it cannot be asked for {op!r}")
        self.resume()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **fields}).encode() + b"\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            self._fail(f"did not answer {op!r} in {timeout:g} s")
        except (OSError, ValueError):
            line = b""
        if not line:
            self._fail(f"died at {op!r}")
        try:
            answer = parse_json(line)
        except ValueError:
            self._fail(f"answered {op!r} with what is no answer: {line[:200]!r}")
        if "error" in answer:
            raise WorkerError(f"row {self.name} cannot do {op!r}: {answer['error']}")
        return dict(answer)

    def _fail(self, what: str) -> Any:
        words = self._last_words()
        self.close()
        raise WorkerError(f"the process of row {self.name} {what}.{words}")

    def _last_words(self) -> str:
        self._log.seek(0)
        text = self._log.read()[-3000:].decode("utf-8", "replace").strip()
        return f"\nIts last words:\n{text}" if text else ""

    def stop(self) -> None:
        """Take the whole process tree off the processor until it is asked again (POSIX)."""
        if not self.stopped and hasattr(signal, "SIGSTOP"):
            _signal_tree(self.pid, signal.SIGSTOP)
            self.stopped = True

    def resume(self) -> None:
        """Undo :meth:`stop`."""
        if self.stopped:
            _signal_tree(self.pid, signal.SIGCONT)
            self.stopped = False

    def close(self) -> None:
        """End the process and everything it started."""
        with contextlib.suppress(OSError):
            self.resume()
        self._finalizer()


def _signal_tree(pid: int, number: int) -> None:
    for one in machine.tree(pid):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(one, number)


def _read_lines(stream: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(b"")


def _end(process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    if hasattr(signal, "SIGCONT") and process.poll() is None:
        _signal_tree(process.pid, signal.SIGCONT)
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        for one in reversed(machine.tree(process.pid)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(one, getattr(signal, "SIGKILL", signal.SIGTERM))
        process.wait()
    log.close()


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for first steps on their way to the judge."""
    return tempfile.TemporaryDirectory(prefix="pygan-bench-")
