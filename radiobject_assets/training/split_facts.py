"""What a division looks at of each subject: groups, stratum, and whether training can use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from radiobject_assets.dataset.training_section import PatchesConfig, SplitConfig
from radiobject_assets.errors import ConfigurationError
from radiobject_assets.training.pairing import pairs_to_cut, volume_rows
from radiobject_assets.training.split_assignment import SubjectFacts

PAIRING_COLUMNS = ("fourth_axis_values",)
"""Columns that `trainable_subjects` reads besides those of an inventory."""


def trainable_subjects(volumes: pd.DataFrame, patches: PatchesConfig | None) -> set[str]:
    """Subjects with an image that patches can be cut from, and its labels where `patches` asks for them.

    Parameters
    ----------
    volumes
        Rows of obs of all collections, with the column `collection`.
    patches
        None: every volume is of use.
    """
    if patches is None:
        return set(volumes["obs_subject_id"])
    images = volume_rows(volumes[volumes["collection"] == patches.image])
    labels = None
    if patches.labels is not None:
        labels = volume_rows(volumes[volumes["collection"] == patches.labels])
    pairs, _ = pairs_to_cut(images, labels, patches.point)
    return {image.obs_subject_id for image, _ in pairs}


def subject_facts(
    subject_ids: Iterable[str],
    config: SplitConfig,
    subjects: pd.DataFrame,
    volumes: pd.DataFrame,
    trainable: set[str],
) -> dict[str, SubjectFacts]:
    """The facts of each of `subject_ids`.

    Parameters
    ----------
    subjects, volumes
        obs_meta, and rows of obs of all collections; both with `obs_subject_id` and with the columns that
        `config` names, wherever they are. A missing value is no group, and a stratum of its own.

    Raises
    ------
    ConfigurationError
        Neither has a column that `config` names.
    """
    ids = sorted(set(subject_ids))
    groups: dict[str, set[str]] = {subject: set() for subject in ids}
    for column in config.group_by:
        for subject, value in _values(column, "split.group_by", subjects, volumes):
            if subject in groups:
                groups[subject].add(f"{column}={value}")
    strata: dict[str, str] = {}
    if config.stratify_by is not None:
        # of several values (a column of obs) the first, so that the order of rows makes no difference
        for subject, value in sorted(_values(config.stratify_by, "split.stratify_by", subjects, volumes)):
            strata.setdefault(subject, value)
    return {
        subject: SubjectFacts(subject in trainable, tuple(sorted(groups[subject])), strata.get(subject, ""))
        for subject in ids
    }


def _values(
    column: str, key: str, subjects: pd.DataFrame, volumes: pd.DataFrame
) -> Sequence[tuple[str, str]]:
    tables = [table for table in (subjects, volumes) if column in table]
    if not tables:
        known = sorted({*map(str, subjects), *map(str, volumes)} - {"obs_subject_id", "obs_id"})
        raise ConfigurationError(
            f"{key} in dataset.yaml: neither the subjects' table nor obs has a column {column!r}; there are: "
            f"{', '.join(known)}"
        )
    found: dict[tuple[str, str], None] = {}
    for table in tables:
        rows = table[["obs_subject_id", column]].dropna().drop_duplicates()
        for subject, value in zip(rows["obs_subject_id"], rows[column], strict=True):
            if text := str(value).strip():
                found[str(subject), text] = None
    return list(found)
