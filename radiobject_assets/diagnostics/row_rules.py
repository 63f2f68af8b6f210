"""Rules over single rows of the inventory: required fields, series in time, versions, identifiers.

They read rows and names, and no file of an array.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from radiobject_assets import __version__
from radiobject_assets.diagnostics import damage_kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.diagnostics.integrity_rules import about_volume

ROW_COLUMNS = ("writer_version", "fourth_axis", "fourth_axis_values", "modality")
"""Columns beside those of the inventory that these rules look at."""

# A step so much longer than the usual one has room for a point that is not there.
_GAP = 1.5
_FEW_POINTS = 4

# DICOM attributes that name a person or lead to one (PS3.15 table E.1-1, those that are identifiers by
# themselves), as columns are called after them.
_IDENTIFYING = frozenset(
    {
        "accessionnumber", "countryofresidence", "ethnicgroup", "institutionaddress", "institutionname",
        "medicalrecordlocator", "militaryrank", "operatorsname", "otherpatientids", "otherpatientnames",
        "patientaddress", "patientbirthdate", "patientid", "patientmothersbirthname", "patientname",
        "patienttelephonenumbers", "performingphysicianname", "physiciansofrecord",
        "referringphysicianname", "socialsecuritynumber", "stationname",
    }
)  # fmt: skip


def fields_are_valid(rows: pd.DataFrame) -> Report:
    """Every row says whose and what its volume is, how large, of which type, and what its values mean."""
    findings = [
        about_volume(damage_kinds.FIELD_INVALID, row, "; ".join(wrong))
        for row in rows.itertuples(index=False)
        if (wrong := list(_wrong_fields(row)))
    ]
    return Report(len(rows), "volumes", tuple(findings))


def _wrong_fields(row: Any) -> Iterator[str]:
    for name in ("obs_subject_id", "obs_id", "volume", "dtype", "voxel_digest"):
        if not _text(getattr(row, name, None)):
            yield f"`{name}` is missing"
    if _text(row.kind) and row.kind not in ("image", "labels"):
        yield "`kind` is neither image nor labels"
    if _text(row.dtype):
        try:
            np.dtype(row.dtype)
        except TypeError:
            yield "`dtype` is no data type"
    ndim = _number(row.ndim)
    sizes = [_number(getattr(row, f"size_{axis}")) for axis in "xyzt"[: 4 if ndim == 4 else 3]]
    if ndim not in (3, 4) or not all(size is not None and size >= 1 for size in sizes):
        yield "its sizes are not those of a volume"
    slope, intercept = _number(row.slope), _number(row.intercept)
    if slope is None or slope == 0 or intercept is None:
        yield "its rescale (slope, intercept) is missing or 0"
    if row.kind == "labels" and _text(row.labels_of_collection) and not _text(row.labels_of):
        yield "labels that do not name their image"


def sequences_are_whole(rows: pd.DataFrame) -> Report:
    """Series in time have a value for each point, in order and without a gap."""
    series = rows[rows["ndim"] == 4] if len(rows) else rows
    findings = []
    for row in series.itertuples(index=False):
        text = getattr(row, "fourth_axis_values", None)
        values = _list(text)
        if not _text(text) or values is None:
            continue
        points = int(str(row.size_t))
        if len(values) != points:
            evidence = f"{points} points are stored and {len(values)} are named"
        else:
            evidence = _gap(values) if getattr(row, "fourth_axis", None) == "time" else ""
        if evidence:
            findings.append(about_volume(damage_kinds.SEQUENCE_GAP, row, evidence))
    return Report(len(series), "4D series", tuple(findings))


def _gap(values: Sequence[Any]) -> str:
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return "its times are no numbers"
    steps = [later - earlier for earlier, later in pairwise(values)]
    if any(step <= 0 for step in steps):
        return "its times are not in order"
    if len(values) < _FEW_POINTS:
        return ""
    usual = median(steps)
    # phases that are acquired slower and slower have long steps that are no gaps: one step is, among equals
    equal = [step for step in steps if abs(step - usual) <= 0.1 * usual]
    gaps = [step for step in steps if step > _GAP * usual]
    if gaps and len(equal) + len(gaps) == len(steps) and len(gaps) < len(equal):
        return f"{len(gaps)} steps of {max(gaps):.3g} s among steps of {usual:.3g} s"
    return ""


def written_by_known_versions(rows: pd.DataFrame) -> Report:
    """No volume was written by a version of this package that is newer than the one that reads it."""
    if "writer_version" not in rows:
        return Report(len(rows), "volumes")
    own = _version(__version__)
    versions = rows["writer_version"].dropna().astype(str)
    newer = {version for version in versions.unique() if _version(version) > own}
    of_newer = rows.loc[versions.index[versions.isin(newer)]]
    findings = []
    for name, group in of_newer.groupby("collection"):
        by = ", ".join(sorted(set(group["writer_version"])))
        evidence = f"{len(group)} written by {by}; this is {__version__}"
        about = f"volumes of {name}"
        findings.append(Finding(damage_kinds.VERSION_SKEW, about, evidence, collection=str(name)))
    return Report(len(rows), "volumes", tuple(findings))


def columns_name_nobody(tables: Mapping[str, pd.DataFrame]) -> Report:
    """No table has a column that is called after an identifying attribute of DICOM, with values in it.

    Parameters
    ----------
    tables
        By what they are of: the name of a collection, or `subjects`.
    """
    findings = []
    for name, table in tables.items():
        for column in table.columns:
            plain = re.sub(r"[^a-z]", "", str(column).lower())
            if plain not in _IDENTIFYING:
                continue
            filled = int(table[column].map(_text).astype(bool).sum())
            if filled:
                findings.append(
                    Finding(
                        damage_kinds.IDENTIFIERS,
                        f"column {column} of {name}",
                        f"{filled} rows have a value",
                        collection=name,
                        where=str(column),
                    )
                )
    return Report(len(tables), "tables", tuple(findings))


def subjects_are_pseudonyms(subjects: Iterable[str], pseudonym: re.Pattern[str]) -> Report:
    """In a store of pseudonyms nobody has another name."""
    ids = list(subjects)
    named = [one for one in ids if not pseudonym.fullmatch(one)]
    findings = (
        (Finding(damage_kinds.IDENTIFIERS, "subjects", f"{len(named)} of {len(ids)} are no pseudonyms"),)
        if named
        else ()
    )
    return Report(len(ids), "subjects", findings)


def names_tell_nobody(names: Mapping[str, str], subjects: Iterable[str]) -> Report:
    """No file, snapshot or collection is called after a subject.

    Parameters
    ----------
    names
        What each is called, by what it is (`snapshot`, `picture`): a name may be a path.
    subjects
        Ids; those of fewer than four characters would be found by chance.
    """
    ids = {one for one in subjects if len(one) >= 4 and not one.isdigit()}
    findings = []
    for name, what in names.items():
        if any(part in ids for part in _parts(name)):
            about = f"{what} {name_token(name)}"
            findings.append(
                Finding(damage_kinds.IDENTIFIERS, about, "its name has a subject's id", where=name)
            )
    return Report(len(names), "names", tuple(findings))


def name_token(name: str) -> str:
    """Ten digits that tell a name from others without telling it."""
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=5).hexdigest()


def _parts(name: str) -> Iterator[str]:
    for part in name.split("/"):
        yield part
        yield part.partition(".")[0]
        yield from re.split(r"[ _.]+", part)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None or value != value else str(value)


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float | np.number) or not math.isfinite(float(value)):
        return None
    return float(value)


def _list(text: Any) -> list[Any] | None:
    try:
        found = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if isinstance(found, list) else None
