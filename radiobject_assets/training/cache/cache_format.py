"""The patch cache on disk (format 2).

    patches-<address>/
      meta.json            format, sampling, snapshot, shards with their sizes, counts; digests of itself
                           and of the index
      index.parquet        one row a patch, with digests of its bytes
      <shard>.image.npy    (N, X, Y, Z), C order, stored dtype
      <shard>.label.npy    the same patches of the label volumes, where there are labels

Shards are ordinary `.npy` files (`numpy.load(..., mmap_mode="r")` reads them) whose header is padded to one
page, so that patches begin at page borders. A shard has one dtype and belongs to whole volumes. The address
is a digest of what the patches are cut from and how: the same input always has the same address, whoever
builds it, and a cache never changes once it has its name.

Every byte is covered by a digest: `meta.json` has its own and that of the index, the index has one for each
patch (XXH3: against accidents, at the speed of memory; nobody is kept from changing a cache on purpose).
"""

from __future__ import annotations

import errno
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from radiobject_assets.dataset.training_section import PatchesConfig
from radiobject_assets.errors import DamagedCacheError, OldCacheError, StorageError
from radiobject_assets.training.pairing import LINEAGE_COLUMNS, VolumeRow

FORMAT = "radiobject-assets/patch-cache"
FORMAT_VERSION = 2
META_FILE, INDEX_FILE = "meta.json", "index.parquet"
FOLDER_PREFIX = "patches-"
HEADER_BYTES = 4096
"""Bytes before the first patch of a shard: one page, so that patches can be read ahead page by page."""

INDEX_SCHEMA = pa.schema(
    [
        ("obs_id", pa.string()),
        ("obs_subject_id", pa.string()),
        ("label_obs_id", pa.string()),
        ("patch", pa.int32()),  # number within the volume
        ("shard", pa.string()),
        ("row", pa.int32()),  # within the shard
        ("start_x", pa.int32()),  # first voxel in the volume; negative where padded
        ("start_y", pa.int32()),
        ("start_z", pa.int32()),
        ("t", pa.int32()),
        ("foreground", pa.bool_()),
        ("slope", pa.float64()),  # physical = stored * slope + intercept
        ("intercept", pa.float64()),
        ("padding", pa.float64()),  # stored value outside the volume; null where nothing is padded
        *((f"affine_{i}{j}", pa.float64()) for i in range(3) for j in range(4)),  # of the patch itself
        *((name, pa.string()) for name in LINEAGE_COLUMNS),
        ("volume_key", pa.string()),
        ("image_digest", pa.uint64()),  # of the patch as stored: `patch_digest`
        ("label_digest", pa.uint64()),  # null without labels
    ]
)


@dataclass(frozen=True)
class ShardMeta:
    """One shard: its name, how many patches it has room for, and its dtypes."""

    name: str
    rows: int
    image_dtype: str
    label_dtype: str | None


@dataclass(frozen=True)
class CacheMeta:
    """What `meta.json` says."""

    address: str
    size_voxels: tuple[int, int, int]
    sampling: dict[str, Any]
    snapshot: str
    """Name of the snapshot that the patches were cut from."""
    n_patches: int
    n_volumes: int
    n_subjects: int
    shards: tuple[ShardMeta, ...]
    index_digest: str
    """Of the bytes of `index.parquet`."""

    def to_json(self) -> str:
        """The text of `meta.json`."""
        content = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        return json.dumps({**content, "digest": _digest(content)}, indent=1)

    @staticmethod
    def read(path: Path) -> CacheMeta:
        """Read the `meta.json` of the cache at `path`.

        Raises
        ------
        DamagedCacheError
            It is not what was written.
        StorageError
            There is no patch cache, one of another format, or it can't be read now.
        """
        try:
            text = (path / META_FILE).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            if path.is_dir() and path.name.startswith(
                FOLDER_PREFIX
            ):  # removed in part, by whoever was killed
                raise DamagedCacheError(f"{path / META_FILE}: is missing; {REPAIR}") from None
            message = f"{path}: there is no patch cache; `build_patch_cache` makes one"
            raise StorageError(message) from None
        except OSError as error:
            raise not_now(path / META_FILE, error) from error
        damaged = DamagedCacheError(f"{path / META_FILE}: damaged; {REPAIR}")
        try:
            content = json.loads(text)
            said = content.pop("digest", None)
            kind, version = content.pop("format", None), content.pop("format_version", None)
        except (ValueError, AttributeError, TypeError, KeyError):
            raise damaged from None
        if kind != FORMAT and said is None and not path.name.startswith(FOLDER_PREFIX):
            raise StorageError(f"{path}: {META_FILE} is not that of a patch cache")
        if said is None and isinstance(version, int) and version != FORMAT_VERSION:
            raise _of_another_format(path, version)
        if said != _digest({"format": kind, "format_version": version, **content}):
            raise damaged
        if version != FORMAT_VERSION:
            raise _of_another_format(path, version)
        content["shards"] = tuple(ShardMeta(**shard) for shard in content["shards"])
        content["size_voxels"] = tuple(content["size_voxels"])
        return CacheMeta(**content)


REPAIR = "`build_patch_cache` (in Dagster: materialize patch_cache) cuts again from the store what is damaged"
"""What mends a damaged cache."""


def not_now(path: Path, error: OSError) -> StorageError:
    """A file that can't be opened or read, which says nothing about what is in it."""
    why = error.strerror or str(error)
    if error.errno == errno.EMFILE:
        why += ": allow this process more with `ulimit -n`"
    return StorageError(f"{path}: can't be read now ({why}). The patch cache itself may be sound: leave it")


def _of_another_format(path: Path, version: int) -> OldCacheError:
    return OldCacheError(
        f"{path}: patch cache of format {version}, but {FORMAT_VERSION} is read here: build it again"
    )


def shard_paths(folder: Path, shard: ShardMeta) -> list[Path]:
    """The one or two files of a shard."""
    kinds = ["image"] if shard.label_dtype is None else ["image", "label"]
    return [folder / f"{shard.name}.{kind}.npy" for kind in kinds]


def patch_digest(voxels: NDArray[Any]) -> int:
    """Digest of the bytes of one patch (X, Y, Z) as stored, in C order."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(voxels).data)


def index_digest(content: Any) -> str:
    """Digest of the bytes of the index."""
    return xxhash.xxh3_128_hexdigest(content)


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """A `.npy` version 1.0 header, padded with spaces to `HEADER_BYTES` (numpy.lib.format)."""
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    room = HEADER_BYTES - 10  # magic, version, length
    text = repr(described).encode("latin1")
    return b"\x93NUMPY\x01\x00" + room.to_bytes(2, "little") + text.ljust(room - 1) + b"\n"


def sampling_of(patches: PatchesConfig) -> dict[str, Any]:
    """What decides where patches are cut, as plain values."""
    said = patches.model_dump(mode="json")
    if patches.point is None:
        del said["point"]  # caches that were made before there was this key stay what they are
    return said


def sampling_digest(patches: PatchesConfig) -> str:
    """Digest of `sampling_of` and of the format."""
    return _digest({"format": FORMAT_VERSION, "sampling": sampling_of(patches)})


def cached_volume_key(sampling: str, image: VolumeRow, label: VolumeRow | None, t: int | None = None) -> str:
    """Digest of everything that the patches of one volume, and their index rows, depend on.

    Parameters
    ----------
    t
        The point of the image's fourth axis that was asked for, if any.
    """
    point = {} if t is None else {"t": t}
    return _digest(
        {"sampling": sampling, "image": _identity(image), "label": label and _identity(label), **point}
    )


def cache_address(sampling: str, volume_keys: list[str]) -> str:
    """Digest of a whole cache: how patches are cut, and from which volumes."""
    return _digest({"sampling": sampling, "volumes": sorted(volume_keys)})


def _identity(row: VolumeRow) -> dict[str, Any]:
    return {
        "obs_id": row.obs_id,
        "subject": row.obs_subject_id,
        "shape": row.shape,
        "dtype": row.dtype.str,
        "affine": row.affine.ravel().tolist(),
        "rescale": [row.slope, row.intercept],
        "content": row.content,
        "lineage": row.lineage,
    }


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
