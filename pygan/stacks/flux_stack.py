"""The flux stack: a client of a worker process in which Julia runs Flux."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import numpy as np

from pygan.config import RunConfig
from pygan.draws import Draws
from pygan.errors import ConfigError, StateError, WorkerError
from pygan.files import sha256
from pygan.processes import julia_environment, python_command, python_environment
from pygan.records import StepRecord
from pygan.stacks import TimedSteps
from pygan.stacks.julia_setup import JuliaSetup, find_julia
from pygan.stacks.wire import ArrayFile, parse_answer
from pygan.state import State

START_SECONDS = 900.0
"""Patience for Julia to start and, the first time, to compile Flux."""


def default_timeout() -> float:
    """Patience for one answer, in seconds: ``PYGAN_WORKER_TIMEOUT``, else 600."""
    given = os.environ.get("PYGAN_WORKER_TIMEOUT", "600")
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < threading.TIMEOUT_MAX:
        raise ConfigError(f"PYGAN_WORKER_TIMEOUT = {given!r} is no number of seconds above 0")
    return seconds


def worker_command() -> list[str]:
    """The command that starts the worker process. It is told whom to end with, unless a thread that may end earlier
    starts it."""
    command = python_command("pygan.stacks.flux_worker")
    return command + [str(os.getpid())] * (threading.current_thread() is threading.main_thread())


class Worker:
    """The worker process and its wire. Raises ``WorkerError`` with Julia's own words when it dies or hangs."""

    def __init__(self, setup: JuliaSetup, timeout: float, command: Sequence[str] | None = None) -> None:
        setup.check()
        self._timeout = timeout
        self._folder = Path(tempfile.mkdtemp(prefix="pygan-flux-"))
        self._log = self._folder / "worker.log"
        self._requests = ArrayFile(self._folder / "request")
        self._replies = ArrayFile(self._folder / "reply")
        environment = {**julia_environment(python_environment()), **setup.environment()}
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                command or worker_command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                # Ctrl-C is ours to handle, not the worker's: a process group of its own. Of our session, so that the
                process_group=0,  # system ends even a stopped worker when we are killed
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._owed = 0  # answers to requests whose wait was interrupted; they must not be taken for later ones
        threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines), daemon=True).start()
        self._finalizer = weakref.finalize(self, _end, self._process, self._folder, self._requests, self._replies)
        files = {"request": str(self._folder / "request"), "reply": str(self._folder / "reply")}
        try:
            ready = self._exchange(files, START_SECONDS)
        except BaseException:
            self.close()
            raise
        self.started: dict[str, float] = ready.get("started", {})
        """When (``time.monotonic``) the worker's ``process``, ``julia`` and ``package`` were up; empty for others."""
        if os.name == "posix":
            (self._folder / "request").unlink()
            (self._folder / "reply").unlink()

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def _julia_words(self) -> str:
        with contextlib.suppress(OSError):
            text = self._log.read_bytes()[-4000:].decode("utf-8", "replace").strip()
            if text:
                return f"\nIts last words:\n{text}"
        return ""

    def _exchange(self, message: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        assert self._process.stdin is not None
        text = json.dumps(message).encode() + b"\n"
        try:
            self._owed += 1
            self._process.stdin.write(text)
            self._process.stdin.flush()
            line = self._lines.get(timeout=timeout)
            self._owed -= 1
        except queue.Empty:
            words = self._julia_words()
            _kill(self._process)
            self.close()
            raise WorkerError(
                f"the flux worker did not answer {message.get('op', 'start')!r} in {timeout:g} s and was stopped; "
                f"PYGAN_WORKER_TIMEOUT sets the patience.{words}"
            ) from None
        except (OSError, ValueError):
            line = b""
        if not line:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            words, code = self._julia_words(), self._process.returncode
            self.close()
            raise WorkerError(f"the flux worker died at {message.get('op', 'start')!r} (exit code {code}).{words}")
        try:
            return parse_answer(line, str(message.get("op", "start")))
        except WorkerError as error:
            words = self._julia_words()
            self.close()
            raise WorkerError(f"{error}{words}") from None

    def ask(
        self, op: str, arrays: Mapping[str, np.ndarray] | None = None, **fields: Any
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """One request: ``(fields, arrays)`` of the answer. An error in Julia is a ``WorkerError`` with its message."""
        if not self._finalizer.alive:
            raise WorkerError(f"the flux worker has ended; {op!r} cannot be asked. Start a new stack.")
        self._skip_owed(op)
        table = self._requests.send(arrays or {})
        answer = self._exchange({"op": op, "arrays": table, **fields}, self._timeout)
        if "error" in answer:
            message, _, stacktrace = str(answer["error"]).partition("\nStacktrace:")
            error = WorkerError(f"Julia refused {op!r}: {message}")
            error.add_note(f"Stacktrace in Julia:{stacktrace}")
            raise error
        return answer, self._replies.receive(answer.pop("arrays"))

    def _skip_owed(self, op: str) -> None:
        """Let the answers to interrupted requests come and go before the files are used again."""
        while self._owed:
            try:
                if not self._lines.get(timeout=self._timeout):
                    self._lines.put(b"")  # the worker died; the next exchange says so
                    return
            except queue.Empty:
                _kill(self._process)
                self.close()
                raise WorkerError(
                    f"the flux worker is still busy with an interrupted request; {op!r} cannot be asked"
                ) from None
            self._owed -= 1

    def close(self) -> None:
        """End the process and remove its files. One that is busy would not notice, and is killed."""
        if self._owed:
            _kill(self._process)
        self._finalizer()


def _read_lines(stream: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    with stream:
        for line in stream:
            lines.put(line)
    lines.put(b"")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the worker and whatever it started (it leads a process group of its own)."""
    if process.poll() is None:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended in this moment
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def _end(process: subprocess.Popen[bytes], folder: Path, *files: ArrayFile) -> None:
    with contextlib.suppress(OSError):
        if process.stdin is not None:
            process.stdin.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.wait()
    for file in files:
        file.close()
    shutil.rmtree(folder, ignore_errors=True)


class FluxStack:
    """Runs the Flux side of a recipe. See :class:`pygan.stacks.Stack` for the methods.

    Julia files named by the config (:attr:`RunConfig.julia_files`) and by ``include`` are evaluated inside PyganFlux
    before anything is built: recipes of your own, or changes to what is there.

    Raises ``JuliaNotFound`` where there is no Julia to run, ``WorkerError`` where the worker fails.
    """

    name = "flux"

    def __init__(
        self,
        config: RunConfig,
        setup: JuliaSetup | None = None,
        timeout: float | None = None,
        include: Sequence[Path] = (),
    ) -> None:
        self.config: Any = config
        if missing := [str(path) for path in config.julia_files if not path.is_file()]:
            raise ConfigError(f"there is no {', '.join(missing)}: the Flux side of the recipe {config.recipe}")
        self.worker = Worker(setup or find_julia(), default_timeout() if timeout is None else timeout)
        threads = config.threads or os.cpu_count() or 1
        try:
            for path in (*config.julia_files, *include):
                self.worker.ask("include", path=str(Path(path).resolve()))
            self._facts, _ = self.worker.ask("configure", config=config.to_dict(), blas_threads=threads)
            if self._facts["blas_threads"] != threads:
                raise WorkerError(f"BLAS runs {self._facts['blas_threads']} threads, {threads} were asked for")
        except BaseException:
            self.close()
            raise

    def initialise(self) -> None:
        self.worker.ask("initialise")

    def describe(self) -> dict[str, Any]:
        facts = {**self._facts, "juliacall": metadata.version("juliacall")}
        if self.config.device != "cpu" and facts["device"] == "cpu":
            facts["warning"] = f"device = {self.config.device}: Flux has no GPU here and runs on the CPU"
        return facts

    def state(self) -> State:
        return self.worker.ask("state")[1]

    def load_state(self, state: State) -> None:
        self._load("load_state", state)

    def checkpoint(self) -> dict[str, np.ndarray]:
        try:
            return self.worker.ask("checkpoint")[1]
        except WorkerError as error:
            if "cannot be continued" in str(error):
                raise StateError(str(error)) from error
            raise

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._load("restore", arrays)

    def _load(self, op: str, state: Mapping[str, np.ndarray]) -> None:
        try:
            self.worker.ask(op, state)
        except WorkerError as error:
            if "state does not fit" in str(error):
                raise StateError(str(error)) from error
            raise

    def rules(self) -> dict[str, str]:
        return dict(self.worker.ask("rules")[0]["rules"])

    def step(self, batch: np.ndarray, draws: Draws, capture: Sequence[str] = ()) -> StepRecord:
        arrays = {"batch": batch, **{f"override/{key}": value for key, value in draws.overrides.items()}}
        fields, kept = self.worker.ask("step", arrays, seed=draws.seed, step=draws.step, capture=list(capture))
        return StepRecord.from_arrays(fields["step"], kept, sha256(batch.tobytes()), fields["order"])

    def generate(self, latent: np.ndarray) -> np.ndarray:
        return self.worker.ask("generate", {"latent": latent})[1]["pictures"]

    def grid(self, pictures: np.ndarray) -> np.ndarray:
        return self.worker.ask("grid", {"pictures": pictures})[1]["grid"]

    def batch_hashes(self, images: np.ndarray, steps: Sequence[int]) -> list[str]:
        asked = {"seed": self.config.seed, "step": 0, "steps": list(steps)}
        return list(self.worker.ask("batches", {"images": images}, **asked)[0]["sha256"])

    def time_steps(self, batches: Sequence[np.ndarray], draws: Draws) -> TimedSteps:
        arrays = {f"batch/{i}": batch for i, batch in enumerate(batches)}
        fields, _ = self.worker.ask("time_steps", arrays, seed=draws.seed, step=draws.step, batches=len(batches))
        return TimedSteps(fields["seconds"], fields["losses"])

    def close(self) -> None:
        self.worker.close()
