"""Small archives of the structure of the published ones, with their index; all data are made."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from tests.beam_jobs.job_helpers import CLINICAL_LEADS, people
from tests.beam_jobs.reading.test_array_input import CODE_15_LEADS, write_stack
from tests.file_builders import cardiosoft_xml, wfdb_record

MIMIC_LEADS = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]


def counts_of(i: int) -> dict[str, NDArray[np.int16]]:
    """Return counts by lead of the i-th made person, 5 uV each."""
    return dict(zip(CLINICAL_LEADS, people(6).counts[i], strict=True))


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], delimiter: str = ",") -> Path:
    """Write rows with their keys as the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_wfdb(path: Path, i: int, leads: Sequence[str] = CLINICAL_LEADS) -> None:
    """Write a WFDB record of 5 uV a count at a path without suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    counts = {lead: counts_of(i)[lead] for lead in leads}
    for name, data in wfdb_record(counts, name=path.name, gain="200.0(0)/mV").items():
        (path.parent / name).write_bytes(data)


def mimic_iv_ecg(folder: Path, n: int = 3) -> list[dict[str, Any]]:
    """Write an archive as MIMIC-IV-ECG, in its lead order; return the rows of record_list.csv."""
    rows, measured = [], []
    for i in range(n):
        subject, study = 10000032 + i // 2, 40689238 + i
        path = f"files/p{str(subject)[:4]}/p{subject}/s{study}/{study}"
        keys = {"subject_id": subject, "study_id": study}
        time = f"2180-07-2{i} 08:44:00"
        rows.append({**keys, "file_name": study, "ecg_time": time, "path": path})
        report = {f"report_{k}": "" for k in range(18)}
        report |= {"report_0": "Atrial fibrillation", "report_1": "Left bundle branch block"} if i == 0 else {}
        onset = {"qrs_onset": 170, "qrs_end": 258 if i != 1 else 29999}
        measured.append({**keys, "cart_id": 7, "ecg_time": time, **report, "rr_interval": 659, **onset})
        write_wfdb(folder / path, i, MIMIC_LEADS)
    write_table(folder / "record_list.csv", rows)
    write_table(folder / "machine_measurements.csv", measured)
    return rows


def ptb_xl(folder: Path, n: int = 3) -> list[dict[str, Any]]:
    """Write an archive as PTB-XL; return the rows of ptbxl_database.csv."""
    rows = []
    for i in range(n):
        made = people(6)
        paths = {f"filename_{kind}": f"records{hz}/00000/0000{i + 1}_{kind}" for kind, hz in (("lr", 100), ("hr", 500))}
        rows.append(
            {
                "ecg_id": i + 1,
                "patient_id": f"{15709 + i}.0",
                "age": 300.0 if i == 2 else float(made.age_years[i]),
                "sex": 0 if made.sex[i].value == "male" else 1,
                "height": "" if i == 1 else float(made.height_cm[i]),
                "weight": float(made.weight_kg[i]),
                "recording_date": f"1984-11-0{i + 1} 09:17:34",
                "report": "sinusrhythmus,\nnormales ekg",
                **paths,
                "strat_fold": 3,
            }
        )
        for path in paths.values():
            write_wfdb(folder / path, i)
    write_table(folder / "ptbxl_database.csv", rows)
    return rows


def code_15(folder: Path, n: int = 4) -> list[dict[str, Any]]:
    """Write an archive as CODE-15, in two files; return the rows of exams.csv."""
    rows = []
    for part in range(2):
        ids = [1000 + 10 * part + k for k in range(n // 2)]
        # 400 Hz, 4,096 samples, of which zeros fill both ends.
        array = np.zeros((len(ids), 4096, 12), dtype=np.float32)
        for k in range(len(ids)):
            array[k, 48:4048] = people(6).counts[part * (n // 2) + k][:, :4000].T * 0.005
        folder.mkdir(parents=True, exist_ok=True)
        write_stack(folder / f"exams_part{part}.hdf5", array, ids=ids)
        for one in ids:
            row = {"exam_id": one, "age": 40 + one % 7, "is_male": one % 2 == 0, "patient_id": 500000 + one}
            rows.append({**row, "death": "", "timey": "", "normal_ecg": True, "trace_file": f"exams_part{part}.hdf5"})
    write_table(folder / "exams.csv", rows)
    return rows


def finngen(folder: Path, n: int = 4) -> list[dict[str, Any]]:
    """Write an archive as FinnGen's, names in any case and of both suffixes; return the rows."""
    rows = []
    for i in range(n):
        person, measure = f"FG0000000{i // 2}", f"MEAS{i}"
        rows.append(
            {
                "FINNGENID": person,
                "MEASID": measure,
                "EVENT_AGE": f"{55 + 2 * i}.37",
                "APPROX_EVENT_DAY": f"{2010 + 2 * i}-02-03",
                "TIME": f"12:31:0{i}",
            }
        )
        name = f"{person}_{measure}"
        path = folder / person / (f"{name.lower()}.XML" if i % 2 else f"{name}.ecg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cardiosoft_xml(counts_of(i)))
    write_table(folder / "index.tsv", rows, "\t")
    return rows


def echonext(folder: Path, n: int = 3, key: str = "exam_id") -> list[dict[str, Any]]:
    """Write waveforms in millivolts with keys, and metadata as EchoNext's; return the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = [f"ecg{i}" for i in range(n)]
    array = np.stack([people(6).counts[i][:, ::2].T * 0.005 for i in range(n)]).astype(np.float32)
    write_stack(
        folder / "waveforms.hdf5",
        array,
        ids=[one.encode() for one in keys],
        **({} if key == "exam_id" else {key: [one.encode() for one in keys]}),
    )
    rows = [
        {"patient_key": f"p{i}", "ecg_key": one, "split": "val", "age_at_ecg": 50 + i, "sex": i % 2, "qrs_duration": 96}
        for i, one in enumerate(keys)
    ]
    write_table(folder / "echonext_metadata_100k.csv", rows)
    return rows


def stack_layout(path: Path, rate_hz: int = 400) -> Path:
    """Write the layout of the HDF5 files above."""
    signal = {"array": "tracings", "order": "sample_major", "leads": CODE_15_LEADS, "unit": "mV"}
    path.write_text(yaml.safe_dump({"ecg_id": "exam_id", "signal": {**signal, "sampling_rate_hz": rate_hz}}))
    return path
