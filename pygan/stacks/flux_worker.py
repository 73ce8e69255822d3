"""The flux worker: a process that owns Julia and never imports torch. Started by ``flux_stack``, not by hand.

It passes JSON lines between its standard input and Julia's ``PyganFlux.serve``; arrays do not pass through here.
Whatever Julia or a library prints goes to standard error, so that it cannot be taken for an answer.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Start Julia, open the mapped files named by the first line, answer until standard input ends."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # Julia makes its standard input non-blocking; keep ours from it

    from juliacall import Main as julia  # the one place where Julia starts

    assert "torch" not in sys.modules, "torch and Julia must not share a process"
    julia.seval("using PyganFlux")
    serve, attach = julia.PyganFlux.serve, julia.PyganFlux.attach
    files = json.loads(requests.readline())
    attach(files["request"], files["reply"])
    replies.write('{"ready": true}\n')
    replies.flush()
    for line in requests:
        replies.write(str(serve(line)) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
