"""What is hidden cannot be worked out from what leaves: three cohorts, a hunter, planted leaks."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import lvm_ai
from analysis.disclosure.aggregates import Aggregate, Kind
from analysis.disclosure.audit import Audit
from analysis.disclosure.masking import Masked, MaskingRule, mask, mask_all
from analysis.disclosure.suppression import Suppressed, suppress
from analysis.report.build import Rendered, computed, constants_of, report_of, topics_of
from analysis.report.topics.cmr_pairs import MORE_RULES
from analysis.report.write import write_export
from analysis.study.data import StudyData, read_study_data
from analysis.study.inputs import load_study
from tests.analysis.report.drawn_predictions import derived
from tests.analysis.report.hunt import Hunter, Key
from tests.analysis.report.hunt_tables import hunt

K = 10
OPEN = 7
OFF = MaskingRule(0, 1)
STUDY = """\
name: hunted
inputs:
  predictions: predictions.parquet
  participants: cohort/participants.csv
  deaths: cohort/deaths.csv
  events: cohort/events.csv
  follow_up_ends: cohort/follow_up_ends.csv
  code_list: codes.csv
  cmr: cohort/cmr.csv
outcomes:
- {name: af, incident_sources: [hes, death], prevalent_sources: [self_report]}
- {name: heart_failure, incident_sources: [hes, death], prevalent_sources: [self_report]}
- {name: ventricular_arrhythmia, incident_sources: [hes, death]}
primary_outcome: af
covariates:
- {name: diabetes, kind: yes_no}
- {name: sbp_mmhg, kind: number}
cmr: {max_days_ecg_cmr: 365}
bootstrap: 0
release: strict
"""
CODES = """\
code,system,match,outcome,source,comment
I48,icd10,prefix,af,hand,
4273,icd9,prefix,af,hand,
1471,self-report,prefix,af,hand,
I50,icd10,prefix,heart_failure,hand,
I110,icd10,prefix,heart_failure,hand,
428,icd9,prefix,heart_failure,hand,
I472,icd10,prefix,ventricular_arrhythmia,hand,
I490,icd10,prefix,ventricular_arrhythmia,hand,
"""


@dataclass(frozen=True)
class Cohort:
    """A synthetic cohort of some shape."""

    n: int
    seed: int
    change: Callable[[pd.DataFrame], pd.DataFrame]
    more: str = ""


def _with_rules(drawn: pd.DataFrame) -> pd.DataFrame:
    """ECG rules that are positive in few, more often where the predicted index is large."""
    rng = np.random.default_rng(2)
    index = drawn["lvmi_pred_g_m2"].to_numpy(dtype=float)
    names = ["rule_avl", "rule_sokolow_lyon", "rule_cornell"]
    for name in names:
        drawn[name] = rng.random(len(drawn)) < np.clip((index - 45) / 300, 0.004, 1)
    drawn["any_ecg_rule"] = drawn[names].any(axis=1)
    for name in MORE_RULES:
        drawn[name] = pd.array(rng.random(len(drawn)) < np.clip((index - 45) / 300, 0.004, 1), dtype="boolean")
    drawn.loc[::97, "rule_peguero_lo_presti"] = None  # a few people without one of the nine
    return drawn


def _few_large_hearts(drawn: pd.DataFrame) -> pd.DataFrame:
    """LVH in a dozen people, unknown in three, and a tenth without an ECG of use."""
    rng = np.random.default_rng(1)
    large = drawn["lvh_pred"].astype(bool) & (drawn["lvmi_pred_g_m2"].rank(ascending=False) > 14)
    limit = drawn["sex"].map({"female": 54.0, "male": 71.0})
    drawn["lvm_pred_g"] = drawn["lvm_pred_g"].mask(large, limit * drawn["bsa_m2"])
    drawn["lvh_pred"] = drawn["lvh_pred"].astype("boolean")
    drawn.loc[[5, 17, 99], "lvh_pred"] = None
    drawn = derived(drawn)
    return drawn[rng.random(len(drawn)) > 0.1]


def _repeats(drawn: pd.DataFrame) -> pd.DataFrame:
    """A second ECG of every third person; seven people without an index."""
    again = drawn.iloc[::3].assign(
        ecg_id=lambda t: t["ecg_id"] + "-again",
        recorded_at=lambda t: t["recorded_at"] + pd.Timedelta(days=400),
        lvm_pred_g=lambda t: t["lvm_pred_g"] + 2.5,
    )
    both = pd.concat([drawn, again], ignore_index=True)
    both.loc[10:16, "lvmi_pred_g_m2"] = np.nan
    return derived(both)


COHORTS = {
    "ordinary": Cohort(5000, 11, _with_rules),
    "few large hearts": Cohort(2500, 12, _few_large_hearts, "latency_days: 30\n"),
    "repeats": Cohort(3500, 13, _repeats, "index: {rule: all}\n"),
}


# Pictures and tables are drawn of one.
ONE_COHORT = pytest.mark.parametrize("run", ["ordinary"], indirect=True)


@dataclass(frozen=True)
class Run:
    """A cohort analysed."""

    data: StudyData
    aggregates: Sequence[Aggregate]
    masked: Mapping[str, Masked]

    def write(self, folder: Path, masked: Mapping[str, Masked]) -> None:
        """The data of an export, without its tables and figures."""
        report = report_of(self.data, self.masked, ())
        write_export(folder, Rendered(masked, report), constants=constants_of(self.data))


def study_data(name: str, folder: Path) -> StudyData:
    """A cohort simulated and read."""
    shape = COHORTS[name]
    people = ["--participants", str(shape.n), "--seed", str(shape.seed), "--no-ecgs"]
    assert lvm_ai.main(["simulate", *people, "--output", str(folder / "cohort")]) == 0
    drawn = pd.read_parquet(folder / "cohort" / "predictions_drawn.parquet")
    shape.change(drawn).to_parquet(folder / "predictions.parquet")
    (folder / "codes.csv").write_text(CODES)
    (folder / "study.yaml").write_text(STUDY + shape.more)
    return read_study_data(load_study(folder / "study.yaml"))


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name != "ordinary" else name for name in COHORTS],
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    data = study_data(request.param, tmp_path_factory.mktemp("hunted"))
    return Run(data, *computed(data, lambda _: None))


@dataclass(frozen=True)
class Unaudited:
    """Masked tables of which no count is rounded more or hidden so that others cannot be found.

    Attributes:
        masked: by key.
        wrong: what of the exact counts is not as it is said to be.
    """

    masked: Mapping[str, Masked]
    wrong: list[str]


@pytest.fixture(scope="module")
def unaudited(run: Run) -> Unaudited:
    found: list[Suppressed] = []

    def remembered(*args: Any) -> Suppressed:
        found.append(suppress(*args))
        return found[-1]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Audit, "run", lambda _: None)
        patched.setattr("analysis.disclosure.masking.suppress", remembered)
        masked = mask_all(run.aggregates, MaskingRule(K, 5))
    return Unaudited(masked, found[0].wrong)


@pytest.fixture(scope="module")
def drawn(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole export, with its page, tables and figures."""
    folder = tmp_path_factory.mktemp("drawn") / "export"
    found = [topic.present(run.masked, run.data.about) for topic in topics_of(run.data)]
    report = report_of(run.data, run.masked, tuple(one for one in found if one is not None))
    write_export(folder, Rendered(run.masked, report), constants=constants_of(run.data))
    return folder


@pytest.fixture(scope="module")
def exact(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[Key, float]:
    """Every count of the study by the hunter's name for it, read from an export without masking."""
    folder = tmp_path_factory.mktemp("open") / "export"
    run.write(folder, {one.key: mask(one, OFF) for one in run.aggregates})
    hunter = hunt(folder, k=0, base=1)
    return {key: low for key, low in hunter.low.items() if low == hunter.high[key]}


def small_and_hidden(hunter: Hunter, exact: Mapping[Key, float]) -> list[Key]:
    return [key for key in hunter.hidden if 0 < exact[key] < K]


def test_hunt__finds_no_hidden_count(run: Run, exact: Mapping[Key, float], tmp_path: Path) -> None:
    """Each hidden count below ten can have OPEN values of 1 to 9 at least, nearly all every one."""
    run.write(tmp_path / "export", run.masked)
    hunter = hunt(tmp_path / "export", K, 5)
    thoughts = hunter.think()
    small = small_and_hidden(hunter, exact)
    assert len(small) > 50
    assert thoughts.is_possible()
    assert [k for k, n in exact.items() if not hunter.low[k] <= n <= hunter.high[k]] == []
    narrowed = thoughts.narrowed(small, K)
    assert len(narrowed) <= len(small) // 50
    assert {k: r for k, r in narrowed.items() if min(r[1], K - 1) - max(r[0], 1) < OPEN - 1} == {}


def test_hunt__finds_what_is_shown_when_masking_is_off(exact: Mapping[Key, float]) -> None:
    assert sum(0 < n < K for n in exact.values()) > 50


def test_hunt__finds_counts_that_only_the_rounding_would_hide(
    run: Run, exact: Mapping[Key, float], unaudited: Unaudited, tmp_path: Path
) -> None:
    """Planted: no count is rounded more or hidden so that others cannot be found."""
    run.write(tmp_path / "naive", unaudited.masked)
    assert_hunter_finds(tmp_path / "naive", 5, exact, 1)


@ONE_COHORT
def test_hunt__finds_counts_that_only_subtraction_tells(
    run: Run, exact: Mapping[Key, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: nothing is rounded, and counts below ten alone are hidden."""
    monkeypatch.setattr(Audit, "run", lambda _: None)
    run.write(tmp_path / "naive", mask_all(run.aggregates, MaskingRule(K, 1)))
    assert_hunter_finds(tmp_path / "naive", 1, exact, 20)


def assert_hunter_finds(folder: Path, base: int, exact: Mapping[Key, float], n: int) -> None:
    """At least n counts that are narrowed, and no one wrongly."""
    hunter = hunt(folder, K, base)
    thoughts = hunter.think()
    assert thoughts.is_possible()
    narrowed = thoughts.narrowed(small_and_hidden(hunter, exact), K, enough=n)
    assert len(narrowed) == n
    assert all(low <= exact[key] <= high for key, (low, high) in narrowed.items())


def test_meanings__are_true_of_the_exact_counts(unaudited: Unaudited) -> None:
    """What counts are said to be makes them equal, add up and be at most others."""
    assert unaudited.wrong == []


def test_blank__is_never_beside_hidden(run: Run) -> None:
    """Numbers of one row are all there or all hidden where their counts are."""
    for one in run.masked.values():
        for column in one.columns:
            if column.kind == Kind.NUMBER:
                gone = one.hidden[list(column.needs)].any(axis=1)
                assert one.hidden.loc[gone, column.name].all(), (one.key, column.name)


def test_estimates__are_not_there_where_an_arm_has_fewer_than_ten(run: Run, tmp_path: Path) -> None:
    run.write(tmp_path / "export", run.masked)
    exported = pd.read_csv(tmp_path / "export" / "results.csv", dtype=str, keep_default_na=False)
    exact = pd.concat(
        [one.rows.astype(object) for one in run.aggregates if one.key.startswith("results_")], ignore_index=True
    )
    assert len(exact) == len(exported)
    counts = exact[["n_people", "n_events", "n_events_fewest"]].apply(pd.to_numeric)
    few = ((counts > 0) & (counts < 10)).any(axis=1)
    assert few.any()
    numbers = exported.loc[few, ["estimate", "se", "lo", "hi", "p", "p_ph", "q"]]
    assert (numbers == "").all(axis=None)


def number(text: str) -> float:
    """A count or person-years of a table, without how far it may be off."""
    return float(text.partition("±")[0].replace(",", ""))


@ONE_COHORT
def test_rates_and_percentages__tell_no_more_than_the_counts_beside_them(drawn: Path) -> None:
    table = pd.read_csv(drawn / "tables" / "rates.csv", dtype=str, keep_default_na=False)
    for events, years, text in table.iloc[:, [4, 6, 7]].itertuples(index=False):
        if text not in ("*", "–"):
            rate = 1000 * number(events) / number(years)
            assert text.startswith(f"{rate:.2f} (")
    for name in ("baseline", "follow_up_ends"):
        cells = pd.read_csv(drawn / "tables" / f"{name}.csv", dtype=str).to_numpy().ravel()
        shares = [cell for cell in cells if isinstance(cell, str) and cell.endswith("%)")]
        assert shares
        assert all(number(cell.split(" (")[0]) % 5 == 0 for cell in shares)


def test_curves__move_in_steps_of_ten_events(run: Run) -> None:
    curves = run.masked["incidence_curves"]
    exact = next(one for one in run.aggregates if one.key == "incidence_curves").rows
    keys = ["outcome", "classification", "group"]
    for place, own in curves.rows.groupby(keys):
        events = exact[(exact[keys] == list(place)).all(axis=1)]["n_events"].max()
        assert len(own) <= 1 + events // 10


@ONE_COHORT
def test_curves__move_in_steps_of_ten_events_also_in_the_picture(run: Run, drawn: Path) -> None:
    curves = run.masked["incidence_curves"].rows
    pictures = list((drawn / "figures").glob("incidence_*.svg"))
    assert pictures
    for path in pictures:
        outcome = path.stem.removeprefix("incidence_").rpartition("_")[0]
        own = curves[(curves["outcome"] == outcome) & curves["incidence"].notna()]
        lines = re.findall(r'<path d="(M [^"]*)"[^>]*style="fill: none; stroke: #', path.read_text())
        longest = max(len(re.findall("[ML] ", line)) for line in lines)
        steps = own.groupby(["classification", "group"]).size().max()
        assert longest <= 2 * steps + 4


@ONE_COHORT
def test_export__holds_no_identifier(run: Run, drawn: Path) -> None:
    ids = set(run.data.ecgs["participant_id"]) | set(run.data.ecgs["ecg_id"])
    pattern = re.compile(r"S11-\d{7}")
    assert all(pattern.match(one) for one in ids)
    for path in drawn.rglob("*"):
        if path.is_dir():
            continue
        content = path.read_bytes()
        if path.suffix == ".docx":
            with zipfile.ZipFile(path) as archive:
                content = b"".join(archive.read(name) for name in archive.namelist())
        assert not pattern.search(content.decode("latin-1")), path.name


def test_every_number__is_masked_by_a_count_or_of_everybody(run: Run) -> None:
    """An estimate that needs no count would leave whatever it rests on."""
    for one in run.aggregates:
        for column in one.columns:
            if column.kind == Kind.NUMBER:
                assert column.needs, (one.key, column.name)
