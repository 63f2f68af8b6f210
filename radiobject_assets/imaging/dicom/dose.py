"""RT Dose: a grid of its own whose planes are told by offsets, in gray by the grid's scaling.

Source: PS3.3 C.8.8.3 (RT Dose Module) and C.8.8.3.2 (Grid Frame Offset Vector).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace

import numpy as np

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.frames import classic_frame
from radiobject_assets.imaging.dicom.instance import Frame
from radiobject_assets.imaging.dicom.terms import in_terms
from radiobject_assets.imaging.dicom.vendor import Vendor
from radiobject_assets.imaging.geometry import slice_normal
from radiobject_assets.imaging.source import AttributeValue

RTDOSE_STORAGE = "1.2.840.10008.5.1.4.1.1.481.2"
# A first offset that repeats the z coordinate was rounded to as many digits as the writer likes.
_SAME_MM = 1e-2
_ALONG_Z = 1 - 1e-6


def dose_frames(elements: Elements, n_frames: int, vendor: Vendor) -> tuple[Frame, ...]:
    """The planes of a dose grid; empty where the offsets do not say where they are.

    Offsets that begin with 0 are distances from the first plane along the normal (row x column). Offsets that
    begin with the z of ImagePositionPatient are z coordinates, of transverse planes. The slope is
    DoseGridScaling, 0 where there is none: values without it are no dose.
    """
    scaling = elements.number(t.DOSE_GRID_SCALING)
    slope = scaling if scaling is not None and math.isfinite(scaling) and scaling > 0 else 0.0
    whole = replace(classic_frame(elements, vendor), slope=slope, intercept=0.0)
    offsets = elements.numbers(t.GRID_FRAME_OFFSETS)
    if n_frames == 1 and len(offsets) < 2:
        return (whole,)
    if len(offsets) != n_frames or not all(map(math.isfinite, offsets)):
        return ()
    if whole.position is None or whole.orientation is None:
        return (whole,) * n_frames
    try:
        normal = slice_normal(whole.orientation)
    except ValueError:
        return (whole,) * n_frames
    first = np.array(whole.position)
    if offsets[0] == 0:
        places = [first + normal * offset for offset in offsets]
    elif abs(offsets[0] - first[2]) <= _SAME_MM and abs(normal[2]) > _ALONG_Z:
        places = [np.array([first[0], first[1], z]) for z in offsets]
    else:
        return ()
    # each file is a grid of its own: the doses of two beams at one place are no series in time
    uid = elements.text(t.SOP_INSTANCE_UID)
    whole = replace(whole, stack=hashlib.blake2b(uid.encode(), digest_size=4).hexdigest())
    return tuple(replace(whole, position=(float(x), float(y), float(z))) for x, y, z in places)


def dose_attributes(elements: Elements) -> dict[str, AttributeValue]:
    """What the values are: DoseUnits as `pixel_units` (GY, RELATIVE), DoseType, DoseSummationType."""
    named = {
        "pixel_units": t.DOSE_UNITS,
        "dose_type": t.DOSE_TYPE,
        "dose_summation_type": t.DOSE_SUMMATION_TYPE,
    }
    found = {name: in_terms(tag, elements.text(tag)) for name, tag in named.items()}
    return {name: text for name, text in found.items() if text}
