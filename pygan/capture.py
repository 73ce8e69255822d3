"""The words of ``--capture``: what to record at which steps, such as ``state,gradients@0:20`` or ``sketches@0:100:10``.

Ranges are Python's ``start:stop:stride`` over step numbers, joined by ``+``; without ``@`` every step is meant.
"""

from __future__ import annotations

from collections.abc import Sequence

from pygan.errors import ConfigError
from pygan.records import CAPTURES
from pygan.training import CaptureAt


def _range(text: str) -> range:
    try:
        numbers = [int(part) for part in text.split(":")]
        return range(numbers[0], numbers[0] + 1) if len(numbers) == 1 else range(*numbers)
    except (ValueError, TypeError):
        raise ConfigError(
            f"{text!r} is no range of steps; write start:stop or start:stop:stride, such as 0:100:10"
        ) from None


def parse(items: Sequence[str]) -> CaptureAt:
    """The function that the ``--capture`` options describe. Raises ``ConfigError`` that names the bad part."""
    rules: list[tuple[list[str], list[range] | None]] = []
    for item in items:
        kinds, at, ranges = item.partition("@")
        names = kinds.split(",")
        if unknown := sorted({name.partition(":")[0] for name in names} - set(CAPTURES)):
            raise ConfigError(f"cannot capture {', '.join(unknown)}; known: {', '.join(CAPTURES)}")
        rules.append((names, [_range(part) for part in ranges.split("+")] if at else None))

    def wanted(step: int) -> Sequence[str]:
        chosen = {
            name for names, ranges in rules if ranges is None or any(step in part for part in ranges) for name in names
        }
        return sorted(chosen)

    return wanted
