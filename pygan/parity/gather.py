"""Gathering the evidence for one culprit from a forced step: the inputs, the numbers and both results, in Float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from pygan.draws import Draws
from pygan.parity.compare import Difference
from pygan.parity.evidence import (
    UNKNOWN,
    BackwardEvidence,
    BufferEvidence,
    Cause,
    Evidence,
    ForwardEvidence,
    GradientEvidence,
    InputEvidence,
    Layers,
    LossEvidence,
    UpdateEvidence,
)
from pygan.records import StepRecord
from pygan.state import SLOTS, State

TOLERANCE = {"float64": 1e-10, "float32": 1e-4}
"""Relative norm within which a formula must reproduce a result of that dtype to count as its explanation."""


class Gatherer:
    """Looks up, for a culprit's key, what entered it. ``lead`` holds the values that were forced, ``forced`` what the
    led stack made of them."""

    def __init__(
        self, stack: Any, step: int, before: State, lead: StepRecord, forced: StepRecord, previous: StepRecord | None
    ) -> None:
        self._layers: Mapping[str, Any] = stack.layers()
        self._numbers: Mapping[str, Mapping[str, float]] = stack.update_numbers()
        self._seed = stack.config.seed
        self._step, self._before, self._lead, self._forced, self._previous = step, before, lead, forced, previous
        self._order = list(forced.order)
        self._lead_arrays, self._forced_arrays = lead.to_arrays(), forced.to_arrays()

    def loss_cause_of(
        self, culprit: Difference, candidate_follows: bool, name_cause: Callable[[Evidence], Cause]
    ) -> Cause:
        """The cause where ``culprit`` is a loss's gradient at the logits; else ``UNKNOWN``."""
        tap = culprit.key.partition("/")[2]
        last = self._taps(tap.partition(".")[0])[-1:]
        return self.cause_of(culprit, candidate_follows, name_cause) if last == [tap] else UNKNOWN

    def cause_of(self, culprit: Difference, candidate_follows: bool, name_cause: Callable[[Evidence], Cause]) -> Cause:
        """The named cause of ``culprit``. ``candidate_follows``: is the led stack the candidate?"""
        key = culprit.key
        mine, theirs = self._forced_arrays.get(key), self._lead_arrays.get(key)
        candidate, reference = (mine, theirs) if candidate_follows else (theirs, mine)
        if candidate is None or reference is None:
            side = "candidate" if candidate is None else "reference"
            return Cause("gradient missing", f"{key} is not in the {side}") if key.startswith("gradient/") else UNKNOWN
        dtype = str(reference.dtype)
        tolerance = TOLERANCE.get(dtype, 0.0)
        if dtype == "float64" and culprit.relative > 0:  # a formula has to tell the two results apart
            tolerance = min(tolerance, culprit.relative / 10)
        both = (key, self._step, _wide(candidate), _wide(reference), tolerance)
        evidence = self._evidence(key, both, candidate_follows)
        return UNKNOWN if evidence is None else name_cause(evidence)

    def _evidence(self, key: str, both: Any, candidate_follows: bool) -> Evidence | None:
        kind, _, name = key.partition("/")
        if kind == "activation":
            return self._input(key, both) if name.endswith(".input") else self._forward(name, both)
        if kind == "activation_gradient":
            return self._backward(name, both)
        if kind == "gradient":
            return self._gradient(name, both)
        if kind == "loss" or kind == "logits":
            return LossEvidence(*both, logits=self._logits_before(key))
        if kind == "buffer":
            call, _, path = name.rpartition("/")
            return self._buffer(path, both, call)
        if key.startswith("state/buffer/"):
            return self._buffer(key.removeprefix("state/buffer/"), both)
        if kind in ("state", "updated"):
            return self._update(key, both, candidate_follows)
        return None

    # --- calls -----------------------------------------------------------------------------------------------

    def _taps(self, call: str) -> list[str]:
        """Names of the taps of ``call/network`` that both records have, in order of application."""
        keys = [key.partition("/")[2] for key in self._order if key.startswith(f"activation/{call}.")]
        return [key for key in keys if key in self._lead.activation]

    def _start(self, end: str) -> str:
        """The tap of both records that ``end`` was computed from: where layers alone lie between, the one that they
        start at, in a branch too; else the tap before it in order; empty for a call's first."""
        source = self._forced.sources.get(end, "")
        while source and source not in self._lead.activation:  # the other run has fused this layer with the next
            source = self._forced.sources.get(source, "")
        taps = self._taps(end.partition(".")[0])
        return source if source in taps else "" if taps.index(end) == 0 else taps[taps.index(end) - 1]

    def _pairs(self, call: str) -> list[tuple[str, str]]:
        """Each tap of a call but the first, with the one that it was computed from."""
        return [(self._start(end), end) for end in self._taps(call)[1:]]

    def _segment(self, call: str, start: str, end: str) -> Layers:
        """The layers applied between two taps of a call, the last one included."""
        way = [end]
        while way[-1] and way[-1] != start:
            way.append(self._forced.sources.get(way[-1], ""))
        if way[-1] == start:
            return [(_path(tap), self._layers[_path(tap)]) for tap in way[-2::-1]]
        network = call.partition("/")[2]
        paths = [path for path in self._layers if path.startswith(f"{network}.")]
        first = paths.index(_path(start)) + 1 if not start.endswith(".input") else 0
        return [(path, self._layers[path]) for path in paths[first : paths.index(_path(end)) + 1]]

    def _tensors(self, layers: Layers, key: str) -> dict[str, np.ndarray]:
        """Parameters and statistics of ``layers`` when ``key`` was computed: of before the step, or of after it where
        the step had written them by then."""
        return {path: _wide((self._lead.state if after else self._before)[name]) for path, name, after in
                self._held(layers, key)}  # fmt: skip

    def _earlier(self, layers: Layers, key: str) -> dict[str, np.ndarray]:
        """Of those that the step had written by then, what they were before it."""
        return {path: _wide(self._before[name]) for path, name, after in self._held(layers, key) if after}

    def _held(self, layers: Layers, key: str) -> Iterator[tuple[str, str, bool]]:
        """Path and state key of each tensor of ``layers``, and whether the step had written it before ``key``."""
        order = list(self._lead.order) if key in self._lead.order else self._order
        written = set(order[: order.index(key)])
        for path, _ in layers:
            for tensor in ("weight", "bias", "running_mean", "running_var"):
                name = f"{'buffer' if tensor.startswith('running') else 'parameter'}/{path}.{tensor}"
                if name in self._before:
                    yield f"{path}.{tensor}", name, f"state/{name}" in written

    def _masks(self, call: str) -> dict[str, np.ndarray]:
        """Keep patterns of this step by stream, for every call and Dropout that the step has."""
        draws, found = Draws(self._seed).at(self._step), {}
        for tap, value in self._lead.activation.items():
            spec = self._layers.get(_path(tap))
            if spec is not None and spec.kind == "dropout":
                found[f"mask/{tap}"] = draws.keep(f"mask/{tap}", value.shape, spec.numbers["p"])
                for step in self._near() if tap.startswith(f"{call}.") else ():
                    if step != self._step:
                        beside = Draws(self._seed).at(step)
                        found[f"mask/{tap}@{step}"] = beside.keep(f"mask/{tap}", value.shape, spec.numbers["p"])
        return found

    def _near(self) -> range:
        """The step and two on each side, whose draws may have been taken for its own."""
        return range(max(0, self._step - 2), self._step + 3)

    def _pieces(self, call: str, start: str, end: str, key: str) -> dict[str, Any]:
        layers = self._segment(call, start, end)
        train = bool(self._lead.mode.get(end, f"pattern/{end}" in self._order or self._differentiated(call)))
        return {
            "x": _wide(self._lead.activation[start]),
            "layers": layers,
            "train": train,
            "tensors": self._tensors(layers, key),
            "earlier": self._earlier(layers, key),
            "masks": self._masks(call),
        }

    def _differentiated(self, call: str) -> bool:
        return any(key.startswith(f"activation_gradient/{call}.") for key in self._order)

    def _forward(self, tap: str, both: Any) -> ForwardEvidence | None:
        call = tap.partition(".")[0]
        taps = self._taps(call)
        start = self._start(tap) if tap in taps else ""
        return ForwardEvidence(*both, **self._pieces(call, start, tap, f"activation/{tap}")) if start else None

    def _backward(self, tap: str, both: Any) -> Evidence | None:
        """The gradient at a tap was made by what comes after it in the call, or by the loss."""
        call = tap.partition(".")[0]
        taps = self._taps(call)
        place = taps.index(tap)
        users = [end for start, end in self._pairs(call) if start == tap]
        if place + 1 == len(taps) and not users:
            return LossEvidence(*both, logits=self._logits_before(f"activation_gradient/{tap}", call.partition("/")[0]))
        after = users[0] if users else taps[place + 1]
        given = self._lead.activation_gradient.get(after)
        if given is None:
            return None
        pieces = self._pieces(call, tap, after, f"activation/{after}")
        return BackwardEvidence(*both, **pieces, output_gradient=_wide(given))

    def _gradient(self, name: str, both: Any) -> Evidence | None:
        """A parameter's gradient in an update; its network may have been called several times before the loss."""
        path = name.rpartition("/")[2]
        layer = path.rpartition(".")[0]
        network, key = layer.partition(".")[0], f"gradient/{name}"
        earlier = self._order[: self._order.index(key)]
        starts = [i for i, one in enumerate(earlier) if one.startswith("loss/")]
        since = earlier[starts[-1] :] if starts else earlier
        calls = sorted(
            {one.split("/", 1)[1].partition(".")[0] for one in since if one.startswith("activation_gradient/")}
        )
        own_calls = [one for one in calls if one.endswith(f"/{network}")]
        found = None
        for call in own_calls:
            for start, end in self._pairs(call):
                paths = [name for name, _ in self._segment(call, start, end)]
                if layer in paths and end in self._lead.activation_gradient:
                    found = (call, start, end)
        if found is None:
            return None
        call, start, end = found
        last = None if self._previous is None else self._previous.gradient.get(name)
        return GradientEvidence(
            *both,
            **self._pieces(call, start, end, f"activation/{end}"),
            output_gradient=_wide(self._lead.activation_gradient[end]),
            path=path,
            weight=_wide(self._before[f"parameter/{path}"]),
            previous=None if last is None else _wide(last),
            calls=tuple(own_calls),
        )

    # --- losses, inputs, updates -----------------------------------------------------------------------------

    def _logits_before(self, key: str, call: str = "") -> dict[str, np.ndarray]:
        """The logits recorded since the loss before; for a gradient, those of its own call."""
        earlier = self._order[: self._order.index(key)] if key in self._order else self._order
        if call:
            return {call: _wide(self._lead.logits[call])} if call in self._lead.logits else {}
        since: list[str] = []
        for one in earlier:
            since = [] if one.startswith("loss/") else [*since, one]
        names = [one.partition("/")[2] for one in since if one.startswith("logits/")]
        return {name: _wide(self._lead.logits[name]) for name in names if name in self._lead.logits}

    def _input(self, key: str, both: Any) -> InputEvidence:
        shape = both[3].shape
        others: dict[str, np.ndarray] = {}
        for step in self._near():
            draws = Draws(self._seed).at(step)
            others[f"noise@{step}"] = _wide(draws.normal("noise", shape))
            if step == self._step:
                uniform = _wide(draws.uniform("noise", shape))
                others |= {"uniform noise": uniform, "uniform noise in [-1, 1]": 2 * uniform - 1}
        for name, value in self._lead.activation.items():
            if f"activation/{name}" != key and value.shape == shape:
                others[name] = _wide(value)
        return InputEvidence(*both, others=others)

    def _buffer(self, path: str, both: Any, of_call: str = "") -> Evidence | None:
        """A running statistic after a call that moved it, the last such call if none is named."""
        layer = path.rpartition(".")[0]
        network = layer.partition(".")[0]
        moves = [key.split("/")[1] for key in self._order if key.startswith("buffer/") and key.endswith(f"/{path}")]
        name = of_call or (moves[-1] if moves else "")
        if not name:
            return None
        before = self._before[f"buffer/{path}"]
        if name in moves and moves.index(name):
            before = self._lead.buffer.get(f"{moves[moves.index(name) - 1]}/{path}", before)
        call = f"{name}/{network}"
        for start, end in self._pairs(call):
            layers = self._segment(call, start, end)
            if layers and layers[0][0] == layer:
                x = self._lead.activation[start]
                return BufferEvidence(*both, layer=self._layers[layer], x=_wide(x), before=_wide(before))
        return None

    def _update(self, key: str, both: Any, candidate_follows: bool) -> Evidence | None:
        kind, _, rest = key.partition("/")
        update, _, name = rest.rpartition("/")
        network = name.partition(".")[0]
        updates = list(dict.fromkeys(one.rpartition("/")[0] for one in self._lead.gradient))
        updates = [one for one in updates if one.partition("/")[0] == network]
        if not updates or network not in self._numbers:
            return None
        update = update.rpartition("/")[0] if kind == "updated" else updates[-1]
        known = [one.rpartition("/")[2] for one in self._lead.gradient if one.rpartition("/")[0] == update]
        path = name if name in known else next(iter(known), "")
        if not path:
            return None
        place = updates.index(update) if update in updates else 0

        def slots(record: StepRecord | None, of: str) -> dict[str, np.ndarray]:
            state = self._before if record is None else record.state
            powers = state.get(f"beta_power/{network}")
            found = {} if powers is None else {"beta_power": _wide(powers)}
            for slot in ("parameter", *SLOTS):
                stored = f"{slot}/{path}"
                middle = None if record is None else record.updated.get(f"{of}/{stored}")
                value = state.get(stored) if middle is None else middle
                found |= {} if value is None else {slot: _wide(value)}
            return found

        after = [slots(record, update) for record in (self._forced, self._lead)]
        before = slots(self._lead, updates[place - 1]) if place else slots(None, "")
        return UpdateEvidence(
            *both,
            path=path,
            gradient=_wide(self._lead.gradient[f"{update}/{path}"]),
            before=before,
            after_candidate=after[0] if candidate_follows else after[1],
            after_reference=after[1] if candidate_follows else after[0],
            numbers=self._numbers[network],
        )


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _path(tap: str) -> str:
    """``network.layer`` of a tap ``call/network.layer``."""
    return tap.partition("/")[2]
