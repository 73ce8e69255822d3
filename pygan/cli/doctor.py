"""``pygan doctor``: what this machine has, against the pins, and for each gap the one command that mends it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from pygan import environment
from pygan.cli.julia import julia_rows
from pygan.cli.output import Row, show_rows
from pygan.data import NAMES, load, registry
from pygan.errors import PyganError
from pygan.processes import JULIA_FOREIGN, LIBRARY_PATHS, shadows_julia

DATA_BYTES, OUTPUT_BYTES = 200_000_000, 1_000_000_000
"""Free space below which the data folder (its three sets) and the output folder (a long run) are a gap."""

_OPENMP = ("libgomp", "libiomp5", "libomp", "libiomp5md", "vcomp140")


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False) -> None:
    """List Julia, packages, data, threads, GPU and disk against what pygan needs. Downloads nothing.

    Exit code 0 if everything needed without Julia is there; gaps that only live Flux needs are shown, not counted.
    """
    rows = [*_python_rows(), *_thread_rows(), *_library_rows(), _gpu_row(), *julia_rows(), _flux_on_cuda_row()]
    rows += _kept_from_julia_rows()
    rows += [*_data_rows(), *_disk_rows()]
    show_rows(rows, as_json)
    if any(state == "broken" for _, state, _ in rows):
        sys.exit(2)


def _python_rows() -> list[Row]:
    facts = environment.describe()
    rows: list[Row] = [
        ("machine", "ok", f"{facts['cpu']}, {facts['cores']} cores, {facts['platform']}, Python {facts['python']}")
    ]
    for name, version in facts["packages"].items():
        here = util.find_spec({"pillow": "PIL"}.get(name, name)) is not None
        rows.append((name, "ok" if here else "broken", version if here else f"pip install {name}"))
    return rows


def _thread_rows() -> list[Row]:
    """Threads that torch and Julia's BLAS take by themselves, against the processors that this process may use."""
    cores = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "JULIA_NUM_THREADS")
    given = ", ".join(f"{name} = {os.environ[name]}" for name in names if name in os.environ)
    if allowed < cores:
        detail = (
            f"a run takes {cores} threads, but this process may use {allowed} of {cores} cores: add --threads {allowed}"
        )
        row = ("threads", "gap", detail)
    else:
        row = ("threads", "ok", f"torch and Julia's BLAS each take all {cores} cores, unless a run says --threads")
    noted = f"{given}; but each run sets the threads of torch and BLAS itself (--threads, else all cores)"
    return [row, ("thread variables", "ok", noted)] if given else [row]


def _library_rows() -> list[Row]:
    """Copies of libraries that clash when one process loads two of them; torch and Julia never share a process here."""
    found = util.find_spec("torch")
    folders = [Path(found.origin).parent / "lib"] if found and found.origin else []
    if os.environ.get("CONDA_PREFIX"):
        prefix = Path(os.environ["CONDA_PREFIX"])
        folders += [prefix / "lib", prefix / "Library" / "bin"]  # the second one on Windows
    files = sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir())
    copies = [path for path in files if path.name.startswith(_OPENMP) and not path.is_symlink()]
    rows: list[Row] = []
    if len(copies) > 1:
        paths = ", ".join(map(str, copies))
        hint = "if a run ends with 'OMP: Error #15', use a torch from pip in a plain virtual environment"
        rows.append(("OpenMP", "gap", f"{len(copies)} runtimes may be loaded ({paths}); {hint}"))
    else:
        rows.append(("OpenMP", "ok", f"one runtime beside torch: {copies[0].name}" if copies else "none beside torch"))
    older = [path for path in files if path.name == "libstdc++.so.6"]
    if older:
        detail = f"{older[0]} comes first in this environment; if Julia stops with GLIBCXX errors, leave conda for pip"
        rows.append(("libstdc++", "gap", detail))
    for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        if os.environ.get(name):
            detail = f"{os.environ[name]} (may put other libraries before those of torch and Julia)"
            rows.append((name, "gap" if "stdc++" in os.environ[name] else "ok", detail))
    return rows


def _kept_from_julia_rows() -> list[Row]:
    """Variables of the user's own that pygan's Julia does not get to see."""
    rows: list[Row] = [
        (name, "ok", f"{os.environ[name]}; kept from pygan's Julia, which has a project of its own")
        for name in JULIA_FOREIGN
        if os.environ.get(name)
    ]
    for name in LIBRARY_PATHS:
        entries = os.environ.get(name, "").split(os.pathsep)
        if kept := [one for one in entries if one and shadows_julia(one)]:
            rows.append((f"{name} for Julia", "ok", f"without {', '.join(kept)}, whose libraries would shadow its own"))
    return rows


def _gpu_row() -> Row:
    """What nvidia-smi says, without loading torch."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return "GPU", "ok", "none seen (no nvidia-smi); runs use the CPU"
    command = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, errors="replace", check=False
        )
    except subprocess.TimeoutExpired:
        return "GPU", "gap", f"{program} did not answer in 10 s; its driver may hang"
    except OSError as error:
        return "GPU", "gap", f"{program} cannot be run: {error.strerror}"
    if answer.returncode:
        return "GPU", "gap", f"{program} failed: {(answer.stdout + answer.stderr).strip()}"
    cards = "; ".join(answer.stdout.strip().splitlines())
    if _torch_version().endswith("+cpu"):
        return "GPU", "gap", f"{cards}; this torch is a CPU build: pip install a CUDA build of torch for --device cuda"
    return "GPU", "ok", f"{cards}; use --device cuda"


def _torch_version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


def _flux_on_cuda_row() -> Row:
    return "Flux on CUDA", "unverified", "no claim, trace or band of this version is about Flux on a GPU"


def _data_rows() -> list[Row]:
    rows: list[Row] = []
    for name in NAMES:
        if name == registry.DIGITS:
            rows.append((f"data: {name}", "ok", "made on first use, nothing to download"))
            continue
        try:
            rows.append((f"data: {name}", "ok", str(load(name).sources[0])))
        except PyganError as error:
            rows.append((f"data: {name}", "gap", str(error)))
    return rows


def _disk_rows() -> list[Row]:
    output = _disk_row("disk: output", Path("runs").absolute(), OUTPUT_BYTES)
    try:
        return [_disk_row("disk: data", registry.cache_dir(), DATA_BYTES), output]
    except PyganError as error:
        return [("disk: data", "gap", str(error)), output]


def _disk_row(what: str, folder: Path, needed: int) -> Row:
    """Free space and permission at ``folder``, or at the nearest folder above it that exists."""
    there = next((path for path in (folder, *folder.parents) if os.path.exists(path)), Path("/"))
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return what, "gap", f"{there} cannot be asked: {error.strerror}"
    if not os.access(there, os.W_OK):
        return what, "gap", f"{there} cannot be written; name another folder (--out, --data-dir)"
    detail = f"{decimal(free)} free for {folder}"
    return (what, "gap", f"{detail}; {decimal(needed)} may be needed") if free < needed else (what, "ok", detail)
