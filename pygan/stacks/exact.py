"""What a torch run needs beside its state to go on bit for bit, as arrays under ``exact/``.

=========================================  =================================================================
``exact/generator``, ``generator_cuda``    torch's own generators, where the run draws from them
``exact/tensor/<network>/<i>/<slot>``      what an optimiser keeps of its i-th parameter and the state has not
``exact/number/<network>/<i>/<slot>``      the same where it is a plain number
``exact/group/<network>/<i>/<name>``       numbers of its i-th group (a recipe of one's own may change them)
``exact/buffer/<network>.<path>``          buffers that are no running statistics
=========================================  =================================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pygan.errors import StateError
from pygan.records import Arrays
from pygan.state import SLOTS

PREFIX = "exact/"
IN_STATE = (*SLOTS, "beta_power")


def exact_arrays(
    networks: Mapping[str, nn.Module], optimisers: Mapping[str, Optimizer], native: bool, device: torch.device
) -> Arrays:
    """What the module says, of these ``networks`` and ``optimisers``; generators where the run is ``native``."""
    found: Arrays = {}
    if native:
        found["generator"] = torch.get_rng_state().numpy()
        if device.type == "cuda":
            found["generator_cuda"] = torch.cuda.get_rng_state(device).numpy()
    for name, network in networks.items():
        for path, buffer in network.named_buffers():
            if path.endswith("num_batches_tracked"):
                found[f"buffer/{name}.{path}"] = np.array(buffer.cpu().numpy())
        optimiser = optimisers[name]
        for place, held in _held(optimiser):
            for slot, value in held.items():
                if isinstance(value, Tensor):
                    if slot not in IN_STATE:
                        found[f"tensor/{name}/{place}/{slot}"] = np.array(value.detach().cpu().numpy())
                elif isinstance(value, int | float):
                    found[f"number/{name}/{place}/{slot}"] = np.array(value)
                elif value is not None:
                    raise StateError(
                        f"the optimiser of {name} keeps {slot} as a {type(value).__name__}, "
                        "which no checkpoint can hold"
                    )
        for place, group in enumerate(optimiser.param_groups):
            numbers = {key: value for key, value in group.items() if type(value) in (int, float)}
            found |= {f"group/{name}/{place}/{key}": np.array(value) for key, value in numbers.items()}
    return {f"{PREFIX}{key}": value for key, value in found.items()}


def make_slots(networks: Mapping[str, nn.Module], optimisers: Mapping[str, Optimizer], state: Arrays) -> None:
    """Make the slots of ``state`` that an optimiser makes only at its first step, so that the state can be loaded."""
    for name, network in networks.items():
        for path, x in network.named_parameters():
            for slot in SLOTS:
                if f"{slot}/{name}.{path}" in state:
                    optimisers[name].state[x].setdefault(slot, torch.zeros_like(x))


def restore_exact(networks: Mapping[str, nn.Module], optimisers: Mapping[str, Optimizer], arrays: Arrays) -> None:
    """Put back what :func:`exact_arrays` gave. Raises ``StateError`` naming what has no place."""
    for key, value in arrays.items():
        kind, _, rest = key.removeprefix(PREFIX).partition("/")
        try:
            if kind == "generator":
                torch.set_rng_state(torch.from_numpy(value))
            elif kind == "generator_cuda":
                torch.cuda.set_rng_state(torch.from_numpy(value))
            elif kind == "buffer":
                name, _, path = rest.partition(".")
                networks[name].get_buffer(path).copy_(torch.from_numpy(value))
            else:
                name, place, slot = rest.split("/")
                if kind == "group":
                    optimisers[name].param_groups[int(place)][slot] = value.item()
                else:
                    _put(optimisers[name], int(place), slot, value.item() if kind == "number" else value)
        except (KeyError, ValueError, IndexError, AttributeError, RuntimeError) as error:
            raise StateError(f"{key} of the checkpoint has no place in this run: {error}") from error


def _parameters(optimiser: Optimizer) -> list[Any]:
    return [x for group in optimiser.param_groups for x in group["params"]]


def _held(optimiser: Optimizer) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for place, x in enumerate(_parameters(optimiser)):
        yield place, optimiser.state.get(x, {})


def _put(optimiser: Optimizer, place: int, slot: str, value: Any) -> None:
    x = _parameters(optimiser)[place]
    held = optimiser.state[x]
    if not isinstance(value, np.ndarray):
        held[slot] = value
    elif isinstance(held.get(slot), Tensor):
        held[slot].copy_(torch.from_numpy(value))
    else:  # one that the optimiser makes at its first step; counts stay on the CPU
        tensor = torch.from_numpy(value)
        held[slot] = tensor.to(x.device) if tensor.shape == x.shape else tensor
