"""Judging Float32: rounding agrees, whatever makes it; lowered precision and other numbers do not."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from float32_runs import against, referee, words
from lowered import backward, forward, layer_of, shortened
from parity_runs import EVERYTHING, KERNEL_GRADIENT, Plant, altered, live, traced

from pygan.parity.compare import Difference
from pygan.parity.evidence import UNKNOWN
from pygan.parity.float32 import Float32Judge, _weighed
from pygan.parity.judge import Judged
from pygan.parity.locate import Diagnosis
from pygan.parity.rounding import UNIT
from pygan.parity.sides import Live, Recorded, Together
from pygan.parity.stepping import Stepping
from pygan.parity.tolerances import ENSEMBLE_FACTOR, REFERENCE_CAP, REFERENCE_FACTOR
from pygan.parity.verdicts import AGREE, DIFFERS, NOT_RUN
from pygan.records import StepRecord
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.torch_stack import TorchStack

LAYERS = (
    *(f"discriminator.{name}" for name in ("conv1", "leaky1", "conv2", "leaky2", "dense")),
    *(f"generator.{name}" for name in ("dense", "norm1", "conv1", "norm2", "conv2", "norm3", "conv3", "tanh")),
)
FORMS = {"torch": TorchStack, "torch-fast": FastTorchStack}


# --- lowered precision -------------------------------------------------------------------------------------------


def found_at(stepping: Stepping) -> Diagnosis:
    found = stepping.diagnosis()
    assert found is not None
    assert DIFFERS in words(stepping)
    assert stepping.incorrect is None, "the Float64 step agrees"
    return found


@pytest.mark.parametrize("keep", [11, 8], ids=["tf32", "bf16"])
@pytest.mark.parametrize("path", LAYERS)
@pytest.mark.parametrize("form", FORMS)
def test_lowered_precision_in_any_layer_is_caught_at_that_layer(form: str, path: str, keep: int, clean) -> None:
    found = found_at(against(live("float32", forward(path, keep), base=FORMS[form]), clean(0)))
    call = "sample" if path.startswith("generator") else "real"
    assert (found.step, found.key) == (0, f"activation/{call}/{path}")
    assert found.cause.name == "lowered precision"
    assert {11: "TF32 and half keep 11 bits", 8: "bfloat16 keeps 8 bits"}[keep] in found.cause.detail
    assert form in found.note
    first = {one.key.partition("/")[2].partition("/")[2] for one in found.culprits if one.key.startswith("activation/")}
    assert first == {path}, "no other layer is off by itself"


@pytest.mark.parametrize("path", ["discriminator.conv2", "discriminator.dense", "generator.norm2", "generator.conv1"])
@pytest.mark.parametrize("form", FORMS)
def test_lowered_precision_in_a_backward_pass_alone_is_caught_there(form: str, path: str, clean) -> None:
    found = found_at(against(live("float32", backward(path, 11), base=FORMS[form]), clean(0)))
    before = {"conv2": "drop1", "dense": "flatten", "norm2": "conv1", "conv1": "unflatten"}[path.partition(".")[2]]
    network = path.partition(".")[0]
    assert found.cause.name in ("lowered precision", UNKNOWN.name)
    keys = {one.key.partition("/")[2].partition("/")[2] for one in found.culprits}
    assert keys <= {f"{network}.{before}", f"{path}.weight", f"{path}.bias"}
    assert f"{network}.{before}" in keys
    assert found.key in {one.key for one in found.culprits}
    assert all(one.key.startswith(("activation_gradient/", "gradient/")) for one in found.culprits)


def test_joined_code_is_judged_as_it_trains(clean) -> None:
    """Layers that the fast step computes together are not joined where each is watched: only the run shows it."""

    def plant(stack: TorchStack) -> None:
        norm: Any = layer_of(stack, "generator.norm2")
        own = norm.and_relu
        norm.and_relu = lambda x: shortened(own(x), 8, 0)

    stepping = against(live("float32", plant, base=FastTorchStack), clean(0))
    found = found_at(stepping)
    assert not [one for _, one, title in stepping._rounding if "torch-fast" in title and one.key[:10] == "activation"]
    assert not found.forced
    assert found.key.startswith(("gradient/", "logits/", "buffer/", "pattern/"))
    assert found.cause == UNKNOWN
    assert {"logits/fake", "gradient/generator/generator.norm3.weight"} <= {one.key for one in found.outside}


def test_a_run_in_autocast_is_lowered_precision(clean) -> None:
    side = live("float32")

    def make(wanted: Any) -> Any:
        return FastTorchStack(wanted, precision="bf16" if wanted.dtype == "float32" else "float32")

    stepping = against(Live(make(side.config), side.dataset, make), clean(0))
    found = found_at(stepping)
    assert found.cause.name == "lowered precision"
    assert "bfloat16" in found.cause.detail


# --- rounding of other kinds agrees ------------------------------------------------------------------------------


def without_onednn(stack: TorchStack) -> None:
    own = stack.step

    def step(*arguments: Any, **how: Any) -> StepRecord:
        with warnings.catch_warnings():  # that this torch has no Intel GPU
            warnings.simplefilter("ignore")
            with torch.backends.mkldnn.flags(enabled=False):
                return own(*arguments, **how)

    stack.step = step  # type: ignore[method-assign]


def channels_last(stack: TorchStack) -> None:
    for network in stack.networks.values():
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                own = layer.forward
                layer.forward = lambda x, own=own: own(x.contiguous(memory_format=torch.channels_last))


def softplus(stack: TorchStack) -> None:
    """The loss as ``softplus(-x)`` for real images and ``softplus(x)`` for fakes."""
    own: Any = stack._recipe

    def bce(logits: torch.Tensor, label: float) -> torch.Tensor:
        return torch.nn.functional.softplus(-logits if label else logits).mean()

    if not isinstance(own, SimpleNamespace):
        step = FunctionType(own.train_step.__code__, {**own.train_step.__globals__, "bce": bce})
        parts = {name: getattr(own, name) for name in ("build", "initialise", "optimisers", "pictures")}
        stack._recipe = SimpleNamespace(train_step=step, **parts)  # type: ignore[assignment]


VARIANTS: dict[str, tuple[Plant | None, dict[str, Any]]] = {
    "as it comes": (None, {}),
    "two threads": (None, {"threads": 2}),
    "without oneDNN": (without_onednn, {}),
    "channels last": (channels_last, {}),
    "softplus": (softplus, {}),
    "fast": (None, {"base": FastTorchStack}),
    "fast, two threads": (None, {"base": FastTorchStack, "threads": 2}),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("variant", VARIANTS)
def test_right_torch_agrees_however_it_adds(variant: str, seed: int, clean) -> None:
    plant, changes = VARIANTS[variant]
    stepping = against(live("float32", plant, seed=seed, **changes), clean(seed), 2, seed)
    assert stepping.diagnosis() is None, str(stepping.diagnosis())
    assert words(stepping) == {AGREE}
    assert {row.level for row in stepping.rows()} == {3, 4, 5, 6, 7}


# --- both roles --------------------------------------------------------------------------------------------------


def test_nothing_is_imposed_on_a_judged_run(clean, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    side, step = live("float32"), TorchStack.step

    def watched(stack: TorchStack, *arguments: Any, **how: Any) -> StepRecord:
        if stack in (side.stack, side.in_float64.stack):
            seen.append(how)
        return step(stack, *arguments, **how)

    monkeypatch.setattr(TorchStack, "step", watched)
    against(side, clean(0))
    assert seen == [{}, {}]


FAULTS: dict[str, Plant] = {
    "lowered": forward("discriminator.conv2", 11),
    "rate": lambda stack: stack.optimisers["discriminator"].param_groups[0].update(lr=4e-4),
}


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_a_recording_and_a_live_side_may_change_places(fault: str | None, clean) -> None:
    plant = FAULTS[fault] if fault else None
    found = [against(*sides) for sides in ((live("float32", plant), clean(0)), (clean(0), live("float32", plant)))]
    rows = [[(row.claim, row.verdict, row.compared) for row in one.rows()] for one in found]
    assert rows[0] == rows[1]
    told = [one.diagnosis() for one in found]
    assert (told[0] is None) == (told[1] is None) == (fault is None)
    if told[0] and told[1]:
        assert (told[0].step, told[0].key, told[0].cause.name) == (told[1].step, told[1].key, told[1].cause.name)


@pytest.mark.parametrize("what", ["gradient", "state"])
def test_a_recording_whose_float32_step_is_off_is_seen(what: str, clean, tmp_path: Path) -> None:
    """Its twin agrees; a thousandth in one tensor is no rounding, whoever is judged."""
    name = KERNEL_GRADIENT if what == "gradient" else "parameter/generator.conv2.weight"
    wrong = Recorded(altered(clean(0).trace, tmp_path / "a", 0, what, name, lambda value: value * np.float32(1.001)))
    for sides in ((live("float32"), wrong), (wrong, live("float32"))):
        stepping = against(*sides)
        assert DIFFERS in words(stepping)
        assert stepping.incorrect is None
        found = stepping.diagnosis()
        assert found is not None
        assert name in found.key or any(name in one.key for one in found.outside)


# --- correctness first -------------------------------------------------------------------------------------------


def test_where_the_float64_step_differs_nothing_is_said_of_rounding(clean) -> None:
    stepping = against(live("float32", FAULTS["rate"]), clean(0), 2)
    assert stepping.incorrect == 0
    rows = {row.claim: row for row in stepping.rows()}
    assert [row.claim for row in rows.values() if row.verdict == DIFFERS] == [
        "correctness: the Float64 step from the same state"
    ]
    stepping = against(live("float32", late_fault), clean(0), 2)
    assert stepping.incorrect == 1
    rows = {row.claim: row for row in stepping.rows()}
    correct = rows.pop("correctness: the Float64 step from the same state")
    assert correct.verdict == DIFFERS
    assert "@ step 1" in correct.where
    assert {row.verdict for row in rows.values()} == {NOT_RUN}
    assert {row.reason for row in rows.values()} == {"correctness failed at step 1"}
    assert all(row.measured is row.allowed is None for row in rows.values())
    assert len(rows) > 8


def late_fault(stack: TorchStack) -> None:
    """A learning rate that doubles with the second step."""
    own = stack.step

    def step(*arguments: Any, **how: Any) -> StepRecord:
        rate = stack.config.constant(stack.config.generator_lr)
        stack.optimisers["generator"].param_groups[0]["lr"] = rate * (2 if int(stack.state()["step"]) == 1 else 1)
        return own(*arguments, **how)

    stack.step = step  # type: ignore[method-assign]


def test_without_a_twin_correctness_is_not_run_and_rounding_still_is(tmp_path: Path) -> None:
    trace = Recorded(traced(tmp_path / "t", 2, dtype="float32"))
    stepping = against(live("float32"), trace, 2)
    rows = {row.claim: row for row in stepping.rows()}
    correct = rows.pop("correctness: the Float64 step from the same state")
    assert correct.verdict == NOT_RUN
    assert correct.reason.startswith("correctness not run")
    assert "pygan record --twin" in correct.reason
    assert {row.verdict for row in rows.values()} == {AGREE}
    assert DIFFERS in words(against(live("float32", forward("generator.conv1", 11)), trace))


# --- how much is admitted ----------------------------------------------------------------------------------------


def weighed(own: float, other: float) -> Judged:
    """Both distances in units of the ensemble's, from a truth of norm 5."""
    return _weighed(Difference("gradient/x"), 1e-6 * own, 1e-6 * other, 1e-6, np.array([3.0, 4.0]))


@pytest.mark.parametrize(
    ("own", "other", "ok"),
    [
        (0.9 * ENSEMBLE_FACTOR, 0.0, True),
        (1.1 * ENSEMBLE_FACTOR, 0.0, False),
        (1.1 * ENSEMBLE_FACTOR, 0.7 * ENSEMBLE_FACTOR, True),
        (REFERENCE_FACTOR * 3 * 1.1, 3.0, False),
        (0.9 * REFERENCE_CAP, 0.9 * REFERENCE_CAP, True),
        (1.1 * REFERENCE_CAP, 0.9 * REFERENCE_CAP, False),
        (0.0, 1.1 * REFERENCE_CAP, False),
    ],
)
def test_the_reference_excuses_a_candidate_up_to_a_cap_and_the_candidate_never_itself(
    own: float, other: float, ok: bool
) -> None:
    judged = weighed(own, other)
    assert judged.ok == ok
    assert judged.reference_error == pytest.approx(other * 1e-6 / 5)
    assert judged.allowed <= REFERENCE_CAP * 1e-6 / 5 * (1 + 1e-12)


@pytest.mark.parametrize("change", [lambda v: v * np.nan, lambda v: v[:-1], lambda v: v.astype(np.float64)])
@pytest.mark.parametrize("kind", ["logits", "gradient", "state"])
def test_a_fault_on_either_side_is_never_rounding(kind: str, change: Any, clean) -> None:
    pair = next(iter(Together(live("float32"), clean(0)).steps(range(1), EVERYTHING)))
    name = {"logits": "fake", "gradient": KERNEL_GRADIENT, "state": "parameter/generator.conv2.weight"}[kind]
    part = getattr(pair.candidate, kind)
    wrong = {**part, name: change(part[name])}
    together = Together(live("float32"), clean(0))
    for role in ("candidate", "reference"):
        bad = replace(pair, **{role: replace(getattr(pair, role), **{kind: wrong})})
        found = Float32Judge(together, referee()).judge(bad)
        assert [one.key for one in found.ensemble if not one.ok and one.difference.fault] == [f"{kind}/{name}"]


def test_results_of_nothing_are_held_to_a_number_and_not_to_their_size() -> None:
    """A sum that cancels exactly has no relative error: what is left of it is weighed by the noise of its terms."""
    zero = np.zeros(2)
    assert _weighed(Difference("x"), 0.0, 0.0, UNIT, zero).ok
    assert not _weighed(Difference("x"), 1.0, 0.0, UNIT, zero).ok
