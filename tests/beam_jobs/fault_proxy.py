"""A proxy on loopback between a client of a store and the real server, which injects faults.

Each request goes to the server as it came. The first rule that takes a request says what goes
wrong with it. The proxy stays in the process of the test, so that a test sees every request and
can change the rules while a job in another process is running.
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
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast

# What belongs to one connection, and not to the request.
_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "proxy-connection"})


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    target: str  # path and query
    content_range: str  # the header Range; empty without one

    @property
    def is_data(self) -> bool:
        """The request is for the bytes of an object: GET with a Range, or of GCS's media."""
        return self.method == "GET" and (bool(self.content_range) or "alt=media" in self.target)

    @property
    def is_listing(self) -> bool:
        """The request lists objects."""
        is_s3 = "list-type=2" in self.target
        return self.method == "GET" and (is_s3 or re.search(r"/b/[^/]+/o(\?|$)", self.target) is not None)

    @property
    def is_writing(self) -> bool:
        """The request writes an object or a part of one."""
        is_s3 = self.method == "PUT" or (self.method == "POST" and "uploads" in self.target)
        return is_s3 or (self.method in ("POST", "PUT") and "/upload/" in self.target)


@dataclass
class Answer:
    """What the server answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """Return a header's value; empty without it."""
        return next((value for key, value in self.headers if key.lower() == name), "")


def any_request(_: Seen) -> bool:
    """Take every request."""
    return True


@dataclass
class Rule:
    """A fault, and the requests that it hits."""

    fault: str  # a name of `FAULTS`
    takes: Callable[[Seen], bool] = any_request
    times: int | None = None  # requests that it hits at most; None for all
    share: float = 1.0  # of the requests that it takes, drawn at random
    seconds: float = 0.0  # of a slow first byte
    n_hit: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(5))

    def hits(self, seen: Seen) -> bool:
        """Tell whether the rule hits a request, and count it."""
        if not self.takes(seen) or (self.times is not None and self.n_hit >= self.times):
            return False
        if self.share < 1 and self._random.random() >= self.share:
            return False
        self.n_hit += 1
        return True


@dataclass
class FaultProxy:
    """A proxy that is listening."""

    scheme: str  # `s3` or `gs`
    port: int  # where it listens
    upstream: int  # port of the server on loopback
    rules: list[Rule] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def n_hit(self) -> int:
        """Requests that a fault hit."""
        return sum(rule.n_hit for rule in self.rules)

    def count(self, takes: Callable[[Seen], bool]) -> int:
        """Return how many of the requests that came a condition takes."""
        with self.lock:
            return sum(map(takes, self.seen))

    def clear(self) -> None:
        """Forget rules and requests."""
        with self.lock:
            self.rules.clear()
            self.seen.clear()

    def rule_for(self, seen: Seen) -> Rule | None:
        """Note a request and return the rule that hits it."""
        with self.lock:
            self.seen.append(seen)
            return next((rule for rule in self.rules if rule.hits(seen)), None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def log_message(self, *_: Any) -> None:
        """Say nothing: the test knows what was asked."""

    def _handle(self) -> None:
        seen = Seen(self.command, self.path, self.headers.get("Range", ""))
        rule = self.proxy.rule_for(seen)
        fault = None if rule is None else rule.fault
        if fault == "refuse":
            self._reset()
            return
        body = self._body()
        if fault == "reset_request":
            self._reset()
            return
        if fault in _REPLIES:
            self._send(_REPLIES[fault](self.proxy.scheme))
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

    def _answer(self, answer: Answer, fault: str | None) -> None:
        """Send an answer, or what a fault leaves of it."""
        half = len(answer.body) // 2
        if fault == "reset_answer":
            self._reset()
        elif fault == "truncated_listing":
            self._send(_without_half(answer, self.proxy.scheme))
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
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.upstream, timeout=120)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP and name.lower() != "expect":
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


@contextmanager
def fault_proxy(scheme: str, upstream: int, rules: Sequence[Rule] = (), port: int = 0) -> Iterator[FaultProxy]:
    """Run a proxy before the server on a port of loopback until the block ends."""
    handler = type("Handler", (_Handler,), {})
    listener = _Server(("127.0.0.1", port), cast(type[BaseHTTPRequestHandler], handler))
    proxy = FaultProxy(scheme, int(listener.server_address[1]), upstream, list(rules))
    handler.proxy = proxy  # type: ignore[attr-defined]
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join(10)
