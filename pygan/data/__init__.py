"""Data sets: 28 x 28 grey pictures as bytes, from published IDX files, a folder, or pygan's own ``digits``."""

from pygan.data.dataset import Dataset, load, scale
from pygan.data.registry import NAMES, Progress

__all__ = ["NAMES", "Dataset", "Progress", "load", "scale"]
