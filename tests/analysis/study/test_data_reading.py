"""What a study reads: covariates by their types, models and conventions that cannot be mixed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lvm_ai
from analysis.report.topics.cmr_pairs import cmr_pairs
from analysis.study.data import StudyData, read_study_data
from analysis.study.inputs import load_study
from lvm_core.errors import UsageError
from lvm_core.medicine.body import Bsa
from lvm_core.tables import schemas
from tests.analysis.report.drawn_predictions import derived

STUDY = """\
name: read
inputs:
  predictions: predictions.parquet
  participants: participants.csv
  deaths: cohort/deaths.csv
  events: cohort/events.csv
  follow_up_ends: cohort/follow_up_ends.csv
  code_list: codes.csv
outcomes:
- {name: af, incident_sources: [hes]}
primary_outcome: af
"""
CODES = "code,system,match,outcome,source,comment\nI48,icd10,prefix,af,hand,\n"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("read") / "cohort"
    people = ["--participants", "1500", "--seed", "4", "--no-ecgs"]
    assert lvm_ai.main(["simulate", *people, "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def folder(cohort: Path, tmp_path: Path) -> Path:
    (tmp_path / "cohort").symlink_to(cohort)
    drawn = pd.read_parquet(cohort / "predictions_drawn.parquet")
    drawn.to_parquet(tmp_path / "predictions.parquet")
    pd.read_csv(cohort / "participants.csv", dtype=str).to_csv(tmp_path / "participants.csv", index=False)
    (tmp_path / "codes.csv").write_text(CODES)
    return tmp_path


def read(folder: Path, more: str = "") -> StudyData:
    (folder / "study.yaml").write_text(STUDY + more)
    return read_study_data(load_study(folder / "study.yaml"))


def change(folder: Path, name: str, **columns: object) -> None:
    table = pd.read_csv(folder / name, dtype=str)
    table.assign(**columns).to_csv(folder / name, index=False)


def test_covariates__become_numbers_flags_and_texts(folder: Path) -> None:
    table = pd.read_csv(folder / "participants.csv", dtype=str)
    table["smoking"] = ["yes", "no", "", "TRUE", "0"] * (len(table) // 5)
    table["site"] = ["a", "b", " a ", "", "b"] * (len(table) // 5)
    table.loc[0, "sbp_mmhg"] = ""
    table.to_csv(folder / "participants.csv", index=False)
    more = """\
covariates:
- {name: sbp_mmhg, kind: number}
- {name: smoking, kind: yes_no}
- {name: site, kind: category, reference: a}
"""
    persons = read(folder, more).persons.set_index("participant_id").loc[table["participant_id"]]
    assert pd.isna(persons["sbp_mmhg"].iloc[0])
    assert persons["smoking"].head(5).fillna(-1).tolist() == [1, 0, -1, 1, 0]
    assert persons["site"].head(5).fillna("?").tolist() == ["a", "b", "a", "?", "b"]


@pytest.mark.parametrize(
    ("covariate", "message"),
    [
        ("{name: sbp, kind: number}", "participants have no column sbp, which covariates, "),
        ("{name: region, kind: number}", "1500 values that are not a number.*row 1: 'England'"),
        ("{name: sbp_mmhg, kind: yes_no}", r"not yes or no.*row 1: '\d+';.*\): expected yes or no"),
        (
            "{name: region, kind: category, reference: Englnd}",
            "reference 'Englnd', expected one of its levels: England, Scotland, Wales",
        ),
    ],
)
def test_covariates__of_another_kind_are_refused(folder: Path, covariate: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(folder, f"covariates: [{covariate}]\n")


def with_footer(folder: Path, part: str, rows: slice, **settings: str) -> None:
    made = {
        "input_convention": "ukb_counts",
        "bsa": "dubois",
        "lvh_preset": "khurshid2021",
        "models": [{"model_id": "m", "sha256": "abc"}],
        **settings,
    }
    content = json.dumps({"provenance": {"settings": made}}).encode()
    drawn = pd.read_parquet(folder / "predictions.parquet").iloc[rows]
    table = pa.Table.from_pandas(drawn, preserve_index=False)
    table = table.replace_schema_metadata({schemas.FOOTER_KEY: content})
    (folder / "scored" / "predictions").mkdir(parents=True, exist_ok=True)
    pq.write_table(table, folder / "scored" / "predictions" / part)


@pytest.mark.parametrize(
    ("name", "other", "message"),
    [
        ("input_convention", "microvolts_over_2000", "several input_convention: micro.*, ukb_c"),
        ("bsa", "mosteller", "several bsa: dubois, mosteller"),
        ("lvh_preset", "petersen2017", "several lvh_preset"),
    ],
)
def test_predictions__of_several_conventions_are_refused(folder: Path, name: str, other: str, message: str) -> None:
    with_footer(folder, "0.parquet", slice(0, 700))
    with_footer(folder, "1.parquet", slice(700, None), **{name: other})
    (folder / "study.yaml").write_text(STUDY.replace("predictions.parquet", "scored"))
    with pytest.raises(UsageError, match=message):
        read_study_data(load_study(folder / "study.yaml"))


def test_predictions__of_another_convention_than_the_study_states_are_refused(folder: Path) -> None:
    drawn = pd.read_parquet(folder / "predictions.parquet")
    derived(drawn, Bsa.MOSTELLER).to_parquet(folder / "predictions.parquet")
    with_footer(folder, "0.parquet", slice(None), bsa="mosteller")
    text = STUDY.replace("predictions.parquet", "scored")
    (folder / "study.yaml").write_text(text)
    with pytest.raises(UsageError, match="write `bsa_formula: mosteller`, or score the ECGs again"):
        read_study_data(load_study(folder / "study.yaml"))
    (folder / "study.yaml").write_text(f"{text}bsa_formula: mosteller\n")
    data = read_study_data(load_study(folder / "study.yaml"))
    assert data.provenance["bsa"] == "mosteller"
    assert data.provenance["model_sha256"] == "abc"


def test_model_strata__have_an_sd_each(folder: Path) -> None:
    drawn = pd.read_parquet(folder / "predictions.parquet")
    drawn["model_id"] = ["one", "two"] * (len(drawn) // 2)
    drawn.loc[drawn["model_id"] == "two", "lvm_pred_g"] *= 2
    derived(drawn).to_parquet(folder / "predictions.parquet")
    with pytest.raises(UsageError, match=r"of 2 models \(one, two\), expected one; or set `model"):
        read(folder)
    sd = read(folder, "model_strata: true\n").sd
    assert sd["exposure, two"] == pytest.approx(2 * sd["exposure, one"], rel=0.1)


def test_ecg_only__is_joined_by_ecg(folder: Path) -> None:
    drawn = pd.read_parquet(folder / "predictions.parquet")
    other = drawn[["ecg_id", "lvm_pred_g"]].assign(lvm_pred_g=drawn["lvm_pred_g"] + 7)
    other.sample(frac=1, random_state=1).to_parquet(folder / "only.parquet")
    text = STUDY.replace("  deaths:", "  predictions_ecg_only: only.parquet\n  deaths:")
    (folder / "study.yaml").write_text(text)
    data = read_study_data(load_study(folder / "study.yaml"))
    assert (data.ecgs["lvm_ecg_only_g"] - data.ecgs["lvm_pred_g"]).round(3).eq(7).all()
    # One SD is that of everybody with an index ECG, as for the exposure, before anybody is left out
    # for what the region's records or a death say.
    assert data.sd["lvm_ecg_only_g"] == pytest.approx(data.sd["mass_g"])
    assert data.sd["lvm_ecg_only_g"] != pytest.approx(data.ecgs["lvm_ecg_only_g"].std())


def test_fixed_sd__is_the_one_that_is_stated(folder: Path) -> None:
    assert read(folder, "sd: 9.5\n").sd["exposure"] == 9.5


def test_dates__of_the_predictions_are_of_the_format_that_the_study_names(folder: Path) -> None:
    """The third of April must not become the fourth of March."""
    drawn = pd.read_parquet(folder / "predictions.parquet").drop(columns="quality_flags")
    drawn["recorded_at"] = drawn["recorded_at"].dt.strftime("%d/%m/%Y")
    drawn.to_csv(folder / "predictions.csv", index=False)
    (folder / "study.yaml").write_text(
        STUDY.replace("predictions.parquet", "predictions.csv") + 'date_formats: {predictions: "%d/%m/%Y"}\n'
    )
    found = read_study_data(load_study(folder / "study.yaml")).predictions.set_index("ecg_id")
    for ecg_id, text in drawn.set_index("ecg_id")["recorded_at"].head(50).items():
        assert found.loc[ecg_id, "recorded_at"].strftime("%d/%m/%Y") == text


def test_body_size__too_far_from_an_ecg_leaves_its_index_unknown(folder: Path) -> None:
    change(folder, "participants.csv", body_size_date="2010-01-01")
    people = pd.read_csv(folder / "participants.csv", dtype=str)
    recorded = pd.read_parquet(folder / "predictions.parquet").set_index("participant_id")
    near = people["participant_id"].iloc[:700]
    days = recorded.loc[near, "recorded_at"].dt.strftime("%Y-%m-%d").to_numpy()
    people.loc[:699, "body_size_date"] = days
    people.loc[0, "body_size_date"] = ""
    people.to_csv(folder / "participants.csv", index=False)
    data = read(folder, "max_days_body_size: 30\n")
    known = data.predictions.set_index("participant_id")["lvmi_pred_g_m2"].notna()
    assert known.sum() == 699
    assert not known[near.iloc[0]]
    assert data.predictions["lvm_pred_g"].notna().all()
    assert set(data.ecgs["participant_id"]) <= set(near)


def test_cmr__of_excluded_people_alone_is_empty(folder: Path) -> None:
    """As where everybody imaged may be of the training set; their identifiers are right."""
    imaged = pd.read_csv(folder / "cohort" / "cmr.csv", dtype=str)["participant_id"]
    (folder / "training.txt").write_text("\n".join(imaged.unique()) + "\n")
    text = STUDY.replace("  deaths:", "  cmr: cohort/cmr.csv\n  deaths:")
    more = "cmr: {max_days_ecg_cmr: 365}\ntraining: {exclude_ids: training.txt}\n"
    (folder / "study.yaml").write_text(text + more)
    data = read_study_data(load_study(folder / "study.yaml"))
    assert data.cmr is not None
    assert len(data.cmr) == 0
    assert len(cmr_pairs(data)) == 0


def test_cmr__may_have_names_and_dates_of_its_own(folder: Path) -> None:
    cmr = pd.read_csv(folder / "cohort" / "cmr.csv", dtype=str)
    expected = pd.to_datetime(cmr["cmr_date"])
    cmr["cmr_date"] = expected.dt.strftime("%d.%m.%Y")
    cmr.rename(columns={"participant_id": "eid"}).to_csv(folder / "cmr.csv", index=False)
    text = STUDY.replace("  deaths:", "  cmr: cmr.csv\n  deaths:")
    more = """\
cmr: {max_days_ecg_cmr: 365}
columns: {cmr: {participant_id: eid}}
date_formats: {cmr: "%d.%m.%Y"}
"""
    (folder / "study.yaml").write_text(text + more)
    found = read_study_data(load_study(folder / "study.yaml")).cmr
    assert found is not None
    assert found["cmr_date"].tolist() == expected.tolist()


def test_landmark__the_follow_up_without_it_is_read_too(folder: Path) -> None:
    """For the landmarks of sensitivity analyses that come before the study's."""
    plain, late = read(folder), read(folder, "latency_days: 30\n")
    assert plain.follow_up_from_index is None
    assert late.follow_up_from_index is not None
    pd.testing.assert_frame_equal(late.follow_up_from_index, plain.follow_up)
    assert late.follow_up["time_days"].sum() < plain.follow_up["time_days"].sum()
    unreported = read(folder, "latency_days: 30\nreport: false\n")
    assert unreported.follow_up_from_index is None


def test_about__holds_what_tables_need(folder: Path) -> None:
    about = read(folder, "index: {rule: all}\n").about
    assert (about.several_ecgs, about.several_models, about.time_scale) == (True, False, "follow_up")
