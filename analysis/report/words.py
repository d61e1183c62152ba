"""Numbers and rows of masked tables as text, and tables of text in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Kind
from analysis.disclosure.masking import HIDDEN, NOT_APPLICABLE, Masked
from analysis.report.journals import journal
from analysis.study.data import About

_TEXT: Final = "_text"
LESS_THAN_0_001: Final = 0.0009
MODEL_WORDS: Final = {1: "Model 1", 2: "Model 2", 3: "Model 3", 4: "Model 4"}


def sentence(text: str) -> str:
    """Return text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def levels_in_order(levels: Iterable[Any]) -> list[str]:
    """Return the levels of a classification in order: "<50" stands before "50-59"."""
    return sorted((str(one) for one in levels), key=lambda text: (not text.startswith("<"), text))


def p_text(p: float) -> str:
    """Return a P value for a column of P values: "0.03", "0.004", "<0.001".

    Two decimals; three below 0.01, and where two would read 0.05 on the other side of it (AMA
    Manual of Style, section 19.5).
    """
    if p is None or pd.isna(p):
        return NOT_APPLICABLE
    style = journal()
    if p < style.least_p:
        return f"<{_p_decimals(style.least_p, 4 if style.least_p < 0.001 else 3)}"
    if p < 0.001:
        # Masking writes 0.0009 for all P values below 0.001 of which no more may be told.
        return f"<{_p_decimals(0.001, 3)}" if p == LESS_THAN_0_001 else _p_decimals(p, 4)
    return _p_decimals(p, 3 if p < 0.01 or 0.045 <= p < 0.055 else 2)


def _p_decimals(p: float, digits: int) -> str:
    text = f"{p:.{digits}f}"
    if text.startswith("0"):
        text = journal().p_zero + text[1:]
    return text.replace(".", journal().decimal)


def p_phrase(p: float) -> str:
    """Return a P value inside a sentence: "P=0.03", "P<0.001"."""
    text = p_text(p)
    return f"{journal().p_letter}{'' if text.startswith('<') else '='}{text}"


def count_text(value: Any) -> str:
    """Return a masked count as text: "1,235", or `HIDDEN` where it is missing."""
    return HIDDEN if pd.isna(value) else f"{int(value):,}"


def with_texts(masked: Masked) -> pd.DataFrame:
    """Return the rows of a masked table with each count also as text, as `n_people_text`.

    Figures print the text, so that they have the same "±10" as the tables.
    """
    names = [column.name for column in masked.columns if column.kind == Kind.COUNT]
    return masked.rows.assign(**{f"{name}{_TEXT}": masked.shown(name) for name in names})


def counted_text(row: Mapping[Any, Any], name: str) -> str:
    """Return a count of a row of `with_texts` as text; of other rows, `count_text`."""
    return str(row[f"{name}{_TEXT}"]) if f"{name}{_TEXT}" in row else count_text(row.get(name))


def number_text(value: float, digits: int = 2, *, hidden: bool = False) -> str:
    """Return a number with decimals, `HIDDEN`, or a dash where there is none."""
    if hidden:
        return HIDDEN
    if pd.isna(value) or not np.isfinite(value):
        return NOT_APPLICABLE
    text = f"{round(float(value), digits) + 0.0:,.{digits}f}"  # no "-0.0"
    return text.replace(".", journal().decimal)


def percent_text(share: float, digits: int = 1) -> str:
    """Return a share (0 to 1) in per cent: "12.3%"."""
    text = number_text(100 * share, digits)
    return text if text == NOT_APPLICABLE else f"{text}%"


def limits_text(lo: float, hi: float, digits: int = 2) -> str:
    """Return the limits of an interval: "1.27 to 1.84"."""
    between = journal().between_negative if min(lo, hi) < 0 else journal().between
    return f"{number_text(lo, digits)}{between}{number_text(hi, digits)}"


def percent_interval_text(share: float, lo: float, hi: float, digits: int = 1) -> str:
    """Return a share with its limits in per cent: "4.1% (3.2 to 5.0)"."""
    return f"{percent_text(share, digits)} ({limits_text(100 * lo, 100 * hi, digits)})"


def digits_of(estimate: float, lo: float, hi: float, least: int = 2) -> int:
    """Return decimals by which an estimate differs from its limits in two digits, at most five.

    So that nobody reads "0.0000 (0.0000 to 0.0000)", nor "2.0400 (1.2600 to 3.3200)".
    """
    apart = [abs(estimate - one) for one in (lo, hi) if np.isfinite(one) and one != estimate]
    if not apart:
        return least
    return int(np.clip(1 - np.floor(np.log10(min(apart))), least, 5))


def interval_text(row: Mapping[Any, Any], digits: int = 2, *, hidden: bool = False) -> str:
    """Return an estimate with its limits: "1.53 (1.27 to 1.84)"."""
    if hidden:
        return HIDDEN
    if pd.isna(row["estimate"]):
        return NOT_APPLICABLE
    middle = number_text(row["estimate"], digits)
    if pd.isna(row["lo"]) or pd.isna(row["hi"]):
        return middle
    return f"{middle} ({limits_text(row['lo'], row['hi'], digits)})"


def estimate_texts(masked: Masked, digits: int = 2) -> pd.Series[Any]:
    """Return the estimates of results with their limits, one text per row."""
    texts = [
        interval_text(row, digits, hidden=hidden)
        for row, hidden in zip(
            masked.rows[["estimate", "lo", "hi"]].to_dict("records"), masked.hidden["estimate"], strict=True
        )
    ]
    return pd.Series(texts, index=masked.rows.index, dtype=object)


def p_texts(masked: Masked, column: str = "p") -> pd.Series[Any]:
    """Return P values of results as text."""
    values, hidden = masked.rows[column], masked.hidden[column]
    texts = [HIDDEN if h else p_text(v) for v, h in zip(values, hidden, strict=True)]
    return pd.Series(texts, index=values.index, dtype=object)


def percent_texts(parts: pd.Series[Any], wholes: pd.Series[Any]) -> pd.Series[Any]:
    """Return the percentages of masked counts; `HIDDEN` where either is missing."""
    texts = [
        HIDDEN
        if pd.isna(part) or pd.isna(whole)
        else NOT_APPLICABLE
        if not whole
        else percent_text(min(part / whole, 1))
        for part, whole in zip(parts, wholes, strict=True)
    ]
    return pd.Series(texts, index=parts.index, dtype=object)


def row_labels(found: Masked, about: About) -> dict[str, pd.Series[Any]]:
    """Return the names of rows: outcome, and model where predictions are of several."""
    rows = found.rows
    made: dict[str, pd.Series[Any]] = {"Outcome": rows["outcome"].map(about.outcomes)}
    if len(models_in(found)) > 1:
        made["Prediction model"] = rows["model_id"]
    return made


def row_counts(found: Masked, about: About) -> dict[str, pd.Series[Any]]:
    """Return people, ECGs where people may have several, and people with the event, as text."""
    columns = {"People": "n_people"} | ({"ECGs": "n_ecgs"} if about.several_ecgs else {}) | {"Events": "n_events"}
    return {title: found.shown(name) for title, name in columns.items()}


def models_in(found: Masked) -> list[str]:
    """Return the models of the predictions that rows are of; "" where these are of one model."""
    return list(dict.fromkeys(map(str, found.rows["model_id"])))


def outcomes_and_models(found: Masked, about: About) -> Iterator[tuple[str, str, str]]:
    """Yield each outcome with each model of the predictions, and the end of its figure's key.

    "af", "", "_af" where there is one model; "af", "khurshid", "_af_2" where it is the second.
    """
    for outcome in about.outcomes:
        for place, model in enumerate(models_in(found), 1):
            yield outcome, model, f"_{outcome}_{place}" if model else f"_{outcome}"


def of_model(model: str) -> str:
    """Return what is added to a title: ", model khurshid", or nothing where there is one model."""
    return f", model {model}" if model else ""


def sorted_as_met(cells: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return rows sorted by columns, the values of each in the order in which they come first."""
    places = {name: {value: place for place, value in enumerate(dict.fromkeys(cells[name]))} for name in by}
    ordered = cells.sort_values(list(by), key=lambda column: column.map(places[str(column.name)]), kind="stable")
    return ordered.reset_index(drop=True)


def side_by_side(rows: pd.DataFrame, *, by: Sequence[str], over: str, values: Sequence[str]) -> pd.DataFrame:
    """Return text cells with one block of columns for each value of a column, order kept."""
    order = list(dict.fromkeys(rows[over]))
    index = list(dict.fromkeys(rows[list(by)].itertuples(index=False, name=None)))
    keyed = rows.set_index([*by, over])
    cells: dict[str, list[str]] = {name: [str(key[i]) for key in index] for i, name in enumerate(by)}
    for level in order:
        for value in values:
            title = f"{level}" if len(values) == 1 else f"{level}: {value}"
            cells[title] = [str(keyed[value].get((*key, level), NOT_APPLICABLE)) for key in index]
    return pd.DataFrame(cells)
