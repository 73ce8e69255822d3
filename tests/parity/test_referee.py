"""The referee: the plain Float64 step, the noise in it, and the same step shaken by that noise."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from parity_runs import EVERYTHING, config, live

from pygan.data import load
from pygan.parity.float32 import END_TO_END, TRUTH
from pygan.parity.referee import Levels, Referee, distance, root_mean_square
from pygan.parity.tolerances import ENSEMBLE_FACTOR
from pygan.records import StepRecord
from pygan.state import State, widen
from pygan.training import picture_latent

NO_BLANK_CHEQUE = 1 / 200
SHAKEN = ("logits", "gradients", "state", "layers", "patterns")


@cache
def referee() -> Referee:
    return Referee(config("float32"), load("digits", limit=14))


@cache
def start(seed: int = 0) -> State:
    """The state before the first step of a Float32 run."""
    return live("float32", seed=seed).stack.state()


@cache
def truth(number: int = 0) -> tuple[StepRecord, Levels]:
    return referee().measured(number, start(), TRUTH)


@cache
def members(number: int = 0) -> tuple[list[StepRecord], dict[str, np.ndarray]]:
    return referee().shaken(number, start(), *truth(number), capture=SHAKEN)


def test_measuring_and_shaking_leave_the_plain_step_what_it_is(same_arrays) -> None:
    plain = live("float64").step(0, TRUTH, start())
    same_arrays(truth()[0].to_arrays(), plain.to_arrays())
    members()
    same_arrays(referee().step(0, start(), TRUTH).to_arrays(), plain.to_arrays())


def test_a_step_that_fails_leaves_no_noise_behind(same_arrays) -> None:
    judge = Referee(config("float32"), load("digits", limit=14))
    before = {**start(), "parameter/generator.conv2.weight": np.zeros(3, np.float32)}
    for ask in (lambda: judge.measured(0, before, TRUTH), lambda: judge.shaken(0, before, *truth())):
        with pytest.raises(Exception, match="shape"):
            ask()
        assert judge.stack.levels is judge.stack.generator is None


def test_every_result_of_a_step_has_a_level_of_noise() -> None:
    record, levels = truth()
    moved = ("activation/*flatten", "activation/*unflatten", "gradient/*drop2", "gradient/*relu1")
    for kind in ("activation", "activation_gradient", "gradient", "buffer"):
        for name in getattr(record, kind):
            level = levels.level(f"{kind}/{name}")
            if kind == "activation" and name.endswith(".input"):
                assert level is None, "no layer made it"
                continue
            assert level is not None, (kind, name)
            only_moved = f"{kind.rpartition('_')[2]}/*{name.rpartition('.')[2]}" in moved
            assert level == 0 if only_moved else 0 < level < np.inf, (kind, name)
    assert levels.level("loss/discriminator") is None


def test_the_same_state_and_step_are_shaken_alike_and_each_member_by_itself(same_arrays) -> None:
    again, noise = referee().shaken(0, start(), *truth(), capture=SHAKEN)
    assert len(again) == referee().members == 8
    for one, other in zip(again, members()[0], strict=True):
        same_arrays(one.to_arrays(), other.to_arrays())
    same_arrays(noise, members()[1])
    key = "generator/generator.conv2.weight"
    assert len({one.gradient[key].tobytes() for one in again}) == len(again)
    other_step, _ = referee().shaken(1, start(), *truth(1), capture=SHAKEN)
    assert not {one.gradient[key].tobytes() for one in other_step} & {one.gradient[key].tobytes() for one in again}


def test_shaken_steps_keep_the_patterns_of_the_true_one() -> None:
    patterns = truth()[0].pattern
    assert len(patterns) == 9
    flipped = 0
    for one in members()[0]:
        for key, pattern in patterns.items():
            left = one.activation[key]
            where = left != 0 if "relu" in key else np.ones_like(pattern)
            np.testing.assert_array_equal((left > 0)[where], pattern[where], err_msg=key)
            flipped += int((one.pattern[key] != pattern).sum())
    assert flipped < 20, "few units are near enough to zero to be switched at all"


def test_a_unit_that_noise_would_switch_is_held() -> None:
    """A unit whose input is all noise: it would be on in half of the steps."""
    before = dict(start())
    record = truth()[0]
    x = record.activation["real/discriminator.conv1"]
    before["parameter/discriminator.conv1.bias"] = np.float32([-x[3, 0, 4, 5], 0])
    right, levels = referee().measured(0, before, TRUTH)
    shaken, noise = referee().shaken(0, before, right, levels, capture=SHAKEN)
    key, unit = "real/discriminator.leaky1", (3, 0, 4, 5)
    own = [bool(one.pattern[key][unit]) for one in shaken]
    assert len(set(own)) == 2, "by itself it would be on in some steps and off in others"
    on = bool(right.pattern[key][unit])
    inputs = [one.activation["real/discriminator.conv1"][unit] for one in shaken]
    slope = config("float32").constant(0.2)
    for one, value in zip(shaken, inputs, strict=True):
        assert one.activation[key][unit] == pytest.approx(value if on else slope * value, rel=1e-12)
    assert abs(right.activation["real/discriminator.conv1"][unit]) < 8 * noise[key][0]


def test_the_noise_before_a_kink_is_known_by_channel() -> None:
    record, noise = truth()[0], members()[1]
    assert noise.keys() >= record.pattern.keys()
    for key in record.pattern:
        assert noise[key].shape == (record.pattern[key].shape[1],)
        assert (noise[key] > 0).all(), key
        before = {"leaky1": "conv1", "leaky2": "conv2", "relu1": "norm1", "relu2": "norm2", "relu3": "norm3"}
        call, _, layer = key.rpartition(".")
        size = np.abs(record.activation[f"{call}.{before[layer]}"]).max()
        assert noise[key].max() < 1e-4 * size, "it is rounding"


@pytest.mark.parametrize("seed", range(3))
def test_a_float32_step_is_as_far_as_shaken_steps_are(seed: int) -> None:
    """Within the factor that is admitted, and never a hundredth of it: the ensemble is no blank cheque."""
    judge = Referee(config("float32", seed=seed), load("digits", limit=14))
    right, levels = judge.measured(0, start(seed), TRUTH)
    shaken, _ = judge.shaken(0, start(seed), right, levels)
    arrays = {key: value for key, value in right.to_arrays().items() if key.startswith(END_TO_END)}
    spread = root_mean_square(shaken, arrays)
    mine = live("float32", seed=seed).step(0, TRUTH)
    assert all((mine.pattern[key] == right.pattern[key]).all() for key in right.pattern), "no flip to explain"
    shares = {
        key: distance(mine.to_arrays()[key], value) / spread[key]
        for key, value in arrays.items()
        if value.ndim and spread[key]
    }
    assert len(shares) > 25
    assert max(shares.values()) < ENSEMBLE_FACTOR / 2, max(shares, key=lambda key: shares[key])
    many = [share for key, share in shares.items() if arrays[key].size >= 8]
    assert min(many) > NO_BLANK_CHEQUE
    assert float(np.median(many)) > 0.05


def test_fewer_members_do_where_networks_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    assert referee().members == 8
    monkeypatch.setattr("pygan.parity.referee.MANY", 4000)
    assert referee().members == 4


def test_an_update_from_given_gradients_is_the_steps_own(same_arrays) -> None:
    record = truth()[0]
    made, levels = referee().updated(start(), record.gradient, record.order)
    own = {f"state/{key}": value for key, value in record.state.items() if not key.startswith("buffer/")}
    assert made.keys() == own.keys() - {"state/step"} == levels.keys()
    for key, value in made.items():
        np.testing.assert_allclose(value, own[key], rtol=1e-12, atol=1e-18, err_msg=key)
        assert 0 <= levels[key] < 1e-5 * max(np.linalg.norm(value), 1e-3), key


def test_a_parameter_without_a_gradient_is_left_alone() -> None:
    record, path = truth()[0], "generator.conv2.weight"
    gradients = {key: value for key, value in record.gradient.items() if not key.endswith(path)}
    made, _ = referee().updated(start(), gradients, record.order)
    np.testing.assert_array_equal(made[f"state/parameter/{path}"], start()[f"parameter/{path}"].astype(np.float64))
    assert not made[f"state/exp_avg/{path}"].any()
    assert made["state/exp_avg/generator.conv1.weight"].any()


def test_pictures_have_a_truth_and_a_spread() -> None:
    values, spread = referee().pictures(start(), picture_latent(config("float32"), 0))
    wide, single = live("float64"), live("float32")
    wide.stack.load_state(widen(start(), "float64"))
    np.testing.assert_array_equal(values, wide.drawn(0)["values"])
    gap = distance(single.drawn(0)["values"], values) / np.linalg.norm(values)
    assert NO_BLANK_CHEQUE * spread < gap < 2 * spread < 1e-4


def test_the_root_mean_square_is_over_steps_and_leaves_out_what_a_step_lacks() -> None:
    right = {"loss/a": np.array(1.0), "loss/b": np.array(2.0), "mode/c": np.array(True)}
    steps = [
        StepRecord(0, loss={"a": np.array(1.3), "b": np.array(2.0)}),
        StepRecord(0, loss={"a": np.array(0.6)}),
    ]
    assert root_mean_square(steps, right) == {"loss/a": pytest.approx(np.sqrt((0.09 + 0.16) / 2))}


def test_capturing_everything_is_what_the_search_asks_for() -> None:
    assert set(TRUTH) == set(EVERYTHING)
