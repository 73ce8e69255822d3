"""``docs/parity.md`` says what the committed JSON files say, and the tools that make it read them right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from pygan.parity import bands
from pygan.parity.bands import FORWARD_NOISE, TensorBands
from pygan.parity.report import LEVELS
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig


@pytest.fixture
def tools(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(root / "tools"))
    import parity_document

    return parity_document


def row(level: int, claim: str = "x", verdict: str = "agree", **more: Any) -> dict[str, Any]:
    plain = {"compared": 3, "measured": 1e-13, "allowed": 1e-11, "minimum": 2e-13, "where": "", "reason": ""}
    return {"level": level, "claim": claim, "verdict": verdict, **plain, **more}


def report(*rows: dict[str, Any], dtype: str = "float64", **more: Any) -> dict[str, Any]:
    julia = {"julia": "1.10.8", "packages": {"Flux": "0.16.9"}}
    return {
        "candidate": "torch",
        "reference": "flux",
        "verdict": "agree",
        "minimum_tolerance": 2e-13,
        "rows": list(rows),
        "curves": {},
        "kinks": [],
        "seconds": {"lead": 8.0, "follow": 2.0, "judge": 2.0, "plain lead": 3.0, "plain follow": 1.0, "steps": 7.0},
        "config": FluxTutorialConfig(dtype=dtype).to_dict(),
        "environment": {"cpu": "a CPU", "cores": 2, "python": "3.12", "packages": {"torch": "2"}, "reference": julia},
        **more,
    }


def store(folder: Path, name: str, *reports: dict[str, Any], **more: Any) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps({"command": "pygan parity torch flux --made-up", "reports": reports, **more}))


# --- the committed document --------------------------------------------------------------------------------------


def test_the_committed_document_is_what_the_committed_files_say(tools: Any, root: Path) -> None:
    expected = tools.document(tools.RESULTS)
    measured = [section for section in tools.SECTIONS if (tools.RESULTS / section.file).is_file()]
    if tools.DOCUMENT.is_file() or len(measured) == len(tools.SECTIONS):
        written = tools.DOCUMENT.read_text(encoding="utf-8")
        assert written == expected, "docs/parity.md is not what its files say; run make docs"
        named = set(re.findall(r"\(parity/([\w-]+\.png)\)", written))
        folder = tools.DOCUMENT.with_suffix("")
        assert {path.name for path in folder.glob("*.png")} == named, "run make docs"
    assert expected.count("Not measured yet. The command:") == len(tools.SECTIONS) - len(measured)


def test_every_section_names_its_command_and_file(tools: Any, tmp_path: Path) -> None:
    text = tools.document(tmp_path)
    for section in tools.SECTIONS:
        assert f"## {section.title}\n\nNot measured yet. The command:\n\n```sh\n{section.command}\n```" in text
        assert section.file in section.command or section.file == tools.EXAMPLE
    assert all(f"| {level} {title} |" in text for level, title in LEVELS.items())


# --- rows --------------------------------------------------------------------------------------------------------


def test_the_rows_of_a_report_are_told_with_their_reasons(tools: Any, tmp_path: Path) -> None:
    told = row(4, "logits", where="logits/real @ step 3", reason="because of this", compared=24)
    store(tmp_path, tools.NARROW64, report(row(3), told, row(5, verdict="not run", measured=None, allowed=None)))
    text = tools.document(tmp_path)
    assert "pygan parity torch flux --made-up" in text
    assert "| 4 logits and losses | logits | agree | 24 | 1.0e-13 | 1.0e-11 <sup>a</sup> |" in text
    assert "<sup>a</sup> because of this" in text
    assert "`logits/real @ step 3`" in text
    assert "Julia 1.10.8, Flux 0.16.9" in text
    assert f"| {tools.SECTIONS[0].title} | agree | 7 | 2 of 3 | 1 |" in text


def test_of_several_seeds_the_worst_is_told_and_all_are_counted(tools: Any, tmp_path: Path) -> None:
    reports = [report(row(4, measured=value), config={**report()["config"], "seed": seed}) for seed, value in
               enumerate([1e-13, 7e-12, 2e-13])]  # fmt: skip
    store(tmp_path, tools.NARROW64, *reports)
    text = tools.document(tmp_path)
    assert "3 seeds (0 to 2)" in text
    assert "| 4 logits and losses | x | agree | 9 | 7.0e-12 |" in text
    reports[1] = {**report(row(4, verdict="differs", measured=1e-3)), "verdict": "differs"}
    store(tmp_path, tools.NARROW64, *reports)
    text = tools.document(tmp_path)
    assert "**agree, differs**" in text
    assert "| 4 logits and losses | x | differs | 9 | 1.0e-03 |" in text


def test_a_float32_row_shows_the_committed_floor_of_its_tensor(tools: Any, tmp_path: Path) -> None:
    from parity_rows import committed_floor

    full, narrow = FluxTutorialConfig(), {"width": 2, "latent_dim": 5, "batch": 8}
    where = "gradient/generator.conv1.weight @ step 3"
    for config, job, key in (
        ({**full.to_dict(), **narrow}, "narrow", "gradient/generator.conv1.weight"),
        (full.to_dict(), "first_step", "sketch/gradient/generator.conv1.weight"),
    ):
        assert committed_floor(row(5, where=where), config) == bands.floors()[job]["floor"][key]
        assert committed_floor(row(5, where=where), {**config, "dtype": "float64"}) is None
    assert committed_floor(row(5, where=where), {**full.to_dict(), "width": 3}) is None
    band = bands.picture_band(full.to_dict())
    assert band is not None
    found = committed_floor(row(9, "pictures of both free runs", where="pictures @ step 10"), full.to_dict())
    assert found == pytest.approx(band.at(10) / band.factor)


# --- kinks, curves, cost -----------------------------------------------------------------------------------------


def test_flips_are_counted_and_one_outside_the_limit_is_not_hidden(tools: Any, tmp_path: Path) -> None:
    kinks = [
        {"step": 1, "where": "pattern/real/d.leaky1", "units": 2, "largest": FORWARD_NOISE / 2},
        {"step": 1, "where": "pattern/fake/d.leaky1", "units": 1, "largest": FORWARD_NOISE / 4},
        {"step": 5, "where": "pattern/real/d.leaky1", "units": 3, "largest": FORWARD_NOISE * 2},
    ]
    store(tmp_path, tools.EPOCH, report(row(7), dtype="float32", kinks=kinks))
    text = tools.document(tmp_path)
    assert "6 units had another sign, in 2 of 7 steps" in text
    assert "2 of 3 entries (a layer at a step) are inside" in text
    assert f"| `real/d.leaky1` | 2 | 5 | {2 * FORWARD_NOISE:.1e} |" in text
    assert "The 7 compared steps took 12 s." in text
    store(tmp_path, tools.EPOCH, report(row(7), dtype="float32"))
    assert "No unit of a relu or leaky relu had another sign in the 7 steps" in tools.document(tmp_path)


CURVES = {
    "state/parameter/generator.dense.weight": {"steps": [0, 2, 8], "relative": [1e-7, 1e-3, 2e-3]},
    "state/exp_avg/generator.dense.weight": {"steps": [0, 2, 8], "relative": [0.0, 4e-4, 4e-2]},
    "state/parameter/discriminator.dense.bias": {"steps": [0, 2, 8], "relative": [1e-6, None, 1e-5]},
    "loss/generator": {"steps": [0, 2, 8], "relative": [0, 9.0, 9.0]},
    "pictures": {"steps": [0, 8], "relative": [1e-6, 1e-4]},
}


@pytest.mark.parametrize("banded", [True, False])
def test_of_a_free_run_the_tensor_closest_to_its_band_is_told(
    banded: bool, tools: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import parity_plots
    import parity_sections

    floor = {key: np.array([1e-4, 1e-3]) for key in CURVES if key.startswith("state/")}
    floor["state/parameter/generator.dense.weight"] = np.array([1e-5, 1e-4])
    made = TensorBands(np.array([0, 8]), floor, 4.0) if banded else None
    for module in (parity_plots, parity_sections):
        monkeypatch.setattr(module, "tensor_bands", lambda config: made)
    store(tmp_path, tools.FREE, report(row(8), row(9), dtype="float32", curves=CURVES))
    text = tools.document(tmp_path)
    if banded:  # 1e-3 at step 2, where 4 * 10^-4.75 is admitted, is further outside than 4e-2 of 4e-3
        assert "`state/parameter/generator.dense.weight` is closest to its band, at 14.06 of it" in text
    else:
        assert "`state/exp_avg/generator.dense.weight` is largest, 4.0e-02 relative" in text
    assert "`state/parameter/discriminator.dense.bias`" in text
    drawn = tools.draw(tmp_path, tmp_path / "parity")
    assert [path.name for path in drawn] == ["free-run-tensors.png", "free-run-pictures.png"]
    for path in drawn:
        assert f"](parity/{path.name})" in text
        assert imread(path).std() > 0.02, "something is drawn"


def test_the_cost_is_all_that_was_spent_over_plain_steps(tools: Any, tmp_path: Path) -> None:
    store(tmp_path, tools.NARROW64, report(row(3)))
    assert f"| {tools.SECTIONS[0].title} | 7 | 3.0 | 1.0 | 8.0 | 2.0 | 2.0 | 3.0 |" in tools.document(tmp_path)


# --- planted bugs and the example --------------------------------------------------------------------------------


def planted(fault: str, right: int, unknown: int = 0, wrong: int = 0, missed: int = 0) -> dict[str, Any]:
    counts = {"named right": right, "unknown cause": unknown, "WRONG NAME": wrong, "MISSED": missed}
    more = {"side": "torch", "fault": fault, "what": "It is so.", "causes": {"a cause": 2, "another": 1}}
    return {**more, **counts, "planted": sum(counts.values())}


def test_the_score_tells_every_fault_that_was_not_always_named_right(tools: Any, tmp_path: Path) -> None:
    faults = [planted("plain", 3), planted("loud", 1), planted("silent", 0, missed=2), planted("odd", 1, 1, 1)]
    names = ("planted", "named right", "unknown cause", "WRONG NAME", "MISSED")
    totals = {"torch": {"faults": 4, **{name: sum(one[name] for one in faults) for name in names}}}
    clean = {"live Flux, float64": {"runs": 20, "steps": 60, "false alarms": 1}}
    store(tmp_path, "planted-bugs.json", faults=faults, totals=totals, clean=clean)
    text = tools.document(tmp_path)
    assert "| torch | 4 | 9 | 5 | 1 | 1 | 2 |" in text
    assert "Named right every time, in torch: plain, loud." in text
    assert "| torch | silent: It is so. | 2 |  |  |  | 2 | a cause (2), another (1) |" in text
    assert "| torch | odd: It is so. | 3 | 1 | 1 | 1 |  |" in text
    assert "| live Flux, float64 | 20 | 60 | 1 |" in text


def test_the_example_is_what_the_comparison_says_of_a_planted_kernel(tools: Any, tmp_path: Path, monkeypatch) -> None:
    import parity_example

    out = tmp_path / tools.EXAMPLE
    monkeypatch.setattr("sys.argv", ["parity_example.py", "--out", str(out)])
    parity_example.main()
    (found,) = [report["diagnosis"] for report in json.loads(out.read_text())["reports"]]
    assert (found["step"], found["culprit"]) == (0, "activation/real/discriminator.conv2")
    assert found["cause"] == "kernel not flipped"
    text = tools.document(tmp_path)
    assert "- **Culprit** `activation/real/discriminator.conv2`" in text
    assert f"- **{len(found['victims'])} victims** differed too" in text
    assert "--step 0 --tensor activation/real/discriminator.conv2\n```" in text
