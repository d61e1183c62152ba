"""One unit is ended while the next begins, whatever happens to either."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, Event

import apache_beam as beam
import numpy as np
import pytest
from numpy.typing import NDArray

from beam_jobs.reading.storage import Storage, StorageFault
from beam_jobs.reading.units import Unit, UnitSummary, cut_units
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.folder import RunFolder
from beam_jobs.run.order import WorkOrder
from beam_jobs.run.plan import UnitPlace
from beam_jobs.run.planner import find_inputs
from beam_jobs.run.report import WorkerNotes, noted_work
from beam_jobs.run.settings import InputSettings, ScoreSettings
from beam_jobs.runners.local import LocalRunner
from beam_jobs.runners.pipeline import build, run_pipeline
from beam_jobs.scoring.unit import ScoreContext
from lvm_core.errors import LvmError
from models.catalogue.spec import Predictions
from tests.beam_jobs.helpers import read_rows, write_ecg_parquet
from tests.fakes import FakePredictor

LOG: list[str] = []
PAIR = Barrier(2)


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()


@dataclass(frozen=True)
class Order(WorkOrder):
    """An order whose units hold nothing, so that no plan is needed."""

    def __init__(self, keep_going: bool) -> None:
        folder = RunFolder(Storage(), "")
        super().__init__(folder, "launch", "", 0, (), "", keep_going=keep_going)

    def unit(self, place: UnitPlace) -> Unit:
        return Unit(place.number, place.fingerprint, ())


@dataclass(frozen=True)
class Job:
    """A job that writes down what it does, and fails at a given step ("begin 1", "end 0")."""

    waits: bool = True
    fails_at: str = ""
    error: type[LvmError] = StorageFault
    keep_going: bool = True
    units_at_once: int = 1
    kind: str = "score"

    @property
    def order(self) -> Order:
        return Order(self.keep_going)

    def make_worker(self) -> Job:
        return self

    def begin(self, unit: Unit, meanwhile: Callable[[], None]) -> Callable[[], UnitSummary]:
        self._do(f"begin {unit.number}")
        if self.waits:
            meanwhile()
        self._do(f"fed {unit.number}")

        def end() -> UnitSummary:
            self._do(f"end {unit.number}")
            return UnitSummary(unit.number, 10, 10)

        return end

    def _do(self, what: str) -> None:
        LOG.append(what)
        if what == self.fails_at:
            raise self.error(f"failed at {what}")


SHARD = (1, 1)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(Storage(), str(tmp_path / "run"))


def run(job: Job, n_units: int, folder: RunFolder) -> dict[str, int]:
    """Run units through the local runner and return the counters."""
    runner, options = LocalRunner().start(ScoreSettings(inputs=("in",), output="out"))
    pipeline = beam.Pipeline(runner=runner, options=options)
    build(pipeline, job, [UnitPlace(number, f"f{number}") for number in range(n_units)], WorkerNotes(folder, SHARD))
    return dict(run_pipeline(pipeline))


def test_units__one_ends_as_soon_as_the_next_would_wait(folder: RunFolder) -> None:
    counters = run(Job(), 3, folder)
    assert LOG == ["begin 0", "fed 0", "begin 1", "end 0", "fed 1", "begin 2", "end 1", "fed 2", "end 2"]
    assert (counters["read"], counters["done"]) == (30, 30)


def test_units__one_ends_after_the_next_has_begun_where_that_never_waits(folder: RunFolder) -> None:
    run(Job(waits=False), 2, folder)
    assert LOG == ["begin 0", "fed 0", "begin 1", "fed 1", "end 0", "end 1"]


@pytest.mark.parametrize("place", ["begin 0", "fed 0", "end 0", "begin 1", "end 1", "end 2"])
def test_units__fault_of_the_storage_costs_its_own_unit_alone(place: str, folder: RunFolder) -> None:
    counters = run(Job(fails_at=place), 3, folder)
    assert noted_work(folder, SHARD).failures == [f"failed at {place}"]
    assert counters["units_failed"] == 1
    assert counters["done"] == 20
    ended = {line for line in LOG if line.startswith("end")} - {place}
    assert ended == {"end 0", "end 1", "end 2"} - {f"end {place[-1]}"}


def test_units__error_of_one_leaves_the_one_before_finished(folder: RunFolder) -> None:
    with pytest.raises(LvmError, match="failed at begin 1"):
        run(Job(fails_at="begin 1", error=LvmError), 3, folder)
    assert LOG == ["begin 0", "fed 0", "begin 1", "end 0"]


def test_units__fault_stops_a_runner_that_tries_again_itself(folder: RunFolder) -> None:
    with pytest.raises(StorageFault, match="failed at end 0"):
        run(Job(fails_at="end 0", keep_going=False), 2, folder)


@dataclass(frozen=True)
class Meeting(Job):
    """A job whose units wait for each other: it ends only where two are done at once."""

    units_at_once: int = 2

    def begin(self, unit: Unit, meanwhile: Callable[[], None]) -> Callable[[], UnitSummary]:
        PAIR.wait(30)
        return super().begin(unit, meanwhile)


@pytest.mark.parametrize("n_units", [2, 6])
def test_units__several_at_once(n_units: int, folder: RunFolder) -> None:
    counters = run(Meeting(), n_units, folder)
    assert (counters["read"], counters["units_failed"]) == (10 * n_units, 0)
    assert sorted(line for line in LOG if line.startswith("end")) == [f"end {i}" for i in range(n_units)]


def test_units__several_at_once__fault_of_the_storage_costs_its_own_unit_alone(folder: RunFolder) -> None:
    counters = run(Meeting(fails_at="end 1"), 4, folder)
    assert (counters["done"], counters["units_failed"]) == (30, 1)
    assert noted_work(folder, SHARD).failures == ["failed at end 1"]


def test_units__several_at_once__error_comes_out(folder: RunFolder) -> None:
    with pytest.raises(LvmError, match="failed at begin 2"):
        run(Meeting(fails_at="begin 2", error=LvmError), 4, folder)


class _Held(FakePredictor):
    """Computes nothing before it is let go."""

    def __init__(self, gate: Event) -> None:
        super().__init__(batch_size=4)
        self._gate = gate

    def predict_batch(
        self, counts: NDArray[np.int16], uv_per_count: NDArray[np.float32], *more: NDArray[np.generic]
    ) -> Predictions:
        assert self._gate.wait(60), "the unit waited for the engine before it said so"
        return super().predict_batch(counts, uv_per_count, *more)  # type: ignore[arg-type]


def units_of(folder: Path, sizes: Sequence[int]) -> tuple[list[Unit], tuple[str, ...]]:
    """Write a file of ECGs for each size, and return a unit for each."""
    start = 0
    for number, n in enumerate(sizes):
        write_ecg_parquet(folder / f"{number}.parquet", n, start=start)
        start += n
    inputs = find_inputs(InputSettings(inputs=(str(folder),), unit_ecgs=1))
    units = list(cut_units(inputs.pieces, unit_ecgs=1, first_number=0, settings_sha256="s"))
    assert [unit.n_ecgs for unit in units] == list(sizes)
    return units, inputs.roots


def test_score__begins_a_unit_without_waiting_for_the_engine(tmp_path: Path) -> None:
    units, roots = units_of(tmp_path / "in", [4, 16])
    for name in ("predictions", "rejects"):
        (tmp_path / "run" / name).mkdir(parents=True)
    gate = Event()
    with ThreadPoolExecutor(1) as executor:
        settings = ScoreSettings(inputs=roots, output=str(tmp_path / "run"))
        context = ScoreContext(settings, settings.reader(roots), [_Held(gate)], executor, 3, None, Exclusions(), {})
        end_first = context.begin(units[0])  # one batch, which the engine holds
        assert not list((tmp_path / "run" / "predictions").iterdir())
        summaries = []

        def meanwhile() -> None:
            gate.set()
            if not summaries:
                summaries.append(end_first())

        end_second = context.begin(units[1], meanwhile)  # four batches: the third is too many
        assert [one.n_done for one in summaries] == [4]
        summaries.append(end_second())
    assert [one.n_done for one in summaries] == [4, 16]
    assert len({row["ecg_id"] for row in read_rows(tmp_path / "run", "predictions")}) == 20
    # Each second counts once: the time of a unit holds none that another unit took.
    stages = summaries[1].stage_s
    assert 0 <= sum(stages[name] for name in stages if name != "total") <= stages["total"]
