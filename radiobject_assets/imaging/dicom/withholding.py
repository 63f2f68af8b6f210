"""Texts of a header that repeat who the patient, the staff or the site is, and so must not leave it.

An allow-list says which attributes may leave; a scanner's operator may still have typed the patient's name
into one of them. So the words of the names and numbers in the same header are looked for in every text.
"""

from __future__ import annotations

import re
from functools import lru_cache

from radiobject_assets.imaging.dicom.elements import Elements
from radiobject_assets.imaging.dicom.tags import IDENTITY
from radiobject_assets.imaging.words import words

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_MIN_LETTERS = 3
_MIN_WITHIN = 6
_MIN_ALONE = 8


def words_of_identity(elements: Elements) -> frozenset[str]:
    """The words, in small letters, of the names and numbers in a header that identify somebody.

    Words of fewer than three characters and everyday words (`chest`, `phantom`, vendors) are left out.
    """
    return _words_in(tuple([elements.text(tag) for tag in IDENTITY if tag in elements.values]))


def words_of_persons(elements: Elements) -> frozenset[str]:
    """As `words_of_identity`, without short names of one word: for the names of segments and regions.

    Phantoms are called `sphere`, and so is the region in them; a label that is lost is a class that is lost.
    """
    names = [elements.text(tag) for tag in IDENTITY if tag in elements.values]
    several = [name for name in names if len(_WORD.findall(name)) > 1]
    long = [word for name in names for word in _WORD.findall(name) if len(word) >= _MIN_ALONE]
    return _words_in((*several, *long))


@lru_cache(maxsize=4096)
def _words_in(identities: tuple[str, ...]) -> frozenset[str]:
    found = {word.casefold() for text in identities for word in _WORD.findall(text)}
    return frozenset(word for word in found - words("everyday_words") if len(word) >= _MIN_LETTERS)


def names_somebody(text: str, words: frozenset[str]) -> bool:
    """Whether a text has one of the words in it; a word of six characters or more also within another."""
    if not words or not text:
        return False
    folded = text.casefold()
    if not words.isdisjoint(_WORD.findall(folded)):
        return True
    return any(len(word) >= _MIN_WITHIN and word in folded for word in words)


def masked(text: str, words: frozenset[str]) -> str:
    """The text with `*` in place of what names somebody."""
    if not names_somebody(text, words):
        return text
    longest_first = sorted(words, key=len, reverse=True)
    for word in longest_first:
        within = re.escape(word) if len(word) >= _MIN_WITHIN else rf"(?<![^\W_]){re.escape(word)}(?![^\W_])"
        text = re.sub(within, "*", text, flags=re.IGNORECASE)
    return text
