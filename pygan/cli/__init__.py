"""The command line. It loads next to nothing, so that Ctrl-C shows no traceback in the first moment either."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; every fault is one message and an exit code (see :mod:`pygan.errors`)."""
    try:
        from pygan.cli.app import run

        run()
    except ImportError as error:  # of a package that the command line itself needs
        sys.stderr.write(f"error: {error}; a package is missing or broken: pip install pygan anew\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; every file written so far is valid\n")
        sys.exit(130)
