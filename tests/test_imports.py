"""What is loaded when, which part may know which, and the size of files."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "juliacall", "juliapkg", "matplotlib")
ABOVE = (
    "pygan.parity",
    "pygan.benchmarking",
    "pygan.cli",
    "pygan.comparison",
    "pygan.gifs",
    "pygan.stopped",
    "pygan.recording",
    "pygan.training",
)

SCRIPT = """
import sys
{code}
print("LOADED", *sorted(sys.modules.keys() & set({heavy})))
"""
COMMAND = """
from pygan.cli import main
sys.argv = ["pygan", *{arguments}]
try:
    main()
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
"""


def loaded(code: str) -> str:
    script = SCRIPT.format(code=code, heavy=HEAVY)
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip().splitlines()[-1]


def test_this_test_would_see_torch() -> None:
    assert "torch" in loaded("import pygan.stacks.torch_stack")


@pytest.mark.parametrize(
    "module",
    ["pygan", "pygan.config", "pygan.recipes", "pygan.stacks", "pygan.stacks.choose", "pygan.stacks.flux_stack",
     "pygan.training", "pygan.traces", "pygan.recording", "pygan.schedule", "pygan.parity.compare",
     "pygan.parity.sides", "pygan.data", "pygan.cli", "pygan.capture", "pygan.comparison.reading"],
)  # fmt: skip
def test_importing_loads_neither_torch_nor_julia(module: str) -> None:
    assert loaded(f"import {module}") == "LOADED"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], *([name, "--help"] for name in ("gif", "train", "record", "bench", "compare")), ["doctor", "--json"]],
    ids=str,
)
def test_help_and_doctor_load_neither_torch_nor_julia(arguments: list[str]) -> None:
    assert loaded(COMMAND.format(arguments=arguments)) == "LOADED"


def modules(root: Path) -> dict[str, Path]:
    package = root / "pygan"
    names = {path: ".".join(path.relative_to(root).with_suffix("").parts) for path in package.rglob("*.py")}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def imported(path: Path) -> set[str]:
    """Every module that a source names in an import, also inside functions, and in ``import_module`` by literal."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which this test cannot follow"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("pygan."):
            found.add(node.value.partition("{")[0].rstrip("."))
    return found


def reaches(names: set[str], targets: tuple[str, ...]) -> set[str]:
    return {name for name in names if any(name == target or name.startswith(f"{target}.") for target in targets)}


def test_recipes_and_stacks_and_what_they_use_know_nothing_of_parity_cli_or_reports(root: Path) -> None:
    known = modules(root)
    todo = [name for name in known if name.startswith(("pygan.recipes", "pygan.stacks"))]
    assert len(todo) > 8
    seen = set(todo)
    while todo:
        name = todo.pop()
        names = imported(known[name])
        assert not reaches(names, ABOVE), f"{name} imports {reaches(names, ABOVE)}"
        fresh = {one for one in names if one in known} - seen
        seen |= fresh
        todo += fresh
    assert "pygan.draws" in seen, "the walk does not follow imports"


def test_a_stack_knows_no_other_stack(root: Path) -> None:
    known = modules(root)
    assert not reaches(imported(known["pygan.stacks.torch_stack"]), ("pygan.stacks.flux_stack", "juliacall"))
    assert not reaches(imported(known["pygan.stacks.flux_stack"]), ("pygan.stacks.torch_stack", "torch", "juliacall"))
    starters = [name for name, path in known.items() if "juliacall" in imported(path)]
    assert starters == ["pygan.stacks.flux_worker"]


@pytest.mark.parametrize("name", ["compare", "tolerances", "verdicts", "claims", "free_run"])
def test_what_judges_knows_no_recipe_and_no_stack(root: Path, name: str) -> None:
    names = imported(modules(root)[f"pygan.parity.{name}"])
    assert not reaches(names, ("pygan.recipes", "pygan.stacks", "torch"))


def test_the_walk_sees_an_import_inside_a_function(root: Path) -> None:
    assert "pygan.stacks.torch_stack" in imported(root / "pygan" / "stacks" / "choose.py")


@pytest.mark.parametrize("pattern", ["pygan/**/*.py", "julia/**/*.jl", "tests/**/*.py", "parity_tests/**/*.py"])
def test_every_source_file_is_shorter_than_400_lines(root: Path, pattern: str) -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in root.glob(pattern)}
    assert sizes
    assert {str(path): size for path, size in sizes.items() if size >= 400} == {}
