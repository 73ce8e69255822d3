"""``python -m pygan``."""

from pygan.cli import main

main()
