"""From the people of a study to its masked tables and its report."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from analysis.disclosure.aggregates import Aggregate
from analysis.disclosure.masking import Masked, MaskingRule, mask_all
from analysis.disclosure.release import ReleaseRule
from analysis.report.document import Section, Topic
from analysis.report.manuscript import manuscript_of
from analysis.report.methods import author_methods, banners, methods, warnings
from analysis.report.page import Report
from analysis.report.topics import (
    absolute_risk,
    added_value,
    baseline,
    cmr,
    cox_assumptions,
    flow,
    follow_up,
    hazard_ratios,
    imputed,
    measurement_error,
    rates,
    robustness,
    sensitivity,
)
from analysis.report.topics.key_results import key_results
from analysis.study.data import StudyData
from analysis.study.settings import Release, Study
from lvm_core.units import DAYS_PER_YEAR

_ALWAYS: Final = (flow.TOPIC, baseline.TOPIC, follow_up.TOPIC)
_OF_OUTCOMES: Final = (
    rates.TOPIC,
    hazard_ratios.TOPIC,
    cox_assumptions.DOSE_RESPONSE,
    added_value.TOPIC,
    hazard_ratios.COMPETING,
    cox_assumptions.PROPORTIONAL_HAZARDS,
    sensitivity.TOPIC,
    imputed.TOPIC,
    robustness.TOPIC,
    absolute_risk.TOPIC,
    absolute_risk.STANDARDISED,
    measurement_error.CALIBRATED,
    sensitivity.NEGATIVE_CONTROL,
)
_OF_ECGS: Final = (cmr.TOPIC, measurement_error.REPEATS, flow.CODES)
NOTHING: Final = MaskingRule(0, 1, ReleaseRule.NONE)
"""Nothing is hidden."""
_LISTS_OF_PEOPLE: Final = "participants events deaths cmr encounters history_starts withdrawn excluded"


@dataclass(frozen=True, slots=True)
class Rendered:
    """Masked tables, and the report that is drawn from them."""

    masked: Mapping[str, Masked]  # by key
    report: Report


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a study found, rendered twice by the same code."""

    aggregates: Sequence[Aggregate]  # exact
    restricted: Rendered  # nothing is hidden; it must not leave
    export: Rendered  # what the release rule of the study leaves


def topics_of(data: StudyData) -> tuple[Topic, ...]:
    """Return the topics of a study, in the order of its report."""
    if not data.study.report:
        return (hazard_ratios.TOPIC,)
    outcomes = _OF_OUTCOMES if data.study.hazard_ratios else (rates.TOPIC,)
    return (*_ALWAYS, *outcomes, *_OF_ECGS)


def analyse(data: StudyData, on_topic: Callable[[str], None]) -> Analysis:
    """Compute, mask, and only then draw; `on_topic` gets the name of each step before it."""
    aggregates, masked = computed(data, on_topic)
    exact = mask_all(aggregates, NOTHING)
    on_topic("tables and figures")
    return Analysis(aggregates, _rendered(unmasked(data), exact), _rendered(data, masked))


def _rendered(data: StudyData, masked: Mapping[str, Masked]) -> Rendered:
    shown = topics_of(data) if data.study.report else ()
    found = [topic.present(masked, data.about) for topic in shown]
    return Rendered(masked, report_of(data, masked, tuple(section for section in found if section is not None)))


def unmasked(data: StudyData) -> StudyData:
    """Return a study as its restricted report describes it: nothing hidden, and not for release."""
    about = replace(data.about, k=0, base=1, release=ReleaseRule.NONE.value, is_restricted=True)
    study = data.study.model_copy(update={"release": Release(rule="none")})
    return replace(data, study=study, about=about)


def rule_of(study: Study) -> MaskingRule:
    """Return the rule by which numbers of a study may leave."""
    release = study.release
    return MaskingRule(release.k, release.base, ReleaseRule(release.rule))


def computed(data: StudyData, on_topic: Callable[[str], None]) -> tuple[list[Aggregate], dict[str, Masked]]:
    """Return the exact aggregates of a study, and the masked ones by key; `on_topic` as above."""
    exact: list[Aggregate] = []
    for topic in topics_of(data):
        on_topic(topic.name)
        exact += topic.aggregates(data)
    on_topic("masking")
    masked = mask_all(exact, rule_of(data.study), _longest_years(data))
    if len(masked) != len(exact):
        raise AssertionError("two aggregates have one key")
    return exact, masked


def report_of(data: StudyData, masked: Mapping[str, Masked], sections: tuple[Section, ...]) -> Report:
    """Return the report of a study with these sections."""
    key = key_results(masked, data.about)
    texts = [*warnings(data), *(text for section in sections for text in section.warnings)]
    return Report(
        title=data.study.name,
        about=data.about,
        sections=sections,
        methods=methods(data, masked),
        warnings=tuple(dict.fromkeys(texts)),
        versions={k: v for k, v in data.provenance.items() if "sha256" not in k},
        checksums=public_checksums(data.provenance),
        banners=banners(data),
        key=key,
        manuscript=manuscript_of(masked, data.about, author_methods(data, masked), sections, key),
    )


def _longest_years(data: StudyData) -> dict[str, float]:
    """The longest follow-up of anybody, by outcome; the ticks below the curves show about it."""
    analysed = data.follow_up[data.follow_up["excluded"].isna()]
    longest = analysed.groupby("outcome")["time_days"].max().dropna() / DAYS_PER_YEAR
    return {str(name): float(years) for name, years in longest.items()}


def public_checksums(provenance: Mapping[str, str]) -> dict[str, str]:
    """Return the checksums that may leave: none of a list of people, all of which are restricted.

    Lists of one or two people can be tried out until the checksum fits.
    """
    secret = {f"sha256 {name}" for name in _LISTS_OF_PEOPLE.split()}
    return {k: v for k, v in provenance.items() if "sha256" in k and k not in secret}


def results_of(aggregates: Sequence[Aggregate]) -> pd.DataFrame:
    """Return the exact results of all topics as one table; restricted."""
    tables = [one.rows for one in aggregates if one.key.startswith("results_") and len(one.rows)]
    return pd.concat([table.astype(object) for table in tables], ignore_index=True)


def constants_of(data: StudyData) -> dict[str, str]:
    """Return what is the same for every row of the results."""
    versions = [f"{k} {v}" for k, v in data.provenance.items() if k in ("lvm-ai", "python")]
    return {
        "study": data.study.name,
        "cohort": data.study.cohort,
        "training_overlap": data.study.training.overlap,
        "model_id": data.about.model_id,
        "versions": ", ".join(versions),
        "data_hash": data.provenance["sha256 of ids and masses"],
    }


class Steps:
    """Progress on standard error: a bar on a terminal, else a line for each step."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._done = -1
        self._total: int | None = None
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        """Show the bar."""
        if self._terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bar."""
        if self._terminal:
            self._bar.stop()

    def expect(self, total: int) -> None:
        """Set how many steps there are in all."""
        self._total = total
        self._bar.update(self._task, total=total)

    def start(self, name: str) -> None:
        """Begin a step, and with it end the one before."""
        self._done += 1
        if self._terminal:
            self._bar.update(self._task, completed=self._done, description=name)
            return
        of = "" if self._total is None else f" of {self._total}"
        seconds = time.monotonic() - self._since
        sys.stderr.write(f"analyse: {name} ({self._done + 1}{of}, after {seconds:.0f} s)\n")
