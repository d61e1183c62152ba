"""The list of --expect-files: a hole in the inputs that nothing else shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from beam_jobs.reading.local_files import shown_path
from beam_jobs.reading.storage import FileEntry, FileMissing, Storage
from lvm_core.errors import LvmError, UsageError
from lvm_core.wording import counted

_SHOWN: Final = 5


@dataclass
class ExpectedFiles:
    """The files that --expect-files names, less those that were found."""

    uri: str | None
    missing: dict[str, None]  # paths as they are written, in order

    @classmethod
    def of(cls, storage: Storage, uri: str | None) -> ExpectedFiles:
        """Read the list; empty lines are left out."""
        if uri is None:
            return cls(None, {})
        try:
            text = storage.read_bytes(uri, expected="a text file with a path a line").decode("utf-8-sig")
        except (FileMissing, UnicodeDecodeError) as error:
            raise UsageError(f"--expect-files {uri} cannot be read: {error}") from error
        lines = [line.rstrip("\r").removeprefix("./") for line in text.split("\n")]
        return cls(uri, dict.fromkeys(line for line in lines if line.strip()))

    def note(self, entries: Iterable[FileEntry]) -> None:
        """Strike out files that were listed."""
        if self.missing:
            for entry in entries:
                self.missing.pop(entry.relative, None)
                self.missing.pop(entry.uri, None)

    def refuse_missing(self) -> None:
        """Stop where files are left that nothing listed."""
        if not self.missing:
            return
        names = ", ".join(map(shown_path, list(self.missing)[:_SHOWN])) + (
            ", ..." if len(self.missing) > _SHOWN else ""
        )
        raise LvmError(
            f"of --expect-files {self.uri}, {counted(len(self.missing), 'file', 'are')} not among the inputs: {names}. "
            "Nothing was done. Is a folder, a copy or a listing incomplete? Paths are as below --input, or whole; run "
            "the command again, or correct the list"
        )
