"""The plan: as it is stored, which settings it refuses, which inputs it takes on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.reading.units import Piece, cut_units, path_digest
from beam_jobs.run.plan import Plan, new_pieces, refuse_other_settings
from lvm_core.errors import LvmError, UsageError

SETTINGS: dict[str, Any] = {"model": "demo", "batch": 64, "layout": None, "bsa": "dubois", "participants": "ab" * 32}


def _piece(path: str, **changes: Any) -> Piece:
    return replace(Piece(0, path, path_digest(0, path), 100, ecg_id=path), **changes)


def _plan(*pieces: Piece, kind: str = "score", **settings: Any) -> Plan:
    plan = Plan(kind, {**SETTINGS, **settings}, (), {"by name": 3}, {"median_uv": 1040.5})
    units = cut_units(pieces, unit_ecgs=2, first_number=0, settings_sha256=plan.settings_sha256)
    return plan.with_units(list(units))


ABC = tuple(_piece(f"{name}.xml") for name in "abc")


# Storing


def test_plan__survives_its_bytes() -> None:
    plan = _plan(*ABC, _piece("d.xml", duplicate_rows=(0,)).redacted())
    again = Plan.from_bytes(plan.to_bytes())
    assert again == plan
    assert again.fingerprint == plan.fingerprint
    assert again.to_bytes() == plan.to_bytes()


def test_plan__bytes_hold_no_time_host_or_absolute_path() -> None:
    content = json.loads(_plan(*ABC).to_bytes())
    assert sorted(content) == [
        "ignored",
        "kind",
        "lvm_ai_plan",
        "people",
        "results_version",
        "scale",
        "settings",
        "units",
    ]


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"lvm_ai_plan": 1, "results_version": 5}', b"null"]
)
def test_plan__damaged_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(LvmError, match=r"plan\.json is damaged .*start again with --overwrite"):
        Plan.from_bytes(data)


@pytest.mark.parametrize("name", ["lvm_ai_plan", "results_version"])
def test_plan__of_another_version_is_refused(name: str) -> None:
    content = json.loads(_plan(*ABC).to_bytes())
    content[name] += 1
    with pytest.raises(UsageError, match=r"written by another version .*Use that version for"):
        Plan.from_bytes(json.dumps(content).encode())


# Fingerprints and shards


@pytest.mark.parametrize("name", SETTINGS)
def test_plan__fingerprint_depends_on_every_setting(name: str) -> None:
    other = _plan(*ABC, **{name: "another value"})
    assert other.settings_sha256 != _plan(*ABC).settings_sha256
    assert {u.name for u in other.units}.isdisjoint(u.name for u in _plan(*ABC).units)


def test_plan__fingerprint_depends_on_the_kind() -> None:
    assert _plan(*ABC, kind="ingest").fingerprint != _plan(*ABC).fingerprint


def test_plan__fingerprint_does_not_depend_on_what_is_only_recorded() -> None:
    plan = _plan(*ABC)
    assert replace(plan, ignored={"by name": 99}, scale={}).fingerprint == plan.fingerprint


@given(n_units=st.integers(0, 20), count=st.integers(1, 8))
def test_shard_units__every_unit_is_in_one_shard(n_units: int, count: int) -> None:
    plan = _plan(*[_piece(f"{i:02d}", n_ecgs=2) for i in range(n_units)])
    shards = [[u.number for u in plan.shard_units(i, count)] for i in range(1, count + 1)]
    assert sorted(number for shard in shards for number in shard) == list(range(n_units))
    assert shards[0] == list(range(0, n_units, count))


def test_plan__counts_an_unknown_number_as_one() -> None:
    assert _plan(_piece("a", n_ecgs=7), _piece("x.zip", n_ecgs=None)).n_ecgs == 8


# Going on with a run


def test_refuse_other_settings__same_settings_pass() -> None:
    plan = Plan.from_bytes(_plan(*ABC).to_bytes())
    refuse_other_settings(plan, "score", SETTINGS)


def test_refuse_other_settings__names_each_difference() -> None:
    with pytest.raises(
        UsageError, match=r'other settings: batch: was 64, is 32; layout: was null, is "x"\. Use the same'
    ):
        refuse_other_settings(_plan(*ABC), "score", {**SETTINGS, "batch": 32, "layout": "x"})


def test_refuse_other_settings__setting_of_another_version_is_named() -> None:
    with pytest.raises(UsageError, match="new_option: was null, is true"):
        refuse_other_settings(_plan(*ABC), "score", {**SETTINGS, "new_option": True})


def test_refuse_other_settings__long_values_are_cut() -> None:
    with pytest.raises(UsageError) as refusal:
        refuse_other_settings(_plan(*ABC), "score", {**SETTINGS, "layout": "x" * 5000})
    assert len(str(refusal.value)) < 500


def test_refuse_other_settings__other_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="holds a run of score, not of ingest"):
        refuse_other_settings(_plan(*ABC), "ingest", SETTINGS)


def test_new_pieces__nothing_new() -> None:
    assert new_pieces(_plan(*ABC), ABC) == []


def test_new_pieces__added_inputs_come_in_order() -> None:
    added = [_piece("0.xml"), _piece("z.xml")]
    assert new_pieces(_plan(*ABC), [added[0], *ABC, added[1]]) == added


def test_new_pieces__further_spans_of_a_known_file_are_not_new() -> None:
    span = _piece("a.parquet", content_sha256="ab", row_group_stop=1, n_ecgs=2)
    spans = [span, replace(span, row_group_start=1, row_group_stop=2, first_row=2)]
    assert new_pieces(_plan(*spans), spans) == []


@pytest.mark.parametrize("change", [{"size": 101}, {"content_sha256": "cd"}])
def test_new_pieces__changed_input_is_named(change: dict[str, Any]) -> None:
    now = [ABC[0], replace(ABC[1], **change), ABC[2]]
    with pytest.raises(UsageError, match=r"1 input has changed: b\.xml\. Put them back to resume"):
        new_pieces(_plan(*ABC), now)


def test_new_pieces__input_that_is_gone_is_named() -> None:
    with pytest.raises(UsageError, match=r"2 inputs are gone: a\.xml, c\.xml\."):
        new_pieces(_plan(*ABC), [ABC[1]])


def test_new_pieces__changed_and_gone_are_both_named() -> None:
    with pytest.raises(UsageError, match=r"1 input has changed: a\.xml; 1 input is gone: b\.xml"):
        new_pieces(_plan(*ABC), [replace(ABC[0], size=1), ABC[2]])


def test_new_pieces__many_names_are_cut_after_five() -> None:
    pieces = [_piece(f"{i}.xml") for i in range(8)]
    expected = re.escape("8 inputs are gone: 0.xml, 1.xml, 2.xml, 3.xml, 4.xml, ....")
    with pytest.raises(UsageError, match=expected):
        new_pieces(_plan(*pieces), [])


def test_new_pieces__withdrawn_persons_file_may_stay_change_or_go() -> None:
    plan = _plan(ABC[0], ABC[1].redacted(), ABC[2])
    changed = replace(ABC[1], size=1)
    for now in (ABC, (ABC[0], changed, ABC[2]), (ABC[0], ABC[2])):
        assert new_pieces(plan, now) == []
