"""Freed memory that the process keeps, so that a step's tensors find their pages where the last step left them.

glibc gives freed memory at the end of the heap back to the system from a size on that it adapts to single blocks. A
step of many large tensors frees all of them at its end; whether they are given back, and every page faults in the next
step, is then up to the order in which they happen to lie.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` of glibc's ``malloc.h``."""
KEPT = 1 << 30
"""Bytes of freed memory that are kept at most."""
_LARGEST = 32 << 20
"""The highest threshold of mappings that glibc takes on 64-bit systems (mallopt(3))."""


def _glibc(name: str) -> Any:
    """A function of glibc; None on systems without it."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def keep_freed_memory() -> bool:
    """Have this process keep up to :data:`KEPT` bytes that it freed; True where it could be set: Linux with glibc.

    The setting holds for the whole process and is not undone. Between steps the process holds what it held at its peak.
    """
    mallopt = _glibc("mallopt")
    return mallopt is not None and all(mallopt(*one) for one in ((_MMAP_THRESHOLD, _LARGEST), (_TRIM_THRESHOLD, KEPT)))
