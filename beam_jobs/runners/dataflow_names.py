"""Names that Google gives rules for: what can be refused here is not found out by a paid job.

Each rule is that of Google's documentation; whether a thing of that name exists only Google knows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lvm_core.errors import UsageError

_PROJECT: Final = re.compile(r"([a-z][a-z0-9.-]*[a-z0-9]:)?[a-z][a-z0-9-]{4,28}[a-z0-9]")
_REGION: Final = re.compile(r"[a-z]+-[a-z]+[0-9]+")
_ZONE: Final = re.compile(r"([a-z]+-[a-z]+[0-9]+)-[a-z]")
_BUCKET_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?")
_IP_ADDRESS: Final = re.compile(r"[0-9]+(\.[0-9]+){3}")
_LABEL_KEY: Final = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE: Final = re.compile(r"[a-z0-9_-]{0,63}")
_ACCOUNT: Final = re.compile(r"[a-z0-9][a-z0-9-]*@[a-z0-9.-]+\.gserviceaccount\.com")
_IMAGE: Final = re.compile(
    r"(?P<repository>[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+)"
    r"(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?"
)
_OF_PYTHON: Final = re.compile(r"\bpy(?:thon)?-?(3)\.?([0-9]+)\b")
_OF_BEAM: Final = re.compile(r"\bbeam-?([0-9]+\.[0-9]+\.[0-9]+)\b")
_MOST_LABELS: Final = 64


def check_project(name: str) -> None:
    """Refuse what cannot be the id of a project."""
    if not _PROJECT.fullmatch(name):
        raise UsageError(
            f"--project is {name!r}, expected the project's id (not its name or number): 6 to 30 small letters, digits "
            "and hyphens, a letter first and no hyphen last, as `gcloud projects list` shows it"
        )


def check_region(name: str) -> None:
    """Refuse what cannot be a region; a zone is one letter too long."""
    zone = _ZONE.fullmatch(name)
    if zone:
        raise UsageError(f"--region is {name!r}, which is a zone; expected its region, {zone[1]!r}")
    if not _REGION.fullmatch(name):
        raise UsageError(f"--region is {name!r}, expected a region of Google's, such as europe-west4 or us-central1")


def check_bucket_path(flag: str, uri: str) -> None:
    """Refuse what cannot be a folder in a bucket."""
    bucket, _, path = uri.removeprefix("gs://").partition("/")
    if not uri.startswith("gs://") or not bucket:
        raise UsageError(f"{flag} is {uri!r}, expected a folder in a bucket: gs://BUCKET/FOLDER")
    labels = bucket.split(".")
    allowed = 63 if len(labels) == 1 else 222
    if not (
        3 <= len(bucket) <= allowed
        and all(len(label) <= 63 and _BUCKET_LABEL.fullmatch(label) for label in labels)
        and not _IP_ADDRESS.fullmatch(bucket)
        and not bucket.startswith("goog")
        and "google" not in bucket
    ):
        raise UsageError(
            f"{flag} is {uri!r}: {bucket!r} cannot be the name of a bucket. Expected 3 to 63 small letters, digits, "
            "hyphens and underscores, a letter or digit at both ends, and not google in it"
        )
    if "\n" in path or "\r" in path:
        raise UsageError(f"{flag} is {uri!r}, with a line break in it")


def labels_of(pairs: Sequence[str]) -> dict[str, str]:
    """Return the labels that `KEY=VALUE` texts give; refuse what Google does not take."""
    labels: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (equals and _LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
            raise UsageError(
                f"--label is {pair!r}, expected KEY=VALUE of small letters, digits, hyphens and underscores, each at "
                "most 63, the key with a letter first"
            )
        if key in labels:
            raise UsageError(f"--label {key!r} is given twice, expected once")
        labels[key] = value
    if len(labels) > _MOST_LABELS:
        raise UsageError(f"{len(labels)} labels are given with --label, expected at most {_MOST_LABELS}")
    return labels


def check_service_account(name: str) -> None:
    """Refuse what cannot be the address of a service account."""
    if not _ACCOUNT.fullmatch(name):
        raise UsageError(
            f"--service-account is {name!r}, expected an address such as NAME@PROJECT.iam.gserviceaccount.com"
        )


def check_image(image: str, *, python: tuple[int, int], beam: str, needs_gpu: bool) -> list[str]:
    """Refuse an image that cannot fit this command; return what its name leaves open, as sentences.

    Workers unpickle what this command pickled, so both need the same minor version of Python and
    the same Beam. The tags of `deploy/dataflow` state them: `0.1.0-py3.11-beam2.77.0-cpu`.

    Args:
        image: as `docker push` takes it.
        python: major and minor version of this command.
        beam: version of Beam in this command.
        needs_gpu: the workers have GPUs.
    """
    found = _IMAGE.fullmatch(image)
    if found is None:
        raise UsageError(f"--image is {image!r}, expected HOST/PROJECT/REPOSITORY/NAME:TAG, as you pushed it")
    if found["tag"] is None and found["digest"] is None:
        raise UsageError(f"--image is {image!r}, which names no version; expected :TAG or @sha256:DIGEST at its end")
    name = found["repository"].rpartition("/")[2]
    if name.startswith(("beam_python", "beam_java", "beam_go")):
        raise UsageError(
            f"--image is {image!r}: Beam's own image lacks lvm-ai. Build one from deploy/dataflow/Dockerfile"
        )
    tag = found["tag"] or ""
    here = f"{python[0]}.{python[1]}"
    notes = []
    if tag == "latest":
        notes.append("the tag latest may name another image for workers that start later: use a tag that stays")
    stated = _OF_PYTHON.search(tag)
    if stated is None:
        notes.append(f"the image's tag does not say which Python it holds; it must be {here}, as here")
    elif (int(stated[1]), int(stated[2])) != python:
        raise UsageError(
            f"--image is {image!r}, with Python {stated[1]}.{stated[2]}; this command runs on Python {here}, and both "
            "must be the same. Start it with the image's Python, or build the image for yours"
        )
    of_beam = _OF_BEAM.search(tag)
    if of_beam is None:
        notes.append(f"the image's tag does not say which Beam it holds; it must be {beam}, as here")
    elif of_beam[1] != beam:
        raise UsageError(
            f"--image is {image!r}, with Beam {of_beam[1]}; this command has Beam {beam}, and both must be the same"
        )
    words = tag.split("-")
    if needs_gpu and "cpu" in words:
        raise UsageError(f"--image is {image!r}, an image for CPUs; with --gpu expected one built with VARIANT=gpu")
    return notes
