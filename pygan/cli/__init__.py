"""The command line. It loads next to nothing, so that Ctrl-C shows no traceback in the first moment either."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; every fault is one message and an exit code (see :mod:`pygan.errors`)."""
    if "bench" not in sys.argv[1:2]:
        # Threads that spin while they wait make a step ten times slower where other work runs beside it.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from pygan.cli.app import run

        run()
    except ImportError as error:  # of a package that the command line itself needs
        sys.stderr.write(f"error: {error}; a package is missing or broken: pip install pygan anew\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; every file written so far is valid\n")
        sys.exit(130)
