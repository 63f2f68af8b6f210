"""Tables beside the store that several processes change at the same time."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from radiobject_assets.resources import WorkingTables
from radiobject_assets.store import make_ctx, open_storage
from tests.store.conftest import S3Server, s3_server

__all__ = ["s3_server"]
N_PROCESSES, N_ROWS = 4, 6
ADDS = """
import sys
import pandas as pd
from radiobject_assets.resources import MemoryBudgetResource, StorageResource, WorkingTables
from radiobject_assets.store import open_storage

root, number, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
tables = WorkingTables(open_storage(root, StorageResource(
    memory=MemoryBudgetResource(), endpoint_url=sys.argv[4] or None, region_name="us-east-1").ctx))
for row in range(count):
    one = pd.DataFrame({"by": [number], "row": [row]})
    tables.change_frame("table.parquet", lambda kept: one if kept is None else pd.concat([kept, one]))
"""


@pytest.mark.parametrize("kind", ["local", pytest.param("s3", marks=pytest.mark.s3)])
def test_nothing_is_lost_of_what_processes_write_at_once(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, endpoint, ctx = str(tmp_path / "tables"), "", make_ctx()
    if kind == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        root, endpoint, ctx = f"s3://{server.bucket}/{secrets.token_hex(6)}", server.endpoint, server.ctx()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    writers = [
        subprocess.Popen([sys.executable, "-c", ADDS, root, str(number), str(N_ROWS), endpoint])
        for number in range(N_PROCESSES)
    ]
    assert [writer.wait() for writer in writers] == [0] * N_PROCESSES
    rows = WorkingTables(open_storage(root, ctx)).frame("table.parquet")
    assert isinstance(rows, pd.DataFrame)
    assert sorted(zip(rows["by"], rows["row"], strict=True)) == [
        (number, row) for number in range(N_PROCESSES) for row in range(N_ROWS)
    ]
