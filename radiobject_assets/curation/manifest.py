"""The manifest of a data set: a text file that says what a snapshot holds, and names nobody.

Each line is one JSON object in canonical form (RFC 8785), so that equal content gives equal bytes, and a
manifest of a million volumes is written, read and compared line by line:

1. a header (`ManifestHeader`): the snapshot, settings, version of the program;
2. a line for each subject (`SubjectEntry`), sorted by token;
3. a line for each volume (`VolumeEntry`), sorted by token;
4. `{"content": ..., "digest": ...}`: BLAKE3 over all lines of subjects and volumes, and over all lines before
   this one, with their line feeds. Equal `content` means equal data.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from blake3 import blake3

from radiobject_assets.curation.canonical_json import canonical
from radiobject_assets.errors import SchemaError

FORMAT = "radiobject-assets/dataset-manifest"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ManifestHeader:
    """What a manifest is of."""

    snapshot: str | None
    """Name of the snapshot; None: of a state that has none."""
    snapshot_digest: str
    """Digest of the state, as the store's snapshot has it (docs/format.md)."""
    counts: Mapping[str, int]
    """Volumes by collection, and `subjects`."""
    key: str
    """Which tokens can be compared: those of manifests of one store have the same key."""
    code_version: str
    """Version of the program that wrote the manifest."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What dataset.yaml says of the images, splits and patches; no paths."""


@dataclass(frozen=True)
class SubjectEntry:
    """One subject."""

    subject: str
    """Token."""
    row: str
    """Keyed digest of what obs_meta says of the subject."""
    split: str | None = None


@dataclass(frozen=True)
class VolumeEntry:
    """One volume."""

    volume: str
    """Token of collection, subject and obs_id."""
    subject: str
    collection: str
    kind: str
    voxels: str
    """BLAKE3 of the stored voxels, as obs has it."""
    shape: tuple[int, ...]
    dtype: str
    affine: tuple[float, ...]
    """First three rows of the 4x4 matrix, voxel index to RAS+ millimetres."""
    rescale: tuple[float, float]
    """Slope and intercept."""
    row: str
    """Keyed digest of all else that obs says of the volume."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Tokens of the series' and study's UIDs and of the digest of the source files."""

    @property
    def geometry(self) -> tuple[Any, ...]:
        """What places the voxels in the world, and gives them their meaning."""
        return (self.shape, self.dtype, self.affine, self.rescale)


@dataclass(frozen=True)
class Digests:
    """What the last line of a manifest says."""

    digest: str
    """Of the whole manifest."""
    content: str
    """Of its subjects and volumes: equal data, whatever the settings and the snapshot's name."""


class ManifestWriter:
    """Writes a manifest line by line: the header, subjects, volumes, and at last `finish`.

    Entries must come sorted by token.
    """

    def __init__(self, file: IO[bytes], header: ManifestHeader) -> None:
        self._file = file
        self._whole, self._content = blake3(), blake3()
        document = {"format": FORMAT, "format_version": FORMAT_VERSION, **dataclasses.asdict(header)}
        self._write({name: value for name, value in document.items() if value is not None})

    def add(self, entry: SubjectEntry | VolumeEntry) -> None:
        """Write one entry."""
        document = {name: value for name, value in vars(entry).items() if value not in (None, {})}
        self._content.update(self._write(document))

    def finish(self) -> Digests:
        """Write the last line."""
        digests = Digests(f"blake3:{self._whole.hexdigest()}", f"blake3:{self._content.hexdigest()}")
        self._file.write(canonical(vars(digests)) + b"\n")
        return digests

    def _write(self, document: Mapping[str, Any]) -> bytes:
        line = canonical(document) + b"\n"
        self._file.write(line)
        self._whole.update(line)
        return line


class Manifest:
    """A manifest in a file, read line by line; each iteration reads it anew.

    Raises
    ------
    SchemaError
        The file is no manifest, of another version, cut off or changed. `check` reads it to its end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header = self._header()

    def _lines(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as file:
                yield from file
        except OSError as error:
            raise SchemaError(f"{self.path}: can't be read: {error.strerror or error}") from error

    def _document(self, line: bytes) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise SchemaError(f"{self.path} is no manifest of a data set, or a damaged one; make it anew")
        return found

    def _header(self) -> ManifestHeader:
        document = self._document(next(self._lines(), b""))
        if document.pop("format", None) != FORMAT:
            raise SchemaError(
                f"{self.path} is no manifest of a data set; `radiobject-assets manifest` writes one"
            )
        if (version := document.pop("format_version", None)) != FORMAT_VERSION:
            raise SchemaError(f"{self.path} is of version {version}; this program reads {FORMAT_VERSION}")
        document.setdefault("snapshot", None)
        try:
            return ManifestHeader(**document)
        except TypeError:
            raise SchemaError(f"{self.path}: its header is damaged; make it anew") from None

    def check(self) -> Digests:
        """Read all of it, and compare it with the digests of its last line."""
        whole, content = blake3(), blake3()
        last = b""
        for number, line in enumerate(self._lines()):
            if last:
                whole.update(last)
                if number > 1:
                    content.update(last)
            last = line
        said = self._document(last)
        found = Digests(f"blake3:{whole.hexdigest()}", f"blake3:{content.hexdigest()}")
        if said != vars(found):
            raise SchemaError(f"{self.path} was cut off or changed after it was written; make it anew")
        return found

    def subjects(self) -> Iterator[SubjectEntry]:
        """The subjects, sorted by token."""
        for document in self._entries():
            if "volume" in document:
                return
            yield SubjectEntry(**document)

    def volumes(self) -> Iterator[VolumeEntry]:
        """The volumes, sorted by token."""
        for document in self._entries():
            if "volume" in document:
                for name in ("shape", "affine", "rescale"):
                    document[name] = tuple(document[name])
                yield VolumeEntry(**document)

    def _entries(self) -> Iterator[dict[str, Any]]:
        for number, line in enumerate(self._lines()):
            if number and not line.startswith(b'{"content"'):
                yield self._document(line)
