"""`arrivals` and `imaging` of dataset.yaml: when an arrival is complete, what is kept of unusual images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from radiobject_assets.dataset.section import Section, compiled


class ArrivalsConfig(Section):
    """When a folder or archive of the landing zone counts as a settled arrival."""

    quiet_period_s: Annotated[float, Field(ge=0)] = 60.0
    """Seconds without a change after which an arrival without a marker is complete; also one that has
    changed after its marker was written. 0: at once."""
    complete_marker: str = "_COMPLETE"
    """A file of this name, written last, says that the arrival is complete; for an archive, one beside it
    that is called after it (`drop.zip_COMPLETE`). Write it in its place: one that is copied with its times
    (`cp -a`, `rsync -a`) does not count, since nobody knows how far that copying is."""
    copy_limit_gb: Annotated[float, Field(gt=0)] = 100.0
    """For a landing zone on S3: gigabytes (of 2^30 bytes) of copies that may lie in the work folder."""
    trusted_names: str | None = None
    """Regular expression of folder names that may be shown as partition keys; others are shown as tokens,
    since a folder may be named after a patient. So are names that could be taken for a partition that several
    share (2026-11-30-003) or for a token (a-3f4d4c47aa)."""
    share_run: Annotated[int, Field(ge=1)] = 100
    """At most so many arrivals that wait at the same time share a run and a partition, which is named after
    the day and a number (2026-11-30-003; `radiobject-assets arrivals` says which folders that is). What a
    run costs is then shared as well. Arrivals with a name of `trusted_names` have a partition of that name
    for themselves. 1: so have all."""
    share_run_gb: Annotated[float, Field(gt=0)] = 2.0
    """Gigabytes (of 2^30 bytes) that arrivals which share a run may have; a larger one has its own."""
    look_every_s: Annotated[int, Field(ge=1)] = 30
    """Seconds between two looks into the landing zone, while the daemon runs."""
    retry_after_s: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)] = Field(
        default_factory=lambda: [60.0, 300.0, 1500.0]
    )
    """Seconds to wait before an arrival that failed is tried again: one number for each try. After the last
    it is left alone, until its files or this file change or a person asks for it. What fails for the
    machine's sake (storage that gives no answer, a process that was ended) is tried on and on."""
    silence_s: Annotated[float, Field(gt=0)] = 180.0
    """Seconds without a sign of life after which a run on another machine counts as dead; on the same one
    it is seen at once."""

    _trusted_is_pattern = field_validator("trusted_names")(lambda v: v if v is None else compiled(v))


class ImagingConfig(Section):
    """What becomes of images that are readable, but no volume of one value a voxel on a regular grid."""

    components: Literal["quarantine", "keep"] = "quarantine"
    """Colour and complex images: `keep` stores them with the components (red, green, blue; real,
    imaginary) as the last axis, and says so in the obs column `components`."""
    irregular_spacing: Literal["quarantine", "keep"] = "quarantine"
    """Missing slices and variable spacing: `keep` stores them with the mean spacing in the affine and the
    true positions in the obs column `slice_positions_mm`."""
    single_slices: Literal["quarantine", "keep"] = "quarantine"
    """An image alone in its series: `keep` stores it as a volume of one slice, as thick as its header
    says. Localizers stay out."""
    labels_on: Literal["named_image", "same_frame_of_reference"] = "named_image"
    """Segmentations and contours (SEG, RTSTRUCT) go on the image that they name. `same_frame_of_reference`
    puts them on another image of the same FrameOfReferenceUID where the one that they name is not here."""
    nifti_description: Literal["drop", "keep"] = "drop"
    """The free text `descrip` of NIfTI headers may name somebody. `keep` stores it in the obs column
    `nifti_description`, and exports write it again. Never kept with pseudonyms."""
    nifti_extensions: Literal["drop", "keep"] = "drop"
    """Extensions of NIfTI headers may hold a whole DICOM header. `keep` stores up to 1 MB of them with the
    volume, for exports only. Never kept with pseudonyms."""
