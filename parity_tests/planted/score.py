"""The score: every planted bug, where it was put, where it was caught and what it was called.

``python -m planted.score`` (inside ``parity_tests``) plants all torch faults anew for every seed and replays the
recorded Julia faults; ``--live N`` also runs the Julia faults on real Flux with N other seeds, and both kinds of clean
runs; ``--out FILE`` stores the numbers.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from planted import clean_runs, julia_runs, torch_faults
from planted.clean_runs import Clean
from planted.fault import Fault
from planted.julia_faults import FAULTS as JULIA_FAULTS
from planted.julia_faults import JuliaFault
from pygan import environment
from pygan.files import write_json
from pygan.parity.locate import Diagnosis
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

RIGHT, UNKNOWN, WRONG, MISSED = "named right", "unknown cause", "WRONG NAME", "MISSED"


@dataclass(frozen=True)
class Row:
    """One planted bug and what became of it. ``step`` and ``key`` are where it was caught."""

    side: str
    fault: str
    seed: int
    place: str
    strength: str
    verdict: str
    step: int | None = None
    key: str = ""
    cause: str = ""
    detail: str = ""

    def __str__(self) -> str:
        where = f"step {self.step} {self.key}" if self.step is not None else ""
        planted = f"{self.place} {self.strength}".strip()
        return f"{self.verdict:13} {self.side:5} {self.fault:40} {planted:44} {self.cause:30} {where}"


def row(side: str, fault: Fault | JuliaFault, seed: int, place: str, strength: str, found: Diagnosis | None) -> Row:
    """The row of one comparison."""
    if found is None:
        return Row(side, fault.name, seed, place, strength, MISSED)
    name = found.cause.name
    verdict = RIGHT if name in fault.names else UNKNOWN if name == UNKNOWN else WRONG
    return Row(side, fault.name, seed, place, strength, verdict, found.step, found.key, name, found.cause.detail)


def torch_rows(
    seeds: Iterable[int], faults: Sequence[Fault] = torch_faults.FAULTS, kind: type[TorchStack] = TorchStack
) -> Iterator[Row]:
    """Every torch fault, planted anew for every seed in a stack of ``kind``, against recorded Flux."""
    for fault in faults:
        for seed in seeds:
            planted, found = torch_faults.search(fault, seed, kind)
            yield row("torch", fault, seed, planted.place, planted.strength, found)


def recorded_rows(faults: Sequence[JuliaFault] = JULIA_FAULTS) -> Iterator[Row]:
    """The committed traces of faulty Flux against clean torch."""
    for fault in faults:
        if fault.recorded:
            trace = Trace(julia_runs.folder_of(fault))
            words = trace.header.command.partition("# ")[2]
            yield row("julia", fault, julia_runs.RECORDED_SEED, words, "", julia_runs.search(trace))


def live_rows(seeds: Iterable[int], faults: Sequence[JuliaFault] = JULIA_FAULTS) -> Iterator[Row]:
    """Every Julia fault on real Flux, drawn anew for every seed; one worker each."""
    for fault in faults:
        for seed in seeds:
            with TemporaryDirectory() as folder:
                words = julia_runs.record(fault, seed, Path(folder))
                yield row("julia", fault, seed, words, "", julia_runs.search(Trace(folder)))


def run(seeds: Iterable[int] = range(2)) -> list[Row]:
    """What needs no Julia: all torch faults over ``seeds`` and the recorded Julia faults."""
    return [*torch_rows(seeds), *recorded_rows()]


def totals(rows: Iterable[Row]) -> dict[str, int]:
    """Counts by verdict, and of everything planted."""
    counts = Counter(one.verdict for one in rows)
    return {"planted": sum(counts.values())} | {verdict: counts[verdict] for verdict in (RIGHT, UNKNOWN, WRONG, MISSED)}


def summary(rows: Sequence[Row]) -> str:
    """Totals of both sides in a line each."""
    lines = []
    for side in ("torch", "julia"):
        mine = [one for one in rows if one.side == side]
        counts = totals(mine)
        faults = len({one.fault for one in mine})
        words = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if verdict != "planted")
        lines.append(f"{side}: {faults} faults, planted {counts['planted']} times: {words}")
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> str:
    """All rows, and the totals."""
    return "\n".join([*map(str, rows), summary(rows)])


def document(rows: Sequence[Row], clean: Sequence[Clean]) -> dict[str, Any]:
    """The numbers for JSON: totals, every fault with its verdicts, and all clean runs of a kind together."""
    what = {("torch", one.name): one.what for one in torch_faults.FAULTS}
    what |= {("julia", one.name): one.what for one in JULIA_FAULTS}
    by_side = {side: [one for one in rows if one.side == side] for side in ("torch", "julia")}
    faults = [
        {
            "side": side,
            "fault": name,
            "what": what[side, name],
            **totals(mine := [one for one in rows if (one.side, one.fault) == (side, name)]),
            "causes": dict(Counter(one.cause for one in mine)),
            "steps": sorted({one.step for one in mine if one.step is not None}),
            "places": sorted({f"{one.place} {one.strength}".strip() for one in mine})[:5],
        }
        for side, name in dict.fromkeys((one.side, one.fault) for one in rows)
    ]
    kinds = {
        f"{what}, {dtype}": {
            "runs": len(mine := [one for one in clean if (one.what, one.dtype) == (what, dtype)]),
            "steps": sum(one.steps for one in mine),
            "false alarms": sum(bool(one.alarm) for one in mine),
        }
        for what, dtype in dict.fromkeys((one.what, one.dtype) for one in clean)
    }
    return {
        "environment": environment.describe(),
        "totals": {side: {"faults": len({one.fault for one in r}), **totals(r)} for side, r in by_side.items()},
        "clean": kinds,
        "faults": faults,
    }


def main() -> None:
    """Print the score and store it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="planted anew so many times on the torch side")
    parser.add_argument("--live", type=int, default=0, help="so many times on real Flux, and the clean runs")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    chosen = parser.parse_args()
    rows: list[Row] = []
    first = julia_runs.RECORDED_SEED + 1
    for one in (*torch_rows(range(chosen.seeds)), *recorded_rows(), *live_rows(range(first, first + chosen.live))):
        print(one, flush=True)
        rows.append(one)
    print(summary(rows))
    clean: list[Clean] = []
    if chosen.live:
        flux = (done for dtype in ("float64", "float32") for done in clean_runs.flux_runs(range(20), dtype))
        for done in (*flux, *clean_runs.torch_runs()):
            print(done, flush=True)
            clean.append(done)
    if chosen.out:
        command = f"python -m planted.score --seeds {chosen.seeds} --live {chosen.live} --out FILE"
        write_json(chosen.out, {"command": f"cd parity_tests && {command}", **document(rows, clean)})


if __name__ == "__main__":
    main()
