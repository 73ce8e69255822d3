"""Claim: the layout table is right, proven by pushing one-hot weights through real layers of both stacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compared_runs import config
from torch import nn
from torch.nn import functional as F

from pygan.draws import Draws

pytestmark = pytest.mark.live

CASES = {
    "dense": dict(weight=(3, 4), x=(2, 4), stride=1, pad=0, apply=lambda x, w, s, p: F.linear(x, w)),
    "conv": dict(
        weight=(3, 2, 3, 4), x=(2, 2, 6, 7), stride=2, pad=1, apply=lambda x, w, s, p: F.conv2d(x, w, None, s, p)
    ),
    "conv_transpose": dict(
        weight=(2, 3, 4, 3),
        x=(2, 2, 5, 6),
        stride=2,
        pad=1,
        apply=lambda x, w, s, p: F.conv_transpose2d(x, w, None, s, p),
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_one_hot_weights_give_the_same_output_in_both_stacks(kind: str, live_flux) -> None:  # type: ignore[no-untyped-def]
    case = CASES[kind]
    worker = live_flux(config("narrow", "float64")).worker
    x = Draws(1).normal(f"x/{kind}", case["x"]).astype(np.float64)
    for place in range(int(np.prod(case["weight"]))):
        weight = np.zeros(case["weight"])
        weight.flat[place] = 1.0
        _, answer = worker.ask(
            "apply_layer", {"weight": weight, "x": x}, kind=kind, stride=case["stride"], pad=case["pad"]
        )
        mine = case["apply"](torch.from_numpy(x), torch.from_numpy(weight), case["stride"], case["pad"]).numpy()
        np.testing.assert_allclose(answer["y"], mine, rtol=0, atol=1e-15, err_msg=f"{kind} weight {place}")
        np.testing.assert_array_equal(answer["round_trip"], weight)


def test_an_unflipped_kernel_would_be_seen(live_flux) -> None:  # type: ignore[no-untyped-def]
    worker = live_flux(config("narrow", "float64")).worker
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False, dtype=torch.float64)
    x = Draws(1).normal("x", (1, 1, 5, 5)).astype(np.float64)
    weight = layer.weight.detach().numpy()
    flipped = np.ascontiguousarray(weight[:, :, ::-1, ::-1])
    _, answer = worker.ask("apply_layer", {"weight": flipped, "x": x}, kind="conv", stride=1, pad=1)
    assert np.abs(answer["y"] - layer(torch.from_numpy(x)).detach().numpy()).max() > 1e-3
