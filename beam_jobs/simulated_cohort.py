"""The files of a synthetic cohort: ECGs of devices or ECG Parquet, and the tables of its people."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from beam_jobs.reading import local_files
from beam_jobs.reading.blocks import MEASURERS
from beam_jobs.run.commit import EcgParquetWriter, lead_columns, table_of
from lvm_core.medicine.ecg_rules import ecg_rules
from lvm_core.medicine.lvh import lvh_arrays
from lvm_core.signal.canonical import signal_sha256
from lvm_core.signal.ecg import Measurements, RhythmCodes
from lvm_core.synthetic.device_files import WRITERS
from lvm_core.synthetic.ecgs import SAMPLING_RATE_HZ, SyntheticEcgs, ecgs_of
from lvm_core.synthetic.outcomes import (
    BLOCK,
    DEATH,
    DISEASES,
    OUTCOMES_TRUTH,
    SyntheticOutcomes,
    drawn_amplitudes_uv,
    drawn_predictions,
    of_blocks,
    synthetic_outcomes,
)
from lvm_core.synthetic.people import CONDUCTIONS, MISPLACEMENTS, REGIONS, RHYTHMS, SyntheticPeople, synthetic_people
from lvm_core.synthetic.records import (
    CODE_SYSTEMS,
    CODE_TEXTS,
    FOLLOW_UP_ENDS,
    SOURCES,
    registered_deaths,
    synthetic_moves,
    synthetic_records,
)
from lvm_core.tables import schemas

FORMATS: Final = tuple(WRITERS)
PARQUET_ROWS: Final = 1024
RAW_PEOPLE: Final = 128
# The key of an ECG in files and tables: field 20205 of UK Biobank with a synthetic participant.
ID_PATTERN: Final = r"(?:^|/|!)(?P<ecg_id>(?P<participant_id>[^/!_]+)_20205_\d+_\d+)\.[^./!]+$"
_MEASURED_BY: Final = "synthetic"
_FIRST_INSTANCE: Final = 2  # the imaging visit; 3 is the repeat
_AT_ONCE: Final = 256  # ECGs in memory: 60 MB with their table
_REPEAT_STREAM: Final = 15
_REPEAT_SHARE: Final = 0.08
_REPEAT_WITHIN_DAYS: Final = 800
_SLAB: Final = 64 * 1024  # people at once in tables: a few hundred MB
_TEXTS: Final = {"rhythm": RHYTHMS, "conduction": CONDUCTIONS, "misplacement": MISPLACEMENTS}
_SEXES: Final = ("female", "male")
_RULES: Final = ("rule_avl", "rule_sokolow_lyon", "rule_cornell", "any_ecg_rule")

# ECGs


@dataclass(frozen=True, slots=True)
class EcgPart:
    """The ECGs of some people of a cohort, as one process writes them."""

    output: Path  # folder of the cohort
    seed: int  # of the cohort
    start: int  # index of the first person
    stop: int  # index after the last
    formats: tuple[str, ...]  # of `FORMATS`, by turns of the index; empty: one ECG Parquet file


def has_repeat(people: SyntheticPeople) -> NDArray[np.bool_]:
    """Return (n,): True for people with a second ECG two years later, who are alive then."""
    draws = of_blocks(people, _REPEAT_STREAM, lambda rng: {"repeats": rng.random(BLOCK) < _REPEAT_SHARE})
    outcomes = synthetic_outcomes(people)
    then = people.recorded_at.astype("datetime64[D]") + _REPEAT_WITHIN_DAYS
    return np.asarray(draws["repeats"] & (then < outcomes.date[DEATH]) & ~(then >= outcomes.ltfu_date))


def write_part(part: EcgPart) -> int:
    """Write the ECGs of a part; return how many.

    Invariant: the bytes depend on the seed, the people and the formats alone.
    """
    writer = None if part.formats else EcgParquetWriter()
    n_ecgs = 0
    for start in range(part.start, part.stop, _AT_ONCE):
        people = synthetic_people(min(_AT_ONCE, part.stop - start), part.seed, start)
        again = _chosen(people, np.flatnonzero(has_repeat(people)))
        for repeat, chosen in enumerate((people, again)):
            if writer is None:
                _write_raw(part, chosen, repeat)
            elif len(chosen):
                writer.write(_ecg_table(ecgs_of(chosen, repeat), repeat))
            n_ecgs += len(chosen)
    if writer is not None:
        footer = {"synthetic": True, "seed": part.seed, "people": [part.start, part.stop], "n_done": n_ecgs}
        name = f"part-{part.start // PARQUET_ROWS:05d}.parquet"
        data = writer.close(json.dumps(footer).encode())
        local_files.write_whole(part.output / "ecg" / name, data, private=False)
    return n_ecgs


def _ecg_id(participant_id: str, repeat: int) -> str:
    return f"{participant_id}_20205_{_FIRST_INSTANCE + repeat}_0"


def _chosen(people: SyntheticPeople, rows: NDArray[np.int64]) -> SyntheticPeople:
    """Return the people in some rows."""
    columns = {f.name: getattr(people, f.name) for f in fields(people) if f.name != "seed"}
    taken: dict[str, Any] = {
        name: tuple(values[i] for i in rows) if isinstance(values, tuple) else values[rows]
        for name, values in columns.items()
    }
    return SyntheticPeople(seed=people.seed, **taken)


def _ecg_table(ecgs: SyntheticEcgs, repeat: int) -> pa.Table:
    n = len(ecgs.participant_id)
    columns: dict[str, Any] = {**lead_columns(ecgs.counts)}
    for name, values in ecgs.measurements.items():
        columns[name] = pa.array(values.astype(np.float32), mask=np.isnan(values))
    measured = ~np.isnan(ecgs.measurements["qrs_duration_ms"])
    steps = ecgs.uv_per_count.tolist()
    columns |= {
        "ecg_id": [_ecg_id(person, repeat) for person in ecgs.participant_id],
        "uv_per_count": steps,
        "participant_id": list(ecgs.participant_id),
        "recorded_at": ecgs.recorded_at.tolist(),
        **{name: [_MEASURED_BY if known else None for known in measured] for name in MEASURERS},
        **dict.fromkeys(RhythmCodes._fields, [None] * n),
        "source_uri": [None] * n,
        "source_format": [_MEASURED_BY] * n,
        "source_sampling_rate_hz": [float(SAMPLING_RATE_HZ)] * n,
        "signal_sha256": [signal_sha256(*ecg) for ecg in zip(ecgs.counts, steps, strict=True)],
        "quality_flags": [[]] * n,
    }
    return table_of(schemas.ECGS.arrow, columns)


def _write_raw(part: EcgPart, people: SyntheticPeople, repeat: int) -> None:
    """Write the device files of each person; `simulation.json` says when all are there."""
    ecgs = ecgs_of(people, repeat)
    for row, index in enumerate(people.index.tolist()):
        name, person = part.formats[index % len(part.formats)], ecgs.participant_id[row]
        files = WRITERS[name](
            _ecg_id(person, repeat),
            ecgs.counts[row],
            float(ecgs.uv_per_count[row]),
            participant_id=person,
            recorded_at=ecgs.recorded_at[row].item(),
            measurements=_measurements(ecgs, row),
        )
        for file_name, data in files.items():
            (part.output / "raw" / name / file_name).write_bytes(data)


def _measurements(ecgs: SyntheticEcgs, row: int) -> Measurements:
    values = {name: float(column[row]) for name, column in ecgs.measurements.items()}
    if np.isnan(values["qrs_duration_ms"]):
        return Measurements()
    return Measurements(**values, measured_by=_MEASURED_BY, qrs_measured_by=_MEASURED_BY)


# Tables


def write_tables(folder: Path, n: int, seed: int, other_records: float, drawn_r: float | None) -> dict[str, int]:
    """Write every table of a cohort of `n` people; return the numbers of rows and cases, by name.

    `other_records` is the mean number of records of other diseases for each person. Predictions are
    drawn so that they correlate with the truth by `drawn_r`; None draws none.
    """
    files: dict[str, _TableFile] = {}
    counts: Counter[str] = Counter()
    for start in range(0, n, _SLAB):
        people = synthetic_people(min(_SLAB, n - start), seed, start)
        outcomes = synthetic_outcomes(people)
        tables = {
            "participants.csv": _participants(people),
            "events.csv": _events(people, other_records),
            "deaths.csv": _deaths(people, outcomes),
            "cmr.csv": _cmr(people),
            "truth.parquet": _truth(people, outcomes),
        }
        if drawn_r is not None:
            tables["predictions_drawn.parquet"] = _drawn(people, seed, drawn_r)
        for name, table in tables.items():
            files.setdefault(name, _TableFile(name, table.schema)).write(table)
            counts[name] += table.num_rows
        counts.update(_cases(people, outcomes))
    ends = _follow_up_ends()
    files["follow_up_ends.csv"] = _TableFile("follow_up_ends.csv", ends.schema)
    files["follow_up_ends.csv"].write(ends)
    for name, file in files.items():
        local_files.write_whole(folder / name, file.close(), private=False)
    return dict(counts)


class _TableFile:
    """Makes the bytes of a CSV file, where null is empty, or of a Parquet file, from tables."""

    def __init__(self, name: str, schema: pa.Schema) -> None:
        self._sink = pa.BufferOutputStream()
        if name.endswith(".csv"):
            self._sink.write(f"{','.join(schema.names)}\n".encode())
            # None of our texts holds a comma or a quote; writing one would be refused.
            options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
            self._writer: Any = pa_csv.CSVWriter(self._sink, schema, write_options=options)
        else:
            self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd")

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table)

    def close(self) -> bytes:
        self._writer.close()
        return bytes(self._sink.getvalue())


def _cases(people: SyntheticPeople, outcomes: SyntheticOutcomes) -> dict[str, int]:
    """Return true cases of each disease before and after the index ECG, however far after."""
    index_date = people.recorded_at.astype("datetime64[D]")
    cases = {}
    for name in DISEASES:
        happens, before = outcomes.happens(name), outcomes.date[name] <= index_date
        cases[f"{name}_prevalent"] = int((happens & before).sum())
        cases[f"{name}_later"] = int((happens & ~before).sum())
    return cases


def _participants(people: SyntheticPeople) -> pa.Table:
    """Return what a cohort knows about its people at the index visit."""
    return pa.table(
        {
            "participant_id": list(people.participant_id),
            "sex": _take(_SEXES, people.sex_code),
            "birth_date": pa.array(people.birth_date),
            "height_cm": people.height_cm,
            "weight_kg": people.weight_kg,
            "body_size_date": pa.array(people.recorded_at.astype("datetime64[D]")),
            "region": people.region.tolist(),
        }
        | {name: getattr(people, name) for name in ("sbp_mmhg", "antihypertensives", "diabetes", "smoking")}
    )


def _events(people: SyntheticPeople, other_records: float) -> pa.Table:
    """Return the coded events, in no order within a person."""
    records = synthetic_records(people, other_records)
    return pa.table(
        {
            "participant_id": _take(people.participant_id, np.searchsorted(people.index, records.index)),
            "date": pa.array(records.date),
            "code": _take(CODE_TEXTS, records.code),
            "system": _take(CODE_SYSTEMS, records.code),
            "source": _take(SOURCES, records.source),
        }
    )


def _deaths(people: SyntheticPeople, outcomes: SyntheticOutcomes) -> pa.Table:
    """Return registered deaths and losses to follow-up of the people who have one."""
    death_date, ltfu_date = registered_deaths(people, outcomes)
    rows = np.flatnonzero(~np.isnat(death_date) | ~np.isnat(ltfu_date))
    dates = {"death_date": pa.array(death_date[rows]), "ltfu_date": pa.array(ltfu_date[rows])}
    return pa.table({"participant_id": _take(people.participant_id, rows), **dates})


def _cmr(people: SyntheticPeople) -> pa.Table:
    """Return the CMR examinations."""
    rows = np.flatnonzero(people.has_cmr)
    return pa.table(
        {
            "participant_id": _take(people.participant_id, rows),
            "cmr_date": pa.array(people.cmr_date[rows]),
            "lvm_cmr_g": people.lvm_cmr_g[rows],
        }
    )


def _follow_up_ends() -> pa.Table:
    """Return the last day of records of each source in each nation."""
    regions, sources = zip(*FOLLOW_UP_ENDS, strict=True)
    end_date = pa.array([date.item() for date in FOLLOW_UP_ENDS.values()], pa.date32())
    release = ["synthetic-1"] * len(end_date)
    return pa.table({"region": regions, "source": sources, "end_date": end_date, "release": release})


def _truth(people: SyntheticPeople, outcomes: SyntheticOutcomes) -> pa.Table:
    """Return everything that is true of each person, also what no register knows.

    Ages are attained ages in exact years; null for a disease that death comes before.
    """
    columns: dict[str, Any] = {}
    for name in (field.name for field in fields(people)):
        values = getattr(people, name)
        if name == "sex_code":
            columns["sex"] = _take(_SEXES, values)
        elif name in _TEXTS:
            columns[name] = _take(_TEXTS[name], values)
        elif name != "seed":
            columns[name] = pa.array(list(values) if isinstance(values, tuple) else values)
    columns["index_age_years"] = outcomes.index_age_years
    for name in OUTCOMES_TRUTH:
        never = ~outcomes.happens(name) if name != DEATH else None
        columns[f"{name}_age_years"] = pa.array(outcomes.age_years[name], mask=never)
        columns[f"{name}_date"] = pa.array(outcomes.date[name], mask=never)
    moves = synthetic_moves(people)
    columns["ltfu_date"] = pa.array(outcomes.ltfu_date)
    columns["move_date"] = pa.array(moves.date)
    columns["region_after_move"] = _take(REGIONS, moves.region)
    return pa.table(columns)


def _drawn(people: SyntheticPeople, seed: int, r: float) -> pa.Table:
    """Return predictions that no model made, as a table of predictions: one ECG per person."""
    lvm_pred_g = drawn_predictions(people, seed, r)
    lvmi_pred_g_m2 = lvm_pred_g / people.bsa_m2
    n = len(people)
    known: dict[str, Any] = {
        "ecg_id": [_ecg_id(person, 0) for person in people.participant_id],
        "participant_id": list(people.participant_id),
        "recorded_at": pa.array(people.recorded_at).cast(pa.timestamp("us")),
        "model_id": [f"drawn-r{r:g}"] * n,
        "lvm_pred_g": lvm_pred_g,
        "sex": _take(_SEXES, people.sex_code),
        "lvmi_pred_g_m2": lvmi_pred_g_m2,
        "lvh_pred": lvh_arrays(lvmi_pred_g_m2, people.sex_code).value,
        "quality_flags": [[]] * n,
        "measured_by": ["drawn"] * n,
    }
    known |= {n: getattr(people, n) for n in ("age_years", "bmi_kg_m2", "height_cm", "weight_kg", "bsa_m2")}
    amplitudes_uv = drawn_amplitudes_uv(people, seed)
    rules = ecg_rules(**amplitudes_uv, is_male=people.sex_code)
    known |= amplitudes_uv | {name: getattr(rules, name).value for name in _RULES}
    schema = schemas.PREDICTIONS.arrow
    arrays = [_typed(known.get(field.name), field.type, n) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _typed(values: Any, kind: pa.DataType, n: int) -> pa.Array:
    if values is None:
        return pa.nulls(n, kind)
    return pa.array(values).cast(kind) if isinstance(values, np.ndarray) else pa.array(values, kind)


def _take(texts: tuple[str, ...], places: NDArray[Any]) -> pa.Array:
    return pa.array(texts, pa.string()).take(pa.array(places.astype(np.int64)))
