"""The command recalibrate: pairing by hand, refusals, and the file that it writes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lvm_ai
from analysis.study.cmr import pair_with_cmr
from analysis.study.inputs import read_cmr
from lvm_core.errors import UsageError
from lvm_core.medicine.recalibration import Recalibration
from lvm_core.tables import schemas


def _settings(**changes: Any) -> dict[str, Any]:
    return {
        "models": [{"model_id": "m", "sha256": "ab" * 32}],
        "input_convention": "ukb_counts",
        "bsa": "dubois",
        "lvh_preset": "khurshid2021",
    } | changes


def _predictions(path: Path, rows: list[dict[str, Any]], **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows, schema=schemas.PREDICTIONS.arrow)
    footer = json.dumps({"provenance": {"settings": _settings(**changes)}}).encode()
    pq.write_table(table.replace_schema_metadata({schemas.FOOTER_KEY: footer}), path)
    return path


@pytest.fixture
def cohort(tmp_path: Path) -> dict[str, Any]:
    """600 people: CMR = 20 g + 0.7 x predicted + noise of 8 g; one CMR two years away."""
    rng = np.random.default_rng(5)
    male = rng.random(600) < 0.5
    predicted_g = 90.0 + 30.0 * male + 20.0 * rng.standard_normal(600)
    cmr_g = np.maximum(20.0 + 0.7 * predicted_g + 8.0 * rng.standard_normal(600), 30.0)
    rows = [
        {
            "ecg_id": f"e{i}",
            "participant_id": f"p{i}",
            "model_id": "m",
            "recorded_at": pd.Timestamp("2020-03-01 10:00:00"),
            "lvm_pred_g": predicted_g[i],
            "lvh_score": float(np.clip((predicted_g[i] - 40) / 150, 0.01, 0.99)),
            "sex": "male" if male[i] else "female",
            "bsa_m2": 1.9 if male[i] else 1.6,
        }
        for i in range(600)
    ]
    dates = ["2020-03-11"] * 599 + ["2022-03-01"]
    ids = [f"p{i}" for i in range(600)]
    cmr = pd.DataFrame({"participant_id": ids, "cmr_date": dates, "lvm_cmr_g": cmr_g})
    cmr.to_csv(tmp_path / "cmr.csv", index=False)
    _predictions(tmp_path / "run" / "predictions" / "a.parquet", rows)
    return {"run": tmp_path / "run", "cmr": tmp_path / "cmr.csv", "rows": rows}


def _recalibrate(cohort: dict[str, Any], output: Path, *more: Any) -> int:
    argv = ["recalibrate", "--predictions", cohort["run"], "--cmr", cohort["cmr"]]
    return lvm_ai.main([str(item) for item in (*argv, "--output", output, *more)])


def test_recalibrate__finds_the_line_and_writes_its_provenance(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, figure = tmp_path / "recal.json", tmp_path / "recal.png"
    figure.touch(mode=0o644)
    more = ("--max-days", 30, "--figure", figure, "--overwrite")
    assert _recalibrate(cohort, output, *more) == 0
    assert not (output.stat().st_mode | figure.stat().st_mode) & 0o077
    made = Recalibration.from_dict(json.loads(output.read_text()), "recal.json")
    assert made.slope["all"] == pytest.approx(0.7, abs=0.05)
    assert made.intercept_g["all"] == pytest.approx(20, abs=5)
    # 90 % of normal errors of 8 g lie within 13.2 g.
    assert all(10 < width < 17 for width in made.half_width_g.values())
    assert (made.model_id, made.model_sha256, made.bsa) == ("m", "ab" * 32, "dubois")
    assert made.provenance["n_people"] == 599
    assert figure.stat().st_size > 10_000
    printed = capsys.readouterr()
    assert "not the true mass" in printed.out
    assert "rests on" in printed.err


def test_recalibrate__cross_fitted_rows_are_printed_for_each_group(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _recalibrate(cohort, tmp_path / "r.json", "--max-days", 30, "--by-sex") == 0
    lines = capsys.readouterr().out.splitlines()
    groups = ["all", "women", "men", *(f"fifth {k} of the prediction" for k in range(1, 6))]
    for name in [*groups, "LVH by CMR"]:
        assert any(line.strip().startswith(name) for line in lines), name
    all_row = next(line.split() for line in lines if line.strip().startswith("all "))
    assert all_row[1] == "599"
    assert float(all_row[2]) > float(all_row[3])  # the mean absolute error falls
    assert 0.85 < float(all_row[-1]) < 0.95


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "--max-days is missing: the CMR table has dates"),
        (["--max-days", "-1"], "--max-days is -1, expected 0 or more"),
        (["--max-days", "9"], "nobody of 600 people with predictions has a CMR mass"),
        (["--max-days", "30", "--alpha", "1"], "--alpha is 1.0, expected between 0 and 1"),
    ],
)
def test_recalibrate__mistakes_are_named(
    cohort: dict[str, Any], tmp_path: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _recalibrate(cohort, tmp_path / "r.json", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_recalibrate__reads_cmr_of_other_programs_and_says_how(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], sign: str
) -> None:
    """Decimal commas, identifiers with points, Latin-1, and a person without a mass."""
    assert _recalibrate(cohort, tmp_path / "plain.json", "--max-days", "30") == 0
    table = pd.read_csv(cohort["cmr"], float_precision="round_trip")
    unknown = pd.DataFrame([{"participant_id": "p900", "cmr_date": "2020-03-11"}])
    other = pd.concat([table, unknown]).assign(ward="Köln")
    other.to_csv(tmp_path / "c.txt", index=False, sep=sign, decimal=",", encoding="latin-1")
    capsys.readouterr()
    written = cohort | {"cmr": tmp_path / "c.txt"}
    assert _recalibrate(written, tmp_path / "other.json", "--max-days", "30") == 0
    shown = capsys.readouterr().err
    assert "warning: --cmr c.txt is not UTF-8 (line 2) and was read as Windows-1252" in shown
    assert "warning: --cmr c.txt: 1 rows without lvm_cmr_g were left out" in shown
    made = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("plain", "other")]
    assert made[0] == made[1]


def test_recalibrate__an_earlier_file_is_kept(cohort: dict[str, Any], tmp_path: Path) -> None:
    output = tmp_path / "r.json"
    output.write_text("mine")
    assert _recalibrate(cohort, output, "--max-days", 30) == 2
    assert output.read_text() == "mine"
    assert _recalibrate(cohort, output, "--max-days", 30, "--overwrite") == 0


def test_recalibrate__predictions_of_two_conventions_are_refused(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"input_convention": "microvolts_over_2000"}
    _predictions(cohort["run"] / "predictions" / "b.parquet", cohort["rows"][:1], **more)
    assert _recalibrate(cohort, tmp_path / "r.json", "--max-days", 30) == 2
    assert "have 2 kinds of model" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"no Parquet", None])
def test_recalibrate__what_is_no_prediction_is_refused(
    cohort: dict[str, Any], tmp_path: Path, content: bytes | None
) -> None:
    cohort["run"] = tmp_path / "other.parquet"
    if content is not None:
        cohort["run"].write_bytes(content)
    assert _recalibrate(cohort, tmp_path / "r.json", "--max-days", 30) == 2


def test_pair_with_cmr__the_closest_pair_of_each_person() -> None:
    days = ["2020-01-01", "2020-01-20", "2020-01-12", "2020-01-12", "2020-01-01"]
    predictions = pd.DataFrame(
        {
            "ecg_id": ["a", "b", "d", "c", "e"],
            "participant_id": ["p", "p", "q", "q", None],
            "recorded_at": pd.to_datetime([f"{day} 23:59:00" for day in days]),
            "lvm_pred_g": [1.0, 2.0, 3.0, 4.0, 5.0],
        }
    )
    cmr = pd.DataFrame(
        {
            "participant_id": ["p", "p", "q", "r"],
            "cmr_date": pd.to_datetime(["2020-01-10", "2020-01-24", "2020-01-10", "2020-01-10"]),
            "lvm_cmr_g": [10.0, 11.0, 12.0, 13.0],
        }
    )
    made = pair_with_cmr(predictions, cmr, max_days=30)
    # p: b on the 20th and CMR on the 24th, 4 days; q: both ECGs 2 days away, c before d.
    shown = made[["participant_id", "ecg_id", "lvm_cmr_g", "days_ecg_cmr"]].to_numpy().tolist()
    assert shown == [["p", "b", 11.0, 4], ["q", "c", 12.0, 2]]
    assert pair_with_cmr(predictions, cmr, max_days=1).empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("participant_id,mass\np,1\n", "participant_id, mass; expected lvm_cmr_g among them"),
        ("participant_id,lvm_cmr_g\np,90\nq,-1\n", r"lvm_cmr_g of 0 g or less in 1 rows \(row 2,"),
        ("participant_id,lvm_cmr_g\np,90\nr,x\n", "1 values that are not a number.*row 2: 'x'"),
        (
            "participant_id,cmr_date,lvm_cmr_g\np,01/02/2020,90\n",
            "cmr_date has 1 values that are not a date as YYYY-MM-DD.*row 1: '01/02/2020'",
        ),
        ("participant_id,lvm_cmr_g\np,90\nq,80\np,91\n", r"more than once in 1 rows \(row 3,"),
    ],
)
def test_read_cmr__refuses(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "cmr.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        read_cmr(path)


def test_read_cmr__a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_cmr(tmp_path / "absent.csv")


def test_recalibrate__an_ecg_that_is_there_twice_is_refused(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _predictions(cohort["run"] / "predictions" / "copy.parquet", cohort["rows"][:7])
    assert _recalibrate(cohort, tmp_path / "r.json", "--max-days", 365) == 2
    assert "the predictions hold 7 ECGs more than once" in capsys.readouterr().err


def test_recalibrate__a_run_that_is_not_finished_is_refused(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cohort["run"]
    (run / "plan.json").write_text('{"kind": "score"}')
    assert _recalibrate(cohort, tmp_path / "r.json", "--max-days", 365) == 2
    said = capsys.readouterr().err
    assert f"error: {run} is a run that is not finished or was not accepted (no _SUCCESS)" in said
    inner = cohort | {"run": run / "predictions"}
    assert _recalibrate(inner, tmp_path / "r.json", "--max-days", 365) == 0
    (run / "_SUCCESS").touch()
    assert _recalibrate(cohort, tmp_path / "s.json", "--max-days", 365) == 0
