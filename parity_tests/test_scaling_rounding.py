"""Claim: images scaled by other operations, equal but for Float32 rounding, are no other function: the rest of the step
is judged as if both sides had seen one batch, as strictly as ever; and what is more than rounding stays a difference.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from planted import torch_faults
from planted.fault import Fault, Planted
from planted.start_faults import scaled

from pygan.parity.report import Report
from pygan.parity.verdicts import AGREE, DIFFERS, NOT_RUN
from pygan.stacks.torch_stack import TorchStack

Scale = Callable[[np.ndarray], np.ndarray]
LEVELS = (3, 4, 5, 6, 7, 8)
SAME: dict[str, Scale] = {
    "times a rounded 255th": lambda x: x * np.float32(1 / 255) * 2 - 1,
    "the middle subtracted first": lambda x: (x - np.float32(127.5)) / np.float32(127.5),
    "in Float64, then rounded": lambda x: (x.astype(np.float64) / 255 * 2 - 1).astype(np.float32),
    "the middle subtracted, times a rounded number": lambda x: (x - np.float32(127.5)) * np.float32(2 / 255),
}
OTHER: dict[str, Scale] = {
    "over 255.0003": lambda x: x / np.float32(255.0003) * 2 - 1,
    "rounded to bf16": lambda x: _bf16(x / np.float32(255) * 2 - 1),
    "one pixel off by a millionth": lambda x: _one_off(x / np.float32(255) * 2 - 1),
}


def _bf16(x: np.ndarray) -> np.ndarray:
    return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def _one_off(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[0, 0, 3, 3] += np.float32(1e-6)
    return x


def compared(scale: Scale, recording: str, slip: Callable[[TorchStack], None] | None = None) -> Report:
    def plant(stack: TorchStack, _: np.random.Generator) -> Planted:
        scaled(stack, scale)
        if slip is not None:
            slip(stack)
        return Planted("batches")

    return torch_faults.compare(Fault("scaling", (), "", plant), 0, TorchStack, recording, LEVELS, 2)[1]


RUNS = [
    *((name, torch_faults.TINY) for name in SAME),
    (next(iter(SAME)), torch_faults.NARROW32),
    *(pytest.param(name, torch_faults.NARROW32, marks=pytest.mark.slow) for name in list(SAME)[1:]),
]


@pytest.mark.parametrize(("name", "recording"), RUNS)
def test_rounding_of_the_scaling_agrees(name: str, recording: str) -> None:
    report = compared(SAME[name], recording)
    assert report.verdict == AGREE
    (told,) = (row.reason for row in report.rows if row.claim.startswith("batches of two epochs"))
    assert "scaled by other operations" in told and "Float32 rounding" in told
    (scaled_row,) = (row for row in report.rows if row.claim == "batches as scaled")
    assert scaled_row.measured is not None and 0 < scaled_row.measured < 3e-7
    if recording == torch_faults.TINY:  # Float64: as strict as with one batch, and no claim about free runs
        assert max(row.measured or 0 for row in report.rows if row.level in (3, 5, 6)) < 1e-11
        assert {row.verdict for row in report.rows if row.level == 8} == {NOT_RUN}


@pytest.mark.parametrize("name", OTHER)
def test_more_than_rounding_differs(name: str) -> None:
    report = compared(OTHER[name], torch_faults.TINY)
    assert report.verdict == DIFFERS
    assert report.diagnosis is not None and report.diagnosis.cause.name == "other batch"


def test_a_fault_beside_it_is_found_and_named() -> None:
    def slip(stack: TorchStack) -> None:
        stack.networks["generator"].norm1.eps = 2e-5

    report = compared(SAME["times a rounded 255th"], torch_faults.TINY, slip)
    assert report.verdict == DIFFERS and report.diagnosis is not None
    assert report.diagnosis.cause.name == "BatchNorm eps" and "generator.relu1" in report.diagnosis.key
