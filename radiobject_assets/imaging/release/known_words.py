"""Words that say what an image or a segment shows, and never who was examined.

Names of channels (`dataset.json`) and of segments (`.seg.nrrd`) are free text, and nothing in the same file
says who the patient is, so that there is nothing to compare them with. Where subjects are pseudonyms, a name
leaves only if every word of it is known here.
"""

from __future__ import annotations

import re

from radiobject_assets.imaging.words import words

_WORD = re.compile(r"[^\W_]+")
_NUMBERED = re.compile(r"[a-z]?\d{1,2}|\d{3}|b\d{1,4}")


def names_an_image(text: str) -> bool:
    """Whether every word of a name is one for what an image shows (`T1w`, `b 1000`, `in phase`)."""
    return _known(text, words("image_words"))


def names_a_structure(text: str) -> bool:
    """Whether every word of a name is one for a part of the body or a finding (`left lung`, `Segment_1`)."""
    return _known(text, words("image_words") | words("structure_words"))


def _known(text: str, vocabulary: frozenset[str]) -> bool:
    found = [word.casefold() for word in _WORD.findall(text)]
    return bool(found) and all(
        word in vocabulary or word.removesuffix("s") in vocabulary or _NUMBERED.fullmatch(word)
        for word in found
    )
