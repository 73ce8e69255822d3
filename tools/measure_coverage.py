"""How much of ``pygan/`` the tests run: ``make coverage``.

Runs the tests that need neither Julia nor a GPU under coverage.py, stores the figures in docs/results/coverage.json and
puts the total into the one line of the README that quotes it. A failing test ends it, and nothing is written.
"""

from __future__ import annotations

import datetime
import json
import platform
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from pygan.files import write_bytes, write_json

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "docs" / "results" / "coverage.json"
TESTS = ["tests", "parity_tests", "-m", "not live and not cuda and not slow"]
OF_LAST_TIME = "tests/test_readme.py::test_the_quoted_coverage_is_the_stored_one"
COUNTED = (
    "statements of pygan/ that ran in the process of the tests; what only processes started by tests run (the flux "
    "worker, command lines of their own) and Julia code are not counted"
)
QUOTE = re.compile(r"\*\*(\d+\.\d|\?) %\*\* of the statements")
"""How the README quotes the figure."""


def quote(figure: float) -> str:
    """The README's words for ``figure``, a percentage."""
    return f"**{figure:.1f} %** of the statements"


def main() -> int:
    """Measure, store, quote. Returns the exit code of the tests."""
    with tempfile.TemporaryDirectory() as folder:
        data, report = f"--data-file={folder}/coverage", Path(folder) / "report.json"
        coverage = [sys.executable, "-m", "coverage"]
        ran = subprocess.run(
            [*coverage, "run", data, "--source=pygan", "-m", "pytest", "-q", *TESTS, "--deselect", OF_LAST_TIME],
            cwd=ROOT,
        )
        if ran.returncode:
            return ran.returncode
        subprocess.run([*coverage, "json", "-q", data, "-o", str(report)], cwd=ROOT, check=True)
        measured = json.loads(report.read_text(encoding="utf-8"))
    total = measured["totals"]
    figure = round(100 * total["covered_lines"] / total["num_statements"], 1)
    stored = {
        "figure": figure,
        "covered": total["covered_lines"],
        "statements": total["num_statements"],
        "counted": COUNTED,
        "command": "make coverage",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("coverage", "pytest", "torch", "numpy")},
        },
        "files": {
            Path(name).as_posix(): round(facts["summary"]["percent_covered"], 1)
            for name, facts in sorted(measured["files"].items())
        },
    }
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text, quoted = QUOTE.subn(quote(figure), readme)
    if quoted != 1:
        raise SystemExit(f"README.md quotes the figure {quoted} times, expected once")
    write_json(STORED, stored)
    write_bytes(ROOT / "README.md", text.encode())
    print(f"{quote(figure)} -> README.md, {STORED.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
