"""``pygan parity --explain``: every claim that a report can hold, and every word of its table, in plain sentences."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from parity_runs import EVERYTHING, live, pygan, traced  # noqa: F401
from run_pygan import Pygan, refused

from pygan.cli.parity_table import TITLES
from pygan.parity.claims import LEVELS, claim_of
from pygan.parity.explain import CLAIMS, WORDS, claim_named, explained
from pygan.parity.run import compare_runs
from pygan.parity.sides import Recorded
from pygan.parity.verdicts import NOT_RUN, VERDICTS

ASKED = ("tolerance", "noise level", "teacher-forced", "referee", "twin", "sign flip", "horizon", "probable cause")


def of_code(root: Path) -> Iterator[tuple[str, str]]:
    """File and claim of every row that the code makes with a claim of its own, names put in for what is filled in."""
    for path in sorted((root / "pygan" / "parity").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            held: list[ast.expr] = []
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                of = {"Row": 1, "Tally": 1, "_row": 1, "grid_row": 1}.get(node.func.id)
                held = node.args[of : of + 1] if of else []
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                held = [node.value] if node.targets[0].id.lower() == "claim" else []
            for one in held:
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    yield path.name, one.value
                elif isinstance(one, ast.JoinedStr):
                    parts = (part.value if isinstance(part, ast.Constant) else "torch" for part in one.values)
                    yield path.name, "".join(map(str, parts))


def test_every_claim_that_the_code_names_is_explained(root: Path) -> None:
    found = list(of_code(root))
    assert len({claim for _, claim in found}) > 12
    for file, claim in found:
        assert any(claim_named(level, claim) for level in LEVELS), f"{file}: {claim}"


def test_every_claim_of_a_committed_report_is_explained(root: Path) -> None:
    for path in (root / "docs" / "results").glob("parity-*.json"):
        for report in json.loads(path.read_text("utf-8"))["reports"]:
            for row in report["rows"]:
                level, claim = row["level"], row["claim"]
                matching = [one for one in CLAIMS if one.level == level and re.fullmatch(one.pattern, claim)]
                assert matching == [claim_named(level, claim)], claim


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_claim_of_a_run_is_explained_and_every_row_says_why(dtype: str, tmp_path: Path) -> None:
    trace = traced(tmp_path / "t", 2, dtype=dtype, words=("state", "logits"))
    bare = traced(tmp_path / "bare", 1, dtype=dtype, words=("logits",), every=0)
    pairs = [(live(dtype), live(dtype)), (live(dtype), Recorded(trace)), (Recorded(trace), Recorded(trace)),
             (Recorded(bare), Recorded(bare))]  # fmt: skip
    for sides in pairs:
        for row in compare_runs(*sides, steps=1).rows:
            assert claim_named(row.level, row.claim), row.claim
            assert row.reason, row
            if row.verdict == NOT_RUN:
                assert (row.compared, row.measured, row.allowed) == (0, None, None)
                assert re.search(r"--|pygan |compare|mend|name live|give its", row.reason), f"what to do: {row}"


def test_every_tensor_of_a_step_has_a_claim_that_is_explained() -> None:
    keys = [*live().step(0, EVERYTHING).to_arrays(), "batch"]
    trained = {key.partition("/")[2].rpartition(".")[0] for key in keys if key.startswith("activation_gradient/")}
    for of in ("", "torch, fed the referee's values", "torch-fast, from its own gradients"):
        for key in keys:
            level, claim = claim_of(key, trained, of)
            if not of or (claim.endswith(of) and ("own" not in of or claim.startswith("moments"))):
                assert claim_named(level, claim), claim


def test_every_explanation_is_two_to_five_sentences() -> None:
    assert {one.level for one in CLAIMS} == set(LEVELS)
    for text in (*WORDS.values(), *(one.text for one in CLAIMS)):
        assert 2 <= len(re.findall(r"[.?!](?= |$)", text)) <= 5, text


def test_the_words_of_the_table_are_explained() -> None:
    for word in (*ASKED, *VERDICTS, *TITLES[1:], "worst place", "not run", "relative difference"):
        assert [name for name, _ in explained(word)] == [word]


@pytest.mark.parametrize(
    ("asked", "titles"),
    [
        ("9", ["level 9: pictures", "pictures from the same state", "pictures of both free runs",
               "grids as users see them"]),
        ("gradients of the update generator", ["gradients of every parameter"]),
        ("Sign Flip", ["sign flip"]),
        ("beta powers", ["step counts and beta powers", "moments, parameters and beta powers"]),
        ("nonsense", []),
    ],
)  # fmt: skip
def test_a_level_a_claim_and_a_part_of_a_name_find_what_they_name(asked: str, titles: list[str]) -> None:
    assert [title for title, _ in explained(asked)] == titles


def test_the_command_lists_explains_and_refuses(pygan: Pygan) -> None:
    code, out, err = pygan("parity", "--explain")
    assert (code, err) == (0, "")
    assert all(word in " ".join(out.split()) for word in (*WORDS, *LEVELS.values()))
    code, out, err = pygan("parity", "--explain", "sign", "flip")
    assert (code, err) == (0, "")
    assert out.startswith("sign flip\n  A ReLU passes")
    refused(pygan("parity", "--explain", "nonsense"), "'nonsense'", "pygan parity --explain lists them")
    code, out, _ = pygan("parity", "--explain", "tolerance", "--json")
    assert code == 0
    assert json.loads(out)["explained"].keys() == {"tolerance"}


def test_explaining_loads_no_torch() -> None:
    code = """
import sys
from pygan.cli import main
sys.argv = ["pygan", "parity", "--explain", "7"]
main_code = 0
try:
    main()
except SystemExit as stop:
    main_code = stop.code or 0
print("loaded:", main_code, sorted({"torch", "juliacall", "pygan.parity.run"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: 0 []"
