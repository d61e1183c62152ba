"""People who must not be in a run: withdrawn, or excluded at run time."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from beam_jobs.blocks import Chunk, EcgRow, Reject
from beam_jobs.raw_input import excluded_reject
from beam_jobs.storage import Storage
from beam_jobs.units import digest
from lvm_core.errors import UsageError

_KEYS = ("participant_id", "ecg_id", "eid", "f.eid")
_WORD = re.compile(r"[A-Za-z0-9]+")


@dataclass(frozen=True)
class Exclusions:
    """Identifiers of people, or of single ECGs, that must not be scored or kept.

    Attributes:
        ids: values of participant_id or ecg_id.
    """

    ids: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sha256(self) -> str:
        """Digest that tells two lists apart without naming anybody."""
        return digest(sorted(self.ids))

    def hits(self, ecg_id: str | None, participant_id: str | None) -> bool:
        """Tell whether an ECG belongs to an excluded person, or is excluded itself."""
        return ecg_id in self.ids or participant_id in self.ids

    def hits_path(self, path: str | None) -> bool:
        """Tell whether an excluded identifier stands in a path as a word of its own."""
        if not path or not self.ids:
            return False
        return not self.ids.isdisjoint(_WORD.findall(path)) or any(
            re.search(rf"(?<![A-Za-z0-9]){re.escape(i)}(?![A-Za-z0-9])", path)
            for i in self._compound
        )

    @property
    def _compound(self) -> tuple[str, ...]:
        return tuple(i for i in self.ids if not _WORD.fullmatch(i))

    def of_chunk(self, chunk: Chunk) -> Chunk:
        """Return the chunk with excluded people's ECGs as anonymous rejects."""
        if not self.ids:
            return chunk
        kept: list[EcgRow] = []
        rejects: list[Reject] = []
        for row in chunk.rows:
            if self.hits(row.ecg_id, row.participant_id):
                rejects.append(excluded_reject())
            else:
                kept.append(row)
        for reject in chunk.rejects:
            named = self.hits(reject.ecg_id, reject.participant_id)
            whole_file = reject.ecg_id is None and self.hits_path(reject.source_uri)
            if (named or whole_file) and reject.weight == 1:
                rejects.append(excluded_reject())
            else:
                rejects.append(reject)
        return Chunk(kept, rejects, chunk.n_read)


def load_exclusions(storage: Storage, uri: str) -> Exclusions:
    """Read a list of people: one identifier per line, or a CSV or Parquet file with a key column.

    The key column is participant_id, ecg_id or eid; a file with one column needs no header.

    Raises:
        UsageError: several columns and none of them a key.
    """
    data = storage.read_bytes(uri)
    if uri.lower().endswith((".parquet", ".pq")):
        table = pq.read_table(io.BytesIO(data))
        return Exclusions(_ids(_key_column(table.column_names, uri, table.to_pydict())))
    if not data.strip():
        return Exclusions()
    text = data.decode("utf-8-sig")
    first = text.splitlines()[0]
    names = [name.strip().strip('"') for name in re.split(r"[,\t]", first)]
    if len(names) == 1:
        lines = [line.strip().strip('"') for line in text.splitlines()]
        return Exclusions(_ids(lines[1:] if names[0].lower() in _KEYS else lines))
    delimiter = "\t" if "\t" in first else ","
    table = pa_csv.read_csv(
        io.BytesIO(text.encode()),
        parse_options=pa_csv.ParseOptions(delimiter=delimiter),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, "string"), strings_can_be_null=False
        ),
    )
    return Exclusions(_ids(_key_column(table.column_names, uri, table.to_pydict())))


def _key_column(names: list[str], uri: str, columns: dict[str, list[object]]) -> list[object]:
    found = [name for name in names if name.lower() in _KEYS]
    if not found:
        raise UsageError(f"{uri} has columns {names}; expected one of {', '.join(_KEYS)}")
    return [value for name in found for value in columns[name]]


def _ids(values: list[object] | list[str]) -> frozenset[str]:
    texts = (str(value).strip() for value in values if value is not None)
    return frozenset(text for text in texts if text)
