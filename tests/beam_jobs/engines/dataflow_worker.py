"""Runs a staged job as Dataflow's workers do: in a process that knows nothing but the job.

`python -m tests.beam_jobs.engines.dataflow_worker JOB.json PIPELINE.pb RESULT.json [BOOT]`. Beam's
local runner stands where the service's scheduler is; the workers are real processes, started as the
entry point of the image starts them (BOOT, the Go program of Beam's image), or without it by the
command that BOOT ends in. They get the options that the job description holds, and no others.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_provision_api_pb2, beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler, WorkerHandler
from google.protobuf import json_format, struct_pb2, text_format


class Container(GrpcWorkerHandler):
    """A process in the place of a worker's container."""

    boot: str | None = None  # the entry point

    def __init__(self, payload: Any, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._stopping = False

    def start_worker(self) -> None:
        words, environment = self._with_boot() if self.boot else self._without_boot()
        # What the Dockerfile sets: `python` is the one that has the packages.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._process = subprocess.Popen(words, env={**os.environ, **environment, "PATH": path})
        threading.Thread(target=self._watch, daemon=True).start()

    def _with_boot(self) -> tuple[list[str], dict[str, str]]:
        endpoints = {
            "logging": self.logging_api_service_descriptor().url,
            "control": self.control_address,
            "artifact": self.control_address,
            "provision": self.control_address,
        }
        words = [str(self.boot), f"--id={self.worker_id}", *(f"--{k}_endpoint={url}" for k, url in endpoints.items())]
        return words, {"RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1"}

    def _without_boot(self) -> tuple[list[str], dict[str, str]]:
        options = json_format.MessageToDict(self.provision_info.provision_info.pipeline_options)
        whole = {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in options["options"].items()}
        environment = {
            "WORKER_ID": self.worker_id,
            "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.control_api_service_descriptor()),
            "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(self.logging_api_service_descriptor()),
            "PIPELINE_OPTIONS": json.dumps({**options, "options": whole}),
        }
        return [sys.executable, "-m", "apache_beam.runners.worker.sdk_worker_main"], environment

    def _watch(self) -> None:
        """End everything with a worker that ends before it is told to: nothing would follow."""
        if self._process.wait() and not self._stopping:
            os._exit(3)

    def stop_worker(self) -> None:
        self._stopping = True
        self._process.terminate()
        self._process.wait(30)


def main(argv: Sequence[str]) -> None:
    """Run the job and write its counters."""
    logging.basicConfig(level=logging.INFO)
    job = json.loads(Path(argv[0]).read_text())
    pipeline = beam_runner_api_pb2.Pipeline.FromString(Path(argv[1]).read_bytes())
    Container.boot = argv[3] if len(argv) > 3 else None
    docker = common_urns.environments.DOCKER.urn
    WorkerHandler.register_environment(docker, beam_runner_api_pb2.DockerPayload)(Container)
    given = job["environment"]["sdkPipelineOptions"]
    options = json_format.ParseDict(given, struct_pb2.Struct())
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=options, retrieval_token="__no_artifacts_staged__")
    runner = FnApiRunner(provision_info=ExtendedProvisionInfo(info, job_name=job["name"]))
    runner._num_workers = int(given["options"]["num_workers"])
    result = runner.run_via_runner_api(pipeline, PipelineOptions([]))
    result.wait_until_finish()
    counters = [
        {"step": m.key.step, "namespace": m.key.metric.namespace, "name": m.key.metric.name, "value": m.committed}
        for m in result.metrics().query()["counters"]
    ]
    Path(argv[2]).write_text(json.dumps(counters))


if __name__ == "__main__":
    main(sys.argv[1:])
