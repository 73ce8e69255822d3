"""The pair that ``pygan new`` writes: both sides agree, live and recorded, and faults put into it are found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pygan.cli.new import new
from pygan.data import load
from pygan.parity.run import compare_runs
from pygan.parity.sides import Live, Recorded
from pygan.parity.verdicts import AGREE, DIFFERS
from pygan.recipes import CONFIGS, config_from_dict
from pygan.recipes.own import load_recipe
from pygan.stacks.flux_stack import FluxStack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

TRACE = Path(__file__).with_name("traces") / "flux-own-pair"


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Path]:
    before = dict(CONFIGS)
    new(tmp_path / "mine")
    load_recipe(tmp_path / "mine")
    yield tmp_path / "mine"
    CONFIGS.clear()
    CONFIGS.update(before)


def against_recorded_flux() -> Any:
    trace = Trace(TRACE)
    data = load(trace.header.data["name"], limit=trace.header.data["images"])
    torch = TorchStack(config_from_dict(trace.header.config))
    return compare_runs(Live(torch, data), Recorded(trace))


def test_the_pair_agrees_with_recorded_flux(mine: Path) -> None:
    report = against_recorded_flux()
    assert report.verdict == AGREE, [row for row in report.rows if row.verdict == DIFFERS]
    assert {row.level for row in report.rows if row.verdict == AGREE} == {1, 2, 3, 4, 5, 6, 7, 8, 10}


FAULTS = {
    "a sum for the mean": (
        "turned.long())",
        'turned.long(), reduction="sum")',
        "loss/classifier",
        "sum instead of mean",
    ),
    "a leak": ("nn.ReLU()", "nn.LeakyReLU(0.1)", "activation/images/classifier.relu", "leaky slope"),
    "another rate of dropping": ("nn.Dropout(config.dropout)", "nn.Dropout(0.4)", "classifier.drop", ""),
    "images flipped in one axis": ("real.flip(2, 3)", "real.flip(3)", "activation/images/classifier.input", ""),
    "another beta": ("config.constant(0.9)", "config.constant(0.5)", "initial/beta_power/classifier", ""),
    "another rate": ("config.constant(config.learning_rate)", "2e-3", "state/parameter/classifier", "learning rate"),
    "no bias": (
        "nn.Linear(config.width, 2)",
        "nn.Linear(config.width, 2, bias=False)",
        "classifier.out.bias",
        "bias missing",
    ),
    "a layer of another size": (
        "nn.Linear(config.width, 2)",
        "nn.Linear(config.width, 3)",
        "classifier.out",
        "layer of another size",
    ),
    "another name": ("        out=", "        output=", "classifier.out", "layer renamed"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_put_in_by_hand_is_found_at_its_place(what: str, mine: Path) -> None:
    old, new_text, place, name = FAULTS[what]
    text = (mine / "recipe.py").read_text()
    assert old in text
    text = text.replace(old, new_text, 1)
    if what == "no bias":
        text = text.replace("layer.bias.zero_()", "layer.bias is None or layer.bias.zero_()")
    (mine / "recipe.py").write_text(text)
    load_recipe(mine)
    report = against_recorded_flux()
    assert report.verdict == DIFFERS
    assert report.diagnosis is not None
    assert place in report.diagnosis.key
    assert report.diagnosis.cause.name == (name or report.diagnosis.cause.name)


@pytest.mark.live
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_both_sides_agree_live(dtype: str, mine: Path) -> None:
    config = config_from_dict(Trace(TRACE).header.config).replace(dtype=dtype)
    data = load("digits", limit=14)
    flux = FluxStack(config)
    try:
        report = compare_runs(Live(TorchStack(config), data), Live(flux, data), 3, [1, 3, 4, 5, 6, 7])
    finally:
        flux.close()
    assert report.verdict == AGREE, [row for row in report.rows if row.verdict == DIFFERS]
