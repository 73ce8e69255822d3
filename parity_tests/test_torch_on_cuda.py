"""Claim: the port on a CUDA GPU takes the step that it takes on the CPU."""

from __future__ import annotations

import pytest
import torch
from compared_runs import batches, config

from pygan.draws import Draws
from pygan.parity.bands import outside_float64
from pygan.parity.compare import compare_records
from pygan.stacks.torch_stack import TorchStack

CAPTURE = ("logits", "gradients", "patterns", "state")

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU: run `pytest parity_tests -m cuda` on one"),
]


@pytest.mark.parametrize("width", ["narrow", "full"])
def test_float64_steps_agree_with_the_cpu(width: str) -> None:
    cpu, cuda = (TorchStack(config(width, "float64", device=device)) for device in ("cpu", "cuda"))
    for step, batch in enumerate(batches(width, 2)):
        theirs = cpu.step(batch, Draws(0).at(step), CAPTURE)
        mine = cuda.step(batch, Draws(0).at(step), CAPTURE, impose=theirs.pattern)
        assert not (bad := outside_float64(compare_records(mine, theirs, cpu.rules()))), "\n".join(map(str, bad[:8]))
        cuda.load_state(theirs.state)
