"""Pseudonyms in a run: the key, the plan without identifiers, and lists of people under the key."""

from __future__ import annotations

import stat
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from beam_jobs.reading.index import RecordIndex
from beam_jobs.reading.layout import Layout
from beam_jobs.reading.local_files import shown_path
from beam_jobs.reading.parquet_input import key_text
from beam_jobs.reading.storage import Storage, store_scheme
from beam_jobs.reading.units import Piece, Unit
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.plan import Plan
from beam_jobs.run.planner import Inputs, find_inputs, key_columns_in_turn
from beam_jobs.run.settings import IngestSettings, InputSettings, ScoreSettings
from lvm_core.errors import UsageError, form_of
from lvm_core.pseudonyms import Pseudonyms

_MAX_KEY_BYTES: Final = 1 << 16


def load_pseudonyms(storage: Storage, uri: str | None) -> Pseudonyms | None:
    """Read the key of --pseudonym-key; None without one. A key that others may read is refused."""
    if uri is None:
        return None
    if store_scheme(uri) is None and storage.is_file(uri):
        mode = stat.S_IMODE(Path(uri.removeprefix("file://")).stat().st_mode)
        if mode & 0o007:
            raise UsageError(
                f"--pseudonym-key {uri} may be read by everybody here (mode {mode:04o}): who has the key finds the way "
                f"back from pseudonyms. chmod 600 {uri}, and make a new key if others had a login"
            )
    key = storage.read_bytes(uri, expected="a file that holds a key", limit_bytes=_MAX_KEY_BYTES)
    if len(key) > _MAX_KEY_BYTES:
        raise UsageError(f"--pseudonym-key {uri} has over {_MAX_KEY_BYTES} bytes, expected a key of 32 random bytes")
    return Pseudonyms(key)


def hide_inputs(inputs: Inputs, pseudonyms: Pseudonyms, exclusions: Exclusions) -> None:
    """Put pseudonyms in place of the identifiers of inputs.

    Paths that are read stay in the pieces until the run is closed; tables and messages show their
    pseudonyms. People are excluded here, by what they and their files are called.
    """
    names = {piece.path for piece in inputs.pieces if piece.is_table or piece.n_ecgs is None}
    names |= {piece.archive for piece in inputs.pieces if piece.archive is not None}
    for name in sorted(filter(None, names), key=len, reverse=True):
        shown = shown_path(name)
        inputs.warnings = [text.replace(shown, form_of(shown)) for text in inputs.warnings]
    inputs.unread = [form_of(name) for name in inputs.unread]
    inputs.absent_columns = {}
    inputs.pieces = [_hidden(piece, pseudonyms, exclusions) for piece in inputs.pieces]


def _hidden(piece: Piece, pseudonyms: Pseudonyms, exclusions: Exclusions) -> Piece:
    is_read = piece.is_table or piece.reason is None
    return replace(
        piece,
        path=piece.path if is_read else "",
        path_sha256=pseudonyms.path_sha256(piece.path_sha256),
        content_sha256=pseudonyms.content_sha256(piece.content_sha256) if piece.content_sha256 else "",
        alias=pseudonyms.path(shown_path(piece.path)) if piece.path else "",
        ecg_id=None if piece.ecg_id is None else pseudonyms.ecg(piece.ecg_id),
        participant_id=None if piece.participant_id is None else pseudonyms.person(piece.participant_id),
        excluded=exclusions.hits(piece.ecg_id, piece.participant_id),
    )


def under_key(exclusions: Exclusions, pseudonyms: Pseudonyms | None) -> Exclusions:
    """Return a list of people with the pseudonyms that each may have, a person's and an ECG's."""
    if pseudonyms is None:
        return exclusions
    made = {make(one) for one in exclusions.ids for make in (pseudonyms.person, pseudonyms.ecg)}
    return replace(exclusions, pseudonyms=exclusions.pseudonyms | made)


def listed_ecgs(
    storage: Storage,
    roots: Sequence[str],
    pieces: Sequence[Piece],
    layout: Layout | None,
    exclusions: Exclusions,
    pseudonyms: Pseudonyms,
    index: RecordIndex | None = None,
) -> dict[str, set[str]]:
    """Return, by the pseudonym of each ECG of listed people, the listed identifiers that it has.

    Of a pseudonym no word can be searched, so that identifiers inside longer ones are looked for in
    the keys and paths of the inputs. `index` holds the people of records by their pseudonyms.
    """
    found: defaultdict[str, set[str]] = defaultdict(set)
    if not exclusions.ids:
        return found

    def look(ecg_id: str | None, person: str | None, paths: Sequence[str] = ()) -> None:
        if ecg_id is None:
            return
        own = pseudonyms.ecg(ecg_id)
        if person is None and index is not None:
            person = index.known(own, None, None)[0]
        names = exclusions.matching(ecg_id, person, paths)
        if names:
            found[own] |= names

    tables = [piece for piece in pieces if piece.is_table and piece.path]
    for ids, people, _ in key_columns_in_turn(storage, roots, tables, layout):
        for ecg_id, person in zip(ids, people, strict=True):
            look(key_text(ecg_id), key_text(person))
    for piece in pieces:
        if not piece.is_table:
            look(piece.ecg_id, piece.participant_id, (piece.path, *piece.parts) if piece.n_ecgs == 1 else ())
    return found


def without_paths(plan: Plan) -> Plan:
    """Return the plan of a run that is done without the paths of its inputs."""
    return plan.with_units(
        [replace(u, pieces=tuple(replace(p, path="", parts=()) for p in u.pieces)) for u in plan.units]
    )


def find_again(storage: Storage, inputs: Sequence[str], settings: IngestSettings | ScoreSettings) -> list[Piece]:
    """Return the pieces of the inputs of a closed run, with their paths and identifiers."""
    listed = InputSettings(inputs=tuple(inputs), storage=storage, id_rule=settings.id_rule, accept_unread_archives=True)
    return find_inputs(listed, settings.layout_content).pieces


def with_paths(units: Iterable[Unit], found: Sequence[Piece], pseudonyms: Pseudonyms) -> list[Unit]:
    """Return units with the paths of inputs that were found again, under the same key."""
    places = {(piece.root, pseudonyms.path_sha256(piece.path_sha256)): piece for piece in found}

    def restored(piece: Piece) -> Piece:
        known = places.get((piece.root, piece.path_sha256))
        return piece if known is None else replace(piece, path=known.path, parts=known.parts)

    return [replace(unit, pieces=tuple(map(restored, unit.pieces))) for unit in units]
