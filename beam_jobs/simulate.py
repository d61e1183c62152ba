"""The command `lvm-ai simulate`: a synthetic cohort with its truth, in files as cohorts come."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from beam_jobs.reading import local_files
from beam_jobs.run.progress import say, showing
from beam_jobs.simulated_cohort import (
    FORMATS,
    ID_PATTERN,
    PARQUET_ROWS,
    RAW_PEOPLE,
    EcgPart,
    has_repeat,
    write_part,
    write_tables,
)
from beam_jobs.simulated_shapes import SHAPES, write_shape
from lvm_core.command_line import ArgumentParser, Share, add_share_option
from lvm_core.errors import LvmError, UsageError
from lvm_core.formats.registry import ECG_SUFFIXES
from lvm_core.synthetic.outcomes import FIRST_AGE_YEARS, OUTCOMES_TRUTH, lowest_correlation
from lvm_core.synthetic.people import synthetic_people
from lvm_core.synthetic.records import CODE_LISTS, DEFAULT_OTHER_RECORDS
from lvm_core.wording import counted
from models.machine.host import available_cores

_MARK_NAME: Final = "simulation.json"
_DEFAULT_DRAWN_R: Final = 0.79
_OURS: Final = re.compile(
    rf"raw/({'|'.join(FORMATS)})/[^/]+_20205_\d+_\d+({'|'.join(map(re.escape, ECG_SUFFIXES))})"
    r"|ecg/part-\d+\.parquet|(participants|events|deaths|follow_up_ends|cmr)\.csv"
    r"|encounters\.csv|(ukb-rap|ehr|omop)/[a-z_]+\.(csv|parquet)"
    rf"|(truth|predictions_drawn)\.parquet|README\.md|{re.escape(_MARK_NAME)}|(ecg/)?\.[^/]*\.tmp"
)
_FOLDERS: Final = (*(f"raw/{name}" for name in FORMATS), "raw", "ecg", *SHAPES)


@dataclass(frozen=True)
class SimulateOptions:
    """Options of `lvm-ai simulate`."""

    participants: int  # number of people, 1 or more
    seed: int  # of the cohort, 0 or more
    output: Path  # folder to make, local
    formats: tuple[str, ...] = FORMATS  # of `FORMATS`; empty with `parquet` and `no_ecgs`
    no_ecgs: bool = False  # tables only, with drawn predictions
    drawn_r: float = _DEFAULT_DRAWN_R  # correlation of drawn predictions with the true mass
    other_records: float = DEFAULT_OTHER_RECORDS  # mean number of records of other diseases a person, 0 or more
    shapes: tuple[str, ...] = ()  # of `SHAPES`, in which the tables are written again
    threads: int = 1  # processes at work, 1 or more
    overwrite: bool = False  # remove what an earlier simulation left
    share: Share | None = None  # who else may read what is written; None for nobody

    def __post_init__(self) -> None:
        for name, least in (("participants", 1), ("seed", 0), ("other_records", 0), ("threads", 1)):
            if not (value := getattr(self, name)) >= least:
                raise UsageError(f"--{name.replace('_', '-')} is {value}, expected {least} or more")
        lowest = np.ceil(1000 * lowest_correlation()) / 1000
        if not lowest <= self.drawn_r <= 1:
            raise UsageError(
                f"--drawn-correlation is {self.drawn_r:g}, expected {lowest:g} to 1: "
                "sex, age and BMI alone correlate with the mass by the least of these"
            )


def parse(argv: Sequence[str]) -> SimulateOptions:
    """Parse the arguments of `lvm-ai simulate`; exits with 2 on wrong usage."""
    parser = ArgumentParser(
        prog="lvm-ai simulate",
        description="Write a synthetic cohort with its truth: ECGs, participants, events, deaths, "
        "CMR. None of these people exists.",
        epilog="The same seed gives the same people, however many there are, and the same bytes, "
        "whatever --threads. Exit codes: 0 done, 1 failed, 2 wrong usage.",
    )
    parser.add_argument("--participants", type=int, required=True, metavar="N", help="people")
    parser.add_argument("--seed", type=int, required=True, metavar="S", help="decides everything")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to make")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--parquet", action="store_true", help="ECG Parquet instead of device files")
    kind.add_argument(
        "--formats",
        nargs="+",
        choices=FORMATS,
        default=list(FORMATS),
        help="formats of device files, by turns (default: all)",
    )
    kind.add_argument("--no-ecgs", action="store_true", help="tables only, and drawn predictions")
    parser.add_argument(
        "--drawn-correlation",
        dest="drawn_r",
        type=float,
        default=_DEFAULT_DRAWN_R,
        metavar="R",
        help="with --no-ecgs: correlation of drawn and true mass (default: %(default)s)",
    )
    parser.add_argument(
        "--other-records",
        type=float,
        default=DEFAULT_OTHER_RECORDS,
        metavar="M",
        help="mean number of records of other diseases a person (default: %(default)s)",
    )
    parser.add_argument(
        "--shape",
        dest="shapes",
        nargs="+",
        choices=SHAPES,
        default=[],
        help="write the tables again as an extract of UK Biobank's platform, of a hospital, or as OMOP",
    )
    parser.add_argument("--threads", type=int, default=available_cores(), help="processes (default: all cores)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier simulation")
    add_share_option(parser)
    args = vars(parser.parse_args(argv))
    no_device_files = args.pop("parquet") or args["no_ecgs"]
    args["formats"] = () if no_device_files else tuple(dict.fromkeys(args["formats"]))
    args["shapes"] = tuple(dict.fromkeys(args["shapes"]))
    return SimulateOptions(**args)


def simulate(options: SimulateOptions) -> dict[str, Any]:
    """Write a cohort and return what `simulation.json` says; refuse a folder with other things."""
    folder = options.output
    if options.share is None and (warning := local_files.open_to_others(folder)):
        say(f"warning: {warning}")
    _prepare(folder, overwrite=options.overwrite)
    _write_json(folder, {"synthetic": True, "state": "unfinished"})
    say(f"making the tables of {options.participants} synthetic people")
    drawn_r = options.drawn_r if options.no_ecgs else None
    counts = write_tables(folder, options.participants, options.seed, options.other_records, drawn_r)
    for shape in options.shapes:
        say(f"writing them again in the shape {shape}")
        counts |= write_shape(folder, shape)
    counts["ecgs"] = 0 if options.no_ecgs else _write_ecgs(options)
    report = _report(options, counts)
    (folder / "README.md").write_text(_readme(report), encoding="utf-8")
    _write_json(folder, report)
    return report


def _prepare(folder: Path, *, overwrite: bool) -> None:
    """Make the folder, and remove an earlier simulation where asked; nothing else is removed."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder} is a file; expected a folder to make")
    folder.mkdir(parents=True, exist_ok=True)
    found = list(_files(folder))
    if not found:
        return
    if _MARK_NAME not in found:
        raise UsageError(
            f"--output {folder} is not empty and no earlier simulation ({found[0]}); expected a new or empty folder"
        )
    if not overwrite:
        raise UsageError(f"--output {folder} holds a simulation; add --overwrite to replace it")
    foreign = [name for name in found if not _OURS.fullmatch(name)]
    if foreign:
        raise UsageError(
            f"--output {folder} holds {foreign[0]}, which no simulation wrote, among "
            f"{len(foreign)}; move it away before --overwrite"
        )
    # The mark goes last: until then a killed clean-up is still seen as a simulation.
    for name in sorted(found, key=lambda name: name == _MARK_NAME):
        (folder / name).unlink()
    for name in _FOLDERS:
        if (folder / name).is_dir():
            (folder / name).rmdir()


def _files(folder: Path) -> Iterator[str]:
    """Yield everything below a folder but the folders of a simulation; links are not followed."""
    for at, folders, names in os.walk(folder):
        for name in sorted([*folders, *names]):
            path = (Path(at) / name).relative_to(folder).as_posix()
            if path not in _FOLDERS or (folder / path).is_symlink():
                yield path


def _write_ecgs(options: SimulateOptions) -> int:
    """Write all ECGs, in several processes; return how many."""
    folder = options.output
    for name in [f"raw/{name}" for name in options.formats] or ["ecg"]:
        (folder / name).mkdir(parents=True, exist_ok=True)
    step = RAW_PEOPLE if options.formats else PARQUET_ROWS
    stops = [min(start + step, options.participants) for start in range(0, options.participants, step)]
    parts = [EcgPart(folder, options.seed, (stop - 1) // step * step, stop, options.formats) for stop in stops]
    people = synthetic_people(options.participants, options.seed)
    total = options.participants + int(has_repeat(people).sum())
    started = time.monotonic()
    written: list[int] = []
    with showing(total, "simulate", lambda: sum(written)):
        for n_ecgs in _run(parts, min(options.threads, len(parts))):
            written.append(n_ecgs)
    rate = sum(written) / (time.monotonic() - started)
    say(f"wrote {counted(sum(written), 'ECG')}, {rate:.1f} ECG/s")
    return sum(written)


def _run(parts: Sequence[EcgPart], processes: int) -> Iterator[int]:
    """Write the parts; yield the number of ECGs of each as it is done."""
    if processes == 1:
        yield from map(write_part, parts)
        return
    # spawn: nothing of this process is inherited, whatever threads it has.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context) as pool:
        with _no_interrupts():  # of the processes: Ctrl-C is for this one, which lets parts end
            futures = [pool.submit(write_part, part) for part in parts]
        try:
            yield from (future.result() for future in as_completed(futures))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C, here for a moment and for good in the processes started meanwhile."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _report(options: SimulateOptions, counts: dict[str, int]) -> dict[str, Any]:
    """Return what `simulation.json` says: no time, host or path, so that it can be compared."""
    ecgs = "none" if options.no_ecgs else "device files" if options.formats else "parquet"
    return {
        "synthetic": True,
        "state": "finished",
        "participants": options.participants,
        "seed": options.seed,
        "ecgs": ecgs,
        "formats": list(options.formats),
        "shapes": list(options.shapes),
        "other_records": options.other_records,
        "drawn_correlation": options.drawn_r if options.no_ecgs else None,
        "id_pattern": ID_PATTERN,
        "counts": dict(sorted(counts.items())),
        "hazards": {name: asdict(hazard) for name, hazard in OUTCOMES_TRUTH.items()},
        "disease_from_age_years": FIRST_AGE_YEARS,
        "code_lists": {
            name: [{"system": system, "prefix": prefix} for system, prefix in rows] for name, rows in CODE_LISTS.items()
        },
        "versions": {**{n: version(n) for n in ("lvm-ai", "numpy", "pyarrow")}, "python": platform.python_version()},
    }


def _write_json(folder: Path, content: dict[str, Any]) -> None:
    data = (json.dumps(content, indent=2) + "\n").encode()
    local_files.write_whole(folder / _MARK_NAME, data, private=False)


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai simulate`."""
    options = parse(argv)
    try:
        report = simulate(options)
    except KeyboardInterrupt:
        say(f"stopped. {options.output} is unfinished; --overwrite starts again")
        return 130
    except BrokenProcessPool as error:
        raise LvmError(
            "a process was killed, perhaps for want of memory (0.5 GB each); use fewer --threads, with --overwrite"
        ) from error
    except OSError as error:
        raise LvmError(f"{options.output} is unfinished: {error}") from error
    counts = report["counts"]
    sys.stdout.write(
        f"{options.output}: {report['participants']} synthetic people, {counted(counts['ecgs'], 'ECG')}, "
        f"{counts['events.csv']} events\n"
    )
    return 0


_HEAD: Final = """\
# SYNTHETIC cohort: none of these people exists

Made by `lvm-ai simulate --seed {seed} --participants {participants}`. The ECGs, the diseases and
the deaths are drawn from formulas that somebody chose. They serve to test software; nothing about
real hearts may be concluded from them.

| file | what it is |
|---|---|
"""

_TABLES: Final = """\
| participants.csv | one row per person: sex, birth date, body size, region and covariates |
| events.csv | coded events, with the mess of real ones: duplicates, ways of spelling, \
old systems, placeholder dates, events after death, codes that only look alike |
| deaths.csv | death and loss to follow-up, of those who have one and as far as registers know |
| follow_up_ends.csv | last day of records, by region and source |
| cmr.csv | LV mass by CMR, truth plus error, of about 60 % of the people |
| truth.parquet | what is true of each person: mass, covariates, exact ages at diseases and death |
| simulation.json | seed, hazards, code lists, counts, versions |
"""

_SHAPES: Final = """\
| {shape}/ | the same people and records as an extract of the shape {shape} |
"""

_RAW: Final = """\
| raw/ | files of devices: CardioSoft XML, MUSE XML, WFDB; NAME_20205_INSTANCE_0, instance 3 is a \
second ECG two years later |

```
lvm-ai ingest --input raw --id-pattern '{id_pattern}' --output ingested
lvm-ai score --input ingested/ecg --participants participants.csv --model MODEL --output scored
```
"""

_PARQUET: Final = """\
| ecg/ | ECG Parquet, one row per ECG |

```
lvm-ai score --input ecg --participants participants.csv --model MODEL --output scored
```
"""

_DRAWN: Final = """\
| predictions_drawn.parquet | predictions that no model made: the mass expected from sex, age, BMI \
and a noisy signal, drawn so that they correlate with the truth by {drawn_correlation:g} |
"""


def _readme(report: dict[str, object]) -> str:
    """Return the text for a cohort that `simulation.json` describes."""
    last = {"device files": _RAW, "parquet": _PARQUET, "none": _DRAWN}[str(report["ecgs"])]
    shapes = "".join(_SHAPES.format(shape=shape) for shape in SHAPES if shape in str(report["shapes"]))
    return _HEAD.format(**report) + _TABLES + shapes + last.format(**report)


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("simulate"))
