"""Claim: every draw has the same bits in Python and in Julia."""

from __future__ import annotations

import numpy as np
import pytest
from compared_runs import assert_same_step, batches, config

from pygan.draws import Draws, words
from pygan.errors import WorkerError
from pygan.sketches import sketch
from pygan.stacks.torch_stack import TorchStack

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def worker(live_flux):  # type: ignore[no-untyped-def]
    return live_flux(config("narrow")).worker


def julia(worker, kind: str, seed: int, step: int, stream: str, shape: list[int], **more):  # type: ignore[no-untyped-def]
    return worker.ask("draw", seed=seed, step=step, stream=stream, kind=kind, shape=shape, **more)[1]["draw"]


@pytest.mark.parametrize(("seed", "step"), [(0, 0), (1, 7), (2**63 - 1, 2**40), (123456789, 11724)])
def test_every_kind_of_draw_is_bit_equal(worker, seed: int, step: int) -> None:  # type: ignore[no-untyped-def]
    draws = Draws(seed, step)
    np.testing.assert_array_equal(
        julia(worker, "words", seed, step, "noise", [1001]).view(np.uint64), words(seed, "noise", step, 1001)
    )
    pairs = [
        (julia(worker, "normal", seed, step, "noise", [128, 100]), draws.normal("noise", (128, 100))),
        (julia(worker, "normal", seed, step, "π/ü", [3, 5, 7]), draws.normal("π/ü", (3, 5, 7))),
        (julia(worker, "uniform", seed, step, "init/x", [999]), draws.uniform("init/x", (999,))),
        (julia(worker, "keep", seed, step, "mask", [8, 4, 7, 7], rate=0.3), draws.keep("mask", (8, 4, 7, 7), 0.3)),
        (julia(worker, "permutation", seed, step, "shuffle", [60_000]), draws.permutation("shuffle", 60_000)),
    ]
    for theirs, mine in pairs:
        assert theirs.dtype == mine.dtype
        assert theirs.tobytes() == mine.tobytes()


def test_ten_million_normals_are_bit_equal(worker) -> None:  # type: ignore[no-untyped-def]
    for step in range(10):
        theirs = julia(worker, "normal", 5, step, "noise", [1_000_000])
        assert theirs.tobytes() == Draws(5, step).normal("noise", (1_000_000,)).tobytes()


def test_sketches_agree(worker) -> None:  # type: ignore[no-untyped-def]
    for shape in [(1,), (7,), (3, 4, 5), (64, 1, 4, 4)]:
        x = Draws(3).normal("x", shape)
        theirs = worker.ask("sketch", {"x": x})[1]["sketch"]
        np.testing.assert_allclose(theirs, sketch(x), rtol=1e-12, atol=1e-12)


def test_explicit_draws_override_keyed_ones_in_both_stacks(live_flux) -> None:  # type: ignore[no-untyped-def]
    wanted = config("narrow", "float64")
    flux, torch = live_flux(wanted), TorchStack(wanted)
    batch = batches("narrow", 2)[0]
    given = {
        "noise": Draws(99).normal("noise", (8, 5)),
        "mask/real/discriminator.drop1": np.ones((8, 2, 14, 14), np.bool_),
    }
    theirs = flux.step(batch, Draws(0, 0, given), ("logits", "gradients", "state"))
    mine = torch.step(batch, Draws(0, 0, given), ("logits", "gradients", "state"))
    assert_same_step(mine, theirs)
    flux.initialise()
    keyed = flux.step(batch, Draws(0), ("logits",))
    assert np.abs(keyed.logits["real"] - theirs.logits["real"]).max() > 1e-6, "the given pattern must have been used"
    with pytest.raises(WorkerError, match="draw noise was given with size"):
        flux.step(batch, Draws(0, 0, {"noise": given["noise"][:4]}))
