"""Hazard ratios: under every model, by subgroup, and where death competes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Aggregate, count, label, number, results
from analysis.disclosure.masking import HIDDEN, Masked
from analysis.disclosure.meanings import LVH, Analysed, analysed, name_of, of_results, rows_left_out
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.forest import forest
from analysis.report.topics.tables import (
    HAZARD_RATIO,
    MODEL_ID,
    OUTCOME,
    age_sex_model,
    aggregate,
    cells_by_model,
    contrasts_of_study,
    figures_by_outcome,
    needs_of,
    outcomes_and_parts,
    results_about,
    results_of,
)
from analysis.report.words import (
    MODEL_WORDS,
    counted_text,
    estimate_texts,
    levels_in_order,
    models_in,
    number_text,
    of_model,
    p_text,
    p_texts,
    row_counts,
    row_labels,
    sentence,
    side_by_side,
    with_texts,
)
from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Category
from analysis.statistics.survival import fit_fine_gray
from analysis.study.data import ECG_ONLY, SEXES, About, StudyData, sd_key
from analysis.study.outcomes import (
    FOLLOW_UP_TIME,
    SEX,
    YES_NO,
    Contrast,
    Model,
    added_terms_test,
    cluster_of,
    columns_of,
    complete_rows,
    estimate,
    estimates,
    fewest_of_arms,
    fit_model,
    followed,
    models_of,
    named,
    ratio_of,
    read_columns,
    se_type_of,
    warnings_of,
    with_covariates,
    with_q,
    without_constant_sex,
)
from analysis.study.people import BMI_CLASSES_KG_M2, banded
from analysis.study.settings import Study

# Of people: every outcome, contrast and model.


def _aggregates(data: StudyData) -> list[Aggregate]:
    """Return the main hazard ratios, those of subgroups, and what one SD is."""
    rows = [row for outcome, part in outcomes_and_parts(data) for row in _main_rows(part, outcome)]
    subgroups = [row for part in data.by_prediction_model() for row in _subgroup_rows(part)]
    return [
        results("hazard_ratios", with_q(rows)),
        results("subgroups", subgroups),
        exposure_sds(data),
        _arms(data),
        _left_out(data),
    ]


def _main_rows(data: StudyData, outcome: str) -> list[dict[str, Any]]:
    """Per SD, per 10, LVH, quartiles and their trend; all models on the same complete rows."""
    models = models_of(data.study)
    table = data.analysed(outcome)
    rows = estimates(table, data.study, contrasts_of_study(data), models)
    if not data.study.is_yes_no:
        rows += _quartiles(table, data, outcome, models)
    return results_about(outcome, "hazard_ratios", data, rows)


def _quartiles(table: pd.DataFrame, data: StudyData, outcome: str, models: Sequence[Model]) -> list[dict[str, Any]]:
    """Quartiles 2 to 4 against 1, and the trend on the medians of the quartiles, by model."""
    return [row for model in models for row in _quartiles_under(table, data, outcome, model)]


def _quartiles_under(table: pd.DataFrame, data: StudyData, outcome: str, model: Model) -> list[dict[str, Any]]:
    complete = complete_rows(table, data.study, ["quartile"], kept=["exposure"], model=model)
    medians = complete.groupby("quartile")["exposure"].median()
    complete = complete.assign(quartile_median=complete["quartile"].map(medians))
    fewest_arms = fewest_of_arms(complete, data.study, "quartile")
    dropped = [int((table["quartile"] == q).sum() - (complete["quartile"] == q).sum()) for q in (1, 2, 3, 4)]
    dropped.append(len(table) - len(complete))  # of the trend
    rows = _of_quartiles(complete, data, outcome, without_constant_sex(model, complete))
    return [row | fewest_arms | {"n_dropped_missing": n} for row, n in zip(rows, dropped, strict=True)]


def _of_quartiles(table: pd.DataFrame, data: StudyData, outcome: str, model: Model) -> list[dict[str, Any]]:
    """Return each quartile with its people and events, the first as reference, and the trend."""
    study, name = data.study, f"{data.study.exposure}, quartile within sex"
    unit = data.about.exposure_unit
    trend = Contrast(name, "quartile_median", "trend over quartiles", unit, 10.0)
    last = estimate(table, study, trend, model)
    words = ["quartile 1 (reference)", *(f"quartile {q} against 1" for q in (2, 3, 4))]
    rows = []
    for q, own in enumerate(words, 1):
        rows.append(
            followed(table[table["quartile"] == q], study) | named(Contrast(name, "quartile", own, "", 1.0), model)
        )
        rows[-1]["counted"] = _of_level(data, outcome, model.number, "quartile", f"Q{q}")
    try:
        fit = fit_model(table, study, [Category("quartile", reference=1.0), *model.covariates])
    except TableRefused as error:
        return [*(row | {"warnings": str(error)} for row in rows), last]
    terms = fit.estimates.set_index("term")
    warned = {"warnings": "; ".join((*warnings_of(fit, table, study), *model.warnings))}
    found = [{"estimate": 1.0}, *(_of_term(terms, f"quartile={q}") for q in (2.0, 3.0, 4.0))]
    return [*(row | warned | own for row, own in zip(rows, found, strict=True)), last]


def _of_level(data: StudyData, outcome: str, model: int, name: str, level: str) -> Analysed:
    """The people of the main analysis who are of a level."""
    main = analysed(outcome, data.model_id, needs_of(data.study, model))
    return replace(main, who=main.who.level(name, level))


# Rows that models leave out, by what is missing.

IN_ALL: Final = "any of these"


def _left_out(data: StudyData) -> Aggregate:
    """Return how many rows lack each column that models need, and how many lack any of them."""
    largest = models_of(data.study)[-1]
    rows: list[dict[str, Any]] = []
    for outcome, part in outcomes_and_parts(data):
        table = part.analysed(outcome)
        names = ["exposure", *columns_of(largest.covariates)]
        known = {"outcome": outcome, "model_id": part.model_id}
        rows += [
            known | {"column": one, "words": _words_of(part, one), "n_missing": int(table[one].isna().sum())}
            for one in names
        ]
        whole = len(table) - len(complete_rows(table, part.study, ["exposure"], model=largest))
        rows.append(known | {"column": "", "words": IN_ALL, "needed": needs_of(part.study, largest.number)})
        rows[-1]["n_missing"] = whole
    described = pd.DataFrame([{"needed": ""} | row for row in rows])
    columns = (
        OUTCOME,
        MODEL_ID,
        label("words", "what is missing"),
        count("n_missing", "rows of people followed that lack it and that the largest model leaves out"),
    )
    counts = rows_left_out(described, one_ecg_each=data.study.index.rule != "all")
    return aggregate("rows_left_out", rows, columns, lambda _: counts)


def _words_of(data: StudyData, column: str) -> str:
    own = {one.name: one.words for one in data.study.covariates}
    return own.get(column, data.about.exposure_name if column == "exposure" else column.rsplit("_", 1)[0])


# Of people: those behind each yes and no.

_ARMS: Final = {"lvh": ("no LVH", "LVH"), "exposure": ("no", "yes")}
_ARM_NAMES: Final = {"lvh": LVH, "exposure": "exposure_group"}


def _arms(data: StudyData) -> Aggregate:
    """Return the people and events of both sides of each yes/no contrast, the reference first."""
    rows: list[dict[str, Any]] = []
    for outcome, part in outcomes_and_parts(data):
        for one in (one for one in contrasts_of_study(part) if one.yes_no):
            complete = complete_rows(part.analysed(outcome), part.study, [one.column], model=age_sex_model(part))
            for value, level in enumerate(_ARMS[one.column]):
                own = followed(complete[complete[one.column] == value], part.study)
                known = {"outcome": outcome, "model_id": part.model_id, "exposure": one.exposure, "level": level}
                who = _of_level(part, outcome, 2, _ARM_NAMES[one.column], level)
                rows.append(known | own | {"counted": who})
    columns = (
        OUTCOME,
        MODEL_ID,
        label("exposure", "column of the predictions"),
        label("level", "of it; the reference first"),
        count("n_people", "people of the level in the main analysis"),
        count("n_events", "of them with the event"),
    )
    one_each = data.study.index.rule != "all"
    counts = of_results([row["counted"] for row in rows], one_ecg_each=one_each)
    own_counts = {name: counts[name] for name in ("n_people", "n_events")}
    return aggregate("hazard_ratio_arms", rows, columns, lambda _: own_counts)


def _of_term(terms: pd.DataFrame, term: str) -> dict[str, float]:
    own = terms[(terms.index == term) & terms["coef"].notna()]
    return ratio_of(own.iloc[0], 1.0) if len(own) else {}


# Of people: subgroups.

INTERACTION: Final = "interaction, chi-square"
_SUBGROUPS: Final = {"sex": "Sex", "age_band": "Age, years", "bmi_class": "BMI, kg/m2"}


def _subgroup_rows(data: StudyData) -> list[dict[str, Any]]:
    """Hazard ratios under model 2 and the interaction test, in the people of the main analysis."""
    rows = []
    for outcome in (one.name for one in data.study.outcomes):
        kept = ["exposure", "exposure_in_sd_of_sex", "age_band", "bmi_kg_m2"]
        table = read_columns(data.analysed(outcome), data.study, kept)
        bmi = table.get("bmi_kg_m2", pd.Series(np.nan, table.index))
        table = table.assign(bmi_class=banded(bmi, BMI_CLASSES_KG_M2))
        for column, words in _SUBGROUPS.items():
            found = [
                row | {"strata": words, "counted": _counted(data, outcome, column, row)}
                for row in _by_level(data, table, column)
            ]
            rows += results_about(outcome, "subgroups", data, found)
    return rows


def _by_level(data: StudyData, table: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    study, model = data.study, age_sex_model(data)
    *contrasts, _ = contrasts_of_study(data)
    complete = complete_rows(table, study, [contrasts[0].column, column], model=model)
    levels = levels_in_order(complete[column].unique())
    if len(levels) < 2:
        return []
    rows = [
        row | {"measure": HAZARD_RATIO, "level": level}
        for level in levels
        for row in estimates(table[table[column] == level], study, contrasts, [model])
    ]
    tested = _interaction(complete, column, levels[1:], data, contrasts[0], model)
    dropped = {"level": "interaction", "n_dropped_missing": len(table) - len(complete)}
    return [*rows, tested | dropped]


def _counted(data: StudyData, outcome: str, column: str, row: Mapping[str, Any]) -> Analysed:
    """The people of a subgroup; of all together for the test of the interaction."""
    main, name = analysed(outcome, data.model_id, needs_of(data.study)), name_of(column)
    is_of_all = row["measure"] == INTERACTION
    return replace(main, who=main.who.complete(name) if is_of_all else main.who.level(name, row["level"]))


def _interaction(
    table: pd.DataFrame, column: str, others: list[str], data: StudyData, contrast: Contrast, model: Model
) -> dict[str, Any]:
    """Test products of the exposure with the levels, the levels in both models."""
    n = len(others)
    levels = [(table[column] == one).to_numpy(dtype=float) for one in others]
    apart = table.assign(
        **{f"product_{i}": levels[i] * table[contrast.column] for i in range(n)},
        **{f"level_{i}": levels[i] for i in range(n)},
    )
    if column == "sex":  # it makes the subgroups
        model = replace(model, covariates=tuple(one for one in model.covariates if one != SEX))
    own = without_constant_sex(model, table)
    main = with_covariates(own, *(f"level_{i}" for i in range(n)))
    products = [f"product_{i}" for i in range(n)]
    row = {"measure": INTERACTION} | followed(table, data.study) | named(contrast, own)
    row |= fewest_of_arms(table, data.study, column)
    try:
        larger, smaller = (
            fit_model(apart, data.study, [contrast.column, *main.covariates, *more]) for more in (products, [])
        )
        test = added_terms_test(larger, smaller, products)
    except TableRefused as error:
        return row | {"warnings": str(error)}
    return row | {"estimate": float(test.chi2), "p": float(test.p), "unit": f"{test.df} df"}


# What one SD is: of everybody, of each sex, of each model of the predictions.

SDS: Final = "exposure_sd"
_BOTH: Final = "both"
_IN_SEX: Final = {"female": " in women", "male": " in men"}


def ecg_only_sd(data: StudyData) -> dict[str, float]:
    """Return the SD of the ECG-only model's mass by `sd_key`, of both sexes and of each."""
    keys = {sd_key(sex=sex): sd_key(ECG_ONLY, sex=sex) for sex in ("", *SEXES)}
    return {key: data.sd[theirs] for key, theirs in keys.items() if theirs in data.sd}


def exposure_sds(data: StudyData) -> Aggregate:
    """Return the SDs that "per SD" means, with the people behind each, who are never exported."""
    rows: list[dict[str, Any]] = []
    of_everybody = "of everybody with an index ECG"
    for part in data.by_prediction_model() if not data.study.is_yes_no else ():
        kind = "fixed in the study file" if isinstance(part.study.sd, float | int) else of_everybody
        rows += _sd_rows(part, part.study.exposure, part.about.exposure_unit, part.sd, kind)
        if ECG_ONLY in part.ecgs:
            rows += _sd_rows(part, ECG_ONLY, "g", ecg_only_sd(part), of_everybody)
    columns = (
        MODEL_ID,
        label("exposure", "column of the predictions"),
        label("sex", "whose SD it is: both together, or one"),
        number("sd", "one SD, in the unit", "n_events_fewest"),
        label("unit", "of the exposure"),
        label("kind", "how it was chosen"),
        # A column of this name is never exported; Table 1 has the people by sex.
        count("n_events_fewest", "people with an index ECG; never exported"),
    )
    return aggregate(SDS, rows, columns)


def _sd_rows(data: StudyData, exposure: str, unit: str, sd: Mapping[str, float], kind: str) -> list[dict[str, Any]]:
    first = data.ecgs.drop_duplicates("participant_id")
    wanted = [sex for sex in SEXES if sd_key(sex=sex) in sd] if data.study.sd == "by_sex" else [""]
    known = {"model_id": data.model_id, "exposure": exposure, "unit": unit, "kind": kind}
    return [
        known
        | {
            "sex": sex or _BOTH,
            "sd": sd[sd_key(sex=sex)],
            "n_events_fewest": int((first["sex"] == sex).sum() if sex else len(first)),
        }
        for sex in wanted
    ]


def sd_note(found: Masked, exposure: str) -> str:
    """Return what one SD is, as a sentence."""
    rows = found.rows[found.rows["exposure"] == exposure]
    if not len(rows):
        return "The exposure is yes or no."
    texts = []
    for model in models_in(found):
        own = rows[rows["model_id"] == model]
        hidden = found.hidden.loc[own.index, "sd"]
        of_sexes = [
            f"{number_text(row['sd'], 1, hidden=is_hidden)} {row['unit']}{_IN_SEX.get(row['sex'], '')}"
            for row, is_hidden in zip(own.to_dict("records"), hidden, strict=True)
        ]
        texts.append((f"{model}: " if model else "") + " and ".join(of_sexes))
    return f"One SD is {'; '.join(texts)}, {rows['kind'].iloc[0]}."


def sd_by_sex_text(found: Masked | None, exposure: str, model_id: str) -> str:
    """Return the SDs of both sexes of an exposure as text, as "female 8.41 g/m2; male 9.3 g/m2".

    A variant of the exposure, as the raw prediction, is in SDs of the main analysis, which come
    first.
    """
    if found is None or not len(found.rows):
        return ""
    rows = found.rows
    if exposure not in set(rows["exposure"]):
        exposure = rows["exposure"].iloc[0]
    own = rows[(rows["exposure"] == exposure) & rows["model_id"].isin(["", model_id]) & (rows["sex"] != _BOTH)]
    return "; ".join(
        f"{row['sex']} {HIDDEN if hidden else format(row['sd'], '.4g')} {row['unit']}"
        for row, hidden in zip(own.to_dict("records"), found.hidden.loc[own.index, "sd"], strict=True)
    )


# The section.


def _present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the table of all models and forest plots."""
    found = results_of(masked, "hazard_ratios")
    if found is None:
        return None
    sd = sd_note(masked[SDS], about.exposure)
    notes = (
        f"Cause-specific hazard ratios with 95% limits; {_ROWS[about.rows]}." + _errors(found, about),
        f"{sd} Model 1 unadjusted; {'; '.join(_adjustments(found))}.",
        "q: Benjamini-Hochberg over the outcomes that are not the primary one, model 2.",
    )
    labels = list(row_labels(found, about))
    cells = cells_by_model(found, about, labels=labels)
    is_model_2 = found.rows["model"] == 2
    for head, column in (("P", "p"), ("q", "q"), ("P for proportional hazards", "p_ph")):
        cells[f"{head}, model 2"] = list(p_texts(found, column)[is_model_2])
    above = dict.fromkeys(MODEL_WORDS.values(), "Hazard ratio (95% CI)")
    table = ReadTable("hazard_ratios", "Hazard ratios", cells, len(labels) + 1, notes, above)
    by_outcome = _outcome_figure(found, about)
    by_subgroup = figures_by_outcome(masked["results_subgroups"], about, _subgroup_figure)
    paragraphs = (
        f"The primary outcome is {next(iter(about.outcomes.values()))}. The full model sees age, sex and BMI, and "
        "the index divides by body size; what the ECG itself adds is a question of its own below.",
    )
    return Section(
        "hazard_ratios",
        "Hazard ratios",
        paragraphs,
        (table, *_count_tables(masked, about), *([by_outcome] if by_outcome else []), *by_subgroup),
        _warnings(found, about),
    )


_ROWS: Final = {"same": "all models on the same complete rows", "all": "each model on the rows that it can take"}


def _count_tables(masked: Mapping[str, Masked], about: About) -> list[ReadTable]:
    """The people behind each yes and no, and the rows that models leave out."""
    arms, left_out = masked.get("hazard_ratio_arms"), masked.get("rows_left_out")
    made = [_arm_table(arms, about)] if arms is not None and len(arms.rows) else []
    return [*made, _left_out_table(left_out, about)] if left_out is not None and len(left_out.rows) else made


def _left_out_table(found: Masked, about: About) -> ReadTable:
    labels = row_labels(found, about) | {"Missing": found.rows["words"]}
    cells = pd.DataFrame(labels | {"Rows without it": found.shown("n_missing")}).reset_index(drop=True)
    what = "so are all models" if about.rows == "same" else "the other models leave out those that they cannot take"
    notes = (f"The largest model is fitted without the rows that lack any of these; {what}.",)
    return ReadTable("rows_left_out", "Rows that models leave out, by what is missing", cells, len(labels), notes)


def _arm_table(found: Masked, about: About) -> ReadTable:
    labels = row_labels(found, about) | {"Level": found.rows["level"]}
    cells = pd.DataFrame(labels | {"People": found.shown("n_people"), "Events": found.shown("n_events")})
    title = "People and events behind yes against no"
    notes = ("The first of each pair is the reference; those of model 2.",)
    return ReadTable("hazard_ratio_arms", title, cells.reset_index(drop=True), len(labels), notes)


def _errors(found: Masked, about: About) -> str:
    """What errors allow for, where rows are not independent."""
    text = ""
    if "by household" in set(found.rows["se_type"]):
        text = " Errors are clustered by household, people nested in it."
    elif about.several_ecgs:
        text = " Errors are clustered by person."
    return f"{text} Events are people with the event, however many ECGs they have." if about.several_ecgs else text


def _adjustments(found: Masked) -> list[str]:
    pairs = found.rows[["model", "adjustment"]].drop_duplicates()
    return [f"{MODEL_WORDS[int(m)].lower()} {a}" for m, a in pairs.itertuples(index=False) if m > 1]


def _warnings(found: Masked, about: About) -> tuple[str, ...]:
    """Each warning once, with the outcomes that it is about."""
    found_in: dict[str, dict[str, None]] = {}
    for outcome, texts in zip(found.rows["outcome"], found.rows["warnings"], strict=True):
        for text in filter(None, texts.split("; ")):
            found_in.setdefault(text, {})[about.outcomes[outcome]] = None
    return tuple(f"{', '.join(outcomes)}: {text}" for text, outcomes in found_in.items())


def _outcome_figure(found: Masked, about: About) -> ReadFigure | None:
    rows = with_texts(found)
    own = rows[(rows["model"] == 2) & (rows["level"] == "")]
    own = own[~own["contrast"].str.startswith(("quartile", "trend"))]
    own = own.assign(contrast=own["contrast"].replace("per 10", f"per 10 {about.exposure_unit}"))
    names = own["outcome"].map(about.outcomes) + own["model_id"].map(of_model)
    title = f"Hazard ratios of {about.exposure_name} by outcome, adjusted for age and sex"
    notes = ("Events are those of everybody analysed, with and without LVH.",)
    rows = _forest_rows(own, group="contrast", name=names)
    return _forest("forest_outcomes", title, rows, "Hazard ratio (95% CI)", notes)


def _subgroup_figure(rows: pd.DataFrame, outcome: str, model: str, key: str) -> ReadFigure | None:
    own = rows[rows["contrast"].str.startswith(("per SD", YES_NO))]
    step = YES_NO if (own["contrast"] == YES_NO).any() else "per SD"
    tested = own[(own["measure"] == INTERACTION) & own["p"].notna()]
    tests = tested.set_index("strata")["p"].map(p_text)
    ratios = own[own["measure"] == HAZARD_RATIO]
    drawn = _forest_rows(ratios, group="strata", name=ratios["level"])
    drawn["p_interaction_text"] = [
        f"P for interaction {tests[strata]}" if strata in tests and not again else ""
        for strata, again in zip(drawn["group"], drawn["group"].duplicated(), strict=True)
    ]
    title = f"Hazard ratio {step} for {outcome}{of_model(model)} by subgroup, adjusted for age and sex"
    return _forest(f"forest_subgroups{key}", title, drawn, f"Hazard ratio {step} (95% CI)")


def _forest_rows(rows: pd.DataFrame, *, group: str, name: pd.Series[Any]) -> pd.DataFrame:
    events = [counted_text(row, "n_events") for row in rows.to_dict("records")]
    made = rows[["estimate", "lo", "hi"]].assign(
        group=rows[group].map(sentence), label=name.map(sentence), n_text=events, p_interaction_text=""
    )
    return made.reset_index(drop=True)


def _forest(key: str, title: str, rows: pd.DataFrame, measure: str, notes: tuple[str, ...] = ()) -> ReadFigure | None:
    if rows["estimate"].isna().all():
        return None
    drawn = forest(rows, measure_name=measure)
    return ReadFigure(key, title, drawn.alt, drawn.canvas, notes)


# Competing risk of death: cause-specific ratios beside subdistribution ratios, and those of death.

CAUSE_SPECIFIC: Final = "cause-specific hazard ratio"
SUBDISTRIBUTION: Final = "subdistribution hazard ratio"
DEATH: Final = "cause-specific hazard ratio of death without the outcome"
# Fine and Gray's hazard runs from the index ECG, so age is a covariate on either time scale.
_AGE_SEX: Final = Model(2, "age, sex", ("age_years", SEX))
_MORE: Final = ("age_years",)
_NO_DEATH: Final = "nobody died without the outcome, so that no event competes"


def _competing_aggregates(data: StudyData) -> list[Aggregate]:
    """Return the three hazard ratios of each outcome and contrast, model 2, on the same rows."""
    rows = []
    for outcome, part in outcomes_and_parts(data):
        needed = (needs_of(part.study), "what hazards need")
        for row in results_about(outcome, "competing", part, _competing_rows(part, outcome), *needed):
            is_of_death = row["measure"] == DEATH
            rows.append(row | {"counted": replace(row["counted"], end="death")} if is_of_death else row)
    return [results("competing", rows)]


def _competing_rows(data: StudyData, outcome: str) -> list[dict[str, Any]]:
    study, contrasts = data.study, contrasts_of_study(data)
    columns = [*(one.column for one in contrasts), *_MORE]
    table = read_columns(data.analysed(outcome), study, columns)
    dead = table.assign(event=table["status_code"] == 2)
    models = [age_sex_model(data)]
    found = {
        CAUSE_SPECIFIC: estimates(table, study, contrasts, models, more=_MORE),
        SUBDISTRIBUTION: estimates(table, study, contrasts, [_AGE_SEX], more=_MORE, fitted_by=_fine_gray),
        DEATH: estimates(dead, study, contrasts, models, more=_MORE),
    }
    if not dead["event"].any():
        found[DEATH] = [row | {"warnings": _NO_DEATH} for row in found[DEATH]]
    return [row | {"measure": measure} for measure, own in found.items() for row in own]


def _fine_gray(table: pd.DataFrame, study: Study, contrast: Contrast, model: Model) -> dict[str, Any]:
    model = without_constant_sex(model, table)
    row = followed(table, study) | named(contrast, model)
    own = se_type_of(table, study)
    errors = "robust by person" if own == "model" else f"robust {own}"
    row |= {"se_type": errors, "time_scale": FOLLOW_UP_TIME}
    if contrast.yes_no:
        row |= fewest_of_arms(table, study, contrast.column)
    try:
        fit = fit_fine_gray(
            table,
            duration="time_days",
            event="status_code",
            event_of_interest=1,
            covariates=[contrast.column, *model.covariates],
            cluster=cluster_of(table, study),
        )
    except TableRefused as error:
        return row | {"warnings": str(error)}
    first = fit.estimates.iloc[0]
    row["warnings"] = "; ".join(warnings_of(fit, table, study))
    return row if np.isnan(first["coef"]) else row | ratio_of(first, contrast.size)


def _present_competing(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table with the three side by side."""
    found = results_of(masked, "competing")
    if found is None:
        return None
    titles = {
        CAUSE_SPECIFIC: "Cause-specific",
        SUBDISTRIBUTION: "Subdistribution (Fine-Gray)",
        DEATH: "Death without the outcome",
    }
    labels, counts = row_labels(found, about), row_counts(found, about)
    rows = found.rows.assign(
        **labels,
        **counts,
        text=estimate_texts(found),
        Contrast=found.rows["contrast"],
        kind=found.rows["measure"].map(titles),
    )
    keys = [*labels, "Contrast"]
    by = [*keys, *(name for name in counts if name != "Events")]
    cells = side_by_side(rows, by=by, over="kind", values=["text", "Events"])
    dead, cause = titles[DEATH], titles[CAUSE_SPECIFIC]
    shown = {f"{cause}: Events": "Events", f"{dead}: Events": "Deaths"}
    shown |= {f"{title}: text": title for title in titles.values()}
    cells = cells[[*by, *shown]].rename(columns=shown)
    notes = (
        "Adjusted for age and sex, on the people of the main analysis. Fine-Gray: convention of "
        "survival::finegray with coxph (Efron's ties, robust errors), time since the index ECG.",
    )
    table = ReadTable("competing", "Cause-specific and subdistribution hazard ratios", cells, len(keys), notes)
    paragraphs = (
        "For aetiology read the cause-specific hazard ratio: the rate among those still at risk. "
        "For prediction read the subdistribution hazard ratio: the effect on cumulative incidence, "
        "which also falls when more people die first. The third column says whether they do.",
    )
    return Section("competing", "Competing risk of death", paragraphs, (table,))


TOPIC: Final = Topic("hazard ratios", _aggregates, _present)
COMPETING: Final = Topic("competing", _competing_aggregates, _present_competing)
