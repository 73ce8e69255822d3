"""A user's own recipe: one Python file with its config and PyTorch side, and one Julia file beside it.

Own code runs only when it is named. What is wrong with it is told with its file and line, not with pygan's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from pygan.config import RunConfig
from pygan.errors import ConfigError
from pygan.recipes import CONFIGS, register

PYTHON, JULIA = "recipe.py", "recipe.jl"
"""The files of a recipe that is a folder; a recipe ``name.py`` has its Flux side in ``name.jl``."""
FUNCTIONS = {
    "build": "build(config): the networks by name, a dict of torch modules",
    "initialise": "initialise(networks, config, draws): fill the parameters from the draws",
    "optimisers": "optimisers(networks, config): one optimiser for each network, by its name",
    "train_step": "train_step(run, real): one training step on a batch",
}
"""What a recipe must define, and what each is for."""


def chosen_recipe(named: str) -> type[RunConfig]:
    """The config class of pygan's own recipe ``named``, or of the one at that place, read anew."""
    known = CONFIGS.get(named)
    return load_recipe(Path(named)) if known is None or is_own(known) else known


def load_recipe(place: Path) -> type[RunConfig]:
    """The config class of the recipe at ``place``, a folder with ``recipe.py`` or a ``.py`` file, made known by name.

    Raises ``ConfigError`` naming file, line and what is missing or wrong.
    """
    file = place / PYTHON if place.is_dir() else place
    if file.suffix != ".py" or not file.is_file():
        known = ", ".join(sorted(CONFIGS))
        raise ConfigError(
            f"--recipe {place}: no such recipe. Known by name: {known}. A recipe of your own is a folder with {PYTHON} "
            f"and {JULIA}, or NAME.py with NAME.jl beside it (pygan new FOLDER writes one to start from)"
        )
    file = file.resolve()
    module = _executed(file)
    classes = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    kinds = [one for one in classes if issubclass(one, RunConfig)]
    if len(kinds) != 1:
        raise ConfigError(f"{file} defines {len(kinds)} config classes; a recipe has one, derived from pygan.RunConfig")
    (kind,) = kinds
    if missing := [told for name, told in FUNCTIONS.items() if not callable(getattr(module, name, None))]:
        raise ConfigError(f"{file} does not define {'; nor '.join(missing)}")
    if not isinstance(kind.recipe, str) or not kind.recipe:
        raise ConfigError(f"{file}: {kind.__name__} has no name; give it recipe: ClassVar[str] = {file.parent.name!r}")
    known_as = CONFIGS.get(kind.recipe)
    if known_as is not None and not is_own(known_as):
        raise ConfigError(f"{file}: {kind.recipe!r} is the name of a recipe of pygan's own; choose another one")
    kind.torch_module = module.__name__
    kind.julia_files = (file.with_suffix(".jl"),)
    return register(kind)


NAMED = "PYGAN_NAMED_RECIPES"
"""Environment variable by which a process gives its children the recipe files that its user named."""


def for_children() -> dict[str, str]:
    """What a child's environment must have to know the same recipes (:func:`load_from_parent`)."""
    files = [str(sys.modules[kind.torch_module].__file__) for kind in own_recipes()]
    return {NAMED: os.pathsep.join(files)} if files else {}


def load_from_parent() -> None:
    """Load the recipes that the parent process loaded."""
    for file in filter(None, os.environ.get(NAMED, "").split(os.pathsep)):
        load_recipe(Path(file))


PREFIX = "pygan_own_"


def is_own(kind: type[RunConfig]) -> bool:
    """Was this config class loaded from a user's file?"""
    return kind.torch_module.startswith(PREFIX)


def _executed(file: Path) -> ModuleType:
    """The module in ``file``, run anew. What it raises is told with its own line."""
    name = PREFIX + hashlib.sha256(os.fsencode(file)).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(file.parent))  # modules of its own beside it
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise ConfigError(f"{error.filename}, line {error.lineno}: {error.msg}: {line}") from error
    except (Exception, SystemExit) as error:  # sys.exit() in it ends no run of ours
        raise ConfigError(fault_in(file.parent, error) or f"{file}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(file.parent))
    return module


def fault_in(folder: Path, error: BaseException) -> str:
    """``error`` with the innermost line of code in ``folder`` that led to it; empty where none did."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if Path(one.filename).is_relative_to(folder)]
    if not frames:
        return ""
    last = frames[-1]
    told = str(error).strip().partition("\n")[0]
    return f"{last.filename}, line {last.lineno}, in {last.name}: {type(error).__name__}: {told}\n  {last.line}"


def own_fault(error: BaseException) -> str:
    """``error`` told with the line of a user's own recipe that led to it; empty where it came from elsewhere."""
    folders = {Path(str(sys.modules[kind.torch_module].__file__)).parent for kind in own_recipes()}
    return next((told for folder in folders if (told := fault_in(folder, error))), "")


def own_recipes() -> list[Any]:
    """Config classes of the recipes that were loaded from a user's files."""
    return [kind for kind in CONFIGS.values() if is_own(kind)]


def own_files(kind: type[RunConfig]) -> list[Path]:
    """The files of a recipe that was loaded from a user's; none of pygan's own."""
    return [Path(str(sys.modules[kind.torch_module].__file__)), *kind.julia_files] if is_own(kind) else []
