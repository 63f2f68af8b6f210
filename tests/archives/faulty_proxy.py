"""An HTTP proxy before a DICOMweb server that does to its answers what networks and archives do."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests


@dataclass
class Asked:
    """A request, as the proxy hands it on: a fault may change it."""

    path: str
    query: dict[str, str]

    @property
    def is_retrieval(self) -> bool:
        """Whether pixels are asked for: a series or an instance."""
        return bool(re.search(r"/series/[^/]+(/instances/[^/]+)?$", self.path))

    @property
    def lists_instances(self) -> bool:
        return self.path.endswith("/instances")

    @property
    def lists_series(self) -> bool:
        return self.path.endswith("/series")


@dataclass
class Answer:
    """An answer, before it goes on its way: a fault may change it."""

    status: int
    kind: str
    body: bytes
    cut_at: int | None = None
    """The connection is closed after so many bytes."""

    def change_json(self, change: Callable[[list[dict[str, dict[str, object]]]], object]) -> None:
        content = json.loads(self.body or b"[]")
        changed = change(content)
        self.body = json.dumps(content if changed is None else changed).encode()


@dataclass
class Proxy:
    """Forwards to `upstream`; `fault` sees every request, and then its answer."""

    upstream: str
    before: Callable[[Asked], None] = lambda asked: None
    after: Callable[[Asked, Answer], None] = lambda asked, answer: None
    seen: list[Asked] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{urlsplit(self.upstream).path}"

    def count(self, what: Callable[[Asked], bool]) -> int:
        return sum(map(what, self.seen))


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[Proxy]:
    proxy = Proxy(upstream)
    root = "{0.scheme}://{0.netloc}".format(urlsplit(upstream))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            asked = Asked(parts.path, dict(parse_qsl(parts.query)))
            proxy.seen.append(Asked(asked.path, dict(asked.query)))
            proxy.before(asked)
            headers = {key: self.headers[key] for key in ("Accept", "Authorization") if key in self.headers}
            query = f"?{urlencode(asked.query)}" if asked.query else ""
            got = requests.get(f"{root}{asked.path}{query}", headers=headers, timeout=60)
            answer = Answer(got.status_code, got.headers.get("Content-Type", ""), got.content)
            proxy.after(asked, answer)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body[: answer.cut_at])
            if answer.cut_at is not None:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
