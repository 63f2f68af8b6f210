"""From the elements of one DICOM header to its `Instance`."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.dose import RTDOSE_STORAGE, dose_attributes, dose_frames
from radiobject_assets.imaging.dicom.elements import Elements, Header
from radiobject_assets.imaging.dicom.frames import (
    classic_frame,
    is_tomographic,
    multiframe_attributes,
    multiframe_frames,
    tomographic_frames,
)
from radiobject_assets.imaging.dicom.instance import Instance
from radiobject_assets.imaging.dicom.label_headers import (
    describe_segments,
    frame_of_reference,
    referenced_images,
)
from radiobject_assets.imaging.dicom.lookup_tables import PixelMapping, pixel_mapping
from radiobject_assets.imaging.dicom.mfsplit import scan_attributes, source_series_of
from radiobject_assets.imaging.dicom.real_world import half_a_rescale, real_world_attributes
from radiobject_assets.imaging.dicom.terms import in_terms
from radiobject_assets.imaging.dicom.tracer import tracer_attributes
from radiobject_assets.imaging.dicom.vendor import ImageFrames, Vendor
from radiobject_assets.imaging.dicom.vendors import vendor_of
from radiobject_assets.imaging.dicom.withholding import masked, names_somebody, words_of_identity
from radiobject_assets.imaging.source import AttributeValue

Attributes = dict[str, AttributeValue]

_MAX_FRAMES = 1 << 20
_EXTRAS = {keyword: (tag, kind) for keyword, (_, tag, kind) in t.OPTIONAL_ATTRIBUTES.items()}


def allowed_attributes(elements: Elements) -> tuple[Attributes, Attributes]:
    """Acquisition parameters (`tags.ATTRIBUTES`) of a header, and those that a data set may allow besides.

    What they say follows from the elements of `header_cache.ATTRIBUTE_TAGS` alone.
    """
    allowed = _attributes_of(elements)
    if issuer := elements.text(t.PATIENT_ID_ISSUER):
        # digits, because the name of an institution is not told
        name = unicodedata.normalize("NFC", issuer).encode("utf-8", "replace")
        allowed = {**allowed, t.ISSUER_COLUMN: hashlib.blake2b(name, digest_size=4).hexdigest()}
    return allowed, _attributes_of(elements, _EXTRAS)


def _attributes_of(
    elements: Elements, wanted: Mapping[str, tuple[int, type]] = t.ATTRIBUTES
) -> dict[str, AttributeValue]:
    """The wanted acquisition parameters that are present; a text must be in its terms and name nobody."""
    found: dict[str, AttributeValue] = {}
    words = words_of_identity(elements)
    for name, (tag, kind) in wanted.items():
        if tag not in elements.values:
            continue
        if kind is str:
            text = in_terms(tag, elements.text(tag))
            if tag == t.SERIES_DESCRIPTION:
                text = masked(text, words)
            if text and (tag in t.DATES or not names_somebody(text, words)):
                found[name] = text
            continue
        number = elements.number(tag)
        if number is not None and math.isfinite(number):
            found[name] = int(number) if kind is int else number
    return found


def instance_from_header(
    path: Path, size: int, header: Header, syntax: str, digest: str, allowed: tuple[Attributes, Attributes]
) -> Instance:
    """What is kept of a file's header.

    Parameters
    ----------
    size
        Of the file, in bytes.
    syntax
        Transfer syntax.
    digest
        `Instance.header_digest`.
    allowed
        What `allowed_attributes` gives of the header.
    """
    e = header.elements
    has_pixels = bool(header.pixel_keyword)
    n_frames = e.integer(t.N_FRAMES)
    n_frames = 1 if n_frames is None else n_frames
    vendor = vendor_of(e.text(t.MANUFACTURER))
    found = _frames(e, n_frames, vendor, has_pixels=has_pixels)
    attributes, extras = allowed
    attributes = _with_parts(attributes, e, vendor, found, has_pixels=has_pixels)
    mapped = PixelMapping()
    if has_pixels and (t.MODALITY_LUT in e.values or e.text(t.PHOTOMETRIC) == "PALETTE COLOR"):
        mapped = pixel_mapping(e)
        if mapped.line is not None:
            slope, intercept = mapped.line
            frames = tuple(replace(f, slope=slope, intercept=intercept) for f in found.frames)
            found = replace(found, frames=frames)
        if mapped.units:
            attributes = {**attributes, "rescale_type": mapped.units}
    named = referenced_images(e)
    return Instance(
        path=path,
        size_bytes=size,
        sop_class_uid=e.text(t.SOP_CLASS_UID),
        sop_instance_uid=e.text(t.SOP_INSTANCE_UID),
        series_uid=e.text(t.SERIES_UID),
        study_uid=e.text(t.STUDY_UID),
        patient_id=e.text(t.PATIENT_ID) or None,
        modality=in_terms(t.MODALITY, e.text(t.MODALITY)),
        description=e.text(t.SERIES_DESCRIPTION),
        image_type=e.text(t.IMAGE_TYPE),
        transfer_syntax=syntax,
        instance_number=e.integer(t.INSTANCE_NUMBER),
        acquisition_number=e.integer(t.ACQUISITION_NUMBER),
        rows=e.integer(t.ROWS) or 0,
        columns=e.integer(t.COLUMNS) or 0,
        n_frames=n_frames if has_pixels else 0,
        bits_allocated=e.integer(t.BITS_ALLOCATED) or 0,
        bits_stored=e.integer(t.BITS_STORED) or e.integer(t.BITS_ALLOCATED) or 0,
        high_bit=_high_bit(e),
        signed=e.integer(t.PIXEL_REPRESENTATION) == 1,
        samples=e.integer(t.SAMPLES) or 1,
        photometric=e.text(t.PHOTOMETRIC),
        planar=e.integer(t.PLANAR) or 0,
        pixel_keyword=header.pixel_keyword,
        pixel_offset=header.pixel_offset,
        pixel_length=header.pixel_length,
        header_digest=digest,
        frames=found.frames,
        tiles=found.tiles,
        tile_rows=found.tile_rows,
        references=named.series,
        reference_sops=named.instances,
        reference_owners=named.owners,
        reference_classes=named.classes,
        segments=describe_segments(e),
        segmentation_type=e.text(t.SEGMENTATION_TYPE),
        max_fraction=e.integer(t.MAX_FRACTION) or 0,
        segments_overlap=e.text(t.SEGMENTS_OVERLAP),
        detail=mapped.detail or (_half_rescaled(e) if has_pixels else ""),
        table=mapped.kind,
        table_bits=mapped.bits,
        source_series=source_series_of(e),
        attributes=attributes,
        extras=extras,
        concatenation=_concatenation(e),
        frame_of_reference_uid=frame_of_reference(e),
    )


def _half_rescaled(e: Elements) -> str:
    if t.MODALITY_LUT in e.values or e.text(t.SOP_CLASS_UID) == RTDOSE_STORAGE:
        return ""  # they have values of another kind
    groups = [group for each in (t.SHARED_GROUPS, t.FRAME_GROUPS) for group in e.items(each)]
    macros = [macro for group in groups if (macro := group.first(t.PIXEL_TRANSFORMATION)) is not None]
    absent = next(filter(None, map(half_a_rescale, (e, *macros))), "")
    return f"has half a rescale: {absent} is absent, or no number" if absent else ""


def _is_multiframe(e: Elements) -> bool:
    return t.FRAME_GROUPS in e.values or t.SHARED_GROUPS in e.values


def _frames(e: Elements, n_frames: int, vendor: Vendor, *, has_pixels: bool) -> ImageFrames:
    """The planes of a file, by the kind of object that it is."""
    n = min(n_frames, _MAX_FRAMES)
    if _is_multiframe(e):
        return ImageFrames(multiframe_frames(e, max(n, 0), vendor))
    if has_pixels and e.text(t.SOP_CLASS_UID) == RTDOSE_STORAGE:
        return ImageFrames(dose_frames(e, max(n, 0), vendor))
    if n_frames > 1 and is_tomographic(e):
        return ImageFrames(tomographic_frames(e, n, vendor))
    if has_pixels:
        return vendor.image_frames(e, classic_frame(e, vendor))
    return ImageFrames()


def _with_parts(
    attributes: Attributes, e: Elements, vendor: Vendor, found: ImageFrames, *, has_pixels: bool
) -> Attributes:
    """The attributes with what macros, private elements and modules of some objects say besides."""
    if _is_multiframe(e):
        attributes = {**multiframe_attributes(e), **real_world_attributes(e, vendor), **attributes}
    parts = [vendor.attributes(e, found, has_pixels=has_pixels)]
    if t.N_TEMPORAL_POSITIONS in e.values:
        parts.append(scan_attributes(e))
    if t.RADIOPHARMACEUTICALS in e.values:
        parts.append(tracer_attributes(e, vendor))
    if t.DOSE_UNITS in e.values and e.text(t.SOP_CLASS_UID) == RTDOSE_STORAGE:
        parts.append(dose_attributes(e))
    if t.REAL_WORLD_MAPPING in e.values:
        parts.append(real_world_attributes(e, vendor))
    for part in parts:
        if part:  # else the attributes stay those that other headers share
            attributes = {**attributes, **part}
    return attributes


def _concatenation(e: Elements) -> tuple[str, int, int] | None:
    uid = e.text(t.CONCATENATION)
    if not uid:
        return None
    return uid, e.integer(t.IN_CONCATENATION) or 0, e.integer(t.CONCATENATION_TOTAL) or 0


def _high_bit(e: Elements) -> int:
    """HighBit, or where that cannot be (too low for BitsStored, or beyond BitsAllocated) the last stored bit.

    The values then lie in the lowest bits, which is where pydicom, dcm2niix and GDCM look whatever it says.
    """
    high = e.integer(t.HIGH_BIT)
    allocated = e.integer(t.BITS_ALLOCATED) or 1
    stored = e.integer(t.BITS_STORED) or allocated
    return high if high is not None and stored - 1 <= high < allocated else stored - 1
