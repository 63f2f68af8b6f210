"""One way of naming subjects for each store: pseudonyms of one secret, or the ids as they came.

With two of them in one store, one patient would be two subjects, and could be trained on and tested on.
"""

from __future__ import annotations

import os

import tiledb

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store.context import ctx_for_threads
from radiobject_assets.store.groups import group_metadata, write_group_metadata
from radiobject_assets.store.layout import OBS_META
from radiobject_assets.store.table import Table
from radiobject_assets.store.uris import join, normalise

_KEY = "pseudonyms"


def hold_pseudonyms(uri: str | os.PathLike[str], mark: str | None, ctx: tiledb.Ctx | None = None) -> None:
    """Note what a store's subjects are called after, or hold a writer to what was noted.

    Parameters
    ----------
    uri
        Of a store that exists.
    mark
        What tells the secret of the writer's pseudonyms from any other without telling it; None for ids as
        they came.

    Raises
    ------
    ConfigurationError
        The store's subjects have other names than the writer would give.
    """
    uri, ctx = normalise(uri), ctx_for_threads(ctx)
    noted = group_metadata(uri, ctx).get(_KEY)
    if noted == mark:
        return
    if mark is None:
        raise ConfigurationError(
            f"{uri}: its subjects are pseudonyms; set `subjects.key: pseudonym`, or use another store"
        )
    if noted is not None:
        raise ConfigurationError(f"{uri}: its pseudonyms were made with another secret; use that one")
    if Table(join(uri, OBS_META), ctx).read([]).num_rows:
        raise ConfigurationError(
            f"{uri}: its subjects have their own ids; pseudonyms need a store of their own"
        )
    write_group_metadata(uri, {_KEY: mark}, ctx)
