"""People who must not be in a run: the list of them, and how they are removed from its folder."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Final, TypeVar

import pyarrow as pa

from beam_jobs.reading.blocks import Chunk, Reject, excluded_reject
from beam_jobs.reading.index import RecordIndex
from beam_jobs.reading.parquet_input import read_table
from beam_jobs.reading.storage import Storage
from beam_jobs.reading.units import Piece, Unit, UnitSummary, digest
from beam_jobs.run.commit import (
    commit_unit,
    read_footer_json,
    read_rejects,
    reasons_of,
    rejects_of,
    rejects_table,
    result_bytes,
    rows_sha256,
)
from beam_jobs.run.folder import REPORT_NAME, REPORTS_FOLDER, SUCCESS_NAME, UNDER_WAY_PREFIX, RunFolder
from beam_jobs.run.plan import Plan
from beam_jobs.run.progress import say
from lvm_core.errors import LvmError, RejectReason
from lvm_core.signal.scale import AmplitudeHistogram, SourceAmplitudes
from lvm_core.tables import ParticipantTable, read_people_list

MIN_PATH_ID: Final = 6
_REDACTED: Final = "(withdrawn)"
_WORD = re.compile(r"[A-Za-z0-9]+")


def id_digest(identifier: str) -> str:
    """Return the digest by which an identifier is recognised once it must not be kept."""
    return digest(["lvm-ai withdrawn", identifier])


@dataclass(frozen=True)
class Exclusions:
    """Identifiers of people, or of single ECGs, that must not be scored or kept."""

    ids: frozenset[str] = frozenset()  # values of participant_id or ecg_id
    # Of identifiers that are not kept: of people who withdrew from the run, and for workers.
    digests: frozenset[str] = frozenset()
    # Those of `digests` whose identifier is no single word, as far as that is known: by its number
    # of words (`P-00001` has two), and, where it begins or ends with another sign, by its length.
    word_digests: Mapping[int, frozenset[str]] = field(default_factory=dict)
    odd_digests: Mapping[int, frozenset[str]] = field(default_factory=dict)
    # Of the same people and ECGs, in a run with a key: all that its tables have, and all that
    # leaves this process.
    pseudonyms: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.ids)

    def __bool__(self) -> bool:
        return bool(self.ids or self.digests)

    @property
    def sha256(self) -> str:
        """Digest that differs between two lists and names nobody."""
        return digest([sorted(self.pseudonyms or self.ids), sorted(self.digests)])

    def has(self, identifier: str | None) -> bool:
        """Return True where an identifier is on the list."""
        if identifier is None:
            return False
        if identifier in self.ids or identifier in self.pseudonyms:
            return True
        return bool(self.digests) and id_digest(identifier) in self.digests

    def with_ids(self, ids: Iterable[str]) -> Exclusions:
        """Return the list extended by identifiers as the run has them."""
        if self.pseudonyms:
            return replace(self, pseudonyms=self.pseudonyms | frozenset(ids))
        return replace(self, ids=self.ids | frozenset(ids))

    def with_digests(self, digests: Iterable[str]) -> Exclusions:
        """Return the list extended by people who withdrew earlier."""
        return replace(self, digests=self.digests | frozenset(digests))

    def to_json(self) -> dict[str, Any]:
        """Return the list as digests, which find the same people and name nobody."""
        compound = {} if self.pseudonyms else self._compound
        words = {n: {id_digest(i) for i in ids} for n, ids in compound.items() if n > 0}
        odd: defaultdict[int, set[str]] = defaultdict(set)
        for one in compound.get(0, ()):
            odd[len(one)].add(id_digest(one))
        return {
            "id_sha256": self.all_digests(),
            "by_words": _sorted_lists(self.word_digests, words),
            "by_length": _sorted_lists(self.odd_digests, odd),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Exclusions:
        """Read what `to_json` wrote."""
        words, odd = (
            {int(n): frozenset(digests) for n, digests in content[name].items()} for name in ("by_words", "by_length")
        )
        return cls(digests=frozenset(content["id_sha256"]), word_digests=words, odd_digests=odd)

    def joined(self, other: Exclusions) -> Exclusions:
        """Return the people of both lists."""
        words, odd = (
            {n: mine.get(n, frozenset()) | its.get(n, frozenset()) for n in {*mine, *its}}
            for mine, its in ((self.word_digests, other.word_digests), (self.odd_digests, other.odd_digests))
        )
        return Exclusions(self.ids | other.ids, self.digests | other.digests, words, odd)

    def all_digests(self) -> list[str]:
        """Return the digests of everybody on the list."""
        return sorted(self.digests | {id_digest(i) for i in self.pseudonyms or self.ids})

    def hits(self, ecg_id: str | None, participant_id: str | None) -> bool:
        """Return True where an ECG belongs to an excluded person, or is excluded itself.

        Where the person is not known, an ecg_id is theirs that ends in the identifier as its
        last folder or file, or holds it as a word: `a/17`, `1000015_20205_2_0`.
        """
        if self.has(ecg_id) or self.has(participant_id):
            return True
        if participant_id is not None or ecg_id is None:
            return False
        return self.has(re.split(r"[/!]", ecg_id)[-1]) or self.hits_path(ecg_id)

    def hits_path(self, path: str | None) -> bool:
        """Return True where an excluded identifier is a word of its own in a path.

        Only identifiers of at least `MIN_PATH_ID` characters count: a short one is a word of many
        paths that have nothing to do with the person.
        """
        if not path or not self:
            return False
        words = [word for word in _WORD.findall(path) if len(word) >= MIN_PATH_ID]
        return any(self.has(word) for word in words) or any(True for _ in self._compounds_in(path))

    def matching(self, ecg_id: str | None, participant_id: str | None, paths: Sequence[str] = ()) -> set[str]:
        """Return the listed identifiers by which an ECG is hit, by the rules of `hits`.

        `paths` are further texts, which are searched as `hits_path` does.
        """
        candidates = {ecg_id, participant_id}
        texts = list(paths)
        if participant_id is None and ecg_id is not None:
            candidates.add(re.split(r"[/!]", ecg_id)[-1])
            texts.append(ecg_id)
        for text in texts:
            candidates.update(word for word in _WORD.findall(text) if len(word) >= MIN_PATH_ID)
            candidates.update(self._compounds_in(text))
        return {one for one in candidates if one is not None and one in self.ids}

    def _compounds_in(self, text: str) -> Iterator[str]:
        """Yield the identifiers of several words, such as `P-00001`, that stand in a text.

        Every run of words is looked up, so that the time does not grow with the list.
        """
        longest = max((*self._compound, *self.word_digests), default=0)
        spans = [match.span() for match in _WORD.finditer(text)] if longest else []
        for first in range(len(spans)):
            for last in range(first, min(first + longest, len(spans))):
                words, n = text[spans[first][0] : spans[last][1]], last - first + 1
                if words in self._compound.get(n, ()) or _has_digest(self.word_digests.get(n), words):
                    yield words
        # An identifier that begins or ends with another sign is no run of words.
        for odd in self._compound.get(0, ()):
            if re.search(rf"(?<![A-Za-z0-9]){re.escape(odd)}(?![A-Za-z0-9])", text):
                yield odd
        for length, digests in self.odd_digests.items():
            for start in range(len(text) - length + 1):
                stands_alone = not (_is_word(text, start - 1) or _is_word(text, start + length))
                if stands_alone and _has_digest(digests, text[start : start + length]):
                    yield text[start : start + length]

    @cached_property
    def _compound(self) -> dict[int, frozenset[str]]:
        """Identifiers that are no single word, by their number of words; 0 for odd ones."""
        found: defaultdict[int, set[str]] = defaultdict(set)
        for one in self.ids:
            words = _WORD.findall(one)
            if len(one) < MIN_PATH_ID or words == [one]:
                continue
            whole = words and one.startswith(words[0]) and one.endswith(words[-1])
            found[len(words) if whole else 0].add(one)
        return {number: frozenset(ids) for number, ids in found.items()}

    def names(self, reject: Reject) -> bool:
        """Return True where a reject row is of one ECG, of an excluded person."""
        if self.hits(reject.ecg_id, reject.participant_id):
            return True
        texts = (reject.source_uri, reject.detail)
        return reject.weight == 1 and any(self.hits_path(text) for text in texts)

    def scrubbed(self, value: Any) -> Any:
        """Return JSON content with every text replaced that names one of the people."""
        if isinstance(value, dict):
            return {key: self.scrubbed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.scrubbed(item) for item in value]
        return _REDACTED if isinstance(value, str) and self.hits_path(value) else value

    def of_chunk(self, chunk: Chunk) -> Chunk:
        """Return the chunk with excluded people's ECGs as anonymous rejects."""
        if not self:
            return chunk
        kept = [row for row in chunk.rows if not self.hits(row.ecg_id, row.participant_id)]
        rejects = [excluded_reject()] * (len(chunk.rows) - len(kept))
        rejects += [excluded_reject() if self.names(r) else r for r in chunk.rejects]
        return Chunk(kept, rejects, chunk.n_read)


def _has_digest(digests: Collection[str] | None, identifier: str) -> bool:
    return digests is not None and id_digest(identifier) in digests


def _is_word(text: str, place: int) -> bool:
    return 0 <= place < len(text) and _WORD.fullmatch(text[place]) is not None


def _sorted_lists(*parts: Mapping[int, Collection[str]]) -> dict[str, list[str]]:
    numbers = sorted({n for part in parts for n in part})
    return {str(n): sorted({one for part in parts for one in part.get(n, ())}) for n in numbers}


def load_exclusions(storage: Storage, uri: str) -> Exclusions:
    """Read a list of people to leave out, as `lvm_core.tables.read_people_list` reads lists."""
    people = read_people_list(storage.read_bytes(uri, expected="a list or a table of people"), uri)
    for note in people.notes:
        say(f"note: {note}")
    return Exclusions(people.ids)


def redact_excluded(unit: Unit, exclusions: Exclusions, *, finished: bool = False) -> Unit:
    """Return a unit with the pieces of excluded people reduced to a digest of their path.

    The path of a shared file is needed until the unit is `finished`.
    """
    if not exclusions:
        return unit
    pieces = [p.redacted() if _must_go(p, exclusions, finished=finished) else p for p in unit.pieces]
    return replace(unit, pieces=tuple(pieces))


def _must_go(piece: Piece, exclusions: Exclusions, *, finished: bool) -> bool:
    if piece.excluded or exclusions.hits(piece.ecg_id, piece.participant_id):
        return True
    one_record = not piece.is_table and piece.n_ecgs == 1
    return (finished or one_record) and any(exclusions.hits_path(text) for text in (piece.path, *piece.parts))


def with_their_ecgs(folder: RunFolder, exclusions: Exclusions) -> Exclusions:
    """Return the list extended by the ECGs that the run's tables give these people."""
    for table in (folder.participants(), folder.index()):
        if table is not None:
            exclusions = exclusions.with_ids(table.ecg_ids_of(exclusions.has))
    return exclusions


@dataclass(frozen=True)
class Removal:
    """What removing people changed."""

    n_ecgs: int = 0  # ECGs removed from the results
    n_rejects: int = 0  # rows of the rejects that named them
    changed: bool = False  # anything in the folder was rewritten


def remove_people(folder: RunFolder, plan: Plan, exclusions: Exclusions, units: Sequence[int]) -> Removal:
    """Remove people from finished units, the plan, the participant table and the reports.

    Each file is replaced atomically, and doing it again does no harm: the number of anonymous
    `excluded` rows of a unit follows from what it read, not from what is there. Before the first
    change `_SUCCESS` goes, so that a killed removal is not taken for a finished run. `units` are
    numbers of finished units.
    """
    exclusions = with_their_ecgs(folder, exclusions)
    done = [_remove_from_unit(folder, plan, plan.units[number], exclusions) for number in units]
    changed = any(one.changed for one in done)
    changed |= _redact_plan(folder, exclusions, set(units))
    changed |= _remove_from_participants(folder, exclusions)
    changed |= _remove_from_index(folder, exclusions)
    reports = [*folder.reports(), *folder.reports(UNDER_WAY_PREFIX)]
    for name in [*(f"{REPORTS_FOLDER}/{name}" for name in reports), REPORT_NAME]:
        content = folder.read_json(name)
        if content is not None and exclusions.scrubbed(content) != content:
            folder.write_json(name, exclusions.scrubbed(content))
    return Removal(sum(one.n_ecgs for one in done), sum(one.n_rejects for one in done), changed)


def _remove_from_unit(folder: RunFolder, plan: Plan, unit: Unit, exclusions: Exclusions) -> Removal:
    """Rewrite the files of a unit without some people, where they are in it."""
    files = folder.files(plan, unit)
    storage = folder.storage
    content = read_footer_json(storage, files.result)
    assert content is not None
    if "rows_sha256" not in content:
        raise _changed(files.result)
    keys = read_table(storage, files.result, ["ecg_id", "participant_id"]).to_pylist()
    gone = [exclusions.hits(row["ecg_id"], row["participant_id"]) for row in keys]
    rejects_there = read_rejects(storage, files.rejects)
    rejects = rejects_of(rejects_there)
    kept = [_without_names(r, exclusions) for r in rejects if not exclusions.names(r)]
    # The third: a removal that was killed between the unit's two files.
    if not any(gone) and kept == rejects and _fits(content, rejects_there):
        return Removal()
    table = read_table(storage, files.result)
    _refuse_changed(files.result, table, content["rows_sha256"]["result"])
    if storage.is_file(files.rejects):
        own = read_footer_json(storage, files.rejects) or {}
        _refuse_changed(files.rejects, rejects_there, own.get("rows_sha256", {}).get("rejects"))
    table = table.filter(pa.array([not g for g in gone], pa.bool_()))
    kept = [r for r in kept if r.reason != RejectReason.EXCLUDED.value]
    n_excluded = content["n_read"] - table.num_rows - sum(r.weight for r in kept)
    kept += [excluded_reject()] * n_excluded
    histogram = AmplitudeHistogram.from_list(content["amplitudes"])
    sources = SourceAmplitudes.from_json(content["sources"])
    summary = UnitSummary(unit.number, content["n_read"], table.num_rows, reasons_of(kept), histogram, sources=sources)
    storage.delete(folder.path(SUCCESS_NAME))
    commit_unit(
        storage,
        files,
        unit,
        summary,
        rejects_table(kept, plan.kind),
        provenance=content["provenance"],
        result_sha256=rows_sha256(table),
        encode=partial(result_bytes, plan.kind, table),
    )
    return Removal(sum(gone), sum(exclusions.names(reject) for reject in rejects), True)


def _fits(content: Mapping[str, Any], rejects: pa.Table) -> bool:
    """Return True where the rejects file holds what the footer of the result states."""
    is_counted = reasons_of(rejects_of(rejects)) == content["rejected"]
    return bool(is_counted and rows_sha256(rejects) == content["rows_sha256"]["rejects"])


def _refuse_changed(uri: str, table: pa.Table, stated: str | None) -> None:
    """Stop before a file that was changed gets a new hash, which would hide the change."""
    if rows_sha256(table) != stated:
        raise _changed(uri)


def _changed(uri: str) -> LvmError:
    name = "/".join(uri.split("/")[-2:])
    return LvmError(
        f"{name} was changed: its rows are not those that were committed, and removing people "
        "would hide that. Look at lvm-ai verify; restore the file, or make the run again"
    )


def _without_names(reject: Reject, exclusions: Exclusions) -> Reject:
    """Return the row of a whole damaged file without a path that names an excluded person."""
    if exclusions.hits_path(reject.source_uri) or exclusions.hits_path(reject.detail):
        return replace(reject, source_uri=None, detail=None)
    return reject


def _redact_plan(folder: RunFolder, exclusions: Exclusions, finished: Collection[int]) -> bool:
    plan = folder.require_plan()
    units = [redact_excluded(unit, exclusions, finished=unit.number in finished) for unit in plan.units]
    if tuple(units) == plan.units:
        return False
    folder.storage.delete(folder.path(SUCCESS_NAME))
    folder.write_plan(plan.with_units(units))
    return True


def _remove_from_participants(folder: RunFolder, exclusions: Exclusions) -> bool:
    return _remove_rows(folder, folder.participants(), folder.write_participants, exclusions)


def _remove_from_index(folder: RunFolder, exclusions: Exclusions) -> bool:
    return _remove_rows(folder, folder.index(), folder.write_index, exclusions)


_Rows = TypeVar("_Rows", ParticipantTable, RecordIndex)


def _remove_rows(
    folder: RunFolder, table: _Rows | None, write: Callable[[_Rows], None], exclusions: Exclusions
) -> bool:
    """Write a table of the run again without some people; return whether they were in it."""
    if table is None or len(smaller := table.without(exclusions.hits)) == len(table):
        return False
    folder.storage.delete(folder.path(SUCCESS_NAME))
    write(smaller)
    return True
