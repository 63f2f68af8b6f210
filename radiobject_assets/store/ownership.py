"""An obs_id belongs to one subject: looked after at every commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import tiledb

from radiobject_assets.errors import AlignmentError
from radiobject_assets.store.deadline import is_remote
from radiobject_assets.store.evolution import one_at_a_time
from radiobject_assets.store.layout import OBS, OBS_CORE, OBS_ID, SUBJECT, VOLUMES
from radiobject_assets.store.table import Table
from radiobject_assets.store.uris import join


@contextmanager
def ids_of_one_subject(
    collection_uri: str, staged: Mapping[tuple[str, str], str], ctx: tiledb.Ctx
) -> Iterator[None]:
    """Around a commit: refuse it where an id of it belongs to another subject.

    On local disks no two commits to one collection look at the same time, so that none slips by. On S3 two
    can; then whoever looks last after its commit reports it, and `verify` finds the rows.

    Parameters
    ----------
    staged
        Token of the array by (obs_subject_id, obs_id).

    Raises
    ------
    AlignmentError
        It names the two arrays: ids may name patients and are not repeated.
    """
    with one_at_a_time(join(collection_uri, VOLUMES)):
        _refuse_shared(collection_uri, staged, ctx, "nothing was committed")
        yield
    if is_remote(collection_uri):
        _refuse_shared(collection_uri, staged, ctx, "both were committed at once: delete one of them")


def _refuse_shared(
    collection_uri: str, staged: Mapping[tuple[str, str], str], ctx: tiledb.Ctx, outcome: str
) -> None:
    owners = {obs_id: (subject, token) for (subject, obs_id), token in staged.items()}
    table = Table(join(collection_uri, OBS), ctx, OBS_CORE)
    held = table.read(["volume"], keys=[None, list(owners)])
    table.close()
    for row in held.to_pylist():
        subject, token = owners[row[OBS_ID]]
        if row[SUBJECT] != subject:
            raise AlignmentError(
                f"the obs_id of volume {token} belongs to another subject's volume {row['volume']}: {outcome}"
            )
