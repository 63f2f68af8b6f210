"""From the bytes of one DICOM file to its `Instance`.

The fast way is `elements.read_elements`; whatever it does not understand is given to pydicom, and what
pydicom cannot read either is unreadable, with a reason.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from blake3 import blake3

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.dose import RTDOSE_STORAGE, dose_attributes, dose_frames
from radiobject_assets.imaging.dicom.elements import Elements, Header, OddElements, Read, Value, read_elements
from radiobject_assets.imaging.dicom.frames import (
    classic_frame,
    is_tomographic,
    multiframe_attributes,
    multiframe_frames,
    tomographic_frames,
)
from radiobject_assets.imaging.dicom.header_cache import Alike
from radiobject_assets.imaging.dicom.instance import Frame, Instance, header_length
from radiobject_assets.imaging.dicom.label_headers import (
    describe_segments,
    frame_of_reference,
    referenced_images,
)
from radiobject_assets.imaging.dicom.lookup import PixelMapping, pixel_mapping
from radiobject_assets.imaging.dicom.mosaic import (
    grid_frames,
    is_grid,
    is_mosaic,
    mosaic_frames,
    phase_encoding_of,
    tile_rows,
    tiles_across,
    with_csa_diffusion,
)
from radiobject_assets.imaging.dicom.one_scan import scan_attributes, source_series_of
from radiobject_assets.imaging.dicom.pepolar import POLARITY_COLUMN, polarity_of
from radiobject_assets.imaging.dicom.quiet import pydicom_quietly
from radiobject_assets.imaging.dicom.real_world import real_world_attributes
from radiobject_assets.imaging.dicom.terms import in_terms
from radiobject_assets.imaging.dicom.tracer import tracer_attributes
from radiobject_assets.imaging.dicom.withholding import masked, names_somebody, words_of_identity
from radiobject_assets.imaging.reasons import Reason
from radiobject_assets.imaging.source import AttributeValue

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
_TRANSFER_SYNTAX = 0x00020010
_META_WANTED = {_TRANSFER_SYNTAX: "UI", 0x00020002: "UI", 0x00020003: "UI"}
_MAX_INFLATED_HEADER = 64 << 20
_MAX_FRAMES = 1 << 20


def looks_like_bare_dicom(prefix: bytes) -> bool:
    """True if the bytes can be the start of a DICOM data set without preamble (old ACR-NEMA style files)."""
    if len(prefix) < 16 or prefix[0] not in (2, 8) or prefix[1] != 0 or prefix[3] > 1:
        return False
    if prefix[4:6].isalpha() and prefix[4:6].isupper():
        return True
    return int.from_bytes(prefix[4:8], "little") <= 1024


def read_instance(path: Path, read: Read, prefix: bytes, size: int) -> Instance:
    """Read one DICOM file's header.

    Parameters
    ----------
    read
        Gives bytes of the file: `read(offset, size)`.
    prefix
        The first bytes of the file, at least 132 where it is that long.
    size
        Of the file, in bytes.

    Raises
    ------
    ImageReadError
        With DAMAGED_HEADER, DICOMDIR or UNSUPPORTED_ENCODING.
    """
    try:
        header, syntax = _fast_header(read, prefix, size)
    except OddElements:
        header, syntax = _pydicom_header(path, read, size)
    elements = header.elements
    if elements.text(t.SOP_CLASS_UID) == MEDIA_DIRECTORY:
        raise ImageReadError(Reason.DICOMDIR, "is a DICOMDIR", path)
    if not elements.values or not (elements.text(t.SOP_CLASS_UID) or elements.text(t.SERIES_UID)):
        raise ImageReadError(Reason.DAMAGED_HEADER, "has neither a SOP class nor a series UID", path)
    elements.encodings = _encodings(elements.text(t.CHARACTER_SET))
    digest = str(blake3(read(0, header_length(size, header.pixel_offset))).hexdigest())
    return _alike.instance(path, size, header, syntax, digest, _instance)


_CONTOUR_WANTED = {**t.WANTED, t.CONTOUR_DATA: "DS"}


def reread_elements(path: Path, data: bytes) -> Elements:
    """The elements of a file that was scanned before, with what a scan leaves out: coordinates of contours,
    entries of lookup tables.

    Raises
    ------
    ImageReadError
        With DAMAGED_HEADER.
    """

    def read(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    try:
        header, _ = _fast_header(read, data[:4096], len(data), _CONTOUR_WANTED)
    except OddElements:
        header, _ = _pydicom_header(path, read, len(data), _CONTOUR_WANTED)
    return header.elements


def _fast_header(
    read: Read, prefix: bytes, size: int, wanted: Mapping[int, str] = t.WANTED
) -> tuple[Header, str]:
    start = 132 if prefix[128:132] == b"DICM" else 0
    syntax = media_class = ""
    if prefix[start : start + 2] == b"\x02\x00":
        meta, start = read_elements(read, start, size, _META_WANTED, explicit=True, big=False, only_group=2)
        syntax = meta.elements.text(_TRANSFER_SYNTAX)
        media_class = meta.elements.text(0x00020002)
    if syntax == DEFLATED:
        read, size = _inflating(read, start, size)
        start = 0
    if not syntax:
        explicit = read(start, 6)[4:6].isalpha()
        syntax = EXPLICIT_LITTLE if explicit else IMPLICIT_LITTLE
    header, _ = read_elements(
        read, start, size, wanted, explicit=syntax != IMPLICIT_LITTLE, big=syntax == EXPLICIT_BIG
    )
    if media_class == MEDIA_DIRECTORY or (media_class and not header.elements.text(t.SOP_CLASS_UID)):
        header.elements.values[t.SOP_CLASS_UID] = media_class  # anonymisers take it out of the data set alone
    return header, syntax


def _inflating(read: Read, start: int, size: int) -> tuple[Read, int]:
    """A reader of the inflated data set that follows `start` (as far as a header can reach)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(read(start, size - start), _MAX_INFLATED_HEADER)
    except zlib.error as error:
        raise OddElements(f"deflated data: {error}") from None
    if not data:
        raise OddElements("deflated data is empty")
    return (lambda offset, count: data[offset : offset + count]), len(data)


def _pydicom_header(
    path: Path, read: Read, size: int, wanted: Mapping[int, str] = t.WANTED
) -> tuple[Header, str]:
    """Ask pydicom, which is slower and more forgiving."""
    import pydicom

    if size > 1 << 30:
        raise ImageReadError(Reason.DAMAGED_HEADER, "the header cannot be read", path)
    try:
        with pydicom_quietly():
            dataset = pydicom.dcmread(io.BytesIO(read(0, size)), stop_before_pixels=True, force=True)
            syntax = str(getattr(dataset.file_meta, "TransferSyntaxUID", "") or IMPLICIT_LITTLE)
            header = Header(_from_pydicom(dataset, 0, wanted))
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:  # pydicom raises whatever the bytes lead it to; the verdict is the same
        detail = f"the header cannot be read ({type(error).__name__})"
        raise ImageReadError(Reason.DAMAGED_HEADER, detail, path) from error
    if t.ROWS in header.elements.values and t.BITS_ALLOCATED in header.elements.values:
        header.pixel_keyword = "PixelData"
    return header, syntax


_NO_TEXT = frozenset({"SQ", "XW", "OB", "US", "SS", "UL", "FD", "FL"})


def _from_pydicom(dataset: Any, depth: int, wanted: Mapping[int, str] = t.WANTED) -> Elements:
    from pydicom.errors import BytesLengthException

    odd = BytesLengthException, struct.error, NotImplementedError
    values: dict[int, Value] = {}
    for tag in list(dataset.keys()):
        kind = wanted.get(int(tag))
        if kind is None:
            continue
        try:
            value = dataset[tag].value
        except (*odd, ValueError, TypeError, ArithmeticError, LookupError, AttributeError):
            # What is not of its VR is as if it were absent; a text is understood as it is.
            raw = dataset.get_item(tag).value
            if tag.is_private or kind in _NO_TEXT or not isinstance(raw, bytes):
                continue
            value = raw
        if kind == "SQ":
            if depth < 32 and dataset[tag].VR == "SQ":
                values[int(tag)] = [_from_pydicom(item, depth + 1, wanted) for item in value]
        elif isinstance(value, bytes):
            values[int(tag)] = value
        elif value is not None:
            # a PersonName can be iterated too, letter by letter
            several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            if kind == "XW":
                words = [int(v) & 0xFFFF for v in several if isinstance(v, int)]
                values[int(tag)] = struct.pack(f"<{len(words)}H", *words)
            elif kind in ("US", "SS", "UL", "FD", "FL"):
                values[int(tag)] = tuple(float(v) for v in several if isinstance(v, int | float))
            else:
                values[int(tag)] = "\\".join(str(v) for v in several)
    return Elements(values, wanted)


_USUAL_ENCODINGS = {"": "ascii", "ISO_IR 6": "ascii", "ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}


@lru_cache(maxsize=64)
def _encodings(character_set: str) -> tuple[str, ...]:
    terms = [term.strip() for term in reversed(character_set.split("\\"))]
    if all(term in _USUAL_ENCODINGS for term in terms):  # nearly always, and importing pydicom takes 0.1 s
        return tuple(_USUAL_ENCODINGS[term] for term in terms)
    from pydicom.charset import python_encoding

    return tuple(python_encoding.get(term, "utf-8") for term in terms)


def attributes_of(
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


_Attributes = dict[str, AttributeValue]
_EXTRAS = {keyword: (tag, kind) for keyword, (_, tag, kind) in t.OPTIONAL_ATTRIBUTES.items()}
_ATTRIBUTE_TAGS = (
    *(tag for tag, _ in (*t.ATTRIBUTES.values(), *_EXTRAS.values())),
    *t.IDENTITY,
    t.PATIENT_ID_ISSUER,
)
_shared_attributes: dict[tuple[object, ...], tuple[_Attributes, _Attributes]] = {}


def _interned_attributes(elements: Elements) -> tuple[_Attributes, _Attributes]:
    # Instances of a series share most values: converting each combination once halves the time of a scan.
    get = elements.values.get
    key = tuple([get(tag) for tag in _ATTRIBUTE_TAGS])
    known = _shared_attributes.get(key)
    if known is None:
        allowed = attributes_of(elements)
        if issuer := elements.text(t.PATIENT_ID_ISSUER):
            # digits, because the name of an institution is not told
            name = unicodedata.normalize("NFC", issuer).encode("utf-8", "replace")
            allowed = {**allowed, t.ISSUER_COLUMN: hashlib.blake2b(name, digest_size=4).hexdigest()}
        known = allowed, attributes_of(elements, _EXTRAS)
        if len(_shared_attributes) > 4096:
            _shared_attributes.clear()
        _shared_attributes[key] = known
    return known


_alike = Alike()


def _instance(path: Path, size: int, header: Header, syntax: str, digest: str) -> Instance:
    e = header.elements
    has_pixels = bool(header.pixel_keyword)
    n_frames = e.integer(t.N_FRAMES)
    n_frames = 1 if n_frames is None else n_frames
    manufacturer = e.text(t.MANUFACTURER).upper()
    frames: tuple[Frame, ...] = ()
    tiles = 0
    if t.FRAME_GROUPS in e.values or t.SHARED_GROUPS in e.values:
        frames = multiframe_frames(e, min(max(n_frames, 0), _MAX_FRAMES), manufacturer)
    elif has_pixels and e.text(t.SOP_CLASS_UID) == RTDOSE_STORAGE:
        frames = dose_frames(e, min(max(n_frames, 0), _MAX_FRAMES), manufacturer)
    elif n_frames > 1 and is_tomographic(e):
        frames = tomographic_frames(e, min(n_frames, _MAX_FRAMES), manufacturer)
    elif has_pixels and is_mosaic(e, manufacturer):
        frames = mosaic_frames(e, classic_frame(e, manufacturer))
        tiles = len(frames) or -1
    elif has_pixels and is_grid(e, manufacturer):
        frames = grid_frames(e, classic_frame(e, manufacturer))
        tiles = len(frames) or -1
    elif has_pixels:
        frame = classic_frame(e, manufacturer)
        echo_planar = "SIEMENS" in manufacturer and "EP" in e.text(t.SCANNING_SEQUENCE)
        frames = (with_csa_diffusion(frame, e) if echo_planar else frame,)
    named = referenced_images(e)
    attributes, extras = _interned_attributes(e)
    if t.FRAME_GROUPS in e.values or t.SHARED_GROUPS in e.values:
        attributes = {**multiframe_attributes(e), **real_world_attributes(e, manufacturer), **attributes}
    if has_pixels and "SIEMENS" in manufacturer and "EP" in e.text(t.SCANNING_SEQUENCE) and len(frames) > 0:
        across = tiles_across(tiles) if tiles > 0 else 1
        plane = (e.integer(t.COLUMNS) or 0) // across, (e.integer(t.ROWS) or 0) // across
        attributes = {**attributes, **phase_encoding_of(e, frames[0].orientation, plane)}
    polarity = polarity_of(e, manufacturer)
    if polarity in ("forward", "reversed"):
        attributes = {**attributes, POLARITY_COLUMN: polarity}
    if t.N_TEMPORAL_POSITIONS in e.values:
        attributes = {**attributes, **scan_attributes(e)}
    if t.RADIOPHARMACEUTICALS in e.values:
        attributes = {**attributes, **tracer_attributes(e)}
    if t.DOSE_UNITS in e.values and e.text(t.SOP_CLASS_UID) == RTDOSE_STORAGE:
        attributes = {**attributes, **dose_attributes(e)}
    if t.REAL_WORLD_MAPPING in e.values:
        attributes = {**attributes, **real_world_attributes(e, manufacturer)}
    segments = describe_segments(e)
    mapped = PixelMapping()
    if has_pixels and (t.MODALITY_LUT in e.values or e.text(t.PHOTOMETRIC) == "PALETTE COLOR"):
        mapped = pixel_mapping(e)
        if mapped.line is not None:
            frames = tuple(replace(f, slope=mapped.line[0], intercept=mapped.line[1]) for f in frames)
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
        frames=frames,
        tiles=tiles,
        tile_rows=tile_rows(tiles) if tiles > 0 and is_grid(e, manufacturer) else 0,
        references=named.series,
        reference_sops=named.instances,
        reference_owners=named.owners,
        reference_classes=named.classes,
        segments=segments,
        segmentation_type=e.text(t.SEGMENTATION_TYPE),
        max_fraction=e.integer(t.MAX_FRACTION) or 0,
        segments_overlap=e.text(t.SEGMENTS_OVERLAP),
        detail=mapped.detail,
        table=mapped.kind,
        table_bits=mapped.bits,
        source_series=source_series_of(e),
        attributes=attributes if not mapped.units else {**attributes, "rescale_type": mapped.units},
        extras=extras,
        concatenation=_concatenation(e),
        frame_of_reference_uid=frame_of_reference(e),
    )


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
