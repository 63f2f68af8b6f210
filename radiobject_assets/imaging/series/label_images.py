"""Which image a segmentation or contours belong to: the one that they name, else the one in their space.

1. All series that the labels name count; of those that are here, the whole ones are possible.
2. Where no series is named, or none of the named is here, the instances that are named tell it.
3. Labels that name nothing lie in a frame of reference: the images of their patient that share it are
   possible. Where the frame of an image is not known (it came with an earlier call), one of the same study
   is, if the labels lie on its very voxels. `imaging.labels_on` opens this way for labels whose image is not
   here.

Of several possible images the voxels decide, and what they leave open is a reason and not a guess.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.dicom.label_headers import RTSTRUCT_STORAGE
from radiobject_assets.imaging.geometry import Grid
from radiobject_assets.imaging.labels.placing import place_frames
from radiobject_assets.imaging.labels.resampling import overlaps, own_grid
from radiobject_assets.imaging.pixels.acceptance import Problem
from radiobject_assets.imaging.policy import REFUSE, SeriesPolicy
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.series.record import Series

FoundBy = Literal["reference", "instances", "frame_of_reference", "grid"]
# Frames of reference of atlases and the like (PS3.6 A-2): many patients are in them.
_STANDARD_ROOT = "1.2.840.10008."


@dataclass(frozen=True)
class LabelledImage:
    """An image volume that labels may lie on.

    sop_instance_uids
        Its instances, where they are known (not of images that are in a store already).
    joined_uids
        SeriesInstanceUIDs of the other series that were joined to this volume.
    patient_id, frame_of_reference_uid
        None and "" where they are not known.
    """

    grid: Grid
    sop_instance_uids: frozenset[str] = frozenset()
    series_uid: str = ""
    study_uid: str = ""
    patient_id: str | None = None
    frame_of_reference_uid: str = ""
    joined_uids: frozenset[str] = frozenset()

    @property
    def series_uids(self) -> frozenset[str]:
        """Its series' UID, and those of the series that were joined to it."""
        return self.joined_uids | {self.series_uid}


@dataclass(frozen=True)
class ImagesHere:
    """The image volumes that labels may lie on, by what labels name: a scan may have thousands of both."""

    images: tuple[LabelledImage, ...]

    @cached_property
    def by_series(self) -> Mapping[str, Sequence[LabelledImage]]:
        """Volumes by SeriesInstanceUID."""
        found: dict[str, list[LabelledImage]] = {}
        for image in self.images:
            if image.series_uid:
                found.setdefault(image.series_uid, []).append(image)
        return found

    @cached_property
    def joined(self) -> Mapping[str, str]:
        """SeriesInstanceUID of the volume that a series was joined to."""
        return {uid: image.series_uid for image in self.images for uid in image.joined_uids}

    def holding(self, sop_instance_uids: Collection[str]) -> list[LabelledImage]:
        """Volumes that have any of some instances, in their order."""
        numbers = {number for uid in sop_instance_uids for number in self._by_instance.get(uid, ())}
        return [self.images[number] for number in sorted(numbers)]

    @cached_property
    def _by_instance(self) -> Mapping[str, Sequence[int]]:
        found: dict[str, list[int]] = {}
        for number, image in enumerate(self.images):
            for uid in image.sop_instance_uids:
                found.setdefault(uid, []).append(number)
        return found


@dataclass(frozen=True)
class FoundImages:
    """The images that labels may lie on, the likeliest first, and how they were found."""

    images: tuple[LabelledImage, ...]
    by: FoundBy

    @property
    def series_uids(self) -> tuple[str, ...]:
        """SeriesInstanceUIDs, each once."""
        return tuple(dict.fromkeys(image.series_uid for image in self.images))


def find_images(
    labels: Instance,
    here: ImagesHere,
    refused: Collection[Series],
    policy: SeriesPolicy = REFUSE,
) -> FoundImages | Problem:
    """The images here that labels may lie on, or why there is none.

    Parameters
    ----------
    here
        Volumes that are here or in the store.
    refused
        Quarantined series that are here: labels of one of them get its reason.
    """
    if here.joined:
        labels = replace(labels, references=tuple(here.joined.get(uid, uid) for uid in labels.references))
    named = _by_reference(labels, here) or _by_instances(labels, here)
    if named is not None:
        return named if isinstance(named, Problem) else _on_voxels(labels, named)
    problem = _why_not(labels, refused)
    if problem is not None and policy.labels_on != "same_frame_of_reference":
        if (
            isinstance(other := _by_space(labels, here.images), FoundImages)
            and other.by == "frame_of_reference"
        ):
            hint = "another image of their frame of reference is: see `imaging.labels_on` in dataset.yaml"
            return Problem(problem.reason, f"{problem.detail}; {hint}")
        return problem
    found = _by_space(labels, here.images)
    if isinstance(found, Problem) and problem is not None:
        return problem
    return found


def _by_reference(labels: Instance, known: ImagesHere) -> FoundImages | Problem | None:
    here = [image for uid in dict.fromkeys(labels.references) for image in known.by_series.get(uid, ())]
    if not here:
        return None
    missing = {uid: _missing(labels, uid, here) for uid in dict.fromkeys(image.series_uid for image in here)}
    whole = [image for image in here if not missing[image.series_uid]]
    if not whole:
        absent = set().union(*missing.values())
        detail = (
            f"{len(absent)} of the {len(labels.reference_sops)} image instances that the labels name are "
        )
        return Problem(Reason.REFERENCE_MISSING, detail + "not here")
    # A series may be several volumes (echoes, orientations): the one with most of the instances comes first.
    instances = set(labels.reference_sops)
    order = {uid: number for number, uid in enumerate(labels.references)}
    whole.sort(key=lambda i: (-len(instances & i.sop_instance_uids), order[i.series_uid]))
    return FoundImages(tuple(whole), "reference")


def _missing(labels: Instance, uid: str, here: Sequence[LabelledImage]) -> set[str]:
    """Instances that the labels name of a series and that are not here."""
    present = {image.series_uid for image in here}
    known = frozenset[str]().union(*(image.sop_instance_uids for image in here if image.series_uid == uid))
    if not known:
        return set()  # it is in the store, which does not tell
    if len(labels.reference_owners) == len(labels.reference_sops) and labels.references:
        own = labels.references.index(uid)
        named = {
            sop
            for sop, owner in zip(labels.reference_sops, labels.reference_owners, strict=True)
            if owner == own
        }
        if named or max(labels.reference_owners, default=-1) >= 0:
            return named - known
    if not present.issuperset(labels.references):
        return set()  # they may be of the series that is not here
    everything = frozenset[str]().union(*(image.sop_instance_uids for image in here))
    return set(labels.reference_sops) - everything


def _by_instances(labels: Instance, known: ImagesHere) -> FoundImages | None:
    """An instance's UID is the world's only one: it names its series as well as the series' own does."""
    named = set(labels.reference_sops)
    holding = known.holding(named)
    if not holding or named - frozenset[str]().union(*(image.sop_instance_uids for image in holding)):
        return None
    holding.sort(key=lambda image: -len(named & image.sop_instance_uids))
    return FoundImages(tuple(holding), "instances")


def _why_not(labels: Instance, refused: Collection[Series]) -> Problem | None:
    """Why the image that labels name cannot be theirs; None where they name none."""
    named = set(labels.reference_sops)
    theirs = [
        series
        for series in refused
        if not series.series_uids.isdisjoint(labels.references)
        or any(instance.sop_instance_uid in named for instance in series.instances)
    ]
    if theirs and frozenset[str]().union(*(s.series_uids for s in theirs)).issuperset(labels.references):
        told = f"({theirs[0].reason}): {theirs[0].detail}"
        return Problem(Reason.REFERENCE_QUARANTINED, f"its image is quarantined {told}")
    if labels.reference_classes and all(map(_never_a_volume, labels.reference_classes)):
        return Problem(
            Reason.REFERENCE_QUARANTINED,
            f"they are drawn on images of SOP class {labels.reference_classes[0]}, which are no volumes "
            f"({Reason.UNSUPPORTED_OBJECT})",
        )
    if labels.references:
        which = "image series that the labels name is" if len(labels.references) == 1 else (
            f"{len(labels.references)} image series that the labels name are"
        )  # fmt: skip
        return Problem(Reason.REFERENCE_MISSING, f"the {which} not here")
    if named:
        return Problem(
            Reason.REFERENCE_MISSING, f"the {len(named)} image instances that the labels name are not here"
        )
    return None


def _never_a_volume(sop_class: str) -> bool:
    """Projections, ultrasound, photographs and slides: no label on them ever lies on voxels."""
    rest = sop_class.removeprefix("1.2.840.10008.5.1.4.1.1.")
    return rest.split(".")[0] in ("1", "3", "6", "77") or rest.startswith(("12.1", "12.2"))


def _by_space(labels: Instance, images: Sequence[LabelledImage]) -> FoundImages | Problem:
    """Images in the labels' frame of reference, or of their study where an image's frame is not known."""
    frame = labels.frame_of_reference_uid
    own = [image for image in images if _of_one_patient(labels, image)]
    if frame.startswith(_STANDARD_ROOT):
        frame = ""
    sharing = [image for image in own if frame and image.frame_of_reference_uid == frame]
    if sharing:
        in_study = [image for image in sharing if image.study_uid == labels.study_uid]
        return _on_voxels(labels, FoundImages(tuple(in_study or sharing), "frame_of_reference"))
    unknown = [
        image
        for image in own
        if labels.study_uid
        and image.study_uid == labels.study_uid
        and not (frame and image.frame_of_reference_uid)
    ]
    if unknown:
        return _on_voxels(labels, FoundImages(tuple(unknown), "grid"))
    what = "no image of their frame of reference is" if frame else "no image of their study is"
    return Problem(Reason.REFERENCE_MISSING, f"the labels name no image series, and {what} here")


def _of_one_patient(labels: Instance, image: LabelledImage) -> bool:
    if image.patient_id is None or labels.patient_id is None:
        return bool(labels.study_uid) and image.study_uid == labels.study_uid
    return image.patient_id == labels.patient_id


def _on_voxels(labels: Instance, found: FoundImages) -> FoundImages | Problem:
    """Of possible images those on whose voxels a segmentation lies; contours are looked at on reading.

    A segmentation on voxels of its own is taken over by the nearest one, where its image is certain.
    """
    if labels.sop_class_uid == RTSTRUCT_STORAGE:
        return found
    certain = found.by in ("reference", "instances")
    placed = [place_frames(labels.frames, labels.columns, labels.rows, i.grid) for i in found.images]
    on_grid = [
        image for image, place in zip(found.images, placed, strict=True) if not isinstance(place, Problem)
    ]
    if on_grid:
        chosen = FoundImages(tuple(on_grid), found.by)
        if certain or len(chosen.series_uids) == 1:
            return chosen
        return Problem(
            Reason.REFERENCE_AMBIGUOUS,
            f"the labels name no image series and lie on the voxels of {len(chosen.series_uids)} here",
        )
    (problem,) = (place for place in placed[:1] if isinstance(place, Problem))
    if problem.reason is not Reason.LABELS_OFF_GRID or found.by == "grid":
        return problem
    if certain or len(found.series_uids) == 1:
        own = own_grid(labels.frames, labels.columns, labels.rows)
        over = [image for image in found.images if own is not None and overlaps(own, image.grid)]
        return FoundImages(tuple(over), found.by) if over else problem
    return problem


def refused_images(found: Sequence[Series]) -> list[Series]:
    """The quarantined series of a scan that labels may have been drawn on."""
    return [s for s in found if s.kind != "labels" and s.verdict == "quarantined"]


def images_here(found: Sequence[Series], known: Sequence[LabelledImage] = ()) -> ImagesHere:
    """The image volumes of a scan, and those of the store (`known`) whose series is not among them.

    Of a volume that was joined of several series the one in the store stays, where not all of them came.
    """
    here = [
        _labelled_image(series, grid)
        for series in found
        if series.kind == "image" and (grid := series.grid) is not None
    ]
    came = frozenset[str]().union(*(image.series_uids for image in here))
    whole = [
        image
        for image in known
        if image.joined_uids and image.series_uids & came and not image.series_uids <= came
    ]
    held = frozenset[str]().union(*(image.series_uids for image in whole))
    here = [image for image in here if image.series_uids.isdisjoint(held)]
    rest = (image for image in known if image.series_uids.isdisjoint(came))
    return ImagesHere((*here, *whole, *rest))


def _labelled_image(series: Series, grid: Grid) -> LabelledImage:
    frames = {instance.frame_of_reference_uid for instance in series.instances}
    return LabelledImage(
        grid=grid,
        sop_instance_uids=frozenset(instance.sop_instance_uid for instance in series.instances),
        series_uid=series.series_uid,
        study_uid=series.study_uid,
        patient_id=series.patient_id,
        frame_of_reference_uid=frames.pop() if len(frames) == 1 else "",
        joined_uids=series.series_uids - {series.series_uid},
    )
