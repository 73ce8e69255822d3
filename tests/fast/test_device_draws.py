"""Draws made on the device are those of ``pygan.draws``, bit for bit, and follow a key that lies on the device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pygan import draws as host
from pygan.draws import Draws
from pygan.errors import ConfigError
from pygan.stacks.fast import device_draws
from pygan.stacks.fast.device_draws import DeviceDraws, fused_philox, philox, signed

CPU = torch.device("cpu")
WORD = st.integers(0, 2**64 - 1)
few = settings(max_examples=60, deadline=None)


def on_device(seed: int, step: int) -> DeviceDraws:
    draws = DeviceDraws(CPU)
    draws.set(seed, step)
    return draws


def same(mine: torch.Tensor, theirs: np.ndarray) -> bool:
    array = mine.numpy()
    return (array.dtype, array.shape) == (theirs.dtype, theirs.shape) and array.tobytes() == theirs.tobytes()


@few
@given(st.lists(WORD, min_size=1, max_size=5), WORD)
def test_products_have_128_bits(values: list[int], factor: int) -> None:
    x = torch.tensor([signed(value) for value in values])
    low, high = device_draws._product(x, factor)
    for value, l, h in zip(values, low.tolist(), high.tolist(), strict=True):  # noqa: E741
        assert (h % 2**64 << 64) + l % 2**64 == value * factor


@few
@given(seed=WORD, stream=st.text(max_size=12), step=WORD, count=st.integers(1, 19))
def test_words_are_the_hosts(seed: int, stream: str, step: int, count: int) -> None:
    mine = on_device(seed, step).words(stream, count).numpy().view(np.uint64)
    assert mine.tolist() == host.words(seed, stream, step, count).tolist()


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 1001])
def test_fields_are_the_hosts(bits: int, count: int) -> None:
    mine = on_device(3, 4).fields("fields", count, bits)
    assert mine.tolist() == host.fields(3, "fields", 4, count, bits).tolist()


@pytest.mark.parametrize("shape", [(1,), (3, 5), (8, 100), (1013, 3), (4, 3, 2, 5)], ids=str)
@pytest.mark.parametrize(("seed", "step"), [(0, 0), (20211008, 7), (2**63 - 1, 2**40), (2**64 - 1, 2**64 - 1)])
def test_numbers_are_the_hosts_bit_for_bit(seed: int, step: int, shape: tuple[int, ...]) -> None:
    mine, theirs = on_device(seed, step), Draws(seed, step)
    assert same(mine.normal("noise", shape), theirs.normal("noise", shape))
    assert same(mine.uniform("noise", shape), theirs.uniform("noise", shape))
    for rate in (0.0, 0.05, 0.3, 0.5, 1 - 2**-20):
        assert same(mine.keep("mask", shape, rate), theirs.keep("mask", shape, rate))


def test_normals_are_the_hosts_over_the_whole_table(monkeypatch: pytest.MonkeyPatch) -> None:
    corners = [(1 << power) + offset for power in range(32) for offset in (-1, 0, 1)]
    values = sorted({value & 0xFFFFFFFF for corner in corners for value in (corner, corner | 1 << 31)})
    field32 = np.concatenate([np.array(values, np.uint32), host.fields(1, "quantiles", 0, 50_000, 32)])
    draws = on_device(0, 0)
    monkeypatch.setattr(draws, "fields", lambda stream, count, bits: torch.from_numpy(field32.astype(np.int64)))
    assert same(draws.normal("any", (len(field32),)), host.normals_from_fields(field32))


def test_the_key_is_read_when_the_numbers_are_drawn() -> None:
    """As in a replay: nobody calls with another step, the tensor has another value."""
    draws = on_device(5, 9)
    first = draws.keep("mask", (7, 9), 0.5)
    draws.advance()
    assert same(draws.keep("mask", (7, 9), 0.5), Draws(5, 10).keep("mask", (7, 9), 0.5))
    draws.step.fill_(9)
    assert torch.equal(draws.keep("mask", (7, 9), 0.5), first)
    draws.set(6, 9)
    assert same(draws.normal("noise", (7, 9)), Draws(6, 9).normal("noise", (7, 9)))


@pytest.mark.parametrize("bad", [-1, 1 << 64])
@pytest.mark.parametrize("name", ["seed", "step"])
def test_a_seed_or_step_outside_64_bits_is_an_error_that_names_it(name: str, bad: int) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must lie in .* got {bad}"):
        DeviceDraws(CPU).set(**{"seed": 0, "step": 0, name: bad})


def test_no_value_is_asked_of_the_device() -> None:
    """torch's meta device has none to give."""
    meta = torch.device("meta")
    draws = DeviceDraws(meta)
    draws.set(1, 2**64 - 1)
    for drawn in (draws.normal("a", (3, 5)), draws.uniform("a", (3, 5)), draws.keep("a", (3, 5), 0.3)):
        assert (drawn.device, tuple(drawn.shape)) == (meta, (3, 5))
    with pytest.raises(RuntimeError):
        draws.step.item()


def broken(*arguments: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("no Triton")


def wrong(*arguments: torch.Tensor) -> torch.Tensor:
    return philox(*arguments) ^ 1


def right(*arguments: torch.Tensor) -> torch.Tensor:
    return philox(*arguments)


@pytest.mark.parametrize(("compiled", "used"), [(broken, False), (wrong, False), (right, True)])
def test_a_compiled_cipher_is_used_only_where_it_runs_and_is_right(
    compiled: Callable[..., torch.Tensor], used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **how: compiled)
    found = fused_philox.__wrapped__(CPU)
    assert (found is not philox) is used
    draws = on_device(3, 4)
    draws._philox = found
    assert draws.fused is used
    assert same(draws.normal("noise", (5, 3)), Draws(3, 4).normal("noise", (5, 3)))
