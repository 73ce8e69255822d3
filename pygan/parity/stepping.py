"""Levels 3 to 7: every step of the leader, and the follower's from the same state, tallied claim by claim."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pygan.parity.claims import CORRECTNESS, claims_of
from pygan.parity.compare import Difference
from pygan.parity.evidence import UNKNOWN, Cause
from pygan.parity.float32 import Float32Judge, in_noise_levels
from pygan.parity.history import CARRIED, RANDOM, history_of
from pygan.parity.judge import Judged, batch_difference, judge_float64, judge_patterns
from pygan.parity.locate import FULL_CAPTURE, Diagnosis, agreeing, diagnose_step, mode_differences
from pygan.parity.referee import Referee, root_mean_square
from pygan.parity.report import Row, Tally
from pygan.parity.sides import PLAIN_CAPTURE, Live, Pair, Recorded, Together
from pygan.parity.tolerances import FLOAT64_OVER_FLOAT32
from pygan.parity.verdicts import NOT_RUN
from pygan.state import State

KEPT_BYTES = 256 << 20
"""Memory for states kept to take the steps before a difference once more."""
SUSPECTS, LAYERED = 6, 2
"""Differing steps that are kept for the search, and how many of them with layers it takes."""


class Stepping:
    """A teacher-forced pass; ``run`` yields each pair after it was judged, the rest reads the tallies."""

    def __init__(self, together: Together, referee: Referee) -> None:
        self._together, self._referee = together, referee
        self._rules: Mapping[str, str] = together.follower.stack.rules()
        self._float32 = together.follower.config.dtype == "float32"
        self._judge = Float32Judge(together, referee)
        self._tallies: dict[tuple[int, str], Tally] = {}
        self._of_one: set[tuple[int, str]] = set()  # claims about one side and the referee, not about both sides
        self._correct = Tally(7, CORRECTNESS)
        self._without_twin = 0
        self._batch, self._partial = together.follower.config.batch, False
        self._suspects: list[tuple[Pair, list[Judged]]] = []
        self._rounding: list[tuple[int, Judged, str]] = []
        self._befores: dict[int, State] = {}
        self._left: dict[int, tuple[State, Mapping[str, float]]] = {}
        self._kept = 0
        self._found: Diagnosis | None = None
        self._searched = False
        self.flips: list[dict[str, Any]] = []
        self.seconds = {"lead": 0.0, "follow": 0.0, "judge": 0.0}
        self.first: Pair | None = None
        self.steps = 0

    def detailed(self, number: int) -> bool:
        """Is this step compared layer by layer? The first two are, and both sides of an epoch's end."""
        epoch = self._together.follower.schedule.steps_per_epoch
        return number < 2 or number in (epoch - 1, epoch)

    def run(self, steps: Sequence[int]) -> Iterator[Pair]:
        """Judge ``steps`` in order."""
        for number in steps:
            capture = FULL_CAPTURE if self.detailed(number) and not self._float32 else PLAIN_CAPTURE
            started = time.perf_counter()
            before, lead = self._together.lead(number, capture)
            led = time.perf_counter()
            pair = self._together.pair(before, lead, self._together.follow(before, lead, capture))
            followed = time.perf_counter()
            self.take(pair)
            spent = (led - started, followed - led, time.perf_counter() - followed)
            self.seconds = {what: total + more for (what, total), more in zip(self.seconds.items(), spent, strict=True)}
            yield pair

    def take(self, pair: Pair) -> None:
        """Judge one pair and tally it."""
        self.steps += 1
        pair = self._together.as_one_batch(pair)
        self._partial |= self._is_partial(pair)
        right = (
            self._judge.float64_pair(pair, FULL_CAPTURE if self.detailed(pair.step) else PLAIN_CAPTURE)
            if self._float32
            else pair
        )
        right = right and self._together.as_one_batch(right)
        self._keep(right or pair)
        self.first = self.first or (right if right is not None and right.reference.activation else pair)
        if right is None:
            self._without_twin += 1
        elif bad := self._judge_float64(right):
            layered = sum(bool(kept.reference.activation) for kept, _ in self._suspects)
            if len(self._suspects) < SUSPECTS or (right.reference.activation and layered < LAYERED):
                self._suspects.append((right, bad))
            return
        if self._float32:
            self._judge_float32(pair)

    def _keep(self, pair: Pair) -> None:
        self._kept += sum(value.nbytes for value in pair.before.values())
        if self._kept <= KEPT_BYTES and not self._suspects:
            self._befores[pair.step] = pair.before

    def _judge_float64(self, pair: Pair) -> list[Judged]:
        """Tally a Float64 pair; returns what is outside."""
        noise = self._noise(pair)
        judged = [*batch_difference(pair), *judge_float64(pair, self._rules, noise)]
        modes = [Judged(one, 0.0, 0.0, "") for one in mode_differences(pair)]
        bad = [one for one in (*judged, *modes) if not one.ok]
        if not bad:
            judged += judge_patterns(pair)
            bad = [one for one in judged if not one.ok]
        if self._float32:
            self._correct.add(pair.step, [*judged, *modes])
        else:
            self._tally(pair, [*judged, *modes])
        return bad

    def _noise(self, pair: Pair) -> Any:
        def left() -> Mapping[str, float]:
            """What Float64 rounding leaves in each tensor: that of Float32, scaled down."""
            known = self._left.get(pair.step)
            if known is None or known[0] is not pair.before:
                known = self._left[pair.step] = (pair.before, self._left_of(pair))
            return known[1]

        return left

    def _left_of(self, pair: Pair) -> Mapping[str, float]:
        truth, levels = self._referee.measured(pair.step, pair.before, FULL_CAPTURE)
        shaken, _ = self._referee.shaken(pair.step, pair.before, truth, levels, capture=FULL_CAPTURE)
        arrays = {key: value for key, value in truth.to_arrays().items() if value.dtype.kind == "f"}
        return {
            key: FLOAT64_OVER_FLOAT32 * max(value, levels.level(key) or 0.0)
            for key, value in root_mean_square(shaken, arrays).items()
        }

    def _judge_float32(self, pair: Pair) -> None:
        found = self._judge.judge(pair, self._rules)
        for one in found.flips:
            self.flips.append(
                {
                    "step": pair.step,
                    "where": one.key,
                    "units": one.difference.shape[0],
                    "largest": one.value,
                    "noise": one.allowed,
                }
            )
        for title, rows in found.alone.items():
            self._tally(pair, rows, f"{title}, fed the referee's values", every=False)
        for title, rows in found.updates.items():
            self._tally(pair, rows, f"{title}, from its own gradients", every=False)
        self._tally(pair, [in_noise_levels(one) for one in found.flips], every=False)
        self._tally(pair, [*batch_difference(pair), *found.ensemble])
        for title, rows in (*found.alone.items(), *found.updates.items(), ("", [*found.flips, *found.ensemble])):
            self._rounding += [(pair.step, one, title) for one in rows if not one.ok]

    def _is_partial(self, pair: Pair) -> bool:
        return bool(len(self._together.follower.schedule.indices(pair.step)) < self._batch)

    def _tally(self, pair: Pair, judged: list[Judged], of: str = "", every: bool = True) -> None:
        trained = {key.partition(".")[0] for key in pair.reference.activation_gradient}
        partial = self._is_partial(pair) and every
        for one in judged:
            for level, claim in claims_of(one.key, trained, of, partial, every):
                self._tallies.setdefault((level, claim), Tally(level, claim)).add(pair.step, [one])
                if of:
                    self._of_one.add((level, claim))

    # --- what was found --------------------------------------------------------------------------------------

    @property
    def twins(self) -> int | None:
        """Float32 steps whose Float64 step was judged; None in Float64."""
        return self.steps - self._without_twin if self._float32 else None

    @property
    def incorrect(self) -> int | None:
        """The first step whose Float64 twin differs; None where all agree."""
        return self._suspects[0][0].step if self._suspects and self._float32 else None

    def rows(self) -> list[Row]:
        """One row a claim, in the order of the levels. Where correctness failed, rounding was not judged."""
        rows = [
            replace(tally.row(), minimum=None) if key in self._of_one else tally.row()
            for key, tally in sorted(self._tallies.items(), key=lambda item: item[0])
        ]
        if self._float32:
            failed = self.incorrect
            if failed is not None:
                rows = [
                    replace(
                        row,
                        verdict=NOT_RUN,
                        compared=0,
                        measured=None,
                        allowed=None,
                        minimum=None,
                        where="",
                        reason=f"correctness failed at step {failed}",
                    )
                    for row in rows
                ]
            rows.append(self._correctness_row())
        if self.steps and not any(row.claim.startswith("steps with a partial") for row in rows):
            told = f"every batch of the {self.steps} steps had {self._batch} images; {self._partial_at()}"
            if self._partial and self.incorrect is not None:
                told = f"correctness failed at step {self.incorrect}"
            rows.append(Row(7, "steps with a partial batch", NOT_RUN, reason=told))
        return sorted(rows, key=lambda row: row.level)

    def _partial_at(self) -> str:
        """Where a smaller batch comes."""
        schedule = self._together.follower.schedule
        last = schedule.steps_per_epoch - 1
        if len(schedule.indices(last)) == self._batch:
            config = self._together.follower.config
            if config.order == "with_replacement" or config.last_batch == "dropped":
                return "the recipe has none: its batches are all full"
            return "no batch is smaller with so many images; --samples with another number makes one"
        leader = self._together.leader
        short = isinstance(leader, Recorded) and leader.trace.training_steps <= last
        return f"step {last} is the first with fewer: {'pygan record ' if short else ''}--steps {last + 1}"

    def _correctness_row(self) -> Row:
        if self._correct.compared:
            row = self._correct.row()
            if self._without_twin:
                told = "beside the others no Float64 step was recorded (pygan record --twin)"
                return replace(row, reason=f"{self.twins} of {self.steps} steps; {told}")
            return row
        told = "correctness not run: the recording holds no Float64 step beside its Float32 steps (pygan record --twin)"
        return Row(7, CORRECTNESS, NOT_RUN, reason=told)

    @property
    def differs(self) -> bool:
        """Was anything outside its tolerance?"""
        return bool(self._suspects or self._rounding)

    def diagnosis(self) -> Diagnosis | None:
        """Where and why the runs differ; None where they agree."""
        if not self._searched:
            self._searched = True
            self._found = self._search() if self._suspects else self._lowered() if self._rounding else None
        return self._found

    def _search(self) -> Diagnosis | None:
        together = self._together.in_float64 if self._float32 else self._together
        pairs = self._layered(together)
        if together is None or not pairs:
            pair, bad = self._suspects[0]
            found = _unlocated(pair, bad)
            return found if together is None else self._with_history(together, found)
        (pair, bad), rest = pairs[0], pairs[1:]
        from pygan.parity.causes import CONSTANTS

        found = self._diagnosed(together, pair, bad)
        told = found.cause != UNKNOWN or found.cause.either
        second = self._diagnosed(together, *rest[0]) if rest and told else None
        found = agreeing(found, second, CONSTANTS)
        at = self._suspects[0][0].step
        if at != found.step:
            note = f"the first step that differs is step {at}; layers were recorded at step {found.step}"
            found = replace(found, note="; ".join(part for part in (found.note, note) if part))
        return self._with_history(together, found)

    def _layered(self, together: Together | None) -> list[tuple[Pair, list[Judged]]]:
        """Differing Float64 steps that can be searched layer by layer: up to two, the first ones."""
        if together is None:
            return []
        if self._float32 and isinstance(self._together.leader, Live) is False:
            return self._of_recording(together)
        made = []
        for pair, bad in self._suspects:
            if not pair.reference.activation or not pair.candidate.activation:
                if not isinstance(together.leader, Live):
                    continue
                lead = together.leader.spare.step(pair.step, FULL_CAPTURE, pair.before)
                pair = together.pair(pair.before, lead, together.follow(pair.before, lead, FULL_CAPTURE))
                pair = together.as_one_batch(pair)
            made.append((pair, bad))
            if len(made) == LAYERED:
                break
        return made or [self._suspects[0]]

    def _of_recording(self, together: Together) -> list[tuple[Pair, list[Judged]]]:
        """The same search in the recording's Float64 run, whose layers were recorded."""
        made: list[tuple[Pair, list[Judged]]] = []
        trace = together.leader.trace  # type: ignore[union-attr]
        together.follower.stack.initialise()  # what its twin steps left outside the state is no part of this run
        for step in trace.steps:
            if not trace.record(step).activation:
                continue
            before, lead = together.lead(step, FULL_CAPTURE)
            pair = together.as_one_batch(together.pair(before, lead, together.follow(before, lead, FULL_CAPTURE)))
            judged = [*batch_difference(pair), *judge_float64(pair, self._rules, self._noise(pair))]
            bad = [one for one in judged if not one.ok]
            if bad or mode_differences(pair):
                made.append((pair, bad))
            if len(made) == LAYERED:
                break
        return made

    def _diagnosed(self, together: Together, pair: Pair, bad: list[Judged]) -> Diagnosis:
        previous = None
        if pair.step and not isinstance(together.leader, Live) and pair.step - 1 in together.leader.trace.steps:
            previous = together.leader.trace.record(pair.step - 1)
        elif pair.step and isinstance(together.leader, Live) and pair.step - 1 in self._befores:
            previous = together.leader.spare.step(pair.step - 1, ("gradients",), self._befores[pair.step - 1])
        outside = [one for one in bad if not one.key.startswith("mode/")]
        return diagnose_step(together, pair, outside, previous, self._noise(pair))

    def _with_history(self, together: Together, found: Diagnosis) -> Diagnosis:
        """The diagnosis with what the first Float64 step that differs owes to the steps before it."""
        pair = self._suspects[0][0]
        word, told = history_of(together, pair, {k: v for k, v in self._befores.items() if k <= pair.step})
        if word == RANDOM:
            return replace(found, cause=Cause(RANDOM, told))
        if word == CARRIED:
            cause = Cause(CARRIED, told) if found.cause == UNKNOWN else found.cause
            return replace(
                found, cause=cause, note="; ".join(part for part in (found.note, told) if part and cause.detail != told)
            )
        return found

    def _lowered(self) -> Diagnosis:
        """Float32 alone is off: the first operation that is off by itself, or else the first tensor."""
        at = self._rounding[0][0]
        rows = [(one, title) for step, one, title in self._rounding if step == at]
        alone = [(one, title) for one, title in rows if title]
        one, title = (alone or rows)[0]
        cause, note = UNKNOWN, ""
        if alone and not one.difference.fault and one.allowed > 0:
            from pygan.parity.causes.precision import lowered

            cause = lowered(one)
            note = f"the Float64 step agrees; in Float32 {title} is off by {one.value:.1e}, tolerance {one.allowed:.1e}"
        outside = tuple(one for one, _ in rows)
        culprits = tuple(one.difference for one, _ in alone)
        victims = tuple(one.key for one, title in rows if not title)
        return Diagnosis(at, one.key, cause, one.difference, culprits, victims, outside, bool(alone), note=note)


def _unlocated(pair: Pair, bad: list[Judged]) -> Diagnosis:
    """The first differing tensor by the order of the step, where no layers are there to search."""
    from pygan.parity.locate import place_in_order

    order = place_in_order(pair.candidate.order or pair.reference.order, pair.reference.order)
    outside = sorted(bad, key=lambda one: order(one.key))
    first: Difference = outside[0].difference
    victims = tuple(one.key for one in outside[1:])
    return Diagnosis(pair.step, first.key, UNKNOWN, first, (), victims, tuple(outside))


def diagnose(together: Together, steps: Sequence[int]) -> Diagnosis | None:
    """Step both sides together through ``steps``; where and why they differ, None where all steps agree."""
    stepping = Stepping(together, Referee(together.follower.config, together.follower.dataset))
    for _ in stepping.run(steps):
        pass
    return stepping.diagnosis()
