"""Make ``docs/results/parity-example.json``: what the comparison says of one planted bug, for ``docs/parity.md``.

The bug: the torch port's discriminator turns the kernel of its second convolution by 180 degrees, as a port does that
takes Flux's convolution for a cross-correlation. The reference is real Flux, recorded with every layer.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from pygan.data import load
from pygan.files import write_json
from pygan.parity.report import Report
from pygan.parity.run import compare_runs
from pygan.parity.sides import Live, Recorded
from pygan.recipes import config_from_dict
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

ROOT = Path(__file__).parents[1]
TRACE = "parity_tests/traces/flux-tiny-layers"
COMMAND = "python tools/parity_example.py"
BUG = "the kernel of the discriminator's `conv2` is turned by 180 degrees"
STEPS = 3


class FlippedKernel(TorchStack):
    """The port with the bug; the state it loads and stores is sound."""

    def initialise(self) -> None:
        """Fresh networks, then the bug."""
        super().initialise()
        conv = self.networks["discriminator"].get_submodule("conv2")
        assert isinstance(conv, nn.Conv2d)
        conv.forward = lambda x: conv._conv_forward(x, conv.weight.flip(-2, -1), conv.bias)  # type: ignore[method-assign]


def compared() -> Report:
    """The report on the faulty port, with the command that replays the spot where a port has the bug."""
    trace = Trace(ROOT / TRACE)
    data = load(trace.header.data["name"], limit=trace.header.data["images"])
    port = Live(FlippedKernel(config_from_dict(trace.header.config)), data, FlippedKernel)
    report = compare_runs(port, Recorded(trace), STEPS, range(1, 8))
    found = report.diagnosis
    assert found is not None, "the bug went unseen"
    return replace(report, replay=f"pygan parity torch {TRACE} --step {found.step} --tensor {found.key}")


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "parity-example.json")
    out = parser.parse_args().out
    report = compared()
    stored: dict[str, Any] = {"command": COMMAND, "bug": BUG, "says": str(report.diagnosis)}
    stored["reports"] = [report.to_dict()]
    write_json(out, stored)
    print(f"wrote {out}\n{report.diagnosis}")


if __name__ == "__main__":
    main()
