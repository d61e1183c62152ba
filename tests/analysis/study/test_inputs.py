"""The study file and `lvm-ai analyse`: mistakes with lines, masked counts, what is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import lvm_ai
from analysis.study.inputs import follow_up_of, load_study
from lvm_core.errors import UsageError
from tests.analysis.statistics.references import GOLDEN, expected

STUDY = """\
name: cases
inputs:
  predictions: ecgs.csv
  participants: persons.csv
  events: events.csv
  follow_up_ends: ends.csv
  code_list: codes.csv
exposure: lvm_pred_g
hazard_ratios: false
report: false
outcomes:
- name: af
  incident_sources: [hes, death]
primary_outcome: af
"""
CODES = """\
code,system,match,outcome,source,comment
I48,icd10,prefix,af,hand,
427.3,ICD9,prefix,af,hand,
"""
LAST = "primary_outcome: af"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("ecgs", "persons", "events"):
        shutil.copy(GOLDEN / "followup" / f"{name}.csv", tmp_path)
    (tmp_path / "codes.csv").write_text(CODES)
    ends = expected("followup")["rules"]["admin_end"]
    rows = [f"{region},{source},{day}" for region, day in ends.items() for source in ("hes", "death")]
    (tmp_path / "ends.csv").write_text("\n".join(["region,source,end_date", *rows, ""]))
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def test_follow_up_of__a_study_file_gives_the_given_cases(folder: Path) -> None:
    people = follow_up_of(load_study(folder / "study.yaml")).people.set_index("participant_id")
    for person, case in expected("followup")["expected"].items():
        row = people.loc[person]
        if "excluded" in case:
            assert row["excluded"] == case["excluded"]
        else:
            assert (row["time_days"], row["status"]) == (case["time"], case["status"])


def test_follow_up_of__columns_of_other_names_and_lists_of_people(folder: Path) -> None:
    persons = pd.read_csv(folder / "persons.csv", dtype=str).rename(columns={"region": "nation"})
    persons.to_csv(folder / "persons.csv", index=False)
    (folder / "gone.txt").write_text("1\n\n")
    (folder / "out.csv").write_text("eid,why\n4,trained on\n")
    text = STUDY.replace("exposure:", "columns:\n  persons:\n    region: nation\nexposure:").replace(
        "  code_list: codes.csv\n", "  code_list: codes.csv\n  withdrawn: gone.txt\n  excluded: out.csv\n"
    )
    (folder / "study.yaml").write_text(text)
    people = follow_up_of(load_study(folder / "study.yaml")).people.set_index("participant_id")
    assert people.loc[["1", "4", "5"], "excluded"].tolist() == ["withdrawn", "excluded_by_list", None]


def test_follow_up_of__a_run_folder_is_read_like_a_table(folder: Path) -> None:
    (folder / "scored" / "predictions").mkdir(parents=True)
    ecgs = pd.read_csv(folder / "ecgs.csv", dtype=str)
    for part in (0, 1):
        ecgs.iloc[part::2].to_parquet(folder / "scored" / "predictions" / f"{part}.parquet")
    whole = follow_up_of(load_study(folder / "study.yaml")).people
    (folder / "study.yaml").write_text(STUDY.replace("ecgs.csv", "scored"))
    pd.testing.assert_frame_equal(follow_up_of(load_study(folder / "study.yaml")).people, whole)


def test_follow_up_of__a_run_that_is_not_finished_is_refused(folder: Path) -> None:
    (folder / "scored" / "predictions").mkdir(parents=True)
    ecgs = pd.read_csv(folder / "ecgs.csv", dtype=str)
    ecgs.to_parquet(folder / "scored" / "predictions" / "0.parquet")
    (folder / "scored" / "plan.json").write_text('{"kind": "score"}')
    (folder / "study.yaml").write_text(STUDY.replace("ecgs.csv", "scored"))
    with pytest.raises(UsageError, match=r"scored is a run that is not finished .*no _SUCCESS"):
        follow_up_of(load_study(folder / "study.yaml"))
    (folder / "scored" / "_SUCCESS").touch()
    assert len(follow_up_of(load_study(folder / "study.yaml")).people)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: cases", "nam: cases", r"(?s)line 1: name is missing.*line 1: nam is no setting"),
        ("  events: e", "  evnts: e", "line 5: inputs.evnts is no setting; expected some of pred"),
        ("[hes, death]", "[]", "line 13: outcomes.0.incident_sources is"),
        (LAST, "primary_outcome: mi", "primary_outcome is 'mi', expected one of af"),
        (LAST, f"{LAST}\nindex: {{rule: last}}", "line 15: index.rule is 'last'"),
        (LAST, f"{LAST}\ncmr: {{max_days_ecg_cmr: 30}}", "inputs.cmr and cmr .* are needed"),
        (LAST, f"{LAST}\nhospital: {{grace_days: 30}}", "hospital and inputs.encounters are"),
        (
            LAST,
            f"{LAST}\ncovariates: [{{name: a, kind: category}}]",
            "line 15: covariates.0: .*a category needs its reference",
        ),
        (LAST, f"{LAST}\nrelease: {{k: -1}}", "line 15: release.k is -1"),
        (LAST, f"{LAST}\nrelease: lenient", "line 15: release is 'lenient'"),
        (LAST, f"{LAST}\nrelease: {{preset: ukb, k: 3}}", "preset ukb sets rule, k and base, but k"),
        (LAST, f"{LAST}\nrelease: {{rule: none, k: 3}}", "rule none hides and rounds nothing"),
        (LAST, f"{LAST}\nrelease: {{k: 1}}", "expected 2 or more with rule standard"),
        (LAST, f"{LAST}\nmasking: {{k: -1}}", "masking is .*write `release: strict`"),
        (LAST, f"{LAST}\nmasking: {{k: 0}}", "masking rounds but hides nothing"),
        (LAST, f"{LAST}\nmasking: {{k: 5}}\nrelease: strict", "expected release alone"),
        (LAST, f"{LAST}\nindex: {{rule: last_on_or_before}}", "line 15: index: .*needs a date"),
        (LAST, f"{LAST}\nlatency_days: -3", "line 15: latency_days is -3"),
        (LAST, f"- name: af\n  incident_sources: [hes]\n{LAST}", "are af, af, expected each once"),
        ("persons.csv", "nobody.csv", "inputs of .* do not exist: participants: .*nobody.csv"),
    ],
)
def test_load_study__mistakes_are_shown_with_their_lines(folder: Path, old: str, new: str, message: str) -> None:
    assert old in STUDY
    (folder / "study.yaml").write_text(STUDY.replace(old, new))
    with pytest.raises(UsageError, match=message):
        load_study(folder / "study.yaml")


def test_command__check_shows_masked_counts_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert lvm_ai.main(["analyse", str(folder / "study.yaml"), "--check"]) == 0
    flow = capsys.readouterr().out.split("codes that the lists caught")[0].rstrip()
    lines = [line.rsplit(maxsplit=1) for line in flow.splitlines()[3:]]
    shown = {words.strip(): count for words, count in lines}
    assert (shown["In any table"], shown["Withdrawn"]) == ("*", "0")
    assert shown["Outcome on or before the index date"] == "*"
    assert sorted(folder.rglob("*")) == before


def test_command__writes_restricted_and_replaces_only_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["analyse", str(folder / "study.yaml"), "--output", str(folder / "out")]
    assert lvm_ai.main(command) == 0
    restricted = folder / "out" / "restricted"
    assert len(pd.read_parquet(restricted / "follow_up.parquet")) == 14
    assert not any(path.stat().st_mode & 0o077 for path in [restricted, *restricted.iterdir()])
    assert pd.read_csv(restricted / "flow.csv")["n_people"].iloc[0] == 14
    assert json.loads((restricted / "study.json").read_text())["study"]["name"] == "cases"
    assert lvm_ai.main(command) == 2
    assert lvm_ai.main([*command, "--overwrite"]) == 0
    (restricted / "study.json").unlink()
    assert lvm_ai.main([*command, "--overwrite"]) == 2
    assert "is not the output of a study" in capsys.readouterr().err
    assert lvm_ai.main(command[:2]) == 2


def test_lists_of_people__with_several_columns_need_a_name(folder: Path) -> None:
    (folder / "out.csv").write_text("a,b\n4,5\n")
    (folder / "study.yaml").write_text(STUDY.replace("  events:", "  excluded: out.csv\n  events:"))
    with pytest.raises(UsageError, match="columns a, b; expected one of participant_id, eid, "):
        follow_up_of(load_study(folder / "study.yaml"))


@pytest.mark.slow
def test_page__its_study_runs_on_the_cohort_that_it_makes(tmp_path: Path) -> None:
    page = (GOLDEN.parents[1] / "docs" / "follow_up.md").read_text(encoding="utf-8")
    (tmp_path / "study.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    (tmp_path / "codes.csv").write_text("code,system" + page.split("```\ncode,system")[1].split("```")[0])
    cohort = ["--participants", "3000", "--seed", "1", "--no-ecgs"]
    assert lvm_ai.main(["simulate", *cohort, "--output", str(tmp_path / "cohort")]) == 0
    command = ["analyse", str(tmp_path / "study.yaml"), "--output", str(tmp_path / "study")]
    assert lvm_ai.main(command) == 0
    people = pd.read_parquet(tmp_path / "study" / "restricted" / "follow_up.parquet")
    assert len(people) == 3000
    assert set(people["status"].dropna()) == {0, 1, 2}


def test_load_study__masking_of_earlier_files_is_strict_with_a_note(folder: Path) -> None:
    (folder / "study.yaml").write_text(f"{STUDY}masking: {{k: 5, base: 5}}\n")
    study = load_study(folder / "study.yaml")
    assert (study.release.rule, study.release.k, study.release.base) == ("strict", 5, 5)
    assert "release: {rule: strict, k: 5, base: 5}" in study.notes[0]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("standard", ("standard", 10, 1)),
        ("strict", ("strict", 10, 5)),
        ("none", ("none", 0, 1)),
        ("{preset: opensafely}", ("standard", 8, 5)),
        ("{preset: all-of-us}", ("strict", 21, 1)),
        ("{preset: nhs-england}", ("standard", 8, 5)),
        ("{preset: ukb}", ("standard", 5, 1)),
    ],
)
def test_load_study__release_by_name_and_by_custodian(folder: Path, given: str, expected: tuple[str, int, int]) -> None:
    (folder / "study.yaml").write_text(f"{STUDY}release: {given}\n")
    release = load_study(folder / "study.yaml").release
    assert (release.rule, release.k, release.base) == expected


def _with_codes(folder: Path, rows: str, more: str = "") -> None:
    (folder / "codes.csv").write_text("code,system,match,outcome,source,comment\n" + rows)
    (folder / "study.yaml").write_text(STUDY + more)


def test_follow_up_of__an_outcome_that_no_record_has_stops(folder: Path) -> None:
    _with_codes(folder, "Q99,icd10,prefix,af,hand,\n")
    with pytest.raises(UsageError, match=r"no record has a code of the outcome af, which are icd10 Q99") as refusal:
        follow_up_of(load_study(folder / "study.yaml"))
    assert "The records hold icd10 (as I48" in str(refusal.value)
    _with_codes(folder, "Q99,icd10,prefix,af,hand,\n", "allow_unknown: true\n")
    found = follow_up_of(load_study(folder / "study.yaml"))
    assert any("no record has a code of the outcome af" in note and "as allow_unknown" in note for note in found.notes)


def test_follow_up_of__a_system_that_no_record_has_stops(folder: Path) -> None:
    _with_codes(folder, "I48,icd10,prefix,af,hand,\nK62.1,OPCS-4,prefix,af,hand,\n")
    with pytest.raises(
        UsageError, match=r"no record has a code of opcs4, of which the code list has K621 .of af"
    ) as no:
        follow_up_of(load_study(folder / "study.yaml"))
    assert "write `without_systems: [opcs4]`" in str(no.value)
    _with_codes(folder, "I48,icd10,prefix,af,hand,\nK62.1,OPCS-4,prefix,af,hand,\n", "without_systems: [OPCS4]\n")
    assert follow_up_of(load_study(folder / "study.yaml")).code_hits["code"].tolist() == ["I48"]
    _with_codes(folder, "I48,icd10,prefix,af,hand,\n", "without_systems: [cpt]\n")
    with pytest.raises(UsageError, match="without_systems names cpt, of which the code list has no code; it has icd10"):
        follow_up_of(load_study(folder / "study.yaml"))


def test_follow_up_of__published_lists_and_a_map_of_phecodes(folder: Path) -> None:
    whole = follow_up_of(load_study(folder / "study.yaml")).people
    (folder / "af.csv").write_text("code,description,coding_system\nI48,x,ICD10 codes\n427.3,x,ICD9 codes\n")
    lists = "code_lists:\n- {outcome: af, file: af.csv, match: prefix}\n"
    (folder / "study.yaml").write_text(STUDY.replace("  code_list: codes.csv\n", "") + lists)
    pd.testing.assert_frame_equal(follow_up_of(load_study(folder / "study.yaml")).people, whole)
    recorded = pd.read_csv(folder / "events.csv", dtype=str)
    ours = recorded[recorded["code"].str.replace(".", "").str.upper().str.startswith(("I48", "4273"))]
    rows = "".join(f"427.2,{code},{system}\n" for code, system in set(zip(ours["code"], ours["system"], strict=True)))
    (folder / "map.csv").write_text(f"phecode,ICD,vocabulary_id\n{rows}")
    _with_codes(folder, "427.2,phecode,prefix,af,hand,\n")
    text = (folder / "study.yaml").read_text().replace("codes.csv", "codes.csv\n  phecode_map: map.csv")
    (folder / "study.yaml").write_text(text)
    pd.testing.assert_frame_equal(follow_up_of(load_study(folder / "study.yaml")).people, whole)


def test_load_study__needs_codes(folder: Path) -> None:
    (folder / "study.yaml").write_text(STUDY.replace("  code_list: codes.csv\n", ""))
    with pytest.raises(UsageError, match=r"there are no codes of outcomes; expected inputs\.code_list or code_lists"):
        load_study(folder / "study.yaml")


def test_check__prints_what_the_lists_caught(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lvm_ai.main(["analyse", str(folder / "study.yaml"), "--check"]) == 0
    printed = capsys.readouterr().out.split("codes that the lists caught")[1]
    (line,) = [one.split() for one in printed.splitlines() if " I48 " in one]
    assert line[:3] == ["af", "ICD-10", "I48"]
