"""Hints for losses and for what enters a call, and for tensors that only have their own numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pygan.parity.causes import CAUSES, name_cause
from pygan.parity.evidence import UNKNOWN, Evidence, InputEvidence, LossEvidence

SEEDS = range(3)
LABELS = {"real": 1.0, "fake": 0.0}


def cross_entropy(z: np.ndarray, label: float) -> np.ndarray:
    return np.log1p(np.exp(z)) - label * z


def slope(z: np.ndarray, label: float) -> np.ndarray:
    return 1 / (1 + np.exp(-z)) - label


def logits(seed: int) -> dict[str, np.ndarray]:
    r = np.random.default_rng(seed)
    return {"real": r.standard_normal((6, 1)) + 0.5, "fake": r.standard_normal((8, 1)) - 0.5}


Loss = Callable[[dict[str, np.ndarray]], float]


def total(**labels: float) -> Loss:
    return lambda z: sum(float(cross_entropy(z[name], label).mean()) for name, label in {**LABELS, **labels}.items())


SLIPS: list[tuple[str, Loss]] = [
    ("sum instead of mean", lambda z: sum(float(cross_entropy(z[name], LABELS[name]).sum()) for name in z)),
    ("sum instead of mean", lambda z: float(cross_entropy(z["real"], 1).sum() + cross_entropy(z["fake"], 0).mean())),
    ("labels swapped", total(real=0.0, fake=1.0)),
    ("labels swapped", total(fake=1.0)),
    ("loss term missing", lambda z: float(cross_entropy(z["real"], 1).mean())),
    ("loss term missing", lambda z: float(cross_entropy(z["fake"], 0).mean())),
    ("loss scaled", lambda z: total()(z) / 2),
    ("label smoothing", total(real=0.9)),
    ("label smoothing", total(fake=0.1)),
    ("some labels flipped", lambda z: total()(z) + z["real"][2].item() / 6),
    ("some labels flipped", lambda z: total()(z) - (z["fake"][0].item() + z["fake"][5].item()) / 8),
    ("least-squares loss", lambda z: float(((z["real"] - 1) ** 2).mean() + (z["fake"] ** 2).mean())),
    ("least-squares loss", lambda z: float(((z["real"] - 1) ** 2).mean() + (z["fake"] ** 2).mean()) / 2),
    ("saturating loss", lambda z: -float(cross_entropy(z["real"], 0).mean() + cross_entropy(z["fake"], 1).mean())),
    ("Wasserstein loss", lambda z: float(z["fake"].mean() - z["real"].mean())),
    ("hinge loss", lambda z: float(np.maximum(0, 1 - z["real"]).mean() + np.maximum(0, 1 + z["fake"]).mean())),
    ("unknown cause", lambda z: total()(z) * 1.234),
    ("unknown cause", lambda z: total()(z) + 0.01),
    ("unknown cause", total(real=0.87)),  # one number cannot tell an unusual label from an unusual factor
]


def loss_evidence(z: dict[str, np.ndarray], candidate: float, reference: float) -> LossEvidence:
    return LossEvidence("loss/discriminator", 0, np.array(candidate), np.array(reference), 1e-10, logits=z)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "slip"), SLIPS)
def test_loss(name: str, slip: Loss, seed: int) -> None:
    z = logits(seed)
    cause = name_cause(loss_evidence(z, slip(z), total()(z)))
    assert cause.name == name, cause
    assert cause.name in CAUSES
    assert name_cause(loss_evidence(z, total()(z) * (1 + 1e-15), total()(z))) == UNKNOWN
    if name not in ("unknown cause",):
        assert name_cause(loss_evidence(z, slip(z) * 1.000345, total()(z))) == UNKNOWN


def test_a_mean_where_the_reference_sums() -> None:
    z = logits(0)
    sums = sum(float(cross_entropy(z[name], LABELS[name]).sum()) for name in z)
    assert name_cause(loss_evidence(z, total()(z), sums)).name == "mean instead of sum"


def test_a_loss_that_is_not_known_is_left_alone() -> None:
    z = logits(0)
    hinge = float(np.maximum(0, 1 - z["real"]).mean())
    assert name_cause(loss_evidence(z, 2 * hinge, hinge)) == UNKNOWN


@pytest.mark.parametrize("seed", SEEDS)
def test_gradient_at_the_logits(seed: int) -> None:
    z = logits(seed)["real"]
    reference = slope(z, 1.0) / 6
    evidence = LossEvidence(
        "activation_gradient/real/discriminator.dense", 0, reference, reference, 1e-10, logits={"real": z}
    )

    def named(candidate: np.ndarray) -> str:
        return str(name_cause(replace(evidence, candidate=candidate)))

    assert named(reference) == str(UNKNOWN)
    assert named(slope(z, 1.0)) == "sum instead of mean"
    assert named(slope(z, 0.0) / 6) == "labels swapped"
    assert named(0 * reference) == "loss term missing (without real)"
    assert named(0.5 * reference) == "loss scaled (times 0.5)"
    assert named(1.234 * reference) == "loss scaled (times 1.234)"
    assert named(slope(z, 0.87) / 6) == "label smoothing (label 0.87 instead of 1)"
    flipped = np.where(np.arange(6)[:, None] == 2, slope(z, 0.0) / 6, reference)
    assert named(flipped) == "some labels flipped (in the term of real: 1 of 6 samples)"
    assert named((z - 1) / 3) == "least-squares loss (of raw logits)"
    assert named(-np.ones_like(z) / 6) == "Wasserstein loss"
    assert named(-slope(z, 0.0) / 6) == "saturating loss"
    assert named(np.where(z < 1, -1.0, 0.0) / 6) in ("hinge loss", "Wasserstein loss", str(UNKNOWN))
    assert named(-reference) == "sign flipped"
    assert named(reference[::-1]) == "samples permuted (in reverse order)"
    assert named(slope(z, 0.87) / 5) == str(UNKNOWN)


@pytest.mark.parametrize("seed", SEEDS)
def test_softmax(seed: int) -> None:
    r = np.random.default_rng(seed)
    z, label = r.standard_normal((8, 2)), r.integers(0, 2, 8)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    hot = np.eye(2)[label]
    gradient = (p - hot) / 8
    evidence = LossEvidence("activation_gradient/real/c.dense", 0, gradient, gradient, 1e-10, logits={"real": z})
    assert name_cause(evidence) == UNKNOWN
    assert name_cause(replace(evidence, candidate=8 * gradient)).name == "sum instead of mean"
    assert name_cause(replace(evidence, candidate=(p - (1 - hot)) / 8)).name == "labels swapped"
    losses = {name: -np.log((p * row).sum(1)) for name, row in (("right", hot), ("swapped", 1 - hot))}
    scalar = replace(loss_evidence({"real": z}, 0, losses["right"].mean()), key="loss/classifier")
    for name, value in (
        ("sum instead of mean", losses["right"].sum()),
        ("labels swapped", losses["swapped"].mean()),
        ("unknown cause", 1.3 * losses["right"].mean()),
    ):
        assert name_cause(replace(scalar, candidate=np.array(value))).name == name


# --- inputs ------------------------------------------------------------------------------------------------------


def images(seed: int) -> InputEvidence:
    r = np.random.default_rng(seed)
    x = r.integers(0, 256, (6, 1, 5, 5)) / 127.5 - 1
    others = {name: r.standard_normal(x.shape) for name in ("noise@2", "noise@3", "fake/discriminator.input")}
    return InputEvidence("activation/real/discriminator.input", 3, x, x, 1e-10, others=others)


INPUTS: list[tuple[str, Callable[[InputEvidence], np.ndarray]]] = [
    ("other draws (noise@2 entered)", lambda e: e.others["noise@2"]),
    ("last batch wrong (4 samples instead of 6)", lambda e: e.reference[:4]),
    (
        "last batch wrong (8 samples instead of 6, filled with zeros)",
        lambda e: np.concatenate([e.reference, 0 * e.reference[:2]]),
    ),
    (
        "last batch wrong (8 samples instead of 6, filled with the batch again)",
        lambda e: np.concatenate([e.reference, e.reference[:2]]),
    ),
    (
        "last batch wrong (samples from number 4 on replaced by zeros)",
        lambda e: e.reference * (np.arange(6) < 4).reshape(-1, 1, 1, 1),
    ),
    ("images scaled otherwise", lambda e: (e.reference + 1) / 2),
    ("images scaled otherwise", lambda e: 255 * (e.reference + 1) / 2),
    ("images scaled otherwise", lambda e: -e.reference),
    ("samples permuted", lambda e: e.reference[[1, 0, 2, 5, 4, 3]]),
    ("images transposed", lambda e: e.reference.swapaxes(2, 3)),
    ("images flipped (in x)", lambda e: e.reference[..., ::-1]),
    ("images flipped (in y)", lambda e: e.reference[..., ::-1, :]),
    ("images flipped (in x and y)", lambda e: e.reference[..., ::-1, ::-1]),
    ("unknown cause", lambda e: e.reference + 0.1 * e.others["noise@2"]),
    ("unknown cause", lambda e: e.others["noise@2"][:4]),
    ("unknown cause", lambda e: ((e.reference + 1) / 2) ** 2),
    ("unknown cause", lambda e: e.reference),
]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "slip"), INPUTS)
def test_inputs(name: str, slip: Callable[[InputEvidence], np.ndarray], seed: int) -> None:
    evidence = images(seed)
    cause = name_cause(replace(evidence, candidate=slip(evidence)))
    assert str(cause).startswith(name)
    assert cause.name in CAUSES


def test_noise_vectors_are_no_images() -> None:
    r = np.random.default_rng(0)
    noise = r.standard_normal((8, 10))
    evidence = InputEvidence("activation/sample/generator.input", 0, 2 * noise, noise, 1e-10, others={})
    assert name_cause(evidence).name == "scaled output"
    assert name_cause(replace(evidence, candidate=noise[::-1])).name == "samples permuted"
    assert name_cause(replace(evidence, candidate=noise[:, ::-1])).name == "channels permuted"
    assert (
        name_cause(replace(evidence, candidate=r.permutation(noise.ravel()).reshape(8, 10))).name == "elements permuted"
    )


# --- any tensor --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("single", [False, True])
def test_many_slices_in_another_order(single: bool) -> None:
    """As many features as a dense layer before a reshape, some of them equal (relu off everywhere)."""
    r = np.random.default_rng(0)
    reference = r.standard_normal((8, 3000))
    reference[:, 17:400:9] = 0
    order = np.arange(3000).reshape(60, 50).T.ravel()  # a reshape with its axes in the other order
    candidate = reference[:, order]
    if single:
        candidate = candidate.astype(np.float32).astype(float)
    evidence = Evidence("activation/real/net.dense", 0, candidate, reference, 1e-4 if single else 1e-10)
    assert name_cause(evidence).name == "channels permuted"
    assert name_cause(replace(evidence, candidate=candidate + 0.01)) == UNKNOWN


@pytest.mark.parametrize("single", [False, True])
def test_a_reshape_in_another_memory_order(single: bool) -> None:
    features = np.random.default_rng(0).standard_normal((8, 6 * 5 * 5))
    candidate = features.reshape(8, 5, 5, 6).transpose(0, 3, 1, 2)
    if single:
        candidate = candidate.astype(np.float32).astype(float)
    key, tolerance = "activation/sample/generator.unflatten", 1e-4 if single else 1e-10
    cause = name_cause(Evidence(key, 0, candidate, features.reshape(8, 6, 5, 5), tolerance))
    assert str(cause) == "elements permuted (in the same way in every sample)"


def test_sorted_noise_is_no_permutation() -> None:
    """Sorted, any two large samples of one law look alike: single elements are matched only where that cannot be."""
    r = np.random.default_rng(0)
    reference = r.standard_normal(200_000)
    for candidate in (r.standard_normal(200_000), reference + 1e-5 * r.standard_normal(200_000)):
        assert name_cause(Evidence("gradient/a.weight", 0, candidate, reference, 1e-4)) == UNKNOWN


def test_shapes_and_empty_tensors() -> None:
    reference = np.ones((3, 4))
    assert name_cause(Evidence("activation/a/b.c", 0, np.ones((4, 3)), reference)) == UNKNOWN
    assert name_cause(Evidence("activation/a/b.c", 0, np.ones((3, 5)), reference)) == UNKNOWN
    assert name_cause(Evidence("activation/a/b.c", 0, np.ones((0, 4)), np.ones((0, 4)))) == UNKNOWN
    assert name_cause(Evidence("activation/a/b.c", 0, 0 * reference, 0 * reference)) == UNKNOWN
    assert name_cause(Evidence("loss/a", 0, np.array(2.0), np.array(1.0))) == UNKNOWN


def test_every_name_has_its_sentence() -> None:
    for name, sentence in CAUSES.items():
        assert name and sentence.endswith(".") and len(sentence) < 120
