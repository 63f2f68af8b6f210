"""Where a person is in a data set: in the store, in the tables of arrivals, in the kept scans, and in studies
that have not become an arrival yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TypeVar

import pandas as pd

from radiobject_assets.archives.staged_files import staged_studies
from radiobject_assets.diagnostics.findings import shown_token
from radiobject_assets.errors import StorageError
from radiobject_assets.forgetting.documents import TORN, UnreadableTableError
from radiobject_assets.forgetting.traces import SUBJECT_KEYS, Traces
from radiobject_assets.imaging.scanning.scan import ScanResult
from radiobject_assets.ingest.dataset_release import release_of
from radiobject_assets.ingest.kept_scan import scan_again
from radiobject_assets.ingest.refused import files_of_subjects
from radiobject_assets.platform.arrivals.arrival_table import ArrivalRow, ArrivalTable
from radiobject_assets.resources import DatasetResource, StorageResource, WorkingTables
from radiobject_assets.store import MissingError, RadiObject, arrays_of_subjects, is_store, subjects_in_files

T = TypeVar("T")
_UNIQUE = ("series_uid", "study_uid", "series_token", "volume")
"""Columns whose values are a person's alone."""
_ID_COLUMNS = ("obs_id",)


@dataclass
class PersonFound:
    """What there is of a person."""

    traces: Traces
    arrivals: set[str] = field(default_factory=set)
    """Keys of the arrivals that they came with, of which something is kept."""
    files: dict[str, set[Path]] = field(default_factory=dict)
    """Their files in the landing zone, or in the copy of it, by arrival."""
    unread: dict[str, tuple[ScanResult, frozenset[Path]]] = field(default_factory=dict)
    """Of arrivals that are not taken in as they lie in the landing zone now: what is there, and what of it is
    theirs."""
    not_read: set[str] = field(default_factory=set)
    """Keys of such arrivals that could not be read: nobody knows whether the person is in them."""
    staged: dict[Path, set[Path]] = field(default_factory=dict)
    """Their files of studies from archives and senders that are not delivered yet, by landing zone."""
    collections: dict[str, set[str]] = field(default_factory=dict)
    """By arrival the collections that have a volume of theirs."""
    arrays: set[str] = field(default_factory=set)
    """Tokens of their arrays, in any state of the store."""
    n_volumes: int = 0
    n_rows: int = 0

    @property
    def came_with(self) -> set[str]:
        """Keys of all arrivals that have something of theirs, taken in or not."""
        return {*self.arrivals, *self.unread}

    @property
    def n_landing(self) -> int:
        """How many of their files lie in the landing zone."""
        unread = {path for _, files in self.unread.values() for path in files}
        return len(unread.union(*self.files.values()))

    @property
    def n_staged(self) -> int:
        """How many of their files are not delivered yet."""
        return sum(map(len, self.staged.values()))

    def know_arrays(self, tokens: Iterable[str]) -> None:
        """Note tokens of theirs: whole as tables have them, and as findings show them."""
        for token in tokens:
            self.arrays.add(token)
            self.traces.digests |= {token, shown_token(token)}


def look_for_person(
    dataset: DatasetResource, storage: StorageResource, is_theirs: Callable[[str], bool]
) -> PersonFound:
    """Find a person by a predicate of subjects' ids, wherever the store and the tables have them."""
    found = PersonFound(Traces(is_theirs))
    _in_store(dataset.config.store_uri, storage, found)
    tables = dataset.tables(storage)
    _in_tables(tables, found)
    _in_scans(dataset, tables, found)
    _in_unread(dataset, storage, found)
    _in_staged(dataset, found)
    return found


def _in_store(uri: str, storage: StorageResource, found: PersonFound) -> None:
    if not is_store(uri, storage.ctx):
        return
    traces = found.traces
    traces.subjects |= set(filter(traces.is_theirs, subjects_in_files(uri, storage.ctx)))
    found.know_arrays(arrays_of_subjects(uri, traces.subjects, storage.ctx))
    store = RadiObject(uri, ctx=storage.ctx)
    for name in store.collection_names:
        obs = store.collection(name).to_obs().reset_index()
        mine = obs[obs["obs_subject_id"].isin(traces.subjects)]
        found.n_volumes += len(mine)
        _take(mine, found, obs[~obs["obs_subject_id"].isin(traces.subjects)])
        for arrival in mine.get("arrival", pd.Series(dtype="str")).dropna():
            found.collections.setdefault(str(arrival), set()).add(name)
    found.arrivals |= {key for key in found.collections if key}
    found.n_rows = int(bool(traces.subjects))


def _in_tables(tables: WorkingTables, found: PersonFound) -> None:
    for name in tables.below("arrivals"):
        if not name.endswith(".parquet") or PurePosixPath(name).name == "scan.parquet":
            continue
        try:
            rows = _read(tables.frame, name)
        except MissingError:  # a run took it away meanwhile
            continue
        column = next((c for c in rows.columns if c in SUBJECT_KEYS), None)
        if column is None:
            continue
        mine = rows[rows[column].astype("str").map(found.traces.is_theirs)]
        if len(mine):
            found.traces.subjects |= set(mine[column].astype("str"))
            found.arrivals.add(PurePosixPath(name).parts[1])
            _take(mine, found, rows.drop(mine.index))
    if tables.has(tables.splits):
        ids = _read(tables.frame, tables.splits)["obs_subject_id"].astype("str")
        found.traces.subjects |= set(ids[ids.map(found.traces.is_theirs)])


def _read(read: Callable[[str], T], name: str) -> T:
    try:
        return read(name)
    except StorageError:
        raise
    except TORN:
        raise UnreadableTableError(name) from None


def _take(rows: pd.DataFrame, found: PersonFound, others: pd.DataFrame) -> None:
    """Note what names the person in their rows; what rows of others have as well names nobody."""
    for columns, into in ((_UNIQUE, found.traces.digests), (_ID_COLUMNS, found.traces.volumes)):
        for column in columns:
            if column in rows:
                theirs = {str(value) for value in rows[column].dropna() if str(value)}
                into |= theirs - set(others[column].dropna().astype("str"))


def _in_scans(dataset: DatasetResource, tables: WorkingTables, found: PersonFound) -> None:
    """Their files, and the UIDs of their instances; also where the newest scan was not judged yet."""
    config, traces = dataset.config, found.traces
    for name in tables.below("arrivals"):
        parts = PurePosixPath(name).parts
        if parts[-1] != "scan.parquet":
            continue
        key = parts[1]
        try:
            scan = ScanResult.from_table(_read(tables.arrow, name))
        except MissingError:
            continue
        files, series = files_of_subjects(scan, config, key, traces.is_theirs, traces.in_text)
        if not files:
            continue
        found.arrivals.add(key)
        found.files[key] = set(files)
        traces.subjects |= {planned.subject_id for planned in series}
        traces.volumes |= {planned.obs_id for planned in series if planned.obs_id}
        traces.digests |= {planned.series_token for planned in series}
        uids: dict[bool, set[str]] = {True: set(), False: set()}
        for i in scan.instances:
            uids[i.path in files] |= {i.sop_instance_uid, i.series_uid, i.study_uid} - {""}
        traces.digests |= uids[True] - uids[False]


def _in_unread(dataset: DatasetResource, storage: StorageResource, found: PersonFound) -> None:
    """Their files in arrivals of which no scan was kept, or that have changed since, as the last tick saw."""
    config, tables, landing = dataset.config, dataset.tables(storage), dataset.landing(storage)
    if landing.problem():
        if any(place.startswith("s3://") for place in config.landing_places):
            found.not_read.add("the whole landing zone")  # it may well be there
        return
    rows, release, traces = ArrivalTable(tables).rows, release_of(config), found.traces
    scanned = {
        PurePosixPath(name).parts[1] for name in tables.below("arrivals") if name.endswith("/scan.parquet")
    }
    listing = landing.listing()
    found.not_read |= set(listing.clashes)
    for arrival in listing.arrivals:
        row = rows.get(arrival.key, ArrivalRow())
        if arrival.key in scanned and row.is_achieved and not row.unsettled_since_s:
            continue
        try:
            with landing.fetched(arrival) as there:
                scan, _ = scan_again(there.place, release, None, "")
        except FileNotFoundError:  # it was taken away meanwhile
            continue
        except (OSError, StorageError):
            found.not_read.add(arrival.key)
            continue
        files, series = files_of_subjects(scan, config, arrival.key, traces.is_theirs, traces.in_text)
        if files:
            found.unread[arrival.key] = (scan, files)
            traces.subjects |= {planned.subject_id for planned in series}


def _in_staged(dataset: DatasetResource, found: PersonFound) -> None:
    """Their files that wait in a hidden folder of a landing zone: no scan was kept of these."""
    config, traces = dataset.config, found.traces
    release = release_of(config)
    for zone in (Path(place) for place in config.landing_places if not place.startswith("s3://")):
        for study in staged_studies(zone):
            try:
                scan, _ = scan_again(study, release, None, "")
            except FileNotFoundError:  # it was delivered meanwhile
                continue
            files, series = files_of_subjects(scan, config, study.stem, traces.is_theirs, traces.in_text)
            if files:
                found.staged.setdefault(zone, set()).update(files)
                traces.subjects |= {planned.subject_id for planned in series}
