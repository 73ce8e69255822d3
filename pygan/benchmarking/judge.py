"""Judges first steps of benchmark rows by the parity core. A process of its own, so that no row's memory holds a
referee.

    python -m pygan.benchmarking.judge IMAGES CORES TRACE [TRACE ...]

A Float32 step must be within rounding of the Float64 referee that carries the step's own on/off pattern, as
``pygan parity`` has it. Where real Flux was recorded at the row's configuration, the referee's step must be Flux's in
Float64. A row in lowered precision is held to the referee within units of that precision. Rows of one configuration
share the referee's steps.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from pygan.benchmarking.batches import CAPTURE, Batches
from pygan.benchmarking.judge_inputs import float64_step, recorded_like
from pygan.benchmarking.verdicts import AGREE, DIFFERS, NOT_RUN, UNITS, Verdict, to_dict
from pygan.data import Dataset, load
from pygan.errors import PyganError
from pygan.files import sha256
from pygan.parity.compare import Difference, compare_arrays
from pygan.parity.float32 import RefereeStep, patterns_of
from pygan.parity.judge import Judged, batch_difference, judge_float64, judge_patterns
from pygan.parity.referee import Referee, RefereeRun
from pygan.parity.rounding import LayerNoise, Noise, backward_noise, elementwise_backward, forward_noise
from pygan.parity.sides import Pair, words_of
from pygan.recipes import config_from_dict
from pygan.recipes.own import load_from_parent
from pygan.records import StepRecord
from pygan.traces import Header, Trace

NEEDED = ("loss", "logits", "gradient", "state")
"""Parts of a first step without which there is no verdict."""
BY_REFEREE = "within rounding of the Float64 referee; no recording of Flux at this configuration"
BY_FLUX = "Float64 equal to recorded Flux, Float32 within rounding of the referee"
IN_FLOAT64 = "Float64 equal to the referee"


def judge(folder: Path, images: int, cores: int) -> Verdict:
    """The verdict on the first step stored at ``folder``. Raises ``TraceError`` if it cannot be read."""
    return Judge(images, cores)(Trace(folder))


class Judge:
    """Judges rows whose steps see ``images`` images."""

    def __init__(self, images: int, cores: int) -> None:
        self._images, self._cores = images, cores
        self._standards: dict[Any, Standard] = {}

    def __call__(self, trace: Trace) -> Verdict:
        """The verdict on the first step that a row stored."""
        record, header = trace.record(0), trace.header
        config = config_from_dict(header.config).replace(device="cpu", threads=self._cores, randomness="keyed")
        key = (config, header.data["name"])
        if key not in self._standards:
            referee = RowReferee(config, load(header.data["name"]), self._images)
            self._standards = {key: Standard(referee, self._images)}  # one at a time, for the memory
        standard, precision = self._standards[key], _precision(header)
        if precision in UNITS:
            return _lowered(precision, record, standard)
        if missing := [kind for kind in NEEDED if not getattr(record, kind)]:
            return Verdict(DIFFERS, f"the first step shows no {', no '.join(missing)}")
        if any(not one.ok for one in standard.against_flux):
            return _verdict(standard.against_flux, "", "the referee's first step in Float64, against recorded Flux's")
        row = Pair(0, standard.before, record, standard.step.truth)
        if config.dtype == "float64":
            return _verdict(_equal(standard.step, row), IN_FLOAT64)
        rounded = [*batch_difference(row), *standard.step.judge(record)]
        return _verdict(rounded, BY_REFEREE if standard.flux is None else BY_FLUX)


class Standard:
    """What the rows of one configuration are held to."""

    def __init__(self, referee: RowReferee, images: int) -> None:
        self.referee, self.before = referee, referee.stack.state()
        recording = recorded_like(referee.stack.config.to_dict(), images, referee.batch_sha256)
        self.flux = None if recording is None else float64_step(Trace(recording))

    @cached_property
    def step(self) -> RefereeStep:
        """The referee's first step."""
        recorded = words_of(self.flux) if self.flux else ()
        return RefereeStep(self.referee, 0, self.before, tuple(dict.fromkeys((*CAPTURE, *recorded))))

    @cached_property
    def against_flux(self) -> list[Judged]:
        """The referee's step against recorded Flux's, in Float64; empty where none was recorded."""
        return [] if self.flux is None else _equal(self.step, Pair(0, self.before, self.step.truth, self.flux))


def _precision(header: Header) -> str:
    """Of the row: its stack's own facts say so; a Flux row puts its facts beside its name."""
    described = header.environment.get("stack")
    return str(described.get("precision", "float32")) if isinstance(described, Mapping) else "float32"


def _equal(step: RefereeStep, pair: Pair) -> list[Judged]:
    """Two Float64 steps from one state."""
    return [*batch_difference(pair), *judge_float64(pair, noise=step.float64_noise), *judge_patterns(pair)]


def _verdict(judged: Sequence[Judged], told: str, what: str = "the first step") -> Verdict:
    bad = [one for one in judged if not one.ok]
    if bad or not judged:
        first = bad[0] if bad else "nothing was compared"
        return Verdict(DIFFERS, f"{len(bad)} of {len(judged)} checks of {what}: {first}")
    return Verdict(AGREE, f"first step: {told}, {len(judged)} checks")


# --- lowered precision -------------------------------------------------------------------------------------------

LOWERED_BAND = 4
"""Units that such a row's losses and logits (absolute) and gradients (relative) may be from the referee; bf16 was
measured 2 units off at most, at the published size. A gradient of one element, whose terms cancel, is held so too."""
LOWERED_FLIPS = 1e-2
"""Share of units of a network whose sign may differ from the referee's; measured 1.1e-3 in bf16."""


def _lowered(precision: str, record: StepRecord, standard: Standard) -> Verdict:
    """A row in lowered precision claims no Float32 step; it is held to the referee within its own rounding."""
    free = standard.referee.step(0, standard.before, CAPTURE)
    if (share := _share_of_flips(record, free)) > LOWERED_FLIPS:
        return Verdict(DIFFERS, f"{share:.1e} of the units have another sign than in the referee")
    truth = standard.referee.step(0, standard.before, CAPTURE, impose=record.pattern)

    def held(kind: str, difference: Difference) -> Judged:
        near_zero = kind != "gradient" or difference.shape in ((), (1,))
        error = difference.max_abs if near_zero else difference.relative
        return Judged(difference, error, LOWERED_BAND * UNITS[precision], f"{LOWERED_BAND} units of {precision}")

    judged = []
    for kind in ("loss", "logits", "gradient"):
        wide = {key: value.astype(np.float64) for key, value in getattr(record, kind).items()}
        judged += [held(kind, difference) for difference in compare_arrays(wide, getattr(truth, kind))]
    found = _verdict(judged, f"within {LOWERED_BAND} units of {precision} of the Float64 referee")
    return Verdict(AGREE, f"{found.reason}; no Float32 step") if found.shows_time else found


def _share_of_flips(record: StepRecord, free: StepRecord) -> float:
    own = patterns_of(record, free)
    if own.keys() != free.pattern.keys():
        return 1.0
    units = sum(value.size for value in own.values())
    return sum(int(np.sum(value != free.pattern[key])) for key, value in own.items()) / max(units, 1)


# --- the referee on a row's images -------------------------------------------------------------------------------


class RowReferee(Referee):
    """The referee on the images that a row's steps see, for groups of any size."""

    def __init__(self, config: Any, dataset: Dataset, images: int) -> None:
        super().__init__(config, dataset)
        self._schedule = Batches(dataset, config, images)
        self.batch_sha256 = sha256(self._schedule[0].tobytes())
        self.stack.run_class = LeanRun


class LeanRun(RefereeRun):
    """A measured or shaken step that finds the noise of a layer where it is needed and keeps none of it: that of all
    layers takes 11 MB an image at the published size, several times as much as a step."""

    def _leaving(self, key: str, path: str, held: dict[str, Tensor]) -> Any:
        leave = super()._leaving(key, path, held)

        def left(layer: nn.Module, inputs: tuple[Any, ...], y: Tensor) -> Tensor:
            calls = self._calls()
            if self._shake is not None:
                calls[key] = forward_noise(layer, held["x"], y.detach())
            made: Tensor = leave(layer, inputs, y)
            calls[key].output = Noise()
            return made

        return left

    def _returned(self, layer: nn.Module, key: str, path: str, held: dict[str, Tensor], gradient: Tensor) -> None:
        if self._shake is not None:
            backward_noise(layer, held["x"], gradient.detach(), self._calls()[key])
        super()._returned(layer, key, path, held, gradient)

    def _back(self, layer: nn.Module, key: str, source: str, held: dict[str, Tensor], gradient: Tensor) -> Tensor:
        noise = self._calls()[key]
        if self._shake is not None and not noise.input_gradient.parts and "gradient" in held:
            noise.input_gradient = elementwise_backward(layer, held["gradient"], gradient)
        made = super()._back(layer, key, source, held, gradient)
        self._calls()[key] = LayerNoise()
        held.pop("gradient", None)
        return made

    def _calls(self) -> dict[str, LayerNoise]:
        assert self._levels is not None
        return self._levels.calls


def main(arguments: list[str]) -> int:
    """Print each row's verdict as a line of JSON; exit code 0 all agree, 1 one differs, 2 one cannot be judged."""
    load_from_parent()
    images, cores, *folders = arguments
    judge_row = Judge(int(images), int(cores))
    codes = []
    for folder in folders:
        try:
            verdict = judge_row(Trace(folder))
        except PyganError as error:
            verdict = Verdict(NOT_RUN, f"the judge failed: {error}")
        codes.append({AGREE: 0, DIFFERS: 1, NOT_RUN: 2}[verdict.verdict])
        print(json.dumps(to_dict(verdict)), flush=True)
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
