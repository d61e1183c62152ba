"""Voltages that cannot be right stop a run before anything is scored."""

from pathlib import Path

import pytest

from tests.beam_jobs.job_helpers import (
    fake_mass_g,
    lvm,
    masses,
    people,
    people_table,
    reject_counts,
    rejects,
    report,
    result_files,
    score,
    write_parquet,
)

pytestmark = pytest.mark.usefixtures("fake")

# The synthetic ECGs are right at 5 uV per count.
WRONG = [
    (25.0, "5 times too large"),
    (1.0, "5 times too small"),
    (5000.0, "1,000 times too large"),
    (0.005, "1,000 times too small"),
]


def write_scaled(path: Path, uv_per_count: float) -> Path:
    return write_parquet(path, people_table(people(24), uv_per_count=uv_per_count))


@pytest.mark.parametrize(("uv_per_count", "named"), WRONG)
def test_scale__wrong_one_stops_before_anything_is_scored(
    uv_per_count: float, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ecgs = write_scaled(tmp_path / "in" / "a.parquet", uv_per_count)
    output = tmp_path / "out"
    assert score(ecgs, output) == 1
    message = capsys.readouterr().err
    assert named in message
    assert "nothing was scored" in message
    assert "--accept-scale" in message
    assert "lvm-ai scale-check" in message
    assert result_files(output) == {}
    assert not (output / "_SUCCESS").exists()


def test_scale__right_one_goes_on(tmp_path: Path) -> None:
    ecgs = write_scaled(tmp_path / "in" / "a.parquet", 5.0)
    assert score(ecgs, tmp_path / "out") == 0
    assert 300 <= report(tmp_path / "out")["scale"]["median_lead_ii_amplitude_uv"] <= 3300


@pytest.mark.parametrize(("uv_per_count", "named"), WRONG[:2])
def test_scale__accepted_one_goes_on_with_a_warning(
    uv_per_count: float, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ecgs = write_scaled(tmp_path / "in" / "a.parquet", uv_per_count)
    output = tmp_path / "out"
    assert score(ecgs, output, "--accept-scale", "--max-rejected-share", "1") == 0
    assert named in capsys.readouterr().err
    # What no ECG is stays rejected; the others are flagged.
    implausible = {row["ecg_id"] for row in rejects(output)}
    assert reject_counts(output).keys() <= {"amplitude_implausible"}
    expected = fake_mass_g(people(24), uv_per_count)
    assert masses(output) == {k: v for k, v in expected.items() if k not in implausible}
    assert len(implausible) < 12
    assert report(output)["quality_flags"]["amplitude_unusual"] > 10


def test_scale__after_a_stop_the_corrected_input_goes_into_the_same_folder(tmp_path: Path) -> None:
    ecgs = write_scaled(tmp_path / "in" / "a.parquet", 25.0)
    assert score(ecgs, tmp_path / "out") == 1
    write_scaled(ecgs, 5.0)
    assert score(ecgs, tmp_path / "out") == 0
    assert masses(tmp_path / "out") == fake_mass_g(people(24))


def test_scale__after_a_stop_the_same_command_can_be_accepted(tmp_path: Path) -> None:
    ecgs = write_scaled(tmp_path / "in" / "a.parquet", 25.0)
    assert score(ecgs, tmp_path / "out") == 1
    accepted = ["--accept-scale", "--max-rejected-share", "1"]
    assert score(ecgs, tmp_path / "out", *accepted) == 0
    assert score(ecgs, tmp_path / "out") == 0


def test_scale__whole_run_is_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # 1 ECG of each unit is looked at beforehand, and those are right; the other 7 are not.
    monkeypatch.setattr("beam_jobs.scale.SAMPLE_ECGS", 3)
    steps = [5.0 if row % 8 == 0 else 25.0 for row in range(24)]
    table = people_table(people(24), uv_per_count=steps)
    write_parquet(tmp_path / "in" / "a.parquet", table)
    assert score(tmp_path / "in", tmp_path / "out") == 1
    assert "scale of the whole run" in capsys.readouterr().err
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    accepted = ["--accept-scale", "--max-rejected-share", "1"]
    assert score(tmp_path / "in", tmp_path / "out", *accepted) == 0


@pytest.mark.parametrize(
    ("uv_per_count", "code", "said"),
    [(5.0, 0, "plausible"), (25.0, 1, "5 times too large"), (1.0, 1, "5 times too small")],
)
def test_scale_check__says_what_the_data_look_like(
    uv_per_count: float, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ecgs = write_scaled(tmp_path / "in" / "a.parquet", uv_per_count)
    assert lvm("scale-check", "--input", ecgs) == code
    out = capsys.readouterr().out
    assert said in out
    assert "ECGs looked at: 24" in out


def test_scale_check__swapped_leads_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = people_table(people(24))
    swapped = table.rename_columns([{"aVL": "aVF", "aVF": "aVL"}.get(name, name) for name in table.column_names])
    ecgs = write_parquet(tmp_path / "in" / "a.parquet", swapped)
    assert lvm("scale-check", "--input", ecgs) == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if "leads:" in line)
    assert "aVL" in line
    assert "aVF" in line
    assert "III" not in line.split("do not follow")[0]
