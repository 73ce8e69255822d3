"""Options shared by commands. Config options are made from the config class: help, default and source come with it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import tomllib
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from pygan.config import RunConfig
from pygan.errors import ConfigError
from pygan.recipes import CONFIGS, config_class

DataOption = Annotated[
    str, typer.Option("--data", help="mnist, fashion-mnist, digits, or a folder of IDX files or 28x28 pictures.")
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder that holds the data sets (else PYGAN_DATA_DIR, else the cache)."),
]
SamplesOption = Annotated[int | None, typer.Option("--samples", min=2, help="Use only the first so many images.")]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
StepsOption = Annotated[int | None, typer.Option("--steps", min=1, help="Training steps in place of whole epochs.")]
StackOption = Annotated[str, typer.Option("--stack", help="torch or flux.")]

_GROUP = "Config (each default with its source)"


def _config_fields() -> dict[str, dataclasses.Field[Any]]:
    return {item.name: item for kind in CONFIGS.values() for item in dataclasses.fields(kind)}


def with_config(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` an option for every config field, ``--recipe`` and ``--config FILE``.

    The command's own parameter ``config`` receives the validated config: defaults, overridden by the file,
    overridden by flags.
    """
    hints = typing.get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    fields = _config_fields()

    @functools.wraps(command)
    def wrapper(**values: Any) -> Any:
        given = {name: values.pop(name) for name in fields}
        config = make_config(values.pop("recipe"), values.pop("config_file"), given)
        return command(config=config, **values)

    own = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in signature.parameters.items()
        if name != "config"
    ]
    recipe = Annotated[str, typer.Option("--recipe", help=f"One of: {', '.join(CONFIGS)}.")]
    file = Annotated[Path | None, typer.Option("--config", help="TOML file of config fields; flags override it.")]
    extra = [("recipe", recipe, "flux_tutorial"), ("config_file", file, None)]
    for name, item in fields.items():
        text = f"Default {item.default!r} ({item.metadata['source']})."
        option = typer.Option(f"--{name.replace('_', '-')}", help=text, rich_help_panel=_GROUP, show_default=False)
        extra.append((name, Annotated[type(item.default) | None, option], None))
    parameters = own + [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, annotation, default in extra
    ]
    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def make_config(recipe: str, file: Path | None, flags: dict[str, Any]) -> RunConfig:
    """Defaults of ``recipe``, overridden by the TOML ``file``, overridden by those ``flags`` that are not None."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {file}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{file} is not valid TOML: {error}") from error
        recipe = str(values.pop("recipe", recipe))
    values |= {name: value for name, value in flags.items() if value is not None}
    return config_class(recipe).from_dict(values)
