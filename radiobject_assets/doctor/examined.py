"""What is examined: a store, and, where its dataset.yaml is known, everything beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.diagnostics import damage_kinds, kinds
from radiobject_assets.diagnostics.inventory import read_inventory
from radiobject_assets.diagnostics.row_rules import ROW_COLUMNS
from radiobject_assets.store import Storage, TileDBContext, list_snapshots, open_storage

if TYPE_CHECKING:
    import pandas as pd

    from radiobject_assets.resources import DatasetResource, StorageResource

GRACE_S = 86_400.0
"""What is younger is left alone: somebody may be writing it."""

TAKEN_IN_ANEW = tuple(
    kind.code for kind in (*kinds.OF_VOLUMES, damage_kinds.FIELD_INVALID, damage_kinds.SEQUENCE_GAP)
)
"""Codes of kinds that taking a volume in anew may mend."""


@dataclass(frozen=True)
class Beside:
    """What a data set has beside its store."""

    dataset: DatasetResource
    storage: StorageResource

    @property
    def settings(self) -> DatasetSettings:
        """What dataset.yaml says."""
        return self.dataset.config

    @property
    def tables(self) -> Storage:
        """The tables that the next run needs."""
        return self.dataset.tables(self.storage).storage

    @property
    def work(self) -> Path:
        """Pictures, patch caches and error reports, on this machine."""
        return self.dataset.work.root


class Examined:
    """One store under examination. What is read of it is read once, and belongs to one moment.

    Parameters
    ----------
    grace_s
        Seconds for which what nobody names is left alone.
    """

    def __init__(
        self,
        store_uri: str,
        beside: Beside | None = None,
        *,
        grace_s: float = GRACE_S,
        ctx: TileDBContext | None = None,
    ) -> None:
        self.store_uri, self.beside, self.grace_s = store_uri, beside, grace_s
        self.ctx = ctx if beside is None else beside.storage.ctx

    @property
    def settings(self) -> DatasetSettings:
        """Those of dataset.yaml, or those that hold without one."""
        return DatasetSettings() if self.beside is None else self.beside.settings

    @property
    def notes(self) -> Storage:
        """Where the doctor keeps how far it is, and what it did: among the tables, or beside the store."""
        if self.beside is not None:
            return self.beside.tables
        return open_storage(f"{self.store_uri.rstrip('/')}.doctor", self.ctx)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The inventory, with the columns that rules over rows look at."""
        return read_inventory(self.store_uri, columns=ROW_COLUMNS, ctx=self.ctx)

    @cached_property
    def subjects(self) -> pd.DataFrame:
        """The rows of obs_meta."""
        from radiobject_assets.store import RadiObject

        return RadiObject(self.store_uri, ctx=self.ctx).obs_meta.read().reset_index()

    @cached_property
    def snapshots(self) -> tuple[str, ...]:
        """Names of the store's snapshots, oldest first."""
        return tuple(one.name for one in list_snapshots(self.store_uri, self.ctx))

    @cached_property
    def pin(self) -> Mapping[str, Any] | None:
        """The note of the snapshot that training uses; None where there is none that can be read."""
        if self.beside is None:
            return None
        tables = self.beside.dataset.tables(self.beside.storage)
        try:
            return dict(json.loads(tables.text(tables.snapshot))) if tables.has(tables.snapshot) else None
        except (ValueError, TypeError):
            return None  # the rule over tables says that it can't be read

    @property
    def pinned(self) -> str | None:
        """The pinned snapshot, if the store has it."""
        name = None if self.pin is None else str(self.pin.get("name", ""))
        return name if name in self.snapshots else None

    @cached_property
    def pinned_rows(self) -> pd.DataFrame:
        """The inventory of the snapshot that training uses; of the present where there is none."""
        if self.pinned is None:
            return self.rows
        return read_inventory(self.store_uri, snapshot=self.pinned, ctx=self.ctx)
