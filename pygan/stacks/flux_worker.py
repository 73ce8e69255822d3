"""The flux worker: a process that owns Julia and never imports torch. Started by ``flux_stack``, not by hand.

JSON lines go between its standard input and output and Julia's ``PyganFlux.serve_descriptors``.
Whatever Julia or a library prints goes to standard error, so that it cannot be taken for an answer.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Start Julia and let it answer until standard input ends.

    The first answer says when each part of the start was done, by the clock that all processes share. Julia reads and
    writes the lines itself: handing each over would first compile PythonCall's conversions.
    """
    started = {"process": time.monotonic()}
    requests, replies = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # Julia makes its standard input non-blocking; keep ours from it

    from juliacall import Main as julia  # the one place where Julia starts

    assert "torch" not in sys.modules, "torch and Julia must not share a process"
    started["julia"] = time.monotonic()
    julia.seval("using PyganFlux")
    started["package"] = time.monotonic()
    ready = json.dumps({"ready": True, "started": started})
    julia.seval(f"PyganFlux.serve_descriptors({requests}, {replies}, {json.dumps(ready)})")


if __name__ == "__main__":
    main()
