"""Parquet files with columns twice or missing, dates in another format, a rate that is wrong."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.beam_jobs.helpers import ecg_counts, ecg_ids, ecg_table, write_ecg_parquet
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    FULL,
    counts,
    lvm,
    masses,
    people,
    people_table,
    predictions,
    reject_counts,
    report,
    result_files,
    score,
    write_csv,
    write_parquet,
)

pytestmark = pytest.mark.usefixtures("fake")
N = 4


def write_layout(path: Path, **changes: Any) -> Path:
    """Write the layout of `write_waveforms`."""
    signal = {
        "column": "wave",
        "order": "lead_major",
        "leads": CLINICAL_LEADS,
        "unit": "counts",
        "uv_per_count": 5,
        "sampling_rate_hz": 500,
    }
    content = {"ecg_id": "id", "signal": {**signal, **changes.pop("signal", {})}, **changes}
    path.write_text(yaml.safe_dump(content))
    return path


def write_waveforms(path: Path, start: int = 0, n_samples: int = 5000, **columns: Any) -> None:
    """Write `N` synthetic ECGs with all leads of an ECG in one list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    waves = [ecg[:, :n_samples].reshape(-1) for ecg in np.tile(ecg_counts(N, start), (1, 1, 4))]
    pq.write_table(pa.table({"id": ecg_ids(N, start), "wave": waves, **columns}), path)


def with_lead_twice(table: pa.Table, lead: str = "II") -> pa.Table:
    return table.append_column(lead, table[lead])


# Columns twice or missing


def test_a_lead_twice__is_refused_with_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(with_lead_twice(ecg_table(N)), tmp_path / "in" / "a.parquet")
    assert score(tmp_path / "in", tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert "a.parquet: columns occur more than once: II; expected each once" in message
    assert "Traceback" not in message


def test_a_lead_twice_in_one_file_of_two__is_warned_of_at_planning_and_its_ecgs_are_rejects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ecg_parquet(tmp_path / "in" / "a.parquet", N)
    pq.write_table(with_lead_twice(ecg_table(N, N)), tmp_path / "in" / "b.parquet")
    said = "b.parquet: columns occur more than once: II; "
    assert score(tmp_path / "in", tmp_path / "out", "--dry-run") == 0
    assert f"warning: {said}" in capsys.readouterr().err
    assert score(tmp_path / "in", tmp_path / "out", "--max-rejected-share", "1") == 0
    assert f"warning: {said}" in capsys.readouterr().err
    assert reject_counts(tmp_path / "out") == {"missing_lead": N}
    assert counts(tmp_path / "out")["predicted"] == N


def test_a_column_of_a_layout_twice__is_refused_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_waveforms(tmp_path / "in" / "a.parquet")
    table = with_lead_twice(pq.read_table(tmp_path / "in" / "a.parquet"), "wave")
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    layout = write_layout(tmp_path / "l.yaml")
    assert score(tmp_path / "in", tmp_path / "out", "--layout", layout) == 2
    assert "a.parquet: columns occur more than once: wave" in capsys.readouterr().err


def test_columns_twice_that_mean_nothing_here__do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    table = ecg_table(N, columns={"note": ["x"] * N})
    pq.write_table(with_lead_twice(table, "note"), tmp_path / "in" / "a.parquet")
    assert score(tmp_path / "in", tmp_path / "out") == 0


def test_a_lead_missing_in_one_file__is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ecg_parquet(tmp_path / "in" / "a.parquet", N)
    write_ecg_parquet(tmp_path / "in" / "b.parquet", N, start=N, V3=None)
    assert score(tmp_path / "in", tmp_path / "out", "--dry-run") == 0
    assert f"warning: b.parquet: columns are missing: V3. {N} ECGs there will be rejected" in capsys.readouterr().err


def test_a_column_missing_in_one_file__is_warned_of_before_people_stop_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = people(2 * N)
    table = people_table(made)
    dates = pa.array([dt.datetime(2020, 1, 1)] * N, pa.timestamp("us"))
    dated = table.slice(0, N).append_column("recorded_at", dates)
    write_parquet(tmp_path / "in" / "a.parquet", dated)
    write_parquet(tmp_path / "in" / "b.parquet", table.slice(N))
    births = [
        {"participant_id": p, "birth_date": "1950-01-01", "sex": "male", "bmi_kg_m2": 25} for p in made.participant_id
    ]
    csv = write_csv(tmp_path / "p.csv", births)
    arguments = ["--participants", csv]
    assert score(tmp_path / "in", tmp_path / "out", *arguments, model=FULL) == 1
    said = capsys.readouterr().err
    warning = said.index("warning: b.parquet: column recorded_at is missing, which other files have")
    assert warning < said.index("error: 50.0% of the ECGs would be rejected")


def test_an_optional_column_missing_in_one_file__is_warned_of_and_null(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ecg_parquet(tmp_path / "in" / "a.parquet", N)
    write_ecg_parquet(tmp_path / "in" / "b.parquet", N, start=N, participant_id=None)
    assert score(tmp_path / "in", tmp_path / "out") == 0
    assert (
        "warning: b.parquet: column participant_id is missing, which other files have; its values "
        "are taken as null" in capsys.readouterr().err
    )
    people = {row["ecg_id"]: row["participant_id"] for row in predictions(tmp_path / "out")}
    assert [people[ecg_id] is None for ecg_id in ecg_ids(2 * N)] == [False] * N + [True] * N


def test_an_optional_column_of_a_layout_missing_in_one_file__is_warned_of_and_null(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_waveforms(tmp_path / "in" / "a.parquet", person=[f"p{i}" for i in range(N)])
    write_waveforms(tmp_path / "in" / "b.parquet", start=N)
    write_waveforms(tmp_path / "in" / "c.parquet", start=2 * N)
    layout = write_layout(tmp_path / "l.yaml", participant_id="person")
    assert score(tmp_path / "in", tmp_path / "out", "--layout", layout) == 0
    assert "warning: b.parquet and 1 more file: column person is missing" in (capsys.readouterr().err)
    people = {row["ecg_id"]: row["participant_id"] for row in predictions(tmp_path / "out")}
    assert [people[e] for e in ecg_ids(3 * N)] == ["p0", "p1", "p2", "p3", *[None] * 2 * N]


# Dates


def test_dates_in_another_format_throughout__are_refused_at_planning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ecg_parquet(tmp_path / "in" / "a.parquet", N, recorded_at=["31/12/2019 14:03"] * N)
    assert score(tmp_path / "in", tmp_path / "out", "--dry-run") == 2
    message = capsys.readouterr().err
    assert "a.parquet: column recorded_at is written as 99/99/9999 99:99, and no value" in message
    assert "2019" not in message


def test_dates_in_another_format_in_one_file__are_warned_of_with_the_column_of_the_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_waveforms(tmp_path / "in" / "a.parquet", when=["2019-12-31T14:03:00"] * N)
    write_waveforms(tmp_path / "in" / "b.parquet", N, when=["31 Dec 2019"] * N)
    layout = write_layout(tmp_path / "l.yaml", recorded_at="when")
    extra = ["--layout", layout, "--max-rejected-share", "1"]
    assert score(tmp_path / "in", tmp_path / "out", *extra) == 0
    assert "warning: b.parquet: column when is written as 99 AAA 9999" in capsys.readouterr().err
    assert reject_counts(tmp_path / "out") == {"unreadable": N}


def test_some_unreadable_dates__are_rejects_of_their_records(tmp_path: Path) -> None:
    dates = ["2019-12-31", "31.12.2019", None, "2019-12-30"]
    write_ecg_parquet(tmp_path / "in" / "a.parquet", N, recorded_at=dates)
    assert score(tmp_path / "in", tmp_path / "out", "--max-rejected-share", "1") == 0
    assert reject_counts(tmp_path / "out") == {"unreadable": 1}


# Rate and number of samples


def test_a_rate_that_does_not_make_10_s__stops_before_scoring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_waveforms(tmp_path / "in" / "a.parquet")
    layout = write_layout(tmp_path / "l.yaml", signal={"sampling_rate_hz": 400})
    extra = ["--layout", layout]
    question = "5,000 samples are 12.5 s at 400 Hz; they would be 10 s at 500 Hz. Is the rate right?"
    assert score(tmp_path / "in", tmp_path / "out", *extra) == 1
    assert question in capsys.readouterr().err
    assert result_files(tmp_path / "out") == {}
    assert lvm("scale-check", "--input", tmp_path / "in", *extra) == 1
    assert f"rate: {question}" in capsys.readouterr().out
    assert score(tmp_path / "in", tmp_path / "out", *extra, "--accept-scale") == 0
    assert f"warning: {question} (accepted)" in capsys.readouterr().err
    assert len(masses(tmp_path / "out")) == N


@pytest.mark.parametrize(
    ("n_samples", "rate_hz", "question"),
    [
        (4000, 500, "4,000 samples are 8 s at 500 Hz; they would be 10 s at 400 Hz."),
        (15000, 500, "15,000 samples are 30 s at 500 Hz, expected about 10 s."),
        (2500, 500, "2,500 samples are 5 s at 500 Hz; they would be 10 s at 250 Hz."),
    ],
)
def test_a_number_of_samples_that_does_not_make_10_s__is_questioned(
    n_samples: int, rate_hz: float, question: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_waveforms(tmp_path / "in" / "a.parquet", n_samples=n_samples, hz=[float(rate_hz)] * N)
    layout = write_layout(tmp_path / "l.yaml", signal={"sampling_rate_hz": "hz"})
    assert score(tmp_path / "in", tmp_path / "out", "--layout", layout) == 1
    assert question in capsys.readouterr().err


@pytest.mark.parametrize("n_samples", [4990, 5000, 5200])
def test_about_10_s__is_not_questioned(n_samples: int, tmp_path: Path) -> None:
    write_waveforms(tmp_path / "in" / "a.parquet", n_samples=n_samples)
    layout = write_layout(tmp_path / "l.yaml")
    assert score(tmp_path / "in", tmp_path / "out", "--layout", layout) == 0
    assert report(tmp_path / "out")["counts"]["predicted"] == N


@pytest.mark.parametrize("name", ["sampling_rate_hz", "uv_per_count"])
def test_an_infinite_number_in_a_layout__is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_waveforms(tmp_path / "in" / "a.parquet")
    layout = write_layout(tmp_path / "l.yaml", signal={name: float("inf")})
    assert ".inf" in layout.read_text()
    assert score(tmp_path / "in", tmp_path / "out", "--layout", layout) == 2
    line = 1 + [name in text for text in layout.read_text().splitlines()].index(True)
    assert f"line {line}: .inf is not a finite number" in capsys.readouterr().err


def test_rows_without_samples__leave_the_question_to_scoring(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.parquet"
    write_waveforms(path, hz=[500.0, None, 500.0, 500.0])
    table = pq.read_table(path)
    waves = [None, *table["wave"].to_pylist()[1:]]
    pq.write_table(table.set_column(1, "wave", pa.array(waves, table["wave"].type)), path)
    layout = write_layout(tmp_path / "l.yaml", signal={"sampling_rate_hz": "hz"})
    extra = ["--layout", layout, "--max-rejected-share", "1"]
    assert score(tmp_path / "in", tmp_path / "out", *extra) == 0
    assert reject_counts(tmp_path / "out") == {"missing_lead": 1, "unsupported_rate": 1}


# Units


@pytest.mark.parametrize("rate_hz", [500, 250])
def test_a_unit_a_thousand_times_too_small__stops_whatever_is_left_after_rounding(
    rate_hz: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # At 250 Hz what is left of 1 uV would be rounded to 1.25 uV.
    write_waveforms(tmp_path / "in" / "a.parquet", n_samples=10 * rate_hz)
    signal = {"uv_per_count": 0.005, "sampling_rate_hz": rate_hz}
    layout = write_layout(tmp_path / "l.yaml", signal=signal)
    assert score(tmp_path / "in", tmp_path / "out", "--layout", layout) == 1
    message = capsys.readouterr().err
    assert f"{N} of {N} ECGs cannot be right, the first because its median amplitude of" in message
    assert "it looks 1,000 times too small" in message
    assert "nothing was scored" in message
