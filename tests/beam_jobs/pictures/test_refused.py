"""The sample of rejected and flagged ECGs, and their thumbnails."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from beam_jobs.pictures.paper import writing
from beam_jobs.pictures.print12 import Drawable
from beam_jobs.pictures.refused import NOT_SEEN, Sample, title_of
from beam_jobs.pictures.thumbnails import Group, draw_thumbnails
from lvm_core.signal.quality import QualityFlag
from tests.beam_jobs.pictures.reading_pages import svg_texts
from tests.builders import counts_block


def _filled(order: list[int], size: int) -> Sample[int]:
    sample: Sample[int] = Sample(size)
    for i in order:
        sample.add(f"rejected: {i % 3}", ("a.xml", i), i)
    return sample


def test_sample__is_the_same_in_any_order_of_reading() -> None:
    forwards = _filled(list(range(300)), 5).drawn(10)
    backwards = _filled(list(reversed(range(300))), 5).drawn(10)
    assert forwards == backwards
    assert {name: len(items) for name, items in forwards.items()} == {
        "rejected: 0": 4,
        "rejected: 1": 3,
        "rejected: 2": 3,
    }
    assert all(i % 3 == int(name[-1]) for name, items in forwards.items() for i in items)


def test_sample__is_drawn_from_all_places() -> None:
    (items,) = _filled(list(range(0, 3000, 3)), 50).drawn(50).values()
    assert 1000 < np.mean(items) < 2000


def test_sample__a_small_group_leaves_its_share_to_others() -> None:
    sample: Sample[int] = Sample(10)
    sample.add("flagged: a", ("x",), 1)
    for i in range(20):
        sample.add("rejected: b", (i,), i, n=2)
    drawn = sample.drawn(8)
    assert {name: len(items) for name, items in drawn.items()} == {"rejected: b": 7, "flagged: a": 1}
    assert list(drawn) == ["rejected: b", "flagged: a"]
    assert sample.n_all == {"rejected: b": 40, "flagged: a": 1}
    assert sum(map(len, sample.drawn(100).values())) == 11


def test_title_of__reason_first_then_a_flag_that_can_be_seen() -> None:
    assert title_of("lead_flat", ("saturated",)) == "rejected: lead_flat"
    assert title_of(None, ("resampled", "saturated")) == "flagged: saturated"
    assert title_of(None, ("resampled", "index_unknown")) is None
    assert title_of(None, ()) is None
    assert {QualityFlag.SATURATED, QualityFlag.AMPLITUDE_UNUSUAL}.isdisjoint(NOT_SEEN)


def _texts(groups: list[Group], folder: Path) -> list[list[str]]:
    found = []
    for k, sheet in enumerate(draw_thumbnails(groups, "synthetic")):
        path = folder / f"{k}.svg"
        with writing(path, ".svg") as write:
            write(sheet)
        found.append(svg_texts(path))
    return found


def test_draw_thumbnails__each_says_why_in_words(tmp_path: Path) -> None:
    leads_uv = counts_block(1)[0] * 5.0
    flat = Drawable("e1", leads_uv, reason="lead_flat", detail="lead V3 is constant at 0 uV over 5000 samples")
    odd = Drawable("e2", leads_uv[:, :1500], flags=("saturated", "resampled"))
    none = Drawable("e3", None, reason="not_an_ecg", detail="file is PDF; expected an ECG")
    groups = [Group("rejected: lead_flat", 7, (flat,)), Group("rejected: not_an_ecg", 2, (none,))]
    (texts,) = _texts([*groups, Group("flagged: saturated", 1, (odd,))], tmp_path)
    for text in (
        "3 of 10 ECGs that were rejected or flagged",
        "rejected: lead_flat  (1 of 7 shown)",
        "e1",
        "lead V3 is constant at 0 uV over 5000 samples",
        "not decoded",
        "file is PDF; expected an ECG",
        "quality flags: saturated, resampled (3 s recorded)",
        "6.25 mm/s   2.5 mm/mV",
        "research software, not for clinical use",
        "synthetic",
    ):
        assert text in texts, text
    assert texts.count("V6") == 2


@pytest.mark.parametrize(("n", "pages"), [(1, 1), (16, 1), (17, 2), (33, 3)])
def test_draw_thumbnails__sixteen_a_page(n: int, pages: int, tmp_path: Path) -> None:
    ecgs = tuple(Drawable(f"e{k}", None, reason="truncated", detail=None) for k in range(n))
    texts = _texts([Group("rejected: truncated", n, ecgs)], tmp_path)
    assert len(texts) == pages
    assert sum(page.count("no detail") for page in texts) == n
