"""ECGs of a synthetic cohort as files: those of devices, or ECG Parquet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.random import Generator
from numpy.typing import NDArray

from beam_jobs import local_files
from beam_jobs.commit import EcgParquetWriter, table_of
from lvm_core import schemas
from lvm_core.canonical import signal_sha256
from lvm_core.ecg import Measurements
from lvm_core.formats.cardiosoft_writer import write_cardiosoft
from lvm_core.formats.muse_writer import write_muse
from lvm_core.formats.wfdb_writer import write_wfdb
from lvm_core.leads import LEADS_12
from lvm_core.synthetic import SAMPLING_RATE_HZ, SyntheticEcgs, ecgs_of
from lvm_core.synthetic_outcomes import BLOCK, DEATH, of_blocks, synthetic_outcomes
from lvm_core.synthetic_people import SyntheticPeople, synthetic_people

FORMATS: Final = ("cardiosoft", "muse", "wfdb")
PARQUET_ROWS: Final = 1024
RAW_PEOPLE: Final = 128
MEASURED_BY: Final = "synthetic"
# The key of an ECG in files and tables: field 20205 of UK Biobank with a synthetic participant.
ID_PATTERN: Final = r"(?:^|/|!)(?P<ecg_id>(?P<participant_id>[^/!_]+)_20205_\d+_\d+)\.[^./!]+$"
_FIRST_INSTANCE: Final = 2  # the imaging visit; 3 is the repeat
_AT_ONCE: Final = 256  # ECGs in memory: 60 MB with their table
_REPEAT_STREAM: Final = 15
_REPEAT_SHARE: Final = 0.08
_REPEAT_WITHIN_DAYS: Final = 800


@dataclass(frozen=True, slots=True)
class EcgPart:
    """The ECGs of some people of a cohort, as one process writes them.

    Attributes:
        output: folder of the cohort.
        seed: of the cohort.
        start: index of the first person.
        stop: index after the last.
        formats: of `FORMATS`, by turns of the index; empty: one ECG Parquet file.
    """

    output: Path
    seed: int
    start: int
    stop: int
    formats: tuple[str, ...]


def ecg_id(participant_id: str, repeat: int) -> str:
    """Return the key of an ECG, the name of its file without the ending."""
    return f"{participant_id}_20205_{_FIRST_INSTANCE + repeat}_0"


def has_repeat(people: SyntheticPeople) -> NDArray[np.bool_]:
    """Return (n,) who has a second ECG two years later; some of those who are there then."""
    chosen = of_blocks(people, _REPEAT_STREAM, _draw)["repeats"]
    outcomes = synthetic_outcomes(people)
    then = people.recorded_at.astype("datetime64[D]") + _REPEAT_WITHIN_DAYS
    return np.asarray(chosen & (then < outcomes.date[DEATH]) & ~(then >= outcomes.ltfu_date))


def _draw(rng: Generator) -> dict[str, NDArray[Any]]:
    return {"repeats": rng.random(BLOCK) < _REPEAT_SHARE}


def write_part(part: EcgPart) -> int:
    """Write the ECGs of a part; return how many.

    Invariant: the bytes depend on the seed, the people and the formats alone.
    """
    writer = None if part.formats else EcgParquetWriter()
    n_ecgs = 0
    for start in range(part.start, part.stop, _AT_ONCE):
        people = synthetic_people(min(_AT_ONCE, part.stop - start), part.seed, start)
        again = np.flatnonzero(has_repeat(people))
        for repeat, chosen in ((0, people), (1, _chosen(people, again))):
            if writer is None:
                _write_raw(part, chosen, repeat)
            elif len(chosen):
                writer.write(ecg_table(ecgs_of(chosen, repeat), repeat))
            n_ecgs += len(chosen)
    if writer is not None:
        content = {"synthetic": True, "seed": part.seed, "people": [part.start, part.stop]}
        name = f"part-{part.start // PARQUET_ROWS:05d}.parquet"
        data = writer.close(json.dumps({**content, "n_done": n_ecgs}).encode())
        local_files.write_whole(part.output / "ecg" / name, data, private=False)
    return n_ecgs


def _chosen(people: SyntheticPeople, rows: NDArray[np.int64]) -> SyntheticPeople:
    """Return some of the people, by place."""
    taken: dict[str, Any] = {}
    for name in people.__slots__:
        values = getattr(people, name)
        if name != "seed":
            listed = isinstance(values, tuple)
            taken[name] = tuple(values[i] for i in rows) if listed else values[rows]
    return SyntheticPeople(seed=people.seed, **taken)


def ecg_table(ecgs: SyntheticEcgs, repeat: int) -> pa.Table:
    """Return ECGs as the canonical table."""
    schema = schemas.ECGS.arrow
    n = len(ecgs.participant_id)
    columns: dict[str, Any] = {
        lead: pa.FixedSizeListArray.from_arrays(
            pa.array(np.ascontiguousarray(ecgs.counts[:, k]).reshape(-1)), type=schemas.LEAD_TYPE
        )
        for k, lead in enumerate(LEADS_12)
    }
    for name, values in ecgs.measurements.items():
        columns[name] = pa.array(values.astype(np.float32), mask=np.isnan(values))
    measured = ~np.isnan(ecgs.measurements["qrs_duration_ms"])
    steps = ecgs.uv_per_count.tolist()
    return table_of(
        schema,
        {
            **columns,
            "ecg_id": [ecg_id(person, repeat) for person in ecgs.participant_id],
            "uv_per_count": ecgs.uv_per_count.tolist(),
            "participant_id": list(ecgs.participant_id),
            "recorded_at": ecgs.recorded_at.tolist(),
            "measured_by": [MEASURED_BY if known else None for known in measured],
            "source_uri": [None] * n,
            "source_format": [MEASURED_BY] * n,
            "source_sampling_rate_hz": [float(SAMPLING_RATE_HZ)] * n,
            "signal_sha256": [signal_sha256(*ecg) for ecg in zip(ecgs.counts, steps, strict=True)],
            "quality_flags": [[]] * n,
        },
    )


def _write_raw(part: EcgPart, people: SyntheticPeople, repeat: int) -> None:
    """Write one file of a device for each person; `simulation.json` says when all are there."""
    ecgs = ecgs_of(people, repeat)
    for row, index in enumerate(people.index.tolist()):
        name = part.formats[index % len(part.formats)]
        for file_name, data in _device_files(ecgs, row, name, repeat).items():
            (part.output / "raw" / name / file_name).write_bytes(data)


def _device_files(ecgs: SyntheticEcgs, row: int, name: str, repeat: int) -> dict[str, bytes]:
    person, recorded_at = ecgs.participant_id[row], ecgs.recorded_at[row].item()
    stem = ecg_id(person, repeat)
    counts, uv_per_count = ecgs.counts[row], float(ecgs.uv_per_count[row])
    if name == "wfdb":
        return write_wfdb(stem, counts, uv_per_count, recorded_at=recorded_at)
    write = write_cardiosoft if name == "cardiosoft" else write_muse
    data = write(
        counts, uv_per_count, participant_id=person, recorded_at=recorded_at, measurements=_measurements(ecgs, row)
    )
    return {f"{stem}.xml": data}


def _measurements(ecgs: SyntheticEcgs, row: int) -> Measurements:
    values = {name: float(column[row]) for name, column in ecgs.measurements.items()}
    if np.isnan(values["qrs_duration_ms"]):
        return Measurements()
    return Measurements(**values, measured_by=MEASURED_BY)
