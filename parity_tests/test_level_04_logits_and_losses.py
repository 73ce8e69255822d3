"""Level 4: the losses that Flux recorded are the published formula of the logits that it recorded.

That logits and losses of the port are Flux's is shown with the steps of levels 5 to 7; here neither stack computes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from compared_runs import batches, config, recorded, torch_like

from pygan.draws import Draws
from pygan.records import StepRecord
from pygan.stacks import Stack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace

TRACES = Path(__file__).with_name("traces")


def bce(logits: np.ndarray, label: int) -> np.ndarray:
    """Binary cross-entropy of each raw logit ``(N, 1)`` against ``label``, in Float64: softplus of plus or minus it."""
    return np.logaddexp(0.0, -logits.astype(np.float64) if label else logits.astype(np.float64))


def published(record: StepRecord) -> dict[str, float]:
    real, fake, generator = (record.logits[call] for call in ("real", "fake", "generator"))
    return {
        "discriminator": float(bce(real, 1).mean() + bce(fake, 0).mean()),
        "generator": float(bce(generator, 1).mean()),
    }


def gap(record: StepRecord, formula: dict[str, float]) -> float:
    return max(abs(float(record.loss[name]) / value - 1) for name, value in formula.items())


WITH_LOGITS = [
    ("flux-narrow-float64", 1e-15, 20, {8, 6}),
    ("flux-narrow-float32", 3e-7, 12, {8, 6}),
    ("flux-narrow-as-printed", 3e-7, 2, {8}),
    ("flux-full-digits", 3e-7, 1, {128}),
    ("flux-full-mnist", 3e-7, 1, {128}),
]


@pytest.mark.parametrize(("name", "tolerance", "least", "sizes"), WITH_LOGITS)
def test_recorded_losses_are_the_published_formula_of_the_recorded_logits(
    name: str, tolerance: float, least: int, sizes: set[int]
) -> None:
    records = [record for record in recorded(name) if record.logits]
    assert len(records) >= least
    assert {len(record.logits["real"]) for record in records} == sizes
    assert {len(record.logits["fake"]) for record in records} == {max(sizes)}, "the noise is always a whole batch wide"
    for record in records:
        assert gap(record, published(record)) <= tolerance, f"step {record.step}"


def test_the_ports_losses_are_the_published_formula_of_its_logits() -> None:
    for dtype, tolerance in (("float64", 1e-15), ("float32", 3e-7)):
        torch = TorchStack(config("narrow", dtype))
        for step, batch in enumerate(batches("narrow", 2)):
            record = torch.step(batch, Draws(0).at(step), ("logits",))
            assert gap(record, published(record)) <= tolerance


def test_the_float64_twins_of_recorded_steps_have_the_published_losses_too() -> None:
    trace = recorded("flux-narrow-float32")
    twins = [twin for twin in map(trace.twin, range(trace.training_steps)) if twin is not None]
    assert len(twins) == trace.training_steps
    for twin in twins:
        assert twin.loss["generator"].dtype == np.float64
        assert gap(twin, published(twin)) <= 1e-15, f"step {twin.step}"


@pytest.mark.parametrize("wrong", ["sum", "halved", "labels swapped", "one logit per image counted once", "sigmoid"])
def test_another_formula_would_be_seen(wrong: str) -> None:
    record = recorded("flux-narrow-float64").record(7)
    real, fake, generator = (record.logits[call] for call in ("real", "fake", "generator"))
    formula = {
        "sum": bce(real, 1).sum() + bce(fake, 0).sum(),
        "halved": (bce(real, 1).mean() + bce(fake, 0).mean()) / 2,
        "labels swapped": bce(real, 0).mean() + bce(fake, 1).mean(),
        "one logit per image counted once": np.concatenate([bce(real, 1), bce(fake, 0)]).mean() * 2,
        "sigmoid": bce(1 / (1 + np.exp(-real)), 1).mean() + bce(1 / (1 + np.exp(-fake)), 0).mean(),
    }[wrong]
    assert len(real) != len(fake), "a partial batch, where a mean over all logits is another number"
    assert gap(record, {"discriminator": float(formula)}) > 1e-9
    assert gap(record, {"generator": float(bce(generator, 0).mean())}) > 1e-9


def test_recorded_classifier_loss_is_the_cross_entropy_of_the_drawn_labels() -> None:
    trace = Trace(TRACES / "flux-tiny-classifier")
    turned = trace.header.config["turned"]
    for record in trace:
        if not record.logits:
            continue
        logits = record.logits["images"]
        labels = Draws(trace.header.config["seed"]).at(record.step).keep("turned", (len(logits),), turned).astype(int)
        each = np.logaddexp(logits[:, 0], logits[:, 1]) - logits[np.arange(len(logits)), labels]
        assert gap(record, {"classifier": float(each.mean())}) <= 1e-15
        assert gap(record, {"classifier": float(each.sum())}) > 1e-9


LARGE = 1e6
"""What the discriminator's last weights are multiplied by, so that a sigmoid before the logarithm would overflow."""


def with_large_logits(stack: Stack) -> StepRecord:
    state = stack.state()
    key = "parameter/discriminator.dense.weight"
    stack.load_state({**state, key: state[key] * np.asarray(LARGE, state[key].dtype)})
    return stack.step(batches("narrow", 1)[0], Draws(0), ("logits",))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_losses_of_huge_logits_are_finite_and_right_in_the_port(dtype: str) -> None:
    record = with_large_logits(TorchStack(config("narrow", dtype)))
    assert np.abs(record.logits["real"]).max() > 800, "exp of it overflows"
    assert gap(record, published(record)) <= 3e-7


@pytest.mark.live
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_losses_of_huge_logits_are_finite_and_right_in_live_flux(dtype: str, live_flux) -> None:  # type: ignore[no-untyped-def]
    theirs = with_large_logits(live_flux(config("narrow", dtype)))
    assert np.abs(theirs.logits["real"]).max() > 800
    assert gap(theirs, published(theirs)) <= 3e-7


def test_recorded_first_losses_are_those_of_a_discriminator_that_knows_nothing() -> None:
    for name in ("flux-full-digits", "flux-full-mnist"):
        first = recorded(name).record(0)
        assert float(first.loss["discriminator"]) == pytest.approx(2 * np.log(2), rel=1e-2)
        assert float(first.loss["generator"]) == pytest.approx(np.log(2), rel=1e-2)
        assert torch_like(recorded(name)).config.semantics == "fixed"
