"""``docs/parity.md`` says what the committed JSON files say, and the tools that make it read them right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from pygan.parity import tolerances
from pygan.parity.claims import CORRECTNESS, EVERY, LEVELS
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig


@pytest.fixture
def tools(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(root / "tools"))
    monkeypatch.syspath_prepend(str(root / "parity_tests"))
    import parity_document

    return parity_document


def row(level: int, claim: str = "x", verdict: str = "agree", **more: Any) -> dict[str, Any]:
    plain = {"compared": 3, "measured": 1e-13, "allowed": 1e-11, "minimum": 2e-13, "where": "", "reason": ""}
    return {"level": level, "claim": claim, "verdict": verdict, **plain, **more}


def report(*rows: dict[str, Any], dtype: str = "float64", seed: int = 0, **more: Any) -> dict[str, Any]:
    julia = {"julia": "1.10.8", "packages": {"Flux": "0.16.9"}}
    return {
        "candidate": "torch",
        "reference": "flux",
        "verdict": "agree",
        "minimum_tolerance": 2e-13,
        "rows": list(rows),
        "curves": {},
        "kinks": [],
        "data": {"name": "digits"},
        "seconds": {"lead": 8.0, "follow": 2.0, "judge": 2.0, "plain lead": 3.0, "plain follow": 1.0, "steps": 7.0},
        "config": FluxTutorialConfig(dtype=dtype, seed=seed).to_dict(),
        "environment": {"cpu": "a CPU", "cores": 2, "python": "3.12", "packages": {"torch": "2"}, "reference": julia},
        **more,
    }


def told(tools: Any, folder: Path, source: Any, *reports: dict[str, Any], **more: Any) -> str:
    """The document where ``source`` alone is there, with these reports."""
    stored = {"command": "pygan parity torch flux --made-up", "reports": reports, **more}
    (folder / source.file).write_text(json.dumps(stored))
    text: str = tools.document(folder)
    return text


def test_the_committed_document_is_what_the_committed_files_say(tools: Any) -> None:
    written, expected = tools.DOCUMENT.read_text("utf-8"), tools.document(tools.RESULTS)
    assert written == expected, "docs/parity.md is not what its files say; run make docs"
    named = set(re.findall(r"\(parity/([\w-]+\.png)\)", written))
    assert {path.name for path in tools.DOCUMENT.with_suffix("").glob("*.png")} == named, "run make docs"


def test_every_section_names_the_command_that_makes_its_file(tools: Any, tmp_path: Path) -> None:
    text = tools.document(tmp_path)
    for section in tools.SECTIONS:
        commands = "\n".join(source.command for source in section.sources)
        assert f"## {section.title}\n\nNot measured yet:\n\n```sh\n{commands}\n```" in text
        for source in section.sources:
            assert source.file in source.command or section is tools.EXAMPLE
            assert f"| {section.name_of(source)} | not measured yet |" in text
    assert all(f"| {level} {title} |" in text for level, title in LEVELS.items())


def test_the_rules_are_told_with_the_numbers_of_the_code(
    tools: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tolerances, "LOCAL_FACTOR", 17.5)
    monkeypatch.setattr(tolerances, "FREE_MOST", 3e-9)
    text = tools.document(tmp_path)
    assert "off by 17.5 times the noise level of that one operation" in text
    assert "more than 3e-09, nothing is claimed" in text


def test_the_way_from_recipe_to_verdict_is_that_of_the_imports(tools: Any, root: Path, tmp_path: Path) -> None:
    ways = re.findall(r"^\| (?:Float|free).* \| (recipes/[^|]*) \|$", tools.document(tmp_path), re.MULTILINE)
    assert len(ways) == 3
    for way in ways:
        modules = way.split(" → ")
        sources = [(root / "pygan" / f"{module}.py").read_text("utf-8") for module in modules]
        imports = [f"from pygan.{module.replace('/', '.')} import" for module in modules]
        for place in range(len(modules) - 1):
            assert imports[place + 1] in sources[place] or imports[place] in sources[place + 1], modules[place]


# --- rows --------------------------------------------------------------------------------------------------------


def test_the_rows_of_a_report_are_told_with_their_reasons(tools: Any, tmp_path: Path) -> None:
    one = row(4, "logits", where="logits/real @ step 3", reason="because of this", compared=24)
    rows = (row(3), one, row(5, verdict="not run", measured=None, allowed=None, reason="of that"))
    text = told(tools, tmp_path, tools.LEVELS.sources[0], report(*rows))
    assert "```sh\npygan parity torch flux --made-up\n```" in text
    line = "| 4 logits and losses | logits | agree | 24 | 1.0e-13 | 1.0e-11 <sup>a</sup> |"
    assert f"{line} `logits/real @ step 3` |" in text
    assert "| 5 gradients | x | not run <sup>b</sup> | 3 |" in text
    assert "<sup>a</sup> because of this<br>\n<sup>b</sup> of that" in text
    assert "Julia 1.10.8, Flux 0.16.9" in text
    name = tools.LEVELS.name_of(tools.LEVELS.sources[0])
    assert f"| {name} | agree | 7 | 2 of 3 claims agree, 1 not run |" in text
    assert f"| {name} | 7 | 3.0 | 1.0 | 8.0 | 2.0 | 2.0 | 3.0 |" in text, "the cost: 12 seconds over 4 plain ones"


def test_of_several_seeds_the_worst_is_told_and_all_are_counted(tools: Any, tmp_path: Path) -> None:
    reports = [report(row(4, measured=value), seed=seed) for seed, value in enumerate([1e-13, 7e-12, 2e-13])]
    text = told(tools, tmp_path, tools.LEVELS.sources[0], *reports)
    assert "3 seeds (0 to 2)" in text
    assert "| 4 logits and losses | x | agree | 9 | 7.0e-12 |" in text
    reports[1] = report(row(4, verdict="differs", measured=1e-3), seed=1, verdict="differs")
    text = told(tools, tmp_path, tools.LEVELS.sources[0], *reports)
    assert "**agree, differs**" in text
    assert "| 4 logits and losses | x | differs | 9 | 1.0e-03 |" in text


# --- Float32 and free runs ---------------------------------------------------------------------------------------


def test_float32_is_told_in_shares_of_the_tolerance(tools: Any, tmp_path: Path) -> None:
    rows = (
        row(7, CORRECTNESS, measured=1e-12, where="a"),
        row(7, EVERY, measured=3e-6, allowed=4e-6, where="b"),
        row(3, "outputs of every layer, torch, fed the referee's values", measured=1.0, allowed=8.0, where="c"),
        row(6, "parameters, flux, from its own gradients", measured=1.0, allowed=2.0, where="d"),
        row(9, "pictures from the same state", verdict="not run", measured=None, allowed=None),
    )
    kinks = [
        {"step": 1, "where": "pattern/real/d.leaky1 (reference)", "units": 1200, "largest": 2e-6, "noise": 8e-6},
        {"step": 1, "where": "pattern/fake/d.leaky1 (candidate)", "units": 3, "largest": 3e-6, "noise": 2.4e-5},
    ]
    source = tools.ROUNDING.sources[1]
    text = told(tools, tmp_path, source, report(*rows, dtype="float32", seed=4, kinks=kinks))
    most = tolerances.KINK_FACTOR
    flips = f"1,203 units; furthest at {most / 4:.1f} times the noise level, tolerance {most:g}, "
    flips += "`real/d.leaky1 (reference)`"
    assert f"| mnist | 4 | agree | 0.10 `a` | 0.75 `b` | 0.50 `d` | not run | {flips} |" in text
    lost = row(7, EVERY, verdict="differs", measured=None, allowed=None, where="nan")
    text = told(tools, tmp_path, source, report(lost, dtype="float32", verdict="differs"))
    assert "| mnist | 0 | differs | not run | inf `nan` | not run | not run | none |" in text


def free_report() -> dict[str, Any]:
    steps = [0, 1, 8, 64]
    curves: dict[str, Any] = {
        "state/parameter/generator.dense.weight": {"steps": steps, "relative": [1e-15, 2e-14, 4e-13, 9.0]},
        "state/exp_avg/generator.dense.weight": {"steps": steps, "relative": [0.0, 2e-14, 1e-13, 1e-13]},
        "state/parameter/discriminator.dense.bias": {"steps": steps, "relative": [1e-15, None, 1e-15, 1e-15]},
        "loss/generator": {"steps": steps, "relative": [0, 9.0, 9.0, 9.0]},
        "pictures": {"steps": [0, 64], "relative": [1e-15, 6e-13]},
        "growth": {"power": 1.5, "at_step_1": 1e-15, "horizon": 10000.0},
    }
    first = dict.fromkeys([key for key in curves if key.startswith("state/")], 1e-14) | {"pictures/values": 1e-15}
    curves["separation"] = {str(step): {key: step * value for key, value in first.items()} for step in (1, 8)}
    late = {"state/parameter/generator.dense.weight": 1e-8, "sketch/state/exp_avg/generator.dense.weight": 1e-11}
    curves["separation"]["64"] = {**late, "pictures/values": 1e-13}
    curves["separation"]["2"] = {"pictures/values": 2e-15}
    rows = (
        row(8, "tensors over steps", measured=2e-13, allowed=1e-12, compared=12345),
        row(9, "pictures of both free runs", measured=6e-13, allowed=1e-12, where="pictures @ step 64"),
    )
    return report(*rows, curves=curves)


def test_of_free_runs_curves_limits_and_growth_are_told_and_drawn(tools: Any, tmp_path: Path) -> None:
    from parity_free import FreeRun

    run = FreeRun(free_report())
    worst = run.worst(run.networks["generator"])
    assert [(one.key.split("/")[1], one.step, round(one.share, 2)) for one in worst] == [
        ("parameter", 8, 0.5),  # 9.0 at step 64 is beyond the horizon: the referee's runs are 1e-8 apart there
        ("exp_avg", 1, 0.2),
    ]
    text = told(tools, tmp_path, tools.FREE.sources[1], run.report)
    for line in (
        "|  | width 16 |",
        "| sizes | width 64, batch 128, digits |",
        "| tensors at steps | 12,345 |",
        "| largest share of a limit, pictures | 0.60 `pictures @ step 64` |",
        "| pictures at the last step | 6.0e-13 |",
        "| referee's separation there | 1.0e-13 |",
        "| limit there | 1.0e-12 |",
        "| growth of the pictures' separation | as step^1.14 |",
        "| horizon of the pictures | step 222,164 |",
    ):
        assert f"{line}\n" in text
    first = re.search(r"horizon of the first tensor \| step (\d+) `state/parameter/generator.dense.weight`", text)
    assert first and 8 < int(first[1]) <= 64
    (drawn,) = tools.draw(tmp_path, tmp_path / "parity")
    assert f"](parity/{drawn.name})" in text
    assert imread(drawn).std() > 0.02, "something is drawn"


# --- clean runs, planted faults, the example ---------------------------------------------------------------------


def test_of_clean_runs_every_false_alarm_and_the_largest_shares_are_told(tools: Any, tmp_path: Path) -> None:
    from planted.clean_runs import Clean, document

    runs = [
        Clean("the fast step", 0, "float64", 5, shares={"float64, 5: gradients": 0.25}, flips=7),
        Clean("oneDNN off", 1, "float32", 3, "level 5 differs\n  here", shares={"float64, 5: gradients": 0.5}),
        Clean("oneDNN off", 2, "float32", 3, skipped="no data"),
    ]
    text = told(tools, tmp_path, tools.CLEAN.sources[0], **document(runs))
    assert "**1 in 2 comparisons** (8 steps, 7 units with another sign, 1 comparisons skipped)" in text
    assert "| candidate | the fast step (1), oneDNN off (1) |" in text
    assert f"| float64, 5: gradients | 0.50 | {runs[1].name} |" in text
    assert f"| {runs[1].name} | level 5 differs   here |" in text
    assert "| Clean runs | false alarms | 8 | 1 false alarms in 2 comparisons |" in text


def planted_rows() -> list[Any]:
    from planted.score import MISSED, PLACED, RIGHT, UNSEEN, Row

    def one(fault: str, verdict: str, recording: str = "flux-narrow-float64", **more: Any) -> Row:
        dtype, kind = more.pop("dtype", "float64"), more.pop("kind", "function")
        side = more.pop("side", "torch")
        return Row(side, recording, dtype, fault, kind, 0, "generator.conv1", "", verdict, **more)

    there = {"step": 1, "key": "activation/sample/generator.conv1"}
    narrow32 = {"recording": "flux-narrow-float32", "dtype": "float32"}
    return [
        one("kernel flipped", RIGHT, cause="kernel not flipped", **there),
        one("kernel flipped", RIGHT, **narrow32, cause="kernel not flipped", **there),
        one("layer in tf32", UNSEEN, kind="unobservable"),
        one("layer in tf32", PLACED, **narrow32, kind="rounding", cause="unknown cause", **there),
        one("leaky slope", MISSED),
        one("kernel flipped", RIGHT, "some trace", side="julia", cause="kernel not flipped", **there),
    ]


def test_the_score_is_told_by_command_and_by_side(tools: Any, tmp_path: Path) -> None:
    from planted import score

    text = told(tools, tmp_path, tools.PLANTED.sources[0], **score.document(planted_rows(), []))
    head = "| command | faults | planted | caught | named right | unknown at its place | wrong name | missed |"
    assert head in text
    assert "| `pygan parity torch recorded` | 3 | 3 | 1 | 1 | 0 | 0 | 1 |" in text
    assert "| `pygan parity torch recorded --dtype float32` | 2 | 2 | 2 | 1 | 1 | 0 | 0 |" in text
    assert "| julia, float64 | 1 | 1 | 1 | 1 |" in text
    assert "| Planted faults | missed some |  | 3 of 6 named right, 0 wrong name, 1 missed," in text


def test_every_planted_fault_has_a_line_with_its_class_verdict_name_and_place(tools: Any, tmp_path: Path) -> None:
    import planted_document
    from planted import clean_runs, score

    stored = {"command": "python -m planted.score", **score.document(planted_rows(), [])}
    clean = clean_runs.document([clean_runs.Clean("oneDNN off", 0, "float64", 5)])
    for name, one in (("planted-bugs", stored), ("clean-runs", clean)):
        (tmp_path / f"{name}.json").write_text(json.dumps(one))
    text = planted_document.document(tmp_path)
    lines = [line for line in text.splitlines() if line.startswith("| layer in tf32:")]
    assert len(lines) == 2
    assert "| float64, `flux-narrow-float64` | unobservable | not observable |  |  |" in lines[0]
    told = "| float32, `flux-narrow-float32` | rounding | unknown at its place |  | step 1, `activation/sample/gen"
    assert told in lines[1]
    (line,) = [line for line in text.splitlines() if line.startswith("| leaky slope:")]
    assert "| MISSED |" in line
    assert "| oneDNN off | 1 | 0 |" in text
    assert "By class, `pygan parity torch recorded`" in text


def test_the_committed_page_of_planted_faults_is_what_the_committed_files_say(tools: Any) -> None:
    import planted_document

    written = planted_document.DOCUMENT.read_text("utf-8")
    assert written == planted_document.document(), "docs/planted-faults.md is not what its files say; run make docs"


def test_the_example_is_what_the_comparison_says_of_a_planted_kernel(tools: Any, tmp_path: Path, monkeypatch) -> None:
    import parity_example

    out = tmp_path / tools.EXAMPLE.sources[0].file
    monkeypatch.setattr("sys.argv", ["parity_example.py", "--out", str(out)])
    parity_example.main()
    (found,) = [one["diagnosis"] for one in json.loads(out.read_text())["reports"]]
    assert (found["step"], found["culprit"]) == (0, "activation/real/discriminator.conv2")
    assert found["cause"] == "kernel not flipped"
    text = tools.document(tmp_path)
    assert "- **Culprit** `activation/real/discriminator.conv2`" in text
    assert f"- **{len(found['victims'])} victims** differed too" in text
    assert "--step 0 --tensor activation/real/discriminator.conv2\n```" in text
