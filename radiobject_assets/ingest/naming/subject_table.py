"""The subjects' own table (`participants.tsv`): read, checked, typed. It becomes obs_meta."""

from __future__ import annotations

import csv
import fnmatch
import io
import os
import re
import warnings
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from radiobject_assets.dataset.subject_section import ColumnKind, SubjectsConfig
from radiobject_assets.errors import IngestError
from radiobject_assets.imaging.files.archives import split_member
from radiobject_assets.imaging.files.unpacked_members import read_member
from radiobject_assets.imaging.release.deidentification import Release
from radiobject_assets.store import TileDBContext, ctx_for_threads, ensure_subjects, upsert_subjects

if TYPE_CHECKING:
    import pandas as pd

# Words in the heading of a column that would carry direct identifiers or free text into the store.
_IDENTIFYING = frozenset(
    """surname firstname lastname forename patientname initials birthdate birthday dob address street zip
    postcode phone telephone mobile fax email mail mrn ssn nhs passport insurance accession comment comments
    note notes remark remarks physician doctor contact""".split()  # noqa: SIM905 - no better one a line
)
_OF_NO_PERSON = frozenset(
    {"site", "scanner", "group", "task", "protocol", "device", "cohort", "drug", "coil"}
)
_OF_BIRTH = frozenset({"date", "day", "month", "place", "name", "time"})
_MAX_TABLE_BYTES = 256 << 20
_WORD = re.compile(r"[^\W_]+")
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)((?:[T ][0-9:.+Z-]*)?)")

_SAVE_AGAIN = "Save it as text: a line of headings, then one for each subject, with tabs (.tsv) or commas."


def find_subject_tables(folder: Path, subjects: SubjectsConfig) -> tuple[Path, ...]:
    """Files below `folder` that are named as `subjects.table` says, in order of path."""
    return subject_tables_among(
        (Path(place, name) for place, _, names in os.walk(folder) for name in names), subjects
    )


def subject_tables_among(paths: Iterable[Path], subjects: SubjectsConfig) -> tuple[Path, ...]:
    """Those of `paths` that are files named as `subjects.table` says (a name or a pattern), in order.

    Members of archives (`archives.split_member`) are files too.
    """
    named = (path for path in paths if fnmatch.fnmatchcase(path.name, subjects.table))
    return tuple(sorted(path for path in named if path.is_file() or split_member(path) is not None))


@dataclass(frozen=True)
class SubjectTable:
    """What subjects' tables say, as far as it may be known."""

    rows: pd.DataFrame
    """The column `obs_subject_id`, and those that were taken."""
    left_out: tuple[str, ...] = ()
    """Headings of the columns that were not taken. A heading may name somebody."""
    emptied: int = 0
    """Cells that did not hold what `subjects.columns` says."""

    @property
    def told(self) -> str:
        """What was left out, without a heading; "" where nothing was."""
        parts = []
        if self.left_out:
            parts.append(
                f"{len(self.left_out)} columns of the subjects' table are left out: name those that may be "
                "known in `subjects.columns` of dataset.yaml"
            )
        if self.emptied:
            parts.append(
                f"{self.emptied} cells of the subjects' table are empty here: they don't hold what "
                "`subjects.columns` says"
            )
        return "; ".join(parts)


def read_subject_tables(
    paths: Iterable[Path],
    subjects: SubjectsConfig,
    release: Release,
    refused: Callable[[str], bool] = lambda subject_id: False,
) -> SubjectTable:
    """Read subjects' tables into one with the column `obs_subject_id` and the columns that may be taken.

    Empty cells and BIDS's `n/a` are missing values. Taken is what `subjects.columns` names; where it names
    nothing and there are no pseudonyms, all but columns whose headings speak of direct identifiers (names,
    birth dates, addresses, record numbers) or free text. `release` is that of the data set
    (`ingest.dataset_release`): with pseudonyms the subjects get theirs, dates move as those of their images
    do, and cells that repeat the subject's own id are emptied.

    Parameters
    ----------
    refused
        Which subjects, by their ids outside, get no row (`ingest.refused`).

    Raises
    ------
    IngestError
        A table can't be parsed, lacks `subjects.id_column`, or names a subject twice with different values.
    """
    import pandas as pd  # 0.2 s, which sources without a table do without

    tables = [_read_one(path, subjects, release) for path in paths]
    if not tables:
        return SubjectTable(pd.DataFrame({"obs_subject_id": pd.Series(dtype="str")}))
    released = [_released(table.rows, release) for table in tables]
    merged = pd.concat(released, ignore_index=True).drop_duplicates(ignore_index=True)
    merged = merged[~merged["obs_subject_id"].map(refused).astype(bool)].reset_index(drop=True)
    repeated = merged["obs_subject_id"].duplicated()
    if repeated.any():
        raise IngestError(
            f"{subjects.table}: {int(repeated.sum())} subject(s) are listed more than once with different"
            " values; keep one row for each",
            public=f"the table of subjects lists {int(repeated.sum())} of them more than once, with "
            "different values",
            advice=f"Keep one row for each in the arrival's {subjects.table}; it is then taken in again.",
        )
    left_out = dict.fromkeys(heading for table in tables for heading in table.left_out)
    return SubjectTable(merged, tuple(left_out), sum(table.emptied for table in tables))


def write_subjects(
    store_uri: str, imaged: Iterable[str], table: pd.DataFrame, ctx: TileDBContext | None = None
) -> None:
    """Give subjects their rows in obs_meta: what a table says, and nothing for those that it doesn't list.

    Parameters
    ----------
    imaged
        Subjects that have images. What an earlier table said of them stays.
    table
        The rows of `read_subject_tables`.
    """
    described = set(table["obs_subject_id"])
    ensure_subjects(store_uri, sorted(set(imaged) - described), ctx_for_threads(ctx))
    if described:
        upsert_subjects(store_uri, table, ctx=ctx)


def in_turn(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame]:
    """Tables of several arrivals as few that are written one after the other, with the same result.

    Those that lie together have the same columns and nobody twice: so no cell that only one of them has is
    emptied, and of who is in several the last one counts.
    """
    import pandas as pd

    parts: list[list[pd.DataFrame]] = []
    for table in tables:
        there = parts[-1] if parts else []
        if (
            there
            and list(there[0].columns) == list(table.columns)
            and not any(set(one["obs_subject_id"]) & set(table["obs_subject_id"]) for one in there)
        ):
            there.append(table)
        else:
            parts.append([table])
    return [pd.concat(part, ignore_index=True) for part in parts]


def _read_one(path: Path, subjects: SubjectsConfig, release: Release) -> SubjectTable:
    import pandas as pd

    try:
        table = _cells(path, subjects.id_column)
    except (
        OSError, UnicodeError, OverflowError, pd.errors.ParserError, pd.errors.EmptyDataError,
    ) as error:  # fmt: skip
        raise IngestError(
            f"{path}: can't be read as a table of subjects: {error}",
            public=f"the table of subjects can't be read ({type(error).__name__})",
            advice=_SAVE_AGAIN,
        ) from error
    except pd.errors.ParserWarning as error:
        raise IngestError(
            f"{path}: its rows have more cells than there are headings",
            public="rows of the table of subjects have more cells than there are headings",
            advice=_SAVE_AGAIN,
        ) from error
    if "obs_subject_id" in table.columns and subjects.id_column != "obs_subject_id":
        raise IngestError(
            f"{path}: has a column `obs_subject_id`, which is the store's own; rename it",
            public="the table of subjects has a column `obs_subject_id`, which is the store's own",
            advice="Rename that column.",
        )
    if subjects.id_column not in table.columns:
        # a heading may be a patient's name, where the first line is none of headings
        has = "others" if release.key is not None else ", ".join(map(str, table.columns))
        raise IngestError(
            f"{path}: has no column {subjects.id_column!r}; it has {has}."
            " Set `subjects.id_column` in dataset.yaml",
            public=f"the table of subjects has no column {subjects.id_column!r}",
            advice="Set `subjects.id_column` in dataset.yaml to the column that holds the subject's id.",
        )
    if table[subjects.id_column].isna().any():
        raise IngestError(
            f"{path}: {subjects.id_column} is empty in some rows",
            public=f"in the table of subjects {subjects.id_column} is empty in some rows",
            advice="Give each row its subject's id, or delete it.",
        )
    columns = [str(c) for c in table.columns if c != subjects.id_column]
    if subjects.columns is not None:
        taken = [c for c in columns if c in subjects.columns]
    elif release.key is not None:
        taken = []  # in no language does a list of words say which headings identify
    else:
        taken = [c for c in columns if not _identifies(c)]
    left_out = tuple(c for c in columns if c not in taken)
    table = table[[subjects.id_column, *taken]].rename(columns={subjects.id_column: "obs_subject_id"})
    table["obs_subject_id"] = table["obs_subject_id"].str.strip().str.normalize("NFC")
    before = int(table.notna().to_numpy().sum())
    if isinstance(subjects.columns, dict):
        for name in taken:
            table[name] = _of_kind(table[name], subjects.columns[name])
    return SubjectTable(table, left_out, before - int(table.notna().to_numpy().sum()))


def _of_kind(values: pd.Series, kind: ColumnKind) -> pd.Series:
    """The cells that hold what was asked for; others are empty."""
    import pandas as pd

    if kind == "number":
        return pd.to_numeric(values, errors="coerce")
    if kind == "text":
        return values
    texts = values.astype("str").str.strip()
    fits = texts.str.fullmatch(_DATE.pattern) if kind == "date" else texts.isin([str(one) for one in kind])
    return values.where(fits)


def _cells(path: Path, id_column: str) -> pd.DataFrame:
    """A table as it is in its file: UTF-8, or the UTF-16 of spreadsheets, which their mark tells."""
    import pandas as pd

    max_bytes = _MAX_TABLE_BYTES
    content = path.read_bytes() if split_member(path) is None else read_member(path, max_bytes)
    text = content.decode("utf-16" if content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) else "utf-8-sig")
    separator = _separator(text) if path.suffix.lower() == ".csv" else "\t"

    def read(quoting: Literal[0, 3]) -> pd.DataFrame:
        # a row with more cells than headings would move its neighbours' cells under other headings
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            return pd.read_csv(
                io.StringIO(text),
                sep=separator,
                dtype=dict.fromkeys((id_column, f" {id_column}", f"{id_column} "), str),
                keep_default_na=False,
                na_values=["", "n/a", "N/A"],
                index_col=False,
                quoting=quoting,
            )

    table = read(csv.QUOTE_MINIMAL)
    texts = table.select_dtypes(include=["object", "string"])
    if any(column.astype("str").str.contains(r"[\r\n]").any() for _, column in texts.items()):
        table = read(csv.QUOTE_NONE)  # one quotation mark, left open, has swallowed rows
    table.columns = table.columns.astype("str").str.strip()
    for heading in [name for name in table.columns if table[name].dtype == object]:
        # numbers beyond 64 bits, and truth beside nothing: as they were written
        table[heading] = table[heading].map(str, na_action="ignore")
    return table


def _separator(text: str) -> str:
    """What parts the cells of a `.csv`: commas, or semicolons, as spreadsheets write with decimal commas."""
    headings = text.partition("\n")[0]
    return ";" if headings.count(";") > headings.count(",") else ","


def _words_of(heading: str) -> frozenset[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", heading)
    return frozenset(word.casefold() for word in _WORD.findall(apart))


def _identifies(heading: str) -> bool:
    words = _words_of(heading)
    if not _IDENTIFYING.isdisjoint(words):
        return True
    if "birth" in words and (len(words) == 1 or not _OF_BIRTH.isdisjoint(words)):
        return True
    return not words.isdisjoint({"name", "names"}) and words.isdisjoint(_OF_NO_PERSON)


def _released(table: pd.DataFrame, release: Release) -> pd.DataFrame:
    if release.key is None:
        return table
    import pandas as pd

    own = table["obs_subject_id"]
    outside = own.map(release.subject)
    released = {"obs_subject_id": outside}
    for column in table.columns:
        if column == "obs_subject_id":
            continue
        values = table[column]
        if values.dtype.kind not in "biufc":
            cells = zip(values, own, outside, strict=True)
            values = pd.Series(
                [_released_cell(value, subject, name, release) for value, subject, name in cells],
                index=values.index,
                dtype="object",
            )
        released[str(column)] = values
    return pd.DataFrame(released)


def _released_cell(value: object, own: str, outside: str, release: Release) -> object:
    if not isinstance(value, str):
        return value
    bare = own.removeprefix("sub-")
    if own in value or (len(bare) >= 3 and bare in value):
        return None
    if found := _DATE.fullmatch(value.strip()):
        moved = release.date("".join(found.group(1, 2, 3)), outside)
        return f"{moved[:4]}-{moved[4:6]}-{moved[6:]}{found.group(4)}" if moved else None
    return value
