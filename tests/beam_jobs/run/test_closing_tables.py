"""What closing reads of all results: identical signals and flags, one file at a time."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.reading.storage import Storage
from beam_jobs.reading.units import Unit
from beam_jobs.run import folder as run_folder
from beam_jobs.run.folder import RunFolder, count_flags, write_duplicates
from beam_jobs.run.plan import Plan
from lvm_core.tables import schemas

COLUMNS = ("ecg_id", "participant_id", "recorded_at", "quality_flags", "signal_sha256")


def _sha(content: object) -> str:
    return hashlib.sha256(str(content).encode()).hexdigest()


def _rows(hashes: Sequence[str | None], first: int = 0) -> list[dict[str, Any]]:
    return [
        {"ecg_id": f"e{first + i:03d}", "participant_id": None, "quality_flags": [], "signal_sha256": one}
        for i, one in enumerate(hashes)
    ]


def _run(path: Path, units: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[RunFolder, Plan]:
    """Write a run folder of these result rows, one list a unit."""
    plan = Plan("score", {}, tuple(Unit(k, _sha(k), ()) for k in range(len(units))))
    schema = pa.schema([schemas.PREDICTIONS.arrow.field(name) for name in COLUMNS])
    (path / "predictions").mkdir()
    for unit, rows in zip(plan.units, units, strict=True):
        pq.write_table(pa.Table.from_pylist([*rows], schema=schema), path / "predictions" / f"{unit.name}.parquet")
    return RunFolder(Storage(), str(path)), plan


def _listed(path: Path) -> list[tuple[str, str]]:
    table = pq.read_table(path / "duplicates.parquet")
    assert table.schema.equals(schemas.DUPLICATES.arrow)
    return [(row["signal_sha256"], row["ecg_id"]) for row in table.to_pylist()]


def test_write_duplicates__lists_each_signal_that_several_recordings_share(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows = _rows([_sha(n) for n in rng.integers(0, 60, 100).tolist()])
    folder, plan = _run(tmp_path, [rows[:37], rows[37:38], [], rows[38:]])
    times = Counter(row["signal_sha256"] for row in rows)
    expected = sorted((r["signal_sha256"], r["ecg_id"]) for r in rows if times[r["signal_sha256"]] > 1)
    assert write_duplicates(folder, plan) == len(expected) > 10
    assert _listed(tmp_path) == expected


def test_write_duplicates__needs_all_digits_to_agree(tmp_path: Path) -> None:
    begins_alike = _sha(1)[:40] + _sha(2)[:24]
    folder, plan = _run(tmp_path, [_rows([_sha(1), _sha(5)]), _rows([begins_alike, _sha(5)], first=2)])
    assert write_duplicates(folder, plan) == 2
    assert _listed(tmp_path) == [(_sha(5), "e001"), (_sha(5), "e003")]


def test_write_duplicates__recordings_without_a_hash_are_not_alike(tmp_path: Path) -> None:
    folder, plan = _run(tmp_path, [_rows([None, _sha(5), None]), _rows([_sha(5)], first=3)])
    assert write_duplicates(folder, plan) == 2
    assert _listed(tmp_path) == [(_sha(5), "e001"), (_sha(5), "e003")]


def test_write_duplicates__no_rows_give_an_empty_table(tmp_path: Path) -> None:
    folder, plan = _run(tmp_path, [[]])
    assert write_duplicates(folder, plan) == 0
    assert _listed(tmp_path) == []


def test_write_duplicates__reads_rows_only_of_files_that_may_hold_duplicates(tmp_path: Path, monkeypatch: Any) -> None:
    units = [_rows([_sha((k, i)) for i in range(5)], first=5 * k) for k in range(200)]
    units[7][0]["signal_sha256"] = units[150][0]["signal_sha256"]
    folder, plan = _run(tmp_path, units)
    read: list[tuple[str, Sequence[str]]] = []
    real = run_folder.read_table

    def noting(storage: Storage, uri: str, columns: Sequence[str]) -> pa.Table:
        read.append((uri, columns))
        return real(storage, uri, columns)

    monkeypatch.setattr(run_folder, "read_table", noting)
    assert write_duplicates(folder, plan) == 2
    whole = {uri for uri, columns in read if "ecg_id" in columns}
    assert whole == {folder.files(plan, plan.units[k]).result for k in (7, 150)}


def test_count_flags__adds_up_over_units(tmp_path: Path) -> None:
    units = [_rows([_sha(k)], first=k) for k in range(3)]
    units[0][0]["quality_flags"] = ["saturated", "resampled"]
    units[2][0]["quality_flags"] = ["resampled"]
    folder, plan = _run(tmp_path, units)
    assert count_flags(folder, plan) == {"resampled": 2, "saturated": 1}
