"""radiobject-assets: raw DICOM and NIfTI to training batches, as Dagster assets over RadiObject on TileDB."""

from __future__ import annotations

__version__ = "0.1.0"
