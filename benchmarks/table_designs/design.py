"""The door that every prototype has, so that all are timed and tortured by the same code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa


@dataclass(frozen=True)
class Place:
    """Where a table is: a folder, or a prefix on an S3 server of this machine."""

    uri: str
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = ""

    @property
    def on_s3(self) -> bool:
        """Whether it is an S3 prefix."""
        return self.uri.startswith("s3://")

    @property
    def rust_options(self) -> dict[str, str]:
        """The server as libraries on Rust's `object_store` take it."""
        if not self.on_s3:
            return {}
        return {
            "aws_endpoint": self.endpoint,
            "aws_access_key_id": self.access_key,
            "aws_secret_access_key": self.secret_key,
            "aws_region": "us-east-1",
            "allow_http": "true",
            "aws_allow_http": "true",
            "aws_virtual_hosted_style_request": "false",
        }


class Design(Protocol):
    """One way to keep rows. Every call begins anew, as another process would: nothing is kept open."""

    place: Place

    def __init__(self, place: Place) -> None: ...

    def create(self, rows: pa.Table) -> None:
        """Make the table with its first rows."""

    def put(self, rows: pa.Table, *, new: bool = True) -> None:
        """Commit rows, in the place of those with the same keys; `new`: there are none with these keys."""

    def delete(self, keys: list[str]) -> None:
        """Take rows out of the present state."""

    def snapshot(self, name: str) -> None:
        """Give the present state a name."""

    def read(self, snapshot: str | None = None) -> pa.Table:
        """All rows and columns of the present state, or of a named one."""

    def count(self) -> int:
        """Open, and count rows."""

    def at_least(self, column: str, low: float) -> int:
        """Open, and count rows whose value in a column is at least this."""

    def compact(self) -> None:
        """Merge what many commits left, without vacuum."""

    def vacuum(self) -> None:
        """Remove files that neither the present state nor a named one needs."""

    def forget(self, subject: str) -> None:
        """Remove a person from the present and from history."""


META_PATTERNS = {
    "narrow": ("__schema", "__commits", "__meta", "__fragment_metadata"),
    "parquet": ("log/",),
    "arrow": ("log/",),
    "delta": ("_delta_log",),
    "lance": ("_versions", "_transactions", "_refs"),
    "store": ("__schema", "__commits", "__meta", "__fragment_metadata", "__sums", "log/", "snapshots"),
}
"""Which files of a design say what its state is; the others hold rows."""


def files_below(folder: str) -> list[Path]:
    """All files of a table on a local disk, in order."""
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())
