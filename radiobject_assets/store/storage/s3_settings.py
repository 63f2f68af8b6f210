"""What a TileDB context says of S3 that errors and deadlines need; without botocore, which loads slowly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radiobject_assets.store.storage.config import DEADLINE_KEY, S3Config

PREFIX = "vfs.s3."


def endpoint_of(settings: Mapping[str, Any]) -> str:
    """Where requests go, as errors name it: without what a URL may hold of credentials."""
    host = str(settings[f"{PREFIX}endpoint_override"] or "")
    if host:
        return f"{settings[f'{PREFIX}scheme']}://{host.rpartition('@')[2].partition('?')[0]}"
    return f"AWS region {settings[f'{PREFIX}region'] or 'by default'}"


def deadline_of(settings: Mapping[str, Any]) -> float:
    """The deadline that a context was made with, or the default; seconds."""
    return float(settings.get(DEADLINE_KEY) or S3Config().deadline_s)


def place_on_s3(uri: str, endpoint: str) -> str:
    """An object or prefix, as errors name it."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return f"{uri} (endpoint {endpoint}, bucket {bucket}, key {key})"
