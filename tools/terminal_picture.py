"""A command's terminal output as an SVG: ``python tools/terminal_picture.py OUT.svg pygan parity torch recorded``.

The command runs under a pseudo-terminal of 100 columns (POSIX), so that it prints as it does for a person.
"""

from __future__ import annotations

import os
import pty
import shlex
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pygan.files import write_bytes

COLUMNS = 100


def output_of(command: list[str]) -> str:
    """Everything that ``command`` prints, with its colours; what a carriage return wrote over is left out."""
    os.environ |= {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    parts: list[bytes] = []

    def keep(source: int) -> bytes:
        parts.append(os.read(source, 4096))
        return parts[-1]

    pty.spawn(command, keep)
    lines = b"".join(parts).decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    return "\n".join(line.rpartition("\r")[2] for line in lines)


def main() -> None:
    """Run the command and write its picture."""
    out, command = Path(sys.argv[1]), sys.argv[2:]
    printed = output_of(command)
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    console.print(Text.from_ansi(printed), soft_wrap=True)
    write_bytes(out, console.export_svg(title=shlex.join(command)).encode())


if __name__ == "__main__":
    main()
