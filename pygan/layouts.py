"""The layout table: how arrays move between PyTorch's order (canonical here) and Flux's.

The rules are data (``julia/share/layouts.toml``, read by both languages): for every layer kind and tensor the
meaning of each axis in both stacks and the axes that are flipped. A rule is total in both directions:
``rule.to_flux(rule.to_torch(a)) == a``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from pygan.errors import StateError
from pygan.resources import shared_table


@dataclass(frozen=True)
class Rule:
    """One row of the table. ``torch`` and ``flux`` name the axes, ``flip`` those that run backwards.

    Flux keeps a convolution's kernel as (width, height, in, out) and runs over it backwards:

    >>> kernel = np.arange(6).reshape(1, 1, 2, 3)  # PyTorch: (out, in, height, width)
    >>> moved = rule("conv.weight").to_flux(kernel)
    >>> moved.shape, moved[:, :, 0, 0].tolist()
    ((3, 2, 1, 1), [[5, 2], [4, 1], [3, 0]])
    >>> rule("conv.weight").to_torch(moved).tolist() == kernel.tolist()
    True
    >>> rule("conv.weight").flux_index((0, 0, 0, 0), kernel.shape)  # counted from 1, as in Julia
    (3, 2, 1, 1)
    """

    name: str
    torch: tuple[str, ...]
    flux: tuple[str, ...]
    flip: frozenset[str]

    def __post_init__(self) -> None:
        if sorted(self.torch) != sorted(self.flux) or len(set(self.torch)) != len(self.torch):
            raise StateError(f"layout rule {self.name}: axes {self.torch} and {self.flux} are not the same set")
        if not self.flip <= set(self.torch):
            raise StateError(
                f"layout rule {self.name}: flipped axes {sorted(self.flip)} are not all among {self.torch}"
            )

    def _check(self, shape: tuple[int, ...], axes: tuple[str, ...], path: str) -> None:
        if len(shape) != len(axes):
            raise StateError(f"{path or self.name}: layout rule {self.name} wants axes {axes}, got shape {shape}")

    def to_flux(self, array: np.ndarray, path: str = "") -> np.ndarray:
        """PyTorch-ordered ``array`` as Flux indexes it (a view)."""
        self._check(array.shape, self.torch, path)
        flipped = array[tuple(slice(None, None, -1 if axis in self.flip else None) for axis in self.torch)]
        return flipped.transpose([self.torch.index(axis) for axis in self.flux])

    def to_torch(self, array: np.ndarray, path: str = "") -> np.ndarray:
        """Flux-indexed ``array`` in PyTorch's order (a view)."""
        self._check(array.shape, self.flux, path)
        ordered = array.transpose([self.flux.index(axis) for axis in self.torch])
        return ordered[tuple(slice(None, None, -1 if axis in self.flip else None) for axis in self.torch)]

    def flux_index(self, index: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Where Flux keeps the element that PyTorch keeps at ``index`` of ``shape``; 1-based, as Julia counts."""
        self._check(shape, self.torch, self.name)
        place = {
            axis: (size - 1 - i if axis in self.flip else i)
            for axis, i, size in zip(self.torch, index, shape, strict=True)
        }
        return tuple(place[axis] + 1 for axis in self.flux)


@cache
def table() -> Mapping[str, Rule]:
    """All rules by name, such as ``conv_transpose.weight``."""
    raw = tomllib.loads(shared_table("layouts.toml").read_text(encoding="utf-8"))
    return {
        f"{kind}.{tensor}": Rule(f"{kind}.{tensor}", tuple(row["torch"]), tuple(row["flux"]), frozenset(row["flip"]))
        for kind, tensors in raw.items()
        for tensor, row in tensors.items()
    }


def rule(name: str) -> Rule:
    """The rule called ``name``. Raises ``StateError`` that lists the known ones."""
    try:
        return table()[name]
    except KeyError:
        raise StateError(f"no layout rule {name!r}; known: {', '.join(sorted(table()))}") from None
