from __future__ import annotations

import pytest

from lvm_core.errors import UsageError
from lvm_core.tables import read_cmr_table
from tests.lvm_core.tables.people_cases import CMR_CASES, CmrCase, ListCase


def _name(case: ListCase | CmrCase) -> str:
    return case.name


@pytest.mark.parametrize("case", CMR_CASES, ids=_name)
def test_read_cmr_table__means_what_was_worked_out_by_hand(case: CmrCase) -> None:
    if case.refused is None:
        rows = read_cmr_table(case.data, case.name).table.to_pylist()
        seen = [
            (r["participant_id"], None if r["cmr_date"] is None else str(r["cmr_date"]), r["lvm_cmr_g"]) for r in rows
        ]
        assert tuple(seen) == case.rows
    else:
        with pytest.raises(UsageError) as refusal:
            read_cmr_table(case.data, case.name)
        assert case.refused in str(refusal.value)


def test_read_cmr_table__own_names_and_dates() -> None:
    data = b"eid,scan,mass\n1,31.01.2015,90\n"
    columns = {"participant_id": "eid", "cmr_date": "scan", "lvm_cmr_g": "mass"}
    read = read_cmr_table(data, "c.csv", columns=columns, date_format="%d.%m.%Y")
    assert str(read.table["cmr_date"][0]) == "2015-01-31"
    with pytest.raises(UsageError, match="expected when among them"):
        read_cmr_table(b"participant_id,lvm_cmr_g\n1,9\n", "c.csv", columns={"cmr_date": "when"})


def test_read_cmr_table__rows_without_a_mass_are_counted() -> None:
    read = read_cmr_table(b"participant_id,lvm_cmr_g\n1,\n1,\n2,90\n", "c.csv")
    assert (read.n_without_mass, read.table.num_rows) == (2, 1)
    assert "2 rows without lvm_cmr_g were left out" in read.notes[0]
