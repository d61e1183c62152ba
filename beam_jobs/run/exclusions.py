"""People who must not be in a run: withdrawn, or excluded at run time."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from beam_jobs.reading.blocks import Chunk, EcgRow, Reject, excluded_reject
from beam_jobs.reading.storage import Storage
from beam_jobs.reading.units import digest
from beam_jobs.run.progress import say
from lvm_core.tables import read_people_list

MIN_PATH_ID: Final = 6
_REDACTED: Final = "(withdrawn)"
_WORD = re.compile(r"[A-Za-z0-9]+")


def id_digest(identifier: str) -> str:
    """Return what stands for an identifier that must be recognised but not kept."""
    return digest(["lvm-ai withdrawn", identifier])


@dataclass(frozen=True)
class Exclusions:
    """Identifiers of people, or of single ECGs, that must not be scored or kept.

    Attributes:
        ids: values of participant_id or ecg_id.
        digests: of identifiers that were withdrawn from the run earlier and are not kept.
    """

    ids: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.ids)

    def __bool__(self) -> bool:
        return bool(self.ids or self.digests)

    @property
    def sha256(self) -> str:
        """Digest that tells two lists apart without naming anybody."""
        return digest([sorted(self.ids), sorted(self.digests)])

    def has(self, identifier: str | None) -> bool:
        """Tell whether an identifier is on the list."""
        if identifier is None:
            return False
        return identifier in self.ids or (bool(self.digests) and id_digest(identifier) in self.digests)

    def with_ids(self, ids: Iterable[str]) -> Exclusions:
        """Return the list extended."""
        return replace(self, ids=self.ids | frozenset(ids))

    def with_digests(self, digests: Iterable[str]) -> Exclusions:
        """Return the list extended by people who withdrew earlier."""
        return replace(self, digests=self.digests | frozenset(digests))

    def all_digests(self) -> list[str]:
        """Return the digests of everybody on the list."""
        return sorted(self.digests | {id_digest(i) for i in self.ids})

    def hits(self, ecg_id: str | None, participant_id: str | None) -> bool:
        """Tell whether an ECG belongs to an excluded person, or is excluded itself.

        Where the person is not known, an ecg_id is theirs that ends in the identifier as its
        last folder or file, or holds it as a word: `a/17`, `1000015_20205_2_0`.
        """
        if self.has(ecg_id) or self.has(participant_id):
            return True
        if participant_id is not None or ecg_id is None:
            return False
        return self.has(re.split(r"[/!]", ecg_id)[-1]) or self.hits_path(ecg_id)

    def hits_path(self, path: str | None) -> bool:
        """Tell whether an excluded identifier stands in a path as a word of its own.

        Only identifiers of at least `MIN_PATH_ID` characters count: a short one is a word of many
        paths that have nothing to do with the person.
        """
        if not path or not self:
            return False
        words = [word for word in _WORD.findall(path) if len(word) >= MIN_PATH_ID]
        return any(self.has(word) for word in words) or any(True for _ in self._compounds_in(path))

    def matching(self, ecg_id: str | None, participant_id: str | None, paths: Sequence[str] = ()) -> set[str]:
        """Return the listed identifiers by which an ECG is hit, by the rules of `hits`.

        Args:
            ecg_id: of the ECG.
            participant_id: of its person.
            paths: further texts that are searched as `hits_path` does.
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
        longest = max(self._compound, default=0)
        spans = [match.span() for match in _WORD.finditer(text)] if longest else []
        for first in range(len(spans)):
            for last in range(first, min(first + longest, len(spans))):
                words = text[spans[first][0] : spans[last][1]]
                if words in self._compound.get(last - first + 1, ()):
                    yield words
        # An identifier that begins or ends with another sign is no run of words.
        for odd in self._compound.get(0, ()):
            if re.search(rf"(?<![A-Za-z0-9]){re.escape(odd)}(?![A-Za-z0-9])", text):
                yield odd

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
        """Tell whether a reject row of one ECG is an excluded person's."""
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
        kept: list[EcgRow] = []
        rejects: list[Reject] = []
        for row in chunk.rows:
            if self.hits(row.ecg_id, row.participant_id):
                rejects.append(excluded_reject())
            else:
                kept.append(row)
        rejects += [excluded_reject() if self.names(r) else r for r in chunk.rejects]
        return Chunk(kept, rejects, chunk.n_read)


def load_exclusions(storage: Storage, uri: str) -> Exclusions:
    """Read a list of people to leave out, as `lvm_core.tables.read_people_list` reads lists.

    Raises:
        UsageError: the list cannot be read, or its identifiers cannot be found for sure.
    """
    people = read_people_list(storage.read_bytes(uri, expected="a list or a table of people"), uri)
    for note in people.notes:
        say(f"note: {note}")
    return Exclusions(people.ids)
