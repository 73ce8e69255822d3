"""The floor of a step: the least time its work can take at the best rates that were measured in the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pygan.benchmarking.work import PRODUCTS, Operation, step_flop


@dataclass(frozen=True)
class Rates:
    """Best measured rates of this machine on the group's cores, and what each was measured on."""

    flop_per_second: float
    flop_source: str
    bytes_per_second: float
    bytes_source: str


def best_rates(measured: Mapping[str, Any], operations: Sequence[Operation], seconds: Sequence[float]) -> Rates:
    """The best of sgemm and of the recipe's own products as torch did them alone (oneDNN), and of memory.

    ``measured``: what :func:`pygan.benchmarking.torch_operations.rates` gave; ``seconds``: of each operation alone.
    """
    candidates = [(float(rate), f"sgemm of {n} x {n}") for n, rate in measured["sgemm_flop_per_second"].items()]
    candidates += [
        (operation.flop / time, f"oneDNN {operation.layer}, {operation.pass_}")
        for operation, time in zip(operations, seconds, strict=True)
        if operation.kind in PRODUCTS and time > 0
    ]
    copies = measured["copy_bytes_per_second"]
    moved = [(float(rate), f"copy of {int(size) >> 20} MiB") for size, rate in copies.items()]
    return Rates(*max(candidates), *max(moved))


def floor_seconds(operations: Sequence[Operation], rates: Rates) -> float:
    """Seconds below which no step of ``operations`` can go at ``rates``.

    Each product takes at least its valid-tap arithmetic at the best rate of arithmetic and at least its operands and
    result at the best rate of memory; the optimiser is bound by memory. Layers between products are taken as free,
    since they can be fused into them.
    """
    return sum(
        operation.count * max(operation.flop / rates.flop_per_second, operation.bytes / rates.bytes_per_second)
        for operation in operations
    )


def to_dict(operations: Sequence[Operation], rates: Rates) -> dict[str, Any]:
    """The floor for reports."""
    return {
        "gflop": step_flop(list(operations)) / 1e9,
        "seconds": floor_seconds(operations, rates),
        "gflop_per_second": rates.flop_per_second / 1e9,
        "flop_source": rates.flop_source,
        "gb_per_second": rates.bytes_per_second / 1e9,
        "bytes_source": rates.bytes_source,
    }
