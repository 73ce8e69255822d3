"""Made-up rows and samples for the tests of the rules."""

from typing import Any

import numpy as np

from pygan.benchmarking.groups import Measured, make_group
from pygan.benchmarking.rows import ROWS, Row
from pygan.benchmarking.verdicts import Verdict

LOSSES = [2.08, 2.07, 2.06, 2.05]
GOOD = Verdict("agree", "first step: within rounding of the Float64 referee")


def facts(row: Row, cores: int = 2, **changes: Any) -> dict[str, Any]:
    """What an honest process would say of itself."""
    threads = (
        {"torch_threads": cores}
        if row.stack == "torch"
        else {"julia_threads": row.julia_threads, "blas_threads": cores, "gc_threads": 1}
    )
    said = {"stack": row.stack, "randomness": row.randomness, "precision": row.precision, "cores": cores}
    device = "cpu" if row.device == "cpu" else "NVIDIA A"
    versions = {"torch": "2.13"} if row.stack == "torch" else {"julia": "1.10.8", "Flux": "0.16.9"}
    said |= {"device": device, "changes": list(row.changes or ()), "versions": versions}
    return {**said, **threads, **changes}


def samples(
    step: float, rounds: int = 12, seed: int = 0, spread: float = 0.01, losses: Any = None
) -> list[dict[str, Any]]:
    """Samples of 4 steps of about ``step`` seconds."""
    noise = np.random.Generator(np.random.Philox(key=seed)).normal(1, spread, rounds)
    each = LOSSES if losses is None else losses
    return [{"seconds": [step * float(at)] * 4, "losses": list(each), "gc_seconds": 0.0} for at in noise]


def measured(name: str, step: float = 0.25, *, seed: int = 0, row: Row | None = None, **changes: Any) -> Measured:
    """A row that ran as it should; ``changes`` to what is known of it."""
    row = row or ROWS[name]
    one = Measured(row, facts(row), facts(row), GOOD, samples=samples(step, seed=seed), warmup={"first_step": 1.0})
    for key, value in changes.items():
        setattr(one, key, value)
    return one


def group(rows: dict[str, Measured], name: str = "step, batch 128", **more: Any) -> dict[str, Any]:
    """The group that the rules make of ``rows``."""
    about = {"config": {"recipe": "flux_tutorial", "batch": 128}, "images": 128, "steps": 4, "what": "step"}
    return make_group(name, rows, more.pop("not_run", {}), cores=2, about=about, **more)


def quiet(**extra: Measured) -> dict[str, Measured]:
    """The keyed torch row twice, the second a copy in another order, and ``extra``."""
    first, again = measured("torch-eager-injected", seed=1), measured("torch-eager-injected", seed=1)
    again.samples = [first.samples[at ^ 1] for at in range(len(first.samples))]
    named = {key.replace("_", "-"): value for key, value in extra.items()}
    return {"torch-eager-injected": first, "torch-eager-injected (again)": again, **named}


def report(*groups: dict[str, Any]) -> dict[str, Any]:
    """A report of ``groups``."""
    environment = {"cpu": "AMD EPYC", "cores": 2, "platform": "Linux x86_64", "python": "3.11.7", "packages": {}}
    return {
        "schema": 1, "command": "test", "started": "2026-01-01T00:00:00+00:00", "seconds": 1.0, "stopped": False,
        "config": {"recipe": "flux_tutorial", "batch": 128}, "cores": 2, "settings": {"confidence": 0.95},
        "environment": environment, "groups": list(groups), "not_run": [],
    }  # fmt: skip
