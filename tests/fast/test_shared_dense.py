"""The dense layer that two calls of a step share gives what two computations give, and never a stale value."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pygan.stacks.fast.dense import SharedLinear
from pygan.stacks.fast.layers import fast_network


@pytest.fixture
def pair() -> tuple[nn.Linear, SharedLinear]:
    torch.manual_seed(0)
    plain = nn.Linear(5, 7, dtype=torch.float64)
    (shared,) = fast_network(nn.Sequential(plain))
    assert type(shared) is SharedLinear and shared.weight is plain.weight and shared.bias is plain.bias
    return plain, shared


def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every product that is computed."""
    calls: list[int] = []
    whole = F.linear
    monkeypatch.setattr(F, "linear", lambda *given: calls.append(1) or whole(*given))
    return calls


def kept_call(layer: SharedLinear, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return layer(x)


@pytest.mark.parametrize("bias", [True, False])
def test_the_second_call_has_the_same_bits_and_gradients(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(5, 7, bias=bias, dtype=torch.float64)
    (shared,) = fast_network(nn.Sequential(plain))
    x, gradient = torch.randn(4, 5, dtype=torch.float64).requires_grad_(), torch.randn(4, 7, dtype=torch.float64)
    first = kept_call(shared, x)
    calls = computed(monkeypatch)
    second = shared(x)
    assert not calls and torch.equal(first, second) and not first.requires_grad
    mine = torch.autograd.grad(second, [x, *plain.parameters()], gradient)
    theirs = torch.autograd.grad(plain(x), [x, *plain.parameters()], gradient)
    assert all(torch.allclose(*one, rtol=1e-14) for one in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("change", ["input", "another input", "weight", "bias", "result", "told", "once only"])
def test_what_has_changed_since_is_computed_anew(change: str, pair: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, shared = pair
    x = torch.randn(4, 5, dtype=torch.float64)
    first = kept_call(shared, x)
    with torch.no_grad():
        if change == "input":
            x.mul_(2)
        elif change == "another input":
            x = x.clone()
        elif change == "result":
            first.mul_(2)
        elif change == "told":
            shared.weight.data.mul_(2)  # behind torch's back
            shared.forget()
        elif change == "once only":
            shared(x)
        else:
            getattr(shared, change).mul_(2)
    calls = computed(monkeypatch)
    second = shared(x)
    assert calls == [1] and torch.equal(second, plain(x))


def test_a_call_with_gradients_keeps_nothing(pair: tuple) -> None:
    _, shared = pair
    shared(torch.randn(4, 5, dtype=torch.float64))
    assert shared._kept is None


def test_only_the_first_layer_is_shared_and_only_where_asked_for() -> None:
    chain = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    assert [type(one) for one in fast_network(chain)] == [SharedLinear, nn.ReLU, nn.Linear]
    assert type(fast_network(chain, ())[0]) is nn.Linear
