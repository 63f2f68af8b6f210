"""Segments of a Slicer segmentation (`.seg.nrrd`): names, values, layers, coded meaning.

Source: the 3D Slicer developer guide, "Segmentations", nrrd fields `Segment<n>_...`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from radiobject_assets.imaging.dicom.withholding import names_somebody

_FIELD = re.compile(r"Segment(\d{1,6})_(\w+)")
_NUMBER = re.compile(r"\d{6,}")
_TERMINOLOGY = "TerminologyEntry:"
_WORD = re.compile(r"[^\W_]{3,}")
_NOT_TOLD = re.compile(r"Segment\d+_|Segmentation_|DWMRI|modality$|MultiVolume|axis \d", re.IGNORECASE)
_MAX_LABEL = 128


def is_segmentation(pairs: Mapping[str, str]) -> bool:
    """Whether the key/value pairs of an NRRD header are those of a segmentation."""
    return any(_FIELD.fullmatch(key) for key in pairs)


def segments_of(pairs: Mapping[str, str]) -> tuple[tuple[int, int, str, str, str], ...]:
    """Layer, value, name, coded type and category of each segment, in their order.

    A name that repeats a word of the other key/value pairs, which may say who the patient is, or that has a
    long number in it is left out. Older files say neither value nor layer: each segment is a layer of ones.

    Raises
    ------
    ValueError
        A value or layer is no number.
    """
    found: dict[int, dict[str, str]] = {}
    for key, value in pairs.items():
        if match := _FIELD.fullmatch(key):
            found.setdefault(int(match[1]), {})[match[2]] = value
    words = _words_of_others(pairs)
    result = []
    for number, said in sorted(found.items()):
        if "ID" not in said and "Name" not in said:
            continue
        label = said.get("Name", "")[:_MAX_LABEL]
        if names_somebody(label, words) or _NUMBER.search(label) or "^" in label:
            label = ""
        category, kind = _coded(said.get("Tags", ""))
        label_value = int(said.get("LabelValue", "1"))
        layer = int(said.get("Layer", "0" if "LabelValue" in said else str(number)))
        if layer < 0:
            raise ValueError(f"the layer of segment {number} is {layer}")
        result.append((layer, label_value, label, kind, category))
    return tuple(result)


def _words_of_others(pairs: Mapping[str, str]) -> frozenset[str]:
    texts = [value for key, value in pairs.items() if not _NOT_TOLD.match(key)]
    return frozenset(word.casefold() for text in texts for word in _WORD.findall(text))


def _coded(tags: str) -> tuple[str, str]:
    """Category and type of the terminology entry among a segment's tags, as `scheme:value meaning`."""
    entry = next((tag for tag in tags.split("|") if tag.startswith(_TERMINOLOGY)), "")
    parts = entry.removeprefix(_TERMINOLOGY).split("~")
    codes = []
    for part in (*parts[1:3], "", "")[:2]:
        scheme, value, meaning = (*part.split("^"), "", "", "")[:3]
        plain = bool(value) and not _NUMBER.search(meaning)
        codes.append(f"{scheme}:{value} {meaning}".strip()[:_MAX_LABEL] if plain else "")
    return codes[0], codes[1]
