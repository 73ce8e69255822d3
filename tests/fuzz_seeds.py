"""Real files for the readers to start from, made by pygan or taken from its data."""

import atexit
import io
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pygan import state
from pygan.cli.options import to_toml
from pygan.data import idx, load
from pygan.pictures.gif import write_gif
from pygan.pictures.png import write_png
from pygan.recipes.flux_tutorial_config import FluxTutorialConfig
from pygan.records import StepRecord
from pygan.traces import Header, TraceWriter


@dataclass
class _Made:
    trace: list[bytes] = field(default_factory=list)


_made = _Made()


def made_trace() -> list[bytes]:
    """Index and chunk of a small trace that holds all that a trace can hold."""
    if not _made.trace:
        folder = scratch("seed-trace")
        shutil.rmtree(folder, ignore_errors=True)
        config = FluxTutorialConfig(width=2, latent_dim=5, batch=8, grid=2).to_dict()
        rng = np.random.default_rng(0)
        kept = {"parameter/generator.dense.weight": rng.random((20, 10), np.float32), "step": np.array(0)}
        with TraceWriter(folder, Header("flux", config, {"name": "digits"}, {}), StepRecord(-1, state=kept)) as trace:
            for step in range(3):
                state_ = {
                    **kept,
                    "step": np.array(step + 1),
                    "exp_avg/generator.dense.weight": kept["parameter/generator.dense.weight"],
                }
                record = StepRecord(
                    step,
                    loss={"generator": np.float32(0.5)},
                    pictures={"values": rng.random((4, 1, 4, 4), np.float32)},
                    pattern={"real/0": rng.random((3, 5)) > 0.5},
                    state=state_,
                    order=("generator",),
                    batch_sha256="0" * 64,
                )
                trace.write(record, record)
        _made.trace = [(folder / "trace.json").read_bytes(), (folder / "chunk-000000.safetensors").read_bytes()]
    return _made.trace


_FOLDER = Path(tempfile.mkdtemp(prefix="pygan-fuzz-seeds-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


def scratch(name: str) -> Path:
    """A folder for the making of seeds."""
    folder = _FOLDER / name
    folder.mkdir(exist_ok=True)
    return folder


def _saved(picture: Image.Image, format_: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format_, **options)
    return stream.getvalue()


def pictures() -> list[bytes]:
    grey = Image.fromarray(load("digits", limit=1).images[0])
    rotated = Image.Exif()
    rotated[0x0112] = 6
    palette = grey.convert("P")
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    modes = [_saved(grey.convert(mode), "PNG") for mode in ("1", "L", "LA", "RGB", "RGBA")]
    others = [_saved(palette, "PNG", transparency=0), _saved(wide, "PNG"), _saved(grey, "PNG", exif=rotated)]
    others += [_saved(grey, "PNG", save_all=True, append_images=[palette.convert("L").point(lambda v: 255 - v)])]
    jpegs = [
        _saved(grey, "JPEG", exif=rotated),
        _saved(grey.convert("CMYK"), "JPEG"),
        _saved(grey, "JPEG", progressive=True),
    ]
    return [*modes, *others, *jpegs, *(_saved(grey.convert(mode), "BMP") for mode in ("1", "L", "RGB", "RGBA"))]


def idx_files() -> list[bytes]:
    folder = scratch("seed-idx")
    found = load("digits", limit=3)
    assert found.labels is not None
    files = []
    for name, array in (("i", found.images), ("i.gz", found.images), ("l", found.labels), ("l.gz", found.labels)):
        idx.write(folder / name, array)
        files.append((folder / name).read_bytes())
    data_dir = os.environ.get("PYGAN_DATA_DIR")
    for path in sorted(Path(data_dir).rglob("*labels-idx1-ubyte*"))[:2] if data_dir else []:
        files.append(path.read_bytes()[:8000])  # real, and cut: also of a gzip file
    return files


def states() -> list[bytes]:
    folder = scratch("seed-state")
    tensors = {"parameter/a": np.ones((3, 4), np.float32), "buffer/b": np.ones(4, np.float64), "step": np.array(7)}
    state.save(folder / "state", tensors, FluxTutorialConfig(width=2).to_dict())
    return [(folder / "state").read_bytes()]


def png_and_gif() -> tuple[list[bytes], list[bytes]]:
    folder = scratch("seed-pictures")
    grey, colour = np.arange(64, dtype=np.uint8).reshape(8, 8), np.zeros((8, 8, 3), np.uint8)
    colour[2:4] = (255, 0, 7)
    files: dict[str, list[bytes]] = {"png": [], "gif": []}
    for one in (grey, colour):
        write_png(folder / "a.png", one)
        write_gif(folder / "a.gif", [one, one[::-1], one], 10)
        for end, contents in files.items():
            contents.append((folder / f"a.{end}").read_bytes())
    return files["png"], files["gif"]


ANSWER = {
    "arrays": {
        "loss/a": {"dtype": "F32", "shape": [2, 3], "offset": 0},
        "step": {"dtype": "I64", "shape": [], "offset": 64},
    },
    "step": 3,
    "order": ["generator"],
}
RECIPE = b'''"""A small recipe."""
from dataclasses import dataclass
from typing import ClassVar
from pygan.config import RunConfig, positive, sourced

@dataclass(frozen=True, kw_only=True)
class Tiny(RunConfig):
    """A config."""
    recipe: ClassVar[str] = "tiny"
    batch: int = sourced(8, "ours", positive, "at least 1")

def build(config): return {}
def initialise(networks, config, draws): pass
def optimisers(networks, config): return {}
def train_step(run, real): pass
'''
MANIFEST = b"""julia_version = "1.10.8"
manifest_format = "2.0"
[[deps.Flux]]
version = "0.16.9"
[[deps.PythonCall]]
version = "0.9.34"
[[deps.PyganFlux]]
path = "../julia"
version = "0.1.0"
"""


def summaries() -> list[bytes]:
    steps = [
        {"step": step, "relative": 0.1, "losses": {"generator": [0.5, 0.5]}, "verdict": "agree"} for step in range(3)
    ]
    summary = {
        "verdict": "agree",
        "reason": "ok",
        "pictures": {"reason": "shown", "steps": steps, "close_until": 2},
        "gif": {"frames": 3, "milliseconds_a_frame": 100, "loop": "forever"},
        "flux": {"title": "Flux (live)", "live": True, "seconds": 1.0, "packages": {"Flux": "0.16.9"}},
        "torch": {"title": "PyTorch (live)", "live": True, "seconds": 1.0, "torch": "2.13.0"},
        "environment": {"cpu": "a", "cores": 2},
        "config": FluxTutorialConfig(width=2, picture_every=1).to_dict(),
        "data": {"name": "digits", "images": 22, "sha256": "0" * 64},
        "steps": 2,
        "seconds": 1.0,
    }
    return [json.dumps(summary).encode()]


def tomls() -> list[bytes]:
    """Configs, also in the encodings of Windows."""
    texts = [to_toml(FluxTutorialConfig()), to_toml(FluxTutorialConfig(width=2, dtype="float64"))]
    return [*(text.encode() for text in texts), texts[0].encode("utf-16"), texts[1].encode("utf-8-sig")]
