"""Forgetting a person, step by step; every step may be repeated, so the same call ends what was interrupted.

1. *Refuse.* The store notes the person's mark: from now on their files are set apart when they come.
2. *Store.* Rows and voxels, in the present, in snapshots, and in what killed writers left.
3. *Caches, pictures, reports, copies.* What can be made again is removed whole.
4. *History.* Dagster's events of the arrivals that they came with; what others need is said anew.
5. *Landing zone* and the table of `split.by_hand`, where asked.
6. *Tables.* Last, because they tell where the rest is.
7. *Look again.* In every file, and in the database: what is still there is an error, not a message.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg

from radiobject_assets.archives.staged_files import remove_staged
from radiobject_assets.curation.kept import renew_manifests
from radiobject_assets.curation.sheet_of_state import SHEET
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.doctor.mend_journal import DOCTOR_LOCK
from radiobject_assets.errors import ConfigurationError, LockedError, StorageError
from radiobject_assets.forgetting.cached_patches import caches_with, remove_caches
from radiobject_assets.forgetting.dagster_events import (
    remove_history,
    restore,
    runs_at_work,
    runs_of,
    to_restore,
    verdicts_of,
)
from radiobject_assets.forgetting.deleted_rows import write_anew
from radiobject_assets.forgetting.division_by_hand import clear_by_hand, lines_by_hand
from radiobject_assets.forgetting.documents import clear_documents, documents_with
from radiobject_assets.forgetting.journal import Journal
from radiobject_assets.forgetting.landing_files import clear_landing
from radiobject_assets.forgetting.person import PersonFound, look_for_person
from radiobject_assets.imaging.scanning.scan import ScanResult
from radiobject_assets.ingest.dataset_release import release_of
from radiobject_assets.ingest.refused import files_of_subjects, set_apart
from radiobject_assets.platform.arrivals.arrival_table import ArrivalRow, ArrivalTable
from radiobject_assets.platform.arrivals.shared_runs import partition_of
from radiobject_assets.platform.assets.partitions import arrival_partitions, asset_key
from radiobject_assets.platform.automation.probe_after_failure import PROBE_JOB
from radiobject_assets.platform.automation.schedules import DOCTOR_JOB, STANDING_JOB, UPKEEP_JOB
from radiobject_assets.platform.own_names import own_name
from radiobject_assets.resources import DatasetResource, StorageResource
from radiobject_assets.store import (
    Storage,
    delete_subjects,
    ensure_store,
    forgetting_key,
    list_snapshots,
    note_forgotten,
    open_storage,
    subjects_in_files,
)

OnStep = Callable[[str], None]
STEPS = ("refuse", "store", "caches", "history", "landing", "tables", "look again")
_OF_ALL_ARRIVALS = ("dataset", "profile", "splits", "sheet", "patch_cache")


@dataclass(frozen=True)
class House:
    """A data set with everything that may have traces of a person."""

    dataset: DatasetResource
    storage: StorageResource
    instance: dg.DagsterInstance | None
    """None: it is used without Dagster."""
    assets: Sequence[dg.AssetKey] = ()
    """Of the data set's definitions."""
    checks: Sequence[dg.AssetCheckKey] = ()

    @classmethod
    def of(
        cls,
        dataset: DatasetResource,
        storage: StorageResource,
        instance: dg.DagsterInstance | None,
        assets: Sequence[dg.AssetsDefinition],
        checks: Sequence[dg.AssetChecksDefinition],
    ) -> House:
        """With the keys of definitions (`platform.assets.build_assets`, `platform.checks.build_checks`)."""
        keys = [key for asset in assets for key in asset.keys]
        return cls(dataset, storage, instance, keys, [key for check in checks for key in check.check_keys])

    @property
    def documents(self) -> list[Storage]:
        """Where tables and reports are: beside the store, and in the work folder."""
        tables = self.dataset.tables(self.storage).storage
        local = open_storage(str(self.dataset.work.root), self.storage.ctx)
        return [tables] if tables.uri == local.uri else [tables, local]


@dataclass(frozen=True)
class Forgotten:
    """What there was of a person, or would go: numbers, and no name."""

    mark: str
    """Names the person in a run's configuration, in the journal and in the store."""
    volumes: int = 0
    rows: int = 0
    """Of the subjects' table in the store, in any state."""
    arrivals: int = 0
    runs: int = 0
    patch_caches: int = 0
    documents: int = 0
    """Tables, pictures and reports that are written anew or removed."""
    landing_files: int = 0
    """Files in the landing zone; they go only where that is asked for."""
    staged_files: int = 0
    """Files of studies from archives and senders that are not delivered yet; they go where the landing files
    go, and keep the mark where they stay."""
    split_lines: int = 0
    """Lines of `split.by_hand`; they go only where the landing files go."""
    by_hand: int = 0
    """Archives of the landing zone that hold other people as well: take the person out of them by hand."""
    not_read: tuple[str, ...] = ()
    """Arrivals of the landing zone that were not taken in and could not be read: they may hold the person."""

    @property
    def is_nobody(self) -> bool:
        """Whether nothing of such a person was found."""
        found = (self.volumes, self.rows, self.arrivals, self.documents, self.staged_files, self.split_lines)
        return not any(found)


def would_go(house: House, mark: str) -> Forgotten:
    """What `forget_person` would remove; nothing is changed but that the store gets a key for marks."""
    is_theirs = _by_mark(house, mark)
    found = look_for_person(house.dataset, house.storage, is_theirs)
    partitions = _partitions(house, found.came_with)
    runs = 0 if house.instance is None else len(runs_of(house.instance, partitions, found.traces))
    return Forgotten(
        mark,
        volumes=found.n_volumes,
        rows=found.n_rows,
        arrivals=len(found.came_with),
        runs=runs,
        patch_caches=len(caches_with(house.dataset.work.root / "patches", found.traces)),
        documents=sum(1 for storage in house.documents for _ in documents_with(storage, found.traces)),
        landing_files=found.n_landing,
        staged_files=found.n_staged,
        split_lines=lines_by_hand(house.dataset.config, is_theirs),
        not_read=tuple(sorted(found.not_read)),
    )


def forget_person(
    house: House, mark: str, *, landing: bool = False, own_run: str = "", on_step: OnStep | None = None
) -> Forgotten:
    """Remove everything of one person, and look for it once more.

    Parameters
    ----------
    mark
        `ForgottenSubjects.mark` of the subject's id.
    landing
        Remove their files from the landing zone as well, with those of studies that are not delivered yet,
        and their lines from the table of `split.by_hand`.
    own_run
        Id of the run that this is done in, which is not removed.

    Raises
    ------
    ConfigurationError
        A run is working on an arrival of theirs, or a doctor on the data set: wait for it, then forget once
        more.
    StorageError
        Something can't be removed, or is still found afterwards; or arrivals that are not taken in can't be
        read. The same call goes on.
    """
    with ExitStack() as held:
        try:
            lock = house.dataset.tables(house.storage).storage.lock(DOCTOR_LOCK, wait_s=0)
            held.enter_context(lock)
        except LockedError:
            raise ConfigurationError(
                "a doctor is mending the data set, and may take the person in anew; wait for it, then forget "
                "once more"
            ) from None
        return _forget(house, mark, landing, own_run, on_step or (lambda step: None))


def _forget(house: House, mark: str, landing: bool, own_run: str, tell: OnStep) -> Forgotten:
    uri, ctx = house.dataset.config.store_uri, house.storage.ctx
    ensure_store(uri, ctx=ctx)
    tables, work = house.dataset.tables(house.storage), house.dataset.work.root
    is_theirs = _by_mark(house, mark)
    found = look_for_person(house.dataset, house.storage, is_theirs)
    journal = Journal.open(tables, mark, landing=landing).found(found.came_with, found.arrays)
    found.know_arrays(journal.arrays)
    before = Forgotten(
        mark,
        volumes=found.n_volumes,
        rows=found.n_rows,
        arrivals=len(journal.arrivals),
        landing_files=found.n_landing,
        staged_files=found.n_staged,
        split_lines=lines_by_hand(house.dataset.config, is_theirs),
        not_read=tuple(sorted(found.not_read)),
    )
    if before.is_nobody and Journal.read(tables, mark) is None and not _is_named(house, found):
        _all_was_read(found)
        return before  # a slip of the pen must not keep somebody out who comes later
    _wait_for_nobody(house, journal, own_run)
    journal.keep(tables)

    tell("refuse")
    note_forgotten(uri, [mark], ctx)
    tell("store")
    ids = {subject for subject in subjects_in_files(uri, ctx) if is_theirs(subject)}
    # the mark is nobody's id: with it alone, what a killed call left behind is removed
    delete_subjects(uri, {*ids, mark}, ctx)
    _note_snapshot(house)
    renew_manifests(tables.storage, uri, settings=house.dataset.config, ctx=ctx)
    tell("caches")
    n_caches = remove_caches(work / "patches", found.traces)
    n_files = _remove_work(work, {*journal.arrivals, *_partitions(house, journal.arrivals)})
    tell("history")
    n_runs = 0
    if house.instance is not None:
        journal, n_runs = _forget_history(house, house.instance, journal, found, own_run)
    tell("landing")
    by_hand = _forget_landing(house, journal, found) if journal.landing else 0
    if journal.landing:
        for zone, files in found.staged.items():
            remove_staged(zone, files)
        clear_by_hand(house.dataset.config, is_theirs)
    tell("tables")
    _set_apart(house, journal, found)
    documents = sum(clear_documents(storage, found.traces) for storage in house.documents)
    tables.remove(SHEET)  # has pictures of anybody, and counts everybody
    for storage in house.documents:
        for entry in storage.leftovers(0.0):  # what a killed process staged
            storage.remove(entry.path)
    tell("look again")
    _prove(house, journal, found, own_run, by_hand)
    journal.done().keep(tables)
    return replace(before, runs=n_runs, patch_caches=n_caches, documents=documents + n_files, by_hand=by_hand)


def unfinished(house: House) -> tuple[str, ...]:
    """Marks of people whose forgetting was interrupted: it goes on when they are forgotten once more."""
    return Journal.unfinished(house.dataset.tables(house.storage))


def _by_mark(house: House, mark: str) -> Callable[[str], bool]:
    uri, ctx = house.dataset.config.store_uri, house.storage.ctx
    ensure_store(uri, ctx=ctx)
    marks = forgetting_key(uri, ctx)
    return lambda subject_id: marks.mark(subject_id) == mark


def _all_was_read(found: PersonFound) -> None:
    if found.not_read:
        raise StorageError(
            "what could be found of the person is gone, but these arrivals of the landing zone are not taken "
            f"in and can't be read, so they may hold the person: {', '.join(sorted(found.not_read))}. Make "
            "them readable (see arrivals.copy_limit_gb for S3), or take them away, and forget once more"
        )


def _is_named(house: House, found: PersonFound) -> bool:
    return any(True for storage in house.documents for _ in documents_with(storage, found.traces))


def _wait_for_nobody(house: House, journal: Journal, own_run: str) -> None:
    if house.instance is None:
        return
    config = house.dataset.config
    # upkeep writes profiles; a doctor may take a volume in anew; a probe writes what failed
    names = (STANDING_JOB, UPKEEP_JOB, DOCTOR_JOB, PROBE_JOB)
    jobs = [*names, *(own_name(config.beside_others(), one) for one in names if config.name)]
    late = [asset_key(config, name) for name in _OF_ALL_ARRIVALS]
    partitions = _partitions(house, journal.arrivals)
    if count := runs_at_work(house.instance, partitions, late, jobs, own_run):
        raise ConfigurationError(
            f"{count} runs are working on what the person came with, or on what is made of all arrivals; "
            "wait for them, or cancel them in Dagster if their process is dead, then forget once more"
        )


def _note_snapshot(house: House) -> None:
    """The note of the latest snapshot, with the digest and counts that it has without the person."""
    tables = house.dataset.tables(house.storage)
    if not tables.has(tables.snapshot):
        return
    snapshots = list_snapshots(house.dataset.config.store_uri, ctx=house.storage.ctx)

    def renewed(text: str | None) -> str:
        note = json.loads(text or "{}")
        for snapshot in snapshots:
            if snapshot.name == note.get("name") and snapshot.digest != note.get("digest"):
                note.update(digest=snapshot.digest, counts=dict(snapshot.counts))
                return json.dumps(note, indent=2)
        return text or ""

    tables.change_text(tables.snapshot, renewed)


def _remove_work(work: Path, arrivals: Collection[str]) -> int:
    """Pictures, reports and copies of arrivals and their partitions, and the reports that are of none."""
    files = [path for key in arrivals for path in work.glob(f"previews/*/{key}.png")]
    files += [path for key in arrivals for path in (work / "arrivals" / key).glob("*.txt")]
    files += work.glob("*.txt")
    for path in files:
        path.unlink(missing_ok=True)
    shutil.rmtree(work / "probe", ignore_errors=True)  # its tracebacks may name them
    for key in arrivals:
        shutil.rmtree(work / "copies" / key, ignore_errors=True)
    return len(files)


def _forget_history(
    house: House, instance: dg.DagsterInstance, journal: Journal, found: PersonFound, own_run: str
) -> tuple[Journal, int]:
    config, tables = house.dataset.config, house.dataset.tables(house.storage)
    partitions = _partitions(house, journal.arrivals)
    if not journal.restored:
        unchanged = {asset_key(config, "raw_dicom")}
        new = to_restore(instance, house.assets, house.checks, partitions, secrets.token_hex(8), unchanged)
        going = runs_of(instance, partitions, found.traces) - {own_run}
        new += verdicts_of(instance, house.checks, going)
        journal = replace(journal, restored=tuple(new))
        journal.keep(tables)  # a verdict that is lost would be a doubt that is lost
    runs = remove_history(instance, house.assets, partitions, found.traces, own_run)
    there = set(instance.get_dynamic_partitions(arrival_partitions(config).name or ""))
    restore(instance, [one for one in journal.restored if one.partition in {*there, None}])
    write_anew(instance)
    return journal, runs


def _forget_landing(house: House, journal: Journal, found: PersonFound) -> int:
    config, tables = house.dataset.config, house.dataset.tables(house.storage)
    release, landing = release_of(config), house.dataset.landing(house.storage)

    def clear(key: str, files: Collection[Path], scan: ScanResult) -> int:
        return clear_landing(
            landing,
            key,
            files,
            scan,
            config.subjects,
            lambda subject_id: found.traces.is_theirs(release.subject(subject_id)),
        )

    by_hand = sum(clear(key, files, scan) for key, (scan, files) in found.unread.items())
    for key in journal.arrivals:
        if key not in found.unread and tables.has(tables.scan(key)):
            scan = ScanResult.from_table(tables.arrow(tables.scan(key)))
            by_hand += clear(key, found.files.get(key, set()), scan)
    _drop_emptied(house, journal)
    return by_hand


def _drop_emptied(house: House, journal: Journal) -> None:
    """Partitions of arrivals that held nobody else: else they would be told as vanished for ever."""
    config, name = house.dataset.config, arrival_partitions(house.dataset.config).name or ""
    if house.instance is None:
        return
    there = house.dataset.landing(house.storage).listing().keys
    emptied = [
        key
        for key in journal.arrivals
        if key not in there and read_inventory(config.store_uri, arrivals=[key], ctx=house.storage.ctx).empty
    ]
    table = ArrivalTable(house.dataset.tables(house.storage))  # read last: ticks go on meanwhile
    rows = table.rows
    left = {key: row for key, row in rows.items() if key not in emptied}
    shared = {partition_of(key, row) for key, row in left.items()}
    # before the rows, which tell a call that goes on after a kill what the partitions are
    for partition in {partition_of(key, rows.get(key, ArrivalRow())) for key in emptied} - shared:
        house.instance.delete_dynamic_partition(name, partition)
    table.save(left)


def _partitions(house: House, arrivals: Collection[str]) -> frozenset[str]:
    """What these arrivals go by in Dagster; others may share their partitions."""
    rows = ArrivalTable(house.dataset.tables(house.storage)).rows
    return frozenset(partition_of(key, rows.get(key, ArrivalRow())) for key in arrivals)


def _set_apart(house: House, journal: Journal, found: PersonFound) -> None:
    """The kept scans without the person's files: one record each that says no more than that there is one."""
    config, tables = house.dataset.config, house.dataset.tables(house.storage)
    for key in journal.arrivals:
        name = tables.scan(key)
        if not tables.has(name):
            continue
        before = ScanResult.from_table(tables.arrow(name))
        files, _ = files_of_subjects(before, config, key, found.traces.is_theirs, found.traces.in_text)
        if files:
            tables.put_arrow(name, set_apart(before, files, Path(key)).to_table())


def _prove(house: House, journal: Journal, found: PersonFound, own_run: str, by_hand: int) -> None:
    uri, ctx = house.dataset.config.store_uri, house.storage.ctx
    left = sum(found.traces.is_theirs(subject) for subject in subjects_in_files(uri, ctx))
    again = look_for_person(house.dataset, house.storage, found.traces.is_theirs)
    left += again.n_volumes + len(again.arrivals)
    if journal.landing:
        # an archive that holds others as well stays, and is told
        left += again.n_staged + (0 if by_hand else again.n_landing)
        _all_was_read(again)
    left += sum(1 for storage in house.documents for _ in documents_with(storage, found.traces))
    left += len(caches_with(house.dataset.work.root / "patches", found.traces))
    if house.instance is not None:
        left += len(runs_of(house.instance, (), found.traces) - {own_run})
    if left:
        raise StorageError(
            f"{left} traces of the person are still there, perhaps because a run wrote them meanwhile; "
            "forget once more"
        )
