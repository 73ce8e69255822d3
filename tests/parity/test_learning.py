"""The learning gate on made-up runs: every way of not learning has its own words, and none passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pygan.parity.learning import NEVER_UPDATED, NOT_SHOWN, PARTLY, TRAINED, NetworkLearning, learning_gate
from pygan.pictures.grid import grid
from pygan.records import StepRecord
from pygan.sketches import sketch

NAN = float("nan")
PATHS = ("one.a.weight", "one.a.bias", "two.b.weight")


def by_update(path: str) -> str:
    """The name of a parameter's gradient: the first network is updated as ``one/real``."""
    network = path.partition(".")[0]
    return f"{'one/real' if network == 'one' else network}/{path}"


def state(move: float = 0.0, **changes: np.ndarray) -> dict[str, np.ndarray]:
    tensors = {f"parameter/{path}": np.full((3, 2), 1 + move, np.float32) for path in PATHS}
    return tensors | {"buffer/one.n.running_mean": np.zeros(2), "step": np.array(1)} | changes


def draw(step: int) -> np.ndarray:
    return np.random.default_rng(step).uniform(-1, 1, (4, 1, 6, 5)).astype(np.float32)


def run(steps: int = 3) -> list[StepRecord]:
    """A run in which everything learns; pictures of 6 by 5 pixels, two by two."""
    return [
        StepRecord(
            step,
            loss={"one": np.array(1.0 - 0.1 * step), "two": np.array(2.0 + step)},
            gradient={by_update(path): np.full((3, 2), 0.5) for path in PATHS},
            state=state(0.1 * (step + 1)),
            pictures={"values": draw(step)},
        )
        for step in range(steps)
    ]


def told(records: list[StepRecord], **more: object) -> list[str]:
    """What is found wrong."""
    return [str(check) for check in learning_gate(records, state(), **more) if not check.ok]  # type: ignore[arg-type]


def verdicts(records: list[StepRecord], networks: tuple[str, ...] = ()) -> dict[str, str]:
    checks = learning_gate(records, state(), networks)
    return {check.network: check.verdict for check in checks if isinstance(check, NetworkLearning)}


def test_a_run_that_learns_passes_and_says_by_how_much() -> None:
    checks = learning_gate(run(), state())
    assert all(check.ok for check in checks)
    assert [str(check) for check in checks][:4] == [
        "one trained: 2 of 2 tensors moved, by 0.3 of their size; a gradient in 3 of 3 steps recorded",
        "two trained: 1 of 1 tensors moved, by 0.3 of their size; a gradient in 3 of 3 steps recorded",
        "loss one: 1 to 0.8 in 3 steps",
        "loss two: 2 to 4 in 3 steps",
    ]
    assert str(checks[4]).startswith("pictures of step 2: contrast 2")


def each(change: Callable[[StepRecord], StepRecord]) -> list[StepRecord]:
    return [change(record) for record in run()]


def without_gradient(record: StepRecord) -> StepRecord:
    return replace(record, gradient={path: value for path, value in record.gradient.items() if "two" not in path})


def test_a_network_that_never_got_a_gradient_is_never_updated() -> None:
    stuck = each(
        lambda one: without_gradient(
            replace(one, state={**one.state, "parameter/two.b.weight": state()["parameter/two.b.weight"]})
        )
    )
    assert told(stuck) == [
        "two never updated: all of its 1 tensors are as they were; a gradient in 0 of 3 steps recorded"
    ]
    assert verdicts(stuck) == {"one": TRAINED, "two": NEVER_UPDATED}


def test_several_updates_of_a_network_in_a_step_are_one_step_of_it() -> None:
    """A tensor that gets its gradient in one of them is not without."""

    def twice(one: StepRecord) -> StepRecord:
        more = {f"one/fake/{path}": np.zeros((3, 2)) for path in PATHS if path.startswith("one")}
        return replace(one, gradient={**one.gradient, **more})

    assert told(each(twice)) == []
    assert verdicts(each(twice)) == {"one": TRAINED, "two": TRAINED}
    assert "a gradient in 3 of 3 steps" in str(learning_gate(each(twice), state())[0])


def test_a_gradient_of_zeros_is_no_gradient() -> None:
    zeros = each(lambda one: replace(one, gradient={**one.gradient, by_update("two.b.weight"): np.zeros((3, 2))}))
    assert told(zeros) == [
        "two partly updated: 1 of 1 tensors moved, by 0.3 of their size; a gradient in 0 of 3 steps recorded; "
        "without gradient: two.b.weight"
    ]


def test_a_step_without_gradient_is_seen() -> None:
    records = run()
    records[1] = without_gradient(records[1])
    assert verdicts(records) == {"one": TRAINED, "two": PARTLY}
    assert "a gradient in 2 of 3 steps" in told(records)[0]


def test_one_tensor_that_does_not_move_is_named() -> None:
    stuck = each(lambda one: replace(one, state={**one.state, "parameter/one.a.bias": state()["parameter/one.a.bias"]}))
    assert verdicts(stuck) == {"one": PARTLY, "two": TRAINED}
    assert told(stuck)[0].endswith("; did not move: one.a.bias")


@pytest.mark.parametrize("kind", ["gradient", "state"])
def test_a_value_that_is_not_finite_is_named(kind: str) -> None:
    records = run()
    key = by_update("one.a.bias") if kind == "gradient" else "parameter/one.a.bias"
    broken = getattr(records[-1], kind)[key].copy()
    broken[2, 1] = NAN
    records[-1] = replace(records[-1], **{kind: {**getattr(records[-1], kind), key: broken}})
    assert told(records)[0].endswith("; not finite: one.a.bias")


def test_a_network_that_no_record_shows_is_not_taken_for_trained() -> None:
    bare = [StepRecord(step, loss={"one": np.array(1.0 + step)}) for step in range(3)]
    checks = learning_gate(bare, None, ("one",))
    assert [check.ok for check in checks] == [False, True]
    assert str(checks[0]) == "one: the records hold no two states of it to compare"
    assert verdicts(run()[:1]) == {"one": TRAINED, "two": TRAINED}, "the initial state is the other of the two"
    (alone, *_) = learning_gate(run()[:1])
    assert isinstance(alone, NetworkLearning)
    assert alone.verdict == NOT_SHOWN, "one state moved nowhere"


def test_sketches_stand_for_states_and_gradients() -> None:
    def sketched(one: StepRecord) -> StepRecord:
        full = {f"state/{key}": value for key, value in one.state.items() if value.ndim}
        full |= {f"gradient/{key}": value for key, value in one.gradient.items()}
        return replace(one, state={}, gradient={}, sketch={key: sketch(value) for key, value in full.items()})

    for initial in (state(), None):
        checks = learning_gate(each(sketched), initial)
        assert all(check.ok for check in checks)
        assert {check.verdict for check in checks if isinstance(check, NetworkLearning)} == {TRAINED}
    stuck = [sketched(without_gradient(replace(one, state=state(0.1)))) for one in run()]
    assert {check.network: check.verdict for check in learning_gate(stuck) if isinstance(check, NetworkLearning)} == {
        "one": NEVER_UPDATED,
        "two": NEVER_UPDATED,
    }


def test_a_loss_that_never_changes_or_is_not_finite_is_seen() -> None:
    assert told(each(lambda one: replace(one, loss={"one": np.array(0.5)}))) == [
        "loss one: 0.5 to 0.5 in 3 steps (it never changed)"
    ]
    assert told(each(lambda one: replace(one, loss={"one": np.array(NAN if one.step == 1 else one.step)}))) == [
        "loss one: 0 to 2 in 3 steps (not finite)"
    ]
    assert told(run()[:1]) == [], "a single step cannot change its loss"


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda step: np.full((4, 1, 6, 5), -0.5 + 0.1 * step), "constant and all alike"),
        (lambda step: np.repeat(draw(step)[:1], 4, axis=0), "all alike"),
        (lambda step: np.full((4, 1, 6, 5), np.arange(4.0).reshape(4, 1, 1, 1) * (step + 1)), "constant"),
        (lambda step: draw(0), "what they were at first"),
        (lambda step: draw(step) * (NAN if step == 2 else 1), "not finite"),
        (lambda step: np.zeros((4, 1, 6, 5)), "constant and all alike and what they were at first"),
    ],
)
def test_pictures_that_show_nothing_are_seen(make: Callable[[int], np.ndarray], fault: str) -> None:
    (only,) = told(each(lambda one: replace(one, pictures={"values": make(one.step)})))
    assert only.endswith(f"({fault})")


def test_a_grid_is_cut_into_its_pictures() -> None:
    def as_grid(one: StepRecord, values: np.ndarray) -> StepRecord:
        return replace(one, pictures={"grid": grid(values, 2)})

    assert told(each(lambda one: as_grid(one, draw(one.step))), picture_side=2) == []
    alike = each(lambda one: as_grid(one, np.repeat(draw(one.step)[:1], 4, axis=0)))
    assert told(alike, picture_side=2)[0].endswith("(all alike)")
    mixed = run()
    mixed[-1] = as_grid(mixed[-1], draw(0))  # the first step's pictures again, now in grey levels
    same = learning_gate(mixed, state(), (), 2)[-1]
    assert same.change is not None  # type: ignore[union-attr]
    assert same.change < 0.005, "picture k of the grid is picture k of the values"  # type: ignore[union-attr]
