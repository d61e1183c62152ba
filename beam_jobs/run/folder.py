"""The run folder: what is finished, what is written at the end, what a run reports."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beam_jobs.reading.index import RecordIndex
from beam_jobs.reading.parquet_input import read_table
from beam_jobs.reading.storage import Storage, join
from beam_jobs.reading.units import Unit, UnitSummary, merge_summaries
from beam_jobs.run.commit import REJECTS_FOLDER, RESULT_FOLDERS, UnitFiles, read_commit, unit_files
from beam_jobs.run.plan import PLAN_NAME, Plan
from lvm_core.errors import LvmError, UsageError
from lvm_core.tables import ParticipantTable, schemas
from lvm_core.wording import counted

T = TypeVar("T")

SUCCESS_NAME: Final = "_SUCCESS"
REPORT_NAME: Final = "run_report.json"
REPORTS_FOLDER: Final = "reports"
WORK_FOLDER: Final = "work"
"""What only workers read: digests of excluded people, models, checked networks."""
SHARD_PREFIX: Final = "shard-"
UNDER_WAY_PREFIX: Final = "under-way-"
PARTICIPANTS_NAME: Final = "participants.parquet"
INDEX_NAME: Final = "index.parquet"
DUPLICATES_NAME: Final = "duplicates.parquet"
WITHDRAWN_NAME: Final = "withdrawn.json"
_FOLDERS: Final = (*RESULT_FOLDERS.values(), REJECTS_FOLDER, REPORTS_FOLDER, WORK_FOLDER)
_FILES: Final = (SUCCESS_NAME, REPORT_NAME, DUPLICATES_NAME, PARTICIPANTS_NAME, INDEX_NAME, WITHDRAWN_NAME, PLAN_NAME)
_READERS: Final = 16
_SHOWN_FOREIGN: Final = 3


@dataclass(frozen=True)
class RunFolder:
    """A run folder and how to reach it."""

    storage: Storage
    uri: str

    def path(self, *names: str) -> str:
        """Return the URI of something in the folder."""
        return join(self.uri, *names)

    def load_plan(self) -> Plan | None:
        """Return the plan; None where there is none."""
        if not self.storage.is_file(self.path(PLAN_NAME)):
            return None
        return Plan.from_bytes(self.storage.read_bytes(self.path(PLAN_NAME)))

    def require_plan(self) -> Plan:
        """Return the plan; refuse a folder that is no run folder."""
        plan = self.load_plan()
        if plan is None:
            raise UsageError(
                f"{self.uri} is no run folder (no {PLAN_NAME}); expected the --output of lvm-ai score or lvm-ai ingest"
            )
        return plan

    @property
    def is_finished(self) -> bool:
        """True when the run's last step was done."""
        return self.storage.is_file(self.path(SUCCESS_NAME))

    def files(self, plan: Plan, unit: Unit) -> UnitFiles:
        """Return where a unit's files are."""
        return unit_files(self.uri, plan.kind, unit.name)

    def committed(self, plan: Plan) -> dict[int, UnitSummary]:
        """Return the summaries of all finished units by number, read from their footers."""
        names = set(self.storage.names(self.path(RESULT_FOLDERS[plan.kind])))
        there = [unit for unit in plan.units if f"{unit.name}.parquet" in names]
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(lambda unit: read_commit(self.storage, self.files(plan, unit), unit), there)
            return {s.number: s for s in found if s is not None}

    def ecgs_as_committed(self, plan: Plan, units: Sequence[Unit]) -> Callable[[], int]:
        """Return what counts the ECGs of those units that are committed from now on.

        One listing per call, wherever the workers are: a unit's file is written whole,
        last, and only with as many ECGs as were planned, so that its name says all.
        """
        uri = self.path(RESULT_FOLDERS[plan.kind])
        n_ecgs = {f"{unit.name}.parquet": unit.n_ecgs for unit in units}
        before = self.storage.modified_s(uri)  # damaged files, which will be replaced

        def count() -> int:
            now = self.storage.modified_s(uri)
            return sum(n for name, n in n_ecgs.items() if name in now and now[name] != before.get(name))

        return count

    def participants(self) -> ParticipantTable | None:
        """Return the participant table that workers join; None for a run without one."""
        uri = self.path(PARTICIPANTS_NAME)
        return ParticipantTable.from_parquet(self.storage.read_bytes(uri)) if self.storage.is_file(uri) else None

    def write_participants(self, table: ParticipantTable) -> None:
        """Write the participant table, for the user's eyes alone."""
        self.storage.write_atomic(self.path(PARTICIPANTS_NAME), table.to_parquet(), private=True)

    def index(self) -> RecordIndex | None:
        """Return the index that workers look records up in; None for a run without one."""
        uri = self.path(INDEX_NAME)
        return RecordIndex(read_table(self.storage, uri).combine_chunks()) if self.storage.is_file(uri) else None

    def write_index(self, index: RecordIndex) -> None:
        """Write the index, for the user's eyes alone."""
        sink = io.BytesIO()
        pq.write_table(index.table, sink, compression="zstd")
        self.storage.write_atomic(self.path(INDEX_NAME), sink.getvalue(), private=True)

    def write_plan(self, plan: Plan) -> None:
        """Write the plan again; with paths of a run with pseudonyms it is for its user alone."""
        self.storage.write_atomic(self.path(PLAN_NAME), plan.to_bytes(), private=plan.is_private)

    def prepare(self, kind: str, *, overwrite: bool) -> None:
        """Make the folder ready for a run of this kind, and sweep orphaned files.

        An earlier run of the same kind is removed where `overwrite` asks for it. A folder with
        other things is refused, and nothing is removed from a folder without a plan.
        """
        if self.storage.is_file(self.uri):
            raise UsageError(f"--output {self.uri} is a file; expected a folder to make")
        there = [name for name in self.storage.entries(self.uri) if not name.startswith(".")]
        has_plan = PLAN_NAME in there
        # The tables of people are written before the plan: a killed start may leave them alone.
        if not has_plan and set(there) - {PARTICIPANTS_NAME, INDEX_NAME}:
            raise UsageError(
                f"--output {self.uri} is not empty and holds no run ({', '.join(there[:3])}); "
                "expected a new or empty folder, or one that an earlier run made"
            )
        if has_plan and overwrite:
            self._remove_run(kind)
        self.sweep()

    def sweep(self) -> None:
        """Delete temporary files that killed processes left."""
        for name in _FOLDERS:
            self.storage.sweep_orphans(self.path(name))
        self.storage.sweep_orphans(self.uri)

    def _remove_run(self, kind: str) -> None:
        there = self._kind_there()
        if there not in (kind, None):
            raise UsageError(
                f"--output {self.uri} holds a run of {there}, which --overwrite of {kind} does not "
                "remove; choose another folder, or remove it yourself"
            )
        # The plan goes last: until then a killed clean-up is still seen as a run.
        self.storage.delete(self.path(SUCCESS_NAME))
        for name in _FOLDERS:
            self.storage.delete_folder(self.path(name))
        for name in _FILES:
            self.storage.delete(self.path(name))

    def _kind_there(self) -> str | None:
        """Return the kind of the run by its plan, or by its results where the plan is damaged."""
        try:
            return str(json.loads(self.storage.read_bytes(self.path(PLAN_NAME)))["kind"])
        except (ValueError, KeyError, TypeError):
            kinds = [k for k, name in RESULT_FOLDERS.items() if self.storage.names(self.path(name))]
            return kinds[0] if kinds else None

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file atomically."""
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        self.storage.write_atomic(self.path(*name.split("/")), text.encode())

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Read a JSON file; None where there is none. A damaged one is an `LvmError`."""
        uri = self.path(*name.split("/"))
        if not self.storage.is_file(uri):
            return None
        try:
            return dict(json.loads(self.storage.read_bytes(uri)))
        except (ValueError, TypeError) as error:
            cure = (
                "it holds the people who withdrew and must stay out, so no command can write it again"
                if name == WITHDRAWN_NAME
                else f"or delete it and {SUCCESS_NAME} and run the same command again, which writes it again"
            )
            raise LvmError(
                f"{name} in {self.uri} is damaged: it is no JSON object. Restore it from a copy; {cure}"
            ) from error

    def withdrawn(self) -> list[str]:
        """Return the digests of people who withdrew from this run: they must not come back."""
        return list((self.read_json(WITHDRAWN_NAME) or {}).get("id_sha256", []))

    def found_before(self) -> set[str]:
        """Return the digests of people that earlier withdrawals found in this run."""
        return set((self.read_json(WITHDRAWN_NAME) or {}).get("found_id_sha256", []))

    def foreign_problem(self, plan: Plan) -> str | None:
        """Return what to say of files beside the units' own, which look like data, or None."""
        own = {f"{unit.name}.parquet" for unit in plan.units}
        foreign = [
            f"{name}/{entry}"
            for name in (RESULT_FOLDERS[plan.kind], REJECTS_FOLDER)
            for entry in self.storage.entries(self.path(name))
            if not entry.startswith(".") and entry not in own
        ]
        if not foreign:
            return None
        shown = ", ".join(foreign[:_SHOWN_FOREIGN])
        if len(foreign) > _SHOWN_FOREIGN:
            shown += f" and {len(foreign) - _SHOWN_FOREIGN} more"
        are, them = ("is", "it") if len(foreign) == 1 else ("are", "them")
        return (
            f"{shown} {are} not of this run, but every reader of the folder reads {them} too. "
            f"Move {them} away, then run the same command again"
        )

    def reports(self, prefix: str = SHARD_PREFIX) -> dict[str, dict[str, Any]]:
        """Return the reports of all shards by file name, or the notes of workers under way."""
        names = self.storage.names(self.path(REPORTS_FOLDER))
        wanted = [n for n in names if n.startswith(prefix) and n.endswith(".json")]
        found = {name: self.read_json(f"{REPORTS_FOLDER}/{name}") for name in wanted}
        return {name: report for name, report in found.items() if report is not None}

    def read_result_columns(self, plan: Plan, columns: Sequence[str]) -> pa.Table:
        """Return columns of the result files of all units, in plan order."""
        schema = schemas.PREDICTIONS if plan.kind == "score" else schemas.ECGS
        nothing = schema.arrow.empty_table().select(columns)
        return pa.concat_tables([*self.from_results(plan, plan.units, columns, lambda table: table)] or [nothing])

    def from_results(
        self, plan: Plan, units: Iterable[Unit], columns: Sequence[str], make: Callable[[pa.Table], T]
    ) -> Iterator[T]:
        """Yield what `make` gives of these columns of each unit's result file, in order.

        `make` runs in the threads that read. Memory holds what it returns, and a few files.
        """
        wanted = [self.files(plan, unit).result for unit in units]
        with ThreadPoolExecutor(_READERS) as pool:
            yield from pool.map(lambda uri: make(read_table(self.storage, uri, columns)), wanted)


def write_duplicates(folder: RunFolder, plan: Plan) -> int:
    """Write duplicates.parquet, the recordings with identical signals; return how many.

    Memory holds 8 bytes of each ECG and the rows that may be written, never all rows: the hashes
    of all files are read first, then the files that hold a hash whose beginning is there twice.
    A recording without a hash is like no other.
    """
    found = [*folder.from_results(plan, plan.units, ["signal_sha256"], _beginnings_of_hashes)]
    repeated = _repeated(found)
    units = [unit for unit, beginnings in zip(plan.units, found, strict=True) if _is_in(beginnings, repeated).any()]
    del found
    names = [*schemas.DUPLICATES.names]
    rows = folder.from_results(plan, units, names, lambda table: _rows_among(table.select(names), repeated))
    table = pa.concat_tables([schemas.DUPLICATES.arrow.empty_table(), *rows])
    counts = pc.value_counts(table["signal_sha256"].combine_chunks())
    several = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    same = table.filter(pc.is_in(table["signal_sha256"], value_set=several))
    same = same.sort_by([("signal_sha256", "ascending"), ("ecg_id", "ascending")])
    sink = io.BytesIO()
    pq.write_table(same, sink, compression="zstd")
    folder.storage.write_atomic(folder.path(DUPLICATES_NAME), sink.getvalue())
    return int(same.num_rows)


def _beginnings_of_hashes(table: pa.Table) -> NDArray[np.uint64]:
    """Return the first 8 bytes of each hash, which is written in hexadecimal digits."""
    digits = "".join(pc.utf8_slice_codeunits(table["signal_sha256"].drop_null(), 0, 16).to_pylist())
    return np.frombuffer(bytes.fromhex(digits), dtype=">u8").astype(np.uint64)


def _repeated(beginnings: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Return the values that are there more than once, in order."""
    values = np.concatenate([np.empty(0, dtype=np.uint64), *beginnings])
    values.sort()
    return np.unique(values[1:][values[1:] == values[:-1]])


def _is_in(values: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which values are among those wanted, which are in order and may be many."""
    if not wanted.size:
        return np.zeros(values.size, dtype=np.bool_)
    places = np.minimum(np.searchsorted(wanted, values), wanted.size - 1)
    return np.asarray(wanted[places] == values)


def _rows_among(table: pa.Table, repeated: NDArray[np.uint64]) -> pa.Table:
    """Return the rows whose hash begins with one of these values."""
    table = table.filter(table["signal_sha256"].is_valid())
    return table.filter(pa.array(_is_in(_beginnings_of_hashes(table), repeated))).cast(schemas.DUPLICATES.arrow)


def count_flags(folder: RunFolder, plan: Plan) -> dict[str, int]:
    """Return how many results have each quality flag."""
    total: Counter[str] = Counter()
    for counts in folder.from_results(plan, plan.units, ["quality_flags"], _flag_counts):
        total.update(counts)
    return dict(sorted(total.items()))


def _flag_counts(table: pa.Table) -> dict[str, int]:
    counts = pc.value_counts(pc.list_flatten(table["quality_flags"].combine_chunks()))
    return {item["values"]: item["counts"] for item in counts.to_pylist()}


def reconcile(plan: Plan, summaries: Mapping[int, UnitSummary]) -> UnitSummary:
    """Add up the units of a finished run; refuse a missing unit, and a lost ECG."""
    missing = [unit.number for unit in plan.units if unit.number not in summaries]
    if missing:
        raise LvmError(f"{counted(len(missing), 'unit', 'are')} not finished, the first is {missing[0]}")
    total = merge_summaries(summaries.values())
    if total.n_read != total.n_done + total.n_rejected:
        raise LvmError(
            f"counts do not reconcile: {total.n_read} read, {total.n_done} done, "
            f"{total.n_rejected} rejected. Run lvm-ai verify to find the unit"
        )
    return total
