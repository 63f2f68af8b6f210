"""The subjects' own table (`participants.tsv`): read, checked, typed. It becomes obs_meta."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from radiobject_assets.dataset import SubjectsConfig
from radiobject_assets.errors import IngestError

# Columns of a subjects' table that would carry direct identifiers into the store.
_DIRECT_IDENTIFIERS = frozenset(
    {"name", "patient_name", "patientname", "first_name", "last_name", "surname", "birth_date", "birthdate"}
    | {"date_of_birth", "dob", "address", "phone", "telephone", "email", "mrn", "ssn", "insurance_number"}
)


def find_subject_tables(folder: Path, subjects: SubjectsConfig) -> tuple[Path, ...]:
    """Files below `folder` that are named as `subjects.table` says, in order of path."""
    return tuple(sorted(path for path in folder.rglob(subjects.table) if path.is_file()))


def read_subject_tables(paths: Iterable[Path], subjects: SubjectsConfig) -> pd.DataFrame:
    """Read subjects' tables into one with the column `obs_subject_id` and the tables' other columns.

    Empty cells and BIDS's `n/a` are missing values. Columns that hold direct identifiers (names, birth
    dates, addresses, record numbers) are left out.

    Raises
    ------
    IngestError
        A table can't be parsed, lacks `subjects.id_column`, or names a subject twice with different values.
    """
    tables = [_read_one(path, subjects) for path in paths]
    if not tables:
        return pd.DataFrame({"obs_subject_id": pd.Series(dtype="str")})
    merged = pd.concat(tables, ignore_index=True).drop_duplicates(ignore_index=True)
    repeated = merged["obs_subject_id"].duplicated()
    if repeated.any():
        raise IngestError(
            f"{subjects.table}: {int(repeated.sum())} subject(s) are listed more than once with different"
            " values; keep one row for each"
        )
    return merged


def _read_one(path: Path, subjects: SubjectsConfig) -> pd.DataFrame:
    separator = "," if path.suffix.lower() == ".csv" else "\t"
    try:
        table = pd.read_csv(
            path,
            sep=separator,
            dtype={subjects.id_column: str},
            keep_default_na=False,
            na_values=["", "n/a", "N/A"],
            encoding="utf-8-sig",
        )
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise IngestError(f"{path}: can't be read as a table of subjects: {error}") from error
    if subjects.id_column not in table.columns:
        raise IngestError(
            f"{path}: has no column {subjects.id_column!r}; it has {', '.join(map(str, table.columns))}."
            " Set `subjects.id_column` in dataset.yaml"
        )
    if table[subjects.id_column].isna().any():
        raise IngestError(f"{path}: {subjects.id_column} is empty in some rows")
    kept = [c for c in table.columns if str(c).strip().lower().replace(" ", "_") not in _DIRECT_IDENTIFIERS]
    table = table[kept].rename(columns={subjects.id_column: "obs_subject_id"})
    table["obs_subject_id"] = table["obs_subject_id"].str.strip()
    return table
