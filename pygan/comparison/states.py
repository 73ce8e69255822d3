"""How far the states of two runs lie apart, where their tensors fit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pygan.comparison.runs import FinishedRun
from pygan.parity.compare import norm
from pygan.state import State


@dataclass(frozen=True)
class GroupDistance:
    """2-norm of the difference of one group's tensors (parameters, a moment) over that of the first run's; ``largest``
    names the tensor with the largest such ratio. Not finite where a state is not."""

    relative: float
    tensors: int
    largest: str
    largest_relative: float


@dataclass(frozen=True)
class StateDistance:
    """``steps``: done by the first and by the other run. ``groups``: by name. ``unfit``: tensors that only one run has,
    or in another shape. ``missing``: why there is nothing to show."""

    steps: tuple[int, int] = (0, 0)
    groups: dict[str, GroupDistance] = field(default_factory=dict)
    unfit: tuple[str, ...] = ()
    missing: str = ""


def state_distance(first: FinishedRun, other: FinishedRun) -> StateDistance:
    """``other``'s state from ``first``'s, after as many steps of both as possible, else each at its own end."""
    if not first.states or not other.states:
        return StateDistance(missing="not recorded")
    shared = first.states.keys() & other.states.keys()
    at = (max(shared),) * 2 if shared else (max(first.states), max(other.states))
    mine, theirs = first.states[at[0]](), other.states[at[1]]()
    keys = sorted(key for key in mine.keys() | theirs.keys() if "/" in key)
    fit = [key for key in keys if key in mine and key in theirs and mine[key].shape == theirs[key].shape]
    unfit = tuple(f"{key}: {_shape(mine, key)} against {_shape(theirs, key)}" for key in keys if key not in fit)
    groups = {
        group: _apart(mine, theirs, [key for key in fit if key.partition("/")[0] == group])
        for group in sorted({key.partition("/")[0] for key in fit}, key=lambda name: (name != "parameter", name))
    }
    return StateDistance(at, groups, unfit)


def _apart(mine: State, theirs: State, keys: list[str]) -> GroupDistance:
    with np.errstate(invalid="ignore", over="ignore"):  # infinities of a run that diverged
        gaps = [norm(theirs[key].astype(np.float64) - mine[key].astype(np.float64)) for key in keys]
    sizes = [(gap, norm(mine[key])) for gap, key in zip(gaps, keys, strict=True)]
    each = [_ratio(*pair) for pair in sizes]
    worst = max(range(len(keys)), key=lambda at: np.inf if np.isnan(each[at]) else each[at])
    whole = _ratio(*(norm(np.array(column)) for column in zip(*sizes, strict=True)))
    return GroupDistance(whole, len(keys), keys[worst].partition("/")[2], each[worst])


def _ratio(gap: float, size: float) -> float:
    return gap / size if size > 0 else (0.0 if gap == 0 else float("inf"))


def _shape(state: State, key: str) -> str:
    return str(state[key].shape) if key in state else "absent"
