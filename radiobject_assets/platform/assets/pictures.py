"""The preview picture of a materialization: kept as a file, and shown by Dagster."""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from radiobject_assets.errors import RadiObjectError
from radiobject_assets.platform.assets.privacy import public_message

if TYPE_CHECKING:
    from radiobject_assets.store import TileDBContext


def preview_metadata(
    store_uri: str,
    collections: Sequence[str] | None,
    arrivals: Collection[str],
    path: Path,
    ctx: TileDBContext,
) -> dict[str, dg.MarkdownMetadataValue | dg.PathMetadataValue]:
    """Draw the first volumes of some arrivals, keep the picture at `path`, and show it as Markdown."""
    from radiobject_assets.diagnostics.volume_pictures import picture_of_arrivals

    try:
        content = picture_of_arrivals(store_uri, collections, arrivals, ctx=ctx)
    except (RadiObjectError, ValueError) as error:
        # a volume that can't be drawn is for the integrity check to judge, which must still get to run
        return {"preview": dg.MetadataValue.md(f"No picture: {public_message(error)}")}
    if content is None:
        return {}
    path.write_bytes(content)
    encoded = base64.b64encode(content).decode("ascii")
    return {
        "preview": dg.MetadataValue.md(f"![mid-planes](data:image/png;base64,{encoded})"),
        "preview_file": dg.MetadataValue.path(str(path)),
    }
