"""Draws: the published cipher, the laws of the numbers made from it, and their bytes on any machine."""

import hashlib
import importlib
import os
import subprocess
import sys
from math import erf, sqrt
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pygan import draws as draws_module
from pygan.draws import Draws, fields, keep_threshold, normals_from_fields, stream_id, words
from pygan.errors import ConfigError

MASK = (1 << 64) - 1
WORD = st.integers(0, MASK)
CORE = "numpy._core" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core"

DIGEST_SCRIPT = """
import hashlib
from pygan.draws import Draws, words
draws = Draws(20211008, 7)
for value in (
    words(20211008, "digest", 7, 1001),
    draws.normal("digest", (1013, 3)),
    draws.uniform("digest", (1013, 3)),
    draws.keep("digest", (1013, 3), 0.3),
    draws.permutation("digest", 1013),
):
    print(value.dtype.str, hashlib.sha256(value.tobytes()).hexdigest())
"""
DIGESTS = """
<u8 ba0d3ecb9796a23fd403751c103e9a3d5aa9507de01f55aea8156b32fcd7595f
<f4 666f9a864c2d32b9c4d447f1fa7835f766a490ff0f2620b5d3e713d06545a5bd
<f4 5fa9a1aa7306eeb129acdfb19b7a3b6e3a3499bc86225678abeb7800b07aba0a
|b1 e3412a8f87db1172099dfd6a5733ba5b2468ebe19c7c347db6a6591a36c7dc79
<i8 7f70863c19ec1a6029123a3eb3a98951e7f2409ff882e5db4a1b6011fb920a40
""".strip().splitlines()


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Philox4x64-10 after the paper's text, in Python's integers."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (second >> 64) ^ c1 ^ k0, second & MASK, (first >> 64) ^ c3 ^ k1, first & MASK
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK, (k1 + 0xBB67AE8584CAA73B) & MASK
    return c0, c1, c2, c3


def reference_words(seed: int, stream: str, step: int, count: int) -> list[int]:
    key = (seed, stream_id(stream))
    drawn = [word for block in range(1, count // 4 + 2) for word in philox((block, step, 0, 0), key)]
    return drawn[:count]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("0 0 0 0", "0 0", "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b"),
        (
            " ".join(["ffffffffffffffff"] * 4),
            " ".join(["ffffffffffffffff"] * 2),
            "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0",
        ),
        (
            "243f6a8885a308d3 13198a2e03707344 a4093822299f31d0 082efa98ec4e6c89",
            "452821e638d01377 be5466cf34e90c6c",
            "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
        ),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_the_reference_cipher_gives_the_known_answers_of_random123(counter: str, key: str, expected: str) -> None:
    def as_numbers(text: str) -> tuple[int, ...]:
        return tuple(int(word, 16) for word in text.split())

    assert philox(as_numbers(counter), as_numbers(key)) == as_numbers(expected)


@settings(max_examples=40, deadline=None)
@given(seed=WORD, stream=st.text(max_size=12), step=WORD, count=st.integers(1, 19))
def test_words_are_the_reference_cipher_of_seed_stream_and_step(seed: int, stream: str, step: int, count: int) -> None:
    drawn = words(seed, stream, step, count)
    assert drawn.dtype == np.uint64
    assert drawn.tolist() == reference_words(seed, stream, step, count)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("", 0xCBF29CE484222325), ("a", 0xAF63DC4C8601EC8C), ("foobar", 0x85944171F73967E8)],
)
def test_stream_ids_are_64_bit_fnv_1a(name: str, expected: int) -> None:
    assert stream_id(name) == expected


@pytest.mark.parametrize("bad", [-1, 1 << 64])
@pytest.mark.parametrize("name", ["seed", "step"])
def test_a_seed_or_step_outside_64_bits_is_an_error_that_names_it(name: str, bad: int) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must lie in .* got {bad}"):
        words(**{"seed": 0, "step": 0, name: bad}, stream="x", count=1)


@pytest.mark.parametrize("bits", [16, 32])
def test_fields_are_the_words_lowest_bits_first(bits: int) -> None:
    expected = [
        (word >> shift) & ((1 << bits) - 1)
        for word in reference_words(3, "fields", 4, 6)
        for shift in range(0, 64, bits)
    ]
    drawn = fields(3, "fields", 4, len(expected) - 1, bits)
    assert drawn.dtype == np.dtype(f"u{bits // 8}")
    assert drawn.tolist() == expected[:-1]


def test_normals_follow_the_quantile_of_their_tail_within_1e_9_of_a_half_ulp_over_the_whole_table() -> None:
    drawn = fields(1, "quantiles", 0, 20_000, 32)
    corners = [bit + offset for power in range(32) for bit in (1 << power,) for offset in (-1, 0, 1)]
    field32 = np.concatenate([drawn, np.array([f for f in corners if 0 <= f < 1 << 32], np.uint32)])
    inverse = NormalDist().inv_cdf
    tails = (2 * (field32 & 0x7FFFFFFF).astype(np.int64) + 1) / 2.0**33
    exact = np.array([-inverse(tail) for tail in tails.tolist()])
    exact[field32 >> 31 == 1] *= -1
    got = normals_from_fields(field32)
    assert got.dtype == np.float32
    error = np.abs(got.astype(np.float64) - exact)
    assert (error <= 0.5 * np.spacing(np.abs(got)).astype(np.float64) + 1e-9).all()


def test_normals_are_symmetric_in_the_sign_bit_and_never_infinite() -> None:
    field32 = np.array([0, 1, 12345, 0x7FFFFFFF], np.uint32)
    plus, minus = normals_from_fields(field32), normals_from_fields(field32 | np.uint32(1 << 31))
    assert np.array_equal(plus, -minus)
    assert (plus > 0).all()
    assert np.isfinite(plus).all()
    assert plus[0] == plus.max()


def kolmogorov_distance(sample: np.ndarray, law: object) -> float:
    ordered = np.sort(sample.astype(np.float64))
    expected = np.array([law(x) for x in ordered.tolist()])  # type: ignore[operator]
    places = np.arange(len(ordered) + 1) / len(ordered)
    return float(max(np.abs(expected - places[1:]).max(), np.abs(expected - places[:-1]).max()))


CRITICAL = 1.63  # of sqrt(n) D at the 1 % level; seeds are fixed, so this either holds or not


def test_normals_have_the_normal_law() -> None:
    sample = Draws(5).normal("law", (200, 100)).reshape(-1)
    assert kolmogorov_distance(sample, lambda x: (1 + erf(x / sqrt(2))) / 2) < CRITICAL / sqrt(sample.size)
    assert kolmogorov_distance(sample * np.float32(1.05), lambda x: (1 + erf(x / sqrt(2))) / 2) > CRITICAL / sqrt(
        sample.size
    )


def test_uniforms_have_the_uniform_law_on_the_grid_of_2_to_the_minus_24() -> None:
    sample = Draws(5).uniform("law", (20_000,))
    assert kolmogorov_distance(sample, lambda x: x) < CRITICAL / sqrt(sample.size)
    assert sample.min() >= 0
    assert sample.max() < 1
    grid_places = sample.astype(np.float64) * 2**24
    assert np.array_equal(grid_places, np.round(grid_places))
    assert (grid_places % 2 == 1).any()


def test_uniforms_are_the_top_24_bits_of_their_fields_exactly() -> None:
    field32 = fields(9, "exact", 2, 1000, 32)
    assert Draws(9, 2).uniform("exact", (1000,)).tolist() == [(f >> 8) / 2**24 for f in field32.tolist()]


@pytest.mark.parametrize("rate", [0.3, 0.5, 0.05])
def test_keep_drops_at_its_rate(rate: float) -> None:
    count = 100_000
    dropped = count - int(Draws(5).keep("law", (count,), rate).sum())
    assert abs(dropped - rate * count) < 4 * sqrt(rate * (1 - rate) * count)


def test_keep_compares_16_bit_fields_with_the_rounded_threshold() -> None:
    kept = Draws(9, 2).keep("exact", (1000,), 0.3)
    assert keep_threshold(0.3) == 19661
    assert kept.tolist() == [field >= 19661 for field in fields(9, "exact", 2, 1000, 16).tolist()]


def test_keep_keeps_all_at_rate_0_and_none_at_a_rate_that_rounds_to_1() -> None:
    assert Draws(0).keep("edge", (300,), 0.0).all()
    assert not Draws(0).keep("edge", (300,), 1 - 2**-20).any()


def test_a_permutation_orders_by_64_bit_key() -> None:
    keys = reference_words(1, "shuffle", 3, 101)
    assert Draws(1, 3).permutation("shuffle", 101).tolist() == sorted(range(101), key=keys.__getitem__)


def test_a_permutation_breaks_ties_by_index(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.tile(np.array([7, 5, 7, 5, MASK, 0], np.uint64), 40)
    monkeypatch.setattr(draws_module, "words", lambda seed, stream, step, count: keys[:count])
    order = Draws(0).permutation("ties", len(keys))
    assert order.tolist() == sorted(range(len(keys)), key=lambda i: (int(keys[i]), i))


def test_draws_of_other_seeds_streams_and_steps_differ() -> None:
    base = Draws(1, 1).normal("a", (50,))
    others = [Draws(2, 1).normal("a", (50,)), Draws(1, 2).normal("a", (50,)), Draws(1, 1).normal("b", (50,))]
    assert np.array_equal(base, Draws(1).at(1).normal("a", (50,)))
    assert all(np.intersect1d(base, other).size == 0 for other in others)


def test_a_longer_draw_begins_with_the_shorter_one() -> None:
    short, long = Draws(4).normal("prefix", (7,)), Draws(4).normal("prefix", (3, 5))
    assert np.array_equal(long.reshape(-1)[:7], short)


def test_overrides_replace_a_stream_and_only_that() -> None:
    mine = np.arange(6.0).reshape(2, 3)
    draws = Draws(0, 0, {"noise": mine, "mask": mine > 2, "shuffle": np.array([1, 0])})
    assert draws.normal("noise", (2, 3)).dtype == np.float32
    assert np.array_equal(draws.normal("noise", (2, 3)), mine)
    assert np.array_equal(draws.uniform("noise", (2, 3)), mine)
    assert np.array_equal(draws.keep("mask", (2, 3), 0.3), mine > 2)
    assert draws.permutation("shuffle", 2).tolist() == [1, 0]
    assert np.array_equal(draws.normal("other", (2, 3)), Draws(0, 0).normal("other", (2, 3)))


@pytest.mark.parametrize("kind", ["normal", "uniform", "keep", "permutation"])
def test_an_override_of_another_shape_is_an_error_that_names_stream_and_shapes(kind: str) -> None:
    draws = Draws(0, 0, {"noise": np.zeros((3, 2))})
    arguments = {"keep": ((2, 3), 0.3), "permutation": (6,)}.get(kind, ((2, 3),))
    asked = r"\(6,\)" if kind == "permutation" else r"\(2, 3\)"
    with pytest.raises(ConfigError, match=rf"'noise' was given with shape \(3, 2\), the recipe asks for {asked}"):
        getattr(draws, kind)("noise", *arguments)


def digests(environment: dict[str, str]) -> list[str]:
    finished = subprocess.run(
        [sys.executable, "-c", DIGEST_SCRIPT],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return finished.stdout.split("\n")[:-1]


def test_the_bytes_of_every_kind_of_draw_are_the_committed_ones(capsys: pytest.CaptureFixture[str]) -> None:
    exec(DIGEST_SCRIPT, {})
    assert capsys.readouterr().out.splitlines() == DIGESTS


def test_the_bytes_are_the_same_with_numpys_simd_dispatch_switched_off() -> None:
    core = importlib.import_module(f"{CORE}._multiarray_umath")
    on = [name for name in core.__cpu_dispatch__ if core.__cpu_features__[name]]
    if not on:
        pytest.skip("this processor has no instruction set beyond numpy's baseline")
    assert digests({"NPY_DISABLE_CPU_FEATURES": " ".join(on)}) == DIGESTS
    check = (
        f"from {CORE}._multiarray_umath import __cpu_features__ as f; import sys; print(any(map(f.get, sys.argv[1:])))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", check, *on],
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(on)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout.strip() == "False", "the switch did nothing: this test proves nothing"


def test_the_digest_is_of_the_words_that_the_reference_gives() -> None:
    expected = np.array(reference_words(20211008, "digest", 7, 1001), np.uint64)
    assert f"<u8 {hashlib.sha256(expected.tobytes()).hexdigest()}" == DIGESTS[0]
