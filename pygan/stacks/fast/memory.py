"""Memory that is used again: a page that the kernel must clear first costs more than what a step does with it."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from math import prod

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
    libc = ctypes.CDLL(None)
    mallopt = getattr(libc, "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_ON_HEAP) and mallopt(_M_TRIM_THRESHOLD, _KEPT))


def release_freed_memory() -> None:
    """Give freed memory back to the system after work that steps do not repeat (Linux with glibc; else nothing)."""
    if keep_freed_memory():
        ctypes.CDLL(None).malloc_trim(0)


class Workspace:
    """Tensors that one call is done with and the next may overwrite."""

    def __init__(self) -> None:
        self._free: list[Tensor] = []

    def take(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor of ``shape``, its values undefined: the smallest free one that fits, if not over twice as large."""
        count = prod(shape)
        fitting = [
            one
            for one in self._free
            if count <= one.numel() <= 2 * count and (one.dtype, one.device) == (like.dtype, like.device)
        ]
        if fitting:
            whole = min(fitting, key=Tensor.numel)
            self._free = [one for one in self._free if one is not whole]
        else:
            whole = like.new_empty(count)
        return whole[:count].view(shape)

    def give(self, *tensors: Tensor) -> None:
        """Nobody needs ``tensors`` any more, each of them, or that which it is a view of, from :meth:`take`."""
        for one in tensors:
            count = one.untyped_storage().nbytes() // one.element_size()
            self._free.append(one.detach().as_strided((count,), (1,), 0))
