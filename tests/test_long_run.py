"""Memory and file handles stay flat over 5,000 recorded steps with checkpoints and pictures, in both stacks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pygan import recording
from pygan.checkpoints import Checkpoints
from pygan.data import load
from pygan.divergence import Watch
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.stacks.choose import make_stack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory and handles are read from Linux's /proc"),
]
SETTLED, STEPS = 1000, 5000
ALLOWED_MB = 24
"""Allocators keep a little more now and then; a step that leaves one small tensor behind (64 KB) leaves 250 MB."""


def used(pid: int) -> tuple[float, int]:
    """Resident memory in MB, and open file handles."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir(f"/proc/{pid}/fd"))


def run(stack: Any, folder: Path, pids: list[int]) -> list[tuple[tuple[float, int], tuple[float, int]]]:
    """What each process used after :data:`SETTLED` steps and at the end."""
    before = []
    checkpoints = Checkpoints(folder, 500, Watch(True))
    data = load("digits", limit=38)
    made = recording.record(
        stack, data, STEPS, folder / "trace", command="a test", picture_every=50, checkpoints=checkpoints
    )
    for record in made:
        if record.step == SETTLED:
            before = [used(pid) for pid in pids]
    return list(zip(before, [used(pid) for pid in pids], strict=True))


def flat(uses: list[tuple[tuple[float, int], tuple[float, int]]]) -> None:
    """Assert that no process grew."""
    for (memory, handles), (later, open_later) in uses:
        assert later - memory < ALLOWED_MB, f"{memory:.0f} MB after {SETTLED} steps, {later:.0f} MB after {STEPS}"
        assert open_later <= handles + 1


@pytest.mark.parametrize("name", ["torch", "torch-fast"])
def test_torch_stays_flat(name: str, tmp_path: Path) -> None:
    stack = make_stack(name, FluxTutorialConfig(**{**FluxTutorialConfig.narrow, "threads": 1}))
    flat(run(stack, tmp_path, [os.getpid()]))


@pytest.mark.live
def test_flux_stays_flat(tmp_path: Path) -> None:
    stack = make_stack("flux", FluxTutorialConfig(**{**FluxTutorialConfig.narrow, "threads": 1}))
    try:
        flat(run(stack, tmp_path, [os.getpid(), stack.worker.pid]))
    finally:
        stack.close()


def test_a_leak_would_be_seen(tmp_path: Path) -> None:
    stack = make_stack("torch", FluxTutorialConfig(**{**FluxTutorialConfig.narrow, "threads": 1}))
    kept, step = [], stack.step

    def leaking(*given: Any, **named: Any) -> Any:
        kept.append(bytearray(os.urandom(16_000)))
        return step(*given, **named)

    stack.step = leaking  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="MB after 1000 steps"):
        flat(run(stack, tmp_path, [os.getpid()]))
