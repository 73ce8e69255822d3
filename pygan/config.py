"""Configs: frozen, validated, and every number says where it comes from.

A recipe's config is a frozen dataclass of fields made with :func:`sourced`. It is validated when it is made,
serialised into every artefact (trace, state, GIF summary), and loads without torch.
"""

from __future__ import annotations

import dataclasses
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from pygan.errors import ConfigError

DTYPES = ("float32", "float64")
ORDERS = ("shuffled", "in_order", "buffer_shuffled", "with_replacement")
"""In which order a training sees its images (:class:`pygan.schedule.Schedule`)."""
SCALINGS = ("2*x/255-1", "x/127.5-1", "x/255-0.5", "x/255")
"""How bytes become numbers; each operation is rounded to Float32, from left to right."""


@dataclass(frozen=True)
class Range:
    """What a config field may be. It is data, so that Julia reads it too (``julia/share/recipes.toml``).

    >>> 0.5 in Range(at_least=0, below=1), float("nan") in Range(above=0)
    (True, False)
    >>> print(Range(at_least=2, note="BatchNorm"), Range(above=0, at_most=1), Range(choices=("cpu", "cuda")), sep="; ")
    at least 2 (BatchNorm); 0 < value <= 1; cpu | cuda
    """

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    choices: tuple[str, ...] = ()
    note: str = ""
    """A reason, for the error."""

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, str):
            return not self.choices or value in self.choices
        if not isinstance(value, int | float) or (isinstance(value, float) and not math.isfinite(value)):
            return False
        return (
            (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def __str__(self) -> str:
        low = ("", "") if self.above is None else (f"above {self.above}", f"{self.above} < ")
        low = low if self.at_least is None else (f"at least {self.at_least}", f"{self.at_least} <= ")
        high = ("", "") if self.below is None else (f"below {self.below}", f" < {self.below}")
        high = high if self.at_most is None else (f"at most {self.at_most}", f" <= {self.at_most}")
        words = f"{low[1]}value{high[1]}" if low[0] and high[0] else low[0] or high[0] or "a finite number"
        return (" | ".join(self.choices) or words) + (f" ({self.note})" if self.note else "")


def sourced(
    default: Any,
    source: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
    choices: tuple[str, ...] = (),
    note: str = "",
) -> Any:
    """A config field with its ``source`` (article, code, or ours) and its :class:`Range`."""
    return field(
        default=default, metadata={"source": source, "range": Range(above, at_least, below, at_most, choices, note)}
    )


def float32(value: float) -> float:
    """``value`` rounded to Float32 and widened again, exactly what a Float32 run computes with.

    >>> float32(0.5), float32(0.1)
    (0.5, 0.10000000149011612)
    """
    return float(np.float32(value))


def with_defaults(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored config, with the defaults of those fields of every recipe that came after it was stored."""
    return {**{item.name: item.default for item in dataclasses.fields(RunConfig)}, **stored}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every recipe's config has. Sub-classes set ``recipe`` and add their own fields.

    >>> config = RunConfig(seed=3).replace(dtype="float64")
    >>> config.seed, config.dtype, RunConfig.from_dict(config.to_dict()) == config
    (3, 'float64', True)
    >>> RunConfig(dtype="float16")
    Traceback (most recent call last):
    pygan.errors.ConfigError: dtype = 'float16' is not one of float32, float64
    """

    recipe: ClassVar[str] = ""
    torch_module: ClassVar[str] = ""
    """Module of the PyTorch side; empty for ``pygan.recipes.<recipe>``."""
    julia_files: ClassVar[tuple[Path, ...]] = ()
    """Julia files of a recipe that PyganFlux does not carry."""
    narrow: ClassVar[Mapping[str, Any]] = {}
    """Fields of the recipe's narrow twin: the same step at sizes that take milliseconds."""
    fresh_latent: ClassVar[bool] = False
    """Is every picture made from latent vectors of its own step, and not from those of the whole run?"""
    networks: ClassVar[tuple[str, ...]] = ()
    """Names of the networks; empty for all that the recipe builds."""

    seed: int = sourced(0, "ours: key of all draws", at_least=0, at_most=2**63 - 1)
    device: str = sourced("cpu", "ours; the article says gpu and falls back to cpu", choices=("cpu", "cuda"))
    dtype: str = sourced("float32", "Flux's default element type", choices=DTYPES)
    constants: str = sourced(
        "float32",
        "ours: 'float32' computes with constants rounded to Float32 in either dtype (the referee), 'native' with "
        "those that a Float64 run of the stack would have",
        choices=("float32", "native"),
    )
    randomness: str = sourced(
        "keyed",
        "ours: 'keyed' draws are equal in every stack; 'native' initial weights, noise and dropout are the stack's own",
        choices=("keyed", "native"),
    )
    order: str = sourced(
        "shuffled",
        "ours: 'shuffled' anew each epoch, 'in_order', 'buffer_shuffled', or 'with_replacement' (a batch is an epoch)",
        choices=ORDERS,
    )
    shuffle_buffer: int = sourced(1000, "ours: images in the buffer of order 'buffer_shuffled'", at_least=1)
    last_batch: str = sourced("kept", "ours: a partial batch at an epoch's end", choices=("kept", "dropped"))
    scaling: str = sourced("2*x/255-1", "ours: how bytes x become numbers, in Float32", choices=SCALINGS)
    threads: int = sourced(0, "ours: CPU threads of the stack, 0 for all cores", at_least=0, at_most=1024)

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value, allowed = getattr(self, item.name), item.metadata["range"]
            kind = type(item.default)
            if type(value) is int and value.bit_length() > 64:
                raise ConfigError(f"{item.name} is a number of {value.bit_length()} bits; expected at most 63")
            if kind is float and type(value) is int:
                object.__setattr__(self, item.name, float(value))
            elif type(value) is not kind:
                raise ConfigError(f"{item.name} must be of type {kind.__name__}, got {reprlib.repr(value)}")
            if value not in allowed:
                fault = (
                    f"not one of {', '.join(allowed.choices)}"
                    if allowed.choices
                    else f"out of range: expected {allowed}"
                )
                raise ConfigError(f"{item.name} = {reprlib.repr(value)} is {fault}")

    @property
    def pictures(self) -> int:
        """Pictures in a grid; 0 for a recipe that draws none."""
        return 0

    @property
    def picture_every(self) -> int:
        """Steps between two grids of pictures; 0 for a recipe that draws none."""
        return 0

    @property
    def untrained(self) -> tuple[str, ...]:
        """Networks that this config never trains."""
        return ()

    def published_counts(self) -> dict[str, int] | None:
        """Trained numbers of each network as published; None where nobody published any."""
        return None

    def initial_laws(self) -> dict[str, tuple[Any, ...]]:
        """The law of every parameter and buffer before the first step, by path; empty where the recipe states none."""
        return {}

    def step_laws(self) -> dict[str, tuple[Any, ...]]:
        """The law of what a step draws inside its networks, by layer; empty where the recipe states none."""
        return {}

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a run of this config must tell its user before it starts."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """All fields and the recipe's name, ready for JSON."""
        return {"recipe": self.recipe, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The config that :meth:`to_dict` described. Raises ``ConfigError`` naming every unknown key."""
        rest = {key: value for key, value in values.items() if key != "recipe"}
        known = {item.name for item in dataclasses.fields(cls)}
        if unknown := sorted(rest.keys() - known):
            raise ConfigError(f"unknown config keys: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        return cls(**rest)

    def replace(self, **changes: Any) -> Self:
        """A copy with ``changes``, validated anew."""
        return self.from_dict({**self.to_dict(), **changes})

    @classmethod
    def sources(cls) -> dict[str, str]:
        """Where each field's default comes from."""
        return {item.name: item.metadata["source"] for item in dataclasses.fields(cls)}

    def constant(self, value: float) -> float:
        """A Float64 literal of the recipe as this run computes with it."""
        return value if self.dtype == "float64" and self.constants == "native" else float32(value)
