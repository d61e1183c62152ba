from __future__ import annotations

import argparse

import pytest

from lvm_core.command_line import ArgumentParser, Share, add_share_option, nearest, share_in, umask_for


def parser() -> ArgumentParser:
    made = ArgumentParser(prog="prog")
    made.add_argument("query", nargs="?")
    made.add_argument("--input", nargs="+", action="append")
    made.add_argument("--output", required=True)
    made.add_argument("--alpha", type=float)
    return made


def complaint(made: ArgumentParser, argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        made.parse_args(argv)
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("prog: error: ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--outptu", "x"], "--outptu is not an option of prog (did you mean --output?)"),
        (["--outptu=x y"], "--outptu is not an option of prog (did you mean --output?)"),
        (["-output", "x"], "-output is not an option of prog (did you mean --output?)"),
        (["--out", "x"], "--out is not an option of prog (did you mean --output?)"),
        (["--zzzzzz"], "--zzzzzz is not an option of prog"),
        (
            ["--imput", "x", "--alhpa", "3"],
            "--imput is not an option of prog (did you mean --input?); "
            "--alhpa is not an option of prog (did you mean --alpha?)",
        ),
        (
            ["--input", "a", "\N{EM DASH}output", "x"],
            "\N{EM DASH}output begins with a long dash, expected two hyphens before an option",
        ),
        (["a query"], "the following arguments are required: --output"),
    ],
)
def test_parser__names_what_is_not_an_option(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(parser(), argv, capsys) == message


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--output", "o", "q"], {"query": "q"}),
        (["q", "--output=o"], {"query": "q"}),
        (["--output", "o", "--alpha", "-0.5"], {"alpha": -0.5}),
        (["--output", "o", "-- a comment = b"], {"query": "-- a comment = b"}),
        (["--output", "o", "--", "--outptu"], {"query": "--outptu"}),
        (["--output", "o", "-"], {"query": "-"}),
        (["--input", "a", "b", "--input", "c", "--output", "o"], {"input": [["a", "b"], ["c"]]}),
    ],
)
def test_parser__takes_values_as_argparse_does(argv: list[str], expected: object) -> None:
    nothing = {"query": None, "input": None, "alpha": None, "output": "o"}
    assert vars(parser().parse_args(argv)) == {**nothing, **dict(expected)}  # type: ignore[call-overload]


def test_parser__names_the_nearest_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    made = ArgumentParser(prog="prog")
    actions = made.add_subparsers(dest="action", required=True)
    actions.add_parser("fetch").add_argument("--from", required=True)
    actions.add_parser("list")
    assert complaint(made, ["ftech", "--form", "x"], capsys) == (
        "'ftech' is not a command of prog (did you mean fetch?), expected one of fetch, list"
    )
    with pytest.raises(SystemExit):
        made.parse_args(["fetch", "--form", "x"])
    assert "--form is not an option of prog fetch (did you mean --from?)" in capsys.readouterr().err
    assert made.parse_args(["fetch", "--from", "list"]).action == "fetch"


def test_parser__without_arguments_takes_those_of_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["prog", "--outptu"])
    with pytest.raises(SystemExit):
        parser().parse_args()
    assert "did you mean --output?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("--exclude", ["--exclude-participants", "--include"], " (did you mean --exclude-participants?)"),
        ("--id", ["--id-pattern", "--id-from-header"], " (did you mean --id-pattern or --id-from-header?)"),
        ("--zzz", ["--input", "--id-pattern"], ""),
        ("scroe", ["score", "status"], " (did you mean score?)"),
    ],
)
def test_nearest__is_what_begins_alike_or_is_spelt_alike(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected


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
