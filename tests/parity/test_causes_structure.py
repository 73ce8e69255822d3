"""Names for states of unlike structure, and for layers whose reference numbers the candidate does not share."""

from __future__ import annotations

import numpy as np
import pytest

from pygan.parity.causes import CAUSES, name_cause
from pygan.parity.evidence import UNKNOWN, BufferEvidence, ForwardEvidence
from pygan.parity.initial import compare_initial
from pygan.records import StepRecord
from pygan.stacks import LayerSpec

STATE = {
    f"{slot}/net.{path}": np.ones(shape)
    for path, shape in {"conv.weight": (4, 2, 5, 5), "dense.weight": (3, 8)}.items()
    for slot in ("parameter", "exp_avg", "exp_avg_sq")
} | {"beta_power/net": np.array([0.9, 0.999])}


def with_shape(path: str, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {key: np.ones(shape) if key.endswith(path) else value for key, value in STATE.items()}


def renamed(old: str, new: str) -> dict[str, np.ndarray]:
    return {key.replace(old, new): value for key, value in STATE.items()}


STRUCTURES = [
    ("other optimiser", {key: value for key, value in STATE.items() if key.startswith("parameter")}),
    ("other optimiser", {key: value for key, value in STATE.items() if not key.startswith("exp_avg_sq")}),
    ("bias too many", STATE | {f"{slot}/net.conv.bias": np.ones(4) for slot in ("parameter", "exp_avg", "exp_avg_sq")}),
    ("layer renamed", renamed("net.conv", "net.first")),
    ("kernel size", with_shape("conv.weight", (4, 2, 7, 7))),
    ("weight transposed", with_shape("dense.weight", (8, 3))),
    ("layer of another size", with_shape("dense.weight", (3, 9))),
    ("unknown cause", {key: value for key, value in STATE.items() if "dense" not in key}),
]


@pytest.mark.parametrize(("name", "state"), STRUCTURES)
def test_structure_is_named_at_its_place(name: str, state: dict[str, np.ndarray]) -> None:
    found = compare_initial(StepRecord(-1, state=state), StepRecord(-1, state=STATE))
    assert found.diagnosis is not None and not found.fits
    assert found.diagnosis.cause.name == name
    assert name in CAUSES
    unlike = {key for key in state.keys() ^ STATE.keys()} | {
        key for key in state.keys() & STATE.keys() if state[key].shape != STATE[key].shape
    }
    assert {one.key.removeprefix("initial/") for one in found.diagnosis.culprits} == unlike


def test_equal_structure_has_no_diagnosis() -> None:
    assert compare_initial(StepRecord(-1, state=STATE), StepRecord(-1, state=STATE)).diagnosis is None


def buffer_evidence(momentum: float | None, step: int, channels: int) -> BufferEvidence:
    """A running mean, 0 before; torch's ``momentum=None`` beside the reference's 0.1."""
    x = np.random.default_rng(step).standard_normal((5, channels, 3, 3))
    before = np.full(channels, 0.25) if step else np.zeros(channels)
    new = x.mean((0, 2, 3))
    mine, theirs = before + (new - before) / (step + 1), 0.9 * before + 0.1 * new
    layer = LayerSpec("batch_norm", {"momentum": momentum, "eps": 1e-5})
    key = "state/buffer/net.norm.running_mean"
    return BufferEvidence(key, step, mine, theirs, 1e-10, layer=layer, x=x, before=before)


@pytest.mark.parametrize("momentum", [None, 0.1, 0.3])
@pytest.mark.parametrize("channels", [1, 4])
def test_a_mean_over_all_batches(momentum: float | None, channels: int) -> None:
    names = [str(name_cause(buffer_evidence(momentum, step, channels))) for step in (0, 3)]
    assert names[0] == names[1] == "BatchNorm momentum (momentum None (a mean over all batches) instead of 0.1)"


def dropped(rate: float, scale: float, channels: bool = False) -> ForwardEvidence:
    """Units of ``x`` kept by the same uniform numbers at ``rate``; the reference has 0.5. The numbers are its own."""
    r = np.random.default_rng(3)
    x, u = r.standard_normal((6, 8, 5, 5)), r.random((6, 8, 5, 5))
    own = u >= 0.5
    kept = own[:, :, :1, :1] if channels else u >= rate
    spec = LayerSpec("dropout", {"p": 0.5, "scale": 2.0})
    return ForwardEvidence(
        *("activation/real/net.drop", 0, x * kept * scale, x * own * 2.0, 1e-10),
        x=x, layers=[("net.drop", spec)], train=True, tensors={}, masks={"mask/real/net.drop": own},
    )  # fmt: skip


def test_another_rate_of_dropping() -> None:
    assert name_cause(dropped(0.3, 2.0)).name == "dropout rate"
    assert name_cause(dropped(0.3, 1 / 0.7)).name == "dropout rate"
    assert name_cause(dropped(0.7, 1 / 0.3)).name == "dropout rate"
    assert name_cause(dropped(0.5, 1.5)).name == "dropout scale"
    assert name_cause(dropped(0.0, 1.0)).name == "dropout off"
    assert name_cause(dropped(0.3, 5.0)) == UNKNOWN  # the share that is kept and the factor are of no one rate


def test_dropping_whole_channels() -> None:
    assert name_cause(dropped(0.5, 2.0, channels=True)).name == "dropout over channels"
