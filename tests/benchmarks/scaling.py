"""A simulation of a run on many workers that are taken away now and then.

The real job hands out units, does each wholly or not at all, and finds finished ones again. The
simulation does the same with seconds in place of ECGs: nothing is computed, only added up. What a
unit, a start, a look-up and a plan cost comes from measurements (`scaling.yaml`); `scaling_check`
compares it with real runs; `scaling_page` makes the tables and the picture of docs/scaling.md.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

HOUR_S = 3600.0
# A job on engines that begin all again after each kill may never end: the simulation gives up then.
_MOST_RESTARTS = 5_000
_HAIR = 1e-9


class Division(StrEnum):
    """Who does which unit, and what a kill takes along."""

    QUEUE = "queue"  # a free worker takes the next unit; a killed one gives its unit back
    SHARDS = "shards"  # each worker has its own units and no others
    TOGETHER = "together"  # as shards, and a kill stops the units of all workers


@dataclass(frozen=True)
class Costs:
    """Seconds of single steps, of one worker or of the command that started the run."""

    ecg_per_s: float  # ECGs of a worker in a second
    unit_s: float  # a unit beside its ECGs: its line of the plan, the look-up, the commit
    look_up_s: float  # a unit that is found finished
    start_s: float  # from the start of a process to its first unit
    list_file_s: float  # listing an input file and reading its footer
    key_s: float  # looking for the id of an ECG among those before
    commit_s: float  # reading the footer of a committed unit
    close_ecg_s: float  # looking for the signal of an ECG among the others, and counting its flags
    cores: int = 2  # of a worker


@dataclass(frozen=True)
class Place:
    """Where a run is done: what an engine adds to the costs."""

    name: str
    division: Division
    engine_start_s: float = 0.0  # from the command to the start of the first worker
    replace_s: float = 0.0  # until a machine that was taken away is replaced
    begin_again_s: float = 0.0  # TOGETHER: from the replacement until all go on
    workers_plan: bool = False  # each worker lists the inputs itself, and counts all units when it ends
    store_ecg_per_s: float = math.inf  # ECGs that the store gives all workers together in a second


@dataclass(frozen=True)
class Load:
    """What is to be done."""

    n_ecgs: int
    unit_ecgs: int = 1024
    n_files: int = 0  # input files

    @property
    def n_units(self) -> int:
        """Units of the plan; the last one may be smaller, which is left out of account."""
        return math.ceil(self.n_ecgs / self.unit_ecgs)


@dataclass
class Outcome:
    """What a run took."""

    seconds: float = 0.0  # from the command to the end
    paid_s: float = 0.0  # seconds of workers that were there, and of the command's machine
    wasted_s: float = 0.0  # seconds of workers: units that a kill took, starting again, looking up
    n_kills: int = 0
    units_lost: float = 0.0  # work on units that a kill took, in units


Lifetimes = Callable[[int], Iterator[float]]


def kept() -> Lifetimes:
    """Return workers that nobody takes away."""
    return lambda worker: itertools.repeat(math.inf)


def taken(mean_s: float, seed: int) -> Lifetimes:
    """Return workers that are taken away at random, at a rate that does not change."""

    def of(worker: int) -> Iterator[float]:
        rng = random.Random(seed * 1_000_003 + worker)
        while True:
            yield rng.expovariate(1 / mean_s)

    return of


def given(seconds: Sequence[Sequence[float]]) -> Lifetimes:
    """Return workers with these lifetimes, and none that is taken away afterwards."""
    return lambda worker: itertools.chain(seconds[worker], itertools.repeat(math.inf))


def simulate(load: Load, costs: Costs, place: Place, n_workers: int, lifetimes: Lifetimes) -> Outcome:
    """Return what a run takes; `seconds` is infinite where it never ends."""
    share = place.store_ecg_per_s / n_workers
    unit_s = load.unit_ecgs / min(costs.ecg_per_s, share) + costs.unit_s
    listing_s = load.n_files * costs.list_file_s
    plan_s = listing_s + load.n_ecgs * costs.key_s
    count_s = load.n_units * costs.commit_s
    before_s = place.engine_start_s + (0.0 if place.workers_plan else costs.start_s + plan_s)
    # Who closes reads all commits for the report of its own work, and again before it closes.
    after_s = (0.0 if place.workers_plan else 2 * count_s) + load.n_ecgs * costs.close_ecg_s
    fleet = _Fleet(
        load.n_units,
        n_workers,
        unit_s,
        first_s=costs.start_s + (plan_s if place.workers_plan else 0.0),
        again_s=costs.start_s + (listing_s if place.workers_plan else 0.0),
        look_up_s=costs.look_up_s,
        last_s=2 * count_s if place.workers_plan else 0.0,
        # A shard reads the commits of all units when it starts; others look up unit by unit.
        count_s=count_s if place.workers_plan else 0.0,
        place=place,
        lifetimes=lifetimes,
    )
    outcome = {Division.QUEUE: fleet.queue, Division.SHARDS: fleet.shards, Division.TOGETHER: fleet.together}[
        place.division
    ]()
    outcome.seconds += before_s + after_s
    outcome.paid_s += before_s + after_s
    return outcome


@dataclass
class _Fleet:
    n_units: int
    n_workers: int
    unit_s: float
    first_s: float  # first start of a worker
    again_s: float  # start of a worker in place of one that was taken away
    look_up_s: float
    last_s: float  # what a worker does at the end
    count_s: float  # what a worker started again reads of finished units, where all are finished
    place: Place
    lifetimes: Lifetimes
    made: Outcome = field(default_factory=Outcome)

    def shards(self) -> Outcome:
        """Each worker does its own units; the run takes as long as the slowest."""
        self.made.seconds = max(self._shard(worker) for worker in range(self.n_workers))
        return self.made

    def _shard(self, worker: int) -> float:
        n_own = len(range(worker, self.n_units, self.n_workers))
        left, now_s, begin_s = n_own, 0.0, self.first_s
        for life_s in self.lifetimes(worker):
            end_s = now_s + life_s
            done = max(0, min(left, _whole((end_s - now_s - begin_s) / self.unit_s)))
            finish_s = now_s + begin_s + left * self.unit_s + self.last_s
            if finish_s <= end_s:
                self.made.paid_s += finish_s - now_s
                self.made.wasted_s += begin_s if now_s > 0 else 0.0
                return finish_s
            left -= done
            self.made.paid_s += life_s
            self.made.n_kills += 1
            self.made.wasted_s += min(begin_s, life_s) if now_s > 0 or life_s < begin_s else 0.0
            self._lose(min(self.unit_s, max(0.0, life_s - begin_s - done * self.unit_s)))
            now_s = end_s + self.place.replace_s
            begin_s = self.again_s + self.count_s * (n_own - left) / max(1, n_own)
        raise AssertionError("lifetimes end")

    def _lose(self, seconds: float) -> None:
        """Count work on a unit that a kill took."""
        self.made.wasted_s += seconds
        self.made.units_lost += seconds / self.unit_s

    def queue(self) -> Outcome:
        """A free worker takes the next unit; a unit whose worker is taken away goes back."""
        made = self.made
        waiting, n_done = self.n_units, 0
        lives = [self.lifetimes(worker) for worker in range(self.n_workers)]
        ends_s = [next(life) for life in lives]
        begun_s = [0.0] * self.n_workers
        # (time, worker, what happens): a worker is free, or is taken away with or without a unit.
        events: list[tuple[float, int, str]] = []
        idle: deque[int] = deque()
        for worker in range(self.n_workers):
            self._next(events, worker, 0.0, self.first_s, ends_s[worker], "free", "taken")
        now_s = 0.0
        while n_done < self.n_units:
            now_s, worker, what = heapq.heappop(events)
            if what.startswith("taken"):
                made.n_kills += 1
                made.paid_s += now_s - begun_s[worker]
                if what == "taken with unit":
                    waiting += 1
                start_s = now_s + self.place.replace_s
                begun_s[worker], ends_s[worker] = start_s, start_s + next(lives[worker])
                self._next(events, worker, start_s, self.again_s, ends_s[worker], "free", "taken")
                made.wasted_s += min(self.again_s, ends_s[worker] - start_s)
                while waiting and idle:
                    waiting -= self._give(events, idle.popleft(), now_s, ends_s)
                continue
            if what == "done":
                n_done += 1
            if waiting:
                waiting -= self._give(events, worker, now_s, ends_s)
            else:
                idle.append(worker)
        made.seconds = now_s
        # All are there until the last unit is done.
        made.paid_s += sum(max(0.0, now_s - one) for one in begun_s)
        return made

    def _give(self, events: list[tuple[float, int, str]], worker: int, now_s: float, ends_s: Sequence[float]) -> int:
        """Give a free worker the next unit; return 1, or 0 where it was taken away while idle."""
        if ends_s[worker] <= now_s:
            heapq.heappush(events, (now_s, worker, "taken"))
            return 0
        lost_s = ends_s[worker] - now_s
        if lost_s < self.unit_s:
            self._lose(lost_s)
        self._next(events, worker, now_s, self.unit_s, ends_s[worker], "done", "taken with unit")
        return 1

    def _next(
        self,
        events: list[tuple[float, int, str]],
        worker: int,
        now_s: float,
        takes_s: float,
        ends_s: float,
        what: str,
        else_: str,
    ) -> None:
        done_s = now_s + takes_s
        heapq.heappush(events, (done_s, worker, what) if done_s <= ends_s else (ends_s, worker, else_))

    def together(self) -> Outcome:
        """Each worker does its own units; a kill stops all, and finished units are looked up."""
        made = self.made
        lives = [self.lifetimes(worker) for worker in range(self.n_workers)]
        ends_s = np.array([next(life) for life in lives])
        own = np.array([len(range(worker, self.n_units, self.n_workers)) for worker in range(self.n_workers)])
        done = np.zeros(self.n_workers, dtype=np.int64)
        now_s = self.first_s
        while made.n_kills < _MOST_RESTARTS:
            looks_s = self.look_up_s * done
            finish_s = now_s + float(np.max(looks_s + self.unit_s * (own - done)))
            worker = int(np.argmin(ends_s))
            killed_s = float(ends_s[worker])
            if finish_s <= killed_s:
                made.seconds = finish_s
                made.paid_s += self.n_workers * finish_s
                made.wasted_s = self.n_workers * (finish_s - self.first_s - float(own.max()) * self.unit_s)
                return made
            span_s = np.maximum(0.0, killed_s - now_s - looks_s)
            whole = np.minimum(own - done, np.floor(span_s / self.unit_s + _HAIR).astype(np.int64))
            begun = np.where(done + whole < own, np.minimum(1.0, span_s / self.unit_s - whole), 0.0)
            made.n_kills += 1
            made.units_lost += float(begun.sum())
            done += whole
            back_s = killed_s + self.place.replace_s
            ends_s[worker] = back_s + next(lives[worker])
            # Another machine may be away still.
            now_s = max(now_s, back_s + self.again_s + self.place.begin_again_s)
        made.seconds = math.inf
        return made


def _whole(n: float) -> int:
    """Return the whole units in a number of units, which may be infinite or a hair too small."""
    return 10**12 if n == math.inf else math.floor(n + _HAIR)
