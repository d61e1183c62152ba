"""Who may read what a command writes: its user alone, the user's group, or as the umask says."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from enum import StrEnum
from typing import Final


class Share(StrEnum):
    """Who else may read what a command writes."""

    GROUP = "group"
    UMASK = "umask"


PRIVATE_UMASK: Final = 0o077
"""Folders 0700, files 0600: predictions, rejects and ECGs are rows of people."""
GROUP_UMASK: Final = 0o027
"""Folders 0750, files 0640."""


def umask_for(share: Share | None) -> int | None:
    """Return the umask that a command works under; None where the user's own stays."""
    if share is Share.UMASK:
        return None
    return GROUP_UMASK if share is Share.GROUP else PRIVATE_UMASK


def add_share_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option that lets others read what a command writes."""
    parser.add_argument(
        "--share",
        type=Share,
        choices=list(Share),
        default=None,
        help="let others read what is written: your group, or whoever the umask lets "
        "(default: nobody but you; local files only)",
    )


def share_in(argv: Sequence[str]) -> Share | None:
    """Return the `--share` of a command's arguments; None where it is absent or no `Share`."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--share")
    try:
        return Share(parser.parse_known_args(list(argv))[0].share)
    except (argparse.ArgumentError, ValueError):
        return None  # the command's own parser explains the mistake
