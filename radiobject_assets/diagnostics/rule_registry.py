"""The registry of rules: what can be asked of a store or a data set, each by its name.

A rule is a function from an `Inspection` to a `Report`. Whoever inspects (Dagster's checks, a command) fills
in what it has; a rule that finds nothing to look at says so, which is no good news. The names are read
wherever Dagster loads its definitions, so what computes is imported when a rule looks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics import damage_kinds, kinds
from radiobject_assets.diagnostics.findings import Kind, Report, together

if TYPE_CHECKING:
    import pandas as pd

    from radiobject_assets.archives.open_studies import OpenStudies
    from radiobject_assets.profiling.compared_pairs import KeptPairs
    from radiobject_assets.store import Storage, TileDBContext

NO_OUTCOMES = ("arrival", "series_uid", "obs_id", "collection", "status", "reason", "series_token")


@dataclass(frozen=True)
class CacheFacts:
    """What is known of the latest patch cache of one split."""

    split: str
    n_patches: int | None
    """None: it was never built."""
    is_there: bool
    """Whether its folder is on this machine."""
    is_current: bool
    """Whether it was made from the latest snapshot and splits, with the settings of today."""


@dataclass(frozen=True)
class MemoryPeak:
    """What one materialization took."""

    asset: str
    arrival: str
    above_idle_mb: float
    budget_mb: float


@dataclass(frozen=True)
class Surroundings:
    """What a data set has beside its store; each is read when a rule asks for it, None: it is not known."""

    outcomes: Callable[[str], pd.DataFrame] | None = None
    """Of a collection, over all arrivals, with a column `arrival`."""
    arrivals: Callable[[], Collection[str]] | None = None
    """Keys of the arrivals that are in the landing zone."""
    changed: Callable[[], Mapping[str, str]] | None = None
    """Arrivals whose files are not those that were taken in, and what is different."""
    splits: Callable[[], pd.DataFrame | None] | None = None
    caches: Callable[[], Sequence[CacheFacts]] | None = None
    peaks: Callable[[], Sequence[MemoryPeak]] | None = None
    studies: Callable[[], OpenStudies] | None = None
    """What came from archives and senders, and what of it is not whole."""
    profiles: Storage | None = None
    """Where profiles are kept (`profiling.kept_profiles`)."""
    snapshot_due_s: float | None = None
    """Seconds after which a volume that came is in a snapshot, where all is as it should be."""
    compared: KeptPairs | None = None
    """Pairs of images that were compared for near twins; None: each look compares all."""


class Inspection:
    """One look at a store or a data set, shared by the rules that take part in it.

    Parameters
    ----------
    snapshot
        Name of the snapshot that training uses; None: there is none.
    """

    def __init__(
        self,
        store_uri: str,
        settings: DatasetSettings | None = None,
        *,
        snapshot: str | None = None,
        surroundings: Surroundings = Surroundings(),
        ctx: TileDBContext | None = None,
    ) -> None:
        self.store_uri, self.settings, self.snapshot = store_uri, settings, snapshot
        self.surroundings, self.ctx = surroundings, ctx

    @cached_property
    def has_store(self) -> bool:
        """Whether there is one yet."""
        from radiobject_assets.store import is_store

        return is_store(self.store_uri, self.ctx)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The inventory, as the store is now."""
        from radiobject_assets.diagnostics.inventory import read_inventory

        return read_inventory(self.store_uri, ctx=self.ctx)

    @cached_property
    def snapshot_rows(self) -> pd.DataFrame:
        """The inventory of the snapshot that training uses; the present one where there is none."""
        from radiobject_assets.diagnostics.inventory import read_inventory

        if self.snapshot is None:
            return self.rows
        return read_inventory(self.store_uri, snapshot=self.snapshot, ctx=self.ctx)


@dataclass(frozen=True)
class StandingRule:
    """A rule by its name."""

    name: str
    guards: Literal["raw_dicom", "archives", "collection", "dataset", "splits", "profile", "patch_cache"]
    """The asset that it speaks of; `archives`: raw_dicom, of a data set with `sources` or a `receiver`."""
    description: str
    look: Callable[[Inspection, str], Report]
    """Called with the inspection, and the name of the collection for rules that guard one."""
    kinds: tuple[Kind, ...] = ()
    """What it may find, for the page that explains it."""


def _sources(of: Inspection, _: str) -> Report:
    from radiobject_assets.diagnostics import arrival_rules

    if not of.has_store or of.surroundings.arrivals is None:
        return Report(0, "arrivals")
    changed = of.surroundings.changed() if of.surroundings.changed is not None else {}
    return arrival_rules.sources_still_there(of.rows, of.surroundings.arrivals(), changed)


def _archives(of: Inspection, _: str) -> Report:
    from radiobject_assets.diagnostics import arrival_rules

    if of.surroundings.studies is None:
        return Report(0, "studies")
    return arrival_rules.archives_sent_all(of.surroundings.studies())


def _series(of: Inspection, collection: str) -> Report:
    from radiobject_assets.diagnostics import arrival_rules

    if of.surroundings.outcomes is None:
        return Report(0, "series")
    outcomes = of.surroundings.outcomes(collection)
    reports = [
        arrival_rules.quarantine_share(outcomes, collection),
        arrival_rules.given_up(outcomes, collection),
    ]
    if of.has_store:
        of_asset = of.rows["collection"] == collection
        rows = of.rows[of_asset] if of_asset.any() else of.rows  # one asset for all, by modality
        in_doubt = arrival_rules.stored_in_doubt(outcomes, rows, collection)
        reports.append(Report(len(outcomes), "series", in_doubt.findings, in_doubt.numbers))
    return together(reports, "series")


def _whole(of: Inspection, _: str) -> Report:
    from radiobject_assets.diagnostics import store_rules

    if not of.has_store:
        return Report(0, "volumes")
    tables = store_rules.tables_are_whole(of.store_uri, of.ctx)
    if tables.findings:
        return Report(1, "stores", tables.findings)  # rows can't be read
    return together(
        [
            store_rules.rows_and_arrays(of.store_uri, of.rows, of.ctx),
            store_rules.provenance_is_there(of.rows),
        ],
        "volumes",
    )


def _current(of: Inspection, _: str) -> Report:
    from radiobject_assets.diagnostics import store_rules

    if not of.has_store or of.surroundings.snapshot_due_s is None:
        return Report(0, "volumes")
    due_before = datetime.now(UTC) - timedelta(seconds=of.surroundings.snapshot_due_s)
    return store_rules.snapshot_is_current(
        of.store_uri, of.rows, of.snapshot, of.snapshot_rows, due_before, ctx=of.ctx
    )


def _once(of: Inspection, _: str) -> Report:
    from radiobject_assets.diagnostics import store_rules

    return store_rules.images_once(of.rows) if of.has_store else Report(0, "volumes")


def _rows(of: Inspection, _: str) -> Report:
    from radiobject_assets.diagnostics import row_rules, snapshot_rules
    from radiobject_assets.diagnostics.inventory import read_inventory

    if not of.has_store:
        return Report(0, "volumes")
    rows = read_inventory(of.store_uri, columns=row_rules.ROW_COLUMNS, ctx=of.ctx)
    return together(
        [
            row_rules.fields_are_valid(rows),
            row_rules.sequences_are_whole(rows),
            row_rules.written_by_known_versions(rows),
            snapshot_rules.snapshots_are_whole(of.store_uri, set(rows["volume"].astype(str)), of.ctx),
        ],
        "volumes",
    )


def _labels(of: Inspection, _: str) -> Report:
    from radiobject_assets.diagnostics import training_rules

    if not of.has_store or of.settings is None:
        return Report(0, "images")
    return training_rules.labels_complete(of.snapshot_rows, of.settings.patches)


def _memory(of: Inspection, _: str) -> Report:
    from radiobject_assets.diagnostics import training_rules

    peaks = of.surroundings.peaks() if of.surroundings.peaks is not None else ()
    return training_rules.memory_within_budget(peaks)


def _splits(of: Inspection, _: str) -> Report:
    from radiobject_assets.diagnostics import training_rules

    splits = of.surroundings.splits() if of.surroundings.splits is not None else None
    if splits is None or of.settings is None or not of.has_store:
        return Report(0, "subjects")
    names = list(of.settings.split.shares)
    return training_rules.splits_are_usable(splits, of.snapshot_rows, of.settings.patches, names)


def _near_twins(of: Inspection, _: str) -> Report:
    from radiobject_assets.diagnostics import twin_rules

    if of.surroundings.profiles is None or not of.has_store:
        return Report(0, "profiled images")
    splits = of.surroundings.splits() if of.surroundings.splits is not None else None
    known = of.settings.near_twins.known if of.settings is not None else ()
    return twin_rules.near_twins(
        of.store_uri,
        of.snapshot_rows,
        of.surroundings.profiles,
        splits,
        known,
        compared=of.surroundings.compared,
        snapshot=of.snapshot,
        ctx=of.ctx,
    )


def _caches(of: Inspection, _: str) -> Report:
    from radiobject_assets.diagnostics import training_rules

    return training_rules.caches_have_patches(
        of.surroundings.caches() if of.surroundings.caches is not None else ()
    )


RULES = (
    StandingRule(
        "sources_still_there",
        "raw_dicom",
        "The files that stored volumes were made from are still in the landing zone, as they were.",
        _sources,
        (kinds.SOURCE_GONE, kinds.SOURCE_CHANGED),
    ),
    StandingRule(
        "archives_sent_all",
        "archives",
        "Every study that an archive announced, or that a sender began to send, has come whole, and is in "
        "the landing zone.",
        _archives,
        (
            *(kinds.ARCHIVE_SHORT, kinds.ARCHIVE_SILENT, kinds.STUDY_LEFT_QUERY),
            *(kinds.SENDER_LEFT, kinds.NOT_DELIVERED),
        ),
    ),
    StandingRule(
        "series_taken_in",
        "collection",
        "Over all arrivals: how many of the series that belong here are quarantined or were given up, and "
        "none is stored although it would be quarantined today.",
        _series,
        (kinds.MOSTLY_QUARANTINED, kinds.GIVEN_UP, kinds.STORED_IN_DOUBT),
    ),
    StandingRule(
        "store_is_whole",
        "dataset",
        "Every table is the file that was written, rows and arrays are one to one, affines and spacings are "
        "sound, labels lie on their image, and every volume says what it was made from.",
        _whole,
        (kinds.TABLE_DAMAGED, kinds.ARRAY_MISSING, kinds.ORPHAN_ARRAY, kinds.NO_PROVENANCE),
    ),
    StandingRule(
        "snapshot_is_current",
        "dataset",
        "What came is in a snapshot after a while: the newest one is not behind the store.",
        _current,
        (kinds.SNAPSHOT_BEHIND,),
    ),
    StandingRule(
        "images_once",
        "dataset",
        "No image is in the store under two ids, and no series UID under two subjects.",
        _once,
        (kinds.DUPLICATE_VOXELS, kinds.DUPLICATE_SERIES),
    ),
    StandingRule(
        "rows_and_snapshots",
        "dataset",
        "Every row says whose and what its volume is, series in time have all their points, no newer version "
        "wrote what is read here, and snapshots have their arrays.",
        _rows,
        (
            damage_kinds.FIELD_INVALID,
            damage_kinds.SEQUENCE_GAP,
            damage_kinds.VERSION_SKEW,
            damage_kinds.SNAPSHOT_DAMAGED,
        ),
    ),
    StandingRule(
        "labels_complete",
        "dataset",
        "Every image that patches are cut from has the labels that training needs.",
        _labels,
        (kinds.LABELS_MISSING,),
    ),
    StandingRule(
        "memory_within_budget",
        "dataset",
        "No recent materialization took more memory than its budget.",
        _memory,
        (kinds.MEMORY_PEAK,),
    ),
    StandingRule(
        "splits_are_usable",
        "splits",
        "Every split has something to train or test on, and every common class of labels.",
        _splits,
        (kinds.SPLIT_EMPTY, kinds.CLASS_MISSING),
    ),
    StandingRule(
        "near_twins",
        "profile",
        "No image is in the data set under two subjects in another form: resampled, cropped, windowed, "
        "encoded otherwise, turned or mirrored.",
        _near_twins,
        (
            kinds.NEAR_TWINS,
            kinds.NEAR_TWINS_IN_A_SPLIT,
            kinds.CANNOT_BE_TOLD_APART,
            kinds.NOT_COMPARED,
            kinds.PAIRS_LEFT,
        ),
    ),
    StandingRule(
        "patches_are_there",
        "patch_cache",
        "Every split has a patch cache of today's data set and settings, with patches in it.",
        _caches,
        (kinds.CACHE_MISSING, kinds.CACHE_EMPTY, kinds.CACHE_OLD),
    ),
)
"""All of them, in the order of the lineage."""
