"""Versions of what dataset.yaml says of images: what is stored was made by one, another makes it stale.

Where the data set lies, who owns it, how it is tiled, split and cut has no part in them. Tiles are chosen
when a volume is written; stored volumes keep theirs.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.dicom.reader_version import READER


def scan_version(dataset: DatasetSettings) -> str:
    """Version of what a scan lets out: how headers are read, the allow-list of attributes, how subjects are
    named."""
    return _digest(_scanned(dataset))


def settings_version(dataset: DatasetSettings) -> str:
    """Version of everything that decides what is stored of an image, where, and what is said of it."""
    told = {"match", "kind", "labels_of", "segment_name", "channels", "fourth_axis"}
    collections = [  # a list: the first collection that matches counts
        [name, _plain(settings, include=told)] for name, settings in dataset.collections.items()
    ]
    return _digest([_scanned(dataset), _plain(dataset.imaging), collections])


def _scanned(dataset: DatasetSettings) -> Any:
    # the secret's name is no setting of the result: a store holds writers to its secret
    return [READER, sorted(dataset.attributes), _plain(dataset.subjects, exclude={"secret_env"})]


def _plain(settings: Any, **chosen: Any) -> Any:
    # without defaults, so that a key that a later version adds changes nothing
    return settings.model_dump(mode="json", exclude_defaults=True, **chosen)


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
