"""What the report of two free Float64 runs says of each tensor: its curve, the referee's separation, its limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from pygan.parity.free import horizon
from pygan.parity.tolerances import FREE_FACTOR, FREE_LEAST, FREE_MOST

PICTURES = "pictures/values"
Points = dict[int, float]
"""Values by step."""


class Worst(NamedTuple):
    """A tensor at the step at which it used most of its limit."""

    share: float
    key: str
    step: int


@dataclass(frozen=True)
class FreeRun:
    """The report of a free run, read."""

    report: Mapping[str, Any]

    @cached_property
    def spread(self) -> dict[int, dict[str, float]]:
        """By step and tensor: the largest separation among the referee's runs."""
        stored = self.report["curves"].get("separation") or {}
        rows = {int(step): row for step, row in stored.items()}
        return {
            step: {key.removeprefix("sketch/"): value for key, value in row.items() if value is not None}
            for step, row in sorted(rows.items())
        }

    def curve(self, key: str) -> Points:
        """Relative difference of a tensor, or of the pictures, by step; without steps that have no number."""
        stored = self.report["curves"].get("pictures" if key == PICTURES else key, {"steps": [], "relative": []})
        pairs = zip(stored["steps"], stored["relative"], strict=True)
        return {step: value for step, value in pairs if value is not None}

    def separation(self, key: str) -> Points:
        """The referee's separation of a tensor by step."""
        return {step: row[key] for step, row in self.spread.items() if key in row}

    def limit(self, key: str) -> Points:
        """The tolerance of a tensor by step; without steps beyond the horizon."""
        limits = {step: max(FREE_FACTOR * value, FREE_LEAST) for step, value in self.separation(key).items()}
        return {step: value for step, value in limits.items() if value <= FREE_MOST}

    @cached_property
    def networks(self) -> dict[str, list[str]]:
        """Keys of the state's tensors by network."""
        found: dict[str, list[str]] = {}
        for key in self.report["curves"]:
            if key.startswith("state/"):
                found.setdefault(key.rpartition("/")[2].partition(".")[0], []).append(key)
        return dict(sorted(found.items()))

    def worst(self, keys: list[str]) -> list[Worst]:
        """The tensors, each at its worst judged step, those that used most of their limit first."""
        found = []
        for key in keys:
            limit = self.limit(key)
            shares = [Worst(value / limit[step], key, step) for step, value in self.curve(key).items() if step in limit]
            found += [max(shares)] if shares else []
        return sorted(found, reverse=True)

    @cached_property
    def first_beyond(self) -> tuple[float, str]:
        """The step at which a tensor's separation is predicted to reach the limit of what is judged, and that tensor:
        the earliest; infinite where none grows."""
        keys = {key for row in self.spread.values() for key in row}
        found = [(horizon(self.spread, key).get("horizon", float("inf")), key) for key in sorted(keys)]
        return min(found, default=(float("inf"), ""))
