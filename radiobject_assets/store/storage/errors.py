"""What storage says when it fails: what was attempted, where, why in plain words, and never a secret.

The texts of botocore and of servers are not repeated: a server may send back what it was given, a library
may show a URL with a signature or a proxy's password. The cause that is kept has an errno or a status.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.storage.s3_settings import endpoint_of, place_on_s3

_WORDS = {
    errno.ENOSPC: "the disk is full: free some space, then do it again",
    errno.EDQUOT: "the quota of this disk is used up: free some space, then do it again",
    errno.EFBIG: "the file is larger than this process or disk allows (see `ulimit -f`)",
    errno.EROFS: "the file system is read-only: mount it for writing",
    errno.EACCES: "permission denied: give this user the rights to it",
    errno.EPERM: "not permitted: give this user the rights to it",
    errno.EMFILE: "this process has too many files open: raise its limit (`ulimit -n`) or use fewer workers",
    errno.ENFILE: "this machine has too many files open: raise its limit or use fewer workers",
    errno.EIO: "the disk reports an error: look at the system's log, and check the disk",
    errno.ENAMETOOLONG: "the path is too long for this file system",
    errno.ENOTDIR: "a file lies where a folder should be",
    errno.EISDIR: "a folder lies where a file should be",
    errno.ESTALE: "the network file system lost it: mount it again",
    errno.EXDEV: "it lies on another file system than the rest of the store: keep a store on one",
}
_SECRET = re.compile(
    r"(?i)([\w.\-]*(?:secret|token|signature|credential|password|access[_\-]?key)[\w.\-]*)(\s*[=:]\s*)"
    r"(\"[^\"]*\"|'[^']*'|[^\s,;&)}\]]+)"
)
_USER_IN_URL = re.compile(r"(?<=://)[^/\s@]+@")
_QUERY = re.compile(r"(?<=[\w/])\?[^\s\"')\]]*=[^\s\"')\]]*")


class MissingError(StorageError):
    """There is no such file."""


class DeadlineError(StorageError):
    """Storage gave no answer in time."""


def without_secrets(text: str) -> str:
    """`text` on one line, with what may be a credential or a signature left out."""
    text = _USER_IN_URL.sub("", " ".join(text.split()))
    return _SECRET.sub(r"\1\2***", _QUERY.sub("?***", text))


def in_plain_words(error: OSError) -> str:
    """Why an operation on a disk failed, and what to do."""
    if error.errno in _WORDS:
        return _WORDS[error.errno]
    return os.strerror(error.errno) if error.errno else without_secrets(str(error))


@contextmanager
def disk_errors(
    verb: str, place: str, missing: type[OSError] | tuple[type[OSError], ...] = FileNotFoundError
) -> Iterator[None]:
    """Turn errors of the operating system into those of this package; their errno stays in `__cause__`.

    `missing` are those that mean that there is no such file.
    """
    try:
        yield
    except missing as error:
        raise MissingError(f"cannot {verb} {place}: there is no such file") from error
    except OSError as error:
        raise StorageError(f"cannot {verb} {place}: {in_plain_words(error)}") from error


@contextmanager
def storage_errors(verb: str, uri: str, ctx: tiledb.Ctx | None = None) -> Iterator[None]:
    """Turn errors of TileDB and of the operating system into a `StorageError`."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot {verb} {_place(uri, ctx)}: {in_plain_words(error)}") from error
    except tiledb.TileDBError as error:
        raise StorageError(f"cannot {verb} {_place(uri, ctx)}: {without_secrets(str(error))}") from error


def late(verb: str, place: str, seconds: float, ctx: tiledb.Ctx | None = None) -> DeadlineError:
    """The error of a call that was given up after so long."""
    return DeadlineError(
        f"cannot {verb} {_place(place, ctx)}: no success within {seconds:.3g} s (S3Config.deadline_s). The "
        "server is silent or keeps asking to slow down; a write may still complete, and to repeat it is safe"
    )


def _place(uri: str, ctx: tiledb.Ctx | None) -> str:
    if ctx is None or not uri.startswith("s3://"):
        return uri
    return place_on_s3(uri, endpoint_of(ctx.config().dict()))
