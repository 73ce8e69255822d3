"""For every test folder: the option that stores what ran, where and with which versions."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pygan import environment
from pygan.errors import PyganError
from pygan.files import write_json
from pygan.stacks.julia_setup import find_julia

# Tests run beside each other: a torch thread that waits by spinning takes the others' cores. Set before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
for _name in ("COLUMNS", "LINES"):  # a process of xdist has them, and a console keeps what it finds at its start
    os.environ.pop(_name, None)

RESULTS: list[dict[str, Any]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--results FILE``: write outcome and seconds of every test as JSON."""
    parser.addoption("--results", type=Path, help="write every test's outcome and the environment to this JSON file")


@cache
def julia_gap() -> str:
    """Why live Flux cannot run here; empty where it can."""
    try:
        find_julia().check()
    except PyganError as error:
        return str(error)
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the live tests where there is no Julia to run, saying how to get it."""
    for item in items:
        if item.get_closest_marker("live") and julia_gap():
            item.add_marker(pytest.mark.skip(reason=f"live Flux: {julia_gap()}"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the outcome of a test's call, or of a set-up that skipped or failed."""
    if report.when == "call" or report.outcome != "passed":
        reason = (
            str(report.longrepr[2]).splitlines()[0] if report.skipped and isinstance(report.longrepr, tuple) else ""
        )
        row = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 2)}
        RESULTS.append({**row, "reason": reason} if reason else row)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the results file."""
    path = session.config.getoption("--results")
    if path is None:
        return
    if not any(row["outcome"] == "passed" for row in RESULTS):
        print(f"\nno test passed, so {path} is left as it was")
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        return
    try:
        julia = find_julia().check()
    except PyganError:
        julia = {}
    names = ("julia", "Flux", "NNlib", "Zygote", "Optimisers", "PythonCall")
    write_json(
        path,
        {
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "environment": environment.describe(),
            "julia": {name: julia[name] for name in names if name in julia},
            "counts": {
                word: sum(row["outcome"] == word for row in RESULTS) for word in ("passed", "failed", "skipped")
            },
            "tests": RESULTS,
        },
    )
