"""Credentials of the AWS chain: environment, profiles, SSO, instance."""

from __future__ import annotations

import os


def aws_credentials() -> dict[str, str]:
    """TileDB settings with the credentials of the chain, if boto3 is there to find them."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return {}  # TileDB reads the environment itself
    try:
        import boto3
    except ImportError:
        return {}
    found = boto3.Session().get_credentials()
    if found is None:
        return {}
    frozen = found.get_frozen_credentials()
    settings = {
        "vfs.s3.aws_access_key_id": frozen.access_key,
        "vfs.s3.aws_secret_access_key": frozen.secret_key,
    }
    if frozen.token:
        settings["vfs.s3.aws_session_token"] = frozen.token
    return settings
