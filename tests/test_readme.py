"""What the README quotes is what was measured and what is there."""

import json
import re
from pathlib import Path

import pytest


def test_the_quoted_coverage_is_the_stored_one(root: Path) -> None:
    path = root / "docs" / "results" / "coverage.json"
    readme = (root / "README.md").read_text(encoding="utf-8")
    quoted = re.findall(r"\*\*(\d+\.\d|\?) %\*\* of the statements", readme)
    if not path.exists():
        assert quoted == ["?"], "the README quotes a figure that no file holds"
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["figure"] == round(100 * stored["covered"] / stored["statements"], 1)
    assert all((root / name).is_file() for name in stored["files"]), "measured before a file went: make coverage"
    assert quoted == [f"{stored['figure']:.1f}"]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/gallery/README.md", "docs/tables.md"])
def test_files_that_a_page_names_are_there(root: Path, page: str) -> None:
    text = (root / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\]\(([^)#:]+)\)", text))
    named |= set(re.findall(r"`((?:parity_tests|benchmarks|tests|docs|tools|pygan|julia)/[\w./-]+)`", text))
    assert named or page == "CONTRIBUTING.md"
    folders = (root, (root / page).parent)
    missing = {name for name in named if not any((folder / name).exists() for folder in folders)}
    assert missing == set()
