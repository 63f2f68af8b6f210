"""One way of naming subjects for each store: pseudonyms of one secret, or the ids as they came.

With two of them in one store, one patient would be two subjects, and could be trained on and tested on.
"""

from __future__ import annotations

import os

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store.format.layout import Context, store_log
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.table_reading import read_table
from radiobject_assets.store.names import OBS_META
from radiobject_assets.store.storage.uris import normalise

_KEY = "pseudonyms"


def hold_pseudonyms(uri: str | os.PathLike[str], mark: str | None, ctx: Context = None) -> None:
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
    where = normalise(uri)

    def hold(draft: Draft) -> None:
        noted = draft.state.properties.get(_KEY)
        if noted == mark:
            return
        if mark is None:
            raise ConfigurationError(
                f"{where}: its subjects are pseudonyms; set `subjects.key: pseudonym`, or use another store"
            )
        if noted is not None:
            raise ConfigurationError(f"{where}: its pseudonyms were made with another secret; use that one")
        if read_table(draft.storage, OBS_META, draft.state.table(OBS_META), []).num_rows:
            raise ConfigurationError(
                f"{where}: its subjects have their own ids; pseudonyms need a store of their own"
            )
        draft.with_entry("properties", {_KEY: mark})

    store_log(where, ctx).commit("note pseudonyms", hold)
