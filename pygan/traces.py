"""Traces: streams of StepRecords stored on disk, by Python or by Julia (``julia/src/traces.jl``).

A trace is a folder: ``trace.json`` (schema, stack, config, environment, data hashes, the command, and per chunk its
file, size, SHA-256 and steps) and ``chunk-000000.safetensors`` ... whose tensors are called ``<step>/<kind>/<name>``.
Bool arrays are stored as packed bits (uint8, little-endian bit order) with their shape in the chunk's metadata. A
tensor with the bytes of another one of its step is stored once. A Float32 trace can hold, beside a step, the Float64
step of the same stack from the same state (its ``twin``), under ``float64:<step>``.

Chunks are written atomically and ``trace.json`` after each, so a trace that was stopped at any moment is valid up to
its last chunk. That of a running recording is ``chunk-000003.part-<steps>.safetensors``, which grows until it is full
and takes the plain name. Where chunks end depends on the records alone, so that a run which was stopped and gone on
with leaves the same files.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import re
import reprlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from pygan.config import with_defaults
from pygan.errors import OutputError, TraceError
from pygan.files import parse_json, read_json, sha256, sha256_file, write_bytes, write_json
from pygan.records import Arrays, StepRecord
from pygan.state import State

SCHEMA = 2
CHUNK_BYTES = 16 << 20
CHUNK_SECONDS = 120.0
"""A killed run loses at most the records of this time."""
PART = re.compile(r"chunk-\d+(\.part-\d+)?\.safetensors")
INITIAL = "initial"
"""Name of the pseudo-step under which the state before the first step is stored."""
TWIN = "float64:"
"""What stands before the number of a step's Float64 twin."""
SHARED_BYTES = 256
"""Smaller tensors are stored as they are, whatever they share."""


@dataclass(frozen=True)
class Header:
    """What a trace says of the run as a whole."""

    stack: str
    config: dict[str, Any]
    data: dict[str, Any]
    environment: dict[str, Any]
    command: str = ""
    recorded: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))


def refuse_existing(folder: Path) -> None:
    """Raise ``OutputError`` if ``folder`` holds a trace with any step; one that never got that far is replaced."""
    if not (folder / "trace.json").exists():
        return
    with contextlib.suppress(TraceError):
        if not Trace(folder).steps:
            return
    raise OutputError(
        f"{folder} already holds a trace; remove it or choose another folder (a stopped run goes on with --resume)"
    )


def remove_trace(folder: Path) -> None:
    """Remove the files of the trace in ``folder``, if there is one, and the folder if nothing else is in it.

    Raises ``OutputError`` naming what cannot be removed.
    """
    try:
        for path in (folder / "trace.json", *(one for one in folder.glob("chunk-*") if PART.fullmatch(one.name))):
            path.unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise OutputError(f"cannot remove {error.filename}: {error.strerror}") from error


class TraceWriter:
    """Stores records as they come. Use as a context manager; leaving it, also by an exception, ends the last chunk.

    With ``upto`` it goes on with the trace that is there: its header, and the records before that step, are kept, later
    ones dropped. Raises ``TraceError`` where it lacks one of these, or is damaged.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> header = Header(stack="torch", config={"seed": 0}, data={"name": "digits"}, environment={})
    >>> with TraceWriter(folder.name, header) as trace:
    ...     trace.write(StepRecord(0, loss={"generator": np.float32(0.5)}))
    ...     trace.write(StepRecord(1, loss={"generator": np.float32(0.25)}))
    >>> stored = Trace(folder.name)
    >>> stored.steps, [float(record.loss["generator"]) for record in stored], stored.header.stack
    ([0, 1], [0.5, 0.25], 'torch')
    >>> stored.record(2)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    pygan.errors.TraceError: ... holds steps 0 to 1, not 2
    >>> folder.cleanup()
    """

    def __init__(
        self, folder: str | Path, header: Header, initial: StepRecord | None = None, upto: int | None = None
    ) -> None:
        self.folder = Path(folder)
        self._header = header
        self._part = ""
        self._chunks: list[dict[str, Any]] = []
        self._arrays: Arrays = {}
        self._steps: dict[str, dict[str, Any]] = {}
        self._bytes = 0
        self._flushed = time.monotonic()
        if upto is not None:
            self._go_on(upto)
            return
        refuse_existing(self.folder)
        self._write_index()
        if initial is not None:
            self._add(INITIAL, initial.to_arrays(), {})

    def _go_on(self, upto: int) -> None:
        stored = Trace(self.folder)
        if stored.steps[:upto] != list(range(upto)):
            raise TraceError(f"{self.folder} lacks steps before {upto}, so the run cannot go on there")
        self._header = stored.header
        for chunk in stored.chunks:
            steps = [step for step in chunk["steps"] if step == INITIAL or int(step.removeprefix(TWIN)) < upto]
            for step in steps:
                facts, arrays = stored.raw(step)
                self._keep(step, arrays, facts)
            if steps == chunk["steps"] and self._bytes >= CHUNK_BYTES:
                self._chunks.append(chunk)
                self._arrays, self._steps, self._bytes = {}, {}, 0
        if self._steps:
            self.flush()  # the last chunk is open again, under a name of its own
        else:
            self._write(self._chunks, "")
        known = {chunk["file"] for chunk in self._chunks} | {self._part}
        for path in self.folder.iterdir():
            if PART.fullmatch(path.name) and path.name not in known:
                path.unlink()

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_chunk()

    def write(self, record: StepRecord, twin: StepRecord | None = None) -> None:
        """Add one record, and its Float64 twin where there is one; chunks reach the disk when they are full."""
        for name, one in ((str(record.step), record), (f"{TWIN}{record.step}", twin)):
            if one is not None:
                facts: dict[str, Any] = {"batch_sha256": one.batch_sha256}
                if one.order:
                    facts["order"] = list(one.order)
                self._add(name, one.to_arrays(), facts)

    def _add(self, step: str, arrays: Arrays, facts: dict[str, Any]) -> None:
        shapes: dict[str, list[int]] = {}
        shared: dict[str, tuple[str, list[int]]] = {}
        first: dict[tuple[str, str], str] = {}
        kept: Arrays = {}
        for key, value in arrays.items():
            if value.dtype == np.bool_:
                shapes[key] = list(value.shape)
                value = np.packbits(value.reshape(-1), bitorder="little")
            stored = np.asarray(value, order="C")
            if stored.nbytes >= SHARED_BYTES:
                known = first.setdefault((str(stored.dtype), sha256(stored.tobytes())), key)
                if known != key:
                    shared[key] = (known, list(stored.shape))
                    continue
            kept[key] = stored
        told = {
            **facts,
            **({"bool_shapes": shapes} if shapes else {}),
            **({"same": shared} if shared else {}),
        }
        self._keep(step, kept, told)
        if self._bytes >= CHUNK_BYTES:
            self._end_chunk()
        elif time.monotonic() - self._flushed >= CHUNK_SECONDS:
            self.flush()

    def _keep(self, step: str, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        self._arrays |= {f"{step}/{key}": value for key, value in arrays.items()}
        self._bytes += sum(value.nbytes for value in arrays.values())
        self._steps[step] = dict(facts)

    def flush(self) -> None:
        """Have on disk what is pending; the chunk stays open."""
        if self._steps:
            part = f"chunk-{len(self._chunks):06d}.part-{len(self._steps)}.safetensors"
            self._write([*self._chunks, self._chunk(part)], part)

    def _end_chunk(self) -> None:
        if self._steps:
            self._chunks.append(self._chunk(f"chunk-{len(self._chunks):06d}.safetensors"))
            self._arrays, self._steps, self._bytes = {}, {}, 0
            self._write(self._chunks, "")

    def _chunk(self, name: str) -> dict[str, Any]:
        """What is pending, written as the file ``name``."""
        if not (self.folder / "trace.json").exists():
            raise OutputError(f"{self.folder} was removed or emptied while it was being written, so the run ends here")
        content = to_safetensors(self._arrays, {"steps": json.dumps(self._steps)})
        write_bytes(self.folder / name, content)
        return {"file": name, "bytes": len(content), "sha256": sha256(content), "steps": list(self._steps)}

    def _write(self, chunks: list[dict[str, Any]], part: str) -> None:
        """Make these chunks the trace's, the last of them in the open file ``part`` if that is named."""
        self._write_index(chunks)
        if self._part not in ("", part):
            (self.folder / self._part).unlink(missing_ok=True)
        self._part = part
        self._flushed = time.monotonic()

    def _write_index(self, chunks: list[dict[str, Any]] | None = None) -> None:
        index = {"schema": SCHEMA, **self._header.__dict__, "chunks": self._chunks if chunks is None else chunks}
        write_json(self.folder / "trace.json", index)


class Trace:
    """A trace on disk; iterate it for its records in order, or ask for one by step.

    Raises ``TraceError`` naming file and fault: missing, of another schema, truncated, or changed since it was made.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        index = self._read_index()
        self.header = Header(**{key: index[key] for key in Header.__dataclass_fields__})
        self._where: dict[str, dict[str, Any]] = {}
        self.chunks: list[dict[str, Any]] = index["chunks"]
        """The files that it is in, each with its steps."""
        try:
            for chunk in self.chunks:
                if Path(chunk["file"]).name != chunk["file"]:
                    raise TraceError(f"{self.folder}/trace.json names a chunk outside its folder: {chunk['file']!r}")
                self._where |= {_name(step): chunk for step in chunk["steps"]}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise TraceError(f"{self.folder}/trace.json describes its chunks wrongly: {error!r}") from error
        self._contents: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {}
        self._open: tuple[str, Any] = ("", None)
        """The chunk that was read last, still open: opening one reads all its names anew."""

    def _read_index(self) -> dict[str, Any]:
        path = self.folder / "trace.json"
        try:
            index = read_json(path)
        except OSError as error:
            raise TraceError(f"{self.folder} is not a trace: cannot read {path.name} ({error.strerror})") from error
        except ValueError as error:
            raise TraceError(f"{path} is not valid JSON: {error}") from error
        missing = {"schema", "chunks", *Header.__dataclass_fields__} - set(index if isinstance(index, dict) else ())
        if missing or index["schema"] != SCHEMA:
            fault = f"lacks {', '.join(sorted(missing))}" if missing else f"has schema {index['schema']}"
            raise TraceError(f"{path} {fault}; this pygan reads trace schema {SCHEMA}")
        for key in ("config", "data", "environment"):
            if not isinstance(index[key], dict):
                raise TraceError(f"{path}: {key} is {reprlib.repr(index[key])}, expected a JSON object")
        return dict(index)

    @property
    def config(self) -> dict[str, Any]:
        """The run's config, whole: the header's, with defaults for fields that came after it was recorded."""
        return with_defaults(self.header.config)

    @property
    def steps(self) -> list[int]:
        """The steps that it holds, in order."""
        return sorted(int(step) for step in self._where if step.isdecimal())

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[StepRecord]:
        return (self.record(step) for step in self.steps)

    @property
    def training_steps(self) -> int:
        """Training steps that it holds; its last record may carry only the closing pictures."""
        return len(self.steps_with("loss"))

    def steps_with(self, kind: str) -> list[int]:
        """The steps whose records hold arrays of ``kind``, by the arrays' names alone."""
        names = {step: self._names(str(step)) for step in self.steps}
        return [step for step, held in names.items() if any(key.startswith(f"{kind}/") for key in held)]

    def record(self, step: int) -> StepRecord:
        """The record of ``step``."""
        facts, arrays = self._load(str(step))
        return StepRecord.from_arrays(step, arrays, facts.get("batch_sha256", ""), facts.get("order", ()))

    def twin(self, step: int) -> StepRecord | None:
        """The Float64 step of the recorded stack from the state before ``step``; None where it was not recorded."""
        if f"{TWIN}{step}" not in self._where:
            return None
        facts, arrays = self._load(f"{TWIN}{step}")
        return StepRecord.from_arrays(step, arrays, facts.get("batch_sha256", ""), facts.get("order", ()))

    def initial(self) -> StepRecord | None:
        """What was recorded before the first step: the state, or digests of it; None where nothing was."""
        return StepRecord.from_arrays(-1, self._load(INITIAL)[1]) if INITIAL in self._where else None

    def initial_state(self) -> State:
        """The state before the first step."""
        return StepRecord.from_arrays(-1, self._load(INITIAL)[1]).state

    def state_before(self, step: int) -> State:
        """The state that ``step`` started from: the initial one, or that after the step before."""
        first = INITIAL in self._where and step == next(iter(self.steps), 0)
        known = first or str(step - 1) in self._where
        state = (self.initial_state() if first else self.record(step - 1).state) if known else {}
        if not state:
            raise TraceError(f"{self.folder} stores no full state before step {step}")
        return state

    def raw(self, step: str) -> tuple[Mapping[str, Any], Arrays]:
        """Facts and arrays of a stored step by its name, as they lie in the chunk."""
        with self._chunk_of(step) as (stored, facts, keys):
            return facts, {key: stored.get_tensor(f"{step}/{key}") for key in keys}

    def _load(self, step: str) -> tuple[Mapping[str, Any], Arrays]:
        with self._chunk_of(step) as (stored, facts, keys):
            arrays = {key: stored.get_tensor(f"{step}/{key}") for key in keys}
            for key, (known, shape) in facts.get("same", {}).items():
                arrays[key] = arrays[known].reshape(shape)
            for key, shape in facts.get("bool_shapes", {}).items():
                bits = np.unpackbits(arrays[key], bitorder="little")
                if not 0 <= bits.size - math.prod(shape) < 8:
                    raise ValueError(f"{key} has {bits.size} bits, which are no {shape}")
                arrays[key] = bits[: math.prod(shape)].astype(bool).reshape(shape)
        return facts, arrays

    def _names(self, step: str) -> list[str]:
        with self._chunk_of(step) as (_, facts, keys):
            return [*keys, *facts.get("same", {})]

    @contextlib.contextmanager
    def _chunk_of(self, step: str) -> Iterator[tuple[Any, Mapping[str, Any], list[str]]]:
        """The open chunk of ``step``, checked once, with the step's facts and the keys of its arrays."""
        chunk = self._where.get(step)
        if chunk is None:
            held = f"steps {self.steps[0]} to {self.steps[-1]}" if self.steps else "no steps"
            raise TraceError(f"{self.folder} holds {held}, not {step}")
        path = self.folder / chunk["file"]
        try:
            known = chunk["file"] in self._contents
            if not known and sha256_file(path) != chunk["sha256"]:
                raise TraceError(f"{path} is damaged: its SHA-256 is not the one in trace.json")
            if self._open[0] != chunk["file"]:
                self._open = (chunk["file"], safe_open(path, framework="numpy"))
            stored = self._open[1]
            if not known:
                self._contents[chunk["file"]] = _contents(stored)
            all_facts, keys = self._contents[chunk["file"]]
            facts = all_facts[step]
            if not all(type(one) is str for one in (facts.get("batch_sha256", ""), *facts.get("order", ()))):
                raise ValueError(f"step {step} has an odd batch_sha256 or order")
            yield stored, facts, keys.get(step, [])
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
            raise TraceError(f"cannot read {path}: {error}") from error


def _name(step: str) -> str:
    """A recorded step's name, checked. Raises ``ValueError`` on any other."""
    number = step.removeprefix(TWIN)
    if step == INITIAL or (number.isdecimal() and str(int(number)) == number):
        return step
    raise ValueError(f"{step!r} names no step")


def _contents(stored: Any) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Facts, and keys of the arrays, of every step in an open chunk."""
    keys: dict[str, list[str]] = {}
    for name in stored.keys():  # noqa: SIM118 - not a dict
        step, _, key = name.partition("/")
        keys.setdefault(step, []).append(key)
    return parse_json(stored.metadata()["steps"]), keys
