"""Level 2: on native randomness both stacks' initial weights, dropout and noise follow the published laws.

``python parity_tests/test_level_02_init_laws.py`` records the traces that stand for Flux where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compared_runs import config
from tiny_classifier import TinyClassifierConfig

from pygan.config import RunConfig
from pygan.data import load
from pygan.parity.init_laws import FALSE_ALARM, MOMENTS_FROM, LawCheck, check_initial, check_seeds, check_steps
from pygan.recipes import config_from_dict
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.records import StepRecord
from pygan.stacks import Stack
from pygan.stacks.flux_stack import FluxStack
from pygan.stacks.torch_stack import TorchStack
from pygan.state import State
from pygan.traces import Trace
from pygan.training import train

RECORDED = [Path(__file__).with_name("traces") / f"flux-native-seed-{seed}" for seed in (0, 1)]
NOISE_STEPS = 20
INITIAL = ("parameter/", "buffer/")


def native(seed: int = 0, **changes: object) -> FluxTutorialConfig:
    """A mid-sized GAN of 19,056 parameters on the stack's own random numbers."""
    sizes = {"latent_dim": 10, "batch": 4, "grid": 1, "threads": 1, "seed": seed}
    return config("full", randomness="native", **sizes).replace(**{"width": 5, **changes})


def full(seed: int = 0, **changes: object) -> FluxTutorialConfig:
    return config("full", randomness="native", seed=seed, **changes)


def failed(checks: list[LawCheck]) -> list[str]:
    assert checks
    return [str(check) for check in checks if not check.ok]


def assert_laws_hold(checks: list[LawCheck], keys: int) -> None:
    assert not failed(checks), "\n".join(failed(checks))
    assert len({check.key for check in checks}) == keys


def steps_of(stack: Stack, steps: int) -> list[StepRecord]:
    return list(train(stack, load("digits", limit=stack.config.batch * steps), steps, capture=lambda step: ("layers",)))


# --- real Flux, recorded -------------------------------------------------------------------------------------------


def recorded() -> tuple[list[Trace], FluxTutorialConfig]:
    traces = [Trace(folder) for folder in RECORDED]
    wanted = config_from_dict(traces[0].header.config)
    assert isinstance(wanted, FluxTutorialConfig)
    assert [trace.header.config["seed"] for trace in traces] == [0, 1]
    assert all(trace.header.stack == "flux" for trace in traces)
    assert all(trace.header.config["randomness"] == "native" for trace in traces)
    return traces, wanted


def test_recorded_native_weights_of_flux_follow_the_published_laws() -> None:
    traces, wanted = recorded()
    states = [trace.initial_state() for trace in traces]
    assert sum(value.size for key, value in states[0].items() if key.startswith("parameter/")) == 19_056
    checks = check_initial(states, wanted.initial_laws())
    assert_laws_hold(checks, 22)
    assert {check.what for check in checks} == {"Kolmogorov-Smirnov", "mean", "std", "constant"}
    assert not failed(check_seeds(states[0], states[0], states[1], wanted.initial_laws()))
    assert failed(check_seeds(states[0], states[0], states[0], wanted.initial_laws())), "equal seeds look different"


def test_recorded_native_dropout_and_noise_of_flux_follow_the_published_laws() -> None:
    traces, wanted = recorded()
    checks = check_steps(traces[0], wanted.step_laws())
    assert_laws_hold(checks, 3)
    told = "\n".join(map(str, checks))
    assert f"{NOISE_STEPS * 40} values" in told
    assert "of 7840 units kept" in told
    assert "of 3920 units kept" in told
    for wrong in (0.25, 0.35):
        assert failed(check_steps(traces[0], {**wanted.step_laws(), "discriminator.drop1": ("dropout", wrong)}))


# --- the port ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_native_weights_of_the_port_follow_the_published_laws_at_full_width(seed: int) -> None:
    wanted = full(seed)
    assert_laws_hold(check_initial([TorchStack(wanted).state()], wanted.initial_laws()), 22 + 32)


def test_native_dropout_and_noise_of_the_port_follow_the_published_laws() -> None:
    wanted = native(batch=64)
    assert_laws_hold(check_steps(steps_of(TorchStack(wanted), 2), wanted.step_laws()), 3)


def test_native_seeds_of_the_port_give_their_own_values_and_the_same_again() -> None:
    one, other = (TorchStack(native(seed)) for seed in (0, 1))
    first = one.state()
    one.initialise()
    assert not failed(check_seeds(first, one.state(), other.state(), native().initial_laws()))


def test_native_laws_of_a_recipe_that_is_no_gan_hold_in_the_port() -> None:
    stacks = [TorchStack(TinyClassifierConfig(randomness="native", threads=1, seed=seed)) for seed in range(4)]
    laws = stacks[0].config.initial_laws()
    assert_laws_hold(check_initial([stack.state() for stack in stacks], laws), 9 + 14)
    assert_laws_hold(check_steps(steps_of(stacks[0], 3), stacks[0].config.step_laws()), 1)


# --- wrong laws ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full_state() -> State:
    return TorchStack(full()).state()


def caught(state: State) -> set[tuple[str, str]]:
    checks = check_initial([state], FluxTutorialConfig().initial_laws())
    return {(check.key.partition("/")[2], check.what) for check in checks if not check.ok}


def test_a_std_of_0_0205_in_place_of_0_02_is_seen_at_full_width() -> None:
    found = caught(TorchStack(full(init_std=0.0205)).state())
    assert {"generator.conv1.weight", "generator.conv2.weight", "discriminator.conv2.weight"} <= {
        path for path, _ in found
    }
    assert ("generator.conv1.weight", "Kolmogorov-Smirnov") in found


def test_a_normal_in_place_of_a_uniform_of_equal_moments_is_seen(full_state: State) -> None:
    for path in ("generator.dense.weight", "discriminator.dense.weight"):
        right = full_state[f"parameter/{path}"]
        drawn = np.random.default_rng(0).standard_normal(right.shape) * right.std()
        assert (path, "Kolmogorov-Smirnov") in caught({**full_state, f"parameter/{path}": drawn.astype(np.float32)})


def test_a_uniform_in_place_of_a_normal_of_equal_moments_is_seen(full_state: State) -> None:
    right = full_state["parameter/generator.conv2.weight"]
    drawn = np.random.default_rng(0).uniform(-1, 1, right.shape) * np.sqrt(3) * right.std()
    changed = {**full_state, "parameter/generator.conv2.weight": drawn.astype(np.float32)}
    assert caught(changed) == {("generator.conv2.weight", "Kolmogorov-Smirnov")}


def test_a_shifted_mean_is_seen(full_state: State) -> None:
    for path, shift in (("generator.conv1.weight", 2e-4), ("generator.dense.weight", 2e-4)):
        key = f"parameter/{path}"
        assert (path, "mean") in caught({**full_state, key: full_state[key] + np.float32(shift)})


def test_glorot_with_one_fan_only_and_a_constant_off_by_one_ulp_are_seen(full_state: State) -> None:
    key = "parameter/generator.dense.weight"
    fan_in = np.sqrt((12544 + 100) / (2 * 100)).astype(np.float32)
    assert ("generator.dense.weight", "Kolmogorov-Smirnov") in caught({**full_state, key: full_state[key] * fan_in})
    key = "parameter/generator.norm2.weight"
    off = full_state[key].copy()
    off[-1] = np.nextafter(off[-1], np.float32(2))
    assert caught({**full_state, key: off}) == {("generator.norm2.weight", "constant")}


def test_dropout_of_another_rate_scale_or_mode_is_seen() -> None:
    wanted = native(batch=64)
    records = steps_of(TorchStack(wanted), 1)
    laws, drop, before = wanted.step_laws(), "real/discriminator.drop1", "real/discriminator.leaky1"

    def changed(y: np.ndarray, **more: dict[str, np.ndarray]) -> set[str]:
        record = replace(records[0], activation={**records[0].activation, drop: y}, **more)
        return {check.what for check in check_steps([record], laws) if not check.ok}

    x, y = records[0].activation[before], records[0].activation[drop]
    assert changed(y) == set()
    assert changed(y * np.float32(1.00001)) == {"scale"}
    assert changed(np.where(np.random.default_rng(0).random(y.shape) < 0.34, 0, x / np.float32(0.7))) == {"share"}
    assert changed(np.zeros_like(y)) == {"share"}
    assert changed(y, mode={**records[0].mode, drop: np.array(False)}) == {"eval mode"}
    same = (records[0].activation["fake/discriminator.drop1"] != 0).astype(y.dtype)
    assert changed(same * x / np.float32(0.7)) == {"independence"}


def test_noise_of_another_law_is_seen() -> None:
    wanted = native(batch=64)
    records = steps_of(TorchStack(wanted), 4)
    for wrong in (("normal", 0.0, 1.2), ("normal", 0.15, 1.0), ("uniform", -1.7320508, 1.7320508)):
        assert failed(check_steps(records, {"sample/generator.input": wrong})), wrong


# --- real Flux, live -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live_native() -> Iterator[Callable[[RunConfig], FluxStack]]:
    """A live Flux of a config; all configs of one recipe share a worker, so only the latest may be used."""
    made: dict[str, FluxStack] = {}

    def stack(wanted: RunConfig) -> FluxStack:
        if wanted.recipe not in made:
            made[wanted.recipe] = FluxStack(wanted)
        one = made[wanted.recipe]
        one.worker.ask("configure", config=wanted.to_dict(), blas_threads=1)
        one.config = wanted
        return one

    yield stack
    for one in made.values():
        one.close()


@pytest.mark.live
def test_live_native_flux_follows_the_published_laws(live_native) -> None:  # type: ignore[no-untyped-def]
    wanted = full(threads=1)
    first = live_native(wanted).state()
    assert_laws_hold(check_initial([first], wanted.initial_laws()), 22 + 32)
    flux = live_native(wanted)
    flux.initialise()
    again, other = flux.state(), live_native(full(1, threads=1)).state()
    assert not failed(check_seeds(first, again, other, wanted.initial_laws()))
    wanted = native(batch=64)
    assert_laws_hold(check_steps(steps_of(live_native(wanted), 2), wanted.step_laws()), 3)


@pytest.mark.live
def test_live_native_flux_of_a_recipe_that_is_no_gan_follows_its_laws(live_native) -> None:  # type: ignore[no-untyped-def]
    wanted = TinyClassifierConfig(randomness="native", threads=1)
    states = [live_native(wanted.replace(seed=seed)).state() for seed in range(4)]
    assert_laws_hold(check_initial(states, wanted.initial_laws()), 9 + 14)
    assert_laws_hold(check_steps(steps_of(live_native(wanted), 3), wanted.step_laws()), 1)


def test_the_false_alarm_is_the_stated_one() -> None:
    assert FALSE_ALARM == 1e-6
    assert MOMENTS_FROM == 30
    checks = check_initial([TorchStack(native()).state()], native().initial_laws())
    limits = [check.limit for check in checks if check.what in ("Kolmogorov-Smirnov", "mean", "std")]
    assert len(limits) == 3 * 7
    assert sum(limits) == pytest.approx(FALSE_ALARM)


# --- recording -----------------------------------------------------------------------------------------------------


def record_traces() -> None:
    """Real Flux on its own random numbers: two seeds' weights, and from the first what its steps drew."""
    from pygan.recording import header
    from pygan.traces import TraceWriter

    flux, data = FluxStack(native()), load("digits", limit=4 * NOISE_STEPS)
    for seed, folder in enumerate(RECORDED):
        flux.config = native(seed)
        flux.worker.ask("configure", config=flux.config.to_dict(), blas_threads=1)
        initial = StepRecord(-1, state={k: value for k, value in flux.state().items() if k.startswith(INITIAL)})
        made = header(flux, data, f"python parity_tests/{Path(__file__).name}")
        with TraceWriter(folder, made, StepRecord(-1, state=initial)) as trace:
            if seed == 0:
                for one in train(flux, data, NOISE_STEPS, capture=lambda step: ("layers",)):
                    trace.write(drawn(one))
    flux.close()


def drawn(record: StepRecord) -> StepRecord:
    """The noise of a step, and of the first also what entered and left its dropouts in two calls."""
    noise = {key: value for key, value in record.activation.items() if key == "sample/generator.input"}
    if record.step > 0:
        return StepRecord(record.step, record.batch_sha256, activation=noise)
    taps = [f"{call}/discriminator.{at}{n}" for call in ("real", "fake") for at in ("leaky", "drop") for n in (1, 2)]
    order = tuple(key for key in record.order if key.startswith("activation/"))
    outputs = noise | {key: record.activation[key] for key in taps}
    return StepRecord(record.step, record.batch_sha256, order, activation=outputs, mode=record.mode)


if __name__ == "__main__":
    record_traces()
