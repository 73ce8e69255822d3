"""Made-up runs on disk, as the commands would leave them."""

from pathlib import Path
from typing import Any

import numpy as np

from pygan import state as states
from pygan.files import write_json
from pygan.pictures.gif import write_gif
from pygan.pictures.png import file_name, write_png
from pygan.records import StepRecord
from pygan.traces import Header, TraceWriter

CONFIG = {"recipe": "flux_tutorial", "seed": 0, "dtype": "float32", "generator_lr": 0.0002, "batch": 8}
DATA = {"name": "digits", "images": 22, "sha256": "ab" * 32}
ENVIRONMENT = {"cpu": "AMD EPYC", "cores": 2, "stack": {"torch": "2.13.0+cpu", "step": "fast"}}


def loss(step: int, base: float = 1.0) -> dict[str, Any]:
    return {"discriminator": np.float32(base + step), "generator": np.float32(base / (step + 1))}


def grid(level: int, side: int = 4) -> np.ndarray:
    return np.full((side, side), level, np.uint8)


def state(value: float, step: int, width: int = 3) -> dict[str, np.ndarray]:
    return {
        "parameter/generator.dense.weight": np.full((width, 2), value, np.float32),
        "buffer/generator.norm.running_mean": np.full(2, 1.0, np.float32),
        "step": np.array(step),
    }


def write_trace(
    folder: Path, steps: int = 5, *, every: int = 2, base: float = 1.0, stack: str = "torch", **config: Any
) -> Path:
    """A trace of ``steps`` losses, pictures every ``every`` steps and at the end; none for 0."""
    described = ENVIRONMENT if stack == "torch" else {**ENVIRONMENT, "stack": {"packages": {"Flux": "0.16.9"}}}
    with TraceWriter(folder, Header(stack, {**CONFIG, **config}, DATA, described)) as trace:
        for step in range(steps):
            pictures = {"grid": grid(step)} if every and step % every == 0 else {}
            trace.write(StepRecord(step, loss=loss(step, base), pictures=pictures))
        if every:
            trace.write(StepRecord(steps, pictures={"grid": grid(steps + 100)}))
    return folder


def write_training(folder: Path, steps: int = 5, *, value: float = 1.0, width: int = 3, **more: Any) -> Path:
    """What ``pygan train`` leaves."""
    every = more.get("every", 2)
    trace = write_trace(folder / "torch.trace", steps, **more)
    for step in [*range(0, steps, every), steps] if every else []:
        write_png(folder / file_name(step), grid(step if step < steps else steps + 100))
    config = {key: item for key, item in more.items() if key not in ("every", "base", "stack")}
    states.save(folder / "state.safetensors", state(value, steps, width), {**CONFIG, **config})
    assert trace.is_dir()
    return folder


def write_gifs(folder: Path, steps: int = 5, **summary: Any) -> Path:
    """What ``pygan gif`` leaves, as far as it is read."""
    at = [*range(0, steps, 2), steps]
    drawn = [
        {"step": step, "losses": {} if step == steps else {"generator": [float(step), None if step else 0.5]}}
        for step in at
    ]
    for name, extra in (("flux", 50), ("torch", 0)):
        write_gif(folder / f"{name}.gif", [grid(step + extra) for step in at], 5)
    content = {
        "config": CONFIG, "data": DATA, "steps": steps, "pictures": {"steps": drawn},
        "environment": ENVIRONMENT,
        "flux": {"title": "Flux 0.16.9 (recorded)", "live": False, "cpu": "Apple M4"},
        "torch": {"title": "PyTorch 2.13.0 (live)", "live": True, "seconds": 2.5},
    }  # fmt: skip
    write_json(folder / "summary.json", {**content, **summary})
    return folder
