"""Does a text say who somebody is? Patterns of names, dates and numbers; what was found is never repeated.

A surname alone is like any other word, so that this finds what has a form (`Doe^John`, a given name beside
another word, a date, an e-mail address, a record number) and what a header of the same folder calls a name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import date
from functools import cache
from itertools import pairwise

from radiobject_assets.imaging.words import words

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")
_SSN = re.compile(r"(?<![\d.-])\d{3}-\d{2}-\d{4}(?![\d.-])")
_RECORD = re.compile(
    r"(?i)(?<![a-z])(?:mrn|patid|pat[-_ ]?id|patient[-_ ]?(?:id|no|nr|number)|"
    r"hosp(?:ital)?[-_ ]?(?:id|no|nr))"
    r"[-_ :#=]*\d{5,}"
)
_CARET = re.compile(r"[^\W\d_]{2,}\^[^\W\d_]{2,}")
_BORN = re.compile(r"(?i)(?<![a-z])(?:dob|born|birth[-_ ]?date|geb)[-_ :=]*\d{1,4}[-./]?\d{1,2}[-./]?\d{1,4}")
_DATE = re.compile(
    r"(?<![\d.])(?:(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
    r"|(?:0[1-9]|[12]\d|3[01])[-_.](?:0[1-9]|1[0-2])[-_.](?:19|20)\d\d)(?!\d)"
)
_UID = re.compile(r"[0-9]+(?:\.[0-9]+){4,}")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|[^\W\d_]+")
_PARTS = re.compile(r"[\s^,=]+")
_VOCABULARIES = ("device_words", "image_words", "structure_words", "body_parts", "everyday_words", "units")
# What is written where there is no name.
_PLACEHOLDERS = frozenset({"anon", "anonymous", "anonymized", "anonymised", "nobody", "unknown"})
_PHANTOMS = frozenset({"phantom", "phantoms", "qa", "qc"})
_NAMES_OF_HEADERS = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "OtherPatientIDs",
    "PatientAddress", "PatientTelephoneNumbers",
)  # fmt: skip


def identifying(text: str, header_names: Collection[str] = (), *, dates: bool = True) -> tuple[str, ...]:
    """What a text seems to say of a person, in words; empty where nothing.

    Parameters
    ----------
    header_names
        Words of patients' names that are known, in small letters.
    dates
        Whether a date alone counts (in names of files; programs write dates of their own into headers).
    """
    plain = _UID.sub(" ", text)
    found = []
    if _CARET.search(plain) or _full_name(plain, header_names):
        found.append("a person's name")
    if _BORN.search(plain):
        found.append("a date of birth")
    elif dates and _DATE.search(plain):
        found.append("a date")
    if _EMAIL.search(plain):
        found.append("an e-mail address")
    if _RECORD.search(plain) or _SSN.search(plain):
        found.append("a patient's number")
    return tuple(found)


def _full_name(text: str, header_names: Collection[str]) -> bool:
    """A word of a known name, or a given name beside a word that no vocabulary has."""
    said = [word.casefold() for word in _WORD.findall(text)]
    if not header_names and _is_placeholder(said):
        return False
    if any(word in header_names for word in said):
        return True
    given = words("given_names")
    for one, other in pairwise(said):
        for name, beside in ((one, other), (other, one)):
            if name in given and len(beside) > 2 and (beside in given or not is_known_word(beside)):
                return True
    return False


def is_known_word(word: str) -> bool:
    """Whether a word (in small letters) is one of the field or of everyday, and names nobody."""
    known = _known_words()
    return word in known or word.removesuffix("s") in known


@cache
def _known_words() -> frozenset[str]:
    return frozenset[str]().union(*map(words, _VOCABULARIES))


def words_of_name(name: str) -> frozenset[str]:
    """The words of a person's name that may be looked for elsewhere; empty where it is a placeholder."""
    if not tells_name(name):
        return frozenset()
    found = {word.casefold() for word in _WORD.findall(name.replace("^", " "))}
    return frozenset(word for word in found if len(word) > 3 and not is_known_word(word))


def tells_name(name: str, patient_id: str = "") -> bool:
    """Whether a PatientName is somebody's: no code, no placeholder, no words of the field.

    Parts with a digit are codes (`TR-01`, `subject7`); what else is there may be a name all the same.
    """
    plain = name.strip(" ^=")
    if not plain or plain == patient_id.strip():
        return False
    parts = [part for part in _PARTS.split(plain) if len(part) > 1 and not any(map(str.isdigit, part))]
    said = [word.casefold() for part in parts for word in _WORD.findall(part)]
    if not said or _is_placeholder(said):
        return False
    return not all(len(word) < 2 or is_known_word(word) for word in said)


def _is_placeholder(said: Collection[str]) -> bool:
    is_doe = "doe" in said and not {"john", "jane", "baby"}.isdisjoint(said)
    return is_doe or not _PLACEHOLDERS.isdisjoint(said)


def telling_attributes(values: Mapping[str, str]) -> tuple[str, ...]:
    """Keywords of a DICOM header (or a sidecar made of one) whose values say who was examined.

    Parameters
    ----------
    values
        Texts by keyword; `StudyDate` and the like are compared with the date of birth, which tools that
        de-identify replace by them.
    """
    patient_id = values.get("PatientID", "")
    found = [
        keyword
        for keyword in _NAMES_OF_HEADERS
        if tells_name(values.get(keyword, ""), patient_id)
        or (
            keyword in ("PatientTelephoneNumbers", "OtherPatientIDs", "PatientAddress")
            and any(letter.isdigit() for letter in values.get(keyword, ""))
            and values[keyword] != patient_id
        )
    ]
    others = {value.replace("-", "")[:8] for key, value in values.items() if key != "PatientBirthDate"}
    born = values.get("PatientBirthDate", "").replace("-", "")
    is_phantom = not _PHANTOMS.isdisjoint(values.get("PatientName", "").casefold().split())
    if _is_birthday(born) and born not in others and not is_phantom:
        found.append("PatientBirthDate")
    if "PatientID" in values and identifying(patient_id, dates=False):
        found.append("PatientID")
    return tuple(found)


def _is_birthday(text: str) -> bool:
    """A whole date that is not the first of January, which stands for the year alone."""
    try:
        born = date(int(text[:4]), int(text[4:6]), int(text[6:8])) if len(text) == 8 else None
    except ValueError:
        return False
    return born is not None and (born.month, born.day) != (1, 1) and born.year > 1900
