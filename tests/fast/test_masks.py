"""Dropout patterns drawn by two threads, as steps of large batches do where two may be used, are those of one."""

from __future__ import annotations

import numpy as np
import pytest

from pygan.draws import Draws
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.stacks.fast import masks
from pygan.stacks.fast.masks import drawn_in_halves
from pygan.stacks.fast.stack import FastTorchStack

LARGE = 4 * masks._SMALLEST


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The words that were given to the other thread."""
    found: list[tuple[int, int]] = []
    real = masks._second()

    class Second:
        def submit(self, draw, first: int, last: int):  # type: ignore[no-untyped-def]
            found.append((first, last))
            return real.submit(draw, first, last)

    monkeypatch.setattr(masks, "_second", Second)
    return found


@pytest.mark.parametrize("shape", [(LARGE,), (LARGE + 1,), (3, 5, LARGE // 7), (128, 64, 14, 14)], ids=str)
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.5])
def test_the_pattern_is_that_of_one_thread(shape: tuple[int, ...], rate: float, submitted: list) -> None:
    for draws in (Draws(0), Draws(2**64 - 1, 7)):
        mine, theirs = drawn_in_halves(draws, "mask", shape, rate), draws.keep("mask", shape, rate)
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape) and mine.tobytes() == theirs.tobytes()
    assert len(submitted) == 2 and all(0 < first < last for first, last in submitted)


def test_small_and_given_patterns_are_drawn_by_one_thread(submitted: list) -> None:
    given = np.zeros(LARGE, np.bool_)
    assert drawn_in_halves(Draws(0, 0, {"mask": given}), "mask", (LARGE,), 0.3) is given
    np.testing.assert_array_equal(
        drawn_in_halves(Draws(3), "mask", (LARGE - 4,), 0.3), Draws(3).keep("mask", (LARGE - 4,), 0.3)
    )
    assert not submitted


@pytest.mark.parametrize(("threads", "changes", "used"), [(2, ("masks",), 1), (1, ("masks",), 0), (2, (), 0)])
def test_two_threads_draw_where_the_run_may_use_two(
    threads: int, changes: tuple[str, ...], used: int, submitted: list
) -> None:
    stack = FastTorchStack(FluxTutorialConfig(**NARROW, threads=threads), changes)
    stack.keep(Draws(0), "mask", (LARGE,), 0.3)
    assert len(submitted) == used
