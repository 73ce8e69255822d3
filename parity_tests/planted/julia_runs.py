"""Running real Flux with a planted bug: ``python -m planted.julia_runs`` records the committed traces anew."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from compared_runs import torch_like

from planted.julia_faults import FAULTS, JuliaFault
from planted.paths import TRACES
from planted.torch_faults import chance, clean, data
from pygan import recording
from pygan.parity.locate import FULL_CAPTURE
from pygan.parity.report import Report
from pygan.parity.run import compare_runs
from pygan.parity.sides import Live, Recorded
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.stacks.flux_stack import FluxStack
from pygan.traces import Trace

RECORDED_SEED = 0
"""Places and strengths of the committed traces."""


def folder_of(fault: JuliaFault) -> Path:
    """Where the committed trace of ``fault`` lies."""
    return TRACES / f"planted-{fault.name.replace(' ', '-').lower()}"


def record(fault: JuliaFault, seed: int, folder: Path) -> str:
    """Run Flux with the fault up to the first step that shows it; place and strength in words.

    Earlier steps keep their state alone.
    """

    def capture(step: int) -> Sequence[str]:
        return FULL_CAPTURE if step == fault.first_step else ("state",)

    with tempfile.TemporaryDirectory() as temporary:
        words, files = fault.write(chance(fault.name, seed), Path(temporary))
        stack = FluxStack(FluxTutorialConfig.from_dict(clean().header.config), include=files)
    command = f"cd parity_tests && python -m planted.julia_runs --seed {seed} '{fault.name}'  # {words}"
    try:
        for _ in recording.record(stack, data(), fault.first_step + 1, folder, command=command, capture=capture):
            pass
    finally:
        stack.close()
    return words


def compare(trace: Trace) -> Report:
    """A recorded faulty Flux run against clean torch, as ``pygan parity recorded torch`` compares them."""
    return compare_runs(Recorded(trace), Live(torch_like(trace), data()))


def main() -> None:
    """Record the committed traces, or those named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="faults; all that are to be committed where none is given")
    parser.add_argument("--seed", type=int, default=RECORDED_SEED)
    chosen = parser.parse_args()
    for fault in FAULTS:
        if fault.name in chosen.names or (fault.recorded and not chosen.names):
            shutil.rmtree(folder_of(fault), ignore_errors=True)
            print(f"{folder_of(fault).name}: {record(fault, chosen.seed, folder_of(fault))}", flush=True)


if __name__ == "__main__":
    main()
