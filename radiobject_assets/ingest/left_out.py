"""Was a volume left out? The rule behind exit code 1 of `ingest`.

0   every volume that was handed in is in the store; what else there was is no volume (a note, a thumbnail, a
    report, a scout, one flat image), was not asked for (`no_collection`), or is held more completely already.
1   something was left out that is a volume or may be one; or nothing at all was taken in.

Labels count with their image: where it is quarantined, its own reason decides.
Nothing taken in is no fault where all that came is DICOM of kinds that hold no volume (reports, plans,
whole-slide images and what was drawn on them): nobody can do anything about it, and nothing is lost.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from radiobject_assets.imaging.reasons import EXPLANATIONS, Reason

if TYPE_CHECKING:
    from radiobject_assets.imaging.files.unreadable import Unreadable
    from radiobject_assets.ingest.report import SeriesOutcome

_NAME_OF_A_VOLUME = re.compile(
    r"\.(nii|img|dcm|dicom|ima|mgz|mgh|nrrd|nhdr|mha|mhd|mnc|brik)(\.gz|\.zst|\.bz2)?$", re.IGNORECASE
)
_NAME_OF_A_NOTE = re.compile(
    r"^[._]|^(readme|changes|licen[cs]e)$|"
    r"\.(txt|md|rst|log|csv|tsv|json|ya?ml|xml|html?|pdf|docx?|xlsx?|png|jpe?g|gif|bmp|py|sh|bvec|bval)$",
    re.IGNORECASE,
)
# What holds no volume, and labels on it.
_OTHER_OBJECTS = frozenset({Reason.UNSUPPORTED_OBJECT, Reason.REFERENCE_QUARANTINED})


def series_left_out(outcome: SeriesOutcome) -> bool:
    """Whether a series that is, or may be, a volume is not in the store."""
    if outcome.status != "quarantined":
        return False
    reasons = [Reason(reason) for reason in outcome.reasons]
    if outcome.flat and set(reasons) == {Reason.NO_GEOMETRY}:
        return False  # one image without a place is a capture
    # what is no volume for one reason is none, whatever else is wrong with it
    return all(EXPLANATIONS[reason].left_out for reason in reasons)


def file_left_out(item: Unreadable) -> bool:
    """Whether a file that holds, or may hold, a volume could not be read."""
    if item.reason is Reason.NOT_AN_IMAGE:
        return _NAME_OF_A_VOLUME.search(item.path.name) is not None
    if item.reason is Reason.EMPTY_FILE:
        return _NAME_OF_A_NOTE.search(item.path.name) is None
    return EXPLANATIONS[item.reason].left_out


def nothing_taken_in(
    outcomes: Sequence[SeriesOutcome], unreadable: Sequence[Unreadable], resolved: Sequence[SeriesOutcome]
) -> bool:
    """Whether a run left the store without any volume of what was handed in, where one was to be expected."""
    held = [o for o in outcomes if o.status != "quarantined" or o.reason == Reason.PARTIAL_RESEND]
    if held or resolved or not (outcomes or unreadable):
        return False
    reasons = {o.reason for o in outcomes}
    only_other_objects = Reason.UNSUPPORTED_OBJECT in reasons and reasons <= _OTHER_OBJECTS
    return not only_other_objects or any(map(file_left_out, unreadable))
