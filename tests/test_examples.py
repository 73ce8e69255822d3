"""The examples in docstrings say what happens, and importing any module of pygan starts no Julia."""

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "pygan").rglob("*.py"))
}
WITH_EXAMPLES = [name for name, source in SOURCES.items() if ">>> " in source]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_are_true(name: str) -> None:
    failed, tried = doctest.testmod(import_module(name))
    assert tried > 0, "the module holds >>> where doctest does not look"
    assert failed == 0, "see the captured output"


def test_the_parts_whose_use_an_example_teaches_have_one() -> None:
    taught = {"draws", "layouts", "state", "sketches", "pictures.grid", "data.idx", "config", "files", "traces"}
    assert {f"pygan.{name}" for name in taught} <= set(WITH_EXAMPLES)


def test_importing_every_module_starts_no_julia() -> None:
    code = f"import sys, importlib\nfor name in {list(SOURCES)}: importlib.import_module(name)\nprint(*sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = finished.stdout.split()
    assert set(SOURCES) <= set(loaded) and "torch" in loaded
    assert not {"juliacall", "juliapkg"} & set(loaded)
