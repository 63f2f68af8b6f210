"""Versions of what dataset.yaml says of splits and patches: what was made by one is stale by another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.dataset.training_section import PatchesConfig


def split_version(dataset: DatasetSettings) -> str:
    """Code version of the splits: of the program, of `split`, and of whom `patches` can train on.

    What the table of `split.by_hand` says is no part of it, since it may change while the program runs
    (`by_hand_version`). A subject's place is firm once training can use it: where that changes, firm places
    must be noted before patches are cut.
    """
    split, patches = dataset.split, dataset.patches
    used = "" if patches is None else f"-{_digest(patches, {'image', 'labels', 'point'})}"
    return f"3-{_digest(split)}{used}"


def by_hand_version(dataset: DatasetSettings) -> str:
    """Version of what the table of `split.by_hand` says now; "" where there is none."""
    named = dataset.split.by_hand
    return "" if named is None else _content(dataset.folder / named)


def by_hand_changed_s(dataset: DatasetSettings) -> float:
    """When that table was last written, in seconds since the epoch; 0.0 where there is none."""
    named = dataset.split.by_hand
    try:
        return 0.0 if named is None else (dataset.folder / named).stat().st_ctime
    except OSError:
        return 0.0


def patches_version(patches: PatchesConfig) -> str:
    """Code version of a patch cache: of the program, and of `patches`."""
    return f"1-{_digest(patches)}"


def _content(file: Path) -> str:
    try:
        return hashlib.blake2b(file.read_bytes(), digest_size=6).hexdigest()
    except OSError:
        return "unreadable"  # whoever divides by it says why


def _digest(section: Any, keys: set[str] | None = None) -> str:
    # without defaults, so that a key that a later version adds changes nothing
    text = json.dumps(section.model_dump(mode="json", exclude_defaults=True, include=keys), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
