"""One tensor of one step, looked at closely: what ``pygan parity --step N --tensor KEY`` shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pygan.errors import ConfigError
from pygan.layouts import rule
from pygan.parity.compare import compare_tensors
from pygan.parity.initial import compare_initial
from pygan.parity.locate import FULL_CAPTURE, Diagnosis
from pygan.parity.referee import Referee
from pygan.parity.sides import Live, Pair, Recorded, Side, Together
from pygan.parity.stepping import Stepping
from pygan.records import Arrays

WORST = 5
"""Elements shown."""


@dataclass(frozen=True)
class Spot:
    """``elements``: index in PyTorch's layout, in Julia's (1-based; empty without a layout rule), both values."""

    title: str
    lines: tuple[str, ...]
    elements: tuple[tuple[tuple[int, ...], tuple[int, ...], float, float], ...]


def look(candidate: Side, reference: Side, step: int, key: str) -> Spot:
    """Both runs' ``key`` at ``step``, from the leader's state before it, after all earlier steps; under ``initial/``
    the state before the first.

    An empty ``key`` is the diagnosis's own culprit. Raises ``ConfigError`` listing what there is where ``key`` is not.
    """
    if key.startswith("initial/"):
        return _before_the_first(candidate, reference, key)
    together = Together(candidate, reference)
    if isinstance(together.leader, Recorded):
        together.leader.step(step)  # a step that was not recorded is told before all others are taken
    stepping = Stepping(together, Referee(together.follower.config, together.follower.dataset))
    pair: Pair = list(stepping.run(range(step + 1)))[-1]  # all of them: a fault may need the steps before
    found = stepping.diagnosis()
    key = key or (found.key if found else "")
    if not key:
        raise ConfigError(f"nothing differs at step {step}; name a tensor with --tensor KIND/NAME")
    sides = pair.candidate.to_arrays(), pair.reference.to_arrays()
    if key not in sides[0] or key not in sides[1]:
        pair = _with_layers(together, pair)
        sides = pair.candidate.to_arrays(), pair.reference.to_arrays()
    return _spot(key, sides, found, together.follower.stack.rules())


def _with_layers(together: Together, pair: Pair) -> Pair:
    """The step once more with everything recorded, by live sides."""
    lead = pair.reference if together.follower is together.candidate else pair.candidate
    if isinstance(together.leader, Live):
        lead = together.leader.spare.step(pair.step, FULL_CAPTURE, pair.before)
    return together.pair(pair.before, lead, together.follower.step(pair.step, FULL_CAPTURE, pair.before))


def _before_the_first(candidate: Side, reference: Side, key: str) -> Spot:
    records = [side.initial() for side in (candidate, reference)]
    mine, theirs = ({f"initial/{name}": value for name, value in one.state.items()} if one else {} for one in records)
    rules: Mapping[str, str] = next(
        (side.stack.rules() for side in (candidate, reference) if isinstance(side, Live)), {}
    )
    return _spot(key, (mine, theirs), compare_initial(*records).diagnosis, rules)


def _spot(key: str, sides: tuple[Arrays, Arrays], found: Diagnosis | None, rules: Mapping[str, str]) -> Spot:
    mine, theirs = sides
    told = (str(found),) if found is not None else ()
    place = key.removesuffix(" (candidate)").removesuffix(" (reference)")  # whose units have another sign
    missing = [side for side, arrays in (("candidate", mine), ("reference", theirs)) if place not in arrays]
    if missing and found is not None and found.key == key:  # as it was found: missing, or taken in Float64
        return Spot(key, told, ())
    if len(missing) == 2:
        known = sorted(mine.keys() & theirs.keys())
        close = [name for name in known if key.rpartition("/")[2] in name] or known
        raise ConfigError(f"--tensor {key!r} is in no record of this step; there are {', '.join(close[:12])} ...")
    if missing:
        return Spot(key, (f"{key}: missing in the {missing[0]}", *told), ())
    layout = rules.get(place.rpartition("/")[2], "")
    difference = compare_tensors(key, mine[place], theirs[place], layout)
    lines = (str(difference), *told) if found is None or found.difference.key != key else told
    if difference.fault:
        return Spot(key, lines, ())
    gap = np.abs(mine[place].astype(np.float64) - theirs[place].astype(np.float64)).reshape(-1)
    shape = mine[place].shape
    places = [tuple(int(i) for i in np.unravel_index(flat_place, shape)) for flat_place in np.argsort(-gap)[:WORST]]
    elements = tuple(
        (
            one,
            rule(layout).flux_index(one, shape) if layout else (),
            float(mine[place][one]),
            float(theirs[place][one]),
        )
        for one in places
    )
    return Spot(f"{key} {shape}", lines, elements)
