"""``python -m pygan``."""

from pygan.cli import main

if __name__ == "__main__":
    main()
