"""What is made of a store and kept beside it: missing, invalid, of an older volume, or of nothing any more.

Tables of the work folder, profiles, manifests, pictures and patch caches. Each rule reads what there is and
compares it with the store of now; what was never made is not missed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from radiobject_assets.curation.kept import stale_manifests
from radiobject_assets.diagnostics import damage_kinds, kinds
from radiobject_assets.diagnostics.findings import Finding, Kind, Report
from radiobject_assets.diagnostics.patch_truth import subjects_elsewhere
from radiobject_assets.diagnostics.row_rules import name_token
from radiobject_assets.doctor.examined import Beside, Examined
from radiobject_assets.errors import DamagedCacheError, OldCacheError, RadiObjectError, StorageError
from radiobject_assets.profiling.kept_profiles import FOLDER as PROFILES, Thumbnails
from radiobject_assets.profiling.volume_profile import state_of
from radiobject_assets.store import MissingError, Storage
from radiobject_assets.training.cache.build import cache_to_build
from radiobject_assets.training.cache.cache_format import META_FILE
from radiobject_assets.training.cache.cache_reading import PatchCache
from radiobject_assets.training.cache.verify import compare_digests, verify_patch_cache

if TYPE_CHECKING:
    import pandas as pd

# Patches of a cache that are cut again and compared.
_COMPARED = 64
_SECONDS = 60.0
"""For the digests of a patch cache."""
_ELSEWHERE = ("profile/", "manifests/", "doctor/", "patches/", "previews/", "copies/")
"""Folders of tables that a rule of their own looks at, or that are no tables."""


def tables_can_be_read(of: Examined) -> Report:
    """Every table and note that the next run needs is whole: none is empty, cut off or of another form."""
    if of.beside is None:
        return Report(0, "tables")
    storage = of.beside.tables
    names = [
        entry.path
        for entry in storage.list(recursive=True)
        if not entry.path.startswith(_ELSEWHERE) and entry.path.endswith((".parquet", ".json"))
    ]
    findings = [
        Finding(damage_kinds.DERIVED_INVALID, about_table(name), wrong, where=name)
        for name in names
        if (wrong := _wrong_with(storage, name))
    ]
    return Report(len(names), "tables", tuple(findings))


def about_table(name: str) -> str:
    """How a finding calls a table: folders of arrivals are called after their keys, which name nobody."""
    return f"table {name}"


def _wrong_with(storage: Storage, name: str) -> str:
    try:
        content = storage.read(name)
    except MissingError:
        return ""  # a run removed it meanwhile
    try:
        if name.endswith(".json"):
            json.loads(content)
        else:
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.read_table(pa.BufferReader(content), use_threads=False)
    except (ValueError, OSError):
        return "it is empty" if not content else "it can't be read"
    return ""


def tables_have_arrivals(of: Examined) -> Report:
    """Tables of an arrival are of one that is in the landing zone, or of which the store has volumes."""
    if of.beside is None:
        return Report(0, "arrivals")
    zone = of.beside.dataset.landing(of.beside.storage)
    names = [entry.path for entry in of.beside.tables.list("arrivals", recursive=True)]
    keys = {PurePosixPath(name).parts[1] for name in names if len(PurePosixPath(name).parts) > 2}
    if zone.problem():
        return Report(
            0, "arrivals", said="the landing zone can't be read: orphaned tables are not looked for"
        )
    there = set(zone.keys()) | set(of.rows["arrival"].dropna().astype(str))
    gone = sorted(keys - there)
    about = "tables of arrival {}"
    evidence = "it is not in the landing zone, and the store has nothing of it"
    findings = tuple(
        Finding(damage_kinds.DERIVED_ORPHANED, about.format(key), evidence, arrival=key) for key in gone
    )
    return Report(len(keys), "arrivals", findings)


def profiles_are_current(of: Examined) -> Report:
    """Every volume of the snapshot has a profile, of the volume that it is now, with figures that can be."""
    if of.beside is None:
        return Report(0, "profiles")
    storage, rows = of.beside.tables, of.pinned_rows
    parts = [entry.path for entry in storage.list(PROFILES, recursive=True)]
    if not parts:
        return Report(0, "profiles")
    findings = [
        Finding(damage_kinds.DERIVED_INVALID, f"profile {path}", wrong, where=path)
        for path in parts
        if (wrong := _wrong_with(storage, path) or _wrong_figures(storage, path))
    ]
    bad = {finding.where for finding in findings}
    if bad:  # what else is wrong can be told when these are made again
        return Report(len(rows), "profiles", tuple(findings))
    kept = _kept_profiles(storage, parts)
    # whoever came after the snapshot is profiled when there is the next one, or at night
    there = {*zip(of.rows["collection"], of.rows["obs_id"], strict=True)}
    there |= {*zip(rows["collection"], rows["obs_id"], strict=True)}
    torn = Thumbnails(storage).missing(kept.loc[kept["has_descriptor"], "state"])
    states = dict(zip(kept["state"], zip(kept["collection"], kept["obs_id"], strict=True), strict=True))
    wanted: dict[str, list[tuple[str, str]]] = {}
    records = rows.to_dict("records")
    for row in records:
        wanted.setdefault(str(row["collection"]), []).append((state_of(row), str(row["obs_id"])))  # type: ignore[arg-type]
    known = {*states.values()}
    for name, volumes in sorted(wanted.items()):
        lacking = [(state, obs_id) for state, obs_id in volumes if state not in states]
        older = sum((name, obs_id) in known for _, obs_id in lacking)
        no_picture = sum(state in torn for state, _ in volumes)
        findings += _counted(damage_kinds.DERIVED_STALE, name, older, "of an older state of the volume")
        missing = len(lacking) - older + no_picture
        findings += _counted(damage_kinds.DERIVED_MISSING, name, missing, f"of {len(volumes)} volumes")
    orphans = [place for place in known if place not in there]
    for name in sorted({str(name) for name, _ in orphans}):
        count = sum(one == name for one, _ in orphans)
        findings += _counted(damage_kinds.DERIVED_ORPHANED, name, count, "of volumes that are gone")
    return Report(len(rows), "profiles", tuple(findings))


def _counted(kind: Kind, name: str, count: int, what: str) -> Iterator[Finding]:
    if count:
        yield Finding(kind, f"profile of {name}", f"{count} {what}", collection=name)


def _kept_profiles(storage: Storage, parts: Iterable[str]) -> pd.DataFrame:
    import pandas as pd

    columns = ["collection", "obs_id", "state", "descriptor"]
    frames = [
        pd.read_parquet(io.BytesIO(storage.read(path)), columns=columns)
        for path in parts
        if not path.endswith(".signatures.parquet")
    ]
    rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    return rows.assign(has_descriptor=rows["descriptor"].notna()).drop(columns="descriptor")


def _wrong_figures(storage: Storage, path: str) -> str:
    """Descriptors that are not numbers, all zero, or of another length than the others."""
    if path.endswith(".signatures.parquet"):
        return ""
    import pandas as pd

    try:
        table = pd.read_parquet(io.BytesIO(storage.read(path)))
    except MissingError:
        return ""
    if not {"collection", "obs_id", "state", "descriptor"} <= set(table.columns):
        return "it lacks columns"
    values = [np.asarray(one, dtype=np.float64) for one in table["descriptor"].dropna()]
    if not all(np.isfinite(one).all() for one in values):
        return "a descriptor has values that are not numbers"
    if any(not one.any() for one in values):
        return "a descriptor is all zero"
    return "descriptors of several lengths" if len({one.shape for one in values}) > 1 else ""


def manifests_are_current(of: Examined) -> Report:
    """Every kept manifest is of a snapshot that there is, with the digest that it has."""
    if of.beside is None:
        return Report(0, "manifests")
    names, stale = stale_manifests(of.beside.tables, of.store_uri, of.ctx)
    findings = tuple(
        Finding(
            damage_kinds.DERIVED_STALE if is_there else damage_kinds.DERIVED_ORPHANED,
            f"manifest {PurePosixPath(name).stem}",
            "of another content than its snapshot has" if is_there else "of a snapshot that is gone",
            where=name,
        )
        for name, is_there in stale
    )
    return Report(names, "manifests", findings)


def pictures_are_whole(of: Examined) -> Report:
    """Every picture can be opened, and is of an arrival and a collection that the store has volumes of."""
    if of.beside is None:
        return Report(0, "pictures")
    folder = of.beside.work / "previews"
    pictures = sorted(folder.glob("*/*.png"))
    by_modality = of.settings.collects_by_modality
    names = {"volumes", *of.rows["collection"].astype(str)} if by_modality else set(of.settings.collections)
    there = arrivals_and_partitions(of.beside, of)
    findings = []
    for path in pictures:
        about = f"picture {name_token(f'{path.parent.name}/{path.name}')} of {path.parent.name}"
        if path.parent.name not in names or path.stem not in there:
            kind, evidence = damage_kinds.DERIVED_ORPHANED, "the store has nothing of its arrival"
        elif wrong := _wrong_picture(path):
            kind, evidence = damage_kinds.DERIVED_INVALID, wrong
        else:
            continue
        where = path.relative_to(of.beside.work).as_posix()
        findings.append(Finding(kind, about, evidence, collection=path.parent.name, where=where))
    return Report(len(pictures), "pictures", tuple(findings))


def arrivals_and_partitions(beside: Beside, of: Examined) -> dict[str, set[str]]:
    """Keys of arrivals that the store has volumes of, by the partition that they share or are."""
    from radiobject_assets.platform.arrivals.arrival_table import ArrivalTable
    from radiobject_assets.platform.arrivals.shared_runs import partition_of

    try:
        known = ArrivalTable(beside.dataset.tables(beside.storage)).rows
    except (RadiObjectError, ValueError):
        known = {}
    found: dict[str, set[str]] = {}
    for key in set(of.rows["arrival"].dropna().astype(str)):
        row = known.get(key)
        for name in {key, key if row is None else partition_of(key, row)}:
            found.setdefault(name, set()).add(key)
    return found


def _wrong_picture(path: Path) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, UnidentifiedImageError, SyntaxError):
        return "it is no picture"
    return ""


def latest_caches(beside: Beside) -> dict[str, list[Path]]:
    """Folders of patch caches by split, the latest last."""
    found: dict[str, list[Path]] = {}
    for path in (beside.work / "patches").glob("*/patches-*"):
        found.setdefault(path.parent.name, []).append(path)
    for caches in found.values():
        caches.sort(key=lambda path: _made_s(path))
    return found


def _made_s(path: Path) -> float:
    meta = path / META_FILE
    return (meta if meta.is_file() else path).stat().st_mtime


def caches_are_true(of: Examined) -> Report:
    """Patch caches can be read, are of today's snapshot and division, and hold what the volumes say."""
    if of.beside is None:
        return Report(0, "patch caches")
    caches = latest_caches(of.beside)
    findings: list[Finding] = []
    n_looked = 0
    for split, paths in sorted(caches.items()):
        n_looked += len(paths)
        if split not in of.settings.split.shares or of.settings.patches is None:
            about = f"patch caches of {split}"
            evidence = "dataset.yaml names no such split"
            findings.append(
                Finding(damage_kinds.DERIVED_ORPHANED, about, evidence, split=split, where=f"patches/{split}")
            )
            continue
        for path in paths:
            if found := _wrong_with_cache(of, split, path, path == paths[-1]):
                findings.append(found)
    for split in of.settings.split.shares if caches and of.settings.patches is not None else ():
        if split not in caches:
            about = f"patch cache of {split}"
            findings.append(Finding(kinds.CACHE_MISSING, about, "its folder is gone", split=split))
    return Report(n_looked, "patch caches", tuple(findings))


def _wrong_with_cache(of: Examined, split: str, path: Path, is_latest: bool) -> Finding | None:
    from radiobject_assets.platform.assets.splits import pinned_splits

    if of.beside is None or of.settings.patches is None:
        return None
    about, where = f"patch cache {path.name} of {split}", f"patches/{split}/{path.name}"
    try:
        cache = PatchCache(path, check=False)
        damaged = compare_digests(path, seconds=_SECONDS).damaged
    except DamagedCacheError:
        return Finding(damage_kinds.DERIVED_INVALID, about, "it is damaged", split=split, where=where)
    except OldCacheError:
        return Finding(damage_kinds.DERIVED_INVALID, about, "of an older format", split=split, where=where)
    # what can't be read now says nothing of the cache, and ends the look
    if damaged:
        evidence = f"{len(damaged)} patches"
        return Finding(kinds.PATCHES_DAMAGED, about, evidence, split=split, where=where)
    if cache.meta.snapshot not in of.snapshots:
        evidence = "it was cut from a snapshot that is gone"
        return Finding(kinds.CACHE_OLD, about, evidence, split=split, where=where) if is_latest else None
    try:
        wrong = verify_patch_cache(path, of.store_uri, sample=_COMPARED, ctx=of.ctx)
    except StorageError:
        return None  # volumes that can't be read are told as what they are
    if wrong:
        evidence = f"{len({one.patch for one in wrong})} of {min(_COMPARED, len(cache))} differ"
        return Finding(kinds.PATCHES_DIFFER, about, evidence, split=split, where=where)
    if not is_latest:
        return None
    try:
        divided = pinned_splits(of.beside.dataset.tables(of.beside.storage))
    except (RadiObjectError, ValueError, OSError):
        return None
    if elsewhere := subjects_elsewhere(path, divided.rows, split):
        evidence = f"{elsewhere} subjects of other splits, or of none"
        return Finding(kinds.CACHE_OF_OTHERS, about, evidence, split=split, where=where)
    snapshot = divided.snapshot or of.pinned
    if snapshot not in of.snapshots:
        return None  # told as a pin that does not hold
    mine = divided.rows.loc[divided.rows["split"] == split, "obs_subject_id"].tolist()
    name = cache_to_build(of.store_uri, snapshot, mine, of.settings.patches, of.ctx)
    if name != path.name:
        return Finding(kinds.CACHE_OLD, about, "other volumes or settings", split=split, where=where)
    return None
