"""What reaches workers: units by their place in plan.json, settings, people to leave out."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.reading.storage import Storage
from beam_jobs.reading.units import Piece, Unit, cut_units, path_digest
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.folder import RunFolder
from beam_jobs.run.order import WorkOrder, places_in, write_exclusions, written_exclusions
from beam_jobs.run.plan import Plan, UnitPlace, head_of, places_of, plan_of_head
from lvm_core.errors import LvmError
from lvm_core.pseudonyms import Pseudonyms

# Texts as they may stand in names of files: with what separates units in plan.json, too.
TEXTS = st.text(st.sampled_from('ab",\n{}[]:ü '), max_size=12)


def plan_of(paths: Sequence[str], **settings: object) -> Plan:
    plan = Plan("score", {"model": "demo", **settings}, ())
    pieces = [Piece(0, path, path_digest(0, path), 1, ecg_id=path) for path in paths]
    units = cut_units(pieces, unit_ecgs=2, first_number=0, settings_sha256=plan.settings_sha256)
    return plan.with_units(list(units))


def order_of(folder: RunFolder, plan: Plan, head_bytes: int, exclusions: str = "") -> WorkOrder:
    return WorkOrder(folder, "launch", plan.settings_sha256, head_bytes, ("/in",), exclusions)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(Storage(), str(tmp_path))


def write(folder: RunFolder, data: bytes) -> None:
    folder.storage.write_atomic(folder.path("plan.json"), data)


@given(st.lists(TEXTS, max_size=9, unique=True), TEXTS)
def test_places__lead_to_every_unit_whatever_its_texts_hold(paths: list[str], model: str) -> None:
    plan = plan_of(paths, note=model)
    data = plan.to_bytes()
    assert Plan.from_bytes(data) == plan
    assert plan_of_head(head_of(data)) == plan.with_units([])
    places = places_of(data, plan.units)
    assert [place.unit_of(data[place.start : place.stop]) for place in places] == list(plan.units)


def test_order__travels_without_paths_of_ecgs_or_people(folder: RunFolder) -> None:
    plan = plan_of(["SECRETPERSON1/a.xml", "SECRETPERSON2/b.xml", "c.xml"])
    write(folder, plan.to_bytes())
    name = write_exclusions(folder, Exclusions(frozenset({"SECRETPERSON1"})))
    head_bytes, places = places_in(folder, plan.units)
    travels = pickle.dumps([order_of(folder, plan, head_bytes, name), places])
    assert b"SECRETPERSON" not in travels
    assert len(pickle.dumps(places[0])) < 300  # also where a unit names 1,024 files


def test_order__reads_settings_and_units_by_their_place_alone(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(["a", "b", "c", "d", "e"])
    write(folder, plan.to_bytes())
    head_bytes, places = places_in(folder, plan.units)
    monkeypatch.setattr(RunFolder, "require_plan", lambda _: pytest.fail("the whole plan was read"))
    order = order_of(folder, plan, head_bytes)
    assert order.settings() == plan.settings
    assert [order.unit(place) for place in places] == list(plan.units)


@pytest.mark.parametrize("change", ["other length", "redacted", "earlier version"])
def test_order__finds_units_in_a_plan_that_was_written_again(change: str, folder: RunFolder) -> None:
    plan = plan_of(["a/1.xml", "b/2.xml", "c/3.xml", "d/4.xml"])
    write(folder, plan.to_bytes())
    head_bytes, places = places_in(folder, plan.units)
    now = plan
    if change == "other length":
        now = replace(plan, people={"n": 1000})
    elif change == "redacted":
        first = plan.units[0]
        now = plan.with_units([replace(first, pieces=tuple(p.redacted() for p in first.pieces)), *plan.units[1:]])
    data = json.dumps(json.loads(now.to_bytes()), indent=1) if change == "earlier version" else now.to_bytes().decode()
    write(folder, data.encode())
    order = order_of(folder, plan, head_bytes)
    assert order.settings() == plan.settings
    assert [order.unit(place) for place in places] == list(now.units)


def test_order__of_another_run_is_refused(folder: RunFolder) -> None:
    plan = plan_of(["a"])
    write(folder, plan.to_bytes())
    head_bytes, places = places_in(folder, plan.units)
    order = order_of(folder, plan, head_bytes)
    write(folder, plan_of(["a"], batch=3).to_bytes())
    with pytest.raises(LvmError, match="was replaced by the plan of another run"):
        order.settings()
    with pytest.raises(LvmError, match=r"unit 0 is not in plan\.json any more"):
        order.unit(places[0])


def test_order__a_worker_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    elsewhere = RunFolder(Storage(), str(tmp_path / "not-mounted"))
    with pytest.raises(LvmError, match=r"the worker on \S+ does not see .*not-mounted/plan.json: workers must reach"):
        order_of(elsewhere, plan_of([]), 0).settings()
    assert not (tmp_path / "not-mounted").exists()


# People to leave out

IDENTIFIERS = st.text(st.sampled_from("aB12-_/. "), min_size=1, max_size=9)


@given(st.frozensets(IDENTIFIERS, max_size=4), IDENTIFIERS, IDENTIFIERS, st.data())
def test_exclusions__as_digests_hit_the_same(ids: frozenset[str], before: str, after: str, data: st.DataObject) -> None:
    middle = data.draw(st.sampled_from(sorted(ids)) if ids else IDENTIFIERS)
    person = data.draw(st.one_of(st.none(), IDENTIFIERS, st.just(middle)))
    listed = Exclusions(ids)
    digests = Exclusions.from_json(json.loads(json.dumps(listed.to_json())))
    for text in (middle, before + middle + after, f"{before}/{middle}"):
        assert digests.hits(text, person) == listed.hits(text, person)
        assert digests.hits_path(text) == listed.hits_path(text)
    assert digests.to_json() == listed.to_json()


def test_exclusions__the_lists_of_all_shards_are_found_in_the_folder(folder: RunFolder) -> None:
    lists = [frozenset({"1000001"}), frozenset({"P-00002"}), frozenset({"-odd-3-"})]
    names = {write_exclusions(folder, Exclusions(ids)) for ids in lists}
    assert len(names) == 3
    assert write_exclusions(folder, Exclusions()) == ""
    found = written_exclusions(folder)
    assert all(found.hits_path(f"x/{one}/y.xml") for ids in lists for one in ids)
    assert not found.hits_path("x/1000004/y.xml")
    assert order_of(folder, plan_of([]), 0, sorted(names)[0]).excluded()


def test_exclusions__of_a_run_that_was_closed_meanwhile(folder: RunFolder) -> None:
    order = order_of(folder, plan_of([]), 0, "exclusions-gone.json")
    with pytest.raises(LvmError, match="the run was closed meanwhile"):
        order.excluded()


@pytest.mark.parametrize("content", [{}, {"id_sha256": 3}, {"id_sha256": [], "by_words": {"x": []}, "by_length": {}}])
def test_exclusions__damaged_list_is_refused(content: dict[str, object], folder: RunFolder) -> None:
    folder.write_json("work/exclusions-x.json", content)
    with pytest.raises(LvmError, match=r"exclusions-x\.json in .* is damaged"):
        order_of(folder, plan_of([]), 0, "exclusions-x.json").excluded()


def test_place__is_a_plain_value() -> None:
    assert pickle.loads(pickle.dumps(UnitPlace(1, "ab", 2, 3))) == UnitPlace(1, "ab", 2, 3)
    assert UnitPlace(0, "ab").unit_of(b"") is None
    unit = Unit(0, "ab", ())
    assert UnitPlace(0, "ab").unit_of(b'{"fingerprint": "ab", "pieces": []}') == unit


@pytest.mark.parametrize(
    ("stated", "given", "said"), [(0, 1, "has the key"), (0, None, "has no key"), (None, 1, "was planned without one")]
)
def test_order__another_key_of_pseudonyms_or_none_is_refused(
    stated: int | None, given: int | None, said: str, folder: RunFolder, tmp_path: Path
) -> None:
    keys = [tmp_path / "0", tmp_path / "1"]
    for i, path in enumerate(keys):
        path.write_bytes(bytes([i]) * 32)
        path.chmod(0o600)
    planned = {} if stated is None else {"pseudonym_key_id": Pseudonyms(keys[stated].read_bytes()).key_id}
    plan = plan_of(["a"], **planned)
    order = replace(order_of(folder, plan, 0), pseudonym_key=None if given is None else str(keys[given]))
    with pytest.raises(LvmError, match=said):
        order.pseudonyms(plan.settings)
    own = replace(order, pseudonym_key=None if stated is None else str(keys[stated])).pseudonyms(plan.settings)
    assert (own is None) == (stated is None)
