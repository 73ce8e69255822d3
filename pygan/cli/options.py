"""Options shared by commands. Config options are made from the config class: help, default and source come with it."""

from __future__ import annotations

import codecs
import dataclasses
import functools
import inspect
import json
import os
import sys
import tomllib
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pygan import __version__
from pygan.cli.output import answering, say
from pygan.cli.resume import stored_values
from pygan.config import RunConfig
from pygan.errors import ConfigError
from pygan.files import read_limited
from pygan.recipes import CONFIGS
from pygan.recipes.own import chosen_recipe
from pygan.run_folder import StoredRun


class StepForm(StrEnum):
    """How torch computes its step; see :mod:`pygan.stacks.fast`."""

    fast = "fast"
    idiomatic = "idiomatic"
    graph = "graph"


def stack_name(stack: str, step: StepForm | None, device: str) -> str:
    """The stack with that form of the step; None is fast on the CPU, and idiomatic on CUDA, where no fast step has
    been proved on hardware yet. Raises ``ConfigError`` where a stack has no such form."""
    if stack.startswith("torch-"):
        raise ConfigError(f"--stack {stack}: here it is --stack torch with --step {stack.removeprefix('torch-')}")
    if stack != "torch":
        if step not in (None, StepForm.idiomatic):
            raise ConfigError(f"--step {step} is a form of torch's step; --stack {stack} has none")
        return stack
    step = step or (StepForm.idiomatic if device == "cuda" else StepForm.fast)
    return {StepForm.fast: "torch-fast", StepForm.graph: "torch-graph"}.get(step, stack)


DataOption = Annotated[
    str, typer.Option("--data", help="mnist, fashion-mnist, digits, or a folder of IDX files or 28x28 pictures.")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder that holds the data sets (else PYGAN_DATA_DIR, else the cache)."),
]
SamplesOption = Annotated[int | None, typer.Option("--samples", min=2, help="Use only the first so many images.")]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for the results; else runs/ and the command's name, a new one each time."),
]
StepsOption = Annotated[int | None, typer.Option("--steps", min=1, help="Training steps in place of whole epochs.")]
StackOption = Annotated[str, typer.Option("--stack", help="torch or flux.")]
StepFormOption = Annotated[
    StepForm | None,
    typer.Option(
        "--step",
        help="How torch computes its step. fast (default on the CPU): in faster forms; idiomatic (default on CUDA): as "
        "the recipe writes it; graph: fast, as one CUDA graph. README: The fast step.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output at the end; text goes to stderr.")
]
PrintConfigOption = Annotated[
    bool, typer.Option("--print-config", help="Print the config as TOML that --config reads back, and do no more.")
]

MAX_CONFIG_BYTES = 1 << 20
DEFAULT_RECIPE = "flux_tutorial"
_GROUP = "Config (each default with its source; `pygan recipes` names the publication)"


def with_config(twin: bool = False, **defaults: Any) -> Callable[[Callable[..., Any]], Command]:
    """Decorate a command with an option for every config field, ``--recipe``, ``--config``, ``--json`` and more.

    The command's parameters ``config``, ``answer``, ``given`` and ``recipe`` are not options. ``recipe`` is what the
    command line calls it by. With an option ``resume`` that is set, config and arguments are those of the run there.
    ``config`` is the validated config: published values, overridden by this command's ``defaults`` and, with ``twin``,
    by the recipe's narrow sizes on one thread (unless the command has a ``--full`` that is set), by the file, by flags;
    ``given`` names the fields that the file or flags set. ``answer`` is what it tells machines
    (:func:`pygan.cli.output.answering`). ``--every`` is another name of ``--picture-every``, unless the command has an
    option of that name, which then replaces both.
    """
    return lambda command: Command(command, twin, defaults)


class Command:
    """A command whose config options are those of the recipe that the command line asks for."""

    def __init__(self, command: Callable[..., Any], twin: bool, defaults: Mapping[str, Any]) -> None:
        self._command, self._twin, self._defaults = command, twin, defaults
        self._hints = typing.get_type_hints(command, include_extras=True)
        self._parameters = inspect.signature(command).parameters

    def of(self, kind: type[RunConfig]) -> Callable[..., Any]:
        """The command for typer, with the options of ``kind``."""
        fields = {item.name: item for item in dataclasses.fields(kind)}
        if "every" in self._parameters:
            fields.pop("picture_every", None)
        twin = {**kind.narrow, "threads": 1} if self._twin else {}
        defaults = {name: value for name, value in {**twin, **self._defaults}.items() if name in fields}

        @functools.wraps(self._command)
        def wrapper(
            context: typer.Context,
            recipe: str | None,
            config_file: Path | None,
            as_json: bool,
            print_config: bool,
            **values: Any,
        ) -> None:
            flags = {name: values.pop(name) for name in fields}
            with answering(as_json) as answer:
                dropped = twin if values.get("full") else {}
                kept = {name: value for name, value in defaults.items() if name not in dropped}
                stored: Mapping[str, Any] = read_config(config_file)
                if (folder := values.get("resume")) is not None:
                    typed = {name: value for name, value in values.items() if _typed(context, name)}
                    asked = {**stored, **{name: value for name, value in flags.items() if value is not None}}
                    asked |= {} if recipe is None else {"recipe": kind.recipe}
                    stored, known = stored_values(folder, str(context.info_name), typed, asked)
                    values |= {name: value for name, value in known.items() if name in values}
                config = make_config(kind, stored, flags, kept)
                config = config if print_config or folder is not None else capped(config)
                if "recipe" in self._parameters:
                    values["recipe"] = asked_name(sys.argv[1:])
                answer["config"] = config.to_dict()
                if "given" in self._parameters:
                    values["given"] = {name for name, value in flags.items() if value is not None}
                    values["given"] |= stored.keys() - {"recipe"}
                if not print_config:
                    self._command(config=config, answer=answer, **values)
                elif not as_json:
                    sys.stdout.write(to_toml(config))

        options = [(name, self._hints[name], parameter.default) for name, parameter in self._parameters.items()]
        options = [option for option in options if option[0] not in ("config", "answer", "given", "recipe")]
        options.insert(0, ("context", typer.Context, inspect.Parameter.empty))
        parameters = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, annotation, default in (*options, *_config_options(kind, fields, defaults))
        ]
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return wrapper


def capped(config: Any) -> Any:
    """``config`` with no more threads than this process may use processors; a word is said where that changes it."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if config.threads <= allowed:
        return config
    say(f"--threads {config.threads} is more than the {allowed} cores there are; {allowed} are used", "yellow")
    return config.replace(threads=allowed)


def asked_recipe(arguments: Sequence[str]) -> type[RunConfig]:
    """The config class of the recipe that a command line names. Raises ``ConfigError`` where there is no such recipe,
    or a file of a user's own is wrong."""
    return chosen_recipe(asked_name(arguments))


def asked_name(arguments: Sequence[str]) -> str:
    """How a command line names its recipe: with ``--recipe``, by the run that it goes on with, in its ``--config``
    file, else the default one."""
    if (named := value_of("--recipe", arguments)) is not None:
        return named
    if (folder := value_of("--resume", arguments)) is not None:
        return StoredRun.read(Path(folder)).recipe
    if (file := value_of("--config", arguments)) is not None:
        return str(read_config(Path(file)).get("recipe", DEFAULT_RECIPE))
    return DEFAULT_RECIPE


def _typed(context: typer.Context, name: str) -> bool:
    """Does the command line give this option?"""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def value_of(option: str, arguments: Sequence[str]) -> str | None:
    """What a command line gives ``option``; None where it is not there."""
    for place, one in enumerate(arguments):
        if one == option and place + 1 < len(arguments):
            return arguments[place + 1]
        if one.startswith(f"{option}="):
            return one.partition("=")[2]
    return None


def _config_options(
    kind: type[RunConfig], fields: Mapping[str, dataclasses.Field[Any]], defaults: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Name, annotation and default of the options that every command with a config has."""
    told = f"One of: {', '.join(CONFIGS)}; or a folder or .py file of your own (pygan new FOLDER writes one)."
    recipe = Annotated[str | None, typer.Option("--recipe", help=told)]
    file = Annotated[Path | None, typer.Option("--config", help="TOML file of config fields; flags override it.")]
    options: list[tuple[str, Any, Any]] = [
        ("recipe", recipe, None),
        ("config_file", file, None),
        ("print_config", PrintConfigOption, False),
        ("as_json", JsonOption, False),
    ]
    published = set(publications(kind))
    for name, item in fields.items():
        flags = [f"--{name.replace('_', '-')}", *(["--every"] if name == "picture_every" else [])]
        where, _, what = item.metadata["source"].partition(": ")
        source = f"published: {what}" if where in published else item.metadata["source"]
        text = f"Default {item.default!r} ({source})."
        if name in defaults:
            text = f"Default here {defaults[name]!r}, elsewhere {item.default!r} ({source})."
        option = typer.Option(*flags, help=text, rich_help_panel=_GROUP, show_default=False)
        options.append((name, Annotated[type(item.default) | None, option], None))
    return options


def publications(kind: type[RunConfig]) -> list[str]:
    """The publications that several fields of a recipe's config have as their source, in order."""
    places = [where for where, colon, _ in (source.partition(": ") for source in kind.sources().values()) if colon]
    return [where for where in dict.fromkeys(places) if places.count(where) > 1 and where != "ours"]


def make_config(
    kind: type[RunConfig],
    stored: Mapping[str, Any],
    flags: Mapping[str, Any],
    defaults: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Published values of ``kind``, overridden by ``defaults``, by what a file ``stored``, by ``flags`` not None."""
    values = {name: value for name, value in stored.items() if name != "recipe"}
    given = {name: value for name, value in flags.items() if value is not None}
    return kind.from_dict({**(defaults or {}), **values, **given})


def read_config(file: Path | None) -> dict[str, Any]:
    """What a config file sets, ``recipe`` with it; nothing where there is none. UTF-8, and UTF-16 with its mark, which
    Windows PowerShell writes. Raises ``ConfigError`` where it cannot be read."""
    if file is None:
        return {}
    try:
        content = read_limited(file, MAX_CONFIG_BYTES)
        marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return tomllib.loads(content.decode("utf-16" if marked else "utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: it is no UTF-8 text ({error}); save it as UTF-8") from error
    except (RecursionError, MemoryError) as error:
        raise ConfigError(f"{file} is not valid TOML: it is nested too deep") from error
    except ValueError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error


def to_toml(config: RunConfig) -> str:
    """``config`` as TOML that :func:`read_config` and :func:`make_config` turn back to an equal config."""
    lines = [f"# every field of one pygan {__version__} config; `pygan recipes` says what each means and allows"]
    for name, value in config.to_dict().items():
        lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
