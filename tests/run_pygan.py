"""Running the command line inside a test's process."""

import os
import signal
import sys
from collections.abc import Callable

import pytest

from pygan import cli

MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from pygan.cli import main
main()
"""
"""The command line for a process of its own, in which Ctrl-C works even where the tests' parent ignores it."""

Pygan = Callable[..., tuple[int, str, str]]


def runner(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Pygan:
    """Call it with a command's arguments: ``(exit code, stdout, stderr)``."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pygan", *map(str, arguments)])
        code, before = 0, signal.getsignal(signal.SIGINT)
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            signal.signal(signal.SIGINT, before)  # a stopped command ignores it from then on
        return code, *capfd.readouterr()

    return run


def refused(result: tuple[int, str, str], *words: str) -> None:
    """Assert exit code 2 and one message on standard error that says ``words``, without a traceback."""
    code, out, err = result
    assert code == 2, out + err
    assert "Traceback" not in out + err
    assert err.startswith("error: ")
    for word in words:
        assert word in err


def press() -> None:
    """Ctrl-C in this process; needs the fixture ``default_handler``."""
    os.kill(os.getpid(), signal.SIGINT)
