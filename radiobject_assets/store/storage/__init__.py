"""The one room in which a store's files are kept: local disks and S3 behind one interface."""

from radiobject_assets.errors import LockedError
from radiobject_assets.store.storage.errors import DeadlineError, MissingError
from radiobject_assets.store.storage.storage import Entry, Storage
from radiobject_assets.store.storage.storage_of_uri import open_storage

__all__ = ["DeadlineError", "Entry", "LockedError", "MissingError", "Storage", "open_storage"]
