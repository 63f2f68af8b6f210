"""A store of the RadiObject package copied into one of ours."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import tiledb

from radiobject_assets.errors import StorageError
from radiobject_assets.store.legacy.radiobject_format import take_inventory
from radiobject_assets.store.objects.chosen_store import ChosenStore
from radiobject_assets.store.objects.copying import staged_copies
from radiobject_assets.store.objects.making import making_store
from radiobject_assets.store.storage.context import ctx_for_threads
from radiobject_assets.store.storage.uris import normalise


@dataclass(frozen=True)
class ImportReport:
    """What `import_radiobject` copied, and what was wrong in the source."""

    subjects: int
    volumes: dict[str, int] = field(default_factory=dict)
    """Volumes copied, by collection."""
    mixed_up: dict[str, list[str]] = field(default_factory=dict)
    """By collection, ids for which RadiObject would have returned another id's voxels."""
    without_array: dict[str, list[str]] = field(default_factory=dict)
    """By collection, ids that have a row and no array."""
    without_row: dict[str, int] = field(default_factory=dict)
    """By collection, arrays that no row describes; they were not copied, as their subject is not known."""


def import_radiobject(
    old: str | os.PathLike[str], new: str | os.PathLike[str], ctx: tiledb.Ctx | None = None
) -> ImportReport:
    """Copy a store of the RadiObject package into a new store of ours; the old one is only read.

    Voxels go by the id that each array carries. Volumes without a stored affine get the identity, marked as
    assumed. Rescale was never kept by RadiObject, so values are taken as they are.

    Raises
    ------
    StorageError
        If `old` is no such store, or `new` exists already.
    """
    source, target, ctx = ChosenStore.opened(old, ctx), normalise(new), ctx_for_threads(ctx)
    if not source.subjects.is_radiobjects:
        raise StorageError(f"{source.uri} is a store of ours already: nothing needs to be imported")
    report = ImportReport(len(source.subjects))
    with making_store(target, ctx) as made:
        made.subjects(source.subjects.frame())
        for name in source.names:
            collection = source.collection(name)
            made.subjects(None, collection.rows.subjects)
            into = made.collection(name)
            made.put_in(name, staged_copies(collection, into, ctx))
            found = take_inventory(collection.uri, ctx)
            report.volumes[name] = len(collection)
            report.mixed_up[name] = list(found.mixed_up)
            report.without_array[name] = list(found.without_array)
            report.without_row[name] = found.without_row
    return report
