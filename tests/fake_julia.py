"""A machine without Julia, and a ``julia`` that makes an environment without being one."""

import sys
from pathlib import Path

import pytest

from pygan.stacks import julia_setup

VARIABLES = (
    "PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT", "PYTHON_JULIAPKG_PROJECT", "PYTHON_JULIAPKG_OFFLINE",
    "PYTHON_JULIAPKG_EXE", "JULIA_PKG_OFFLINE", "JULIA_DEPOT_PATH", "PYGAN_JULIA", "PYGAN_JULIA_ENV", "CONDA_PREFIX",
)  # fmt: skip

MANIFEST = """julia_version = "1.10.8"
manifest_format = "2.0"
[[deps.Flux]]
version = "0.16.9"
[[deps.PythonCall]]
version = "0.9.34"
[[deps.PyganFlux]]
version = "0.1.0"
"""
PROJECT = (
    '[deps]\nPyganFlux = "5a1f6c0e-6d3b-4a57-9c3e-2f1d8f0b7a61"\nPythonCall = "6099a3de-0909-46bc-b1f4-468b9a2dfc0d"\n'
)

FAKE = f"""#!{sys.executable}
import json, os, pathlib, sys, time
if sys.argv[1:] == ["--version"]:
    print("julia version VERSION")
    sys.exit()
facts = {{"arguments": sys.argv[1:], "offline": os.environ.get("JULIA_PKG_OFFLINE")}}
pathlib.Path(__file__).with_name("asked.json").write_text(json.dumps(facts))
print("   Resolving package versions...", flush=True)
BEHAVIOUR
project = pathlib.Path(sys.argv[1].removeprefix("--project="))
project.mkdir(parents=True, exist_ok=True)
(project / "Project.toml").write_text({PROJECT!r})
(project / "Manifest.toml").write_text({MANIFEST!r})
print("Precompiling project...", file=sys.stderr)
"""


def bare_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing on PATH, no variables, empty user folders, no juliapkg environment: all under ``folder``."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(folder / "bin"))
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setattr(julia_setup.platformdirs, "user_data_path", lambda name: folder / "user" / name)
    monkeypatch.setattr(sys, "prefix", str(folder / "python"))
    return folder


def fake_julia(folder: Path, version: str = "1.10.8", behaviour: str = "", name: str = "julia") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(FAKE.replace("VERSION", version).replace("BEHAVIOUR", behaviour))
    path.chmod(0o755)
    return path


def environment(folder: Path, project: str = PROJECT, manifest: str = MANIFEST) -> Path:
    folder.mkdir(parents=True)
    (folder / "Project.toml").write_text(project)
    (folder / "Manifest.toml").write_text(manifest)
    return folder
