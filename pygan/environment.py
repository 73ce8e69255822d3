"""What machine and software a run had: part of every trace, summary and benchmark."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from pygan import __version__

PACKAGES = ("torch", "numpy", "juliacall", "safetensors", "pillow")


def cpu_model() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def describe() -> dict[str, Any]:
    """Versions, processor and the environment variables that change numerical results."""
    prefixes = ("OMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "ATEN_", "NPY_", "JULIA_NUM_THREADS", "CUBLAS_")
    return {
        "pygan": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "packages": {name: _version(name) for name in PACKAGES},
        "variables": {key: value for key, value in sorted(os.environ.items()) if key.startswith(prefixes)},
    }
