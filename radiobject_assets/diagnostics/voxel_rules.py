"""Voxel rules: values that no image of its modality has. One pass over a volume, slab by slab."""

from __future__ import annotations

from typing import Any

import numpy as np

from radiobject_assets.diagnostics import kinds
from radiobject_assets.diagnostics.findings import Finding
from radiobject_assets.diagnostics.integrity_rules import about_volume
from radiobject_assets.store import Volume

# Hounsfield units: air is -1000, water 0; metal and padding go beyond, the mean of a body part does not.
_CT_MEAN_HU = (-1100.0, 1500.0)
# Uptake is not negative; reconstructions leave a little noise below zero.
_PET_NEGATIVE = 0.25


def values_are_plausible(volume: Volume, row: Any) -> list[Finding]:
    """Voxels are numbers, not all the same, and on the scale of their modality.

    Labels are not judged: a mask may be empty. Derived images (maps, localizers) of a CT or PET scanner need
    not be on its scale.

    Parameters
    ----------
    row
        The volume's row of the inventory.
    """
    if row.kind == "labels":
        return []
    lowest, highest, total, count, bad, negative = np.inf, -np.inf, 0.0, 0, 0, 0
    for _, _, voxels in volume.iter_slabs():
        finite = np.isfinite(voxels) if voxels.dtype.kind == "f" else None
        good = voxels if finite is None or finite.all() else voxels[finite]
        bad += voxels.size - good.size
        if good.size:
            lowest, highest = min(lowest, float(good.min())), max(highest, float(good.max()))
            total += float(good.sum(dtype=np.float64))
            negative += int((good < 0).sum()) if good.dtype.kind in "fi" else 0
            count += good.size
    if bad:
        return [about_volume(kinds.NOT_FINITE, row, f"{bad} of {bad + count} voxels")]
    if lowest == highest:
        return [about_volume(kinds.CONSTANT, row, f"{lowest:g}")]
    told = getattr(row, "image_type", None)  # only where dataset.yaml asks for it
    if isinstance(told, str) and "ORIGINAL" not in told:
        return []
    if row.modality == "CT":
        mean = total / count
        if not _CT_MEAN_HU[0] <= mean <= _CT_MEAN_HU[1]:
            return [about_volume(kinds.IMPLAUSIBLE, row, f"a CT with a mean of {mean:.0f} HU")]
        if lowest >= 0:
            evidence = f"a CT whose lowest value is {lowest:g} HU: was the rescale lost?"
            return [about_volume(kinds.IMPLAUSIBLE, row, evidence)]
    if row.modality == "PT" and negative > _PET_NEGATIVE * count:
        return [
            about_volume(kinds.IMPLAUSIBLE, row, f"{negative / count:.0%} of a PET's voxels are negative")
        ]
    return []
