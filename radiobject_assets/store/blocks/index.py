"""The tile index of a volume: where every block of stored voxels is, with a checksum of its bytes.

A reader that knows where blocks are fetches only those that a region touches, all of them at once, and
decodes them together. Without an index TileDB reads the array as any other; the index is made from
the array's own files and holds nothing that they don't.

    magic, length of the description, description (JSON), tables (offsets, sizes, checksums), checksum of all
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_hexdigest, xxh3_128_digest, xxh3_128_hexdigest

from radiobject_assets.store.blocks.tile_layout import CODECS, FORMAT_VERSION, DamagedBlockError, TileLayout

INDEX_NAME = "tiles.index"
# TileDB's name for the voxels of a fragment, relative to the array: the first attribute's file.
DATA_FILE = "__fragments/{}/a0.tdb"
INDEX_VERSION = 1
_MAGIC = b"RADTILES"
_HEAD = struct.Struct("<8sI")
_DIGEST_BYTES = 16


class IndexDamagedError(DamagedBlockError):
    """An index whose bytes are not those that were written, or of a version that is not known."""


@dataclass(frozen=True)
class DataFile:
    """A file of stored blocks: a fragment's."""

    name: str
    """Relative to the array."""
    nbytes: int
    blocks: int


@dataclass(frozen=True, eq=False)
class TileIndex:
    """Where the blocks of an array are: block by block in the order of tiles, the first axis fastest."""

    layout: TileLayout
    files: tuple[DataFile, ...]
    offsets: NDArray[np.uint64]
    """Of a block's bytes in its file."""
    sizes: NDArray[np.uint32]
    """Stored bytes of a block."""
    checksums: NDArray[np.uint64]
    """XXH3 (64 bits) of a block's stored bytes."""
    others: Mapping[str, str] = field(default_factory=dict)
    """Checksums (`checksum_of`) of the array's files that hold no voxels, by their names relative to it."""

    @property
    def known(self) -> bool:
        """Whether all voxels are in TileDB's format of the version that is read here: names end in it."""
        return all(file.name.split("/")[1].endswith(f"_{FORMAT_VERSION}") for file in self.files)

    def encode(self) -> bytes:
        """The index as it is kept in a file."""
        layout = self.layout
        description = {
            "version": INDEX_VERSION,
            "shape": layout.shape,
            "tile": layout.tile,
            "dtype": layout.dtype,
            "codec": layout.codec,
            "files": [[file.name, file.nbytes, file.blocks] for file in self.files],
            "others": dict(sorted(self.others.items())),
        }
        text = json.dumps(description, separators=(",", ":")).encode()
        tables = [
            self.offsets.astype("<u8").tobytes(),
            self.sizes.astype("<u4").tobytes(),
            self.checksums.astype("<u8").tobytes(),
        ]
        content = b"".join([_HEAD.pack(_MAGIC, len(text)), text, *tables])
        return content + xxh3_128_digest(content)

    @classmethod
    def decode(cls, content: bytes) -> TileIndex:
        """The index that a file holds.

        Raises
        ------
        IndexDamagedError
            If its checksum fails, or it is of another version.
        """
        body = memoryview(content)[:-_DIGEST_BYTES]
        if len(content) < _HEAD.size + _DIGEST_BYTES or xxh3_128_digest(body) != content[-_DIGEST_BYTES:]:
            raise IndexDamagedError("the checksum of the tile index fails")
        magic, length = _HEAD.unpack_from(body)
        if magic != _MAGIC:
            raise IndexDamagedError("not a tile index")
        described = json.loads(bytes(body[_HEAD.size : _HEAD.size + length]))
        if described.get("version") != INDEX_VERSION:
            raise IndexDamagedError(f"a tile index of version {described.get('version')}")
        files = tuple(DataFile(*entry) for entry in described["files"])
        layout = TileLayout(
            tuple(described["shape"]), tuple(described["tile"]), described["dtype"], described["codec"]
        )
        blocks = sum(file.blocks for file in files)
        if layout.codec not in CODECS:
            raise IndexDamagedError(f"the tile index names the codec {layout.codec}")
        if blocks != math.prod(layout.grid) * layout.blocks_per_tile:
            raise IndexDamagedError("the tile index does not cover its array")
        at = _HEAD.size + length
        offsets = np.frombuffer(body, "<u8", blocks, at)
        sizes = np.frombuffer(body, "<u4", blocks, at + 8 * blocks)
        checksums = np.frombuffer(body, "<u8", blocks, at + 12 * blocks)
        return cls(layout, files, offsets, sizes, checksums, described.get("others", {}))


def checksum_of(content: bytes) -> str:
    """XXH3 (64 bits) of a file that holds no voxels, as 16 hexadecimal digits."""
    return xxh3_64_hexdigest(content)


def index_digest_of(content: bytes) -> str:
    """The digest by which a volume's row names its index: `xxh3-128:` and 32 hexadecimal digits."""
    return f"xxh3-128:{xxh3_128_hexdigest(content)}"
