"""Freed memory stays in the process: what steps free and allocate again costs no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pygan.draws import Draws
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.stacks.fast import CHANGES, heap, stack
from pygan.stacks.fast.stack import FastTorchStack

glibc = pytest.mark.skipif(heap._glibc("mallopt") is None, reason="needs Linux with glibc")
ROUNDS = """
import resource, sys, numpy as np
from pygan.stacks.fast.heap import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    held = [np.ones(3 << 20, np.uint8) for _ in range(40)]  # from 4 MiB on numpy asks for huge pages
    del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
if sys.argv[1] == "kept":
    assert keep_freed_memory()
seen = [faults() for _ in range(5)]
print(seen[-1])
"""


def fifth(how: str) -> int:
    """Page faults of 120 MiB in 40 arrays, the fifth time."""
    ran = subprocess.run([sys.executable, "-c", ROUNDS, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


@glibc
def test_memory_that_is_kept_faults_once() -> None:
    pages = 40 * (3 << 20) // 4096
    assert fifth("kept") < pages / 20
    assert fifth("as it is") > pages / 2, "what the setting is for"


def test_a_system_without_glibc_keeps_its_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not heap.keep_freed_memory()


@pytest.mark.parametrize("changes", [CHANGES, [one for one in CHANGES if one != "heap"]], ids=["heap", "without"])
def test_the_fast_step_asks_for_it(changes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(stack, "keep_freed_memory", lambda: asked.append(1))
    config = FluxTutorialConfig(**NARROW)
    FastTorchStack(config, changes).generate(Draws(0).normal("latent", (2, config.latent_dim)))
    assert bool(asked) == ("heap" in changes)
