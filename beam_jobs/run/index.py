"""The index of an archive in a run: read once, and what it gives to the participants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.reading import archives
from beam_jobs.reading.index import RecordIndex
from beam_jobs.reading.storage import Storage
from beam_jobs.run.commit import rows_sha256
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.progress import say
from beam_jobs.run.settings import InputSettings
from lvm_core.errors import UsageError
from lvm_core.formats.statements import rhythm_codes
from lvm_core.pseudonyms import Pseudonyms
from lvm_core.tables import (
    INDEX_PRESETS,
    Index,
    IndexLayout,
    ParticipantTable,
    index_layout_of_file,
    read_index,
    schemas,
)
from lvm_core.tables.participants import AGE_STALE_DAYS
from lvm_core.tables.people import MADE_BY_PLANNER

_PEOPLE: Final = ("birth_date", "age_years", "sex", "bmi_kg_m2", "height_cm", "weight_kg")


def index_of(settings: InputSettings) -> Index | None:
    """Read the index that the options name; None where they name none."""
    if not settings.index:
        if settings.index_layout is not None:
            raise UsageError("--index-layout is given without --index")
        return None
    layout = load_index_layout(settings.storage, settings.index_layout)
    index = load_index(settings.storage, settings.index, layout)
    if index.paths is not None and settings.id_rule.pattern is not None:
        raise UsageError(
            "--id-pattern is given, and the index says which record is in which file; leave out one of the two"
        )
    for note in index.notes:
        say(f"note: {note}")
    return index


def load_index_layout(storage: Storage, given: str | None) -> IndexLayout:
    """Return the layout that --index-layout names: a preset or a file; ours for None."""
    if given is None:
        return IndexLayout()
    if given in INDEX_PRESETS:
        return IndexLayout.model_validate({"preset": given})
    if not storage.is_file(given):
        raise UsageError(
            f"--index-layout {given} is neither a file nor a preset; expected a YAML file or one of "
            f"{', '.join(INDEX_PRESETS)} (docs/archives.md)"
        )
    return index_layout_of_file(storage.read_bytes(given, expected="a YAML file"), given)


def load_index(storage: Storage, uris: Sequence[str], layout: IndexLayout) -> Index:
    """Read an index: a table that lists records, and further ones that are added by its key."""
    tables = []
    for uri in uris:
        data = storage.read_bytes(uri, expected="a table (CSV or Parquet) that lists records")
        packed = archives.is_single_packed(uri)
        tables.append((archives.without_packing(uri), archives.unpack_single(uri, data) if packed else data))
    index = read_index(tables, layout, rhythm_codes)
    pa.default_memory_pool().release_unused()  # the listing of millions of files comes next
    if not index.n_rows:
        raise UsageError(f"{index.name} lists no record; expected a row a record")
    return index


def index_sha256(index: Index | None) -> str | None:
    """Return a digest of what an index says, in the order of its rows; None without one."""
    if index is None:
        return None
    paths = pa.nulls(index.n_rows, pa.string()) if index.paths is None else index.paths
    table, place = index.table, index.table.schema.get_field_index("birth_date")
    table = table.set_column(place, "birth_date", table["birth_date"].cast(pa.int32()))
    return rows_sha256(table.append_column("path", paths))


def ecg_ids_in(index: Index, exclusions: Exclusions, pseudonyms: Pseudonyms | None) -> frozenset[str]:
    """Return the records of excluded people, by the keys that the run uses."""
    if not exclusions:
        return frozenset()
    names = pc.unique(index.table["participant_id"]).drop_null().to_pylist()
    makes = (lambda name: name,) if pseudonyms is None else (lambda name: name, pseudonyms.person)
    gone = [name for name in names if any(exclusions.has(make(name)) for make in makes)]
    ids = index.table["ecg_id"].filter(pc.is_in(index.table["participant_id"], value_set=pa.array(gone, pa.string())))
    return frozenset(one if pseudonyms is None else pseudonyms.ecg(one) for one in ids.drop_null().to_pylist())


def record_index(found: pa.Table, pseudonyms: Pseudonyms | None) -> RecordIndex:
    """Return what workers look up, of the rows of an index that were found."""
    if pseudonyms is not None:
        for name, make in (("ecg_id", pseudonyms.ecg), ("participant_id", pseudonyms.person)):
            made = [None if key is None else make(key) for key in found[name].to_pylist()]
            found = found.set_column(found.schema.get_field_index(name), name, pa.array(made, pa.string()))
    return RecordIndex.of(found.cast(schemas.INDEX.arrow))


def knows_people(index: RecordIndex) -> bool:
    """Return whether an index knows age, sex or body size of anybody."""
    return any(index.table[name].null_count < len(index) for name in _PEOPLE)


def with_index(people: ParticipantTable | None, index: RecordIndex) -> ParticipantTable:
    """Return the participant table with the records of an index added, a row each.

    What the table knows of a record or its person wins; the index fills what it does not know: the
    age at the recording, say, beside the body size of the person. An age of the person beside
    records that lie over a year apart is marked as not that of the recording, by the dates of the
    index here, and where the table has it marked already.
    """
    table = index.table
    own = {name: table[name].combine_chunks() for name in ("ecg_id", "participant_id", *_PEOPLE)}
    own["birth_day_assumed"] = pc.fill_null(table["birth_day_assumed"].combine_chunks(), False)
    stale = pa.array(np.zeros(len(table), dtype=np.bool_))
    if people is not None:
        rows = people.rows_of(own["ecg_id"].to_pylist(), own["participant_id"].to_pylist())
        its = people.arrow.take(pa.array(rows, mask=rows < 0))
        is_persons = pa.array((rows >= 0) & np.asarray(pc.is_null(its["ecg_id"])))
        is_marked = pc.fill_null(its[MADE_BY_PLANNER], False)
        is_apart = pc.or_(is_marked, _far_apart(table))
        stale = pc.and_(pc.and_(is_persons, pc.is_valid(its["age_years"])), is_apart)
        # A birth of the one and a day that is assumed by the other do not go together.
        has_birth = pc.is_valid(its["birth_date"])
        assumed = pc.if_else(has_birth, pc.fill_null(its["birth_day_assumed"], False), own["birth_day_assumed"])
        own |= {name: pc.coalesce(its[name], own[name]) for name in _PEOPLE}
        # An age that is given for a person or a record is not replaced by a birth of the index.
        keeps_age = pc.and_(pc.is_valid(its["age_years"]), pc.invert(has_birth))
        own["birth_date"] = pc.if_else(keeps_age, pa.scalar(None, pa.date32()), own["birth_date"])
        own["participant_id"] = pc.coalesce(own["participant_id"], its["participant_id"])
        own["birth_day_assumed"] = assumed
    made = pa.table({**own, MADE_BY_PLANNER: stale}).select(schemas.PARTICIPANTS.names).cast(schemas.PARTICIPANTS.arrow)
    if people is None:
        return ParticipantTable(made)
    is_new = pc.invert(pc.fill_null(pc.is_in(people.arrow["ecg_id"], value_set=own["ecg_id"]), False))
    return ParticipantTable(pa.concat_tables([made, people.arrow.filter(is_new)]).combine_chunks())


def _far_apart(table: pa.Table) -> pa.Array:
    """Return for each record whether records of its person lie over a year apart."""
    known = table.select(["participant_id", "recorded_at"]).filter(pc.is_valid(table["recorded_at"]))
    spans = known.group_by("participant_id").aggregate([("recorded_at", "min_max")])
    span = spans["recorded_at_min_max"].combine_chunks()
    days = pc.days_between(span.field("min"), span.field("max"))
    far = pc.filter(spans["participant_id"].combine_chunks(), pc.greater(days, AGE_STALE_DAYS))
    return pc.fill_null(pc.is_in(table["participant_id"].combine_chunks(), value_set=far, skip_nulls=True), False)
