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
CHUNKS = (64, 64, 32)
"""Ours is the default; peers get the same, which is faster for all of them here than 64 x 64 x 64."""


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


def _cache_mb(size: int) -> Callable[[], None]:
    return lambda: configure(read=ReadConfig(tile_cache_size_mb=size))


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
        zarr.create_array(store=str(folder / f"{i}.zarr"), data=voxels, chunks=CHUNKS)


def _open_zarr(folder: Path, count: int) -> Reader:
    zarr = import_module("zarr")
    opened = [zarr.open_array(str(folder / f"{i}.zarr"), mode="r") for i in range(count)]
    return lambda i, part: np.asarray(opened[i][part])


_BLOSC = {"typesize": 2, "cname": "zstd", "clevel": 1, "shuffle": "shuffle", "blocksize": 0}
_TENSORSTORE = {
    "zstd": {"name": "zstd", "configuration": {"level": 1}},
    "blosc": {"name": "blosc", "configuration": _BLOSC},
}


def _tensorstore_array(path: Path, codec: str, shape: Sequence[int] | None = None) -> Any:
    tensorstore = import_module("tensorstore")
    spec: dict[str, Any] = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
    if shape is not None:
        spec["metadata"] = {
            "shape": list(shape),
            "data_type": "int16",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(CHUNKS)}},
            "codecs": [{"name": "bytes"}, _TENSORSTORE[codec]],
        }
    return tensorstore.open(spec, create=shape is not None, open=True).result()


def _write_tensorstore(codec: str) -> Callable[[Path, Sequence[Voxels]], None]:
    def write(folder: Path, volumes: Sequence[Voxels]) -> None:
        for i, voxels in enumerate(volumes):
            _tensorstore_array(folder / str(i), codec, voxels.shape).write(voxels).result()

    return write


def _open_tensorstore(codec: str) -> Callable[[Path, int], Reader]:
    def open_all(folder: Path, count: int) -> Reader:
        opened = [_tensorstore_array(folder / str(i), codec) for i in range(count)]
        return lambda i, part: np.asarray(opened[i][part].read().result())

    return open_all


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
    opened = [
        blosc2.open(urlpath=str(folder / f"{i}.b2nd"), mode="r", mmap_mode="r") for i in range(count)
    ]
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
OURS_WARM = "radiobject-assets, cache warm"
OURS_AXIAL = "radiobject-assets, axial tiles"
RADIOBJECT = "RadiObject 0.1.1 (axial tiles)"
RADIOBJECT_ISOTROPIC = "RadiObject 0.1.1, isotropic"
ZARR = "zarr 3"
TENSORSTORE, TENSORSTORE_BLOSC = "tensorstore, zstd", "tensorstore, blosc zstd"
NPY = "memory-mapped npy"

FORMATS = (
    Format(OURS, _write_ours(_ISOTROPIC), _open_ours, fortran=True, before=_cache_mb(0)),
    # Two passes: the cache keeps a tile when it is wanted for the second time.
    Format(OURS_WARM, _write_ours(_ISOTROPIC), _open_ours, fortran=True, before=_cache_mb(256), warm_up=3),
    Format(OURS_AXIAL, _write_ours(_AXIAL), _open_ours, fortran=True, before=_cache_mb(0)),
    Format(RADIOBJECT, _write_radiobject("axial"), _open_radiobject),
    Format(RADIOBJECT_ISOTROPIC, _write_radiobject("isotropic"), _open_radiobject),
    Format(ZARR, _write_zarr, _open_zarr),
    Format(TENSORSTORE, _write_tensorstore("zstd"), _open_tensorstore("zstd")),
    Format(TENSORSTORE_BLOSC, _write_tensorstore("blosc"), _open_tensorstore("blosc")),
    Format("blosc2 (nnU-Net's way)", _write_blosc2, _open_blosc2),
    Format("nibabel .nii.gz", _write_nifti(".nii.gz"), _open_nifti(".nii.gz"), fortran=True),
    Format("nibabel .nii", _write_nifti(".nii"), _open_nifti(".nii"), fortran=True),
    Format(NPY, _write_npy, _open_npy),
)
