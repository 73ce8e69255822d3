"""Where the traces of the planted bugs lie."""

from __future__ import annotations

from pathlib import Path

TRACES = Path(__file__).resolve().parents[1] / "traces"
JULIA = Path(__file__).resolve().parent / "julia"
