"""Who may read what is written: the umask of each choice, and finding the option."""

from __future__ import annotations

import argparse

import pytest

from lvm_core.command_line import Share, add_share_option, share_in, umask_for


@pytest.mark.parametrize(("share", "folder_mode", "file_mode"), [(None, 0o700, 0o600), (Share.GROUP, 0o750, 0o640)])
def test_umask_for__gives_the_documented_modes(share: Share | None, folder_mode: int, file_mode: int) -> None:
    umask = umask_for(share)
    assert umask is not None
    assert (0o777 & ~umask, 0o666 & ~umask) == (folder_mode, file_mode)


def test_umask_for__umask_leaves_the_users_own() -> None:
    assert umask_for(Share.UMASK) is None


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--share", "group", "--output", "x"], Share.GROUP),
        (["--output", "x", "--share=umask"], Share.UMASK),
        (["--output", "x"], None),
        (["--shard", "1/2"], None),
        (["--share", "world"], None),  # private until the command's own parser refuses it
        (["--share"], None),
    ],
)
def test_share_in__reads_the_option_among_others(argv: list[str], expected: Share | None) -> None:
    assert share_in(argv) is expected


@pytest.mark.parametrize("argv", [[], ["--share", "group"], ["--shar", "umask"]])
def test_share_in__agrees_with_the_parser_of_a_command(argv: list[str]) -> None:
    parser = argparse.ArgumentParser()
    add_share_option(parser)
    assert share_in(argv) is parser.parse_args(argv).share
