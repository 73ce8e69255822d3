"""Clean runs: nothing is planted, so whatever a comparison finds is a false alarm.

``python -m planted.clean_runs --out FILE`` (inside ``parity_tests``) compares every run of a fixed catalogue with the
idiomatic torch stack, through all levels, and stores verdicts and margins: for each kind of check the largest share
that a measured value takes of what is admitted. ``flux_runs`` does the same with live Flux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from planted.benign import CANDIDATES, CAPS
from pygan import environment, recording
from pygan.data import load
from pygan.data.registry import DIGITS
from pygan.errors import DataError
from pygan.files import write_json
from pygan.parity.claims import EVERY, PARTIAL
from pygan.parity.locate import FULL_CAPTURE
from pygan.parity.report import Report, Row
from pygan.parity.run import compare_runs
from pygan.parity.sides import PLAIN_CAPTURE, Live, Recorded, Side
from pygan.parity.verdicts import AGREE, DIFFERS
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.stacks.flux_stack import FluxStack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

FLUX = "live Flux against torch"
FLUX_STEPS, FLUX_IMAGES = 3, 14
"""Batches of 8 and 6, then the next epoch's first."""
FLUX_LEVELS = (1, 3, 4, 5, 6, 7, 8, 9, 10)
"""All but the law of native weights, which would start a worker of its own for every seed."""
DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Clean:
    """One clean comparison: first what is to be run, then what was found. ``alarm`` is empty as it should be.

    ``changes`` are the config's, against the narrow twin. ``shares`` has the largest value / allowed of each kind of
    check, ``where`` the tensor and step of the largest of all. ``skipped`` says why a comparison could not be made.
    """

    what: str
    seed: int
    dtype: str
    steps: int
    alarm: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    data: str = DIGITS
    images: int = 14
    threads: int = 1
    verdict: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)
    where: str = ""
    flips: int = 0
    seconds: float = 0.0
    skipped: str = ""

    @property
    def config(self) -> FluxTutorialConfig:
        """The reference's config."""
        values: dict[str, Any] = {**NARROW, "threads": 1, **self.changes}
        return FluxTutorialConfig(seed=self.seed, dtype=self.dtype, **values)

    @property
    def name(self) -> str:
        """What it is, in one line; no two are alike."""
        told = [f"{key} {value}" for key, value in {**NARROW, **self.changes}.items() if key != "grid"]
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.what}: {self.dtype}, seed {self.seed}, {', '.join(told)}, {self.images} {self.data}, {threads}"

    @property
    def share(self) -> float:
        """The largest share of a tolerance that any check took."""
        return max(self.shares.values(), default=0.0)

    def __str__(self) -> str:
        word = "FALSE ALARM" if self.alarm else "skipped" if self.skipped else "clean"
        return f"{word:11} {self.share:5.2f} {self.name} {self.alarm or self.skipped}".rstrip()


# --- the catalogue -----------------------------------------------------------------------------------------------

Shape = tuple[int, int, int, int, int]
"""Width, latent size, batch, images, steps; the last batch of an epoch is partial wherever batch and images allow."""
SHAPES: tuple[Shape, ...] = (
    (1, 1, 2, 5, 6), (1, 1, 8, 14, 5), (1, 5, 3, 8, 6), (1, 2, 32, 60, 4), (1, 10, 128, 224, 3),
    (2, 1, 2, 5, 8), (2, 5, 3, 8, 12), (2, 1, 8, 14, 10), (2, 100, 8, 22, 6), (2, 5, 32, 50, 4), (2, 5, 128, 200, 3),
    (3, 7, 2, 7, 6), (3, 1, 8, 15, 5), (3, 10, 32, 60, 3),
    (5, 5, 3, 7, 5), (5, 20, 8, 14, 4), (5, 1, 32, 40, 3),
    (8, 10, 2, 5, 5), (8, 10, 8, 14, 4), (8, 50, 32, 48, 3),
    (16, 20, 3, 7, 4), (16, 100, 8, 14, 3), (16, 10, 32, 48, 3), (16, 5, 128, 160, 2),
)  # fmt: skip
FULL: tuple[tuple[str, Shape], ...] = (
    ("other threads", (64, 100, 8, 14, 3)),
    ("the fast step", (64, 100, 8, 14, 3)),
    ("oneDNN off", (64, 100, 2, 5, 3)),
    ("channels last", (64, 10, 3, 8, 3)),
    ("all three rewrites", (64, 100, 32, 48, 2)),
    ("the fast step", (64, 100, 128, 224, 2)),
)
OTHER_NUMBERS: tuple[Mapping[str, Any], ...] = (
    {"semantics": "as_printed"},
    {"beta1": 0.5, "beta2": 0.99},
    {"discriminator_lr": 0.01, "generator_lr": 0.01},
    {"dropout": 0.0, "leaky_slope": 0.0},
    {"dropout": 0.7, "init_std": 0.3},
    {"bn_eps": 1e-3, "bn_momentum": 0.9, "adam_eps": 1e-4},
)
LARGE_SEEDS = (12345, 2**31 - 1, 2**32 + 7, 2**63 - 1)
DATA = (DIGITS, "mnist", "fashion-mnist")


def catalogue() -> tuple[Clean, ...]:
    """Every clean comparison but those with live Flux."""
    made = [*_seeds(), *_shapes(), *_capped(), *_numbers(), *_full()]
    assert len({one.name for one in made}) == len(made)
    return tuple(made)


def _seeds() -> Iterator[Clean]:
    """Every candidate at the narrow size, over seeds."""
    for place, what in enumerate(CANDIDATES):
        for dtype in DTYPES:
            for number in range(5):
                yield Clean(what, (5 * place + number) % 10, dtype, 5, threads=_other(what, 1))
    for place, what in enumerate(CANDIDATES):
        for dtype in DTYPES:
            yield Clean(what, LARGE_SEEDS[place % len(LARGE_SEEDS)], dtype, 3, threads=_other(what, 1))


def _shapes() -> Iterator[Clean]:
    """Every shape in both dtypes, with two candidates each, in turn; threads and data sets in turn too."""
    words = list(CANDIDATES)
    for place, shape in enumerate(SHAPES):
        for turn in range(2):
            for dtype in DTYPES:
                what = words[(2 * place + turn + 3 * (dtype == "float32")) % len(words)]
                yield _shaped(what, shape, dtype, seed=place % 10, data=DATA[(place + turn) % 3], threads=1 + place % 2)


def _shaped(what: str, shape: Shape, dtype: str, seed: int, data: str = DIGITS, threads: int = 1) -> Clean:
    width, latent, batch, images, steps = shape
    changes = {"width": width, "latent_dim": latent, "batch": batch, "threads": threads}
    return Clean(what, seed, dtype, steps, changes=changes, data=data, images=images, threads=_other(what, threads))


def _other(what: str, threads: int) -> int:
    """The candidate's threads."""
    return 3 - threads if what == "other threads" else threads


def _capped() -> Iterator[Clean]:
    """Processes whose torch may not use this machine's widest instructions."""
    for place, shape in enumerate(SHAPES[::5] + SHAPES[7:8]):
        for what in CAPS:
            for dtype in DTYPES:
                yield _shaped(what, shape, dtype, seed=place)


def _numbers() -> Iterator[Clean]:
    """Other numbers of the recipe."""
    for place, changes in enumerate(OTHER_NUMBERS):
        for dtype in DTYPES:
            what = list(CANDIDATES)[(place + (dtype == "float64")) % len(CANDIDATES)]
            yield Clean(what, place, dtype, 5, changes=changes, threads=_other(what, 1))


def _full() -> Iterator[Clean]:
    """The published width, in few steps."""
    for place, (what, shape) in enumerate(FULL):
        for dtype in DTYPES:
            yield _shaped(what, shape, dtype, seed=place, data=DATA[place % 3], threads=2)


# --- one comparison ----------------------------------------------------------------------------------------------


def run(one: Clean) -> Clean:
    """``one`` with what was found."""
    try:
        data = load(one.data, limit=one.images)
    except DataError:
        return replace(one, skipped=f"{one.data} is not here: set PYGAN_DATA_DIR to a folder that holds it")
    started = time.perf_counter()
    reference = Live(TorchStack(one.config), data)
    if one.what in CAPS:
        with TemporaryDirectory() as folder:
            report = compare_runs(_in_child(one, Path(folder) / "trace"), reference, one.steps)
    else:
        make = CANDIDATES[one.what]
        candidate = Live(make(one.config.replace(threads=one.threads)), data, make)
        report = compare_runs(candidate, reference, one.steps)
    return found(one, report, time.perf_counter() - started)


def found(one: Clean, report: Report, seconds: float) -> Clean:
    """``one`` with what ``report`` says."""
    alarm = ""
    if report.verdict != AGREE or report.diagnosis is not None:
        bad = [f"{row.claim}: {row.where} {row.reason}" for row in report.rows if row.verdict == DIFFERS]
        alarm = "\n  ".join([report.verdict, *([str(report.diagnosis)] if report.diagnosis else []), *bad])
    shares: dict[str, float] = {}
    wheres: dict[str, str] = {}
    for row in report.rows:
        kind = _kind(row, one.dtype, (report.candidate, report.reference))
        if kind and row.measured is not None and row.allowed:
            share = row.measured / row.allowed
            if share >= shares.get(kind, 0.0):
                shares[kind], wheres[kind] = float(f"{share:.3g}"), row.where
    worst = max(shares, key=lambda kind: shares[kind], default="")
    where = f"{worst}: {wheres[worst]}" if worst else ""
    flips = sum(int(one["units"]) for one in report.kinks)
    return replace(
        one, alarm=alarm, verdict=report.verdict, shares=shares, where=where, flips=flips, seconds=round(seconds, 2)
    )


def _kind(row: Row, dtype: str, titles: Iterable[str]) -> str:
    """The kind of check that a row is about, whichever side was looked at; empty for rows that gather other ones, and
    for grids, whose pixels differ by a whole grey level or not at all."""
    claim = row.claim
    if claim in (EVERY, PARTIAL) or claim.startswith("grids"):
        return ""
    for title in titles:
        claim = claim.replace(f", {title},", ",")
    claim = "gradients of an update" if claim.startswith("gradients of the update") else claim
    claim = "outputs of every layer" if claim.endswith((" in train mode", " in eval mode")) else claim
    return f"{dtype}, {row.level}: {claim}"


def _in_child(one: Clean, folder: Path) -> Side:
    """The run, recorded in a process of its own with instructions capped."""
    command = [sys.executable, "-m", "planted.clean_runs", "--record", str(folder), "--name", one.name]
    place = Path(__file__).resolve().parents[1]
    subprocess.run(command, env={**os.environ, **CAPS[one.what]}, cwd=place, check=True)
    return Recorded(Trace(folder))


def record(one: Clean, folder: Path) -> None:
    """Record ``one`` with its Float64 twin into ``folder``; layers at the first steps and around an epoch's end."""
    data = load(one.data, limit=one.images)
    stack = TorchStack(one.config)
    twin = TorchStack(one.config.replace(dtype="float64")) if one.dtype == "float32" else None
    epoch = Live(stack, data).schedule.steps_per_epoch

    def detailed(step: int) -> Sequence[str]:
        return FULL_CAPTURE if step < 2 or step in (epoch - 1, epoch) else PLAIN_CAPTURE

    plain = detailed if twin is None else lambda _: PLAIN_CAPTURE
    kept = {"capture": plain, "twin": twin, "twin_capture": detailed, "picture_every": 2}
    for _ in recording.record(stack, data, one.steps, folder, **kept):  # type: ignore[arg-type]
        pass


# --- live Flux ---------------------------------------------------------------------------------------------------


class _Workers:
    """One Flux stack a dtype, given another config when another run is asked for: that costs no new Julia process."""

    def __init__(self) -> None:
        self.made: dict[str, FluxStack] = {}

    def __call__(self, wanted: Any) -> FluxStack:
        stack = self.made.get(wanted.dtype)
        if stack is None:
            stack = self.made[wanted.dtype] = FluxStack(wanted)
        else:
            stack.worker.ask("configure", config=wanted.to_dict(), blas_threads=wanted.threads)
            stack.config = wanted
        return stack

    def close(self) -> None:
        for stack in self.made.values():
            stack.close()


def flux_runs(seeds: Iterable[int], dtype: str = "float64") -> Iterator[Clean]:
    """Live Flux against torch at narrow width, for each seed."""
    data = load(DIGITS, limit=FLUX_IMAGES)
    make = _Workers()
    try:
        for seed in seeds:
            one = Clean(FLUX, seed, dtype, FLUX_STEPS, images=FLUX_IMAGES)
            started = time.perf_counter()
            sides = Live(TorchStack(one.config), data), Live(make(one.config), data, make)
            yield found(one, compare_runs(*sides, FLUX_STEPS, FLUX_LEVELS), time.perf_counter() - started)
    finally:
        make.close()


# --- all of them -------------------------------------------------------------------------------------------------


def stored(checkpoint: Path | None) -> dict[str, Clean]:
    """What was run before, by name."""
    if checkpoint is None or not checkpoint.exists():
        return {}
    lines = checkpoint.read_text(encoding="utf-8").splitlines()
    return {one.name: one for one in (Clean(**json.loads(line)) for line in lines)}


def runs(chosen: Sequence[Clean], checkpoint: Path | None = None) -> Iterator[Clean]:
    """Run ``chosen`` in order, telling of each; what ``checkpoint`` holds is not run again, what is run is added."""
    known = stored(checkpoint)
    missing = sum(one.name not in known for one in chosen)
    started, fresh = time.perf_counter(), 0
    for number, one in enumerate(chosen, 1):
        done = known.get(one.name)
        told = "from the checkpoint"
        if done is None:
            done, fresh = run(one), fresh + 1
            if checkpoint is not None:
                with checkpoint.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(asdict(done)) + "\n")
            each = (time.perf_counter() - started) / fresh / 60
            told = f"{1 / each:4.1f} a minute, {each * (missing - fresh):4.0f} min left"
        print(f"{number:3}/{len(chosen)} {told:26} {done}", flush=True)
        yield done


def document(done: Sequence[Clean]) -> dict[str, Any]:
    """The numbers for JSON: counts, margins by kind of check, and every comparison."""
    margins: dict[str, Clean] = {}
    for one in done:
        for kind, share in one.shares.items():
            if kind not in margins or share > margins[kind].shares[kind]:
                margins[kind] = one
    ran = [one for one in done if not one.skipped]
    return {
        "command": "cd parity_tests && python -m planted.clean_runs --out FILE",
        "environment": {**environment.describe(), "cpu_capability": torch.backends.cpu.get_cpu_capability()},
        "counts": {
            "comparisons": len(ran),
            "false alarms": sum(bool(one.alarm) for one in ran),
            "skipped": len(done) - len(ran),
            "steps": sum(one.steps for one in ran),
            "flipped units": sum(one.flips for one in ran),
            "minutes": round(sum(one.seconds for one in ran) / 60, 1),
            "by candidate": dict(Counter(one.what for one in ran)),
            "by dtype": dict(Counter(one.dtype for one in ran)),
            "by width": dict(Counter(str(one.config.width) for one in ran)),
            "by batch": dict(Counter(str(one.config.batch) for one in ran)),
            "by data": dict(Counter(one.data for one in ran)),
        },
        "largest share of what is admitted": {
            kind: {"share": one.shares[kind], "of": one.name} for kind, one in sorted(margins.items())
        },
        "runs": [{"name": one.name, **asdict(one)} for one in done],
    }


def main() -> None:
    """Run the catalogue, or record one of it in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file for verdicts and margins")
    parser.add_argument("--only", type=int, help="so many comparisons, spread over the catalogue")
    parser.add_argument("--checkpoint", type=Path, help="JSON lines: what is in it is not run again")
    parser.add_argument("--record", type=Path, help="record the run called --name into this folder")
    parser.add_argument("--name")
    asked = parser.parse_args()
    every = catalogue()
    if asked.record:
        record(next(one for one in every if one.name == asked.name), asked.record)
        return
    chosen = every[:: max(1, len(every) // asked.only)][: asked.only] if asked.only else every
    done = list(runs(chosen, asked.checkpoint))
    counts = document(done)["counts"]
    print(f"{counts['comparisons']} comparisons, {counts['false alarms']} false alarms, {counts['skipped']} skipped")
    if asked.out:
        write_json(asked.out, document(done))


if __name__ == "__main__":
    main()
