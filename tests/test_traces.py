"""Traces: what was written comes back, whatever stops the writer; what was damaged is an error, never data."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from pygan import recording, traces
from pygan.errors import OutputError, TraceError
from pygan.pictures.grid import grid
from pygan.records import KINDS, StepRecord
from pygan.stacks.torch_stack import TorchStack
from pygan.traces import Header, Trace, TraceWriter
from pygan.training import train

HEADER = Header(
    "torch", {"recipe": "flux_tutorial", "seed": 3}, {"name": "digits", "sha256": "00"}, {"cores": 2}, "cmd"
)


def full_record(step: int) -> StepRecord:
    """Every kind of array, bool patterns of awkward sizes among them."""
    random = np.random.default_rng(step)
    shapes = [(), (1,), (7,), (8,), (3, 3), (2, 1, 5, 3), (0, 4), (9, 7)]
    return StepRecord(
        step=step,
        batch_sha256=f"{step:064x}",
        loss={"discriminator": np.array(random.random(), np.float32), "generator": np.array(-0.0)},
        batch={"real": random.standard_normal((2, 1, 4, 4)).astype(np.float32)},
        logits={"real": random.standard_normal((6, 1)).astype(np.float32)},
        activation={"real/discriminator.conv1": random.standard_normal((1, 1)).astype(np.float32)},
        activation_gradient={"real/discriminator.conv1": random.standard_normal((1, 1))},
        mode={"real/discriminator.drop1": np.array(True), "sample/generator.norm1": np.array(False)},
        kink={"real/discriminator.leaky1": random.standard_normal(1)},
        order=("activation/real/discriminator.conv1", "logits/real", "loss/discriminator"),
        gradient={"generator/generator.dense.weight": random.standard_normal((4, 3)).T},
        pattern={f"fake/discriminator.leaky{i}": random.random(shape) > 0.5 for i, shape in enumerate(shapes)},
        flip={"fake/discriminator.leaky0": np.array([[0, 1], [2, 3]]), "none": np.empty((0, 4), np.int64)},
        buffer={"generator/generator.norm1.running_mean": random.standard_normal(5)},
        updated={"net/first/parameter/net.dense.weight": random.standard_normal((3, 4))},
        digest={"pattern/fake/discriminator.leaky0": random.integers(0, 256, 32, np.uint8)},
        state={"parameter/generator.dense.weight": random.standard_normal((3, 4)), "step": np.array(step, np.int64)},
        pictures={"grid": random.integers(0, 255, (5, 7), np.uint8), "values": random.standard_normal((4, 1, 2, 2))},
        sketch={"state/parameter/generator.dense.weight": random.standard_normal(17)},
    )


def written(folder: Path, count: int = 4, initial: dict[str, np.ndarray] | None = None) -> list[StepRecord]:
    records = [full_record(step) for step in range(count)]
    before = None if initial is None else StepRecord(-1, state=initial)
    with TraceWriter(folder, HEADER, before) as writer:
        for record in records:
            writer.write(record)
    return records


def check_equal(got: StepRecord, expected: StepRecord, same_arrays: Callable) -> None:
    assert (got.step, got.batch_sha256, got.order) == (expected.step, expected.batch_sha256, expected.order)
    flat = {key: np.asarray(value, order="C") for key, value in expected.to_arrays().items()}
    same_arrays(got.to_arrays(), flat)


def test_the_example_has_every_kind_of_part() -> None:
    assert all(getattr(full_record(0), kind) for kind in KINDS)
    assert len(KINDS) == 16


@pytest.mark.parametrize("chunk_bytes", [1, 1000, 1 << 20])
def test_every_kind_of_array_comes_back_bit_for_bit_however_it_is_chunked(
    tmp_path: Path, monkeypatch, chunk_bytes: int, same_arrays
) -> None:
    monkeypatch.setattr(traces, "CHUNK_BYTES", chunk_bytes)
    records = written(tmp_path / "t", 4)
    trace = Trace(tmp_path / "t")
    assert trace.header == HEADER
    assert trace.steps == [0, 1, 2, 3]
    assert len(trace) == 4
    for got, expected in zip(trace, records, strict=True):
        check_equal(got, expected, same_arrays)
    chunks = sorted(path.name for path in (tmp_path / "t").glob("chunk-*"))
    assert len(chunks) == {1: 4, 1000: 2, 1 << 20: 1}[chunk_bytes]
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == [*chunks, "trace.json"]


def test_patterns_are_stored_as_packed_bits(tmp_path: Path) -> None:
    pattern = np.array([True] + [False] * 8 + [True])
    with TraceWriter(tmp_path / "t", HEADER) as writer:
        writer.write(StepRecord(step=0, pattern={"p": pattern}))
    assert load_file(tmp_path / "t" / "chunk-000000.safetensors")["0/pattern/p"].tolist() == [1, 2]


@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_a_steps_twin_comes_back_beside_it_and_is_no_step_of_its_own(
    tmp_path: Path, monkeypatch, chunk_bytes: int, same_arrays
) -> None:
    monkeypatch.setattr(traces, "CHUNK_BYTES", chunk_bytes)
    twins = {0: full_record(10), 2: full_record(12)}
    with TraceWriter(tmp_path / "t", HEADER, StepRecord(-1, state={"step": np.array(0)})) as writer:
        for step in range(3):
            writer.write(full_record(step), replace(twins[step], step=step) if step in twins else None)
    trace = Trace(tmp_path / "t")
    assert (trace.steps, len(trace), [one.step for one in trace]) == ([0, 1, 2], 3, [0, 1, 2])
    for step in range(3):
        check_equal(trace.record(step), full_record(step), same_arrays)
        twin = trace.twin(step)
        assert (twin is not None) == (step in twins)
        if twin is not None:
            check_equal(twin, replace(twins[step], step=step), same_arrays)
    assert trace.training_steps == 3
    assert trace.twin(3) is None


def test_tensors_with_equal_bytes_are_stored_once_and_come_back_each_in_its_shape(tmp_path: Path, same_arrays) -> None:
    whole = np.arange(240.0)
    record = StepRecord(
        0,
        activation={"a/net.one": whole, "a/net.flatten": whole.reshape(12, 20), "b/net.one": whole + 1},
        state={"parameter/x": whole.copy(), "parameter/narrow": whole.view(np.int64), "parameter/small": np.ones(3)},
        buffer={"a/net.small": np.ones(3)},
        pattern={"a/net.relu": np.ones(4000, bool), "b/net.relu": np.ones((40, 100), bool)},
    )
    with TraceWriter(tmp_path / "t", HEADER) as writer:
        writer.write(record)
        writer.write(replace(record, step=1))
    stored = load_file(tmp_path / "t" / "chunk-000000.safetensors")
    first = {name for name in stored if name.startswith("0/")}
    assert first == {
        "0/activation/a/net.one", "0/activation/b/net.one", "0/state/parameter/narrow", "0/state/parameter/small",
        "0/buffer/a/net.small", "0/pattern/a/net.relu",
    }  # fmt: skip
    assert len(stored) == 2 * len(first), "each step is whole by itself"
    for step in range(2):
        same_arrays(Trace(tmp_path / "t").record(step).to_arrays(), record.to_arrays())


def test_digests_of_the_initial_state_are_no_state(tmp_path: Path, same_arrays) -> None:
    digest = {"state/parameter/x": np.arange(32, dtype=np.uint8)}
    with TraceWriter(tmp_path / "t", HEADER, StepRecord(-1, digest=digest)) as writer:
        writer.write(full_record(0))
    trace = Trace(tmp_path / "t")
    initial = trace.initial()
    assert initial is not None
    same_arrays(initial.digest, digest)
    assert initial.state == trace.initial_state() == {}
    with pytest.raises(TraceError, match="stores no full state before step 0"):
        trace.state_before(0)


def test_the_initial_state_is_the_one_before_the_first_step(tmp_path: Path, same_arrays) -> None:
    initial = {"parameter/x": np.arange(3.0), "step": np.array(0, np.int64)}
    records = written(tmp_path / "t", 3, initial)
    trace = Trace(tmp_path / "t")
    same_arrays(trace.initial_state(), initial)
    same_arrays(trace.state_before(0), initial)
    same_arrays(trace.state_before(2), records[1].state)
    assert trace.steps == [0, 1, 2]


def test_a_trace_of_the_initial_state_alone_still_gives_it(tmp_path: Path, same_arrays) -> None:
    initial = {"step": np.array(0, np.int64)}
    written(tmp_path / "t", 0, initial)
    same_arrays(Trace(tmp_path / "t").state_before(0), initial)


def test_a_state_that_was_not_stored_is_an_error(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t", HEADER) as writer:
        writer.write(StepRecord(step=0, loss={"d": np.array(1.0)}))
    trace = Trace(tmp_path / "t")
    for step in (0, 1, 7):
        with pytest.raises(TraceError, match=f"stores no full state before step {step}"):
            trace.state_before(step)
    with pytest.raises(TraceError, match="holds steps 0 to 0, not initial"):
        trace.initial_state()
    assert trace.initial() is None


def test_a_missing_step_is_an_error_that_says_what_there_is(tmp_path: Path) -> None:
    written(tmp_path / "t", 3)
    with pytest.raises(TraceError, match="holds steps 0 to 2, not 3"):
        Trace(tmp_path / "t").record(3)
    written(tmp_path / "none", 0)
    with pytest.raises(TraceError, match="holds no steps, not 0"):
        Trace(tmp_path / "none").record(0)
    with pytest.raises(TraceError, match="stores no full state before step 0"):
        Trace(tmp_path / "none").state_before(0)
    assert Trace(tmp_path / "none").twin(0) is None


def test_a_writer_stopped_by_an_exception_leaves_all_records_so_far(tmp_path: Path, same_arrays) -> None:
    with pytest.raises(KeyboardInterrupt), TraceWriter(tmp_path / "t", HEADER) as writer:
        writer.write(full_record(0))
        writer.write(full_record(1))
        raise KeyboardInterrupt
    got = list(Trace(tmp_path / "t"))
    assert len(got) == 2
    check_equal(got[1], full_record(1), same_arrays)


def test_a_writer_killed_at_any_moment_leaves_a_trace_valid_up_to_its_last_chunk(
    tmp_path: Path, monkeypatch, same_arrays
) -> None:
    monkeypatch.setattr(traces, "CHUNK_BYTES", 1000)
    writer = TraceWriter(tmp_path / "t", HEADER)
    assert Trace(tmp_path / "t").steps == []
    held = []
    for step in range(5):
        writer.write(full_record(step))  # never left, never flushed by hand: as after SIGKILL
        held.append(Trace(tmp_path / "t").steps)
    assert held == [[], [0, 1], [0, 1], [0, 1, 2, 3], [0, 1, 2, 3]]
    check_equal(Trace(tmp_path / "t").record(3), full_record(3), same_arrays)


def test_a_chunk_on_disk_that_the_index_does_not_name_is_not_read(tmp_path: Path) -> None:
    written(tmp_path / "t", 2)
    (tmp_path / "t" / "chunk-000001.safetensors").write_bytes(b"half a chunk")
    assert [record.step for record in Trace(tmp_path / "t")] == [0, 1]


def test_a_folder_that_holds_a_trace_is_not_written_over(tmp_path: Path) -> None:
    written(tmp_path / "t", 2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "t").iterdir()}
    with pytest.raises(OutputError, match="already holds a trace"):
        TraceWriter(tmp_path / "t", HEADER)
    assert {path.name: path.read_bytes() for path in (tmp_path / "t").iterdir()} == before


def test_a_changed_byte_in_a_chunk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    written(tmp_path / "t")
    chunk = tmp_path / "t" / "chunk-000000.safetensors"
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(TraceError, match=r"chunk-000000\.safetensors is damaged"):
        Trace(tmp_path / "t").record(0)


def test_a_missing_chunk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    written(tmp_path / "t")
    (tmp_path / "t" / "chunk-000000.safetensors").unlink()
    with pytest.raises(TraceError, match=r"cannot read .*chunk-000000\.safetensors"):
        Trace(tmp_path / "t").record(0)


def with_index(folder: Path, change: Callable[[dict], object]) -> Path:
    written(folder, 2)
    index = json.loads((folder / "trace.json").read_text())
    change(index)
    (folder / "trace.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "a/../b", "sub/chunk"])
def test_a_chunk_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = with_index(tmp_path / "t", lambda index: index["chunks"][0].update(file=name))
    with pytest.raises(TraceError, match="names a chunk outside its folder"):
        Trace(folder)


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_a_chunk_that_is_a_folder_is_an_error(tmp_path: Path, name: str) -> None:
    folder = with_index(tmp_path / "t", lambda index: index["chunks"][0].update(file=name))
    with pytest.raises(TraceError):
        Trace(folder).record(0)


@pytest.mark.parametrize("schema", [0, 1, 3, "2", None])
def test_another_schema_is_an_error_that_names_both(tmp_path: Path, schema: object) -> None:
    folder = with_index(tmp_path / "t", lambda index: index.update(schema=schema))
    with pytest.raises(TraceError, match=rf"has schema {schema}; this pygan reads trace schema 2"):
        Trace(folder)


@pytest.mark.parametrize("field", ["stack", "config", "data", "environment", "command", "recorded", "chunks", "schema"])
def test_an_index_without_a_field_is_an_error_that_names_it(tmp_path: Path, field: str) -> None:
    folder = with_index(tmp_path / "t", lambda index: index.pop(field))
    with pytest.raises(TraceError, match=f"trace.json lacks {field}"):
        Trace(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.update(chunks=7),
        lambda index: index.update(chunks=[7]),
        lambda index: index["chunks"][0].pop("file"),
        lambda index: index["chunks"][0].pop("steps"),
        lambda index: index["chunks"][0].update(steps=["first"]),
        lambda index: index["chunks"][0].update(steps=["-1"]),
        lambda index: index["chunks"][0].update(steps=["1.0"]),
        lambda index: index["chunks"][0].update(steps=["00"]),
        lambda index: index["chunks"][0].update(steps=["float64:"]),
        lambda index: index["chunks"][0].update(steps=["float64:x"]),
        lambda index: index["chunks"][0].update(steps=["float32:0"]),
        lambda index: index["chunks"][0].update(steps=["float64:float64:0"]),
        lambda index: index["chunks"][0].update(steps=["0", 1]),
        lambda index: index["chunks"][0].update(steps=7),
    ],
)
def test_a_malformed_list_of_chunks_is_an_error(tmp_path: Path, change: Callable[[dict], object]) -> None:
    with pytest.raises(TraceError, match="describes its chunks wrongly"):
        Trace(with_index(tmp_path / "t", change))


def test_a_truncated_or_foreign_index_is_an_error_that_names_it(tmp_path: Path) -> None:
    written(tmp_path / "t", 2)
    path = tmp_path / "t" / "trace.json"
    whole = path.read_text()
    for text in (whole[: len(whole) // 2], "", "\x00\xff"):
        path.write_text(text)
        with pytest.raises(TraceError, match=r"trace\.json is not valid JSON"):
            Trace(tmp_path / "t")
    path.write_text("[1, 2]")
    with pytest.raises(TraceError, match=r"trace\.json lacks"):
        Trace(tmp_path / "t")
    with pytest.raises(TraceError, match="is not a trace"):
        Trace(tmp_path / "nowhere")


def test_an_array_of_unknown_kind_is_an_error_that_names_it() -> None:
    with pytest.raises(TraceError, match="step 4 holds 'mood/happy'"):
        StepRecord.from_arrays(4, {"mood/happy": np.zeros(1)})
    with pytest.raises(TraceError, match="step 4 holds 'loss'"):
        StepRecord.from_arrays(4, {"loss": np.zeros(1)})


def test_a_recorded_run_is_the_run_that_was_seen_live(tmp_path: Path, narrow, digits, same_arrays) -> None:
    capture = ("gradients", "logits", "patterns", "sketches", "state")
    kept = list(
        recording.record(
            TorchStack(narrow),
            digits,
            4,
            tmp_path / "t",
            command="pygan record",
            picture_every=2,
            exact_pictures_until=1,
            capture=lambda step: capture,
        )
    )
    trace = Trace(tmp_path / "t")
    assert trace.header.config == narrow.to_dict()
    assert trace.header.data == {"name": "digits", "images": 22, "sha256": digits.sha256}
    assert trace.header.command == "pygan record"
    assert [list(record.pictures) for record in trace] == [["grid", "values"], [], ["grid"], [], ["grid"]]
    for live, stored in zip(kept, trace, strict=True):
        check_equal(replace(stored, pictures={}), replace(live, pictures={}), same_arrays)
    for step in (0, 2):
        assert np.array_equal(trace.record(step).pictures["grid"], grid(kept[step].pictures["values"], 2))
    same_arrays(trace.initial_state(), TorchStack(narrow).state())

    replayed = TorchStack(narrow)
    replayed.load_state(trace.state_before(2))
    [again] = train(replayed, digits, 1, first=2, capture=lambda step: capture)
    check_equal(again, replace(trace.record(2), pictures={}), same_arrays)


def test_a_recording_that_its_reader_leaves_midway_is_valid(tmp_path: Path, narrow, digits) -> None:
    made = recording.record(TorchStack(narrow), digits, 100, tmp_path / "t")
    seen = [next(made) for _ in range(3)]
    made.close()  # type: ignore[attr-defined]
    assert [record.loss for record in Trace(tmp_path / "t")] == [record.loss for record in seen]


def test_no_source_of_the_package_unpickles(root: Path) -> None:
    sources = {path: path.read_text(encoding="utf-8") for path in (root / "pygan").rglob("*.py")}
    assert len(sources) > 30
    for path, text in sources.items():
        for word in (
            "import pickle",
            "cPickle",
            "import dill",
            "joblib",
            "shelve",
            "marshal",
            "torch.load",
            "torch.save",
        ):
            assert word not in text, f"{path} uses {word}"
        assert "allow_pickle=True" not in text.replace(" ", ""), path
