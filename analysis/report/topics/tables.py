"""What topics share: tables of rows, results by outcome and model, and tables for readers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pandas as pd

from analysis.disclosure.aggregates import Aggregate, Column, Precision, label, number, result
from analysis.disclosure.counts import EVERYBODY, Count
from analysis.disclosure.masking import NOT_APPLICABLE, Masked
from analysis.disclosure.meanings import ALL_ROWS, MODELS, analysed
from analysis.report.document import ReadFigure, ReadTable
from analysis.report.words import (
    MODEL_WORDS,
    estimate_texts,
    of_model,
    outcomes_and_models,
    row_counts,
    row_labels,
    side_by_side,
    sorted_as_met,
    with_texts,
)
from analysis.study.data import About, StudyData
from analysis.study.outcomes import Contrast, Model, contrasts_of, models_of
from analysis.study.settings import Study

OUTCOME: Final = label("outcome", "of the code list")
MODEL_ID: Final = label("model_id", "of the predictions where they are of several")
GROUP: Final = (label("classification", "what groups people"), label("group", "of it"))
HAZARD_RATIO: Final = "hazard ratio"
INTERVAL: Final = "Hazard ratio (95% CI)"


# Rows of people to aggregates.


def aggregate(
    key: str,
    rows: Sequence[Mapping[str, Any] | pd.DataFrame],
    columns: Sequence[Column],
    counts: Callable[[pd.DataFrame], Mapping[str, Sequence[Count | None]]] | None = None,
    **options: Any,
) -> Aggregate:
    """Return an aggregate of dicts, or of tables put below one another; other columns are left out.

    `counts` returns what the counts of the table count; `options` are other fields of `Aggregate`.
    """
    names = [column.name for column in columns]
    parts = [one for one in rows if isinstance(one, pd.DataFrame)]
    table = pd.concat(parts)[names].reset_index(drop=True) if parts else pd.DataFrame(rows, columns=names)
    return Aggregate(key, table, tuple(columns), counts=counts(table) if counts else {}, **options)


def shares(estimate: Mapping[str, str], *needs: str) -> tuple[Column, ...]:
    """Return columns of a share of people, its name with its meaning, and of its limits."""
    meanings = {**estimate, "lo": "lower 95 % limit", "hi": "upper 95 % limit"}
    return tuple(number(name, text, *needs, precision=Precision.SHARE) for name, text in meanings.items())


def outcomes_and_parts(data: StudyData) -> Iterator[tuple[str, StudyData]]:
    """Yield each outcome of the study with the study of each model of the predictions."""
    for outcome in data.study.outcomes:
        for part in data.by_prediction_model():
            yield outcome.name, part


def contrasts_of_study(data: StudyData) -> tuple[Contrast, ...]:
    """Return per SD, per 10 and LVH, with the SD and the unit of the study."""
    return contrasts_of(data.study, data.sd, data.about.exposure_unit)


def needs_of(study: Study, model: int = 2) -> str:
    """Return the name of what has to be known of the people of a model, for `meanings.analysed`."""
    return MODELS if study.rows == "same" else ALL_ROWS.format(model)


def age_sex_model(data: StudyData) -> Model:
    """Return model 2, adjusted for age and sex."""
    return models_of(data.study)[1]


def results_about(
    outcome: str, analysis: str, data: StudyData, rows: Iterable[Mapping[str, Any]], *needed: str
) -> list[dict[str, Any]]:
    """Return rows of the results about an outcome; hazard ratios where they have no measure.

    `needed` is what has to be known of people, as `meanings.analysed` has it; LVH too in rows about
    LVH. Rows with `counted` say themselves what they count.
    """
    made = []
    for row in rows:
        needs = needed or (needs_of(data.study, row.get("model") or 2),)
        who = analysed(outcome, data.model_id, *needs, lvh=row.get("exposure") == data.study.lvh_column)
        columns: dict[str, Any] = {"measure": HAZARD_RATIO, "counted": who} | dict(row) | data.keys(outcome)
        made.append(result(analysis, **columns))
    return made


# Masked tables to tables and figures for readers.


def results_of(masked: Mapping[str, Masked], key: str) -> Masked | None:
    """Return the results of a topic, or None where there are no rows."""
    found = masked.get(f"results_{key}")
    return found if found is not None and len(found.rows) else None


def result_table(
    found: Masked,
    about: About,
    key: str,
    title: str,
    labels: Mapping[str, Any],
    values: Mapping[str, Any],
    notes: tuple[str, ...] = (),
    *,
    where: Any = slice(None),
    sort_by: Sequence[str] | None = None,
) -> ReadTable:
    """Return a table with a row for each masked result in `where`, all if it is not given.

    `labels` are columns that name a row, beside outcome and model of the predictions. The values of
    the columns `sort_by`, beside outcome and model, are put together in the order in which they
    come first; with None rows stay in their order.
    """
    names = row_labels(found, about)
    cells = pd.DataFrame({**names, **labels, **values})[where].reset_index(drop=True)
    if sort_by is not None:
        cells = sorted_as_met(cells, [*names, *sort_by])
    return ReadTable(key, title, cells, len(names) + len(labels), notes)


def cells_by_model(found: Masked, about: About, *, labels: Sequence[str]) -> pd.DataFrame:
    """Return hazard ratios with a column for each model; `labels` of `row_labels` name the rows."""
    counts = row_counts(found, about)
    rows = found.rows.assign(
        **row_labels(found, about),
        **counts,
        Contrast=found.rows["contrast"],
        text=estimate_texts(found),
        model_name=found.rows["model"].map(MODEL_WORDS),
    )
    return side_by_side(rows, by=[*labels, "Contrast", *counts], over="model_name", values=["text"])


def group_labels(rows: pd.DataFrame, about: About) -> dict[str, pd.Series[Any]]:
    """Return the names of rows of a table by outcome, classification and group."""
    return {
        "Outcome": rows["outcome"].map(about.outcomes),
        "Group": rows["classification"].where(rows["classification"] != EVERYBODY, ""),
        "Level": rows["group"],
    }


def horizon_texts(found: Masked) -> list[str]:
    """Return the horizon of each result in years; a dash where there is none."""
    return [f"{value:.3g}" if value else NOT_APPLICABLE for value in found.rows["unit_value"]]


def not_drawn(found: Masked, about: About, column: str, what: str) -> tuple[str, ...]:
    """Return a sentence for each outcome whose figure is left out: its numbers are hidden."""
    made = []
    for outcome, model, _ in outcomes_and_models(found, about):
        own = (found.rows["outcome"] == outcome) & (found.rows["model_id"] == model)
        if own.any() and found.hidden.loc[own, column].all():
            name = f"{about.outcomes[outcome]}{of_model(model)}"
            made.append(f"No {what} of {name} is shown: there are fewer than {about.k} people or events.")
    return tuple(made)


def figures_by_outcome(
    found: Masked, about: About, draw: Callable[[pd.DataFrame, str, str, str], ReadFigure | None]
) -> list[ReadFigure]:
    """Return a figure for each outcome and model of the predictions that are columns of `found`.

    `draw` takes the rows of an outcome and model, the outcome in words, the model ("" if there is
    one only) and the end of the figure's key, and returns None where there is no figure.
    """
    made = []
    for outcome, model, key in outcomes_and_models(found, about):
        own = (found.rows["outcome"] == outcome) & (found.rows["model_id"] == model)
        made.append(draw(with_texts(found)[own].reset_index(drop=True), about.outcomes[outcome], model, key))
    return [figure for figure in made if figure is not None]
