"""Volumes of several collections that belong together: by subject, never by position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from radiobject_assets.errors import AlignmentError, ConfigurationError
from radiobject_assets.store import Volume, VolumeCollection
from radiobject_assets.training.alignment import check_same_grid
from radiobject_assets.training.pairing import LeftOut, pair_labels, volume_rows


def as_collections(
    collections: VolumeCollection | Sequence[VolumeCollection], names: Sequence[str] | None = None
) -> list[VolumeCollection]:
    """One or several collections as a list, or those of the given `names` in that order.

    Raises
    ------
    ConfigurationError
        There is none, or none of a name.
    """
    found = [collections] if isinstance(collections, VolumeCollection) else list(collections)
    if not found:
        raise ConfigurationError("At least one collection required")
    if names is None:
        return found
    by_name = {collection.name: collection for collection in found}
    missing = [name for name in names if name not in by_name]
    if missing or not names:
        raise ConfigurationError(f"modalities {list(names)}: the collections given are {', '.join(by_name)}")
    return [by_name[name] for name in names]


def group_by_subject(collections: Sequence[VolumeCollection]) -> list[tuple[Volume, ...]]:
    """One tuple for each item: a volume of each collection, in the first collection's order.

    A single collection may have several volumes of one subject; of several collections each must have exactly
    one, since nothing else says which belong together.

    Raises
    ------
    AlignmentError
        Numbers of volumes or subjects differ, or a subject has several volumes.
    """
    first, *others = collections
    groups: list[list[Volume]] = [[volume] for volume in first]
    for other in others:
        if len(other) != len(first):
            raise AlignmentError(
                f"Collection '{other.name}' has {len(other)} volumes, expected {len(first)} "
                f"as in '{first.name}'; select the subjects that have both"
            )
        missing = len(set(first.obs_subject_ids) - set(other.obs_subject_ids))
        if missing:
            raise AlignmentError(
                f"Subject mismatch for collection '{other.name}': {missing} subjects of '{first.name}' "
                "have no volume in it; select the subjects that have both"
            )
        by_subject = dict(zip(other.obs_subject_ids, other, strict=True))
        for subject, group in zip(first.obs_subject_ids, groups, strict=True):
            group.append(by_subject[subject])
    if others:
        for collection in collections:
            several = sum(count > 1 for count in Counter(collection.obs_subject_ids).values())
            if several:
                raise AlignmentError(
                    f"{several} subjects have several volumes in '{collection.name}': nothing says which "
                    "belongs to which volume of the other collections; select one volume a subject"
                )
    return [tuple(group) for group in groups]


def group_masks(
    image: VolumeCollection, mask: VolumeCollection, *, leave_out: bool = False
) -> tuple[list[tuple[Volume, Volume]], list[LeftOut]]:
    """(image, mask) for each image, by `labels_of` or subject and grid, in the image collection's order.

    Parameters
    ----------
    leave_out
        Leave out images without a fitting mask, as the patch cache does; else they are an error.

    Returns
    -------
    The pairs, and what was left out, with reasons.

    Raises
    ------
    AlignmentError
        An image has no mask, more than one, or one on another grid.
    """
    pairs, left_out = pair_labels(volume_rows(image.to_obs()), volume_rows(mask.to_obs()))
    if left_out and not leave_out:
        reasons = Counter(item.reason.value for item in left_out)
        listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        raise AlignmentError(
            f"{len(left_out)} of {len(image)} images of '{image.name}' have no fitting mask in '{mask.name}' "
            f"({listed}), e.g. {left_out[0].detail}; leave_out_unmatched=True loads the others"
        )
    mask_of = {image_row.obs_id: mask_row.obs_id for image_row, mask_row in pairs}
    masks = dict(zip(mask.obs_ids, mask, strict=True))
    groups = [
        (volume, masks[mask_of[obs_id]])
        for obs_id, volume in zip(image.obs_ids, image, strict=True)
        if obs_id in mask_of
    ]
    return groups, left_out


def check_are_images(volumes: Iterable[Volume], what: str) -> None:
    """Check that no label volume is taken for an image: its numbers are names, not intensities.

    Raises
    ------
    AlignmentError
        One is.
    """
    if any(volume.kind == "labels" for volume in volumes):
        raise AlignmentError(
            f"'{what}' holds labels, which are no image: give them as `mask` of "
            "create_segmentation_dataloader, create_validation_dataloader or SegmentationDataset"
        )


def check_channels(groups: Sequence[tuple[Volume, ...]], names: Sequence[str]) -> None:
    """Check that volumes which become channels of one image lie on one another.

    Raises
    ------
    AlignmentError
        Shapes or places differ within an item.
    """
    for first, *others in groups:
        for name, other in zip(names[1:], others, strict=True):
            check_same_grid(
                first.shape, first.affine, other.shape, other.affine, f"'{names[0]}' and '{name}'"
            )


def uniform_shape(shapes: Iterable[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape that all volumes share, or None."""
    distinct = set(shapes)
    return distinct.pop() if len(distinct) == 1 else None


def points_in(collections: Sequence[VolumeCollection], point: str | float | None) -> dict[str, int]:
    """Where a point lies along the fourth axis of each volume that has one, by the volume's URI.

    Raises
    ------
    AlignmentError
        A volume has a fourth axis without this point, or none has a fourth axis.
    """
    if point is None:
        return {}
    found: dict[str, int] = {}
    without = 0
    for collection in collections:
        rows = {row.obs_id: row for row in volume_rows(collection.to_obs())}
        for obs_id, volume in zip(collection.obs_ids, collection, strict=True):
            if len(volume.shape) != 4:
                continue
            t = rows[obs_id].index_of(point)
            without += t is None
            if t is not None:
                found[volume.uri] = t
    if without or not found:
        raise AlignmentError(
            f"{without} volumes have no point {point!r} along their fourth axis, {len(found)} have: obs "
            "`fourth_axis_values` lists them; the collection's `fourth_axis` in dataset.yaml names them"
        )
    return found
