"""From the bytes of one DICOM file to its `Instance`.

The fast way is `elements.read_elements`; whatever it does not understand is given to pydicom, and what
pydicom cannot read either is unreadable, with a reason.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from blake3 import blake3

from radiobject_assets.errors import ImageReadError
from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements, Header, OddElements, Read, Value, read_elements
from radiobject_assets.imaging.dicom.header_cache import HeaderCache
from radiobject_assets.imaging.dicom.instance import Instance, header_length
from radiobject_assets.imaging.dicom.suppressed_output import pydicom_quietly
from radiobject_assets.imaging.dicom.vendors import PRIVATE_ELEMENTS
from radiobject_assets.imaging.reasons import Reason

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
_TRANSFER_SYNTAX = 0x00020010
_WANTED: Final = {**t.WANTED, **PRIVATE_ELEMENTS}
_META_WANTED: Final = {_TRANSFER_SYNTAX: "UI", 0x00020002: "UI", 0x00020003: "UI"}
_MAX_INFLATED_HEADER = 64 << 20


def looks_like_bare_dicom(prefix: bytes) -> bool:
    """True if the bytes can be the start of a DICOM data set without preamble (old ACR-NEMA style files)."""
    if len(prefix) < 16 or prefix[0] not in (2, 8) or prefix[1] != 0 or prefix[3] > 1:
        return False
    if prefix[4:6].isalpha() and prefix[4:6].isupper():
        return True
    return int.from_bytes(prefix[4:8], "little") <= 1024


def read_instance(path: Path, read: Read, prefix: bytes, size: int, cache: HeaderCache) -> Instance:
    """Read one DICOM file's header.

    Parameters
    ----------
    read
        Gives bytes of the file: `read(offset, size)`.
    prefix
        The first bytes of the file, at least 132 where it is that long.
    size
        Of the file, in bytes.
    cache
        What headers before this one said; of the same scan, so that it is freed with it.

    Raises
    ------
    ImageReadError
        With DAMAGED_HEADER, DICOMDIR or UNSUPPORTED_ENCODING.
    """
    try:
        header, syntax = _fast_header(read, prefix, size, _WANTED, cache)
    except OddElements:
        header, syntax = _pydicom_header(path, read, size, _WANTED)
    elements = header.elements
    if elements.text(t.SOP_CLASS_UID) == MEDIA_DIRECTORY:
        raise ImageReadError(Reason.DICOMDIR, "is a DICOMDIR", path)
    if not elements.values or not (elements.text(t.SOP_CLASS_UID) or elements.text(t.SERIES_UID)):
        raise ImageReadError(Reason.DAMAGED_HEADER, "has neither a SOP class nor a series UID", path)
    elements.encodings = _encodings(elements.text(t.CHARACTER_SET))
    digest = str(blake3(read(0, header_length(size, header.pixel_offset))).hexdigest())
    return cache.instance(path, size, header, syntax, digest)


_CONTOUR_WANTED: Final = {**_WANTED, t.CONTOUR_DATA: "DS"}


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
        header, _ = _fast_header(read, data[:4096], len(data), _CONTOUR_WANTED, HeaderCache())
    except OddElements:
        header, _ = _pydicom_header(path, read, len(data), _CONTOUR_WANTED)
    return header.elements


_DATE_TAGS: Final = {"StudyDate": 0x00080020, "SeriesDate": 0x00080021, "AcquisitionDate": 0x00080022}
_PERSON: Final = {**t.PERSON_KEYWORDS, **_DATE_TAGS}
_PERSON_WANTED: Final = {**dict.fromkeys(_PERSON.values(), "LO"), t.CHARACTER_SET: "LO"}


class PersonReader:
    """Reads what headers say of the person who was examined; for audits alone: it is part of no record."""

    def __init__(self) -> None:
        self._cache = HeaderCache()

    def read(self, path: Path) -> dict[str, str] | None:
        """Texts by keyword (names, ids, addresses, dates), those that are not empty; None where a header
        can't be read."""
        try:
            with open(path, "rb") as file:
                descriptor = file.fileno()
                size = os.fstat(descriptor).st_size

                def read(offset: int, count: int) -> bytes:
                    return os.pread(descriptor, count, offset)

                try:
                    header, _ = _fast_header(read, read(0, 4096), size, _PERSON_WANTED, self._cache)
                except OddElements:
                    header, _ = _pydicom_header(path, read, size, _PERSON_WANTED)
        except (OSError, ImageReadError):
            return None
        elements = header.elements
        elements.encodings = _encodings(elements.text(t.CHARACTER_SET))
        told = {keyword: elements.text(tag) for keyword, tag in _PERSON.items()}
        return {keyword: text for keyword, text in told.items() if text}


def _fast_header(
    read: Read, prefix: bytes, size: int, wanted: Mapping[int, str], cache: HeaderCache
) -> tuple[Header, str]:
    start = 132 if prefix[128:132] == b"DICM" else 0
    syntax = media_class = ""
    if prefix[start : start + 2] == b"\x02\x00":
        known = cache.known_elements(_META_WANTED, explicit=True, big=False, only_group=2)
        meta, start = read_elements(
            read, start, size, _META_WANTED, explicit=True, big=False, only_group=2, known=known
        )
        syntax = meta.elements.text(_TRANSFER_SYNTAX)
        media_class = meta.elements.text(0x00020002)
    if syntax == DEFLATED:
        read, size = _inflating(read, start, size)
        start = 0
    if not syntax:
        explicit = read(start, 6)[4:6].isalpha()
        syntax = EXPLICIT_LITTLE if explicit else IMPLICIT_LITTLE
    explicit, big = syntax != IMPLICIT_LITTLE, syntax == EXPLICIT_BIG
    known = cache.known_elements(wanted, explicit=explicit, big=big)
    header, _ = read_elements(read, start, size, wanted, explicit=explicit, big=big, known=known)
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


def _pydicom_header(path: Path, read: Read, size: int, wanted: Mapping[int, str]) -> tuple[Header, str]:
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


def _from_pydicom(dataset: Any, depth: int, wanted: Mapping[int, str]) -> Elements:
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
