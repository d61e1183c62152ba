"""What a report is made of: topics, and sections of paragraphs, tables of text and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.figure import Figure as Canvas

from analysis.disclosure.aggregates import Aggregate
from analysis.disclosure.masking import Masked
from analysis.study.data import About, StudyData


@dataclass(frozen=True, slots=True)
class ReadTable:
    """A table of text, long: CSV has it so, and `layout` says how HTML, Word and LaTeX print it."""

    key: str  # name of its files, unique in a report, as `hazard_ratios`
    title: str  # caption, in words
    cells: pd.DataFrame  # all text; the column names are the head of the table
    n_label_columns: int = 1  # how many columns at the left name the rows
    # Below the table. A note that begins with the name of a column and a colon has a sign there.
    notes: tuple[str, ...] = ()
    # Headings above columns, by their names; columns named "A: b" and "A: c" have one anyway.
    above: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReadFigure:
    """A figure."""

    key: str  # name of its files, unique in a report
    title: str  # caption, in words
    alt: str  # what there is to see, with its main numbers, for screen readers
    canvas: Canvas  # drawn from masked tables alone
    notes: tuple[str, ...] = ()  # below the figure


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the report."""

    key: str  # of its link, unique in a report
    title: str  # heading
    paragraphs: tuple[str, ...] = ()  # text above its items, plain
    items: tuple[ReadTable | ReadFigure, ...] = ()  # tables and figures in order
    warnings: tuple[str, ...] = ()  # also listed at the top of the report


@dataclass(frozen=True, slots=True)
class Topic:
    """One subject of the report."""

    name: str  # in words, as progress shows it
    # Returns every table that the topic publishes, exact, from the rows of people; an empty list
    # where the topic does not apply.
    aggregates: Callable[[StudyData], list[Aggregate]]
    # Returns the section, from the masked tables of all topics by key and from what is known of
    # the study; None where the topic's tables are not there.
    present: Callable[[Mapping[str, Masked], About], Section | None]
