"""``python -m pygan``."""

import os
import sys

if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]  # a file random.py of the user's, in the current folder, is not Python's

from pygan.cli import main

if __name__ == "__main__":
    main()
