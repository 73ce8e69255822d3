"""One tensor of one step, looked at closely: what ``pygan parity --step N --tensor KEY`` shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pygan.errors import ConfigError
from pygan.layouts import rule
from pygan.parity.compare import compare_tensors
from pygan.parity.locate import FULL_CAPTURE, diagnose_step
from pygan.parity.sides import Live, Pair, Side, Together, referee_of

WORST = 5
"""Elements shown."""


@dataclass(frozen=True)
class Spot:
    """``elements``: index in PyTorch's layout, in Julia's (1-based; empty without a layout rule), both values."""

    title: str
    lines: tuple[str, ...]
    elements: tuple[tuple[tuple[int, ...], tuple[int, ...], float, float], ...]


def look(candidate: Side, reference: Side, step: int, key: str) -> Spot:
    """Both runs' ``key`` at ``step``, from the leader's state before it.

    An empty ``key`` is the diagnosis's own culprit. Raises ``ConfigError`` listing what there is where ``key`` is not.
    """
    together = Together(candidate, reference)
    start = step if not isinstance(together.leader, Live) else 0
    pair: Pair | None = None
    for number in range(start, step + 1):
        capture = FULL_CAPTURE if number == step else ("state",)
        before, lead = together.lead(number, capture)
        if number == step:
            pair = together.pair(before, lead, together.follow(before, lead, capture))
    assert pair is not None
    found = diagnose_step(together, pair, referee=referee_of(together.follower))
    key = key or (found.key if found else "")
    if not key:
        raise ConfigError(f"nothing differs at step {step}; name a tensor with --tensor KIND/NAME")
    mine, theirs = pair.candidate.to_arrays(), pair.reference.to_arrays()
    if key not in mine and key not in theirs:
        known = sorted(mine.keys() & theirs.keys())
        close = [name for name in known if key.rpartition("/")[2] in name] or known
        raise ConfigError(f"--tensor {key!r} is in no record of step {step}; there are {', '.join(close[:12])} ...")
    if key not in mine or key not in theirs:
        side = "candidate" if key not in mine else "reference"
        return Spot(key, (f"{key}: missing in the {side}", *([str(found)] if found else [])), ())
    layout = together.follower.stack.rules().get(key.rpartition("/")[2], "")
    difference = compare_tensors(key, mine[key], theirs[key], layout)
    lines = [str(difference)] if found is None or found.difference.key != key else []
    if found is not None:
        lines.append(str(found))
    if difference.fault:
        return Spot(key, tuple(lines), ())
    gap = np.abs(mine[key].astype(np.float64) - theirs[key].astype(np.float64)).reshape(-1)
    shape = mine[key].shape
    places = [tuple(int(i) for i in np.unravel_index(flat_place, shape)) for flat_place in np.argsort(-gap)[:WORST]]
    elements = tuple(
        (
            place,
            rule(layout).flux_index(place, shape) if layout else (),
            float(mine[key][place]),
            float(theirs[key][place]),
        )
        for place in places
    )
    return Spot(f"{key} {shape}", tuple(lines), elements)
