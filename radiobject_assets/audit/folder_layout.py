"""How a folder is laid out, told by file names alone, and the splits that folders are called after."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.files.volume_names import without_ending
from radiobject_assets.ingest.naming.doubtful_subjects import doubtful_subjects

_IMAGES = re.compile(r"(?:^|/)imagesT[rs]/[^/]+$")
_CHANNEL = re.compile(r"_\d{4}$")
_STRUCTURES = re.compile(r"(?:^|/)s\d{4,}/segmentations/[^/]+$")
_BRATS = re.compile(r"(?i)brats[^/]*[-_](?:t1|t1ce|t2|flair|t1n|t1c|t2w|t2f)\.nii")
_MOST = 0.9
_SPLITS = {
    **dict.fromkeys(("imagestr", "labelstr", "train", "training", "train_set"), "train"),
    **dict.fromkeys(("imagesval", "labelsval", "val", "valid", "validation"), "validation"),
    **dict.fromkeys(("imagests", "labelsts", "test", "testing", "test_set"), "test"),
}
_SPLIT_FOLDER = "|".join(_SPLITS)


def split_of(name: str) -> str:
    """`train`, `validation` or `test` where a folder of the path is called so; else empty."""
    found = [_SPLITS[part.lower()] for part in PurePosixPath(name).parts[:-1] if part.lower() in _SPLITS]
    return found[-1] if found else ""


def layout_of_names(names: Sequence[str]) -> str | None:
    """The layout (`dataset.layouts`) of volumes in files of their own, by their paths; None for no names."""
    if not names:
        return None
    bases = [name.rpartition("/")[2] for name in names]
    if sum(base.startswith("sub-") for base in bases) > len(bases) / 2:
        return "bids"
    images = [name for name in names if _IMAGES.search(name)]
    if images:
        numbered = sum(_CHANNEL.search(without_ending(name)) is not None for name in images)
        return "nnunet" if numbered >= _MOST * len(images) else "decathlon"
    if any(map(_STRUCTURES.search, names)):
        return "totalsegmentator"
    if sum(_BRATS.search(base) is not None for base in bases) > len(bases) / 2:
        return "brats"
    inner = [re.sub(rf"^(?:(?:{_SPLIT_FOLDER})/)+", "", name, flags=re.IGNORECASE) for name in names]
    tops = {name.partition("/")[0] for name in inner if "/" in name}
    return "folders" if len(tops) > 2 and all("/" in name for name in inner) else "flat"


def settings_of_layout(layout: str | None, names: Sequence[str]) -> DatasetSettings:
    """What a dataset.yaml with the layout says; of folders with names of their own the subjects' pattern is
    looked for (`ingest.naming.doubtful_subjects`), and folders of splits are no subjects."""
    if layout is None:
        return DatasetSettings()
    content: dict[str, Any] = {"layout": layout}
    if layout == "folders":
        content["subjects"] = {"file_name": rf"^(?i:(?:{_SPLIT_FOLDER})/)*(?P<subject>[^/]+)/"}
    settings = DatasetSettings.model_validate(content)
    if layout in ("folders", "flat"):
        fitting = next(
            (d.file_name for d in doubtful_subjects(names, settings.subjects) if d.file_name), None
        )
        if fitting is not None:
            content["subjects"] = {"file_name": fitting}
            return DatasetSettings.model_validate(content)
    return settings
