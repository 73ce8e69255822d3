"""How long the flux worker takes from nothing to its first step, and where the time goes.

    python tools/cold_start.py [--starts 3] [--before] [--precompile]

Starts a fresh worker several times at the published size (batch 128) and at the narrow one, in turn, and times from
the moment ``FluxStack(config)`` is asked for. Prints a table of medians and writes docs/results/cold-start.json.
``--before`` stores the figures as those that later ones are held against; without it such a block is kept.
``--precompile`` also compiles the Julia package anew, once, and notes the seconds: what an edit under julia/ costs.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pygan import environment
from pygan.benchmarking.machine import processor_seconds
from pygan.draws import Draws
from pygan.files import write_json
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.stacks.flux_stack import FluxStack
from pygan.stacks.julia_setup import JuliaSetup, find_julia

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "docs" / "results" / "cold-start.json"
SIZES = {"published": FluxTutorialConfig(), "narrow": FluxTutorialConfig().replace(**NARROW)}
STAGES = {
    "process": "worker process with Python up",
    "julia": "Julia and juliacall started",
    "package": "PyganFlux and Flux loaded",
    "configured": "stack built for the config",
    "initialised": "initialised again",
    "first_step": "first step answered",
    "second_step": "second step answered",
}
"""Parts of a start, in their order; the seconds of each are those since the one before."""
COMPILE = 'using Base: identify_package, compilecache; compilecache(identify_package("PyganFlux"))'


def start(config: FluxTutorialConfig) -> dict[str, float]:
    """Seconds of each stage of one start; ``total`` to the first step's answer, ``cpu`` the processor time to there.

    ``cpu`` counts every thread of the worker, and hardly changes with what else the machine does.
    """
    batch = np.random.default_rng(0).uniform(-1, 1, (config.batch, 1, 28, 28)).astype(np.float32)
    moments = [time.monotonic()]
    stack = FluxStack(config)
    try:
        moments += [*stack.worker.started.values(), time.monotonic()]
        stack.initialise()
        moments.append(time.monotonic())
        stack.step(batch, Draws(config.seed, 0))
        moments.append(time.monotonic())
        cpu = processor_seconds(stack.worker.pid)
        stack.step(batch, Draws(config.seed, 1))
        moments.append(time.monotonic())
    finally:
        stack.close()
    spent = dict(zip(STAGES, np.diff(moments).tolist(), strict=True))
    return {**spent, "total": moments[-2] - moments[0], "cpu": cpu}


def measure(starts: int) -> dict[str, Any]:
    """Medians and samples of ``starts`` starts of each size, in turn."""
    samples: dict[str, list[dict[str, float]]] = {size: [] for size in SIZES}
    for number in range(starts):
        for size, config in SIZES.items():
            samples[size].append(start(config))
            print(f"start {number + 1}/{starts}, {size}: {samples[size][-1]['total']:.1f} s", file=sys.stderr)
    return {
        size: {
            "median": {part: round(median(one[part] for one in listed), 3) for part in listed[0]},
            "samples": [{part: round(value, 3) for part, value in one.items()} for one in listed],
        }
        for size, listed in samples.items()
    }


def precompile_seconds(setup: JuliaSetup) -> dict[str, float]:
    """Wall and processor seconds in which Julia compiles PyganFlux anew, its own start included."""
    began, cpu = time.monotonic(), _children_seconds()
    command = [setup.executable, "--startup-file=no", f"--project={setup.project}", "-e", COMPILE]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return {"wall": round(time.monotonic() - began, 1), "cpu": round(_children_seconds() - cpu, 1)}


def _children_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


def table(stored: Mapping[str, Any]) -> str:
    """Median seconds of each stage, before and now."""
    blocks = {name: stored[name] for name in ("before", "now") if name in stored}
    columns = [(f"{size}, {name}", block["sizes"][size]["median"]) for size in SIZES for name, block in blocks.items()]
    words = {**STAGES, "total": "all, to the first step's answer", "cpu": "processor seconds to there"}
    width = max(map(len, words.values()))
    lines = [" " * width + "".join(f"  {title:>17}" for title, _ in columns)]
    for part, text in words.items():
        lines.append(f"{text:<{width}}" + "".join(f"  {medians[part]:>17.2f}" for _, medians in columns))
    for name, block in blocks.items():
        if "precompile_seconds" in block:
            spent = block["precompile_seconds"]
            lines.append(f"PyganFlux compiled anew, {name}: {spent['wall']:.0f} s, {spent['cpu']:.0f} of the processor")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, store, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--starts", type=int, default=3, help="starts of each size (default 3)")
    parser.add_argument("--before", action="store_true", help="store as the figures to be held against")
    parser.add_argument("--precompile", action="store_true", help="also time the compilation of the Julia package")
    asked = parser.parse_args(arguments)
    if asked.starts < 3:
        parser.error("--starts: a median wants at least 3")
    setup = find_julia()
    versions = setup.check()
    block: dict[str, Any] = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "starts": asked.starts}
    block["load_at_start"] = [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []
    if asked.precompile:
        block["precompile_seconds"] = precompile_seconds(setup)
    block["sizes"] = measure(asked.starts)
    stored = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}
    kept = {} if asked.before or "before" not in stored else {"before": stored["before"]}
    report = {
        "what": "wall seconds from FluxStack(config) to the first steps of a fresh flux worker, by stage",
        "command": shlex.join(["python", "tools/cold_start.py", *sys.argv[1:]]),
        "environment": environment.describe(),
        "versions": {name: versions[name] for name in ("julia", "Flux", "NNlib", "Zygote", "PythonCall")},
        "stages": STAGES,
        **kept,
        "before" if asked.before else "now": block,
    }
    write_json(STORED, report)
    print(table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
