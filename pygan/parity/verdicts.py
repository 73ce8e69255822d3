"""The words of a verdict."""

from __future__ import annotations

AGREE, DIFFERS, BEYOND, NOT_RUN = "agree", "differs", "beyond horizon", "not run"
VERDICTS = (AGREE, DIFFERS, BEYOND, NOT_RUN)


def joint(found: set[str]) -> str:
    """The verdict on several: the worst of them that says something."""
    return next((word for word in (DIFFERS, AGREE, BEYOND) if word in found), NOT_RUN)
