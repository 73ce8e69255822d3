"""A clock that shows measured samples to pytest-benchmark as if they were taken now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class ReplayClock:
    """A timer (``benchmark(timer=...)``) that stands still but for :meth:`replay`, which lets one sample pass."""

    __name__ = "time inside the stack, measured in random rounds"

    def __init__(self) -> None:
        self._now = 0.0
        self._samples: Iterator[float] = iter(())

    def __call__(self) -> float:
        """The time, in seconds."""
        return self._now

    def load(self, samples: Sequence[float]) -> int:
        """Take up the samples of a row; returns how many there are."""
        self._samples = iter(samples)
        return len(samples)

    def replay(self) -> None:
        """Let the next sample's seconds pass. Raises ``StopIteration`` after the last."""
        self._now += next(self._samples)
