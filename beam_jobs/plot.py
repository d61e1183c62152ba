"""The command `lvm-ai plot-ecg`: ECGs as the standard print, and thumbnails of those refused."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from beam_jobs.pictures.paper import Writer, writing
from beam_jobs.pictures.print12 import Drawable, draw_print
from beam_jobs.pictures.refused import groups_of_inputs, groups_of_run
from beam_jobs.pictures.thumbnails import Group, draw_thumbnails
from beam_jobs.reading.unit_reader import UnitReader
from beam_jobs.reading.units import Unit
from beam_jobs.run.folder import REPORT_NAME, RunFolder
from beam_jobs.run.plan import KEY_ID, Plan
from beam_jobs.run.planner import root_of
from beam_jobs.run.progress import say
from beam_jobs.run.pseudonyms import find_again, load_pseudonyms, with_paths
from beam_jobs.run.settings import IngestSettings, ScoreSettings, storage_of
from beam_jobs.scale import add_reading_options, reader_of
from lvm_core.command_line import ArgumentParser, add_share_option
from lvm_core.errors import LvmError, UsageError
from lvm_core.pseudonyms import Pseudonyms
from lvm_core.wording import counted

_KINDS: Final = (".svg", ".png", ".pdf")
_MOST_THUMBNAILS: Final = 1000
_LONGEST_NOTE: Final = 60  # what one line of the foot holds


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai plot-ecg`."""
    args = parse(argv)
    kind = args.output.suffix.lower()
    if kind not in _KINDS:
        raise UsageError(f"--output {args.output} ends in {kind or 'nothing'}, expected one of {', '.join(_KINDS)}")
    if args.grid is not None and not 1 <= args.grid <= _MOST_THUMBNAILS:
        raise UsageError(f"--grid is {args.grid}, expected 1 to {_MOST_THUMBNAILS}")
    if args.output.exists() and not args.overwrite:
        raise UsageError(f"--output {args.output} is there already; choose another name, or --overwrite")
    if args.grid is not None:
        _plot_grid(args, kind)
    else:
        _plot_ecgs(args, kind)
    sys.stdout.write(f"{args.output}\n")
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the options of `lvm-ai plot-ecg`; exits with 2 on wrong usage."""
    parser = ArgumentParser(
        prog="lvm-ai plot-ecg",
        description="Draw ECGs as the standard print: 3 rows of 4 leads for 2.5 s each and lead II for 10 s, 25 mm/s, "
        "10 mm/mV, true size on A4; an ECG that would be rejected, too. Or a page of what was rejected or flagged. "
        "Research software, not for clinical use.",
    )
    add_reading_options(parser)
    parser.add_argument("--id-pattern", help="as for lvm-ai score")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help=".svg or .png of one ECG, .pdf of many, one a page"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--ecg-id", nargs="+", metavar="X", help="ECGs to draw (default: all)")
    which.add_argument(
        "--grid",
        type=int,
        metavar="N",
        help="thumbnails of a sample of N ECGs that are rejected or flagged, by reason; --input may be the run folder "
        "of an ingest or a scoring",
    )
    parser.add_argument(
        "--source", nargs="+", metavar="URI", help="where the inputs of that run are now (default: where they were)"
    )
    parser.add_argument("--pseudonym-key", metavar="F", help="key of that run, where it has pseudonyms")
    parser.add_argument("--note", metavar="TEXT", help="printed at the foot of each page, for example: synthetic")
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    add_share_option(parser)
    args = parser.parse_args(argv)
    if args.note is not None and len(args.note) > _LONGEST_NOTE:
        raise UsageError(f"--note has {len(args.note)} characters; expected at most {_LONGEST_NOTE}, one line")
    return args


# One a page


def _plot_ecgs(args: argparse.Namespace, kind: str) -> None:
    reader, units = reader_of(args, args.id_pattern)
    wanted = None if args.ecg_id is None else frozenset(args.ecg_id)
    not_drawn: Counter[str] = Counter()
    found: set[str] = set()
    n_drawn = 0
    with _whole_file(args.output, kind) as write:
        for ecg in _drawables(replace(reader, keep_refused=True), units, wanted):
            found.add(ecg.ecg_id)
            if ecg.leads_uv is None:
                if wanted is not None:
                    raise LvmError(f"{ecg.ecg_id} cannot be drawn: {ecg.reason}: {ecg.detail}")
                not_drawn[str(ecg.reason)] += 1
                continue
            if n_drawn and kind != ".pdf":
                raise UsageError(
                    f"--output {args.output} holds one ECG, and there are several; choose one with --ecg-id, or a .pdf"
                )
            write(draw_print(ecg, args.note))
            n_drawn += 1
        _refuse_nothing(n_drawn, wanted, found, not_drawn)
    if not_drawn:
        say(f"not drawn: {', '.join(f'{n} {reason}' for reason, n in sorted(not_drawn.items()))}")


def _refuse_nothing(n_drawn: int, wanted: frozenset[str] | None, found: set[str], not_drawn: Counter[str]) -> None:
    missing = sorted((wanted or frozenset()) - found)
    if missing:
        raise UsageError(f"--ecg-id {', '.join(missing)} not found in the inputs")
    if not n_drawn:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(not_drawn.items())) or "the inputs hold no ECG"
        raise UsageError(f"no ECG could be drawn: {reasons}")


def _drawables(reader: UnitReader, units: Sequence[Unit], wanted: frozenset[str] | None) -> Iterator[Drawable]:
    """Yield ECGs in order, all or those that are wanted; no unit is read after the last of them."""
    left = None if wanted is None else set(wanted)
    for unit in units:
        pieces = tuple(p for p in unit.pieces if left is None or p.is_table or p.ecg_id in left)
        if not pieces or left == set():
            continue
        with reader.open(replace(unit, pieces=pieces)) as chunks:
            for chunk in chunks:
                for item in chunk.results:
                    if left is None or item.ecg_id in left:
                        left = None if left is None else left - {str(item.ecg_id)}
                        yield Drawable.of(item)


# Thumbnails


def _plot_grid(args: argparse.Namespace, kind: str) -> None:
    groups = _groups(args)
    if not groups:
        raise UsageError("no ECG is rejected or has a flag that a picture may show: there is nothing to draw")
    pages = draw_thumbnails(groups, args.note)
    if len(pages) > 1 and kind != ".pdf":
        raise UsageError(
            f"--grid {args.grid} takes {len(pages)} pages, and {kind} holds one; choose a .pdf or a smaller N"
        )
    with _whole_file(args.output, kind) as write:
        for sheet in pages:
            write(sheet)
    for group in groups:
        say(f"{group.title}: {len(group.ecgs)} of {group.n_all} shown")


def _groups(args: argparse.Namespace) -> list[Group]:
    storage = storage_of(args.storage_option)
    inputs = [uri for group in args.input for uri in group]
    folder = RunFolder(storage, inputs[0].rstrip("/") or "/")
    plan = folder.load_plan() if len(inputs) == 1 else None
    if plan is None:
        if args.pseudonym_key is not None:
            raise UsageError("--pseudonym-key is for the run folder of a run with pseudonyms as --input")
        reader, units = reader_of(args, args.id_pattern)
        return groups_of_inputs(replace(reader, keep_refused=True), units, args.grid)
    pseudonyms = load_pseudonyms(storage, args.pseudonym_key)
    stated = plan.settings.get(KEY_ID)
    if stated != (None if pseudonyms is None else pseudonyms.key_id):
        raise UsageError(
            f"{folder.uri} is a run "
            + ("with pseudonyms; expected its key as --pseudonym-key" if stated else "without pseudonyms")
            + (", and the key that is given is another" if pseudonyms is not None and stated else "")
            + ("" if stated else "; expected no --pseudonym-key")
        )
    return groups_of_run(folder, *_readable(folder, plan, args.source, pseudonyms), args.grid)


def _readable(
    folder: RunFolder, plan: Plan, sources: Sequence[str] | None, pseudonyms: Pseudonyms | None
) -> tuple[Plan, UnitReader]:
    """Return a plan with paths, and what reads its inputs as its run did, refused ECGs kept."""
    options = (folder.read_json(REPORT_NAME) or {}).get("options") or {}
    inputs = list(sources or options.get("inputs", []))
    n_roots = 1 + max((piece.root for piece in plan.pieces), default=0)
    if len(inputs) < n_roots:
        raise UsageError(f"the run had {counted(n_roots, 'input')}; name them, in order, with --source")
    kind = ScoreSettings if plan.kind == ScoreSettings.kind else IngestSettings
    settings: ScoreSettings | IngestSettings = kind.from_plan(plan.settings, output=folder.uri, storage=folder.storage)
    roots = tuple(root_of(folder.storage, uri) for uri in inputs)
    if pseudonyms is not None:
        plan = plan.with_units(with_paths(plan.units, find_again(folder.storage, inputs, settings), pseudonyms))
    return plan, replace(settings.reader(roots, None, pseudonyms), keep_refused=True)


# The file


@contextmanager
def _whole_file(path: Path, kind: str) -> Iterator[Writer]:
    """Give what writes pages; the file is there once all are written, and never in part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with writing(temporary, kind) as write:
            yield write
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("plot-ecg"))
