"""One table of all volumes of a store: the rows that rules and splits look at."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from radiobject_assets.store import RadiObject, TileDBContext

INVENTORY_COLUMNS = (
    "obs_subject_id", "obs_id", "volume", "ndim", "size_x", "size_y", "size_z", "size_t", "dtype",
    *(f"affine_{row}{column}" for row in range(3) for column in range(4)),
    "spacing_x_mm", "spacing_y_mm", "spacing_z_mm", "slope", "intercept", "kind", "modality", "series_uid",
    "study_uid", "component", "arrival", "source_digest", "labels_of_collection", "labels_of", "voxel_digest",
    "index_digest", "voxel_bytes", "stored_bytes", "segments", "image_type",
    "fourth_axis_values",
)  # fmt: skip


def read_inventory(
    store_uri: str,
    *,
    snapshot: str | None = None,
    collections: Collection[str] | None = None,
    arrivals: Collection[str] | None = None,
    obs_ids: Collection[str] | None = None,
    columns: Collection[str] = (),
    ctx: TileDBContext | None = None,
) -> pd.DataFrame:
    """The obs rows of several collections in one table.

    Parameters
    ----------
    store_uri
        The store.
    snapshot
        Name of the snapshot to look at; None: the present.
    collections
        Only these, where they exist; None: all.
    arrivals
        Only volumes that came with these arrivals. What else is in the store is not read.
    obs_ids
        Only these volumes.
    columns
        Names of more columns, where a collection has them.

    Returns
    -------
    DataFrame with `collection` and `INVENTORY_COLUMNS`, sorted by collection and obs_id.

    Raises
    ------
    StorageError
        There is no store at that URI, or no such snapshot.
    """
    store = RadiObject(store_uri, ctx=ctx, timestamp=snapshot)
    wanted = dict.fromkeys((*INVENTORY_COLUMNS, *columns))
    tables = []
    for name in store.collection_names:
        if collections is not None and name not in collections:
            continue
        volumes = store.collection(name)
        if arrivals is not None:
            volumes = volumes.with_values("arrival", arrivals)
        if obs_ids is not None:
            volumes = volumes.with_values("obs_id", obs_ids)
        rows = volumes.to_obs().reset_index()
        rows = rows[[column for column in wanted if column in rows]]
        tables.append(rows.assign(collection=name))
    if not tables:
        return pd.DataFrame(columns=["collection", *INVENTORY_COLUMNS])
    return pd.concat(tables, ignore_index=True).sort_values(["collection", "obs_id"], ignore_index=True)
