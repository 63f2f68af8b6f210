"""The preview picture of a materialization: kept as a file, and shown by Dagster."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import tiledb

from radiobject_assets.diagnostics.pictures import picture_of_arrival


def preview_metadata(
    store_uri: str,
    collections: Sequence[str] | None,
    arrival: str,
    path: Path,
    ctx: tiledb.Ctx,
) -> dict[str, dg.MarkdownMetadataValue | dg.PathMetadataValue]:
    """Draw the first volumes of an arrival, keep the picture at `path`, and show it as Markdown."""
    content = picture_of_arrival(store_uri, collections, arrival, ctx=ctx)
    if content is None:
        return {}
    path.write_bytes(content)
    encoded = base64.b64encode(content).decode("ascii")
    return {
        "preview": dg.MetadataValue.md(f"![mid-planes](data:image/png;base64,{encoded})"),
        "preview_file": dg.MetadataValue.path(str(path)),
    }
