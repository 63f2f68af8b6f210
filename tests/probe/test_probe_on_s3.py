"""The probe of a store on a real S3 server, which only the usual variables name."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from radiobject_assets.cli.commands import app
from radiobject_assets.cli.store import store_uri
from radiobject_assets.probe.running import run_trial
from radiobject_assets.probe.trial import Ended, Mode, Trial
from radiobject_assets.store import (
    commit_volumes,
    ensure_collection,
    ensure_store,
    reset_radiobject_config,
    set_radiobject_config,
    stage_volume,
)
from tests.store.conftest import S3Server, s3_server

__all__ = ["s3_server"]
pytestmark = pytest.mark.s3
pytest.importorskip("torch", reason="loaders are PyTorch's")


@pytest.fixture
def store(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store of one volume, written by another configuration than the command's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    set_radiobject_config(s3_server.config())
    uri = f"s3://{s3_server.bucket}/{secrets.token_hex(6)}/store"
    ensure_store(uri)
    where = ensure_collection(uri, "ct")
    voxels = np.zeros((8, 8, 8), np.int16)
    staged = stage_volume(where, obs_id="v", obs_subject_id="s", voxels=voxels, affine=np.eye(4))
    commit_volumes(where, [staged], with_subjects=True)
    reset_radiobject_config()
    yield uri
    reset_radiobject_config()


def test_volumes_are_compared_in_the_child_as_the_process_that_probes_is_configured(
    store: str, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    trial = Trial(store_uri(store), Mode.INTEGRITY, integrity_items=5)
    outcome = run_trial(trial, tmp_path / "trial")
    assert (outcome.ended, outcome.n_items) == (Ended.PASSED, 1)
    for file in (tmp_path / "trial").iterdir():
        assert s3_server.secret_key not in file.read_text()


@pytest.mark.slow
def test_the_command_reaches_a_store_as_other_commands_do(
    store: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    done = CliRunner().invoke(app, ["probe", store, "--step", "items"])
    assert done.exit_code == 0, done.output
    assert "passed: 1 batches, 1 items" in done.output
