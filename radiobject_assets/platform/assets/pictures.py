"""The preview picture of a materialization: kept as a file, and shown by Dagster.

Dagster's pages show Markdown in place while it has fewer than 1,000 characters, and behind `[Show Markdown]`
from there on. So the first volume is shown twice: as a thumbnail that fits, and large with the others.
"""

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

_IN_PLACE_CHARACTERS = 999
# Every event is kept for ever, in the run's database and in the instance's: as PNG these pictures were
# 300 kB each.
_QUALITY = 70
_START, _END = "![mid-planes](data:image/webp;base64,", ")"


def preview_metadata(
    store_uri: str,
    collections: Sequence[str] | None,
    arrivals: Collection[str],
    path: Path,
    ctx: TileDBContext,
) -> dict[str, dg.MarkdownMetadataValue | dg.PathMetadataValue]:
    """Draw the first volumes of some arrivals, keep the picture at `path`, and show it as Markdown."""
    from radiobject_assets.diagnostics.volume_pictures import pictures_of_arrivals, stacked
    from radiobject_assets.imaging.preview import as_webp, thumbnail

    try:
        tiles = pictures_of_arrivals(store_uri, collections, arrivals, ctx=ctx)
    except (RadiObjectError, ValueError) as error:
        # a volume that can't be drawn is for the integrity check to judge, which must still get to run
        return {"preview": dg.MetadataValue.md(f"No picture: {public_message(error)}")}
    if not tiles:
        return {}
    picture = stacked(tiles)
    picture.save(path, format="PNG", compress_level=6)
    small = thumbnail(tiles[0], (_IN_PLACE_CHARACTERS - len(_START) - len(_END)) // 4 * 3)
    return {
        **({"preview": _shown(small)} if small is not None else {}),
        "preview_large": _shown(as_webp(picture, _QUALITY)),
        "preview_file": dg.MetadataValue.path(str(path)),
    }


def _shown(picture: bytes) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f"{_START}{base64.b64encode(picture).decode('ascii')}{_END}")
