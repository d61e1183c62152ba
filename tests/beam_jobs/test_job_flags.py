"""Flags of the signal in the output of ingest and score, and runs that reject ECGs for flags."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lvm_core.signal.quality import PlausibleRange
from lvm_core.synthetic.ecgs import SyntheticEcgs
from tests.beam_jobs.job_helpers import (
    CLINICAL_LEADS,
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
    write_participants,
)
from tests.file_builders import wfdb_record

pytestmark = pytest.mark.usefixtures("fake")

N = 6
IDS = [f"r{i}" for i in range(N)]
EXPECTED = {"r1": {"mains_noise"}, "r3": {"pacing_spikes"}}
REJECTS_ALLOWED = ("--max-rejected-share", "1")
Rows = list[dict[str, object]]


def _disturbed() -> NDArray[np.int16]:
    """Return (6, 12, 5000) counts of 5 uV: mains in the second, spikes in the fourth."""
    counts = people(N).counts.copy()
    v2, v3 = CLINICAL_LEADS.index("V2"), CLINICAL_LEADS.index("V3")
    counts[1, v2] += np.rint(40 * np.sin(2 * np.pi * 50 * np.arange(5000) / 500)).astype(np.int16)
    counts[3, [v2, v3], 200::500] += 200
    return counts


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Device files r0 to r5."""
    folder = tmp_path / "input"
    folder.mkdir()
    for ecg_id, one in zip(IDS, _disturbed(), strict=True):
        by_lead = dict(zip(CLINICAL_LEADS, one, strict=True))
        for name, content in wfdb_record(by_lead, name=ecg_id, gain="200.0(0)/mV").items():
            (folder / name).write_bytes(content)
    return folder


def _people() -> SyntheticEcgs:
    return dataclasses.replace(people(N), counts=_disturbed(), ecg_id=tuple(IDS))


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """The same ECGs as a table without flags."""
    write_parquet(tmp_path / "table" / "a.parquet", people_table(_people()))
    return tmp_path / "table"


def _of_signal(rows: Rows) -> dict[object, set[str]]:
    """Return the flags of mains and spikes by ecg_id, of ECGs that have one."""
    found = {row["ecg_id"]: {"mains_noise", "pacing_spikes"} & set(row["quality_flags"]) for row in rows}  # type: ignore[call-overload]
    return {ecg_id: flags for ecg_id, flags in found.items() if flags}


def _ids(rows: Rows) -> set[object]:
    return {row["ecg_id"] for row in rows}


def test_flags__ingest_writes_them_and_score_keeps_them(files: Path, tmp_path: Path) -> None:
    ecg, output, direct = tmp_path / "ecg", tmp_path / "out", tmp_path / "direct"
    assert lvm("ingest", "--input", files, "--output", ecg) == 0
    assert _of_signal(rows_of(ecg / "ecg")) == EXPECTED
    assert report(ecg)["quality_flags"]["mains_noise"] == 1
    assert score(ecg, output) == 0
    assert _of_signal(predictions(output)) == EXPECTED
    assert score(files, direct) == 0
    by_way = [[row["quality_flags"] for row in predictions(one)] for one in (output, direct)]
    assert by_way[0] == by_way[1]
    assert lvm("verify", direct, "--input", files) == 0


def test_flags__of_parquet_only_where_asked(parquet: Path, tmp_path: Path) -> None:
    for which, expected in (("files", {}), ("all", EXPECTED), ("never", {})):
        output = tmp_path / f"score-{which}"
        assert score(parquet, output, "--signal-flags", which) == 0
        assert _of_signal(predictions(output)) == expected
        assert set(masses(output)) == set(IDS)


def test_flags__never_means_never(files: Path, tmp_path: Path) -> None:
    assert lvm("ingest", "--input", files, "--output", tmp_path / "ecg", "--signal-flags", "never") == 0
    assert _of_signal(rows_of(tmp_path / "ecg" / "ecg")) == {}


def test_reject_flags__says_that_the_signals_of_a_table_were_never_looked_at(
    files: Path, parquet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, more in (("looked", ()), ("never", ("--signal-flags", "never"))):
        assert lvm("ingest", "--input", files, "--output", tmp_path / name, *more) == 0
    said = "the signals of 1 Parquet file were never looked at for quality flags"
    for table, flags, expected in (
        (tmp_path / "looked" / "ecg", "mains_noise", False),
        (tmp_path / "never" / "ecg", "mains_noise", True),
        (parquet, "mains_noise", True),
        (parquet, "saturated", False),  # of voltages, which scoring looks at
    ):
        capsys.readouterr()
        output = tmp_path / f"{table.parent.name}-{flags}"
        assert score(table, output, "--reject-flags", flags, "--dry-run", *REJECTS_ALLOWED) == 0
        assert (said in capsys.readouterr().err) == expected
    assert score(parquet, tmp_path / "all", "--reject-flags", "mains_noise", "--signal-flags", "all", "--dry-run") == 0
    assert said not in capsys.readouterr().err


def test_plan__a_run_without_the_options_has_the_settings_of_earlier_versions(files: Path, tmp_path: Path) -> None:
    assert score(files, tmp_path / "run") == 0
    settings = json.loads((tmp_path / "run" / "plan.json").read_text())["settings"]
    assert not {"signal_flags", "reject_flags"} & set(settings)


@pytest.mark.parametrize("job", ["ingest", "score"])
def test_reject_flags__only_ecgs_with_one_of_them(job: str, files: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    run: dict[str, Callable[..., int]] = {
        "ingest": lambda *more: lvm("ingest", "--input", files, "--output", output, *REJECTS_ALLOWED, *more),
        "score": lambda *more: score(files, output, *REJECTS_ALLOWED, *more),
    }
    assert run[job]("--reject-flags", "pacing_spikes,saturated") == 0
    done = rows_of(output / ("ecg" if job == "ingest" else "predictions"))
    assert _ids(done) == set(IDS) - {"r3"}
    (row,) = rejects(output)
    assert (row["ecg_id"], row["reason"], row["stage"]) == ("r3", "quality_flag", job)
    assert row["detail"] == "quality flags pacing_spikes, which --reject-flags names"
    assert row["source_uri"] == "r3.hea"
    assert report(output)["counts"]["rejected"] == {"quality_flag": 1}
    assert_reconciles(output, N)
    assert lvm("verify", output, "--input", files) == 0
    # Another list is another run.
    assert run[job]("--reject-flags", "saturated") == 2
    assert run[job]("--reject-flags", "saturated,pacing_spikes") == 0


def test_reject_flags__of_voltages_at_ingest(files: Path, tmp_path: Path) -> None:
    counts = 4 * _disturbed()[0]
    by_lead = dict(zip(CLINICAL_LEADS, counts, strict=True))
    for name, content in wfdb_record(by_lead, name="large", gain="200.0(0)/mV").items():
        (files / name).write_bytes(content)
    argv = ["ingest", "--input", files, "--output", tmp_path / "ecg", *REJECTS_ALLOWED]
    assert lvm(*argv, "--reject-flags", "amplitude_unusual") == 0
    assert _ids(rejects(tmp_path / "ecg")) == {"large"}
    assert _ids(rows_of(tmp_path / "ecg" / "ecg")) == set(IDS)


def test_reject_flags__of_people_and_masses(
    parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_participants(tmp_path / "people.csv", _people(), height_cm_2="", weight_kg_4="900")
    plain = tmp_path / "plain"
    assert score(parquet, plain, "--participants", table) == 0
    flags = {row["ecg_id"]: row["quality_flags"] for row in predictions(plain)}
    assert "index_unknown" in flags["r2"]
    assert {"index_unknown", "weight_out_of_range"} <= set(flags["r4"])
    mass_g = masses(plain)
    monkeypatch.setattr(
        "beam_jobs.scoring.unit.MASS_RANGE_G", PlausibleRange("m", 0.0, float(np.median(list(mass_g.values()))))
    )
    large = {ecg_id for ecg_id, value in mass_g.items() if value > np.median(list(mass_g.values()))}
    output = tmp_path / "run"
    argv = ["--participants", table, *REJECTS_ALLOWED, "--reject-flags", "index_unknown,mass_implausible"]
    assert score(parquet, output, *argv) == 0
    assert _ids(rejects(output)) == {"r2", "r4"} | large
    assert reject_counts(output) == {"quality_flag": len({"r2", "r4"} | large)}
    assert masses(output) == {ecg_id: mass_g[ecg_id] for ecg_id in set(IDS) - {"r2", "r4"} - large}
    assert {row["participant_id"] for row in rejects(output)} <= set(_people().participant_id)
    assert_reconciles(output, N)
    capsys.readouterr()
    assert lvm("ingest", "--input", parquet, "--output", tmp_path / "e", "--reject-flags", "index_unknown") == 2
    assert "only lvm-ai score knows" in capsys.readouterr().err


def test_reject_flags__an_unknown_flag_is_refused_with_the_nearest(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(files, tmp_path / "run", "--reject-flags", "saturatd") == 2
    assert "'saturatd', which is no quality flag (did you mean saturated?)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
