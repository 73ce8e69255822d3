"""Adam that nobody reads on the host is Optimisers.jl's Adam, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pygan.errors import ConfigError
from pygan.recipes.adam import OptimisersAdam
from pygan.stacks.fast.device_adam import DeviceAdam


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_adam_on_the_device_is_optimisers_adam_bit_for_bit(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4, 2, 2), (7,), (5, 3)]
    start = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    mine, theirs = ([nn.Parameter(x.clone()) for x in start] for _ in range(2))
    plain = OptimisersAdam(theirs, 1e-2, (0.9, 0.999), 1e-8)
    device = DeviceAdam.like(OptimisersAdam(mine, 1e-2, (0.9, 0.999), 1e-8))
    for step in range(20):
        gradients = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
        for xs in (mine, theirs):
            for x, gradient in zip(xs, gradients, strict=True):
                x.grad = None if step == 7 else gradient.clone()
        assert plain.step() is None and device.step() is None
        for x, y in zip(mine, theirs, strict=True):
            assert torch.equal(x, y)
            for name, value in plain.state[y].items():
                assert torch.equal(device.state[x][name], value), name
    assert plain.step(lambda: 2.5) == device.step(lambda: 2.5) == 2.5


def test_adam_on_the_device_updates_all_or_none() -> None:
    xs = [nn.Parameter(torch.ones(2)) for _ in range(3)]
    adam = DeviceAdam(xs, 1e-2, (0.9, 0.999), 1e-8)
    xs[0].grad = torch.ones(2)
    with pytest.raises(ConfigError, match="2 of 3 parameters of a network have no gradient"):
        adam.step()
    assert all(torch.equal(x, torch.ones(2)) for x in xs)


@pytest.mark.parametrize("kind", ["another", "two groups"])
def test_another_optimiser_has_no_graph_form(kind: str) -> None:
    xs = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    other: Any = torch.optim.SGD(xs, 0.1)
    if kind == "two groups":
        other = OptimisersAdam(xs[:1], 1e-2, (0.9, 0.999), 1e-8)
        other.add_param_group({"params": xs[1:]})
    with pytest.raises(ConfigError, match="the graph step has no form of"):
        DeviceAdam.like(other)
