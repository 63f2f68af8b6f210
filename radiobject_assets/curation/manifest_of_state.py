"""The manifest of a store's state: its rows in, sorted lines out.

In memory are the rows of one collection, as Arrow has them, and 500 entries at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from radiobject_assets.curation.manifest import (
    Digests,
    ManifestHeader,
    ManifestWriter,
    SubjectEntry,
    VolumeEntry,
)
from radiobject_assets.curation.tokens import TokenKey
from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.store import (
    AFFINE_COLUMNS,
    ASSIGNED_DIVISION,
    ASSIGNED_SPLIT,
    OBS_ID,
    SIZE_COLUMNS,
    SUBJECT,
    WholeState,
)
from radiobject_assets.system.durable_files import whole_file

_BATCH = 500
_SOURCES = {"series": "series_uid", "study": "study_uid", "files": "source_digest"}
_SHOWN = frozenset(
    (
        *(OBS_ID, SUBJECT, "ndim", *SIZE_COLUMNS, *AFFINE_COLUMNS, "slope", "intercept", "dtype", "kind"),
        *("voxel_digest", *_SOURCES.values()),
        *("spacing_x_mm", "spacing_y_mm", "spacing_z_mm", "axcodes"),  # which follow from the affine
    )
)
# How, when and by which arrival a volume was written: of a copy these differ.
_NO_CONTENT = frozenset({"volume", "index_digest", "stored_bytes", "written_at", "writer_version", "arrival"})
_NO_SETTINGS = {"landing", "store", "arrivals", "owners", "folder"}
"""Where images come from and lie, which may name people and machines."""


def write_manifest(
    state: WholeState,
    path: Path,
    *,
    splits: Mapping[str, str] | None = None,
    settings: DatasetSettings | None = None,
    key: TokenKey | None = None,
) -> tuple[ManifestHeader, Digests]:
    """Write the manifest of a state into a file, which appears when it is whole.

    Parameters
    ----------
    splits
        Splits by subject id; None: those that obs_meta of this state has.
    settings
        What dataset.yaml says.
    key
        Another store's, so that its manifest and this one can be compared by tokens.

    Raises
    ------
    StorageError
        The store can't be read.
    """
    key = key or TokenKey.of(state)
    counts, digest = state.described()
    header = ManifestHeader(
        snapshot=state.snapshot,
        snapshot_digest=digest,
        counts=counts,
        key=key.mark,
        code_version=version("radiobject-assets"),
        settings=_settings(settings),
    )
    with whole_file(path) as staged, staged.open("wb") as file:
        writer = ManifestWriter(file, header)
        for subject in _subject_entries(state, key, splits):
            writer.add(subject)
        for volume in volume_entries(state, key):
            writer.add(volume)
        digests = writer.finish()
    return header, digests


def splits_in(state: WholeState) -> dict[str, str]:
    """Splits by subject id, as obs_meta has them; of whom training can't use it has none."""
    rows = state.subjects()
    if ASSIGNED_SPLIT not in rows.column_names:
        return {}
    pairs = zip(rows.column(SUBJECT).to_pylist(), rows.column(ASSIGNED_SPLIT).to_pylist(), strict=True)
    return {subject: split for subject, split in pairs if split is not None}


def _settings(settings: DatasetSettings | None) -> dict[str, Any]:
    if settings is None:
        return {}
    found = settings.model_dump(mode="json", exclude_defaults=True, exclude=_NO_SETTINGS)
    found.get("split", {}).pop("by_hand", None)  # a path; what it rules is in the subjects' lines
    return found


def _subject_entries(
    state: WholeState, key: TokenKey, splits: Mapping[str, str] | None
) -> Iterator[SubjectEntry]:
    rows = state.subjects()
    tokens = [key.token("subject", subject) for subject in rows.column(SUBJECT).to_pylist()]
    for token, row in _in_order(tokens, rows):
        subject = row.pop(SUBJECT)
        assigned, _ = row.pop(ASSIGNED_SPLIT, None), row.pop(ASSIGNED_DIVISION, None)
        split = assigned if splits is None else splits.get(subject)
        yield SubjectEntry(token, key.row(row), split)


def volume_entries(state: WholeState, key: TokenKey) -> Iterator[VolumeEntry]:
    """The volumes of a state, sorted by token."""
    # a volume's token begins with that of its collection, so that one collection after another is in order
    prefixes = sorted((collection_prefix(key, name), name) for name in state.collections)
    for prefix, name in prefixes:
        columns = [column for column in state.columns(name) if column not in _NO_CONTENT]
        rows = state.volumes(name, columns)
        ids = zip(rows.column(SUBJECT).to_pylist(), rows.column(OBS_ID).to_pylist(), strict=True)
        tokens = [
            prefix + key.token("volume", name, subject, obs_id)[len(prefix) :] for subject, obs_id in ids
        ]
        for token, row in _in_order(tokens, rows):
            yield _volume_entry(token, name, row, key)


def collection_prefix(key: TokenKey, collection: str) -> str:
    """What the tokens of a collection's volumes begin with, so that a manifest is sorted as it is read."""
    return key.token("collection", collection)[:12]


def _volume_entry(token: str, collection: str, row: dict[str, Any], key: TokenKey) -> VolumeEntry:
    sizes = [int(row[name]) for name in SIZE_COLUMNS]
    return VolumeEntry(
        volume=token,
        subject=key.token("subject", row[SUBJECT]),
        collection=collection,
        kind=row.get("kind") or "",
        voxels=row["voxel_digest"],
        shape=tuple(sizes[: int(row["ndim"])]),
        dtype=row["dtype"],
        affine=tuple(float(row[name]) for name in AFFINE_COLUMNS),
        rescale=(float(row["slope"]), float(row["intercept"])),
        row=key.row({name: value for name, value in row.items() if name not in _SHOWN}),
        sources={name: key.token(name, row[column]) for name, column in _SOURCES.items() if row.get(column)},
    )


def _in_order(tokens: list[str], rows: pa.Table) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows with their tokens, sorted by token: the order of the ids would tell of them."""
    order = np.argsort(np.array(tokens, dtype="S32"), kind="stable") if tokens else np.array([], np.int64)
    rows = rows.combine_chunks()
    for start in range(0, len(order), _BATCH):
        part = order[start : start + _BATCH]
        values = rows.take(pa.array(part)).to_pylist()
        yield from zip((tokens[i] for i in part), values, strict=True)
