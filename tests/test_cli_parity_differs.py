"""``pygan parity`` where the runs differ: the place, the cause, and the replay of that spot."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from parity_runs import (
    KERNEL,
    KERNEL_GRADIENT,
    SHORT,
    a_little,
    altered,
    faulty,  # noqa: F401
    pygan,  # noqa: F401
    replay_of,
    traced,
)
from run_pygan import Pygan

# --- differences -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "kind", "name"),
    [
        (1, "gradient", KERNEL_GRADIENT),
        (0, "state", "buffer/generator.norm2.running_var"),
        (1, "activation", "generator/generator.conv1"),
        (0, "loss", "discriminator"),
    ],
)
@pytest.mark.parametrize("roles", ["candidate", "reference"])
def test_one_altered_tensor_is_named_and_the_printed_replay_shows_it(
    roles: str, step: int, kind: str, name: str, pygan: Pygan, tmp_path: Path
) -> None:
    altered(traced(tmp_path / "whole"), tmp_path / "a b", step, kind, name, a_little)
    sides = ("a b", "torch") if roles == "candidate" else ("torch", "a b")
    code, out, err = pygan("parity", *sides, "--levels", "3-7")
    assert (code, err) == (1, "")
    assert out.splitlines()[-1].startswith("differs at level")
    (told,) = [line for line in out.splitlines() if line.startswith(f"step {step}: ")]
    assert f" at {kind}/{name} " in told
    replay = replay_of(out)
    assert replay[-4:] == ["--step", str(step), "--tensor", f"{kind}/{name}"]
    code, out, err = pygan(*replay)
    assert (code, err) == (0, "")
    assert out.startswith(f"step {step}: {kind}/{name}")
    assert "relative difference 1.00e-06" in out
    assert f" at {kind}/{name} " in out, "the replay tells the diagnosis again"


def test_a_value_that_is_not_finite_differs(pygan: Pygan, tmp_path: Path) -> None:
    altered(traced(tmp_path / "t"), tmp_path / "n", 1, "state", f"parameter/{KERNEL}", lambda value: value * np.nan)
    code, out, _ = pygan("parity", "torch", "n", "--levels", "4-7")
    assert code == 1
    assert "not finite at [0, 0, 0, 0]" in out
    assert "largest relative difference between the two runs in one step: inf" in out
    code, out, _ = pygan("parity", "t", "n")
    assert code == 1
    assert f"state/parameter/{KERNEL} @ step 1" in out


def test_a_bug_is_told_from_what_inherits_it(pygan: Pygan, faulty: None) -> None:
    code, out, _ = pygan("parity", "torch-faulty", "torch", *SHORT, "--levels", "3-7", "--json")
    assert code == 1
    answer = json.loads(out)
    assert answer["exit_code"] == 1
    (report,) = answer["reports"]
    found = report["diagnosis"]
    assert (report["verdict"], found["step"]) == ("differs", 0)
    assert found["culprit"] == "activation/real/discriminator.conv2"
    assert found["cause"] == "kernel not flipped"
    assert "logits/real" in found["victims"]
    assert len(found["victims"]) > 50
    assert report["minimum_tolerance"] > 1e-3
    assert {row["verdict"] for row in report["rows"] if row["level"] == 7} == {"differs"}
    assert "--step 0 --tensor activation/real/discriminator.conv2" in report["replay"]


LIVE_RUNS = [(), ("--steps", 9), ("--samples", 14), ("--samples", 14, "--steps", 2), ("--seed", 3), ("--batch", 4)]


@pytest.mark.parametrize("flags", LIVE_RUNS, ids=lambda flags: " ".join(map(str, flags)) or "default")
def test_the_replay_of_two_live_runs_sees_the_same_batch(flags: tuple[object, ...], pygan: Pygan, faulty: None) -> None:
    """Which images there are decides which are in a batch, so the replay must be told."""
    code, out, _ = pygan("parity", "torch-faulty", "torch", *flags, "--levels", "7")
    assert code == 1
    (told,) = [line for line in out.splitlines() if line.startswith("  activation/real/discriminator.conv2")]
    code, again, err = pygan(*replay_of(out))
    assert (code, err) == (0, "")
    values = told.rpartition(" at ")[2]
    assert values in again, "the same values at the same element"


def test_a_spot_shows_the_worst_elements_in_both_layouts(pygan: Pygan) -> None:
    code, out, err = pygan(
        "parity", "torch", "recorded", "--step", 3, "--tensor", "gradient/generator/generator.dense.weight"
    )
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "step 3: gradient/generator/generator.dense.weight (392, 5)"
    rows = [[cell.strip() for cell in line.split("│")] for line in lines if line.count("│") == 4]
    assert len(rows) == 5
    for place, flux, mine, theirs, gap in rows:
        assert [i + 1 for i in json.loads(place)] == json.loads(flux), "a dense weight has one index order"
        assert float(mine) == pytest.approx(float(theirs), rel=1e-8)
        assert abs(float(gap)) < 1e-17
    gaps = [abs(float(row[-1])) for row in rows]
    assert gaps == sorted(gaps, reverse=True)


@pytest.mark.parametrize("key", ["pattern/real/discriminator.leaky1", "mode/real/discriminator.drop1"])
def test_the_replay_of_a_pattern_or_a_mode_works_too(key: str, pygan: Pygan, tmp_path: Path) -> None:
    kind, _, name = key.partition("/")
    altered(traced(tmp_path / "t"), tmp_path / "a", 0, kind, name, np.logical_not)
    code, out, _ = pygan("parity", "torch", "a", "--levels", "1,3-7")
    assert code == 1
    if kind == "mode":
        assert "train mode" in out
        return
    replay = replay_of(out)
    assert replay[-1] == key
    code, out, err = pygan(*replay)
    assert (code, err) == (0, "")
    assert out.startswith(f"step 0: {key}")
