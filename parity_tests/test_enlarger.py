"""An own pair with a branch, norms by sample and one-sided padding: both sides agree, and planted faults are placed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from pygan.data import load
from pygan.errors import ConfigError
from pygan.parity.report import Report
from pygan.parity.run import compare_runs
from pygan.parity.sides import Live, Recorded
from pygan.parity.verdicts import AGREE, DIFFERS
from pygan.recipes import CONFIGS, config_from_dict
from pygan.recipes.own import load_recipe
from pygan.stacks.flux_stack import FluxStack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

FOLDER = Path(__file__).with_name("enlarger")
TRACE = Path(__file__).with_name("traces") / "flux-enlarger"


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    """A copy of the recipe, known by name."""
    before = dict(CONFIGS)
    copytree(FOLDER, tmp_path / "enlarger", ignore=lambda *_: ["__pycache__"])
    load_recipe(tmp_path / "enlarger")
    yield tmp_path / "enlarger"
    CONFIGS.clear()
    CONFIGS.update(before)


def changed(folder: Path, old: str, new: str) -> None:
    text = (folder / "recipe.py").read_text()
    assert old in text
    (folder / "recipe.py").write_text(text.replace(old, new, 1))
    load_recipe(folder)


def against_recorded_flux(**changes: Any) -> Report:
    trace = Trace(TRACE)
    data = load(trace.header.data["name"], limit=trace.header.data["images"])
    torch = TorchStack(config_from_dict({**trace.header.config, **changes}))
    return compare_runs(Live(torch, data), Recorded(trace))


def test_the_pair_agrees_with_recorded_flux(mine: Path) -> None:
    report = against_recorded_flux()
    assert report.verdict == AGREE, [row for row in report.rows if row.verdict == DIFFERS]
    assert {row.level for row in report.rows if row.verdict == AGREE} == {1, 2, 3, 4, 5, 6, 7, 8, 10}


FAULTS = {
    "eps of the GroupNorm": (
        "nn.GroupNorm(2, w, eps)",
        "nn.GroupNorm(2, w, 1e-3)",
        "activation/images/enlarger.norm",
        "norm eps",
    ),
    "groups of the GroupNorm": (
        "nn.GroupNorm(2, w, eps)",
        "nn.GroupNorm(4, w, eps)",
        "activation/images/enlarger.norm",
        "number of groups",
    ),
    "eps of the LayerNorm not squared": ("eps**2)", "eps)", "activation/images/enlarger.settle", ""),
    "GELU by erf": ('nn.GELU(approximate="tanh")', "nn.GELU()", "activation/images/enlarger.gelu", "other activation"),
    "beta of the softplus": ("nn.Softplus()", "nn.Softplus(2.0)", "activation/images/enlarger.body.soft", "softplus"),
    "no way round the branch": (
        "self.settle(x + self.body(x))",
        "self.settle(self.body(x))",
        "activation/images/enlarger.settle",
        "",
    ),
    "padding on the other side": (
        "pad=nn.ZeroPad2d((1, 2, 1, 2))",
        "pad=nn.ZeroPad2d((2, 1, 2, 1))",
        "activation/images/enlarger.body.down",
        "stride or padding",
    ),
    "cropped on the other side": (
        "(-1, -2, -1, -2)",
        "(-2, -1, -2, -1)",
        "activation/images/enlarger.body.crop",
        "stride or padding",
    ),
    "the largest for the mean": (
        "nn.AvgPool2d(4)",
        "nn.MaxPool2d(4)",
        "activation/images/enlarger.shrink",
        "other pooling",
    ),
    "interpolated": (
        "nn.Upsample(scale_factor=2)",
        'nn.Upsample(scale_factor=2, mode="bilinear")',
        "activation/images/enlarger.enlarge",
        "other upsampling",
    ),
    "weight of the loss": ("config.constant(config.brightness) *", "0.5 *", "loss/enlarger", ""),
    "another rate of dropping": ("nn.Dropout(config.dropout)", "nn.Dropout(0.4)", "enlarger.body.drop", ""),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_put_in_by_hand_is_found_at_its_place(what: str, mine: Path) -> None:
    old, new, place, name = FAULTS[what]
    changed(mine, old, new)
    report = against_recorded_flux()
    assert report.verdict == DIFFERS
    assert report.diagnosis is not None
    assert place in report.diagnosis.key, report.diagnosis
    assert report.diagnosis.cause.name == (name or report.diagnosis.cause.name)


def test_parameters_that_the_layout_table_does_not_know_are_refused(mine: Path) -> None:
    changed(mine, "soft=nn.Softplus()", "soft=nn.PReLU()")
    told = r"enlarger\.body\.soft: pygan does not know the parameter 'weight' of a PReLU.*layouts\.toml.*_RULE_OF_LAYER"
    with pytest.raises(ConfigError, match=told):
        against_recorded_flux()
    changed(mine, "soft=nn.PReLU()", "soft=nn.Softplus()")
    changed(mine, "        self.tone =", "        self.gain = nn.Parameter(torch.ones(1))\n        self.tone =")
    with pytest.raises(ConfigError, match=r"enlarger: pygan does not know the parameter 'gain' of an? Enlarger"):
        against_recorded_flux()


@pytest.mark.live
def test_flux_refuses_them_too(mine: Path) -> None:
    text = (mine / "recipe.jl").read_text()
    (mine / "recipe.jl").write_text(text.replace("soft=x -> softplus.(x)", "soft=Flux.Scale(4, 4, c.width + 2)", 1))
    told = r"enlarger\.body\.soft\.scale: pygan does not know the parameters of a Scale.*layouts\.toml"
    with pytest.raises(Exception, match=told):
        FluxStack(config_from_dict(Trace(TRACE).header.config))


@pytest.mark.live
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_both_sides_agree_live(dtype: str, mine: Path) -> None:
    config = config_from_dict(Trace(TRACE).header.config).replace(dtype=dtype)
    data = load("digits", limit=7)
    flux = FluxStack(config)
    try:
        report = compare_runs(Live(TorchStack(config), data), Live(flux, data), 3, [1, 3, 4, 5, 6, 7])
    finally:
        flux.close()
    assert report.verdict == AGREE, [row for row in report.rows if row.verdict == DIFFERS]
