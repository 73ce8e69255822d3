"""State: all that a training step reads and writes, under canonical names, in PyTorch's layout, as numpy arrays.

Keys are ``group/network.layer.tensor``:

===========================  =====================================================================
``parameter/<path>``         weights, biases, BatchNorm gamma (``weight``) and beta (``bias``)
``buffer/<path>``            BatchNorm ``running_mean`` and ``running_var``
``exp_avg/<path>``           Adam's first moment of that parameter
``exp_avg_sq/<path>``        Adam's second moment
``momentum_buffer/<path>``   what SGD with momentum moves along, b <- momentum b + g (Flux keeps lr b)
``beta_power/<network>``     ``(2,)`` running products beta1^t, beta2^t as Optimisers.jl keeps them, t = next update
``step``                     ``()`` int64, steps taken
===========================  =====================================================================

On disk a state is one safetensors file with the config in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from pygan.errors import StateError
from pygan.files import parse_json, write_bytes

State = dict[str, np.ndarray]

SCHEMA = 1
SLOTS = ("exp_avg", "exp_avg_sq", "momentum_buffer")
"""What optimisers keep of a parameter, in its shape."""


def check_same_layout(given: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], what: str = "state") -> None:
    """Raise ``StateError`` naming every missing, extra, mis-shaped or wrongly typed tensor of ``given``.

    >>> expected = {"step": np.array(3), "buffer/a": np.zeros((6, 5))}
    >>> check_same_layout({"buffer/a": np.zeros((5, 6))}, expected)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pygan.errors.StateError: state does not fit: buffer/a has shape (5, 6), expected (6, 5); step is missing ...
    """
    faults = [f"{key} is missing (expected shape {expected[key].shape})" for key in expected.keys() - given.keys()]
    faults += [f"{key} is not part of this recipe (shape {given[key].shape})" for key in given.keys() - expected.keys()]
    for key in sorted(given.keys() & expected.keys()):
        mine, theirs = given[key], expected[key]
        if mine.shape != theirs.shape:
            faults.append(f"{key} has shape {mine.shape}, expected {theirs.shape}")
        elif mine.dtype != theirs.dtype:
            faults.append(f"{key} has dtype {mine.dtype}, expected {theirs.dtype}; widen() converts a whole state")
    if faults:
        raise StateError(f"{what} does not fit: " + "; ".join(sorted(faults)))


def widen(state: Mapping[str, np.ndarray], dtype: str) -> State:
    """Every float tensor as ``dtype`` (``float32`` or ``float64``); widening is exact, integers stay.

    >>> wide = widen({"parameter/a": np.float32([0.1]), "step": np.array(2)}, "float64")
    >>> wide["parameter/a"].item(), wide["step"].item()
    (0.10000000149011612, 2)
    """
    return {key: value.astype(dtype) if value.dtype.kind == "f" else value for key, value in state.items()}


def save(path: str | Path, state: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> None:
    """Write ``state`` and the ``config`` that made it as one safetensors file, atomically."""
    metadata = {"pygan_state": str(SCHEMA), "config": json.dumps(dict(config))}
    content = to_safetensors({key: np.asarray(value, order="C") for key, value in state.items()}, metadata)
    write_bytes(path, _in_order(content))


def _in_order(content: bytes) -> bytes:
    """The safetensors file ``content`` with its header in the order of names: its writer's order is any."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def load(path: str | Path) -> tuple[State, dict[str, Any]]:
    """Read ``(state, config)`` from a file made by :func:`save`. Raises ``StateError`` naming file and fault."""
    try:
        with safe_open(path, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            state = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - not a dict
    except (OSError, SafetensorError) as error:
        raise StateError(f"cannot read the state in {path}: {error}") from error
    if metadata.get("pygan_state") != str(SCHEMA):
        raise StateError(f"{path} is a safetensors file but not a pygan state of schema {SCHEMA}")
    try:
        return state, dict(parse_json(metadata["config"]))
    except (KeyError, ValueError, TypeError) as error:
        raise StateError(f"cannot read the config of the state in {path}: {error!r}") from error
