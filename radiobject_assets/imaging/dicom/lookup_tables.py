"""Tables that map stored values to others: the Modality LUT, and the palettes of PALETTE COLOR images.

A table says what no slope and intercept can. One that is a straight line over every value that a pixel can
have is told as slope and intercept, so that the stored integers are kept; any other is applied when pixels
are decoded, and the volume holds what the table gives. PS3.3 C.11.1 (modality), C.7.6.3.1.5 (palettes).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.instance import TableKind

_DISCRETE, _LINEAR, _INDIRECT = range(3)
_MAX_ENTRIES = 65536
# PS3.3 C.11.1.1.2; other texts are anybody's words.
_UNITS = frozenset({"OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT"})


@dataclass(frozen=True, eq=False)
class LookupTable:
    """Values (n,), or (n, 3) for colours, of the stored values `first`, `first + 1`...

    They are unsigned, of 8 or 16 bits. Stored values below `first` are mapped as `first` is, those beyond the
    table as its last one.
    """

    kind: TableKind
    first: int
    values: NDArray[Any]

    def apply(self, stored: NDArray[Any]) -> NDArray[Any]:
        """The table's values in place of the stored ones; colours as one more axis."""
        index = np.clip(stored.astype(np.int64) - self.first, 0, len(self.values) - 1)
        mapped: NDArray[Any] = self.values[index]
        return mapped

    def line(self, lowest: int, highest: int) -> tuple[float, float] | None:
        """Slope and intercept that say the same of all stored values from `lowest` to `highest`, or None."""
        if self.values.ndim > 1 or highest - lowest < 1:
            return None
        if lowest < self.first or highest >= self.first + len(self.values):
            return None  # what lies beyond the table is clipped
        part = self.values[lowest - self.first : highest - self.first + 1].astype(np.int64)
        steps = np.diff(part)
        if steps[0] == 0 or np.any(steps != steps[0]):
            return None
        return float(steps[0]), float(part[0] - steps[0] * lowest)


def lookup_table(elements: Elements, *, signed: bool) -> LookupTable | None:
    """The table that the pixels of an image go through; None if there is none.

    Raises
    ------
    ValueError
        The table is damaged.
    """
    modality = elements.first(t.MODALITY_LUT)
    if elements.text(t.PHOTOMETRIC) == "PALETTE COLOR":
        segmented = not elements.raw(t.PALETTE_DATA[0])
        tags = t.SEGMENTED_PALETTE_DATA if segmented else t.PALETTE_DATA
        if not elements.raw(tags[0]):
            raise ValueError("has no palette")
        palettes = [
            _table(elements, descriptor, data, signed=signed, segmented=segmented)
            for descriptor, data in zip(t.PALETTE_DESCRIPTORS, tags, strict=True)
        ]
        first, red = palettes[0]
        if any(other != first or len(values) != len(red) for other, values in palettes[1:]):
            raise ValueError("has palettes of red, green and blue that differ in their range")
        grey = all(np.array_equal(values, red) for _, values in palettes[1:])
        if grey:
            return LookupTable("grey", first, red)
        return LookupTable("colour", first, np.stack([values for _, values in palettes], axis=1))
    if modality is None:
        return None
    first, values = _table(modality, t.LUT_DESCRIPTOR, t.LUT_DATA, signed=signed)
    return LookupTable("modality", first, values)


def _table(
    elements: Elements, descriptor: int, data: int, *, signed: bool, segmented: bool = False
) -> tuple[int, NDArray[Any]]:
    """First mapped value and the entries of one table."""
    described, entries = elements.raw(descriptor), elements.raw(data)
    if len(described) != 6:
        raise ValueError("has a lookup table without a descriptor")
    order = elements.order
    count, first, bits = struct.unpack(f"{order}H{'h' if signed else 'H'}H", described)
    count = count or 65536
    if bits not in (8, 16):
        raise ValueError(f"has a lookup table of {bits} bits")
    if segmented:
        words = np.frombuffer(entries, f"{order}u{bits // 8}", len(entries) // (bits // 8)).tolist()
        values = _expanded(words, bits)
        if len(values) != count:
            raise ValueError(f"has a segmented palette of {len(values)} entries, {count} are declared")
        return first, np.array(values, np.uint8 if bits == 8 else np.uint16)
    if len(entries) in (count, count + count % 2) and bits == 8:
        if order == ">":
            raise ValueError("has a lookup table of 8 bits in big endian order")
        return first, np.frombuffer(entries, np.uint8, count)
    if len(entries) < 2 * count:
        raise ValueError(f"has a lookup table of {len(entries)} bytes for {count} entries")
    words = np.frombuffer(entries, f"{order}u2", count)
    if bits == 8 and words.max() < 256:
        return first, words.astype(np.uint8)
    return first, words.astype(np.uint16)


def _expanded(words: list[int], bits: int) -> list[int]:
    """The entries of a segmented palette: runs of values, lines, and segments used again (PS3.3 C.7.9.2)."""
    values: list[int] = []
    at = 0
    while at + 2 <= len(words) and len(values) <= _MAX_ENTRIES:
        code, count = words[at], words[at + 1]
        if code == _INDIRECT:
            # an offset in bytes, of 32 bits, lowest first, to a segment that is no reference itself
            size = 32 // bits
            offset = sum(word << bits * n for n, word in enumerate(words[at + 2 : at + 2 + size]))
            start = offset // (bits // 8)
            if at + 2 + size > len(words) or start >= at:
                raise ValueError("has a palette with a segment that refers to nothing")
            for _ in range(count):
                start = _append(values, words, start)
            at += 2 + size
        else:
            at = _append(values, words, at)
    return values


def _append(values: list[int], words: list[int], at: int) -> int:
    """Add the entries of the run or line at `at`; returns where the next segment begins."""
    code, count = (words[at], words[at + 1]) if at + 2 <= len(words) else (_INDIRECT, 0)
    if not count or len(values) > _MAX_ENTRIES:  # each segment adds something, so that this ends
        raise ValueError("has a palette with a damaged segment")
    if code == _DISCRETE and at + 2 + count <= len(words):
        values += words[at + 2 : at + 2 + count]
        return at + 2 + count
    if code == _LINEAR and at + 3 <= len(words) and values:
        start, end = values[-1], words[at + 2]
        line = np.linspace(start + (end - start) / count, end, count)
        values += np.around(line).astype(int).tolist()
        return at + 3
    raise ValueError("has a palette with a damaged segment")


@dataclass(frozen=True)
class PixelMapping:
    """What a header's lookup table means.

    kind, bits
        Of a table that is applied when pixels are decoded; "" and 0 for others.
    units
        ModalityLUTType, where it is one of the standard's.
    line
        Slope and intercept that take the place of those of the header; None where there is no table.
    detail
        What is wrong with the table.
    """

    kind: TableKind = ""
    bits: int = 0
    units: str = ""
    line: tuple[float, float] | None = None
    detail: str = ""


def pixel_mapping(elements: Elements) -> PixelMapping:
    """What becomes of the stored values of an image with a Modality LUT or a palette."""
    if t.SEGMENTS in elements.values or elements.text(t.SEGMENTATION_TYPE):
        return PixelMapping()  # a label map with colours to show it in: the stored values are the labels
    signed = elements.integer(t.PIXEL_REPRESENTATION) == 1
    try:
        table = lookup_table(elements, signed=signed)
    except ValueError as error:
        return PixelMapping(detail=str(error))
    if table is None:
        return PixelMapping()
    modality = elements.first(t.MODALITY_LUT)
    units = modality.text(t.MODALITY_LUT_TYPE) if modality is not None else ""
    units = units if units in _UNITS else ""
    bits = elements.integer(t.BITS_STORED) or elements.integer(t.BITS_ALLOCATED) or 1
    if 1 <= bits <= 16:
        lowest = -(1 << (bits - 1)) if signed else 0
        line = table.line(lowest, lowest + (1 << bits) - 1)
        if line is not None:
            return PixelMapping(units=units, line=line)
    return PixelMapping(table.kind, table.values.dtype.itemsize * 8, units, line=(1.0, 0.0))
