"""What units, planning and closing cost: the figures of `scaling.yaml`, measured.

`python -m tests.benchmarks.scaling_costs FOLDER RUN` takes a finished run folder of `lvm-ai score`
as its pattern, writes synthetic inputs and results into FOLDER, and prints processor seconds: on a
shared machine they say more than seconds of the clock. `--store` repeats the look-ups of units in
an object store on this machine (`moto_server`), where requests are counted as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.reading.storage import Storage, join
from beam_jobs.reading.units import Unit, UnitSummary
from beam_jobs.run.commit import commit_unit, parquet_bytes, read_commit, rejects_table, rows_sha256
from beam_jobs.run.folder import RunFolder, count_flags, reconcile, write_duplicates
from beam_jobs.run.order import WorkOrder, places_in
from beam_jobs.run.plan import Plan
from beam_jobs.run.planner import Keys, find_inputs, mark_duplicates
from beam_jobs.run.report import peak_rss_mb
from beam_jobs.run.settings import ScoreSettings
from lvm_core.signal.ecg import LEADS_12
from lvm_core.tables import schemas

UNIT_ECGS = 1024
_ROW_GROUP = 256


@contextmanager
def timed(found: dict[str, Any], name: str, per: int = 1) -> Iterator[None]:
    """Put into `found` the processor and clock seconds of the block, divided by `per`."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    found[f"{name}_cpu_s"] = (time.process_time() - cpu) / per
    found[f"{name}_wall_s"] = (time.perf_counter() - wall) / per


def results_like(pattern: RunFolder, target: Path, n_units: int) -> RunFolder:
    """Write a run folder of many units: rows of a real one, with ids and hashes of their own."""
    plan = pattern.require_plan()
    first = max(plan.units, key=lambda unit: unit.n_ecgs)
    table = pq.read_table(pattern.files(plan, first).result)
    content = json.loads(table.schema.metadata[schemas.FOOTER_KEY])
    (target / "predictions").mkdir(parents=True)
    rng = np.random.default_rng(0)
    units = [_with_own_name(first, k) for k in range(n_units)]
    for k, unit in enumerate(units):
        n = table.num_rows
        made = _with(table, "ecg_id", [f"ecg{k:06d}-{i:04d}" for i in range(n)])
        made = _with(made, "participant_id", [f"p{i:08d}" for i in rng.integers(0, n * n_units, n)])
        digits = rng.bytes(32 * n).hex()
        made = _with(made, "signal_sha256", [digits[64 * i : 64 * i + 64] for i in range(n)])
        footer = json.dumps({**content, "unit": k, "fingerprint": unit.fingerprint}, sort_keys=True)
        (target / "predictions" / f"{unit.name}.parquet").write_bytes(parquet_bytes(made, footer.encode()))
    (target / "plan.json").write_bytes(plan.with_units(units).to_bytes())
    return RunFolder(Storage(), str(target))


def _with_own_name(unit: Unit, number: int) -> Unit:
    return replace(unit, number=number, fingerprint=hashlib.sha256(str(number).encode()).hexdigest())


def _with(table: pa.Table, name: str, values: list[str]) -> pa.Table:
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values))


def of_closing(folder: RunFolder) -> dict[str, Any]:
    """Measure what closing costs: reading footers, identical signals, flags, adding up."""
    plan = folder.require_plan()
    found: dict[str, Any] = {"n_units": len(plan.units), "before_mb": peak_rss_mb()}
    with timed(found, "read_commits_per_unit", len(plan.units)):
        done = folder.committed(plan)
    with timed(found, "duplicates_per_unit", len(plan.units)):
        write_duplicates(folder, plan)
    with timed(found, "flags_per_unit", len(plan.units)):
        count_flags(folder, plan)
    with timed(found, "reconcile_per_unit", len(plan.units)):
        reconcile(plan, done)
    return {**found, "after_mb": peak_rss_mb()}


def of_units(folder: RunFolder, pattern: RunFolder, work: Path) -> dict[str, Any]:
    """Measure what a unit costs beside its ECGs: its line of the plan, the look-up, the commit."""
    plan = folder.require_plan()
    found: dict[str, Any] = {}
    some = plan.units[:200]
    head_bytes, places = places_in(folder, some)
    order = WorkOrder(folder, "launch", plan.settings_sha256, head_bytes, ("/",), "")
    with timed(found, "read_place_per_unit", len(some)):
        for place in places:
            order.unit(place)
    found.update(of_look_ups(folder, plan, some))
    first = max(pattern.require_plan().units, key=lambda unit: unit.n_ecgs)
    table = pq.read_table(pattern.files(pattern.require_plan(), first).result)
    n = table.num_rows
    unit = replace(first, pieces=(replace(first.pieces[0], n_ecgs=n),))
    (work / "predictions").mkdir(parents=True, exist_ok=True)
    files = RunFolder(Storage(), str(work)).files(plan, unit)
    summary = UnitSummary(unit.number, n, n)
    plain = table.replace_schema_metadata(None)
    with timed(found, "commit_per_unit", 50):
        for _ in range(50):
            digest = rows_sha256(plain)
            commit_unit(
                Storage(),
                files,
                unit,
                summary,
                rejects_table([], "score"),
                provenance={"settings": dict(plan.settings)},
                result_sha256=digest,
                encode=partial(parquet_bytes, plain),
            )
    return found


def of_look_ups(folder: RunFolder, plan: Plan, units: tuple[Unit, ...]) -> dict[str, Any]:
    """Measure the look-up of a unit's own commit, where it is there and where it is not."""
    found: dict[str, Any] = {}
    with timed(found, "look_up_per_unit", len(units)):
        for unit in units:
            assert read_commit(folder.storage, folder.files(plan, unit), unit) is not None
    with timed(found, "look_up_absent_per_unit", len(units)):
        for unit in units:
            away = replace(unit, number=unit.number + 500_000)
            assert read_commit(folder.storage, folder.files(plan, away), away) is None
    return found


def inputs_like(source: Path, target: Path, n_files: int) -> None:
    """Write Parquet files of 1024 ECGs with ids of their own and flat leads, which are small."""
    target.mkdir(parents=True)
    table = pq.read_table(source)
    table = pa.concat_tables([table] * (UNIT_ECGS // table.num_rows + 1)).slice(0, UNIT_ECGS)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(5000 * UNIT_ECGS, np.int16)), type=schemas.LEAD_TYPE)
    for lead in LEADS_12:
        table = table.set_column(table.column_names.index(lead), table.schema.field(lead), flat)
    others = [name for name in table.column_names if name not in LEADS_12]
    encoding = {f"{lead}.list.element": "DELTA_BINARY_PACKED" for lead in LEADS_12}
    for k in range(n_files):
        made = _with(table, "ecg_id", [f"ecg{k:06d}-{i:04d}" for i in range(UNIT_ECGS)])
        pq.write_table(
            made,
            target / f"part-{k:06d}.parquet",
            row_group_size=_ROW_GROUP,
            compression="zstd",
            use_dictionary=others,
            column_encoding=encoding,
        )


def of_planning(inputs: Path, output: Path) -> dict[str, Any]:
    """Measure listing with footers, and the search for ids that are there twice."""
    argv = ["--input", str(inputs), "--model", "demo-synthetic-ecg-only", "--output", str(output)]
    settings = ScoreSettings.parse(argv)
    found: dict[str, Any] = {"n_files": len(list(inputs.glob("*.parquet"))), "before_mb": peak_rss_mb()}
    with timed(found, "list_and_footers_per_file", found["n_files"]):
        listed = find_inputs(settings)
    with timed(found, "keys_per_file", found["n_files"]):
        mark_duplicates(settings.storage, listed.roots, listed.pieces, None, Keys())
    return {**found, "after_mb": peak_rss_mb()}


def of_store(folder: RunFolder, n_units: int, endpoint: str) -> dict[str, Any]:
    """Measure look-ups in a store at an endpoint, where the bucket `scaling` is made."""
    import boto3
    from botocore.config import Config

    config = Config(retries={"max_attempts": 1})
    client = boto3.client("s3", endpoint_url=f"http://{endpoint}", region_name="us-east-1", config=config)
    client.create_bucket(Bucket="scaling")
    plan = folder.require_plan()
    some = plan.units[:n_units]
    for unit in some:
        path = Path(folder.files(plan, unit).result)
        client.upload_file(str(path), "scaling", f"run/predictions/{path.name}")
    options = (("s3.endpoint_override", endpoint), ("s3.scheme", "http"), ("s3.region", "us-east-1"))
    stored = RunFolder(Storage(options), "s3://scaling/run")
    found = of_look_ups(stored, plan, some)
    with timed(found, "read_commits_per_unit", len(some)):
        assert len(stored.committed(replace(plan, units=some))) == len(some)
    with timed(found, "listing"):
        stored.storage.names(join(stored.uri, "predictions"))
    return found


def main() -> None:
    """Measure all, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder to make")
    parser.add_argument("run", type=Path, help="finished run of lvm-ai score with a unit of 1024 ECGs")
    parser.add_argument("ecgs", type=Path, help="Parquet file of ECGs")
    parser.add_argument("--units", type=int, nargs="+", default=[250, 1000])
    parser.add_argument("--files", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--store", help="HOST:PORT of a store on this machine")
    args = parser.parse_args()
    args.folder.mkdir(parents=True)
    pattern = RunFolder(Storage(), str(args.run))
    steps: list[tuple[str, Callable[[], dict[str, Any]]]] = []
    for n in args.units:
        made = results_like(pattern, args.folder / f"results-{n}", n)
        steps.append((f"closing {n} units", partial(of_closing, made)))
    steps.append(("units", lambda: of_units(made, pattern, args.folder / "commits")))
    if args.store:
        steps.append(("units in a store", lambda: of_store(made, 200, args.store)))
    for n in args.files:
        inputs_like(args.ecgs, args.folder / f"inputs-{n}", n)
        steps.append((f"planning {n} files", partial(of_planning, args.folder / f"inputs-{n}", args.folder / "o")))
    for name, step in steps:
        sys.stdout.write(f"{name}: {json.dumps(step(), indent=1)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
