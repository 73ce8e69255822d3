"""Readers and files that somebody broke: about 2,000 of the inputs of ``make fuzz``, and some that hypothesis makes."""

import json
import os
import random
import struct
from pathlib import Path

import pytest
from fuzz_mutations import mutated_safetensors
from fuzz_readers import BYTES, Reader, bounded_memory, fault_of, place, readers, warm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pygan.errors import DataError

ROOT = Path(__file__).parents[1]
EACH = 110
NAMES = (
    "idx", "picture", "png", "gif", "state", "trace index", "trace chunk", "wire", "config", "summary", "report",
    "recipe", "manifest", "json",
)  # fmt: skip


@pytest.fixture(scope="module")
def all_readers() -> dict[str, Reader]:
    return {one.name: one for one in readers(ROOT)}


def test_every_reader_is_fuzzed(all_readers: dict[str, Reader]) -> None:
    assert tuple(all_readers) == NAMES
    assert all(one.seeds for one in all_readers.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")  # of odd metadata; a warning is no error for a user
def test_only_pygans_own_errors_come_out_of_changed_files(all_readers, tmp_path: Path, name: str) -> None:
    reader, folder = all_readers[name], place(all_readers[name], tmp_path)
    warm(reader, folder)
    for seed in reader.seeds:
        assert fault_of(reader, folder, seed) == "", "a real file"
    rng = random.Random(28)
    with bounded_memory():
        for number in range(EACH):
            content = reader.mutate(rng, rng.choice(reader.seeds), reader.seeds)
            fault = fault_of(reader, folder, content)
            assert not fault, f"input {number} ({content[:300]!r}): {fault}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def in_its_place(one: Reader, factory: pytest.TempPathFactory) -> Path:
    folder = place(one, factory.mktemp("fuzz"))
    warm(one, folder)
    return folder


@pytest.mark.parametrize("name", ["trace index", "summary", "report", "wire"])
def test_json_of_any_form(all_readers, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    reader = all_readers[name]
    folder, whole = in_its_place(reader, tmp_path_factory), json.loads(reader.seeds[0])

    @FEW
    @given(st.sampled_from(sorted(whole)), JSON)
    def check(key: str, value: object) -> None:
        for content in (value, {**whole, key: value}):
            assert not fault_of(reader, folder, json.dumps(content).encode())

    check()


@pytest.mark.parametrize("name", ["idx", "state", "config", "picture"])
def test_bytes_of_any_form(all_readers, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    reader = all_readers[name]
    folder = in_its_place(reader, tmp_path_factory)
    fields = ("width", "seed", "dtype", "discriminator_lr", "unknown", "recipe")
    values = st.integers() | st.floats() | st.booleans() | st.text(max_size=9).map(json.dumps)
    toml = st.tuples(st.sampled_from(fields), values).map(lambda one: f"{one[0]} = {one[1]}".encode("utf-8", "replace"))
    head = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3).map(
        lambda sizes: struct.pack(f">HBB{len(sizes)}I", 0, 8, len(sizes), *sizes)
    )

    @FEW
    @given({"idx": head, "config": toml}.get(name, st.just(b"")), st.binary(max_size=200))
    def check(start: bytes, rest: bytes) -> None:
        for content in (start, start + rest, rest):
            assert not fault_of(reader, folder, content)

    check()


# --- the watch sees what it is for ---------------------------------------------------------------------------------


def reader_of(read: object) -> Reader:
    return Reader("test", read, [b""])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("read", "told"),
    [
        (lambda folder, content: {}["x"], "KeyError"),
        (lambda folder, content: (folder / "../out").write_bytes(b""), "opens"),
        (lambda folder, content: exec("1"), "exec"),
        (lambda folder, content: os.system("true"), "os.system"),
        (lambda folder, content: (_ for _ in ()).throw(DataError("")), "without words"),
        (lambda folder, content: bytearray(2 * BYTES), "MemoryError"),
        (lambda folder, content: os.rename(folder / "../a", folder / "../b"), "FileNotFoundError"),
    ],
)
def test_a_reader_that_does_what_it_must_not_is_seen(tmp_path: Path, read: object, told: str) -> None:
    (tmp_path / "in").mkdir()
    with bounded_memory():
        assert told in fault_of(reader_of(read), tmp_path / "in", b"")
    assert fault_of(reader_of(lambda folder, content: (folder / "a").write_bytes(b"")), tmp_path / "in", b"") == ""


def test_changes_of_a_header_reach_the_reader(all_readers) -> None:
    rng, seed = random.Random(0), all_readers["trace chunk"].seeds[0]
    changed = [mutated_safetensors(rng, seed, [seed]) for _ in range(50)]
    whole = [one for one in changed if len(one) > 8 and 8 + struct.unpack("<Q", one[:8])[0] <= len(one)]
    assert len(whole) > 30 and len(set(changed)) == 50
