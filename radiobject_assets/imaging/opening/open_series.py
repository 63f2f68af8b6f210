"""From a series with the verdict `ingestable` to the source of its voxels."""

from __future__ import annotations

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.nifti.nifti_source import NiftiVoxels
from radiobject_assets.imaging.opening.dicom_source import DicomSource
from radiobject_assets.imaging.opening.members import MemberSource, in_archive
from radiobject_assets.imaging.pixels.decoders import Decoders
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.imaging.source import ImageSource


def open_series(
    series: Series, image_grid: Grid | None = None, decoders: Decoders | None = None
) -> ImageSource:
    """Open the voxels of an ingestable series; nothing is read before `slabs` is asked for.

    Parameters
    ----------
    image_grid
        Grid of the image that labels refer to; by default the one that the series was judged against.
    decoders
        Processes for the frames of compressed images; None: they are decoded where they are read.

    Raises
    ------
    ImageReadError
        If the series is quarantined: with its reason.
    """
    if series.verdict != "ingestable":
        raise ImageReadError(
            series.reason or Reason.NOT_AN_IMAGE, f"the series is quarantined: {series.detail}"
        )
    if in_archive(series):
        return MemberSource(series, lambda local: _open(local, image_grid, decoders))
    return _open(series, image_grid, decoders)


def _open(series: Series, image_grid: Grid | None, decoders: Decoders | None) -> ImageSource:
    if series.nifti is not None:
        return NiftiVoxels(series.nifti, series.attributes)
    if series.kind == "labels":
        from radiobject_assets.imaging.opening.label_source import open_labels

        return open_labels(series, image_grid, decoders)
    return DicomSource(series, decoders)
