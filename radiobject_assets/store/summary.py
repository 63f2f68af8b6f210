"""A store in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from radiobject_assets.store.names import SUBJECT

if TYPE_CHECKING:
    from radiobject_assets.store.radi_object import RadiObject

_FEW = 10


def describe_store(radi: RadiObject) -> str:
    """Subjects, collections with shapes, and the value counts of metadata columns with up to ten values."""
    lines = [
        "RadiObject Summary",
        "==================",
        f"URI: {radi.uri}{' (view)' if radi.is_view else ''}",
        f"Subjects: {len(radi)}",
        f"Collections: {radi.n_collections}",
    ]
    if radi.collection_names:
        lines += ["", "Collections:"]
    for name in radi.collection_names:
        collection = radi.collection(name)
        shape = "x".join(map(str, collection.shape or ())) or ("mixed shapes" if len(collection) else "none")
        lines.append(f"  - {name}: {len(collection)} volumes, shape={shape}")
    frame = radi.obs_meta.read()
    labels = []
    for column in frame.columns:
        if column != SUBJECT and 0 < frame[column].nunique() <= _FEW:
            labels.append(f"  - {column}: {frame[column].value_counts().to_dict()}")
    if labels:
        lines += ["", "Label Columns:", *labels]
    return "\n".join(lines)
