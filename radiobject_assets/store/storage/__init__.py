"""The one room in which a store's files are kept: local disks and S3 behind one interface."""

from radiobject_assets.errors import LockedError
from radiobject_assets.store.storage.errors import DeadlineError, MissingError
from radiobject_assets.store.storage.opening import open_storage
from radiobject_assets.store.storage.storage import Entry, Storage

__all__ = ["DeadlineError", "Entry", "LockedError", "MissingError", "Storage", "open_storage"]
