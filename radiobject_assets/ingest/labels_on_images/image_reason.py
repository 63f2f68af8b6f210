"""Labels whose image was handed in with them and is not taken in: what they are told is why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.ingest.plan import PlannedSeries
from radiobject_assets.ingest.report import SeriesOutcome


def reason_of_image(
    labels: PlannedSeries, plan: Sequence[PlannedSeries], outcomes: Mapping[Series, SeriesOutcome]
) -> tuple[Reason, str] | None:
    """Why the image of labels, for which no image was found, is not in the store; None if it did not come.

    Parameters
    ----------
    plan
        All that came.
    outcomes
        Of the images of the plan that were selected, by their series.
    """
    for image in plan:
        if image.is_labels or not _may_be_of(labels, image):
            continue
        outcome = outcomes.get(image.series) or image.outcome("quarantined")
        if outcome.status != "quarantined" or outcome.reason is None:
            continue
        if outcome.reason == Reason.NO_COLLECTION:
            return Reason.REFERENCE_MISSING, "their image is here, but no collection of dataset.yaml takes it"
        told = f"{outcome.reason}: {outcome.detail}" if outcome.detail else outcome.reason
        if labels.series.is_drawn:
            return Reason.REFERENCE_QUARANTINED, f"their image is quarantined ({told})"
        # whether it is their image cannot be known: they still wait for one
        return Reason.REFERENCE_MISSING, f"no image of the subject is in; one is quarantined ({told})"
    return None


def _may_be_of(labels: PlannedSeries, image: PlannedSeries) -> bool:
    if labels.series.is_drawn:
        return not image.series.series_uids.isdisjoint(labels.series.references)
    target = labels.settings.labels_of if labels.settings else None
    return image.subject_id == labels.subject_id and (target is None or image.collection == target)
