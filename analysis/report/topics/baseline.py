"""Table 1: who the people are, by LVH and by quartile, with missing values and differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, Precision, count, label, number
from analysis.disclosure.counts import EVERYBODY, Count
from analysis.disclosure.masking import HIDDEN, NOT_APPLICABLE, Masked
from analysis.disclosure.meanings import LEFT, LVH
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.differences import love_plot
from analysis.report.topics.baseline_differences import difference_texts, differences_aggregate, share_texts
from analysis.report.topics.tables import aggregate
from analysis.report.words import counted_text, levels_in_order, number_text, sentence, with_texts
from analysis.study.data import About, StudyData


@dataclass(frozen=True, slots=True)
class _Table:
    """One of the two tables."""

    key: str  # of its aggregates and files
    groups: tuple[str, ...]  # in the order of its columns; the last is of those whose group is unknown
    compared: tuple[str, str]  # the two of the standardised difference
    name: str  # of what has to be known of people for them to be in a group
    levels: tuple[str, ...]  # of it, by group

    def people(self) -> dict[str, Count]:
        """Return what each group counts."""
        levels = zip(self.groups, self.levels, strict=True)
        return {EVERYBODY: LEFT} | {group: LEFT.level(self.name, level) for group, level in levels}


_BY_LVH: Final = _Table("baseline", ("no LVH", "LVH", "LVH unknown"), ("LVH", "no LVH"), LVH, ("no LVH", "LVH", ""))
_BY_QUARTILE: Final = _Table(
    "baseline_quartile",
    (*(f"quartile {number}" for number in (1, 2, 3, 4)), "quartile unknown"),
    ("quartile 4", "quartile 1"),
    "quartile",
    ("Q1", "Q2", "Q3", "Q4", ""),
)
_BY_EXPOSURE: Final = _Table(
    "baseline_exposure", ("no", "yes", "unknown"), ("yes", "no"), "exposure_group", ("no", "yes", "")
)
_NUMBERS: Final = {
    "age_years": "Age, years",
    "bmi_kg_m2": "Body mass index, kg/m2",
    "height_cm": "Height, cm",
    "weight_kg": "Weight, kg",
    "bsa_m2": "Body surface area, m2",
    "mass_g": "LV mass from the ECG, g",
    "index_g_m2": "LV mass index from the ECG, g/m2",
}
_CATEGORIES: Final = {"sex": "Sex", "age_band": "Age band, years", "region": "Region", "ethnicity": "Ethnicity"}
_MISSING: Final = "missing"
_DIFFERENCE: Final = "Standardised difference"
_QUANTILES: Final = {"p5": 0.05, "q1": 0.25, "median": 0.5, "q3": 0.75, "p95": 0.95}


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return means and counts of one index ECG per person: everybody, by LVH and by quartile."""
    people = data.ecgs.drop_duplicates("participant_id")
    quartile = people["quartile"].map(lambda q: f"quartile {q:.0f}", na_action="ignore")
    grouped = {
        _BY_LVH: people["lvh_group"].fillna(_BY_LVH.groups[-1]),
        _BY_QUARTILE: quartile.astype(object).fillna(_BY_QUARTILE.groups[-1]),
    }
    if data.study.is_yes_no:
        del grouped[_BY_QUARTILE]
        grouped[_BY_EXPOSURE] = people["exposure_group"].astype(object).fillna(_BY_EXPOSURE.groups[-1])
    return [one for table, group in grouped.items() for one in _aggregates(data, people.assign(group=group), table)]


def _aggregates(data: StudyData, people: pd.DataFrame, table: _Table) -> list[Aggregate]:
    own = {one.name: one for one in data.study.person_columns}
    numbers = _NUMBERS | {n: one.words for n, one in own.items() if one.kind == "number"}
    categories = _CATEGORIES | {n: one.words for n, one in own.items() if one.kind != "number"}
    rows: list[dict[str, Any]] = []
    counts: list[dict[str, Any]] = []
    for group in (EVERYBODY, *table.groups):
        part = people if group == EVERYBODY else people[people["group"] == group]
        known = {"group": group, "n_people": len(part), "n_group": len(part)}
        for name, words in (numbers | categories).items():
            if name not in people:
                continue
            row = known | {"column": name, "variable": words}
            if name in numbers:
                rows.append(row | _spread_of(part[name]))
            else:
                counts += [row | level for level in _levels(people[name], part[name])]
    variables: dict[str, tuple[str, tuple[str, ...]]] = {name: (words, ()) for name, words in numbers.items()}
    as_words = {name: _words(people[name]) for name in categories if name in people}
    for name, values in as_words.items():
        variables[name] = categories[name], tuple(levels_in_order(set(values) - {_MISSING}))
    worded = people.assign(**{name: values.replace(_MISSING, None) for name, values in as_words.items()})
    differences = differences_aggregate(table.key, worded, table.compared, table.people(), variables)
    return [_numbers_aggregate(rows, table), _counts_aggregate(counts, table), differences]


def _spread_of(column: pd.Series[Any]) -> dict[str, Any]:
    values = column.astype(float)
    known = values.dropna()
    made = {"n_known": len(known), "n_missing": len(values) - len(known), "mean": known.mean(), "sd": known.std(ddof=1)}
    return made | {name: known.quantile(share) for name, share in _QUANTILES.items()}


def _levels(everybody: pd.Series[Any], part: pd.Series[Any]) -> list[dict[str, Any]]:
    """Counts of the levels of a category; a level is listed for all groups."""
    found = _words(part).value_counts()
    levels = [*levels_in_order(set(_words(everybody)) - {_MISSING}), _MISSING]
    size = max(len(part), 1)
    return [
        {"level": level, "n_people": int(found.get(level, 0)), "share": found.get(level, 0) / size} for level in levels
    ]


def _words(values: pd.Series[Any]) -> pd.Series[Any]:
    if values.dtype == float:
        return values.map({1.0: "yes", 0.0: "no"}).fillna(_MISSING)
    texts = values.astype("string").str.strip().fillna("")
    return texts.astype(object).replace("", _MISSING)


def _numbers_aggregate(rows: list[dict[str, Any]], whole: _Table) -> Aggregate:
    statistics = {
        "mean": "mean",
        "sd": "standard deviation, n - 1",
        "p5": "5th percentile",
        "q1": "25th percentile",
        "median": "median",
        "q3": "75th percentile",
        "p95": "95th percentile",
    }
    columns = (
        label("variable", "with its unit"),
        label("group", "everybody, or of the classification"),
        count("n_people", "people of the group"),
        count("n_known", "people with a value"),
        count("n_missing", "people without a value"),
        *(
            number(name, text, "n_known", precision=Precision.MEAN, quantile=_QUANTILES.get(name))
            for name, text in statistics.items()
        ),
    )
    counts = meanings.baseline_numbers(pd.DataFrame(rows), whole.people())
    return aggregate(f"{whole.key}_numbers", rows, columns, lambda _: counts)


def _counts_aggregate(rows: list[dict[str, Any]], whole: _Table) -> Aggregate:
    columns = (
        label("variable", "a category"),
        label("level", "of it"),
        label("group", "everybody, or of the classification"),
        count("n_group", "people of the group"),
        count("n_people", "people of the group with the level"),
        number("share", "of the people of the group, 0 to 1", "n_group", "n_people", precision=Precision.SHARE),
    )
    counts = meanings.baseline_counts(pd.DataFrame(rows), whole.people())
    return aggregate(f"{whole.key}_counts", rows, columns, lambda _: counts)


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return Table 1, by LVH and by quartile, and their standardised differences as a figure."""
    if "baseline_numbers" not in masked or "baseline_counts" not in masked:
        return None
    lvh = f"LVH: predicted index above the limit of the sex ({about.lvh_preset})."
    cut = f"Quartiles of the {about.exposure_name} are cut within sex; otherwise a quartile would mostly be a sex."
    titles = {
        _BY_LVH: ("Characteristics of people by predicted LVH", lvh),
        _BY_QUARTILE: (f"Characteristics of people by quartile of the {about.exposure_name}, cut within sex", cut),
        _BY_EXPOSURE: (
            f"Characteristics of people by {about.exposure_name}",
            f"{sentence(about.exposure_name)}: yes or no.",
        ),
    }
    items: list[ReadTable | ReadFigure] = []
    for table, (title, note) in titles.items():
        if f"{table.key}_numbers" in masked:
            read, differences = _read_table(masked, table, title, note)
            items += [read, *([_love_plot(differences)] if table is _BY_LVH and len(differences) else [])]
    return Section("baseline", "Who they are", items=tuple(items))


def _love_plot(differences: pd.DataFrame) -> ReadFigure:
    drawn = love_plot(differences, compared=_BY_LVH.compared)
    title = "Standardised differences of people with and without predicted LVH"
    notes = ("Index and mass differ because LVH is defined by the index.",)
    return ReadFigure("standardised_differences", title, drawn.alt, drawn.canvas, notes)


def _read_table(masked: Mapping[str, Masked], table: _Table, title: str, note: str) -> tuple[ReadTable, pd.DataFrame]:
    """The table, and its standardised differences: label, difference."""
    numbers, counts = masked[f"{table.key}_numbers"], masked[f"{table.key}_counts"]
    shown = numbers.shown("n_people").groupby(numbers.rows["group"]).first()
    # A group is shown unless nobody is in it; a hidden count is not 0.
    groups = [group for group in (EVERYBODY, *table.groups) if not shown[group].startswith("0")]
    differences = masked[f"{table.key}_differences"]
    texts = difference_texts(differences)
    lines = []
    for variable in dict.fromkeys(numbers.rows["variable"]):
        lines += _number_lines(sentence(variable), _of(numbers, variable), groups, texts[variable])
    shares = share_texts(counts)
    for variable in dict.fromkeys(counts.rows["variable"]):
        lines += _count_lines(counts, variable, groups, shares, texts[variable])
    heads = [f"{sentence(g)} (n = {shown[g]})" for g in groups]
    titles = ["Characteristic", "", *heads, _DIFFERENCE]
    cells = pd.DataFrame(lines, columns=range(len(titles)), dtype=object)
    cells.columns = pd.Index(titles)
    notes = (
        "Numbers: mean (SD), median [quartiles]; categories: people (per cent of the group). One index ECG a person.",
        note,
        f"{_DIFFERENCE}: {table.compared[0]} less {table.compared[1]}, of means or shares, over the root of the mean "
        "variance (Austin PC, Stat Med 2009;28:3083), from exact counts of people with a value; of two levels that of "
        "the last, of more their distance, which has no sign (Yang and Dalton 2012).",
    )
    known = differences.rows.assign(label=differences.rows["variable"].map(sentence))
    return ReadTable(table.key, title, cells, 2, notes), known[["label", "difference"]]


def _of(numbers: Masked, variable: str) -> pd.DataFrame:
    """The rows of a variable by group, with counts as text, and whether numbers are hidden."""
    is_own = numbers.rows["variable"] == variable
    made = with_texts(numbers)[is_own].assign(
        mean_hidden=numbers.hidden.loc[is_own, "mean"], median_hidden=numbers.hidden.loc[is_own, "median"]
    )
    return made.set_index("group")


def _number_lines(variable: str, own: pd.DataFrame, groups: list[str], difference: str) -> list[list[str]]:
    by_group = [row for _, row in own.loc[groups].iterrows()]
    lines = [
        [variable, "mean (SD)", *(HIDDEN if row["mean_hidden"] else _spread(row) for row in by_group), difference],
        ["", "median [quartiles]", *(HIDDEN if row["median_hidden"] else _middle(row) for row in by_group), ""],
    ]
    blank = [counted_text(dict(row), "n_missing") for row in by_group]
    return [*lines, ["", _MISSING, *blank, ""]] if any(text != "0" for text in blank) else lines


def _spread(row: pd.Series[Any]) -> str:
    mean, sd = _number_texts(row, "mean", "sd")
    return NOT_APPLICABLE if pd.isna(row["mean"]) else f"{mean} ({sd})"


def _middle(row: pd.Series[Any]) -> str:
    median, low, high = _number_texts(row, "median", "q1", "q3")
    return NOT_APPLICABLE if pd.isna(row["median"]) else f"{median} [{low}, {high}]"


def _number_texts(row: pd.Series[Any], *names: str) -> list[str]:
    """Numbers with decimals that show the spread: one, or two where it is small, as of an area."""
    return [number_text(row[name], 2 if row["sd"] < 1 else 1) for name in names]


def _count_lines(
    counts: Masked, variable: str, groups: list[str], shares: pd.Series[Any], difference: str
) -> list[list[str]]:
    """The lines of a category, the first with its difference; of yes and no, only that of yes."""
    own = counts.rows[counts.rows["variable"] == variable]
    shown = counts.shown("n_people")[own.index]
    levels = list(dict.fromkeys(own["level"]))
    is_yes_no = set(levels) <= {"yes", "no", _MISSING}
    lines: list[list[str]] = []
    for level in levels:
        rows = own[own["level"] == level]
        places = dict(zip(rows["group"], rows.index, strict=True))
        pairs = [(shown[places[g]], shares[places[g]]) for g in groups]
        cells = [n if share in (HIDDEN, NOT_APPLICABLE) else f"{n} ({share})" for n, share in pairs]
        nobody = all(cell.startswith("0") for cell in cells)
        if (level == _MISSING and nobody) or (is_yes_no and level == "no"):
            continue
        lines.append(["" if lines else sentence(variable), level, *cells, "" if lines else difference])
    return lines


TOPIC: Final = Topic("baseline", aggregates, present)
