"""The rules of a fair benchmark: whatever is wrong with a row or group is refused or marked, and shows no time."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from bench_samples import GOOD, LOSSES, facts, group, measured, quiet, report, samples
from torch import nn

from pygan.benchmarking.batches import Batches
from pygan.benchmarking.groups import IDLE_SHARE
from pygan.benchmarking.native_law import faults as law_faults
from pygan.benchmarking.native_law import torch_sample
from pygan.benchmarking.rows import ROWS, chosen, mislabelled, unequal
from pygan.benchmarking.verdicts import LOSS_BAND, STEPS, Verdict, as_judged, timed_losses
from pygan.data import load
from pygan.draws import Draws
from pygan.errors import ConfigError
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.torch_stack import TorchStack


def refusal(found: dict, row: str) -> str:  # type: ignore[type-arg]
    """The reason for which ``row`` shows no time, after a check that it shows none anywhere."""
    assert row not in [entry["row"] for entry in found["rows"]]
    assert row not in [one[side] for one in found["ratios"] for side in ("row", "against")]
    (entry,) = [one for one in found["refused"] if one["row"] == row]
    assert set(entry) == {"row", "verdict", "reason"}
    assert entry["verdict"] != "agree"
    return str(entry["reason"])


def test_sound_rows_show_times_and_ratios_and_a_quiet_control() -> None:
    found = group(quiet(flux=measured("flux", 0.75, seed=3)))
    assert [entry["row"] for entry in found["rows"]] == ["torch-eager-injected", "flux"]
    assert not found["noisy"] and not found["refused"]
    assert found["control"]["straddles_one"]
    (one,) = found["ratios"]
    assert (one["row"], one["against"]) == ("flux", "torch-eager-injected")
    assert one["low"] < one["value"] < one["high"]
    assert one["value"] == pytest.approx(3, rel=0.02)


def test_a_failing_verdict_shows_no_time() -> None:
    bad = measured("flux", first_step=Verdict("differs", "gradient/generator.dense.weight: relative 3e-2"))
    assert "3e-2" in refusal(group(quiet(flux=bad)), "flux")


def test_a_first_step_that_was_not_judged_shows_no_time() -> None:
    assert refusal(group(quiet(flux=measured("flux", first_step=Verdict("not run", "the judge failed")))), "flux")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"precision": "tf32"}, "precision is 'tf32'"),
        ({"stack": "torch"}, "stack is 'torch'"),
        ({"device": "NVIDIA A"}, "ran on 'NVIDIA A'"),
        ({"randomness": "native"}, "randomness is 'native'"),
        ({"changes": ["gc"]}, "changes is ['gc']"),
        ({"julia_threads": 2}, "julia_threads is 2"),
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_mislabelled_row_is_refused(change: dict, words: str, when: str) -> None:  # type: ignore[type-arg]
    bad = measured("flux", **{when: facts(ROWS["flux"], **change)})
    assert words in refusal(group(quiet(flux=bad)), "flux")


def test_threads_that_changed_while_it_was_timed_are_refused() -> None:
    bad = measured("torch-eager", after=facts(ROWS["torch-eager"], torch_threads=1))
    assert "torch_threads is 1, the row claims 2" in refusal(group(quiet(torch_eager=bad)), "torch-eager")


@pytest.mark.parametrize("kind", ["blas_threads", "gc_threads"])
def test_more_threads_than_cores_are_refused(kind: str) -> None:
    assert "3 " in mislabelled(ROWS["flux"], facts(ROWS["flux"], **{kind: 3}), 2)[0]


def test_a_row_on_more_cores_than_the_others_is_refused() -> None:
    bad = measured("flux", after=facts(ROWS["flux"], cores=4))
    assert "cores is 4, the row claims 2" in refusal(group(quiet(flux=bad)), "flux")


@pytest.mark.parametrize("change", [{"precision": "tf32"}, {"precision": "bf16"}, {"device": "cuda"}])
def test_other_precisions_and_devices_never_share_a_group(change: dict) -> None:  # type: ignore[type-arg]
    other = ROWS["torch-eager"].replace(name="other", **change)
    assert unequal([ROWS["flux"], other])
    with pytest.raises(ConfigError, match=f"refused: {next(iter(change))} differs within a group"):
        group({**quiet(), "other": measured("other", row=other)})


def test_the_rows_of_the_package_fit_together() -> None:
    kinds = {(row.device, row.precision) for row in ROWS.values()}
    assert len(kinds) == 5
    for kind in kinds:
        assert not unequal(row for row in ROWS.values() if (row.device, row.precision) == kind)
    with pytest.raises(ConfigError, match="no benchmark row 'flax'; known: torch-eager"):
        chosen(["flux", "flax"])


def test_losses_of_timed_steps_are_held_to_the_keyed_torch_row() -> None:
    far = [LOSSES[0], LOSSES[1] + 3 * LOSS_BAND, *LOSSES[2:]]
    bad = measured("flux", samples=[*samples(0.7, 11), *samples(0.7, 1, losses=far)])
    assert "torch-eager-injected's" in refusal(group(quiet(flux=bad)), "flux")


def test_native_losses_may_differ_but_must_be_finite() -> None:
    other = measured("torch-eager", samples=samples(0.25, losses=[2.3, 2.2, 2.1, 2.0]))
    entry = next(one for one in group(quiet(torch_eager=other))["rows"] if one["row"] == "torch-eager")
    assert entry["reason"].startswith("agrees with injected draws; native law tested")
    bad = measured("torch-eager", samples=samples(0.25, losses=[2.3, float("nan"), 2.1, 2.0]))
    assert "not finite" in refusal(group(quiet(torch_eager=bad)), "torch-eager")


def test_timed_losses_reports_the_largest_difference() -> None:
    worst, faults = timed_losses([LOSSES, [LOSSES[0] + LOSS_BAND / 2, *LOSSES[1:]]], LOSSES, "x")
    assert worst == pytest.approx(LOSS_BAND / 2)
    assert not faults
    assert timed_losses([[float("inf")]], None, "")[1]


@pytest.mark.parametrize("loss", [0.01, 1.0, 50.0])
def test_the_band_of_a_loss_is_relative_from_one_on(loss: float) -> None:
    allowed = LOSS_BAND * max(loss, 1.0)
    for share, wrong in ((0.9, False), (1.1, True)):
        for sign in (1, -1):
            assert bool(timed_losses([[loss + sign * share * allowed]], [loss], "x")[1]) == wrong
            assert bool(as_judged([loss + sign * share * allowed], loss, "float32")) == wrong


def losses_of(stack: TorchStack, batches: Sequence[np.ndarray], first: int = 0) -> list[float]:
    """Losses of free steps, the first of which counts as step ``first``."""
    stack._steps = first
    return stack.time_steps(batches, Draws(stack.config.seed)).losses


@pytest.mark.parametrize("change", [{}, {"batch": 2}, {"width": 8, "batch": 32}], ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_free_steps_stay_in_the_band_and_other_steps_do_not(
    seed: int, change: dict[str, int], narrow: FluxTutorialConfig
) -> None:
    config = narrow.replace(seed=seed, **change)
    batches = Batches(load("digits"), config, config.batch).first(STEPS)
    right = losses_of(TorchStack(config), batches)
    alike = {
        "fast": losses_of(FastTorchStack(config), batches),
        "two threads": losses_of(TorchStack(config.replace(threads=2)), batches),
        "float64": losses_of(TorchStack(config.replace(dtype="float64")), batches),
    }
    for name, losses in alike.items():
        assert timed_losses([losses], right, "torch")[1] == [], name
    never_updated = [losses_of(TorchStack(config), [batch], step)[0] for step, batch in enumerate(batches)]
    unlike = {
        "a batch taken twice": losses_of(TorchStack(config), [*batches[:1], *batches[:1], *batches[2:]]),
        "draws of the next step": losses_of(TorchStack(config), batches, first=1),
        "no update": never_updated,
    }
    for name, losses in unlike.items():
        assert timed_losses([losses], right, "torch")[1], name


def test_native_randomness_of_another_law_is_refused() -> None:
    bad = measured("torch-eager", law=["the share of kept units is 0.5, expected 0.7 within 2.7e-03"])
    assert "share of kept units" in refusal(group(quiet(torch_eager=bad)), "torch-eager")


def test_the_law_is_seen_in_each_number() -> None:
    dropout = {"rate": 0.3, "kept": 0.7001, "low": 1 / 0.7, "high": 1 / 0.7}
    good = {"count": 1 << 20, "dropout": [dropout], "mean": 1e-3, "variance": 1.001}
    assert law_faults(good) == law_faults({**good, "dropout": []}) == []
    for key, value in {"kept": 0.69, "low": 1.0, "high": 1.43}.items():
        assert len(law_faults({**good, "dropout": [{**dropout, key: value}]})) == 1, key
    for key, value in {"mean": 0.02, "variance": 1.02}.items():
        assert len(law_faults({**good, key: value})) == 1, key
    assert law_faults({**good, "mean": float("nan")})


def test_the_law_is_sampled_from_the_networks_own_dropout() -> None:
    networks = {"one": nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.3)), "other": nn.Sequential(nn.Linear(2, 2))}
    found = torch_sample(networks, "cpu")
    assert [one["rate"] for one in found["dropout"]] == [0.3] and law_faults(found) == []
    wrong = nn.Dropout(0.3)
    wrong.forward = nn.Dropout(0.31).train().forward  # type: ignore[method-assign]
    assert law_faults(torch_sample({"one": wrong}, "cpu"))
    assert torch_sample({"other": networks["other"]}, "cpu")["dropout"] == []


def test_a_control_that_does_not_straddle_one_marks_the_group() -> None:
    rows = quiet(flux=measured("flux", 0.75))
    rows["torch-eager-injected (again)"].samples = samples(0.27, seed=2)
    found = group(rows)
    assert found["noisy"]
    assert not found["control"]["straddles_one"]
    assert "times as long as itself" in found["notes"][0]
    assert "torch-eager-injected (again)" not in [entry["row"] for entry in found["rows"]]


def test_a_control_that_is_hardly_known_marks_the_group() -> None:
    rows = quiet(flux=measured("flux", 0.75))
    for label, seed in (("torch-eager-injected", 1), ("torch-eager-injected (again)", 2)):
        rows[label].samples = samples(0.25, seed=seed, spread=0.3)
    found = group(rows)
    assert found["control"]["straddles_one"]
    assert found["noisy"]
    assert "only known to lie in" in found["notes"][0]


def test_without_a_control_the_group_is_marked() -> None:
    rows = quiet()
    del rows["torch-eager-injected (again)"]
    assert group(rows)["notes"] == ["there is no A-against-A control"]


def test_rows_that_were_not_idle_mark_the_group() -> None:
    found = group(quiet(flux=measured("flux", idle_share=2 * IDLE_SHARE)))
    assert found["noisy"]
    assert "while flux was timed, the others were not idle" in found["notes"]


def test_a_row_that_could_not_run_is_listed_with_its_reason() -> None:
    found = group(quiet(), not_run={"flux": "no Julia with Flux here"})
    assert found["not_run"] == [{"row": "flux", "reason": "no Julia with Flux here"}]


def test_a_group_is_plain_json() -> None:
    stored = json.dumps(report(group(quiet(flux=measured("flux", 0.75)))), allow_nan=False)
    assert np.isfinite(json.loads(stored)["groups"][0]["rows"][0]["median"])
    assert GOOD.shows_time
