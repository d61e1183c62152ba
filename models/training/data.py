"""ECG Parquet, participants and CMR as one training set, split by person."""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lvm_core.errors import LvmError, UsageError
from lvm_core.medicine.body import body_surface_area_m2, lv_mass_index_g_m2
from lvm_core.medicine.lvh import LvhPreset, lvh_arrays
from lvm_core.signal.ecg import LEADS_12, N_LEADS
from lvm_core.signal.plausibility import judge_ecgs
from lvm_core.signal.quality import AGE_RANGE_YEARS, BMI_RANGE_KG_M2
from lvm_core.tables import ParticipantTable, judge_people, layout_of_file, preset_layout, read_cmr_table, read_people
from lvm_core.tables.layout import OWN_LAYOUT, ParticipantsLayout
from lvm_core.tables.people import table_files
from lvm_core.tables.values import no_formula
from models.catalogue.spec import N_SAMPLES
from models.training.config import SplitShares, TrainingConfig
from models.training.progress import say

LVH_PRESET: Final = LvhPreset.KHURSHID2021
_SIGNALS_FILE: Final = "signals.npy"
_JUDGED_TOGETHER: Final = 1024

Cmr = tuple[dt.date | None, float]
"""Date of an examination, None where unknown, and LV mass in grams."""


class Part(StrEnum):
    """A side of the split."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


def uniform_of(participant_id: str, salt: str) -> float:
    """Return a number from 0 up to, not including, 1 that depends on the id and the salt alone.

    It is the first 8 bytes of the SHA-256 of `salt|participant_id` as a big-endian fraction.
    """
    digest = hashlib.sha256(f"{salt}|{participant_id}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def part_of(participant_id: str, shares: SplitShares) -> Part:
    """Return the side of the split for a person; it does not depend on the other people."""
    position = uniform_of(participant_id, shares.salt)
    if position < shares.train:
        return Part.TRAIN
    return Part.VALID if position < shares.train + shares.valid or not shares.test else Part.TEST


def split_csv(participant_ids: Iterable[str], shares: SplitShares) -> str:
    """Return the split as CSV: participant_id and part, one row per person, in order of the id."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("participant_id", "part"))
    writer.writerows((no_formula(key), part_of(key, shares).value) for key in sorted(set(participant_ids)))
    return text.getvalue()


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """ECGs, each with the LV mass of the same person's CMR, in order of ecg_id; one row per ECG."""

    ecg_id: NDArray[np.str_]
    participant_id: NDArray[np.str_]
    part: NDArray[np.str_]  # `train`, `valid` or `test`; all ECGs of a person on one side
    counts: NDArray[np.int16]  # (n, 12, 5000), leads in `LEADS_12` order
    uv_per_count: NDArray[np.float32]
    age_years: NDArray[np.float64]  # NaN where unknown
    sex_code: NDArray[np.int8]  # 1 male, 0 female, -1 unknown
    bmi_kg_m2: NDArray[np.float64]  # NaN where unknown
    lvm_cmr_g: NDArray[np.float64]
    lvh: NDArray[np.bool_]  # CMR index above the limit of the sex; False where unknown
    lvh_known: NDArray[np.bool_]
    excluded: dict[str, int]  # ECGs that were left out, by reason

    def __len__(self) -> int:
        return len(self.ecg_id)

    def rows_of(self, part: Part) -> NDArray[np.intp]:
        """Return the rows of a side of the split."""
        return np.flatnonzero(self.part == part.value)

    def n_by_part(self) -> dict[str, int]:
        """Return the number of ECGs of each side."""
        return {part.value: int((self.part == part.value).sum()) for part in Part}


def load_training_set(config: TrainingConfig, folder: Path) -> TrainingSet:
    """Read, pair, check and split the data of a run; `folder` is for the memory map, if any.

    An ECG is used when its participant_id has a CMR mass (within `max_days`, where that is set),
    when scoring would accept its signal and, for the model with age, sex and BMI, when these are
    known and plausible.

    Raises:
        UsageError: a table or file is not what is expected.
        LvmError: a side of the split has no ECG.
    """
    people = read_participants(config.participants, config.participants_layout, accepted=config.accept_people)
    cmr = read_cmr(config.cmr)
    excluded: Counter[str] = Counter()
    pairs = _pairs(_recordings(config.ecgs, excluded), cmr, config, excluded)
    table = _columns(pairs, people, config.split)
    usable = _usable(table, config, excluded)
    used = [pair.recording for pair, good in zip(pairs, usable, strict=True) if good]
    table = {name: column[usable] for name, column in table.items()}
    counts = _read_signals(used, _allocate(len(used), config, folder))
    good = _good_signals(counts, table["uv_per_count"], excluded)
    for target, source in enumerate(np.flatnonzero(good)):
        if target != source:  # moved in place: a selection would copy all signals into memory
            counts[target] = counts[source]
    data = TrainingSet(
        counts=counts[: good.sum()],
        excluded={reason: excluded[reason] for reason in sorted(+excluded)},
        **{name: column[good] for name, column in table.items()},
    )
    _require_parts(data, config)
    return data


def read_participants(path: Path, layout: Path | None = None, *, accepted: bool = False) -> ParticipantTable:
    """Read and judge the participant table of a run: CSV, Parquet, or the folder of an OMOP export.

    `layout` is a preset, a layout file, or None.

    Raises:
        UsageError: it cannot be read; or it looks wrong as a whole, unless `accepted`.
    """
    people = read_people(_source(path), str(path), _layout(layout))
    _note(people.notes)
    problems = judge_people(people.table).problems
    if problems and not accepted:
        raise UsageError(
            f"{path} cannot be right as a whole: {'; '.join(problems)}. Correct the table, or describe "
            "its columns with participants_layout (docs/people_tables.md); if it is right, set "
            "accept_people: true"
        )
    return ParticipantTable.of(people)


def read_cmr(path: Path) -> dict[str, list[Cmr]]:
    """Return the CMR examinations of each participant_id; rows without a mass are left out.

    Raises:
        UsageError: it cannot be read, a column is missing, or a mass is not above 0 g.
    """
    read = read_cmr_table(_bytes(path), str(path))
    _note(read.notes)
    found: dict[str, list[Cmr]] = {}
    columns = (read.table[name].to_pylist() for name in ("participant_id", "cmr_date", "lvm_cmr_g"))
    for participant_id, date, lvm_g in zip(*columns, strict=True):
        found.setdefault(participant_id, []).append((date, lvm_g))
    return found


def _layout(given: Path | None) -> ParticipantsLayout:
    if given is None:
        return OWN_LAYOUT
    return preset_layout(str(given)) or layout_of_file(_bytes(given), str(given))


def _source(path: Path) -> bytes | dict[str, tuple[str, bytes]]:
    if not path.is_dir():
        return _bytes(path)
    files = table_files([file.name for file in path.iterdir()], str(path))
    return {table: (file, _bytes(path / file)) for table, file in files.items()}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error


def _note(notes: tuple[str, ...]) -> None:
    for note in notes:
        say(f"note: {note}")


@dataclass(frozen=True, slots=True)
class _Recording:
    """An ECG: its place in the Parquet files, its identifiers, unit and time."""

    file: Path
    row_group: int
    row: int
    ecg_id: str
    participant_id: str
    uv_per_count: float
    recorded_at: dt.datetime | None


@dataclass(frozen=True, slots=True)
class _Pair:
    """An ECG, the LV mass of a CMR of the person, and the days between, infinite if unknown."""

    recording: _Recording
    lvm_cmr_g: float
    days: float


def _recordings(root: Path, excluded: Counter[str]) -> list[_Recording]:
    """Return the ECGs whose participant is known, each ecg_id once, in order of ecg_id."""
    files = [root] if root.is_file() else sorted(root.rglob("*.parquet"))
    if not files:
        raise UsageError(f"{root} holds no .parquet file, expected ECG Parquet of `lvm-ai ingest`")
    found: dict[str, _Recording] = {}
    for recording in (one for path in files for one in _recordings_of(path)):
        if recording.ecg_id in found:
            excluded["duplicate_ecg_id"] += 1
        elif not recording.participant_id:
            excluded["participant_unknown"] += 1
        else:
            found[recording.ecg_id] = recording
    return [found[key] for key in sorted(found)]


def _recordings_of(path: Path) -> Iterator[_Recording]:
    file = _open(path)
    names = ("ecg_id", "participant_id", "uv_per_count", "recorded_at")
    there = [name for name in names if name in file.schema_arrow.names]
    for group in range(file.num_row_groups):
        for row, record in enumerate(file.read_row_group(group, columns=there).to_pylist()):
            yield _Recording(
                path,
                group,
                row,
                str(record["ecg_id"]),
                str(record["participant_id"] or ""),
                float(record["uv_per_count"]),
                record.get("recorded_at"),
            )


def _open(path: Path) -> Any:
    try:
        file = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read as Parquet: {error}") from error
    needed = ("ecg_id", "participant_id", "uv_per_count", *LEADS_12)
    missing = [name for name in needed if name not in file.schema_arrow.names]
    if missing:
        raise UsageError(
            f"{path} has no column {', '.join(missing)}; expected ECG Parquet with participant_id. "
            "Write it with `lvm-ai ingest`, with an --id-pattern that names the participant"
        )
    return file


def _pairs(
    recordings: list[_Recording], cmr: dict[str, list[Cmr]], config: TrainingConfig, excluded: Counter[str]
) -> list[_Pair]:
    """Return each ECG with the nearest CMR of its person; the first one where dates are unknown."""
    pairs = []
    for recording in recordings:
        examinations = cmr.get(recording.participant_id)
        if examinations is None:
            excluded["no_cmr"] += 1
            continue
        pair = min((_pair(recording, *one) for one in examinations), key=attrgetter("days"))
        if config.max_days is not None and pair.days > config.max_days:
            excluded["cmr_too_far"] += 1
            continue
        pairs.append(pair)
    if not config.one_ecg_per_person:
        return pairs
    nearest: dict[str, _Pair] = {}
    for pair in pairs:
        kept = nearest.setdefault(pair.recording.participant_id, pair)
        if pair.days < kept.days:
            nearest[pair.recording.participant_id] = pair
    excluded["another_ecg_of_the_person"] += len(pairs) - len(nearest)
    return sorted(nearest.values(), key=lambda pair: pair.recording.ecg_id)


def _pair(recording: _Recording, date: dt.date | None, lvm_cmr_g: float) -> _Pair:
    when = recording.recorded_at
    days = float("inf") if when is None or date is None else abs((when.date() - date).days)
    return _Pair(recording, lvm_cmr_g, days)


def _columns(pairs: list[_Pair], people: ParticipantTable, split: SplitShares) -> dict[str, Any]:
    """Return the columns of the training set but for the signals."""
    recordings = [pair.recording for pair in pairs]
    participant_id = [one.participant_id for one in recordings]
    joined = people.join([one.ecg_id for one in recordings], participant_id, [one.recorded_at for one in recordings])
    mass_g = np.array([pair.lvm_cmr_g for pair in pairs], dtype=np.float64)
    height_cm, weight_kg = (size.astype(np.float64) for size in (joined.height_cm, joined.weight_kg))
    bsa_m2 = body_surface_area_m2(height_cm, weight_kg)
    lvh = lvh_arrays(lv_mass_index_g_m2(mass_g, bsa_m2), joined.sex_code, LVH_PRESET)
    return {
        "ecg_id": np.array([one.ecg_id for one in recordings], dtype=np.str_),
        "participant_id": np.array(participant_id, dtype=np.str_),
        "part": np.array([part_of(key, split).value for key in participant_id], dtype=np.str_),
        "uv_per_count": np.array([one.uv_per_count for one in recordings], dtype=np.float32),
        "age_years": joined.age_years.astype(np.float64),
        "sex_code": joined.sex_code,
        "bmi_kg_m2": joined.bmi_kg_m2.astype(np.float64),
        "lvm_cmr_g": mass_g,
        "lvh": lvh.value,
        "lvh_known": lvh.known,
    }


def _usable(table: dict[str, Any], config: TrainingConfig, excluded: Counter[str]) -> NDArray[np.bool_]:
    """Return the rows whose demographics the model can take; all of them for the ECG-only model."""
    keep = np.ones(len(table["ecg_id"]), dtype=np.bool_)
    if not config.has_lvh_head:
        return keep
    for reason, bad in (
        ("sex_unknown", table["sex_code"] < 0),
        ("age_missing", np.isnan(table["age_years"])),
        ("age_out_of_range", AGE_RANGE_YEARS.is_outside(table["age_years"])),
        ("bmi_missing", np.isnan(table["bmi_kg_m2"])),
        ("bmi_out_of_range", BMI_RANGE_KG_M2.is_outside(table["bmi_kg_m2"])),
    ):
        excluded[reason] += int((keep & bad).sum())
        keep &= ~bad
    return keep


def _allocate(n: int, config: TrainingConfig, folder: Path) -> NDArray[np.int16]:
    shape = (n, N_LEADS, N_SAMPLES)
    if config.signals == "memory" or n == 0:
        return np.empty(shape, dtype=np.int16)
    return np.lib.format.open_memmap(folder / _SIGNALS_FILE, mode="w+", dtype=np.int16, shape=shape)


def _read_signals(recordings: list[_Recording], counts: NDArray[np.int16]) -> NDArray[np.int16]:
    """Read the signals into `counts`, one row group after the other."""
    groups: dict[tuple[Path, int], list[int]] = {}
    for target, recording in enumerate(recordings):
        groups.setdefault((recording.file, recording.row_group), []).append(target)
    for (path, group), targets in groups.items():
        table = _open(path).read_row_group(group, columns=list(LEADS_12))
        rows = np.array([recordings[target].row for target in targets])
        for column, lead in enumerate(LEADS_12):
            samples = table[lead].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            if samples.size != table.num_rows * N_SAMPLES or samples.dtype != np.int16:
                raise UsageError(
                    f"{path}: lead {lead} holds {samples.size} samples of {samples.dtype} for "
                    f"{table.num_rows} ECGs, expected {N_SAMPLES} of int16 each, none of them null"
                )
            counts[targets, column] = samples.reshape(-1, N_SAMPLES)[rows]
    return counts


def _good_signals(
    counts: NDArray[np.int16], uv_per_count: NDArray[np.float32], excluded: Counter[str]
) -> NDArray[np.bool_]:
    """Return the rows that scoring would accept."""
    # In parts: the judgement makes copies, and all signals together may be larger than memory.
    parts = (slice(start, start + _JUDGED_TOGETHER) for start in range(0, len(counts), _JUDGED_TOGETHER))
    rejections = [one.rejection for part in parts for one in judge_ecgs(counts[part], uv_per_count[part])]
    excluded.update(rejection.reason.value for rejection in rejections if rejection is not None)
    return np.array([rejection is None for rejection in rejections], dtype=np.bool_)


def _require_parts(data: TrainingSet, config: TrainingConfig) -> None:
    empty = [part.value for part in Part if getattr(config.split, part.value) > 0 and not data.rows_of(part).size]
    if empty:
        raise LvmError(
            f"{len(data)} ECGs with a CMR mass leave none for {', '.join(empty)}; left out were "
            f"{data.excluded or 'none'}. Expected the same participant_id in the ECGs, "
            f"{config.cmr} and {config.participants}"
        )
