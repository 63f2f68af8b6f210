"""Credentials of the AWS chain: environment, profiles, SSO, instance."""

from __future__ import annotations

import os


def aws_credentials() -> dict[str, str]:
    """TileDB settings with the credentials of the chain, if there are any."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return {}  # TileDB reads the environment itself
    # botocore takes half a second to load: only who has no credentials in the environment waits for it.
    from radiobject_assets.store.storage.aws import found_credentials

    found = found_credentials()
    if found is None:
        return {}
    key, secret, token = found
    settings = {"vfs.s3.aws_access_key_id": key, "vfs.s3.aws_secret_access_key": secret}
    if token:
        settings["vfs.s3.aws_session_token"] = token
    return settings
