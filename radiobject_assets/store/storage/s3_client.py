"""botocore's client for S3 with the settings that a TileDB context carries, so that both see the same.

Every setting of TileDB's for S3 has its equal here or is refused: there is no other way to S3 beside it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import tiledb
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.loaders import create_loader
from botocore.session import Session, get_session

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store.storage.config import DEADLINE_KEY
from radiobject_assets.store.storage.s3_settings import PREFIX, deadline_of, endpoint_of
from radiobject_assets.system.processes import after_fork

# Ways to find credentials that each of TileDB's sources leaves; "auto" is the whole chain.
_SOURCES: dict[str, tuple[str, ...] | None] = {
    "auto": None,
    "config_files": ("shared-credentials-file", "config-file", "assume-role", "sso", "custom-process"),
    "sts_profile_with_web_identity": ("assume-role", "assume-role-with-web-identity"),
}
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
            wanted = {k: str(v or "") for k, v in settings if k.startswith(PREFIX) or k == DEADLINE_KEY}
            key = tuple(sorted(wanted.items()))
            if key not in _clients:
                _clients[key] = _connect(wanted)
            found = _known[ctx] = _clients[key]
        return found


def _connect(settings: Mapping[str, str]) -> S3Client:
    s3 = {key.removeprefix(PREFIX): value for key, value in settings.items()}
    session = get_session()
    # Read once: the description of S3 takes longer to load than a region from the other side of the world.
    session.register_component("data_loader", _loader())
    _choose_credentials(session, s3)
    endpoint = f"{s3['scheme']}://{s3['endpoint_override']}" if s3["endpoint_override"] else None
    client = session.create_client(
        "s3",
        region_name=s3["region"] or None,
        endpoint_url=endpoint,
        verify=_verification(s3),
        aws_access_key_id=None if s3["aws_role_arn"] else s3["aws_access_key_id"] or None,
        aws_secret_access_key=None if s3["aws_role_arn"] else s3["aws_secret_access_key"] or None,
        aws_session_token=None if s3["aws_role_arn"] else s3["aws_session_token"] or None,
        config=_options(s3),
    )
    reading = {"RequestPayer": "requester"} if s3["requester_pays"] == "true" else {}
    return S3Client(
        client=client,
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
    )


@cache
def _loader() -> Any:
    return create_loader()


def _options(s3: Mapping[str, str]) -> Config:
    options: dict[str, Any] = {
        "connect_timeout": int(s3["connect_timeout_ms"]) / 1000,
        "read_timeout": max(1.0, int(s3["request_timeout_ms"]) / 1000),
        "max_pool_connections": 2 * int(s3["max_parallel_ops"]),
        "retries": {"total_max_attempts": 1},
        "s3": {"addressing_style": "virtual" if s3["use_virtual_addressing"] == "true" else "path"},
        # Other servers than AWS's refuse requests with checksums behind the body.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    if s3["no_sign_request"] == "true":
        options["signature_version"] = UNSIGNED
    if s3["proxy_host"]:
        user = f"{s3['proxy_username']}:{s3['proxy_password']}@" if s3["proxy_username"] else ""
        if s3["proxy_scheme"] not in ("http", "https"):
            raise ConfigurationError("vfs.s3.proxy_scheme: only 'http' or 'https' is possible here")
        proxy = f"{s3['proxy_scheme']}://{user}{s3['proxy_host']}:{s3['proxy_port']}"
        options["proxies"] = {"http": proxy, "https": proxy}
    return Config(**options)


def _verification(s3: Mapping[str, str]) -> bool | str | None:
    if s3["ca_path"]:
        raise ConfigurationError(
            "vfs.s3.ca_path (a folder of certificates) is not possible here: put the certificates into one "
            "file and give it as vfs.s3.ca_file"
        )
    if s3["verify_ssl"] == "false":
        return False
    return s3["ca_file"] or None


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


class _Role(CredentialProvider):  # type: ignore[misc]  # botocore has no types
    """Credentials of a role, got with others and renewed before they expire."""

    METHOD = "role-of-the-context"

    def __init__(self, session: Session, s3: Mapping[str, str], source: Any) -> None:
        super().__init__()
        self._session = session
        self._s3 = s3
        self._source = source

    def load(self) -> Any:
        more = {"ExternalId": self._s3["aws_external_id"], "RoleSessionName": self._s3["aws_session_name"]}
        if self._s3["aws_access_key_id"]:
            self._session.set_credentials(
                self._s3["aws_access_key_id"],
                self._s3["aws_secret_access_key"],
                self._s3["aws_session_token"] or None,
            )
            source = self._session.get_credentials()
        else:
            source = self._source.load_credentials()
        if source is None:
            return None
        region = self._s3["region"] or None

        def client(service: str, **values: Any) -> Any:
            return get_session().create_client(service, **{"region_name": region, **values})

        fetcher = AssumeRoleCredentialFetcher(
            client, source, self._s3["aws_role_arn"], extra_args={k: v for k, v in more.items() if v}
        )
        return DeferredRefreshableCredentials(fetcher.fetch_credentials, self.METHOD)


def _choose_credentials(session: Session, s3: Mapping[str, str]) -> None:
    chain = session.get_component("credential_provider")
    left = _SOURCES[s3["config_source"] or "auto"]
    if left is not None:
        chain.providers = [provider for provider in chain.providers if provider.METHOD in left]
    if s3["aws_role_arn"]:
        session.register_component(
            "credential_provider", CredentialResolver([_Role(get_session(), s3, chain)])
        )
