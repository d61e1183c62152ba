"""Inputs, runs and results of whole jobs, made and read without the code under test."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

import lvm_ai
from beam_jobs.run.commit import rows_sha256
from lvm_core.synthetic.ecgs import SyntheticEcgs, synthetic_ecgs
from lvm_core.tables import schemas

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = REPOSITORY / ".." / "shared"
ECG_ONLY = "demo-synthetic-ecg-only"
FULL = "demo-synthetic"

# Written out here, not imported, so that a slip in the package's order would show.
CLINICAL_LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]

SMALL = ("--unit-ecgs", "8", "--batch", "4", "--threads", "2")


@cache
def people(n: int, seed: int = 11, start: int = 0) -> SyntheticEcgs:
    """Return `n` synthetic people and their ECGs; not to be changed in place."""
    made = synthetic_ecgs(n, seed, start)
    made.counts.setflags(write=False)
    return made


def lead_array(counts: NDArray[np.int16], missing: Mapping[int, Sequence[int]] | None = None) -> pa.Array:
    """Return (n, 5000) int16 as a Parquet lead column; `missing`: null samples by row."""
    mask = np.zeros(counts.shape, dtype=bool)
    for row, samples in (missing or {}).items():
        mask[row, list(samples)] = True
    flat = pa.array(counts.reshape(-1), mask=mask.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, counts.shape[1])


def ecg_table(
    counts: NDArray[np.int16],
    ecg_id: Sequence[str],
    uv_per_count: float | Sequence[float] = 5.0,
    missing: Mapping[str, Mapping[int, Sequence[int]]] | None = None,
    **columns: Any,
) -> pa.Table:
    """Return an ECG table as other software would write it, columns in an order of its own.

    Args:
        counts: (n, 12, 5000) int16 in clinical order.
        ecg_id: of each row.
        uv_per_count: of each row, or of all.
        missing: null samples by row, by lead.
        **columns: further columns.
    """
    steps = np.broadcast_to(np.asarray(uv_per_count, dtype=np.float32), (len(ecg_id),))
    data: dict[str, Any] = {"uv_per_count": pa.array(steps)}
    for k, lead in enumerate(CLINICAL_LEADS):
        data[lead] = lead_array(np.ascontiguousarray(counts[:, k]), (missing or {}).get(lead))
    return pa.table({**data, "ecg_id": list(ecg_id), **columns})


def people_table(made: SyntheticEcgs, **options: Any) -> pa.Table:
    """Return the ECG table of synthetic people, with their participant ids."""
    persons = {"participant_id": list(made.participant_id)}
    return ecg_table(made.counts, made.ecg_id, **{**persons, **options})


def write_parquet(path: Path, table: pa.Table, row_group_size: int = 8) -> Path:
    """Write a Parquet file with small row groups."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def write_cohort(folder: Path, n: int, n_files: int = 1, seed: int = 11) -> SyntheticEcgs:
    """Write synthetic people's ECGs to `part-0.parquet`, `part-1.parquet`, ... in equal shares."""
    made = people(n, seed)
    table = people_table(made)
    size = -(-n // n_files)
    for i in range(n_files):
        write_parquet(folder / f"part-{i}.parquet", table.slice(i * size, size))
    return made


def write_participants(path: Path, made: SyntheticEcgs, key: str = "participant_id", **changes: Any) -> Path:
    """Write the participant table of synthetic people.

    Args:
        path: the CSV file.
        made: the people.
        key: `participant_id`, `ecg_id` or `both`.
        **changes: a cell by `COLUMN_ROW`, such as `sex_3="Unknown"`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(len(made.ecg_id)):
        row: dict[str, Any] = {"ecg_id": made.ecg_id[i], "participant_id": made.participant_id[i]}
        if key != "both":
            row = {key: row[key]}
        row |= {
            "age_years": int(made.age_years[i]),
            "sex": made.sex[i].value,
            "bmi_kg_m2": "",
            "height_cm": made.height_cm[i],
            "weight_kg": made.weight_kg[i],
        }
        row |= {n: changes[f"{n}_{i}"] for n in row if f"{n}_{i}" in changes}
        rows.append(row)
    return write_csv(path, rows)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows with their keys as the header."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def lvm(*argv: object) -> int:
    """Run the command line in this process and return its exit code."""
    return lvm_ai.main([str(argument) for argument in argv])


def score_argv(inputs: object, output: object, *extra: object, model: str = ECG_ONLY) -> list[str]:
    """Return a score command with small units."""
    command = ["score", "--input", inputs, "--output", output, "--model", model, *SMALL, *extra]
    return [str(argument) for argument in command]


def score(inputs: object, output: object, *extra: object, model: str = ECG_ONLY) -> int:
    """Run a score command with small units in this process."""
    return lvm(*score_argv(inputs, output, *extra, model=model))


def result_files(output: Path) -> dict[str, bytes]:
    """Return the bytes of all prediction, ECG and reject files by their path in the run folder."""
    found = {}
    for name in ("predictions", "ecg", "rejects"):
        for path in sorted((output / name).glob("*")):
            found[f"{name}/{path.name}"] = path.read_bytes()
    return found


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of all Parquet files of a folder, in the order of the files' names."""
    return [row for p in sorted(folder.glob("*.parquet")) for row in pq.read_table(p).to_pylist()]


def predictions(output: Path) -> list[dict[str, Any]]:
    """Return the rows of all prediction files."""
    return rows_of(output / "predictions")


def masses(output: Path) -> dict[str, float]:
    """Return the predicted mass by ecg_id, grams."""
    rows = predictions(output)
    found = {row["ecg_id"]: row["lvm_pred_g"] for row in rows}
    assert len(found) == len(rows)
    return found


def write_with_hash(path: Path, table: pa.Table) -> None:
    """Write other rows into a committed file and renew their hash, so that only values differ."""
    content = json.loads(pq.read_metadata(path).metadata[schemas.FOOTER_KEY])
    content["rows_sha256"]["result"] = rows_sha256(table)
    footer = {schemas.FOOTER_KEY: json.dumps(content)}
    pq.write_table(table.replace_schema_metadata(footer), path)


def rejects(output: Path) -> list[dict[str, Any]]:
    """Return the rows of all reject files."""
    return rows_of(output / "rejects")


def reject_counts(output: Path) -> dict[str, int]:
    """Return the rejected ECGs by reason, counted from the files by hand."""
    counter: Counter[str] = Counter()
    for row in rejects(output):
        counter[row["reason"]] += 1 if row["n_ecgs"] is None else row["n_ecgs"]
    return dict(counter)


def report(output: Path) -> dict[str, Any]:
    """Return run_report.json."""
    return dict(json.loads((output / "run_report.json").read_text()))


def counts(output: Path) -> dict[str, Any]:
    """Return the counts of run_report.json."""
    return dict(report(output)["counts"])


def assert_reconciles(output: Path, n_read: int) -> None:
    """Check the counts of a run against its files and a number that the test counted itself."""
    done = rows_of(output / "predictions") or rows_of(output / "ecg")
    rejected = reject_counts(output)
    stated = counts(output)
    assert stated["read"] == n_read
    assert stated.get("predicted", stated.get("ingested")) == len(done)
    assert stated["rejected"] == rejected
    assert len(done) + sum(rejected.values()) == n_read


def fake_mass_g(made: SyntheticEcgs, uv_per_count: float = 5.0) -> dict[str, float]:
    """Return the mass that the fake ECG-only predictor gives, by its documented formula."""
    totals = np.abs(made.counts.astype(np.int64)).sum(axis=(1, 2))
    grams = 60 + totals % 1000 / 10 + 1000 * uv_per_count % 7
    return dict(zip(made.ecg_id, grams.astype(np.float32).tolist(), strict=True))


def state(paths: Iterable[Path]) -> dict[str, tuple[int, bytes]]:
    """Return time of change and content of files."""
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in paths if p.is_file()}


def everything(output: Path) -> dict[str, tuple[int, bytes]]:
    """Return time of change and content of all files of a run folder."""
    return state(output.rglob("*"))


def texts_of(value: Any) -> Iterator[str]:
    """Yield every text and number in nested JSON or rows, keys too."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from texts_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from texts_of(item)
    else:
        yield str(value)


def assert_nowhere(output: Path, *identifiers: str) -> None:
    """Check that identifiers are in no file name, raw byte, Parquet cell, footer or JSON text."""
    for path in [p for p in output.rglob("*") if p.is_file()]:
        data = path.read_bytes()
        content: list[Any] = [str(path.relative_to(output))]
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            content += [table.to_pylist(), str(table.schema.metadata), str(pq.read_metadata(path))]
        elif path.suffix == ".json":
            content.append(json.loads(data))
        for identifier in identifiers:
            assert identifier.encode() not in data, f"{identifier} in the bytes of {path}"
            found = [text for text in texts_of(content) if identifier in text]
            assert not found, f"{identifier} in {path}: {found[:2]}"


def exclusion_list(path: Path, *identifiers: str) -> Path:
    """Write a list of people, one per line."""
    path.write_text("".join(f"{i}\n" for i in identifiers))
    return path


def flat_in(made: SyntheticEcgs, *rows: int) -> SyntheticEcgs:
    """Return synthetic people with lead V3 constant in some rows."""
    signals = made.counts.copy()
    signals[list(rows), CLINICAL_LEADS.index("V3")] = 7
    return dataclasses.replace(made, counts=signals)
