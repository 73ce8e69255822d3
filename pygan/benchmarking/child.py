"""The process of one row: builds the row's stack and answers requests by JSON lines until its input ends.

What libraries print goes to standard error, so that it cannot be taken for an answer. Started by
:mod:`pygan.benchmarking.process`, not by hand.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pygan.benchmarking.rows import Row
from pygan.errors import PyganError
from pygan.recipes.own import load_from_parent


class Runner(Protocol):
    """What each kind of row can do in its process; see :class:`~pygan.benchmarking.torch_runner.TorchRunner`."""

    def configure(self, config: Any, images: int, phases: bool) -> None:
        """Build the stack for ``config``; each step sees ``images`` images. ``phases``: time the parts of steps."""

    def facts(self) -> dict[str, Any]:
        """What the process is: stack, threads, device, precision, versions."""

    def first_step(self, folder: Path, reference: Path | None) -> None:
        """Store the first step of the keyed twin of the configuration as a trace at ``folder``."""

    def steps(self, count: int) -> dict[str, Any]:
        """Time the first ``count`` steps of a fresh run."""

    def phase(self, name: str, repeats: int) -> list[float]:
        """Seconds of ``generate``, ``draws``, ``data`` or ``picture``, ``repeats`` times."""

    def operations(self, operations: Sequence[Mapping[str, Any]], repeats: int) -> dict[str, Any]:
        """Seconds of each operation alone, and what else the stack can say of where its step's time goes."""

    def ask(self, what: str, **fields: Any) -> dict[str, Any]:
        """What only one kind of row can do."""

    def close(self) -> None:
        """Release processes and memory."""


def row_of(fields: Mapping[str, Any]) -> Row:
    """The row that came as JSON."""
    changes = None if fields["changes"] is None else tuple(fields["changes"])
    return Row(**{**fields, "changes": changes, "environment": tuple(map(tuple, fields.get("environment", ())))})


def make_runner(spec: Mapping[str, Any]) -> Runner:
    """The runner of the row that ``spec`` describes, on so many cores."""
    row = row_of(spec["row"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: spec["cores"]])
    if row.stack == "torch":
        from pygan.benchmarking.torch_runner import TorchRunner

        return TorchRunner(row, spec["cores"], spec["data"])
    from pygan.benchmarking.flux_runner import FluxRunner

    return FluxRunner(row, spec["cores"], spec["data"], spec["blas_threads"])


def answer(runner: Runner, request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to one request after the first."""
    from pygan.recipes import config_from_dict

    match request["op"]:
        case "configure":
            runner.configure(config_from_dict(request["config"]), request["images"], request["phases"])
            return runner.facts()
        case "facts":
            return runner.facts()
        case "first_step":
            runner.first_step(Path(request["folder"]), None)  # as it trains: nothing is imposed on a judged step
            return {}
        case "steps":
            return runner.steps(request["count"])
        case "phase":
            return {"seconds": runner.phase(request["name"], request["repeats"])}
        case "operations":
            return runner.operations(request["operations"], request["repeats"])
        case other:
            return runner.ask(other, **{key: value for key, value in request.items() if key != "op"})


def main() -> int:
    """Answer requests until standard input ends."""
    load_from_parent()
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    runner: Runner | None = None
    for line in requests:
        request = json.loads(line)
        try:
            if request["op"] == "start":
                runner = make_runner(request["spec"])
                said: dict[str, Any] = {}
            else:
                assert runner is not None
                said = answer(runner, request)
        except (PyganError, OSError) as error:
            said = {"error": str(error)}
        replies.write(json.dumps(said) + "\n")
        replies.flush()
    if runner is not None:
        runner.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
