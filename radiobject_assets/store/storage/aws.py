"""The only module that knows botocore: credentials of the AWS chain, clients, and what became of a request.

Without boto3, which adds nothing that is used here. It takes half a second to load: only who reaches S3, or
has to look for credentials, waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialProvider,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
)
from botocore.loaders import create_loader
from botocore.parsers import ResponseParserError
from botocore.session import Session, get_session
from urllib3.exceptions import HTTPError

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store.storage.s3_answers import Answer, S3Failure, refusal

T = TypeVar("T")

# Ways to find credentials that each of TileDB's sources leaves; "auto" is the whole chain.
_SOURCES: dict[str, tuple[str, ...] | None] = {
    "auto": None,
    "config_files": ("shared-credentials-file", "config-file", "assume-role", "sso", "custom-process"),
    "sts_profile_with_web_identity": ("assume-role", "assume-role-with-web-identity"),
}


def found_credentials() -> tuple[str, str, str | None] | None:
    """Key, secret and session token that the AWS chain (environment, profiles, SSO, instance) has now."""
    found = get_session().get_credentials()
    if found is None:
        return None
    frozen = found.get_frozen_credentials()
    return frozen.access_key, frozen.secret_key, frozen.token


def connect(s3: Mapping[str, str], profile: str | None) -> Any:
    """A client with TileDB's settings for S3, named without their prefix, and a profile of the AWS files.

    Raises
    ------
    ConfigurationError
        For settings that are not possible here; it says what to set instead.
    """
    session = Session(profile=profile)
    # Read once: the description of S3 takes longer to load than a region from the other side of the world.
    session.register_component("data_loader", _loader())
    _choose_credentials(session, s3)
    endpoint = f"{s3['scheme']}://{s3['endpoint_override']}" if s3["endpoint_override"] else None
    return session.create_client(
        "s3",
        region_name=s3["region"] or None,
        endpoint_url=endpoint,
        verify=_verification(s3),
        aws_access_key_id=None if s3["aws_role_arn"] else s3["aws_access_key_id"] or None,
        aws_secret_access_key=None if s3["aws_role_arn"] else s3["aws_secret_access_key"] or None,
        aws_session_token=None if s3["aws_role_arn"] else s3["aws_session_token"] or None,
        config=_options(s3),
    )


def attempt(request: Callable[[], T]) -> Answer[T] | S3Failure:
    """Make one request."""
    try:
        return Answer(request())
    except ClientError as error:
        return _refused(error)
    except NoCredentialsError:
        return S3Failure(
            0, "", "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile, "
            "or S3Config(include_credentials=False) for a public bucket", passing=False,
        )  # fmt: skip
    except PartialCredentialsError:
        return S3Failure(0, "", "the credentials that were found are not complete", passing=False)
    except ProxyConnectionError:
        return S3Failure(0, "", "the proxy does not answer: check its host, port and password", passing=True)
    except SSLError:
        return S3Failure(
            0,
            "",
            "the server's certificate is not trusted: give its authority as vfs.s3.ca_file",
            passing=True,
        )
    except (EndpointConnectionError, ConnectTimeoutError):
        return S3Failure(0, "", "nobody answers there: check endpoint and network", passing=True)
    except (HTTPClientError, IncompleteReadError, ResponseParserError, HTTPError, OSError) as error:
        return S3Failure(0, "", f"the connection failed ({type(error).__name__})", passing=True)
    except BotoCoreError as error:
        return S3Failure(0, "", f"the settings do not fit ({type(error).__name__})", passing=False)


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


def _refused(error: ClientError) -> S3Failure:
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return refusal(status, str(error.response.get("Error", {}).get("Code", "")))
