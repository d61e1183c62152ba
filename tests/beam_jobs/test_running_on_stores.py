"""The commands of docs/running_on_stores.md, run as they are written on servers on loopback."""

import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pyarrow.fs
import pytest

from tests.beam_jobs.job_helpers import REPOSITORY, write_cohort
from tests.beam_jobs.job_servers import BUCKET, Store, dummy_credentials, gs_store, s3_store

pytestmark = [pytest.mark.engines, pytest.mark.tf]

PAGE = (REPOSITORY / "docs" / "running_on_stores.md").read_text(encoding="utf-8")
BLOCKS = [block for block in re.findall(r"^```\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if "lvm-ai" in block]
STORES = {"s3": s3_store, "gs": gs_store}


def _run(block: str, store: Store, folder: Path) -> None:
    """Run the commands of a block; the address of the page is that of the server."""
    program = folder / "bin" / "lvm-ai"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m lvm_ai "$@"\n')
    program.chmod(0o755)
    endpoint = f"127.0.0.1:{store.port}"
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    environment["STORAGE_EMULATOR_HOST" if store.scheme == "gs" else "AWS_ENDPOINT_URL"] = f"http://{endpoint}"
    text = block.replace("127.0.0.1:9000", endpoint).replace("s3://biobank", f"s3://{BUCKET}")
    text = text.replace("gs://biobank", f"gs://{BUCKET}")
    done = subprocess.run(
        ["bash", "-euc", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_commands_of_the_page__work(scheme: str, tmp_path: Path) -> None:
    blocks = [block for block in BLOCKS if f"{scheme}://" in block]
    assert blocks
    write_cohort(tmp_path / "in", 16)
    with dummy_credentials(), STORES[scheme](tmp_path) as store:
        store.upload(tmp_path / "in", "ecg")
        for block in blocks:
            _run(block, store, tmp_path)
            assert "_SUCCESS" in store.files("scored")
            with suppress(FileNotFoundError):  # the emulator deletes the mark of an empty folder itself
                store.filesystem.delete_dir(f"{BUCKET}/scored")
            infos = store.filesystem.get_file_info(pyarrow.fs.FileSelector(BUCKET, recursive=True))
            assert [info.path for info in infos if info.type == pyarrow.fs.FileType.File] == [
                f"{BUCKET}/ecg/part-0.parquet"
            ]
