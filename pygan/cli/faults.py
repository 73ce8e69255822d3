"""What a user is told of an exception: one line and an exit code; details of the unexpected go into a log file."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import time
import traceback
from typing import Any

from pygan import __version__
from pygan.errors import BUG, PyganError
from pygan.recipes.own import own_fault

BAD_INPUT = PyganError.exit_code
_OF_INPUT: tuple[tuple[type[Exception], str], ...] = (
    (UnicodeError, "a name or a text holds characters that cannot be used here"),
    (RecursionError, "something that was given is nested too deep"),
    (MemoryError, "there is not enough memory; smaller sizes (--batch, --samples, fewer at once) need less"),
    (OverflowError, "a number that was given is too large"),
)
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def explained(error: BaseException) -> tuple[int, str]:
    """Exit code and one message for a user: 2 where input or environment is to blame, :data:`BUG` where pygan is."""
    if isinstance(error, PyganError):
        return error.exit_code, str(error)
    if told := own_fault(error):
        return BAD_INPUT, f"in your recipe: {told}"
    if isinstance(error, OSError):
        return BAD_INPUT, str(error)
    if is_usage(error):
        return BAD_INPUT, str(error.format_message())  # type: ignore[attr-defined]
    detail = _first_line(error)
    for kind, words in _OF_INPUT:
        if isinstance(error, kind):
            return BAD_INPUT, f"{words} ({detail})"
    if isinstance(error, RuntimeError) and any(words in detail.lower() for words in _OUT_OF_MEMORY):  # torch's
        return BAD_INPUT, f"{_OF_INPUT[2][1]} ({detail})"
    if isinstance(error, ImportError) and not (error.name or "").startswith("pygan"):
        return BAD_INPUT, f"{detail}; a package is missing or broken, `pygan doctor` lists what is needed"
    return BUG, f"this is a fault of pygan itself, please report it: {type(error).__name__}: {detail}"


def expected(error: BaseException) -> bool:
    """Does the message say all there is to say, so that no log is needed?"""
    return isinstance(error, PyganError | OSError) or is_usage(error) or bool(own_fault(error))


def is_usage(error: BaseException) -> bool:
    """Is it what typer's parser raises of a wrong command line? (From which package depends on its version.)"""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def interrupted(error: BaseException | None) -> bool:
    """Was ``error`` caused by Ctrl-C? A library that is stopped while it starts may raise something else."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_log(error: BaseException) -> str:
    """Write traceback, command and versions to a new file in the temporary folder; its path, empty if that fails."""
    facts: dict[str, Any] = {
        "pygan": __version__,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": sys.argv,
        "python": sys.version,
        "platform": platform.platform(),
    }
    lines = [f"{name}: {value}" for name, value in facts.items()]
    lines += ["", *traceback.format_exception(error)]
    with contextlib.suppress(OSError, RecursionError):
        handle, path = tempfile.mkstemp(prefix="pygan-error-", suffix=".log")
        with os.fdopen(handle, "wb") as file:
            file.write("\n".join(lines).encode("utf-8", "backslashreplace"))
        return path
    return ""


def _first_line(error: BaseException) -> str:
    with contextlib.suppress(Exception):  # an exception may fail even to say what it is
        return str(error).strip().partition("\n")[0][:300] or type(error).__name__
    return type(error).__name__
