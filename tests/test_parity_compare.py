"""Comparing tensors, records and free runs: no fault is averaged away and every number is the one it claims to be."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pygan.errors import StateError
from pygan.layouts import rule
from pygan.parity.compare import compare_arrays, compare_records, compare_tensors, flips, norm
from pygan.parity.free_run import CLOSE, relative_picture, shown
from pygan.parity.locate import largest
from pygan.parity.verdicts import DIFFERS, NOT_RUN
from pygan.pictures.grid import grid
from pygan.pictures.of_record import picture_values
from pygan.records import StepRecord
from pygan.sketches import element_places, sketch

NAN, INF = float("nan"), float("inf")


def ones(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.ones(shape, dtype)


# --- one tensor --------------------------------------------------------------------------------------------------


def test_equal_tensors_differ_by_nothing() -> None:
    found = compare_tensors("x", ones(2, 3), ones(2, 3))
    assert (found.fault, found.relative, found.absolute, found.max_abs, found.max_ulp) == ("", 0, 0, 0, 0)


@pytest.mark.parametrize(("mine", "theirs"), [(NAN, 1.0), (1.0, NAN), (NAN, NAN), (INF, 1.0), (INF, INF), (1.0, -INF)])
def test_a_value_that_is_not_finite_on_either_or_both_sides_is_a_fault_with_its_place(
    mine: float, theirs: float
) -> None:
    a, b = ones(2, 3), ones(2, 3)
    a[1, 2], b[1, 2] = mine, theirs
    found = compare_tensors("x", a, b)
    assert found.fault == f"not finite at [1, 2]: {mine} against {theirs}"
    assert largest([found]) == INF, "no tolerance would pass it"


def test_another_shape_or_dtype_is_a_fault_even_of_equal_values() -> None:
    assert compare_tensors("x", ones(2, 3), ones(3, 2)).fault == "shape (2, 3) against (3, 2)"
    assert compare_tensors("x", ones(6), ones(2, 3)).fault == "shape (6,) against (2, 3)"
    assert compare_tensors("x", ones(2), ones(2, dtype="float64")).fault == "dtype float32 against float64"


def test_a_missing_or_extra_tensor_is_a_fault_that_names_it() -> None:
    found = compare_arrays({"same": ones(1), "extra": ones(1)}, {"same": ones(1), "gone": ones(1)})
    assert {one.key: one.fault for one in found} == {
        "extra": "missing in the reference",
        "gone": "missing in the candidate",
        "same": "",
    }
    assert [one.key for one in found] == ["extra", "gone", "same"]


def test_numbers_of_a_difference_are_over_full_elements_and_never_means() -> None:
    b = np.full(10_000, 2.0)
    a = b.copy()
    a[77] += 3
    found = compare_tensors("x", a, b)
    assert found.absolute == found.max_abs == 3
    assert found.relative == pytest.approx(3 / (2 * 100), rel=1e-15)
    assert found.worst == (77,)
    assert found.values == (5.0, 2.0)


def test_one_wrong_element_of_a_million_is_not_averaged_away() -> None:
    b = ones(1_000_000, dtype="float64")
    a = b.copy()
    a[123] += 1e-6
    found = compare_tensors("x", a, b)
    assert found.relative == pytest.approx(1e-9, rel=1e-6)
    assert (found.max_abs, found.worst) == (pytest.approx(1e-6), (123,))


def test_the_worst_element_is_named_in_both_layouts() -> None:
    a, b = np.ones((2, 3, 4, 5)), np.ones((2, 3, 4, 5))
    a[1, 2, 0, 3], b[1, 2, 0, 3] = 5, 7
    a[0, 0, 1, 1] = 1.5
    found = compare_tensors("parameter/d.conv1.weight", a, b, "conv.weight")
    assert found.worst == (1, 2, 0, 3)
    assert found.worst_flux == (2, 4, 3, 2)  # x runs backwards: 5 - 3; y: 4 - 0; 1-based
    assert rule("conv.weight").to_flux(b)[1, 3, 2, 1] == 7
    text = str(found)
    assert "[1, 2, 0, 3] = Julia [2, 4, 3, 2]" in text
    assert "5 against 7" in text


def test_a_layout_of_another_rank_is_an_error_not_a_wrong_place() -> None:
    with pytest.raises(StateError, match=r"conv\.weight"):
        compare_tensors("x", ones(2, 3), 2 * ones(2, 3), "conv.weight")


def test_rules_are_found_by_the_parameters_path() -> None:
    key = "gradient/d/real/d.dense.weight"
    a, b = {key: ones(2, 3)}, {key: 2 * ones(2, 3)}
    [found] = compare_arrays(a, b, {"d.dense.weight": "dense.weight"})
    assert found.worst_flux == (1, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [1.0, 1000.0, -3.5e-12, 1e30])
@pytest.mark.parametrize("steps", [1, 3])
def test_ulps_count_the_floats_between(dtype: str, value: float, steps: int) -> None:
    b = np.array([value], dtype)
    a = b
    for _ in range(steps):
        a = np.nextafter(a, np.array(np.inf * np.sign(value), dtype))
    assert compare_tensors("x", a, b).max_ulp == steps


@pytest.mark.parametrize("scale", [1e300, 1e-300, 1e-320, 1.0])
def test_the_norm_neither_overflows_nor_vanishes(scale: float) -> None:
    assert norm(np.array([[3.0, 4.0]]) * scale) == pytest.approx(5 * scale, rel=1e-4)
    assert norm(np.array([3.0, 4.0], np.float32)) == 5
    found = compare_tensors("x", np.array([3.0, 4.0]) * scale, np.array([3.0, 8.0]) * scale)
    assert found.relative == pytest.approx(4 / np.sqrt(73), rel=1e-4)


def test_the_norm_of_zeros_and_of_nothing_is_0() -> None:
    assert norm(np.zeros((2, 3))) == norm(np.zeros(0)) == 0


def test_the_norm_of_a_tensor_with_nan_is_not_a_number() -> None:
    assert not np.isfinite(norm(np.array([1.0, NAN])))


def test_a_difference_from_zeros_is_infinitely_large_relatively_and_measured_absolutely() -> None:
    found = compare_tensors("x", np.full(4, 1e-20, np.float32), np.zeros(4, np.float32))
    assert found.relative == INF
    assert found.absolute == pytest.approx(2e-20, rel=1e-6)
    assert compare_tensors("x", np.zeros(4), np.zeros(4)).relative == 0


def test_a_float64_difference_from_zero_has_a_number_and_no_warning() -> None:
    assert compare_tensors("x", np.array([1e-12]), np.array([0.0])).max_abs == 1e-12


def test_integers_bools_and_empty_tensors_are_compared() -> None:
    assert compare_tensors("step", np.array(3), np.array(5)).max_abs == 2
    assert compare_tensors("p", np.array([True, False]), np.array([True, True])).max_abs == 1
    assert compare_tensors("e", ones(0, 3), ones(0, 3)).fault == ""


def test_the_smallest_tolerance_that_passes_all_is_that_of_the_largest_difference() -> None:
    near = compare_tensors("near", np.array([1 + 1e-12]), np.array([1.0]))
    far = compare_tensors("far", np.array([1 + 1e-9]), np.array([1.0]))
    assert largest([near, far]) == far.relative
    assert largest([near, compare_tensors("fault", ones(2), ones(3))]) == INF
    assert largest([]) == 0


# --- records -----------------------------------------------------------------------------------------------------


def test_records_are_compared_in_the_parts_that_both_have_and_batches_first() -> None:
    mine = StepRecord(
        0, "aa", loss={"d": np.array(1.0)}, gradient={"d.dense.weight": ones(2)}, state={"step": np.array(1)}
    )
    theirs = replace(mine, batch_sha256="bb", loss={"d": np.array(1.5)}, state={})
    assert [(one.key, bool(one.fault)) for one in compare_records(mine, theirs)] == [
        ("batch", True), ("loss/d", False), ("gradient/d.dense.weight", False),
    ]  # fmt: skip
    assert [one.key for one in compare_records(mine, mine, kinds=("state",))] == ["state/step"]


def test_flips_are_the_places_where_the_patterns_differ() -> None:
    on = np.ones((2, 3), bool)
    other = on.copy()
    other[1, 0] = other[0, 2] = False
    mine = StepRecord(0, pattern={"a": on, "b": on, "only mine": on})
    found = flips(mine, StepRecord(0, pattern={"a": other, "b": on}))
    assert {key: places.tolist() for key, places in found.items()} == {"a": [[0, 2], [1, 0]]}


# --- sketches ----------------------------------------------------------------------------------------------------


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), side=st.sampled_from([3, 4, 5]))
def test_a_transposed_or_flipped_tensor_keeps_its_norm_and_changes_its_sketch(seed: int, side: int) -> None:
    kernel = np.random.default_rng(seed).standard_normal((4, 4, side, side))
    true = sketch(kernel)
    for wrong in (kernel[:, :, ::-1], kernel[:, :, :, ::-1], kernel.swapaxes(0, 1), kernel.swapaxes(2, 3), -kernel):
        planted = sketch(wrong)
        assert planted[0] == pytest.approx(true[0], rel=1e-12)
        assert relative(planted[1:9], true[1:9]) > 1e-3
        assert relative(planted[9:], true[9:]) > 1e-3


def test_one_swapped_pair_of_a_large_tensor_shows_in_the_projections() -> None:
    values = np.random.default_rng(0).standard_normal(50_000)
    wrong = values.copy()
    wrong[[10, 40_000]] = wrong[[40_000, 10]]
    assert np.abs(sketch(wrong)[1:9] - sketch(values)[1:9]).max() > 1e-2


def test_a_sketch_is_the_norm_the_signed_sums_and_the_elements_it_names() -> None:
    values = np.random.default_rng(0).standard_normal((7, 9)).astype(np.float32)
    made = sketch(values)
    assert (made.shape, made.dtype) == ((17,), np.float64)
    assert made[0] == pytest.approx(norm(values), rel=1e-14)
    assert made[9:].tolist() == values.reshape(-1)[element_places(63)].astype(float).tolist()
    hot = np.array([sketch(row)[1:9] for row in np.eye(64)])
    assert set(np.unique(hot)) == {-1.0, 1.0}
    assert np.linalg.matrix_rank(hot) == 8, "the eight projections must be independent"
    assert made[1:9] == pytest.approx(values.reshape(-1).astype(float) @ hot[:63], rel=1e-12)
    assert np.array_equal(sketch(np.asfortranarray(values)), made)
    assert sketch(np.array(-3.0)).tolist()[0] == 3.0


# --- free runs ---------------------------------------------------------------------------------------------------

PICTURES = np.random.default_rng(0).uniform(-0.9, 0.9, (4, 1, 3, 5)).astype(np.float32)


def drawn(step: int, off: float = 0.0, stored: str = "values") -> StepRecord:
    """A record whose pictures are off by so much, relatively, from those of ``drawn(step)``."""
    values = PICTURES * np.float32(1 + off)
    return StepRecord(step, pictures={"grid": grid(values, 2)} if stored == "grid" else {"values": values})


def test_pictures_are_shown_with_their_distance_and_not_judged() -> None:
    found = shown([drawn(0), drawn(4, 0.5 * CLOSE), drawn(8, 0.5)], [drawn(0), drawn(4), drawn(8)])
    assert found.verdict == NOT_RUN
    assert [step.relative for step in found.steps] == pytest.approx([0, 0.5 * CLOSE, 0.5], rel=1e-3)
    assert [step.verdict for step in found.steps] == [NOT_RUN] * 3
    assert found.reason.endswith("shown, not judged; up to step 4 they differ by less than 1%")
    assert shown([drawn(2, 0.5)], [drawn(2)]).reason.endswith("shown, not judged")


@pytest.mark.parametrize("value", [NAN, INF])
def test_pictures_that_are_not_finite_differ(value: float) -> None:
    broken = StepRecord(4, pictures={"values": PICTURES * np.float32(value)})
    for pair in ((broken, drawn(4)), (drawn(4), broken), (broken, broken)):
        found = shown([drawn(0), pair[0], drawn(8)], [drawn(0), pair[1], drawn(8)])
        assert found.verdict == DIFFERS
        assert [step.verdict for step in found.steps] == [NOT_RUN, DIFFERS, NOT_RUN]
        assert found.reason.startswith("step 4: a picture is not finite")
        assert found.to_dict()["steps"][1]["relative"] is None


def test_pictures_of_another_size_differ() -> None:
    other = StepRecord(4, pictures={"values": PICTURES[:1]})
    assert shown([other], [drawn(4)]).verdict == DIFFERS


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [([], [drawn(0)]), ([drawn(0)], [drawn(1)]), ([StepRecord(0)], [drawn(0)]), ([drawn(0)], [StepRecord(0)])],
)
def test_without_a_step_that_both_drew_nothing_was_compared(mine: list, theirs: list) -> None:
    found = shown(mine, theirs)
    assert (found.verdict, found.reason, found.steps) == (NOT_RUN, "no step has pictures in both runs", [])


def test_values_and_their_8_bit_grid_are_the_same_picture_to_half_a_grey_level() -> None:
    gap = np.abs(picture_values(drawn(0)) - picture_values(drawn(0, stored="grid")))
    assert gap.shape == (6, 10)
    assert 0 < gap.max() <= 0.5 / 127.5 + 1e-6


@pytest.mark.parametrize("pair", [("values", "grid"), ("grid", "values"), ("grid", "grid")])
def test_a_side_stored_as_8_bits_is_compared_as_a_picture(pair: tuple[str, str]) -> None:
    mine, theirs = pair
    assert relative_picture(drawn(0, 0.0, mine), drawn(0, 0.0, theirs)) < 0.01
    assert relative_picture(drawn(0, 0.05, mine), drawn(0, 0.0, theirs)) == pytest.approx(0.05, rel=0.1)


def test_losses_are_reported_beside_the_pictures() -> None:
    mine, theirs = (replace(drawn(0), loss={"generator": np.array(value)}) for value in (1.5, 2.5))
    assert shown([mine], [theirs]).steps[0].losses == {"generator": (1.5, 2.5)}


def test_exactly_grey_pictures_are_equal_to_themselves_alone() -> None:
    grey = StepRecord(0, pictures={"values": np.zeros_like(PICTURES)})
    assert relative_picture(grey, grey) == 0
    assert shown([drawn(0)], [grey]).verdict == DIFFERS
