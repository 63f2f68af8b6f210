"""Which instances can be part of a volume, by their header alone: kind, encoding, pixels, declared sizes.

Sizes are checked against the file before any memory is taken for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from radiobject_assets.imaging.dicom.dose import RTDOSE_STORAGE
from radiobject_assets.imaging.dicom.headers import DEFLATED, EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE
from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.dicom.label_headers import LABELMAP_STORAGE, RTSTRUCT_STORAGE, SEG_STORAGE
from radiobject_assets.imaging.pixels.coded_frames import NATIVE_CODECS, RLE
from radiobject_assets.imaging.policy import REFUSE, SeriesPolicy
from radiobject_assets.imaging.reasons import Reason

_STORAGE = "1.2.840.10008.5.1.4.1.1."
SECONDARY_CAPTURE = frozenset(_STORAGE + suffix for suffix in ("7", "7.1", "7.2", "7.3", "7.4"))
ULTRASOUND_VOLUME = _STORAGE + "6.2"
IMAGE_CLASSES = SECONDARY_CAPTURE | frozenset(
    _STORAGE + suffix
    for suffix in (
        "2", "2.1", "2.2",  # CT, enhanced CT, legacy converted enhanced CT
        "4", "4.1", "4.3", "4.4",  # MR
        "128", "130", "128.1",  # PET
        "20",  # nuclear medicine
        "13.1.1", "13.1.2", "13.1.3",  # X-ray 3D angiography, cone beam of the face, breast tomosynthesis
        "6.2", "6.3",  # ultrasound volume, photoacoustic
        "77.1.5.4",  # ophthalmic tomography
        "30",  # parametric map
        "481.2",  # RT dose
    )
)  # fmt: skip
"""Storage classes of volumes: one without geometry is a volume that can't be placed. An object of another
class is an image too where every frame of it has its place (`is_placed`)."""
_PROJECTIONS = frozenset(
    _STORAGE + suffix
    for suffix in (
        "1", "1.1", "1.1.1", "1.2", "1.2.1", "1.3", "1.3.1",  # radiography, mammography, intra-oral
        "12.1", "12.1.1", "12.2", "12.2.1", "12.3",  # angiography, fluoroscopy
        "13.1.4", "13.1.5",  # breast projections
        "481.1", "481.23", "481.24",  # RT images
    )
)  # fmt: skip
_UID = re.compile(r"[0-9.]{1,64}")
_PHOTOGRAPHS = _STORAGE + "77.1."  # visible light: endoscopy, microscopy, slides, the eye
LABEL_CLASSES = frozenset({SEG_STORAGE, LABELMAP_STORAGE, RTSTRUCT_STORAGE})
UNCOMPRESSED = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED})
SUBSAMPLED = "YBR_FULL_422"
_GREY = frozenset({"MONOCHROME1", "MONOCHROME2"})
COMPRESSED = NATIVE_CODECS | {RLE}
# What a compressed file may claim to hold: constant images do reach thousands to one, but not without end.
_FREE_BYTES = 64 << 20
_MAX_RATIO = 4096
_MAX_VOLUME_BYTES = 1 << 40


@dataclass(frozen=True)
class Problem:
    """Why an instance cannot be ingested."""

    reason: Reason
    detail: str


def kind_of(instance: Instance) -> Literal["image", "labels", "other"]:
    """What an instance could become."""
    if instance.sop_class_uid in LABEL_CLASSES:
        return "labels"
    if instance.pixel_keyword and (instance.sop_class_uid in IMAGE_CLASSES or is_placed(instance)):
        return "image"
    return "other"


def is_placed(instance: Instance) -> bool:
    """Whether an object of a class that need not be a volume has a place for every frame, and grey pixels.

    Projections and photographs are no slices, whatever their header says of a place.
    """
    uid = instance.sop_class_uid
    return (
        uid not in _PROJECTIONS
        and not uid.startswith(_PHOTOGRAPHS)
        and instance.photometric in _GREY
        and len(instance.frames) == instance.n_frames > 0
        and all(f.position and f.orientation and f.pixel_spacing for f in instance.frames)
    )


def _class_name(uid: str) -> str:
    from pydicom.uid import UID  # 0.1 s, which a scan without such objects does without

    name = UID(uid).name if _UID.fullmatch(uid) else ""
    return name.removesuffix(" Storage") if name and name != uid else f"SOP class {name or 'unknown'}"


def _unsupported(instance: Instance) -> Problem:
    name, uid = _class_name(instance.sop_class_uid), instance.sop_class_uid
    if not instance.pixel_keyword:
        said = "an image without pixel data" if uid in IMAGE_CLASSES else "no image"
    elif uid in _PROJECTIONS:
        said = "a projection, not slices of a volume"
    elif uid.startswith(_PHOTOGRAPHS):
        said = "pictures taken with light, not a volume in the patient"
    elif instance.photometric not in _GREY:
        said = "pictures in colour, without what places a volume in the patient"
    else:
        said = "frames without a position, orientation and pixel spacing of each, so no volume"
    return Problem(Reason.UNSUPPORTED_OBJECT, f"{instance.modality or 'object'}, {name}: {said}")


def problem_of(instance: Instance, policy: SeriesPolicy = REFUSE) -> Problem | None:
    """What keeps an image instance from being part of a volume; None if nothing does."""
    if kind_of(instance) != "image":
        return _unsupported(instance)
    return (
        encoding_problem(instance)
        or _pixel_problem(instance, policy)
        or size_problem(instance)
        or _description_problem(instance)
    )


def encoding_problem(instance: Instance) -> Problem | None:
    """A transfer syntax that cannot be decoded."""
    bits = instance.bits_allocated
    if instance.transfer_syntax == EXPLICIT_BIG and (
        bits in (1, 12) or (bits == 8 and instance.pixel_offset < 0)  # whether bytes are swapped is not known
    ):
        return Problem(Reason.UNSUPPORTED_ENCODING, f"pixels of {bits} bits in big endian order")
    if instance.transfer_syntax in UNCOMPRESSED or instance.transfer_syntax in COMPRESSED:
        return None
    return Problem(Reason.UNSUPPORTED_ENCODING, f"transfer syntax {instance.transfer_syntax} has no decoder")


def is_colour(instance: Instance) -> bool:
    """True for colours that can be decoded to red, green and blue of 8 bits (16 of RGB and of palettes)."""
    if instance.table == "colour":
        return True
    wide = instance.photometric == "RGB" and instance.bits_allocated == 16
    if instance.samples != 3 or instance.bits_stored != instance.bits_allocated or instance.signed:
        return False
    if instance.bits_allocated != 8 and not wide:
        return False
    if instance.transfer_syntax in COMPRESSED:
        return instance.photometric in ("RGB", "YBR_FULL", SUBSAMPLED, "YBR_RCT", "YBR_ICT")
    if instance.photometric == SUBSAMPLED:
        return instance.columns % 2 == 0 and not instance.planar
    return instance.photometric in ("RGB", "YBR_FULL")


def _pixel_problem(i: Instance, policy: SeriesPolicy) -> Problem | None:
    if i.table == "colour":
        if i.samples != 1 or i.pixel_keyword != "PixelData":
            return Problem(Reason.UNSUPPORTED_PIXELS, f"a palette for {i.samples} samples")
        if policy.components != "keep":
            return Problem(Reason.COLOUR, "pixels with a palette of colours")
    elif policy.components == "keep" and is_colour(i):
        return None
    if i.photometric == "PALETTE COLOR" and i.detail:
        return Problem(Reason.COLOUR, f"the instance {i.detail}")
    if i.samples != 1 or (i.photometric not in _GREY and not i.table):
        if i.samples == 3 or i.photometric.startswith(("RGB", "YBR", "PALETTE")):
            return Problem(Reason.COLOUR, f"{i.photometric or 'colour'} pixels with {i.samples} samples")
        return Problem(
            Reason.UNSUPPORTED_PIXELS,
            f"PhotometricInterpretation {i.photometric!r} with {i.samples} samples is not a grey-scale image",
        )
    if i.pixel_keyword != "PixelData":
        fits = i.bits_allocated == (32 if i.pixel_keyword == "FloatPixelData" else 64)
        return (
            None
            if fits
            else Problem(Reason.UNSUPPORTED_PIXELS, f"{i.pixel_keyword} with {i.bits_allocated} bits")
        )
    packed = i.bits_allocated in (1, 12) and i.transfer_syntax in UNCOMPRESSED
    if not (packed or i.bits_allocated in (8, 16, 32)) or not 1 <= i.bits_stored <= i.bits_allocated:
        return Problem(
            Reason.UNSUPPORTED_PIXELS,
            f"{i.bits_allocated} bits allocated, {i.bits_stored} stored: not supported",
        )
    return None


def native_bits(i: Instance) -> int:
    """Bits of one frame when it is not compressed."""
    samples = 2 if i.photometric == SUBSAMPLED and i.transfer_syntax in UNCOMPRESSED else i.samples
    return i.rows * i.columns * samples * i.bits_allocated


def size_problem(i: Instance) -> Problem | None:
    """Declared rows, columns and frames that do not fit the file."""
    if i.rows < 1 or i.columns < 1 or i.n_frames < 1:
        return Problem(
            Reason.SIZE_MISMATCH, f"{i.rows} rows, {i.columns} columns and {i.n_frames} frames are declared"
        )
    needed = (native_bits(i) * i.n_frames + 7) // 8
    declared = f"{i.columns}x{i.rows}x{i.n_frames} voxels of {i.bits_allocated} bits"
    if needed > _MAX_VOLUME_BYTES:
        return Problem(Reason.TOO_LARGE, f"{declared} are declared")
    if i.transfer_syntax in COMPRESSED or i.transfer_syntax == DEFLATED or i.pixel_offset < 0:
        if needed > max(_FREE_BYTES, i.size_bytes * _MAX_RATIO):
            return Problem(
                Reason.SIZE_MISMATCH, f"{declared} cannot come out of a file of {i.size_bytes} bytes"
            )
        if i.transfer_syntax in COMPRESSED and i.pixel_offset >= 0 and i.pixel_length >= 0:
            return Problem(Reason.SIZE_MISMATCH, "compressed pixel data is not divided into fragments")
        return None
    if i.pixel_length < 0:
        return Problem(Reason.SIZE_MISMATCH, "uncompressed pixel data has an undefined length")
    if i.pixel_offset + needed > i.size_bytes:
        there = max(0, i.size_bytes - i.pixel_offset)
        return Problem(Reason.TRUNCATED, f"{declared} need {needed} bytes, {there} are there")
    if i.pixel_length < needed:
        return Problem(
            Reason.SIZE_MISMATCH, f"{declared} need {needed} bytes, PixelData has {i.pixel_length}"
        )
    return None


def _description_problem(i: Instance) -> Problem | None:
    if i.sop_class_uid == ULTRASOUND_VOLUME and not all(f.position for f in i.frames):
        return Problem(
            Reason.NO_GEOMETRY, "an ultrasound volume that is placed by its transducer, not in the patient"
        )
    if i.sop_class_uid == RTDOSE_STORAGE:
        if len(i.frames) != i.n_frames:
            return Problem(
                Reason.NO_GEOMETRY,
                f"GridFrameOffsetVector does not say where the {i.n_frames} planes of the dose are",
            )
        if not all(frame.slope > 0 for frame in i.frames):
            return Problem(Reason.UNSUPPORTED_PIXELS, "DoseGridScaling is absent: the values are no dose")
    if i.tiles == 0 and len(i.frames) != i.n_frames:
        return Problem(Reason.NO_GEOMETRY, f"{i.n_frames} frames whose places in space are not described")
    if i.tiles < 0:
        return Problem(
            Reason.NO_GEOMETRY,
            "a mosaic whose header does not tell its slices, or whose size does not fit them",
        )
    if any(frame.rows_reversed is None for frame in i.frames):
        return Problem(
            Reason.ROW_ORDER_UNKNOWN,
            "GE's epi_pepolar, and its mode (0019,10B3) and TemporalPositionIdentifier do not tell whether "
            "the rows are reversed",
        )
    if i.detail:
        return Problem(Reason.NON_LINEAR_RESCALE, f"the instance {i.detail}")
    return None
