"""Words that say what an image or a segment shows, and never who was examined.

Names of channels (`dataset.json`) and of segments (`.seg.nrrd`) are free text, and nothing in the same file
says who the patient is, so that there is nothing to compare them with. Where subjects are pseudonyms, a name
leaves only as far as its words are known here. So do the texts that have no list of terms: names of vendors,
models, sequences and kernels, and descriptions that dataset.yaml asks for.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from radiobject_assets.imaging.words import words

_WORD = re.compile(r"[^\W_]+")
# A kernel (B30f), a coil (32ch), a field (3T), a number: too short to be anybody's.
_SHORT = re.compile(r"[a-z]{0,2}\d{1,2}[a-z]{0,2}|\d{3}|[a-z]")
# Any way to write a day, which would pass as three short numbers.
_DAY = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}")
_DEVICES = ("device_words", "image_words", "structure_words", "body_parts", "everyday_words", "units")
_NUMBERED = re.compile(r"[a-z]?\d{1,2}|\d{3}|b\d{1,4}")


def names_an_image(text: str) -> bool:
    """Whether every word of a name is one for what an image shows (`T1w`, `b 1000`, `in phase`)."""
    return _known(text, words("image_words"))


def names_a_structure(text: str) -> bool:
    """Whether every word of a name is one for a part of the body or a finding (`left lung`, `Segment_1`)."""
    return _known(text, words("image_words") | words("structure_words"))


def in_known_words(text: str, token: Callable[[str], str]) -> str:
    """A text in which every word that is not known is replaced by its token.

    The same word has the same token, so that series of one protocol can still be told from others.

    Parameters
    ----------
    token
        What a word becomes: a keyed digest.
    """
    known = frozenset[str]().union(*map(words, _DEVICES))

    def said(found: re.Match[str]) -> str:
        word = found.group().casefold()
        if word in known or word.removesuffix("s") in known or _SHORT.fullmatch(word):
            return found.group()
        return token(word)

    parts = []
    end = 0
    for day in _DAY.finditer(text):  # apart, so that no token is looked at again
        parts += [_WORD.sub(said, text[end : day.start()]), token(day.group())]
        end = day.end()
    return "".join([*parts, _WORD.sub(said, text[end:])])


def _known(text: str, vocabulary: frozenset[str]) -> bool:
    found = [word.casefold() for word in _WORD.findall(text)]
    return bool(found) and all(
        word in vocabulary or word.removesuffix("s") in vocabulary or _NUMBERED.fullmatch(word)
        for word in found
    )
