"""Damaged files are read or rejected: nothing else may come out of a reader."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lvm_core.errors import EcgRejected
from lvm_core.formats.registry import FORMATS, read_ecg
from lvm_core.signal.canonical import canonicalise
from tests.mutants import mutant, mutant_record, seeds

N_MUTANTS = 120
N_MANY_MUTANTS = 4000
LONGEST_S = 2.0  # of one bad file; those here take 0.1 s at most
SEEDS = seeds()


def test_seeds__are_of_every_format() -> None:
    assert {read_ecg(files, main).source_format for files, main in SEEDS.values()} == {one.name for one in FORMATS}


@pytest.mark.parametrize("name", SEEDS)
def test_read_ecg__undamaged_file_is_read(name: str) -> None:
    files, main = SEEDS[name]
    assert read_ecg(files, main).leads_uv.shape == (5000, 12)


@pytest.mark.parametrize("name", SEEDS)
def test_read_ecg__mutant_is_read_or_rejected(name: str) -> None:
    _read_mutants(name, range(N_MUTANTS))


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_read_ecg__thousands_of_mutants_are_read_or_rejected_in_time(name: str) -> None:
    _read_mutants(name, range(N_MUTANTS, N_MANY_MUTANTS))


def _read_mutants(name: str, mutants: range) -> None:
    files, main = SEEDS[name]
    n_rejected = n_read = 0
    for seed in mutants:
        damaged = mutant_record(files, seed)
        if main not in damaged:
            continue
        started_s = time.perf_counter()
        try:
            ecg = canonicalise(read_ecg(damaged, main))
        except EcgRejected:
            n_rejected += 1
        else:
            n_read += 1
            assert ecg.counts.shape == (12, 5000), f"seed {seed}"
            assert np.isfinite(ecg.uv_per_count), f"seed {seed}"
        assert time.perf_counter() - started_s < LONGEST_S, f"seed {seed}"
    # The mutants reach the readers: some are noticed, and some change nothing that is read.
    assert n_rejected > 0
    assert n_read > 0


def test_mutant__is_the_same_for_the_same_seed_and_differs_from_the_file() -> None:
    data = SEEDS["wfdb"][0]["rec1.hea"]
    changed = [mutant(data, seed) for seed in range(40)]
    assert changed == [mutant(data, seed) for seed in range(40)]
    assert sum(one != data for one in changed) > 35
    assert len(set(changed)) > 35
