"""Names of files that hold a volume each, and of those beside them: endings that say nothing of it."""

from __future__ import annotations

import re

SIDECAR_SUFFIXES = (".json", ".bval", ".bvec")
_ENDING = re.compile(r"(\.seg)?\.(nii|hdr|img|mgz|mgh|nrrd|nhdr|mha|mhd)(\.gz)?$", re.IGNORECASE)


def without_ending(name: str) -> str:
    """A file name without `.nii`, `.nii.gz`, `.mgz`, `.nrrd`, `.seg.nrrd`, `.mha`..."""
    return _ENDING.sub("", name)
