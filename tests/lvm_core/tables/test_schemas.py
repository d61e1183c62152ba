"""The public columns: names are contracts, so they are spelled out here once more."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lvm_core.tables.schemas import (
    ECG_REQUIRED,
    ECGS,
    LEAD_TYPE,
    PREDICTIONS,
    RECALIBRATED,
    REJECTS,
    TABLES,
    Table,
    predictions_schema,
)

MEASUREMENTS = "r_avl_uv s_v1_uv s_v3_uv r_v5_uv r_v6_uv qrs_duration_ms measured_by"
MORE_MEASUREMENTS = (
    "r_i_uv r_ii_uv r_iii_uv r_avr_uv r_avf_uv r_v1_uv r_v2_uv r_v3_uv r_v4_uv "
    "s_i_uv s_ii_uv s_iii_uv s_avr_uv s_avl_uv s_avf_uv s_v2_uv s_v4_uv s_v5_uv s_v6_uv "
    "qrs_voltage_sum_uv qrs_measured_by"
)


@pytest.mark.parametrize(
    ("table", "names"),
    [
        (
            ECGS,
            "ecg_id I II III aVR aVL aVF V1 V2 V3 V4 V5 V6 uv_per_count participant_id recorded_at "
            f"{MEASUREMENTS} source_uri source_format source_sampling_rate_hz signal_sha256 "
            f"quality_flags {MORE_MEASUREMENTS} rhythm conduction rhythm_source",
        ),
        (
            PREDICTIONS,
            "ecg_id participant_id recorded_at model_id lvm_pred_g lvh_score age_years sex "
            "bmi_kg_m2 height_cm weight_kg bsa_m2 lvmi_pred_g_m2 lvh_pred quality_flags "
            f"{MEASUREMENTS} rule_avl rule_sokolow_lyon rule_cornell any_ecg_rule signal_sha256 "
            f"{MORE_MEASUREMENTS} rule_cornell_product rule_sokolow_lyon_product rule_peguero_lo_presti "
            "rule_gubner rule_lewis rule_voltage_sum rhythm conduction rhythm_source",
        ),
        (REJECTS, "source_uri row ecg_id participant_id stage reason detail n_ecgs"),
    ],
    ids=lambda value: value.name if isinstance(value, Table) else "",
)
def test_columns__are_the_public_ones(table: Table, names: str) -> None:
    assert table.names == tuple(names.split())
    assert table.arrow.names == names.split()


def test_ecgs__required_columns_hold_no_null_and_int16_samples() -> None:
    assert ECG_REQUIRED[0] == "ecg_id"
    assert all(not ECGS.arrow.field(name).nullable for name in ECG_REQUIRED)
    assert LEAD_TYPE.list_size == 5000
    assert LEAD_TYPE.value_type == pa.int16()
    assert not LEAD_TYPE.value_field.nullable
    assert ECGS.arrow.field("aVR").type == LEAD_TYPE


def test_columns__every_one_has_a_meaning_and_times_have_no_zone() -> None:
    for table in TABLES:
        for column in table.columns:
            assert column.meaning, column.name
            if pa.types.is_timestamp(column.type):
                assert column.type.tz is None, column.name


def test_predictions_schema__recalibration_adds_its_columns_at_the_end() -> None:
    plain = predictions_schema(recalibrated=False)
    assert plain == PREDICTIONS.arrow
    names = predictions_schema(recalibrated=True).names
    assert names == [*plain.names, *RECALIBRATED.names]
