"""Who a series belongs to and how its volume is called: pure functions of what the series says of itself.

A volume's id depends on its own series alone, never on what else is in the store: two arrivals that are
ingested at the same time can't give one id to two volumes, and the same series always finds its own row.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from radiobject_assets.dataset.subject_section import SubjectsConfig
from radiobject_assets.errors import IngestError
from radiobject_assets.imaging.files.path_text import path_text
from radiobject_assets.imaging.release.deidentification import PSEUDONYM
from radiobject_assets.imaging.series.record import Series
from radiobject_assets.ingest.dataset_release import subject_in_file_name

_UNSAFE = re.compile(r"[^\w.-]+", re.UNICODE)


def token(text: str, digits: int = 8) -> str:
    """A short hexadecimal digest of `text`, the same everywhere and for ever."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()[:digits]


def subject_id_of(series: Series, subjects: SubjectsConfig) -> str:
    """The subject of a series.

    DICOM: PatientID (0010,0020), or `study-<digest>` of the StudyInstanceUID where it is absent or where
    `subjects.key` is `study`. NIfTI: the group `subject` of `subjects.file_name`, matched on the file's name.
    With `subjects.key` `pseudonym`, what the release made of these.

    Raises
    ------
    IngestError
        `subjects.key` is `pseudonym`, and the series was not released (`ingest.dataset_release`).
    """
    if subjects.key == "pseudonym":
        return _pseudonym_of(series)
    if series.study_uid or series.patient_id:
        patient_id = unicodedata.normalize("NFC", (series.patient_id or "").strip())
        if subjects.key == "patient_id" and patient_id:
            return patient_id
        return f"study-{token(series.study_uid or series.key, 10)}"
    name = series.nifti.told_name if series.nifti is not None else series.files[0].name
    found = subject_in_file_name(path_text(name), subjects)
    return found or f"file-{token(series.key, 10)}"


def _pseudonym_of(series: Series) -> str:
    known = series.nifti.subject if series.nifti is not None else series.patient_id
    if known is None and series.study_uid.startswith("2.25."):
        return f"study-{token(series.study_uid, 10)}"
    if known is None or not PSEUDONYM.fullmatch(known):
        raise IngestError("pseudonyms are asked for, but the scan still has identifiers; release it first")
    return known


def volume_key(series: Series, arrival: str) -> str:
    """What makes a volume this one and no other: its series UID and component, or its file's place."""
    if series.series_uid:
        return series.key
    # two NIfTI drops may use one file name for two images: the arrival, or the folder, tells them apart
    nifti = series.nifti
    place = nifti.place if nifti is not None else ""
    part = f"/{series.component}" if series.component else ""
    path = series.files[0] if nifti is None else nifti.path
    return f"{arrival}:{series.key}" if arrival else (place or path_text(path.resolve())) + part


def obs_id_of(subject_id: str, collection: str, key: str) -> str:
    """`<subject>_<collection>_<8 hex digits of the volume's key>`, safe as a file name."""
    return f"{_UNSAFE.sub('-', subject_id)}_{collection}_{token(key)}"
