"""Layout files, and what comes out of other people's Parquet that is read through them."""

from __future__ import annotations

import datetime as dt
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from numpy.typing import NDArray

from beam_jobs.reading.blocks import EcgRow, Reject
from beam_jobs.reading.layout import Layout, load_layout
from beam_jobs.reading.parquet_input import column_problems
from beam_jobs.reading.storage import Storage
from beam_jobs.reading.unit_reader import UnitReader
from beam_jobs.reading.units import cut_units
from beam_jobs.run.planner import find_inputs
from beam_jobs.run.settings import InputSettings
from lvm_core.errors import RejectReason, UsageError
from lvm_core.signal.ecg import LEADS_12
from tests.beam_jobs.helpers import ecg_counts, ecg_ids

STORAGE = Storage()
N = 3
OTHER_ORDER = ("V6", "aVR", "I", "V1", "II", "aVF", "V2", "III", "V3", "aVL", "V4", "V5")
EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")


def _signal(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "column": "signal",
        "order": "lead_major",
        "leads": list(LEADS_12),
        "unit": "uV",
        "sampling_rate_hz": 500,
    }
    plain.update(changes)
    return {name: value for name, value in plain.items() if value is not None}


def _layout(signal: dict[str, Any] | None = None, **changes: Any) -> Layout:
    return Layout.model_validate({"ecg_id": "id", "signal": signal or _signal(), **changes})


def _read(folder: Path, table: pa.Table, layout: Layout, interpolate_missing_samples: int = 0) -> list[EcgRow | Reject]:
    """Return the rows of a Parquet file, in its order, as the job reads them."""
    pq.write_table(table, folder / "x.parquet")
    found = find_inputs(InputSettings(inputs=(str(folder),), unit_ecgs=100), layout)
    units = cut_units(found.pieces, unit_ecgs=100, first_number=0, settings_sha256="s")
    reader = UnitReader(STORAGE, found.roots, layout, interpolate_missing_samples=interpolate_missing_samples)
    rows: list[EcgRow | Reject] = []
    for unit in units:
        for chunk in reader.chunks(unit):
            assert chunk.n_read == len(chunk.rows) + sum(r.weight for r in chunk.rejects)
            rows += [*chunk.rows, *chunk.rejects]
    return sorted(rows, key=lambda row: row.row if row.row is not None else -1)


def _ecgs(folder: Path, table: pa.Table, layout: Layout) -> list[EcgRow]:
    rows = _read(folder, table, layout)
    assert all(isinstance(row, EcgRow) for row in rows), rows
    return [row for row in rows if isinstance(row, EcgRow)]


def _reasons(folder: Path, table: pa.Table, layout: Layout) -> list[str | None]:
    rows = _read(folder, table, layout)
    return [row.reason if isinstance(row, Reject) else None for row in rows]


def _uv(row: EcgRow) -> NDArray[np.float64]:
    return row.counts.astype(np.float64) * row.uv_per_count


def _counts(leads: tuple[str, ...] = LEADS_12) -> NDArray[np.int16]:
    """Return (n, n_leads, 5000) counts in the order of `leads`."""
    return ecg_counts(N)[:, [LEADS_12.index(lead) for lead in leads]]


def _table(cells: list[Any], **columns: Any) -> pa.Table:
    return pa.table({"id": ecg_ids(len(cells)), "signal": cells, **columns})


# The file


def test_load_layout__reads_yaml(tmp_path: Path) -> None:
    (tmp_path / "layout.yaml").write_text(
        textwrap.dedent(
            """\
            ecg_id: exam_id
            participant_id: patient
            recorded_at: when
            signal:
              columns: {avr: w_avr, I: w_1, II: w_2, V1: a, V2: b, V3: c, V4: d, V5: e, V6: f}
              unit: counts
              uv_per_count: gain
              sampling_rate_hz: rate
            measurements: {r_avl_uv: ravl}
            """
        )
    )
    layout = load_layout(STORAGE, f"{tmp_path}/layout.yaml")
    assert layout.signal.lead_names == ("aVR", "I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
    assert layout.needed_columns == ("exam_id", "gain", "rate", "w_avr", "w_1", "w_2", "a", "b", "c", "d", "e", "f")
    assert layout.optional_columns == ("patient", "when", "ravl")


def _with_signal(**changes: Any) -> dict[str, Any]:
    return {"ecg_id": "id", "signal": _signal(**changes)}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"signal": _signal()}, "line 1: ecg_id is missing"),
        ({"ecg_id": "id"}, "line 1: signal is missing"),
        (None, "holds NoneType, expected `name: value` lines"),
        ([1], "holds list, expected `name: value` lines"),
        ({**_with_signal(), "ecg-id": "x"}, "ecg-id is no setting; expected some of ecg_id, participant_id"),
        (_with_signal(gain=3), r"signal\.gain is no setting; expected some of column, columns"),
        (_with_signal(unit=None), r"signal\.unit is missing"),
        (_with_signal(unit="V"), r"signal\.unit is 'V': Input should be 'mV', 'uV' or 'counts'"),
        (_with_signal(sampling_rate_hz=None), r"sampling_rate_hz is missing"),
        (_with_signal(sampling_rate_hz=0), "greater than 0"),
        (_with_signal(sampling_rate_hz=-500), "greater than 0"),
        (_with_signal(unit="counts", uv_per_count=0), "greater than 0"),
        (_with_signal(column=None), "expected either column .all leads in one., columns"),
        (_with_signal(columns={"I": "a"}), "expected either column .all leads in one., columns"),
        (_with_signal(order=None), "column needs order .lead_major or sample_major. and leads"),
        (_with_signal(leads=None), "column needs order .lead_major or sample_major. and leads"),
        (_with_signal(order="rows"), "Input should be 'lead_major' or 'sample_major'"),
        (_with_signal(unit="counts"), "unit counts needs uv_per_count; mV and uV must not have it"),
        (_with_signal(uv_per_count=5), "unit counts needs uv_per_count; mV and uV must not"),
        (_with_signal(leads=list(EIGHT[:-1])), r"leads \['V6'\] are missing; expected I, II, V1 to"),
        (_with_signal(leads=[*EIGHT, "X"]), "'X' is not one of the twelve leads I, II, III"),
        (_with_signal(leads=[*EIGHT, "i"]), "a lead is named twice in"),
        ({**_with_signal(), "measurements": {"r_avl": "x"}}, r"\['r_avl'\] are not known; expected"),
    ],
)
def test_load_layout__says_what_is_wrong(tmp_path: Path, content: Any, match: str) -> None:
    (tmp_path / "l.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=match):
        load_layout(STORAGE, f"{tmp_path}/l.yaml")


def test_load_layout__no_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.yaml").write_text("signal: {column: [")
    with pytest.raises(UsageError, match=r"l\.yaml cannot be read as YAML: line 1"):
        load_layout(STORAGE, f"{tmp_path}/l.yaml")


def test_find_inputs__columns_that_the_layout_names_must_be_there(tmp_path: Path) -> None:
    table = _table([c.reshape(-1) for c in _counts()])
    with pytest.raises(
        UsageError, match=r"x.parquet: column person, which the layout names, is missing; correct the name"
    ):
        _read(tmp_path, table, _layout(participant_id="person"))


def test_column_problems__lead_column_with_a_space_in_its_name_is_a_missing_lead() -> None:
    columns = {lead: f"lead {lead}" for lead in LEADS_12}
    layout = _layout(_signal(column=None, order=None, leads=None, columns=columns))
    names = ["id", *columns.values()]
    for changed in (pa.null(), pa.string()):
        kinds = dict.fromkeys(names, pa.list_(pa.int16())) | {"id": pa.string(), "lead V3": changed}
        found = column_problems(pa.schema({n: k for n, k in kinds.items() if k != pa.null()}), layout)
        assert found is not None
        assert found[0] == RejectReason.MISSING_LEAD


# Shapes


def test_layout__one_column_lead_major(tmp_path: Path) -> None:
    counts = _counts(OTHER_ORDER)
    signal = _signal(leads=list(OTHER_ORDER), unit="counts", uv_per_count=5)
    rows = _ecgs(tmp_path, _table([c.reshape(-1) for c in counts]), _layout(signal))
    assert [row.ecg_id for row in rows] == ecg_ids(N)
    assert [row.uv_per_count for row in rows] == [5.0] * N
    np.testing.assert_array_equal([row.counts for row in rows], ecg_counts(N))


def test_layout__one_column_sample_major(tmp_path: Path) -> None:
    counts = _counts(OTHER_ORDER)
    signal = _signal(leads=list(OTHER_ORDER), unit="counts", uv_per_count=5, order="sample_major")
    rows = _ecgs(tmp_path, _table([c.T.reshape(-1) for c in counts]), _layout(signal))
    np.testing.assert_array_equal([row.counts for row in rows], ecg_counts(N))


def test_layout__nested_lists(tmp_path: Path) -> None:
    counts = _counts()
    signal = _signal(unit="counts", uv_per_count=5)
    by_lead = _ecgs(tmp_path, _table([c.tolist() for c in counts]), _layout(signal))
    signal = _signal(unit="counts", uv_per_count=5, order="sample_major")
    by_sample = _ecgs(tmp_path, _table([c.T.tolist() for c in counts]), _layout(signal))
    for rows in (by_lead, by_sample):
        np.testing.assert_array_equal([row.counts for row in rows], counts)


def test_layout__nested_fixed_size_lists(tmp_path: Path) -> None:
    counts = _counts()
    inner = pa.FixedSizeListArray.from_arrays(pa.array(counts.reshape(-1)), 5000)
    column = pa.FixedSizeListArray.from_arrays(inner, 12)
    table = pa.table({"id": ecg_ids(N), "signal": column})
    rows = _ecgs(tmp_path, table, _layout(_signal(unit="counts", uv_per_count=5)))
    np.testing.assert_array_equal([row.counts for row in rows], counts)


def test_layout__one_column_per_lead_in_any_order(tmp_path: Path) -> None:
    counts = _counts(OTHER_ORDER)
    columns = {lead: f"wave {k}" for k, lead in enumerate(OTHER_ORDER)}
    table = pa.table({"id": ecg_ids(N)} | {f"wave {k}": list(counts[:, k]) for k in range(len(OTHER_ORDER))})
    signal = _signal(column=None, order=None, leads=None, columns=columns, unit="counts", uv_per_count=5)
    rows = _ecgs(tmp_path, table, _layout(signal))
    np.testing.assert_array_equal([row.counts for row in rows], ecg_counts(N))


# Units


@pytest.mark.parametrize("scale", [4.88, 1.0, 2.5, 0.7])
def test_layout__integers_stay_the_integers_they_were(tmp_path: Path, scale: float) -> None:
    counts = _counts()
    signal = _signal(unit="counts", uv_per_count=scale)
    rows = _ecgs(tmp_path, _table([c.reshape(-1) for c in counts]), _layout(signal))
    np.testing.assert_array_equal([row.counts for row in rows], counts)
    assert [row.uv_per_count for row in rows] == [float(np.float32(scale))] * N


def test_layout__scale_of_each_row(tmp_path: Path) -> None:
    counts = _counts()
    table = _table([c.reshape(-1) for c in counts], gain=[5.0, 4.88, 2.5])
    rows = _ecgs(tmp_path, table, _layout(_signal(unit="counts", uv_per_count="gain")))
    np.testing.assert_allclose([r.uv_per_count for r in rows], [5, 4.88, 2.5], rtol=1e-7, atol=0)
    np.testing.assert_array_equal([row.counts for row in rows], counts)


def test_layout__scale_that_is_no_scale_is_a_reject(tmp_path: Path) -> None:
    cells = [ecg_counts(1)[0].reshape(-1)] * 4
    table = _table(cells, gain=[5.0, None, 0.0, -5.0])
    layout = _layout(_signal(unit="counts", uv_per_count="gain"))
    assert _reasons(tmp_path, table, layout) == [None, *["unknown_unit"] * 3]


@pytest.mark.parametrize(("unit", "uv"), [("mV", 1000.0), ("uV", 1.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layout__floats_agree_within_half_a_step_of_a_sixteenth(
    tmp_path: Path, unit: str, uv: float, dtype: Any
) -> None:
    expected_uv = _counts() * 4.88
    cells = [(e / uv).astype(dtype).reshape(-1) for e in expected_uv]
    for row, uv_of_ecg in zip(_ecgs(tmp_path, _table(cells), _layout(_signal(unit=unit))), expected_uv, strict=True):
        largest_uv = np.abs(uv_of_ecg).max()
        assert row.uv_per_count <= max(1 / 16, largest_uv / 16383)
        # Half a step, and what float32 cannot hold of 3000 uV.
        assert np.abs(_uv(row) - uv_of_ecg).max() <= row.uv_per_count / 2 + 5e-4


def test_layout__microvolts_in_whole_numbers(tmp_path: Path) -> None:
    counts = _counts()
    rows = _ecgs(tmp_path, _table([(c * 5).reshape(-1) for c in counts]), _layout())
    for row, ecg in zip(rows, counts, strict=True):
        np.testing.assert_array_equal(_uv(row), ecg * 5.0)


# Rates and leads


def test_layout__eight_leads_and_the_four_derived(tmp_path: Path) -> None:
    counts = _counts(EIGHT)
    signal = _signal(leads=list(EIGHT), unit="counts", uv_per_count=5)
    rows = _ecgs(tmp_path, _table([c.reshape(-1) for c in counts]), _layout(signal))
    for row, ecg in zip(rows, counts, strict=True):
        leads = dict(zip(LEADS_12, _uv(row), strict=True))
        i, ii = ecg[0] * 5.0, ecg[1] * 5.0
        for k, lead in enumerate(EIGHT):
            np.testing.assert_array_equal(leads[lead], ecg[k] * 5.0)
        np.testing.assert_array_equal(leads["III"], ii - i)
        np.testing.assert_array_equal(leads["aVR"], -(i + ii) / 2)
        np.testing.assert_array_equal(leads["aVL"], i - ii / 2)
        np.testing.assert_array_equal(leads["aVF"], ii - i / 2)
        assert row.quality_flags == ("leads_derived",)


def test_layout__given_limb_leads_are_not_derived_again(tmp_path: Path) -> None:
    leads = (*EIGHT, "aVR")
    counts = _counts(leads)
    counts[:, -1] += 3  # a device's own rounding
    signal = _signal(leads=list(leads), unit="counts", uv_per_count=5)
    for row, ecg in zip(_ecgs(tmp_path, _table([c.reshape(-1) for c in counts]), _layout(signal)), counts, strict=True):
        np.testing.assert_array_equal(_uv(row)[3], ecg[-1] * 5.0)


def test_layout__250_hz_keeps_a_tone(tmp_path: Path) -> None:
    time_s = np.arange(2500) / 250
    tone_uv = 1000 * np.sin(2 * np.pi * 10 * time_s)
    # Amplitudes differ, as the leads of an ECG do.
    cells = [np.outer(1 + np.arange(12) / 10, tone_uv).reshape(-1)]
    (row,) = _ecgs(tmp_path, _table(cells), _layout(_signal(sampling_rate_hz=250)))
    expected_uv = 1000 * np.sin(2 * np.pi * 10 * np.arange(5000) / 500)
    inside = slice(250, -250)
    np.testing.assert_allclose(_uv(row)[0, inside], expected_uv[inside], rtol=0, atol=5.0)
    np.testing.assert_allclose(_uv(row)[11, inside], 2.1 * expected_uv[inside], rtol=0, atol=10.0)
    assert row.quality_flags == ("resampled",)
    assert row.source_sampling_rate_hz == 250


def test_layout__rate_of_each_row(tmp_path: Path) -> None:
    full = ecg_counts(1)[0].astype(np.float64) * 5
    cells = [full.reshape(-1), full[:, ::2].reshape(-1), full.reshape(-1), full.reshape(-1)]
    table = _table(cells, rate=[500.0, 250.0, None, 333.3])
    layout = _layout(_signal(sampling_rate_hz="rate"))
    assert _reasons(tmp_path, table, layout) == [None, None, *["unsupported_rate"] * 2]


# Rows that cannot be used


def test_layout__damaged_cells_are_rejects_and_the_others_are_read(tmp_path: Path) -> None:
    good = (ecg_counts(1)[0] * 5.0).reshape(-1)
    holed = good.copy()
    holed[77] = np.nan
    cells = [good, None, [], good[:-1], good[: 12 * 4000], holed, good]
    assert _reasons(tmp_path, _table(cells), _layout()) == [
        None,
        "missing_lead",
        "missing_lead",
        "truncated",
        "too_short",
        "non_finite",
        None,
    ]


def test_layout__null_sample_is_a_reject(tmp_path: Path) -> None:
    counts = ecg_counts(1)[0].reshape(-1).tolist()
    holed = [*counts]
    holed[9] = None
    layout = _layout(_signal(unit="counts", uv_per_count=5))
    assert _reasons(tmp_path, _table([counts, holed]), layout) == [None, "non_finite"]


def test_layout__null_sample_is_interpolated_when_asked_for(tmp_path: Path) -> None:
    counts = ecg_counts(1)[0]
    holed = counts.reshape(-1).tolist()
    holed[9] = None
    layout = _layout(_signal(unit="counts", uv_per_count=5))
    (row,) = _read(tmp_path, _table([holed]), layout, interpolate_missing_samples=1)
    assert isinstance(row, EcgRow)
    assert row.quality_flags == ("interpolated",)
    assert abs(int(row.counts[0, 9]) - (int(counts[0, 8]) + int(counts[0, 10])) / 2) <= 0.5


def test_layout__leads_of_different_lengths_are_a_reject(tmp_path: Path) -> None:
    counts = ecg_counts(1)[0]
    table = pa.table({"id": ["a"]} | {lead: [counts[k][: 5000 - (k == 4)]] for k, lead in enumerate(LEADS_12)})
    columns = {lead: lead for lead in LEADS_12}
    signal = _signal(column=None, order=None, leads=None, columns=columns)
    (reject,) = _read(tmp_path, table, _layout(signal))
    assert isinstance(reject, Reject)
    assert reject.reason == "truncated"
    assert "'aVL': 4999" in (reject.detail or "")


def test_layout__null_id_is_a_reject_with_its_row(tmp_path: Path) -> None:
    good = (ecg_counts(1)[0] * 5.0).reshape(-1)
    table = pa.table({"id": ["a", None, ""], "signal": [good] * 3})
    rows = _read(tmp_path, table, _layout())
    assert [(r.row, r.reason) for r in rows if isinstance(r, Reject)] == [(1, "unreadable"), (2, "unreadable")]


# Keys and measurements


def test_layout__keys_times_and_measurements(tmp_path: Path) -> None:
    cells = [c.reshape(-1) for c in _counts()]
    table = _table(
        cells,
        patient=[11, 12, None],
        when=["2019-05-06T07:08:09", "2019-05-06", None],
        ravl=[1250.0, -5.0, None],
        sv3=[-900.0, 800.0, None],
        by=["12SL", None, ""],
    )
    layout = _layout(
        _signal(unit="counts", uv_per_count=5),
        participant_id="patient",
        recorded_at="when",
        measurements={"r_avl_uv": "ravl", "s_v3_uv": "sv3", "measured_by": "by"},
    )
    rows = _ecgs(tmp_path, table, layout)
    assert [row.participant_id for row in rows] == ["11", "12", None]
    assert [row.recorded_at for row in rows] == [dt.datetime(2019, 5, 6, 7, 8, 9), dt.datetime(2019, 5, 6), None]
    assert [row.measured_by for row in rows] == ["12SL", None, None]
    # r_avl, s_v1, s_v3: a negative R is no measurement, a negative S is a magnitude.
    nan = np.nan
    np.testing.assert_array_equal(
        [row.amplitudes[:3] for row in rows], [[1250.0, nan, 900.0], [nan, nan, 800.0], [nan, nan, nan]]
    )


def test_layout__unreadable_time_is_a_reject(tmp_path: Path) -> None:
    table = _table([ecg_counts(1)[0].reshape(-1)], when=["06.05.2019"])
    layout = _layout(_signal(unit="counts", uv_per_count=5), recorded_at="when")
    (reject,) = _read(tmp_path, table, layout)
    assert isinstance(reject, Reject)
    assert (reject.reason, reject.ecg_id) == ("unreadable", "e0000")
    assert "recorded_at is written as 99.99.9999, expected YYYY-MM-DD" in (reject.detail or "")


@pytest.mark.parametrize(
    "column",
    [
        pa.array([dt.datetime(2019, 5, 6, 7, 8, 9)], pa.timestamp("ns")),
        pa.array([dt.datetime(2019, 5, 6, 5, 8, 9)], pa.timestamp("us", tz="Europe/Berlin")),
    ],
)
def test_layout__time_is_local_and_its_zone_is_dropped(tmp_path: Path, column: pa.Array) -> None:
    table = _table([ecg_counts(1)[0].reshape(-1)], when=column)
    layout = _layout(_signal(unit="counts", uv_per_count=5), recorded_at="when")
    (row,) = _ecgs(tmp_path, table, layout)
    assert row.recorded_at == dt.datetime(2019, 5, 6, 7, 8, 9)
    assert row.recorded_at.tzinfo is None


# Layouts of arrays


ARRAY = {"array": "x", "column": None}


def test_layout__of_arrays_needs_no_key_and_its_plan_names_the_array() -> None:
    layout = Layout.model_validate({"signal": _signal(**ARRAY)})
    assert (layout.is_of_arrays, layout.ecg_id, layout.needed_columns) == (True, None, ("x",))
    assert Layout.model_validate(layout.to_plan()) == layout


def test_layout__plan_of_parquet_is_that_of_earlier_versions() -> None:
    assert not _layout().is_of_arrays
    assert set(_layout().to_plan()["signal"]) == {
        "column",
        "columns",
        "order",
        "leads",
        "unit",
        "uv_per_count",
        "sampling_rate_hz",
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"signal": _signal()}, "ecg_id is missing; expected the column of the recording's key"),
        (
            {"signal": _signal(**ARRAY), "participant_id": "p"},
            "participant_id, recorded_at and measurements need ecg_id",
        ),
        ({"signal": _signal(**ARRAY, order=None)}, "array needs order"),
        ({"signal": _signal(array="x")}, "expected either column"),
    ],
)
def test_layout__of_arrays_is_refused_where_it_says_too_little(content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Layout.model_validate(content)
