"""Global settings of the calling program change no result of a torch stack and stay as they were."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch

from pygan.data import load
from pygan.recipes.flux_tutorial import FluxTutorialConfig
from pygan.stacks.choose import make_stack
from pygan.training import train

SETTINGS = (
    torch.get_default_dtype,
    torch.get_default_device,
    torch.get_num_threads,
    torch.is_grad_enabled,
    torch.is_inference_mode_enabled,
    torch.are_deterministic_algorithms_enabled,
    torch.get_float32_matmul_precision,
    lambda: torch.is_autocast_enabled("cpu"),
)


@contextlib.contextmanager
def setting(change: Callable[[Any], object], value: Any, back: Any) -> Iterator[None]:
    change(value)
    try:
        yield
    finally:
        change(back)


FOREIGN: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "default dtype float64": lambda: setting(torch.set_default_dtype, torch.float64, torch.float32),
    "default dtype bfloat16": lambda: setting(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "default device meta": lambda: setting(torch.set_default_device, "meta", None),
    "device context": lambda: torch.device("meta"),
    "other thread count": lambda: setting(torch.set_num_threads, 3, torch.get_num_threads()),
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "deterministic": lambda: setting(torch.use_deterministic_algorithms, True, False),
    "anomaly mode": torch.autograd.detect_anomaly,
    "seeded": lambda: setting(torch.manual_seed, 5, 0),
}


def run(name: str, dtype: str) -> dict[str, np.ndarray]:
    """State and pictures after three steps."""
    config = FluxTutorialConfig(**{**FluxTutorialConfig.narrow, "threads": 1, "dtype": dtype})
    stack = make_stack(name, config)
    stack.initialise()
    *_, last = train(stack, load("digits", limit=38), 3, picture_every=2)
    pictures = {f"pictures/{key}": value for key, value in last.pictures.items()}
    restored = make_stack(name, config)
    restored.restore(stack.checkpoint())
    return {**restored.state(), **pictures}


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("name", ["torch", "torch-fast"])
def test_a_setting_of_the_calling_program_changes_nothing_and_stays(
    name: str, foreign: str, same_arrays: Callable[..., None]
) -> None:
    expected = run(name, "float32")
    with FOREIGN[foreign]():
        before = [read() for read in SETTINGS]
        got = run(name, "float32")
        assert [read() for read in SETTINGS] == before
    same_arrays(got, expected)


def test_products_of_fewer_bits_are_a_warning() -> None:
    config = FluxTutorialConfig(**{**FluxTutorialConfig.narrow, "threads": 1})
    assert "warning" not in make_stack("torch", config).describe()
    with setting(torch.set_float32_matmul_precision, "medium", "highest"):
        described = make_stack("torch", config).describe()
    assert described["matmul_precision"] == "medium" and "fewer bits" in described["warning"]
