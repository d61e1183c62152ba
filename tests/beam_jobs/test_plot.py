"""The command plot-ecg on files of every kind, and on run folders."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from lvm_core.signal.ecg import LEADS_12
from lvm_core.synthetic.ecgs import SyntheticEcgs
from tests.beam_jobs.helpers import ecg_counts
from tests.beam_jobs.job_helpers import (
    ECG_ONLY,
    exclusion_list,
    flat_in,
    lvm,
    people,
    people_table,
    rejects,
    score,
    write_parquet,
)
from tests.beam_jobs.pictures.reading_pages import page_sizes_mm, pdf_pages, svg_line_mm, svg_texts
from tests.browser import CHROMIUM, MISSING, Browser
from tests.dicom_builders import dicom_file
from tests.file_builders import MUSE_LEADS, cardiosoft_xml, edf_file, muse_xml, wfdb_record

NAME = "Quillfeather"
DOCS = Path(__file__).parents[2] / "docs"
SHARED = Path(__file__).parents[3] / "shared"


def counts_by_lead(k: int = 0) -> dict[str, Any]:
    return dict(zip(LEADS_12, ecg_counts(1, k)[0], strict=True))


def plot(inputs: object, output: Path, *more: object) -> int:
    return lvm("plot-ecg", "--input", inputs, "--output", output, *more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five files: two good, one of 1000 times the voltage, one too short, one that is no ECG."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    (inputs / "a.xml").write_bytes(cardiosoft_xml(counts_by_lead()))
    (inputs / "b.xml").write_bytes(muse_xml({lead: counts_by_lead(1)[lead] for lead in MUSE_LEADS}))
    short = {lead: values[:1500] for lead, values in counts_by_lead(2).items()}
    for record in (wfdb_record(counts_by_lead(), name="large", gain="0.2(0)/mV"), wfdb_record(short, name="short")):
        for name, data in record.items():
            (inputs / name).write_bytes(data)
    (inputs / "z.xml").write_bytes(b"%PDF-1.4 " + NAME.encode())
    return inputs


def titles(path: Path) -> list[str]:
    return [next(text for text in page if text.startswith("ECG ")) for page in pdf_pages(path)]


def test_plot__pdf_has_a_page_for_each_ecg_that_can_be_decoded(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "all.pdf"
    assert plot(folder, output) == 0
    assert sorted(titles(output)) == ["ECG a", "ECG b", "ECG large", "ECG short"]
    assert page_sizes_mm(output) == [pytest.approx((297.0, 210.0), abs=0.01)] * 4
    pages = dict(zip(titles(output), pdf_pages(output), strict=True))
    assert "rejected: amplitude_implausible" in pages["ECG large"]
    assert "rejected: too_short" in pages["ECG short"]
    # The header of a.xml states a QRS duration, and no amplitudes.
    assert {"amplitudes by software, QRS duration by the device", "QRS: 92 ms"} <= set(pages["ECG a"])
    shown = capsys.readouterr()
    assert shown.out == f"{output}\n"
    assert "not drawn: 1 not_an_ecg" in shown.err
    assert output.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in output.parent.iterdir()) == ["all.pdf"]


@pytest.mark.parametrize("kind", [".svg", ".png"])
def test_plot__one_ecg_is_a_picture(kind: str, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / f"x{kind}"
    assert plot(folder, output, "--ecg-id", "b", "--note", "synthetic") == 0
    if kind == ".svg":
        assert {"ECG b", "source: muse_xml, 500 Hz", "synthetic"} <= set(svg_texts(output))
    assert output.read_bytes()[:4] in (b"\x89PNG", b"<?xm")


def test_plot__chosen_ecgs_only(folder: Path, tmp_path: Path) -> None:
    assert plot(folder, tmp_path / "x.pdf", "--ecg-id", "short", "a") == 0
    assert sorted(titles(tmp_path / "x.pdf")) == ["ECG a", "ECG short"]


def test_plot__reads_archives_parquet_and_globs(tmp_path: Path, folder: Path) -> None:
    made = people(3)
    parquet = write_parquet(tmp_path / "p" / "a.parquet", people_table(made))
    assert plot(parquet, tmp_path / "p.pdf") == 0
    assert titles(tmp_path / "p.pdf") == [f"ECG {one}" for one in made.ecg_id]
    assert plot(f"{folder}/[ab].xml", tmp_path / "g.pdf") == 0
    assert titles(tmp_path / "g.pdf") == ["ECG a", "ECG b"]


def test_plot__same_command_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    for name in ("one.pdf", "other.pdf"):
        assert plot(folder, tmp_path / name) == 0
    assert (tmp_path / "one.pdf").read_bytes() == (tmp_path / "other.pdf").read_bytes()


def test_plot__wrong_usage_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "there.svg"
    there.write_text("mine")
    cases: list[tuple[list[object], int, str]] = [
        ([tmp_path / "x.jpg"], 2, "ends in .jpg, expected one of .svg, .png, .pdf"),
        ([there], 2, "is there already"),
        ([tmp_path / "x.svg"], 2, "holds one ECG, and there are several"),
        ([tmp_path / "x.pdf", "--ecg-id", "nobody"], 2, "--ecg-id nobody not found"),
        ([tmp_path / "x.pdf", "--ecg-id", "z"], 1, "z cannot be drawn: not_an_ecg: file is PDF"),
        ([tmp_path / "x.pdf", "--grid", 0], 2, "--grid is 0, expected 1 to 1000"),
    ]
    for (output, *more), code, named in cases:
        assert plot(folder, output, *more) == code  # type: ignore[arg-type]
        assert named in capsys.readouterr().err
    assert there.read_text() == "mine"
    assert not (tmp_path / "x.pdf").exists()
    assert plot(folder, there, "--ecg-id", "a", "--overwrite") == 0
    assert "ECG a" in svg_texts(there)


def test_plot__nothing_that_can_be_drawn_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "z.xml").write_bytes(b"%PDF-1.4")
    assert plot(tmp_path / "z.xml", tmp_path / "x.pdf") == 2
    assert "no ECG could be drawn: 1 not_an_ecg" in capsys.readouterr().err
    assert plot(write_parquet(tmp_path / "a.parquet", people_table(people(2))), tmp_path / "x.pdf", "--grid", 4) == 2
    assert "there is nothing to draw" in capsys.readouterr().err


def marked_files() -> Iterator[tuple[str, bytes]]:
    """Yield files in whose every text a name stands, and a birth date."""
    counts = counts_by_lead()
    yield "a.xml", cardiosoft_xml(counts, diagnosis=NAME, participant_id=f"{NAME}1")
    yield "b.xml", muse_xml({lead: counts[lead] for lead in MUSE_LEADS}, statement=NAME, participant_id=f"{NAME}2")
    yield "c.dcm", dicom_file(counts).replace(b"Somebody^Any", NAME.encode())
    yield "d.edf", edf_file(counts)
    yield from wfdb_record(counts, name="e", comments=f"# {NAME}\n# born 1950-01-02\n").items()
    yield from wfdb_record(counts, name="f", gain="0.2(0)/mV", comments=f"# {NAME}\n").items()
    yield "g.xml", b"<RestingECG><PatientDemographics>" + NAME.encode() + b"</PatientDemographics>"


def test_plot__names_and_birth_dates_of_files_reach_no_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = tmp_path / "in"
    inputs.mkdir()
    for name, data in marked_files():
        (inputs / name).write_bytes(data)
    assert sum(NAME.encode() in data for _, data in marked_files()) >= 5
    assert plot(inputs, tmp_path / "all.pdf") == 0
    assert plot(inputs, tmp_path / "grid.pdf", "--grid", 16) == 0
    assert len(pdf_pages(tmp_path / "all.pdf")) >= 5
    texts = [" ".join(page) for name in ("all.pdf", "grid.pdf") for page in pdf_pages(tmp_path / name)]
    for one in "abcdef":
        output = tmp_path / f"{one}.svg"
        assert plot(inputs, output, "--ecg-id", one) == 0
        texts.append(output.read_text(encoding="utf-8"))
    shown = capsys.readouterr()
    for text in (*texts, shown.out, shown.err):
        assert NAME not in text
        assert "19500102" not in text
        assert "1950-01-02" not in text


# Thumbnails


def test_plot_grid__of_files_shows_what_was_refused_and_why(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plot(folder, tmp_path / "x.svg", "--grid", 8) == 0
    texts = svg_texts(tmp_path / "x.svg")
    assert "3 of 3 ECGs that were rejected or flagged" in texts
    for reason in ("amplitude_implausible", "too_short", "not_an_ecg"):
        assert f"rejected: {reason}  (1 of 1 shown)" in texts
    assert texts.count("V6") == 2
    assert texts.count("not decoded") == 1
    assert any("3 s recorded" in text for text in texts)
    assert "rejected: too_short: 1 of 1 shown" in capsys.readouterr().err


def test_plot_grid__more_than_a_page_needs_a_pdf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(17):
        (tmp_path / f"{k:02d}.xml").write_bytes(b"%PDF-1.4")
    assert plot(f"{tmp_path}/*.xml", tmp_path / "x.png", "--grid", 17) == 2
    assert "--grid 17 takes 2 pages, and .png holds one" in capsys.readouterr().err
    assert plot(f"{tmp_path}/*.xml", tmp_path / "x.pdf", "--grid", 17) == 0
    assert [page.count("not decoded") for page in pdf_pages(tmp_path / "x.pdf")] == [16, 1]


def test_plot_grid__of_an_ingest_finds_the_files_again(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert lvm("ingest", "--input", folder, "--output", run, "--max-rejected-share", 1) == 0
    assert len(rejects(run)) == 3
    assert plot(run, tmp_path / "x.svg", "--grid", 8) == 0
    texts = svg_texts(tmp_path / "x.svg")
    assert texts.count("V6") == 2
    assert "rejected: amplitude_implausible  (1 of 1 shown)" in texts
    assert {"large", "short", "z"} <= set(texts)


def test_plot_grid__a_source_that_is_gone_is_a_box_with_words(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert lvm("ingest", "--input", folder, "--output", run, "--max-rejected-share", 1) == 0
    (folder / "large.dat").unlink()
    assert plot(run, tmp_path / "x.svg", "--grid", 8) == 0
    texts = " ".join(svg_texts(tmp_path / "x.svg"))
    assert "Its source cannot be read now" in texts.replace("\n", " ")
    moved = folder.rename(tmp_path / "moved")
    assert plot(run, tmp_path / "y.svg", "--grid", 8, "--source", moved) == 0
    assert svg_texts(tmp_path / "y.svg").count("V6") == 1


def doubtful(made: SyntheticEcgs) -> SyntheticEcgs:
    """Return ECGs of which the third has a V1 that is five times too large."""
    counts = made.counts.copy()
    counts[2, LEADS_12.index("V1")] *= 5
    return replace(made, counts=counts)


@pytest.fixture
def scored(tmp_path: Path, fake: object) -> tuple[Path, SyntheticEcgs]:
    """A scoring of 12 ECGs: one flat, one flagged, one whose person is excluded."""
    made = doubtful(flat_in(people(12), 5))
    ecgs = write_parquet(tmp_path / "in" / "a.parquet", people_table(made))
    gone = exclusion_list(tmp_path / "gone.txt", made.participant_id[7])
    more = ("--exclude-participants", gone, "--max-rejected-share", 1)
    assert score(ecgs, tmp_path / "run", *more, model=ECG_ONLY) == 0
    return tmp_path / "run", made


def test_plot_grid__of_a_scoring_shows_rejected_and_flagged_rows(
    scored: tuple[Path, SyntheticEcgs], tmp_path: Path
) -> None:
    run, made = scored
    assert plot(run, tmp_path / "x.svg", "--grid", 8) == 0
    texts = svg_texts(tmp_path / "x.svg")
    assert "rejected: lead_flat  (1 of 1 shown)" in texts
    assert made.ecg_id[5] in texts
    assert made.ecg_id[2] in texts
    assert any(text.startswith("flagged: ") for text in texts)
    # People who are excluded are never drawn, nor named.
    assert not any("excluded" in text for text in texts)
    assert made.ecg_id[7] not in texts


# The picture of the documents


def test_plot__picture_of_the_documents_is_what_its_commands_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the commands of docs/plotting.md; letters may differ by the version of matplotlib."""
    text = (DOCS / "plotting.md").read_text(encoding="utf-8").partition("picture above is made by")[2]
    commands = text.partition("```")[2].partition("```")[0].replace("\\\n", " ").strip().splitlines()
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert lvm(*shlex.split(command)[1:]) == 0
    made, stored = (imread(path)[:, :, :3] for path in (tmp_path / "plot_ecg.png", DOCS / "images" / "plot_ecg.png"))
    assert made.shape == stored.shape == (2100, 2970, 3)
    is_ink = [picture.max(axis=2) < 0.4 for picture in (made, stored)]
    assert np.mean(is_ink[0] != is_ink[1]) < 0.1 * np.mean(is_ink[1])
    # The grid is a tenth of the page in pink: it is there in both.
    is_pink = [(picture[:, :, 0] - picture[:, :, 1]) > 0.1 for picture in (made, stored)]
    assert np.mean(is_pink[0] != is_pink[1]) < 0.1 * np.mean(is_pink[1])


# Real files


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the sample files are not beside the project")
def test_plot__real_files_of_every_format_are_drawn(tmp_path: Path) -> None:
    assert plot(SHARED / "ecg", tmp_path / "x.pdf") == 0
    pages = pdf_pages(tmp_path / "x.pdf")
    assert len(pages) == 31
    formats = {"cardiosoft_xml", "dicom", "hl7_aecg", "muse_xml", "philips_xml", "scp_ecg", "wfdb"}
    assert {one for one in formats if any(f"source: {one}, " in text for page in pages for text in page)} == formats


@pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
def test_plot__svg_opens_in_a_browser_at_its_true_size(folder: Path, tmp_path: Path) -> None:
    assert plot(folder, tmp_path / "x.svg", "--ecg-id", "a") == 0
    with Browser() as browser:
        page = browser.open(tmp_path / "x.svg", width=1200)
        box = page.evaluate("(b => [b.width, b.height])(document.documentElement.getBoundingClientRect())")
        length = page.evaluate("document.getElementById('pulse-1').getBoundingClientRect().height")
        assert page.console == []
    # CSS has 96 pixels an inch.
    np.testing.assert_allclose(np.array(box) / 96 * 25.4, [297, 210], atol=0.2)
    assert length / 96 * 25.4 == pytest.approx(10.0, abs=0.3)
    assert len(svg_line_mm(tmp_path / "x.svg", "lead-I")) == 1251
