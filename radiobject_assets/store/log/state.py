"""What a manifest says: the state of a store after one commit, as immutable values and as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from blake3 import blake3

from radiobject_assets.errors import StorageError
from radiobject_assets.store.log.columns import Column, ColumnType

FORMAT_VERSION = 2
KINDS = ("store", "collection", "table")


class DamagedError(StorageError):
    """A file is not the one that was written."""


@dataclass(frozen=True)
class RowSegment:
    """A file of rows, named by the number of the state that its writer began from and a random token."""

    name: str
    rows: int
    """Deletions included."""
    deletions: int
    nbytes: int
    digest: str
    """BLAKE3 of the file, hexadecimal."""

    @property
    def base(self) -> int:
        """Number of the state that its writer began from."""
        return int(self.name.partition("-")[0])


@dataclass(frozen=True)
class TableState:
    """One table: its keys, its other columns in order of their creation, and its segments, oldest first."""

    keys: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    segments: tuple[RowSegment, ...] = ()


@dataclass(frozen=True)
class CollectionState:
    """What is said of a collection as a whole; its directory is its name in `State.collections`."""

    name: str
    created_ms: int
    shape: tuple[int, ...] | None = None
    """(X, Y, Z) that it was made for while it was empty."""


@dataclass(frozen=True)
class SnapshotEntry:
    """A named snapshot: a state that is kept."""

    number: int
    manifest: str
    """BLAKE3 of the manifest of that number, hexadecimal."""
    timestamp_ms: int
    """When that state was committed."""
    digest: str
    """Of subjects and rows with their voxel digests (`description.counts_and_digest`)."""
    counts: Mapping[str, int]
    created_ms: int


@dataclass(frozen=True)
class State:
    """A store, a collection of its own or a table of its own, after one commit."""

    kind: str
    """`store`, `collection` or `table`."""
    root_id: str
    """128 random bits, chosen when it was made: tells its manifests from those of another."""
    number: int = 0
    committed_ms: int = 0
    """Milliseconds since 1970; greater than that of every state before."""
    commit: str = ""
    """128 random bits, so that a writer knows its own."""
    operation: str = ""
    previous: str = ""
    """BLAKE3 of the manifest before, hexadecimal."""
    floor: int = 0
    """Manifests of lower numbers may have been removed, but for those of snapshots."""
    cleared: int = 0
    """Segments that no state names and whose base is lower may have been removed."""
    tables: Mapping[str, TableState] = field(default_factory=dict)
    """By folder under the root: `obs_meta`, `collections/<directory>/obs`."""
    collections: Mapping[str, CollectionState] = field(default_factory=dict)
    """By directory."""
    snapshots: Mapping[str, SnapshotEntry] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    replaced: Mapping[str, Mapping[str, RowSegment]] = field(default_factory=dict)
    """By table, and by the name of a segment that earlier manifests name: the one to read in its place."""
    revoked: tuple[str, ...] = ()
    """Files under `log/` that list the tokens of arrays which may no longer be committed."""
    digest: str = field(default="", compare=False)
    """BLAKE3 of the manifest, hexadecimal; not in it."""

    def table(self, name: str) -> TableState:
        """The table in a folder.

        Raises
        ------
        StorageError
            Where this state has none.
        """
        if name not in self.tables:
            raise StorageError(f"no table {name!r} in state {self.number}")
        return self.tables[name]

    def with_table(self, name: str, table: TableState) -> State:
        """This state with one table in another state."""
        return replace(self, tables={**self.tables, name: table})

    def as_in(self, newest: State) -> State:
        """This earlier state, its segments being those that took the place of erased ones since."""
        if not newest.replaced:
            return self
        tables = {}
        for name, table in self.tables.items():
            now = newest.replaced.get(name, {})
            segments = tuple(now.get(segment.name, segment) for segment in table.segments)
            tables[name] = replace(table, segments=segments)
        return replace(self, tables=tables)


def encode(state: State) -> bytes:
    """A manifest: one line of JSON, and one with its BLAKE3."""
    document: dict[str, Any] = {
        "format": f"radiobject-assets/{state.kind}",
        "format_version": FORMAT_VERSION,
        "root_id": state.root_id,
        "number": state.number,
        "committed_ms": state.committed_ms,
        "commit": state.commit,
        "operation": state.operation,
        "previous": state.previous,
        "floor": state.floor,
        "cleared": state.cleared,
        "tables": {name: _encode_table(table) for name, table in state.tables.items()},
        "collections": {name: _plain(one) for name, one in state.collections.items()},
        "snapshots": {name: _plain(one) for name, one in state.snapshots.items()},
        "properties": dict(state.properties),
        "replaced": {
            table: {old: _encode_segment(new) for old, new in names.items()}
            for table, names in state.replaced.items()
        },
        "revoked": list(state.revoked),
    }
    line = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return line + b"\n" + blake3(line).hexdigest().encode() + b"\n"


def decode_manifest(content: bytes, where: str) -> State:
    """The state that a manifest describes; `where` is its place, for errors.

    Raises
    ------
    StorageError
        Where it is damaged, or of a version that this program cannot read.
    """
    line, _, check = content.partition(b"\n")
    if check != blake3(line).hexdigest().encode() + b"\n":
        raise DamagedError(f"{where} is damaged: its checksum is wrong; restore it from a backup")
    document = json.loads(line)
    prefix, _, kind = str(document.get("format", "")).rpartition("/")
    if prefix != "radiobject-assets" or kind not in KINDS:
        raise StorageError(f"{where} is not a manifest of radiobject-assets")
    version = int(document["format_version"])
    if version != FORMAT_VERSION:
        raise StorageError(
            f"{where} has format version {version}; this program reads {FORMAT_VERSION}: "
            f"{'update it' if version > FORMAT_VERSION else 'ingest the data again'}"
        )
    return State(
        kind=kind,
        root_id=document["root_id"],
        number=document["number"],
        committed_ms=document["committed_ms"],
        commit=document["commit"],
        operation=document["operation"],
        previous=document["previous"],
        floor=document["floor"],
        cleared=document["cleared"],
        tables={name: _decode_table(table) for name, table in document["tables"].items()},
        collections={name: _collection(one) for name, one in document["collections"].items()},
        snapshots={name: SnapshotEntry(**one) for name, one in document["snapshots"].items()},
        properties=document["properties"],
        replaced={
            table: {old: RowSegment(*new) for old, new in names.items()}
            for table, names in document["replaced"].items()
        },
        revoked=tuple(document["revoked"]),
        digest=blake3_of(content),
    )


def blake3_of(content: bytes) -> str:
    """BLAKE3 of a file, hexadecimal."""
    return str(blake3(content).hexdigest())


def _plain(one: Any) -> dict[str, Any]:
    return {f.name: getattr(one, f.name) for f in fields(one) if getattr(one, f.name) is not None}


def _collection(one: Mapping[str, Any]) -> CollectionState:
    shape = one.get("shape")
    return CollectionState(one["name"], one["created_ms"], None if shape is None else tuple(shape))


def _encode_segment(segment: RowSegment) -> list[Any]:
    return [segment.name, segment.rows, segment.deletions, segment.nbytes, segment.digest]


def _encode_table(table: TableState) -> dict[str, Any]:
    return {
        "keys": list(table.keys),
        "columns": [[column.name, column.type and column.type.value] for column in table.columns],
        "segments": [_encode_segment(segment) for segment in table.segments],
    }


def _decode_table(table: Mapping[str, Any]) -> TableState:
    return TableState(
        tuple(table["keys"]),
        tuple(Column(name, kind and ColumnType(kind)) for name, kind in table["columns"]),
        tuple(RowSegment(*segment) for segment in table["segments"]),
    )
