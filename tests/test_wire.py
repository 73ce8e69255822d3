"""The wire of the flux worker: arrays through a mapped file, and no byte read that is not there."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from pygan.errors import WorkerError
from pygan.stacks.wire import ArrayFile

DTYPES = ("float32", "float64", "int64", "uint8", "bool")


@pytest.fixture
def file(tmp_path: Path) -> Iterator[ArrayFile]:
    made = ArrayFile(tmp_path / "wire")
    yield made
    made.close()


def example(dtype: str) -> dict[str, np.ndarray]:
    shapes = [(), (1,), (0,), (3, 0, 2), (5,), (2, 3, 1, 4), (64,), (65,)]
    random = np.random.default_rng(0)
    return {str(shape): (random.random(shape) * 200).astype(dtype) for shape in shapes}


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_every_dtype_and_rank_come_back_bit_for_bit(file: ArrayFile, dtype: str, same_arrays) -> None:
    same_arrays(file.receive(file.send(example(dtype))), example(dtype))


SHAPES = arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=8),
        st.sampled_from(DTYPES).flatmap(
            lambda dtype: arrays_of.arrays(
                dtype, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
            )
        ),
        max_size=6,
    )
)
def test_any_mixture_comes_back_and_no_two_arrays_overlap(tmp_path_factory, sent: dict[str, np.ndarray]) -> None:
    file = ArrayFile(tmp_path_factory.mktemp("wire") / "wire")
    try:
        table = file.send(sent)
        got = file.receive(table)
    finally:
        file.close()
    assert {key: (value.dtype, value.shape, value.tobytes()) for key, value in got.items()} == {
        key: (value.dtype, value.shape, value.tobytes()) for key, value in sent.items()
    }
    assert all(entry["offset"] % 64 == 0 for entry in table.values())


def test_a_view_in_another_order_is_sent_as_it_reads(file: ArrayFile) -> None:
    value = np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)[::-1]
    assert np.array_equal(file.receive(file.send({"x": value}))["x"], value)


def test_the_file_grows_and_serves_smaller_messages_again(file: ArrayFile) -> None:
    for count in (10, 100_000, 3, 1_000_000, 0, 7):
        value = np.arange(count, dtype=np.float64)
        assert np.array_equal(file.receive(file.send({"x": value}))["x"], value)


def test_received_arrays_are_copies_that_the_next_message_does_not_touch(file: ArrayFile) -> None:
    first = file.receive(file.send({"x": np.ones(4)}))["x"]
    file.send({"x": np.zeros(4)})
    assert first.tolist() == [1, 1, 1, 1]
    first[0] = 5


def test_what_another_process_wrote_and_grew_is_read(tmp_path: Path, file: ArrayFile) -> None:
    file.receive(file.send({"x": np.zeros(2)}))
    content = np.arange(1000, dtype=np.float32)
    (tmp_path / "wire").write_bytes(bytes(64) + content.tobytes())
    entry = {"dtype": "F32", "shape": [1000], "offset": 64}
    assert np.array_equal(file.receive({"y": entry})["y"], content)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F64", "shape": [17], "offset": 0},
        {"dtype": "F64", "shape": [1], "offset": 121},
        {"dtype": "U8", "shape": [1], "offset": 128},
        {"dtype": "F32", "shape": [2**40, 2**40], "offset": 0},
        {"dtype": "U8", "shape": [1], "offset": 2**62},
    ],
)
def test_a_claim_beyond_the_end_of_the_file_is_an_error(file: ArrayFile, entry: dict) -> None:
    file.send({"x": np.zeros(16)})
    with pytest.raises(WorkerError, match=r"ends beyond its file: .* bytes of 128"):
        file.receive({"y": entry})


def test_a_claim_that_ends_exactly_at_the_end_is_read(file: ArrayFile) -> None:
    file.send({"x": np.arange(16.0)})
    assert file.receive({"y": {"dtype": "F64", "shape": [1], "offset": 120}})["y"].tolist() == [15]


def test_a_file_that_was_cut_after_it_was_mapped_is_an_error_and_no_bus_error(tmp_path: Path, file: ArrayFile) -> None:
    table = file.send({"x": np.zeros(100_000)})
    os.truncate(tmp_path / "wire", 64)
    with pytest.raises(WorkerError, match="ends beyond its file: 800000 bytes of 64"):
        file.receive(table)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F64", "shape": [1], "offset": -8},
        {"dtype": "F64", "shape": [-1], "offset": 0},
        {"dtype": "F64", "shape": [-1, -1], "offset": 0},
        {"dtype": "F64", "shape": [1], "offset": 0.5},
        {"dtype": "F64", "shape": ["1"], "offset": 0},
        {"dtype": "F64", "shape": 3, "offset": 0},
        {"dtype": "F16", "shape": [1], "offset": 0},
        {"shape": [1], "offset": 0},
        {"dtype": "F64"},
        None,
    ],
    ids=str,
)
def test_a_description_that_is_no_array_is_an_error_that_names_it(file: ArrayFile, entry: object) -> None:
    file.send({"x": np.zeros(16)})
    with pytest.raises(WorkerError, match="the worker describes weights by"):
        file.receive({"weights": entry})


@pytest.mark.parametrize("dtype", ["float16", "int32", ">f4", "complex64", "U3"])
def test_a_dtype_that_the_wire_does_not_carry_is_an_error_that_names_it(file: ArrayFile, dtype: str) -> None:
    with pytest.raises(WorkerError, match=r"weights has dtype .*the wire carries F32, F64, I64, U8, BOOL"):
        file.send({"weights": np.zeros(2, dtype)})


def test_the_file_is_private_and_never_an_existing_one(tmp_path: Path, file: ArrayFile) -> None:
    assert (tmp_path / "wire").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        ArrayFile(tmp_path / "wire")


def test_closing_twice_is_fine_and_closes_the_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    file = ArrayFile(tmp_path / "other")
    file.send({"x": np.zeros(3)})
    file.close()
    file.close()
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before
