"""Cutting inputs into units, their fingerprints and the sums of their summaries."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_jobs.reading.units import Piece, Unit, UnitSummary, cut_units, digest, merge_summaries, path_digest
from lvm_core.signal.scale import AmplitudeHistogram

SPAN = Piece(
    0,
    "a.parquet",
    path_digest(0, "a.parquet"),
    5000,
    content_sha256="ab" * 32,
    row_group_start=2,
    row_group_stop=4,
    first_row=128,
    n_ecgs=128,
    duplicate_rows=(130, 131),
)
RECORD = Piece(1, "p/r.hea", path_digest(1, "p/r.hea"), 90, parts=("p/r.dat",), ecg_id="p/r", participant_id="1000001")
BROKEN = Piece(0, "x.zip", path_digest(0, "x.zip"), 7, n_ecgs=None, reason="unreadable", detail="is damaged")


def _member(name: str, n: int = 1, archive: str = "x.tar.gz", root: int = 0) -> Piece:
    path = f"{archive}!{name}"
    return Piece(root, path, path_digest(root, path), 10, n_ecgs=n, ecg_id=path)


def _cut(pieces: list[Piece], unit_ecgs: int = 4, settings: str = "s", first: int = 0) -> list[Unit]:
    return list(cut_units(pieces, unit_ecgs=unit_ecgs, first_number=first, settings_sha256=settings))


def _fingerprint(*pieces: Piece, settings: str = "s") -> str:
    (unit,) = _cut(list(pieces), 10**6, settings)
    return unit.fingerprint


# Pieces


@pytest.mark.parametrize("piece", [SPAN, RECORD, BROKEN, RECORD.redacted()])
def test_piece__survives_json(piece: Piece) -> None:
    assert Piece.from_json(json.loads(json.dumps(piece.to_json()))) == piece


def test_piece__json_leaves_defaults_out() -> None:
    assert sorted(RECORD.to_json()) == sorted(
        ["root", "path", "path_sha256", "size", "parts", "ecg_id", "participant_id"]
    )


@pytest.mark.parametrize(
    ("path", "archive", "main"),
    [
        ("a/b.xml", None, "a/b.xml"),
        ("a/b.zip!c/d.xml", "a/b.zip", "c/d.xml"),
        ("b.tgz!d.xml", "b.tgz", "d.xml"),
        ("wow!.xml", None, "wow!.xml"),
        ("b.zip!c!d.xml", "b.zip", "c!d.xml"),
        ("site!1/b.zip!d.xml", "site!1/b.zip", "d.xml"),
    ],
)
def test_piece__archive_and_member_follow_from_the_path(path: str, archive: str | None, main: str) -> None:
    piece = Piece(0, path, path_digest(0, path), 1)
    assert (piece.archive, piece.main_file) == (archive, main)


def test_piece__redacted_names_nobody() -> None:
    text = json.dumps(replace(RECORD, detail="p/r is damaged").redacted().to_json())
    for trace in ("p/r", "1000001", "hea"):
        assert trace not in text


# Fingerprints


def test_digest__is_the_sha256_of_sorted_compact_json() -> None:
    expected = hashlib.sha256(b'{"a":[1,2.5,null],"b":"\\u00b5"}').hexdigest()
    assert digest({"b": "µ", "a": (1, 2.5, None)}) == expected


def test_fingerprint__depends_on_each_of_these() -> None:
    variants: list[dict[str, Any]] = [
        {"root": 1},
        {"path_sha256": "other"},
        {"size": 5001},
        {"content_sha256": "cd" * 32},
        {"row_group_start": 1},
        {"row_group_stop": 5},
        {"duplicate_rows": (130,)},
        {"reason": "unreadable"},
    ]
    found = {_fingerprint(SPAN)} | {_fingerprint(replace(SPAN, **change)) for change in variants}
    found.add(_fingerprint(SPAN, settings="other settings"))
    found.add(_fingerprint(SPAN, RECORD))
    found.add(_fingerprint(RECORD, SPAN))
    assert len(found) == len(variants) + 4


@pytest.mark.parametrize(
    "change", [{"excluded": True}, {"path": ""}, {"participant_id": None}, {"ecg_id": None}, {"detail": "x"}]
)
def test_fingerprint__does_not_depend_on_people_or_messages(change: dict[str, Any]) -> None:
    assert _fingerprint(replace(RECORD, **change)) == _fingerprint(RECORD)


def test_fingerprint__does_not_depend_on_the_units_number() -> None:
    assert _cut([SPAN], first=7)[0].fingerprint == _cut([SPAN])[0].fingerprint


def test_path_digest__differs_between_roots_and_paths() -> None:
    found = {path_digest(0, "a"), path_digest(1, "a"), path_digest(0, "b")}
    assert len(found) == 3


def test_unit__name_sorts_by_number_and_holds_the_fingerprint() -> None:
    names = [unit.name for unit in _cut([SPAN] * 12, 1)]
    assert names == sorted(names)
    fingerprint = _cut([SPAN], 1)[0].fingerprint
    assert names[11] == f"unit-000011-{fingerprint[:16]}"


# Cutting

SIZES = st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=30)


@given(sizes=SIZES, unit_ecgs=st.integers(1, 12), first=st.integers(0, 5))
def test_cut_units__keeps_every_piece_in_order(sizes: list[int | None], unit_ecgs: int, first: int) -> None:
    pieces = [Piece(0, f"{i}.xml", path_digest(0, f"{i}.xml"), 1, n_ecgs=n) for i, n in enumerate(sizes)]
    units = _cut(pieces, unit_ecgs, first=first)
    assert [piece for unit in units for piece in unit.pieces] == pieces
    assert [unit.number for unit in units] == list(range(first, first + len(units)))
    assert all(unit.pieces for unit in units)


@given(sizes=SIZES, unit_ecgs=st.integers(1, 12))
def test_cut_units__units_are_full_and_not_too_full(sizes: list[int | None], unit_ecgs: int) -> None:
    pieces = [Piece(0, f"{i}", path_digest(0, f"{i}"), 1, n_ecgs=n) for i, n in enumerate(sizes)]
    units = _cut(pieces, unit_ecgs)
    weights = [[1 if p.n_ecgs is None else p.n_ecgs for p in unit.pieces] for unit in units]
    assert [unit.n_ecgs for unit in units] == [sum(w) for w in weights]
    for mine, after in zip(weights, [*weights[1:], None], strict=False):
        # A unit holds too much only where a single piece does.
        assert sum(mine) <= unit_ecgs or max(mine) > unit_ecgs
        if sum(mine) > unit_ecgs:
            assert sum(1 for w in mine if w) == 1
        if after is not None:
            assert sum(mine) + after[0] > unit_ecgs


@given(
    archives=st.lists(st.tuples(st.sampled_from(["a.tar.gz", "b.tgz", "c.zip", ""]), st.integers(1, 7)), max_size=8),
    unit_ecgs=st.integers(1, 9),
)
def test_cut_units__compressed_tar_is_never_divided(archives: list[tuple[str, int]], unit_ecgs: int) -> None:
    pieces: list[Piece] = []
    for number, (name, n) in enumerate(archives):
        folder = f"{number}{name}"
        pieces += (
            [_member(f"{i}.xml", archive=folder) for i in range(n)]
            if name
            else [Piece(0, f"{folder}/{i}.xml", f"{folder}{i}", 1) for i in range(n)]
        )
    units = _cut(pieces, unit_ecgs)
    assert [piece for unit in units for piece in unit.pieces] == pieces
    for folder in {p.archive for p in pieces if p.archive and not p.archive.endswith(".zip")}:
        assert len([u for u in units if any(p.archive == folder for p in u.pieces)]) == 1


def test_piece__redaction_keeps_its_identity() -> None:
    for piece in (SPAN, RECORD, BROKEN):
        assert piece.redacted().identity() == piece.identity()


# Summaries


def test_merge_summaries__adds_everything_up() -> None:
    one = AmplitudeHistogram().add(np.array([900.0, 1100.0]))
    two = AmplitudeHistogram().add(np.array([2000.0]))
    total = merge_summaries(
        [
            UnitSummary(0, 10, 7, {"lead_flat": 1, "excluded": 2}, one, stage_s={"total": 1.5}),
            UnitSummary(1, 5, 4, {"lead_flat": 1}, two, stage_s={"total": 2.0}),
        ]
    )
    assert (total.n_read, total.n_done, total.n_rejected) == (15, 11, 4)
    assert total.rejected == {"excluded": 2, "lead_flat": 2}
    assert total.stage_s == {"total": 3.5}
    assert total.amplitudes.n == 3


def test_merge_summaries__of_nothing_is_zero() -> None:
    total = merge_summaries([])
    assert (total.n_read, total.n_done, total.n_rejected) == (0, 0, 0)
