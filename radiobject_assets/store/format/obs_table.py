"""A collection's table of volumes, for those who look rows up, change or withdraw them by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from radiobject_assets.store.format.layout import Context
from radiobject_assets.store.names import OBS, OBS_ID, SUBJECT
from radiobject_assets.store.storage.uris import join, normalise
from radiobject_assets.store.tables.table import Table


def obs_table(collection_uri: str, ctx: Context = None) -> Table:
    """The table obs of a collection, keyed by obs_subject_id and obs_id, one row a volume.

    It shows one state, the newest when it is first looked at, so that what is read one after the other
    belongs together; a change that is made through it lets it show the newest again.
    """
    return Table(join(normalise(collection_uri), OBS), ctx)


def update_obs(
    collection_uri: str, changes: Mapping[tuple[str, str], Mapping[str, Any]], ctx: Context = None
) -> None:
    """Change columns of volumes' rows in one commit; their other columns, and their arrays, stay.

    Parameters
    ----------
    changes
        New values by column, for each obs_subject_id and obs_id; None: there is no value any more. Columns
        that obs lacks are added; rows that it lacks (any more) are left out.
    """
    if not changes:
        return
    table = obs_table(collection_uri, ctx)
    names = sorted({name for values in changes.values() for name in values})
    there = [name for name in names if name in table.columns]
    subjects, ids = ({key[place] for key in changes} for place in (0, 1))
    stored = {
        (row[SUBJECT], row[OBS_ID]): row
        for row in table.read(there, keys=[sorted(subjects), sorted(ids)]).to_pylist()
    }
    rows = [{**stored[key], **values} for key, values in changes.items() if key in stored]
    columns = [SUBJECT, OBS_ID, *(name for name in names if any(row.get(name) is not None for row in rows))]
    columns += [name for name in there if name not in columns]
    if not rows:
        return
    import pandas as pd  # 0.2 s with what uses it, and most runs change no row

    from radiobject_assets.store.tables.dataframe_rows import update_rows

    frame = pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in columns})
    table.commit("refresh", lambda draft, name: update_rows(draft, name, frame, "leave"))
