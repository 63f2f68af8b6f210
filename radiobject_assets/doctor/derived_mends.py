"""What is derived, made again: just what a rule found, by the functions that made it at first."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from radiobject_assets.curation.divided_snapshot import divide_snapshot
from radiobject_assets.curation.kept import renew_manifests
from radiobject_assets.diagnostics import damage_kinds, kinds
from radiobject_assets.diagnostics.findings import Finding, Report
from radiobject_assets.doctor.derived_rules import (
    arrivals_and_partitions,
    caches_are_true,
    manifests_are_current,
    pictures_are_whole,
    profiles_are_current,
    tables_can_be_read,
)
from radiobject_assets.doctor.examined import Beside, Examined
from radiobject_assets.doctor.mend_journal import Mended
from radiobject_assets.doctor.mend_tasks import MendTask, Recut, Reprofile, attempts
from radiobject_assets.doctor.snapshot_mends import move_aside, set_table_aside
from radiobject_assets.doctor.source_plans import scan_arrival
from radiobject_assets.errors import RadiObjectError
from radiobject_assets.system.compute import Compute
from radiobject_assets.system.memory import MemoryBudget

_OF_CACHES = (
    kinds.PATCHES_DAMAGED,
    kinds.PATCHES_DIFFER,
    kinds.CACHE_OLD,
    kinds.CACHE_OF_OTHERS,
    kinds.CACHE_MISSING,
)


def mend_derived(
    of: Examined, findings: Sequence[Finding], budget: MemoryBudget, compute: Compute, *, leaks: bool
) -> Iterator[Mended]:
    """Make derived data again.

    Parameters
    ----------
    leaks
        Whether splits leak: then no patch cache is built.
    """
    beside = of.beside
    if beside is None:
        return
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(_subject(finding), []).append(finding)
    for finding in groups.get("table", ()):
        yield from _noted(of, [finding], partial(_mend_table, of, beside, finding), tables_can_be_read)
    for finding in groups.get("tables", ()):
        yield from _noted(of, [finding], partial(_orphaned_tables, beside, finding), None)
    if found := groups.get("manifest"):
        yield from _noted(of, found, lambda: _manifests(of, beside), manifests_are_current)
    for finding in groups.get("picture", ()):
        yield from _noted(of, [finding], partial(_picture, of, beside, finding), pictures_are_whole)
    yield from _in_workers(of, beside, groups, budget, compute, leaks)


def _subject(finding: Finding) -> str:
    if finding.kind in _OF_CACHES:
        return "patch"
    return finding.about.partition(" ")[0]


def _noted(
    of: Examined,
    findings: Sequence[Finding],
    do: Callable[[], str],
    rule: Callable[[Examined], Report] | None,
) -> Iterator[Mended]:
    notes = [Mended.begin(of.notes, one) for one in findings]
    try:
        told = do()
    except (RadiObjectError, OSError, ValueError) as error:
        told, failed = f"it could not be done ({type(error).__name__})", True
    else:
        failed = False
    fresh = Examined(of.store_uri, of.beside, grace_s=of.grace_s)
    left = set() if rule is None else {one.id for one in rule(fresh).findings}
    for note in notes:
        yield note.to(of.notes, "left" if failed or note.id in left else "mended", told)


def _mend_table(of: Examined, beside: Beside, finding: Finding) -> str:
    tables = beside.dataset.tables(beside.storage)
    name = finding.where
    set_table_aside(beside, name)
    if name == tables.splits and of.pinned is not None and of.pin is not None:
        distrusted = tuple(of.pin.get("distrusted_arrivals", ()))
        divided = divide_snapshot(
            of.settings, of.pinned, known=None, distrusted_arrivals=distrusted, ctx=of.ctx
        )
        tables.put_frame(tables.splits, divided.kept)
        return "made again from what the store has assigned"
    parts = PurePosixPath(name).parts
    if len(parts) == 3 and parts[0] == "arrivals" and name == tables.scan(parts[1]):
        try:
            scan_arrival(beside, parts[1])
        except (RadiObjectError, OSError):
            return "set aside: its arrival can't be read"
        return "made again from the headers"
    return "set aside; materialize the asset that keeps it for this partition"


def _orphaned_tables(beside: Beside, finding: Finding) -> str:
    names = [e.path for e in beside.tables.list(f"arrivals/{finding.arrival}", recursive=True)]
    for name in names:
        move_aside(beside.tables, name)
    return f"{len(names)} tables set aside"


def _manifests(of: Examined, beside: Beside) -> str:
    return (
        f"{renew_manifests(beside.tables, of.store_uri, settings=of.settings, ctx=of.ctx)} manifests renewed"
    )


def _picture(of: Examined, beside: Beside, finding: Finding) -> str:
    from radiobject_assets.platform.assets.pictures import preview_metadata

    path = beside.work / finding.where
    if finding.kind == damage_kinds.DERIVED_ORPHANED:
        return _removed(path, of.grace_s)
    collection = path.parent.name
    arrivals = arrivals_and_partitions(beside, of).get(path.stem, set())
    names = [collection] if collection in of.settings.collections else None
    path.unlink(missing_ok=True)
    preview_metadata(of.store_uri, names, sorted(arrivals), path, beside.storage.ctx)
    return "drawn again" if path.is_file() else "removed: nothing can be drawn"


def _removed(path: Path, grace_s: float) -> str:
    if not path.exists():
        return "it is gone"
    if time.time() - path.stat().st_mtime < grace_s:
        return "it is younger than the grace time and stays"
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    return "removed"


def _in_workers(
    of: Examined,
    beside: Beside,
    groups: dict[str, list[Finding]],
    budget: MemoryBudget,
    compute: Compute,
    leaks: bool,
) -> Iterator[Mended]:
    work: list[tuple[list[Finding], MendTask]] = []
    config = beside.storage.config
    if found := groups.get("profile"):
        unreadable = tuple(one.where for one in found if one.where)
        work.append((found, Reprofile(of.store_uri, beside.tables, of.pinned, unreadable, config)))
    by_split: dict[str, list[Finding]] = {}
    for finding in groups.get("patch", ()):
        if finding.kind == damage_kinds.DERIVED_ORPHANED:
            folder = beside.work / finding.where
            yield from _noted(of, [finding], partial(_removed, folder, of.grace_s), caches_are_true)
        else:
            by_split.setdefault(finding.split, []).append(finding)
    for split, found in sorted(by_split.items()):
        task = None if leaks else _recut(of, beside, split, found)
        if task is None:
            why = "splits leak: put that right first" if leaks else "there is no division to cut for"
            for finding in found:
                yield Mended.begin(of.notes, finding).to(of.notes, "left", why)
        else:
            work.append((found, task))
    notes = [[Mended.begin(of.notes, one) for one in found] for found, _ in work]
    results = dict(attempts([task for _, task in work], budget, compute))
    fresh = Examined(of.store_uri, beside, grace_s=of.grace_s)
    left = {one.id for rule in (profiles_are_current, caches_are_true) for one in rule(fresh).findings}
    for index, mine in enumerate(notes):
        result = results[index]
        for note in mine:
            stage = "mended" if result.is_mended and note.id not in left else "left"
            yield note.to(of.notes, "mended" if stage == "mended" else "left", result.told)


def _recut(of: Examined, beside: Beside, split: str, found: Sequence[Finding]) -> Recut | None:
    from radiobject_assets.platform.assets.splits import pinned_splits

    patches = of.settings.patches
    try:
        divided = pinned_splits(beside.dataset.tables(beside.storage))
    except (RadiObjectError, ValueError, OSError):
        return None
    snapshot = divided.snapshot or of.pinned
    if patches is None or snapshot not in of.snapshots:
        return None
    subjects = divided.rows.loc[divided.rows["split"] == split, "obs_subject_id"].tolist()
    wrong = (damage_kinds.DERIVED_INVALID, kinds.PATCHES_DIFFER)
    damaged = tuple(beside.work / one.where for one in found if one.kind in wrong)
    return Recut(
        of.store_uri, snapshot, tuple(subjects), patches, beside.work / "patches" / split, damaged,
        beside.storage.config,
    )  # fmt: skip
