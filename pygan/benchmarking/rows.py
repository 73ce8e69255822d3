"""Rows: the ways of running a recipe that are compared, what each claims to be, and what it must not be beside."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from pygan.errors import ConfigError, PyganError
from pygan.stacks.fast import CHANGES

TUNED = ("gc", "masks", "norm", "weights", "unused", "patches", "leaky", "fourier")
"""The changes of ``julia/src/tuned.jl``, in the order in which their gain is reported."""


@dataclass(frozen=True)
class Row:
    """One way of running a recipe.

    ``stack``: ``torch`` or ``flux``. ``randomness`` and ``device`` as in the config. ``precision``: the class of the
    arithmetic, ``float32``, ``tf32`` or ``bf16``. ``pure_julia``: Flux in a Julia without Python, the only way in
    which several Julia threads are timed. ``julia_threads`` and ``blas_threads``: 0 for what the measurement finds
    best (``best_threads``). ``changes``: of the idiomatic step, by name; None for none. ``environment``: variables of
    the row's process, such as caps on the instruction set. ``graph``: steps are replays of a CUDA graph.
    """

    name: str
    stack: str
    about: str
    randomness: str = "keyed"
    device: str = "cpu"
    precision: str = "float32"
    pure_julia: bool = False
    best_threads: bool = False
    julia_threads: int = 1
    changes: tuple[str, ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    graph: bool = False

    def replace(self, **changes: Any) -> Row:
        """A copy with ``changes``."""
        return dataclasses.replace(self, **changes)


ROWS: Mapping[str, Row] = {
    row.name: row
    for row in (
        Row("torch-eager", "torch", "PyTorch as one writes it, noise and dropout from its own generator", "native"),
        Row("torch-eager-injected", "torch", "the same with every random number drawn from the run's key"),
        Row(
            "torch-tuned", "torch", "the fast step: the same parameters and draws, computed in faster forms",
            changes=CHANGES,
        ),
        Row("flux-native", "flux", "Flux as one writes it, noise and dropout from Julia's own generator", "native"),
        Row("flux", "flux", "Flux on its default of one Julia thread, BLAS on all cores, keyed random numbers"),
        Row(
            "flux-threaded", "flux", "the same code in pure Julia on its best setting of Julia and BLAS threads",
            pure_julia=True, best_threads=True,
        ),
        Row(
            "flux-tuned", "flux", "the same parameters and draws, the step in faster forms, best threads",
            pure_julia=True, best_threads=True, changes=TUNED,
        ),
        Row(
            "torch-tuned-bf16", "torch", "the fast step under autocast to bfloat16",
            precision="bf16", changes=CHANGES,
        ),
        Row("torch-eager-cuda", "torch", "torch-eager on the GPU", "native", device="cuda"),
        Row("torch-graph-cuda", "torch", "the fast step as one CUDA graph, draws included", device="cuda", graph=True),
        Row(
            "torch-graph-cuda-tf32", "torch", "the same, products in TF32", device="cuda", precision="tf32", graph=True,
        ),
        Row(
            "torch-graph-cuda-bf16", "torch", "the same, networks in bfloat16", device="cuda", precision="bf16",
            graph=True,
        ),
        Row("flux-cuda", "flux", "Flux on the GPU, noise and dropout from its own generator", "native", device="cuda"),
    )
}  # fmt: skip

CPU_ROWS = tuple(name for name, row in ROWS.items() if row.device == "cpu" and row.precision == "float32")
BF16_ROWS = tuple(name for name, row in ROWS.items() if row.device == "cpu" and row.precision == "bf16")
CUDA_ROWS = tuple(name for name, row in ROWS.items() if row.device == "cuda")
FLUX_DEFAULT = "flux"
CONTROL = "torch-eager-injected"
"""The row that is also run a second time, in another process, against itself (without it, the first torch row)."""
CONTROL_SUFFIX = " (again)"


def chosen(names: Sequence[str]) -> list[Row]:
    """The rows called ``names``. Raises ``ConfigError`` naming an unknown one."""
    for name in names:
        if name not in ROWS:
            raise ConfigError(f"no benchmark row {name!r}; known: {', '.join(ROWS)}")
    return [ROWS[name] for name in names]


def gap(row: Row) -> str:
    """Why ``row`` cannot run on this machine; empty where it can. Starts neither torch's CUDA nor Julia."""
    if row.device == "cuda" and row.stack == "torch" and not _torch_has_cuda():
        return "torch sees no CUDA GPU here"
    if row.stack == "flux":
        from pygan.stacks.julia_setup import find_julia

        try:
            versions = find_julia().check()
        except PyganError as error:
            return f"no Julia with Flux here: {error}"
        if row.device == "cuda" and not {"CUDA", "cuDNN"} <= versions.keys():
            return "the Julia environment holds no CUDA and cuDNN"
    return ""


def _torch_has_cuda() -> bool:
    if find_spec("torch") is None:  # pragma: no cover - torch is a dependency
        return False
    import torch

    return torch.cuda.is_available()


def available_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def mislabelled(row: Row, facts: Mapping[str, Any], cores: int) -> list[str]:
    """In what the process that ran ``row`` is not what the row claims; its times are refused if in anything.

    ``facts`` is what the process said of itself before and after it was timed; ``cores`` what each row may use.
    """
    wanted: dict[str, Any] = {
        "stack": row.stack,
        "randomness": row.randomness,
        "precision": row.precision,
        "changes": list(row.changes or ()),
        "cores": cores,
    }
    if row.stack == "torch":
        wanted["torch_threads"] = cores
    elif row.julia_threads:
        wanted["julia_threads"] = row.julia_threads
    faults = [
        f"{name} is {facts.get(name)!r}, the row claims {value!r}"
        for name, value in wanted.items()
        if facts.get(name) != value
    ]
    capped = dict(row.environment).get("ATEN_CPU_CAPABILITY", "").upper()
    capability = str(facts.get("described", {}).get("cpu_capability", ""))
    if capped and capability != capped:
        faults.append(f"torch computes with {capability or 'unknown'} instructions, the row claims {capped}")
    if (facts.get("device") == "cpu") != (row.device == "cpu"):
        faults.append(f"it ran on {facts.get('device')!r}, the row claims {row.device!r}")
    for kind in ("torch_threads", "julia_threads", "blas_threads", "gc_threads"):
        if facts.get(kind, 1) > cores:
            faults.append(f"{facts[kind]} {kind.replace('_', ' ')} on {cores} cores")
    return faults


def unequal(rows: Iterable[Row]) -> list[str]:
    """Why ``rows`` cannot stand in one group: another device or another class of arithmetic."""
    listed = list(rows)
    faults = []
    for what in ("device", "precision"):
        values = sorted({getattr(row, what) for row in listed})
        if len(values) > 1:
            faults.append(f"{what} differs within a group: {', '.join(values)}")
    return faults
