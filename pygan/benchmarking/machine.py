"""Process trees: their peak memory and processor time, and what else a benchmark must say of the machine."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from pygan import environment

_PROC = Path("/proc")


def has_proc() -> bool:
    """Can process trees be looked at here (Linux)?"""
    return (_PROC / "self" / "status").exists()


def tree(pid: int) -> list[int]:
    """``pid`` and everything it started, parents first; just ``pid`` where processes cannot be looked at."""
    if not has_proc():
        return [pid]
    children: dict[int, list[int]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def peak_bytes(pid: int) -> int:
    """Sum of the peak resident memory of every process of the tree; 0 where it cannot be looked at."""
    total = 0
    for one in tree(pid) if has_proc() else ():
        with contextlib.suppress(OSError):
            for line in (_PROC / str(one) / "status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    total += 1024 * int(line.split()[1])
    return total


def processor_seconds(pid: int) -> float:
    """Processor time that the tree has used so far; 0 where it cannot be looked at."""
    ticks = 0
    for one in tree(pid) if has_proc() else ():
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (_PROC / str(one) / "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0


def _first_line(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text().strip()
    return "unknown"


def snapshot() -> dict[str, Any]:
    """The environment of a report: versions, processor, clocks and load."""
    facts = environment.describe()
    facts["load_at_start"] = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []
    if sys.platform == "linux":
        facts["governor"] = _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        for line in _first_line("/proc/meminfo").splitlines():
            if line.startswith("MemTotal:"):
                facts["memory_bytes"] = 1024 * int(line.split()[1])
    return facts
