import os
from pathlib import Path

import pytest

from pygan.data import registry

REAL_DIR = os.environ.get(registry.ENV_DIR)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the user's own data: an empty cache folder and no PYGAN_DATA_DIR."""
    folder = tmp_path / "user-cache"
    monkeypatch.setattr(registry, "cache_dir", lambda: folder)
    monkeypatch.delenv(registry.ENV_DIR, raising=False)
    return folder


@pytest.fixture
def real_dir() -> Path:
    """The folder with the published files, for tests that read them."""
    if not REAL_DIR or not any((Path(REAL_DIR) / name).is_dir() for name in registry.PUBLISHED):
        pytest.skip(f"no published data sets: set {registry.ENV_DIR} to a folder with mnist/ and fashion-mnist/")
    return Path(REAL_DIR)
