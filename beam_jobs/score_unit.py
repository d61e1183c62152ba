"""Scoring one unit, without Beam: read, check, predict in fixed batches, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from beam_jobs.blocks import Chunk, EcgRow, Reject, amplitudes_uv, counts_of, prefetch
from beam_jobs.commit import (
    RowHashes,
    UnitFiles,
    check_reconciles,
    commit_unit,
    footer,
    parquet_bytes,
    read_commit,
    reasons_of,
    rejects_table,
    rows_sha256,
    unit_files,
)
from beam_jobs.exclusions import Exclusions
from beam_jobs.participants import demographics_of
from beam_jobs.prediction_table import ScoredRow, predictions_table
from beam_jobs.progress import PROGRESS
from beam_jobs.raw_input import excluded_reject
from beam_jobs.report import WAITS
from beam_jobs.sources import folder_digest_of, source_amplitudes
from beam_jobs.storage import Storage
from beam_jobs.unit_reader import UnitReader
from beam_jobs.units import Unit, UnitSummary
from lvm_core.body import Bsa
from lvm_core.canonical import signal_sha256
from lvm_core.leads import LEADS_12
from lvm_core.lvh import LvhPreset
from lvm_core.plausibility import judge_ecgs
from lvm_core.quality import MASS_RANGE_G, AmplitudeHistogram, QualityFlag, Rejection, SourceAmplitudes
from lvm_core.recalibration import Recalibration
from lvm_core.tables import Demographics, ParticipantTable, demographics_problem
from models.interface import EcgPredictor, Predictions

_PREFETCH_CHUNKS: Final = 2
_STAGES: Final = (*WAITS, "total")


@dataclass
class ScoreContext:
    """What scoring a unit needs beside the unit; made once per process.

    Attributes:
        storage: where inputs and outputs are.
        output: the run folder.
        reader: reads units.
        predictors: the model, then the fallback model if there is one.
        executor: runs batches, one thread per core.
        n_in_flight: batches submitted at most before a unit waits.
        participants: the joined table, or None.
        exclusions: people who are not scored.
        bsa: formula of the body surface area.
        lvh_preset: thresholds of the index.
        provenance: what the footers of all units say.
        recalibration: adds columns to the predictions, or None.
    """

    storage: Storage
    output: str
    reader: UnitReader
    predictors: Sequence[EcgPredictor]
    executor: ThreadPoolExecutor
    n_in_flight: int
    participants: ParticipantTable | None
    exclusions: Exclusions
    bsa: Bsa
    lvh_preset: LvhPreset
    provenance: Mapping[str, Any]
    recalibration: Recalibration | None = None

    def table(self, rows: Sequence[ScoredRow]) -> pa.Table:
        """Return the predictions table of scored rows."""
        return predictions_table(rows, self.bsa, self.lvh_preset, self.recalibration)


def begin_unit(
    unit: Unit, context: ScoreContext, meanwhile: Callable[[], None] = lambda: None
) -> Callable[[], UnitSummary]:
    """Read and check a unit and give all of it to the engine; return what does the rest.

    The rest waits for the last batches and commits the unit: done while the next unit begins, it
    leaves the engine no gap between the two. Of a committed unit it is what that says.

    Invariant: `n_read == n_done + n_rejected`.

    Args:
        unit: what to score.
        context: of this process.
        meanwhile: called whenever the engine has enough to do, before waiting for it.
    """
    files = unit_files(context.output, "score", unit.name)
    done = read_commit(context.storage, files, unit)
    if done is not None:
        PROGRESS.advance(done.n_read)
        return lambda: done
    work = _UnitWork(context, folder_digest_of(unit.pieces), meanwhile)
    with _adding_to(work.stage_s, "total"), context.reader.open(unit) as chunks:
        for chunk in _timed(prefetch(chunks, _PREFETCH_CHUNKS), work.stage_s, "reader_wait"):
            work.add(chunk)
            PROGRESS.advance(chunk.n_read)
        work.submit_rest()
    return lambda: _finish_unit(unit, context, files, work)


def _finish_unit(unit: Unit, context: ScoreContext, files: UnitFiles, work: _UnitWork) -> UnitSummary:
    with _adding_to(work.stage_s, "total"):
        scored = work.finish()
        summary = UnitSummary(
            unit.number,
            work.n_read,
            len(scored),
            reasons_of(work.rejects),
            work.amplitudes,
            None,
            work.stage_s,
            work.sources,
        )
        check_reconciles(unit, summary)
        with _adding_to(work.stage_s, "writer_wait"):
            table = context.table(scored)
            rejects = rejects_table(work.rejects, "score")
            hashes = RowHashes(rows_sha256(table), rows_sha256(rejects))
            content = footer(unit, summary, context.provenance, hashes)
            commit_unit(context.storage, files, rejects, parquet_bytes(table, content), content)
    return summary


def score_first_rows(unit: Unit, context: ScoreContext, n_rows: int) -> pa.Table:
    """Return the predictions of a unit's first chunk, without writing anything.

    An ECG's bits depend on its place in its batch but not on its batch-mates, so they are those
    of the whole unit.
    """
    work = _UnitWork(context, folder_digest_of(unit.pieces))
    with context.reader.open(unit) as chunks:
        for chunk in chunks:
            chunk.rows = chunk.rows[:n_rows]
            work.add(chunk)
            break
    work.submit_rest()
    return context.table(work.finish())


def _timed(chunks: Iterator[Chunk], stage_s: dict[str, float], stage: str) -> Iterator[Chunk]:
    """Pass chunks on and add up the seconds waited for each."""
    while True:
        with _adding_to(stage_s, stage):
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


@contextmanager
def _adding_to(stage_s: dict[str, float], stage: str, sign: int = 1) -> Iterator[None]:
    """Add the seconds of the block to those of a stage, or take them off."""
    started = time.monotonic()
    try:
        yield
    finally:
        stage_s[stage] += sign * (time.monotonic() - started)


@dataclass(eq=False)
class _Batch:
    """A batch being filled: its model, its rows, their places in the unit, and its arrays."""

    model: int
    rows: list[EcgRow]
    places: list[int]
    counts: NDArray[np.int16]
    uv_per_count: NDArray[np.float32]
    age_years: NDArray[np.float32]
    sex: NDArray[np.int8]
    bmi_kg_m2: NDArray[np.float32]

    @classmethod
    def empty(cls, model: int, size: int, n_samples: int) -> _Batch:
        return cls(
            model,
            [],
            [],
            np.empty((size, len(LEADS_12), n_samples), dtype=np.int16),
            np.empty(size, dtype=np.float32),
            np.empty(size, dtype=np.float32),
            np.empty(size, dtype=np.int8),
            np.empty(size, dtype=np.float32),
        )

    def compute(self, predictor: EcgPredictor) -> tuple[Predictions, list[str]]:
        """Return the predictions and the hash of each signal; runs in a thread of the engine.

        Whatever reads all samples is done here together: they are in this core's cache then.
        """
        n = len(self.rows)
        for own, row in zip(self.counts, self.rows, strict=False):
            own[:] = row.counts
        hashes = [signal_sha256(row.counts, row.uv_per_count) for row in self.rows]
        demographics = (self.age_years[:n], self.sex[:n], self.bmi_kg_m2[:n]) if predictor.needs_demographics else ()
        predictions = predictor.predict_batch(self.counts[:n], self.uv_per_count[:n], *demographics)
        return predictions, hashes

    def clear(self) -> None:
        """Forget its rows; its arrays stay, because fresh ones cost more than filling them."""
        self.rows, self.places = [], []


@dataclass
class _UnitWork:
    """The state of one unit: rows accepted, batches under way, rejects."""

    context: ScoreContext
    folder_of: Callable[[str], str]
    meanwhile: Callable[[], None] = lambda: None
    n_read: int = 0
    scored: list[ScoredRow] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    amplitudes: AmplitudeHistogram = field(default_factory=AmplitudeHistogram)
    sources: SourceAmplitudes = field(default_factory=SourceAmplitudes)
    filling: dict[int, _Batch] = field(default_factory=dict)
    pending: dict[Future[tuple[Predictions, list[str]]], _Batch] = field(default_factory=dict)
    spare: dict[int, list[_Batch]] = field(default_factory=dict)
    stage_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STAGES, 0.0))

    def add(self, chunk: Chunk) -> None:
        """Check the ECGs of a chunk and send those that may be scored to their models."""
        self.n_read += chunk.n_read
        chunk = self.context.exclusions.of_chunk(chunk)
        self.rejects.extend(chunk.rejects)
        if not chunk.rows:
            self._note_sources([], chunk)
            return
        judgements = judge_ecgs(
            counts_of(chunk.rows), np.array([row.uv_per_count for row in chunk.rows], dtype=np.float32)
        )
        measured = [row for row, its in zip(chunk.rows, judgements, strict=True) if its.has_signal]
        self._note_sources(measured, chunk)
        people = demographics_of(self.context.participants, chunk.rows)
        for i, row in enumerate(chunk.rows):
            problem = judgements[i].rejection
            if self.context.exclusions.hits(row.ecg_id, people.participant_id[i]):
                self.rejects.append(excluded_reject())
            elif problem is not None:
                person = people.participant_id[i]
                self.rejects.append(row.rejected(problem.reason.value, problem.message, person))
            else:
                self._route(row, people, i, judgements[i].flags)

    def _note_sources(self, measured: Sequence[EcgRow], chunk: Chunk) -> None:
        """Add the amplitudes of ECGs that hold a signal, in all and by source."""
        measured_uv = amplitudes_uv(measured)
        self.amplitudes = self.amplitudes.add(measured_uv)
        self.sources = self.sources.merge(source_amplitudes(measured, measured_uv, chunk.rejects, self.folder_of))

    def _route(self, row: EcgRow, people: Demographics, i: int, flags: tuple[str, ...]) -> None:
        """Give an ECG to the first model that can score it, or reject it."""
        refusal: Rejection | None = None
        for k, predictor in enumerate(self.context.predictors):
            problem = demographics_problem(people, i) if predictor.needs_demographics else None
            if problem is None:
                self._enqueue(k, row, people, i, flags)
                return
            refusal = refusal or problem
        assert refusal is not None
        reason, message = refusal.reason.value, refusal.message
        self.rejects.append(row.rejected(reason, message, people.participant_id[i]))

    def _enqueue(self, k: int, row: EcgRow, people: Demographics, i: int, flags: tuple[str, ...]) -> None:
        predictor = self.context.predictors[k]
        batch = self.filling.get(k)
        if batch is None:
            spare = self.spare.get(k)
            size, n_samples = predictor.batch_size, row.counts.shape[1]
            batch = spare.pop() if spare else _Batch.empty(k, size, n_samples)
            self.filling[k] = batch
        slot = len(batch.rows)
        batch.rows.append(row)
        batch.places.append(len(self.scored))
        batch.uv_per_count[slot] = row.uv_per_count
        batch.age_years[slot] = people.age_years[i]
        batch.sex[slot] = people.sex_code[i]
        batch.bmi_kg_m2[slot] = people.bmi_kg_m2[i]
        self.scored.append(ScoredRow.of(row, people, i, predictor.spec.model_id, flags))
        if slot + 1 == predictor.batch_size:
            self._submit(k)

    def _submit(self, k: int) -> None:
        batch = self.filling.pop(k)
        future = self.context.executor.submit(batch.compute, self.context.predictors[k])
        self.pending[future] = batch
        while len(self.pending) >= self.context.n_in_flight:
            with _adding_to(self.stage_s, "total", -1):  # what is done there is another unit's time
                self.meanwhile()
            self._collect()

    def _collect(self) -> None:
        with _adding_to(self.stage_s, "engine_wait"):
            done, _ = wait(self.pending, return_when=FIRST_COMPLETED)
        for future in done:
            predictions, hashes = future.result()
            batch = self.pending.pop(future)
            odd_mass = MASS_RANGE_G.is_outside(predictions.lvm_pred_g)
            for j, place in enumerate(batch.places):
                row = self.scored[place]
                row.lvm_pred_g = float(predictions.lvm_pred_g[j])
                if odd_mass[j]:
                    row.quality_flags = (*row.quality_flags, QualityFlag.MASS_IMPLAUSIBLE.value)
                row.lvh_score = float(predictions.lvh_score[j])
                row.signal_sha256 = hashes[j]
            batch.clear()
            self.spare.setdefault(batch.model, []).append(batch)

    def submit_rest(self) -> None:
        """Send what is left to its models, in padded batches."""
        for k in sorted(self.filling):
            self._submit(k)

    def finish(self) -> list[ScoredRow]:
        """Wait for the last batches and return all rows with their results."""
        while self.pending:
            self._collect()
        return self.scored
