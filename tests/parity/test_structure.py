"""Level 1 on made-up records: what is missing, in another place or in another mode is seen; what is fused is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from pygan.parity.structure import (
    CallCheck,
    compare_calls,
    compare_counts,
    compare_modes,
    compare_rules,
    compare_taps,
    compare_tensor_names,
    layer_order,
    mode_table,
)
from pygan.records import StepRecord

LAYERS = ("input", "conv", "norm", "relu", "drop", "dense")
FUSED = ("input", "conv", "relu", "drop", "dense")
ACTIVATIONS = {"net.relu"}


def record(*calls: tuple[str, Sequence[str]], train: bool = True) -> StepRecord:
    """A step of ``calls``, each with the taps of its layers; the norm and the drop have a mode."""
    order, mode, activation = [], {}, {}
    for call, layers in calls:
        for layer in layers:
            key = f"{call}.{layer}"
            order.append(f"activation/{key}")
            activation[key] = np.zeros((2, 3), np.float32)
        for layer in ("norm", "drop"):
            mode[f"{call}.{layer}"] = np.array(train)
            order.append(f"mode/{call}.{layer}")
    return StepRecord(0, order=("loss/x", *order), mode=mode, activation=activation)


def faults(candidate: StepRecord, reference: StepRecord) -> list[str]:
    return [str(check) for check in compare_calls(candidate, reference, ACTIVATIONS) if not check.ok]


# --- tensors -------------------------------------------------------------------------------------------------------


def test_names_shapes_and_dtypes_of_tensors_are_compared() -> None:
    mine = {"same": np.zeros((2, 3)), "shape": np.zeros(6), "dtype": np.zeros(1, np.float32), "extra": np.zeros(1)}
    theirs = {"same": np.ones((2, 3)), "shape": np.zeros((2, 3)), "dtype": np.zeros(1), "gone": np.zeros(1)}
    checks = compare_tensor_names(mine, theirs)
    assert [str(check) for check in checks if not check.ok] == [
        "dtype: (1,) float32 in the candidate, (1,) float64 in the reference",
        "extra: (1,) float64 in the candidate, missing in the reference",
        "gone: missing in the candidate, (1,) float64 in the reference",
        "shape: (6,) float64 in the candidate, (2, 3) float64 in the reference",
    ]
    assert [str(check) for check in checks if check.ok] == ["same: (2, 3) float64"]


def test_counts_are_of_parameters_by_network_and_held_to_the_published_ones() -> None:
    state = {
        "parameter/a.x.weight": np.zeros((2, 3)),
        "parameter/a.x.bias": np.zeros(2),
        "buffer/a.n.running_mean": np.zeros(9),
    }
    state |= {"parameter/b.x.weight": np.zeros(5), "exp_avg/b.x.weight": np.zeros(5), "step": np.array(0)}
    assert [str(check) for check in compare_counts(state, state, {"a": 8, "b": 5})] == [
        "a: 8 parameters, 8 in the reference, 8 published",
        "b: 5 parameters, 5 in the reference, 5 published",
    ]
    fewer = {key: value for key, value in state.items() if not key.endswith("bias")}
    assert [check.ok for check in compare_counts(fewer, state)] == [False, True]
    assert [check.ok for check in compare_counts(state, state, {"a": 9})] == [False, True]
    assert [check.ok for check in compare_counts(state, state, {"c": 1})] == [True, True, False]


def test_layout_rules_are_compared_by_path() -> None:
    mine, theirs = (
        {"a": "conv.weight", "b": "dense.weight", "d": "dense.bias"},
        {"a": "conv.weight", "b": "conv.weight"},
    )
    checks = compare_rules(mine, theirs)
    assert [check.ok for check in checks] == [True, False, False]
    assert [str(check) for check in checks[1:]] == [
        "b: dense.weight against conv.weight",
        "d: dense.bias against missing",
    ]


# --- calls ---------------------------------------------------------------------------------------------------------


def test_the_order_of_layers_is_read_from_the_record() -> None:
    assert layer_order(record(("one/net", LAYERS), ("two/net", FUSED))) == {"one/net": LAYERS, "two/net": FUSED}


def test_equal_calls_agree() -> None:
    step = record(("one/net", LAYERS), ("two/net", LAYERS))
    checks = compare_calls(step, step)
    assert checks == [CallCheck("one/net", LAYERS), CallCheck("two/net", LAYERS)]
    assert str(checks[0]) == "one/net: 6 layers in one order"


@pytest.mark.parametrize("activations", [ACTIVATIONS, None])
def test_an_activation_that_one_run_has_fused_is_no_fault_on_either_side(activations: set[str] | None) -> None:
    apart, fused = record(("one/net", LAYERS)), record(("one/net", FUSED))
    (check,) = compare_calls(apart, fused, activations)
    assert check == CallCheck("one/net", FUSED, only_candidate=("norm",))
    assert str(check) == "one/net: 5 layers in one order; norm fused in the reference"
    (check,) = compare_calls(fused, apart, activations)
    assert check == CallCheck("one/net", FUSED, only_reference=("norm",))
    assert check.ok


def without(layer: str) -> StepRecord:
    return record(("one/net", tuple(one for one in LAYERS if one != layer)))


@pytest.mark.parametrize("layer", ["input", "relu", "drop", "dense"])
def test_a_layer_that_is_missing_is_no_fusion(layer: str) -> None:
    whole = record(("one/net", LAYERS))
    assert faults(without(layer), whole) == [
        f"one/net: {layer} is missing in the candidate and is fused with nothing there"
    ]
    assert faults(whole, without(layer)) == [
        f"one/net: {layer} is missing in the reference and is fused with nothing there"
    ]


def test_a_call_that_is_missing_or_in_another_place_is_seen() -> None:
    both, first = record(("one/net", LAYERS), ("two/net", LAYERS)), record(("one/net", LAYERS))
    assert faults(first, both) == ["two/net: missing in the candidate"]
    assert faults(both, first) == ["two/net: missing in the reference"]
    turned = record(("two/net", LAYERS), ("one/net", LAYERS))
    assert faults(turned, both) == ["step: calls two/net, one/net against one/net, two/net"]


def test_layers_in_another_order_are_seen() -> None:
    other = ("input", "conv", "norm", "drop", "relu", "dense")
    (fault,) = faults(record(("one/net", other)), record(("one/net", LAYERS)))
    assert "conv, norm, drop, relu, dense against" in fault


@pytest.mark.parametrize("empty", ["candidate", "reference"])
def test_a_record_without_layers_is_a_fault_that_says_what_to_capture(empty: str) -> None:
    full, bare = record(("one/net", LAYERS)), StepRecord(0, order=("loss/x",))
    (fault,) = faults(bare, full) if empty == "candidate" else faults(full, bare)
    assert fault == f"step: the {empty}'s record holds no order of layers; capture layer_sketches"


def test_shapes_and_dtypes_of_common_taps_are_compared() -> None:
    apart, fused = record(("one/net", LAYERS)), record(("one/net", FUSED))
    assert len(compare_taps(apart, fused)) == len(FUSED)
    fused.activation["one/net.dense"] = np.zeros((3, 2), np.float32)
    assert [check.key for check in compare_taps(apart, fused) if not check.ok] == ["activation/one/net.dense"]


# --- modes ---------------------------------------------------------------------------------------------------------


def test_modes_are_compared_per_call_and_layer_and_make_a_table() -> None:
    train, test = record(("one/net", LAYERS)), record(("one/net", LAYERS), train=False)
    assert all(check.ok for check in compare_modes(train, train))
    checks = compare_modes(test, train)
    assert [str(check) for check in checks] == [
        "one/net.norm: eval in the candidate, train in the reference",
        "one/net.drop: eval in the candidate, train in the reference",
    ]
    assert mode_table(checks, "torch", "flux") == [
        ("call", "layer", "torch", "flux"),
        ("one", "net.norm", "eval", "train"),
        ("one", "net.drop", "eval", "train"),
    ]


@pytest.mark.parametrize("side", [0, 1])
def test_a_layer_whose_mode_one_run_does_not_know_is_seen(side: int) -> None:
    both = [record(("one/net", LAYERS)), record(("one/net", LAYERS))]
    both[side] = replace(both[side], mode={"one/net.norm": np.array(True)})
    (bad,) = (check for check in compare_modes(*both) if not check.ok)
    assert str(bad).count("missing") == 1
    assert bad.layer == "net.drop"


def test_a_batch_norm_without_a_mode_on_either_side_is_seen_by_its_buffers() -> None:
    rules = {"net.norm.running_mean": "batch_norm.running_mean", "other.norm.running_mean": "batch_norm.running_mean"}
    one = record(("one/net", LAYERS))
    assert all(check.ok for check in compare_modes(one, one, rules)), "no call goes through the other network"
    bare = replace(one, mode={"one/net.drop": np.array(True)})
    assert [check.cells() for check in compare_modes(bare, bare, rules) if not check.ok] == [
        ("one", "net.norm", "missing", "missing")
    ]


PADDED, BARE = ("input", "pad", "conv", "relu"), ("input", "conv", "relu")
CROPPED, FUSED_CROP = ("input", "up", "crop", "relu"), ("input", "crop", "relu")


@pytest.mark.parametrize(
    ("mine", "theirs", "paddings"),
    [(PADDED, BARE, {"net.pad"}), (BARE, PADDED, {"net.conv"}), (CROPPED, FUSED_CROP, {"net.crop"})],
    ids=["a layer of its own here", "a layer of its own there", "cropped in a layer of its own"],
)
def test_padding_may_be_a_layer_of_its_own_in_one_run(
    mine: Sequence[str], theirs: Sequence[str], paddings: set[str]
) -> None:
    sides = record(("a/net", mine)), record(("a/net", theirs))
    assert [check.ok for check in compare_calls(*sides, ACTIVATIONS, paddings)] == [True]
    told = [str(check) for check in compare_calls(*sides, ACTIVATIONS)]
    lone = "up" if "up" in mine else "pad"
    assert f"{lone} is missing in the" in told[0]
