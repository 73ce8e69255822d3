"""What is said of a training that has stopped to learn."""

from __future__ import annotations

import numpy as np
import pytest

from pygan.divergence import FLAT_STEPS, Watch
from pygan.errors import Diverged
from pygan.records import StepRecord


def told(records: list[StepRecord]) -> list[str]:
    """What a watch warns of."""
    found: list[str] = []
    watch = Watch(True, warn=found.append)
    for record in records:
        watch.record(record)
    return found


def flat(steps: int, first: int = 0, value: float = 1e-9) -> list[StepRecord]:
    losses = {"discriminator": np.array(value, np.float32), "generator": np.array(9.0, np.float32)}
    return [StepRecord(step, loss=losses) for step in range(first, first + steps)]


def test_a_loss_that_stays_zero_is_told_once_with_its_first_step() -> None:
    (text,) = told([*flat(3, 0, 1.0), *flat(3 * FLAT_STEPS, 3)])
    assert text.startswith("the discriminator loss is 0 since step 3: ")


def test_a_loss_that_comes_back_is_not_told() -> None:
    assert told([*flat(FLAT_STEPS - 1), *flat(1, FLAT_STEPS, 1e-3), *flat(FLAT_STEPS - 1, FLAT_STEPS + 1)]) == []


def test_equal_pictures_are_told_once_and_never_of_the_first_step() -> None:
    equal = np.ones((4, 1, 2, 2), np.float32)
    other = equal.copy()
    other[2, 0, 1, 1] = 0.5
    assert told([StepRecord(0, pictures={"values": equal}), StepRecord(10, pictures={"values": other})]) == []
    assert told([StepRecord(10, pictures={"values": equal[:1]})]) == [], "one picture is equal to itself"
    assert told([StepRecord(step, pictures={"values": equal}) for step in (10, 20)]) == [
        "all 4 pictures of step 10 are equal: the generator has collapsed"
    ]


def test_what_is_not_finite_ends_the_run_and_is_no_collapse() -> None:
    with pytest.raises(Diverged, match="pictures values holds nan at step 5"):
        told([StepRecord(5, pictures={"values": np.full((4, 1, 2, 2), np.nan)})])
