"""Everything that a store shows, read through the public API and brought into the model's words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from radiobject_assets.errors import StorageError
from radiobject_assets.store import RadiObject, Volume, VolumeCollection, list_snapshots
from tests.store.campaign.content import KEPT_BY_THE_STORE, VOXELS, Row, digest_of, row_of
from tests.store.campaign.model import State


@dataclass
class Seen:
    """What was read of one state, and what is known of its volumes beyond what the model foretells."""

    state: State
    kept: dict[str, Row] = field(default_factory=dict)
    """By voxel digest: the columns that the store adds by itself."""
    doubled: tuple[str, ...] = ()
    """Keys that occurred more than once."""


@dataclass
class Reading:
    """All states of a store, as a fresh process reads them."""

    present: Seen
    snapshots: dict[str, Seen]
    digests: dict[str, str]
    counts: dict[str, Mapping[str, int]]
    past: State | None = None
    """The state at the moment that was asked for."""
    past_error: str = ""


def read_all(uri: str, moment: int | None = None) -> Reading:
    """The present and every named snapshot, rows and voxels; and the state at one moment of the past."""
    snapshots = {snapshot.name: snapshot for snapshot in list_snapshots(uri)}
    known: dict[tuple[Any, ...], str] = {}
    present = read_state(RadiObject(uri), known)
    past, past_error = None, ""
    try:
        past = None if moment is None else read_state(RadiObject(uri, timestamp=moment), known).state
    except StorageError as error:  # it may have been vacuumed
        past_error = str(error)
    return Reading(
        present,
        {name: read_state(RadiObject(uri, timestamp=name), known) for name in snapshots},
        {name: snapshot.digest for name, snapshot in snapshots.items()},
        {name: dict(snapshot.counts) for name, snapshot in snapshots.items()},
        past,
        past_error,
    )


def read_state(radi: RadiObject, known: dict[tuple[Any, ...], str] | None = None) -> Seen:
    """All rows and voxels that an open store shows."""
    subjects, doubled = _table(radi.obs_meta.read(), "obs_subject_id")
    collections: dict[str, Mapping[str, Row]] = {}
    kept: dict[str, Row] = {}
    for name in radi.collection_names:
        collections[name], twice = read_collection(radi.collection(name), kept, known)
        doubled += twice
    return Seen(State(subjects, collections), kept, tuple(doubled))


def read_collection(
    collection: VolumeCollection, kept: dict[str, Row], known: dict[tuple[Any, ...], str] | None = None
) -> tuple[dict[str, Row], list[str]]:
    """The rows of a collection, each with what its voxels were when they were read just now."""
    frame = collection.to_obs()
    frame[VOXELS] = [_voxels(volume, known) for volume in collection]
    rows, doubled = _table(frame, "obs_id")
    for obs_id, row in rows.items():
        columns = dict(row)
        extra = frozenset((n, t) for n, t in row if n in KEPT_BY_THE_STORE)
        kept[columns.get("voxel_digest", obs_id)] = extra
        rows[obs_id] = row - extra
    return rows, doubled


def _voxels(volume: Volume, known: dict[tuple[Any, ...], str] | None) -> str:
    """Digest, dtype and shape of the voxels read; arrays never change, so one process reads each once."""
    place = (volume.uri, volume.shape, str(volume.stored_dtype))
    if known is not None and place in known:
        return known[place]
    stored = volume.to_numpy(stored=True)
    part = (
        volume.read_box((1,) * stored.ndim, tuple(n - 1 for n in stored.shape))
        if min(stored.shape) > 1
        else None
    )
    if part is not None and not np.array_equal(part, stored[(slice(1, None),) * stored.ndim]):
        return "a region differs from the whole"
    text = f"{digest_of(stored)} {stored.dtype} {stored.shape}"
    if known is not None:
        known[place] = text
    return text


def _table(frame: pd.DataFrame, key: str) -> tuple[dict[str, Row], list[str]]:
    records = frame.to_dict("records")
    rows = {str(record[key]): row_of({n: v for n, v in record.items() if n != key}) for record in records}
    doubled = [name for name, count in Counter(str(record[key]) for record in records).items() if count > 1]
    return {str(name): row for name, row in rows.items()}, doubled
