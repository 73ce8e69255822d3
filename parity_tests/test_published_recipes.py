"""Every other published recipe holds against real Flux by the command that a user types; live twins beside."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from pygan import cli
from pygan.data import load
from pygan.parity.run import compare_runs
from pygan.parity.shipped import recorded_run
from pygan.parity.sides import Live, Recorded
from pygan.recipes import config_class
from pygan.schedule import Schedule
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

RECIPES = ("flux_model_zoo", "mlp_gan")


def narrow(recipe: str, **changes: Any) -> Any:
    kind = config_class(recipe)
    return kind(**{**kind.narrow, "threads": 1, **changes})


def compared(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What ``pygan parity`` says; it must end with 0."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["pygan", "parity", *arguments])
    try:
        cli.main()
    except SystemExit as ended:
        out, err = capfd.readouterr()
        pytest.fail(f"exit code {ended.code}: {out}{err}")
    return capfd.readouterr().out


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_port_agrees_with_the_recording_of_flux(
    recipe: str, dtype: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = compared(monkeypatch, capfd, "torch", "recorded", "--recipe", recipe, "--dtype", dtype)
    assert f"{recipe}, narrow twin" in out
    assert out.splitlines()[-1].startswith("agree over all 3 steps of the recording")


@pytest.mark.live
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_port_agrees_with_live_flux(
    recipe: str, dtype: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = compared(monkeypatch, capfd, "torch", "flux", "--recipe", recipe, "--dtype", dtype)
    assert out.splitlines()[-1].startswith("agree over the first 8 steps")


@pytest.mark.parametrize("recipe", RECIPES)
def test_parameter_counts_are_the_published_ones(recipe: str) -> None:
    config = config_class(recipe)()
    built = TorchStack(config).networks
    counts = {name: sum(one.numel() for one in network.parameters()) for name, network in built.items()}
    assert counts == config.published_counts()
    assert narrow(recipe).published_counts() is None


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("flux_model_zoo", [[0, 1, 2, 3, 4, 5, 6, 7], [16, 17, 18, 19, 20, 21], [0, 1, 2, 3, 4, 5, 6, 7]]),
        ("mlp_gan", None),
    ],
)
def test_images_come_in_the_published_order(recipe: str, expected: list[list[int]] | None) -> None:
    schedule = Schedule.of(narrow(recipe), load("digits", limit=22).images)
    if expected is not None:
        assert [schedule.indices(step).tolist() for step in (0, 2, 3)] == expected
        return
    drawn = np.stack([schedule.indices(step) for step in range(400)])
    assert drawn.shape == (400, 8)
    assert any(len(set(row)) < 8 for row in drawn.tolist()), "with replacement"
    counts = np.bincount(drawn.reshape(-1), minlength=22)
    assert counts.min() > 90 and counts.max() < 210, "each image is drawn about 145 times"


FAULTS = {
    "rate": (
        "generator",
        lambda stack: stack.optimisers["generator"].param_groups[0].update(lr=0.011),
        "learning rate",
    ),
    "slope": (
        "discriminator",
        lambda stack: setattr(stack.networks["discriminator"].leaky1, "negative_slope", 0.1),
        "leaky slope",
    ),
    "eps": ("generator", lambda stack: setattr(stack.networks["generator"].norm2, "eps", 1e-5), "BatchNorm eps"),
    "momentum": (
        "generator",
        lambda stack: setattr(stack.networks["generator"].norm2, "momentum", 0.8),
        "BatchNorm momentum",
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_in_mlp_gan_is_named_at_its_network(what: str) -> None:
    network, plant, cause = FAULTS[what]

    class Planted(TorchStack):
        def initialise(self) -> None:
            super().initialise()
            plant(self)

    config = narrow("mlp_gan", dtype="float64")
    trace = Trace(recorded_run(config, "digits"))
    report = compare_runs(Live(Planted(config), load("digits", limit=22), Planted), Recorded(trace))
    assert report.verdict == "differs"
    assert report.diagnosis is not None and report.diagnosis.cause.name == cause, str(report.diagnosis)
    assert f"{network}." in report.diagnosis.key
