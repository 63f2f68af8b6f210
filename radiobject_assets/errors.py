"""Every error that the library raises on purpose.

One hierarchy, so that a caller can catch `RadiObjectError` and know that the message says what is
wrong, where (file, series, obs_id) and what to do. The children also derive from the built-in class that
a NumPy or pandas user would catch for the same mistake.
"""

from __future__ import annotations

from pathlib import Path


class RadiObjectError(Exception):
    """Base of all errors raised on purpose; its message is fit to show to a user."""


class ShapeError(RadiObjectError, ValueError):
    """Array shapes or patch sizes that do not fit together."""


class AlignmentError(RadiObjectError, ValueError):
    """Subjects, volumes or labels that should correspond and do not."""


class StorageError(RadiObjectError, RuntimeError):
    """A store cannot be opened, read or written; the message names its URI and never a secret."""


class LockedError(StorageError):
    """Another process holds a file lock for longer than one wanted to wait."""


class ConfigurationError(RadiObjectError, ValueError):
    """A setting is missing, unknown or outside its allowed values."""


class SchemaError(RadiObjectError, ValueError):
    """Table columns that are missing, of the wrong type, or not part of the format."""


class IngestError(RadiObjectError, ValueError):
    """Raw images cannot be taken in."""


class ViewError(RadiObjectError, TypeError):
    """An operation that needs the stored object was asked of a view of it."""


class ImageReadError(IngestError):
    """One image cannot be read: `code` is a reason code of `imaging.reasons`, `path` the file at fault."""

    def __init__(self, code: str, message: str, path: Path | None = None) -> None:
        super().__init__(message if path is None else f"{path}: {message}")
        self.code = code
        self.detail = message
        self.path = path

    def __reduce__(self) -> tuple[type[ImageReadError], tuple[str, str, Path | None]]:
        return (type(self), (self.code, self.detail, self.path))
