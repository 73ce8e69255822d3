"""What a comparison says: tallies of judged tensors, rows of claims, a report, and the same for machines."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from parity_runs import EVERYTHING, live, stepped

from pygan.files import finite
from pygan.parity.claims import CORRECTNESS, EVERY, FLIPS, LEVELS, PARTIAL, claim_of, claims_of
from pygan.parity.compare import Difference
from pygan.parity.evidence import Cause
from pygan.parity.judge import Judged
from pygan.parity.locate import Diagnosis
from pygan.parity.report import Report, Row, Tally
from pygan.parity.sides import Pair
from pygan.parity.verdicts import AGREE, BEYOND, DIFFERS, NOT_RUN, VERDICTS, joint
from pygan.stacks.torch_stack import TorchStack


def judged(key: str, relative: float, allowed: float, value: float | None = None, fault: str = "") -> Judged:
    difference = Difference(key, (3,), relative=relative, fault=fault)
    return Judged(difference, relative if value is None else value, allowed, f"the reason of {key}")


def test_a_tally_shows_what_came_closest_to_its_limit_and_not_the_largest_number() -> None:
    tally = Tally(5, "gradients")
    tally.add(0, [judged("gradient/a", 1e-3, 1.0), judged("gradient/b", 1e-12, 1e-11)])
    tally.add(1, [judged("gradient/b", 5e-12, 1e-11)])
    row = tally.row()
    assert (row.level, row.claim, row.verdict, row.compared) == (5, "gradients", AGREE, 3)
    assert (row.measured, row.allowed, row.where) == (5e-12, 1e-11, "gradient/b @ step 1")
    assert row.minimum == 1e-3, "what would let all pass is another question"
    assert row.reason == "the reason of gradient/b"


def test_a_tally_with_one_tensor_outside_differs_and_counts_them() -> None:
    tally = Tally(5, "gradients")
    tally.add(0, [judged("gradient/a", 1e-12, 1e-11), judged("gradient/b", 2e-11, 1e-11)])
    tally.add(4, [judged("gradient/b", 1e-9, 1e-11)])
    row = tally.row()
    assert (row.verdict, row.where, row.minimum) == (DIFFERS, "gradient/b @ step 4", 1e-9)
    assert row.reason == "2 of 3 outside the tolerance"
    assert [(step, one.key) for step, one in tally.failed] == [(0, "gradient/b"), (4, "gradient/b")]


def test_a_fault_outweighs_every_number_and_no_tolerance_would_pass_it() -> None:
    tally = Tally(4, "logits")
    tally.add(0, [judged("logits/real", 0.0, 1e-11, fault="not finite at [0]: nan against 1.0")])
    tally.add(1, [judged("logits/fake", 1e9, 1e-11)])
    row = tally.row()
    assert (row.verdict, row.minimum, row.where) == (DIFFERS, math.inf, "logits/real @ step 0")
    assert "nan against 1.0" in row.reason
    assert row.measured is None, "a fault has no measured number, least of all 0"


def test_a_tensor_with_nothing_admitted_is_weighed_by_its_size() -> None:
    tally = Tally(6, "step counts")
    tally.add(0, [judged("state/step", 0.0, 0.0)])
    assert tally.row().verdict == AGREE
    tally.add(1, [judged("state/step", 0.5, 0.0)])
    assert (tally.row().verdict, tally.row().where) == (DIFFERS, "state/step @ step 1")


def test_an_empty_tally_is_not_run_and_says_why() -> None:
    assert Tally(3, "x").row() == Row(3, "x", NOT_RUN, reason="no such tensor in both runs")
    assert Tally(3, "x").row("because").reason == "because"


# --- which claim -------------------------------------------------------------------------------------------------

TRAINED = {"real/discriminator", "fake/discriminator", "generator/generator", "generator/discriminator"}


def test_every_tensor_of_a_step_belongs_to_a_claim_of_levels_3_to_6() -> None:
    record = live().step(0, EVERYTHING)
    assert {key.rpartition(".")[0] for key in record.activation_gradient} == TRAINED
    keys = [key for key in record.to_arrays() if not key.startswith(("pattern/", "mode/"))]
    claims = Counter(claim_of(key, TRAINED) for key in keys)
    assert {level for level, _ in claims} == {3, 4, 5, 6}
    assert claims[3, "outputs of every layer in eval mode"] == 13
    assert claims[5, "gradients of the update generator"] == 10
    assert claims[5, "gradients of the update discriminator"] == 6
    assert claims[6, "parameters"] == claims[6, "first moments"] == claims[6, "second moments"] == 16
    assert claims[6, "BatchNorm running statistics"] == 12, "after the call, and after the step"
    assert claims[6, "step counts and beta powers"] == 3
    assert claims[4, "losses"] == 2


@pytest.mark.parametrize(
    ("key", "claim"),
    [
        ("gradient/net/first/net.dense.weight", (5, "gradients of the update net/first")),
        ("updated/net/first/parameter/net.dense.weight", (6, "parameters")),
        ("updated/net/first/exp_avg/net.dense.weight", (6, "first moments")),
        ("sketch/state/exp_avg_sq/net.dense.weight", (6, "second moments")),
        ("sketch/gradient/net/net.dense.weight", (5, "gradients of the update net")),
        ("batch", (4, "batches as scaled")),
        ("pattern/call/net.relu", (7, FLIPS)),
        ("state/step", (6, "step counts and beta powers")),
    ],
)
def test_named_updates_and_sketches_have_the_claim_of_their_tensor(key: str, claim: tuple[int, str]) -> None:
    assert claim_of(key) == claim


def test_a_tensor_counts_for_the_whole_step_too_unless_it_was_fed() -> None:
    key = "logits/real"
    assert claims_of(key, ()) == [(4, "logits"), (7, EVERY)]
    assert claims_of(key, (), partial=True) == [(4, "logits"), (7, EVERY), (7, PARTIAL)]
    assert claims_of(key, (), "x, fed", every=False) == [(4, "logits, x, fed")]
    assert claims_of("pattern/call/net.relu", (), partial=True) == [(7, FLIPS)]
    fed = claims_of("gradient/net/net.dense.weight", (), "x, fed", every=False)
    assert fed == [(5, "gradients of every parameter, x, fed")]


# --- a pass over steps -------------------------------------------------------------------------------------------


def test_a_pass_has_rows_of_levels_3_to_7_and_one_for_the_partial_batch() -> None:
    stepping = stepped(live(), live(), 3)
    rows = {(row.level, row.claim): row for row in stepping.rows()}
    assert {level for level, _ in rows} == {3, 4, 5, 6, 7}
    assert {row.verdict for row in rows.values()} == {AGREE}
    every, partial = rows[7, EVERY], rows[7, PARTIAL]
    below = sum(row.compared for (level, _), row in rows.items() if level < 7)
    assert every.compared == below > partial.compared > 60
    assert stepping.seconds.keys() == {"lead", "follow", "judge"}
    assert min(stepping.seconds.values()) > 0
    assert stepping.diagnosis() is None
    assert not stepping.differs
    assert (stepping.steps, stepping.incorrect) == (3, None)


def test_a_pass_without_a_partial_batch_says_so() -> None:
    (row,) = [row for row in stepped(live(), live(), 1).rows() if row.claim == PARTIAL]
    assert row.verdict == NOT_RUN
    assert row.reason == "every batch of the 1 steps had 8 images; step 1 is the first with fewer: --steps 2"


def spoilt(pair: Pair) -> Pair:
    name = "real/discriminator.leaky1"
    other = pair.candidate.pattern[name].copy()
    other[0, 0, 0, :2] ^= True
    return replace(pair, candidate=replace(pair.candidate, pattern={**pair.candidate.pattern, name: other}))


def test_units_that_are_switched_without_any_other_difference_are_counted() -> None:
    stepping = stepped(live(), live())
    (row,) = [row for row in stepping.rows() if row.claim == FLIPS]
    assert (row.verdict, row.compared) == (AGREE, 9)
    assert stepping.first is not None
    stepping.take(spoilt(stepping.first))
    (row,) = [row for row in stepping.rows() if row.claim == FLIPS]
    assert row.verdict == DIFFERS
    assert "2 units are on in one run and off in the other" in row.reason
    found = stepping.diagnosis()
    assert found is not None
    assert found.key == "pattern/real/discriminator.leaky1"


def test_where_correctness_fails_at_a_partial_batch_it_is_not_called_a_whole_one() -> None:
    def plant(stack: TorchStack) -> None:
        stack.optimisers["generator"].param_groups[0]["lr"] *= 2

    stepping = stepped(live("float32", plant), live("float32"), 2)
    (row,) = [row for row in stepping.rows() if row.claim == PARTIAL]
    assert (row.verdict, row.reason) == (NOT_RUN, "correctness failed at step 0")


# --- the report --------------------------------------------------------------------------------------------------


def report(*verdicts: str, minima: tuple[float | None, ...] = (), diagnosis: Diagnosis | None = None) -> Report:
    rows = tuple(
        Row(level, "x", verdict, minimum=minimum)
        for level, verdict, minimum in zip((3, 5, 8), verdicts, (*minima, None, None, None)[:3], strict=False)
    )
    return Report("torch", "flux", {"recipe": "r"}, {"cpu": "c"}, rows, diagnosis)


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ((AGREE, AGREE), AGREE),
        ((AGREE, NOT_RUN), AGREE),
        ((AGREE, BEYOND), AGREE),
        ((AGREE, DIFFERS, NOT_RUN), DIFFERS),
        ((BEYOND, NOT_RUN), BEYOND),
        ((NOT_RUN, NOT_RUN), NOT_RUN),
        ((), NOT_RUN),
    ],
)
def test_one_row_that_differs_makes_the_report_differ(verdicts: tuple[str, ...], whole: str) -> None:
    assert report(*verdicts).verdict == whole
    assert joint(set(verdicts)) == whole
    assert set(verdicts) <= set(VERDICTS)


@pytest.mark.parametrize(("correct", "rest", "whole"), [
    (NOT_RUN, AGREE, NOT_RUN), (NOT_RUN, DIFFERS, DIFFERS), (AGREE, AGREE, AGREE), (DIFFERS, NOT_RUN, DIFFERS),
])  # fmt: skip
def test_rounding_alone_proves_nothing(correct: str, rest: str, whole: str) -> None:
    rows = (Row(5, "gradients", rest), Row(7, CORRECTNESS, correct))
    assert replace(report(), rows=rows).verdict == whole


def test_the_smallest_tolerance_is_that_of_single_steps_and_not_of_free_runs() -> None:
    assert report(AGREE, AGREE, AGREE, minima=(1e-13, 1e-12, 0.5)).minimum == 1e-12
    assert report(AGREE, NOT_RUN, AGREE, minima=(None, None, 0.5)).minimum is None


def test_a_report_for_machines_is_whole_and_has_no_number_that_json_lacks() -> None:
    culprit = Difference("gradient/a.b", (2, 3), relative=math.inf, worst=(0, 1), worst_flux=(2, 1))
    many = tuple(replace(culprit, key=f"gradient/a.{i}") for i in range(30))
    cause = Cause("kernel not flipped", "explains it to 1e-16")
    found = Diagnosis(2, culprit.key, cause, culprit, many, ("loss/a", "logits/b"), (), True, "between", "a note")
    stored = report(DIFFERS, minima=(math.nan,), diagnosis=found).to_dict()
    back = json.loads(json.dumps(stored, allow_nan=False))
    assert back["verdict"] == DIFFERS
    assert back["diagnosis"]["culprit"] == "gradient/a.b"
    assert (back["diagnosis"]["step"], back["diagnosis"]["cause"]) == (2, "kernel not flipped")
    assert back["diagnosis"]["victims"] == ["loss/a", "logits/b"]
    assert (back["diagnosis"]["span"], back["diagnosis"]["note"]) == ("between", "a note")
    assert back["diagnosis"]["from_equal_inputs"] is True
    assert back["diagnosis"]["difference"]["worst_flux"] == [2, 1]
    assert back["rows"][0]["minimum"] is None
    assert back.keys() >= {"candidate", "reference", "config", "environment", "seconds", "kinks", "curves", "replay"}


def test_a_diagnosis_says_culprit_cause_and_victims_in_words() -> None:
    culprit = Difference("gradient/a.b", (2,), relative=0.5, values=(1.0, 2.0), worst=(1,))
    found = Diagnosis(2, culprit.key, Cause("adam eps"), culprit, (culprit, culprit), ("x", "y", "z"), (), True)
    first = str(found).splitlines()[0]
    told = "step 2: first difference at gradient/a.b and 1 more (its inputs agree, its output does not)"
    assert first.startswith(told)
    assert str(found).splitlines()[-1] == "  probable cause: adam eps"
    assert first.endswith("3 tensors inherit it")
    assert "1 against 2" in str(found)
    assert str(replace(found, note="look there")).splitlines()[-1] == "  look there"


def test_numbers_that_are_not_finite_become_none_wherever_they_are() -> None:
    assert finite({"a": [1.0, math.nan, {"b": (math.inf, -math.inf, 2)}], "c": "nan"}) == {
        "a": [1.0, None, {"b": [None, None, 2]}],
        "c": "nan",
    }
    assert finite(np.float64("nan")) is None


def test_every_level_has_a_title() -> None:
    assert list(LEVELS) == list(range(1, 11))
