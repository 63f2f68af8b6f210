"""What a user may set about reading, writing and S3, validated; and its translation to TileDB's settings.

The configuration of the process is one frozen value, replaced as a whole by `configure`. Secrets are not
part of it: S3 credentials come from the standard AWS chain when a context is made (`storage.context`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, Self

import tiledb
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from radiobject_assets.errors import ConfigurationError
from radiobject_assets.store.storage.aws_credentials import aws_credentials
from radiobject_assets.system.processes import usable_cores

MB = 1024 * 1024
# Not TileDB's: carried in its settings, so that it goes wherever a context goes.
DEADLINE_KEY = "radiobject_assets.s3_deadline_s"
# Of the AWS configuration files; TileDB has no setting for it.
PROFILE_KEY = "radiobject_assets.s3_profile"


class SliceOrientation(StrEnum):
    """Which access the tiles of an array favour."""

    AXIAL = "axial"
    SAGITTAL = "sagittal"
    CORONAL = "coronal"
    ISOTROPIC = "isotropic"


class Compressor(StrEnum):
    """Compression of the voxel tiles."""

    ZSTD = "zstd"
    LZ4 = "lz4"
    GZIP = "gzip"
    NONE = "none"


_MAX_LEVEL = {Compressor.ZSTD: 22, Compressor.LZ4: 16, Compressor.GZIP: 9, Compressor.NONE: 0}

# Measured on a 120 x 512 x 512 int16 CT: 64 x 64 x 32 reads random 64^3 regions 1.4x faster than 64 x 64 x 64
# and axial slices 3.7x faster, at the same size; smaller tiles gain nothing more.
_ISOTROPIC_EXTENTS = (64, 64, 32)


def _threads() -> int:
    """More threads than cores slow small reads down: 1.7 against 1.2 ms for a 64^3 region."""
    return min(8, usable_cores())


class _Settings(BaseModel):
    # Validators are made when something is validated: defaults are right as they are.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class TileConfig(_Settings):
    """Tile extents in voxels; those left out follow from `orientation`.

    Where a layer of tiles does not fit the memory of a writer they are thinner along z, unless `z` is given.
    """

    orientation: SliceOrientation = SliceOrientation.ISOTROPIC
    x: int | None = Field(default=None, ge=1)
    y: int | None = Field(default=None, ge=1)
    z: int | None = Field(default=None, ge=1)
    t: int = Field(default=1, ge=1)

    def extents_for_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Tile extents (x, y, z[, t]) for an array of `shape`, never larger than the array."""
        sx, sy, sz = shape[:3]
        auto = {
            SliceOrientation.AXIAL: (sx, sy, 1),
            SliceOrientation.SAGITTAL: (1, sy, sz),
            SliceOrientation.CORONAL: (sx, 1, sz),
            SliceOrientation.ISOTROPIC: _ISOTROPIC_EXTENTS,
        }[self.orientation]
        wanted = [own or fallback for own, fallback in zip((self.x, self.y, self.z), auto, strict=True)]
        if len(shape) == 4:
            wanted.append(self.t)
        return tuple(max(1, min(extent, size)) for extent, size in zip(wanted, shape, strict=True))


class CompressionConfig(_Settings):
    """Compression algorithm and level; a level above the algorithm's maximum is lowered to it."""

    algorithm: Compressor = Compressor.ZSTD
    # Level 1: level 3 is 0.4 % smaller and 10 % slower to write, level 5 is 45 % slower for nothing.
    level: int = Field(default=1, ge=-1, le=22)

    @model_validator(mode="after")
    def _clip_level(self) -> Self:
        highest = _MAX_LEVEL[self.algorithm]
        if self.level > highest:
            object.__setattr__(self, "level", highest)
        return self

    def as_filter(self, ctx: tiledb.Ctx | None = None) -> tiledb.Filter | None:
        """The TileDB filter, or None for no compression."""
        match self.algorithm:
            case Compressor.ZSTD:
                return tiledb.ZstdFilter(level=self.level, ctx=ctx)
            case Compressor.LZ4:
                return tiledb.LZ4Filter(level=self.level, ctx=ctx)
            case Compressor.GZIP:
                return tiledb.GzipFilter(level=self.level, ctx=ctx)
            case Compressor.NONE:
                return None


class OrientationConfig(_Settings):
    """What happens to the orientation of images that are read from files.

    Without `auto_detect` the header's orientation is not taken: the affine has the spacing only, and the
    volume says that its orientation is assumed. `reorient_on_load` turns images to `canonical_target`;
    `store_original_affine` then keeps the file's affine in the column `original_affine`.
    """

    auto_detect: bool = True
    canonical_target: Literal["RAS", "LAS", "LPS"] = "RAS"
    reorient_on_load: bool = False
    store_original_affine: bool = True


class WriteConfig(_Settings):
    """How new arrays are laid out."""

    tile: TileConfig = Field(default_factory=TileConfig.model_construct)
    compression: CompressionConfig = Field(default_factory=CompressionConfig.model_construct)
    orientation: OrientationConfig = Field(default_factory=OrientationConfig.model_construct)


class ReadConfig(_Settings):
    """Memory and threads.

    `memory_budget_mb` bounds TileDB's own memory (`sm.mem.total_budget`) and the largest array that one call
    returns; `tile_cache_size_mb` bounds the cache of decoded tiles; `concurrency` is the number of threads
    that compute inside TileDB (of those that wait for files there are `S3Config.max_parallel_ops` at least),
    of those that decode beside a reader and of those that compress for a writer, `max_workers` that of
    `map_on_threads`. Every
    block's checksum is verified whenever it is read; `verify_checksums=False` saves a few percent of a read
    (a quarter where an array has no tile index) where something else guards the disks.
    """

    memory_budget_mb: int = Field(default=1024, ge=64)
    tile_cache_size_mb: int = Field(default=128, ge=0)
    concurrency: int = Field(default_factory=_threads, ge=1, le=64)
    max_workers: int = Field(default=4, ge=1, le=32)
    verify_checksums: bool = True


class S3Config(_Settings):
    """Access to S3 or a server that speaks its protocol; credentials come from the AWS chain.

    `profile` names a section of the AWS configuration files, whose credentials are taken instead of others.
    Without `include_credentials` requests are anonymous, as public buckets allow them.

    A try waits `connect_timeout_ms` for a connection and `request_timeout_ms` (at least a second) without a
    byte; a request is tried `max_tries` times after the first, waiting `retry_scale_factor` milliseconds
    longer every time; and no operation of the store waits longer than `deadline_s` for a server that is
    silent or keeps asking to slow down, plus a second for each MB that it moves.
    """

    region: str = "us-east-1"
    endpoint: str | None = None
    use_virtual_addressing: bool = True
    max_parallel_ops: int = Field(default=8, ge=1)
    multipart_part_size_mb: int = Field(default=50, ge=5)
    include_credentials: bool = True
    profile: str | None = None
    connect_timeout_ms: int = Field(default=5_000, ge=100)
    request_timeout_ms: int = Field(default=10_000, ge=100)
    max_tries: int = Field(default=5, ge=1)
    retry_scale_factor: int = Field(default=25, ge=0)
    deadline_s: float = Field(default=60.0, gt=0)

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_a_server(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and ("@" in endpoint or not endpoint.strip()):
            raise ValueError("give scheme, host and port only, e.g. http://127.0.0.1:9000")
        return endpoint


class RadiObjectConfig(_Settings):
    """The whole configuration of a process.

    `voxels` says who reads and writes them: this package where it knows an array's format (`fast`, 2-5 times
    faster), or TileDB always. What is stored is the same.
    """

    write: WriteConfig = Field(default_factory=WriteConfig.model_construct)
    read: ReadConfig = Field(default_factory=ReadConfig.model_construct)
    s3: S3Config = Field(default_factory=S3Config.model_construct)
    voxels: Literal["fast", "tiledb"] = "fast"

    @model_validator(mode="before")
    @classmethod
    def _accept_io(cls, values: Any) -> Any:
        if isinstance(values, dict) and "io" in values:
            if "read" in values:
                raise ValueError("give `read` or its older name `io`, not both")
            return {("read" if name == "io" else name): value for name, value in values.items()}
        return values

    @property
    def tile(self) -> TileConfig:
        """Short for `write.tile`."""
        return self.write.tile

    @property
    def compression(self) -> CompressionConfig:
        """Short for `write.compression`."""
        return self.write.compression

    @property
    def orientation(self) -> OrientationConfig:
        """Short for `write.orientation`."""
        return self.write.orientation

    @property
    def io(self) -> ReadConfig:
        """RadiObject's older name of `read`."""
        return self.read

    def to_tiledb_config(self) -> tiledb.Config:
        """TileDB settings with the same effect, without credentials."""
        return tiledb.Config(self.tiledb_settings())

    def to_tiledb_ctx(self, **settings: str) -> tiledb.Ctx:
        """A new context with these settings, the credentials of the AWS chain, and further settings."""
        values = self.tiledb_settings()
        # Looking for credentials can take seconds where there are none, so only where S3 was configured.
        configured = self.s3.include_credentials and self.s3 != type(self.s3).model_construct()
        if configured and self.s3.profile is None:
            values.update(aws_credentials())
        values.update(settings)
        return tiledb.Ctx(tiledb.Config(values))

    def tiledb_settings(self) -> dict[str, str]:
        """The same as plain strings."""
        settings = {
            "sm.mem.total_budget": str(self.read.memory_budget_mb * MB),
            "sm.compute_concurrency_level": str(self.read.concurrency),
            # Threads that wait for a disk or for S3 need no core, and TileDB has no more files or requests
            # under way than threads: the rows of a commit are about 200 files, each put on disk by itself.
            "sm.io_concurrency_level": str(max(self.read.concurrency, self.s3.max_parallel_ops)),
            "sm.skip_checksum_validation": str(not self.read.verify_checksums).lower(),
            # Trimming the heap after every query costs more than the query: reads are 2-3x faster without.
            "sm.mem.malloc_trim": "false",
            # The default joins tiles 20 MB apart into one read: 20x the bytes that a small region needs, and
            # 1.3x slower on local disks.
            "vfs.min_batch_size": str(MB),
            "vfs.min_batch_gap": str(64 * 1024),
            "vfs.s3.region": self.s3.region,
            "vfs.s3.use_virtual_addressing": str(self.s3.use_virtual_addressing).lower(),
            "vfs.s3.max_parallel_ops": str(self.s3.max_parallel_ops),
            "vfs.s3.multipart_part_size": str(self.s3.multipart_part_size_mb * MB),
            "vfs.s3.connect_timeout_ms": str(self.s3.connect_timeout_ms),
            "vfs.s3.request_timeout_ms": str(self.s3.request_timeout_ms),
            "vfs.s3.connect_max_tries": str(self.s3.max_tries),
            "vfs.s3.connect_scale_factor": str(self.s3.retry_scale_factor),
            DEADLINE_KEY: str(self.s3.deadline_s),
        }
        if self.s3 != S3Config.model_construct():
            # A round trip costs more than reading over a gap: 1 request for a 64^3 region instead of 3.
            settings["vfs.min_batch_size"] = str(8 * MB)
            settings["vfs.min_batch_gap"] = str(MB)
        if not self.s3.include_credentials:
            settings["vfs.s3.no_sign_request"] = "true"
        if self.s3.profile:
            settings[PROFILE_KEY] = self.s3.profile
            settings["vfs.s3.config_source"] = "config_files"
        if self.s3.endpoint:
            scheme, separator, host = self.s3.endpoint.rpartition("://")
            settings["vfs.s3.endpoint_override"] = host.rstrip("/")
            if separator:
                settings["vfs.s3.scheme"] = scheme
        return settings


_current = RadiObjectConfig.model_construct()
_generation = 0


def get_radiobject_config() -> RadiObjectConfig:
    """The configuration of this process."""
    return _current


def config_generation() -> int:
    """A number that grows with every change of the configuration; contexts are remade when it moved."""
    return _generation


def configure(
    *,
    write: WriteConfig | None = None,
    read: ReadConfig | None = None,
    s3: S3Config | None = None,
    voxels: Literal["fast", "tiledb"] | None = None,
    tile: TileConfig | None = None,
    compression: CompressionConfig | None = None,
    orientation: OrientationConfig | None = None,
    io: ReadConfig | None = None,
) -> None:
    """Replace parts of the process's configuration; what is not given stays.

    `tile`, `compression` and `orientation` are short for parts of `write`, and `io` for `read`.

    >>> configure(write=WriteConfig(tile=TileConfig(orientation=SliceOrientation.AXIAL)))
    >>> reset_radiobject_config()
    """
    changes: dict[str, Any] = {}
    layout = write or _current.write
    parts = {"tile": tile, "compression": compression, "orientation": orientation}
    layout = layout.model_copy(update={name: part for name, part in parts.items() if part is not None})
    changes["write"] = layout
    if read is not None and io is not None:
        raise ConfigurationError("configure(): give `read` or its older name `io`, not both")
    changes["read"] = read or io or _current.read
    changes["s3"] = s3 or _current.s3
    changes["voxels"] = voxels or _current.voxels
    set_radiobject_config(RadiObjectConfig(**changes))


def set_radiobject_config(config: RadiObjectConfig) -> None:
    """Make `config` the process's configuration (a worker process receives its parent's this way)."""
    global _current, _generation
    _current = config
    _generation += 1


def reset_radiobject_config() -> None:
    """Return to the defaults."""
    set_radiobject_config(RadiObjectConfig.model_construct())
