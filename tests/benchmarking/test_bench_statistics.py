"""Ratios, intervals and the work of a step, against what can be counted by hand."""

import numpy as np
import pytest

from pygan.benchmarking.breakdown import LINES, lines_alone, lines_profiled, once, times_of
from pygan.benchmarking.floor import best_rates, floor_seconds
from pygan.benchmarking.statistics import median, ratio
from pygan.benchmarking.work import step_flop, step_operations, table_line, unused_operations, valid_taps
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig


def test_a_ratio_of_equal_rows_straddles_one_and_of_unlike_ones_does_not() -> None:
    generator = np.random.Generator(np.random.Philox(key=1))
    one, other = generator.normal(1, 0.02, 20), generator.normal(1, 0.02, 20)
    assert ratio(one, other).straddles_one
    found = ratio(2 * one, other)
    assert found.low < 2 < found.high
    assert not found.straddles_one


def test_a_machine_that_slows_down_cancels_in_paired_ratios() -> None:
    drift = np.linspace(1, 3, 20)
    found = ratio(1.5 * drift, drift)
    assert (found.low, found.value, found.high) == pytest.approx((1.5, 1.5, 1.5))
    loose = ratio(1.5 * drift, drift, paired=False)
    assert loose.high - loose.low > 0.3


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.Generator(np.random.Philox(key=2))
    hits = sum(
        (found := ratio(generator.normal(1, 0.05, 15), generator.normal(1, 0.05, 15), seed=at)).low <= 1 <= found.high
        for at in range(200)
    )
    assert 180 <= hits <= 200


@pytest.mark.parametrize(("count", "other"), [(1, 2), (2, 2), (5, 5), (3, 15)])
def test_the_interval_of_few_samples_covers_the_truth_too(count: int, other: int) -> None:
    generator = np.random.Generator(np.random.Philox(key=3))
    hits = sum(
        (found := ratio(generator.normal(1, 0.05, count), generator.normal(1, 0.05, other), paired=False)).low
        <= 1
        <= found.high
        for _ in range(400)
    )
    assert 376 <= hits <= 400


def test_one_sample_a_side_is_known_to_a_factor_of_two() -> None:
    found = ratio([8.0], [1.0], paired=False)
    assert (found.low, found.value, found.high) == (4, 8, 16)


def test_samples_that_cannot_be_paired_are_errors() -> None:
    with pytest.raises(ValueError, match="3 samples against 2 cannot be paired"):
        ratio([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="0 samples"):
        ratio([], [])
    assert median([3.0, 1.0, 2.0]) == 2.0


@pytest.mark.parametrize(
    ("sizes", "taps"),
    [((7, 7, 5, 1, 2), 29), ((14, 7, 4, 2, 1), 26), ((28, 14, 4, 2, 1), 54), ((4, 2, 2, 2, 0), 4)],
)
def test_valid_taps(sizes: tuple[int, ...], taps: int) -> None:
    assert valid_taps(*sizes) == taps


def test_the_work_of_a_published_step_is_46_7_gflop() -> None:
    operations = step_operations(FluxTutorialConfig())
    assert step_flop(operations) == 46_685_356_032
    dense, conv1, conv2, conv3 = 2 * 128 * 100 * 12544, 2 * 128 * 256 * 128 * 29**2, 2 * 128 * 128 * 64 * 26**2, 0
    conv3 = 2 * 128 * 64 * 54**2
    generator, first, second, last = dense + conv1 + conv2 + conv3, conv3, conv2, 2 * 128 * 6272
    discriminator = first + second + last
    sample = generator
    update = 2 * discriminator + 2 * discriminator + 2 * (second + last)
    other = 2 * discriminator + generator + generator + (generator - dense)
    assert step_flop(operations) == sample + update + other


def test_as_printed_and_smaller_batches_have_less_work() -> None:
    fixed, printed = FluxTutorialConfig(), FluxTutorialConfig(semantics="as_printed")
    assert step_flop(step_operations(printed)) < 0.5 * step_flop(step_operations(fixed))
    assert 0 < step_flop(step_operations(fixed, 96)) < step_flop(step_operations(fixed))


def test_gradients_that_nobody_uses_are_those_of_the_frozen_discriminator_and_of_data() -> None:
    config = FluxTutorialConfig()
    torch = unused_operations(config, by_input=False)
    assert {(one.layer, one.pass_, one.count) for one in torch} == {
        (f"discriminator.{layer}", "weight", 1) for layer in ("conv1", "conv2", "dense")
    }
    flux = unused_operations(config, by_input=True)
    assert {(one.layer, one.count) for one in flux if one.pass_ == "input"} == {
        ("discriminator.conv1", 2),
        ("generator.dense", 1),
    }


def test_the_floor_is_bound_by_the_best_rates() -> None:
    operations = step_operations(FluxTutorialConfig())
    seconds = [1e9] * len(operations)
    measured = {"sgemm_flop_per_second": {"512": 1e11, "1024": 2e11}, "copy_bytes_per_second": {str(1 << 22): 1e12}}
    rates = best_rates(measured, operations, seconds)
    assert (rates.flop_per_second, rates.flop_source) == (2e11, "sgemm of 1024 x 1024")
    arithmetic = step_flop(operations) / 2e11
    assert arithmetic <= floor_seconds(operations, rates) < 1.1 * arithmetic
    slow = best_rates({**measured, "copy_bytes_per_second": {str(1 << 22): 1e8}}, operations, seconds)
    assert floor_seconds(operations, slow) > 2 * arithmetic
    place = next(at for at, one in enumerate(operations) if one.kind == "conv")
    seconds[place] = operations[place].flop / 5e11
    assert best_rates(measured, operations, seconds).flop_source.startswith("oneDNN discriminator.conv1")


def test_every_operation_has_a_line_and_the_lines_add_up_to_the_step() -> None:
    config = FluxTutorialConfig()
    operations = step_operations(config)
    assert {table_line(one) for one in operations} == set(LINES)
    times = times_of(operations, [1e-3] * len(operations))
    assert all(once(one).count == 1 for one in operations)
    table = lines_alone(operations, unused_operations(config, by_input=True), times, step=0.5, gc_seconds=0.02)
    assert sum(table.values()) == pytest.approx(0.5)
    assert table["garbage collection"] == 0.02
    profile = {"seconds": {"convolutions, forward": 1.0, "convolutions, gradients": 2.0, "rest": 1.0}, "step": 4.0}
    shares = lines_profiled(profile, table, 0.5)
    assert sum(shares.values()) == pytest.approx(0.5)
    assert shares["convolutions, forward"] == pytest.approx(0.125)
