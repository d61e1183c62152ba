"""Arguments of every command: unknown options are named with the nearest one; sharing of files."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final

_NUMBER: Final = re.compile(r"-\d+|-\d*\.\d+")
# Folders 0700, files 0600: predictions, rejects and ECGs are rows of people.
_PRIVATE_UMASK: Final = 0o077
_GROUP_UMASK: Final = 0o027  # folders 0750, files 0640
_LONG_DASHES: Final = ("\N{EN DASH}", "\N{EM DASH}", "\N{MINUS SIGN}")


class ArgumentParser(argparse.ArgumentParser):
    """argparse's parser that reports unknown options first, and takes no abbreviations.

    argparse itself asks for required options first, so a misspelt `--outptu` is reported as a
    missing `--output`. It also takes `--out` for `--output`, and for another option when one with
    that beginning is added.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def parse_known_args(  # type: ignore[override]  # argparse's own has overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse; stops with exit code 2 on an option or a subcommand that is not known."""
        given = sys.argv[1:] if args is None else args
        problems = list(self._problems(given))
        if problems:
            self.error("; ".join(problems))
        return super().parse_known_args(given, namespace)

    def _problems(self, args: Sequence[str]) -> Iterator[str]:
        known = self._option_string_actions
        subcommands = [one for one in self._actions if isinstance(one, argparse._SubParsersAction)]
        for arg in args:
            if arg == "--":
                return
            name = arg.partition("=")[0]
            if arg.startswith(_LONG_DASHES):
                yield f"{name} begins with a long dash, expected two hyphens before an option"
            elif _is_option(arg):
                if name not in known:
                    yield f"{name} is not an option of {self.prog}{nearest(name, known)}"
            elif subcommands:
                names = list(subcommands[0].choices)
                if arg not in names:
                    yield (
                        f"{arg!r} is not a command of {self.prog}{nearest(arg, names)}, expected "
                        f"one of {', '.join(names)}"
                    )
                return  # what follows belongs to the subcommand


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question that names the known words nearest to `name`; empty where none is near."""
    names = list(known)
    longer = [one for one in names if one.startswith(name)]
    found = longer or get_close_matches(name, names, n=1)
    return f" (did you mean {' or '.join(found)}?)" if found else ""


def _is_option(arg: str) -> bool:
    """Return whether an argument is an option: -0.5 and text with blanks are values."""
    blank = " " in arg.partition("=")[0]
    return len(arg) > 1 and arg[0] == "-" and not blank and not _NUMBER.fullmatch(arg)


class Share(StrEnum):
    """Who else may read what a command writes."""

    GROUP = "group"
    UMASK = "umask"


def umask_for(share: Share | None) -> int | None:
    """Return the umask that a command works under; None where the user's own stays."""
    if share is Share.UMASK:
        return None
    return _GROUP_UMASK if share is Share.GROUP else _PRIVATE_UMASK


def add_share_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the option that lets others read what a command writes."""
    parser.add_argument(
        "--share",
        type=Share,
        choices=list(Share),
        default=None,
        help="let others read what is written: your group, or everybody whom the umask lets "
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
