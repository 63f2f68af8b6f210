"""What is kept of one DICOM file's header: enough to group, order, place and decode it without asking again.

`Instance` is one file, `Frame` one image plane in it (a classic file has one, an enhanced multi-frame file
many). Both are plain frozen values that travel between processes and through Parquet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from radiobject_assets.imaging.source import AttributeValue

TableKind = Literal["", "modality", "grey", "colour"]
"""What a lookup table gives: physical values, levels of a palette without colour, red, green and blue."""
Triple = tuple[float, float, float]
Six = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class Frame:
    """One image plane: where it is, what it shows, and how its stored values become physical ones.

    position, orientation, pixel_spacing
        ImagePositionPatient, ImageOrientationPatient, PixelSpacing (LPS mm; spacing between rows, between
        columns); None where absent or invalid.
    slope, intercept
        Of the Modality LUT (RescaleSlope, RescaleIntercept).
    image_type
        FrameType of an enhanced object's frame; "" where the instance's ImageType says it.
    component
        "" or what splits it from others of its series: `phase`, `real`, `imaginary`, a stack...
    temporal_index
        TemporalPositionIdentifier or TemporalPositionIndex.
    volume_numbers
        Numbers that Philips gives a volume, in the order in which they count: b-value, direction, dynamic,
        spin label, phase. Its instance numbers follow no order.
    b_value, gradient
        Diffusion weighting (s/mm2) and its direction (LPS unit vector), where known.
    dimension_index
        DimensionIndexValues.
    segment
        ReferencedSegmentNumber of a SEG frame.
    thickness_mm
        SpacingBetweenSlices, else SliceThickness: taken for geometry only where one slice has no neighbour.
    slice_time_ms
        When the slice was acquired after the start of its volume, where a mosaic tells it.
    slice_location
        SliceLocation, mm: no place (vendors count it from anywhere), but slices of one place have one.
    content_at
        ContentTime alone: when pixels were made, which is no proof of when they were acquired.
    reference_time_ms
        FrameReferenceTime of PET.
    duration_ms
        ActualFrameDuration, or FrameAcquisitionDuration of an enhanced object.
    temporal_offset_s
        TemporalPositionTimeOffset of an enhanced object.
    cardiac_percent, respiratory_percent
        Nominal percentage of the cardiac or respiratory phase, of an enhanced object.
    rescaled
        Whether the header has a rescale, a mapping or a table at all.
    own
        Acquisition parameters (name, value) that an enhanced object says of this frame and not of all.
    rows_reversed
        True where the stored rows run against what the orientation says: they are turned when they are read.
        None where the header says that some images of its series are so, and not which.
    direction_rule
        Name of the rule by which `gradient` was understood (`vendor_rules.RULES`); "" where there is none.
    """

    position: Triple | None = None
    orientation: Six | None = None
    pixel_spacing: tuple[float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    component: str = ""
    stack: str = ""
    echo_time_ms: float | None = None
    temporal_index: int | None = None
    trigger_time_ms: float | None = None
    acquired_at: str = ""
    b_value: float | None = None
    gradient: Triple | None = None
    dimension_index: tuple[int, ...] = ()
    segment: int | None = None
    thickness_mm: float | None = None
    slice_time_ms: float | None = None
    volume_numbers: tuple[int, ...] = ()
    image_type: str = ""
    slice_location: float | None = None
    content_at: str = ""
    reference_time_ms: float | None = None
    duration_ms: float | None = None
    temporal_offset_s: float | None = None
    cardiac_percent: float | None = None
    respiratory_percent: float | None = None
    rescaled: bool = True
    own: tuple[tuple[str, AttributeValue], ...] = ()
    rows_reversed: bool | None = False
    direction_rule: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a SEG (or one region of an RTSTRUCT): number, label, coded meaning, algorithm.

    `contours` is the number of closed planar contours of a region; where the object has several frames of
    reference, `frame_of_reference_uid` is the region's and `references` are the SeriesInstanceUIDs of the
    images in it.
    """

    number: int
    label: str
    category: str = ""
    type: str = ""
    algorithm: str = ""
    contours: int = 0
    references: tuple[str, ...] = ()
    frame_of_reference_uid: str = ""


@dataclass(frozen=True, slots=True)
class Instance:
    """The header of one DICOM file.

    pixel_offset, pixel_length
        Where the value of PixelData starts in the file and its declared length (-1 where undefined:
        compressed, in fragments); offset -1 where there is none or the file must be decoded by pydicom.
    tiles
        Number of slices of a mosaic (each has its own frame), -1 where it is unknown; 0 for others.
    tile_rows
        Rows of tiles, where there are not as many as columns of tiles; else 0.
    header_digest
        blake3 of the file's bytes before its pixel data: by it, a file that was replaced since is known.
    pixel_digest
        blake3 of the pixel data's bytes; computed only for instances that seem to be copies of another.
    table, table_bits
        What a lookup table makes of the stored values when they are decoded, and the bits of what it gives;
        "" and 0 where there is none, or where slope and intercept say the same.
    frame_of_reference_uid
        FrameOfReferenceUID: of an image, or of what labels were drawn in. Two images with one share a space.
    reference_owners
        For each of `reference_sops` the index in `references` of the series that it is named with, or -1.
    reference_classes
        SOP classes of the images that labels name, each once.
    detail
        What is wrong with the header, if it parsed but cannot be used.
    source_series
        SeriesInstanceUID of the enhanced series of which the instance is an alternate (Related Series
        Sequence with that purpose), "" where it names none.
    uid_place
        Where `imaging.release` has replaced `series_uid`: a name of all of it but the last number, and the
        rank of that number among the series of the scan that share the name. None where the UID tells it
        itself.
    concatenation
        ConcatenationUID, InConcatenationNumber and InConcatenationTotalNumber (0 where it is not told) of a
        multi-frame object that was written in several files; None for others.
    attributes
        Allow-listed acquisition parameters (`tags.ATTRIBUTES`).
    gzipped
        True for a file that was compressed by itself (`.dcm.gz`): offsets and sizes are of what is in it, and
        it is unpacked before it is read (`members.local_copy`).
    extras
        Those that a data set may allow besides (`tags.OPTIONAL_ATTRIBUTES`), by DICOM keyword;
        `imaging.release` moves the allowed ones to `attributes` and drops the others.
    """

    path: Path
    size_bytes: int
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    series_uid: str = ""
    study_uid: str = ""
    patient_id: str | None = None
    modality: str = ""
    description: str = ""
    image_type: str = ""
    transfer_syntax: str = ""
    instance_number: int | None = None
    acquisition_number: int | None = None
    rows: int = 0
    columns: int = 0
    n_frames: int = 0
    bits_allocated: int = 0
    bits_stored: int = 0
    high_bit: int = 0
    signed: bool = False
    samples: int = 1
    photometric: str = ""
    planar: int = 0
    pixel_keyword: str = ""
    pixel_offset: int = -1
    pixel_length: int = 0
    header_digest: str = ""
    pixel_digest: str = ""
    frames: tuple[Frame, ...] = ()
    tiles: int = 0
    tile_rows: int = 0
    references: tuple[str, ...] = ()
    reference_sops: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    segmentation_type: str = ""
    max_fraction: int = 0
    segments_overlap: str = ""
    detail: str = ""
    table: TableKind = ""
    table_bits: int = 0
    source_series: str = ""
    attributes: dict[str, AttributeValue] = field(default_factory=dict)
    extras: dict[str, AttributeValue] = field(default_factory=dict)
    frame_of_reference_uid: str = ""
    reference_owners: tuple[int, ...] = ()
    reference_classes: tuple[str, ...] = ()
    gzipped: bool = False
    concatenation: tuple[str, int, int] | None = None
    uid_place: tuple[str, int] | None = None


def header_length(size_bytes: int, pixel_offset: int) -> int:
    """Number of bytes at the start of a file that `header_digest` is made of."""
    return min(size_bytes, pixel_offset if pixel_offset > 0 else 1024)
