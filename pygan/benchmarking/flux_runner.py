"""What runs in the process of a Flux row: the client of a worker, whose clock is Julia's own.

torch is not loaded here. The worker is the flux stack's, or for rows in pure Julia ``train.jl --bench``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pygan.benchmarking.batches import CAPTURE, Batches
from pygan.benchmarking.native_law import SAMPLES
from pygan.benchmarking.rows import Row
from pygan.data import load
from pygan.draws import Draws
from pygan.errors import ConfigError, WorkerError
from pygan.files import sha256
from pygan.records import StepRecord
from pygan.resources import julia_dir
from pygan.stacks.flux_stack import Worker, default_timeout
from pygan.stacks.julia_setup import JuliaSetup, find_julia
from pygan.traces import Header, TraceWriter


def pure_julia_command(setup: JuliaSetup, julia_threads: int, gc_threads: int) -> list[str]:
    """The command of a Julia without Python that answers the wire's requests."""
    return [
        setup.executable,
        "--startup-file=no",
        f"--threads={julia_threads}",
        f"--gcthreads={gc_threads}",
        f"--project={setup.project}",
        str(julia_dir() / "train.jl"),
        "--bench",
    ]


class FluxRunner:
    """A Flux row. See :class:`pygan.benchmarking.child.Runner` for the methods."""

    def __init__(self, row: Row, cores: int, data: str, blas_threads: int) -> None:
        self._row, self._cores, self._dataset, self._blas = row, cores, load(data), blas_threads
        setup = find_julia()
        # Julia's default is half the compute threads; the tuned row may collect garbage on every core it computes on
        gc_threads = cores if row.changes else max(1, row.julia_threads // 2)
        command = pure_julia_command(setup, row.julia_threads, gc_threads) if row.pure_julia else None
        self._worker = Worker(setup, default_timeout(), command)

    def configure(self, config: Any, images: int, phases: bool) -> None:
        """Build the stack; with ``phases`` the end of the discriminator's update is noted."""
        self._config = config.replace(randomness=self._row.randomness, device=self._row.device, threads=self._cores)
        self._batches = Batches(self._dataset, self._config, images)
        self._changes = list(self._row.changes or ())
        self._changed = bool(phases or self._row.changes is not None)
        self._build(self._config)

    def _build(self, config: Any) -> None:
        changes = self._changes if self._changed else None
        asked, _ = self._worker.ask(
            "bench_configure", config=config.to_dict(), blas_threads=self._blas, changes=changes
        )
        if asked["blas_threads"] != self._blas:
            raise WorkerError(f"BLAS runs {asked['blas_threads']} threads, {self._blas} were asked for")

    def facts(self) -> dict[str, Any]:
        """Of the worker as it is now."""
        described, _ = self._worker.ask("bench_facts")
        return {
            "stack": "flux",
            "randomness": self._config.randomness,
            "precision": described["precision"],
            "device": described["device"],
            "changes": self._changes,
            "cores": len(os.sched_getaffinity(self._worker.pid)) if hasattr(os, "sched_getaffinity") else self._cores,
            **{kind: described[kind] for kind in ("julia_threads", "blas_threads", "gc_threads")},
            "versions": {"julia": described["julia"], **described["packages"]},
            "described": described,
        }

    def first_step(self, folder: Path, reference: Path | None) -> None:
        """The first step of the keyed twin with its own on/off patterns; the judge imposes them on torch."""
        twin = self._config.replace(randomness="keyed")
        self._build(twin)
        batch, draws = self._batches[0], Draws(self._config.seed)
        fields, kept = self._worker.ask("step", {"batch": batch}, seed=draws.seed, step=0, capture=list(CAPTURE))
        record = StepRecord.from_arrays(fields["step"], kept, sha256(batch.tobytes()))
        header = Header("flux", twin.to_dict(), self._dataset.facts(), self.facts(), "first step of a benchmark row")
        with TraceWriter(folder, header) as trace:
            trace.write(record)
        self._build(self._config)

    def steps(self, count: int) -> dict[str, Any]:
        """Seconds and losses of the first ``count`` steps of a fresh run, and Julia's garbage collection in them."""
        self._worker.ask("initialise")
        arrays = {f"batch/{i}": batch for i, batch in enumerate(self._batches.first(count))}
        fields, _ = self._worker.ask("bench_steps", arrays, seed=self._config.seed, step=0, batches=count)
        sample = {"seconds": fields["seconds"], "losses": fields["losses"]}
        sample |= {name: sum(fields[name]) for name in ("gc_seconds", "gc_pauses", "bytes")}
        if fields["discriminator_seconds"]:
            sample["discriminator_seconds"] = fields["discriminator_seconds"]
        return sample

    def phase(self, name: str, repeats: int) -> list[float]:
        """See the protocol."""
        # (count, H, W) as Julia reads an IDX file: (W, H, count) with the same bytes
        arrays = {"images": self._dataset.images} if name == "data" else {}
        fields, _ = self._worker.ask("bench_phase", arrays, phase=name, repeats=repeats, seed=self._config.seed, step=0)
        return list(fields["seconds"])

    def operations(self, operations: Sequence[Mapping[str, Any]], repeats: int) -> dict[str, Any]:
        """Each operation alone."""
        fields, _ = self._worker.ask("bench_operations", operations=list(operations), repeats=repeats)
        return {"seconds": fields["seconds"]}

    def ask(self, what: str, **fields: Any) -> dict[str, Any]:
        """``changes``: what a tuned row does from now on; ``law``: what Flux's own dropout and noise give."""
        if what == "changes":
            self._changes = list(fields["changes"])
            self._worker.ask("bench_changes", changes=self._changes)
        elif what == "law":
            return self._worker.ask("bench_law", count=SAMPLES)[0]
        else:
            raise ConfigError(f"a Flux row has no request {what!r}")
        return {}

    def close(self) -> None:
        """End the worker."""
        self._worker.close()
