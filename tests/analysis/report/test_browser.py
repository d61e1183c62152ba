"""The report in a real browser, as wide as a phone and as a laptop."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from analysis.report.build import analyse
from analysis.report.document import Section
from analysis.report.page import Report, render, render_table
from tests.analysis.report.builders import study_data
from tests.analysis.report.outcome_rows import section_of, table_of
from tests.analysis.report.sample_report import ABOUT, sample_report
from tests.analysis.report.variations import repeated_ecgs, two_models
from tests.browser import CHROMIUM, MISSING, Browser, Page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
WIDTHS = (390, 1280)

# A wide figure may be moved inside its frame on a phone; the frame is inside the page.
_FIGURES = """[...document.querySelectorAll('figure .scroll')].map(one => {
  const box = one.getBoundingClientRect();
  return [box.left, box.top + scrollY, box.width, box.height];
})"""
_DEAD_LINKS = """(() => {
  document.querySelectorAll('details').forEach(one => { one.open = true; });
  // Each target once: Chromium follows 200 links in a few seconds, and no more.
  const links = [...document.querySelectorAll('nav a, .skip, .first a, table a')].filter(link => link.offsetParent);
  return [...new Map(links.map(link => [link.getAttribute('href'), link])).values()];
})().filter(link => {
  const target = document.querySelector(link.getAttribute('href'));
  if (target === null || !link.innerText.trim()) return true;
  scrollTo(0, 0);
  link.click();
  const top = target.getBoundingClientRect().top, end = document.documentElement.scrollHeight;
  const isAtEnd = scrollY + innerHeight >= end - 2;
  return !(Math.abs(top) < 2 || (isAtEnd && top > 0 && top < innerHeight));
}).map(link => link.getAttribute('href'))"""
_HEADINGS = """[...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(
  one => Number(one.tagName[1]))"""
_TOO_PALE = """(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(value => value / 255).map(
    v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
  ).reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = one => {
    for (let node = one; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = new Set();
  while (texts.nextNode()) {
    const one = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || one.closest('svg')) continue;
    const pair = [parse(getComputedStyle(one).color), behind(one)].map(light);
    pair.sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) found.add(`${one.tagName}.${one.className}: ${ratio.toFixed(2)}`);
  }
  return [...found];
})()"""
# Tables that must be scrolled, or that are wider than the paper.
_SCROLLED = """[...document.querySelectorAll('.scroll')].filter(
  one => one.scrollWidth > one.clientWidth).map(one => one.parentElement.id)"""
_OFF_PAPER = """[...document.querySelectorAll('%s')].filter(one =>
  one.querySelector('table').getBoundingClientRect().width > one.clientWidth + 1).map(
  one => one.id)"""
# A4 within the margins of the style sheet, in CSS pixels: lying, for wide tables, and standing.
_PAPER = {".table.wide": 1017, ".table:not(.wide)": 688}
_CUT_OFF = """[...document.querySelectorAll('body *')].filter(one => {
  const box = one.getBoundingClientRect();
  return box.right > innerWidth + 1 && !one.closest('.scroll') && !one.closest('svg *');
}).map(one => `${one.tagName}.${one.className}`)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as made:
        yield made


@pytest.fixture(scope="module", params=["sample", "study"])
def made(request: pytest.FixtureRequest) -> Report:
    """A report that is difficult to show, and that of a drawn study with every topic."""
    if request.param == "sample":
        return sample_report()
    return analyse(study_data(n=4000, seed=3), lambda _: None).export.report


@pytest.fixture(scope="module")
def report(made: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(made), encoding="utf-8")
    return path


@pytest.fixture(scope="module", params=WIDTHS, ids=lambda width: f"{width}px")
def page(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Page:
    return browser.open(report, request.param)


def _pixels(page: Page, path: Path, top: float, height: float) -> np.ndarray:
    page.screenshot(path, top=top, height=height)
    return np.asarray(matplotlib.image.imread(io.BytesIO(path.read_bytes())))


def test_report__console_is_silent(page: Page) -> None:
    assert page.console == []


def test_report__asks_for_nothing_but_itself(page: Page, report: Path) -> None:
    # What an SVG holds as data: is inside the file already.
    assert [one for one in page.requests if not one.startswith("data:")] == [report.as_uri()]


def test_report__does_not_scroll_sideways(page: Page) -> None:
    wide, seen = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= seen
    assert page.evaluate(_CUT_OFF) == []


def test_report__every_figure_is_drawn_inside_the_page(page: Page, made: Report, tmp_path: Path) -> None:
    boxes = page.evaluate(_FIGURES)
    assert len(boxes) == len(made.figures()) > 5
    for place, (left, top, width, height) in enumerate(boxes):
        assert left >= 0
        assert left + width <= page.width
        assert width >= 200
        assert height >= 80
        pixels = _pixels(page, tmp_path / f"figure_{place}.png", top, height)
        assert (pixels[..., :3].min(axis=2) < 0.5).mean() > 0.001, "nothing dark is drawn"


def test_report__every_link_leads_to_its_target(page: Page) -> None:
    assert page.evaluate("document.querySelectorAll('nav a').length") >= 20
    assert page.evaluate(_DEAD_LINKS) == []


def test_report__a_link_into_a_folded_section_unfolds_it(browser: Browser, report: Path) -> None:
    page = browser.open(report, 1280)
    folded = "document.querySelector('#section-code-lists details')"
    assert page.evaluate(f"{folded}.open") is False
    page.evaluate(
        'document.querySelector(\'nav.side a[href="#table-code-hits"], nav.side a[href="#table-codes"]\').click()'
    )
    assert page.evaluate(f"{folded}.open") is True


def test_report__folded_sections_are_printed(browser: Browser, report: Path) -> None:
    page = browser.open(report, 1280)
    height = "document.querySelector('#section-code-lists table').getBoundingClientRect().height"
    page.command("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate(height) > 30


def test_page_one__fits_a_screen_and_a_printed_page(browser: Browser, report: Path, made: Report) -> None:
    if made.key is None:
        pytest.skip("this report has no page one")
    page = browser.open(report, 1280)
    end = "document.querySelector('#key-results').getBoundingClientRect().bottom + scrollY"
    assert page.evaluate(end) <= 900
    # A4 within the margins of the style sheet, in CSS pixels.
    page = browser.open(report, 688)
    page.command("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate(end) <= (297 - 2 * 16) / 25.4 * 96


def test_report__headings_are_in_order(page: Page) -> None:
    levels = page.evaluate(_HEADINGS)
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_report__everything_that_is_seen_has_a_name(page: Page, made: Report) -> None:
    nodes = page.command("Accessibility.getFullAXTree")["nodes"]
    named = {"image", "img", "link", "heading", "region", "navigation", "table"}
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"] and node.get("role", {}).get("value") in named
    ]
    roles = [role for role, _ in found]
    assert roles.count("image") + roles.count("img") == len(made.figures())
    assert [role for role, name in found if not name.strip()] == []


def test_report__text_stands_out_from_what_is_behind(page: Page) -> None:
    assert page.evaluate(_TOO_PALE) == []


def test_report__screenshots_are_made(page: Page, tmp_path: Path) -> None:
    pixels = _pixels(page, tmp_path / f"report_{page.width}.png", 0, 1200)
    assert pixels.shape[:2] == (1200, page.width)


def test_report__prints_without_contents_and_with_repeated_heads(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    page = browser.open(report, 1280)
    page.command("Emulation.setEmulatedMedia", media="print")
    style = "getComputedStyle(document.querySelector('{}')).{}"
    assert page.evaluate(style.format("nav", "display")) == "none"
    assert page.evaluate(style.format("thead", "display")) == "table-header-group"
    assert page.evaluate(style.format(".scroll", "overflowX")) == "visible"
    page.pdf(tmp_path / "report.pdf")
    made = (tmp_path / "report.pdf").read_bytes()
    sizes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", made)
    # Wide tables lie on their side, everything else stands.
    assert {float(width) > float(height) for width, height in sizes} == {True, False}


def _hard_to_fit() -> Report:
    """The widest tables of outcomes with their most columns: ECGs beside people, two models."""
    sections: list[Section] = []
    for data in (repeated_ecgs(n=700), two_models(n=1000)):
        for key in ("hazard_ratios", "added_value", "competing", "absolute_risk"):
            name = f"{key}_{len(sections)}"
            table = replace(table_of(section_of(data, key), key), key=name)
            sections.append(Section(name, key, items=(table,)))
    return Report("Hard", ABOUT, tuple(sections), ())


def test_report__no_table_is_scrolled_on_a_laptop_or_cut_on_paper(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "hard.html"
    path.write_text(render(_hard_to_fit()), encoding="utf-8")
    page = browser.open(path, 1280)
    assert page.evaluate("document.querySelectorAll('.table.tight').length") > 0
    assert page.evaluate(_SCROLLED) == []
    for tables, width in _PAPER.items():
        page = browser.open(path, width)
        page.command("Emulation.setEmulatedMedia", media="print")
        assert page.evaluate(_OFF_PAPER % tables) == []


def test_report__may_not_reach_the_network(browser: Browser, report: Path) -> None:
    page = browser.open(report, 1280)
    asked = "fetch('https://example.org/').then(() => 'reached', () => 'refused')"
    assert page.evaluate(asked) == "refused"
    assert any("Content Security Policy" in text for text in page.console)


def test_table_page__is_silent_and_fits(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "table.html"
    path.write_text(render_table(sample_report().tables()[2], ABOUT), encoding="utf-8")
    page = browser.open(path, 390)
    assert page.console == []
    assert page.requests == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(_TOO_PALE) == []


def test_browser__sees_what_is_wrong_with_a_page(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text(
        "<!DOCTYPE html><title>bad</title><h1 style='color:#bbb;width:900px'>pale</h1>"
        "<nav><a href='#none'>lost</a></nav><img src='missing.png'>"
        "<script>console.warn('seen'); undefined_function()</script>",
        encoding="utf-8",
    )
    page = browser.open(path, 390)
    text = "\n".join(page.console)
    assert "warning: seen" in text
    assert "undefined_function" in text
    assert (tmp_path / "missing.png").as_uri() in page.requests
    assert page.evaluate(_DEAD_LINKS) == ["#none"]
    assert page.evaluate(_TOO_PALE) == ["H1.: 1.92"]
    assert page.evaluate("document.documentElement.scrollWidth") > 390
