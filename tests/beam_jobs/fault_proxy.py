"""A proxy on loopback between a client of a store and the real server, which injects faults.

Each request goes to the server as it came. The first rule that takes a request says what goes
wrong with it. The proxy is a process of its own: Arrow's GCS client holds Python's lock while it
waits for an answer, so that a thread of the same process could not give it. A test sets the rules
and sees the requests through the proxy itself, and may kill it.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

_CONTROL: Final = "/fault-proxy"
# What belongs to one connection, and not to the request.
_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "proxy-connection"})


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    target: str  # path and query
    content_range: str = ""  # the header Range
    authorization: str = ""  # the header Authorization

    @property
    def kinds(self) -> frozenset[str]:
        """What the request is for: `any`, and one of `data`, `listing`, `writing`, `other`.

        `data` is the content of an object, or of a span of one.
        """
        is_listing = "list-type=2" in self.target or re.search(r"/b/[^/]+/o(\?|$)", self.target) is not None
        if self.method == "GET" and is_listing:
            return frozenset({"any", "listing"})
        if self.method == "GET" and (self.content_range or "alt=media" in self.target):
            return frozenset({"any", "data"})
        is_s3_write = self.method == "PUT" or (self.method == "POST" and "upload" in self.target)
        return frozenset({"any", "writing" if is_s3_write else "other"})


@dataclass
class Answer:
    """What the server answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """Return a header's value; empty without it."""
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass(frozen=True)
class Rule:
    """A fault, and the requests that it hits."""

    fault: str  # a name of `FAULTS`
    kind: str = "any"  # of the requests that it takes, see `Seen.kinds`
    path: str = ""  # regular expression that is searched in their target, percent signs decoded
    skip: int = 0  # requests that it takes and lets pass first
    times: int | None = None  # requests that it hits at most; None for all
    share: float = 1.0  # of the requests that it takes, drawn at random
    seconds: float = 0.0  # of a slow first byte

    def takes(self, seen: Seen) -> bool:
        """Tell whether the rule is about a request."""
        return self.kind in seen.kinds and re.search(self.path, unquote(seen.target)) is not None


class _State:
    """Rules and requests inside the proxy."""

    def __init__(self, scheme: str, upstream: int) -> None:
        self.scheme, self.upstream = scheme, upstream
        self._lock = threading.Lock()
        self._random = random.Random(5)
        self.set([])

    def set(self, rules: Sequence[Rule]) -> None:
        with self._lock:
            self._rules = list(rules)
            self._taken = [0] * len(rules)
            self._hits = [0] * len(rules)
            self._seen: list[Seen] = []

    def shown(self) -> dict[str, Any]:
        with self._lock:
            return {"hits": list(self._hits), "seen": [asdict(seen) for seen in self._seen]}

    def rule_for(self, seen: Seen) -> Rule | None:
        with self._lock:
            self._seen.append(seen)
            return next((rule for i, rule in enumerate(self._rules) if self._hit(i, rule, seen)), None)

    def _hit(self, i: int, rule: Rule, seen: Seen) -> bool:
        if not rule.takes(seen):
            return False
        self._taken[i] += 1
        if self._taken[i] <= rule.skip or (rule.times is not None and self._hits[i] >= rule.times):
            return False
        if rule.share < 1 and self._random.random() >= rule.share:
            return False
        self._hits[i] += 1
        return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: _State

    def log_message(self, *_: Any) -> None:
        """Say nothing: the test knows what was asked."""

    def _handle(self) -> None:
        if self.path == _CONTROL:
            self._control()
            return
        headers = self.headers
        seen = Seen(self.command, self.path, headers.get("Range", ""), headers.get("Authorization", ""))
        rule = self.state.rule_for(seen)
        fault = None if rule is None else rule.fault
        if fault == "refuse":
            self._reset()
            return
        body = self._body()
        if fault == "reset_request":
            self._reset()
            return
        if fault in _REPLIES:
            self._send(_REPLIES[fault](self.state.scheme))
            return
        try:
            answer = self._forward(body)
        except OSError:
            self._reset()  # the server is dead
            return
        if rule is not None and fault == "slow":
            time.sleep(rule.seconds)
        self._answer(answer, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _handle

    def _control(self) -> None:
        """Set the rules, or show what came; the test asks for it."""
        if self.command == "PUT":
            self.state.set([Rule(**rule) for rule in json.loads(self._body())])
        self._send(Answer(200, [("Content-Type", "application/json")], json.dumps(self.state.shown()).encode()))

    def _answer(self, answer: Answer, fault: str | None) -> None:
        """Send an answer, or what a fault leaves of it."""
        half = len(answer.body) // 2
        if fault == "reset_answer":
            self._reset()
        elif fault == "truncated_listing":
            self._send(_without_half(answer, self.state.scheme))
        elif fault == "short_stated":
            self._send(Answer(answer.status, answer.headers, answer.body[:half]))
        elif fault in ("reset_body", "short_closed"):
            self._send(answer, n_bytes=half)
            if fault == "reset_body":
                self._reset()
            self.close_connection = True
        else:
            self._send(answer)

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            pass  # http.server answered it already
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _forward(self, body: bytes) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.state.upstream, timeout=120)
        try:
            # A client that takes this for its HTTP proxy writes the whole URL.
            target = re.sub(r"^https?://[^/]*", "", self.path)
            connection.putrequest(self.command, target, skip_host=target == self.path, skip_accept_encoding=True)
            left_out = _HOP if target == self.path else _HOP | {"host"}
            for name, value in self.headers.items():
                if name.lower() not in left_out and name.lower() != "expect":
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            reply = connection.getresponse()
            headers = [(n, v) for n, v in reply.getheaders() if n.lower() not in _HOP]
            if self.command == "HEAD":
                headers.append(("Content-Length", reply.getheader("Content-Length") or "0"))
            return Answer(reply.status, headers, reply.read())
        except http.client.HTTPException as error:
            raise ConnectionResetError(str(error)) from error
        finally:
            connection.close()

    def _send(self, answer: Answer, n_bytes: int | None = None) -> None:
        with contextlib.suppress(OSError):  # the client may be gone: it was killed, or does not wait
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            if self.command != "HEAD" and answer.status not in (204, 304):
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[:n_bytes])
            self.wfile.flush()

    def _reset(self) -> None:
        """End the connection as a dying machine does: the other side sees a reset."""
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        with contextlib.suppress(OSError):
            # The stream objects hold the socket open until they are closed too.
            self.rfile.close()
            self.connection.close()


def _error(status: int, s3_code: str, gcs_message: str, scheme: str) -> Answer:
    if scheme == "s3":
        text = f"<?xml version='1.0'?><Error><Code>{s3_code}</Code><Message>{gcs_message}</Message></Error>"
        return Answer(status, [("Content-Type", "application/xml")], text.encode())
    content = {"error": {"code": status, "message": gcs_message, "errors": [{"reason": s3_code}]}}
    return Answer(status, [("Content-Type", "application/json")], json.dumps(content).encode())


def _expired(scheme: str) -> Answer:
    if scheme == "s3":  # S3's own words and status
        return _error(400, "ExpiredToken", "The provided token has expired.", scheme)
    return _error(401, "authError", "Invalid Credentials", scheme)


_REPLIES: Final[Mapping[str, Callable[[str], Answer]]] = {
    "503": lambda scheme: _error(503, "SlowDown", "Please reduce your request rate.", scheme),
    "expired": _expired,
    "expired_403": lambda scheme: _error(403, "ExpiredToken", "The provided token has expired.", scheme),
}

FAULTS: Final = (
    *_REPLIES,
    "refuse",  # the connection is reset before the request was read
    "reset_request",  # reset after the request was read, which the server never sees
    "reset_answer",  # reset after the server did what was asked, before its answer
    "reset_body",  # reset in the middle of the answer
    "short_closed",  # the connection ends in order in the middle of the answer
    "short_stated",  # half of the answer, whose Content-Length says so too
    "slow",  # the answer begins late
    "truncated_listing",  # the second half of a listing is lost, and nothing says so
)


def _without_half(answer: Answer, scheme: str) -> Answer:
    """Return a listing without its second half, which says that it is whole."""
    body = answer.body
    headers = answer.headers
    if answer.header("content-encoding") == "gzip":
        body = gzip.decompress(body)
        headers = [(n, v) for n, v in headers if n.lower() != "content-encoding"]
    if scheme == "gs":
        content = json.loads(body)
        items = content.get("items", [])
        content = {**content, "items": items[: len(items) // 2]}
        content.pop("nextPageToken", None)
        return Answer(answer.status, headers, json.dumps(content).encode())
    parts = re.findall(rb"<Contents>.*?</Contents>", body, re.DOTALL)
    for part in parts[len(parts) // 2 :]:
        body = body.replace(part, b"", 1)
    body = re.sub(rb"<IsTruncated>true</IsTruncated>", b"<IsTruncated>false</IsTruncated>", body)
    return Answer(answer.status, headers, re.sub(rb"<NextContinuationToken>.*?</NextContinuationToken>", b"", body))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        """Say nothing: a reset connection is what the proxy is for."""


@dataclass
class FaultProxy:
    """A proxy that is listening."""

    port: int

    @property
    def endpoint(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def set(self, *rules: Rule) -> None:
        """Replace the rules, and forget the requests that came."""
        self._ask("PUT", json.dumps([asdict(rule) for rule in rules]))

    @property
    def n_hit(self) -> int:
        """Requests that a fault hit."""
        return sum(self._ask("GET")["hits"])

    def seen(self, kind: str = "any") -> list[Seen]:
        """Return the requests of a kind that came."""
        return [seen for one in self._ask("GET")["seen"] if kind in (seen := Seen(**one)).kinds]

    def _ask(self, method: str, body: str | None = None) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, _CONTROL, body)
            return dict(json.loads(connection.getresponse().read()))
        finally:
            connection.close()


def proxy_command(scheme: str, upstream: int, port: int) -> list[str]:
    """Return the command that runs a proxy on a port before the server on another one."""
    return [sys.executable, str(Path(__file__)), scheme, str(upstream), str(port)]


def main() -> None:
    """Serve until the process is ended."""
    scheme, upstream, port = sys.argv[1:]
    handler = type("Handler", (_Handler,), {"state": _State(scheme, int(upstream))})
    _Server(("127.0.0.1", int(port)), handler).serve_forever()


if __name__ == "__main__":
    main()
