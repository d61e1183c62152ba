"""The predictions table: index, hypertrophy and rules as worked by hand; unknown stays unknown."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from beam_jobs.reading.blocks import AMPLITUDES, EcgRow
from beam_jobs.run.participants import Demographics
from beam_jobs.scoring.unit import ScoredRow, predictions_table
from lvm_core.medicine.body import Bsa
from lvm_core.medicine.lvh import LvhPreset
from lvm_core.signal.ecg import NOTHING_STATED, RhythmCodes
from lvm_core.tables import schemas

NAN = float("nan")
ROW = ScoredRow(
    "e1",
    "p1",
    dt.datetime(2020, 1, 2),
    "demo",
    63.0,
    1,
    24.2,
    170.0,
    70.0,
    ("resampled",),
    (NAN,) * len(AMPLITUDES),
    "12SL",
    None,
    NOTHING_STATED,
    "ab" * 32,
    lvm_pred_g=130.3,
    lvh_score=0.25,
)
MALE, FEMALE, UNKNOWN = 1, 0, -1


def _one(bsa: Bsa = Bsa.DUBOIS, preset: LvhPreset = LvhPreset.KHURSHID2021, **changes: Any) -> dict[str, Any]:
    (row,) = predictions_table([replace(ROW, **changes)], bsa, preset).to_pylist()
    return dict(row)


def _amplitudes(**values_uv: float) -> tuple[float, ...]:
    return tuple(values_uv.get(name, NAN) for name in AMPLITUDES)


def test_predictions_table__has_the_columns_of_the_schema() -> None:
    table = predictions_table([ROW, ROW], Bsa.DUBOIS, LvhPreset.KHURSHID2021)
    assert table.schema.equals(schemas.PREDICTIONS.arrow)
    table.validate(full=True)
    assert table.num_rows == 2


def test_predictions_table__of_nothing_has_the_columns_too() -> None:
    table = predictions_table([], Bsa.DUBOIS, LvhPreset.KHURSHID2021)
    assert (table.num_rows, table.schema) == (0, schemas.PREDICTIONS.arrow)


def test_predictions_table__carries_what_it_was_given() -> None:
    row = _one()
    expected = {
        "ecg_id": "e1",
        "participant_id": "p1",
        "recorded_at": dt.datetime(2020, 1, 2),
        "model_id": "demo",
        "age_years": 63.0,
        "sex": "male",
        "height_cm": 170.0,
        "weight_kg": 70.0,
        "quality_flags": ["resampled"],
        "measured_by": "12SL",
        "signal_sha256": "ab" * 32,
        "lvh_score": 0.25,
    }
    assert {name: row[name] for name in expected} == expected
    stated = _one(rhythm=RhythmCodes("af_flutter", "lbbb", "device"), qrs_measured_by="12SL")
    expected = {"rhythm": "af_flutter", "conduction": "lbbb", "rhythm_source": "device", "qrs_measured_by": "12SL"}
    assert {name: stated[name] for name in expected} == expected


# 170 cm and 70 kg: 1.8097 m2 (Du Bois), 1.8181 m2 (Mosteller); facts sheet, section 3.
@pytest.mark.parametrize(
    ("bsa", "area_m2", "index_g_m2"), [(Bsa.DUBOIS, 1.8097, 130.3 / 1.8097), (Bsa.MOSTELLER, 1.8181, 130.3 / 1.8181)]
)
def test_predictions_table__index_by_hand(bsa: Bsa, area_m2: float, index_g_m2: float) -> None:
    row = _one(bsa)
    assert row["bsa_m2"] == pytest.approx(area_m2, abs=5e-5)
    # 130.3 g / 1.8097 m2 = 72.00 g/m2; 130.3 g / 1.8181 m2 = 71.67 g/m2
    assert row["lvmi_pred_g_m2"] == pytest.approx(index_g_m2, abs=5e-3)


# Height 180 cm and weight 80 kg give exactly 2 m2 by Mosteller: sqrt(180 * 80 / 3600).
@pytest.mark.parametrize(
    ("preset", "sex", "mass_g", "lvh"),
    [
        ("khurshid2021", MALE, 144.0, False),
        ("khurshid2021", MALE, 144.1, True),
        ("khurshid2021", FEMALE, 110.0, False),
        ("khurshid2021", FEMALE, 110.1, True),
        ("petersen2017", MALE, 139.9, False),
        ("petersen2017", MALE, 140.0, True),
        ("petersen2017", FEMALE, 109.9, False),
        ("petersen2017", FEMALE, 110.0, True),
        ("khurshid2021", UNKNOWN, 300.0, None),
        ("khurshid2021", UNKNOWN, 30.0, None),
    ],
)
def test_predictions_table__hypertrophy_by_sex(preset: str, sex: int, mass_g: float, lvh: bool | None) -> None:
    row = _one(Bsa.MOSTELLER, LvhPreset(preset), sex_code=sex, lvm_pred_g=mass_g, height_cm=180.0, weight_kg=80.0)
    assert row["bsa_m2"] == 2.0
    assert row["lvh_pred"] is lvh


@pytest.mark.parametrize("missing", ["height_cm", "weight_kg"])
def test_predictions_table__no_body_size_no_index(missing: str) -> None:
    row = _one(**{missing: NAN})
    assert row["lvm_pred_g"] == np.float32(130.3)
    assert [row[n] for n in (missing, "bsa_m2", "lvmi_pred_g_m2", "lvh_pred")] == [None] * 4


def test_predictions_table__unknown_is_null_and_never_nan() -> None:
    row = _one(
        age_years=NAN,
        sex_code=UNKNOWN,
        bmi_kg_m2=NAN,
        height_cm=NAN,
        weight_kg=NAN,
        lvh_score=NAN,
        participant_id=None,
        recorded_at=None,
        measured_by=None,
        quality_flags=(),
    )
    assert {name for name, value in row.items() if value is not None} == {
        "ecg_id",
        "model_id",
        "lvm_pred_g",
        "quality_flags",
        "signal_sha256",
    }
    assert row["quality_flags"] == ["index_unknown"]


LOW = {"r_avl_uv": 0.0, "s_v1_uv": 0.0, "s_v3_uv": 0.0, "r_v5_uv": 0.0, "r_v6_uv": 0.0}


# Facts sheet, section 6: avl > 1100; S(V1) + max(R(V5), R(V6)) > 3500; R(aVL) + S(V3) > 2000
# (women) or > 2800 (men). The answers: rule_avl, rule_sokolow_lyon, rule_cornell, any_ecg_rule.
@pytest.mark.parametrize(
    ("sex", "waves", "answers"),
    [
        (MALE, LOW, (False, False, False, False)),
        (MALE, {**LOW, "r_avl_uv": 1100.0}, (False, False, False, False)),
        (MALE, {**LOW, "r_avl_uv": 1101.0}, (True, False, False, True)),
        (MALE, {**LOW, "s_v1_uv": 1500.0, "r_v5_uv": 2000.0}, (False, False, False, False)),
        (MALE, {**LOW, "s_v1_uv": 1501.0, "r_v5_uv": 2000.0}, (False, True, False, True)),
        (MALE, {**LOW, "s_v1_uv": 1501.0, "r_v6_uv": 2000.0}, (False, True, False, True)),
        (FEMALE, {**LOW, "r_avl_uv": 500.0, "s_v3_uv": 1500.0}, (False, False, False, False)),
        (FEMALE, {**LOW, "r_avl_uv": 501.0, "s_v3_uv": 1500.0}, (False, False, True, True)),
        (MALE, {**LOW, "r_avl_uv": 501.0, "s_v3_uv": 1500.0}, (False, False, False, False)),
        (MALE, {**LOW, "r_avl_uv": 1000.0, "s_v3_uv": 1801.0}, (False, False, True, True)),
        (UNKNOWN, LOW, (False, False, None, None)),
        (UNKNOWN, {**LOW, "r_avl_uv": 1200.0}, (True, False, None, True)),
        (MALE, {}, (None, None, None, None)),
        (MALE, {"r_avl_uv": 1200.0}, (True, None, None, True)),
        (MALE, {"r_avl_uv": 900.0, "s_v3_uv": 100.0}, (False, None, False, None)),
        (MALE, {**LOW, "r_v6_uv": NAN}, (False, None, False, None)),
    ],
)
def test_predictions_table__rules_by_hand(sex: int, waves: dict[str, float], answers: tuple[bool | None, ...]) -> None:
    row = _one(sex_code=sex, amplitudes=_amplitudes(**waves))
    names = ("rule_avl", "rule_sokolow_lyon", "rule_cornell", "any_ecg_rule")
    assert tuple(row[name] for name in names) == answers
    for name in LOW:
        value = waves.get(name, NAN)
        assert row[name] == (None if np.isnan(value) else value)


def _people(**changes: Any) -> Demographics:
    def floats(value: float) -> Any:
        return np.array([value], dtype=np.float32)

    values: dict[str, Any] = {
        "found": np.array([True]),
        "participant_id": ["p1"],
        "age_years": floats(63.0),
        "sex_code": np.array([0], dtype=np.int8),
        "bmi_kg_m2": floats(25.0),
        "height_cm": floats(165.0),
        "weight_kg": floats(68.0),
        "flags": [()],
        "no_age_because": [None],
        "no_bmi_because": [None],
    }
    return Demographics(**(values | changes))


def _ecg_row() -> EcgRow:
    counts = np.arange(60_000, dtype=np.int16).reshape(12, 5000)
    return EcgRow("e1", counts, 5.0, "a.parquet", 3, None, None, quality_flags=("saturated",))


def test_scored_row__implausible_age_and_bmi_are_unknown_and_flagged() -> None:
    people = _people(
        age_years=np.array([730], np.float32),
        bmi_kg_m2=np.array([2.5], np.float32),
        flags=[("age_out_of_range", "bmi_out_of_range")],
    )
    row = ScoredRow.of(_ecg_row(), people, 0, "demo")
    assert np.isnan([row.age_years, row.bmi_kg_m2]).all()
    assert row.quality_flags == ("saturated", "age_out_of_range", "bmi_out_of_range")


def test_scored_row__has_no_result_until_it_is_predicted() -> None:
    row = ScoredRow.of(_ecg_row(), _people(), 0, "demo")
    assert np.isnan([row.lvm_pred_g, row.lvh_score]).all()
    assert (row.participant_id, row.sex_code, row.age_years) == ("p1", 0, 63.0)
