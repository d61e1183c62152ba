"""Records whose voltages or leads cannot be right are rejected or flagged, one by one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lvm_core.signal.quality import PlausibleRange
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
    SHARED,
    assert_reconciles,
    lvm,
    masses,
    people,
    people_table,
    predictions,
    reject_counts,
    rejects,
    report,
    rows_of,
    score,
    write_parquet,
)
from tests.file_builders import wfdb_record

pytestmark = pytest.mark.usefixtures("fake")

CASES = SHARED / "cases"
needs_cases = pytest.mark.skipif(
    not CASES.is_dir(), reason=f"{CASES} is not there: sample files are not part of the code"
)
REJECTS_ALLOWED = ("--max-rejected-share", "1")


def flags_by_id(output: Path) -> dict[str, list[str]]:
    return {row["ecg_id"]: row["quality_flags"] for row in predictions(output)}


def write_people(path: Path, steps_uv: list[float], signals: np.ndarray | None = None) -> list[str]:
    """Write synthetic ECGs with a step each, and perhaps other counts; return their ids."""
    made = people(len(steps_uv))
    if signals is not None:
        made = dataclasses.replace(made, counts=signals)
    table = people_table(made, uv_per_count=steps_uv)
    write_parquet(path, table)
    return list(made.ecg_id)


def test_score__a_step_of_1e30_uv_is_rejected_and_the_others_are_scored(tmp_path: Path) -> None:
    ids = write_people(tmp_path / "in" / "a.parquet", [5.0] * 7 + [1e30])
    output = tmp_path / "out"
    assert score(tmp_path / "in", output, *REJECTS_ALLOWED) == 0
    assert set(masses(output)) == set(ids[:7])
    (row,) = rejects(output)
    assert (row["ecg_id"], row["reason"]) == (ids[7], "amplitude_implausible")
    assert row["detail"].startswith("uv_per_count is 1e+30 uV, expected 0.001 to 100 uV")
    assert_reconciles(output, 8)


def test_score__a_record_five_times_too_large_is_flagged_or_rejected(tmp_path: Path) -> None:
    ids = write_people(tmp_path / "in" / "a.parquet", [5.0] * 20 + [25.0] * 4)
    output = tmp_path / "out"
    assert score(tmp_path / "in", output, *REJECTS_ALLOWED) == 0
    flags = flags_by_id(output)
    assert all("amplitude_unusual" not in flags[ecg_id] for ecg_id in ids[:20])
    rejected = {row["ecg_id"] for row in rejects(output)}
    flagged = {ecg_id for ecg_id, its in flags.items() if "amplitude_unusual" in its}
    assert rejected | flagged == set(ids[20:])
    assert report(output)["quality_flags"]["amplitude_unusual"] == len(flagged) > 0


def test_score__leads_are_judged_in_each_record(tmp_path: Path) -> None:
    signals = people(8).counts.copy()
    i, ii, avf, v6 = (CLINICAL_LEADS.index(lead) for lead in ("I", "II", "aVF", "V6"))
    signals[1, [i, ii]] = signals[1, [ii, i]]
    signals[2, v6] = np.clip(signals[2, v6].astype(int) * 30, -32768, 32767)
    signals[3, avf] = signals[3, avf] // 2
    ids = write_people(tmp_path / "in" / "a.parquet", [5.0] * 8, signals)
    output = tmp_path / "out"
    assert score(tmp_path / "in", output, *REJECTS_ALLOWED) == 0
    assert {row["ecg_id"]: row["reason"] for row in rejects(output)} == {
        ids[1]: "limb_leads_inconsistent",
        ids[2]: "lead_out_of_proportion",
    }
    flags = flags_by_id(output)
    assert "limb_leads_inconsistent" in flags[ids[3]]
    assert all("limb_leads_inconsistent" not in flags[ecg_id] for ecg_id in ids[4:])


def test_score__a_mass_outside_the_stated_range_is_flagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_jobs.scoring.unit.MASS_RANGE_G", PlausibleRange("m", 90.0, 120.0))
    write_people(tmp_path / "in" / "a.parquet", [5.0] * 12)
    output = tmp_path / "out"
    assert score(tmp_path / "in", output) == 0
    outside = {ecg_id for ecg_id, mass_g in masses(output).items() if not 90 <= mass_g <= 120}
    flagged = {e for e, flags in flags_by_id(output).items() if "mass_implausible" in flags}
    assert 0 < len(outside) < 12
    assert flagged == outside
    assert lvm("verify", output) == 0


def test_score__an_unknown_index_is_a_flag_of_the_record(tmp_path: Path) -> None:
    ids = write_people(tmp_path / "in" / "a.parquet", [5.0] * 4)
    output = tmp_path / "out"
    assert score(tmp_path / "in", output) == 0
    assert flags_by_id(output) == {ecg_id: ["index_unknown"] for ecg_id in ids}
    assert report(output)["quality_flags"] == {"index_unknown": 4}


def test_ingest__an_absurd_lead_is_rejected_before_it_coarsens_the_others(tmp_path: Path) -> None:
    counts = people(1).counts[0]
    by_lead = dict(zip(CLINICAL_LEADS, counts, strict=True))
    record = wfdb_record(by_lead, name="r", gain="200.0(0)/mV")
    header = record["r.hea"].decode()
    lines = header.splitlines()
    lines[12] = lines[12].replace("200.0(0)/mV", "0.2(0)/mV")  # V6, a thousand times too large
    (tmp_path / "in").mkdir()
    for name, text in (("good", header), ("bad", "\n".join(lines) + "\n")):
        signal_file = tmp_path / "in" / f"{name}.dat"
        signal_file.write_bytes(record["r.dat"])
        text = text.replace("r.dat", signal_file.name).replace("r 12", f"{name} 12", 1)
        (tmp_path / "in" / f"{name}.hea").write_text(text)
    output = tmp_path / "out"
    assert lvm("ingest", "--input", tmp_path / "in", "--output", output, *REJECTS_ALLOWED) == 0
    (row,) = rejects(output)
    assert (row["ecg_id"], row["reason"]) == ("bad", "lead_out_of_proportion")
    (kept,) = rows_of(output / "ecg")
    assert (kept["ecg_id"], kept["uv_per_count"]) == ("good", 5.0)


def test_score__one_lead_of_a_gain_of_its_own_is_flagged(tmp_path: Path) -> None:
    counts = people(1).counts[0]
    by_lead = dict(zip(CLINICAL_LEADS, counts, strict=True))
    record = wfdb_record(by_lead, name="r", gain="200.0(0)/mV")
    lines = record["r.hea"].decode().splitlines()
    lines[12] = lines[12].replace("200.0(0)/mV", "400.0(0)/mV")  # V6, half as large: plausible
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "r.dat").write_bytes(record["r.dat"])
    (tmp_path / "in" / "r.hea").write_text("\n".join(lines) + "\n")
    assert score(tmp_path / "in", tmp_path / "out") == 0
    assert flags_by_id(tmp_path / "out") == {"r": ["gain_differs", "index_unknown"]}


@needs_cases
def test_cases__the_wrong_gains_are_flagged_or_rejected(tmp_path: Path) -> None:
    output = tmp_path / "out"
    folder = CASES / "ecg_wrong_scale"
    assert score(folder, output, "--accept-scale", *REJECTS_ALLOWED) == 0
    assert {row["ecg_id"].split("_")[0]: row["reason"] for row in rejects(output)} == {
        "cardiosoft": "amplitude_implausible",
        "muse": "lead_out_of_proportion",
    }
    for flags in flags_by_id(output).values():
        assert "amplitude_unusual" in flags
    assert set(masses(output)) == {"HR00599", "E00018"}


@needs_cases
def test_cases__a_gain_a_thousand_times_too_large_is_a_matter_of_scale(tmp_path: Path) -> None:
    output = tmp_path / "out"
    folder = CASES / "formats" / "gain_1000x_small"
    assert lvm("ingest", "--input", folder, "--output", output, *REJECTS_ALLOWED) == 0
    assert reject_counts(output) == {"amplitude_implausible": 3}
    for row in rejects(output):
        assert "1,000 times too small" in row["detail"]


@needs_cases
def test_cases__sites_of_another_gain_are_named(tmp_path: Path) -> None:
    folder = CASES / "formats" / "mixed_scale"
    for command in ("ingest", "score"):
        output = tmp_path / command
        if command == "ingest":
            assert lvm("ingest", "--input", folder, "--output", output, *REJECTS_ALLOWED) == 0
        else:
            assert score(folder, output, *REJECTS_ALLOWED) == 0
            suspect = [r["ecg_id"] for r in rejects(output)]
            suspect += [e for e, f in flags_by_id(output).items() if "amplitude_unusual" in f]
            assert {ecg_id.split("/")[0] for ecg_id in suspect} <= {"siteB_gain5x", "siteC_gain5th"}
            assert len(suspect) == 8
        odd = report(output)["scale"]["odd_sources"]
        named = {sentence.split(":")[0] for sentence in odd if sentence.startswith("site")}
        assert named == {"siteB_gain5x", "siteC_gain5th"}
