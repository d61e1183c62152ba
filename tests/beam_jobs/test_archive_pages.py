"""The commands of docs/archives/ and docs/pseudonyms.md as written, on small made archives."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from beam_jobs.run.settings import ID_PRESETS, IngestSettings, ScoreSettings
from lvm_core.formats.registry import FORMATS
from lvm_core.tables import INDEX_PRESETS
from tests.beam_jobs import archive_builders
from tests.beam_jobs.archive_builders import counts_of
from tests.beam_jobs.job_helpers import ECG_ONLY, REPOSITORY, assert_reconciles, lvm, rows_of
from tests.dicom_builders import dicom_file
from tests.file_builders import aecg_xml, cardiosoft_xml, muse_xml, philips_xml

pytestmark = pytest.mark.timeout(120)

DOCS = REPOSITORY / "docs"
MUSE_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")


def _write(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def _ukb(folder: Path) -> None:
    for i in range(2):
        _write(folder / "ecg", f"100000{i}_20205_2_0.xml", cardiosoft_xml(counts_of(i), participant_id="another"))


def _finngen(folder: Path) -> None:
    archive_builders.finngen(folder / "ecg")
    (folder / "ecg" / "index.tsv").rename(folder / "ecg_index.tsv")


def _muse(folder: Path) -> None:
    _write(folder / "export", "a.xml", muse_xml({lead: counts_of(0)[lead] for lead in MUSE_LEADS}))


MAKE: dict[str, Callable[[Path], object]] = {
    "ukb-20205": _ukb,
    "mimic-iv-ecg": lambda folder: archive_builders.mimic_iv_ecg(folder / "mimic-iv-ecg"),
    "ptb-xl": lambda folder: archive_builders.ptb_xl(folder / "ptb-xl"),
    "code-15": lambda folder: archive_builders.code_15(folder / "code-15"),
    "echonext": lambda folder: archive_builders.echonext(folder / "echonext", key="ecg_key"),
    "finngen": _finngen,
    "muse": _muse,
    "philips": lambda folder: _write(folder / "export", "a.xml", philips_xml(counts_of(0))),
    "dicom": lambda folder: _write(
        folder / "export", "1.2.840.1", dicom_file(counts_of(0), sensitivity="0.005", unit="mV")
    ),
    "aecg": lambda folder: _write(folder / "export", "a.xml", aecg_xml(counts_of(0), scale="5")),
}
PERSON = {"ukb-20205": "1000000", "mimic-iv-ecg": "10000032", "ptb-xl": "15709", "code-15": "501000", "echonext": "p0"}
PERSON |= {"finngen": "FG00000000"} | dict.fromkeys(("muse", "philips", "dicom", "aecg"), "1000001")


def commands_of(page: Path) -> list[list[str]]:
    """Return the arguments of the commands of a page, without the name of the program."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("lvm-ai ")]


def _write_yaml_of(page: Path, folder: Path) -> None:
    """Write the YAML files that a page shows, by the name that comes before each."""
    text = page.read_text(encoding="utf-8")
    for name, content in re.findall(r"`(\S+\.yaml)`[^`]*:\n\n```yaml\n(.*?)```", text, re.DOTALL):
        (folder / name).write_text(content)


def test_pages__are_those_of_the_presets() -> None:
    pages = {path.stem for path in (DOCS / "archives").glob("*.md")}
    assert pages == set(MAKE)
    assert set(INDEX_PRESETS) <= pages
    assert set(ID_PRESETS) <= pages
    assert pages - set(INDEX_PRESETS) - set(ID_PRESETS) <= {one.option for one in FORMATS}
    linked = set(re.findall(r"\(archives/(\S+)\.md\)", (DOCS / "archives.md").read_text(encoding="utf-8")))
    assert linked == pages


@pytest.mark.parametrize("name", MAKE)
def test_commands_of_a_page__work_on_an_archive_of_its_kind(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    MAKE[name](tmp_path)
    page = DOCS / "archives" / f"{name}.md"
    _write_yaml_of(page, tmp_path)
    commands = commands_of(page)
    assert commands
    for command, *argv in commands:
        if command == "ingest":
            assert lvm(command, *argv) == 0
            people = {row["participant_id"] for row in rows_of(tmp_path / "ingested" / "ecg")}
            assert PERSON[name] in people
        else:
            settings = ScoreSettings.parse([ECG_ONLY if one == "MODEL" else one for one in argv])
            assert settings.inputs[0] in ("ingested", "ecg", name)
    assert sum(command == "ingest" for command, *_ in commands) == 1


def test_commands_of_the_page_on_pseudonyms__work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _ukb(tmp_path)
    key = tmp_path / "study.key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    ingest, score = commands_of(DOCS / "pseudonyms.md")
    assert lvm(*ingest) == 0
    assert_reconciles(tmp_path / "ingested", 2)
    assert ScoreSettings.parse([ECG_ONLY if one == "MODEL" else one for one in score[1:]]).pseudonym_key == "study.key"
    assert IngestSettings.parse(ingest[1:]).pseudonym_key == "study.key"


def test_layout_of_the_page__is_read(tmp_path: Path) -> None:
    from lvm_core.tables import index_layout_of_file

    (text,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "archives.md").read_text(encoding="utf-8"), re.DOTALL)
    layout = index_layout_of_file(text.encode(), "archives.md")
    assert (layout.qrs_duration_ms, layout.any_case) == (("onset", "end"), True)
    assert layout.people.sex == {"0": "male", "1": "female"}
