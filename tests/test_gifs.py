"""What `pygan gif` says of two runs: a verdict on the first step, and pictures that are shown. And whose recording of
Flux it takes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygan import gifs
from pygan.data import Dataset, load
from pygan.errors import TraceError
from pygan.gifs import Run, StepVerdict, first_step, first_steps, given_trace, misfits
from pygan.parity import shipped
from pygan.parity.sides import Live
from pygan.parity.verdicts import AGREE, DIFFERS, NOT_RUN
from pygan.pictures.of_record import grid_of
from pygan.recipes import config_from_dict
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig
from pygan.recording import record
from pygan.records import StepRecord
from pygan.resources import traces_dir
from pygan.stacks.fast.stack import FastTorchStack
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Trace, TraceWriter
from pygan.training import nothing

SHIPPED = traces_dir() / "flux-narrow-float32"
CONFIG = FluxTutorialConfig(**NARROW, threads=1)
FULL = ("logits", "gradients", "patterns", "state")
SKETCHED = ("patterns", "sketches")


class Flux(TorchStack):
    """A stack that passes for Flux."""

    name = "flux"

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "packages": {"Flux": "0.16.9"}}


def traced(folder: Path, data: Dataset, *, keep: Any = FULL, twin: Any = FULL, every: int = 0, dtype: str = "float32"):
    """Two steps, recorded as real Flux's are; of the first one ``keep``, and of its Float64 twin ``twin``."""
    config = CONFIG.replace(dtype=dtype)

    def first(words: Any) -> Callable[[int], Any]:
        return lambda step: words if step == 0 else ()

    beside = Flux(config.replace(dtype="float64")) if twin else None
    twin_capture = first(twin) if twin else nothing
    run = record(
        Flux(config), data, 2, folder, picture_every=every, capture=first(keep), twin=beside, twin_capture=twin_capture
    )
    assert len(list(run)) == (3 if every else 2)
    return Trace(folder)


def torch(data: Dataset, kind: type[TorchStack] = FastTorchStack, **changes: Any) -> Live:
    return Live(kind(CONFIG.replace(**changes)), data, kind)


def again(trace: Trace, folder: Path, initial: Any = lambda one: one, twin: Any = lambda one: one) -> Trace:
    """The trace once more, with its initial record or its first twin changed."""
    start, first = trace.initial(), trace.twin(0)
    with TraceWriter(folder, trace.header, start and initial(start)) as writer:
        for one in trace:
            writer.write(one, first and twin(first) if one.step == 0 else None)
    return Trace(folder)


# --- whose recording ---------------------------------------------------------------------------------------------


def run_of(trace: Trace) -> tuple[Any, Dataset]:
    return config_from_dict(trace.header.config), load("digits", limit=trace.header.data["images"])


def test_the_shipped_trace_is_found_for_its_own_run_only() -> None:
    config, data = run_of(Trace(SHIPPED))
    for find in (gifs.recorded_pictures, gifs.recorded_step):
        assert not misfits(find(config, data), config, data)
        with pytest.raises(TraceError, match="no recorded Flux run fits this config on digits"):
            find(config.replace(seed=1), data)


def test_pictures_and_first_step_may_come_from_two_recordings_of_one_run(tmp_path, monkeypatch, digits) -> None:
    traced(tmp_path / "a-sketches", digits, keep=SKETCHED, twin=())
    traced(tmp_path / "b-pictures", digits, keep=(), twin=(), every=1)
    traced(tmp_path / "c-twin", digits, keep=SKETCHED, twin=SKETCHED)
    traced(tmp_path / "d-other", digits, dtype="float64", twin=(), every=1)
    monkeypatch.setattr(shipped, "traces_dir", lambda: tmp_path)
    assert gifs.recorded_pictures(CONFIG, digits).folder.name == "b-pictures"
    assert gifs.recorded_step(CONFIG, digits).folder.name == "c-twin"
    shutil.rmtree(tmp_path / "c-twin")
    assert gifs.recorded_step(CONFIG, digits).folder.name == "a-sketches"
    shutil.rmtree(tmp_path / "a-sketches")
    assert gifs.recorded_step(CONFIG, digits).folder.name == "b-pictures"


def test_a_trace_of_another_run_is_refused_with_every_difference_named() -> None:
    trace = Trace(SHIPPED)
    config, data = run_of(trace)
    assert given_trace(SHIPPED, config, data).steps == trace.steps
    with pytest.raises(TraceError, match=r"seed = 0, wanted 3.*width = 2, wanted 4"):
        given_trace(SHIPPED, config.replace(seed=3, width=4), data)
    other = dataclasses.replace(data, sha256="0" * 64)
    assert misfits(trace, config, other) == ["data = digits of other content than digits"]


def test_a_trace_of_torch_is_not_taken_for_flux(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(SHIPPED, folder)
    index = json.loads((folder / "trace.json").read_text())
    (folder / "trace.json").write_text(json.dumps({**index, "stack": "torch"}))
    config, data = run_of(Trace(folder))
    with pytest.raises(TraceError, match="stack = 'torch'"):
        given_trace(folder, config, data)


def test_the_first_steps_leave_out_the_closing_picture_of_a_longer_run() -> None:
    trace = Trace(SHIPPED)
    total = trace.training_steps
    assert total > 10
    whole = first_steps(trace, total, 5)
    assert [one.step for one in whole if one.pictures] == [*range(0, total, 5), total]
    part = first_steps(trace, 10, 5)
    assert [one.step for one in part] == list(range(10))
    assert [one.step for one in part if one.pictures] == [0, 5]
    assert {key.partition("/")[0] for one in whole for key in one.to_arrays()} == {"loss", "pictures"}
    with pytest.raises(TraceError, match=f"holds {total} steps of Flux, not {total + 1}"):
        first_steps(trace, total + 1, 5)


# --- the first step ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [FULL, SKETCHED], ids=["whole", "sketched"])
def test_the_step_of_a_recording_agrees_in_float64_and_differs_by_rounding(tmp_path, digits, keep) -> None:
    trace = traced(tmp_path / "flux", digits, keep=keep, twin=keep)
    found = first_step(torch(digits), trace)
    assert (found.verdict, found.against) == (AGREE, "Flux 0.16.9 (recorded): flux")
    assert found.reason.startswith("the same step in Float64 (")
    assert found.reason.endswith("and in Float32 they differ by rounding alone")
    levels = {row.level for row in found.rows if row.verdict == AGREE}
    assert {1, 2, 4, 7} <= levels and found.to_dict()["rows"][0]["verdict"] == AGREE


def test_a_float64_run_is_judged_in_float64_alone(tmp_path, digits) -> None:
    found = first_step(torch(digits, dtype="float64"), traced(tmp_path / "f", digits, twin=(), dtype="float64"))
    assert found.verdict == AGREE
    assert "in Float64" in found.reason and "Float32" not in found.reason


def test_live_flux_is_asked_for_both_steps(digits) -> None:
    made: list[Any] = []

    def make(config: Any) -> Flux:
        made.append(config.dtype)
        return Flux(config)

    found = first_step(torch(digits), Live(Flux(CONFIG), digits, make))
    assert (found.verdict, found.against, made) == (AGREE, "Flux 0.16.9 (live)", ["float64"])


class TurnedKernel(TorchStack):
    """A port with a fault: it correlates with a kernel that should be turned."""

    def initialise(self) -> None:
        super().initialise()
        conv: Any = self.networks["discriminator"].conv2
        conv.forward = lambda x: conv._conv_forward(x, conv.weight.flip(-2, -1), conv.bias)


@pytest.mark.parametrize("keep", [FULL, SKETCHED], ids=["whole", "sketched"])
def test_a_fault_of_the_port_differs_and_the_reason_names_claim_tensor_and_numbers(tmp_path, digits, keep) -> None:
    found = first_step(torch(digits, TurnedKernel), traced(tmp_path / "flux", digits, keep=keep, twin=keep))
    assert found.verdict == DIFFERS
    assert found.reason.startswith("correctness: the Float64 step from the same state: ")
    assert "@ step 0; " in found.reason and ", tolerance 1.0e-11; " in found.reason and "pygan parity" in found.reason


def test_an_altered_twin_and_an_altered_start_differ(tmp_path, digits) -> None:
    trace = traced(tmp_path / "flux", digits, keep=SKETCHED, twin=SKETCHED)
    key = next(name for name in trace.twin(0).sketch if name.startswith("gradient/"))

    def moved(one: StepRecord) -> StepRecord:
        return dataclasses.replace(one, sketch={**one.sketch, key: one.sketch[key] * (1 + 1e-9)})

    found = first_step(torch(digits), again(trace, tmp_path / "moved", twin=moved))
    assert found.verdict == DIFFERS and key in found.reason

    def flipped(one: StepRecord) -> StepRecord:
        name = "state/parameter/generator.conv1.weight"
        return dataclasses.replace(one, digest={**one.digest, name: one.digest[name] ^ np.uint8(1)})

    found = first_step(torch(digits), again(trace, tmp_path / "flipped", initial=flipped))
    assert found.verdict == DIFFERS
    assert found.reason.startswith("initial state, bit by bit: parameter/generator.conv1.weight; ")


def test_without_a_twin_correctness_was_not_run(tmp_path, digits) -> None:
    trace = traced(tmp_path / "flux", digits, twin=())
    assert gifs.not_judged(CONFIG, trace) == ""
    found = first_step(torch(digits), trace)
    assert found.verdict == NOT_RUN and found.reason.startswith("correctness not run: the recording holds no Float64")


def test_what_cannot_be_judged_is_known_beforehand_with_its_reason(tmp_path, digits) -> None:
    pictures = traced(tmp_path / "pictures", digits, keep=(), twin=(), every=1)
    assert gifs.not_judged(CONFIG, pictures) == "the recording holds pictures and losses only"
    whole = traced(tmp_path / "whole", digits, twin=())
    assert gifs.not_judged(CONFIG.replace(randomness="native"), whole).startswith("with native random numbers")
    assert gifs.not_judged(CONFIG, None) == ""
    startless = again(whole, tmp_path / "startless", initial=lambda one: None)
    assert gifs.not_judged(CONFIG, startless).startswith("the recording holds neither the initial state")


# --- the pictures ------------------------------------------------------------------------------------------------


def drawn(*gaps: float) -> tuple[Run, Run]:
    """Two runs whose pictures differ by ``gaps``, relative, one a step."""
    base = np.linspace(-0.9, 0.9, 4 * 28 * 28, dtype=np.float32).reshape(4, 1, 28, 28)
    losses = {"discriminator": np.float32(1), "generator": np.float32(2)}

    def run(title: str, values: list[np.ndarray]) -> Run:
        return Run(title, {}, [StepRecord(n, loss=losses, pictures={"values": v}) for n, v in enumerate(values)])

    return run("Flux", [base] * len(gaps)), run("PyTorch", [base * np.float32(1 + gap) for gap in gaps])


@pytest.mark.parametrize(("gaps", "until"), [((1e-3, 1e-4, 9e-3), 2), ((1e-3, 0.02, 1e-6), 0), ((0.02, 1e-6), None)])
def test_pictures_are_close_until_they_first_are_not_and_are_never_judged(gaps, until) -> None:
    found = gifs.pictures_shown(*drawn(*gaps), CONFIG)
    assert (found.close_until, found.unfit) == (until, False)
    told = "no relative difference" if until is None else f"to step {until} their relative difference"
    assert found.reason == f"free runs part by rounding; their pictures are shown, not judged: {told} is below 1%"
    assert {step.verdict for step in found.steps} == {NOT_RUN}


@pytest.mark.parametrize(
    ("gaps", "equal", "told"),
    [
        ((0.0, 1e-12, 0.0), 3, "all 3 of both free runs are equal in every byte of the GIFs, up to step 2"),
        ((0.0, 1e-12, 1e-3, 0.0), 2, "is below 1%; the first 2 of 4 are equal in every byte of the GIFs"),
        ((1e-2, 0.0), 0, "is below 1%"),
    ],
)
def test_pictures_that_are_equal_in_every_byte_are_counted_from_the_first_on(gaps, equal: int, told: str) -> None:
    flux, mine = drawn(*gaps)
    found = gifs.pictures_shown(flux, mine, CONFIG)
    assert found.equal == equal and found.reason.endswith(told)
    notes = [frame.note for frame in gifs.side_by_side_frames(flux, mine, StepVerdict(AGREE, "why"), found)]
    same = "Both pictures are equal in every byte. First step: agree."
    assert [note == same for note in notes] == [gap < 1e-6 for gap in gaps]


def eight_bit(run: Run, change: Callable[[np.ndarray], np.ndarray] = lambda grid: grid) -> Run:
    """The run as a recording of 8-bit pictures."""
    framed = [dataclasses.replace(one, pictures={"grid": change(grid_of(one))}) for one in run.records]
    return dataclasses.replace(run, records=framed)


def test_beside_8_bit_pictures_no_rounding_to_8_bits_counts() -> None:
    """Flat pictures, as untrained networks draw them, are off by a quarter where exact values meet rounded ones."""
    base, grey = drawn(0.0)[0], np.random.default_rng(0).normal(0, 0.01, (4, 1, 28, 28)).astype(np.float32)
    run = dataclasses.replace(base, records=[dataclasses.replace(base.records[0], pictures={"values": grey})])
    found = gifs.pictures_shown(eight_bit(run), run, CONFIG)
    assert (found.steps[0].relative, found.close_until) == (0.0, 0)
    assert found.equal == 1

    def moved(by: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda grid: np.where(np.arange(grid.size).reshape(grid.shape) % 7, grid, grid + np.uint8(by))

    one, two = (gifs.pictures_shown(eight_bit(run, moved(by)), run, CONFIG) for by in (1, 2))
    assert one.steps[0].relative > 0.1 and one.close_until == 0, "one grey level is what rounding leaves"
    assert two.close_until is None
    assert one.reason.endswith("or no pixel of the recorded 8-bit pictures is off by more than 1 grey level")
    nan = dataclasses.replace(run, records=drawn(np.nan)[1].records)
    assert gifs.pictures_shown(eight_bit(run), nan, CONFIG).unfit


def test_pictures_without_a_counterpart_are_left_out() -> None:
    flux, mine = drawn(0.0, 0.0, 0.0)
    closing = StepRecord(3, pictures=mine.records[0].pictures)
    whole = dataclasses.replace(mine, records=[*mine.records, closing])
    sparse = dataclasses.replace(flux, records=[dataclasses.replace(flux.records[1], pictures={}), flux.records[2]])
    kept = gifs.paired(whole, sparse)
    assert [one.step for one in kept.records] == [0, 1, 2] and all(one.loss for one in kept.records)
    assert [one.step for one in kept.framed] == [2]


def test_native_random_numbers_are_no_rounding() -> None:
    reason = gifs.pictures_shown(*drawn(1.0), CONFIG.replace(randomness="native")).reason
    assert reason.startswith("each run draws its own random numbers; their pictures are shown, not judged")


@pytest.mark.parametrize("word", [AGREE, DIFFERS, NOT_RUN])
def test_frames_tell_the_distance_and_the_first_steps_verdict_apart(word: str) -> None:
    flux, mine = drawn(1e-6, 0.02)
    frames = gifs.side_by_side_frames(flux, mine, StepVerdict(word, "why"), gifs.pictures_shown(flux, mine, CONFIG))
    assert [frame.verdict for frame in frames] == ["", ""]
    assert frames[1].note == (
        f"Relative difference of the pictures 2.0e-02 (free runs: shown, not judged). First step: {word}."
    )


def test_a_picture_that_is_not_finite_differs(tmp_path: Path) -> None:
    flux, mine = drawn(0.0, np.nan)
    step = StepVerdict(AGREE, "why")
    found = gifs.pictures_shown(flux, mine, CONFIG)
    assert (found.unfit, found.close_until) == (True, 0)
    assert "step 1: a picture is not finite" in found.reason
    assert [frame.verdict for frame in gifs.side_by_side_frames(flux, mine, step, found)] == ["", DIFFERS]
    gifs.write_gifs(tmp_path, flux, mine, step, found, 5, {})
    steps = json.loads((tmp_path / "summary.json").read_text())["pictures"]["steps"]
    assert [one["relative"] for one in steps] == [0.0, None]


def test_the_summary_has_two_statements_and_a_row_for_each_picture(tmp_path: Path) -> None:
    flux, mine = drawn(0.0, 1e-3)
    step = StepVerdict(AGREE, "the same step", (), "Flux 0.16.9 (recorded): flux-narrow")
    found = gifs.pictures_shown(flux, mine, CONFIG)
    gifs.write_gifs(tmp_path, flux, mine, step, found, 5, {"steps": 2})
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert lines[2] == "First step: **agree** (held to Flux 0.16.9 (recorded): flux-narrow): the same step."
    assert lines[4] == f"Pictures: {found.reason}."
    assert lines[-1] == "| 1 | 1.0e-03 | 1.000000 | 1.000000 | 2.000000 | 2.000000 |"
    assert {line.count("|") for line in lines[6:]} == {7}
    stored = json.loads((tmp_path / "summary.json").read_text())
    assert (stored["verdict"], stored["reason"], stored["steps"]) == (AGREE, "the same step", 2)
    assert (
        stored["pictures"].keys() == {"reason", "close_until", "equal", "steps"}
        and stored["pictures"]["close_until"] == 1
    )
