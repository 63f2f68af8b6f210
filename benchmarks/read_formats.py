"""The contenders of `benchmarks.read`: how each writes a volume to a folder and reads parts of it.

Every contender keeps its handles open between reads, as a training process would, and returns an array of
its own in memory (memory-mapped voxels are copied out, since a view reads nothing).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from radiobject_assets.store import (
    ReadConfig,
    SliceOrientation,
    TileConfig,
    VolumeCollection,
    commit_volumes,
    configure,
    ensure_collection,
    ensure_store,
    stage_volume,
)

Voxels = NDArray[np.int16]
Part = tuple[slice | int, ...]
Extents = tuple[int, int, int]
PATCH: Extents = (64, 64, 64)
"""Chunks of peers: the size of the region, as their users choose it."""
TILES: Extents = (64, 64, 32)
"""Our default tiles, which tensorstore gets as well, in a line of its own."""


class Reader(Protocol):
    """Reads one part of one volume."""

    def __call__(self, volume: int, part: Part) -> Voxels: ...


@dataclass(frozen=True)
class Format:
    """A way to keep volumes."""

    name: str
    write: Callable[[Path, Sequence[Voxels]], None]
    """Writes all volumes below an empty folder."""
    open: Callable[[Path, int], Reader]
    """Opens what was written, `count` volumes."""
    fortran: bool = False
    """Whether it stores the first axis fastest: it is then handed such arrays, others get C order."""
    before: Callable[[], None] = lambda: None
    """What is set in this process before it reads."""
    warm_up: int = 1
    """Passes over all regions before the timed ones."""


# -- ours -----------------------------------------------------------------------------------------------


def _write_ours(tile: TileConfig) -> Callable[[Path, Sequence[Voxels]], None]:
    def write(folder: Path, volumes: Sequence[Voxels]) -> None:
        ensure_store(str(folder))
        images = ensure_collection(str(folder), "mr")
        staged = [
            stage_volume(
                images,
                obs_id=f"s{i}_mr",
                obs_subject_id=f"s{i}",
                voxels=voxels,
                affine=np.diag([1.0, 1.0, 1.0, 1.0]),
                tile=tile,
            )
            for i, voxels in enumerate(volumes)
        ]
        commit_volumes(images, staged)

    return write


def _open_ours(folder: Path, count: int) -> Reader:
    opened = list(VolumeCollection(str(folder / "collections" / "mr")))
    assert len(opened) == count
    return lambda volume, part: opened[volume][part]


def _reading(cache_mb: int, verify: bool = True) -> Callable[[], None]:
    read = ReadConfig(tile_cache_size_mb=cache_mb, verify_checksums=verify)
    return lambda: configure(read=read)


# -- peers ----------------------------------------------------------------------------------------------


def _write_radiobject(orientation: str) -> Callable[[Path, Sequence[Voxels]], None]:
    def write(folder: Path, volumes: Sequence[Voxels]) -> None:
        settings, volume = import_module("radiobject.ctx"), import_module("radiobject.volume")
        settings.configure(tile=settings.TileConfig(orientation=settings.SliceOrientation(orientation)))
        for i, voxels in enumerate(volumes):
            volume.Volume.from_numpy(str(folder / str(i)), voxels)

    return write


def _open_radiobject(folder: Path, count: int) -> Reader:
    volume = import_module("radiobject.volume")
    opened = [volume.Volume(str(folder / str(i))) for i in range(count)]
    return lambda i, part: np.asarray(opened[i][part])


def _write_zarr(folder: Path, volumes: Sequence[Voxels]) -> None:
    zarr = import_module("zarr")
    for i, voxels in enumerate(volumes):
        zarr.create_array(store=str(folder / f"{i}.zarr"), data=voxels, chunks=PATCH)


def _open_zarr(folder: Path, count: int) -> Reader:
    zarr = import_module("zarr")
    opened = [zarr.open_array(str(folder / f"{i}.zarr"), mode="r") for i in range(count)]
    return lambda i, part: np.asarray(opened[i][part])


_BLOSC = {"typesize": 2, "cname": "zstd", "clevel": 1, "shuffle": "shuffle", "blocksize": 0}
_CODECS: dict[str, dict[str, Any]] = {
    "zstd": {"name": "zstd", "configuration": {"level": 1}},
    "blosc": {"name": "blosc", "configuration": _BLOSC},
}


def _tensorstore_array(path: Path, new: tuple[str, Extents, Sequence[int]] | None = None) -> Any:
    tensorstore = import_module("tensorstore")
    spec: dict[str, Any] = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    if new is not None:
        codec, chunks, shape = new
        spec["metadata"] = {
            "shape": list(shape),
            "data_type": "int16",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}},
            "codecs": [{"name": "bytes"}, _CODECS[codec]],
        }
    return tensorstore.open(spec, create=new is not None, open=True).result()


def _write_tensorstore(codec: str, chunks: Extents) -> Callable[[Path, Sequence[Voxels]], None]:
    def write(folder: Path, volumes: Sequence[Voxels]) -> None:
        for i, voxels in enumerate(volumes):
            _tensorstore_array(folder / str(i), (codec, chunks, voxels.shape)).write(voxels).result()

    return write


def _open_tensorstore(folder: Path, count: int) -> Reader:
    opened = [_tensorstore_array(folder / str(i)) for i in range(count)]
    return lambda i, part: np.asarray(opened[i][part].read().result())


def _write_blosc2(folder: Path, volumes: Sequence[Voxels]) -> None:
    blosc2 = import_module("blosc2")
    for i, voxels in enumerate(volumes):
        # Block, chunk and level as nnU-Net chooses them for 64^3 patches.
        blosc2.asarray(
            voxels, urlpath=str(folder / f"{i}.b2nd"), chunks=(64, 64, 64), blocks=(32, 32, 32),
            cparams={"codec": blosc2.Codec.ZSTD, "clevel": 8},
        )  # fmt: skip


def _open_blosc2(folder: Path, count: int) -> Reader:
    blosc2 = import_module("blosc2")
    opened = [blosc2.open(urlpath=str(folder / f"{i}.b2nd"), mode="r", mmap_mode="r") for i in range(count)]
    return lambda i, part: np.asarray(opened[i][part])


def _write_nifti(suffix: str) -> Callable[[Path, Sequence[Voxels]], None]:
    def write(folder: Path, volumes: Sequence[Voxels]) -> None:
        nibabel = import_module("nibabel")
        for i, voxels in enumerate(volumes):
            nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), folder / f"{i}{suffix}")

    return write


def _open_nifti(suffix: str) -> Callable[[Path, int], Reader]:
    def open_all(folder: Path, count: int) -> Reader:
        nibabel = import_module("nibabel")
        opened = [nibabel.load(folder / f"{i}{suffix}") for i in range(count)]
        return lambda i, part: np.array(opened[i].dataobj[part])

    return open_all


def _write_npy(folder: Path, volumes: Sequence[Voxels]) -> None:
    for i, voxels in enumerate(volumes):
        np.save(folder / f"{i}.npy", voxels)


def _open_npy(folder: Path, count: int) -> Reader:
    opened = [np.load(folder / f"{i}.npy", mmap_mode="r") for i in range(count)]
    return lambda i, part: np.array(opened[i][part])


_ISOTROPIC, _AXIAL = TileConfig(), TileConfig(orientation=SliceOrientation.AXIAL)
OURS = "radiobject-assets"
OURS_UNVERIFIED = "radiobject-assets, unverified"
OURS_WARM = "radiobject-assets, cache warm"
OURS_AXIAL = "radiobject-assets, axial tiles"
RADIOBJECT = "RadiObject 0.1.1 (axial tiles)"
RADIOBJECT_ISOTROPIC = "RadiObject 0.1.1, isotropic"
ZARR = "zarr 3"
TENSORSTORE = "tensorstore, zstd"
TENSORSTORE_BLOSC = "tensorstore, blosc zstd"
TENSORSTORE_TILES = "tensorstore, blosc zstd, our tiles"
NPY = "memory-mapped npy"


def _ours(name: str, tile: TileConfig, before: Callable[[], None], warm_up: int = 1) -> Format:
    return Format(name, _write_ours(tile), _open_ours, fortran=True, before=before, warm_up=warm_up)


def _tensorstore(name: str, codec: str, chunks: Extents) -> Format:
    return Format(name, _write_tensorstore(codec, chunks), _open_tensorstore)


FORMATS = (
    _ours(OURS, _ISOTROPIC, _reading(cache_mb=0)),
    _ours(OURS_UNVERIFIED, _ISOTROPIC, _reading(cache_mb=0, verify=False)),
    # Three passes: the cache keeps a tile when it is wanted for the second time.
    _ours(OURS_WARM, _ISOTROPIC, _reading(cache_mb=256), warm_up=3),
    _ours(OURS_AXIAL, _AXIAL, _reading(cache_mb=0)),
    Format(RADIOBJECT, _write_radiobject("axial"), _open_radiobject),
    Format(RADIOBJECT_ISOTROPIC, _write_radiobject("isotropic"), _open_radiobject),
    Format(ZARR, _write_zarr, _open_zarr),
    _tensorstore(TENSORSTORE, "zstd", PATCH),
    _tensorstore(TENSORSTORE_BLOSC, "blosc", PATCH),
    _tensorstore(TENSORSTORE_TILES, "blosc", TILES),
    Format("blosc2 (nnU-Net's way)", _write_blosc2, _open_blosc2),
    Format("nibabel .nii.gz", _write_nifti(".nii.gz"), _open_nifti(".nii.gz"), fortran=True),
    Format("nibabel .nii", _write_nifti(".nii"), _open_nifti(".nii"), fortran=True),
    Format(NPY, _write_npy, _open_npy),
)
