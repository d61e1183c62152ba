"""What a report is made of: topics, and sections of paragraphs, tables of text and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure as Canvas

from analysis.disclosure.aggregates import Aggregate
from analysis.disclosure.masking import Masked
from analysis.study.data import About, StudyData


@dataclass(frozen=True, slots=True)
class ReadTable:
    """A table of text, for HTML, CSV and Word.

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
        alt: what there is to see, with its main numbers, for screen readers.
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


@dataclass(frozen=True, slots=True)
class Topic:
    """One subject of the report.

    Attributes:
        name: in words, as progress shows it.
        aggregates: returns every table that the topic publishes, exact, from the rows of people;
            an empty list where the topic does not apply.
        present: returns the section, from the masked tables of all topics by key and from what is
            known of the study; None where the topic's tables are not there.
    """

    name: str
    aggregates: Callable[[StudyData], list[Aggregate]]
    present: Callable[[Mapping[str, Masked], About], Section | None]
