"""The study files and the code list that come with the package."""

from __future__ import annotations

import re
import shutil
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
import yaml

from analysis.study.code_lists import read_code_list
from analysis.study.inputs import load_study
from analysis.study.settings import Study
from lvm_core.synthetic.records import CODE_LISTS, CODE_SYSTEMS, CODE_TEXTS, OTHER_CODES
from tests.builders import in_code_list

PRESETS = ("demo", "ehr", "mgb", "omop", "outcomes", "ukb", "ukb_rap")
PAPER_OUTCOMES = {"af", "mi", "heart_failure", "ventricular_arrhythmia"}
NEGATIVE_CONTROL = "negative_control"


def folder() -> Path:
    """Return the folder of the presets."""
    return Path(str(files("studies")))


def code_list() -> pd.DataFrame:
    """Return the list that is shipped."""
    return read_code_list(folder() / "code_lists" / "outcomes.csv")


def finds(codes: pd.DataFrame, outcome: str, code: str, system: str) -> bool:
    """Return whether a list finds a code, plainly written."""
    own = codes[(codes["outcome"] == outcome) & (codes["system"] == system.replace("-", ""))]
    plain = code.replace(".", "").upper()
    return any(plain.startswith(row.code) if row.match == "prefix" else plain == row.code for row in own.itertuples())


def loaded(name: str, beside: Path) -> Study:
    """Load a preset from a folder where each input that it names is an empty file."""
    path = beside / f"{name}.yaml"
    shutil.copyfile(folder() / path.name, path)
    inputs = yaml.safe_load(path.read_text(encoding="utf-8"))["inputs"]
    for name_of_input, given in inputs.items():
        assert not Path(given).is_absolute()
        (beside / given).parent.mkdir(parents=True, exist_ok=True)
        if name_of_input == "extract":
            (beside / given).mkdir(exist_ok=True)
        else:
            (beside / given).touch()
    return load_study(path)


def test_presets__are_all_tested() -> None:
    assert sorted(path.stem for path in folder().glob("*.yaml")) == list(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_preset__is_a_valid_study(name: str, tmp_path: Path) -> None:
    assert loaded(name, tmp_path).name


@pytest.mark.parametrize("name", PRESETS)
def test_preset__names_outcomes_of_the_code_list(name: str, tmp_path: Path) -> None:
    known = set(code_list()["outcome"])
    study = loaded(name, tmp_path)
    assert {one.name for one in study.all_outcomes} <= known
    assert all(one.label for one in study.all_outcomes)


@pytest.mark.parametrize("name", PRESETS)
def test_preset__explains_itself_in_comments(name: str) -> None:
    text = (folder() / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("name", PRESETS)
def test_preset__hides_small_counts(name: str, tmp_path: Path) -> None:
    release = loaded(name, tmp_path).release
    assert (release.rule, release.k, release.base) == ("standard", 10, 1)


@pytest.mark.parametrize("name", ["ukb", "mgb"])
def test_evaluation__pairs_ecgs_with_cmr(name: str, tmp_path: Path) -> None:
    study = loaded(name, tmp_path)
    assert study.inputs.cmr is not None
    assert study.cmr is not None
    assert study.cmr.max_days_ecg_cmr is not None


def test_ukb__says_that_the_model_was_trained_there(tmp_path: Path) -> None:
    training = loaded("ukb", tmp_path).training
    assert training.is_uk_biobank
    assert training.overlap == "unknown"


def test_ukb__shows_how_to_state_a_date_of_imaging() -> None:
    text = (folder() / "ukb.yaml").read_text(encoding="utf-8")
    assert "# exclude_imaged_before:" in text


def test_mgb__ends_follow_up_by_encounters(tmp_path: Path) -> None:
    study = loaded("mgb", tmp_path)
    assert study.inputs.encounters is not None
    assert study.hospital is not None
    assert study.hospital.grace_days > 0


# So many of the simulated people have atrial fibrillation that its figures with LVH are not hidden.
@pytest.mark.parametrize(("name", "primary"), [("outcomes", "heart_failure"), ("demo", "af")])
def test_outcomes__are_the_papers_four(name: str, primary: str, tmp_path: Path) -> None:
    study = loaded(name, tmp_path)
    assert {one.name for one in study.outcomes} == PAPER_OUTCOMES
    assert study.primary_outcome == primary
    assert study.hazard_ratios
    assert study.negative_control is not None
    assert study.negative_control.name == NEGATIVE_CONTROL


def test_outcomes__has_blood_pressure_as_a_mediator(tmp_path: Path) -> None:
    covariates = {one.name: one for one in loaded("outcomes", tmp_path).covariates}
    assert list(covariates) == ["sbp_mmhg", "antihypertensives", "diabetes", "smoking"]
    assert covariates["sbp_mmhg"].mediator
    assert not covariates["diabetes"].mediator


def test_demo__reads_what_the_demonstration_makes(tmp_path: Path) -> None:
    study = loaded("demo", tmp_path)
    given = {name: path for name, path in study.inputs if path is not None}
    beside = tmp_path.resolve()
    assert {name: path.relative_to(beside).as_posix() for name, path in given.items()} == {
        "predictions": "cohort/predictions_drawn.parquet",
        "participants": "cohort/participants.csv",
        "deaths": "cohort/deaths.csv",
        "events": "cohort/events.csv",
        "follow_up_ends": "cohort/follow_up_ends.csv",
        "cmr": "cohort/cmr.csv",
        "code_list": "code_lists/outcomes.csv",
    }
    assert study.name == "Synthetic people, drawn predictions"
    assert [one.name for one in study.covariates] == ["sbp_mmhg", "diabetes", "smoking"]
    assert study.bootstrap == 100
    assert study.cmr is not None
    assert study.cmr.max_days_ecg_cmr == 365


def test_code_list__has_the_outcomes_and_a_negative_control() -> None:
    assert set(code_list()["outcome"]) == PAPER_OUTCOMES | {NEGATIVE_CONTROL}


def test_code_list__names_a_source_for_each_row_and_is_not_the_papers() -> None:
    codes = code_list()
    assert (codes["source"] != "").all()
    assert codes["comment"].str.contains("not the paper's").all()


def test_code_list__has_no_row_twice_and_none_that_a_prefix_covers() -> None:
    codes = code_list()
    assert not codes.duplicated(["outcome", "system", "code"]).any()
    covered = [
        (row.outcome, row.system, row.code)
        for place, row in enumerate(codes.itertuples())
        if finds(codes.drop(index=place), row.outcome, row.code, row.system)
    ]
    assert covered == []


def test_code_list__has_no_code_of_two_outcomes() -> None:
    assert not code_list().duplicated(["system", "code"]).any()


@pytest.mark.parametrize("outcome", sorted(CODE_LISTS))
def test_code_list__covers_what_defines_the_synthetic_outcome(outcome: str) -> None:
    codes = code_list()
    lost = [one for one in CODE_LISTS[outcome] if not finds(codes, outcome, one[1], one[0])]
    assert lost == []


@pytest.mark.parametrize("outcome", sorted(CODE_LISTS))
def test_code_list__finds_of_the_synthetic_records_what_belongs_to_the_outcome(outcome: str) -> None:
    codes, belongs = code_list(), in_code_list(outcome)
    found = [finds(codes, outcome, *one) for one in zip(CODE_TEXTS, CODE_SYSTEMS, strict=True)]
    assert found == belongs.tolist()


def test_negative_control__is_among_the_other_synthetic_codes_and_is_of_no_disease_here() -> None:
    codes = code_list()
    others = [(code, system) for system, several in OTHER_CODES.items() for code in several]
    assert [one for one in others if finds(codes, NEGATIVE_CONTROL, *one)] == [("H25.9", "icd10")]


def test_readme__names_every_preset_and_the_list() -> None:
    text = (folder() / "README.md").read_text(encoding="utf-8")
    for name in (*(f"{preset}.yaml" for preset in PRESETS), "code_lists/outcomes.csv"):
        assert f"`{name}`" in text


def test_methods_page__names_every_setting() -> None:
    page = Path(__file__).parents[3] / "docs" / "methods.md"
    quoted = re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
    words = set(re.findall(r"\w+", " ".join(quoted)))
    assert sorted(set(Study.model_fields) - words) == []


def test_methods_page__names_every_section_of_the_report() -> None:
    report = Path(__file__).parents[3] / "analysis" / "report"
    titles = {
        title
        for path in (report / "topics").glob("*.py")
        for title in re.findall(r'Section\(\s*"[a-z_]+",\s*"([^"]+)"', path.read_text("utf-8"))
    }
    page = (Path(__file__).parents[3] / "docs" / "methods.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*]+?)\.?\*", " ".join(page.split())))
    assert len(titles) > 10
    assert sorted(titles - named) == []
    assert named <= titles | {"Methods", "Versions and checksums"}
