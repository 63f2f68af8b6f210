"""Whether a whole store is as it was written."""

from __future__ import annotations

import os

from radiobject_assets.errors import StorageError
from radiobject_assets.store.format.layout import Context, reference, store_log
from radiobject_assets.store.log.log_verification import log_problems
from radiobject_assets.store.objects.chosen_store import ChosenStore
from radiobject_assets.store.objects.verification import VolumeProblem, volume_problems
from radiobject_assets.store.storage import DeadlineError
from radiobject_assets.store.storage.uris import normalise


def verify_tables(uri: str | os.PathLike[str], ctx: Context = None) -> list[VolumeProblem]:
    """Check the files of the log and of all tables that the present state, earlier ones and snapshots need.

    No array is opened. An empty list means that all is as it was written.

    Raises
    ------
    StorageError
        If not even the newest manifest can be read.
    """
    log = store_log(normalise(uri), ctx)
    return [VolumeProblem(found.path, found.code, found.detail) for found in log_problems(log)]


def verify_store(uri: str | os.PathLike[str], ctx: Context = None) -> list[VolumeProblem]:
    """Check every file that the present state, earlier ones and snapshots need: rows, arrays and voxels.

    An empty list means that all is as it was written. Voxels are those of the present and of the snapshots.

    Raises
    ------
    StorageError
        If even the present state of the store can't be read.
    """
    where = normalise(uri)
    log = store_log(where, ctx)
    problems = verify_tables(where, ctx)
    damaged = any(problem.code != "copy" for problem in problems)
    seen: set[str] = set()
    for moment in (None, *log.newest().snapshots):
        try:
            store = ChosenStore.opened(where, reference(ctx).explicit, moment)
            for name in store.names:
                problems += volume_problems(store.collection(name), seen)
        except DeadlineError:
            raise
        except StorageError:
            if not damaged:  # else it is told already which file it is
                raise
    return problems
