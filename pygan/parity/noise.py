"""Measuring the noise floors: how far one stack is from itself, and from the referee, when only rounding differs.

``pygan parity --measure-noise`` writes ``floors.json``, which the bands in :mod:`pygan.parity.bands` are built on and
which CI only reads. Every variant is its own process, because instruction-set caps act at start-up.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from pygan import environment
from pygan.config import RunConfig
from pygan.draws import Draws
from pygan.files import write_json
from pygan.parity.bands import group_of
from pygan.parity.compare import Difference, compare_records
from pygan.parity.free_run import relative_picture
from pygan.parity.judge import error, flat, network_scales
from pygan.recipes import config_from_dict
from pygan.records import StepRecord
from pygan.resources import traces_dir
from pygan.state import widen
from pygan.traces import Trace, TraceWriter

VARIANTS: dict[str, dict[str, str]] = {
    "default": {},
    "one thread": {"PYGAN_NOISE_THREADS": "1"},
    "two threads": {"PYGAN_NOISE_THREADS": "2"},
    "no SIMD beyond SSE": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "no oneDNN": {"PYGAN_NOISE_ONEDNN": "0"},
}
NARROW, FULL = "flux-narrow-float32", "flux-full-digits"
CAPTURE = ("logits", "gradients", "state")
FLOOR_KINDS = ("logits", "loss", "gradient", "state")
LATE_STEPS = tuple(range(0, 421, 60))
"""Steps of a full-width run whose states the distance from the referee is measured at."""
FREE_STEPS = 120
"""Steps of the free full-width runs; they set the horizon."""


def worst_by_key(differences: list[Difference]) -> dict[str, float]:
    """Largest relative norm of each tensor."""
    worst: dict[str, float] = defaultdict(float)
    for difference in differences:
        relative = float("inf") if difference.fault else difference.relative
        worst[difference.key] = max(worst[difference.key], relative)
    return dict(worst)


def varied_torch(config: RunConfig) -> Any:
    """The torch stack of this process's variant: its threads and oneDNN come from the environment."""
    import torch

    from pygan.stacks.torch_stack import TorchStack

    torch.backends.mkldnn.enabled = os.environ.get("PYGAN_NOISE_ONEDNN") != "0"  # type: ignore[assignment]
    return TorchStack(config.replace(threads=int(os.environ.get("PYGAN_NOISE_THREADS", config.threads))))


def teacher_forced(stack: Any, trace: Trace, schedule: Any) -> list[StepRecord]:
    """Every step of ``trace`` taken by ``stack`` from the recorded state, with the recorded patterns imposed."""
    dtype = stack.config.dtype
    records = []
    for step in (step for step in trace.steps if trace.record(step).loss):
        stack.load_state(widen(trace.state_before(step), dtype))
        draws = Draws(trace.header.config["seed"]).at(step)
        records.append(stack.step(schedule[step], draws, CAPTURE, trace.record(step).pattern))
    return records


def _run_variant(job: str, out: Path, steps: int) -> None:
    """One process's work, stored as a trace: teacher-forced narrow steps, the first full-width step, or a free run."""
    from pygan.data import load
    from pygan.recording import header, record

    if job == "late":
        _late_variant(out, Path(os.environ["PYGAN_NOISE_STATES"]))
        return
    if job == "pictures":
        trace = Trace(traces_dir() / FULL)
        stack, sketched = varied_torch(config_from_dict(trace.header.config)), sketched_steps(trace)
        wanted = {step: ("sketches",) for step in sketched}
        made = record(stack, load("digits"), steps, out, picture_every=10, capture=lambda step: wanted.get(step, ()))
        for _ in made:
            pass
        return
    trace = Trace(traces_dir() / (NARROW if job == "narrow" else FULL))
    stack = varied_torch(config_from_dict(trace.header.config))
    with TraceWriter(out, header(stack, load(trace.header.data["name"]), "pygan parity --measure-noise")) as writer:
        for one in taken_steps(job, "float32", stack):
            writer.write(one)


def sketched_steps(trace: Trace) -> list[int]:
    """Steps after which a full-width trace holds sketches of the state."""
    return [step for step in trace.steps if trace.record(step).sketch]


def taken_steps(job: str, dtype: str, stack: Any = None) -> list[StepRecord]:
    """The torch stack's records of a job: every ``narrow`` step from Flux's state, or the first step at full width."""
    from pygan.data import load
    from pygan.training import Schedule

    trace = Trace(traces_dir() / (NARROW if job == "narrow" else FULL))
    config = config_from_dict(trace.header.config)
    data = load(trace.header.data["name"], limit=trace.header.data["images"])
    schedule = Schedule(data.images, trace.header.config["batch"], Draws(config.seed))
    stack = stack or varied_torch(config.replace(dtype=dtype))
    if job == "narrow":
        return teacher_forced(stack, trace, schedule)
    return [stack.step(schedule[0], Draws(config.seed), ("logits", "sketches"), trace.record(0).pattern)]


def _variant(name: str, job: str, folder: Path, steps: int) -> list[StepRecord]:
    out = folder / f"{job}-{name.replace(' ', '-')}"
    command = [sys.executable, "-m", "pygan.parity.noise", "--variant-job", job, "--out", str(out)]
    subprocess.run([*command, "--steps", str(steps)], env={**os.environ, **VARIANTS[name]}, check=True)
    return list(Trace(out))


def step_floors(job: str, folder: Path) -> dict[str, Any]:
    """Per tensor: spread of torch over variants, and distance of both stacks' Float32 from the Float64 referee."""
    runs = {name: _variant(name, job, folder, 0) for name in VARIANTS}
    base, referee = runs["default"], taken_steps(job, "float64")
    trace = Trace(traces_dir() / (NARROW if job == "narrow" else FULL))
    theirs = [trace.record(record.step) for record in base]

    def widened(record: StepRecord) -> StepRecord:
        return StepRecord.from_arrays(record.step, widen(record.to_arrays(), "float64"))

    def measure(candidates: list[StepRecord], references: list[StepRecord]) -> dict[str, float]:
        kinds = ("logits", "loss", "gradient", "state") if job == "narrow" else ("logits", "loss", "sketch")
        pairs = zip(candidates, references, strict=True)
        return worst_by_key([d for a, b in pairs for d in compare_records(a, b, kinds=kinds)])

    rows = {f"torch, {name}, against torch": measure(run, base) for name, run in runs.items() if run is not base}
    rows["torch against the referee"] = measure([widened(record) for record in base], referee)
    rows["flux against the referee"] = measure([widened(record) for record in theirs], referee)
    floor = {key: max(row.get(key, 0.0) for row in rows.values()) for key in rows["torch against the referee"]}
    worst = {name: max(row.values()) for name, row in rows.items()}
    return {"floor": floor, "worst": worst, "trace": trace.folder.name}


def late_states(folder: Path) -> Path:
    """A trace of the torch stack's own full-width run on ``digits`` with its state before each of ``LATE_STEPS``."""
    from pygan.data import load
    from pygan.recording import record

    config = config_from_dict(Trace(traces_dir() / FULL).header.config)
    wanted = {step - 1 for step in LATE_STEPS} | {0}
    out = folder / "states"
    for _ in record(
        varied_torch(config),
        load("digits"),
        LATE_STEPS[-1],
        out,
        capture=lambda step: ("state",) if step in wanted else (),
    ):
        pass
    return out


def _late_variant(out: Path, states: Path) -> None:
    """Distance of this variant's step from the referee's, at every late state, with the variant's patterns imposed."""
    from pygan.data import load
    from pygan.training import Schedule

    trace = Trace(states)
    config = config_from_dict(trace.header.config)
    stack, referee = varied_torch(config), varied_torch(config.replace(dtype="float64"))
    schedule = Schedule(load("digits").images, trace.header.config["batch"], Draws(config.seed))
    worst: dict[str, float] = defaultdict(float)
    for step in LATE_STEPS:
        before = trace.state_before(step)
        draws = Draws(config.seed).at(step)
        stack.load_state(before)
        taken = stack.step(schedule[step], draws, (*CAPTURE, "patterns"))
        referee.load_state(widen(before, "float64"))
        mine = flat(taken, FLOOR_KINDS)
        right = flat(referee.step(schedule[step], draws, CAPTURE, impose=taken.pattern), FLOOR_KINDS)
        scales = network_scales(right)
        for key, value in right.items():
            if key != "state/step":
                group = group_of(key)
                worst[group] = max(worst[group], error(mine[key], value, scales.get(group, 0.0)))
    write_json(out / "late.json", worst)


def late_floors(folder: Path) -> dict[str, Any]:
    """By kind and network: largest distance of any variant of torch from the referee over a run's states."""
    states = late_states(folder)
    rows = {}
    for name in VARIANTS:
        print(f"distance from the referee: {name}", flush=True)
        out = folder / f"late-{name.replace(' ', '-')}"
        command = [
            sys.executable,
            "-m",
            "pygan.parity.noise",
            "--variant-job",
            "late",
            "--out",
            str(out),
            "--steps",
            "0",
        ]
        environ = {**os.environ, **VARIANTS[name], "PYGAN_NOISE_STATES": str(states)}
        subprocess.run(command, env=environ, check=True)
        rows[name] = json.loads((out / "late.json").read_text(encoding="utf-8"))
    floor = {group: max(row[group] for row in rows.values()) for group in rows["default"]}
    return {"floor": floor, "rows": rows, "steps": list(LATE_STEPS)}


def free_floors(folder: Path, steps: int, variants: list[str]) -> dict[str, Any]:
    """Spread of free full-width runs over variants of torch, made monotone over steps: pictures, and each tensor."""
    runs = {}
    for name in ["default", *variants]:
        print(f"free run: {name}", flush=True)
        runs[name] = _variant(name, "pictures", folder, steps)
    base = runs.pop("default")
    drawn = [record for record in base if record.pictures and record.loss]
    rows = {
        name: [relative_picture(one, mine)[0] for one, mine in zip(_like(run, drawn), drawn, strict=True)]
        for name, run in runs.items()
    }
    sketched = [record for record in base if record.sketch]
    spread: dict[str, list[float]] = {}
    for place, mine in enumerate(sketched):
        found = [compare_records(_like(run, sketched)[place], mine, kinds=("sketch",)) for run in runs.values()]
        for key, worst in worst_by_key([one for differences in found for one in differences]).items():
            if key.startswith("sketch/state/"):
                spread.setdefault(key.removeprefix("sketch/"), []).append(worst)
    return {
        "steps": [record.step for record in drawn],
        "relative": np.maximum.accumulate(np.max(list(rows.values()), axis=0)).tolist(),
        "rows": rows,
        "tensors": {
            "steps": [record.step for record in sketched],
            "relative": {key: np.maximum.accumulate(values).tolist() for key, values in spread.items()},
        },
        "config": Trace(traces_dir() / FULL).header.config,
        "command": f"pygan parity --measure-noise --steps {steps}",
    }


def _like(run: list[StepRecord], chosen: list[StepRecord]) -> list[StepRecord]:
    """The records of ``run`` at the steps of ``chosen``."""
    by_step = {record.step: record for record in run}
    return [by_step[record.step] for record in chosen]


def measure(out: Path | None = None, steps: int = FREE_STEPS, *, keep_free_runs: bool = False) -> Path:
    """Measure all floors on this machine and write them to ``out`` (default: the committed file); returns the path.

    With ``keep_free_runs`` the long part is taken over from the file that is there.
    """
    out = out or Path(__file__).parent / "floors.json"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        variants = [one for one in VARIANTS if one != "default"]
        if keep_free_runs:
            pictures = json.loads(out.read_text(encoding="utf-8"))["pictures"]
        else:
            pictures = free_floors(folder, steps, variants)
        floors = {
            "environment": environment.describe(),
            "command": "pygan parity --measure-noise",
            "narrow": step_floors("narrow", folder),
            "first_step": step_floors("first_step", folder),
            "late": late_floors(folder),
            "pictures": pictures,
        }
    write_json(out, floors)
    return out


def main() -> None:
    """One variant's process; started by :func:`measure`, not by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--variant-job", choices=["narrow", "first_step", "late", "pictures"], required=True)
    chosen = parser.parse_args()
    _run_variant(chosen.variant_job, chosen.out, chosen.steps)


if __name__ == "__main__":
    main()
