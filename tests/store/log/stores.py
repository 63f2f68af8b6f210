"""What is in a store: its rows at any moment, its commits, and the bytes of its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from radiobject_assets.store import RadiObject, list_snapshots, upsert_subjects
from radiobject_assets.store.format.snapshots import describe_state
from radiobject_assets.store.storage.context import get_tiledb_ctx

Rows = dict[str, list[str]]


def put_subjects(store: str, **ages: int) -> None:
    """One commit of subjects with their ages."""
    frame = pd.DataFrame({"obs_subject_id": list(ages), "age": list(ages.values())})
    upsert_subjects(store, frame)


def ages(store: str, moment: int | str | None = None) -> dict[str, int]:
    """Subjects with their ages."""
    frame = RadiObject(store, timestamp=moment).obs_meta.read()
    return dict(zip(frame["obs_subject_id"], frame["age"], strict=True)) if len(frame) else {}


def rows(store: str, moment: int | str | None = None) -> Rows:
    """Every row of every table as text, by table."""
    radi = RadiObject(store, timestamp=moment)
    found = {"subjects": _texts(radi.obs_meta.read())}
    for name in radi.collection_names:
        found[name] = _texts(radi.collection(name).to_obs())
    return found


def _texts(frame: pd.DataFrame) -> list[str]:
    frame = frame.reindex(columns=sorted(frame.columns))
    records = frame.to_dict("records")
    return [repr({name: str(value) for name, value in row.items() if pd.notna(value)}) for row in records]


def without(found: Rows, subject: str) -> Rows:
    """Rows of everybody else."""
    mine = f"'obs_subject_id': '{subject}'"
    return {name: [row for row in texts if mine not in row] for name, texts in found.items()}


def digest(store: str, moment: int | str | None = None) -> str:
    """Of what is there at a moment."""
    return describe_state(store, moment, get_tiledb_ctx())[1]


def snapshot_digests(store: str) -> dict[str, str]:
    """What snapshots say of themselves; that it is so is looked at."""
    found = {snapshot.name: snapshot.digest for snapshot in list_snapshots(store)}
    assert all(digest(store, name) == said for name, said in found.items())
    return found


def manifests(store: str) -> list[dict[str, Any]]:
    """All that are there, by number."""
    found = [
        json.loads(path.read_bytes().partition(b"\n")[0]) for path in Path(store).glob("log/[0-9]*/*.json")
    ]
    return sorted(found, key=lambda document: document["number"])


def segments(store: str) -> list[Path]:
    """All files of rows."""
    return sorted(path for path in Path(store).rglob("*.parquet"))


def files(store: str) -> set[Path]:
    """All files."""
    return {path for path in Path(store).rglob("*") if path.is_file()}


def places_of(store: str, *texts: str) -> Iterator[str]:
    """Files in whose bytes, or in whose rows once they are decoded, one of the texts is; and such names."""
    for path in sorted(files(store)):
        content = path.read_bytes() + str(path.relative_to(store)).encode()
        if path.suffix == ".parquet":
            content += repr(pq.read_table(path).to_pylist()).encode()
        if any(text.encode() in content for text in texts):
            yield str(path.relative_to(store))
