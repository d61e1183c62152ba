"""Commands for Dataflow, and the description of the job that each leads to.

`python -m tests.beam_jobs.engines.dataflow_cases` writes the golden file anew (needs
`pip install 'apache-beam[gcp]'`).
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import apache_beam
import pytest
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2

from tests.beam_jobs import job_runner
from tests.beam_jobs.engines.dataflow_service import Service, dataflow_service
from tests.beam_jobs.job_helpers import lvm, write_cohort
from tests.beam_jobs.job_servers import BUCKET, Store, dummy_credentials, gs_store

GOLDEN = Path(__file__).with_name("dataflow_jobs.json")
PYTHON = f"py{sys.version_info.major}.{sys.version_info.minor}"
TAG = f"0.1.0-{PYTHON}-beam{apache_beam.__version__}"
REPOSITORY = "europe-west4-docker.pkg.dev/my-project/lvm/lvm-ai"
N_ECGS = 24
NEEDED = ("--project", "my-project", "--region", "europe-west4", "--staging", f"gs://{BUCKET}/for-dataflow")

CASES: Mapping[str, Sequence[str]] = {
    "cpu": ("--image", f"{REPOSITORY}:{TAG}-cpu", "--workers", "3"),
    "scaling": (
        *("--image", f"{REPOSITORY}:{TAG}-cpu", "--workers", "3", "--max-workers", "20", "--machine-type"),
        *("n1-highmem-8", "--disk-gb", "50", "--service-account", "lvm@my-project.iam.gserviceaccount.com"),
        *("--subnetwork", "regions/europe-west4/subnetworks/closed", "--label", "team=ecg", "--label", "cohort=a"),
        *("--public-ips", "--threads", "8"),
    ),
    "cheap": ("--image", f"{REPOSITORY}:{TAG}-cpu", "--workers", "10", "--cheap", "--start-timeout", "22500"),
    "l4": ("--image", f"{REPOSITORY}:{TAG}-gpu", "--workers", "2", "--gpu", "l4", "--device", "gpu"),
    "t4": ("--image", f"{REPOSITORY}:{TAG}-gpu", "--workers", "2", "--gpu", "t4", "--device", "gpu"),
    "a100": ("--image", f"{REPOSITORY}:{TAG}-gpu", "--workers", "2", "--gpu", "a100", "--device", "gpu"),
}
PASSED_ON = {"scaling": ("--resource_hints=min_ram=12GB", "--worker_zone=europe-west4-b")}


def require_clients() -> None:
    """Skip a test where Google's client libraries are not installed."""
    if find_spec("apitools") is None:
        pytest.skip("Google's client libraries are not installed: pip install 'apache-beam[gcp]'")


@dataclass(frozen=True)
class Place:
    """A store with ECGs in it, and a service."""

    store: Store
    service: Service
    ecgs: str  # gs://

    def command(self, output: str, *options: str, passed_on: Sequence[str] = ()) -> list[str]:
        """Return a score command for Dataflow."""
        words = [
            "score",
            "--input",
            self.ecgs,
            "--model",
            "demo-synthetic-ecg-only",
            "--output",
            self.store.uri(output),
        ]
        words += ["--runner", "dataflow", "--unit-ecgs", "8", *self.store.options, *NEEDED, *options]
        return [*words, "--", *self.service.options, *passed_on]


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    """Run a store and a service until the block ends, to which Google's clients are led."""
    write_cohort(folder / "ecgs", N_ECGS)
    with dummy_credentials(), gs_store(folder) as store, dataflow_service(folder, store.filesystem) as service:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("STORAGE_EMULATOR_HOST", f"http://{store.options[1].partition('=')[2]}")
            yield Place(store, service, store.upload(folder / "ecgs", "ecgs"))


def describe_all(at: Place) -> dict[str, Any]:
    """Submit each case and return what reached the service, without what differs each time."""
    found = {}
    at.service.ends = "JOB_STATE_DONE"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("beam_jobs.run.resources.choose_engine", job_runner.fake_choice)
        for name, options in CASES.items():
            # Nothing ran, so that all units are missing.
            assert lvm(*at.command(f"out-{name}", *options, passed_on=PASSED_ON.get(name, ()))) == 1
            job = at.service.jobs[-1]
            found[name] = {"job": _job(job, at.service.endpoint), "graph": graph(at.service.staged(job))}
    return found


def _job(job: dict[str, Any], endpoint: str) -> Any:
    """Return a job's description without times, ports and defaults of Beam's options."""
    left_out = ("clientRequestId", "id", "currentState", "projectId", "location")
    job = {key: value for key, value in job.items() if key not in left_out}
    environment = dict(job["environment"])
    del environment["sdkPipelineOptions"]
    environment["userAgent"] = {**environment["userAgent"], "name": "NAME", "version": "VERSION"}
    text = json.dumps({**job, "environment": environment}).replace(endpoint, "ENDPOINT")
    text = re.sub(r"(lvm-ai-score-[0-9a-f]{12})\.[0-9.]+", r"\1.TIME", text)
    text = re.sub(r'("(?:environmentId|environment_id)": )"[^"]*"', r'\1"ID"', text)
    return _without_capabilities(json.loads(text.replace(apache_beam.__version__, "BEAM").replace(PYTHON, "PYTHON")))


def _without_capabilities(job: dict[str, Any]) -> dict[str, Any]:
    for pool in job["environment"]["workerPools"]:
        for image in pool["sdkHarnessContainerImages"]:
            image.pop("capabilities", None)  # a list of Beam's, another in each version
    return job


def graph(staged: bytes) -> dict[str, Any]:
    """Return what the staged graph asks for: steps, images, hints, staged files."""
    pipeline = beam_runner_api_pb2.Pipeline.FromString(staged)
    environments = []
    for environment in pipeline.components.environments.values():
        if environment.urn == common_urns.environments.DOCKER.urn:
            payload = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
            image = payload.container_image.replace(apache_beam.__version__, "BEAM").replace(PYTHON, "PYTHON")
            hints = {urn.rpartition(":")[0]: value.decode() for urn, value in environment.resource_hints.items()}
            environments.append({"image": image, "hints": hints, "files": len(environment.dependencies)})
    leaves = [t.unique_name for t in pipeline.components.transforms.values() if t.unique_name and not t.subtransforms]
    steps = [re.sub(r"\(.*\)", "", name) for name in leaves]  # lines of Beam's own code
    unused = {"image": "", "hints": {}, "files": 0}
    return {"environments": [e for e in environments if e != unused], "steps": sorted(steps)}


def main() -> None:
    """Write the golden file."""
    with tempfile.TemporaryDirectory() as folder, place(Path(folder)) as at:
        GOLDEN.write_text(json.dumps(describe_all(at), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
