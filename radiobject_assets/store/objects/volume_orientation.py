"""Orientation of a stored volume: what `radiobject_assets.orientation` shares, under the store's name."""

from __future__ import annotations

from radiobject_assets.orientation import (
    OrientationInfo,
    is_orientation_valid,
    orientation_source,
    reorient,
)

__all__ = ["OrientationInfo", "is_orientation_valid", "orientation_source", "reorient"]
