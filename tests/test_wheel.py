"""The wheel: the Julia package, tables and traces come with it and are found, and juliapkg is pointed to them."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import util
from pathlib import Path

import numpy as np
import pytest

from pygan.draws import Draws
from pygan.resources import traces_dir

pytestmark = pytest.mark.slow

JUNK = (
    "julia/Manifest.toml",
    "julia/Manifest-v1.10.toml",
    "julia/src/stack.jl.mem",
    "julia/test/made/trace.json",
    "julia/x.log",
)


def run(*words: object, folder: Path, path: Path | None = None) -> str:
    """Standard output of a program started in ``folder``, which is not the checkout."""
    variables = {**os.environ, "PYTHONPATH": str(path)} if path else dict(os.environ)
    finished = subprocess.run(
        [str(word) for word in words], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def source(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, with what a machine leaves in it."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pygan", "julia"):
        shutil.copytree(root / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "Manifest*.toml"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(root / name, copy / name)
    for name in JUNK:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("")
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-build-isolation"] if util.find_spec("hatchling") else []
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", *isolation, "-w", folder, source, folder=folder)
    [path] = folder.glob("pygan-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, wheel, folder=folder)
    return folder


def test_the_wheel_holds_what_a_user_needs_and_nothing_of_a_machine(wheel: Path, root: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert len(names) == len(set(names))
    ours = {name.removeprefix("pygan/_julia/") for name in names if name.startswith("pygan/_julia/")}
    sources = {path.relative_to(root / "julia").as_posix() for path in (root / "julia").rglob("*.jl")}
    shared = {f"share/{path.name}" for path in (root / "julia" / "share").iterdir()}
    assert ours == {name for name in sources if not name.startswith("test/")} | shared | {"Project.toml"}
    assert {"pygan/juliapkg.json", "pygan/py.typed"} <= set(names)
    for folder in traces_dir().iterdir():
        assert f"pygan/traces/{folder.name}/trace.json" in names
    assert not any(name.split("/")[0] not in ("pygan", f"{wheel.name.split('-py3')[0]}.dist-info") for name in names)


CODE = """
import json, pygan
from pygan.draws import Draws
from pygan.layouts import table
from pygan.resources import julia_dir, shared_table, traces_dir
from pygan.stacks.julia_setup import setup_words
from pygan.traces import Trace
traces = {folder.name: len(Trace(folder)) for folder in traces_dir().iterdir()}
normals = Draws(3).normal("x", (4,)).tolist()
assert "conv_transpose.weight" in table()
files = [pygan.__file__, str(julia_dir()), str(shared_table("layouts.toml"))]
print(json.dumps({"files": files, "traces": traces, "normals": normals, "words": setup_words()}))
"""


def test_the_installed_package_finds_its_tables_traces_and_julia_sources(installed: Path, tmp_path: Path) -> None:
    facts = json.loads(run(sys.executable, "-c", CODE, folder=tmp_path, path=installed))
    assert all(file.startswith(str(installed)) for file in facts["files"])
    assert facts["files"][1] == str(installed / "pygan" / "_julia")
    assert Path(facts["files"][2]).is_file()
    assert facts["words"][4] == (installed / "pygan" / "_julia").as_posix()
    assert np.array_equal(np.float32(facts["normals"]), Draws(3).normal("x", (4,)))
    assert facts["traces"].keys() == {folder.name for folder in traces_dir().iterdir()}
    assert min(facts["traces"].values()) > 1


def test_the_installed_command_line_runs(installed: Path, tmp_path: Path) -> None:
    start = "from pygan.cli import main; main()"
    assert "flux_tutorial" in json.loads(
        run(sys.executable, "-c", start, "recipes", "--json", folder=tmp_path, path=installed)
    )
    assert (installed / "bin" / "pygan").is_file() or (installed / "Scripts").is_dir()


REQUIREMENTS = """
import json
from juliapkg.deps import find_requirements
compat, packages = find_requirements()
print(json.dumps([str(compat), {package.name: package.depsdict() for package in packages}]))
"""


def test_juliapkg_takes_the_julia_package_from_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    out = run(sys.executable, "-c", REQUIREMENTS, folder=tmp_path, path=installed)
    compat, packages = json.loads(out.splitlines()[-1])
    assert compat == "~1.10.3"
    assert packages["PyganFlux"]["path"] == str(installed / "pygan" / "_julia") and packages["PyganFlux"]["dev"]
    assert packages["Flux"]["version"] == "=0.16.9"


def test_an_editable_install_gets_no_second_copy_of_the_julia_sources(root: Path, monkeypatch) -> None:
    pytest.importorskip("hatchling")
    monkeypatch.syspath_prepend(str(root))
    from hatch_build import JuliaFiles

    hook = JuliaFiles(str(root), {}, None, None, "", "wheel")
    data: dict[str, dict[str, str]] = {"force_include": {}}
    hook.initialize("editable", data)
    assert data == {"force_include": {}}
    hook.initialize("standard", data)
    added = [Path(path) for path in data["force_include"]]
    assert "pygan/juliapkg.json" in data["force_include"].values() and all(path.is_file() for path in added)
    hook.finalize("standard", data, "")
    assert [path for path in added if not path.exists()] == [added[-1]]
