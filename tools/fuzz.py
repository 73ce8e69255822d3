"""Read mutated files with every reader and write what came of it to docs/results/fuzz.json (``make fuzz``).

A fault is anything but pygan's own errors: another exception, more than 5 seconds of processor time, more than 512 MB,
a file opened outside the folder, code run or a process started. Its input is kept, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from fuzz_readers import BYTES, SECONDS, bounded_memory, fault_of, place, readers, warm  # noqa: E402

from pygan import environment  # noqa: E402
from pygan.files import read_json, write_json  # noqa: E402

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Where files are written and read fastest."""
PATIENCE = 60.0
"""Seconds on the clock after which a read is ended; the processor seconds that it may take are fewer."""
EVERY = 250
"""Inputs between two looks at the clock of the progress bar."""


class Hang(BaseException):
    """A reader took too long."""


def _ring(number: int, frame: FrameType | None) -> None:
    raise Hang(f"no end after {PATIENCE:g} s")


def main() -> int:
    """Fuzz all readers in turn, each with its share of the inputs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs of all readers together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="one reader by name")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "fuzz.json")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "pygan-fuzz-faults")
    chosen = parser.parse_args()
    found: dict[str, collections.Counter[str]] = {}
    rows: dict[str, dict[str, float]] = {}
    signal.signal(signal.SIGALRM, _ring)
    with contextlib.ExitStack() as stack:
        where = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pygan-fuzz-", dir=MEMORY))).resolve()
        numbers = {one.name: number for number, one in enumerate(readers(ROOT))}
        all_readers = [one for one in readers(ROOT) if chosen.only in ("", one.name)]
        folders = {one.name: place(one, where) for one in all_readers}
        for one in all_readers:
            warm(one, folders[one.name])
        stack.enter_context(bounded_memory())
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
        )
        bar = stack.enter_context(Progress(*columns, TimeRemainingColumn(), refresh_per_second=2))
        total = chosen.inputs // len(all_readers) * len(all_readers)
        task = bar.add_task("fuzz", total=total, rate="")
        began = time.perf_counter()
        for number, one in enumerate(all_readers):
            bar.update(task, description=one.name)
            rng = random.Random(chosen.seed * 1000 + numbers[one.name])
            faults = found[one.name] = collections.Counter()
            share, begun = chosen.inputs // len(all_readers), time.perf_counter()
            for at in range(share):
                content = one.mutate(rng, rng.choice(one.seeds), one.seeds)
                signal.setitimer(signal.ITIMER_REAL, PATIENCE)
                fault = fault_of(one, folders[one.name], content)
                signal.setitimer(signal.ITIMER_REAL, 0)
                if fault:
                    faults[fault] += 1
                    if faults[fault] == 1:
                        chosen.keep.mkdir(parents=True, exist_ok=True)
                        (chosen.keep / f"{one.name}-{len(faults)}").write_bytes(content)
                if at % EVERY == EVERY - 1:
                    done = number * share + at + 1
                    bar.update(task, completed=done, rate=f"{done / (time.perf_counter() - began):.0f}/s")
            if not bar.console.is_terminal:
                done, seconds = (number + 1) * share, time.perf_counter() - began
                left = seconds / done * (total - done)
                print(f"{one.name}: {done}/{total}, {done / seconds:.0f}/s, {left:.0f} s left", flush=True)
            rows[one.name] = {"inputs": share, "seconds": round(time.perf_counter() - begun, 1)}
    _write(chosen, rows, found)
    for name, faults in found.items():
        for fault, count in faults.most_common():
            print(f"{name}: {count} x {fault}")
    count = sum(faults.total() for faults in found.values())
    print(f"{total} inputs in {sum(row['seconds'] for row in rows.values()):.0f} s, {count} faults")
    return int(bool(count))


def _write(
    chosen: argparse.Namespace, rows: dict[str, dict[str, float]], found: dict[str, collections.Counter[str]]
) -> None:
    """The results; what earlier runs found and was mended is kept."""
    mended = []
    with contextlib.suppress(OSError, ValueError, KeyError):
        mended = read_json(ROOT / "docs" / "results" / "fuzz.json")["mended"]
    content = {
        "command": f"python tools/fuzz.py --inputs {chosen.inputs} --seed {chosen.seed}",
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": environment.describe(),
        "bounds": {"seconds": SECONDS, "bytes": BYTES},
        "inputs": sum(int(row["inputs"]) for row in rows.values()),
        "seconds": round(sum(row["seconds"] for row in rows.values()), 1),
        "readers": rows,
        "faults": {name: dict(faults) for name, faults in found.items() if faults},
        "mended": mended,
    }
    write_json(chosen.out, content)


if __name__ == "__main__":
    os.environ.pop("PYTHONWARNINGS", None)
    sys.exit(main())
