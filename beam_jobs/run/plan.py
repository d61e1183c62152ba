"""The plan of a run: what will be done, decided once, before anything is done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from beam_jobs.reading.units import RESULTS_VERSION, Piece, Unit, digest
from lvm_core.errors import LvmError, UsageError
from lvm_core.wording import counted

PLAN_NAME: Final = "plan.json"
KEY_ID: Final = "pseudonym_key_id"
"""Name in the settings of the fingerprint of the key; absent without pseudonyms."""
_FORMAT: Final = 1
_SHOWN: Final = 5
# The last of the sorted names is `units`. A line break cannot stand inside a text of JSON.
_UNITS_BEGIN: Final = b',\n "units": [\n'
_UNITS_END: Final = b"\n ]\n}\n"


@dataclass(frozen=True)
class Plan:
    """Settings and units of a run."""

    kind: str  # `score` or `ingest`
    settings: Mapping[str, Any]  # every option that can move a number, with what it resolved to
    units: tuple[Unit, ...]  # in order
    ignored: Mapping[str, int] = field(default_factory=dict)  # files and members of archives that are no ECG, by kind
    scale: Mapping[str, Any] = field(default_factory=dict)  # amplitudes seen before the first unit, when scoring
    people: Mapping[str, Any] = field(default_factory=dict)  # how the participant table, if any, fits the ECGs

    @property
    def settings_sha256(self) -> str:
        """Digest of the settings; part of each unit's fingerprint."""
        return digest([RESULTS_VERSION, self.kind, dict(self.settings)])

    @property
    def fingerprint(self) -> str:
        """Digest of settings and units."""
        return digest([self.settings_sha256, [unit.fingerprint for unit in self.units]])

    @property
    def n_ecgs(self) -> int:
        """ECGs of all units, an unknown number taken as 1."""
        return sum(unit.n_ecgs for unit in self.units)

    @property
    def pieces(self) -> list[Piece]:
        """Pieces of all units, in order."""
        return [piece for unit in self.units for piece in unit.pieces]

    @property
    def n_of_unknown_size(self) -> int:
        """Inputs that hold an unknown number of ECGs, because they cannot be read."""
        return sum(piece.n_ecgs is None for piece in self.pieces)

    @property
    def is_private(self) -> bool:
        """The plan is of a run with pseudonyms, and holds paths, which may identify people."""
        return bool(self.settings.get(KEY_ID)) and any(piece.path for piece in self.pieces)

    def shard_units(self, index: int, count: int) -> list[Unit]:
        """Return every `count`-th unit, beginning with the `index`-th, both from 1."""
        return [unit for unit in self.units if unit.number % count == index - 1]

    def with_units(self, units: Sequence[Unit]) -> Plan:
        """Return the plan with other units."""
        return replace(self, units=tuple(units))

    def to_bytes(self) -> bytes:
        """Return the plan as JSON: the same bytes for the same plan, each unit on a line, last."""
        return b"".join(self.parts())

    def parts(self) -> Iterator[bytes]:
        """Yield `to_bytes` piece by piece: the plan of millions of files need not be held twice."""
        content = {
            "lvm_ai_plan": _FORMAT,
            "kind": self.kind,
            "results_version": RESULTS_VERSION,
            "settings": dict(self.settings),
            "ignored": dict(self.ignored),
            "scale": dict(self.scale),
            "people": dict(self.people),
        }
        yield json.dumps(content, sort_keys=True, indent=1).removesuffix("\n}").encode()
        yield _UNITS_BEGIN
        for i, unit in enumerate(self.units):
            yield b",\n" if i else b""
            yield _unit_line(unit)
        yield _UNITS_END

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read what `to_bytes` wrote; refuse a damaged plan, and one of another version."""
        try:
            content = json.loads(data)
            version = content["lvm_ai_plan"], content["results_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(error) from error
        if version != (_FORMAT, RESULTS_VERSION):
            raise UsageError(
                f"{PLAN_NAME} was written by another version (plan {version[0]}, results "
                f"{version[1]}; this one: {_FORMAT}, {RESULTS_VERSION}). Use that version "
                "for this folder, also to withdraw people from it, or score again with --overwrite"
            )
        try:
            units = tuple(_unit_of(i, unit) for i, unit in enumerate(content["units"]))
            names = ("kind", "settings", "ignored", "scale", "people")
            return cls(units=units, **{name: content[name] for name in names})
        except (KeyError, TypeError) as error:
            raise _damaged(error) from error


def _unit_line(unit: Unit) -> bytes:
    content = {"fingerprint": unit.fingerprint, "pieces": [piece.to_json() for piece in unit.pieces]}
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _unit_of(number: int, content: Mapping[str, Any]) -> Unit:
    return Unit(number, content["fingerprint"], tuple(Piece.from_json(p) for p in content["pieces"]))


@dataclass(frozen=True, slots=True)
class UnitPlace:
    """Where a unit stands in plan.json: what travels to workers in place of the unit.

    `start` and `stop` are bytes of the file. Both are 0 in a plan of an earlier version, which has
    no unit on a line of its own.
    """

    number: int  # place in the plan, from 0
    fingerprint: str  # of the unit
    start: int = 0
    stop: int = 0

    def unit_of(self, line: bytes) -> Unit | None:
        """Return the unit that these bytes of plan.json hold; None where they hold another text.

        The plan may have been written again meanwhile, with inputs that were added or people that
        were removed.
        """
        try:
            content = json.loads(line)
            unit = _unit_of(self.number, content)
        except (ValueError, KeyError, TypeError):
            return None
        return unit if unit.fingerprint == self.fingerprint else None


def head_of(data: bytes) -> bytes:
    """Return the beginning of plan.json up to its first unit; empty where it has no unit."""
    head, mark, _ = data.partition(_UNITS_BEGIN)
    return head + mark if mark else b""


def places_of(data: bytes, units: Sequence[Unit]) -> list[UnitPlace]:
    """Return where units stand in plan.json, whose content is `data`."""
    start = len(head_of(data))
    spans: list[tuple[int, int]] = []
    for line in data[start:].removesuffix(_UNITS_END).split(b",\n") if start else []:
        spans.append((start, start + len(line)))
        start += len(line) + len(b",\n")
    places = []
    for unit in units:
        span = spans[unit.number] if unit.number < len(spans) else (0, 0)
        places.append(UnitPlace(unit.number, unit.fingerprint, *span))
    return places


def plan_of_head(head: bytes) -> Plan:
    """Return the plan without its units from what `head_of` gave."""
    return Plan.from_bytes(head + _UNITS_END)


def _damaged(error: Exception) -> LvmError:
    return LvmError(f"{PLAN_NAME} is damaged ({error}); start again with --overwrite")


def refuse_other_settings(old: Plan, kind: str, settings: Mapping[str, Any]) -> None:
    """Refuse to resume a run with other settings that can move a number; name each difference."""
    if old.kind != kind:
        raise UsageError(f"the output folder holds a run of {old.kind}, not of {kind}")
    differing = [
        _difference(name, old.settings.get(name), settings.get(name))
        for name in sorted({*old.settings, *settings})
        if old.settings.get(name) != settings.get(name)
    ]
    if differing:
        raise UsageError(
            f"the output folder holds a run with other settings: {'; '.join(differing)}. Use the same settings to "
            "resume, another --output, or --overwrite to start again"
        )


def _difference(name: str, was: Any, now: Any) -> str:
    if was is not None and now is not None and name.endswith("_sha256"):
        return f"{name.removesuffix('_sha256')}: its content changed"
    if name == KEY_ID:
        found = "the run has none" if was is None else "none is given" if now is None else "another one is given"
        return f"--pseudonym-key: {found}"
    return f"{name}: was {_shown(was)}, is {_shown(now)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 120 else f"{text[:120]}..."


def new_pieces(old: Plan, pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces of inputs that the old plan does not know.

    Inputs of the old plan that changed or are gone are refused, by name; so are records that an
    index lists and that were absent then, and are there now.
    """
    known = {_key(piece): _state(piece) for piece in old.pieces}
    names = {_key(piece): piece.shown for piece in old.pieces}
    now = {_key(piece): _state(piece) for piece in pieces}
    changed_keys = [key for key, state in known.items() if key in now and now[key] != state]
    # People who withdrew may be gone from the inputs too: their records are not read again.
    left_out = {_key(piece) for piece in old.pieces if piece.excluded}
    changed = [names[key] for key in changed_keys if key not in left_out]
    absent = {_key(piece) for piece in old.pieces if piece.is_absent}
    gone = [names[key] for key in known if key not in now and key not in left_out and key not in absent]
    if changed or gone:
        parts = [
            f"{counted(len(paths), 'input', verb)} {what}: {', '.join(paths[:_SHOWN])}"
            + (", ..." if len(paths) > _SHOWN else "")
            for verb, what, paths in (("have", "changed", changed), ("are", "gone", gone))
            if paths
        ]
        raise UsageError(
            f"since this run was planned, {'; '.join(parts)}. Put them back to resume, use another "
            "--output, or --overwrite to start again"
        )
    arrived = sum(key not in now and key not in left_out for key in absent)
    if arrived:
        raise UsageError(
            f"{counted(arrived, 'record', 'have')} arrived that the index lists, and that could not be read when this "
            "run was planned: they were rejected. Use another --output, or --overwrite to start again with them"
        )
    return [piece for piece in pieces if _key(piece) not in known]


def _key(piece: Piece) -> tuple[int, str]:
    return piece.root, piece.path_sha256


def _state(piece: Piece) -> tuple[int, str]:
    return piece.size, piece.content_sha256
