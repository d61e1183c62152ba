"""The page: everything inside it, nothing injected, nothing shared between figures."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.report.document import ReadFigure, ReadTable, Section
from analysis.report.page import NOT_CLINICAL, Report, checklists, inline_svg, render, render_table
from tests.analysis.report.sample_report import ABOUT, sample_report

VOID = {"meta", "br", "img", "link", "input", "hr"}
EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>"


class Elements(HTMLParser):
    """Every element of a page, its open tags closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        raise AssertionError(f"<{tag}/> is not HTML")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]

    def ids(self) -> list[str]:
        return [str(values["id"]) for _, values in self.found if "id" in values]


@pytest.fixture(scope="module")
def page() -> str:
    return render(sample_report())


@pytest.fixture(scope="module")
def elements(page: str) -> Elements:
    return Elements(page)


def _figure(key: str, words: str = "a") -> ReadFigure:
    canvas = Figure(figsize=(2, 2))
    axes = canvas.add_subplot()
    axes.plot([0, 1], [0, 1])
    axes.set_title(words)
    return ReadFigure(key, words, words, canvas)


def _report(*items: ReadTable | ReadFigure) -> Report:
    return Report("Title", ABOUT, (Section("one", "One", items=items),), ("How.",))


def test_render__every_id_is_there_once(elements: Elements) -> None:
    assert [one for one, n in Counter(elements.ids()).items() if n > 1] == []


def test_render__every_link_leads_to_something(elements: Elements) -> None:
    links = [str(one["href"]) for tag in ("a", "use") for one in elements.of(tag)]
    assert len(links) > 100
    assert {link[1:] for link in links} <= set(elements.ids())
    assert all(link.startswith("#") for link in links)


def test_render__every_clip_path_is_of_its_own_figure(page: str, elements: Elements) -> None:
    used = set(re.findall(r"url\(#([^)]+)\)", page))
    assert used
    assert used <= set(elements.ids())


def test_render__contents_list_sections_tables_and_figures(elements: Elements) -> None:
    report = sample_report()
    links = {str(one["href"]) for one in elements.of("a")}
    assert {f"#section-{one.key.replace('_', '-')}" for one in report.sections} <= links
    assert {f"#table-{one.key.replace('_', '-')}" for one in report.tables()} <= links
    assert {f"#figure-{one.key.replace('_', '-')}" for one in report.figures()} <= links
    assert {"#section-methods", "#section-checklists", "#section-versions"} <= links


def test_render__has_no_script_and_forbids_the_network(page: str, elements: Elements) -> None:
    names = {tag for tag, _ in elements.found}
    assert not names & {"script", "link", "iframe", "object", "embed", "form", "base"}
    policy = next(one for one in elements.of("meta") if "http-equiv" in one)["content"]
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert not [name for _, values in elements.found for name in values if name.startswith("on")]


def test_render__says_top_and_bottom_that_it_is_not_for_care(page: str) -> None:
    assert page.count(NOT_CLINICAL) == 2
    assert page.index(NOT_CLINICAL) < page.index("<nav") < page.rindex(NOT_CLINICAL)


def test_render__hidden_cells_are_explained_once(page: str) -> None:
    assert page.count("is a hidden number: one of 1 to 9") == 1


def test_render__masking_off_is_said() -> None:
    page = render(replace(sample_report(), about=replace(ABOUT, k=0, base=1)))
    assert "Nothing is hidden or rounded." in page
    assert "is a hidden number" not in page


def _listed(page: str) -> str:
    return page[page.index('<section id="section-warnings"') : page.index('<section id="section-methods"')]


def test_render__warnings_of_sections_are_listed_once_with_a_link(page: str) -> None:
    text = "45 events for 6 parameters"
    assert text in sample_report().sections[4].warnings[0]
    assert _listed(page).count(text) == 1
    assert '<a href="#section-hazard-ratios">' in _listed(page)


def test_render__a_warning_given_twice_is_listed_once() -> None:
    section = Section("one", "One", warnings=("Few events.",))
    report = Report("Title", ABOUT, (section,), (), warnings=("Few events.",))
    page = render(report)
    assert _listed(page).count("Few events.") == 1


def test_render__figures_have_a_name_and_a_caption(elements: Elements) -> None:
    figures = sample_report().figures()
    drawn = elements.of("svg")
    assert [one["aria-label"] for one in drawn] == [one.alt for one in figures]
    assert {one["role"] for one in drawn} == {"img"}
    assert len(elements.of("figcaption")) == len(figures)


def test_render__tables_have_captions_and_heads(elements: Elements) -> None:
    assert len(elements.of("caption")) == len(elements.of("table"))
    assert {one.get("scope") for one in elements.of("th")} == {"col", "row"}


def test_render__user_text_is_shown_and_never_run() -> None:
    cells = pd.DataFrame([[EVIL, EVIL]], columns=[EVIL, "b"])
    table = ReadTable("t", EVIL, cells, 1, (EVIL,))
    section = Section("s", EVIL, (EVIL,), (table, _figure("f", EVIL)), (EVIL,))
    about = replace(ABOUT, name=EVIL)
    report = Report(EVIL, about, (section,), (EVIL,), (EVIL + " ",), {EVIL: EVIL}, {EVIL: EVIL}, (EVIL,))
    for page in (render(report), render_table(table, about)):
        elements = Elements(page)
        assert "script" not in {tag for tag, _ in elements.found}
        assert elements.of("img") == []
        assert not [name for _, own in elements.found for name in own if name.startswith("on")]
        assert EVIL in "".join(elements.text)


def test_render__is_the_same_twice() -> None:
    assert render(sample_report()) == render(sample_report())


@pytest.mark.parametrize("key", ["a b", "A-B", "a_b"])
def test_report__keys_that_make_one_id_are_refused(key: str) -> None:
    cells = pd.DataFrame({"a": ["1"]})
    with pytest.raises(ValueError, match=r"table keys .* are not unique"):
        _report(ReadTable("a-b", "x", cells), ReadTable(key, "y", cells))


def test_report__a_table_and_a_figure_may_share_a_key() -> None:
    elements = Elements(render(_report(ReadTable("a", "x", pd.DataFrame({"a": ["1"]})), _figure("a"))))
    assert {"table-a", "figure-a"} <= set(elements.ids())


def test_inline_svg__texts_stay_out_of_comments_and_style_out_of_the_page() -> None:
    made = inline_svg(_figure("f", "Some words").canvas, "figure-f", "seen")
    assert "<!--" not in made
    assert re.findall(r">([^<]*words)<", made) == ["Some words"]
    assert "<style" not in made
    assert "<metadata" not in made


def test_table_page__explains_hidden_cells_only_where_there_are_some() -> None:
    shown = ReadTable("t", "T", pd.DataFrame({"a": ["x"], "b": ["1"]}))
    hidden = ReadTable("t", "T", pd.DataFrame({"a": ["x"], "b": ["*"]}))
    assert "is a hidden number" in render_table(hidden, ABOUT)
    assert "is a hidden number" not in render_table(shown, ABOUT)


def test_table__numbers_go_right_and_words_left() -> None:
    cells = pd.DataFrame({"name": ["1", "2"], "n": ["1,235", "*"], "hr": ["< 0.001", "–"], "words": ["Efron", "1"]})
    page = render_table(ReadTable("t", "T", cells), ABOUT)
    heads = {values["class"] for values in Elements(page).of("th") if values["scope"] == "col"}
    assert heads == {"label", "number", "text"}
    assert '<td class="number">*</td><td class="number">–</td><td class="text">1</td>' in page


def test_table__an_interval_may_go_to_a_second_line_as_a_whole() -> None:
    cells = pd.DataFrame({"name": ["1.2 (3)"], "hr": ["1.53 (1.27 to 1.84)"], "p": ["< 0.001"]})
    page = render_table(ReadTable("t", "T", cells), ABOUT)
    whole = '1.53 <span class="interval">(1.27 to 1.84)</span>'
    assert f'<td class="number split">{whole}</td><td class="number">&lt; 0.001</td>' in page
    assert page.count('class="interval"') == 1  # labels stay as they are


@pytest.mark.parametrize(
    ("n_columns", "text", "classes"),
    [
        (5, "1.53 (1.27 to 1.84)", "table"),
        (9, "1.53 (1 to 2)", "table wide"),
        (9, "1.53 (1.27 to 1.84)", "table wide tight"),
    ],
)
def test_table__of_many_columns_is_set_smaller(n_columns: int, text: str, classes: str) -> None:
    cells = pd.DataFrame({f"c{i}": [text] for i in range(n_columns)})
    page = render_table(ReadTable("t", "T", cells), ABOUT)
    assert f'<div class="{classes}" id="table-t">' in page


def test_checklists__have_all_items_of_the_published_lists() -> None:
    n_items = {one.key: len(one.items) for one in checklists()}
    # 22 items of STROBE with their letters; 13 of RECORD; STARD 30, four of them in two parts;
    # TRIPOD+AI 27 with 52 parts.
    assert n_items == {"strobe": 34, "record": 13, "stard": 34, "tripod_ai": 52}
    for one in checklists():
        numbers = [item.number for item in one.items]
        assert len(set(numbers)) == len(numbers)
        assert all(item.text and item.topic for item in one.items)


def test_checklists__an_item_whose_section_is_absent_says_so(page: str) -> None:
    item = next(one for one in checklists()[0].items if one.number == "16c")
    assert item.where({"absolute_risk"}) == ""
    assert item.where({"flow"}) == "not in this report (absolute risk, standardised)"
    assert "not in this report (absolute risk, standardised)" in page


def test_checklists__what_software_cannot_know_is_left_to_authors() -> None:
    item = next(one for one in checklists()[0].items if one.number == "22")
    assert item.where({"flow"}) == "for the authors"
