"""What to do with series that are readable, but not volumes of one value per voxel on a regular grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SeriesPolicy:
    """Choices that a data set may make; the defaults refuse.

    Parameters
    ----------
    components
        Colour (RGB, YBR) and complex images: `quarantine` them, or `keep` them as a 4D volume whose last axis
        holds the components (attribute `components`: `rgb`, `rgba` or `complex` for real and imaginary part).
    irregular_spacing
        Missing slices and variable spacing: `quarantine`, or `keep` with the mean spacing in the affine and
        the true positions in the attribute `slice_positions_mm` (JSON list along the normal, from the first).
    single_slices
        An image alone in its series (or component): `quarantine` it, because most are captures or what
        arrived of a series so far, or `keep` it as a volume of one slice, as thick as its header says.
    labels_on
        Labels whose image is not here: `named_image` refuses them, `same_frame_of_reference` puts them on
        another image of their FrameOfReferenceUID.
    nifti_description
        The free text `descrip` of a NIfTI header: `drop` it, since it may name somebody, or `keep` it in the
        attribute `nifti_description`, so that an export has it again.
    nifti_extensions
        Header extensions: `drop` them, since they may hold a whole DICOM header, or `keep` up to 1 MB of them
        in the array's metadata, so that an export has them again.
    """

    components: Literal["quarantine", "keep"] = "quarantine"
    irregular_spacing: Literal["quarantine", "keep"] = "quarantine"
    single_slices: Literal["quarantine", "keep"] = "quarantine"
    labels_on: Literal["named_image", "same_frame_of_reference"] = "named_image"
    nifti_description: Literal["drop", "keep"] = "drop"
    nifti_extensions: Literal["drop", "keep"] = "drop"


REFUSE = SeriesPolicy()
"""The default: whatever is not a plain volume is quarantined."""
OWN_FILES = SeriesPolicy(nifti_description="keep", nifti_extensions="keep")
"""For files that somebody hands over one by one: what they say of themselves comes back when exported."""
