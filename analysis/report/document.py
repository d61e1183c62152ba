"""What a report is made of: sections of paragraphs, tables as they are read, and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import pandas as pd
from matplotlib.figure import Figure as Canvas

from analysis.report.aggregates import Aggregate
from analysis.report.masking import Masked

if TYPE_CHECKING:
    from analysis.report.study_data import StudyData


@dataclass(frozen=True, slots=True)
class ReadTable:
    """A table as people read it, for HTML, CSV and Word.

    Attributes:
        key: name of its files, unique in a report, as `hazard_ratios`.
        title: caption, in words.
        cells: all text; the column names are the head of the table.
        n_label_columns: how many columns at the left name the rows.
        notes: below the table.
    """

    key: str
    title: str
    cells: pd.DataFrame
    n_label_columns: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadFigure:
    """A figure.

    Attributes:
        key: name of its files, unique in a report.
        title: caption, in words.
        alt: what there is to see, with its main numbers, for who cannot see it.
        canvas: drawn from masked tables alone.
        notes: below the figure.
    """

    key: str
    title: str
    alt: str
    canvas: Canvas
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the report.

    Attributes:
        key: of its link, unique in a report.
        title: heading.
        paragraphs: text above its items, plain.
        items: tables and figures in order.
        warnings: also listed at the top of the report.
    """

    key: str
    title: str
    paragraphs: tuple[str, ...] = ()
    items: tuple[ReadTable | ReadFigure, ...] = ()
    warnings: tuple[str, ...] = ()


class Topic(Protocol):
    """A module of the report; `aggregates` sees people, `present` sees masked tables alone."""

    def aggregates(self, data: StudyData) -> list[Aggregate]:
        """Return everything that the topic publishes, before masking; [] if it does not apply."""

    def present(self, masked: Mapping[str, Masked], about: About) -> Section | None:
        """Return the section, or None if its aggregates are not there.

        `masked` holds the tables of all topics by key, so a topic takes its own with `get`.
        """


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a study beside its tables; nothing of it is of a person.

    Attributes:
        name: of the study.
        exposure: column of the predictions.
        exposure_name: in words, as "predicted LV mass index".
        exposure_unit: as g/m2.
        outcomes: names in words, by name in the study file; in its order, primary first.
        horizon_years: of absolute risks.
        model_id: that made the predictions.
        lvh_preset: limits of LVH.
        k: fewest people or events that are shown; 0 when masking is off.
        base: counts are rounded to it; 1 when masking is off.
        is_demo: predictions are of a demonstration model or drawn.
        choices: every setting of the study, in words, for the Methods paragraph.
        several_ecgs: people may have several index ECGs.
        several_models: predictions are of several models, kept apart.
        time_scale: of the Cox models, "follow_up" or "attained_age".
    """

    name: str
    exposure: str
    exposure_name: str
    exposure_unit: str
    outcomes: Mapping[str, str]
    horizon_years: float
    model_id: str
    lvh_preset: str
    k: int
    base: int
    is_demo: bool
    choices: Mapping[str, str] = field(default_factory=dict)
    several_ecgs: bool = False
    several_models: bool = False
    time_scale: str = "follow_up"
