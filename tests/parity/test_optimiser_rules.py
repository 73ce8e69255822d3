"""Recipes with any optimiser that both stacks have: what is kept, what agrees, what a wrong number is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from parity_runs import built_by, config, of_kind
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from pygan.data import load
from pygan.draws import Draws
from pygan.parity.report import Report
from pygan.parity.run import compare_runs
from pygan.schedule import Schedule
from pygan.stacks.optimiser_state import beta_powers, numbers_of, set_beta_powers
from pygan.stacks.torch_stack import TorchStack

Rule = Callable[[Any], Optimizer]
RULES: dict[str, Rule] = {
    "Adam": lambda xs: Adam(xs, lr=2e-4, betas=(0.5, 0.9), eps=1e-6),
    "Adam with weight decay": lambda xs: Adam(xs, lr=2e-4, weight_decay=0.01),
    "AdamW": lambda xs: AdamW(xs, lr=2e-4, weight_decay=0.01),
    "SGD": lambda xs: SGD(xs, lr=0.1),
    "SGD with weight decay": lambda xs: SGD(xs, lr=0.1, weight_decay=0.01),
    "momentum": lambda xs: SGD(xs, lr=0.1, momentum=0.9),
    "Nesterov": lambda xs: SGD(xs, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
}


def with_rule(make: Rule) -> type[TorchStack]:
    """The narrow recipe with another optimiser for each network."""

    def optimisers(networks: dict[str, nn.Module], _: Any) -> dict[str, Optimizer]:
        return {name: make(network.parameters()) for name, network in networks.items()}

    return built_by(lambda networks: None, optimisers)


@pytest.mark.parametrize("name", RULES)
def test_a_state_is_whole_before_the_first_step_and_continues_the_run_bit_by_bit(name: str) -> None:
    stacks = [with_rule(RULES[name])(config("float64")) for _ in range(2)]
    schedule, draws = Schedule(load("digits", limit=14).images, 8, Draws(0)), Draws(0)
    first = stacks[0].state()
    stacks[0].step(schedule[0], draws)
    assert first.keys() == stacks[0].state().keys()
    stacks[1].load_state(stacks[0].state())
    for stack in stacks:
        stack.step(schedule[1], draws.at(1))
    one, other = (stack.state() for stack in stacks)
    assert all(np.array_equal(one[key], other[key]) for key in one)


LEVELS = [1, 4, 5, 6, 7]


def compared(candidate: Rule, reference: Rule, steps: int = 2) -> Report:
    return compare_runs(of_kind(with_rule(candidate)), of_kind(with_rule(reference)), steps, LEVELS)


@pytest.mark.parametrize("name", ["AdamW", "SGD", "Nesterov"])
def test_a_recipe_with_this_rule_agrees_with_itself_in_another_order_of_operations(name: str) -> None:
    assert compared(RULES[name], foreach(RULES[name])).verdict == "agree"


def foreach(make: Rule) -> Rule:
    """The same rule in torch's other implementation."""

    def made(xs: Any) -> Optimizer:
        optimiser = make(xs)
        for group in optimiser.param_groups:
            group["foreach"] = True
        return optimiser

    return made


WRONG: dict[str, tuple[Rule, Rule, str]] = {
    "rate": (RULES["SGD"], lambda xs: SGD(xs, lr=0.11), "learning rate"),
    "momentum": (RULES["momentum"], lambda xs: SGD(xs, lr=0.1, momentum=0.8), "momentum"),
    "Nesterov's": (RULES["momentum"], lambda xs: SGD(xs, lr=0.1, momentum=0.9, nesterov=True), "momentum"),
    "decay": (RULES["SGD"], RULES["SGD with weight decay"], "weight decay"),
    "decay of Adam": (lambda xs: Adam(xs, lr=2e-4), RULES["Adam with weight decay"], "weight decay"),
    "decay of AdamW": (lambda xs: Adam(xs, lr=2e-4), RULES["AdamW"], "weight decay"),
    "eps": (RULES["Adam"], lambda xs: Adam(xs, lr=2e-4, betas=(0.5, 0.9), eps=1e-4), "Adam eps"),
}

QUICK = ("rate", "Nesterov's", "decay of AdamW")


@pytest.mark.parametrize(
    "what", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in WRONG]
)
def test_a_wrong_number_of_any_rule_is_named(what: str) -> None:
    right, wrong, cause = WRONG[what]
    report = compared(wrong, right, steps=3)
    assert report.verdict == "differs"
    assert report.diagnosis is not None and report.diagnosis.cause.name == cause, str(report.diagnosis)


def test_an_optimiser_of_another_kind_has_other_slots() -> None:
    report = compared(RULES["SGD"], RULES["momentum"])
    (row,) = (row for row in report.rows if row.verdict == "differs")
    assert "momentum_buffer/discriminator.conv1.bias: missing in the candidate" in row.reason


def test_numbers_say_where_weight_decay_enters() -> None:
    x = [nn.Parameter(torch.ones(2))]
    assert numbers_of(AdamW(x, weight_decay=0.1))["decoupled"] == 1
    assert numbers_of(Adam(x, weight_decay=0.1))["decoupled"] == 0
    assert numbers_of(SGD(x, lr=1)) == {"lr": 1, "momentum": 0, "nesterov": 0}


@pytest.mark.parametrize("count", [1, 2, 77])
def test_the_count_of_torchs_adam_comes_back_from_the_products_of_its_betas(count: int) -> None:
    x = nn.Parameter(torch.ones(2))
    optimiser = Adam([x])
    optimiser.state[x] = {"step": torch.tensor(0.0)}
    set_beta_powers(optimiser, np.array([0.9, 0.999]) ** count)
    assert float(optimiser.state[x]["step"]) == count - 1
    found = beta_powers(optimiser)
    assert found is not None and np.allclose(found, np.array([0.9, 0.999]) ** count)
    assert beta_powers(SGD([x], lr=1)) is None
