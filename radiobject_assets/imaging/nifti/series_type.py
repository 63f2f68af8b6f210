"""What kind of image a NIfTI file is, guessed from its name: BIDS suffix, then the words of the name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from radiobject_assets.imaging.nifti.pairs import nifti_stem

UNKNOWN = "unknown"
SERIES_TYPES = frozenset(
    {
        "T1w", "T2w", "T1rho", "T1map", "T2map", "T2star", "T2starw", "T2starmap", "FLAIR", "FLASH", "PD",
        "PDw", "PDmap", "PDT2", "inplaneT1", "inplaneT2", "angio", "T1gd", "SWI", "bold", "cbv", "sbref",
        "phase", "dwi", "asl", "CT", "HRCT", "CTA", "CTPA", "pet", "phasediff", "magnitude", "fieldmap",
        "epi", "MP2RAGE",
    }
)  # fmt: skip
"""Suffixes of BIDS, and those that RadiObject adds for CT and contrast-enhanced T1."""

_BY_NAME = {name.lower(): name for name in SERIES_TYPES}
_WORDS = {
    "t1gd": "T1gd", "t1ce": "T1gd", "t1c": "T1gd", "t1": "T1w", "mprage": "T1w", "t2": "T2w", "dti": "dwi",
    "func": "bold", "lung": "CT", "liver": "CT", "colon": "CT", "pancreas": "CT", "spleen": "CT",
    "hepatic": "CT", "hepaticvessel": "CT",
}  # fmt: skip


def infer_series_type(path: Path | str, header: Any = None) -> str:
    """A series type for a file name, `unknown` where it does not tell.

    1. BIDS suffix: `sub-01_ses-01_T1w.nii.gz` is `T1w`.
    2. A word of the name, the most specific one: `T1GD_post_contrast.nii.gz` is `T1gd`.
    3. A word of the header's description (`header`: of nibabel, or a mapping with `descrip`).

    Words are whole: `PAT1_x.nii.gz` is not T1. A guess; collections of `dataset.yaml` match by rules instead.
    """
    stem = nifti_stem(Path(path))
    suffix = _BY_NAME.get(stem.rsplit("_", 1)[-1].lower())
    if suffix is not None:
        return suffix
    found = _from_words(stem)
    if found is None and header is not None:
        raw = header.get("descrip", b"")
        raw = raw.item() if hasattr(raw, "item") else raw
        found = _from_words(raw.decode("latin-1") if isinstance(raw, bytes) else str(raw))
    return found or UNKNOWN


def _from_words(text: str) -> str | None:
    words = set(re.findall(r"[a-z0-9]+", text.lower()))
    for word, series_type in _WORDS.items():
        if word in words:
            return series_type
    return next((name for word, name in sorted(_BY_NAME.items()) if word in words), None)
