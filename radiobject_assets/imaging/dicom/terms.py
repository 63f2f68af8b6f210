"""What a coded attribute may say: an operator or a gateway can write anything into any element of a header.

Where the standard has a list of terms, a value that is not on it does not leave the header; where it has none
but the field's words are known (body parts, tracers, contrast agents, units), a text with another word in
it does not. Dates, ages and code strings must have their form. What is left to be free text (manufacturer,
model, sequence, kernel, and what a data set adds by name) is looked through for words of the patient's
identity by `withholding`. The lists and vocabularies, with their sources, are in `imaging.words`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from functools import cache, lru_cache

from radiobject_assets.imaging.dicom import tags as t
from radiobject_assets.imaging.words import words

_CODE_STRINGS = re.compile(r"[A-Z0-9_ ]{0,16}(\\[A-Z0-9_ ]{0,16})*")
_DATE = re.compile(r"\d{8}")
_FORMS: dict[int, re.Pattern[str]] = {
    t.IMAGE_TYPE: _CODE_STRINGS,
    0x00180022: _CODE_STRINGS,  # ScanOptions
    t.PATIENT_AGE: re.compile(r"\d{3}[DWMY]"),
    t.ACQUISITION_DATE: _DATE,
    t.SERIES_DATE: _DATE,
    0x00080020: _DATE,  # StudyDate
    t.ACQUISITION_DATE_TIME: re.compile(r"\d{8}(\d{0,6}(\.\d{1,6})?([+-]\d{4})?)"),
    t.FRAME_OF_REFERENCE: re.compile(r"[0-9.]{1,64}"),
}

_LEVEL = re.compile(r"[CTLS]\d{1,2}")
_LETTERS = re.compile(r"[^\W\d_]+")
_DIGITS = re.compile(r"\d+")


def _single_terms(terms: frozenset[str]) -> Callable[[str], str]:
    def keep(text: str) -> str:
        return "\\".join(v for value in text.split("\\") if (v := value.strip().upper()) in terms)

    return keep


def _of_form(form: re.Pattern[str]) -> Callable[[str], str]:
    return lambda text: text if form.fullmatch(text) else ""


def _made_of(word: str, vocabulary: frozenset[str]) -> bool:
    """Whether a word is one of the vocabulary, or such words written together (ABDOMENPELVIS)."""
    if not word or word in vocabulary:
        return True
    return any(word[:n] in vocabulary and _made_of(word[n:], vocabulary) for n in range(len(word) - 2, 2, -1))


def _body_part(text: str) -> str:
    known = (
        _LEVEL.fullmatch(word.upper()) or (len(word) <= 32 and _made_of(word, words("body_parts")))
        for word in re.findall(r"[^\W_]+", text.casefold())
    )
    return text if all(known) else ""


def _of_words(*vocabularies: str, most_digits: int) -> Callable[[str], str]:
    """Keeps texts of known words and of numbers that are too short to be anybody's."""

    def keep(text: str) -> str:
        numbers = _DIGITS.findall(text)
        short = all(len(number) <= most_digits for number in numbers) and len("".join(numbers)) <= 12
        known = short and all(
            any(word in words(vocabulary) for vocabulary in vocabularies)
            for word in _LETTERS.findall(text.casefold())
        )
        return text if known else ""

    return keep


def _units(text: str) -> str:
    return text if text.casefold().replace(" ", "") in words("units") else ""


@cache
def _coded_terms() -> dict[int, frozenset[str]]:
    """The terms of each attribute that has a list of them."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    for line in words("coded_terms"):
        tag, term = line.split(" ", 1)
        found[int(tag, 16)].add(term)
    return {tag: frozenset(terms) for tag, terms in found.items()}


@cache
def _rules() -> dict[int, Callable[[str], str]]:
    return {
        **{tag: _single_terms(terms) for tag, terms in _coded_terms().items()},
        **{tag: _of_form(form) for tag, form in _FORMS.items()},
        0x00180015: _body_part,  # BodyPartExamined
        0x00180010: _of_words("contrast_agents", most_digits=3),  # ContrastBolusAgent
        t.RADIOPHARMACEUTICAL: _of_words("tracers", "nuclides", most_digits=5),
        0x00281054: _units,  # RescaleType
    }


FREE = frozenset({t.MANUFACTURER, t.MODEL_NAME, 0x00180024, t.KERNEL})
"""What is allowed by default and has no list: names of vendor, model and sequence, the kernel."""


@cache
def free_text_columns() -> frozenset[str]:
    """Columns whose texts have no list, vocabulary or form, of those by default and of what may be added."""
    kept = [(column, tag, kind) for column, (tag, kind) in t.ATTRIBUTES.items()]
    kept += [(column, tag, kind) for column, tag, kind in t.OPTIONAL_ATTRIBUTES.values()]
    return frozenset(column for column, tag, kind in kept if kind is str and tag not in _rules())


@lru_cache(maxsize=4096)
def in_terms(tag: int, text: str) -> str:
    """The text of an attribute as far as its list, vocabulary or form has it; "" where nothing of it has.

    Of several values of one attribute those on its list are kept. Attributes without a rule pass as they are.
    """
    rule = _rules().get(tag)
    return text if rule is None else rule(text)


def sidecar_in_terms(tag: int, text: str) -> str:
    """As `in_terms`, for a text of a BIDS sidecar: values are joined by `_`, units have other names."""
    if tag == t.UNITS:
        return _units(text) or in_terms(tag, text)
    terms = _coded_terms().get(tag)
    if terms is None:
        return in_terms(tag, text)
    values = re.split(r"[\\_]", text.upper())
    return text if all(value in terms for value in values) else ""
