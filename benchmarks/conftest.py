"""The benchmark session: what of it is asked for is measured once, in random rounds; the tests replay the samples."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pygan.benchmarking.plan import default_plan, measure
from pygan.benchmarking.report import KEY, read
from pygan.benchmarking.rows import ROWS
from pygan.files import write_json
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig

REPORT = pytest.StashKey[dict[str, Any]]()
WANTED = pytest.StashKey[list[tuple[str, str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the row benchmarks."""
    group = parser.getgroup("pygan benchmarks")
    group.addoption("--benchmark-full", action="store_true", help="batches 1 to 512 and 96, and every core count")
    group.addoption("--benchmark-narrow", action="store_true", help="the narrow recipe and few rounds: a trial run")
    group.addoption("--benchmark-seconds", type=float, default=45.0, help="seconds of sampling a group, about")
    group.addoption("--benchmark-replay", type=Path, help="measure nothing, replay this report")
    group.addoption("--benchmark-report", type=Path, help="also write pygan's own report to this file")


@pytest.hookimpl(trylast=True)  # after -k and -m have taken their part
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remember which rows of which groups were asked for, and skip those of the full run in a short one."""
    full = config.getoption("--benchmark-full")
    wanted = []
    for item in items:
        named = getattr(item, "callspec", None)
        if named is None or "row" not in named.params or "group" not in named.params:
            continue
        if item.get_closest_marker("full") and not full:
            item.add_marker(pytest.mark.skip(reason="only with --benchmark-full"))
        else:
            wanted.append((named.params["group"], named.params["row"]))
    config.stash[WANTED] = wanted


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """The report of everything that the selected tests replay; measured at first use."""
    config = request.config
    if config.getoption("--benchmark-replay"):
        config.stash[REPORT] = read(config.getoption("--benchmark-replay"))
        return config.stash[REPORT]
    wanted = config.stash[WANTED]
    narrow, full = config.getoption("--benchmark-narrow"), config.getoption("--benchmark-full")
    names = [name for name in ROWS if any(row == name for _, row in wanted)]
    recipe = FluxTutorialConfig(**NARROW, threads=1) if narrow else FluxTutorialConfig()  # type: ignore[arg-type]
    few: dict[str, Any] = {"rounds": 5, "sweep_rounds": 1, "repeats": 2} if narrow else {"rounds": 12}
    plan = default_plan(recipe, names, full, seconds=config.getoption("--benchmark-seconds"), **few)
    whole = ("step", "cuda", "bf16", "AVX2 only")
    phases = any(not group.startswith(whole) for group, _ in wanted)
    plan = dataclasses.replace(plan, phases=phases)
    command = "pytest " + " ".join(map(str, config.invocation_params.args))
    file = config.getoption("--benchmark-report")
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        sys.stderr.write("\n")
        save = (lambda found: write_json(file, found)) if file else None
        config.stash[REPORT] = measure(plan, _line(), save, command)
    return config.stash[REPORT]


def _line() -> Callable[[int, int, str], None]:
    """Progress on standard error: one line that is written over, or a line a group where there is no terminal."""
    shown = ""

    def tell(done: int, total: int, text: str) -> None:
        nonlocal shown
        title = text.partition(":")[0]
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}" + (f"  round {done + 1} of at most {total}" if total > 1 else ""))
        elif title != shown:
            sys.stderr.write(f"{title}\n")
        sys.stderr.flush()
        shown = title

    return tell


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    """Raw samples, verdicts, ratios and environment go into pytest-benchmark's json."""
    if REPORT in config.stash:
        output_json[KEY] = config.stash[REPORT]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The tables that pytest-benchmark has no place for: verdicts, ratios with intervals, what was not run."""
    if REPORT in config.stash:
        from pygan.benchmarking.table import lines

        terminalreporter.section("pygan benchmarks")
        for line in lines(config.stash[REPORT]):
            terminalreporter.write_line(line)
