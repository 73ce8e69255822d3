"""Memory that is used again: a page that the kernel must clear first costs more than what a step does with it."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import torch
from torch import Tensor

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_ON_HEAP = 32 << 20
"""glibc takes no higher threshold (``HEAP_MAX_SIZE / 2``, malloc.c)."""
_KEPT = 1 << 30


@cache
def keep_freed_memory() -> bool:
    """Have glibc keep up to 1 GiB that was freed instead of giving it back; tensors up to 32 MiB then reuse it.

    Without it every activation of a step is a fresh mapping whose pages fault one by one. True where it was done:
    on Linux with glibc.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP) and mallopt(_M_TRIM_THRESHOLD, _KEPT))


class Workspace:
    """Tensors that one call is done with and the next may overwrite."""

    def __init__(self) -> None:
        self._free: dict[tuple[int, torch.dtype, torch.device], list[Tensor]] = {}

    def take(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor of ``shape``, its values undefined."""
        count = 1
        for length in shape:
            count *= length
        free = self._free.get((count, like.dtype, like.device))
        return (free.pop() if free else like.new_empty(count)).view(shape)

    def give(self, *tensors: Tensor) -> None:
        """Nobody needs ``tensors`` any more; each must be a whole one that :meth:`take` gave."""
        for one in tensors:
            self._free.setdefault((one.numel(), one.dtype, one.device), []).append(one.reshape(-1))
