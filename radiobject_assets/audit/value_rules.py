"""Value rules: images without content, or with voxels that are no numbers."""

from __future__ import annotations

from radiobject_assets.audit.folder_view import FolderView
from radiobject_assets.diagnostics import folder_kinds as kinds
from radiobject_assets.diagnostics.findings import Report


def image_values(view: FolderView) -> Report:
    """Voxels of images are numbers, and not all the same."""
    found = []
    looked = [item for item in view.images if item.seen is not None]
    for item in looked:
        look = item.seen
        if look is None:
            continue
        if look.not_finite:
            told = f"{look.not_finite} of {look.n_voxels} voxels"
            found.append(item.finding(kinds.IMAGE_NOT_FINITE, told))
        elif look.is_constant:
            found.append(item.finding(kinds.IMAGE_CONSTANT, f"all are {look.low:g}"))
    return Report(len(looked), "images", tuple(found))
