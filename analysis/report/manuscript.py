"""Methods, Results and captions as sentences that authors can take over.

Each sentence of the results names the lines of results.csv and data/*.csv that its numbers are of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from analysis.disclosure.counts import EVERYBODY
from analysis.disclosure.masking import HIDDEN, Masked
from analysis.report.document import ReadFigure, ReadTable, Section
from analysis.report.statements import Found, Source, Statement, find, find_result, places_of
from analysis.report.topics.key_results import KeyResults, added_rows, agreement_rows, lvh_rows, risk_rows
from analysis.report.topics.tables import HAZARD_RATIO
from analysis.report.words import limits_text, number_text, sentence
from analysis.study.data import About

_HEADINGS: Final = ("Participants", "Associations with outcomes", "What the ECG adds", "Agreement with CMR")
_CONTRASTS: Final = (
    ("per SD", "per SD higher {exposure}"),
    ("LVH", "of people with predicted LVH, against those without,"),
)


@dataclass(frozen=True, slots=True)
class Manuscript:
    """Text for authors; all numbers are masked."""

    methods: tuple[str, ...]
    results: tuple[tuple[str, tuple[Statement, ...]], ...]  # heading and sentences
    captions: tuple[str, ...]  # of tables, then of figures
    places: Mapping[Source, str]  # file and line of each row


def manuscript_of(
    masked: Mapping[str, Masked], about: About, methods: Sequence[str], sections: Sequence[Section], key: KeyResults
) -> Manuscript:
    """Return the text of a study from its masked tables."""
    ratios = [one for outcome in about.outcomes for one in _associations(masked, about, outcome)]
    added = [one for outcome in about.outcomes for one in _added(masked, about, outcome)]
    parts = (_participants(masked, about), ratios, added, _agreement(masked))
    results = tuple((head, tuple(found)) for head, found in zip(_HEADINGS, parts, strict=True) if found)
    return Manuscript(tuple(methods), results, tuple(_captions(sections, key)), places_of(masked))


def _captions(sections: Sequence[Section], key: KeyResults) -> list[str]:
    own: list[ReadTable | ReadFigure] = [one for one in (key.table, key.figure) if one is not None]
    items = [*own, *(item for one in sections for item in one.items)]
    texts = []
    for kind, name in ((ReadTable, "Table"), (ReadFigure, "Figure")):
        for place, item in enumerate((one for one in items if isinstance(one, kind)), 1):
            notes = " ".join(item.notes)
            texts.append(f"{name} {place}. {item.title}. {notes}".strip())
    return texts


# Sentences.


def _participants(masked: Mapping[str, Masked], about: About) -> list[Statement]:
    made = []
    age = find(masked, "baseline_numbers", group=EVERYBODY, variable="Age, years")
    women = find(masked, "baseline_counts", group=EVERYBODY, variable="Sex", level="female")
    lvh = find(masked, "baseline_numbers", group="LVH")
    if age is not None and women is not None and not age.hidden["mean"]:
        mean, sd = (number_text(age.values[name], 1) for name in ("mean", "sd"))
        text = f"We included {age.counts['n_people']} people with an index ECG (mean age {mean} [SD {sd}] years"
        share = women.share("n_people", "n_group")
        made.append(Statement(f"{text}{f'; {share} women' if share else ''}).", (age.source, women.source)))
    if lvh is not None and lvh.counts["n_people"] not in ("0", HIDDEN):
        made.append(Statement(f"{lvh.counts['n_people']} people had predicted LVH.", (lvh.source,)))
    primary, words = next(iter(about.outcomes.items()))
    years = find(masked, "follow_up_years", outcome=primary, group=EVERYBODY)
    if years is not None and not years.hidden["median_years"]:
        median, low, high = (number_text(years.values[f"{name}_years"], 1) for name in ("median", "q1", "q3"))
        text = f"For {words}, median follow-up was {median} years (interquartile range, {low} to {high})."
        made.append(Statement(text, (years.source,)))
    return made


def _agreement(masked: Mapping[str, Masked]) -> list[Statement]:
    made = []
    r, bias, lower, upper = agreement_rows(masked)
    if r is not None and bias is not None and lower is not None and upper is not None:
        low, high = (number_text(one.values["estimate"], 1) for one in (lower, upper))
        text = (
            f"In {r.counts['n_people']} people with CMR, predicted and measured LV mass correlated with "
            f"r={number_text(r.values['estimate'])} ({_interval(r, 2)}); the mean difference was "
            f"{number_text(bias.values['estimate'], 1)} g ({_interval(bias, 1)}), with 95% limits of agreement "
            f"of {low} and {high} g."
        )
        made.append(Statement(text, tuple(one.source for one in (r, bias, lower, upper))))
    ours, rules, difference = lvh_rows(masked)
    if ours is not None and rules is not None:
        p = difference.p() if difference is not None else ""
        test = f"; {p} for the difference" if p else ""
        text = (
            f"For LVH by CMR, the binary c-statistic of predicted LVH was {number_text(ours.values['estimate'], 3)} "
            f"({_interval(ours, 3)}), and that of any of the three ECG rules "
            f"{number_text(rules.values['estimate'], 3)} ({_interval(rules, 3)}{test})."
        )
        made.append(Statement(text, tuple(one.source for one in (ours, rules, difference) if one is not None)))
    return made


def _associations(masked: Mapping[str, Masked], about: About, outcome: str) -> list[Statement]:
    words = about.outcomes[outcome]
    made = []
    rates = find(masked, "rates", outcome=outcome, classification=EVERYBODY, group=EVERYBODY)
    if rates is not None and rates.counts["n_events"] != HIDDEN:
        text = f"{sentence(words)} occurred in {rates.counts['n_events']} of {rates.counts['n_people']} people."
        made.append(Statement(text, (rates.source,)))
    for contrast, phrase in _CONTRASTS:
        known: dict[str, Any] = {"outcome": outcome, "contrast": contrast, "measure": HAZARD_RATIO}
        found = [find_result(masked, "hazard_ratios", model=model, **known) for model in (2, 3)]
        main, larger = found
        if main is None:
            continue
        start = f"The hazard ratio of {words} {phrase.format(exposure=about.exposure_name)}"
        if not main.is_shown:
            made.append(Statement(f"{start} is not given, as it rests on few people or events.", (main.source,)))
            continue
        text = f"{start} was {_ratio(main)} after adjustment for age and sex"
        sources = [main.source]
        if larger is not None and larger.is_shown:
            text += f", and {_ratio(larger)} after adjustment for {larger.values['adjustment']}"
            sources.append(larger.source)
        made.append(Statement(f"{text}.", tuple(sources)))
    return made


def _ratio(found: Found) -> str:
    """As "1.23 (95% CI, 1.08 to 1.40; P=0.002)"."""
    p = found.p()
    return f"{number_text(found.values['estimate'])} ({_interval(found, 2)}{f'; {p}' if p else ''})"


def _interval(found: Found, digits: int) -> str:
    return f"95% CI, {limits_text(found.values['lo'], found.values['hi'], digits)}"


def _added(masked: Mapping[str, Masked], about: About, outcome: str) -> list[Statement]:
    made = []
    words, rows = about.outcomes[outcome], added_rows(masked, about, outcome)
    without, with_it, difference, test = (rows.get(name) for name in ("without", "with", "difference", "test"))
    if without is not None and with_it is not None and difference is not None and difference.is_shown:
        p = test.p() if test is not None else ""
        text = (
            f"For {words}, the C-statistic was {number_text(without.values['estimate'], 3)} with "
            f"{difference.values['adjustment']}, and {number_text(with_it.values['estimate'], 3)} with the "
            f"{about.exposure_name} added (difference {number_text(difference.values['estimate'], 3)}; "
            f"{_interval(difference, 3)}{f'; {p} for the added term' if p else ''})."
        )
        known = (without, with_it, difference, test)
        made.append(Statement(text, tuple(one.source for one in known if one is not None)))
    risks = risk_rows(masked, outcome)
    auc, ratio = risks["auc"], risks["ratio"]
    if auc is not None and ratio is not None and auc.is_shown and ratio.is_shown:
        text = (
            f"In held-out people, the area under the curve of the {auc.values['unit_value']:.3g}-year risk of {words} "
            f"was {number_text(auc.values['estimate'], 3)} ({_interval(auc, 3)}), and observed over expected risk "
            f"{number_text(ratio.values['estimate'])} ({_interval(ratio, 2)})."
        )
        made.append(Statement(text, (auc.source, ratio.source)))
    return made


# Text.


def markdown(made: Manuscript, title: str, notices: Sequence[str]) -> str:
    """Return the text as Markdown; each sentence of the results has a footnote with its source."""
    lines = [f"# {title}", "", *(f"> {text}" for text in notices), "", "## Methods", ""]
    for text in made.methods:
        lines += [text, ""]
    lines += ["## Results", ""]
    notes: list[str] = []
    for head, statements in made.results:
        texts = []
        for one in statements:
            notes.append(source_text(one, made))
            texts.append(f"{one.text}[^{len(notes)}]")
        lines += [f"### {head}", "", "\n".join(texts), ""]
    lines += ["## Captions", ""]
    for text in made.captions:
        lines += [text, ""]
    lines += [f"[^{place}]: {text}" for place, text in enumerate(notes, 1)]
    return "\n".join(lines) + "\n"


def source_text(one: Statement, made: Manuscript) -> str:
    """Return the files and lines of the numbers of a sentence."""
    return "; ".join(dict.fromkeys(made.places[source] for source in one.sources)) or "settings of the study"
