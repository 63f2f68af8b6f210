"""The command line's memory of labels that came before their image: one list for each store.

Dagster keeps such labels in the work folder of their arrival. `radiobject-assets ingest` has no arrivals, so
it keeps a list: in `work/waiting` beside dataset.yaml, or without one in the user's state folder
(`XDG_STATE_HOME`, else `~/.local/state`). The list names files, so it is the user's alone, and no store has
it; it goes away with its last entry.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from radiobject_assets.dataset.dataset_yaml import DatasetSettings
from radiobject_assets.imaging.files.archives import file_on_disk
from radiobject_assets.ingest.labels_on_images.waiting import WaitingLabels, chance, images_there
from radiobject_assets.store import get_tiledb_ctx, normalise
from radiobject_assets.system.durable_files import write_whole

_FORMAT = 1


@dataclass(frozen=True)
class _Entry:
    labels: WaitingLabels
    tried: str = ""
    """What was there when they were last tried (`waiting.chance`)."""


class WaitingList:
    """Labels that earlier calls could not place in a store.

    Parameters
    ----------
    store_uri
        The store that they belong in.
    dataset
        Where its dataset.yaml lies decides where the list lies.
    """

    def __init__(self, store_uri: str, dataset: DatasetSettings) -> None:
        name = hashlib.blake2b(normalise(store_uri).encode(), digest_size=10).hexdigest()
        self.path = _folder(dataset) / f"{name}.json"
        self._store_uri = store_uri
        self._entries = {entry.labels.files: entry for entry in _read(self.path)}

    def ready(self) -> tuple[WaitingLabels, ...]:
        """Labels whose files are still there and for which an image has come since they were last tried."""
        found = images_there(
            self._store_uri, [entry.labels for entry in self._entries.values()], get_tiledb_ctx()
        )
        return tuple(
            entry.labels
            for entry in self._entries.values()
            if entry.labels in found
            and entry.tried != chance({entry.labels: found[entry.labels]})
            and all(Path(file).exists() for file in files_on_disk(entry.labels))
        )

    def settle(self, handled: Sequence[str], waiting: Sequence[WaitingLabels]) -> None:
        """Forget labels whose files were handled now, but for those that (still) wait; and keep the list.

        Parameters
        ----------
        handled
            Files of the series that were looked at.
        waiting
            Those of them that wait.

        Raises
        ------
        OSError
            The list can't be written.
        """
        done = set(handled)
        before = self._entries
        self._entries = {files: e for files, e in before.items() if done.isdisjoint(files)}
        found = images_there(self._store_uri, waiting, get_tiledb_ctx())
        for labels in waiting:
            # what is there already did not help, and would not help again
            tried = chance({labels: found[labels]}) if labels in found else ""
            self._entries[labels.files] = _Entry(labels, tried)
        if self._entries != before:
            _write(self.path, list(self._entries.values()))


def _folder(dataset: DatasetSettings) -> Path:
    if dataset.folder.is_absolute():  # it was read from a file
        return dataset.folder / "work" / "waiting"
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "radiobject-assets" / "waiting"


def files_on_disk(labels: WaitingLabels) -> set[str]:
    """The files that hold labels: their own, or the archives that they are members of."""
    return {str(file_on_disk(Path(file))) for file in labels.files}


def _read(path: Path) -> list[_Entry]:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            return []
        return [_entry(item) for item in content["waiting"]]
    except (OSError, ValueError, TypeError, KeyError):
        return []  # not there, or damaged: labels that it named have to be handed in again


def _entry(item: Mapping[str, Any]) -> _Entry:
    labels = item["labels"]
    several = {name: tuple(labels[name]) for name in ("image_series_uids", "files")}
    return _Entry(WaitingLabels(**{**labels, **several}), str(item["tried"]))


def _write(path: Path, entries: Sequence[_Entry]) -> None:
    if not entries:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    content = {"format": _FORMAT, "waiting": [asdict(entry) for entry in entries]}
    write_whole(path, json.dumps(content), mode=0o600)
