"""The whole line with the store on a real S3 server: same assets, same truth, no secret written down."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from radiobject_assets.cli.demo import DATASET_YAML
from radiobject_assets.dataset.dataset_yaml import load_dataset
from radiobject_assets.definitions import build_definitions
from radiobject_assets.phantom.cohort import make_subject
from radiobject_assets.platform.headless import open_instance, run_pass
from radiobject_assets.platform.overview import read_overview
from radiobject_assets.store import RadiObject
from tests.store.conftest import S3Server, s3_server

__all__ = ["s3_server"]
pytestmark = pytest.mark.s3


def test_the_line_runs_on_s3_and_leaves_no_secret_behind(
    s3_server: S3Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    uri = f"s3://{s3_server.bucket}/{secrets.token_hex(6)}/store"
    text = DATASET_YAML.replace("store: store ", f"store: {uri} ")
    (tmp_path / "dataset.yaml").write_text(text, encoding="utf-8")
    subject = make_subject(tmp_path / "landing", 1, shape=(48, 48, 24))
    dataset = load_dataset(tmp_path / "dataset.yaml")
    definitions = build_definitions(dataset)
    with open_instance(tmp_path / "dagster") as instance:
        done = run_pass(definitions, instance)
        overview = read_overview(dataset, definitions, instance)
    assert done.failed == ()
    assert overview.checks.failures == (
        "demo/patch_cache: patches_are_there",
        "demo/patch_cache: patches_match_volumes[test]",
        "demo/patch_cache: patches_match_volumes[validation]",
        "demo/splits: splits_are_usable",
    )  # one subject for three splits
    assert overview.subjects == 1

    ct = RadiObject(uri, ctx=s3_server.ctx()).collection("ct")
    rows = ct.to_obs().reset_index().set_index("series_uid")
    volume = ct.loc[rows.loc[subject.ct_series_uid, "obs_id"]]
    assert subject.ct.largest_difference(volume.to_numpy(), volume.affine) == 0

    for path in (*(tmp_path / "dagster").rglob("*"), *(tmp_path / "work").rglob("*")):
        if path.is_file():
            assert s3_server.secret_key.encode() not in path.read_bytes()
