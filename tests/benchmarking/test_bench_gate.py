"""The gate: the interval of a row's ratio decides, and nothing else does."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from bench_samples import group, measured, quiet, report

from pygan.benchmarking.gate import CANNOT_TELL, NOT_SLOWER, SLOWER, against, decided, lines
from pygan.benchmarking.statistics import Ratio
from pygan.errors import ConfigError

MARGIN = 0.05


def made(times: Any = (1.0,) * 12, *, noisy: bool = False, **more: Any) -> dict[str, Any]:
    """A report whose row ``flux`` took these times; the keyed torch row is always the same."""
    found = report(group(quiet(flux=measured("flux", 0.75, seed=3)), **more))
    (flux,) = (entry for entry in found["groups"][0]["rows"] if entry["row"] == "flux")
    flux["per_step"] = [float(time) for time in times]
    found["groups"][0]["noisy"] = noisy
    return found


def spread(middle: float, share: float, count: int = 15, seed: int = 1) -> np.ndarray:
    """``count`` times about ``middle``, apart by so much."""
    return middle * np.exp(np.random.Generator(np.random.Philox(key=seed)).normal(0, share, count))


def judged(new: dict[str, Any], old: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What is said of ``flux``."""
    (flux,) = (row for row in against(new, old, MARGIN, **more)["rows"] if row["row"] == "flux")
    return flux  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.9, 1.049, NOT_SLOWER), (1.051, 1.2, SLOWER), (0.9, 1.2, CANNOT_TELL), (1.05, 1.06, CANNOT_TELL)],
)
def test_the_interval_decides(low: float, high: float, verdict: str) -> None:
    assert decided(Ratio(1.0, low, high), MARGIN) == verdict


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize(
    ("new", "old", "verdict"),
    [
        (spread(1, 0.01), spread(1, 0.01, seed=2), NOT_SLOWER),
        (spread(1.03, 0.003), spread(1, 0.003, seed=2), NOT_SLOWER),
        (spread(1.1, 0.003), spread(1, 0.003, seed=2), SLOWER),
        (spread(1.05, 0.1), spread(1, 0.1, seed=2), CANNOT_TELL),
        (spread(8, 0.5), spread(1, 0.5, seed=2), SLOWER),
        (spread(0.5, 0.1), spread(1, 0.1, seed=2), NOT_SLOWER),
    ],
    ids=["equal", "1.03 tight", "1.1 tight", "1.05 wide", "8 with wide noise", "twice as fast"],
)
def test_noise_marks_stand_beside_the_verdict_and_change_none(
    new: np.ndarray, old: np.ndarray, verdict: str, noisy: bool
) -> None:
    for marks in ((noisy, False), (False, noisy)):
        found = judged(made(new, noisy=marks[0]), made(old, noisy=marks[1]))
        assert (found["verdict"], found["noisy"]) == (verdict, noisy)


@pytest.mark.parametrize(
    ("new", "old", "verdict"),
    [
        ([1.0], [1.0], CANNOT_TELL),
        ([8.0], [1.0], SLOWER),
        ([8.0, 8.8], [1.0], SLOWER),
        ([8.0, 8.4, 7.9], [1.0, 1.04, 0.98], SLOWER),
        ([1.0, 1.001, 0.999], [1.0, 1.002, 0.998], NOT_SLOWER),
        ([1.0, 1.1], [1.0, 1.1], CANNOT_TELL),
        ([1.06, 1.07], [1.0, 1.02], CANNOT_TELL),
    ],
)
def test_few_samples_have_wide_intervals(new: list[float], old: list[float], verdict: str) -> None:
    assert judged(made(new), made(old))["verdict"] == verdict


def test_equal_times_have_an_interval_of_one_point() -> None:
    found = judged(made(), made())
    assert (found["low"], found["value"], found["high"]) == (1, 1, 1)
    assert found["verdict"] == NOT_SLOWER
    assert judged(made([1.0, 1.0]), made([1.0, 1.0]))["verdict"] == NOT_SLOWER


def test_one_slower_row_outweighs_rows_that_cannot_be_told() -> None:
    slow = report(group(quiet(flux=measured("flux", 0.75))), group(quiet(flux=measured("flux", 0.75)), "small"))
    new = copy.deepcopy(slow)
    assert against(new, slow, MARGIN)["verdict"] == NOT_SLOWER
    new["groups"][0]["rows"][1]["per_step"] = list(spread(0.79, 0.2))
    assert against(new, slow, MARGIN)["verdict"] == CANNOT_TELL
    new["groups"][1]["rows"][1]["per_step"] = list(spread(6, 0.2))
    found = against(new, slow, MARGIN)
    assert found["verdict"] == SLOWER
    assert list(lines(found))[-1].startswith("of 4 rows in both, 1 slower by more than 0.05, 1 cannot be told; more")


def test_rows_of_one_report_only_are_named() -> None:
    new, old = made(), made()
    del new["groups"][0]["rows"][1]
    new["groups"].append(group(quiet(), "step, batch 32"))
    found = against(new, old, MARGIN)
    assert found["verdict"] == NOT_SLOWER
    text = "\n".join(lines(found))
    assert "step, batch 128, flux: only in the older report\n" in text
    assert "step, batch 32, torch-eager-injected: only in the new report\n" in text


@pytest.mark.parametrize("where", ["refused", "not_run"])
def test_a_row_that_was_tried_and_shows_no_time_cannot_be_told(where: str) -> None:
    new, old = made(), made()
    del new["groups"][0]["rows"][1]
    new["groups"][0][where].append({"row": "flux", "verdict": "not run", "reason": "no Julia\nat all"})
    found = against(new, old, MARGIN)
    assert found["verdict"] == CANNOT_TELL
    text = list(lines(found))
    assert "step, batch 128, flux: only in the older report; cannot tell, no time now: no Julia" in text
    assert "0 slower by more than 0.05, 1 cannot be told" in text[-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r["environment"].update(cpu="Apple M4"), "processor: 'AMD EPYC' against 'Apple M4'"),
        (lambda r: r["groups"][0].update(cores=4), "cores: 2 against 4"),
        (lambda r: r["groups"][0].update(precision="tf32"), "precision: 'float32' against 'tf32'"),
        (lambda r: r["groups"][0]["config"].update(width=32), "config"),
        (lambda r: [e.update(threads={"torch_threads": 1}) for e in r["groups"][0]["rows"]], "threads"),
        (lambda r: [e.update(versions={"torch": "2.4"}) for e in r["groups"][0]["rows"]], "versions"),
        (lambda r: [e.update(device_name="NVIDIA A") for e in r["groups"][0]["rows"]], "device"),
    ],
)
def test_unlike_reports_are_compared_only_by_force(change: Callable[[dict[str, Any]], None], words: str) -> None:
    new, old = made(8 * np.ones(12)), made()
    old["groups"] = copy.deepcopy(old["groups"])
    change(old)
    with pytest.raises(ConfigError, match="unlike") as raised:
        against(new, old, MARGIN)
    assert words in str(raised.value)
    found = judged(new, old, force=True)
    assert found["unlike"]
    assert found["verdict"] == SLOWER


def test_reports_without_a_common_row_are_an_error() -> None:
    with pytest.raises(ConfigError, match="no row of a group in common"):
        against(made(), report(), MARGIN)
