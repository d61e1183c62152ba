"""What reaches workers: an order that travels with the job, and the run folder for all else.

Workers may be threads of this process or processes on other machines. They read settings and units
from plan.json, and what is needed beside it from `work/` in the run folder: digests of excluded
people, models and checked networks. The folder `work/` is deleted when the run is closed.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from beam_jobs.reading.units import Unit, digest
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.folder import WORK_FOLDER, RunFolder
from beam_jobs.run.plan import KEY_ID, PLAN_NAME, Plan, UnitPlace, head_of, places_of, plan_of_head
from beam_jobs.run.pseudonyms import load_pseudonyms
from lvm_core.errors import LvmError
from lvm_core.pseudonyms import Pseudonyms

_EXCLUSIONS_PREFIX: Final = "exclusions-"


@dataclass(frozen=True)
class WorkOrder:
    """What travels to a worker: plain values that can be pickled, and that name nobody."""

    folder: RunFolder  # the run folder, as an absolute path or the URI of a store
    launch: str  # of this start of the command; no other start has it
    settings_sha256: str  # digest of the settings in the plan
    head_bytes: int  # bytes of plan.json before its first unit; 0 in a plan of an earlier version
    roots: tuple[str, ...]  # folders that the paths of inputs start from, absolute
    exclusions: str  # name of the list of excluded people in `work/`; empty without one
    threads: int | None = None  # cores of each worker process; None where it chooses by its own memory
    processes_here: int = 1  # worker processes that share the cores of a machine
    keep_going: bool = True  # finish the other units when the storage fails one
    in_launcher: bool = True  # workers are threads of the process that made the order
    pseudonym_key: str | None = None  # where the key of the run is, which workers read themselves

    def settings(self) -> Mapping[str, Any]:
        """Return the settings of the plan; an `LvmError` where this machine does not see it."""
        storage, uri = self.folder.storage, self.folder.path(PLAN_NAME)
        if not storage.is_file(uri):
            raise LvmError(
                f"the worker on {socket.gethostname()} does not see {uri}: workers must reach the run folder and the "
                "inputs by the same address as the command. Use a file system that all machines share, or a store"
            )
        plan = None
        if self.head_bytes:
            with storage.open(uri) as stream:
                plan = _plan_of_head(stream.read(self.head_bytes))
        if plan is None or plan.settings_sha256 != self.settings_sha256:
            plan = self.folder.require_plan()
        if plan.settings_sha256 != self.settings_sha256:
            raise LvmError(f"{uri} was replaced by the plan of another run while workers were under way")
        return plan.settings

    def unit(self, place: UnitPlace) -> Unit:
        """Return a unit of the plan."""
        if place.stop > place.start:
            with self.folder.storage.open(self.folder.path(PLAN_NAME)) as stream:
                stream.seek(place.start)
                unit = place.unit_of(stream.read(place.stop - place.start))
            if unit is not None:
                return unit
        units = self.folder.require_plan().units
        if place.number < len(units) and units[place.number].fingerprint == place.fingerprint:
            return units[place.number]
        raise LvmError(f"unit {place.number} is not in {PLAN_NAME} any more; run the same command again")

    def pseudonyms(self, planned: Mapping[str, Any]) -> Pseudonyms | None:
        """Return the pseudonyms of the run with these settings of the plan; None without a key."""
        own = load_pseudonyms(self.folder.storage, self.pseudonym_key)
        stated, key_id = planned.get(KEY_ID), None if own is None else own.key_id
        if key_id != stated:
            found = "no key" if own is None else f"the key {key_id}" if stated else "a key"
            raise LvmError(
                f"the worker on {socket.gethostname()} has {found} at --pseudonym-key {self.pseudonym_key}, and "
                "the run "
                + (f"was planned with the key {stated}" if stated else "was planned without one")
                + "; put the key of the run there, for all workers, and run the same command again"
            )
        return own

    def excluded(self) -> Exclusions:
        """Return the people who must not be read, as digests."""
        return _read_exclusions(self.folder, self.exclusions) if self.exclusions else Exclusions()


def _plan_of_head(head: bytes) -> Plan | None:
    try:
        return plan_of_head(head)
    except LvmError:
        return None  # written again meanwhile, with another length: it is read as a whole


def places_in(folder: RunFolder, units: Iterable[Unit]) -> tuple[int, list[UnitPlace]]:
    """Return the bytes of plan.json before its first unit, and where these units stand in it."""
    data = folder.storage.read_bytes(folder.path(PLAN_NAME))
    return len(head_of(data)), places_of(data, list(units))


def write_exclusions(folder: RunFolder, exclusions: Exclusions) -> str:
    """Write the excluded people into `work/`, as digests; return the file's name, or nothing."""
    if not exclusions:
        return ""
    content = exclusions.to_json()
    name = f"{_EXCLUSIONS_PREFIX}{digest(content)[:16]}.json"
    folder.write_json(f"{WORK_FOLDER}/{name}", content)
    return name


def _read_exclusions(folder: RunFolder, name: str) -> Exclusions:
    content = folder.read_json(f"{WORK_FOLDER}/{name}")
    if content is None:
        raise LvmError(f"{WORK_FOLDER}/{name} is gone from {folder.uri}: the run was closed meanwhile")
    try:
        return Exclusions.from_json(content)
    except (KeyError, TypeError, ValueError) as error:
        raise LvmError(f"{WORK_FOLDER}/{name} in {folder.uri} is damaged; run the same command again") from error


def written_exclusions(folder: RunFolder) -> Exclusions:
    """Return the people of all lists in `work/`, those of every shard, as digests."""
    found = Exclusions()
    for name in folder.storage.names(folder.path(WORK_FOLDER)):
        if name.startswith(_EXCLUSIONS_PREFIX):
            found = found.joined(_read_exclusions(folder, name))
    return found
