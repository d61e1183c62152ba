"""Listing folders, links and globs on a local disk."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_jobs.reading.local_files import shown_path
from beam_jobs.reading.storage import FileMissing, Storage, is_glob, split_glob
from lvm_core.errors import UsageError

STORAGE = Storage()


# Listing and globs


def _make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_list_files__folder_is_listed_deeply_in_the_order_of_paths(tmp_path: Path) -> None:
    names = ["b.xml", "a/z.xml", "a.xml", "a/b/c.xml", "A.xml", "a-1.xml"]
    _make(tmp_path, *names)
    for uri in (str(tmp_path), f"{tmp_path}/"):
        entries = STORAGE.list_files(uri)
        assert [entry.relative for entry in entries] == sorted(names)
        assert [entry.size for entry in entries] == [len(name) for name in sorted(names)]
        assert [entry.uri for entry in entries] == [f"{tmp_path}/{name}" for name in sorted(names)]


def test_list_files__single_file_is_relative_to_its_folder(tmp_path: Path) -> None:
    _make(tmp_path, "a/b.xml")
    (entry,) = STORAGE.list_files(f"{tmp_path}/a/b.xml")
    assert (entry.relative, entry.uri) == ("b.xml", f"{tmp_path}/a/b.xml")


def test_list_files__nothing_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="expected a file, a folder or a glob"):
        STORAGE.list_files(f"{tmp_path}/absent")


def test_list_files__relative_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _make(tmp_path, "in/a.xml")
    monkeypatch.chdir(tmp_path)
    assert [e.relative for e in STORAGE.list_files("in")] == ["a.xml"]
    assert [e.relative for e in STORAGE.list_files("in/*.xml")] == ["a.xml"]
    assert STORAGE.read_bytes(STORAGE.list_files("in/*.xml")[0].uri) == b"in/a.xml"


def test_is_glob__existing_file_with_brackets_is_a_file(tmp_path: Path) -> None:
    _make(tmp_path, "x[1].xml")
    assert not is_glob(f"{tmp_path}/x[1].xml")
    assert not is_glob(f"file://{tmp_path}/x[1].xml")
    assert is_glob(f"{tmp_path}/y[1].xml")


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("/data/a*/b.xml", ("/data", "a*/b.xml")),
        ("*.xml", (".", "*.xml")),
        ("/*.xml", ("/", "*.xml")),
        ("s3://bucket/k/**/x?.xml", ("s3://bucket/k", "**/x?.xml")),
        ("s3://bucket/*", ("s3://bucket", "*")),
    ],
)
def test_split_glob__cuts_before_the_first_wildcard(uri: str, parts: tuple[str, str]) -> None:
    assert split_glob(uri) == parts


TREE = (
    "a.xml",
    "ab.xml",
    "a1.xml",
    "b/a.xml",
    "b/ab.xml",
    "b/c/a.xml",
    "b/c/d/a1.hea",
    "c.hea",
    ".hidden/a.xml",
    "b/.dot.xml",
    "a-b.xml",
    "b+c.xml",
    "b/(x).xml",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    _make(folder, *TREE)
    return folder


@pytest.mark.parametrize(
    "pattern",
    [
        "*.xml",
        "*/*.xml",
        "**/*.xml",
        "**/a.xml",
        "b/**/*.hea",
        "b/**/a*.xml",
        "a?.xml",
        "?.xml",
        "?/?.xml",
        "[ab].xml",
        "a[0-9].xml",
        "[!a]*.xml",
        "a[!0-9].xml",
        "*.[xh]*",
        "b+*.xml",
        "b/(?).xml",
        "**/c/*",
        "**/*",
        "b/*/a.xml",
        "z*.xml",
        ".*/*.xml",
        "[a-c]*.hea",
    ],
)
def test_list_files__glob_finds_what_pathlib_finds(tree: Path, pattern: str) -> None:
    expected = sorted(str(p.relative_to(tree)) for p in tree.glob(pattern) if p.is_file())
    assert [e.uri for e in STORAGE.list_files(f"{tree}/{pattern}")] == [f"{tree}/{name}" for name in expected]


WORDS = st.sampled_from(["a", "b", "1", "*", "?", "[ab]", "[!a]", ".", "a*", "**/", "/"])


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORDS, min_size=1, max_size=6))
def test_glob__finds_what_pathlib_finds_for_any_pattern(tree: Path, words: list[str]) -> None:
    pattern = re.sub(r"/+", "/", "".join(words)).strip("/")
    parts = pattern.split("/")
    if not any(c in pattern for c in "*?[") or any("**" in p and p != "**" for p in parts):
        return
    if parts[-1] == "**" or any(p in ("", ".", "..") for p in parts):
        return
    expected = sorted(str(p.relative_to(tree)) for p in tree.glob(pattern) if p.is_file())
    base = pattern[: min(pattern.find(c) for c in "*?[" if c in pattern)].rpartition("/")[0]
    if not (tree / base).is_dir():
        return
    found = [e.uri.removeprefix(f"{tree}/") for e in STORAGE.list_files(f"{tree}/{pattern}")]
    assert found == expected


def test_glob__negated_set_stays_within_one_folder(tmp_path: Path) -> None:
    _make(tmp_path, "a/b", "a-b")
    found = [e.relative for e in STORAGE.list_files(f"{tmp_path}/a[!x]b")]
    assert found == ["a-b"]


def test_glob__unclosed_bracket_is_itself(tmp_path: Path) -> None:
    _make(tmp_path, "x[1.xml", "x1.xml")
    assert [e.relative for e in STORAGE.list_files(f"{tmp_path}/x[*.xml")] == ["x[1.xml"]


def test_glob__relative_paths_start_before_the_first_wildcard(tmp_path: Path) -> None:
    _make(tmp_path, "in/p1/a.xml", "in/p2/a.xml", "in/q/a.xml")
    entries = STORAGE.list_files(f"{tmp_path}/in/p*/a.xml")
    assert [entry.relative for entry in entries] == ["p1/a.xml", "p2/a.xml"]


# Links and places


def test_list_files__links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    _make(tmp_path, "real/a.xml", "in/b.xml")
    (tmp_path / "in" / "c.xml").symlink_to(tmp_path / "real" / "a.xml")
    (tmp_path / "in" / "deep").symlink_to(tmp_path / "real")
    entries = STORAGE.list_files(f"{tmp_path}/in")
    assert [(e.relative, e.size) for e in entries] == [
        ("b.xml", len("in/b.xml")),
        ("c.xml", len("real/a.xml")),
        ("deep/a.xml", len("real/a.xml")),
    ]


def _listed(folder: Path, pattern: str = "") -> dict[str, str]:
    entries = STORAGE.list_files(f"{folder}/{pattern}" if pattern else str(folder))
    return {entry.relative: entry.kind.value for entry in entries}


REPEATED = "link to what is read anyway"


def test_list_files__link_that_leads_back_ends(tmp_path: Path) -> None:
    _make(tmp_path, "in/a.xml", "in/p/b.xml")
    (tmp_path / "in" / "p" / "up").symlink_to(tmp_path / "in")
    assert _listed(tmp_path / "in") == {"a.xml": "file", "p/b.xml": "file", "p/up": REPEATED}


def test_list_files__folders_that_all_link_to_each_other_end_soon(tmp_path: Path) -> None:
    names = "abcdefghijkl"
    _make(tmp_path, *(f"{name}/{name}.xml" for name in names))
    for one in names:
        for other in names:
            (tmp_path / one / f"to-{other}").symlink_to(tmp_path / other)
    found = _listed(tmp_path)
    assert len(found) == len(names) + len(names) ** 2
    assert sorted(k for k, kind in found.items() if kind == "file") == [f"{n}/{n}.xml" for n in names]
    assert set(_listed(tmp_path, "**/a.xml").values()) == {"file", REPEATED}


def test_list_files__file_with_two_paths_is_read_by_the_one_without_links(tmp_path: Path) -> None:
    _make(tmp_path, "in/m.xml", "in/q/n.xml")
    (tmp_path / "in" / "a.xml").symlink_to(tmp_path / "in" / "m.xml")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "in" / "q")
    assert _listed(tmp_path / "in") == {"a.xml": REPEATED, "b": REPEATED, "m.xml": "file", "q/n.xml": "file"}


def test_list_files__two_links_to_one_file_elsewhere_give_the_first(tmp_path: Path) -> None:
    _make(tmp_path, "real/a.xml")
    (tmp_path / "in").mkdir()
    for name in ("c.xml", "b.xml"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "real" / "a.xml")
    assert _listed(tmp_path / "in") == {"b.xml": "file", "c.xml": REPEATED}


def test_glob__sees_a_folder_under_the_name_of_its_link(tmp_path: Path) -> None:
    _make(tmp_path, "in/p/a.xml")
    (tmp_path / "in" / "q").symlink_to(tmp_path / "in" / "p")
    assert _listed(tmp_path / "in", "[q]/*.xml") == {"q/a.xml": "file"}
    assert _listed(tmp_path / "in", "*/*.xml") == {"p/a.xml": "file", "q/a.xml": REPEATED}


def test_list_files__what_is_no_regular_file_has_its_kind(tmp_path: Path) -> None:
    _make(tmp_path, "a.xml")
    os.mkfifo(tmp_path / "b.parquet")
    (tmp_path / "c.xml").symlink_to(tmp_path / "b.parquet")
    (tmp_path / "d.xml").symlink_to("/dev/null")
    (tmp_path / "e.xml").symlink_to(tmp_path / "e.xml")
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tmp_path):
        server.bind("f.xml")
    assert _listed(tmp_path) == {
        "a.xml": "file",
        "b.parquet": "named pipe",
        "c.xml": "named pipe",
        "d.xml": "device",
        "e.xml": "link that leads nowhere",
        "f.xml": "socket",
    }


@pytest.mark.timeout(20)
def test_list_files__named_pipe_as_the_input_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.xml")
    with pytest.raises(UsageError, match=r"p\.xml' is a named pipe; expected a file, a folder"):
        STORAGE.list_files(f"{tmp_path}/p.xml")


@pytest.mark.timeout(20)
def test_read__what_is_no_file_is_refused_with_its_kind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p")
    with pytest.raises(UsageError, match=r"/p is a named pipe, expected a table$"):
        STORAGE.read_bytes(f"{tmp_path}/p", expected="a table")
    with pytest.raises(UsageError, match=r" is a folder, expected a file$"):
        STORAGE.open(str(tmp_path))
    with pytest.raises(UsageError, match=r"/dev/null is a device, expected a file$"):
        STORAGE.read_bytes("/dev/null")


# Names that are not UTF-8


def test_list_files__name_that_is_not_utf8_can_be_read(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    os.mkdir(folder + b"/K\xf6ln")
    for name in (b"/K\xf6ln/M\xfcller.xml", b"/plain.xml"):
        with open(folder + name, "wb") as stream:
            stream.write(name)
    entries = STORAGE.list_files(str(tmp_path))
    assert [shown_path(e.relative) for e in entries] == [r"K\xf6ln/M\xfcller.xml", "plain.xml"]
    assert STORAGE.read_bytes(entries[0].uri) == b"/K\xf6ln/M\xfcller.xml"
    assert STORAGE.open(entries[0].uri).read() == b"/K\xf6ln/M\xfcller.xml"
    assert [e.relative for e in STORAGE.list_files(entries[0].uri)] == ["M\udcfcller.xml"]


def test_names__name_that_is_not_utf8_is_one_of_them(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/M\xfcller.xml", "wb"):
        pass
    _make(tmp_path, "a/deep")
    assert [shown_path(name) for name in STORAGE.names(str(tmp_path))] == [r"M\xfcller.xml"]
    assert [shown_path(n) for n in STORAGE.entries(str(tmp_path))] == [r"M\xfcller.xml", "a"]
    assert set(STORAGE.modified_s(str(tmp_path))) == {"M\udcfcller.xml"}


def test_list_files__names_do_not_depend_on_the_locale(tmp_path: Path) -> None:
    _make(tmp_path, "Müller/ä.xml")
    program = (
        "import sys, json; from beam_jobs.reading.storage import Storage; s = Storage();"
        "found = s.list_files(sys.argv[1]); single = s.list_files(found[0].uri);"
        "print(json.dumps([[e.relative, s.read_bytes(e.uri).decode()] for e in found + single]))"
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "Müller")],
        env={**os.environ, **plain},
        check=True,
        capture_output=True,
    )
    assert json.loads(run.stdout) == [["ä.xml", "Müller/ä.xml"]] * 2


# Places


def test_list_files__link_that_leads_nowhere_is_listed_without_a_size(tmp_path: Path) -> None:
    _make(tmp_path, "in/a.xml")
    (tmp_path / "in" / "b.xml").symlink_to(tmp_path / "gone.xml")
    entries = STORAGE.list_files(f"{tmp_path}/in")
    assert [(entry.relative, entry.size >= 0) for entry in entries] == [("a.xml", True), ("b.xml", False)]


def test_entries__are_files_and_folders_directly_in_a_folder(tmp_path: Path) -> None:
    _make(tmp_path, "b", "a/deep")
    assert STORAGE.entries(str(tmp_path)) == ["a", "b"]
    assert STORAGE.entries(f"{tmp_path}/absent") == []


@pytest.mark.parametrize(
    ("folder", "uri", "inside"),
    [
        ("x", "x", True),
        ("x", "x/", True),
        ("x", "x/y/z", True),
        ("x", "xy", False),
        ("x/y", "x", False),
        ("x", "x/../z", False),
        ("x", "z/../x/y", True),
        ("s3://b/x", "s3://b/x/y", True),
        ("s3://b/x", "s3://b/xy", False),
        ("s3://b/x", "gs://b/x/y", False),
        ("s3://b/x", "b/x/y", False),
    ],
)
def test_contains__is_about_places_and_not_about_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, uri: str, inside: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = Storage((("s3.region", "eu-west-1"), ("gs.anonymous", "true")))
    assert storage.contains(folder, uri) is inside


def test_contains__sees_through_links(tmp_path: Path) -> None:
    _make(tmp_path, "real/a.xml")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert STORAGE.contains(f"{tmp_path}/real", f"{tmp_path}/link/out")
    assert STORAGE.contains(f"{tmp_path}/link", f"{tmp_path}/real/out")
