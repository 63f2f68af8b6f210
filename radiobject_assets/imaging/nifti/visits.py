"""Which examination of its subject a file outside of BIDS is of, where its path plainly says so.

`p1/ses-1/ct.nii.gz`, `s1_v2_seg.nii.gz` and `BraTS-GLI-00005-101-t1c.nii.gz` say it; obs has it in `session`,
so that labels of one visit never go with the image of another, in whatever order they come.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from radiobject_assets.imaging.nifti.header import NiftiFile

SESSION = "session"
# Words that count visits, those first that say it most plainly; numbers and known words alone are taken,
# since anything else may be a name.
_EDGE, _END = r"(?:^|[/_\-. ])", r"(?=$|[/_\-. ])"
_KNOWN = r"baseline|followup|screening|pre|post|bl|fu"
_MARKS = tuple(
    re.compile(f"{_EDGE}{pattern}{_END}", re.IGNORECASE)
    for pattern in (
        rf"(?:ses|session)[-_ ]?([a-z]{{0,2}}\d{{1,4}}|{_KNOWN})",
        r"(?:visit|timepoint|tp)[-_ ]?(\d{1,3})",
        r"v(\d{1,2})",
        r"(baseline|(?:follow[-_ ]?up)\d{0,2})",
    )
)
# Since 2023 the second number of a name in BraTS is the examination of the patient.
_BRATS = re.compile(r"BraTS-[A-Za-z]+(?:-[A-Za-z]+)*-\d+-(\d{1,4})(?=[-_])")


def visit_of(name: str) -> str | None:
    """The visit that a path, relative to what was handed in, names; None if it names none."""
    if match := _BRATS.search(name):
        return match[1]
    for mark in _MARKS:
        if found := mark.findall(name):
            text = re.sub(r"[-_ ]", "", str(found[-1]).lower())
            return str(int(text)) if text.isdecimal() and mark is not _MARKS[0] else text
    return None


def with_visits(niftis: Iterable[NiftiFile]) -> list[NiftiFile]:
    """Images with their visit as `session`, where nothing else said a session."""
    found = []
    for nifti in niftis:
        visit = None if SESSION in nifti.attributes else visit_of(nifti.name)
        found.append(
            nifti if visit is None else replace(nifti, attributes={**nifti.attributes, SESSION: visit})
        )
    return found
