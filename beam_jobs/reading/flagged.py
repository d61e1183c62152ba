"""Quality flags of the signal, and ECGs that are left out for their flags (decision 29)."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from beam_jobs.reading.blocks import EcgRow, Reject, counts_of
from lvm_core.command_line import nearest
from lvm_core.errors import RejectReason, UsageError
from lvm_core.signal.disturbances import disturbances
from lvm_core.signal.plausibility import judge_ecgs
from lvm_core.signal.quality import FLAGS_OF_SCORING, FLAGS_OF_SIGNALS, QualityFlag
from lvm_core.tables import schemas
from lvm_core.wording import counted


class SignalFlags(StrEnum):
    """Which ECGs are looked at for noise, wander, exchanged electrodes and the like."""

    FILES = "files"  # those of device files; Parquet has its flags since it was written
    ALL = "all"  # all
    NEVER = "never"  # none


def parse_flags(text: str) -> tuple[str, ...]:
    """Return the quality flags of a list with commas, each once, in the order of `QualityFlag`."""
    known = [flag.value for flag in QualityFlag]
    names = [name.strip().lower() for name in text.split(",")]
    if not text.strip():
        raise UsageError(f"--reject-flags is empty; expected names with commas between, of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise UsageError(
                f"--reject-flags names {name!r}, which is no quality flag{nearest(name, known)}; expected names with "
                f"commas between, of {', '.join(known)}"
            )
    return tuple(flag for flag in known if flag in names)


def refuse_flags_not_looked_for(flags: Collection[str], which: SignalFlags) -> None:
    """Refuse flags of the signal where nobody looks at it: they would reject nothing."""
    unseen = [flag for flag in flags if flag in FLAGS_OF_SIGNALS]
    if unseen and which is SignalFlags.NEVER:
        raise UsageError(
            f"--reject-flags names {', '.join(unseen)}, and --signal-flags never gives no ECG these flags; expected "
            "--signal-flags files or all"
        )


def has_signal_flags(metadata: Mapping[bytes, bytes] | None) -> bool:
    """Return whether an ingest that looked at signals has written a Parquet file, by its footer."""
    content = (metadata or {}).get(schemas.FOOTER_KEY)
    if content is None:
        return False
    settings = json.loads(content).get("provenance", {}).get("settings", {})
    return str(settings.get("signal_flags", SignalFlags.FILES.value)) != SignalFlags.NEVER.value


def warning_of_unflagged(n_files: int, flags: Collection[str], which: SignalFlags) -> str | None:
    """Return a warning where flags are to be rejected that Parquet files do not have."""
    unseen = [flag for flag in flags if flag in FLAGS_OF_SIGNALS]
    if not n_files or not unseen or which is not SignalFlags.FILES:
        return None
    return (
        f"--reject-flags names {', '.join(unseen)}, and the signals of {counted(n_files, 'Parquet file')} were never "
        "looked at for quality flags: nothing in them is rejected for these. --signal-flags all looks at them now"
    )


def refuse_flags_of_scoring(flags: Collection[str]) -> None:
    """Refuse flags that no ECG has before it is scored: at ingest they would reject nothing."""
    later = [flag for flag in flags if flag in FLAGS_OF_SCORING]
    if later:
        raise UsageError(
            f"--reject-flags names {', '.join(later)}, which only lvm-ai score knows, from people and masses; expected "
            "flags of the recording. Give this flag to lvm-ai score"
        )


def with_signal_flags(rows: Sequence[EcgRow], which: SignalFlags) -> list[EcgRow]:
    """Return the ECGs with the flags of their signals; those they have stay first, each once."""
    return [_flagged(row) if _is_wanted(row, which) else row for row in rows]


def _is_wanted(row: EcgRow, which: SignalFlags) -> bool:
    is_wanted = which is SignalFlags.ALL or (which is SignalFlags.FILES and row.row is None)
    # What has no step is rejected when it is scored.
    return is_wanted and bool(np.isfinite(row.uv_per_count)) and row.uv_per_count > 0


def _flagged(row: EcgRow) -> EcgRow:
    own = row.quality_flags
    found = disturbances(row.counts, row.uv_per_count).flags
    return replace(row, quality_flags=tuple(dict.fromkeys((*own, *found)))) if found else row


def flag_reject(
    row: EcgRow, flags: Collection[str], unwanted: Collection[str], participant_id: str | None
) -> Reject | None:
    """Return the reject of an ECG that has an unwanted flag, or None."""
    found = [flag for flag in unwanted if flag in flags]
    if not found:
        return None
    detail = f"quality flags {', '.join(found)}, which --reject-flags names"
    return row.rejected(RejectReason.QUALITY_FLAG.value, detail, participant_id)


@dataclass(frozen=True)
class Flagged:
    """The ECGs of a chunk of ingest: those that are kept, with their flags, and the others."""

    rows: list[EcgRow]
    rejects: list[Reject]

    @classmethod
    def of(cls, rows: Sequence[EcgRow], which: SignalFlags, unwanted: Collection[str]) -> Flagged:
        """Look at ECGs that ingest writes: none of them is from Parquet, so that `FILES` are all.

        Flags of voltages and leads are those that scoring would give.
        """
        flagged = with_signal_flags(rows, SignalFlags.ALL if which is SignalFlags.FILES else which)
        if not unwanted or not flagged:
            return cls(flagged, [])
        steps_uv = np.array([row.uv_per_count for row in flagged], dtype=np.float32)
        judgements = judge_ecgs(counts_of(flagged), steps_uv)
        found = [
            flag_reject(row, (*row.quality_flags, *its.flags), unwanted, row.participant_id)
            for row, its in zip(flagged, judgements, strict=True)
        ]
        kept = [row for row, reject in zip(flagged, found, strict=True) if reject is None]
        return cls(kept, [reject for reject in found if reject is not None])
