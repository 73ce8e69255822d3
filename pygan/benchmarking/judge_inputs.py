"""What the judge holds a row to, without torch: the recording of real Flux at a configuration, if there is one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pygan.resources import traces_dir
from pygan.traces import Trace

RECORDED = "flux-full-digits"
WITHOUT_EFFECT = ("threads", "epochs", "picture_every", "grid", "device", "randomness")
"""Config fields that leave a keyed first step as it is, but for rounding."""


def recorded_like(config: Mapping[str, Any], images: int) -> Path | None:
    """The recording of real Flux whose first step is that of ``config`` on ``images`` images, if there is one."""
    folder = traces_dir() / RECORDED
    theirs = Trace(folder).header.config

    def kept(one: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in one.items() if key not in WITHOUT_EFFECT}

    return folder if kept(theirs) == kept(config) and images == theirs["batch"] else None
