"""The ingest job: files of devices in, checked ECG Parquet at 500 Hz out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from beam_jobs.reading.blocks import AMPLITUDES, MEASURERS, EcgRow, Reject, amplitudes_uv, counts_of, prefetch
from beam_jobs.reading.flagged import Flagged
from beam_jobs.reading.layout import load_layout
from beam_jobs.reading.measured import Measure, measured
from beam_jobs.reading.unit_reader import UnitReader
from beam_jobs.reading.units import Unit, UnitSummary
from beam_jobs.run.commit import (
    EcgParquetWriter,
    commit_unit,
    lead_columns,
    read_commit,
    reasons_of,
    rejects_table,
    table_of,
    unit_files,
)
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.order import WorkOrder
from beam_jobs.run.plan import Plan
from beam_jobs.run.report import folder_digest_of, software_versions, source_amplitudes
from beam_jobs.run.resources import processes_in_free_memory, require_memory
from beam_jobs.run.settings import IngestSettings
from beam_jobs.runners.flow import Job, run_job
from lvm_core.errors import UsageError
from lvm_core.signal.canonical import signal_sha256
from lvm_core.signal.ecg import RhythmCodes
from lvm_core.signal.scale import AmplitudeHistogram, SourceAmplitudes
from lvm_core.tables import schemas
from models.machine.host import available_cores

_BASE_MB = 350
_PER_ECG_MB = 0.1  # the packed file, twice while it is written
_LEAST_ECGS_OF_A_PROCESS = 500  # 2 to 5 s of work; a process needs 2 s to start


@dataclass(frozen=True)
class IngestJob:
    """The ingest job as it travels to workers."""

    order: WorkOrder
    units_at_once: int = 1
    kind: str = IngestSettings.kind

    def make_worker(self) -> IngestWorker:
        """Read the settings and the people to leave out."""
        order, planned = self.order, self.order.settings()
        settings = IngestSettings.from_plan(planned, output=order.folder.uri, storage=order.folder.storage)
        return IngestWorker(settings, planned, _reader(order, settings, planned), order.excluded())


def _reader(order: WorkOrder, settings: IngestSettings, planned: Mapping[str, Any]) -> UnitReader:
    return settings.reader(order.roots, order.folder.index(), order.pseudonyms(planned))


@dataclass(frozen=True)
class IngestWorker:
    """What ingesting units needs beside the units."""

    settings: IngestSettings
    planned: Mapping[str, Any]  # the settings as plan.json holds them
    reader: UnitReader  # reads units
    exclusions: Exclusions  # people who are not ingested

    def begin(self, unit: Unit, meanwhile: Callable[[], None]) -> Callable[[], UnitSummary]:
        """Ingest one unit and commit its files: there is no engine to be kept busy."""
        summary = ingest_unit(unit, self)
        return lambda: summary


def ingest_unit(unit: Unit, worker: IngestWorker) -> UnitSummary:
    """Ingest a unit and commit its files; return at once what a committed unit says.

    Invariant: `n_read == n_done + n_rejected`.
    """
    storage = worker.settings.storage
    files = unit_files(worker.settings.output, "ingest", unit.name)
    done = read_commit(storage, files, unit)
    if done is not None:
        return done
    n_read = n_done = 0
    rejects: list[Reject] = []
    writer = EcgParquetWriter()
    amplitudes, sources = AmplitudeHistogram(), SourceAmplitudes()
    folder_of = folder_digest_of(unit.pieces)
    with worker.reader.open(unit) as chunks:
        for chunk in prefetch(chunks, 2):
            n_read += chunk.n_read
            kept = worker.exclusions.of_chunk(chunk)
            flagged = Flagged.of(kept.rows, worker.settings.signal_flags, worker.settings.reject_flags)
            rejects.extend(kept.rejects + flagged.rejects)
            if flagged.rows:
                writer.write(ecg_table(flagged.rows, worker.settings.measure))
                n_done += len(flagged.rows)
            rows_uv = amplitudes_uv(kept.rows)
            amplitudes = amplitudes.add(rows_uv)
            sources = sources.merge(source_amplitudes(kept.rows, rows_uv, kept.rejects, folder_of))
    summary = UnitSummary(unit.number, n_read, n_done, reasons_of(rejects), amplitudes, sources=sources)
    commit_unit(
        storage,
        files,
        unit,
        summary,
        rejects_table(rejects, "ingest"),
        provenance={"settings": dict(worker.planned), "versions": software_versions()},
        result_sha256=writer.rows_sha256(),
        encode=writer.close,
    )
    return summary


def ecg_table(rows: Sequence[EcgRow], measure: Measure = Measure.FILES) -> pa.Table:
    """Return decoded ECGs as the canonical ECG table; `measure` says which are measured here."""
    schema = schemas.ECGS.arrow
    columns: dict[str, Any] = {**lead_columns(counts_of(rows))}
    found = [measured(row, measure) for row in rows]
    amplitudes = np.array([one.amplitudes for one in found], dtype=np.float32)
    for i, name in enumerate(AMPLITUDES):
        columns[name] = pa.array(amplitudes[:, i], mask=np.isnan(amplitudes[:, i]))
    for name in MEASURERS:
        columns[name] = [getattr(one, name) for one in found]
    columns["signal_sha256"] = [signal_sha256(row.counts, row.uv_per_count) for row in rows]
    for name in RhythmCodes._fields:
        columns[name] = [getattr(row.rhythm, name) for row in rows]
    others = {name: [getattr(row, name) for row in rows] for name in schema.names if name not in columns}
    return table_of(schema, columns | others)


class _Ingest(Job):
    """What the ingest job adds to the flow of a run: scale and people are judged before scoring."""

    def __init__(self, settings: IngestSettings) -> None:
        self.layout = load_layout(settings.storage, settings.layout) if settings.layout else None
        if self.layout is not None and not self.layout.is_of_arrays:
            raise UsageError(
                f"--layout {settings.layout} describes Parquet, which lvm-ai score reads directly; expected a layout "
                "of arrays (signal: array: NAME)"
            )
        self.settings = replace(settings, layout_content=self.layout, **self.read_keys(settings))

    def unit_job(self, plan: Plan, order: WorkOrder) -> IngestJob:
        """Return the job as it travels to workers."""
        if order.in_launcher:
            require_memory(_expected_memory_mb(plan))
        return IngestJob(order)

    def n_processes(self, plan: Plan) -> int:
        """Return one a core of --threads, as far as memory, units and ECGs are worth another."""
        units = plan.shard_units(*self.settings.shard)
        worth = sum(unit.n_ecgs for unit in units) // _LEAST_ECGS_OF_A_PROCESS
        fit = processes_in_free_memory(_expected_memory_mb(plan))
        return max(1, min(self.settings.threads or available_cores(), fit, len(units), worth))

    def describe(self, plan: Plan) -> list[str]:
        """Return lines for --dry-run."""
        n_processes = self.settings.processes or self.n_processes(plan)
        memory = f"about {_expected_memory_mb(plan) / 1000:.1f} GB a process"
        return [f"processes here: {n_processes}", f"expected memory: {memory}"]


def _expected_memory_mb(plan: Plan) -> float:
    return _BASE_MB + _PER_ECG_MB * max((unit.n_ecgs for unit in plan.units), default=0)


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai ingest`."""
    return run_job(_Ingest(IngestSettings.parse(argv)), argv)


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("ingest"))
