"""A command's terminal output as an SVG: ``python tools/terminal_picture.py [--columns N] OUT.svg pygan parity``.

The command runs under a pseudo-terminal (POSIX), so that it prints as it does for a person; what it takes back, such as
a progress bar, is not in the picture.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text

from pygan.files import write_bytes

_MOVES = re.compile(r"(\r\n|\n|\r|\x1b\[\d*A|\x1b\[2K|\x1b\[\?25[lh])")
"""New line, back to the start, lines up, clear a line, cursor off and on."""


def output_of(command: list[str], columns: int) -> str:
    """Everything that ``command`` leaves on a terminal, with its colours."""
    os.environ |= {"COLUMNS": str(columns), "TERM": "xterm-256color"}
    parts: list[bytes] = []

    def keep(source: int) -> bytes:
        parts.append(os.read(source, 4096))
        return parts[-1]

    pty.spawn(command, keep)
    return shown(b"".join(parts).decode("utf-8", "replace"))


def shown(printed: str) -> str:
    """The lines that stay, where later output clears or overwrites earlier one."""
    lines, at, fresh = [""], 0, True
    for part in _MOVES.split(printed):
        if part in ("\n", "\r\n"):
            at, fresh = at + 1, True
            lines += [""] * (at == len(lines))
        elif part == "\r":
            fresh = True
        elif part.endswith("A") and part.startswith("\x1b["):
            at = max(0, at - int(part[2:-1] or 1))
        elif part == "\x1b[2K":
            lines[at] = ""
        elif part and not part.startswith("\x1b[?25"):
            lines[at], fresh = part if fresh else lines[at] + part, False
    return "\n".join(lines)


def picture(printed: str, title: str, columns: int) -> bytes:
    """What was printed as an SVG of a terminal of so many columns."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=columns, file=nowhere)
        console.print(Text.from_ansi(printed))
        return console.export_svg(title=title).encode()


def main() -> None:
    """Run the command and write its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=int, default=100, help="width of the terminal")
    parser.add_argument("out", type=Path, help="the SVG")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what runs, and the picture's title")
    chosen = parser.parse_args()
    printed = output_of(chosen.command, chosen.columns)
    write_bytes(chosen.out, picture(printed, shlex.join(chosen.command), chosen.columns))


if __name__ == "__main__":
    main()
