"""`lvm-ai phenotype` from a study of 40 people to files; PLINK 2 reads them where it is there."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lvm_ai
from tests.analysis.report import small_study

PLINK = shutil.which("plink2")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    small_study.write(tmp_path)
    path = tmp_path / "study.yaml"
    path.write_text(small_study.STUDY)
    return path


def phenotype(study: Path, program: str, *more: object) -> int:
    output = study.parent / "pheno"
    words = ["phenotype", study, "--for", program, "--output", output, "--overwrite", *more]
    return lvm_ai.main(list(map(str, words)))


def written(study: Path, name: str = "phenotypes.txt") -> pd.DataFrame:
    return pd.read_csv(study.parent / "pheno" / name, sep="\t", dtype={"FID": str, "#FID": str, "IID": str})


def about(study: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((study.parent / "pheno" / "phenotype.json").read_text())
    return found


def people() -> pd.DataFrame:
    return small_study.predictions().set_index("participant_id")


def test_regenie__has_everybody_with_masses_as_they_were_predicted(study: Path) -> None:
    assert phenotype(study, "regenie") == 0
    table = written(study)
    assert list(table) == ["FID", "IID", "lvm_pred_g", "lvmi_pred_g_m2"]
    assert (table["FID"] == table["IID"]).all()
    expected = people().loc[table["IID"]]
    np.testing.assert_allclose(table["lvm_pred_g"], expected["lvm_pred_g"], rtol=1e-6)
    covariates = written(study, "covariates.txt")
    assert list(covariates)[2:] == ["age_years", "age_years_squared", "sex", "height_cm", "weight_kg"]
    assert set(covariates["sex"][expected["sex"].to_numpy() == "male"]) == {1}
    assert set(covariates["sex"][expected["sex"].to_numpy() == "female"]) == {0}
    age = expected["age_years"].to_numpy()
    np.testing.assert_allclose(covariates["age_years_squared"], (age - age.mean()) ** 2, rtol=1e-5, atol=1e-6)
    assert about(study)["transform"] == "none"


def test_rint__is_said_in_the_name_and_leaves_yes_and_no(study: Path) -> None:
    assert phenotype(study, "regenie", "--rint", "--traits", "lvm_pred_g") == 0
    table = written(study)
    assert list(table)[2:] == ["lvm_pred_g_rint"]
    mass = people().loc[table["IID"], "lvm_pred_g"].to_numpy()
    assert (np.argsort(mass) == np.argsort(table["lvm_pred_g_rint"])).all()
    assert abs(table["lvm_pred_g_rint"].mean()) < 1e-9
    assert "inverse normal" in about(study)["transform"]


def test_steps__each_choice_leaves_the_people_that_it_names(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = study.parent
    men = set(people().index[people()["sex"] == "male"])
    ids = pd.DataFrame({"participant_id": small_study.IDS, "IID": [f"G{one}" for one in small_study.IDS]})
    ids[1:].to_csv(folder / "ids.csv", index=False)  # the first person has no genetic data
    (folder / "keep.txt").write_text("participant_id\n" + "\n".join(small_study.IDS[:30]) + "\n")
    # Of two brothers one is left; a cousin is none at the limit.
    brothers = sorted(men & set(small_study.IDS[1:30]))[:3]
    rows = [(f"G{brothers[0]}", f"G{brothers[1]}", 0.25), (f"G{brothers[1]}", f"G{brothers[2]}", 0.03)]
    lines = ["ID1 ID2 HetHet IBS0 Kinship", *(f"{one} {other} 0.1 0.0 {k}" for one, other, k in rows)]
    (folder / "kin.txt").write_text("\n".join(lines) + "\n")
    options = ["--identifiers", folder / "ids.csv", "--keep", folder / "keep.txt", "--sex", "male"]
    assert phenotype(study, "regenie", *options, "--relatives", folder / "kin.txt") == 0
    table = written(study)
    expected = {f"G{one}" for one in (men & set(small_study.IDS[1:30])) - {brothers[1]}}
    assert set(table["IID"]) == expected
    assert "sex" not in written(study, "covariates.txt")
    counts = [step["n_people"] for step in about(study)["people"]]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == len(expected)
    assert "no two with a kinship of 0.04419 or more" in capsys.readouterr().out


def test_more_covariates__come_by_identifier_and_who_has_none_is_missing(study: Path) -> None:
    path = study.parent / "pcs.eigenvec"
    rows = [f"{one}\t{one}\t{i / 10}\t{-i / 10}" for i, one in enumerate(small_study.IDS[1:])]
    path.write_text("#FID\tIID\tPC1\tPC2\n" + "\n".join(reversed(rows)) + "\n")
    assert phenotype(study, "plink", "--more-covariates", path) == 0
    table = written(study, "covariates.txt").set_index("IID")
    assert table.loc[small_study.IDS[3], "PC1"] == pytest.approx(0.2)
    assert np.isnan(table.loc[small_study.IDS[0], "PC2"])
    assert "\tNA\n" in (study.parent / "pheno" / "covariates.txt").read_text()


def test_yes_and_no__are_coded_as_each_program_reads_them(study: Path) -> None:
    predictions = small_study.predictions()
    predictions["rule_avl"] = [i % 4 == 0 for i in range(len(predictions))]
    predictions.to_parquet(study.parent / "predictions.parquet")
    expected = predictions.set_index("participant_id")["rule_avl"]
    for program, yes, no in (("regenie", 1, 0), ("saige", 1, 0), ("plink", 2, 1)):
        assert phenotype(study, program, "--traits", "rule_avl") == 0
        table = written(study).set_index("IID")["rule_avl"]
        assert set(table[expected[table.index].to_numpy()]) == {yes}
        assert set(table[~expected[table.index].to_numpy()]) == {no}
    assert phenotype(study, "saige", "--traits", "rule_avl") == 0
    assert "--traitType=binary" in about(study)["command"]
    assert {"IID", "rule_avl", "age_years"} <= set(written(study))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--traits", "mass"], "--traits names 'mass'; expected numbers or yes/no of the ECGs"),
        (["--traits", "bmi_kg_m2"], "the trait bmi_kg_m2 has 1 values among these people"),
        (["--covariates", "sex,fibre"], "--covariates names 'fibre'"),
        (["--sex", "m"], "--sex is 'm', expected female or male"),
        (["--where", "region"], "--where is 'region', expected COLUMN=VALUE"),
        (["--where", "region=Kent"], "nobody has region Kent; it has England"),
        (["--where", "town=Leeds"], "--where names town, which the ECGs of the study do not have"),
        (["--keep", "absent.txt"], "--keep absent.txt cannot be read"),
    ],
)
def test_phenotype__refuses(study: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert phenotype(study, "regenie", *more) == 2
    assert message in capsys.readouterr().err
    assert not (study.parent / "pheno").exists()


def test_phenotype__nobody_left_is_said_with_the_step(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study.parent / "keep.txt").write_text("participant_id\n0001\n")
    assert phenotype(study, "regenie", "--keep", study.parent / "keep.txt") == 2
    assert "nobody is left after the step: in the list keep.txt" in capsys.readouterr().err


def test_output__only_its_own_folder_is_replaced(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study.parent / "pheno").mkdir()
    (study.parent / "pheno" / "mine.txt").write_text("keep me")
    assert phenotype(study, "regenie") == 2
    assert "is not the output of lvm-ai phenotype" in capsys.readouterr().err
    assert (study.parent / "pheno" / "mine.txt").read_text() == "keep me"


def test_omop__keys_lead_from_measurement_to_the_channels_of_the_same_ecg(study: Path) -> None:
    assert phenotype(study, "omop", "--first-id", 500) == 0
    folder = study.parent / "pheno"
    tables = {path.stem: pd.read_csv(path) for path in folder.glob("*.csv")}
    measurement, feature = tables["measurement"], tables["waveform_feature"]
    assert len(measurement) == 2 * len(tables["waveform_occurrence"])
    mass = measurement[measurement["measurement_source_value"] == "lvm_pred_g"].set_index("person_id")
    expected = people()
    expected.index = expected.index.astype(int)
    np.testing.assert_allclose(mass["value_as_number"], expected.loc[mass.index, "lvm_pred_g"])
    assert set(mass["unit_source_value"]) == {"g"}
    joined = (
        feature.merge(measurement, on="measurement_id", suffixes=("", "_m"))
        .merge(tables["waveform_registry"], on="waveform_registry_id", suffixes=("", "_r"))
        .merge(tables["waveform_occurrence"], on="waveform_occurrence_id", suffixes=("", "_o"))
        .merge(tables["waveform_channel_metadata"], on="waveform_channel_metadata_id", suffixes=("", "_c"))
    )
    assert len(joined) == len(feature) == len(measurement)
    assert (joined["person_id"] == joined["person_id_o"]).all()
    assert (joined["waveform_registry_id"] == joined["waveform_registry_id_c"]).all()
    assert set(joined["waveform_channel_source_value"]) == {"I"}
    for name, table in tables.items():
        assert table[f"{name}_id"].is_unique
        assert table[f"{name}_id"].min() == 500


def test_omop__identifiers_that_are_no_numbers_are_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("participants.csv", "events.csv", "ends.csv", "cmr.csv"):
        table = pd.read_csv(study.parent / name, dtype=str)
        if "participant_id" in table:
            table["participant_id"] = "P" + table["participant_id"]
        table.to_csv(study.parent / name, index=False)
    predictions = small_study.predictions()
    predictions["participant_id"] = "P" + predictions["participant_id"]
    predictions.to_parquet(study.parent / "predictions.parquet")
    assert phenotype(study, "omop") == 2
    assert "person_id of OMOP" in capsys.readouterr().err


@pytest.mark.skipif(PLINK is None, reason="plink2 is not installed (package plink2 of Debian)")
@pytest.mark.parametrize(("fid", "of_genotypes"), [("iid", "--double-id"), ("0", "--const-fid")])
def test_plink2__reads_the_files_and_finds_the_locus_that_moves_the_mass(
    study: Path, fid: str, of_genotypes: str
) -> None:
    options = ["--covariates", "sex,age_years", "--traits", "lvm_pred_g", "--fid", fid]
    assert phenotype(study, "plink", *options) == 0
    table = written(study).set_index("IID")
    rng = np.random.default_rng(7)
    folder = study.parent
    lines = ["##fileformat=VCFv4.2", "##contig=<ID=1>", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t"]
    lines[-1] += "\t".join(table.index)
    dosage = {}
    for snp in range(20):
        number = rng.integers(0, 3, len(table))
        if snp == 12:  # the locus: who is heavier has more of the allele
            number = np.digitize(table["lvm_pred_g"].rank(pct=True), [1 / 3, 2 / 3])
        dosage[f"rs{snp}"] = number
        calls = "\t".join(("0/0", "0/1", "1/1")[n] for n in number)
        lines.append(f"1\t{100 + snp}\trs{snp}\tA\tC\t.\t.\t.\tGT\t{calls}")
    (folder / "genotypes.vcf").write_text("\n".join(lines) + "\n")
    assert PLINK is not None
    words = [
        PLINK,
        "--vcf",
        "genotypes.vcf",
        of_genotypes,
        "--pheno",
        "pheno/phenotypes.txt",
        "--covar",
        "pheno/covariates.txt",
    ]
    words += ["--covar-variance-standardize", "--glm", "hide-covar", "allow-no-covars", "--out", "gwas"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = pd.read_csv(folder / "gwas.lvm_pred_g.glm.linear", sep="\t").set_index("ID")
    assert found["P"].idxmin() == "rs12"
    covariates = written(study, "covariates.txt")
    design = np.column_stack([np.ones(len(table)), dosage["rs12"], covariates["sex"], covariates["age_years"]])
    slope = np.linalg.lstsq(design, table["lvm_pred_g"].to_numpy(), rcond=None)[0][1]
    own = found.loc["rs12"]
    assert own["BETA"] * (1 if own["A1"] == "C" else -1) == pytest.approx(slope, rel=1e-4)
