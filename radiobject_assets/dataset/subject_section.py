"""`subjects` of dataset.yaml: who a volume belongs to."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from radiobject_assets.dataset.section import Section, compiled

# What a cell may hold: a number, a date, any text, or one of some values.
ColumnKind = Literal["number", "date", "text"] | Annotated[list[str | int | float], Field(min_length=1)]


class SubjectsConfig(Section):
    """Who a volume belongs to, and where the subjects' own table is."""

    key: Literal["patient_id", "study", "pseudonym"] = "patient_id"
    """`patient_id`: DICOM PatientID as it is (it must already be a research id); `study`: a digest of the
    StudyInstanceUID; `pseudonym`: a keyed digest of the PatientID, with UIDs and dates changed as well."""
    issuer: Literal["hold_back", "ignore"] = "hold_back"
    """One PatientID from two issuers (IssuerOfPatientID) may be two patients: `hold_back` quarantines what
    would merge them, `ignore` takes them for one."""
    secret_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = "RADIOBJECT_PSEUDONYM_KEY"
    """For `pseudonym`: the environment variable that holds the secret; the secret itself is never written."""
    table: Annotated[str, Field(pattern=r"^[^/\\]+$")] = "participants.tsv"
    """File name of the subjects' table, looked for in each arrival (`.csv` with commas or semicolons,
    else tabs)."""
    id_column: str = "participant_id"
    """Column of the table that holds the subject's id."""
    columns: list[str] | dict[str, ColumnKind] | None = None
    """Columns of the table that obs_meta gets, by their headings: `[age, sex]`, or with what a cell may hold:
    `{age: number, sex: [F, M], seen: date, arm: text}`. Other columns are left out and counted, cells that
    hold something else are emptied and counted. Without it all columns are taken whose (English) headings
    don't say that they identify, and with pseudonyms none."""
    refuse_forgotten: bool = True
    """Whether somebody who was forgotten (`radiobject-assets forget`) is kept out when files of theirs come
    again."""
    file_name: str = r"^(?P<subject>[^_]+)"
    """Regular expression that finds `subject` in a NIfTI file's name; with a `/`, in its path below the
    folder that is taken in: `^(?P<subject>[^/]+)/` for a folder of each subject."""

    @field_validator("file_name")
    @classmethod
    def _names_the_subject(cls, value: str) -> str:
        if "subject" not in re.compile(compiled(value)).groupindex:
            raise ValueError("needs a group named `subject`, as in `(?P<subject>sub-[0-9]+)`")
        return value
