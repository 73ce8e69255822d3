"""What ``pygan parity`` prints: every row whole at any width, both numbers on one scale, and of how much is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pygan.cli.parity_table import closing_of, header_of, notes_of, ranges, sizes_of, table_of
from pygan.parity.claims import CORRECTNESS, FLIPS, LEVELS
from pygan.parity.report import Extent, Report, Row
from pygan.parity.verdicts import AGREE, BEYOND, DIFFERS, NOT_RUN
from pygan.recipes.flux_tutorial_config import NARROW, FluxTutorialConfig

WIDTHS = (40, 80, 120, 200)
PLACE = "activation_gradient/generator/discriminator.flatten @ step 7"
LONG = "gradients with respect to every layer's output, torch, fed the referee's values"


def stored(path: Path) -> list[Report]:
    """Reports as a committed file of comparisons has them."""
    found = []
    for one in json.loads(path.read_text("utf-8"))["reports"]:
        rows = tuple(Row(**{key: value for key, value in row.items() if key != "unit"}) for row in one["rows"])
        found.append(Report(one["candidate"], one["reference"], one["config"], one["environment"], rows,
                            data=one["data"], seconds=one["seconds"]))  # fmt: skip
    return found


def reports(root: Path) -> list[Report]:
    return [one for path in sorted((root / "docs" / "results").glob("parity-*.json")) for one in stored(path)]


def words(text: str) -> str:
    return " ".join(text.split())


# --- the table ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_longer_than_the_terminal_and_no_claim_or_verdict_is_cut(root: Path, width: int) -> None:
    for report in reports(root):
        lines = [text.plain for text in table_of(report.rows, width)]
        assert max(map(len, lines)) <= width
        for level in {row.level for row in report.rows}:
            assert words(f"{level} {LEVELS[level]}") in words(" ".join(lines))
        for row in report.rows:
            head, *below = [text.plain for text in table_of([row], width)]
            at = head.index("verdict")
            rest = [line for line in below if not line.strip().endswith("compared") and line.startswith("   ")]
            assert row.claim in words(" ".join(line[:at] for line in rest))
            assert any(line[at:].startswith(row.verdict) for line in rest)


def row_of(verdict: str = AGREE, claim: str = LONG, level: int = 5, **more: Any) -> Row:
    return Row(level, claim, verdict, **{"compared": 1296, "measured": 5e-8, "allowed": 2.5e-7, "where": PLACE, **more})


def test_at_80_columns_the_two_numbers_stand_side_by_side_and_the_claim_goes_on_below() -> None:
    assert [text.plain for text in table_of([row_of()], 80)] == [
        "level and claim                           verdict  measured  tolerance  compared",
        " 5 gradients",
        "   gradients with respect to every        agree     5.0e-08  2.5e-07       1,296",
        "   layer's output, torch, fed the",
        "   referee's values",
    ]


def test_at_40_columns_the_numbers_stand_below_the_claim() -> None:
    assert [text.plain for text in table_of([row_of(), row_of(allowed=0.0, measured=0.0)], 40)][3:] == [
        "   gradients with respect to     agree",
        "   every layer's output, torch,",
        "   fed the referee's values",
        "     5.0e-08 of 2.5e-07; 1,296 compared",
        "   gradients with respect to     agree",
        "   every layer's output, torch,",
        "   fed the referee's values",
        "     equal; 1,296 compared",
    ]


def test_at_120_columns_the_worst_place_is_there_whole() -> None:
    lines = [text.plain for text in table_of([row_of()], 120)]
    assert lines[0].endswith("compared  worst place")
    told = "".join(line[lines[0].index("worst place") :].strip() for line in lines[2:])
    assert told == PLACE


def test_numbers_that_are_not_relative_name_their_unit() -> None:
    rows = [row_of(claim=FLIPS, level=7, measured=3.14159, allowed=8.0),
            row_of(claim="grids as users see them, free runs", level=9, measured=0.0, allowed=1)]  # fmt: skip
    told = [words(text.plain) for text in table_of(rows, 100)]
    assert "ReLU sign flips agree 3.1 8 noise levels 1,296" in told
    assert "grids as users see them, free runs agree 0 1 grey level 1,296" in told
    assert [row.unit for row in (*rows, row_of())] == ["noise levels", "grey levels", ""]


def test_a_row_that_was_not_run_has_no_number_whatever_it_holds() -> None:
    for width in WIDTHS:
        lines = [text.plain for text in table_of([row_of(NOT_RUN)], width)]
        assert not any(char.isdigit() for line in lines if line.startswith("   ") for char in line)


# --- what is said besides ----------------------------------------------------------------------------------------


def report(*rows: Row, environment: Any = None, **more: Any) -> Report:
    config = FluxTutorialConfig(**NARROW, dtype="float64").to_dict()
    data = {"name": "digits", "images": 62, "sha256": ""}
    sides = {"candidate": {"torch": "2.13"}, "reference": {"julia": "1.10.8", "packages": {"Flux": "0.16.9"}}}
    return Report("torch", "recorded flux", config, environment or sides, rows, data=data, **more)


def test_the_header_says_which_side_is_a_recording_and_which_twin_is_compared() -> None:
    one = report()
    one.environment["reference"]["trace"] = "flux-narrow-float64"
    who, what = header_of(replace(one, seconds={"steps": 20.0}))
    assert who == ("torch (live, torch 2.13) against flux (recording flux-narrow-float64, Flux 0.16.9, Julia 1.10.8)")
    twin = "flux_tutorial, narrow twin (width 2, latent 5, batch 8), Float64"
    assert what == f"{twin}, digits with 62 images, seed 0, 20 steps"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "published sizes (width 64, latent 100, batch 128)"),
        ({"width": 16}, "sizes of its own (width 16, latent 100, batch 128)"),
        ({**NARROW, "semantics": "as_printed", "threads": 3},
         "narrow twin (width 2, latent 5, batch 8), semantics as_printed"),
    ],
)  # fmt: skip
def test_sizes_are_named_and_what_is_not_as_published(changes: dict[str, Any], told: str) -> None:
    assert sizes_of(FluxTutorialConfig(**changes).to_dict()) == told


NOT_FREE = Row(8, "tensors over steps", NOT_RUN, reason="because; do that")
GOOD = Row(4, "logits", AGREE, 3)


@pytest.mark.parametrize(
    ("rows", "extent", "told"),
    [
        ([GOOD, replace(GOOD, level=5)], Extent(8), "agree over the first 8 steps, levels 4-5"),
        ([GOOD], Extent(67, 0, 1407, 2, 22),
         "agree over the first 67 of 1,407 steps of the recording, 2 of 22 pictures, level 4"),
        ([GOOD, NOT_FREE], Extent(20, 0, 20, 0, 1),
         "agree over all 20 steps of the recording, 0 of 1 picture, level 4; not run: level 8 (because)"),
        ([GOOD, replace(NOT_FREE, level=4)], Extent(1, 8, 0, 1),
         "agree over the first 8 steps (1 from the same state), 1 picture, level 4; not run: 1 claim (above)"),
        ([GOOD], Extent(8, 0, 8, 0, 0, 3), "agree over all 8 steps of the recording (3 in Float64 too), level 4"),
        ([GOOD, replace(GOOD, verdict=DIFFERS, level=6)], Extent(2),
         "differs at level 6; compared: the first 2 steps, levels 4, 6"),
        ([GOOD, Row(7, CORRECTNESS, NOT_RUN, reason="no twin; record one")], Extent(2),
         "not run: no twin; record one; compared all the same: the first 2 steps, level 4"),
        ([Row(8, "tensors over steps", BEYOND, reason="too far")], Extent(),
         "beyond horizon: too far"),
        ([NOT_FREE], Extent(), "not run: because; do that"),
    ],
)  # fmt: skip
def test_the_last_line_says_of_how_much(rows: list[Row], extent: Extent, told: str) -> None:
    assert closing_of(report(*rows, extent=extent)) == told


def test_every_row_that_does_not_agree_is_told_with_place_and_reason() -> None:
    bad = Row(5, "gradients", DIFFERS, 9, 1.0, 1e-11, 1.0, "gradient/a @ step 1", "9 of 9 outside")
    assert notes_of([GOOD, bad, NOT_FREE]) == [
        "level 5, gradients: differs at gradient/a @ step 1: 9 of 9 outside",
        "level 8, tensors over steps: not run: because; do that",
    ]


def test_numbers_are_told_as_ranges() -> None:
    assert ranges([7, 1, 2, 3, 9, 10]) == "1-3, 7, 9-10"
