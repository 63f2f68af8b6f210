"""Every error that the library raises on purpose.

One hierarchy, so that a caller can catch `RadiObjectError` and know that the message says what is
wrong, where (file, series, obs_id) and what to do. The children also derive from the built-in class that
a NumPy or pandas user would catch for the same mistake.

A message may name files and ids, and these a patient. What may be said where identifiers must not be seen is
`public`: the class has one, and whoever raises an error and knows more says so. `advice` belongs to the cause
in the same way: who does not know the cause gives none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar


class RadiObjectError(Exception):
    """Base of all errors raised on purpose; its message is fit to show to a user.

    Parameters
    ----------
    public
        What is wrong in words that name no file, folder, id or UID; by default those of the class.
    advice
        What to do about it, in words of the same kind; by default those of the class.
    """

    public: str = "something that the library checks for is wrong"
    advice: str = ""
    speaks_openly: ClassVar[bool] = False
    """Whether messages of this class are public as they are."""

    def __init__(self, *args: Any, public: str | None = None, advice: str | None = None) -> None:
        super().__init__(*args)
        if public is not None:
            self.public = public
        if advice is not None:
            self.advice = advice

    @property
    def public_text(self) -> str:
        """What may be said of this error where no identifier may be seen."""
        return str(self) if self.speaks_openly and "public" not in self.__dict__ else self.public


class ShapeError(RadiObjectError, ValueError):
    """Array shapes or patch sizes that do not fit together."""

    public = "shapes of arrays or patches do not fit together"


class AlignmentError(RadiObjectError, ValueError):
    """Subjects, volumes or labels that should correspond and do not."""

    public = "subjects, volumes or labels that should correspond do not"
    advice = "The check `store_is_whole` on dataset names the volumes by their tokens."


class StorageError(RadiObjectError, RuntimeError):
    """A store cannot be opened, read or written; the message names its URI and never a secret."""

    public = "the storage can't be read or written"
    speaks_openly = True  # of the store, whose paths hold no outside id


class LockedError(StorageError):
    """Another process holds a file lock for longer than one wanted to wait."""

    advice = "Wait until the other process is done, then run this again."


class DamagedCacheError(StorageError):
    """Bytes of a patch cache are not those that were written.

    Nothing else is this error: who can't open a file for want of rights, descriptors or a network knows
    nothing about what is in it.
    """

    public = "a patch cache is damaged"
    advice = "Materialize patch_cache: what is damaged is cut again from the store."
    speaks_openly = False


class OldCacheError(StorageError):
    """A patch cache of a format that is not read any more: it is built again, which loses nothing."""

    advice = "Materialize patch_cache."


class ConfigurationError(RadiObjectError, ValueError):
    """A setting is missing, unknown or outside its allowed values."""

    public = "a setting is missing, unknown or outside its allowed values"
    speaks_openly = True


class SchemaError(RadiObjectError, ValueError):
    """Table columns that are missing, of the wrong type, or not part of the format."""

    public = "a table lacks a column, or has one of the wrong type"


class IngestError(RadiObjectError, ValueError):
    """Raw images cannot be taken in."""

    public = "the files can't be taken in"


class NotMadeYetError(IngestError):
    """What an asset needs was not made yet, or is gone: the message names the asset that makes it."""

    public = "what this needs has not been made yet"


class ViewError(RadiObjectError, TypeError):
    """An operation that needs the stored object was asked of a view of it."""

    public = "a view of a store can't be written"


class ImageReadError(IngestError):
    """One image cannot be read: `code` is a reason code of `imaging.reasons`, `path` the file at fault."""

    public = "an image can't be read"

    def __init__(self, code: str, message: str, path: Path | None = None) -> None:
        super().__init__(
            message if path is None else f"{path}: {message}",
            public=f"an image can't be read ({code})",
            advice="The page of the reasons (docs/reference/reasons.md) says what the code means.",
        )
        self.code = code
        self.detail = message
        self.path = path

    def __reduce__(self) -> tuple[type[ImageReadError], tuple[str, str, Path | None]]:
        return (type(self), (self.code, self.detail, self.path))


class ArchiveError(RadiObjectError, RuntimeError):
    """An archive gives no answer, or none that is of use; the message names the source and no UID."""

    public = "an archive gives no answer that is of use"
    speaks_openly = True
