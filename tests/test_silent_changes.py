"""Damage that changes microvolts twofold, leads or the rate is refused or flagged."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lvm_core.formats.registry import FORMATS
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import Ecg
from tests import builders
from tests.mutants import mutant_beside
from tests.realistic_files import WRITERS, recording
from tests.silent_changes import GRAVE, LONGEST_S, Change, change_of, count

N_MUTANTS = 40
N_MANY_MUTANTS = 10_000
LEAST_NOTICED_SHARE = 0.99
# An array file that states one scale for all leads, and nothing to compare it with.
LEAST_NOTICED_SHARE_OF = {"hdf5": 0.95, "npz": 0.95, "mat": 0.95}


def _changed(**fields: object) -> Ecg:
    return dataclasses.replace(builders.ecg(), **fields)


def _lead_times(factor: float) -> np.ndarray:
    leads_uv = builders.leads_uv()
    leads_uv[:, 7] *= np.float32(factor)
    return leads_uv


def _swapped() -> np.ndarray:
    leads_uv = builders.leads_uv()
    leads_uv[:, [6, 11]] = leads_uv[:, [11, 6]]
    return leads_uv


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Change.NONE),
        ({"sampling_rate_hz": 250.0}, Change.RATE),
        ({"leads_uv": _swapped()}, Change.LEADS),
        ({"leads_uv": -builders.leads_uv()}, Change.SHAPE),
        ({"leads_uv": _lead_times(2.0)}, Change.TWOFOLD),
        ({"leads_uv": _lead_times(0.5)}, Change.TWOFOLD),
        ({"leads_uv": builders.leads_uv() + np.float32(9000)}, Change.TWOFOLD),
        ({"leads_uv": _lead_times(0.0)}, Change.SHAPE),
        ({"leads_uv": _lead_times(1.9)}, Change.SMALLER),
        ({"leads_uv": _lead_times(1.001)}, Change.ROUNDING),
        ({"leads_uv": builders.leads_uv()[:4995]}, Change.LENGTH),
    ],
)
def test_change_of__is_the_gravest_change(fields: dict[str, object], expected: Change) -> None:
    assert change_of(builders.ecg(), _changed(**fields)) is expected


def test_mutant_beside__spares_the_samples_and_strikes_the_rest() -> None:
    made = recording("cardiosoft", 0)
    data, parts = made.files["a.xml"], made.spared("a.xml")
    changed = [mutant_beside(data, parts, seed) for seed in range(60)]
    assert changed == [mutant_beside(data, parts, seed) for seed in range(60)]
    assert sum(one != data for one in changed) > 50
    assert sum(made.holds_samples({"a.xml": one}) for one in changed) > 40
    assert not made.holds_samples({"a.xml": data.replace(parts[-1], parts[-1][1:])})


def test_writers__are_of_every_format_and_without_a_remark() -> None:
    read = {name: recording(name, 0) for name in WRITERS}
    ecgs = {name: made.read(made.files, made.main) for name, made in read.items()}
    assert {ecg.source_format for ecg in ecgs.values()} == {one.name for one in FORMATS} | {"array"}
    expected = {"checksum_absent", "leads_derived", "resampled", "cropped"}
    for name, ecg in ecgs.items():
        assert expected.issuperset(canonicalise(ecg).quality_flags), name


@pytest.mark.parametrize("name", WRITERS)
def test_damage__is_noticed(name: str) -> None:
    _assert_noticed(name, N_MUTANTS)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore:Reading `.np[yz]` or:UserWarning")  # a header as of Python 2
@pytest.mark.parametrize("name", WRITERS)
def test_damage__is_noticed_in_ten_thousand_mutants(name: str) -> None:
    _assert_noticed(name, N_MANY_MUTANTS)


def _assert_noticed(name: str, n_mutants: int) -> None:
    tally = count(name, range(n_mutants), beside_samples=True)
    allowed = 1 - LEAST_NOTICED_SHARE_OF.get(name, LEAST_NOTICED_SHARE)
    assert tally.n_grave_silent <= allowed * tally.n_grave, tally.seeds
    assert tally.longest_s < LONGEST_S
    # The mutants reach the reader: some are refused, and some are read as before.
    assert tally.not_parsed > 0
    assert tally.noticed[Change.NONE] + tally.silent[Change.NONE] > 0


def test_count__calls_silent_what_nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    loud = count("wfdb", range(300), beside_samples=True)
    assert loud.n_grave > 0
    monkeypatch.setattr("tests.silent_changes.judge_ecgs", lambda counts, steps: [_NOTHING])
    monkeypatch.setattr("tests.silent_changes.canonicalise", lambda ecg: _Stored())
    deaf = count("wfdb", range(300), beside_samples=True)
    assert deaf.n_grave == loud.n_grave
    assert deaf.n_grave_silent == deaf.n_grave
    assert {change for _, change in deaf.seeds} <= set(GRAVE)


class _Stored:
    counts = np.zeros((12, 5000), np.int16)
    uv_per_count = 1.0
    quality_flags = ()


class _NOTHING:
    rejection = None
    flags = ()
