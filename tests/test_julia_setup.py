"""Finding Julia: what is missing is said in one message, with the one command that mends it."""

import json
import shlex
from importlib import metadata
from pathlib import Path

import pytest

from pygan.errors import JuliaNotFound
from pygan.resources import julia_dir
from pygan.stacks import julia_setup
from pygan.stacks.julia_setup import PINS, JuliaSetup, find_julia, setup_command

GOOD = {
    "julia": f"{PINS['julia']}.8",
    "Flux": PINS["Flux"],
    "PythonCall": metadata.version("juliacall"),
    "PyganFlux": "0.1.0",
}


def manifest(folder: Path, **changes: str | None) -> Path:
    """A ``Manifest.toml`` as Pkg writes it; a package changed to None is left out."""
    versions = {**GOOD, **changes}
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f'julia_version = "{versions.pop("julia")}"', 'manifest_format = "2.0"', ""]
    for name, version in versions.items():
        if version is not None:
            lines += [f"[[deps.{name}]]", 'uuid = "00000000-0000-0000-0000-000000000000"', f'version = "{version}"', ""]
    (folder / "Manifest.toml").write_text("\n".join(lines))
    return folder


def executable(folder: Path, name: str = "julia") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


pytestmark = pytest.mark.usefixtures("bare")


def test_without_julia_the_error_says_where_to_get_it_and_what_to_run_then(bare: Path) -> None:
    with pytest.raises(JuliaNotFound) as caught:
        find_julia()
    text = str(caught.value)
    assert f"no Julia found. Install Julia {PINS['julia']} (https://julialang.org/downloads)" in text
    assert text.splitlines()[-1].strip() == setup_command()


def test_the_setup_command_is_one_shell_line_that_makes_the_pinned_environment(bare: Path) -> None:
    words = shlex.split(setup_command())
    assert words[:4] == ["julia", f"--project={bare / 'user' / 'pygan' / 'julia-1.10'}", "--startup-file=no", "-e"]
    assert words[4].startswith("using Pkg; Pkg.develop(")
    rest = " ".join(words[4:])
    assert all(part in rest for part in (julia_dir().as_posix(), "PythonCall", metadata.version("juliacall")))


def test_julia_without_its_environment_is_an_error_with_the_command_that_makes_it(bare: Path) -> None:
    julia = executable(bare / "bin")
    with pytest.raises(JuliaNotFound) as caught:
        find_julia()
    assert str(caught.value).startswith(f"{julia} is there, but not the environment of the flux worker")
    assert setup_command() in str(caught.value)


def test_julia_on_path_is_found_with_the_users_environment(bare: Path) -> None:
    julia = executable(bare / "bin")
    project = manifest(bare / "user" / "pygan" / "julia-1.10")
    assert find_julia() == JuliaSetup(str(julia), str(project), "julia on PATH")
    assert find_julia().check() == GOOD


def test_the_environment_variable_for_the_environment_wins_over_the_users_folder(bare: Path, monkeypatch) -> None:
    executable(bare / "bin")
    manifest(bare / "user" / "pygan" / "julia-1.10")
    chosen = manifest(bare / "an odd place")
    monkeypatch.setenv("PYGAN_JULIA_ENV", str(chosen))
    assert find_julia().project == str(chosen)
    assert f"--project={chosen}" in shlex.split(setup_command())


def test_another_julia_may_be_named_and_must_be_a_program(bare: Path, monkeypatch) -> None:
    executable(bare / "bin")
    manifest(bare / "user" / "pygan" / "julia-1.10")
    other = executable(bare / "elsewhere", "julia-1.10")
    monkeypatch.setenv("PYGAN_JULIA", str(other))
    assert find_julia().executable == str(other)
    assert shlex.split(setup_command())[0] == str(other)
    monkeypatch.setenv("PYGAN_JULIA", str(bare / "nothing"))
    with pytest.raises(JuliaNotFound, match=r"PYGAN_JULIA = .*nothing is no executable file"):
        find_julia()


def test_juliacalls_own_variables_win_over_all(bare: Path, monkeypatch) -> None:
    executable(bare / "bin")
    manifest(bare / "user" / "pygan" / "julia-1.10")
    other = executable(bare / "elsewhere", "julia-1.10")
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", str(other))
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", str(bare / "project"))
    assert find_julia() == JuliaSetup(str(other), str(bare / "project"), "PYTHON_JULIACALL_EXE")


def test_a_julia_named_by_variable_that_is_no_executable_is_an_error(bare: Path, monkeypatch) -> None:
    executable(bare / "bin")
    manifest(bare / "user" / "pygan" / "julia-1.10")
    monkeypatch.setenv("PYTHON_JULIACALL_EXE", str(bare / "nothing"))
    monkeypatch.setenv("PYTHON_JULIACALL_PROJECT", str(bare))
    with pytest.raises(JuliaNotFound, match=r"PYTHON_JULIACALL_EXE = .*nothing is no executable"):
        find_julia()


def test_what_juliapkg_resolved_is_used_last(bare: Path) -> None:
    project = manifest(bare / "python" / "julia_env")
    own = executable(project / "pyjuliapkg" / "install" / "bin")
    with pytest.raises(JuliaNotFound):
        find_julia()
    (project / "pyjuliapkg" / "meta.json").write_text(json.dumps({"executable": str(own)}))
    assert find_julia() == JuliaSetup(str(own), str(project), "juliapkg")
    on_path, users = executable(bare / "bin"), manifest(bare / "user" / "pygan" / "julia-1.10")
    assert find_julia() == JuliaSetup(str(on_path), str(users), "julia on PATH")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Flux": None}, "Flux is not in it"),
        ({"PyganFlux": None}, "PyganFlux is not in it"),
        ({"PythonCall": None}, "PythonCall is not in it"),
        ({"PythonCall": "0.9.1"}, f"PythonCall is 0.9.1 but juliacall is {GOOD['PythonCall']}; they must be equal"),
        ({"Flux": "0.14.25"}, f"Flux is 0.14.25, the recipes are written for {PINS['Flux']}"),
        ({"julia": "1.9.4"}, f"it was made by Julia 1.9.4, wanted {PINS['julia']}"),
        ({"julia": "1.100.0"}, f"it was made by Julia 1.100.0, wanted {PINS['julia']}"),
    ],
)
def test_an_environment_that_does_not_serve_is_an_error_that_mends_that_very_environment(
    bare: Path, changes: dict[str, str | None], words: str
) -> None:
    setup = JuliaSetup("/opt/a julia/bin/julia", str(manifest(bare / "it's mine", **changes)), "test")
    with pytest.raises(JuliaNotFound) as caught:
        setup.check()
    head, _, command = str(caught.value).partition("\n")
    assert head == f"the Julia environment {setup.project} does not serve: {words}. Mend it with:"
    assert shlex.split(command)[:2] == [setup.executable, f"--project={setup.project}"]


def test_all_faults_of_an_environment_are_named_at_once(bare: Path) -> None:
    setup = JuliaSetup("julia", str(manifest(bare / "e", julia="1.11.2", Flux="0.15.0", PythonCall=None)), "test")
    with pytest.raises(
        JuliaNotFound, match=r"PythonCall is not in it; Flux is 0\.15\.0.*; it was made by Julia 1\.11\.2"
    ):
        setup.check()


@pytest.mark.parametrize("content", [None, "[[deps", b"\xff\xfe"], ids=["missing", "broken", "no text"])
def test_an_unreadable_manifest_is_an_error_with_the_command_that_makes_it(bare: Path, content) -> None:
    project = bare / "project"
    project.mkdir()
    if content is not None:
        (project / "Manifest.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(JuliaNotFound, match=r"Manifest\.toml cannot be read") as caught:
        JuliaSetup("julia", str(project), "test").check()
    assert f"--project={project}" in str(caught.value)


def test_the_worker_gets_exactly_this_julia_one_thread_and_no_downloads() -> None:
    environment = JuliaSetup("/j", "/p", "test").environment()
    assert (environment["PYTHON_JULIACALL_EXE"], environment["PYTHON_JULIACALL_PROJECT"]) == ("/j", "/p")
    assert environment["PYTHON_JULIACALL_THREADS"] == environment["JULIA_NUM_THREADS"] == "1"
    assert environment["JULIA_CONDAPKG_BACKEND"] == "Null"


def test_an_environment_that_runs_another_checkouts_julia_code_is_an_error(bare: Path) -> None:
    folder = manifest(bare / "e")
    entry, path = '[[deps.PyganFlux]]\nuuid = "00000000-0000-0000-0000-000000000000"', folder / "Manifest.toml"
    other = bare / "other" / "julia"
    path.write_text(path.read_text().replace(entry, f'{entry}\npath = "../other/julia"'))
    with pytest.raises(JuliaNotFound, match="it runs the Julia code in ") as caught:
        JuliaSetup("julia", str(folder), "test").check()
    assert str(other) in str(caught.value)
    path.write_text(path.read_text().replace("../other/julia", julia_setup.julia_dir().as_posix()))
    assert JuliaSetup("julia", str(folder), "test").check()["PyganFlux"] == GOOD["PyganFlux"]
