"""A fast reader of DICOM data elements: walks a header's tags, keeps the wanted, stops at the pixels.

Reads explicit and implicit, little and big endian (PS3.5 chapter 7). Sequences of defined length are
stepped over unless wanted; those of undefined length are walked. Anything that it does not understand
raises `OddElements`, and the caller asks pydicom instead (`dicom.headers`). Only the part of the file up to
the pixel data is read, in chunks, so a header costs the same whatever follows it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Read = Callable[[int, int], bytes]
"""(offset, size) -> up to `size` bytes at `offset`; fewer only at the end of the file."""

UNDEFINED = 0xFFFFFFFF
PIXEL_TAGS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_LONG_VR = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT_VR = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_VR = _LONG_VR | _SHORT_VR
_BINARY = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d"}
_BYTES = {code: struct.calcsize(code) for code in _BINARY.values()}
_BINARY_VR = frozenset(vr.encode() for vr in _BINARY) | {b"SQ", b"AT"}
_TEXT_VR = _VR - _BINARY_VR
_WORD_VR = frozenset({b"US", b"SS", b"OW", b"OB"})
_MAX_DEPTH = 64
_MAX_CHUNK = 1 << 28

Value = bytes | str | tuple[float, ...] | list["Elements"]


class OddElements(ValueError):
    """The bytes are not a sequence of elements that this reader understands."""


class _NeedMore(Exception):
    """The buffer ends inside an element."""


@dataclass(slots=True)
class Elements:
    """The wanted elements of one data set or sequence item, converted when asked for.

    `wanted` names the value representation by which each tag's bytes are read: "US", "FD"... for binary
    numbers, "SQ", "OB" for bytes, "XW" for the bytes of 16-bit words of any kind (US, SS, OW), anything else
    for text.
    """

    values: dict[int, Value]
    wanted: Mapping[int, str]
    order: str = "<"
    encodings: tuple[str, ...] = ()

    def raw(self, tag: int) -> bytes:
        """The bytes as they are in the file; empty if absent."""
        value = self.values.get(tag, b"")
        return value if isinstance(value, bytes) else b""

    def text(self, tag: int) -> str:
        """Text without padding; several values stay joined by backslashes; "" if absent."""
        value = self.values.get(tag)
        if isinstance(value, bytes):
            return (value.decode("ascii") if value.isascii() else self._decode(value)).strip(" \0\t\r\n")
        if value is None or isinstance(value, list):
            return ""
        if isinstance(value, tuple):
            return "\\".join(f"{number:g}" for number in value)
        return value.strip(" \0\t\r\n")

    def _decode(self, value: bytes) -> str:
        for encoding in (*self.encodings, "utf-8"):
            try:
                return value.decode(encoding)
            except (UnicodeDecodeError, LookupError):
                continue
        return value.decode("latin-1")

    def numbers(self, tag: int) -> tuple[float, ...]:
        """All values as floats; empty if absent or not numbers."""
        value = self.values.get(tag)
        if value is None or isinstance(value, list):
            return ()
        if isinstance(value, tuple):
            return value
        code = _BINARY.get(self.wanted.get(tag, ""))
        if code is not None and isinstance(value, bytes):
            return struct.unpack_from(f"{self.order}{len(value) // _BYTES[code]}{code}", value)
        try:
            parts = value.split(b"\\") if isinstance(value, bytes) else value.split("\\")
            return tuple(map(float, parts))
        except ValueError:
            return _lenient_numbers(self.text(tag))

    def number(self, tag: int) -> float | None:
        """The first value as a float, or None."""
        values = self.numbers(tag)
        return values[0] if values else None

    def integer(self, tag: int) -> int | None:
        """The first value as an integer, or None (also where it is not finite)."""
        value = self.number(tag)
        if value is None or value != value or abs(value) > 2**62:
            return None
        return int(value)

    def items(self, tag: int) -> list[Elements]:
        """Items of a sequence; empty if absent."""
        value = self.values.get(tag)
        return value if isinstance(value, list) else []

    def first(self, tag: int) -> Elements | None:
        """First item of a sequence, or None."""
        items = self.items(tag)
        return items[0] if items else None


def _lenient_numbers(text: str) -> tuple[float, ...]:
    numbers = []
    for part in text.split("\\"):
        try:
            numbers.append(float(part.strip(" \0").replace(",", ".")))
        except ValueError:
            return ()
    return tuple(numbers)


@dataclass(slots=True)
class Header:
    """Elements of a file up to its pixel data, and where the pixel data's value is."""

    elements: Elements
    pixel_keyword: str = ""
    pixel_offset: int = -1
    pixel_length: int = 0


def read_elements(
    read: Read,
    start: int,
    size: int,
    wanted: Mapping[int, str],
    *,
    explicit: bool,
    big: bool,
    only_group: int = 0,
    known: KnownElements | None = None,
) -> tuple[Header, int]:
    """Walk the elements of a data set from offset `start` of a file of `size` bytes.

    Stops at the pixel data, at the end of the file, or (with `only_group`) at the first element of another
    group. Returns the header and the offset where it stopped. `known` has what the same read of other files
    learned (`header_cache`), and learns.

    Raises
    ------
    OddElements
        Where an element cannot be understood or the file ends inside one.
    """
    order = ">" if big else "<"
    layout = struct.Struct(f"{order}HH2sH" if explicit else f"{order}HHI").unpack_from
    long_length = struct.Struct(f"{order}I").unpack_from
    values: dict[int, Value] = {}
    header = Header(Elements(values, wanted, order))
    known = KnownElements() if known is None else known
    base, chunk = start, 32768
    buffer = read(base, chunk)
    at = 0
    while True:
        begin = at = known.follow(buffer, at, values)
        try:
            if explicit:
                group, element, vr, length = layout(buffer, at)
                if only_group and group != only_group:  # what follows may have another encoding
                    return header, base + begin
                at += 8
                if vr in _LONG_VR:
                    (length,) = long_length(buffer, at)
                    at += 4
                elif vr not in _SHORT_VR:
                    raise OddElements(f"value representation {vr!r} at offset {base + begin}")
            else:
                group, element, length = layout(buffer, at)
                vr = b""
                at += 8
            tag = group << 16 | element
            if tag in PIXEL_TAGS:
                header.pixel_keyword = PIXEL_TAGS[tag]
                header.pixel_offset = base + at
                header.pixel_length = -1 if length == UNDEFINED else length
                return header, base + begin
            expected = wanted.get(tag)
            if length == UNDEFINED:
                nested = _Nested(buffer, order, explicit and vr != b"UN", wanted)
                if expected == "SQ":
                    values[tag], at = nested.sequence(at, UNDEFINED, 0)
                else:
                    at = nested.skip(at, 0)
                continue
            end = at + length
            if base + end > size:
                raise OddElements(f"element {tag:08X} ends beyond the file")
            kept = False
            if expected is not None:
                if end > len(buffer):
                    raise _NeedMore
                if expected == "SQ":
                    nested = _Nested(buffer, order, explicit and vr != b"UN", wanted)
                    values[tag], _ = nested.sequence(at, length, 0)
                else:
                    # of a text any VR of texts will do, which is nearly always
                    kept = (vr in _TEXT_VR and expected not in _BINARY) or not explicit
                    kept = kept or _fits(tag, expected, vr)
                    if kept:
                        values[tag] = buffer[at:end]
            if expected != "SQ":
                known.learn(buffer[begin:at], tag if kept else 0, length)
            at = end
        except (struct.error, _NeedMore):
            if base + len(buffer) >= size:
                if base + begin + 8 > size:
                    return header, base + begin  # the end, but for a few bytes of padding
                raise OddElements("the file ends inside an element") from None
            # Start again at this element with what follows it (or, after a long value, from where it ended).
            inside = begin < len(buffer)
            base += begin
            at = 0
            chunk = min(_MAX_CHUNK, chunk * 4) if inside else chunk
            buffer = read(base, chunk)
            if len(buffer) >= _MAX_CHUNK:
                raise OddElements("an element is too long to be part of a header") from None


class KnownElements:
    """Elements whose 8 bytes of tag, VR and length were met before: a third of the time of taking them apart.

    Of the same bytes the same follows, whatever the file: how far the next element is, and whether the value
    is wanted. Only reads of one table of wanted tags, in one byte order, with or without VRs, share them.
    """

    _MOST = 8192

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, int]] = {}

    def learn(self, head: bytes, tag: int, length: int) -> None:
        """`tag` is 0 where the value is not wanted; heads of other lengths than 8 are not for here."""
        if len(head) == 8:
            if len(self._known) >= self._MOST:  # damaged files have any
                self._known.clear()
            self._known[head] = tag, length

    def follow(self, buffer: bytes, at: int, values: dict[int, Value]) -> int:
        """Take the wanted values of known elements that are whole in the buffer; where the next one is."""
        known, size = self._known.get, len(buffer)
        while (found := known(buffer[at : at + 8])) is not None:
            tag, length = found
            end = at + 8 + length
            if end > size:
                break
            if tag:
                values[tag] = buffer[at + 8 : end]
            at = end
        return at


def _fits(tag: int, expected: str, vr: bytes) -> bool:
    """True if a value of this VR can be read as expected; a private tag that cannot is another vendor's."""
    if expected == "XW" and vr in _WORD_VR:
        return True
    if vr == b"UN" or expected == vr.decode() or not (vr in _BINARY_VR or expected in _BINARY):
        return True
    if tag >> 16 & 1:
        return False
    raise OddElements(f"element {tag:08X} is {vr.decode()}, expected {expected}")


@dataclass(slots=True)
class _Nested:
    """Reads or steps over the sequences inside one buffer."""

    buffer: bytes
    order: str
    explicit: bool
    wanted: Mapping[int, str]

    def _element(self, at: int) -> tuple[int, bytes, int, int]:
        """Tag, VR, length and offset of the value of the element at `at`."""
        if at + 8 > len(self.buffer):
            raise _NeedMore
        group, element, length = struct.unpack_from(f"{self.order}HHI", self.buffer, at)
        tag = group << 16 | element
        if group == 0xFFFE or not self.explicit:
            return tag, b"", length, at + 8
        vr = self.buffer[at + 4 : at + 6]
        if vr in _LONG_VR:
            if at + 12 > len(self.buffer):
                raise _NeedMore
            (length,) = struct.unpack_from(f"{self.order}I", self.buffer, at + 8)
            return tag, vr, length, at + 12
        if vr not in _SHORT_VR:
            raise OddElements(f"value representation {vr!r} in a sequence")
        (length,) = struct.unpack_from(f"{self.order}H", self.buffer, at + 6)
        return tag, vr, length, at + 8

    def _inner(self, vr: bytes) -> _Nested:
        if vr == b"UN" and self.explicit:  # PS3.5 6.2.2: a UN of undefined length holds implicit VR elements
            return _Nested(self.buffer, self.order, False, self.wanted)
        return self

    def skip(self, at: int, depth: int) -> int:
        """Offset after the sequence of undefined length whose items start at `at`."""
        if depth > _MAX_DEPTH:
            raise OddElements("sequences are nested too deeply")
        while True:
            tag, _, length, at = self._element(at)
            if tag == _SEQUENCE_END:
                return at
            if tag != _ITEM:
                raise OddElements(f"tag {tag:08X} instead of a sequence item")
            if length != UNDEFINED:
                at += length
                continue
            while True:
                tag, vr, length, at = self._element(at)
                if tag == _ITEM_END:
                    break
                at = self._inner(vr).skip(at, depth + 1) if length == UNDEFINED else at + length

    def sequence(self, at: int, length: int, depth: int) -> tuple[list[Elements], int]:
        """Items of the sequence whose items start at `at`, and the offset after it."""
        if depth > _MAX_DEPTH:
            raise OddElements("sequences are nested too deeply")
        items: list[Elements] = []
        end = None if length == UNDEFINED else at + length
        while end is None or at < end:
            tag, _, size, at = self._element(at)
            if tag == _SEQUENCE_END:
                break
            if tag != _ITEM:
                raise OddElements(f"tag {tag:08X} instead of a sequence item")
            item, at = self._item(at, size, depth)
            items.append(item)
        return items, at

    def _item(self, at: int, length: int, depth: int) -> tuple[Elements, int]:
        values: dict[int, Value] = {}
        end = None if length == UNDEFINED else at + length
        if end is not None and end > len(self.buffer):
            raise _NeedMore
        while end is None or at < end:
            tag, vr, size, at = self._element(at)
            if tag == _ITEM_END:
                break
            expected = self.wanted.get(tag)
            if expected == "SQ":
                values[tag], at = self._inner(vr).sequence(at, size, depth + 1)
            elif size == UNDEFINED:
                at = self._inner(vr).skip(at, depth + 1)
            else:
                if expected is not None:
                    if at + size > len(self.buffer):
                        raise _NeedMore
                    if not vr or _fits(tag, expected, vr):
                        values[tag] = self.buffer[at : at + size]
                at += size
        return Elements(values, self.wanted, self.order), at
