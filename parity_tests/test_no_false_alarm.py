"""Claim: runs that differ in nothing but rounding raise no alarm, whatever their size, seed, data, threads, libraries.

A few of the clean comparisons of ``planted.clean_runs`` are quick; the rest are slow tests. What all of them gave is in
``docs/results/clean-runs.json``, made by ``python -m planted.clean_runs``.
"""

from __future__ import annotations

import json
import math
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from planted.benign import CANDIDATES, CAPS, TorchStyleAdam, rewritten
from planted.clean_runs import LARGE_SEEDS, Clean, catalogue, run

from pygan.data import load
from pygan.parity.init_laws import check_steps
from pygan.parity.rounding import UNIT, correction_noise, exact_power
from pygan.parity.run import compare_runs
from pygan.parity.sides import Live
from pygan.parity.tolerances import LOCAL_FACTOR
from pygan.parity.verdicts import AGREE, DIFFERS
from pygan.recipes import flux_tutorial
from pygan.records import StepRecord
from pygan.stacks.torch_stack import TorchStack

COMMITTED = Path(__file__).resolve().parents[1] / "docs" / "results" / "clean-runs.json"
EVERY = catalogue()
IN_FLOAT64 = ("BCE through softplus", "pictures in one batch")


def _fast() -> list[Clean]:
    """Every candidate in one dtype with one large seed or the other, one process with capped instructions, and the
    smallest networks in both dtypes."""
    seeds = dict(zip(CANDIDATES, cycle(LARGE_SEEDS), strict=False))
    ours = [
        one for one in EVERY
        if one.seed == seeds.get(one.what) and one.dtype == ("float64" if one.what in IN_FLOAT64 else "float32")
    ]  # fmt: skip
    capped = next(one for one in EVERY if one.what in CAPS and one.dtype == "float32" and one.config.width == 2)
    smallest = {one.dtype: one for one in reversed(EVERY) if (one.config.width, one.config.latent_dim) == (1, 1)}
    printed = next(one for one in EVERY if one.config.semantics == "as_printed")
    return [*ours, capped, *smallest.values(), printed]


FAST = _fast()


@pytest.mark.parametrize("one", FAST, ids=lambda one: one.name)
def test_no_false_alarm(one: Clean) -> None:
    found = run(one)
    if found.skipped:
        pytest.skip(found.skipped)
    assert not found.alarm, found.alarm
    assert found.verdict == AGREE and found.shares


@pytest.mark.slow
@pytest.mark.parametrize("one", [one for one in EVERY if one not in FAST], ids=lambda one: one.name)
def test_no_false_alarm_in_the_rest(one: Clean) -> None:
    test_no_false_alarm(one)


def test_the_committed_clean_runs_are_of_the_catalogue() -> None:
    """All of them, and none raised an alarm."""
    stored = json.loads(COMMITTED.read_text(encoding="utf-8"))
    assert {one["name"] for one in stored["runs"]} <= {one.name for one in EVERY}
    assert stored["counts"]["comparisons"] == len(EVERY) and stored["counts"]["skipped"] == 0
    assert not [one["name"] for one in stored["runs"] if one["alarm"] or one["verdict"] != AGREE]
    assert max(one["share"] for one in stored["largest share of what is admitted"].values()) < 1


def test_the_catalogue_has_every_kind_of_run() -> None:
    def seen(what: str) -> set[Any]:
        return {getattr(one.config, what, None) or getattr(one, what) for one in EVERY}

    assert seen("width") >= {1, 2, 3, 5, 8, 16, 64} and seen("batch") >= {2, 3, 8, 32, 128}
    assert seen("latent_dim") >= {1, 2, 5, 100} and seen("dtype") == {"float64", "float32"}
    assert {one.seed for one in EVERY} >= {*range(10), *LARGE_SEEDS}
    assert {one.data for one in EVERY} == {"digits", "mnist", "fashion-mnist"}
    assert {one.threads for one in EVERY} == {one.config.threads for one in EVERY} == {1, 2}
    assert {one.what for one in EVERY} == {*CANDIDATES, *CAPS}
    assert any(one.images % one.config.batch == 1 for one in EVERY), "a batch of a single image"


# --- what is admitted hides no bug -----------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.5, 0.9, 0.99, 0.999])
def test_the_noise_of_adams_corrections_is_that_of_float32_products(beta: float) -> None:
    beta = float(np.float32(beta))
    power, shares = np.float32(beta), []
    for count in range(1, 1500):
        assert math.isclose(exact_power(float(power), beta), beta**count, rel_tol=1e-12) or power < 1e-37
        off = abs((1 - float(power)) / (1 - beta**count) - 1)
        noise = correction_noise([float(power), 0.0], [beta, 0.0])
        assert off <= LOCAL_FACTOR * noise + 1e-15
        shares += [off / noise] if noise > UNIT else []
        power *= np.float32(beta)
    assert max(shares, default=1.0) > 0.05, "far more is admitted than rounding leaves"


class LateAdam(TorchStyleAdam):
    """Corrections of the update before, from the second on."""

    @staticmethod
    def _update(x: Any, g: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
        own = state["beta_power"].clone()
        betas = own.new_tensor(group["betas"])
        late = own / betas if own[1] < betas[1] else own.clone()
        TorchStyleAdam._update(x, g, {**state, "beta_power": late}, group)
        state["beta_power"].copy_(own * betas)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_corrections_of_another_update_are_no_rounding(dtype: str) -> None:
    config, data = Clean("", 0, dtype, 3).config, load("digits", limit=14)
    make = rewritten("late", {"optimisers": LATE})
    report = compare_runs(Live(make(config), data, make), Live(TorchStack(config), data), 3, (6, 7))
    assert report.verdict == DIFFERS and report.diagnosis is not None
    assert report.diagnosis.step == 1 and report.diagnosis.cause.name == "stale beta powers"


def LATE(networks: Any, config: Any) -> dict[str, Any]:
    made = flux_tutorial.optimisers(networks, config)
    for one in made.values():
        one._update = LateAdam._update
    return made


@pytest.mark.parametrize(("rate", "ok"), [(0.0, True), (0.3, False)])
def test_equal_dropout_patterns_are_a_fault_where_chance_makes_none(rate: float, ok: bool) -> None:
    x = np.random.default_rng(0).uniform(1, 2, (8, 50)).astype(np.float32)
    y = np.where(np.random.default_rng(1).uniform(size=x.shape) < rate, 0, x / np.float32(1 - rate))
    calls = ("real/net", "fake/net")
    taps = {f"{call}.{layer}": value for call in calls for layer, value in (("dense", x), ("drop", y))}
    record = StepRecord(
        0,
        order=tuple(f"activation/{tap}" for tap in taps),
        activation=taps,
        mode={f"{call}.drop": np.array(True) for call in calls},
    )
    checks = check_steps([record], {"net.drop": ("dropout", rate)})
    assert [one.ok for one in checks if one.what == "independence"] == [ok]
