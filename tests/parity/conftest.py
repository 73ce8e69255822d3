"""Recordings that several files compare with."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from parity_runs import EVERYTHING, traced

from pygan.parity.sides import Recorded


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Recorded]:
    """Right Float32 runs of two steps with their Float64 twins, by seed."""

    @cache
    def made(seed: int) -> Recorded:
        folder = tmp_path_factory.mktemp("clean") / str(seed)
        return Recorded(traced(folder, 2, dtype="float32", twin=EVERYTHING, seed=seed))

    return made
