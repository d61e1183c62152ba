"""The command `lvm-ai analyse`: from a study file to follow-up, tables, figures and one report.

`demo`, the second half of `lvm-ai demo`, analyses the people that the first half has simulated.
"""

from __future__ import annotations

import ctypes
import json
import platform
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

import pyarrow as pa

from analysis.disclosure.masking import mask
from analysis.output_folder import appearing_whole, refuse_foreign
from analysis.report.build import Steps, analyse, constants_of, rule_of, topics_of
from analysis.report.journals import JOURNALS, in_journal
from analysis.report.topics.flow import caught_aggregate, caught_cells, flow_aggregate, flow_cells
from analysis.report.write import check_script, write_export, write_follow_up, write_rendered, write_restricted
from analysis.study.data import read_study_data
from analysis.study.inputs import follow_up_of, load_study, read_inputs
from analysis.study.settings import Study
from lvm_core.command_line import ArgumentParser, add_share_option
from lvm_core.errors import UsageError

_MARK: Final = Path("restricted") / "study.json"
_DEMO_CODES: Final = "code_lists/outcomes.csv"


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai analyse`; mistakes are raised."""
    args = _parser().parse_args(argv)
    if args.schema:
        sys.stdout.write(json.dumps(Study.model_json_schema(), indent=1) + "\n")
        return 0
    if args.study is None:
        raise UsageError("expected a study file, as in lvm-ai analyse study.yaml --check")
    if (args.output is None) == (not args.check):
        raise UsageError("expected either --check or --output FOLDER")
    if args.output is not None:
        refuse_foreign(args.output, _MARK, "a study", overwrite=args.overwrite)
    study = load_study(args.study)
    with in_journal(args.journal):
        notes = _preview(study) if args.check else _run(args.output, study)
    sys.stderr.write("".join(f"warning: {text}\n" for text in notes))
    return 0


def demo(argv: Sequence[str]) -> int:
    """Analyse the cohort that the first half of `lvm-ai demo` has simulated in its folder."""
    parser = ArgumentParser(prog="lvm-ai demo", add_help=False)
    parser.add_argument("output", type=Path)
    for option in ("--ecgs", "--people"):  # of the first half, which has checked them
        parser.add_argument(option)
    parser.add_argument("--overwrite", action="store_true")
    folder = parser.parse_args(argv).output
    study = folder / "study.yaml"
    for name, path in {"demo.yaml": study, _DEMO_CODES: folder / _DEMO_CODES}.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(files("studies").joinpath(name).read_text(encoding="utf-8"), encoding="utf-8")
    sys.stderr.write(f"the same again: lvm-ai analyse {study} --output OTHER_FOLDER\n")
    return main([str(study), "--output", str(folder / "study"), "--overwrite"])


def _preview(study: Study) -> tuple[str, ...]:
    """Read and check all that an analysis reads, print the masked flow, and return the notes."""
    read = read_inputs(study)
    if _fits(study):
        data = read_study_data(study, read)
        people, eligibility, caught, notes = data.follow_up, data.eligibility, data.codes_caught, data.notes
    else:
        found = follow_up_of(study, read)
        people, eligibility, caught, notes = found.people, found.eligibility, found.codes_caught, found.notes
    words, rule = {one.name: one.words for one in study.all_outcomes}, rule_of(study)
    cells = flow_cells(mask(flow_aggregate(people, eligibility), rule), words)
    sys.stdout.write(f"{study.name}: people by reason{_rule_text(study)}\n\n{cells.to_string(index=False)}\n")
    codes = caught_cells(mask(caught_aggregate(caught[caught["outcome"].isin(words)]), rule), words)
    sys.stdout.write(f"\ncodes that the lists caught{_rule_text(study)}\n\n{codes.to_string(index=False)}\n")
    return (*study.notes, *read.warnings, *notes)


def _rule_text(study: Study) -> str:
    """What is hidden, to stand behind other words; "" where nothing is."""
    rule = study.release
    rounded = f", others rounded to {rule.base}" if rule.base > 1 else ""
    return f", release {rule.rule} (below {rule.k} hidden{rounded})" if rule.k > 1 else ""


def _fits(study: Study) -> bool:
    """Return whether anything is analysed beyond follow-up."""
    return study.report or study.hazard_ratios


def _run(folder: Path, study: Study) -> tuple[str, ...]:
    with appearing_whole(folder) as partial:
        if _fits(study):
            notes = _analyse(partial, study)
        else:
            read = read_inputs(study)
            found = follow_up_of(study, read)
            notes = (*study.notes, *read.warnings, *found.notes)
            write_follow_up(partial / "restricted", study, found.people, found.flow)
    sys.stdout.write(_outputs(folder, study))
    return notes


def _analyse(partial: Path, study: Study) -> tuple[str, ...]:
    """Write everything, and return the notes about the inputs."""
    with Steps() as steps:
        steps.start("reading and following up")
        read = read_inputs(study)
        data, warnings = read_study_data(study, read), read.warnings
        del read  # the participants as they were given are large
        _release_memory()
        steps.expect(len(topics_of(data)) + 4)
        found = analyse(data, steps.start)
        steps.start("writing")
        write_restricted(partial / "restricted", data, found.aggregates)
        if study.report:
            texts = {"check.R": check_script()} if study.hazard_ratios else {}
            write_rendered(partial / "restricted", found.restricted)
            write_export(partial / "export", found.export, constants=constants_of(data), texts=texts)
    return (*study.notes, *warnings, *data.notes)


def _release_memory() -> None:
    """Give back what reading needed: with half a million people these are 400 MB of 2.2 GB."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _outputs(folder: Path, study: Study) -> str:
    lines = [f"restricted  {folder / 'restricted'}  (rows of people, exact counts: stay here)"]
    if study.report:
        masked = _rule_text(study).removeprefix(", ") or "release none: NOTHING IS HIDDEN"
        lines += [
            f"exact       {folder / 'restricted' / 'report.html'}  (not for release)",
            f"export      {folder / 'export'}  ({masked})",
            f"report      {folder / 'export' / 'report.html'}",
        ]
    return "\n".join([*lines, ""])


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="lvm-ai analyse",
        description="Check a study file, follow people up (index ECG, exclusions, time and status "
        "for each outcome), and write tables, figures and a report of one page. What may leave is "
        "in export/, built from masked tables alone; restricted/ stays where the data are. "
        "Research software, not for clinical use.",
    )
    parser.add_argument("study", type=Path, nargs="?", help="YAML file, see docs/methods.md")
    parser.add_argument(
        "--check", action="store_true", help="read and check everything, show masked counts and write nothing"
    )
    parser.add_argument("--output", type=Path, default=None, help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier output")
    parser.add_argument(
        "--journal",
        choices=list(JOURNALS),
        default="plain",
        help="format of numbers in tables, figures and text, as one family of journals prints them "
        "(default: plain, as 1.53 (1.27 to 1.84) and P<0.001)",
    )
    add_share_option(parser)
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of study files, for editors")
    return parser
