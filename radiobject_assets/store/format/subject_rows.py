"""Subjects: rows of obs_meta, written by id."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from radiobject_assets.store.format.layout import STORE_FORMAT, Context, check_format
from radiobject_assets.store.log.draft import Draft
from radiobject_assets.store.log.table_reading import read_table
from radiobject_assets.store.names import OBS_META, SUBJECT
from radiobject_assets.store.storage.uris import join, normalise
from radiobject_assets.store.tables.table import Table

if TYPE_CHECKING:
    import pandas as pd


def subjects_table(store_uri: str, ctx: Context = None) -> Table:
    """The table obs_meta of a store, one row a subject."""
    return Table(join(normalise(store_uri), OBS_META), ctx)


def upsert_subjects(store_uri: str | os.PathLike[str], df: pd.DataFrame, ctx: Context = None) -> None:
    """Write subject metadata into the rows with these ids; columns that `df` lacks keep their values.

    Parameters
    ----------
    df
        Column (or index) obs_subject_id, and any others. New subjects and new columns are added.
    """
    from radiobject_assets.store.tables.dataframe_rows import (  # pandas: 0.2 s to import
        upsert_frame,
        with_keys,
    )

    where = normalise(store_uri)
    check_format(where, ctx, STORE_FORMAT)
    upsert_frame(subjects_table(where, ctx), with_keys(df, (SUBJECT,)))


def update_subjects(store_uri: str | os.PathLike[str], df: pd.DataFrame, ctx: Context = None) -> None:
    """As `upsert_subjects`, for subjects that are there: rows of `df` that obs_meta lacks are left out.

    Who was erased meanwhile does not come back by it.
    """
    from radiobject_assets.store.tables.dataframe_rows import update_rows, with_keys

    where = normalise(store_uri)
    check_format(where, ctx, STORE_FORMAT)
    if len(df):
        frame = with_keys(df, (SUBJECT,))
        subjects_table(where, ctx).commit(
            "update subjects", lambda draft, name: update_rows(draft, name, frame, "leave")
        )


def ensure_subjects(store_uri: str, ids: Iterable[str], ctx: Context = None) -> None:
    """Add subjects that obs_meta does not have yet; rows that are there stay as they are."""
    wanted = list(dict.fromkeys(ids))
    if wanted:
        subjects_table(store_uri, ctx).commit("add subjects", lambda draft, name: add_subjects(draft, wanted))


def add_subjects(draft: Draft, ids: Sequence[str]) -> None:
    """Add rows of subjects that the draft's obs_meta has not."""
    if not ids:
        return
    have = read_table(draft.storage, OBS_META, draft.state.table(OBS_META), [], [ids])
    known = set(have.column(SUBJECT).to_pylist())
    new = [subject for subject in ids if subject not in known]
    draft.put(OBS_META, pa.table({SUBJECT: pa.array(new, pa.large_string())}))
