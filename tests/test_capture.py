"""The words of ``--capture``."""

import pytest

from pygan.capture import parse
from pygan.errors import ConfigError
from pygan.records import CAPTURES


def test_nothing_asked_is_nothing_captured() -> None:
    assert [list(parse([])(step)) for step in (0, 5)] == [[], []]


def test_without_a_range_every_step_is_meant() -> None:
    wanted = parse([",".join(CAPTURES)])
    assert all(sorted(wanted(step)) == sorted(CAPTURES) for step in (0, 1, 10**9))


@pytest.mark.parametrize(
    ("ranges", "steps"),
    [
        ("3", [3]),
        ("0:4", [0, 1, 2, 3]),
        ("2:12:4", [2, 6, 10]),
        ("0:2+9+12:20:5", [0, 1, 9, 12, 17]),
        ("4:4", []),
    ],
)
def test_ranges_are_pythons(ranges: str, steps: list[int]) -> None:
    wanted = parse([f"state@{ranges}"])
    assert [step for step in range(30) if wanted(step)] == steps


def test_several_options_add_up() -> None:
    wanted = parse(["state,gradients@0:2", "patterns:fake@1", "gradients@5"])
    assert [list(wanted(step)) for step in (0, 1, 2, 5)] == [
        ["gradients", "state"],
        ["gradients", "patterns:fake", "state"],
        [],
        ["gradients"],
    ]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("stat", "cannot capture stat; known: logits, gradients, patterns, state, sketches"),
        ("state,moods,grads@0:2", "cannot capture grads, moods"),
        ("state@", "'' is no range of steps"),
        ("state@0:10:0", "'0:10:0' is no range of steps"),
        ("state@a:b", "'a:b' is no range of steps"),
        ("state@1:2:3:4", "'1:2:3:4' is no range of steps"),
        ("state@0:2+", "'' is no range of steps"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_quotes_it(item: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse(["state", item])
