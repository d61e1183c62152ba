"""Is a run folder what it claims? Counts, footers, tables, and a sample computed again."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from beam_jobs.reading.parquet_input import DAMAGE, open_parquet, read_footer, read_table
from beam_jobs.reading.unit_reader import UnitReader
from beam_jobs.reading.units import Unit
from beam_jobs.run.commit import read_footer_json, read_rejects, reasons_of, rejects_of, rows_sha256
from beam_jobs.run.exclusions import Exclusions
from beam_jobs.run.folder import REPORT_NAME, RunFolder, reconcile
from beam_jobs.run.plan import KEY_ID, Plan
from beam_jobs.run.planner import root_of
from beam_jobs.run.pseudonyms import find_again, load_pseudonyms, with_paths
from beam_jobs.run.report import DONE_NAMES, counts
from beam_jobs.run.settings import IngestSettings, ScoreSettings, add_storage_option, storage_of
from beam_jobs.scoring.job import score_context
from beam_jobs.scoring.unit import ScoreContext, score_first_rows
from lvm_core.command_line import ArgumentParser
from lvm_core.errors import RejectReason, UsageError
from lvm_core.pseudonyms import Pseudonyms
from lvm_core.signal.canonical import signal_sha256
from lvm_core.signal.ecg import LEADS_12
from lvm_core.tables import schemas
from lvm_core.wording import counted
from models.catalogue.known import ModelSource, find_spec, resolve_model
from models.machine.host import available_cores
from models.machine.runtime import Device, visible_gpus

_SAMPLED_UNITS: Final = 8
_ROWS_PER_UNIT: Final = 8
_SHOWN_LOST: Final = 5
_SIGNALS_AT_ONCE: Final = 64  # 8 MB of samples a thread
_TOLERANCE_G: Final = 1e-3
_COMPARED: Final = ("lvm_pred_g", "lvh_score", "signal_sha256")


@dataclass
class Verification:
    """What was found."""

    problems: list[str] = field(default_factory=list)  # what is wrong; empty when all is well
    warnings: list[str] = field(default_factory=list)  # what could not be looked at
    notes: list[str] = field(default_factory=list)  # what was looked at and is right


def verify_files(folder: RunFolder, plan: Plan, found: Verification) -> None:
    """Check every unit's files against their footers, and the run report against both."""
    ids: set[str] = set()
    done = folder.committed(plan)
    if len(done) < len(plan.units):
        n_missing = len(plan.units) - len(done)
        found.problems.append(
            f"not finished: {n_missing} of {counted(len(plan.units), 'unit', 'are')} missing or damaged, the first is "
            f"{next(u.number for u in plan.units if u.number not in done)}; run the same command again"
        )
    elif not folder.is_finished:
        found.problems.append("the run is not closed (no _SUCCESS); see lvm-ai status")
    schema = schemas.ECGS.arrow
    if plan.kind == "score":
        schema = schemas.predictions_schema(recalibrated="recalibration" in plan.settings)
    lost = [unit.number for unit in plan.units if unit.number not in done]
    looked_at = {*done, *lost[:_SHOWN_LOST]}
    units = [unit for unit in plan.units if unit.number in looked_at]
    with ThreadPoolExecutor(available_cores()) as pool:
        checks = pool.map(lambda unit: _check_unit(folder, plan, unit, schema), units)
        for unit, (problems, own_ids) in zip(units, checks, strict=True):
            if len(set(own_ids)) != len(own_ids) or not ids.isdisjoint(own_ids):
                problems.append("an ecg_id occurs twice in the run")
            ids.update(own_ids)
            found.problems += [f"unit {unit.number}: {problem}" for problem in problems]
    foreign = folder.foreign_problem(plan)
    if foreign is not None:
        found.problems.append(foreign)
    if len(done) < len(plan.units):
        return
    total = reconcile(plan, done)
    report = folder.read_json(REPORT_NAME)
    if report is None:
        found.problems.append(f"{REPORT_NAME} is missing; run the same command again to close")
        return
    stated, actual = report["counts"], counts(plan.kind, total)
    if stated != actual:
        found.problems.append(f"{REPORT_NAME} states {stated}, the units say {actual}")
    found.notes.append(
        f"{counted(total.n_read, 'ECG')} read = {total.n_done} {DONE_NAMES[plan.kind]} + "
        f"{total.n_rejected} rejected, in {counted(len(plan.units), 'unit')}"
    )


def _check_unit(folder: RunFolder, plan: Plan, unit: Unit, schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Return the problems of a unit's files, and the ecg_ids in them."""
    files = folder.files(plan, unit)
    content = read_footer_json(folder.storage, files.result)
    if content is None or content["fingerprint"] != unit.fingerprint:
        return ["its result file is missing, damaged or of another plan"], []
    if "rows_sha256" not in content:
        return ["the footer of its result file was changed: it has no hash of rows"], []
    problems: list[str] = []
    try:
        problems += _result_problems(folder, plan, files.result, content, schema)
        ids = read_table(folder.storage, files.result, ["ecg_id"])["ecg_id"].to_pylist()
    except DAMAGE as error:
        return [*problems, f"its result file cannot be read ({error})"], []
    try:
        problems += _rejects_problems(folder, files.rejects, content)
    except DAMAGE as error:
        return [*problems, f"its rejects file cannot be read ({error})"], ids
    if content["n_read"] != content["n_done"] + sum(content["rejected"].values()):
        problems.append("read is not done + rejected")
    return problems, ids


def _result_problems(
    folder: RunFolder, plan: Plan, uri: str, content: Mapping[str, Any], schema: pa.Schema
) -> Iterator[str]:
    """Compare a result file with its footer, and the samples of ECGs with their hashes."""
    read = read_footer(folder.storage, uri)
    if read.metadata.num_rows != content["n_done"]:
        yield f"its footer says {counted(content['n_done'], 'row')}, it has {read.metadata.num_rows}"
    if not read.schema.remove_metadata().equals(schema):
        yield "its result file has other columns than this version writes"
        return
    table = read_table(folder.storage, uri, [n for n in schema.names if n not in LEADS_12])
    if plan.kind == "score" and not np.isfinite(table["lvm_pred_g"].to_numpy()).all():
        yield "a predicted mass is not finite"
    name = "/".join(uri.split("/")[-2:])
    if rows_sha256(table) != content["rows_sha256"]["result"]:
        yield f"{name} was changed: its rows are not those that were committed"
    if plan.kind == "ingest" and (n_changed := _n_changed_signals(folder, uri)):
        yield f"{name} was changed: the samples of {counted(n_changed, 'ECG')} do not give their signal_sha256"


def _n_changed_signals(folder: RunFolder, uri: str) -> int:
    n_changed = 0
    columns = [*LEADS_12, "uv_per_count", "signal_sha256"]
    with folder.storage.open(uri) as stream:
        for batch in open_parquet(stream).iter_batches(_SIGNALS_AT_ONCE, columns=columns, use_threads=False):
            leads = [batch.column(lead).flatten().to_numpy() for lead in LEADS_12]
            counts = np.stack([lead.reshape(batch.num_rows, -1) for lead in leads], axis=1)
            steps = batch.column("uv_per_count").to_pylist()
            stated = batch.column("signal_sha256").to_pylist()
            signals = zip(counts, steps, stated, strict=True)
            n_changed += sum(signal_sha256(one, step) != sha256 for one, step, sha256 in signals)
    return n_changed


def _rejects_problems(folder: RunFolder, uri: str, content: Mapping[str, Any]) -> Iterator[str]:
    table = read_rejects(folder.storage, uri)
    found = reasons_of(rejects_of(table.select(schemas.REJECTS.names)))
    if found != content["rejected"]:
        yield f"its footer says rejects {content['rejected']}, the file has {found}"
    if rows_sha256(table) != content["rows_sha256"]["rejects"]:
        name = "/".join(uri.split("/")[-2:])
        yield f"{name} was changed: its rows are not those that were committed"


def verify_sample(
    folder: RunFolder,
    plan: Plan,
    inputs: Sequence[str],
    found: Verification,
    *,
    model_files: Sequence[str] = (),
    model_dir: Path | None = None,
    pseudonyms: Pseudonyms | None = None,
) -> None:
    """Compute the first rows of some units again and compare with what is stored.

    The paths of inputs are not in the plan of a run with pseudonyms: they are found with its key.
    """
    kind = ScoreSettings if plan.kind == ScoreSettings.kind else IngestSettings
    settings: ScoreSettings | IngestSettings = kind.from_plan(plan.settings, output=folder.uri, storage=folder.storage)
    roots = tuple(root_of(folder.storage, uri) for uri in inputs)
    units: Sequence[Unit] = plan.units
    if KEY_ID in plan.settings:
        if pseudonyms is None:
            found.warnings.append(
                "no ECG was computed again: paths are pseudonyms; --pseudonym-key needs the key of this run"
            )
            return
        units = with_paths(units, find_again(folder.storage, inputs, settings), pseudonyms)
    units = [u for u in units if not any(p.is_table and p.excluded for p in u.pieces)]
    chosen = units[:: max(1, -(-len(units) // _SAMPLED_UNITS))]
    stated = (folder.read_json(REPORT_NAME) or {}).get("counts", {}).get("rejected", {})
    moved = RejectReason.EXCLUDED.value in stated
    n_compared, n_problems_before = 0, len(found.problems)
    names: tuple[str, ...] = ("signal_sha256",)
    reader = settings.reader(roots, folder.index(), pseudonyms)
    rows_again = partial(_ingest_rows, reader)
    if isinstance(settings, ScoreSettings):
        # After a removal not the columns that amplify a difference.
        more = () if settings.recalibration_content is None or moved else schemas.RECALIBRATED.names
        names = (*_COMPARED, *more)
        worker = _worker(settings, plan, reader, model_files, model_dir)
        rows_again = partial(_score_rows, worker, names)
    for unit in chosen:
        again = rows_again(unit)
        table = read_table(folder.storage, folder.files(plan, unit).result, ["ecg_id", *names])
        stored = {row["ecg_id"]: row for row in table.to_pylist()}
        for ecg_id, row in again.items():
            if ecg_id in stored:
                n_compared += 1
                if not _same(row, stored[ecg_id], moved=moved):
                    found.problems.append(
                        f"unit {unit.number}: computed again, an ECG gives {row}, stored is "
                        f"{ {name: stored[ecg_id][name] for name in row} }"
                    )
                    break
    if n_compared == 0 and any(s.n_done for s in folder.committed(plan).values()):
        found.warnings.append(
            "no ECG was computed again: the inputs cannot be read or are others, or the first ECGs "
            "of each unit were rejected. Look at --input"
        )
        return
    if len(found.problems) > n_problems_before:
        return
    how = f"to {_TOLERANCE_G:g} g (people were removed)" if moved else "bit for bit"
    found.notes.append(f"{counted(n_compared, 'ECG')} of {counted(len(chosen), 'unit')} computed again, equal {how}")


def _same(row: Mapping[str, Any], stored: Mapping[str, Any], *, moved: bool) -> bool:
    """Compare bits; within a tolerance where a removal moved ECGs to other places in batches."""
    for name, value in row.items():
        other = stored[name]
        may_differ = moved and isinstance(value, float) and other is not None
        if abs(value - other) > _TOLERANCE_G if may_differ else value != other:
            return False
    return True


def _worker(
    settings: ScoreSettings, plan: Plan, reader: UnitReader, model_files: Sequence[str], model_dir: Path | None
) -> ScoreContext:
    if settings.device is Device.GPU and not visible_gpus():
        raise UsageError(
            "the run was computed on a GPU, and none is visible here, so its bits cannot be "
            "compared; verify it where a GPU is, or add --no-sample"
        )
    given = [resolve_model(name) for name in model_files]
    models = [_model_of_run(wanted, given, model_dir) for wanted in settings.models]
    return score_context(settings, plan.settings, reader, models, available_cores(), Exclusions())


def _model_of_run(wanted: Mapping[str, str], given: Sequence[ModelSource], model_dir: Path | None) -> ModelSource:
    """Return a model that the run used, found by its SHA-256."""
    for source in given:
        if source.spec.sha256 == wanted["sha256"]:
            return source
    model_id = wanted["model_id"]
    if find_spec(model_id) is not None:
        known = resolve_model(model_id, model_dir)
        if known.spec.sha256 == wanted["sha256"]:
            return known
    raise UsageError(
        f"the run used model {model_id} with SHA-256 {wanted['sha256'][:16]}..., which is not in "
        "the catalogue; give its file with --model"
    )


def _score_rows(worker: ScoreContext, names: Sequence[str], unit: Unit) -> dict[str, dict[str, Any]]:
    table = score_first_rows(unit, worker, _ROWS_PER_UNIT)
    return {row["ecg_id"]: {name: row[name] for name in names} for row in table.select(["ecg_id", *names]).to_pylist()}


def _ingest_rows(reader: UnitReader, unit: Unit) -> dict[str, dict[str, Any]]:
    with reader.open(unit) as chunks:
        first = next(chunks, None)
    rows = [] if first is None else first.rows[:_ROWS_PER_UNIT]
    return {row.ecg_id: {"signal_sha256": signal_sha256(row.counts, row.uv_per_count)} for row in rows}


def main(argv: Sequence[str]) -> int:
    """Run `lvm-ai verify`."""
    parser = ArgumentParser(
        prog="lvm-ai verify", description="Check that counts reconcile and footers agree, and compute a sample again."
    )
    parser.add_argument("output", help="run folder")
    parser.add_argument(
        "--input",
        action="append",
        nargs="+",
        metavar="URI",
        help="where the run's inputs are now (default: where they were)",
    )
    parser.add_argument("--model", action="append", default=[], help="model file of the run, where it is no id")
    parser.add_argument("--model-dir", type=Path, help="folder of fetched models")
    parser.add_argument("--pseudonym-key", metavar="F", help="key of the run, where it has pseudonyms")
    parser.add_argument("--no-sample", action="store_true", help="compute nothing again")
    add_storage_option(parser)
    args = parser.parse_args(argv)
    storage = storage_of(args.storage_option)
    folder = RunFolder(storage, args.output.rstrip("/") or str(Path("/")))
    plan = folder.require_plan()
    found = Verification()
    verify_files(folder, plan, found)
    if not args.no_sample and not found.problems:
        options = (folder.read_json(REPORT_NAME) or {}).get("options") or {}
        inputs = [uri for group in args.input or [] for uri in group] or list(options.get("inputs", []))
        n_roots = 1 + max((piece.root for piece in plan.pieces), default=0)
        if len(inputs) < n_roots:
            raise UsageError(f"the run had {counted(n_roots, 'input')}; name them, in order, with --input")
        pseudonyms = load_pseudonyms(storage, args.pseudonym_key)
        if pseudonyms is not None and pseudonyms.key_id != plan.settings.get(KEY_ID):
            raise UsageError(
                "--pseudonym-key holds another key than that of this run; give the key it was made with, and none "
                "where the run has no pseudonyms"
            )
        models, folder_of_models = args.model, args.model_dir
        verify_sample(
            folder, plan, inputs, found, model_files=models, model_dir=folder_of_models, pseudonyms=pseudonyms
        )
    for kind, lines in (("ok", found.notes), ("warning", found.warnings), ("problem", found.problems)):
        sys.stdout.writelines(f"{kind}: {line}\n" for line in lines)
    return 1 if found.problems else 0


if __name__ == "__main__":
    import lvm_ai  # its messages and exit codes

    sys.exit(lvm_ai.module_main("verify"))
