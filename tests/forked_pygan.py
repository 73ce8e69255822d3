"""The command line in processes that start at once: a server that has imported everything forks one for each command.

A forked process can be killed in the middle of what it does, at a moment that is the same each time.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

Kill = tuple[str, int]
"""Where a process kills its group: a moment of :data:`MOMENTS` (of files whose name ends so after a colon), and at
which occurrence, from 1."""
MOMENTS = ("step", "line", "sync", "half", "replace", "replaced", "rename", "renamed")

SMALL = ["--width", 2, "--latent-dim", 5, "--batch", 8, "--grid", 2, "--samples", 38, "--threads", 1]
CHUNKS = {"chunk_bytes": 2000}
"""A chunk is full after a few steps."""


VARYING = {"trace.json": "recorded", "run.json": "typed"}
"""What may differ between two runs that are the same: when, and by which command, each was begun."""


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of every file of a run by its place, but for what is :data:`VARYING`."""
    found = {}
    for path in sorted(run.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name in VARYING:
                content = json.dumps({**json.loads(content), VARYING[path.name]: ""}).encode()
            found[str(path.relative_to(run))] = hashlib.sha256(content).hexdigest()
    return found


class Server:
    """Runs commands one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._logs: dict[int, Path] = {}

    def start(self, folder: Path, *arguments: object, kill: Kill | None = None, **settings: Any) -> int:
        """Start a command in ``folder``; returns its process id, which is its group's too."""
        asked = {"folder": str(folder), "arguments": [str(one) for one in arguments], "kill": kill, **settings}
        process = int(self._answer(asked))
        self._logs[process] = folder / f"{process}.log"
        return process

    def wait(self, process: int) -> tuple[int, str]:
        """The exit code (minus the signal's number) of a command, and all that it printed."""
        code = int(self._answer({"wait": process}))
        log = self._logs.pop(process)
        text = log.read_text(encoding="utf-8", errors="replace")
        log.unlink()
        return code, text

    def run(self, folder: Path, *arguments: object, kill: Kill | None = None, **settings: Any) -> tuple[int, str]:
        """Start a command and wait for its end."""
        return self.wait(self.start(folder, *arguments, kill=kill, **settings))

    def run_for(self, seconds: float, folder: Path, *arguments: object, **settings: Any) -> tuple[int, str]:
        """Start a command and kill its process group after so many seconds, if it still runs."""
        process = self.start(folder, *arguments, **settings)
        time.sleep(seconds)
        os.killpg(process, signal.SIGKILL)  # not waited for yet, so the number is still its own
        return self.wait(process)

    def _answer(self, asked: dict[str, Any]) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def close(self) -> None:
        self._process.communicate()


# --- the server's side -------------------------------------------------------------------------------------------


IMPORTED = ("torch._dynamo", "pygan.recipes.flux_tutorial", "pygan.pictures.gif", "pygan.recording")
"""What takes longer to import than to run."""


def serve() -> None:
    from PIL import Image

    from pygan import cli

    for name in (
        *IMPORTED,
        "pygan.stacks.fast.stack",
        "pygan.traces",
        "pygan.losses",
        "matplotlib.backends.backend_agg",
    ):
        import_module(name)
    Image.init()
    replies, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    sys.argv = ["pygan", "train", "--print-config"]
    with contextlib.suppress(SystemExit):
        cli.main()
    sys.stdout = replies
    gc.freeze()

    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            status = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
            print(status, flush=True)
        elif process := os.fork():
            print(process, flush=True)
        else:
            command(asked)


def command(asked: dict[str, Any]) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):  # the tests may run under nohup
        signal.signal(number, signal.SIG_DFL)
    os.chdir(asked["folder"])
    log = os.open(f"{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for number in (1, 2):
        os.dup2(log, number)
    match asked.get("reader"):
        case "gone":
            mine, its = os.pipe()
            os.close(mine)
            os.dup2(its, 1)
        case "closed":
            os.close(1)
            sys.stdout = None  # type: ignore[assignment]
    if "largest_file" in asked:
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["largest_file"],) * 2)
    for number in asked.get("ignored", ()):
        signal.signal(number, signal.SIG_IGN)
    from pygan import cli, traces

    traces.CHUNK_BYTES = asked.get("chunk_bytes", traces.CHUNK_BYTES)
    if asked["kill"]:
        hook(*asked["kill"])
    sys.argv = ["pygan", *asked["arguments"]]
    code = 1
    try:
        cli.main()
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException as error:
        print("Traceback of", repr(error), flush=True)
    os._exit(code)


def hook(moment: str, occurrence: int) -> None:
    """Have this process kill its group at that moment."""
    moment, _, ending = moment.partition(":")
    left = occurrence

    def now(name: object = "") -> bool:
        nonlocal left
        if ending in str(name):
            left -= 1
        return left == 0

    def die() -> None:
        os.killpg(0, signal.SIGKILL)

    if moment in ("replace", "replaced", "rename", "renamed"):
        original = getattr(os, moment.removesuffix("d"))

        def moved(source: Any, target: Any) -> None:
            here = now(target)
            if here and not moment.endswith("d"):
                die()
            original(source, target)
            if here:
                die()

        setattr(os, moment.removesuffix("d"), moved)
    elif moment == "sync":
        sync = os.fsync
        os.fsync = lambda descriptor: die() if now() else sync(descriptor)  # type: ignore[assignment]
    elif moment == "step":
        from pygan.stacks.torch_run import Run

        update = Run.update

        def updated(self: Run, *arguments: Any) -> None:
            update(self, *arguments)
            if now():
                die()

        Run.update = updated  # type: ignore[method-assign]
    elif moment == "line":
        from pygan.cli.process import _Lasting

        write = _Lasting.write

        def written(self: Any, text: str) -> int:
            if now(text):
                os.write(1, text[: len(text) // 2].encode())
                die()
            return write(self, text)

        _Lasting.write = written  # type: ignore[method-assign]
    else:
        assert moment == "half", moment
        opened = builtins.open

        def half(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
            stream = opened(file, mode, *arguments, **named)
            if "w" in mode and now(file):
                return Half(stream, die)
            return stream

        builtins.open = half  # type: ignore[assignment]
        import io

        io.open = half  # type: ignore[assignment]


class Half:
    """A file of which only half of what is written to it arrives before the end."""

    def __init__(self, stream: Any, die: Any) -> None:
        self._stream, self._die = stream, die

    def write(self, content: bytes) -> None:
        self._stream.write(memoryview(content)[: len(content) // 2])
        self._stream.flush()
        self._die()

    def __enter__(self) -> Half:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


if __name__ == "__main__":
    serve()
