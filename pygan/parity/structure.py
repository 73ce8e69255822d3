"""Level 1: do two runs hold the same tensors, and do their steps go through the same layers in the same modes?

Nothing here looks at values. Names, shapes and dtypes are compared over states and records, layout rules over what the
stacks say of themselves, and calls, layers and modes over the ``order`` of two records of the same step.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from pygan.records import StepRecord

MODED_TENSOR = "running_mean"
"""A buffer that only a layer with a train and an eval mode has."""


@dataclass(frozen=True)
class TensorCheck:
    """One tensor's shape and dtype on both sides; None on the side that lacks it."""

    key: str
    candidate: tuple[tuple[int, ...], str] | None
    reference: tuple[tuple[int, ...], str] | None

    @property
    def ok(self) -> bool:
        """Is it there on both sides, with one shape and one dtype?"""
        return self.candidate is not None and self.candidate == self.reference

    def __str__(self) -> str:
        sides = [f"{side[0]} {side[1]}" if side else "missing" for side in (self.candidate, self.reference)]
        return f"{self.key}: {sides[0]}" + ("" if self.ok else f" in the candidate, {sides[1]} in the reference")


@dataclass(frozen=True)
class CountCheck:
    """Trained numbers of one network on both sides, and the published count where there is one."""

    network: str
    candidate: int
    reference: int
    published: int | None = None

    @property
    def ok(self) -> bool:
        """Are all counts that are known the same?"""
        return self.candidate == self.reference and self.published in (None, self.candidate)

    def __str__(self) -> str:
        known = f", {self.published:,} published" if self.published is not None else ""
        return f"{self.network}: {self.candidate:,} parameters, {self.reference:,} in the reference{known}"


@dataclass(frozen=True)
class RuleCheck:
    """The layout rule of one parameter or buffer on both sides; empty on the side that lacks it."""

    path: str
    candidate: str
    reference: str

    @property
    def ok(self) -> bool:
        """Is it the same kind of layer's tensor on both sides?"""
        return bool(self.candidate) and self.candidate == self.reference

    def __str__(self) -> str:
        return f"{self.path}: {self.candidate or 'missing'} against {self.reference or 'missing'}"


@dataclass(frozen=True)
class CallCheck:
    """The layers that one call of a network went through; ``fault`` says what is wrong.

    ``common`` are the taps that both runs have, in the reference's order; ``only_candidate`` and ``only_reference``
    those before an activation that the other run has fused with its layer.
    """

    call: str
    common: tuple[str, ...] = ()
    only_candidate: tuple[str, ...] = ()
    only_reference: tuple[str, ...] = ()
    fault: str = ""

    @property
    def ok(self) -> bool:
        """Did both runs make this call, through the same layers in the same order?"""
        return not self.fault

    def __str__(self) -> str:
        if self.fault:
            return f"{self.call}: {self.fault}"
        lone = [f"{', '.join(taps)} fused in the {other}" for taps, other in
                ((self.only_candidate, "reference"), (self.only_reference, "candidate")) if taps]  # fmt: skip
        return f"{self.call}: {len(self.common)} layers in one order" + "".join(f"; {one}" for one in lone)


@dataclass(frozen=True)
class ModeCheck:
    """Train mode (True) or eval mode (False) of one layer at one call; None where the layer is not there."""

    call: str
    layer: str
    candidate: bool | None
    reference: bool | None

    @property
    def ok(self) -> bool:
        """Is the layer there on both sides, in one mode?"""
        return self.candidate is not None and self.candidate == self.reference

    def cells(self) -> tuple[str, str, str, str]:
        """A table's row: call, layer, the candidate's mode, the reference's."""
        return self.call, self.layer, _mode_word(self.candidate), _mode_word(self.reference)

    def __str__(self) -> str:
        call, layer, mine, theirs = self.cells()
        return f"{call}/{layer}: {mine}" + ("" if self.ok else f" in the candidate, {theirs} in the reference")


StructureCheck = TensorCheck | CountCheck | RuleCheck | CallCheck | ModeCheck


def _mode_word(mode: bool | None) -> str:
    return "missing" if mode is None else "train" if mode else "eval"


# --- tensors -------------------------------------------------------------------------------------------------------


def compare_tensor_names(candidate: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> list[TensorCheck]:
    """Shape and dtype of every tensor of two states (or of any two flat records)."""
    facts = [{key: (value.shape, str(value.dtype)) for key, value in side.items()} for side in (candidate, reference)]
    return [TensorCheck(key, facts[0].get(key), facts[1].get(key)) for key in sorted(facts[0].keys() | facts[1].keys())]


def parameter_counts(state: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Trained numbers by network."""
    counts: dict[str, int] = {}
    for key, value in state.items():
        group, _, path = key.partition("/")
        if group == "parameter":
            network = path.partition(".")[0]
            counts[network] = counts.get(network, 0) + value.size
    return counts


def compare_counts(
    candidate: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    published: Mapping[str, int] | None = None,
) -> list[CountCheck]:
    """Parameters of each network in two states, held to the ``published`` counts where given."""
    mine, theirs, known = parameter_counts(candidate), parameter_counts(reference), published or {}
    networks = sorted(mine.keys() | theirs.keys() | known.keys())
    return [CountCheck(name, mine.get(name, 0), theirs.get(name, 0), known.get(name)) for name in networks]


def compare_rules(candidate: Mapping[str, str], reference: Mapping[str, str]) -> list[RuleCheck]:
    """What ``Stack.rules()`` of both stacks say of every parameter and buffer."""
    paths = sorted(candidate.keys() | reference.keys())
    return [RuleCheck(path, candidate.get(path, ""), reference.get(path, "")) for path in paths]


# --- calls and modes -----------------------------------------------------------------------------------------------


def layer_order(record: StepRecord) -> dict[str, tuple[str, ...]]:
    """Taps of every call, both in the order of the step: layers by ``call/network``.

    The record must have been captured with ``layers`` or ``layer_sketches``; otherwise it is empty.
    """
    found: dict[str, list[str]] = {}
    for key in record.order:
        kind, _, tap = key.partition("/")
        if kind == "activation":
            call, _, layer = tap.partition(".")
            found.setdefault(call, []).append(layer)
    return {call: tuple(layers) for call, layers in found.items()}


def compare_calls(
    candidate: StepRecord,
    reference: StepRecord,
    activations: Collection[str] | None = None,
    paddings: Set[str] = frozenset(),
) -> list[CallCheck]:
    """Every call of one run must exist in the other, in the same place, through the same layers in the same order.

    A layer that only one run has is admitted where the layer after it is an activation function that both have: the
    other run has fused the two, and its tap is that of the activation. ``activations`` are the paths
    ``network.layer`` of such functions (from ``TorchStack.layers()``); without them any layer will do. So it is with
    padding: ``paddings`` are layers that pad (or crop), and convolutions that pad by themselves; a layer of one run
    alone that is one of the former or stands before one of the latter is part of that convolution in the other run.
    """
    mine, theirs = layer_order(candidate), layer_order(reference)
    if not mine or not theirs:
        lacking = "candidate" if not mine else "reference"
        return [CallCheck("step", fault=f"the {lacking}'s record holds no order of layers; capture layer_sketches")]
    checks = []
    for call in [*theirs, *(call for call in mine if call not in theirs)]:
        if call not in mine or call not in theirs:
            checks.append(CallCheck(call, fault=f"missing in the {'candidate' if call not in mine else 'reference'}"))
        else:
            checks.append(_compare_call(call, mine[call], theirs[call], activations, paddings))
    order = [[call for call in side if call in mine and call in theirs] for side in (mine, theirs)]
    if order[0] != order[1]:
        checks.append(CallCheck("step", fault=f"calls {', '.join(order[0])} against {', '.join(order[1])}"))
    return checks


def _compare_call(
    call: str,
    mine: Sequence[str],
    theirs: Sequence[str],
    activations: Collection[str] | None,
    paddings: Set[str],
) -> CallCheck:
    common = [layer for layer in theirs if layer in mine]
    ours = [layer for layer in mine if layer in theirs]
    if common != ours:
        return CallCheck(call, fault=f"layers {', '.join(ours)} against {', '.join(common)}")
    lone = []
    for side, other, lacking in ((mine, theirs, "reference"), (theirs, mine, "candidate")):
        lone.append(tuple(layer for layer in side if layer not in other))
        for layer in lone[-1]:
            after = next(iter(side[side.index(layer) + 1 :]), "")
            network = call.partition("/")[2]
            padding = not paddings.isdisjoint((f"{network}.{layer}", f"{network}.{after}"))
            fused = activations is None or f"{network}.{after}" in activations
            if after not in other or not (fused or padding):
                return CallCheck(call, fault=f"{layer} is missing in the {lacking} and is fused with nothing there")
    return CallCheck(call, tuple(common), lone[0], lone[1])


def compare_taps(candidate: StepRecord, reference: StepRecord) -> list[TensorCheck]:
    """Shape and dtype of every activation that both records hold."""
    both = candidate.activation.keys() & reference.activation.keys()
    return compare_tensor_names(
        {f"activation/{key}": candidate.activation[key] for key in both},
        {f"activation/{key}": reference.activation[key] for key in both},
    )


def compare_modes(
    candidate: StepRecord, reference: StepRecord, rules: Mapping[str, str] | None = None
) -> list[ModeCheck]:
    """The mode of every BatchNorm and Dropout at every call, in the reference's order.

    With the layout ``rules`` of a stack, a BatchNorm for which neither run recorded a mode is a row of its own.
    """
    mine, theirs = ({key: bool(value) for key, value in one.mode.items()} for one in (candidate, reference))
    expected = []
    normed = [path.rpartition(".")[0] for path in rules or {} if path.endswith(f".{MODED_TENSOR}")]
    for call in layer_order(reference) | layer_order(candidate):
        expected += [
            f"{call.partition('/')[0]}/{path}" for path in normed if path.partition(".")[0] == call.partition("/")[2]
        ]
    keys = list(dict.fromkeys([*_in_order(reference), *_in_order(candidate), *expected]))
    return [ModeCheck(*_split(key), mine.get(key), theirs.get(key)) for key in keys]


def _in_order(record: StepRecord) -> list[str]:
    ordered = [key.removeprefix("mode/") for key in record.order if key.startswith("mode/")]
    return [*(key for key in ordered if key in record.mode), *sorted(record.mode.keys() - set(ordered))]


def _split(key: str) -> tuple[str, str]:
    call, _, layer = key.partition("/")
    return call, layer


def mode_table(
    checks: Iterable[ModeCheck], candidate: str = "candidate", reference: str = "reference"
) -> list[tuple[str, ...]]:
    """The modes as a table with a heading, a row per call and layer."""
    return [("call", "layer", candidate, reference), *(check.cells() for check in checks)]
