"""Storages for tests: on a local disk and on a real S3 server."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from radiobject_assets.store.storage import Storage, open_storage
from tests.store.conftest import S3Server


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """An empty storage."""
    if request.param == "local":
        return open_storage(str(tmp_path / "store"))
    server: S3Server = request.getfixturevalue("s3_server")
    # Other processes get no credentials by pickle: theirs come from the environment.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    return open_storage(f"s3://{server.bucket}/{secrets.token_hex(6)}/store", server.ctx())


@pytest.fixture
def local(tmp_path: Path) -> Storage:
    """An empty storage on a disk."""
    return open_storage(str(tmp_path / "store"))
