"""One tensor of one step, looked at closely: what ``pygan parity --step N --tensor KEY`` shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pygan.errors import ConfigError
from pygan.layouts import rule
from pygan.parity.compare import compare_tensors
from pygan.parity.locate import FULL_CAPTURE
from pygan.parity.referee import Referee
from pygan.parity.sides import Live, Pair, Side, Together
from pygan.parity.stepping import Stepping

WORST = 5
"""Elements shown."""


@dataclass(frozen=True)
class Spot:
    """``elements``: index in PyTorch's layout, in Julia's (1-based; empty without a layout rule), both values."""

    title: str
    lines: tuple[str, ...]
    elements: tuple[tuple[tuple[int, ...], tuple[int, ...], float, float], ...]


def look(candidate: Side, reference: Side, step: int, key: str) -> Spot:
    """Both runs' ``key`` at ``step``, from the leader's state before it, after all earlier steps.

    An empty ``key`` is the diagnosis's own culprit. Raises ``ConfigError`` listing what there is where ``key`` is not.
    """
    together = Together(candidate, reference)
    stepping = Stepping(together, Referee(together.follower.config, together.follower.dataset))
    pair: Pair = list(stepping.run(range(step + 1)))[-1]  # all of them: a fault may need the steps before
    if not pair.candidate.activation and isinstance(together.leader, Live):
        lead = together.leader.spare.step(step, FULL_CAPTURE, pair.before)
        pair = together.pair(pair.before, lead, together.follow(pair.before, lead, FULL_CAPTURE))
    found = stepping.diagnosis()
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
