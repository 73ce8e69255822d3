"""Shared by the benchmarks: the environment goes into every report."""

from __future__ import annotations

from typing import Any

from pygan import environment


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["pygan"] = environment.describe()
    machine_info["node"] = machine_info["release"] = ""  # names of hosts and kernels say nothing about speed
