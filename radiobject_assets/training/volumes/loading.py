"""What is loaded from volumes: whole ones, patches or slices."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from radiobject_assets.store import SliceOrientation


class LoadingMode(StrEnum):
    """What one item of a data set is."""

    FULL_VOLUME = "full_volume"
    PATCH = "patch"
    SLICE_2D = "slice_2d"


class DatasetConfig(BaseModel):
    """How a data set of volumes is turned into items."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loading_mode: LoadingMode = LoadingMode.FULL_VOLUME
    patch_size: tuple[int, int, int] | None = None
    """Patch extents along columns, rows and slices; needed for `PATCH`."""
    patches_per_volume: int = 1
    """Items that each volume gives in an epoch, for `PATCH`."""
    slice_orientation: SliceOrientation = SliceOrientation.AXIAL
    """Plane of the items of `SLICE_2D`."""
    modalities: list[str] | None = None
    """Names of the collections to use, in the order of their channels; None for all that are given."""
    point: str | float | None = None
    """Of volumes with a fourth axis the one point to load, by its entry in obs `fourth_axis_values`: the name
    of a channel (`FLAIR`), or a number. Volumes of three axes are as they are."""
    label_column: str | None = None
    """Column of the first collection's obs that is the item's label, where no `labels` are given."""
    value_filter: str | None = None
    """Condition on the first collection's obs, as `"spacing_z_mm <= 1.5"`; other volumes are left out."""
    seed: int = 0
    """With the epoch, decides where patches are cut."""

    @field_validator("patches_per_volume")
    @classmethod
    def _some_patches(cls, value: int) -> int:
        if value < 1:
            raise ValueError("patches_per_volume must be >= 1")
        return value

    @field_validator("patch_size")
    @classmethod
    def _some_voxels(cls, value: tuple[int, int, int] | None) -> tuple[int, int, int] | None:
        if value is not None and min(value) < 1:
            raise ValueError(f"patch_size {value}: each extent must be at least 1")
        return value

    @field_validator("slice_orientation")
    @classmethod
    def _a_plane(cls, value: SliceOrientation) -> SliceOrientation:
        if value is SliceOrientation.ISOTROPIC:
            raise ValueError("slice_orientation must be axial, sagittal or coronal")
        return value

    @model_validator(mode="after")
    def _patches_have_a_size(self) -> DatasetConfig:
        if self.loading_mode is LoadingMode.PATCH and self.patch_size is None:
            raise ValueError("patch_size required when loading_mode is PATCH")
        return self
