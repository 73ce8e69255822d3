"""Measuring the noise floors: how far one stack is from itself, and from the referee, when only rounding differs.

``python -m pygan.parity.noise`` writes ``floors.json``, which the bands in :mod:`pygan.parity.bands` are built on and
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
from pygan.parity.compare import Difference, compare_records
from pygan.parity.free_run import relative_picture
from pygan.recipes import config_from_dict
from pygan.records import StepRecord
from pygan.resources import traces_dir
from pygan.state import widen
from pygan.traces import Trace

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


def worst_by_key(differences: list[Difference]) -> dict[str, float]:
    """Largest relative norm of each tensor."""
    worst: dict[str, float] = defaultdict(float)
    for difference in differences:
        relative = float("inf") if difference.fault else difference.relative
        worst[difference.key] = max(worst[difference.key], relative)
    return dict(worst)


def _torch(config: RunConfig) -> Any:
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


def _save(path: Path, records: list[StepRecord]) -> None:
    arrays: dict[str, Any] = {f"{r.step}|{key}": value for r in records for key, value in r.to_arrays().items()}
    np.savez(path, **arrays)


def _load(path: Path) -> list[StepRecord]:
    with np.load(path, allow_pickle=False) as stored:
        steps: dict[int, dict[str, np.ndarray]] = defaultdict(dict)
        for name in stored.files:
            step, _, key = name.partition("|")
            steps[int(step)][key] = stored[name]
    return [StepRecord.from_arrays(step, steps[step]) for step in sorted(steps)]


def _run_variant(job: str, out: Path, steps: int) -> None:
    """One process's work: teacher-forced narrow steps, the first full-width step, or the free run's pictures."""
    from pygan.data import load
    from pygan.training import train

    if job == "pictures":
        trace = Trace(traces_dir() / FULL)
        made = train(_torch(config_from_dict(trace.header.config)), load("digits"), steps, picture_every=10)
        _save(out, [record for record in made if record.pictures and record.loss])
    else:
        _save(out, taken_steps(job, "float32"))


def taken_steps(job: str, dtype: str) -> list[StepRecord]:
    """The torch stack's records of a job: every ``narrow`` step from Flux's state, or the first step at full width."""
    from pygan.data import load
    from pygan.training import Schedule

    trace = Trace(traces_dir() / (NARROW if job == "narrow" else FULL))
    config = config_from_dict(trace.header.config)
    data = load(trace.header.data["name"], limit=trace.header.data["images"])
    schedule = Schedule(data.images, trace.header.config["batch"], Draws(config.seed))
    stack = _torch(config.replace(dtype=dtype))
    if job == "narrow":
        return teacher_forced(stack, trace, schedule)
    return [stack.step(schedule[0], Draws(config.seed), ("logits", "sketches"), trace.record(0).pattern)]


def _variant(name: str, job: str, folder: Path, steps: int) -> list[StepRecord]:
    out = folder / f"{job}-{name.replace(' ', '-')}.npz"
    command = [sys.executable, "-m", "pygan.parity.noise", "--variant-job", job, "--out", str(out)]
    subprocess.run([*command, "--steps", str(steps)], env={**os.environ, **VARIANTS[name]}, check=True)
    return _load(out)


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


def picture_floors(folder: Path, steps: int, variants: list[str]) -> dict[str, Any]:
    """Spread of free full-width runs' pictures over variants of torch: the largest, made monotone over steps."""
    runs = {name: _variant(name, "pictures", folder, steps) for name in ["default", *variants]}
    base = runs.pop("default")
    rows = {name: [relative_picture(a, b)[0] for a, b in zip(run, base, strict=True)] for name, run in runs.items()}
    envelope = np.maximum.accumulate(np.max(list(rows.values()), axis=0))
    return {
        "steps": [record.step for record in base],
        "relative": envelope.tolist(),
        "rows": rows,
        "config": Trace(traces_dir() / FULL).header.config,
        "command": f"python -m pygan.parity.noise --steps {steps}",
    }


def main() -> None:
    """Measure everything and write the floors file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "floors.json")
    parser.add_argument("--steps", type=int, default=120, help="steps of the free full-width runs")
    parser.add_argument("--variant-job", choices=["narrow", "first_step", "pictures"], help=argparse.SUPPRESS)
    parser.add_argument("--keep-pictures", action="store_true", help="measure the steps anew, keep the pictures' row")
    chosen = parser.parse_args()
    if chosen.variant_job:
        _run_variant(chosen.variant_job, chosen.out, chosen.steps)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pictures = (
            json.loads(chosen.out.read_text())["pictures"]
            if chosen.keep_pictures
            else picture_floors(folder, chosen.steps, [one for one in VARIANTS if one != "default"])
        )
        floors = {
            "environment": environment.describe(),
            "command": "python -m pygan.parity.noise" + (" --keep-pictures" if chosen.keep_pictures else ""),
            "narrow": step_floors("narrow", folder),
            "first_step": step_floors("first_step", folder),
            "pictures": pictures,
        }
    write_json(chosen.out, floors)
    print(f"wrote {chosen.out}")


if __name__ == "__main__":
    main()
