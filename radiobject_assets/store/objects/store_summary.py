"""A store in words."""

from __future__ import annotations

from radiobject_assets.store.names import SUBJECT
from radiobject_assets.store.objects.chosen_store import ChosenStore

_FEW = 10


def summarise_store(store: ChosenStore) -> str:
    """Subjects, collections with shapes, and the value counts of metadata columns with up to ten values."""
    lines = [
        "RadiObject Summary",
        "==================",
        f"URI: {store.uri}{' (view)' if store.is_view else ''}",
        f"Subjects: {len(store.subjects)}",
        f"Collections: {len(store.names)}",
    ]
    if store.names:
        lines += ["", "Collections:"]
    for name in store.names:
        collection = store.collection(name)
        shape = "x".join(map(str, collection.shape or ())) or ("mixed shapes" if len(collection) else "none")
        lines.append(f"  - {name}: {len(collection)} volumes, shape={shape}")
    frame = store.subjects.frame()
    labels = []
    for column in frame.columns:
        if column != SUBJECT and 0 < frame[column].nunique() <= _FEW:
            labels.append(f"  - {column}: {frame[column].value_counts().to_dict()}")
    if labels:
        lines += ["", "Label Columns:", *labels]
    return "\n".join(lines)
