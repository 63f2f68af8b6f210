"""Forgetting a person whose store and landing zone are on a real S3 server."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from botocore.session import get_session
from house import Home, places_of

from radiobject_assets.cli.demo import DATASET_YAML
from radiobject_assets.definitions import build_resources
from radiobject_assets.errors import StorageError
from radiobject_assets.forgetting.forget import forget_person, would_go
from radiobject_assets.phantom.cohort import make_cohort
from radiobject_assets.store import RadiObject, forgetting_key
from tests.store.conftest import S3Server, s3_server

__all__ = ["s3_server"]
pytestmark = pytest.mark.s3


@pytest.mark.slow
def test_nothing_of_a_person_is_left_in_any_object(
    s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    client = get_session().create_client("s3", region_name="us-east-1", endpoint_url=s3_server.endpoint)
    prefix = secrets.token_hex(6)
    make_cohort(tmp_path / "cohort", subjects=2, shape=(48, 48, 24))
    files = (tmp_path / "cohort").rglob("*")
    for path in sorted(files, key=lambda path: path.name == "_COMPLETE"):  # the marker comes last
        if path.is_file():
            name = f"{prefix}/landing/{path.relative_to(tmp_path / 'cohort').as_posix()}"
            client.put_object(Bucket=s3_server.bucket, Key=name, Body=path.read_bytes())
    home = Home(tmp_path / "home")
    home.path.mkdir()
    place = f"s3://{s3_server.bucket}/{prefix}"
    yaml = DATASET_YAML.replace("landing: landing ", f"landing: {place}/landing ")
    (home.path / "dataset.yaml").write_text(yaml.replace("store: store ", f"store: {place}/store "))
    assert not home.run().failed
    ctx = build_resources(home.settings)["storage"].ctx

    def subjects() -> set[str]:
        return set(RadiObject(home.store, ctx=ctx).obs_meta.read()["obs_subject_id"])

    def objects() -> dict[str, bytes]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=s3_server.bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return {k: client.get_object(Bucket=s3_server.bucket, Key=k)["Body"].read() for k in keys}

    def naming(subject: str) -> set[str]:
        return {key for key, data in objects().items() if subject.encode() in data or subject in key}

    subject, other = sorted(subjects())
    mark = forgetting_key(home.store, ctx).mark(subject)
    assert {key.split("/")[1] for key in naming(subject)} >= {"landing", "store", "store.tables"}
    # an arrival that nobody has looked at yet
    images = [data for key, data in sorted(objects().items()) if data[128:132] == b"DICM"]
    image = next(data for data in images if subject.encode() in data)
    late = f"{prefix}/landing/late-077/image"
    client.put_object(Bucket=s3_server.bucket, Key=late, Body=image)
    settings = home.path / "dataset.yaml"
    plain = settings.read_text()
    settings.write_text(plain.replace("arrivals:\n", "arrivals:\n  copy_limit_gb: 0.00000001\n"))
    with home.house() as house:
        assert would_go(house, mark).not_read == ("late-077",)
        with pytest.raises(StorageError, match="may hold the person: late-077"):
            forget_person(house, mark, landing=True)
    assert late in naming(subject)
    settings.write_text(plain)
    with home.house() as house:
        done = forget_person(house, mark, landing=True)
    assert done.by_hand == 0
    assert naming(subject) == set()
    assert naming(other)
    assert subjects() == {other}
    assert places_of(home, {subject}, set()) == set()
    assert not home.run().failed
    assert subjects() == {other}
    assert naming(subject) == set()
