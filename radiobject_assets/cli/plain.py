"""What a command needs that prints for machines: no typer, no rich, which take longer to load than it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from radiobject_assets.errors import ConfigurationError


def store_uri(text: str) -> str:
    """A store as the user wrote it: `~` becomes the home folder (no shell does that in `--store=~/x`)."""
    from radiobject_assets.dataset.dataset_yaml import check_store_uri

    try:
        check_store_uri(text)
    except ValueError as error:
        raise ConfigurationError(f"{text}: {error}" if text else str(error)) from None
    if text.startswith("s3://"):
        _use_s3_variables()
    return text if "://" in text else str(Path(text).expanduser())


def _use_s3_variables() -> None:
    """Take endpoint and region from the usual AWS variables, as the Dagster resources do."""
    from radiobject_assets.store import S3Config, configure

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    # servers other than Amazon's seldom answer to bucket names in the host
    addressing = S3Config(endpoint=endpoint, use_virtual_addressing=endpoint is None)
    configure(s3=addressing.model_copy(update={"region": region}) if region else addressing)


def print_json(document: Any) -> None:
    """Write the one JSON document of `--json` to stdout."""
    # JSON escapes what another encoding can't show; UTF-8 shows all but the bytes of odd file names
    in_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=not in_utf8) + "\n")


def warn(text: str) -> None:
    """Say on stderr what is no error, and is to be known all the same."""
    sys.stderr.write(f"warning: {text}\n")
