"""The sample files of real devices, end to end: ingested, scored, or rejected with their reason."""

from pathlib import Path
from typing import Any

import pytest

from models.machine.runtime import Threads, configure_threads, import_tensorflow
from tests.beam_jobs.job_helpers import (
    ECG_ONLY,
    SHARED,
    assert_reconciles,
    lvm,
    masses,
    predictions,
    reject_counts,
    rejects,
    report,
    rows_of,
)

FOLDER = SHARED / "ecg"
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"{FOLDER} is not there: real sample files are not part of the code"
)

# From MANIFEST.tsv: 1 CardioSoft, 2 MUSE, 3 Philips, 21 WFDB records, 2 DICOM, 1 aECG and 1 SCP-ECG
# are ours; 1 aECG has three leads, and 2 files are of other formats.
FLAT = {f"wfdb/torch_ecg_chapman_ningbo/{name}" for name in ("JS20004", "JS20008")}
OTHER_FORMATS = {"mat/code_15_1238362.mat": "matlab", "mat/cpsc2018_A1980.mat": "matlab"}
THREE_LEADS = "hl7_aecg/cvrg_TemplateExample1.xml"
N_OURS = 31
N_ALL = N_OURS + 1 + len(OTHER_FORMATS)
# Two signal files, one named otherwise than its header, belong to the last record.
RESAMPLED = {"wfdb/wfdbpy_ptb/s0010_re": {"resampled", "cropped"}, "dicom/marcodebe_anonymous_ecg": {"resampled"}}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("real") / "ecg"
    argv = ["--input", FOLDER, "--output", output, "--unit-ecgs", 8, "--max-rejected-share", 0.3]
    assert lvm("ingest", *argv) == 0
    return output


def test_ingest__takes_every_record_of_the_formats_that_are_read(ingested: Path) -> None:
    formats: dict[str, int] = {}
    for row in rows_of(ingested / "ecg"):
        formats[row["source_format"]] = formats.get(row["source_format"], 0) + 1
    xml = {"cardiosoft_xml": 1, "muse_xml": 2, "philips_xml": 3, "hl7_aecg": 1}
    assert formats == {**xml, "wfdb": 21, "dicom": 2, "scp_ecg": 1}
    assert_reconciles(ingested, N_ALL)


def test_ingest__rejects_files_of_other_formats_and_names_them(ingested: Path) -> None:
    found = {row["source_uri"]: row for row in rejects(ingested)}
    assert set(found) == {*OTHER_FORMATS, THREE_LEADS}
    assert found[THREE_LEADS]["reason"] == "missing_lead"
    for path, name in OTHER_FORMATS.items():
        assert found[path]["reason"] == "not_an_ecg"
        assert name in found[path]["detail"].lower().replace(" ", "")


def test_ingest__ignores_the_manifest_by_its_name(ingested: Path) -> None:
    assert report(ingested)["ignored_files"] == 1
    assert reject_counts(ingested) == {"not_an_ecg": len(OTHER_FORMATS), "missing_lead": 1}


def test_ingest__keys_are_paths_without_extension_and_nobody_is_named(ingested: Path) -> None:
    rows = {row["ecg_id"]: row for row in rows_of(ingested / "ecg")}
    assert FLAT <= set(rows)
    assert "cardiosoft_xml/ecgprocess_example-XML1" in rows
    assert {row["participant_id"] for row in rows.values()} == {None}
    for ecg_id, row in rows.items():
        assert row["source_uri"].rpartition(".")[0] == ecg_id


# From the traces, which were looked at: docs/quality_flags.md.
CHAPMAN = "wfdb/torch_ecg_chapman_ningbo"
MAINS = {f"{CHAPMAN}/JS20006", f"{CHAPMAN}/JS20007"}
NOISE = MAINS | {f"{CHAPMAN}/JS20004", f"{CHAPMAN}/JS20005", f"{CHAPMAN}/JS20009"}


def test_ingest__flags_what_the_traces_show(ingested: Path) -> None:
    found: dict[str, set[str]] = {}
    for row in rows_of(ingested / "ecg"):
        for flag in row["quality_flags"]:
            found.setdefault(flag, set()).add(row["ecg_id"])
    assert found["mains_noise"] == MAINS
    assert found["high_frequency_noise"] == NOISE
    assert found["lead_near_flat"] == FLAT
    assert not {"saturated", "arm_leads_reversed", "pacing_spikes"} & set(found)


def test_ingest__resamples_and_crops_only_the_records_that_need_it(ingested: Path) -> None:
    rows = {row["ecg_id"]: row for row in rows_of(ingested / "ecg")}
    flags = {"resampled", "cropped"}
    found = {e: flags & set(row["quality_flags"]) for e, row in rows.items()}
    assert {e: changed for e, changed in found.items() if changed} == RESAMPLED
    assert {rows[e]["source_sampling_rate_hz"] for e in RESAMPLED} == {1000}
    assert {row["source_sampling_rate_hz"] for e, row in rows.items() if e not in RESAMPLED} == {500}
    assert all(len(row["V6"]) == 5000 for row in rows.values())


def test_ingest__derives_limb_leads_of_muse_in_half_counts(ingested: Path) -> None:
    muse = [row for row in rows_of(ingested / "ecg") if row["source_format"] == "muse_xml"]
    for row in muse:
        assert row["uv_per_count"] == pytest.approx(4.88 / 2, rel=1e-6)
        assert "leads_derived" in row["quality_flags"]
        i, ii, avl = (row[lead][1000] for lead in ("I", "II", "aVL"))
        assert avl == i - ii / 2


def test_ingest__run_is_verified(ingested: Path) -> None:
    assert lvm("verify", ingested) == 0


@pytest.fixture(scope="module")
def tensorflow() -> Threads:
    threads = configure_threads()
    import_tensorflow().constant(0)
    return threads


@pytest.fixture(scope="module")
def scored(ingested: Path, tensorflow: Threads, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return runs of the ECG-only stand-in: over the ingested ECGs, and over the files directly."""
    folder = tmp_path_factory.mktemp("scored")
    common = ["--model", ECG_ONLY, "--threads", tensorflow.inter_op]
    for name, inputs in (("parquet", ingested), ("raw", FOLDER)):
        argv = ["--input", inputs, "--output", folder / name, "--max-rejected-share", 0.5]
        assert lvm("score", *argv, *common) == 0
    return {name: folder / name for name in ("parquet", "raw")}


@pytest.mark.tf
def test_score__flat_leads_are_rejects_and_all_others_predictions(scored: dict[str, Path]) -> None:
    output = scored["parquet"]
    assert len(predictions(output)) == N_OURS - len(FLAT)
    assert {r["ecg_id"]: r["reason"] for r in rejects(output)} == dict.fromkeys(FLAT, "lead_flat")
    assert all("V2" in r["detail"] for r in rejects(output))
    assert {row["model_id"] for row in predictions(output)} == {ECG_ONLY}
    assert_reconciles(output, N_OURS)


@pytest.mark.tf
def test_score__files_directly_give_the_bits_of_ingest_and_score(scored: dict[str, Path]) -> None:
    assert masses(scored["raw"]) == masses(scored["parquet"])
    assert reject_counts(scored["raw"]) == {**{"lead_flat": 2, "missing_lead": 1}, "not_an_ecg": len(OTHER_FORMATS)}
    assert_reconciles(scored["raw"], N_ALL)


@pytest.mark.tf
def test_score__files_directly_give_the_other_columns_too(scored: dict[str, Path]) -> None:
    def by_id(output: Path) -> dict[str, dict[str, Any]]:
        return {row["ecg_id"]: row for row in predictions(output)}

    assert by_id(scored["raw"]) == by_id(scored["parquet"])


@pytest.mark.tf
def test_score__rules_are_known_whoever_measured(scored: dict[str, Path]) -> None:
    rows = {row["ecg_id"]: row for row in predictions(scored["parquet"])}
    by_device = {
        "cardiosoft_xml/ecgprocess_example-XML1",
        "muse_xml/braveheart_example1",
        "muse_xml/braveheart_example2",
        "philips_sierra/129DYPRG",
        "philips_sierra/cvrg_Philips103Example01",
        "philips_sierra/philips-ecg-parser_example",
    }
    assert {ecg_id for ecg_id, row in rows.items() if row["measured_by"] != "software"} == by_device
    assert all(row["rule_sokolow_lyon"] is not None for row in rows.values())
    assert all(row["rule_voltage_sum"] is not None and row["rule_lewis"] is not None for row in rows.values())


@pytest.mark.tf
def test_score__run_over_real_files_is_verified(scored: dict[str, Path]) -> None:
    assert lvm("verify", scored["raw"]) == 0
