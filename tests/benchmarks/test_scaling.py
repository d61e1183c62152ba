"""The simulation of runs on many workers, against sums by hand and a formula."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import yaml

from tests.benchmarks.bench_page import PLACE_COLUMNS, PLACES, with_places
from tests.benchmarks.scaling import Costs, Division, Load, Outcome, Place, given, kept, simulate, taken
from tests.benchmarks.scaling_check import WAYS
from tests.benchmarks.scaling_page import DOCS, PAGE, PICTURE, page, read_given

# Units of 100 ECGs take 10 s each and nothing else takes time.
COSTS = Costs(ecg_per_s=10, unit_s=0, look_up_s=0, start_s=0, list_file_s=0, key_s=0, commit_s=0, close_ecg_s=0)
QUEUE, SHARDS, TOGETHER = (Place(one.value, one) for one in Division)
ALL = pytest.mark.parametrize("place", [QUEUE, SHARDS, TOGETHER], ids=lambda place: place.name)


def _load(n_units: int) -> Load:
    return Load(n_ecgs=100 * n_units, unit_ecgs=100)


def _run(place: Place, n_units: int, lives: list[list[float]], costs: Costs = COSTS) -> Outcome:
    return simulate(_load(n_units), costs, place, len(lives), given(lives))


@ALL
def test_simulate__workers_share_the_units(place: Place) -> None:
    assert _run(place, 7, [[]]).seconds == pytest.approx(70)
    assert _run(place, 7, [[], []]).seconds == pytest.approx(40)
    assert _run(place, 7, [[], [], []]).seconds == pytest.approx(30)


@ALL
def test_simulate__adds_what_the_command_and_the_workers_do_beside(place: Place) -> None:
    costs = Costs(10, unit_s=1, look_up_s=0, start_s=3, list_file_s=0.5, key_s=0.01, commit_s=0.1, close_ecg_s=0.02)
    load = Load(n_ecgs=200, unit_ecgs=100, n_files=4)
    found = simulate(load, costs, replace(place, engine_start_s=7), 1, kept())
    command_s, plan_s, units_s, close_s = 3 + 7, 4 * 0.5 + 200 * 0.01, 3 + 2 * 11, 2 * 2 * 0.1 + 200 * 0.02
    assert found.seconds == pytest.approx(command_s + plan_s + units_s + close_s)


def test_simulate__shards_plan_and_count_themselves() -> None:
    costs = Costs(10, unit_s=0, look_up_s=0, start_s=3, list_file_s=0.5, key_s=0.01, commit_s=0.1, close_ecg_s=0)
    load = Load(n_ecgs=400, unit_ecgs=100, n_files=4)
    found = simulate(load, costs, replace(SHARDS, workers_plan=True), 2, kept())
    each_s = 3 + 4 * 0.5 + 400 * 0.01 + 2 * 10 + 2 * 4 * 0.1
    assert found.seconds == pytest.approx(each_s)
    assert found.paid_s == pytest.approx(2 * each_s)


def test_simulate__the_store_limits_all_workers_together() -> None:
    limited = replace(QUEUE, store_ecg_per_s=25)
    assert _run(limited, 10, [[], []]).seconds == pytest.approx(50)
    assert _run(limited, 10, [[] for _ in range(5)]).seconds == pytest.approx(2 * 100 / 5)


def test_simulate__requests_to_a_store_take_time() -> None:
    costs = replace(COSTS, unit_requests=3, plan_file_requests=4, commit_requests=1, close_unit_requests=5, readers=2)
    load = Load(n_ecgs=200, unit_ecgs=100, n_files=6)
    found = simulate(load, costs, replace(QUEUE, request_s=0.1), 1, kept())
    plan_s, units_s, close_s = 6 * 4 * 0.1 / 2, 2 * (10 + 3 * 0.1), (2 * 2 * 1 + 2 * 5) * 0.1 / 2
    assert found.seconds == pytest.approx(plan_s + units_s + close_s)


def test_simulate__queue_gives_the_unit_of_a_killed_worker_to_another() -> None:
    # The second worker is taken away at 15 s, in its second unit, and never comes back.
    found = _run(replace(QUEUE, replace_s=1e6), 6, [[], [15]])
    assert found.seconds == pytest.approx(50)
    assert (found.n_kills, found.units_lost, found.wasted_s) == (1, pytest.approx(0.5), pytest.approx(5))
    assert found.paid_s == pytest.approx(50 + 15)


def test_simulate__a_shard_goes_on_where_its_commits_end() -> None:
    # Two units done and 5 s of the third lost; 20 s until the machine is replaced, 3 s of start.
    costs = replace(COSTS, start_s=3)
    found = _run(replace(SHARDS, replace_s=20, workers_plan=True), 8, [[], [28]], costs)
    assert found.seconds == pytest.approx(28 + 20 + 3 + 2 * 10)
    assert found.wasted_s == pytest.approx(5 + 3)
    assert found.paid_s == pytest.approx((3 + 40) + 28 + 23)


def test_simulate__together_all_lose_their_unit_and_look_up_the_finished_ones() -> None:
    costs = replace(COSTS, look_up_s=0.5, start_s=3)
    place = replace(TOGETHER, replace_s=20, begin_again_s=4)
    found = _run(place, 8, [[], [28]], costs)
    # The command starts in 3 s; two units each are done, then looked up, and two are left.
    assert found.seconds == pytest.approx(3 + 28 + (20 + 3 + 4) + 2 * 0.5 + 2 * 10)
    assert found.units_lost == pytest.approx(2 * 0.5)
    assert found.wasted_s == pytest.approx(2 * (5 + 27 + 1))


def test_simulate__together_may_never_end() -> None:
    place = replace(TOGETHER, replace_s=60)
    found = simulate(_load(1000), replace(COSTS, start_s=3), place, 500, taken(1000.0, seed=1))
    assert found.seconds == math.inf


@pytest.mark.parametrize("place", [QUEUE, SHARDS], ids=lambda place: place.name)
@pytest.mark.parametrize("mean_s", [10.0, 40.0])
def test_simulate__one_worker_agrees_with_the_formula_of_repeated_tries(place: Place, mean_s: float) -> None:
    # A unit of u seconds that begins again after each failure, at a rate of 1/m and after r
    # seconds of repair, takes (m + r) (exp(u/m) - 1) on average.
    n_units, unit_s, repair_s = 4000, 10.0, 7.0
    found = simulate(_load(n_units), COSTS, replace(place, replace_s=repair_s), 1, taken(mean_s, seed=3))
    expected_s = n_units * (mean_s + repair_s) * math.expm1(unit_s / mean_s)
    assert found.seconds == pytest.approx(expected_s, rel=0.05)
    assert found.paid_s == pytest.approx(found.seconds - repair_s * found.n_kills, rel=1e-9)
    assert found.wasted_s == pytest.approx(found.paid_s - n_units * unit_s, rel=1e-9)


@pytest.mark.parametrize("place", [QUEUE, SHARDS], ids=lambda place: place.name)
def test_simulate__a_kill_loses_half_a_unit_on_average(place: Place) -> None:
    found = simulate(_load(20_000), COSTS, place, 10, taken(300.0, seed=5))
    assert found.n_kills > 500
    assert found.units_lost / found.n_kills == pytest.approx(0.5, abs=0.04)
    # Only what was lost is paid beside the units, until the last workers wait for the others.
    assert found.wasted_s == pytest.approx(10 * found.units_lost)


def test_page__is_that_of_the_figures() -> None:
    given_now = read_given()
    assert (DOCS / PAGE).read_text(encoding="utf-8") == page(given_now), "run python -m tests.benchmarks.scaling_page"
    assert (DOCS / PICTURE).is_file()


def test_page__rate_of_a_worker_is_that_of_the_benchmarks() -> None:
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    rate = re.search(r"\| \*\*our job, spectral engine\*\* \| [0-9.]+ \| ([0-9]+) \|", text)
    assert rate is not None
    assert read_given().costs.ecg_per_s == float(rate[1])


def test_page__the_simulation_is_near_the_real_runs() -> None:
    rows = read_given().measured["check"]
    assert {"one process, killed once", "two shards"} <= {row["way"] for row in rows} <= {way.name for way in WAYS}
    ratios = [row["simulated_s"] / row["measured_s"] for row in rows]
    assert ratios == pytest.approx([1.0] * len(ratios), abs=0.1)


def test_benchmarks__places_are_those_of_the_file() -> None:
    text = (DOCS / "benchmarks.md").read_text(encoding="utf-8")
    assert with_places(text) == text, "run python -m tests.benchmarks.bench_page"
    places = yaml.safe_load(PLACES.read_text(encoding="utf-8"))["places"]
    assert {name for place in places for name in place} <= set(PLACE_COLUMNS)
