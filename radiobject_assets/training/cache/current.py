"""Which of the patch caches in a folder is the one that was asked for last.

A cache that is found again keeps its files and their times, so neither the newest folder nor the newest file
says it: a small file beside the caches does.
"""

from __future__ import annotations

import json
from pathlib import Path

from radiobject_assets.errors import StorageError
from radiobject_assets.system.durable_files import whole_file
from radiobject_assets.training.cache.cache_format import not_now

POINTER = "current.json"


def point_to(cache: Path, snapshot: str) -> None:
    """Say that `cache` is the one that was asked for last, for `snapshot`."""
    content = json.dumps({"cache": cache.name, "snapshot": snapshot})
    with whole_file(cache.parent / POINTER) as staged:
        staged.write_text(content, encoding="utf-8")


def current_cache(folder: Path | str) -> Path:
    """The folder of the patch cache that was built, or found again, last.

    Parameters
    ----------
    folder
        Of the caches of one split: `build_patch_cache`'s `out_dir`, or `work/patches/train` of a data set.

    Raises
    ------
    StorageError
        No cache was built there, or the one that was is gone.

    Examples
    --------
    >>> loader = patch_loader(current_cache("work/patches/train"))  # doctest: +SKIP
    """
    pointer = Path(folder) / POINTER
    try:
        name = str(json.loads(pointer.read_text(encoding="utf-8"))["cache"])
    except (FileNotFoundError, NotADirectoryError):
        raise StorageError(
            f"{folder}: no patch cache was built here; `build_patch_cache` makes one"
        ) from None
    except OSError as error:
        raise not_now(pointer, error) from error
    except (ValueError, KeyError, TypeError):
        raise StorageError(f"{pointer}: damaged; build the patch cache again, which writes it anew") from None
    if not (Path(folder) / name).is_dir():
        raise StorageError(f"{folder}: its current patch cache, {name}, is gone; build it again")
    return Path(folder) / name
