"""The `radiobject-assets` command: a thin face on the packages below."""

from radiobject_assets.cli.app import main

__all__ = ["main"]
