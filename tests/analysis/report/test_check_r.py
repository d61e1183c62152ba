"""check.R finds our hazard ratios in data as untidy as real ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.report.topics import hazard_ratios
from analysis.report.write import check_script, write_restricted
from analysis.study.data import StudyData
from analysis.study.settings import StudyCovariate
from tests.analysis.report.builders import study_data
from tests.analysis.report.variations import only, repeated_ecgs, two_models, with_households, with_study
from tests.analysis.statistics.r_packages import lacking


def _untidy(data: StudyData) -> StudyData:
    """Sex and a category are unknown in some; a level is called NA, another has an umlaut."""
    ecgs = data.ecgs.copy()
    ecgs["sex"] = ecgs["sex"].mask(ecgs.index % 17 == 0)
    names = {"current": "NA", "former": "früher", "never": "01"}
    ecgs["smoking"] = ecgs["smoking"].map(names).mask(ecgs.index % 13 == 0)
    return replace(data, ecgs=ecgs)


def _plain() -> StudyData:
    data = study_data(n=900, seed=14)
    smoking = StudyCovariate(name="smoking", kind="category", reference="01")
    return _untidy(with_study(data, covariates=(*data.study.covariates[:2], smoking)))


def _women() -> StudyData:
    data = study_data(n=900, seed=14)
    return only(data, data.ecgs["sex"] == "female")


def _births() -> StudyData:
    data = with_study(study_data(n=900, seed=14), time_scale="attained_age")
    unknown = data.follow_up["participant_id"].str.endswith("7")
    names = ["entry_age_days", "exit_age_days"]
    changed = {name: data.follow_up[name].mask(unknown) for name in names}
    return replace(data, follow_up=data.follow_up.assign(**changed))


COHORTS: dict[str, Callable[[], StudyData]] = {
    "untidy": _plain,
    "one sex": _women,
    "unknown births": _births,
    "two models, SD by sex": lambda: two_models(n=1500, sd="by_sex"),
    "all ECGs": lambda: repeated_ecgs(n=900),
    "households and all ECGs": lambda: with_households(repeated_ecgs(n=900)),
}


@pytest.mark.parametrize("cohort", list(COHORTS))
@pytest.mark.skipif(lacking("survival") != "", reason=lacking("survival"))
def test_check_r__agrees(cohort: str, tmp_path: Path) -> None:
    data = COHORTS[cohort]()
    aggregates = hazard_ratios.TOPIC.aggregates(data)
    write_restricted(tmp_path / "restricted", data, aggregates)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "check.R").write_text(check_script())
    command = ["Rscript", str(tmp_path / "export" / "check.R")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = aggregates[0].rows
    n = pd.to_numeric(rows["estimate"]).notna().sum()
    assert n > 0.8 * len(rows)
    assert f"{n} hazard ratios, {len(rows) - n} without an estimate left out" in done.stdout


def test_analysis_data__tells_nobody_s_identifier(tmp_path: Path) -> None:
    data = with_households(repeated_ecgs(n=300))
    write_restricted(tmp_path / "restricted", data, hazard_ratios.TOPIC.aggregates(data))
    table = pd.read_csv(tmp_path / "restricted" / "analysis_data.csv")
    assert not set(table) & {"participant_id", "household_id", "ecg_id"}
    rows = data.analysed("af")
    own = table[table["outcome"] == "af"]
    assert own["person"].nunique() == rows["participant_id"].nunique() < len(own)
    assert own["error_cluster"].nunique() < own["person"].nunique()
    assert np.issubdtype(own["error_cluster"].dtype, np.integer)
