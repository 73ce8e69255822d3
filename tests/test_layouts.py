"""Layouts: the table of rules moves every tensor both ways without loss, and the flips are those of a convolution."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pygan.errors import StateError
from pygan.layouts import Rule, rule, table

NAMES = sorted(table())
SIZES = st.lists(st.integers(1, 4), min_size=4, max_size=4)

EXPECTED = {
    "dense.weight": ("out in", "out in", ""),
    "dense.bias": ("out", "out", ""),
    "conv.weight": ("out in y x", "x y in out", "x y"),
    "conv.bias": ("out", "out", ""),
    "conv_transpose.weight": ("in out y x", "x y out in", "x y"),
    "conv_transpose.bias": ("out", "out", ""),
    "batch_norm.weight": ("channel", "channel", ""),
    "batch_norm.bias": ("channel", "channel", ""),
    "batch_norm.running_mean": ("channel", "channel", ""),
    "batch_norm.running_var": ("channel", "channel", ""),
    **{f"layer_norm.{name}": ("feature", "feature", "") for name in ("weight", "bias")},
    **{f"layer_norm_2d.{name}": ("y x", "x y", "") for name in ("weight", "bias")},
    **{f"layer_norm_3d.{name}": ("channel y x", "x y channel", "") for name in ("weight", "bias")},
    **{f"group_norm.{name}": ("channel", "channel", "") for name in ("weight", "bias")},
    "activation.image": ("sample channel y x", "x y channel sample", ""),
    "activation.features": ("sample feature", "feature sample", ""),
}


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


def test_the_table_holds_the_rules_that_flux_and_pytorch_document() -> None:
    assert {
        name: (" ".join(row.torch), " ".join(row.flux), " ".join(sorted(row.flip))) for name, row in table().items()
    } == EXPECTED


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(NAMES), sizes=SIZES)
def test_every_rule_round_trips_both_ways(name: str, sizes: list[int]) -> None:
    one = rule(name)
    torch_ordered = numbered(tuple(sizes[: len(one.torch)]))
    assert np.array_equal(one.to_torch(one.to_flux(torch_ordered)), torch_ordered)
    flux_ordered = numbered(tuple(sizes[: len(one.flux)]))
    assert np.array_equal(one.to_flux(one.to_torch(flux_ordered)), flux_ordered)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(NAMES), sizes=SIZES, pick=st.integers(0, 10**6))
def test_flux_index_points_where_to_flux_puts_the_one_of_a_one_hot_array(
    name: str, sizes: list[int], pick: int
) -> None:
    one = rule(name)
    shape = tuple(sizes[: len(one.torch)])
    hot = np.zeros(shape)
    index = tuple(int(i) for i in np.unravel_index(pick % hot.size, shape))
    hot[index] = 1
    found = np.argwhere(one.to_flux(hot))
    assert (found + 1).tolist() == [list(one.flux_index(index, shape))]


@pytest.mark.parametrize("name", NAMES)
def test_sizes_follow_their_axes(name: str) -> None:
    one = rule(name)
    size = {axis: 2 + place for place, axis in enumerate(one.torch)}
    moved = one.to_flux(np.zeros([size[axis] for axis in one.torch]))
    assert moved.shape == tuple(size[axis] for axis in one.flux)


@pytest.mark.parametrize("direction", ["to_flux", "to_torch"])
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_rank_is_an_error_that_names_path_rule_and_shape(name: str, direction: str) -> None:
    one = rule(name)
    shape = (2,) * (len(one.torch) + 1)
    with pytest.raises(StateError) as caught:
        getattr(one, direction)(np.zeros(shape), "generator.conv9.weight")
    assert "generator.conv9.weight" in str(caught.value)
    assert name in str(caught.value)
    assert str(shape) in str(caught.value)


def test_an_unknown_rule_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(StateError) as caught:
        rule("instance_norm.weight")
    assert "'instance_norm.weight'" in str(caught.value)
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize(
    ("torch_axes", "flux_axes", "flip", "words"),
    [
        (("out", "in"), ("out",), (), "not the same set"),
        (("out", "in"), ("out", "y"), (), "not the same set"),
        (("out", "out"), ("out", "out"), (), "not the same set"),
        (("out", "in"), ("in", "out"), ("x",), r"flipped axes \['x'\]"),
    ],
)
def test_a_malformed_rule_is_an_error_that_names_it(
    torch_axes: tuple[str, ...], flux_axes: tuple[str, ...], flip: tuple[str, ...], words: str
) -> None:
    with pytest.raises(StateError, match=f"layout rule odd.weight: .*{words}"):
        Rule("odd.weight", torch_axes, flux_axes, frozenset(flip))


# --- Flux's Conv is a true convolution (NNlib flips the kernel), PyTorch's a cross-correlation. Written out in the
# --- index order of Flux's documentation: x (W, H, C, N), w (kx, ky, in, out). 0-based here.


def true_convolution(x: np.ndarray, w: np.ndarray, stride: int, pad: int) -> np.ndarray:
    """y[i, j, o, n] = sum over k, l, c of x[s i + a, s j + b, c, n] w[K-1-a, L-1-b, c, o], on padded x."""
    padded = np.pad(x, ((pad, pad), (pad, pad), (0, 0), (0, 0)))
    kx, ky, _, outputs = w.shape
    width, height = ((padded.shape[axis] - k) // stride + 1 for axis, k in ((0, kx), (1, ky)))
    y = np.zeros((width, height, outputs, x.shape[3]))
    for i, j, a, b in itertools.product(range(width), range(height), range(kx), range(ky)):
        y[i, j] += w[kx - 1 - a, ky - 1 - b].T @ padded[stride * i + a, stride * j + b]
    return y


def true_convolution_transposed(x: np.ndarray, w: np.ndarray, stride: int, pad: int) -> np.ndarray:
    """The adjoint of :func:`true_convolution` in x; w is (kx, ky, out, in), as Flux's ConvTranspose keeps it."""
    kx, ky, outputs, _ = w.shape
    width, height = (stride * (x.shape[axis] - 1) + k for axis, k in ((0, kx), (1, ky)))
    y = np.zeros((width, height, outputs, x.shape[3]))
    for i, j, a, b in itertools.product(range(x.shape[0]), range(x.shape[1]), range(kx), range(ky)):
        y[stride * i + a, stride * j + b] += w[kx - 1 - a, ky - 1 - b] @ x[i, j]
    return y[pad : width - pad, pad : height - pad]


@pytest.mark.parametrize("transposed", [False, True], ids=["conv", "conv_transpose"])
@pytest.mark.parametrize(("stride", "pad"), [(1, 0), (2, 1)])
def test_a_true_convolution_with_the_flux_kernel_is_pytorchs_layer_with_its_own(
    transposed: bool, stride: int, pad: int
) -> None:
    import torch

    random = np.random.default_rng(1)
    image, name = rule("activation.image"), "conv_transpose" if transposed else "conv"
    x = random.standard_normal((2, 3, 6, 5))
    kernel = random.standard_normal((3, 4, 4, 3) if transposed else (4, 3, 4, 3))
    ours = true_convolution_transposed if transposed else true_convolution
    theirs = torch.nn.functional.conv_transpose2d if transposed else torch.nn.functional.conv2d

    flux = ours(image.to_flux(x), rule(f"{name}.weight").to_flux(kernel), stride, pad)
    pytorch = theirs(torch.from_numpy(x), torch.from_numpy(kernel), stride=stride, padding=pad).numpy()
    np.testing.assert_allclose(image.to_torch(flux), pytorch, rtol=1e-12, atol=1e-12)

    unflipped = Rule("unflipped", rule(f"{name}.weight").torch, rule(f"{name}.weight").flux, frozenset())
    wrong = ours(image.to_flux(x), unflipped.to_flux(kernel), stride, pad)
    assert np.abs(image.to_torch(wrong) - pytorch).max() > 0.1, "this proof cannot see the flip"
