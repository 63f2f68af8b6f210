"""A label for each volume: from a column, a table, a mapping or a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from radiobject_assets.errors import AlignmentError, ConfigurationError
from radiobject_assets.store import VolumeCollection

LabelSource = str | pd.DataFrame | Mapping[str, Any] | Callable[[str], Any] | None


def label_values(collection: VolumeCollection, labels: LabelSource) -> list[Any] | None:
    """One label for each volume, in the collection's order.

    Parameters
    ----------
    labels
        - the name of a column of the collection's obs;
        - a DataFrame whose column or index is `obs_id` (or `obs_subject_id`), and whose first other column is
          the label;
        - a mapping from obs_id (or subject id) to the label;
        - a function of the obs_id;
        - None for no labels.

    Raises
    ------
    ConfigurationError
        The column does not exist, or the table has no ids.
    AlignmentError
        A volume has no label: batches would come out ragged.
    """
    if labels is None:
        return None
    obs_ids, subjects = collection.obs_ids, collection.obs_subject_ids
    if callable(labels):
        return [labels(obs_id) for obs_id in obs_ids]
    if isinstance(labels, str):
        if labels not in collection.obs.columns:
            known = ", ".join(collection.obs.columns)
            raise ConfigurationError(f"Label column '{labels}' not found in obs DataFrame; there are {known}")
        values = collection.obs.read(columns=[labels])[labels].tolist()
    else:
        known_labels = _by_id(labels) if isinstance(labels, pd.DataFrame) else labels
        values = [
            known_labels.get(obs_id, known_labels.get(subject))
            for obs_id, subject in zip(obs_ids, subjects, strict=True)
        ]
    missing = sum(bool(pd.isna(value)) for value in values if np.ndim(value) == 0)
    if missing:
        raise AlignmentError(
            f"{missing} of {len(values)} volumes of '{collection.name}' have no label; select those with one"
        )
    return values


def _by_id(table: pd.DataFrame) -> dict[str, Any]:
    for name in ("obs_id", "obs_subject_id"):
        if name in table:
            others = [column for column in table if column not in ("obs_id", "obs_subject_id")]
            if not others:
                raise ConfigurationError("Labels DataFrame must have at least one label column")
            return dict(zip(table[name], table[others[0]], strict=True))
        if table.index.name == name:
            return dict(zip(table.index, table.iloc[:, 0], strict=True))
    raise ConfigurationError("Labels DataFrame must have 'obs_id' as column or index")
