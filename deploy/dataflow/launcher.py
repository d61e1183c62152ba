"""What a flex template starts at Google: makes `lvm-ai score` of the template's parameters.

Google gives the template's own parameters (metadata.json) as `--NAME=VALUE` beside options of
Beam's (`--project`, `--template_location` ...). The job is described and left to Google: this
program ends before the job begins, and `lvm-ai finish OUTPUT` closes the run when it has ended.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import lvm_ai

_METADATA = Path(__file__).with_name("metadata.json")
# Options of Beam's that are options of ours too.
_SHARED = {"project": "--project", "region": "--region"}


def command(arguments: Sequence[str], metadata: Path = _METADATA) -> list[str]:
    """Return the lvm-ai command of a template's arguments, each `--NAME=VALUE` or `--NAME`."""
    own = {one["name"] for one in json.loads(metadata.read_text(encoding="utf-8"))["parameters"]}
    words = ["score", "--runner", "dataflow"]
    passed_on = []
    for argument in arguments:
        name, _, value = argument.removeprefix("--").partition("=")
        if name in own:
            words += [f"--{name.replace('_', '-')}", value]
            if name == "gpu":
                words += ["--device", "gpu"]
        elif name in _SHARED:
            words += [_SHARED[name], value]
        elif name != "runner":
            passed_on.append(argument)
        if name == "temp_location":
            words += ["--staging", value.rstrip("/")]
    return [*words, "--", *passed_on]


if __name__ == "__main__":
    sys.exit(lvm_ai.main(command(sys.argv[1:])))
