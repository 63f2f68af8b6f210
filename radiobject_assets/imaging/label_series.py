"""Label series: segmentations and contours, each judged against the grid of the image that it refers to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from radiobject_assets.imaging.acceptance import Problem
from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.instance import Instance
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series_record import Series, quarantined


def label_series(
    uid: str, instances: Sequence[Instance], images: Mapping[str, Grid], refused: Mapping[str, Series]
) -> list[Series]:
    """The series of the label objects that share a SeriesInstanceUID: one for each object."""
    result = []
    for number, instance in enumerate(instances):
        component = "" if len(instances) == 1 else f"object{number + 1}"
        result.append(
            quarantined(uid, component, "labels", [instance], Problem(Reason.REFERENCE_MISSING, "no image"))
        )
    return result
