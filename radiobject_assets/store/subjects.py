"""Subjects: rows of obs_meta, written by id."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pyarrow as pa
import tiledb

from radiobject_assets.store.context import ctx_for_threads
from radiobject_assets.store.layout import OBS_META, STORE_FORMAT, SUBJECT, check_format
from radiobject_assets.store.table import Table
from radiobject_assets.store.uris import join, normalise

if TYPE_CHECKING:
    import pandas as pd


def upsert_subjects(
    store_uri: str | os.PathLike[str], df: pd.DataFrame, ctx: tiledb.Ctx | None = None
) -> None:
    """Write subject metadata into the rows with these ids; columns that `df` lacks keep their values.

    Parameters
    ----------
    df
        Column (or index) obs_subject_id, and any others. New subjects and new columns are added.
    """
    from radiobject_assets.store.dataframe import _with_keys, upsert_frame  # pandas: 0.2 s to import

    store_uri, ctx = normalise(store_uri), ctx_for_threads(ctx)
    check_format(store_uri, ctx, STORE_FORMAT)
    upsert_frame(Table(join(store_uri, OBS_META), ctx), _with_keys(df, (SUBJECT,)))


def ensure_subjects(store_uri: str, ids: Iterable[str], ctx: tiledb.Ctx) -> None:
    """Add subjects that obs_meta does not have yet; rows that are there stay as they are."""
    wanted = dict.fromkeys(ids)
    table = Table(join(store_uri, OBS_META), ctx)
    known = set(table.read([], keys=[list(wanted)]).column(SUBJECT).to_pylist()) if wanted else set()
    new = [subject for subject in wanted if subject not in known]
    if new:
        table.upsert(pa.table({SUBJECT: pa.array(new, pa.large_string())}))
