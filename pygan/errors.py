"""Errors that reach a user as one message, never as a traceback.

Exit codes of the command line (one meaning each, everywhere): 0 agree or done, 1 differs,
2 bad input or environment, 3 cannot tell (of ``pygan bench --against``), 4 a training diverged, 70 a fault of pygan
itself, 129, 130 and 143 stopped by SIGHUP, Ctrl-C and SIGTERM.
"""

from __future__ import annotations

BUG = 70
"""Exit code where pygan itself is to blame (``EX_SOFTWARE`` of sysexits.h)."""


class PyganError(Exception):
    """Base of every error that a user can cause or mend. ``exit_code`` is the process's exit code."""

    exit_code = 2


class ConfigError(PyganError):
    """A value in a config is missing, unknown or out of range."""


class StateError(PyganError):
    """A tensor of a state is missing, extra, mis-shaped or of the wrong dtype."""


class DataError(PyganError):
    """A data file is missing, truncated, mislabelled or has the wrong checksum."""


class TraceError(PyganError):
    """A trace on disk cannot be read, or does not hold what is asked of it."""


class OutputError(PyganError):
    """A result cannot be written where it was asked to go."""


class Diverged(PyganError):
    """A training came to numbers that are not finite."""

    exit_code = 4


class JuliaNotFound(PyganError):
    """No Julia, or a Julia without the packages that the flux stack needs."""


class WorkerError(PyganError):
    """The flux worker died, hung, or answered with an error of its own."""
