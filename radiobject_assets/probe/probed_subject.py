"""What is probed, as a person names it: `module:factory`, a store, or a patch cache."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radiobject_assets.errors import ConfigurationError

_FACTORY = re.compile(r"^(?P<module>[\w./~-]+?)(\.py)?:(?P<name>[A-Za-z_][\w.]*)$")
# Written by every patch cache (training.cache.cache_format), beside its shards.
_CACHE_FILE = "meta.json"


@dataclass(frozen=True)
class ProbeSubject:
    """What a text names."""

    text: str
    kind: str
    """`factory`, `store` or `cache`."""
    module: str = ""
    folder: str = ""
    """Where the module is looked for, if it was named by its file."""
    name: str = ""

    @property
    def slug(self) -> str:
        """For a folder's name."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.text).strip("-").lower()[-60:] or "loader"


def subject_of(text: str) -> ProbeSubject:
    """Understand what is to be probed.

    Raises
    ------
    ConfigurationError
        It is none of the three.
    """
    if "://" not in text and (found := _FACTORY.match(text)):
        module = Path(found["module"]).expanduser()
        if len(module.parts) > 1 or module.with_suffix(".py").is_file():
            file = module.with_suffix(".py")
            if not file.is_file():
                raise ConfigurationError(f"{text}: there is no file {file}")
            return ProbeSubject(text, "factory", module.stem, str(file.resolve().parent), found["name"])
        return ProbeSubject(text, "factory", found["module"], "", found["name"])
    if "://" not in text:
        folder = Path(text).expanduser()
        if (folder / _CACHE_FILE).is_file():
            return ProbeSubject(text, "cache", folder=str(folder.resolve()))
        if not folder.is_dir():
            raise ConfigurationError(
                f"{text}: name a loader as module:factory (or FILE:factory), a store, or the folder of a "
                "patch cache"
            )
        text = str(folder.resolve())
    return ProbeSubject(text, "store")


def loaders_of(subject: ProbeSubject) -> list[Any]:
    """The loaders or data sets that are probed, the training one first. Runs the user's code: in a child."""
    if subject.kind == "factory":
        if subject.folder and subject.folder not in sys.path:
            sys.path.insert(0, subject.folder)  # by name, so that workers can import it too
        made: Any = importlib.import_module(subject.module)
        for part in subject.name.split("."):
            made = getattr(made, part)
        return _each(made() if callable(made) else made)
    if subject.kind == "cache":
        from radiobject_assets.training import PatchCacheDataset

        return [PatchCacheDataset(subject.folder)]
    from torch.utils.data import ConcatDataset

    from radiobject_assets.store import RadiObject, get_tiledb_ctx
    from radiobject_assets.training import VolumeCollectionDataset

    # a context of its own goes to spawned workers too, where the process's configuration does not
    store = RadiObject(subject.text, ctx=get_tiledb_ctx())
    names = [name for name in store.collection_names if len(store.collection(name))]
    if not names:
        raise ConfigurationError(f"{subject.text}: the store has no volumes")
    return [ConcatDataset([VolumeCollectionDataset(store.collection(name)) for name in names])]


def _each(made: Any) -> list[Any]:
    if isinstance(made, Mapping):
        return list(made.values())
    if isinstance(made, (list, tuple)) and made and not hasattr(made, "dataset"):
        return list(made) if all(_is_loader(one) for one in made) else [made]
    return [made]


def _is_loader(value: Any) -> bool:
    return hasattr(value, "dataset") or hasattr(value, "__getitem__") or hasattr(value, "__iter__")
