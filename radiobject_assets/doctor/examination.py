"""The examination: every rule in its order, each report told as soon as it is there.

1. Files of the tables: where one is damaged, rows can't be read, and nothing else is asked.
2. Rows, arrays and snapshots by their names: seconds, whatever the volumes hold.
3. What is derived: profiles, pictures, patch caches, tables.
4. Voxels: every volume is read once (`voxel_rounds`); who is interrupted goes on there.

What one rule has told of a volume no later one tells again: the first says what has to be mended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from radiobject_assets.diagnostics import damage_kinds, kinds
from radiobject_assets.diagnostics.findings import Finding, Kind, Report, Severity
from radiobject_assets.diagnostics.integrity_rules import arrays_match_rows
from radiobject_assets.diagnostics.row_rules import (
    columns_name_nobody,
    fields_are_valid,
    names_tell_nobody,
    sequences_are_whole,
    subjects_are_pseudonyms,
    written_by_known_versions,
)
from radiobject_assets.diagnostics.snapshot_rules import SET_ASIDE, pin_holds, snapshots_are_whole
from radiobject_assets.diagnostics.split_rules import splits_do_not_leak
from radiobject_assets.diagnostics.store_rules import (
    images_once,
    rows_and_arrays,
    rows_have_arrays,
    tables_are_whole,
)
from radiobject_assets.doctor import derived_rules
from radiobject_assets.doctor.examined import TAKEN_IN_ANEW, Examined
from radiobject_assets.doctor.mend_journal import withdrawn_findings
from radiobject_assets.doctor.voxel_rounds import voxel_round
from radiobject_assets.errors import ConfigurationError, RadiObjectError, StorageError
from radiobject_assets.imaging.release.deidentification import PSEUDONYM
from radiobject_assets.store import RadiObject, is_store, untidiness, whole_state

if TYPE_CHECKING:
    import pandas as pd

OnProgress = Callable[[int, int, str], None]
# A table has a few files by itself: small ones are merged as commits come.
_MANY_SEGMENTS = 24


@dataclass(frozen=True)
class ExaminationRule:
    """A rule by its name."""

    name: str
    description: str
    look: Callable[[Examined], Report]
    needs: str = "rows"
    """`rows`: the tables of the store can be read; `dataset`: dataset.yaml is known."""
    kinds: tuple[Kind, ...] = field(default=())
    """What it may find."""


def _tables(of: Examined) -> Report:
    return tables_are_whole(of.store_uri, of.ctx)


def _rows_and_arrays(of: Examined) -> Report:
    return rows_and_arrays(of.store_uri, of.rows, of.ctx, grace_s=of.grace_s)


def _snapshots(of: Examined) -> Report:
    here = _lost_here(of)
    return snapshots_are_whole(of.store_uri, here, of.ctx)


def _lost_here(of: Examined) -> set[str]:
    from radiobject_assets.store import rows_without_arrays

    return set[str]().union(*rows_without_arrays(of.store_uri, of.ctx).values())


def _splits(of: Examined) -> Report:
    return splits_do_not_leak(of.subjects, of.rows)


def _divided(of: Examined) -> Report:
    """The table of splits against what was divided."""
    from radiobject_assets.platform.assets.splits import pinned_splits

    if of.beside is None:
        return Report(0, "subjects")
    try:
        divided = pinned_splits(of.beside.dataset.tables(of.beside.storage))
    except (RadiObjectError, ValueError, OSError):
        return Report(0, "subjects")  # none was made, or the table can't be read, which is told
    distrusted = divided.distrusted_arrivals
    rows = of.pinned_rows
    left_out = set(rows.loc[rows["arrival"].isin(distrusted), "obs_subject_id"])
    mine = rows[~rows["obs_subject_id"].isin(left_out - set(divided.rows["obs_subject_id"]))]
    return splits_do_not_leak(divided.rows, mine, split="split", unassigned=divided.snapshot == of.pinned)


def _identifiers(of: Examined) -> Report:
    tables = {str(name): _all_columns(of, str(name)) for name in of.rows["collection"].unique()}
    reports = [columns_name_nobody({**tables, "subjects": of.subjects})]
    subjects = of.subjects["obs_subject_id"].astype(str)
    if whole_state(of.store_uri, ctx=of.ctx).is_pseudonymous:
        reports.append(subjects_are_pseudonyms(subjects, PSEUDONYM))
    names = dict.fromkeys(of.snapshots, "snapshot") | dict.fromkeys(tables, "collection")
    if of.beside is not None:
        work = of.beside.work
        names |= {entry.path: "table" for entry in of.beside.tables.list(recursive=True)}
        names |= {path.relative_to(work).as_posix(): "picture" for path in (work / "previews").glob("*/*")}
    reports.append(names_tell_nobody(names, subjects))
    findings = tuple(finding for report in reports for finding in report.findings)
    return Report(len(names) + len(tables), "names and tables", findings)


def _all_columns(of: Examined, name: str) -> pd.DataFrame:
    return RadiObject(of.store_uri, ctx=of.ctx).collection(name).to_obs()


def _housekeeping(of: Examined) -> Report:
    found = untidiness(of.store_uri, of.ctx, of.grace_s)
    findings = [
        Finding(damage_kinds.FRAGMENTS, f"table {name}", f"{count} small files of rows", where=name)
        for name, count in sorted(found.small_segments.items())
        if count >= _MANY_SEGMENTS
    ]
    places = {"store": len(found.left_overs)}
    if of.beside is not None:
        places["tables"] = len(of.beside.tables.leftovers(max(of.grace_s, 3600.0)))
    findings += [
        Finding(damage_kinds.LEFT_OVERS, f"temporary files of the {place}", f"{count} files", where=place)
        for place, count in places.items()
        if count
    ]
    return Report(len(found.small_segments) or 1, "tables", tuple(findings))


def _withdrawn(of: Examined) -> Report:
    return withdrawn_findings(of.notes, of.rows)


_UNSOUND = (kinds.ARRAY_MISSING, kinds.ORPHAN_ARRAY, kinds.GEOMETRY, kinds.ODD_SPACING, kinds.LABELS_OFF)

EXAMINATION: tuple[ExaminationRule, ...] = (
    ExaminationRule(
        "tables_are_whole",
        "Every file of the log and of the tables is the one that was written.",
        _tables,
        needs="store",
        kinds=(kinds.TABLE_DAMAGED,),
    ),
    ExaminationRule(
        "rows_have_arrays",
        "Every row names an array that is there.",
        lambda of: rows_have_arrays(of.store_uri, of.rows, of.ctx),
        kinds=(kinds.ARRAY_MISSING,),
    ),
    ExaminationRule(
        "fields_are_valid",
        "Every row says whose and what its volume is.",
        lambda of: fields_are_valid(of.rows),
        kinds=(damage_kinds.FIELD_INVALID,),
    ),
    ExaminationRule(
        "rows_and_arrays",
        "Rows and arrays are one to one, affines are sound, labels lie on their image.",
        _rows_and_arrays,
        kinds=_UNSOUND,
    ),
    ExaminationRule(
        "sequences_are_whole",
        "Series in time have all their points.",
        lambda of: sequences_are_whole(of.rows),
        kinds=(damage_kinds.SEQUENCE_GAP,),
    ),
    ExaminationRule(
        "images_once",
        "No image is there twice, no series under two subjects.",
        lambda of: images_once(of.rows),
        kinds=(kinds.DUPLICATE_VOXELS, kinds.DUPLICATE_SERIES),
    ),
    ExaminationRule(
        "versions_are_known",
        "No newer version wrote what this one reads.",
        lambda of: written_by_known_versions(of.rows),
        kinds=(damage_kinds.VERSION_SKEW,),
    ),
    ExaminationRule(
        "nothing_names_anybody",
        "No column, file or snapshot identifies a person.",
        _identifiers,
        kinds=(damage_kinds.IDENTIFIERS,),
    ),
    ExaminationRule(
        "snapshots_are_whole",
        "Snapshots have their arrays.",
        _snapshots,
        kinds=(damage_kinds.SNAPSHOT_DAMAGED,),
    ),
    ExaminationRule(
        "store_is_tidy",
        "No table is in many small files, and nothing is left of killed processes.",
        _housekeeping,
        kinds=(damage_kinds.FRAGMENTS, damage_kinds.LEFT_OVERS),
    ),
    ExaminationRule(
        "nothing_is_on_its_way",
        "What an interrupted mend took out has come in again.",
        _withdrawn,
        kinds=(kinds.VOLUME_GONE,),
    ),
    ExaminationRule(
        "assigned_splits_do_not_leak",
        "Nobody whom the store has assigned is in two splits.",
        _splits,
        kinds=(kinds.ONE_PERSON_TWICE,),
    ),
    ExaminationRule(
        "pin_holds",
        "The snapshot that training pins is there.",
        lambda of: pin_holds(of.store_uri, of.pin, of.ctx),
        needs="dataset",
        kinds=(damage_kinds.PIN_BROKEN,),
    ),
    ExaminationRule(
        "tables_can_be_read",
        "Tables and notes beside the store are whole.",
        derived_rules.tables_can_be_read,
        needs="dataset",
        kinds=(damage_kinds.DERIVED_INVALID,),
    ),
    ExaminationRule(
        "splits_do_not_leak",
        "Nobody is in two splits, and everybody who was to be divided is in one.",
        _divided,
        needs="dataset",
        kinds=(kinds.SUBJECT_TWICE, kinds.ONE_PERSON_TWICE, kinds.GROUP_DIVIDED, kinds.UNASSIGNED),
    ),
    ExaminationRule(
        "tables_have_arrivals",
        "Tables of arrivals are those of arrivals that there are.",
        derived_rules.tables_have_arrivals,
        needs="dataset",
        kinds=(damage_kinds.DERIVED_ORPHANED,),
    ),
    ExaminationRule(
        "profiles_are_current",
        "Profiles are those of the volumes of today.",
        derived_rules.profiles_are_current,
        needs="dataset",
        kinds=(
            damage_kinds.DERIVED_INVALID,
            damage_kinds.DERIVED_MISSING,
            damage_kinds.DERIVED_STALE,
            damage_kinds.DERIVED_ORPHANED,
        ),
    ),
    ExaminationRule(
        "manifests_are_current",
        "Kept manifests are those of their snapshots.",
        derived_rules.manifests_are_current,
        needs="dataset",
        kinds=(damage_kinds.DERIVED_STALE, damage_kinds.DERIVED_ORPHANED),
    ),
    ExaminationRule(
        "pictures_are_whole",
        "Pictures can be opened, and are of what the store has.",
        derived_rules.pictures_are_whole,
        needs="dataset",
        kinds=(damage_kinds.DERIVED_INVALID, damage_kinds.DERIVED_ORPHANED),
    ),
    ExaminationRule(
        "caches_are_true",
        "Patch caches hold what the volumes say.",
        derived_rules.caches_are_true,
        needs="dataset",
        kinds=(
            damage_kinds.DERIVED_INVALID,
            damage_kinds.DERIVED_ORPHANED,
            kinds.PATCHES_DAMAGED,
            kinds.PATCHES_DIFFER,
            kinds.CACHE_OLD,
            kinds.CACHE_OF_OTHERS,
            kinds.CACHE_MISSING,
        ),
    ),
)
"""All of them but the reading of voxels, in the order in which they look."""


def examine(
    of: Examined, *, voxels: bool = True, on_progress: OnProgress = lambda done, total, text: None
) -> Iterator[Report]:
    """Look at a store and what is beside it; each report as it is made.

    Parameters
    ----------
    voxels
        Whether every volume is read. Without it seconds are enough for a large store, and a volume whose
        bytes have changed is not found.

    Raises
    ------
    ConfigurationError
        There is no store.
    StorageError
        Storage does not answer, or the store can't be opened at all.
    """
    if not is_store(of.store_uri, of.ctx):
        raise ConfigurationError(f"{of.store_uri}: there is no store; name the folder that `ingest` wrote")
    told: set[str] = set()
    n_rules = len(EXAMINATION) + int(voxels)
    for number, rule in enumerate(EXAMINATION):
        on_progress(number, n_rules, rule.name.replace("_", " "))
        if rule.needs == "dataset" and of.beside is None:
            continue
        report = _once(rule.look(of), told)
        yield report
        if rule.needs == "store" and any(f.kind.code == "table_damaged" for f in report.findings):
            try:
                len(of.rows)
            except StorageError:
                return  # rows can't be read
    if voxels:
        unsound = [token for token in of.rows["volume"].astype(str) if f"volume {token[:10]}" in told]
        yield from (
            _once(one, told)
            for one in voxel_round(
                of.store_uri,
                of.rows,
                of.notes,
                unsound,
                on_progress=lambda done, total: on_progress(done, total, "reading voxels"),
                ctx=of.ctx,
            )
        )
        yield from _snapshots_only(of, told)


def _once(report: Report, told: set[str]) -> Report:
    """The report without volumes of which it was told before that they must be taken in anew."""
    kept = []
    for finding in report.findings:
        if finding.about.startswith("volume "):
            if finding.about in told:
                continue
            if finding.kind.severity is Severity.ERROR and finding.kind.code in TAKEN_IN_ANEW:
                told.add(finding.about)
        kept.append(finding)
    return replace(report, findings=tuple(kept))


def _snapshots_only(of: Examined, told: Iterable[str]) -> Iterator[Report]:
    """Arrays that only snapshots name: those of the present state were read."""
    from radiobject_assets.diagnostics.inventory import read_inventory

    seen = set(of.rows["volume"].astype(str))
    lost = snapshots_are_whole(of.store_uri, (), of.ctx).findings
    broken = {finding.about for finding in lost}
    for name in of.snapshots:
        if name.startswith(SET_ASIDE) or f"snapshot {name}" in broken:
            continue
        try:
            rows = read_inventory(of.store_uri, snapshot=name, ctx=of.ctx)
            mine = rows[~rows["volume"].isin(seen)]
            store = RadiObject(of.store_uri, ctx=of.ctx, timestamp=name)
            found = [
                finding
                for collection, group in mine.groupby("collection", sort=True)
                for finding in arrays_match_rows(store.collection(str(collection)), group, of.ctx)
            ]
        except StorageError:
            continue  # of tables that are damaged, which was told
        seen |= set(mine["volume"].astype(str))
        if found:
            evidence = f"{len(found)} of its volumes: {', '.join(sorted({f.kind.problem for f in found}))}"
            about = f"snapshot {name}"
            yield Report(
                len(mine), "volumes of snapshots", (Finding(damage_kinds.SNAPSHOT_DAMAGED, about, evidence),)
            )
