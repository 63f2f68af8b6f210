"""An HTTP proxy of the tests' own in front of the S3 server: it counts, delays, refuses, cuts and swallows.

Requests pass unchanged, byte by byte (the Host header is part of their signature); the proxy reads only what
it needs to know where a message ends. It runs in a process of its own: several of TileDB's functions hold
the interpreter's lock while they wait for S3, and a proxy on a thread beside them could never answer. That
process ends when its standard input does, so also when the tests are killed.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

FaultKind = Literal["reset", "truncate", "slow down", "silence", "hang", "trickle", "lose"]
"""What a request meets: its connection is cut; its answer ends early; a 503; nothing, for ever; half of the
answer's head; the answer a byte at a time; the answer is lost after the server did what was asked."""

_TIMEOUT_S = 60.0
_PIECE = 64 * 1024
_TRICKLE_S = 0.2
_SLOW_DOWN_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)
_SLOW_DOWN = (
    b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(_SLOW_DOWN_BODY), _SLOW_DOWN_BODY)
)


@dataclass(frozen=True)
class Request:
    """A request that passed: what the counts are made of."""

    method: str
    target: str
    sent_bytes: int
    """Bytes of its body."""
    host: str
    """Its Host header."""
    region: str
    """The region that it is signed for; empty if it is not signed."""
    beside: int
    """Requests that were under way when it came."""
    agent: str
    """The program that it says it is from."""

    @property
    def kind(self) -> str:
        """GET, HEAD, PUT, POST, DELETE, or LIST for a listing."""
        return "LIST" if self.method == "GET" and ("list-type=" in self.target) else self.method


@dataclass
class Fault:
    """What happens to the next `times` requests whose kind and target match a pattern."""

    kind: FaultKind
    times: int
    where: str
    met: int = 0

    def picks(self, request: Request) -> bool:
        """Whether it is this request's turn."""
        return self.met < self.times and bool(re.search(self.where, f"{request.kind} {request.target}"))


class FaultProxy:
    """The proxy as a test sees it: in a `with` block, forwarding to a port of this machine."""

    def __init__(self, port: int, latency_s: float = 0.0) -> None:
        self._port = port
        self._latency_s = latency_s
        self.endpoint = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.endpoint = self._ask("endpoint")
        self.latency(self._latency_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self, command: str, *values: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, *values]) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], 60)[0]:
            raise TimeoutError(f"the proxy does not answer to {command!r}")
        return json.loads(self._process.stdout.readline())

    def latency(self, seconds: float) -> None:
        """From now on, let each request wait this long."""
        self._ask("latency", seconds)

    def bandwidth(self, bytes_per_s: float, each: bool = False) -> None:
        """From now on, let answers share a line that carries so many bytes a second, or with `each` let every
        connection have one; 0: as many as come."""
        self._ask("bandwidth", bytes_per_s, each)

    def connections(self, most: int) -> None:
        """From now on, work on so many requests at once, and let others wait; 0: on all."""
        self._ask("connections", most)

    def fail(self, kind: FaultKind, times: int = 1_000_000, where: str = "", also: bool = False) -> None:
        """From now on, let requests that match `where` (as in `GET .*__fragments`) meet a fault.

        It takes the place of earlier ones, or with `also` is beside them.
        """
        self._ask("fail", also, kind, times, where)

    def heal(self) -> None:
        """From now on, let everything pass."""
        self._ask("heal")

    def faults_met(self) -> int:
        """Requests that met a fault since the last `fail`."""
        return int(self._ask("met"))

    def requests(self, clear: bool = False) -> list[Request]:
        """Requests so far; with `clear`, the next call counts from here."""
        return [Request(*values) for values in self._ask("requests", clear)]

    def counts(self, clear: bool = False) -> Counter[str]:
        """Requests so far by kind."""
        return Counter(request.kind for request in self.requests(clear))


class _Server:
    """The proxy itself; one daemon thread for each connection, and a timeout on every socket."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._latency_s = 0.0
        self._line = _Line()
        self._each = 0.0
        self._most = 0
        self._room = threading.Condition()
        self._at_work = 0
        self._requests: list[Request] = []
        self._under_way = 0
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def obey(self, command: str, *values: Any) -> Any:
        """Do what a line of standard input says."""
        with self._lock:
            match command:
                case "endpoint":
                    return f"http://127.0.0.1:{self._listener.getsockname()[1]}"
                case "latency":
                    self._latency_s = values[0]
                case "bandwidth":
                    self._line, self._each = _Line(values[0]), values[0] if values[1] else 0.0
                case "connections":
                    self._most = values[0]
                case "fail":
                    also, *fault = values
                    self._faults = [*(self._faults if also else ()), Fault(*fault)]
                case "heal":
                    self._faults = []
                case "met":
                    return sum(fault.met for fault in self._faults)
                case "requests":
                    passed = [astuple(request) for request in self._requests]
                    if values[0]:
                        self._requests.clear()
                    return passed
        return None

    def start(self) -> None:
        """Accept connections, on a thread."""
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError, ValueError), client:
            upstream = socket.create_connection(("127.0.0.1", self._target), timeout=_TIMEOUT_S)
            with upstream:
                for connection in (client, upstream):
                    connection.settimeout(_TIMEOUT_S)
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with client.makefile("rb") as from_client, upstream.makefile("rb") as from_server:
                    while self._one(client, from_client, upstream, from_server):
                        pass

    def _one(
        self, client: socket.socket, from_client: BinaryIO, upstream: socket.socket, from_server: BinaryIO
    ) -> bool:
        """Pass one request and its response; False if the connection ends with it."""
        head = _read_head(from_client)
        method, target = head.split(b" ", 2)[:2]
        scope = re.search(rb"Credential=[^/]*/\d+/([^/]*)/", _header(head, b"authorization") or b"")
        with self._lock:
            request = Request(
                method.decode(),
                target.decode(),
                int(_header(head, b"x-amz-decoded-content-length") or _header(head, b"content-length") or 0),
                (_header(head, b"host") or b"").decode(),
                scope[1].decode() if scope else "",
                self._under_way,
                (_header(head, b"user-agent") or b"").decode(),
            )
            self._under_way += 1
            self._requests.append(request)
            fault = next((f for f in self._faults if f.picks(request)), None)
            if fault is not None:
                fault.met += 1
        try:
            kind = None if fault is None else fault.kind
            with self._turn():
                return self._answer(head, kind, client, from_client, upstream, from_server)
        finally:
            with self._lock:
                self._under_way -= 1

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        with self._room:
            while self._most and self._at_work >= self._most:
                self._room.wait(1)
            self._at_work += 1
        try:
            yield
        finally:
            with self._room:
                self._at_work -= 1
                self._room.notify()

    def _answer(
        self,
        head: bytes,
        kind: FaultKind | None,
        client: socket.socket,
        from_client: BinaryIO,
        upstream: socket.socket,
        from_server: BinaryIO,
    ) -> bool:
        method = head.split(b" ", 1)[0]
        time.sleep(self._latency_s)
        if kind == "silence":
            time.sleep(_TIMEOUT_S)
            return False
        if kind == "reset":
            # With a linger time of zero, close() sends RST instead of FIN.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if kind == "slow down":
            if not _header(head, b"expect"):
                _copy_body(head, from_client, None)
            client.sendall(_SLOW_DOWN)
            return False
        if (_header(head, b"expect") or b"").lower() == b"100-continue":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")  # the server's own is dropped below
        upstream.sendall(head)
        _copy_body(head, from_client, upstream)
        answer = _read_head(from_server)
        while answer.split(b" ", 2)[1].startswith(b"1"):
            answer = _read_head(from_server)
        if kind == "lose":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if kind == "hang":
            client.sendall(answer[: len(answer) // 2])
            time.sleep(_TIMEOUT_S)
            return False
        if kind == "trickle":
            for byte in answer:
                client.sendall(bytes([byte]))
                time.sleep(_TRICKLE_S)
            return False
        client.sendall(answer)
        status = answer.split(b" ", 2)[1]
        if method == b"HEAD" or status in (b"204", b"304"):
            return True
        if kind == "truncate":
            length = int(_header(answer, b"content-length") or 200)
            client.sendall(from_server.read(length // 2))
            return False
        _copy_body(answer, from_server, client, _Line(self._each) if self._each else self._line)
        return (_header(answer, b"connection") or b"").lower() != b"close"


def _read_head(source: BinaryIO) -> bytes:
    lines = []
    while line := source.readline(_PIECE):
        lines.append(line)
        if line == b"\r\n":
            return b"".join(lines)
    raise EOFError("the connection ended")


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, separator, value = line.partition(b":")
        if separator and key.strip().lower() == name:
            return value.strip()
    return None


class _Line:
    """What all answers go through together."""

    def __init__(self, bytes_per_s: float = 0.0) -> None:
        self._bytes_per_s = bytes_per_s
        self._lock = threading.Lock()
        self._free_at = 0.0

    def carry(self, nbytes: int) -> None:
        """Wait for the turn of so many bytes, and as long as they take."""
        if not self._bytes_per_s:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + nbytes / self._bytes_per_s
            wait = self._free_at - now
        time.sleep(wait)


def _copy_body(
    head: bytes, source: BinaryIO, target: socket.socket | None, line: _Line | None = None
) -> None:
    """Pass the body that `head` announces; with no target, read it and drop it."""
    if b"chunked" in (_header(head, b"transfer-encoding") or b"").lower():
        while True:
            size_line = source.readline(_PIECE)
            size = int(size_line.split(b";")[0], 16)
            piece = size_line + source.read(size) + source.readline(_PIECE)
            if line is not None:
                line.carry(len(piece))
            if target is not None:
                target.sendall(piece)
            if size == 0:
                return
    left = int(_header(head, b"content-length") or 0)
    while left:
        piece = source.read(min(left, _PIECE))
        if not piece:
            raise EOFError("the body ended early")
        left -= len(piece)
        if line is not None:
            line.carry(len(piece))
        if target is not None:
            target.sendall(piece)


if __name__ == "__main__":
    server = _Server(int(sys.argv[1]))
    server.start()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(server.obey(*json.loads(line))) + "\n")
        sys.stdout.flush()
