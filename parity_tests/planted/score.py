"""The score: every planted bug, where it was put, where it was caught and what it was called.

``python -m planted.score`` (inside ``parity_tests``) plants all torch faults anew for every seed, compares each as a
user's port is compared (``pygan parity torch recorded``) with recordings of both dtypes, and replays the recorded Julia
faults; ``--live N`` also runs the Julia faults on real Flux with N other seeds, and clean runs; ``--out FILE`` stores
the numbers.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from planted import clean_runs, julia_runs, start_faults, torch_faults
from planted.clean_runs import Clean
from planted.fault import ADMITTED, EPOCH, FUNCTION, KINDS, PICTURES, UNOBSERVABLE, Fault
from planted.julia_faults import FAULTS as JULIA_FAULTS
from planted.julia_faults import JuliaFault
from planted.places import right_place, within
from planted.torch_faults import NARROW32, NARROW64, TINY
from pygan import environment
from pygan.files import write_json
from pygan.parity.causes.names import CAUSES
from pygan.parity.evidence import UNKNOWN as UNKNOWN_CAUSE
from pygan.parity.report import Report
from pygan.parity.run import ALL_LEVELS
from pygan.parity.verdicts import DIFFERS
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

RIGHT, PLACED, ELSEWHERE, WRONG = "named right", "unknown at its place", "unknown elsewhere", "WRONG NAME"
MISSED, UNSEEN, WITHIN, ALARM = "MISSED", "not observable", "agrees, as it should", "SEEN WHERE NOTHING SHOWS"
CAUGHT = (RIGHT, PLACED, ELSEWHERE, WRONG)
VERDICTS = (*CAUGHT, MISSED, UNSEEN, WITHIN, ALARM)
SILENT = {UNOBSERVABLE: UNSEEN, ADMITTED: WITHIN}
"""What it is called that no difference was found, by what the fault changes."""
COMMANDS = {
    NARROW64: "pygan parity torch recorded",
    NARROW32: "pygan parity torch recorded --dtype float32",
    TINY: f"pygan parity torch parity_tests/traces/{TINY}",
}
"""What a user without Julia types, by the recording that is then compared with."""
RECORDINGS = tuple(COMMANDS)
Job = tuple[str, int, str, bool]
"""One comparison: the fault's name, the seed, the recording, and is it done quickly?"""


@dataclass(frozen=True)
class Row:
    """One planted bug and what became of it. ``step`` and ``key`` are where it was caught; ``kind`` is what it changes
    that the recording could show."""

    side: str
    recording: str
    dtype: str
    fault: str
    kind: str
    seed: int
    place: str
    strength: str
    verdict: str
    step: int | None = None
    key: str = ""
    cause: str = ""
    detail: str = ""

    def __str__(self) -> str:
        where = f"step {self.step} {self.key}" if self.step is not None else self.key
        planted = f"{self.place} {self.strength}".strip()
        what = f"{self.side:5} {self.dtype} {self.kind:12} {self.fault:40} {planted:44}"
        return f"{self.verdict:20} {what} {self.cause:32} {where}".rstrip()


def row(
    side: str, trace: Trace, fault: Fault | JuliaFault, kind: str, seed: int, place: str, strength: str, report: Report
) -> Row:
    """The row of one comparison."""
    about = (side, trace.folder.name, trace.header.config["dtype"], fault.name, kind, seed, place, strength)
    if report.verdict != DIFFERS:
        return Row(*about, SILENT.get(kind, MISSED))
    found = report.diagnosis
    if found is not None:
        told = (found.step, found.key, found.cause.name, found.cause.detail)
    else:
        first = next(one for one in report.rows if one.verdict == DIFFERS)
        told = (None, f"level {first.level}, {first.claim}: {first.where or first.reason}", UNKNOWN_CAUSE.name, "")
    name = told[2]
    verdict = RIGHT if name in fault.names else WRONG
    if name == UNKNOWN_CAUSE.name:
        placed = right_place(place, told[1]) or (found is not None and within(place, found.span))
        verdict = PLACED if placed else ELSEWHERE
    return Row(*about, ALARM if kind in SILENT else verdict, *told)


def torch_rows(
    seeds: Iterable[int],
    faults: Sequence[Fault] = torch_faults.FAULTS,
    kind: type[TorchStack] = TorchStack,
    recording: str = TINY,
    quick: bool = False,
) -> Iterator[Row]:
    """Torch faults, planted anew for every seed in a stack of ``kind``, against the ``recording`` of Flux.

    ``quick``: without levels that say nothing of the fault (free runs, laws of native draws), and no further than the
    step after the first that shows it.
    """
    trace = torch_faults.clean(recording)
    for fault in faults:
        levels, steps = (needed(fault), steps_for(fault, trace)) if quick else (ALL_LEVELS, None)
        for seed in seeds:
            planted, report = torch_faults.compare(fault, seed, kind, recording, levels, steps)
            yield row("torch", trace, fault, fault.kind_in(trace), seed, planted.place, planted.strength, report)


def needed(fault: Fault) -> Collection[int]:
    """The levels that can show ``fault``."""
    if fault.shows == PICTURES:
        return (1, 9)
    return tuple(range(1, 8)) if fault in start_faults.FAULTS else (1, 3, 4, 5, 6, 7)


def steps_for(fault: Fault, trace: Trace) -> int:
    """One step more than the first that shows ``fault``; the order of batches is compared without any."""
    return 2 if fault.shows == EPOCH else (fault.first_step(trace) or 0) + 2


def job(wanted: Job) -> Row:
    """The row of one comparison, in whatever process."""
    name, seed, recording, quick = wanted
    (fault,) = (one for one in torch_faults.FAULTS if one.name == name)
    return next(torch_rows([seed], [fault], recording=recording, quick=quick))


def recorded_rows(faults: Sequence[JuliaFault] = JULIA_FAULTS) -> Iterator[Row]:
    """The committed traces of faulty Flux against clean torch."""
    for fault in faults:
        if fault.recorded:
            trace = Trace(julia_runs.folder_of(fault))
            yield julia_row(fault, julia_runs.RECORDED_SEED, trace.header.command.partition("# ")[2], trace)


def live_rows(seeds: Iterable[int], faults: Sequence[JuliaFault] = JULIA_FAULTS) -> Iterator[Row]:
    """Every Julia fault on real Flux, drawn anew for every seed; one worker each."""
    for fault in faults:
        for seed in seeds:
            with TemporaryDirectory() as folder:
                words = julia_runs.record(fault, seed, Path(folder))
                yield julia_row(fault, seed, words, Trace(folder))


def julia_row(fault: JuliaFault, seed: int, words: str, trace: Trace) -> Row:
    """The row of a trace of faulty Flux; its place is the first of the ``words``."""
    place, _, strength = words.partition(" ")
    return row("julia", trace, fault, FUNCTION, seed, place, strength, julia_runs.compare(trace))


def totals(rows: Iterable[Row]) -> dict[str, int]:
    """Counts by verdict, of everything planted, and of what was caught."""
    counts = Counter(one.verdict for one in rows)
    caught = sum(counts[verdict] for verdict in CAUGHT)
    return {"planted": sum(counts.values()), "caught": caught} | {verdict: counts[verdict] for verdict in VERDICTS}


def summary(rows: Sequence[Row]) -> str:
    """Totals of both sides by dtype and by what the faults change, in a line each."""
    lines = []
    for side, dtype in sorted({(one.side, one.dtype) for one in rows}, reverse=True):
        mine = [one for one in rows if (one.side, one.dtype) == (side, dtype)]
        kinds = Counter(one.kind for one in mine)
        counts = totals(mine)
        words = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
        changed = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind])
        faults = len({one.fault for one in mine})
        lines.append(
            f"{side}, {dtype}: {faults} faults, planted {counts['planted']} times ({changed}), "
            f"caught {counts['caught']}: {words}"
        )
    return "\n".join(lines)


def document(rows: Sequence[Row], clean: Sequence[Clean]) -> dict[str, Any]:
    """The numbers for JSON: totals by side and by command, every fault with its verdicts, every single comparison, and
    all clean runs of a kind together."""
    what = {("torch", one.name): one.what for one in torch_faults.FAULTS}
    what |= {("julia", one.name): one.what for one in JULIA_FAULTS}
    by_side = {
        f"{side}, {dtype}": [one for one in rows if (one.side, one.dtype) == (side, dtype)]
        for side, dtype in sorted({(one.side, one.dtype) for one in rows}, reverse=True)
    }
    faults = [
        {
            "side": side,
            "fault": name,
            "what": what[side, name],
            **totals(mine := [one for one in rows if (one.side, one.fault) == (side, name)]),
            "kinds": {one.dtype: one.kind for one in mine},
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
        "totals": {name: {"faults": len({one.fault for one in r}), **totals(r)} for name, r in by_side.items()},
        "commands": by_command(rows),
        "clean": kinds,
        "faults": faults,
        "rows": [asdict(one) for one in rows],
    }


def by_command(rows: Sequence[Row]) -> dict[str, Any]:
    """Totals of the torch faults by the command that looked for them, and for each class of fault in it."""
    found = {}
    for recording, command in COMMANDS.items():
        mine = [one for one in rows if (one.side, one.recording) == ("torch", recording)]
        classes = {kind: totals(one for one in mine if one.kind == kind) for kind in KINDS}
        if mine:
            kinds = {kind: counts for kind, counts in classes.items() if counts["planted"]}
            found[command] = {"faults": len({one.fault for one in mine}), **totals(mine), "classes": kinds}
    return found


def kept(names: Sequence[str], faults: Sequence[Fault], seeds: int, checkpoint: Path | None) -> Iterator[Row]:
    """Torch faults against the recordings ``names``; what ``checkpoint`` holds is not run again, what is run is
    added."""
    lines = checkpoint.read_text("utf-8").splitlines() if checkpoint is not None and checkpoint.exists() else []
    held = {(one.recording, one.fault, one.seed): one for one in (Row(**json.loads(line)) for line in lines)}
    for name, fault, seed in product(names, faults, range(seeds)):
        known = held.get((name, fault.name, seed))
        one = known or next(torch_rows([seed], [fault], recording=name))
        if known is None and checkpoint is not None:
            with checkpoint.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(one)) + "\n")
        yield one


def names_nothing_unheard_of() -> list[str]:
    """Names of causes in the catalogues that no report can give."""
    named = {name for fault in (*torch_faults.FAULTS, *JULIA_FAULTS) for name in fault.names}
    return sorted(named - CAUSES.keys())


def main() -> None:
    """Print the score and store it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="planted anew so many times in each recording")
    parser.add_argument("--live", type=int, default=0, help="so many times on real Flux, and clean runs with it")
    parser.add_argument("--only", nargs="*", default=[], help="faults whose names hold one of these words")
    parser.add_argument("--recordings", nargs="*", help="against these recordings only")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    parser.add_argument("--checkpoint", type=Path, help="JSON lines: what is in it is not run again")
    chosen = parser.parse_args()
    rows: list[Row] = []
    first = julia_runs.RECORDED_SEED + 1
    faults = [one for one in torch_faults.FAULTS if not chosen.only or any(word in one.name for word in chosen.only)]
    names = chosen.recordings or RECORDINGS
    planted = kept(names, faults, chosen.seeds, chosen.checkpoint)
    julia = chain(recorded_rows(), live_rows(range(first, first + chosen.live)))
    for one in planted if chosen.only or chosen.recordings else chain(planted, julia):
        print(one, flush=True)
        rows.append(one)
    print(summary(rows))
    clean: list[Clean] = []
    if chosen.live:
        for done in (one for dtype in ("float64", "float32") for one in clean_runs.flux_runs(range(20), dtype)):
            print(done, flush=True)
            clean.append(done)
    if chosen.out:
        command = f"python -m planted.score --seeds {chosen.seeds} --live {chosen.live} --out FILE"
        write_json(chosen.out, {"command": f"cd parity_tests && {command}", **document(rows, clean)})


if __name__ == "__main__":
    main()
