"""The setup command as shells read it; what juliapkg reads of pygan, and what it leaves for pygan to find."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from fake_julia import environment, fake_julia

from pygan.errors import JuliaNotFound
from pygan.resources import julia_dir
from pygan.stacks import julia_setup
from pygan.stacks.julia_setup import PINS, JuliaSetup, find_julia, setup_command, setup_words, shell_line

# --- the command, quoted -----------------------------------------------------------------------------------------


def test_a_posix_shell_runs_the_printed_command_as_meant(bare: Path) -> None:
    julia = fake_julia(bare / "a b")
    project = bare / 'it\'s $HOME "here" & there'
    finished = subprocess.run(["/bin/sh", "-c", setup_command(project, str(julia))], check=True, capture_output=True)
    assert finished.returncode == 0 and (project / "Manifest.toml").exists()
    asked = json.loads((bare / "a b" / "asked.json").read_text())
    assert [str(julia), *asked["arguments"]] == setup_words(project, str(julia))


def test_on_windows_words_with_anything_special_are_in_double_quotes_and_hold_none() -> None:
    words = setup_words(r"C:\Users\A User\AppData\Local\pygan\julia-1.10", "julia")
    line = shell_line(words, windows=True)
    assert not any('"' in word or "%" in word or "$" in word for word in words)
    assert line.startswith(
        'julia "--project=C:\\Users\\A User\\AppData\\Local\\pygan\\julia-1.10" "--startup-file=no" -e "using Pkg; '
    )
    assert [quoted or plain for quoted, plain in re.findall(r'"([^"]*)"|(\S+)', line)] == words


# --- what juliapkg leaves behind, and what it reads ----------------------------------------------------------------


@pytest.mark.parametrize("content", ["{", "{}", '{"executable": null}', '{"executable": "/nowhere/julia"}', None])
def test_a_record_of_juliapkg_that_cannot_be_used_is_as_none(bare: Path, content: str | None) -> None:
    project = environment(bare / "python" / "julia_env")
    if content is not None:
        (project / "pyjuliapkg").mkdir()
        (project / "pyjuliapkg" / "meta.json").write_text(content)
    with pytest.raises(JuliaNotFound, match="no Julia found"):
        find_julia()


def test_the_record_is_the_one_that_juliapkg_writes(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from juliapkg import deps

    project = environment(bare / "python" / "julia_env")
    julia = fake_julia(bare / "downloaded")
    monkeypatch.setitem(deps.STATE, "meta", str(project / "pyjuliapkg" / "meta.json"))
    deps.save_meta({"meta_version": deps.META_VERSION, "executable": str(julia)})
    assert find_julia() == JuliaSetup(str(julia), str(project), "juliapkg")


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"PYTHON_JULIAPKG_PROJECT": "/shared/project"},
        {"prefix": sys.base_prefix},
        {"prefix": sys.base_prefix, "CONDA_PREFIX": "/opt/conda"},
        {"prefix": sys.base_prefix, "JULIA_DEPOT_PATH": os.pathsep.join(("/depot/a", "/depot/b"))},
    ],
    ids=str,
)
def test_the_place_of_juliapkgs_project_is_the_one_that_juliapkg_says(bare, monkeypatch, variables: dict) -> None:
    from juliapkg import state

    saved = dict(state.STATE)
    for name, value in variables.items():
        if name == "prefix":
            monkeypatch.setattr(sys, "prefix", value)
        else:
            monkeypatch.setenv(name, value)
    try:
        state.reset_state()
        assert julia_setup.juliapkg_project() == Path(state.STATE["project"])
    finally:
        state.STATE.clear()
        state.STATE.update(saved)


def test_juliapkg_finds_and_understands_the_checkouts_requirements(root: Path, tmp_path: Path) -> None:
    code = (
        "import json; from juliapkg.deps import find_requirements; compat, packages = find_requirements(); "
        "print(json.dumps([str(compat), {package.name: package.depsdict() for package in packages}]))"
    )
    words = [sys.executable, "-c", code]
    variables = {**os.environ, "PYTHONPATH": str(root)}
    finished = subprocess.run(words, env=variables, cwd=tmp_path, check=True, capture_output=True, text=True)
    compat, packages = json.loads(finished.stdout.splitlines()[-1])
    project = tomllib.loads((julia_dir() / "Project.toml").read_text())
    assert compat == "~1.10.3"  # juliacall wants 1.10.3 or later
    assert packages["PyganFlux"] == {"uuid": project["uuid"], "dev": True, "path": str(root / "julia")}
    assert packages["Flux"] == {"uuid": project["deps"]["Flux"], "version": f"={PINS['Flux']}"}
    assert packages["PythonCall"]["version"] == f"={PINS['PythonCall']}"
    assert project["compat"]["julia"] == f"~{PINS['julia']}" and project["compat"]["Flux"] == f"={PINS['Flux']}"
