"""The flux worker: a process that owns Julia and never imports torch. Started by ``flux_stack``, not by hand.

It lets Julia's ``PyganFlux.serve`` answer the JSON lines that come on its standard input; arrays do not pass through
here. Whatever Julia or a library prints goes to standard error, so that it cannot be taken for an answer.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

DIRECT = os.name == "posix"
"""Julia reads and writes the lines itself, so that PythonCall's conversions need not be compiled at the start. On
Windows it cannot: there its C library does not know Python's file descriptors."""


def end_with(parent: int) -> None:
    """Have the system end this process with its parent, also while Julia compiles and reads nothing (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            sys.exit(1)  # it ended before that was arranged


def main() -> None:
    """Start Julia and answer until standard input ends. The first answer says when each part of the start was done."""
    started = {"process": time.monotonic()}
    if len(sys.argv) > 1:
        end_with(int(sys.argv[1]))
    requests, replies = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # Julia makes its standard input non-blocking; keep ours from it

    from juliacall import Main as julia  # the one place where Julia starts

    assert "torch" not in sys.modules, "torch and Julia must not share a process"
    started["julia"] = time.monotonic()
    julia.seval("using PyganFlux")
    started["package"] = time.monotonic()
    ready = json.dumps({"ready": True, "started": started})
    if DIRECT:
        julia.seval(f"PyganFlux.serve_descriptors({requests}, {replies}, {json.dumps(ready)})")
    else:
        _relay(julia.PyganFlux, requests, replies, ready)


def _relay(flux: Any, requests: int, replies: int, ready: str) -> None:
    """Hand each line to Julia and its answer back."""
    with os.fdopen(requests, "r", encoding="utf-8") as lines, os.fdopen(replies, "w", encoding="utf-8") as answers:
        files = json.loads(lines.readline())
        flux.attach(files["request"], files["reply"])
        print(ready, file=answers, flush=True)
        for line in lines:
            print(flux.serve(line), file=answers, flush=True)


if __name__ == "__main__":
    main()
