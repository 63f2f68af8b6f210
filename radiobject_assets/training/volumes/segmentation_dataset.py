"""Images with their masks as a PyTorch data set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store import VolumeCollection
from radiobject_assets.training.sampling import PatchPlace, place_patches
from radiobject_assets.training.volumes.loading import DatasetConfig, LoadingMode
from radiobject_assets.training.volumes.subject_groups import check_are_images, group_masks, points_in
from radiobject_assets.training.volumes.volume_items import Group, Item, Transform, VolumeItems, label_tensor


class SegmentationDataset(VolumeItems):
    """Pairs of image and mask.

    Items are `{"image": float32 (1, X, Y, Z) in physical units, "mask": (1, X, Y, Z) in its stored dtype,
    "idx", "obs_id", "obs_subject_id"}` of the image, with `"patch_idx"` and `"patch_start"` for patches and
    `"slice_idx"` for slices.

    Parameters
    ----------
    image, mask
        Collections with one mask for each image, on the same grid. A mask that names its image (`labels_of`)
        belongs to it; others are found by subject and grid.
    config
        Whole volumes by default.
    transform
        Applied to each item, after the next two.
    foreground_sampling
        Centre every patch on a labelled voxel, each such voxel being equally likely; in a volume without any,
        patches are placed as without this.
    image_transform, spatial_transform
        As RadiObject has them: `spatial_transform` first (for image and mask), then `image_transform`.
    foreground_threshold
        Least part of a patch's voxels that should be labelled, with `foreground_sampling`.
    foreground_max_retries
        How many places are tried for that; if none reaches it, the one with most labelled voxels is taken.
    leave_out_unmatched
        Leave out images that have no mask, several, or one on another grid, as the patch cache does;
        `left_out` says which and why.
    as_meta
        Whether image and mask are MONAI's `MetaTensor`, with affine; by default where a transform is MONAI's.

    Raises
    ------
    AlignmentError
        An image has no mask, several, or one on another grid; or the images are labels.
    ConfigurationError
        When it is read: a whole volume that is larger than `ReadConfig.memory_budget_mb`.
    """

    def __init__(
        self,
        image: VolumeCollection,
        mask: VolumeCollection,
        config: DatasetConfig | None = None,
        transform: Transform | None = None,
        foreground_sampling: bool = False,
        *,
        image_transform: Transform | None = None,
        spatial_transform: Transform | None = None,
        foreground_threshold: float = 0.0,
        foreground_max_retries: int = 10,
        leave_out_unmatched: bool = False,
        as_meta: bool | None = None,
    ) -> None:
        config = config or DatasetConfig()
        if not 0 <= foreground_threshold <= 1 or foreground_max_retries < 1:
            raise ConfigurationError(
                f"foreground_threshold {foreground_threshold} must be from 0 to 1, "
                f"foreground_max_retries {foreground_max_retries} at least 1"
            )
        if config.value_filter is not None:
            image = image.filter(config.value_filter)
            mask = mask.sel(subject=list(image.subjects))
        transforms = [one for one in (spatial_transform, image_transform, transform) if one is not None]
        points = points_in([image], config.point)
        groups, self.left_out = group_masks(image, mask, leave_out=leave_out_unmatched)
        check_are_images((pair[0] for pair in groups), image.name)
        super().__init__(groups, config, transforms, points, as_meta)
        self._foreground_sampling = foreground_sampling and config.loading_mode is LoadingMode.PATCH
        self._foreground_threshold = foreground_threshold
        self._foreground_max_retries = foreground_max_retries

    def _place(self, group: Group, part: int, epoch: int, size: tuple[int, int, int]) -> PatchPlace:
        uniform = super()._place(group, part, epoch, size)
        if not self._foreground_sampling:
            return uniform
        image, mask = group
        reader = self._readers.get(mask)
        best, most = uniform, -1.0
        for attempt in range(self._foreground_max_retries):
            (found,) = place_patches(
                self._shape(image),
                size,
                1,
                # patch and attempt make one key: the places of two patches must not be each other's retries
                seed=self.config.seed,
                obs_id=f"{image.obs_id or image.uri}\0{part}\0{attempt}",
                epoch=epoch,
                foreground_fraction=1.0,
                foreground=reader.foreground,
            )
            place = replace(found, number=part, t=uniform.t)
            if self._foreground_threshold <= 0 or not place.foreground:
                return place
            share = float(np.count_nonzero(reader.label_patch(place, size)) / np.prod(size))
            if share >= self._foreground_threshold:
                return place
            if share > most:
                best, most = place, share
        return best

    def _voxel_bytes(self, group: Group) -> int:
        return 4 + group[1].stored_dtype.itemsize

    def _whole(self, group: Group, plane: tuple[int, int] | None) -> Item:
        image, mask = group
        return {
            "image": self._image_whole([image], plane),
            "mask": label_tensor(self._readers.get(mask).labels(plane)),
        }

    def _patch(self, group: Group, place: PatchPlace, size: tuple[int, int, int]) -> Item:
        image, mask = group
        return {
            "image": self._image_patch([image], place, size),
            "mask": label_tensor(self._readers.get(mask).label_patch(place, size)),
        }
