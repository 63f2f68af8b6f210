"""Objects that others write are copied as they were listed or not at all, and no error repeats a key."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObjectConfig, S3Config, S3Object, S3Objects, make_ctx
from radiobject_assets.store.storage import MissingError
from tests.store.conftest import S3Server
from tests.store.storage.recorder import Asked, Recorder, Reply

pytestmark = [pytest.mark.s3, pytest.mark.timeout(120)]

CONTENT = bytes(range(256)) * 20_000
NAME = "Doe_Jane/IM1"


@pytest.fixture
def objects(s3_server: S3Server) -> S3Objects:
    """A prefix that others write to."""
    made = S3Objects(f"s3://{s3_server.bucket}/{secrets.token_hex(6)}/landing", s3_server.ctx())
    made.write(NAME, CONTENT)
    return made


def listed(objects: S3Objects) -> S3Object:
    (found,) = objects.beginning_with("Doe_Jane/")
    return found


def test_a_listing_tells_what_lies_there_and_a_copy_is_the_object(objects: S3Objects, tmp_path: Path) -> None:
    objects.write("loose.dcm", b"")
    assert objects.top() == (["Doe_Jane"], ["loose.dcm"])
    found = listed(objects)
    assert (found.key, found.size) == (NAME, len(CONTENT))
    objects.download(found, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    (empty,) = objects.beginning_with("loose.dcm")
    objects.download(empty, tmp_path / "empty")
    assert (tmp_path / "empty").read_bytes() == b""


def test_an_object_that_was_changed_or_taken_away_since_it_was_listed_is_not_copied(
    objects: S3Objects, tmp_path: Path
) -> None:
    found = listed(objects)
    objects.write(NAME, b"other pixels")
    with pytest.raises(StorageError, match="changed meanwhile") as changed:
        objects.download(found, tmp_path / "copy")
    objects.remove(NAME)
    with pytest.raises(MissingError) as gone:
        objects.download(found, tmp_path / "copy")
    assert list(tmp_path.iterdir()) == []
    assert "Doe" not in str(changed.value) + str(gone.value)


def reach(endpoint: str) -> S3Objects:
    config = S3Config(endpoint=endpoint, use_virtual_addressing=False, max_tries=3, deadline_s=20.0)
    keys = {"vfs.s3.aws_access_key_id": "key", "vfs.s3.aws_secret_access_key": "secret"}
    return S3Objects("s3://bucket/landing", make_ctx(RadiObjectConfig(s3=config), **keys))


@pytest.mark.parametrize("understands_ranges", [True, False])
def test_after_a_broken_connection_a_copy_goes_on_from_where_it_was(
    tmp_path: Path, understands_ranges: bool
) -> None:
    asked_for: list[str] = []

    def reply(asked: Asked) -> Reply:
        wanted = asked.headers.get("range", "")
        asked_for.append(wanted)
        assert asked.headers["if-match"] == '"tag"'
        if not wanted:
            return Reply(body=CONTENT[:3_000_000], promised=len(CONTENT))
        if not understands_ranges:
            return Reply(body=CONTENT)
        first = int(wanted.removeprefix("bytes=").rstrip("-"))
        last = len(CONTENT) - 1
        headers = {"Content-Range": f"bytes {first}-{last}/{len(CONTENT)}"}
        return Reply(206, CONTENT[first:], headers)

    with Recorder(reply) as server:
        found = S3Object(NAME, len(CONTENT), '"tag"', 0.0)
        reach(server.endpoint).download(found, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert asked_for[0] == ""
    assert int(asked_for[1].removeprefix("bytes=").rstrip("-")) >= 2_000_000


_LIMITED = """
import resource, signal, sys
from pathlib import Path
from radiobject_assets.store import S3Object, S3Objects
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
S3Objects("s3://bucket/landing").download(S3Object("Doe_Jane/IM1", 3_000_000, "tag", 0.0), Path(sys.argv[1]))
"""


def test_a_disk_that_takes_no_more_is_said_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    with Recorder(lambda _: Reply(body=CONTENT[:3_000_000])) as server:
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL": server.endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        command = [sys.executable, "-c", _LIMITED, str(tmp_path / "copy")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert len(server.asked) == 1
    assert "the file is larger than this process or disk allows" in done.stderr
    assert "Doe" not in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
