"""The state before the first step: compared bit by bit, and structure that differs is a finding."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lowered import layer_of
from parity_runs import (
    Plant,
    built_by,
    live,
    of_kind,
    offered,
    planted,
    replay_of,
    rows_of,
    traced,
    verdicts,
)
from run_pygan import Pygan
from torch import nn

from pygan.draws import Draws
from pygan.parity.evidence import UNKNOWN
from pygan.parity.initial import compare_initial, initial_cause
from pygan.parity.report import Report
from pygan.parity.run import compare_runs
from pygan.parity.sides import Recorded
from pygan.parity.spot import look
from pygan.parity.verdicts import AGREE, DIFFERS, NOT_RUN
from pygan.recording import digests
from pygan.records import StepRecord
from pygan.stacks.torch_stack import TorchStack

CONV = "generator.conv1"


# --- values ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def refilled(stack: TorchStack) -> None:
    """The same draws, filled in Julia's memory order."""
    weight = layer_of(stack, CONV).weight
    assert isinstance(weight, torch.Tensor)
    own = weight.detach().numpy().copy()
    weight.copy_(torch.from_numpy(np.ascontiguousarray(own.reshape(own.shape[::-1]).T)))


@torch.no_grad()
def other_stream(stack: TorchStack) -> None:
    weight = layer_of(stack, CONV).weight
    assert isinstance(weight, torch.Tensor)
    drawn = Draws(stack.config.seed).normal("init/of another name", tuple(weight.shape)) * np.float32(0.02)
    weight.copy_(torch.from_numpy(drawn))


@torch.no_grad()
def wider(stack: TorchStack) -> None:
    """A standard deviation of 0.0201 in place of 0.02."""
    layer_of(stack, CONV).weight.mul_(0.0201 / 0.02)  # type: ignore[operator]


def ahead(stack: TorchStack) -> None:
    for kept in stack.optimisers["generator"].state.values():
        kept["beta_power"].mul_(kept["beta_power"].clone())


VALUES: dict[str, tuple[Plant, str, str]] = {
    "memory order": (refilled, f"parameter/{CONV}.weight", "initial weights in another order"),
    "stream": (other_stream, f"parameter/{CONV}.weight", "other initial weights"),
    "deviation": (wider, f"parameter/{CONV}.weight", "initial weights scaled"),
    "powers": (ahead, "beta_power/generator", "beta powers one step ahead"),
}


def initial_row(report: Report) -> Any:
    (row,) = [row for row in report.rows if row.claim == "initial state, bit by bit"]
    return row


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("what", VALUES)
def test_another_start_is_caught_and_named_though_every_step_from_it_agrees(what: str, dtype: str) -> None:
    plant, key, name = VALUES[what]
    report = compare_runs(live(dtype, plant), live(dtype), 1, [2, 7])
    assert report.verdict == DIFFERS
    row = initial_row(report)
    assert (row.level, row.verdict, row.where) == (2, DIFFERS, key)
    assert row.reason == f"1 of 57 tensors differ before the first step: {key}"
    assert report.diagnosis is not None
    assert (report.diagnosis.step, report.diagnosis.key) == (0, f"initial/{key}")
    assert report.diagnosis.cause.name == name
    assert {"deviation": "by 1.005"}.get(what, "") in report.diagnosis.cause.detail
    assert DIFFERS not in verdicts(report)[7], "every step started from the leader's state"
    told = [line for line in look(live(dtype, plant), live(dtype), 0, f"initial/{key}").lines if name in line]
    assert str(report.diagnosis.difference) in told[0], "the replay shows what the run found"


def test_one_bit_is_another_start() -> None:
    def plant(stack: TorchStack) -> None:
        weight: Any = layer_of(stack, CONV).weight
        weight.data[0, 0, 0, 0] = np.nextafter(float(weight.data[0, 0, 0, 0]), 1.0)

    row = initial_row(compare_runs(live(plant=plant), live(), 1, [2]))
    assert row.verdict == DIFFERS
    assert 0 < row.measured < 1e-15
    assert initial_row(compare_runs(live(), live(), 1, [2])).verdict == AGREE


def test_digests_of_a_recorded_start_are_compared_too(tmp_path: Path) -> None:
    trace = traced(tmp_path / "t", 1, words=("sketches", "gradients"))
    initial = trace.initial()
    assert initial is not None
    assert not initial.state
    for sides in ((live(), Recorded(trace)), (Recorded(trace), live())):
        assert initial_row(compare_runs(*sides, 1, [2])).verdict == AGREE
    for sides in ((live(plant=wider), Recorded(trace)), (Recorded(trace), live(plant=wider))):
        report = compare_runs(*sides, 1, [2])
        assert initial_row(report).verdict == DIFFERS
        assert report.diagnosis is not None
        assert report.diagnosis.key == f"initial/parameter/{CONV}.weight"
        assert "digests differ" in str(report.diagnosis)


def test_a_recording_without_its_start_is_not_said_to_start_equally(tmp_path: Path) -> None:
    trace = traced(tmp_path / "t", 1, words=("gradients",))
    mine, nothing = StepRecord(-1, state=live().stack.state()), Recorded(trace).initial()
    for sides, whose in (((mine, nothing), "reference"), ((nothing, mine), "candidate")):
        found = compare_initial(*sides)
        assert (found.row.verdict, found.checks, found.diagnosis) == (NOT_RUN, (), None)
        assert found.row.reason == f"the {whose}'s recording holds no initial state"


def test_a_missing_digest_is_a_missing_tensor() -> None:
    state = live().stack.state()
    stored = digests({f"state/{key}": value for key, value in state.items()})
    whole = compare_initial(StepRecord(-1, state=state), StepRecord(-1, digest=stored))
    assert whole.fits
    assert whole.row.verdict == AGREE
    stored.pop(f"state/parameter/{CONV}.weight")
    found = compare_initial(StepRecord(-1, state=state), StepRecord(-1, digest=stored))
    assert [one.key for one in found.checks if not one.ok] == [f"parameter/{CONV}.weight"]
    assert not found.fits


ONES, SLOPED = np.ones(20), np.linspace(-1, 1, 20)


@pytest.mark.parametrize(
    ("key", "mine", "theirs", "name"),
    [
        ("parameter/x", SLOPED[::-1], SLOPED, "initial weights in another order"),
        ("parameter/x", SLOPED * 1.5, SLOPED, "initial weights scaled"),
        ("parameter/x", np.cos(50 * SLOPED), SLOPED, "other initial weights"),
        ("parameter/x", SLOPED + 1e-4 * ONES, SLOPED, UNKNOWN.name),
        ("parameter/x", SLOPED * np.nan, SLOPED, UNKNOWN.name),
        ("parameter/x", SLOPED[:3], SLOPED, UNKNOWN.name),
        ("parameter/bias", ONES[:1], 0 * ONES[:1], UNKNOWN.name),
        ("beta_power/net", np.array([0.81, 0.998001]), np.array([0.9, 0.999]), "beta powers one step ahead"),
        ("beta_power/net", np.array([0.9, 0.998001]), np.array([0.9, 0.999]), UNKNOWN.name),
    ],
)
def test_a_start_is_named_by_its_numbers_and_nothing_else(
    key: str, mine: np.ndarray, theirs: np.ndarray, name: str
) -> None:
    assert initial_cause(key, mine, theirs).name == name


# --- structure ---------------------------------------------------------------------------------------------------


def other_kernel(networks: dict[str, nn.Module]) -> None:
    own: Any = networks["generator"].conv2
    networks["generator"].conv2 = nn.ConvTranspose2d(  # type: ignore[assignment]
        own.in_channels, own.out_channels, 6, stride=2, padding=2, bias=False
    )


def with_bias(networks: dict[str, nn.Module]) -> None:
    own: Any = networks["generator"].conv2
    networks["generator"].conv2 = nn.ConvTranspose2d(  # type: ignore[assignment]
        own.in_channels, own.out_channels, 4, stride=2, padding=1
    )


def other_names(networks: dict[str, nn.Module]) -> None:
    layers = OrderedDict((name.replace("norm", "bn"), layer) for name, layer in networks["generator"].named_children())
    networks["generator"] = nn.Sequential(layers)


def unchanged(networks: dict[str, nn.Module]) -> None:
    """The networks are right."""


def rmsprop(networks: dict[str, nn.Module], config: Any) -> dict[str, torch.optim.Optimizer]:
    return {name: torch.optim.RMSprop(network.parameters(), lr=2e-4) for name, network in networks.items()}


def sgd(networks: dict[str, nn.Module], config: Any) -> dict[str, torch.optim.Optimizer]:
    return {name: torch.optim.SGD(network.parameters(), lr=2e-4) for name, network in networks.items()}


STRUCTURES: dict[str, tuple[Callable[[], type[TorchStack]], str, str, str]] = {
    "kernel size": (
        lambda: built_by(other_kernel), "parameter/generator.conv2.weight", "(4, 2, 6, 6) {}", "(4, 2, 4, 4) {}",
    ),
    "bias": (lambda: built_by(with_bias), "parameter/generator.conv2.bias", "(2,) {}", "missing"),
    "names": (lambda: built_by(other_names), "buffer/generator.bn1.running_mean", "(392,) {}", "missing"),
    "RMSprop": (lambda: built_by(unchanged, rmsprop), "beta_power/generator", "missing", "(2,) {}"),
    "SGD": (lambda: built_by(unchanged, sgd), "exp_avg/discriminator.conv1.bias", "missing", "(2,) {}"),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("roles", ["candidate", "reference"])
@pytest.mark.parametrize("what", STRUCTURES)
def test_another_structure_is_a_finding_that_names_tensor_expected_and_found(what: str, roles: str, dtype: str) -> None:
    kind, key, mine, theirs = STRUCTURES[what]
    sides = [of_kind(kind(), dtype), live(dtype)]
    report = compare_runs(*(sides if roles == "candidate" else sides[::-1]))
    assert report.verdict == DIFFERS
    (row,) = rows_of(report, 1)
    assert (row.claim, row.verdict) == ("names, shapes and dtypes of the state", DIFFERS)
    found, expected = (side.format(dtype) for side in ((mine, theirs) if roles == "candidate" else (theirs, mine)))
    checks = compare_initial(*(side.initial() for side in (sides if roles == "candidate" else sides[::-1]))).checks
    bad = [str(one) for one in checks if not one.ok]
    assert f"{key}: {found} in the candidate, {expected} in the reference" in bad
    assert bad[0] in row.reason
    assert len(bad) <= 6 or row.reason.endswith(f"and {len(bad) - 6} more")
    for level in range(2, 11):
        assert verdicts(report)[level] == {NOT_RUN}
        assert rows_of(report, level)[0].reason.startswith("names or shapes differ at level 1, so no step")


def test_another_structure_than_the_recordings_is_a_finding(tmp_path: Path) -> None:
    trace = Recorded(traced(tmp_path / "t", 1))
    report = compare_runs(of_kind(built_by(with_bias)), trace, levels=[7])
    assert report.verdict == DIFFERS
    assert [row.level for row in report.rows] == [1, 7], "a finding is told though its level was not asked for"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("roles", ["candidate", "reference"])
def test_a_batch_norm_without_momentum_is_a_finding(roles: str, dtype: str) -> None:
    """torch then keeps the average over all batches; no tensor has another shape."""

    def plant(stack: TorchStack) -> None:
        layer_of(stack, "generator.norm2").momentum = None  # type: ignore[assignment]

    sides = [live(dtype, plant), live(dtype)]
    report = compare_runs(*(sides if roles == "candidate" else sides[::-1]), 2, [6, 7, 9])
    assert report.verdict == DIFFERS
    assert report.diagnosis is not None
    assert "generator.norm2.running_" in report.diagnosis.key
    level = 6 if dtype == "float64" else 7
    assert any("generator.norm2.running_" in row.where for row in rows_of(report, level) if row.verdict == DIFFERS)


@pytest.mark.parametrize("what", ["kernel size", "names", "RMSprop"])
def test_the_command_line_tells_a_structure_and_ends_with_1(
    what: str,
    pygan: Pygan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind = STRUCTURES[what][0]
    offered(monkeypatch, kind())
    code, out, err = pygan("parity", "torch-faulty", "torch", "--samples", 14, "--steps", 1, "--levels", "1,7")
    assert (code, err) == (1, "")
    assert "level 1, names, shapes and dtypes of the state: differs: " in out
    assert "in the candidate" in out
    assert out.splitlines()[-1].startswith("differs at level")
    if "replay this spot" in out:
        code, again, err = pygan(*replay_of(out))
        assert (code, err) == (0, "")
        assert {"kernel size": "(4, 2, 6, 6)", "names": "layer renamed", "RMSprop": "other optimiser"}[what] in again


def test_the_command_line_replays_another_start(pygan: Pygan, monkeypatch: pytest.MonkeyPatch) -> None:
    offered(monkeypatch, planted(wider))
    code, out, err = pygan("parity", "torch-faulty", "torch", "--samples", 14, "--steps", 1, "--levels", "2")
    assert (code, err) == (1, "")
    assert "initial weights scaled (by 1.005)" in out
    (told,) = [line for line in out.splitlines() if line.startswith("  initial/parameter")]
    code, again, err = pygan(*replay_of(out))
    assert (code, err) == (0, "")
    assert told in again


def test_two_records_of_one_start_are_equal() -> None:
    state = live().stack.state()
    found = compare_initial(StepRecord(-1, state=state), StepRecord(-1, state=dict(state)))
    assert (found.fits, found.row.verdict, found.row.compared) == (True, AGREE, len(state))
    short = {key: value.astype(np.float32) if value.dtype == np.float64 else value for key, value in state.items()}
    other = compare_initial(StepRecord(-1, state=short), StepRecord(-1, state=state))
    assert not other.fits
    assert replace(other.row, verdict="") != replace(found.row, verdict="")
