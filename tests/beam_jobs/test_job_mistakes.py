"""Mistakes that would give wrong numbers, or cost a night, are reported before any scoring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.reading.inputs import IdRule
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    FULL,
    counts,
    exclusion_list,
    lvm,
    people,
    people_table,
    report,
    score,
    write_cohort,
    write_csv,
    write_parquet,
)

pytestmark = pytest.mark.usefixtures("fake")


def _foreign(tmp_path: Path, order: str, leads: list[str]) -> list[object]:
    """Write sample-major mV and a layout that may say otherwise; return the arguments."""
    made = people(8)
    samples = made.counts.transpose(0, 2, 1).reshape(8, -1) * np.float32(0.005)
    table = pa.table({"id": list(made.ecg_id), "wave": list(samples.astype(np.float32))})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "layout.yaml").write_text(
        f"ecg_id: id\nsignal:\n  column: wave\n  order: {order}\n  leads: [{', '.join(leads)}]\n"
        "  unit: mV\n  sampling_rate_hz: 500\n"
    )
    return [tmp_path / "a.parquet", tmp_path / "out", "--layout", tmp_path / "layout.yaml"]


def test_layout_that_is_right__is_scored(tmp_path: Path) -> None:
    assert score(*_foreign(tmp_path, "sample_major", list(CLINICAL_LEADS))) == 0


@pytest.mark.parametrize(
    ("order", "swap"), [("lead_major", (0, 0)), ("sample_major", (0, 1)), ("sample_major", (3, 5))]
)
def test_layout_with_wrong_order_or_leads__stops_before_scoring(
    tmp_path: Path, order: str, swap: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    leads = list(CLINICAL_LEADS)
    leads[swap[0]], leads[swap[1]] = leads[swap[1]], leads[swap[0]]
    arguments = _foreign(tmp_path, order, leads)
    assert score(*arguments) == 1
    assert "do not follow from I and II" in capsys.readouterr().err
    assert not (tmp_path / "out" / "plan.json").exists()
    assert score(*arguments, "--accept-scale", "--max-rejected-share", 1) == 0


def test_participants_of_other_people__stop_before_scoring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cohort(tmp_path / "in", 4)
    rows = [{"participant_id": f"other-{i}", "age_years": 60, "sex": "male"} for i in range(4)]
    table = write_csv(tmp_path / "p.csv", rows)
    assert score(tmp_path / "in", tmp_path / "out", "--participants", table, model=FULL) == 2
    message = capsys.readouterr().err
    assert "nobody of" in message
    assert "the keys of the table are of the form AAAAA-9 (A a letter, 9 a digit)" in message
    assert "other-0" not in message
    assert not (tmp_path / "out" / "plan.json").exists()


def test_participants_with_some_decimal_ids_in_csv__are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(tmp_path / "in", 4)
    rows = [{"participant_id": key, "sex": "male"} for key in ("1000037.0", "1000038")]
    table = write_csv(tmp_path / "p.csv", rows)
    assert score(tmp_path / "in", tmp_path / "out", "--participants", table) == 2
    assert "1 identifiers with a decimal point (as 1001.0)" in capsys.readouterr().err


def test_heights_in_metres__are_counted_in_the_report_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_cohort(tmp_path / "in", 4)
    rows = [{"participant_id": p, "height_cm": 1.7, "weight_kg": 70} for p in made.participant_id]
    table = write_csv(tmp_path / "p.csv", rows)
    assert score(tmp_path / "in", tmp_path / "out", "--participants", table) == 0
    expected = {"height_out_of_range": 4, "index_unknown": 4}
    assert report(tmp_path / "out")["quality_flags"] == expected
    assert "4 flagged height_out_of_range" in capsys.readouterr().err


def test_excluded_people__do_not_count_towards_the_share_of_rejects(tmp_path: Path) -> None:
    made = write_cohort(tmp_path / "in", 10)
    gone = exclusion_list(tmp_path / "gone.txt", *made.participant_id[:5])
    arguments = ["--exclude-participants", gone, "--max-rejected-share", 0]
    assert score(tmp_path / "in", tmp_path / "out", *arguments) == 0
    assert counts(tmp_path / "out") == {"read": 10, "predicted": 5, "rejected": {"excluded": 5}}


def test_withdrawal_of_somebody_only_among_the_rejects__is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = people(8)
    write_parquet(tmp_path / "in" / "a.parquet", people_table(made, missing={"V1": {4: [17]}}))
    assert score(tmp_path / "in", tmp_path / "out", "--max-rejected-share", 1) == 0
    gone = exclusion_list(tmp_path / "gone.txt", made.participant_id[4])
    capsys.readouterr()
    assert lvm("withdraw", tmp_path / "out", "--participants", gone) == 0
    said = "found 1 of 1 listed people; ECGs removed: 0, rejects removed: 1;"
    assert said in capsys.readouterr().err
    assert lvm("withdraw", tmp_path / "out", "--participants", gone) == 0
    assert "listed people who were removed before: 1" in capsys.readouterr().err


def test_withdrawal_with_an_empty_list__is_refused(tmp_path: Path) -> None:
    write_cohort(tmp_path / "in", 4)
    assert score(tmp_path / "in", tmp_path / "out") == 0
    gone = exclusion_list(tmp_path / "gone.txt")
    assert lvm("withdraw", tmp_path / "out", "--participants", gone) == 2


def test_verify__run_that_was_not_accepted_is_not_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = people(8)
    write_parquet(tmp_path / "in" / "a.parquet", people_table(made, missing={"V1": {4: [17]}}))
    assert score(tmp_path / "in", tmp_path / "out") == 1
    assert lvm("verify", tmp_path / "out", "--no-sample") == 1
    assert "the run is not closed" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".xml", ".hea", ".zip!1000015_20205_2_0.xml"])
def test_preset_of_uk_biobank__takes_any_extension(suffix: str) -> None:
    path = f"a{suffix}" if "!" in suffix else f"sub/1000015_20205_2_0{suffix}"
    assert IdRule("ukb-20205").keys(path) == ("1000015_20205_2_0", "1000015")
