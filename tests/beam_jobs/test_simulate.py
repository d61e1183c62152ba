"""The command simulate: files, tables and truth of a synthetic cohort."""

import csv
import datetime as dt
import json
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from beam_jobs import ingest, simulate
from beam_jobs.reading.storage import Storage
from beam_jobs.run.participants import load_participants
from beam_jobs.simulate import main
from beam_jobs.simulated_cohort import ID_PATTERN
from lvm_core.errors import LvmError, UsageError
from lvm_core.signal.ecg import LEADS_12
from lvm_core.synthetic.ecgs import ecgs_of
from lvm_core.synthetic.outcomes import OUTCOMES_TRUTH, synthetic_outcomes
from lvm_core.synthetic.people import synthetic_people
from lvm_core.synthetic.records import synthetic_records
from lvm_core.tables import schemas

N, SEED = 150, 11
MEASURED = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
AMPLITUDES = ("r_avl_uv", "s_v1_uv", "s_v3_uv", "r_v5_uv", "r_v6_uv", "qrs_duration_ms")


def _run(folder: Path, *options: str, n: int = N) -> Path:
    base = ["--participants", str(n), "--seed", str(SEED), "--output", str(folder)]
    assert main([*base, *options]) == 0
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(tmp_path_factory.mktemp("raw") / "cohort", "--threads", "1")


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _run(tmp_path_factory.mktemp("parquet") / "cohort", "--parquet", "--threads", "1")


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _ecgs(folder: Path) -> dict[str, dict[str, Any]]:
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return {row["ecg_id"]: row for table in tables for row in table.to_pylist()}


def _counts(row: dict[str, Any], leads: tuple[str, ...] = LEADS_12) -> np.ndarray:
    return np.array([row[lead] for lead in leads], dtype=np.int64)


def test_simulate__ingest_of_the_device_files_gives_the_generators_counts(raw: Path, tmp_path: Path) -> None:
    arguments = ["--input", str(raw / "raw"), "--id-pattern", ID_PATTERN]
    assert ingest.main([*arguments, "--output", str(tmp_path / "run"), "--threads", "1"]) == 0
    found = _ecgs(tmp_path / "run" / "ecg")
    people = synthetic_people(N, SEED)
    ecgs = ecgs_of(people)
    assert N < len(found) < 1.2 * N
    formats = {}
    for i, person in enumerate(people.participant_id):
        row = found[f"{person}_20205_2_0"]
        formats[i % 3] = row["source_format"]
        assert (row["participant_id"], row["recorded_at"]) == (person, people.recorded_at[i].item())
        if row["source_format"] == "muse_xml":  # four leads derived: half the step
            eight = [LEADS_12.index(lead) for lead in MEASURED]
            np.testing.assert_array_equal(_counts(row, MEASURED), 2 * ecgs.counts[i][eight])
            assert row["uv_per_count"] == 2.5
        else:
            np.testing.assert_array_equal(_counts(row), ecgs.counts[i])
            assert row["uv_per_count"] == 5.0
        for name in AMPLITUDES if row["source_format"] != "wfdb" else ():
            stated = ecgs.measurements[name][i]
            assert row[name] == (None if np.isnan(stated) else stated), name
    assert formats == {0: "cardiosoft_xml", 1: "muse_xml", 2: "wfdb"}


def test_simulate__parquet_holds_the_same_ecgs(raw: Path, parquet: Path) -> None:
    found = _ecgs(parquet / "ecg")
    names = {path.stem for path in (raw / "raw").rglob("*_20205_*")}
    assert set(found) == names
    people = synthetic_people(N, SEED)
    for repeat in (0, 1):
        ecgs = ecgs_of(people, repeat)
        for i, person in enumerate(people.participant_id):
            row = found.get(f"{person}_20205_{2 + repeat}_0")
            if row is None:
                assert repeat == 1
                continue
            np.testing.assert_array_equal(_counts(row), ecgs.counts[i])
            assert row["recorded_at"] == ecgs.recorded_at[i].item()
            for name in AMPLITUDES:
                stated = ecgs.measurements[name][i]
                assert row[name] == (None if np.isnan(stated) else stated)
    for name in ("participants.csv", "events.csv", "deaths.csv", "cmr.csv", "truth.parquet"):
        assert (raw / name).read_bytes() == (parquet / name).read_bytes()


def test_simulate__parquet_has_the_schema_of_ecgs(parquet: Path) -> None:
    (path,) = (parquet / "ecg").glob("*.parquet")
    assert pq.read_schema(path).remove_metadata().equals(schemas.ECGS.arrow)


@pytest.mark.parametrize("kind", ["raw", "parquet"])
def test_simulate__the_bytes_do_not_depend_on_the_number_of_processes(
    raw: Path, parquet: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "raw":
        again, before = _run(tmp_path / "again", "--threads", "2"), raw
        assert len(list((again / "raw").rglob("*.xml"))) > 90  # of two parts
        assert _files(again) == _files(before)
    else:
        # 1100 people are two parts; the first of them begins as the small cohort does.
        one = _run(tmp_path / "one", "--parquet", "--threads", "1", n=1100)
        two = _run(tmp_path / "two", "--parquet", "--threads", "2", n=1100)
        assert _files(one) == _files(two)
        large, small = _ecgs(one / "ecg"), _ecgs(parquet / "ecg")
        assert small.items() <= large.items()


def test_simulate__chosen_formats_take_turns(tmp_path: Path) -> None:
    folder = _run(tmp_path / "a", "--formats", "muse", "--threads", "1", n=4)
    assert [path.name for path in (folder / "raw").iterdir()] == ["muse"]
    assert len(list((folder / "raw" / "muse").glob("*.xml"))) >= 4


def test_simulate__participants_are_read_by_the_score_job(raw: Path) -> None:
    table = load_participants(Storage(), str(raw / "participants.csv")).table.arrow
    people = synthetic_people(N, SEED)
    assert table.column("participant_id").to_pylist() == list(people.participant_id)
    assert table.column("birth_date").to_pylist() == people.birth_date.tolist()
    np.testing.assert_allclose(table.column("height_cm").to_numpy(), people.height_cm, rtol=1e-6)
    np.testing.assert_allclose(table.column("weight_kg").to_numpy(), people.weight_kg, rtol=1e-6)
    sexes = np.where(people.sex_code == 1, "male", "female").tolist()
    assert table.column("sex").to_pylist() == sexes


def test_simulate__tables_are_what_the_generators_say(raw: Path) -> None:
    people = synthetic_people(N, SEED)
    records = synthetic_records(people)
    events = _rows(raw / "events.csv")
    assert list(events[0]) == ["participant_id", "date", "code", "system", "source"]
    dates = ["" if np.isnat(date) else str(date) for date in records.date]
    assert [row["date"] for row in events] == dates
    assert [row["participant_id"] for row in events] == [people.participant_id[i] for i in records.index]
    cmr = _rows(raw / "cmr.csv")
    assert [row["participant_id"] for row in cmr] == [
        person for person, has in zip(people.participant_id, people.has_cmr, strict=True) if has
    ]
    assert [float(row["lvm_cmr_g"]) for row in cmr] == people.lvm_cmr_g[people.has_cmr].tolist()
    deaths = _rows(raw / "deaths.csv")
    assert list(deaths[0]) == ["participant_id", "death_date", "ltfu_date"]
    assert all(row["death_date"] or row["ltfu_date"] for row in deaths)
    ends = {(r["region"], r["source"]): r["end_date"] for r in _rows(raw / "follow_up_ends.csv")}
    assert ends["Wales", "hes"] == "2022-05-31"
    assert len(ends) == 6


def test_simulate__truth_is_beside_the_data(raw: Path) -> None:
    truth = pq.read_table(raw / "truth.parquet")
    people = synthetic_people(N, SEED)
    outcomes = synthetic_outcomes(people)
    np.testing.assert_array_equal(truth["lvm_true_g"].to_numpy(), people.lvm_true_g)
    for name in OUTCOMES_TRUTH:
        ages = truth[f"{name}_age_years"].to_pylist()
        expected = outcomes.age_years[name]
        for age, value, happens in zip(ages, expected, outcomes.happens(name), strict=True):
            assert age == (value if happens else None)
    assert truth["death_date"].to_pylist() == outcomes.date["death"].tolist()
    report = json.loads((raw / "simulation.json").read_text())
    assert report["hazards"]["af"]["lvmi_per_10_g_m2"] == OUTCOMES_TRUTH["af"].lvmi_per_10_g_m2
    assert report["counts"]["participants.csv"] == N
    assert report["counts"]["ecgs"] == len({p.stem for p in (raw / "raw").rglob("*_20205_*")})
    assert "none of these people exists" in (raw / "README.md").read_text()
    assert "--id-pattern" in (raw / "README.md").read_text()


def test_simulate__without_ecgs_predictions_are_drawn(raw: Path, tmp_path: Path) -> None:
    folder = _run(tmp_path / "a", "--no-ecgs", "--drawn-correlation", "0.9", n=3000)
    assert not (folder / "raw").exists()
    assert not (folder / "ecg").exists()
    drawn = pq.read_table(folder / "predictions_drawn.parquet")
    assert drawn.schema.equals(schemas.PREDICTIONS.arrow)
    assert drawn["model_id"].unique().to_pylist() == ["drawn-r0.9"]
    people = synthetic_people(3000, SEED)
    lvm_pred_g = drawn["lvm_pred_g"].to_numpy()
    assert np.corrcoef(lvm_pred_g, people.lvm_true_g)[0, 1] == pytest.approx(0.9, abs=0.02)
    index_g_m2 = lvm_pred_g / people.bsa_m2
    np.testing.assert_allclose(drawn["lvmi_pred_g_m2"].to_numpy(), index_g_m2, rtol=1e-6)
    limit_g_m2 = np.where(people.sex_code == 1, 72.0, 55.0)
    assert drawn["lvh_pred"].to_pylist() == (index_g_m2 > limit_g_m2).tolist()
    avl, cornell = (drawn[name].to_numpy() for name in ("r_avl_uv", "s_v3_uv"))
    assert drawn["rule_avl"].to_pylist() == (avl > 1100).tolist()
    limit_uv = np.where(people.sex_code == 1, 2800.0, 2000.0)
    assert drawn["rule_cornell"].to_pylist() == (avl + cornell > limit_uv).tolist()
    assert 0.02 < np.mean(drawn["any_ecg_rule"].to_pylist()) < 0.3
    assert drawn["recorded_at"][0].as_py() == people.recorded_at[0].item()
    assert isinstance(drawn["recorded_at"][0].as_py(), dt.datetime)
    # The people of a larger cohort are those of the smaller one, and then more.
    few = (raw / "events.csv").read_bytes()
    assert (folder / "events.csv").read_bytes().startswith(few)


def test_simulate__a_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match=r"is not empty and no earlier simulation \(thesis.txt\)"):
        _run(tmp_path, "--overwrite", n=2)
    with pytest.raises(UsageError, match="is a file; expected a folder"):
        _run(tmp_path / "thesis.txt", n=2)
    assert _files(tmp_path) == {"thesis.txt": b"years of work"}


def test_simulate__overwrite_removes_an_earlier_simulation_alone(tmp_path: Path) -> None:
    folder = _run(tmp_path / "a", "--threads", "1", n=5)
    with pytest.raises(UsageError, match="holds a simulation; add --overwrite"):
        _run(folder, n=2)
    (folder / "raw" / "muse" / "mine.xml").write_text("mine")
    before = _files(folder)
    with pytest.raises(UsageError, match=r"holds raw/muse/mine.xml, which no simulation wrote"):
        _run(folder, "--overwrite", n=2)
    assert _files(folder) == before
    (folder / "raw" / "muse" / "mine.xml").unlink()
    fresh = _run(tmp_path / "b", "--parquet", n=2)
    assert _files(_run(folder, "--overwrite", "--parquet", n=2)) == _files(fresh)
    assert not (folder / "raw").exists()


def test_simulate__links_are_not_followed_by_overwrite(tmp_path: Path) -> None:
    folder = _run(tmp_path / "a", "--parquet", n=2)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "S1_20205_2_0.xml").write_text("precious")
    (folder / "raw").symlink_to(elsewhere)
    with pytest.raises(UsageError, match="holds raw, which no simulation wrote"):
        _run(folder, "--overwrite", "--parquet", n=2)
    assert (elsewhere / "S1_20205_2_0.xml").exists()


def test_simulate__an_interrupted_simulation_is_seen_as_unfinished_and_can_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(part: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(simulate, "write_part", interrupted)
        arguments = ["--participants", "2", "--seed", "1", "--output", str(tmp_path / "a")]
        assert main([*arguments, "--threads", "1"]) == 130
    assert json.loads((tmp_path / "a" / "simulation.json").read_text())["state"] == "unfinished"
    _run(tmp_path / "a", "--overwrite", "--threads", "1", n=2)
    assert json.loads((tmp_path / "a" / "simulation.json").read_text())["state"] == "finished"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (BrokenProcessPool(), "a process was killed.*use fewer --threads"),
        (OSError(28, "No space left on device"), "is unfinished.*No space left"),
    ],
)
def test_simulate__faults_are_reported_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, message: str
) -> None:
    def broken(part: object) -> int:
        raise fault

    monkeypatch.setattr(simulate, "write_part", broken)
    with pytest.raises(LvmError, match=message):
        _run(tmp_path / "a", "--threads", "1", n=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--participants", "0"], "--participants is 0, expected 1 or more"),
        (["--seed", "-1"], "--seed is -1, expected 0 or more"),
        (["--other-records", "nan"], "--other-records is nan, expected 0 or more"),
        (["--threads", "0"], "--threads is 0, expected 1 or more"),
        (["--drawn-correlation", "0.3"], r"--drawn-correlation is 0.3, expected 0\.7\d* to 1"),
    ],
)
def test_simulate__wrong_values_are_refused_before_anything_is_made(
    tmp_path: Path, options: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        _run(tmp_path / "a", *options)
    assert not (tmp_path / "a").exists()


def test_simulate__parquet_and_formats_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        _run(tmp_path / "a", "--parquet", "--no-ecgs")
    assert stopped.value.code == 2


def test_simulation_page__has_the_hazards_of_the_generator() -> None:
    page = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")
    for name, hazard in OUTCOMES_TRUTH.items():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
        stated = [float(cell.strip(" *")) for cell in line.split("|")[2:9]]
        assert stated == [getattr(hazard, field) for field in hazard.__slots__[1:]]
