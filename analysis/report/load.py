"""Read everything that a study analyses."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from analysis.cmr import read_cmr
from analysis.followup import FollowUp
from analysis.report.bands import AGE_BANDS_YEARS, banded
from analysis.report.document import About
from analysis.report.study_data import StudyData
from analysis.study import follow_up_of, prediction_files, predictions_of
from analysis.study_settings import Study, StudyCovariate
from lvm_core import schemas
from lvm_core.errors import UsageError

# Exclusions that come before anything about an outcome; the first five before the index ECG.
BEFORE_INDEX: Final = (
    "not_in_cohort", "withdrawn", "excluded_by_list", "no_usable_ecg", "missing_exposure",
)  # fmt: skip
BEFORE_OUTCOMES: Final = (
    *BEFORE_INDEX, "unknown_region", "death_before_index", "index_after_admin_end",
    "lost_before_index",
)  # fmt: skip
_NOT_OF_THE_COHORT: Final = BEFORE_INDEX[:3]
_COLUMNS: Final = tuple(
    column.name for table in (schemas.PREDICTIONS, schemas.RECALIBRATED) for column in table.columns
)
_NEEDED: Final = ("ecg_id", "participant_id", "recorded_at", "model_id", "lvm_pred_g", "age_years",
                  "sex", "height_cm", "weight_kg")  # fmt: skip
_TEXTS: Final = ("ecg_id", "participant_id", "model_id", "sex", "measured_by", "signal_sha256")
_FLAGS: Final = ("lvh_pred", "lvh_recal", "rule_avl", "rule_sokolow_lyon", "rule_cornell",
                 "any_ecg_rule")  # fmt: skip
_OF_BODY_SIZE: Final = ("bsa_m2", "lvmi_pred_g_m2", "lvmi_recal_g_m2", "lvh_pred", "lvh_recal")
_SHOWN: Final = 12
_PACKAGES: Final = ("lvm-ai", "duckdb", "pandas", "numpy", "scipy", "matplotlib")
_EXPOSURES: Final = {
    "lvm_pred_g": ("predicted LV mass", "g"),
    "lvmi_pred_g_m2": ("predicted LV mass index", "g/m2"),
    "lvm_recal_g": ("recalibrated LV mass", "g"),
    "lvmi_recal_g_m2": ("recalibrated LV mass index", "g/m2"),
}


def read_study_data(study: Study) -> StudyData:
    """Read and join everything that a study analyses.

    Raises:
        TableRefused: a table cannot be used.
        UsageError: a column is missing, predictions are of several models or conventions, or of
            others than the study states.
    """
    found = follow_up_of(study)
    footers = _footers(study)
    outside = found.people["excluded"].isin(_NOT_OF_THE_COHORT)
    members = pd.Index(found.people.loc[~outside, "participant_id"].unique())
    predictions = _predictions(study, members)
    _refuse_several_models(study, predictions)
    persons = _persons(study, members)
    predictions = _without_far_body_size(study, predictions, persons)
    indexed = _index_ecgs(study, found, predictions, persons)
    sd = _standard_deviations(study, indexed)
    indexed = _with_sd_of_sex(indexed, sd)
    eligible = indexed[indexed["eligible"]].drop(columns="eligible").reset_index(drop=True)
    return StudyData(
        study=study,
        about=_about(study, predictions),
        flow=found.flow,
        follow_up=found.people,
        ecgs=eligible,
        predictions=predictions,
        cmr=_cmr(study),
        persons=persons,
        code_hits=found.code_hits,
        eligibility=found.eligibility,
        body_size=found.body_size,
        sd=sd,
        provenance=_provenance(study, footers, predictions),
    )


def _predictions(study: Study, members: pd.Index[Any]) -> pd.DataFrame:
    """The usable ECGs of the cohort, with the columns of predictions that are there."""
    path, own = predictions_of(study), study.columns.get("predictions", {})
    table = _read(path, [own.get(name, name) for name in _COLUMNS])
    table = table.rename(columns={its: name for name, its in own.items()})
    missing = [name for name in (*_NEEDED, study.exposure) if name not in table.columns]
    if missing:
        raise UsageError(
            f"predictions have no column {', '.join(missing)}, which the analysis needs; expected "
            "those of lvm-ai score, other names in columns: predictions, or `report: false` and "
            "`hazard_ratios: false` for follow-up alone"
        )
    table = table[table["participant_id"].isin(members)]
    usable = np.isfinite(table["lvm_pred_g"].astype(float)) & table["recorded_at"].notna()
    if study.exclude_flags:
        excluded = set(study.exclude_flags)
        usable &= [not excluded & set(_flags(value)) for value in table["quality_flags"]]
    date_format = study.date_formats.get("predictions", "ISO8601")
    recorded_at = pd.to_datetime(table.loc[usable, "recorded_at"], format=date_format)
    table = table[usable].assign(recorded_at=recorded_at)
    for name in set(_FLAGS) & set(table.columns):
        table[name] = table[name].astype("boolean")
    if study.inputs.predictions_ecg_only is not None:
        table = table.merge(_ecg_only(study.inputs.predictions_ecg_only), on="ecg_id", how="left")
    numbers = set(table.columns) - {*_TEXTS, *_FLAGS, "recorded_at", "quality_flags"}
    table = table.astype(dict.fromkeys(numbers, float)).drop(
        columns=["quality_flags", "signal_sha256"], errors="ignore"
    )
    return pd.DataFrame(table.sort_values("ecg_id").reset_index(drop=True))


def _ecg_only(given: Path) -> pd.DataFrame:
    """The masses of the ECG-only model, by ECG."""
    table = _read(prediction_files(given), ["ecg_id", "lvm_pred_g"])
    missing = {"ecg_id", "lvm_pred_g"} - set(table.columns)
    if missing or table["ecg_id"].duplicated().any():
        problem = f"no column {', '.join(sorted(missing))}" if missing else "an ecg_id twice"
        raise UsageError(f"predictions_ecg_only {given} has {problem}; expected one row an ECG")
    return table.rename(columns={"lvm_pred_g": "lvm_ecg_only_g"})


def _flags(value: Any) -> list[str]:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return []
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)


def _read(path: Path, names: list[str] | None) -> pd.DataFrame:
    """Read those of some columns that a table has; ids as text."""
    source = "read_parquet($path, union_by_name = true)"
    if path.suffix != ".parquet":
        source = "read_csv($path, all_varchar = true, header = true)"
    with duckdb.connect() as connection:
        found = connection.sql(f"SELECT * FROM {source}", params={"path": str(path)})
        kept = [name for name in found.columns if names is None or name in names]
        quoted = ['"' + name.replace('"', '""') + '"' for name in kept]
        casts = [
            f"trim({q}::VARCHAR) AS {q}" if name in ("participant_id", "ecg_id") else q
            for name, q in zip(kept, quoted, strict=True)
        ]
        table = found.project(", ".join(casts)).df()
    for name in set(_FLAGS) & set(table.columns):
        if table[name].dtype == object:
            words = table[name].astype("string").str.lower()
            table[name] = words.map({"true": True, "false": False, "1": True, "0": False})
    return pd.DataFrame(table)


def _refuse_several_models(study: Study, predictions: pd.DataFrame) -> None:
    models = sorted(predictions["model_id"].dropna().unique())
    if len(models) > 1 and not study.model_strata:
        raise UsageError(
            f"predictions are of {len(models)} models ({', '.join(map(str, models))}), expected "
            "one; or set `model_strata: true`, and SD and hazard ratios are per model"
        )


def _footers(study: Study) -> dict[str, str]:
    """What the footers of the predictions say of how they were made; refuse a mixture."""
    pattern = predictions_of(study)
    if pattern.suffix != ".parquet":
        return {}
    made: dict[str, set[str]] = {}
    for path in sorted(pattern.parent.glob(pattern.name)):
        content = (pq.read_metadata(path).metadata or {}).get(schemas.FOOTER_KEY)
        if content is not None:
            settings = json.loads(content)["provenance"]["settings"]
            for name in ("input_convention", "bsa", "lvh_preset"):
                made.setdefault(name, set()).add(str(settings[name]))
            checksums = ", ".join(model["sha256"] for model in settings["models"])
            made.setdefault("model_sha256", set()).add(checksums)
    stated = {"bsa": study.bsa_formula.value, "lvh_preset": study.lvh_preset.value}
    for name, values in made.items():
        if len(values) > 1 and not (name == "model_sha256" and study.model_strata):
            raise UsageError(
                f"predictions were made with several {name}: {', '.join(sorted(values))}; "
                "expected one. Score them alike"
            )
        if name in stated and values != {stated[name]}:
            setting = "bsa_formula" if name == "bsa" else name
            raise UsageError(
                f"predictions were made with {name} {min(values)}, but the study states "
                f"{stated[name]}; write `{setting}: {min(values)}`, or score them anew"
            )
    return {name: ", ".join(sorted(values)) for name, values in made.items()}


def _cmr(study: Study) -> pd.DataFrame | None:
    if study.inputs.cmr is None:
        return None
    own, date_format = study.columns.get("cmr"), study.date_formats.get("cmr")
    return read_cmr(study.inputs.cmr, columns=own, date_format=date_format)


def _without_far_body_size(
    study: Study, predictions: pd.DataFrame, persons: pd.DataFrame
) -> pd.DataFrame:
    """Make unknown what rests on height and weight of ECGs that are too far from them.

    Also where the day of height and weight is not known. Follow-up counts the index ECGs.
    """
    if study.max_days_body_size is None:
        return predictions
    date_format = study.date_formats.get("persons", "ISO8601")
    dates = pd.to_datetime(persons["body_size_date"], format=date_format, errors="coerce")
    measured = predictions["participant_id"].map(dates.set_axis(persons["participant_id"]))
    apart = (predictions["recorded_at"].dt.normalize() - measured).abs().dt.days
    far = ~(apart <= study.max_days_body_size)
    there = [name for name in _OF_BODY_SIZE if name in predictions]
    return predictions.assign(**{name: predictions[name].mask(far) for name in there})


def _persons(study: Study, members: pd.Index[Any]) -> pd.DataFrame:
    """One row a person with region, sex where known, and the covariates as the study types them."""
    own = study.columns.get("persons", {})
    table = _read(study.inputs.participants, None)
    table = table.rename(columns={its: name for name, its in own.items()})
    missing = [one.name for one in study.covariates if one.name not in table.columns]
    if missing:
        raise UsageError(
            f"participants have no column {', '.join(missing)}, which covariates name; they have "
            f"{', '.join(map(str, table.columns))}"
        )
    kept = ["participant_id", "region", "sex", "ethnicity", "body_size_date"]
    kept += [one.name for one in study.covariates]
    table = table[[name for name in dict.fromkeys(kept) if name in table.columns]]
    table = table[table["participant_id"].isin(members)].reset_index(drop=True)
    for one in study.covariates:
        table[one.name] = _typed(table[one.name], one)
    return pd.DataFrame(table)


def _typed(values: pd.Series[Any], covariate: StudyCovariate) -> pd.Series[Any]:
    """A covariate as numbers, as 1 and 0, or as text."""
    known = values.notna() & (values.astype("string").str.strip() != "").fillna(False)
    if covariate.kind == "category":
        texts = values.astype("string").str.strip()
        levels = sorted(texts[known].unique())
        if covariate.reference not in levels:
            raise UsageError(
                f"covariate {covariate.name} has the reference {covariate.reference!r}, expected "
                f"one of its levels: {', '.join(levels[:_SHOWN])}"
                f"{' ...' if len(levels) > _SHOWN else ''}"
            )
        kept = [text if is_known else None for text, is_known in zip(texts, known, strict=True)]
        return pd.Series(kept, values.index)
    if covariate.kind == "yes_no":
        words = values.astype("string").str.strip().str.lower()
        made = words.map({"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "yes": 1.0, "no": 0.0,
                          "1.0": 1.0, "0.0": 0.0})  # fmt: skip
        expected = "yes or no, true or false, 1 or 0"
    else:
        made = pd.to_numeric(values, errors="coerce")
        expected = "numbers"
    made = made.astype(float)
    bad = known & made.isna()
    if bad.any():
        raise UsageError(
            f"covariate {covariate.name} has {int(bad.sum())} values that are no {covariate.kind}, "
            f"as {values[bad].iloc[0]!r}; expected {expected}, empty where unknown"
        )
    return made


def _index_ecgs(
    study: Study, found: FollowUp, predictions: pd.DataFrame, persons: pd.DataFrame
) -> pd.DataFrame:
    """A row an index ECG, with what topics group by; `eligible`: passed all before outcomes."""
    people = found.people
    chosen = people[people["ecg_id"].notna() & ~people["excluded"].isin(BEFORE_INDEX)]
    eligible = ~chosen["excluded"].isin(BEFORE_OUTCOMES)
    extra = [name for name in ("history_days", "entry_age_days") if name in chosen]
    rows = chosen.assign(eligible=eligible).groupby("ecg_id", sort=True).agg(
        participant_id=("participant_id", "first"), index_date=("index_date", "first"),
        eligible=("eligible", "any"), **{name: (name, "first") for name in extra},
    ).reset_index()  # fmt: skip
    table = rows.merge(predictions.drop(columns="participant_id"), on="ecg_id", validate="1:1")
    other = persons.drop(columns=["sex", "body_size_date"], errors="ignore")
    table = table.merge(other, on="participant_id", how="left", validate="m:1", suffixes=("", "_"))
    return _grouped(study, table).sort_values(["participant_id", "index_date", "ecg_id"])


def _grouped(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Add the names by which topics know the exposure and the groups of people."""
    for name in (study.mass_column, study.index_column, study.lvh_column):
        if name not in table:
            table[name] = np.nan
    lvh = table[study.lvh_column].astype("Float64").astype(float)
    return table.assign(
        exposure=table[study.exposure].astype(float),
        mass_g=table[study.mass_column].astype(float),
        index_g_m2=table[study.index_column].astype(float),
        lvh=lvh,
        lvh_group=lvh.map({1.0: "LVH", 0.0: "no LVH"}).astype(object),
        age_band=banded(pd.to_numeric(table["age_years"]), AGE_BANDS_YEARS),
    )


def _standard_deviations(study: Study, indexed: pd.DataFrame) -> dict[str, float]:
    """SD with n - 1, both sexes, one row a person, after the index ECG is chosen."""
    first = indexed.drop_duplicates("participant_id")
    known = {name: first[name].std(ddof=1) for name in ("exposure", "mass_g", "index_g_m2")}
    for sex, theirs in first.groupby("sex"):
        known[f"exposure, {sex}"] = theirs["exposure"].std(ddof=1)
    if study.model_strata:
        for model, theirs in indexed.groupby("model_id"):
            own = theirs.drop_duplicates("participant_id")
            known[f"exposure, {model}"] = own["exposure"].std(ddof=1)
    if isinstance(study.sd, float | int):
        known["exposure"] = float(study.sd)
    return {name: float(value) for name, value in known.items()}


def _with_sd_of_sex(ecgs: pd.DataFrame, sd: dict[str, float]) -> pd.DataFrame:
    """Add the exposure in SD of the own sex, and quartiles cut within sex."""
    own = ecgs["sex"].map(lambda sex: sd.get(f"exposure, {sex}", np.nan))
    first = ecgs.drop_duplicates("participant_id")
    cuts = first.groupby("sex")["exposure"].quantile(np.array([0.25, 0.5, 0.75])).unstack()
    quartile = pd.Series(np.nan, ecgs.index)
    for sex, bounds in cuts.iterrows():
        theirs = (ecgs["sex"] == sex) & ecgs["exposure"].notna()
        values = ecgs.loc[theirs, "exposure"].to_numpy()
        quartile[theirs] = 1.0 + np.searchsorted(bounds.to_numpy(), values, side="left")
    return ecgs.assign(exposure_in_sd_of_sex=ecgs["exposure"] / own, quartile=quartile)


def _about(study: Study, predictions: pd.DataFrame) -> About:
    names = {one.name: one.words for one in study.outcomes}
    first = study.primary_outcome
    ordered = {first: names[first]} | names
    words, unit = _EXPOSURES.get(study.exposure, (study.exposure, "its unit"))
    models = sorted(str(name) for name in predictions["model_id"].dropna().unique())
    return About(
        name=study.name,
        exposure=study.exposure,
        exposure_name=words,
        exposure_unit=unit,
        outcomes=ordered,
        horizon_years=study.horizon_years,
        model_id=", ".join(models),
        lvh_preset=study.lvh_preset.value,
        k=study.masking.k,
        base=study.masking.base,
        is_demo=any(model.startswith(("demo-", "drawn-")) for model in models),
    )


def _provenance(study: Study, footers: dict[str, str], predictions: pd.DataFrame) -> dict[str, str]:
    checksums = {}
    for name, path in study.inputs:
        if path is not None and path.is_file():
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            checksums[f"sha256 {name}"] = digest
    ids = hashlib.sha256()
    for name in ("ecg_id", "lvm_pred_g"):
        hashed = pd.util.hash_pandas_object(predictions[name], index=False)
        ids.update(hashed.to_numpy().tobytes())
    versions = {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}
    return {**footers, **checksums, "sha256 of ids and masses": ids.hexdigest(), **versions}
