"""Testing laws: the tests' own error rates are the stated ones, and each kind of wrong law has its row."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest

from pygan.errors import ConfigError
from pygan.parity.init_laws import (
    FALSE_ALARM,
    Constant,
    LawCheck,
    Normal,
    Uniform,
    check_initial,
    check_samples,
    check_seeds,
    check_steps,
    law_of,
)
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.records import StepRecord

RATE = 0.25
LAWS = {
    "net.dense.weight": ("glorot_uniform",),
    "net.conv.weight": ("normal", 0.5, 2.0),
    "net.conv.bias": ("constant", 0.0),
}


def state(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    bound = sqrt(6 / (30 + 50))
    return {
        "parameter/net.dense.weight": rng.uniform(-bound, bound, (50, 30)).astype(np.float32),
        "parameter/net.conv.weight": rng.normal(0.5, 2.0, (8, 4, 3, 3)).astype(np.float32),
        "parameter/net.conv.bias": np.zeros(8, np.float32),
        "exp_avg/net.conv.bias": np.zeros(8, np.float32),
        "beta_power/net": np.array([0.9, 0.99]),
        "step": np.array(0),
    }


def failed(checks: list[LawCheck]) -> list[tuple[str, str]]:
    return [(check.key, check.what) for check in checks if not check.ok]


# --- the tests' own statistics -------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [Normal(0.3, 0.02), Uniform(-0.2, 0.5)], ids=str)
@pytest.mark.parametrize("count", [30, 400])
def test_p_values_are_the_chances_that_they_claim_to_be(law: Normal | Uniform, count: int) -> None:
    """Of 1,000 right samples, as many have p below 5 % and 1 % as should (within 5 standard errors)."""
    rng, trials = np.random.default_rng(7), 1000
    found: dict[str, list[float]] = {"distribution": [], "mean": [], "std": []}
    for _ in range(trials):
        sample = (
            rng.normal(law.mean, law.std, count) if isinstance(law, Normal) else rng.uniform(law.low, law.high, count)
        )
        (_, mean), (_, std) = law.moments(sample)
        for name, p in (("distribution", law.kolmogorov_smirnov(sample)), ("mean", mean), ("std", std)):
            found[name].append(p)
    for name, values in found.items():
        for alpha in (0.05, 0.01):
            share, error = np.mean(np.array(values) < alpha), sqrt(alpha * (1 - alpha) / trials)
            assert abs(share - alpha) < 5 * error, f"{name}: p < {alpha} in {share:.2%}"


def test_deviations_are_in_standard_errors() -> None:
    values = np.random.default_rng(0).standard_normal(10_000)
    values = (values - values.mean()) / values.std(ddof=1)
    (mean, p), (std, _) = Normal(0.0, 1.0).moments(values + 0.05)
    assert mean == pytest.approx(5.0)
    assert p == pytest.approx(5.7e-7, rel=0.01)
    assert std == pytest.approx(0.0, abs=1e-9)
    (_, _), (std, _) = Normal(0.0, 1.0).moments(values * 1.02)
    assert std == pytest.approx(0.02 * sqrt(20_000))


def test_one_false_alarm_is_shared_by_all_tests() -> None:
    checks = check_initial([state(0)], LAWS)
    limits = [check.limit for check in checks if check.limit < 1]
    assert len(limits) == 6
    assert sum(limits) == pytest.approx(FALSE_ALARM)
    few = {"x": (Normal(0.0, 1.0), np.zeros(29))}
    assert [check.what for check in check_samples(few)] == ["Kolmogorov-Smirnov"], "no moments of 29 values"


# --- laws ----------------------------------------------------------------------------------------------------------


def test_the_bound_of_glorot_follows_from_the_shape_in_pytorchs_layout() -> None:
    assert law_of(("glorot_uniform",), (12544, 100)) == Uniform(-sqrt(6 / 12644), sqrt(6 / 12644))
    conv = law_of(("glorot_uniform",), (8, 4, 3, 3))
    assert conv == Uniform(-sqrt(6 / (9 * 12)), sqrt(6 / (9 * 12)))
    assert law_of(("normal", 0.0, 0.02), (3,)) == Normal(0.0, 0.02)
    assert law_of(("constant", 1.0), (3,)) == Constant(1.0)


@pytest.mark.parametrize(
    ("stated", "shape"), [(("cauchy", 1.0), (3,)), (("normal", 0.0), (3,)), (("glorot_uniform",), (3,))]
)
def test_an_unknown_law_is_an_error_that_lists_the_known_ones(
    stated: tuple[object, ...], shape: tuple[int, ...]
) -> None:
    with pytest.raises(ConfigError, match="known: normal mean std, uniform low high"):
        law_of(stated, shape)


def test_the_recipe_states_a_law_for_each_of_its_tensors() -> None:
    from pygan.stacks.torch_stack import TorchStack

    narrow = FluxTutorialConfig(**NARROW, threads=1)
    paths = {key.partition("/")[2] for key in TorchStack(narrow).state() if key.startswith(("parameter/", "buffer/"))}
    assert narrow.initial_laws().keys() == paths
    assert narrow.replace(init_std=0.03).initial_laws()["generator.conv1.weight"] == ("normal", 0.0, 0.03)
    assert narrow.replace(dropout=0.4).step_laws()["discriminator.drop2"] == ("dropout", 0.4)


# --- initial states ------------------------------------------------------------------------------------------------


def test_right_states_pass_alone_and_pooled() -> None:
    assert not failed(check_initial([state(0)], LAWS))
    pooled = check_initial([state(seed) for seed in range(3)], LAWS)
    assert not failed(pooled)
    assert "4500 values" in "\n".join(map(str, pooled))


@pytest.mark.parametrize(
    ("key", "change", "what"),
    [
        ("parameter/net.conv.weight", lambda w: w * np.float32(1.3), "std"),
        ("parameter/net.conv.weight", lambda w: w + np.float32(0.8), "mean"),
        ("parameter/net.conv.weight", lambda w: np.sign(w - 0.5) * 2 + 0.5, "Kolmogorov-Smirnov"),
        ("parameter/net.dense.weight", lambda w: w * np.float32(0.9), "std"),
        ("parameter/net.dense.weight", lambda w: w * np.float32(1.01), "Kolmogorov-Smirnov"),
        ("parameter/net.dense.weight", lambda w: np.where(w == w.max(), np.float32(np.nan), w), "finite values"),
        ("parameter/net.conv.bias", lambda b: b + np.float32(1e-30), "constant"),
        ("exp_avg/net.conv.bias", lambda b: b + np.float32(1e-30), "constant"),
    ],
)
def test_a_wrong_law_fails_and_is_named(key: str, change, what: str) -> None:  # type: ignore[no-untyped-def]
    right = state(0)
    checks = check_initial([{**right, key: change(right[key])}], LAWS)
    assert (key, what) in failed(checks)
    assert {bad for bad, _ in failed(checks)} == {key}


def test_a_tensor_without_a_law_and_a_law_without_its_tensor_fail() -> None:
    extra = {**state(0), "parameter/net.new.bias": np.zeros(2)}
    assert failed(check_initial([extra], LAWS)) == [("parameter/net.new.bias", "law")]
    lacking = {key: value for key, value in state(0).items() if "dense" not in key}
    (bad,) = (check for check in check_initial([lacking], LAWS) if not check.ok)
    assert str(bad) == "net.dense.weight: law of ('glorot_uniform',): no such tensor"


def test_seeds_must_repeat_themselves_and_differ_from_others() -> None:
    assert not failed(check_seeds(state(0), state(0), state(1), LAWS))
    assert {what for _, what in failed(check_seeds(state(0), state(2), state(1), LAWS))} == {"the same seed"}
    assert failed(check_seeds(state(0), state(0), state(0), LAWS)) == [
        ("parameter/net.dense.weight", "another seed"),
        ("parameter/net.conv.weight", "another seed"),
    ]


# --- steps ---------------------------------------------------------------------------------------------------------


def step(number: int = 0, calls: tuple[str, ...] = ("one", "two")) -> StepRecord:
    """Calls of ``net`` in train mode: noise in, a relu, dropout of it; half of the units are off before."""
    order, activation, mode = [], {}, {}
    for place, call in enumerate(calls):
        rng = np.random.default_rng(100 * number + place)
        x = rng.standard_normal((40, 100)).astype(np.float32)
        on = np.maximum(x, 0)
        y = on * ((rng.random(x.shape) >= RATE) * np.float32(1 / (1 - RATE)))
        for layer, value in (("input", x), ("relu", on), ("drop", y.astype(np.float32))):
            order.append(f"activation/{call}/net.{layer}")
            activation[f"{call}/net.{layer}"] = value
        mode[f"{call}/net.drop"] = np.array(True)
    return StepRecord(number, order=tuple(order), activation=activation, mode=mode)


STEP_LAWS = {"net.drop": ("dropout", RATE), "one/net.input": ("normal", 0.0, 1.0)}


def test_right_draws_pass_and_zeros_before_the_dropout_do_not_count() -> None:
    checks = check_steps([step(0), step(1)], STEP_LAWS)
    assert not failed(checks)
    share = next(str(check) for check in checks if check.what == "share")
    units = sum(int((step(n).activation[f"{call}/net.relu"] != 0).sum()) for n in (0, 1) for call in ("one", "two"))
    assert f" of {units} units kept" in share
    assert {check.what for check in checks} == {"share", "scale", "independence", "Kolmogorov-Smirnov", "mean", "std"}


def changed(name: str, value: np.ndarray, train: bool = True) -> list[tuple[str, str]]:
    one = step()
    altered = replace(
        one, activation={**one.activation, name: value}, mode={**one.mode, "one/net.drop": np.array(train)}
    )
    return failed(check_steps([altered], STEP_LAWS))


def test_each_fault_of_dropout_is_named() -> None:
    one = step().activation
    on, y = one["one/net.relu"], one["one/net.drop"]
    scale = np.float32(1 / (1 - RATE))
    assert changed("one/net.drop", y * np.float32(1.00001)) == [("net.drop", "scale")]
    assert changed("one/net.drop", on * scale) == [("net.drop", "share")], "nothing dropped in train mode"
    assert changed("one/net.drop", y, train=False) == [("net.drop", "eval mode")]
    assert changed("one/net.drop", on, train=False) == []
    again = replace(step(1), activation=step(0).activation)
    assert failed(check_steps([step(0), again], {"net.drop": STEP_LAWS["net.drop"]})) == [("net.drop", "independence")]


def test_noise_of_another_law_is_named() -> None:
    x = step().activation["one/net.input"]
    assert ("one/net.input", "mean") in changed("one/net.input", x + np.float32(0.1))
    assert ("one/net.input", "std") in changed("one/net.input", x * np.float32(1.1))


def test_a_law_that_no_record_can_show_fails() -> None:
    nowhere = {"net.drop9": ("dropout", RATE), "nine/net.input": ("normal", 0.0, 1.0)}
    assert failed(check_steps([step()], nowhere)) == [("net.drop9", "law"), ("nine/net.input", "law")]
    one = step()
    outputs = {f"{call}/net.drop": one.activation[f"{call}/net.relu"] for call in ("one", "two")}
    asleep = replace(one, activation=one.activation | outputs, mode={key: np.array(False) for key in one.mode})
    assert failed(check_steps([asleep], {"net.drop": ("dropout", RATE)})) == [("net.drop", "train mode")]
