"""What a data set lets out of the DICOM world, and the secret that its pseudonyms are made with."""

from __future__ import annotations

import os
import re
import unicodedata

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.dataset.subject_section import SubjectsConfig
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.imaging.files.volume_names import without_ending
from radiobject_assets.imaging.release.deidentification import Release

MIN_SECRET_LETTERS = 16


def release_of(dataset: DatasetSettings) -> Release:
    """The release that `dataset.yaml` describes; a scan must go through it before anything is made of it.

    Raises
    ------
    ConfigurationError
        `subjects.key` is `pseudonym`, and the environment has no secret or one that is too short.
    """
    keywords = frozenset(dataset.attributes)
    subjects = dataset.subjects
    if subjects.key != "pseudonym":
        return Release(keywords)
    secret = os.environ.get(subjects.secret_env, "").strip()
    if len(secret) < MIN_SECRET_LETTERS:
        problem = f"has only {len(secret)} characters" if secret else "is not set"
        raise ConfigurationError(
            f"subjects.key is `pseudonym`, but the environment variable {subjects.secret_env} {problem}; set "
            f"it to a secret of {MIN_SECRET_LETTERS} characters or more, the same for every arrival"
        )
    return Release(keywords, secret.encode("utf-8"), lambda name: subject_in_file_name(name, subjects))


def subject_in_file_name(name: str, subjects: SubjectsConfig) -> str:
    """The subject that a NIfTI file tells (`subjects.file_name`), "" if none; `name` is its relative path."""
    found = re.search(subjects.file_name, name if "/" in subjects.file_name else name.rpartition("/")[2])
    if not found or not found.group("subject"):
        return ""
    return unicodedata.normalize("NFC", without_ending(found.group("subject").removesuffix(".gz")))
