"""The client for S3 with the settings that a TileDB context carries, so that both see the same.

Every setting of TileDB's for S3 has its equal here or is refused: there is no other way to S3 beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import tiledb

from radiobject_assets.store.storage.aws import connect
from radiobject_assets.store.storage.config import DEADLINE_KEY, PROFILE_KEY
from radiobject_assets.store.storage.s3_settings import PREFIX, deadline_of, endpoint_of
from radiobject_assets.system.processes import after_fork

_ENCRYPTIONS = {"aes256": "AES256", "kms": "aws:kms"}


@dataclass(frozen=True)
class S3Client:
    """A client, and how its requests are to be made."""

    client: Any
    endpoint: str
    """For errors: without credentials that a URL may hold."""
    region: str
    tries: int
    """After the first."""
    wait_s: float
    """Before the second try; doubled every time."""
    parallel: int
    part_bytes: int
    """Of larger objects, which are put in parts."""
    deadline_s: float
    reading: Mapping[str, str]
    """Parameters of every request."""
    writing: Mapping[str, str]
    """Those of requests that put an object, `reading` among them."""
    conditional: set[str]
    """Buckets of which it is known that they honour conditions."""
    versioned: set[str]
    """The same of `If-Match`, which not every server honours that knows `If-None-Match`."""


_lock = threading.Lock()
_clients: dict[tuple[tuple[str, str], ...], S3Client] = {}
_known: WeakKeyDictionary[tiledb.Ctx, S3Client] = WeakKeyDictionary()


def _after_fork() -> None:
    # The parent's connections are shared with it: nothing may be sent through them here.
    global _lock, _clients, _known
    _lock, _clients, _known = threading.Lock(), {}, WeakKeyDictionary()


after_fork(_after_fork)


def s3_client(ctx: tiledb.Ctx) -> S3Client:
    """The client of this process for a context's settings; contexts with equal settings share it.

    Raises
    ------
    ConfigurationError
        For settings that are not possible here; it says what to set instead.
    """
    with _lock:
        found = _known.get(ctx)
        if found is None:  # to ask a context for its settings takes half a millisecond
            settings = ctx.config().dict().items()
            ours = (DEADLINE_KEY, PROFILE_KEY)
            wanted = {k: str(v or "") for k, v in settings if k.startswith(PREFIX) or k in ours}
            key = tuple(sorted(wanted.items()))
            if key not in _clients:
                _clients[key] = _connect(wanted)
            found = _known[ctx] = _clients[key]
        return found


def _connect(settings: Mapping[str, str]) -> S3Client:
    s3 = {key.removeprefix(PREFIX): value for key, value in settings.items()}
    reading = {"RequestPayer": "requester"} if s3["requester_pays"] == "true" else {}
    return S3Client(
        client=connect(s3, settings.get(PROFILE_KEY) or None),
        endpoint=endpoint_of(settings),
        region=s3["region"],
        tries=int(s3["connect_max_tries"]),
        wait_s=int(s3["connect_scale_factor"]) / 1000,
        parallel=int(s3["max_parallel_ops"]),
        part_bytes=int(s3["multipart_part_size"]),
        deadline_s=deadline_of(settings),
        reading=reading,
        writing={**reading, **_of_objects(s3)},
        conditional=set(),
        versioned=set(),
    )


def _of_objects(s3: Mapping[str, str]) -> dict[str, str]:
    given: dict[str, str] = {}
    if s3["sse"]:
        given["ServerSideEncryption"] = _ENCRYPTIONS[s3["sse"].lower()]
    if s3["sse_kms_key_id"]:
        given["SSEKMSKeyId"] = s3["sse_kms_key_id"]
    if s3["storage_class"] not in ("", "NOT_SET"):
        given["StorageClass"] = s3["storage_class"]
    if s3["object_canned_acl"] not in ("", "NOT_SET"):
        given["ACL"] = s3["object_canned_acl"].rstrip("_").replace("_", "-")
    return given
