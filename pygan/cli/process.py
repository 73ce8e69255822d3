"""What the process of a command makes of signals and of readers that go away."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a command as Ctrl-C does."""
GRACE_SECONDS = 3.0
"""So long may the step under way take after SIGTERM or SIGHUP: whoever sends them does not wait for ever."""
BETWEEN_STEPS = "between two steps"
"""What a Ctrl-C carries that took effect where the state is whole; one without it may have cut a step in half."""

_asked: list[int] = []


def stop_code() -> int:
    """The exit code of a command that was stopped: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + (_asked[-1] if _asked else signal.SIGINT)


@contextlib.contextmanager
def signals_end_it() -> Iterator[None]:
    """SIGTERM and SIGHUP raise ``KeyboardInterrupt`` too, unless the caller ignores them (as ``nohup`` does)."""
    _asked.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: Any) -> None:
        _asked.append(number)
        raise KeyboardInterrupt

    before = {one: signal.getsignal(one) for one in ENDING}
    taken = [one for one in ENDING if before[one] == signal.SIG_DFL]
    for one in taken:
        signal.signal(one, stop)
    try:
        yield
    finally:
        for one in taken:
            signal.signal(one, before[one])


def ignore_further() -> None:
    """Let no further signal break the end of a command that is stopped already; for the rest of the process."""
    if threading.current_thread() is threading.main_thread():
        for one in ENDING:
            signal.signal(one, signal.SIG_IGN)


@contextlib.contextmanager
def interrupts_held() -> Iterator[Callable[[], None]]:
    """Hold the first signal to end back until the yielded function is called; a second one takes effect at once, and
    after SIGTERM and SIGHUP so does the end of :data:`GRACE_SECONDS`."""
    before = {one: signal.getsignal(one) for one in ENDING}
    held = [one for one in ENDING if callable(before[one])]
    if threading.current_thread() is not threading.main_thread() or not held:
        yield lambda: None  # another thread's business, or Ctrl-C is ignored
        return
    asked = False

    def release() -> None:
        for one in held:
            signal.signal(one, before[one])

    def late(*_: Any) -> None:
        raise KeyboardInterrupt

    def hold(number: int, _: Any) -> None:
        nonlocal asked
        asked = True
        _asked.append(number)
        release()
        if number != signal.SIGINT:
            signal.signal(signal.SIGALRM, late)
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

    def stop_if_asked() -> None:
        if asked:
            raise KeyboardInterrupt(BETWEEN_STEPS)

    for one in held:
        signal.signal(one, hold)
    try:
        yield stop_if_asked
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        release()


class _Lasting:
    """A text stream that drops what nobody reads any more instead of ending the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write ``text``, or drop it."""
        with self._or_nowhere():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is pending, or drop it."""
        with self._or_nowhere():
            self._stream.flush()

    @contextlib.contextmanager
    def _or_nowhere(self) -> Iterator[None]:
        try:
            yield
        except OSError:  # the reader is gone, the terminal closed, the disk full
            with contextlib.suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Standard output and error that outlive their readers; a console that lacks a character shows "?" instead."""
    for number in range(3):  # a closed one would lend its number to the next file that is opened
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    lasting = [_Lasting(stream or open(os.devnull, "w", encoding="utf-8")) for stream in before]  # noqa: SIM115
    sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in lasting)
    try:
        yield
    finally:
        for stream in lasting:
            stream.flush()
        sys.stdout, sys.stderr = before
