"""What a data-set sheet is made from, gathered from a store, the kept profiles, and the rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np
import pandas as pd

from radiobject_assets.curation.difference import Difference, compare_manifests
from radiobject_assets.curation.manifest import Manifest
from radiobject_assets.curation.manifest_of_state import splits_in, write_manifest
from radiobject_assets.curation.sheet import PICTURES, SHEET_COLUMNS, SheetContent, sheet_html
from radiobject_assets.curation.summary import summarise
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics.findings import Report
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.diagnostics.rule_registry import RULES, Inspection, Surroundings
from radiobject_assets.diagnostics.volume_pictures import picture
from radiobject_assets.errors import RadiObjectError
from radiobject_assets.profiling.kept_profiles import profiles_of
from radiobject_assets.profiling.outliers import Outlier, find_outliers
from radiobject_assets.store import RadiObject, Storage, TileDBContext, list_snapshots, whole_state
from radiobject_assets.system.temporary import temporary_folder

SHEET = "sheet.html"
"""Name of the kept sheet among the tables."""
_OUTLIERS_PICTURED = 12


def make_sheet(
    store_uri: str,
    settings: DatasetSettings,
    *,
    snapshot: str | None = None,
    profiles: Storage | None = None,
    splits: Mapping[str, str] | None = None,
    ctx: TileDBContext | None = None,
) -> str:
    """The sheet of a snapshot, as HTML.

    Parameters
    ----------
    snapshot
        None: the present state.
    profiles
        Where profiles are kept (`profiling.kept_profiles`); of what has none, rows alone are shown.
    splits
        By subject id; None: those that obs_meta has at present.

    Raises
    ------
    StorageError
        There is no store at that URI, or no such snapshot, or they can't be read.
    """
    state = whole_state(store_uri, snapshot, ctx)
    if splits is None:
        splits = splits_in(whole_state(store_uri, ctx=ctx))
    rows = read_inventory(store_uri, snapshot=snapshot, columns=SHEET_COLUMNS, ctx=ctx)
    found = profiles_of(profiles, rows) if profiles is not None else pd.DataFrame()
    outliers = find_outliers(found) if len(found) else []
    before, changes = _changes(store_uri, snapshot, ctx)
    return sheet_html(
        SheetContent(
            settings=settings,
            summary=summarise(state, splits, state.described()[1], settings.split.stratify_by),
            rows=rows,
            profiles=found,
            outliers=outliers,
            pictures=_pictures(store_uri, snapshot, rows, outliers, ctx),
            reports=_reports(store_uri, settings, snapshot, splits, ctx),
            before=before,
            changes=changes,
        )
    )


def _reports(
    store_uri: str,
    settings: DatasetSettings,
    snapshot: str | None,
    splits: Mapping[str, str],
    ctx: TileDBContext | None,
) -> dict[str, Report]:
    """The rules that look at rows and splits alone. `near_twins` takes longer: it is a check of its own."""
    table = pd.DataFrame({"obs_subject_id": list(splits), "split": list(splits.values())}, dtype="str")
    surroundings = Surroundings(splits=lambda: table if len(table) else None)
    of = Inspection(store_uri, settings, snapshot=snapshot, surroundings=surroundings, ctx=ctx)
    return {rule.name: rule.look(of, rule.guards) for rule in RULES if rule.guards in ("dataset", "splits")}


def _changes(
    store_uri: str, snapshot: str | None, ctx: TileDBContext | None
) -> tuple[str | None, Difference | None]:
    names = [one.name for one in list_snapshots(store_uri, ctx)]
    before = names if snapshot not in names else names[: names.index(snapshot)]
    if not before:
        return None, None
    with temporary_folder() as folder:
        manifests = []
        for number, name in enumerate((before[-1], snapshot)):
            path = folder / f"manifest-{number}"
            write_manifest(whole_state(store_uri, name, ctx), path, splits=None)
            manifests.append(Manifest(path))
        return before[-1], compare_manifests(*manifests)


def _pictures(
    store_uri: str,
    snapshot: str | None,
    rows: pd.DataFrame,
    outliers: Sequence[Outlier],
    ctx: TileDBContext | None,
) -> dict[int, bytes]:
    """Pictures of outliers, and of images that are chosen evenly from all collections."""
    store = RadiObject(store_uri, ctx=ctx, timestamp=snapshot)
    wanted = [one.index for one in outliers[:_OUTLIERS_PICTURED]]
    wanted += [index for index in _spread(rows) if index not in wanted]
    labels = rows[rows["labels_of"].notna()].drop_duplicates(["labels_of_collection", "labels_of"])
    on = {
        (str(one.labels_of_collection), str(one.labels_of)): (str(one.collection), str(one.obs_id))
        for one in labels.itertuples(index=False)
    }
    drawn = {}
    for index in wanted:
        name, obs_id = str(rows.at[index, "collection"]), str(rows.at[index, "obs_id"])
        # what can't be read or drawn is for the checks to tell
        with suppress(RadiObjectError, ValueError):
            overlay = on.get((name, obs_id))
            drawn[index] = picture(
                store.collection(name).loc[obs_id],
                store.collection(overlay[0]).loc[overlay[1]] if overlay is not None else None,
            )
    return drawn


def _spread(rows: pd.DataFrame) -> Iterator[int]:
    images = rows[rows["kind"] != "labels"]
    names = sorted(images["collection"].unique())
    for name in names:
        of_one = images[images["collection"] == name].sort_values("volume")
        places = np.unique(np.linspace(0, len(of_one) - 1, min(len(of_one), PICTURES // len(names) or 1)))
        yield from (int(of_one.index[int(place)]) for place in places)
