"""What became of one request to S3, in plain words: its answer, or why there is none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_PASSING = frozenset([408, 409, 429, 500, 502, 503, 504])
_PASSING_CODES = frozenset(
    ["RequestTimeout", "RequestTimeoutException", "SlowDown", "Throttling", "InternalError"]
)
_CODE = re.compile(r"[A-Z][A-Za-z]{2,60}")
_WORDS = {
    "AccessDenied": "the credentials in use have no right to this: give them that right, or use others",
    "InvalidAccessKeyId": "the server does not know the access key: check the credentials",
    "SignatureDoesNotMatch": "the secret key does not fit the access key: check the credentials",
    "ExpiredToken": "the credentials have expired: get new ones",
    "InvalidToken": "the session token is not valid: get new credentials",
    "RequestTimeTooSkewed": "this machine's clock differs from the server's: set it",
    "NoSuchBucket": "there is no such bucket: make it, or correct the URI",
    "PermanentRedirect": "the bucket is in another region: set S3Config.region",
    "AuthorizationHeaderMalformed": "the bucket may be in another region: set S3Config.region",
    "PreconditionFailed": "it was changed meanwhile: do it again",
    "InvalidObjectState": "the object is archived: restore it first",
    "EntityTooLarge": "it is larger than the server takes",
    "QuotaExceeded": "the quota of the bucket is used up: free some space",
    "XMinioStorageFull": "the server's disks are full",
    "InsufficientStorage": "the server's disks are full",
}


@dataclass(frozen=True)
class S3Failure:
    """Why a request has no result."""

    status: int
    """Of HTTP; 0 where there was no answer."""
    code: str
    """S3's name of the error; empty where it has none."""
    words: str
    passing: bool
    """Whether another try may do better."""

    @property
    def missing(self) -> bool:
        """There is no such object."""
        return self.status == 404 and self.code in ("NoSuchKey", "", "NotFound")

    @property
    def unknown(self) -> bool:
        """The request may have done its work all the same, now or a little later."""
        return self.passing and (self.status in (0, 408) or self.status >= 500)

    @property
    def slow_down(self) -> bool:
        """The server wants fewer requests, which is no failure of this one."""
        return self.status in (429, 503)


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The result of a request."""

    value: T


def refusal(status: int, given: str) -> S3Failure:
    """What S3 means by a status of HTTP and a code that it gave."""
    code = given if _CODE.fullmatch(given) else ""
    words = " ".join(filter(None, ["S3 answered", str(status), code]))
    if code in _WORDS:
        words = f"{words} ({_WORDS[code]})"
    elif status in (401, 403):
        words = f"{words} ({_WORDS['AccessDenied']})"
    return S3Failure(status, code, words, passing=status in _PASSING or code in _PASSING_CODES)
