"""Where the files lie that are not Python: the Julia package and the recorded traces."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def julia_dir() -> Path:
    """Folder of the Julia package ``PyganFlux``: ``pygan/_julia`` in a wheel, ``julia/`` in a checkout."""
    shipped = _PACKAGE / "_julia"
    return shipped if shipped.is_dir() else _PACKAGE.parent / "julia"


def shared_table(name: str) -> Path:
    """A data file that both languages read (one copy, under the Julia package's ``share/``)."""
    return julia_dir() / "share" / name


def traces_dir() -> Path:
    """Folder of the traces recorded from real runs, shipped with the package."""
    return _PACKAGE / "traces"
