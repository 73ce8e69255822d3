"""The catalogue of the Julia side: files that redefine methods, with the constants that place and scale the fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.random import Generator

from planted.fault import factor, shuffled
from planted.paths import JULIA

Constants = Mapping[str, Any]
SIZES = {
    "discriminator.conv1": (4, 4, 1, 1),
    "discriminator.conv2": (4, 4, 1, 2),
    "generator.conv1": (5, 5, 2, 4),
    "generator.conv2": (4, 4, 1, 2),
    "generator.conv3": (4, 4, 1, 1),
}
"""Convolutions of the recipe at width 1, by the size of their Flux kernel."""
NORMS = {"norm1": 196, "norm2": 2, "norm3": 1}


@dataclass(frozen=True)
class JuliaFault:
    """A Julia file and how its constants are drawn.

    ``names`` are the causes that name it right; ``first_step`` is the step (from 0) at which it first shows;
    ``recorded`` says that a trace of it is committed.
    """

    name: str
    names: tuple[str, ...]
    what: str
    file: str
    draw: Callable[[Generator], tuple[str, Constants]] = field(repr=False)
    first_step: int = 0
    recorded: bool = True

    def __str__(self) -> str:
        return self.name

    def write(self, rng: Generator, folder: Path) -> tuple[str, list[Path]]:
        """Draw place and strength; ``(both in words, Julia files to include in this order)``."""
        words, constants = self.draw(rng)
        header = folder / "constants.jl"
        header.write_text("".join(f"const {name} = {julia(value)}\n" for name, value in constants.items()))
        return words, [header, JULIA / self.file]


def julia(value: Any) -> str:
    """A constant as a Julia literal."""
    if isinstance(value, Symbol):
        return f":{value}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{julia(key)} => {julia(one)}" for key, one in value.items())
        return f"Dict{{String,Any}}({pairs})"
    if isinstance(value, tuple):
        return f"({', '.join(julia(one) for one in value)},)"
    if isinstance(value, list):
        return f"[{', '.join(julia(one) for one in value)}]"
    return json.dumps(value) if isinstance(value, str) else repr(value)


class Symbol(str):
    """A Julia symbol."""


def one_of(rng: Generator, items: Any) -> Any:
    """One of ``items`` by chance."""
    ordered = list(items)
    return ordered[int(rng.integers(len(ordered)))]


def kernel(asymmetry: float) -> Callable[[Generator], tuple[str, Constants]]:
    """A convolution by chance."""

    def draw(rng: Generator) -> tuple[str, Constants]:
        place = one_of(rng, SIZES)
        return place, {"PLACE": place, "SIZE": SIZES[place], "ASYMMETRY": asymmetry}

    return draw


def exchange(
    what: str, network: str, layers: tuple[str, ...], strength: Callable[[Generator], float] = lambda _: 0.0
) -> Callable[[Generator], tuple[str, Constants]]:
    """A layer by chance and its strength; the order of two channels besides."""

    def draw(rng: Generator) -> tuple[str, Constants]:
        layer, size = one_of(rng, layers), float(strength(rng))
        order = [int(i) + 1 for i in shuffled(rng, 4 if layer == "unflatten" else 2)]
        words = f"{network}.{layer}" + (f" {size:.3g}" if size else "")
        fixed = {"WHAT": what, "NETWORK": network, "LAYER": Symbol(layer), "STRENGTH": size, "ORDER": order}
        return words, fixed

    return draw


def numbers(name: str, value: Callable[[Generator], float]) -> Callable[[Generator], tuple[str, Constants]]:
    """A network by chance and one other number of its Adam."""

    def draw(rng: Generator) -> tuple[str, Constants]:
        network, size = one_of(rng, ("discriminator", "generator")), float(value(rng))
        return f"{network} {name} {size:.3g}", {"NETWORK": network, "LR": 1.0, "BETA1": None, "EPS": 1.0, name: size}

    return draw


def formula(name: str) -> Callable[[Generator], tuple[str, Constants]]:
    """Adam's formula in both networks."""

    def draw(rng: Generator) -> tuple[str, Constants]:
        size = float(10 ** rng.uniform(-5, -2))
        return "both networks" + (f" {size:.1e}" if "decay" in name else ""), {"FORMULA": name, "STRENGTH": size}

    return draw


def frozen(rng: Generator) -> tuple[str, Constants]:
    """A layer with parameters by chance."""
    place = one_of(rng, [*SIZES, "generator.dense", "discriminator.dense", "generator.norm2"])
    network, _, layer = place.partition(".")
    return place, {"NETWORK": network, "LAYER": Symbol(layer)}


def masks(rng: Generator) -> tuple[str, Constants]:
    """Two calls by chance whose patterns change places."""
    one, other = one_of(rng, [("real", "fake"), ("fake", "generator"), ("real", "generator")])
    return f"{one} and {other}", {"MASKS": {one: other, other: one}}


STEP = {"LABELS": (1, 0, 1), "SUM": False, "NARROW": False, "FRESH": False, "OUTSIDE": False}


def step(**changes: Any) -> Callable[[Generator], tuple[str, Constants]]:
    """The published step with ``changes``."""
    return lambda rng: (", ".join(name.lower() for name in changes), {**STEP, **changes})


def swapped(rng: Generator) -> tuple[str, Constants]:
    """The labels of one of the two losses."""
    network = one_of(rng, ("discriminator", "generator"))
    return network, {**STEP, "LABELS": (0, 1, 1) if network == "discriminator" else (1, 0, 0)}


FAULTS: tuple[JuliaFault, ...] = (
    JuliaFault(
        "kernel flipped",
        ("kernel not flipped",),
        "A convolution runs with its kernel turned.",
        "kernel_flipped.jl",
        kernel(0.0),
        recorded=False,
    ),
    JuliaFault(
        "nearly symmetric kernel flipped",
        ("other initial weights",),
        "The same at an asymmetry of 1e-4, which the run's initial weights are given: these are what differs first.",
        "kernel_flipped.jl",
        kernel(1e-4),
    ),
    JuliaFault(
        "channels permuted",
        ("channels permuted",),
        "A layer's channels come in another order.",
        "layer_exchanged.jl",
        exchange("channels", "generator", ("unflatten",)),
        recorded=False,
    ),
    JuliaFault(
        "pixels transposed",
        ("pixels permuted", "channels permuted"),
        "Features count the pixels column by column.",
        "layer_exchanged.jl",
        exchange("pixels", "discriminator", ("flatten",)),
        recorded=False,
    ),
    JuliaFault(
        "running variance biased",
        ("biased running variance",),
        "The running variance divides by n.",
        "running_variance_biased.jl",
        lambda rng: ("every BatchNorm", {}),
    ),
    JuliaFault(
        "BatchNorm momentum",
        ("BatchNorm momentum",),
        "A momentum is off by 1 percent to a factor of 2.",
        "layer_exchanged.jl",
        exchange("momentum", "generator", tuple(NORMS), lambda rng: 0.1 * factor(rng, 1.01, 2)),
        recorded=False,
    ),
    JuliaFault(
        "BatchNorm eps",
        ("BatchNorm eps",),
        "An eps is 2 to 1000 times too large or too small.",
        "layer_exchanged.jl",
        exchange("eps", "generator", tuple(NORMS), lambda rng: 1e-5 * factor(rng, 2, 1000)),
    ),
    JuliaFault(
        "BatchNorm in test mode",
        ("train or eval mode",),
        "A BatchNorm stays in test mode inside the gradient.",
        "layer_exchanged.jl",
        exchange("mode", "generator", tuple(NORMS)),
        recorded=False,
    ),
    JuliaFault(
        "dropout scale",
        ("dropout scale",),
        "What a Dropout keeps is not scaled, or wrongly.",
        "layer_exchanged.jl",
        exchange("dropout", "discriminator", ("drop1", "drop2"), lambda rng: one_of(rng, (1.0, 0.7, 1.5))),
        recorded=False,
    ),
    JuliaFault(
        "masks exchanged",
        ("mask order",),
        "Two calls have each other's dropout patterns.",
        "masks_exchanged.jl",
        masks,
    ),
    JuliaFault(
        "leaky slope",
        ("leaky slope",),
        "A leaky relu's slope is 0.01 to 0.3.",
        "layer_exchanged.jl",
        exchange("leaky slope", "discriminator", ("leaky1", "leaky2"), lambda rng: rng.uniform(0.01, 0.3)),
    ),
    JuliaFault(
        "fault behind a kink",
        ("on/off pattern",),
        "A leaky relu damps its smallest positive inputs too.",
        "layer_exchanged.jl",
        exchange("kink", "discriminator", ("leaky1", "leaky2"), lambda rng: rng.integers(1, 9)),
    ),
    JuliaFault(
        "NaN in one element",
        ("NaN in the candidate", "not finite"),
        "One element of what a layer hands on is NaN.",
        "layer_exchanged.jl",
        exchange("nan", "discriminator", ("flatten", "leaky1"), lambda rng: rng.uniform()),
        recorded=False,
    ),
    JuliaFault(
        "learning rate",
        ("learning rate",),
        "A learning rate is off by 0.1 percent to a factor of 10.",
        "optimiser_numbers.jl",
        numbers("LR", lambda rng: factor(rng, 1.001, 10)),
        recorded=False,
    ),
    JuliaFault(
        "beta1",
        ("beta1",),
        "beta1 is 0 to 0.89.",
        "optimiser_numbers.jl",
        numbers("BETA1", lambda rng: rng.uniform(0, 0.89)),
        recorded=False,
    ),
    JuliaFault(
        "Adam eps",
        ("Adam eps",),
        "eps is 10 to 1000 times too large or too small.",
        "optimiser_numbers.jl",
        numbers("EPS", lambda rng: factor(rng, 10, 1000)),
        recorded=False,
    ),
    JuliaFault(
        "eps inside the root",
        ("Adam eps inside the root",),
        "Adam divides by sqrt(v + eps).",
        "adam_formula.jl",
        formula("eps inside"),
        recorded=False,
    ),
    JuliaFault(
        "no bias correction",
        ("no bias correction",),
        "Adam's moments are used as they are.",
        "adam_formula.jl",
        formula("no correction"),
        recorded=False,
    ),
    JuliaFault(
        "bias correction of the first step",
        ("stale beta powers",),
        "Nothing shows before the second step.",
        "adam_formula.jl",
        formula("first correction"),
        first_step=1,
    ),
    JuliaFault(
        "weight decay",
        ("weight decay",),
        "Gradients carry a share of the weights.",
        "adam_formula.jl",
        formula("weight decay"),
        recorded=False,
    ),
    JuliaFault("layer frozen", ("missing update",), "A layer is never updated.", "layer_frozen.jl", frozen),
    JuliaFault(
        "labels swapped",
        ("labels swapped",),
        "A loss takes real for fake.",
        "train_step.jl",
        swapped,
    ),
    JuliaFault(
        "loss summed",
        ("sum instead of mean",),
        "Losses are sums over the batch.",
        "train_step.jl",
        step(SUM=True),
        recorded=False,
    ),
    JuliaFault(
        "noise as wide as the last batch",
        ("last batch wrong",),
        "Shows only in the last, partial batch.",
        "train_step.jl",
        step(NARROW=True),
        first_step=2,
    ),
    JuliaFault(
        "fresh noise for the generator",
        ("other draws",),
        "The generator's update draws noise of its own.",
        "train_step.jl",
        step(FRESH=True),
        recorded=False,
    ),
    JuliaFault(
        "images from outside the gradient",
        ("gradient missing", "train or eval mode"),
        "The published loop's own defect: the generator never receives a gradient.",
        "train_step.jl",
        step(OUTSIDE=True),
        recorded=False,
    ),
)
