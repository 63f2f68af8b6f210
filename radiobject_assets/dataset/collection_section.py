"""`collections` of dataset.yaml: what belongs to each, and how it is kept."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from radiobject_assets.dataset.keywords import MATCHABLE_KEYWORDS
from radiobject_assets.dataset.section import Section, Several, compiled


class TileOrientation(StrEnum):
    """How a collection's volumes are cut into tiles: which reads are cheapest."""

    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"
    ISOTROPIC = "isotropic"


class TileExtents(Section):
    """Tile extents in voxels along the columns, rows and slices."""

    x: Annotated[int, Field(ge=1)]
    """Along the columns."""
    y: Annotated[int, Field(ge=1)]
    """Along the rows."""
    z: Annotated[int, Field(ge=1)]
    """Along the slices."""


class MatchConfig(Section):
    """What belongs to a collection: every condition that is given must hold."""

    modality: str | Several | None = None
    """DICOM Modality (0008,0060), as `CT` or `[MR, PT]`."""
    description: str | None = None
    """Regular expression searched in SeriesDescription (0008,103E), without regard to case."""
    dicom: dict[str, str] = Field(default_factory=dict)
    """DICOM keyword to regular expression searched in its value; several values are joined by a backslash."""
    files: str | Several | None = None
    """NIfTI file-name patterns, as `*_T1w.nii.gz`; with a `/`, of the path's end: `anat/*_T1w.nii.gz`."""
    named: Literal["labels"] | None = None
    """With `files`, `labels`: only files whose name, or the folder that they lie in, has a word for labels
    (`seg`, `mask`, `label`, `gt`, `roi`; docs/layouts.md), or whose header says that they are labels."""

    _description_is_pattern = field_validator("description")(lambda v: v if v is None else compiled(v))

    @field_validator("dicom")
    @classmethod
    def _known_keywords(cls, value: dict[str, str]) -> dict[str, str]:
        for keyword, pattern in value.items():
            if keyword not in MATCHABLE_KEYWORDS:
                raise ValueError(
                    f"{keyword!r} can't be matched; use one of {', '.join(sorted(MATCHABLE_KEYWORDS))}"
                )
            compiled(pattern)
        return value

    @model_validator(mode="after")
    def _one_source(self) -> MatchConfig:
        dicom = self.modality is not None or self.description is not None or bool(self.dicom)
        if dicom == (self.files is not None):
            raise ValueError(
                "give either `files` (NIfTI) or at least one of `modality`, `description`, `dicom`"
            )
        if self.named is not None and self.files is None:
            raise ValueError("`named` goes with `files`")
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that match, upper case; empty: any."""
        value = [self.modality] if isinstance(self.modality, str) else self.modality or []
        return tuple(item.upper() for item in value)

    @property
    def file_patterns(self) -> tuple[str, ...]:
        """The NIfTI file-name patterns; empty: DICOM only."""
        return tuple([self.files] if isinstance(self.files, str) else self.files or [])


class FourthAxisConfig(Section):
    """What the fourth axis of a collection's NIfTI volumes is, where their headers do not say."""

    name: Literal["time", "echo", "b_value", "phase", "energy", "inversion_time", "channel"]
    """What differs from point to point."""
    values: list[str | float] = Field(default_factory=list)
    """One entry for each point: names of channels (`[FLAIR, T1w, T1gd, T2w]`), else numbers (`time` in s,
    `echo`, `phase` and `inversion_time` in ms, `b_value` in s/mm2, `energy` in kV)."""

    @model_validator(mode="after")
    def _values_fit_the_name(self) -> FourthAxisConfig:
        kind = str if self.name == "channel" else float
        if not all(isinstance(value, kind) for value in self.values):
            raise ValueError(f"`values` of {self.name!r} are {'names' if kind is str else 'numbers'}")
        if len(set(self.values)) < len(self.values):
            raise ValueError("`values` has one entry twice")
        return self


class CollectionConfig(Section):
    """One collection: volumes of one kind, and one Dagster asset of the same name."""

    match: MatchConfig
    """What belongs to it."""
    kind: Literal["image", "labels"] = "image"
    """`labels` for segmentations: integers, never interpolated, aligned with the image that they describe."""
    labels_of: str | None = None
    """For `kind: labels`: the image collection that they belong to."""
    channels: Literal["quarantine", "one_hot", "one_hot_with_background", "each_point"] = "quarantine"
    """For `kind: labels` with a fourth axis: `one_hot` makes one value of channels of 0 and 1 (the first
    channel is value 1), `one_hot_with_background` takes the first channel for the background, `each_point`
    keeps labels for each point of their image's fourth axis."""
    fourth_axis: FourthAxisConfig | None = None
    """For `kind: image`: what the fourth axis of its NIfTI volumes is."""
    tile: TileOrientation | TileExtents = TileOrientation.ISOTROPIC
    """`axial`, `sagittal`, `coronal` (whole slices), `isotropic` (cubes, for 3D patches), or extents."""
    description: str = ""
    """A sentence shown beside the asset in Dagster."""
    segment_name: Literal["file_name"] | None = None
    """For `kind: labels` with a NIfTI mask for each structure: `file_name` tells the name of the structure in
    the obs column `segments`, as the file is called (`liver.nii.gz`). Not for files named after a patient."""

    @model_validator(mode="after")
    def _labels_name_their_image(self) -> CollectionConfig:
        if self.labels_of is not None and self.kind != "labels":
            raise ValueError("`labels_of` goes with `kind: labels`")
        if self.channels != "quarantine" and self.kind != "labels":
            raise ValueError("`channels` goes with `kind: labels`")
        if self.fourth_axis is not None and self.kind != "image":
            raise ValueError("`fourth_axis` goes with `kind: image`")
        return self

    @model_validator(mode="after")
    def _segments_are_labels(self) -> CollectionConfig:
        if self.segment_name is not None and self.kind != "labels":
            raise ValueError("`segment_name` goes with `kind: labels`")
        return self
