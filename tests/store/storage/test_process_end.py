"""A process that gave up calls to S3 ends as any other: with its status and handlers, no wait, no crash."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.store.conftest import S3Server
from tests.store.fault_proxy import FaultKind, FaultProxy

pytestmark = [pytest.mark.s3, pytest.mark.timeout(590)]

# What ends late wakes the threads that were left waiting while the interpreter ends.
_PROGRAM = """
import atexit, sys, time
from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObject, S3Config, Volume, configure
from radiobject_assets.store.storage.context import get_tiledb_ctx
from radiobject_assets.store.storage import DeadlineError, open_storage

class EndsLate:
    def __del__(self, sleep=time.sleep, write=sys.stdout.write, flush=sys.stdout.flush):
        sleep(1.5)
        write("destroyed")
        flush()

endpoint, uri = sys.argv[1:]
atexit.register(print, "handled", flush=True)
s3 = S3Config(endpoint=endpoint, use_virtual_addressing=False, deadline_s=0.5, request_timeout_ms=1000)
configure(s3=s3)
held = EndsLate()
storage = open_storage(uri, get_tiledb_ctx())
for call in (
    lambda: storage.read("a"), lambda: storage.read_many(["a", "b", "c"]), lambda: storage.publish("a", b"x"),
    lambda: storage.list(), lambda: Volume(uri), lambda: RadiObject(uri),
):
    try:
        call()
    except StorageError as error:
        print(type(error).__name__)
sys.exit(7)
"""


@pytest.mark.parametrize(
    "rounds", [pytest.param(1, id="once"), pytest.param(13, id="often", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("fault", ["silence", "slow down", "hang", "trickle"])
def test_a_process_that_gave_calls_up_ends_as_any_other(
    s3_server: S3Server, fault: FaultKind, rounds: int
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": s3_server.access_key, "AWS_SECRET_ACCESS_KEY": s3_server.secret_key}
    uri = f"s3://{s3_server.bucket}/{secrets.token_hex(6)}"
    with FaultProxy(s3_server.port) as proxy:
        proxy.fail(fault)
        for _ in range(rounds):
            started = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", _PROGRAM, proxy.endpoint, uri],
                env={**os.environ, **keys}, cwd=Path(__file__).parents[3],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert done.returncode == 7, done.stderr
            assert done.stdout.split() == ["DeadlineError"] * 6 + ["handled", "destroyed"]
            assert done.stderr == ""
            assert time.monotonic() - started < 40
