"""Claim: fed the same gradients, the port's Adam is Optimisers.jl's: moments and beta powers bit for bit, updates to
an ulp (torch's Float32 square root on the CPU is not correctly rounded, Julia's is)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from compared_runs import recorded

from pygan.recipes.adam import OptimisersAdam
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig


@pytest.mark.parametrize("name", ["flux-narrow-float32", "flux-narrow-float64"])
def test_every_recorded_update_agrees(name: str) -> None:
    trace = recorded(name)
    config = FluxTutorialConfig.from_dict(trace.header.config)
    betas = (config.constant(config.beta1), config.constant(config.beta2))
    updates = 0
    for step in trace.steps[:-1]:
        before, record = trace.state_before(step), trace.record(step)
        if not record.gradient:
            continue
        for key, gradient in record.gradient.items():
            update, _, path = key.rpartition("/")
            network = path.partition(".")[0]
            assert update == network, "each network has one update"
            x = torch.nn.Parameter(torch.from_numpy(before[f"parameter/{path}"].copy()))
            rate = config.constant(getattr(config, f"{network}_lr"))
            adam = OptimisersAdam([x], rate, betas, config.constant(config.adam_eps))
            for slot in ("exp_avg", "exp_avg_sq"):
                adam.state[x][slot].copy_(torch.from_numpy(before[f"{slot}/{path}"]))
            adam.state[x]["beta_power"].copy_(torch.from_numpy(before[f"beta_power/{network}"]))
            x.grad = torch.from_numpy(gradient)
            adam.step()
            theirs, start = record.state[f"parameter/{path}"], before[f"parameter/{path}"]
            ulp = 4 * np.finfo(theirs.dtype).eps * np.abs(theirs - start) + np.spacing(np.abs(theirs))
            assert (np.abs(x.detach().numpy() - theirs) <= ulp).all(), f"step {step}: {path}"
            expected = {
                f"exp_avg/{path}": adam.state[x]["exp_avg"],
                f"exp_avg_sq/{path}": adam.state[x]["exp_avg_sq"],
                f"beta_power/{network}": adam.state[x]["beta_power"],
            }
            for key, value in expected.items():
                np.testing.assert_array_equal(record.state[key], value.numpy(), err_msg=f"step {step}: {key}")
            updates += 1
    assert updates >= 16 * 10 and updates % 16 == 0


def test_torch_own_adam_is_not_bit_equal() -> None:
    """Why the recipe has its own: torch's bias correction comes from Python doubles, visible from step 2 on."""
    trace = recorded("flux-narrow-float32")
    before, record = trace.state_before(1), trace.record(1)
    path = "generator.dense.weight"
    x = torch.nn.Parameter(torch.from_numpy(before[f"parameter/{path}"].copy()))
    adam = torch.optim.Adam([x], lr=2e-4)
    slots = {slot: torch.from_numpy(before[f"{slot}/{path}"].copy()) for slot in ("exp_avg", "exp_avg_sq")}
    adam.state[x] = {"step": torch.tensor(1.0), **slots}
    x.grad = torch.from_numpy(record.gradient[f"generator/{path}"])
    adam.step()
    moved = record.state[f"parameter/{path}"] - before[f"parameter/{path}"]
    gap = np.abs(x.detach().numpy() - record.state[f"parameter/{path}"]).max() / np.abs(moved).max()
    assert 1e-7 < gap < 1e-4
