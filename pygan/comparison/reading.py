"""Which runs a path holds."""

from __future__ import annotations

from pathlib import Path

from pygan.comparison.gif_runs import gif_run, gif_runs
from pygan.comparison.runs import FinishedRun
from pygan.comparison.trained_runs import trace_run, trained_runs
from pygan.errors import DataError, PyganError

BROKEN = (KeyError, ValueError, TypeError, AttributeError, IndexError, OverflowError, MemoryError, RecursionError)
"""What reading raises where a file's content is not what its form promises."""


def read_runs(path: Path) -> list[FinishedRun]:
    """The runs at ``path``: a run's folder, a trace, a folder of ``pygan gif`` (both stacks), or one of its two GIFs.

    Raises ``DataError`` naming the file that is missing, damaged or of another form.
    """
    try:
        if path.suffix == ".gif" and path.is_file():
            return [gif_run(path.parent, path.stem, str(path))]
        if (path / "trace.json").is_file():
            return [trace_run(path)]
        if (path / "summary.json").is_file():
            return gif_runs(path)
        if path.is_dir():
            return trained_runs(path)
    except PyganError as error:
        where = "" if str(path) in str(error) else f"{path}: "
        raise DataError(f"{where}{error}. Make that run again, or name another one") from error
    except BROKEN as error:
        raise DataError(f"{path} is no whole run: {error!r}. Make it again, or name another one") from error
    raise DataError(f"{path} is no folder of a run, no trace and no GIF of `pygan gif`")
