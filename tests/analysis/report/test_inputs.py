"""What tables and settings may say: names, types, mixtures, and what `--check` finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lvm_ai
from analysis.statistics.columns import TableRefused
from analysis.study.settings import Outcome, StudyCovariate
from lvm_core.errors import UsageError
from lvm_core.medicine.body import Bsa
from lvm_core.medicine.lvh import LvhPreset
from tests.analysis.report.drawn_predictions import derived
from tests.analysis.report.small_study import IDS, STUDY, change, cmr, predictions, read, settle, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


def test_columns__win_over_a_column_of_the_standard_name(folder: Path) -> None:
    """Participants with `region`, the imaging centre, beside `nation`."""
    change(folder, "participants.csv", region="imaging centre", nation="England")
    change(folder, "cmr.csv", lvm_cmr_g="1", second_reader_g=cmr()["lvm_cmr_g"].astype(str))
    more = "columns: {persons: {region: nation}, cmr: {lvm_cmr_g: second_reader_g}}\n"
    data = read(folder, more)
    assert set(data.persons["region"]) == set(data.ecgs["region"]) == {"England"}
    assert data.cmr is not None
    assert data.cmr["lvm_cmr_g"].tolist() == cmr()["lvm_cmr_g"].tolist()


def test_columns__may_be_exchanged(folder: Path) -> None:
    scored = predictions()
    swapped = {"height_cm": "weight_kg", "weight_kg": "height_cm"}
    scored.rename(columns=swapped).to_parquet(folder / "predictions.parquet")
    data = read(folder, "columns: {predictions: {height_cm: weight_kg, weight_kg: height_cm}}\n")
    np.testing.assert_allclose(data.predictions["height_cm"], 170.0)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "columns: {persons: {regoin: nation}}\n",
            "columns of persons has regoin, which is not read; expected some of age_years, birth_",
        ),
        ("columns: {events: {code: a, kode: b}}\n", "columns of events has kode"),
        ("columns: {persons: {ethnicity: race}}\n", "participants have no column race, which"),
        ("household: home\n", "participants have no column home, which covariates, household"),
        ("covariates: [{name: sbp_mmhg, kind: number}]\n", "no column sbp_mmhg"),
    ],
)
def test_columns__that_are_not_there_are_refused(folder: Path, more: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(folder, more)


@pytest.mark.parametrize(
    "name", ["bmi_kg_m2", "age_years", "sex", "lvh", "lvm_recal_g", "event", "product_0", "quartile"]
)
def test_covariates__cannot_take_the_name_of_another_column(name: str) -> None:
    with pytest.raises(ValueError, match=rf"as in `columns: \{{persons: \{{my_{name}: {name}\}}\}}"):
        StudyCovariate(name=name, kind="number")


def test_covariates__of_a_taken_name_are_read_under_another(folder: Path) -> None:
    change(folder, "participants.csv", bmi_kg_m2=[str(20 + i) for i in range(40)])
    more = "covariates: [{name: bmi_at_baseline, kind: number}]\ncolumns: {persons: {bmi_at_baseline: bmi_kg_m2}}\n"
    ecgs = read(folder, more).ecgs.set_index("participant_id").loc[IDS]
    assert ecgs["bmi_at_baseline"].tolist() == list(range(20, 60))
    assert set(ecgs["bmi_kg_m2"]) == {25.0}


def test_covariates__have_texts_that_stand_for_unknown(folder: Path) -> None:
    words = ["NA", "null", "unknown", " "] * 10
    change(folder, "participants.csv", sbp=[*words[:20], *["120"] * 20], drinks=[*words[:20], *["none"] * 20])
    more = """\
covariates:
- {name: sbp, kind: number}
- {name: drinks, kind: category, reference: none}
"""
    persons = read(folder, more).persons
    assert persons["sbp"].isna().sum() == 20
    # A category may have the level "unknown" or "none", but not "NA".
    assert persons["drinks"].value_counts().to_dict() == {"none": 20, "unknown": 5}


@pytest.mark.parametrize(("yes", "no"), [("1.0", "0.0"), ("yes", "no")])
def test_flags__of_csv_are_read_however_they_are_written(folder: Path, yes: str, no: str) -> None:
    scored = predictions()
    expected = scored.set_index("participant_id")["lvh_pred"].astype(float)
    words = scored["lvh_pred"].map({True: yes, False: no}).astype(object)
    words[3] = "NA"
    scored.assign(lvh_pred=words).to_csv(folder / "predictions.csv", index=False)
    lvh = read(folder, predictions="predictions.csv").ecgs.set_index("participant_id")["lvh"]
    assert np.isnan(lvh[IDS[3]])
    assert lvh.drop(IDS[3]).tolist() == expected.drop(IDS[3]).tolist()
    assert 0 < lvh.sum() < len(lvh) - 1


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("lvh_pred", "perhaps", "lvh_pred that is neither yes nor no in 1 rows"),
        ("sex", "2", "sex of another word in 1 rows .*; expected female, f, male, m, or an empty"),
        ("height_cm", "tall", "height_cm that is no number in 1 rows"),
    ],
)
def test_predictions__of_another_type_are_refused(folder: Path, column: str, value: str, message: str) -> None:
    scored = predictions().astype({column: object})
    scored.loc[3, column] = value
    scored.to_csv(folder / "predictions.csv", index=False)
    with pytest.raises(TableRefused, match=message):
        read(folder, predictions="predictions.csv")


def test_sex__is_read_in_any_case_and_by_its_first_letter(folder: Path) -> None:
    scored = predictions()
    letters = scored["sex"].map({"female": "F", "male": "Male"})
    scored.assign(sex=letters).to_csv(folder / "predictions.csv", index=False)
    data = read(folder, predictions="predictions.csv")
    assert data.predictions["sex"].tolist() == scored["sex"].tolist()


def test_flags__that_no_ecg_has_and_nobody_knows_are_refused(folder: Path) -> None:
    scored = predictions().assign(quality_flags=[["noisy"]] * 3 + [[]] * 37)
    scored.to_parquet(folder / "predictions.parquet")
    with pytest.raises(TableRefused, match=r"exclude_flags names saturatd, which no ECG has .*noisy"):
        read(folder, "exclude_flags: [saturatd]\n")
    assert len(read(folder, "exclude_flags: [noisy, saturated]\n").ecgs) == 37


def test_exclude_ecg__of_a_study_leaves_its_people_out(folder: Path) -> None:
    scored = predictions().assign(rhythm=["paced"] * 3 + [None] * 2 + ["sinus"] * 35, conduction="none")
    scored.to_parquet(folder / "predictions.parquet")
    data = read(folder, "exclude_ecg: [lbbb, paced]\n")
    assert len(read(folder).ecgs) == 40
    assert len(data.ecgs) == 37
    assert data.unknown_findings.to_numpy().tolist() == [["paced", 2, 2], ["lbbb", 0, 0]]
    assert data.predictions["ecg_finding"].fillna("").tolist() == ["paced"] * 3 + [""] * 37


def test_exclude_ecg__a_wrong_name_is_refused_with_the_nearest(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"line \d+: exclude_ecg is .*'lbb' is no finding \(did you mean lbbb\?\)"):
        read(folder, "exclude_ecg: [paced, lbb]\n")


def test_sources__that_no_record_has_are_reported(folder: Path) -> None:
    change(folder, "events.csv", source=["hes"] * 7 + ["self_report"])
    found = {
        name: [note for note in read(folder, base=_with_prevalent(name)).notes if "source" in note]
        for name in ("self_report", "selfreport")
    }
    assert found["self_report"] == []
    assert len(found["selfreport"]) == 1
    assert "no record has the source 'selfreport' of prevalent_sources" in found["selfreport"][0]
    assert "Sources of the records: hes, self_report" in found["selfreport"][0]


def _with_prevalent(name: str) -> str:
    return STUDY.replace("[hes]}", f"[hes], prevalent_sources: [{name}]}}")


@pytest.mark.parametrize("text", ["", "eid,why\n"])
def test_lists__of_nobody_are_allowed_and_reported(folder: Path, text: str) -> None:
    (folder / "gone.csv").write_text(text)
    data = read(folder, withdrawn="gone.csv")
    assert len(data.ecgs) == 40
    assert "inputs.withdrawn is an empty list: it leaves nobody out" in data.notes


def test_lists__of_people_who_are_in_no_table_are_refused_unless_allowed(folder: Path) -> None:
    (folder / "gone.csv").write_text("Z1\nZ2\n")
    (folder / "some.csv").write_text(f"Z1\n{IDS[0]}\n")
    more = "training: {is_uk_biobank: true, exclude_ids: gone.csv}\n"
    message = (
        r"training.exclude_ids gone.csv has 2 identifiers, and nobody of them is in any table: it "
        r"would leave nobody out. Are identifiers written in the same way \(007 is not 7\)\?"
    )
    with pytest.raises(UsageError, match=message) as refusal:
        read(folder, more, withdrawn="some.csv")
    assert "Z1" not in str(refusal.value)
    notes = read(folder, f"{more}allow_unknown: true\n", withdrawn="some.csv").notes
    found = [note for note in notes if "leaves nobody out" in note]
    assert len(found) == 1
    assert found[0].startswith("nobody of training.exclude_ids is in any table")


@pytest.mark.parametrize("name", ["Vorhofflimmern ä", "a b", ".af", "a/b", "", "x" * 61])
def test_outcomes__are_named_so_that_files_can_be_called_after_them(name: str) -> None:
    with pytest.raises(ValueError, match="files are named after outcomes: expected at most 60"):
        Outcome(name=name, incident_sources=("hes",))


def _as_csv(folder: Path, table: pd.DataFrame) -> None:
    table.to_csv(folder / "predictions.csv", index=False)


def test_predictions__of_a_mixture_of_formulas_are_refused_without_a_footer(folder: Path) -> None:
    scored = predictions()
    other = derived(scored, Bsa.MOSTELLER)
    off = (scored["lvmi_pred_g_m2"] / other["lvmi_pred_g_m2"] - 1).abs() > 0.005
    mixed = pd.concat([scored[:30], other[30:]])
    _as_csv(folder, mixed)
    n = int(off[30:].sum())
    assert n > 2
    message = (
        f"lvmi_pred_g_m2 is not lvm_pred_g / body surface area by the formula of dubois in {n} of "
        r"40 ECGs \(more than 0.5 % off\), which fit mosteller; expected one formula"
    )
    with pytest.raises(UsageError, match=message):
        read(folder, predictions="predictions.csv")
    _as_csv(folder, other)
    assert len(read(folder, "bsa_formula: mosteller\n", predictions="predictions.csv").ecgs) == 40


def test_predictions__of_another_preset_are_refused_without_a_footer(folder: Path) -> None:
    scored = predictions()
    scored["lvm_pred_g"] = scored["lvm_pred_g"].where(
        scored.index > 0, 71.0 * scored["bsa_m2"]
    )  # as one that is drawn, man 0 is between the limits of 70 and 72
    _as_csv(folder, derived(scored, preset=LvhPreset.PETERSEN2017))
    message = (
        "lvh_pred is not what the limits of khurshid2021 make of lvmi_pred_g_m2 in 2 of 40 ECGs, "
        "which fit petersen2017; expected one preset"
    )
    with pytest.raises(UsageError, match=message):
        read(folder, predictions="predictions.csv")
    read(folder, "lvh_preset: petersen2017\n", predictions="predictions.csv")


def test_predictions__that_are_rounded_are_no_mixture(folder: Path) -> None:
    scored = predictions()
    scored["lvm_pred_g"] = scored["lvm_pred_g"].where(scored.index > 0, 72.04 * scored["bsa_m2"])
    rounded = {"lvm_pred_g": 1, "lvmi_pred_g_m2": 1, "height_cm": 0, "weight_kg": 1, "bsa_m2": 2}
    _as_csv(folder, derived(scored).round(rounded))
    assert len(read(folder, predictions="predictions.csv").ecgs) == 40


def test_predictions__without_a_footer_say_that_the_convention_is_not_known(folder: Path) -> None:
    assert any("one input convention cannot be checked" in note for note in read(folder).notes)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("covariates: [{name: sbp, kind: number}]", "participants have no column sbp"),
        ("covariates: [{name: region, kind: number}]", "region has 40 values that are not a number"),
        ("bsa_formula: mosteller", "which fit dubois"),
    ],
)
def test_check__finds_what_can_be_known_before_fitting(
    folder: Path, more: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settle(folder, f"{more}\n")
    assert lvm_ai.main(["analyse", str(path), "--check"]) in (1, 2)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("af", "mi", "has no codes of mi; it has the outcomes af"),
        ("ecg_cmr: 30", "ecg_cmr: null", "but inputs.cmr has dates; expected how far an ECG may"),
    ],
)
def test_check__finds_what_the_lists_and_the_cmr_do_not_have(
    folder: Path, old: str, new: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settle(folder, base=STUDY.replace(old, new))
    assert lvm_ai.main(["analyse", str(path), "--check"]) == 2
    assert message in capsys.readouterr().err


def test_check__finds_predictions_of_several_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored = predictions()
    scored.assign(model_id=["one", "two"] * 20).to_parquet(folder / "predictions.parquet")
    assert lvm_ai.main(["analyse", str(settle(folder)), "--check"]) == 2
    assert "predictions are of 2 models (one, two)" in capsys.readouterr().err


def test_check__shows_counts_and_then_what_to_know_of_the_inputs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "gone.csv").write_text("")
    assert lvm_ai.main(["analyse", str(settle(folder, withdrawn="gone.csv")), "--check"]) == 0
    shown = capsys.readouterr()
    assert "Analysed 40" in " ".join(shown.out.split())
    assert "warning: inputs.withdrawn is an empty list: it leaves nobody out\n" in shown.err


def test_ecg_only__of_other_ecgs_is_refused_with_the_form_of_an_id_of_each(folder: Path) -> None:
    other = predictions()
    other.assign(ecg_id="x" + other["ecg_id"]).to_parquet(folder / "only.parquet")
    with pytest.raises(UsageError, match="form 9999999_9, of the latter A9999999_9 "):
        read(folder, predictions_ecg_only="only.parquet")


def test_regions__that_no_end_of_records_has_are_reported(folder: Path) -> None:
    change(folder, "participants.csv", region="england")
    found = [note for note in read(folder).notes if "region" in note]
    assert len(found) == 1
    assert "Participants have 'england', the ends 'England'" in found[0]
    change(folder, "participants.csv", region="England")
    assert not any("region" in note for note in read(folder).notes)


def test_ecg_only__of_several_models_is_refused(folder: Path) -> None:
    other = predictions().assign(model_id=["one", "two"] * 20)
    other.to_parquet(folder / "only.parquet")
    with pytest.raises(UsageError, match=r"has several models \(one, two\); expected one row"):
        read(folder, predictions_ecg_only="only.parquet")
