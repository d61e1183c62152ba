"""Scoring one unit, without Beam: read, check, predict in fixed batches, write."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from beam_jobs.reading.blocks import (
    AMPLITUDES,
    MEASURERS,
    Chunk,
    EcgRow,
    Reject,
    amplitudes_uv,
    counts_of,
    excluded_reject,
    prefetch,
)
from beam_jobs.reading.flagged import flag_reject, with_signal_flags
from beam_jobs.reading.measured import Measure, Measured, measured
from beam_jobs.reading.unit_reader import UnitReader
from beam_jobs.reading.units import Unit, UnitSummary
from beam_jobs.run.commit import (
    UnitFiles,
    commit_unit,
    parquet_bytes,
    read_commit,
    reasons_of,
    rejects_table,
    rows_sha256,
    table_of,
    unit_files,
)
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.participants import demographics_of
from beam_jobs.run.report import WAITS, folder_digest_of, source_amplitudes
from beam_jobs.run.settings import ScoreSettings
from lvm_core.medicine.body import Bsa, body_surface_area_m2, lv_mass_index_g_m2
from lvm_core.medicine.ecg_rules import ecg_rules, more_ecg_rules
from lvm_core.medicine.lvh import LvhPreset, Sex, ThreeValued, lvh_arrays
from lvm_core.medicine.recalibration import Recalibration
from lvm_core.signal.canonical import signal_sha256
from lvm_core.signal.ecg import LEADS_12, NOTHING_STATED, RhythmCodes
from lvm_core.signal.plausibility import judge_ecgs
from lvm_core.signal.quality import AGE_RANGE_YEARS, BMI_RANGE_KG_M2, MASS_RANGE_G, QualityFlag, Rejection
from lvm_core.signal.scale import AmplitudeHistogram, SourceAmplitudes
from lvm_core.tables import Demographics, ParticipantTable, demographics_problem, schemas
from models.catalogue.spec import Predictions
from models.engines.predictor import LvmPredictor

_SEX_TEXT = {0: Sex.FEMALE.value, 1: Sex.MALE.value}


@dataclass(slots=True)
class ScoredRow:
    """One accepted ECG; its hash, measurements and results are filled in when its batch is done."""

    ecg_id: str
    participant_id: str | None
    recorded_at: dt.datetime | None
    model_id: str
    age_years: float
    sex_code: int
    bmi_kg_m2: float
    height_cm: float
    weight_kg: float
    quality_flags: tuple[str, ...]
    amplitudes: tuple[float, ...]
    measured_by: str | None
    qrs_measured_by: str | None
    rhythm: RhythmCodes = NOTHING_STATED
    signal_sha256: str = ""
    lvm_pred_g: float = float("nan")
    lvh_score: float = float("nan")

    @classmethod
    def of(cls, row: EcgRow, people: Demographics, i: int, model_id: str, flags: tuple[str, ...] = ()) -> ScoredRow:
        """Return the row of an ECG without its results; `flags` are those of its signal."""
        return cls(
            row.ecg_id,
            people.participant_id[i],
            row.recorded_at,
            model_id,
            _inside(AGE_RANGE_YEARS, people.age_years[i]),
            int(people.sex_code[i]),
            _inside(BMI_RANGE_KG_M2, people.bmi_kg_m2[i]),
            float(people.height_cm[i]),
            float(people.weight_kg[i]),
            (*row.quality_flags, *flags, *people.flags[i]),
            row.amplitudes,
            row.measured_by,
            row.qrs_measured_by,
            row.rhythm,
        )


def _inside(limits: Any, value: np.float32) -> float:
    """Return a value, or NaN when it is implausible: its flag says so."""
    return float("nan") if limits.is_outside(float(value)) else float(value)


def predictions_table(
    rows: Sequence[ScoredRow], bsa: Bsa, preset: LvhPreset, recalibration: Recalibration | None = None
) -> pa.Table:
    """Return the predictions table of rows with results, in the order of the unit.

    `recalibration` adds its columns, null for rows of another model than the one it is for.
    """
    numbers = {
        name: np.array([getattr(row, name) for row in rows], dtype=np.float32)
        for name in ("lvm_pred_g", "lvh_score", "age_years", "bmi_kg_m2", "height_cm", "weight_kg")
    }
    sex = np.array([row.sex_code for row in rows], dtype=np.int8)
    numbers["bsa_m2"] = np.asarray(
        body_surface_area_m2(_wide(numbers["height_cm"]), _wide(numbers["weight_kg"]), bsa)
    ).astype(np.float32)
    index = lv_mass_index_g_m2(_wide(numbers["lvm_pred_g"]), _wide(numbers["bsa_m2"]))
    numbers["lvmi_pred_g_m2"] = np.asarray(index).astype(np.float32)
    amplitudes = np.array([row.amplitudes for row in rows], np.float32).reshape(len(rows), len(AMPLITUDES))
    numbers.update({name: amplitudes[:, i] for i, name in enumerate(AMPLITUDES)})
    columns: dict[str, Any] = {name: _nullable(values) for name, values in numbers.items()}
    columns["lvh_pred"] = _three_valued(lvh_arrays(_wide(numbers["lvmi_pred_g_m2"]), sex, preset))
    columns.update(_rule_columns(numbers, sex))
    columns["sex"] = [_SEX_TEXT.get(code) for code in sex.tolist()]
    for name in ("ecg_id", "participant_id", "recorded_at", "model_id", *MEASURERS, "signal_sha256"):
        columns[name] = [getattr(row, name) for row in rows]
    for name in RhythmCodes._fields:
        columns[name] = [getattr(row.rhythm, name) for row in rows]
    columns["quality_flags"] = [
        (*row.quality_flags, *((QualityFlag.INDEX_UNKNOWN.value,) if unknown else ()))
        for row, unknown in zip(rows, np.isnan(numbers["lvmi_pred_g_m2"]).tolist(), strict=True)
    ]
    if recalibration is not None:
        is_its_model = np.array([row.model_id == recalibration.model_id for row in rows], dtype=bool)
        columns.update(_recalibrated(numbers, sex, is_its_model, preset, recalibration))
    return table_of(schemas.predictions_schema(recalibrated=recalibration is not None), columns)


def _recalibrated(
    numbers: dict[str, NDArray[np.float32]],
    sex: NDArray[np.int8],
    is_its_model: NDArray[np.bool_],
    preset: LvhPreset,
    recalibration: Recalibration,
) -> dict[str, Any]:
    """Return the columns of `schemas.RECALIBRATED`."""
    made = recalibration.apply(_wide(numbers["lvm_pred_g"]), sex, _wide(numbers["lvh_score"]))
    names = ("lvm_recal_g", "lvm_lo_g", "lvm_hi_g", "lvh_probability")
    wide = {name: np.where(is_its_model, getattr(made, name), np.nan) for name in names}
    wide["lvmi_recal_g_m2"] = np.asarray(lv_mass_index_g_m2(wide["lvm_recal_g"], _wide(numbers["bsa_m2"])))
    narrow = {name: values.astype(np.float32) for name, values in wide.items()}
    lvh = lvh_arrays(_wide(narrow["lvmi_recal_g_m2"]), sex, preset)
    return {name: _nullable(values) for name, values in narrow.items()} | {"lvh_recal": _three_valued(lvh)}


def _rule_columns(numbers: dict[str, NDArray[np.float32]], sex: NDArray[np.int8]) -> dict[str, Any]:
    measurements = {name: _wide(numbers[name]) for name in AMPLITUDES}
    wanted = ("r_avl_uv", "s_v1_uv", "s_v3_uv", "r_v5_uv", "r_v6_uv")
    rules = ecg_rules(**{name: measurements[name] for name in wanted}, is_male=sex)
    more = more_ecg_rules(measurements, is_male=sex)
    return {name: _three_valued(getattr(one, name)) for one in (rules, more) for name in one.__slots__}


def _wide(values: NDArray[np.float32]) -> NDArray[np.float64]:
    return values.astype(np.float64)


def _nullable(values: NDArray[np.float32]) -> pa.Array:
    return pa.array(values, pa.float32(), mask=np.isnan(values))


def _three_valued(answer: ThreeValued) -> pa.Array:
    return pa.array(answer.value, pa.bool_(), mask=~answer.known)


_PREFETCH_CHUNKS: Final = 2
_STAGES: Final = (*WAITS, "total")


@dataclass
class ScoreContext:
    """What scoring units needs beside the units; made once per process."""

    settings: ScoreSettings  # of the plan
    reader: UnitReader  # reads units
    predictors: Sequence[LvmPredictor]  # the model, then the fallback model if there is one
    executor: ThreadPoolExecutor  # runs batches, one thread per core
    n_in_flight: int  # batches submitted at most before a unit waits
    participants: ParticipantTable | None  # the joined table, or None
    exclusions: Exclusions  # people who are not scored
    provenance: Mapping[str, Any]  # what the footers of all units say

    def begin(self, unit: Unit, meanwhile: Callable[[], None] = lambda: None) -> Callable[[], UnitSummary]:
        """Read and check a unit and give all of it to the engine; return what does the rest.

        The rest waits for the last batches and commits the unit: done while the next unit begins,
        it leaves the engine no gap between the two. Of a committed unit it is what that says.
        `meanwhile` is called whenever the engine has enough to do, before waiting for it.

        Invariant: `n_read == n_done + n_rejected`.
        """
        files = unit_files(self.settings.output, "score", unit.name)
        done = read_commit(self.settings.storage, files, unit)
        if done is not None:
            return lambda: done
        work = _UnitWork(self, folder_digest_of(unit.pieces), meanwhile)
        with _adding_to(work.stage_s, "total"), self.reader.open(unit) as chunks:
            for chunk in _timed(prefetch(chunks, _PREFETCH_CHUNKS), work.stage_s, "reader_wait"):
                work.add(chunk)
            work.submit_rest()
        return lambda: _finish_unit(unit, self, files, work)

    def table(self, rows: Sequence[ScoredRow]) -> pa.Table:
        """Return the predictions table of scored rows."""
        settings = self.settings
        return predictions_table(rows, settings.bsa, settings.lvh_preset, settings.recalibration_content)


def _finish_unit(unit: Unit, context: ScoreContext, files: UnitFiles, work: _UnitWork) -> UnitSummary:
    with _adding_to(work.stage_s, "total"):
        scored = work.finish()
        rejected = reasons_of(work.rejects)
        summary = UnitSummary(
            unit.number, work.n_read, len(scored), rejected, work.amplitudes, None, work.stage_s, work.sources
        )
        with _adding_to(work.stage_s, "writer_wait"):
            table = context.table(scored)
            commit_unit(
                context.settings.storage,
                files,
                unit,
                summary,
                rejects_table(work.rejects, "score"),
                provenance=context.provenance,
                result_sha256=rows_sha256(table),
                encode=partial(parquet_bytes, table),
            )
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


class _Computed(NamedTuple):
    """What a batch gives, for each of its ECGs: the hash is that of the signal."""

    predictions: Predictions
    hashes: list[str]
    measurements: list[Measured]


class _Batch:
    """A batch being filled: its model, its rows, their places in the unit, and its arrays."""

    def __init__(self, model: int, size: int, n_samples: int) -> None:
        self.model = model
        self.rows: list[EcgRow] = []
        self.places: list[int] = []
        self.counts = np.empty((size, len(LEADS_12), n_samples), dtype=np.int16)
        self.uv_per_count = np.empty(size, dtype=np.float32)
        self.age_years = np.empty(size, dtype=np.float32)
        self.sex = np.empty(size, dtype=np.int8)
        self.bmi_kg_m2 = np.empty(size, dtype=np.float32)

    def compute(self, predictor: LvmPredictor, measure: Measure) -> _Computed:
        """Return what a batch gives for each of its ECGs; runs in a thread of the engine.

        Whatever reads all samples is done here together: they are in this core's cache then.
        """
        n = len(self.rows)
        for own, row in zip(self.counts, self.rows, strict=False):
            own[:] = row.counts
        hashes = [signal_sha256(row.counts, row.uv_per_count) for row in self.rows]
        measurements = [measured(row, measure) for row in self.rows]
        demographics = (self.age_years[:n], self.sex[:n], self.bmi_kg_m2[:n]) if predictor.needs_demographics else ()
        predictions = predictor.predict_batch(self.counts[:n], self.uv_per_count[:n], *demographics)
        return _Computed(predictions, hashes, measurements)

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
    refused: dict[int, Reject] = field(default_factory=dict)  # for their mass, by place in `scored`
    amplitudes: AmplitudeHistogram = field(default_factory=AmplitudeHistogram)
    sources: SourceAmplitudes = field(default_factory=SourceAmplitudes)
    filling: dict[int, _Batch] = field(default_factory=dict)
    pending: dict[Future[_Computed], _Batch] = field(default_factory=dict)
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
        chunk.rows = with_signal_flags(chunk.rows, self.context.settings.signal_flags)
        steps_uv = np.array([row.uv_per_count for row in chunk.rows], dtype=np.float32)
        judgements = judge_ecgs(counts_of(chunk.rows), steps_uv)
        measured = [row for row, its in zip(chunk.rows, judgements, strict=True) if its.has_signal]
        self._note_sources(measured, chunk)
        people = demographics_of(self.context.participants, chunk.rows)
        for i, row in enumerate(chunk.rows):
            problem = judgements[i].rejection
            if self.context.exclusions.hits(row.ecg_id, people.participant_id[i]):
                self.rejects.append(excluded_reject())
            elif problem is not None:
                self.rejects.append(row.rejected(problem.reason.value, problem.message, people.participant_id[i]))
            elif (reject := self._flag_reject(row, people, i, judgements[i].flags)) is not None:
                self.rejects.append(reject)
            else:
                self._route(row, people, i, judgements[i].flags)

    def _flag_reject(self, row: EcgRow, people: Demographics, i: int, flags: tuple[str, ...]) -> Reject | None:
        """Return the reject of an ECG for a flag that is known before it is predicted."""
        unwanted = self.context.settings.reject_flags
        if not unwanted:
            return None
        known = [*row.quality_flags, *flags, *people.flags[i]]
        if np.isnan(people.height_cm[i]) or np.isnan(people.weight_kg[i]):
            known.append(QualityFlag.INDEX_UNKNOWN.value)
        return flag_reject(row, known, unwanted, people.participant_id[i])

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
        self.rejects.append(row.rejected(refusal.reason.value, refusal.message, people.participant_id[i]))

    def _enqueue(self, k: int, row: EcgRow, people: Demographics, i: int, flags: tuple[str, ...]) -> None:
        predictor = self.context.predictors[k]
        batch = self.filling.get(k)
        if batch is None:
            spare = self.spare.get(k)
            batch = spare.pop() if spare else _Batch(k, predictor.batch_size, row.counts.shape[1])
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
        future = self.context.executor.submit(batch.compute, self.context.predictors[k], self.context.settings.measure)
        self.pending[future] = batch
        while len(self.pending) >= self.context.n_in_flight:
            with _adding_to(self.stage_s, "total", -1):  # what is done there is another unit's time
                self.meanwhile()
            self._collect()

    def _collect(self) -> None:
        with _adding_to(self.stage_s, "engine_wait"):
            done, _ = wait(self.pending, return_when=FIRST_COMPLETED)
        for future in done:
            predictions, hashes, measurements = future.result()
            batch = self.pending.pop(future)
            odd_mass = MASS_RANGE_G.is_outside(predictions.lvm_pred_g)
            for j, place in enumerate(batch.places):
                row = self.scored[place]
                row.lvm_pred_g = float(predictions.lvm_pred_g[j])
                if odd_mass[j]:
                    row.quality_flags = (*row.quality_flags, QualityFlag.MASS_IMPLAUSIBLE.value)
                    unwanted = self.context.settings.reject_flags
                    reject = flag_reject(batch.rows[j], row.quality_flags, unwanted, row.participant_id)
                    if reject is not None:
                        self.refused[place] = reject
                row.lvh_score = float(predictions.lvh_score[j])
                row.signal_sha256 = hashes[j]
                row.amplitudes, row.measured_by, row.qrs_measured_by = measurements[j]
            batch.clear()
            self.spare.setdefault(batch.model, []).append(batch)

    def submit_rest(self) -> None:
        """Send what is left to its models, in padded batches."""
        for k in sorted(self.filling):
            self._submit(k)

    def finish(self) -> list[ScoredRow]:
        """Wait for the last batches and return the rows with their results that are not refused."""
        while self.pending:
            self._collect()
        # In the order of the unit, whichever batch was done first.
        self.rejects.extend(self.refused[place] for place in sorted(self.refused))
        return [row for place, row in enumerate(self.scored) if place not in self.refused]
