"""How pygan starts processes of its own: what of the user's folder and environment must not reach them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

_PACKAGE_ROOT = Path(__file__).resolve().parents[1]

JULIA_FOREIGN = ("JULIA_LOAD_PATH", "JULIA_PROJECT")
"""What a user sets for other Julia projects; pygan's Julia has a project of its own, and must find Pkg."""

_JULIACALL_KEPT = ("PYTHON_JULIACALL_EXE", "PYTHON_JULIACALL_PROJECT")
"""The settings of juliacall that pygan reads. Others (INIT=no, SYSIMAGE, STARTUP_FILE ...) are of other programs."""

_PYTHON_DROPPED = ("PYTHONFAULTHANDLER", "PYTHONDEVMODE", "PYTHONINSPECT", "PYTHONSTARTUP")
"""A second handler of Julia's signals, and a prompt where a child should end."""

LIBRARY_PATHS = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")
_SHADOWING = ("libstdc++.", "libgcc_s.", "libjulia", "libLLVM", "libopenblas64_")
"""Libraries that Julia brings itself; a folder before its own with another copy makes it stop (GLIBCXX errors)."""


def python_command(module: str) -> list[str]:
    """The command that runs a module of pygan in a process of its own, without the current folder on its path: a file
    ``random.py`` there is the user's, and must not be imported in place of Python's."""
    return [sys.executable, "-P", "-X", "faulthandler=0", "-m", module]


def python_environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """``given`` (else this process's environment) for such a process, which runs the same pygan as this one: relative
    entries of ``PYTHONPATH`` mean the current folder and are left out, and so is what changes how Python ends."""
    kept = dict(os.environ if given is None else given)
    for name in _PYTHON_DROPPED:
        kept.pop(name, None)
    entries = [entry for entry in kept.pop("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    if _PACKAGE_ROOT.name not in ("site-packages", "dist-packages"):  # a checkout: the child runs the same one
        entries = [str(_PACKAGE_ROOT), *entries]
    if entries:
        kept["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(entries))
    return kept


def julia_environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """``given`` (else this process's environment) for a process that runs Julia: without the user's ``JULIA_LOAD_PATH``
    and ``JULIA_PROJECT``, without juliacall's settings of other programs, and without those folders of the library
    paths that hold other copies of what Julia brings itself (conda's, for one)."""
    kept = {
        name: value
        for name, value in (os.environ if given is None else given).items()
        if name not in JULIA_FOREIGN and (not name.startswith("PYTHON_JULIACALL_") or name in _JULIACALL_KEPT)
    }
    for name in LIBRARY_PATHS:
        if name in kept:
            kept[name] = os.pathsep.join(one for one in kept[name].split(os.pathsep) if one and not shadows_julia(one))
            if not kept[name]:  # an empty entry would mean the current folder
                del kept[name]
    return kept


def shadows_julia(folder: str) -> bool:
    """Does a folder of the library path hold another copy of what Julia brings itself? One that is relative or cannot
    be read counts as well: what it holds is not known."""
    try:
        return not os.path.isabs(folder) or any(name.startswith(_SHADOWING) for name in os.listdir(folder))
    except OSError:
        return True
