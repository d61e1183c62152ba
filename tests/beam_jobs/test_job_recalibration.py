"""Recalibrated columns: beside the raw ones, by hand, the same in every shard and on verifying."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from models.catalogue.known import find_spec
from tests.beam_jobs.job_helpers import (
    ECG_ONLY,
    FULL,
    flat_in,
    lvm,
    people,
    people_table,
    predictions,
    score,
    write_parquet,
    write_participants,
    write_with_hash,
)

pytestmark = pytest.mark.usefixtures("fake")

EXTRA = ["lvm_recal_g", "lvmi_recal_g_m2", "lvh_recal", "lvm_lo_g", "lvm_hi_g", "lvh_probability"]


def _file(path: Path, model_id: str = FULL, **changes: Any) -> Path:
    """Write 0.5 g a gram and 20 g; women +-10 g, men +-15 g; logit(p) = -1 + 2 logit(score)."""
    spec = find_spec(model_id)
    assert spec is not None
    content = {
        "lvm_ai_recalibration": 1,
        "model_id": model_id,
        "model_sha256": spec.sha256,
        "input_convention": "ukb_counts",
        "by_sex": False,
        "alpha": 0.1,
        "slope": {"all": 0.5},
        "intercept_g": {"all": 20.0},
        "half_width_g": {"female": 10.0, "male": 15.0},
        "lvh_slope": 2.0,
        "lvh_intercept": -1.0,
        "bsa": "dubois",
        "lvh_preset": "khurshid2021",
        "provenance": {},
    }
    path.write_text(json.dumps(content | changes))
    return path


@pytest.fixture
def cohort(tmp_path: Path) -> dict[str, Any]:
    made = flat_in(people(20), 3)
    write_parquet(tmp_path / "in" / "a.parquet", people_table(made))
    table = write_participants(tmp_path / "people.csv", made, sex_0="Unknown")
    return {"ecgs": tmp_path / "in", "table": table, "file": _file(tmp_path / "recal.json")}


def _options(cohort: dict[str, Any], *more: Any) -> tuple[Any, ...]:
    shares = ("--max-rejected-share", 0.5)
    people = ("--participants", cohort["table"])
    return (*people, *shares, "--recalibration", cohort["file"], *more)


def test_recalibration__columns_by_hand(cohort: dict[str, Any], tmp_path: Path) -> None:
    assert score(cohort["ecgs"], tmp_path / "out", *_options(cohort), model=FULL) == 0
    rows = predictions(tmp_path / "out")
    assert len(rows) == 18
    for row in rows:
        recalibrated_g = 20 + 0.5 * row["lvm_pred_g"]
        width_g = 15.0 if row["sex"] == "male" else 10.0
        logit = math.log(row["lvh_score"] / (1 - row["lvh_score"]))
        assert row["lvm_recal_g"] == pytest.approx(recalibrated_g, abs=1e-4)
        assert row["lvm_lo_g"] == pytest.approx(recalibrated_g - width_g, abs=1e-4)
        assert row["lvm_hi_g"] == pytest.approx(recalibrated_g + width_g, abs=1e-4)
        index = recalibrated_g / row["bsa_m2"]
        assert row["lvmi_recal_g_m2"] == pytest.approx(index, abs=1e-4)
        assert row["lvh_recal"] is (index > (72 if row["sex"] == "male" else 55))
        probability = 1 / (1 + math.exp(1 - 2 * logit))
        assert row["lvh_probability"] == pytest.approx(probability, abs=1e-5)


def test_recalibration__raw_columns_stay_as_they_are(cohort: dict[str, Any], tmp_path: Path) -> None:
    plain = _options(cohort)[:4]
    assert score(cohort["ecgs"], tmp_path / "plain", *plain, model=FULL) == 0
    assert score(cohort["ecgs"], tmp_path / "out", *_options(cohort), model=FULL) == 0
    without = predictions(tmp_path / "plain")
    rows = predictions(tmp_path / "out")
    assert [{k: v for k, v in row.items() if k not in EXTRA} for row in rows] == without
    assert not set(EXTRA) & set(without[0])


def test_recalibration__rows_of_the_fallback_model_have_none(cohort: dict[str, Any], tmp_path: Path) -> None:
    more = _options(cohort, "--fallback-model", ECG_ONLY)
    assert score(cohort["ecgs"], tmp_path / "out", *more, model=FULL) == 0
    by_model = {row["model_id"]: row for row in predictions(tmp_path / "out")}
    assert [by_model[ECG_ONLY][name] for name in EXTRA] == [None] * 6
    assert None not in [by_model[FULL][name] for name in EXTRA]


def test_recalibration__verify_finds_the_same_bits(cohort: dict[str, Any], tmp_path: Path) -> None:
    assert score(cohort["ecgs"], tmp_path / "out", *_options(cohort), model=FULL) == 0
    cohort["file"].unlink()  # the plan holds what was in it
    assert lvm("verify", tmp_path / "out", "--input", cohort["ecgs"]) == 0


def test_recalibration__verify_finds_a_changed_column(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(cohort["ecgs"], tmp_path / "out", *_options(cohort), model=FULL) == 0
    path = next((tmp_path / "out" / "predictions").glob("*.parquet"))
    table = pq.read_table(path)
    place = table.schema.get_field_index("lvm_hi_g")
    changed = pc.add(table["lvm_hi_g"], pa.scalar(0.5, pa.float32()))
    write_with_hash(path, table.set_column(place, table.schema.field(place), changed))
    assert lvm("verify", tmp_path / "out", "--input", cohort["ecgs"]) == 1
    assert "computed again" in "".join(capsys.readouterr())


def test_recalibration__another_file_does_not_resume(
    cohort: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(cohort["ecgs"], tmp_path / "out", *_options(cohort), model=FULL) == 0
    _file(cohort["file"], slope={"all": 0.6})
    assert score(cohort["ecgs"], tmp_path / "out", *_options(cohort), model=FULL) == 2
    assert "recalibration: was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_sha256": "0" * 64}, "was fitted for model 0000"),
        ({"input_convention": "microvolts_over_2000"}, "was fitted for input convention micro"),
        ({"bsa": "mosteller"}, "was fitted for body surface area mosteller"),
        ({"lvh_preset": "petersen2017"}, "was fitted for LVH preset petersen2017"),
        ({"lvm_ai_recalibration": 2}, "cannot be used"),
        ({"slope": {"all": "steep"}}, "cannot be used"),
    ],
)
def test_recalibration__a_file_for_something_else_is_refused(
    cohort: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _file(cohort["file"], **changes)
    assert score(cohort["ecgs"], tmp_path / "out", *_options(cohort), model=FULL) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["not JSON", None])
def test_recalibration__an_unreadable_file_is_refused(
    cohort: dict[str, Any], tmp_path: Path, content: str | None
) -> None:
    cohort["file"].unlink() if content is None else cohort["file"].write_text(content)
    assert score(cohort["ecgs"], tmp_path / "out", *_options(cohort), model=FULL) == 2
