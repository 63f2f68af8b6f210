"""Training throughput: random 64^3 patches as float32 batches, ours and what people use today, in one run.

    python -m benchmarks.train [--volumes 6] [--seconds 3] [--rounds 5] [--batch-sizes 4 32]

Every contender reads the same volumes (240 x 240 x 155, int16, MR-like: smooth, noisy, black background) from
local disk in its own format, in the training process (`num_workers=0`), and hands over float32 tensors
(B, 1, 64, 64, 64). Rounds are interleaved, so that a slow moment of the machine hits all alike; the table
shows the median of the rounds. Contenders whose package is absent are left out and named. "memory-mapped
npy" is the limit: bare copies into a reused buffer, without shuffling, labels, rescale or bookkeeping.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.measure import RESULTS, show, wide_console, write_json
from radiobject_assets.dataset.training_section import PatchesConfig
from radiobject_assets.store import (
    RadiObject,
    commit_volumes,
    create_snapshot,
    ensure_collection,
    ensure_store,
    stage_volume,
    upsert_subjects,
)
from radiobject_assets.system.memory import MemoryBudget
from radiobject_assets.training import build_patch_cache, create_training_dataloader, patch_loader

SHAPE, SIZE = (240, 240, 155), 64
PER_VOLUME = 32
Batches = Iterator[torch.Tensor]
"""An endless stream of batches."""


@dataclass
class Workspace:
    """The volumes, and a folder for everyone's files."""

    folder: Path
    volumes: list[NDArray[np.int16]]
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def start(self) -> tuple[int, int, int]:
        """A random place of a patch."""
        x, y, z = (int(self.rng.integers(0, n - SIZE + 1)) for n in SHAPE)
        return x, y, z

    def niftis(self) -> list[Path]:
        """The volumes as uncompressed NIfTI files, written once."""
        paths = [self.folder / f"volume_{i}.nii" for i in range(len(self.volumes))]
        for path, voxels in zip(paths, self.volumes, strict=True):
            if not path.exists():
                nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)
        return paths

    def collection(self) -> RadiObject:
        """The volumes in a store of ours, written once."""
        uri = str(self.folder / "store")
        if not Path(uri).exists():
            ensure_store(uri)
            images = ensure_collection(uri, "mr")
            ids = [f"s{i}" for i in range(len(self.volumes))]
            upsert_subjects(uri, pd.DataFrame({"obs_subject_id": ids}))
            staged = [
                stage_volume(
                    images, obs_id=f"{subject}_mr", obs_subject_id=subject, voxels=voxels, affine=np.eye(4)
                )
                for subject, voxels in zip(ids, self.volumes, strict=True)
            ]
            commit_volumes(images, staged)
            create_snapshot(uri, "benchmark")
        return RadiObject(uri)


def make_volumes(count: int) -> list[NDArray[np.int16]]:
    """Volumes that compress as MR does: smooth tissue with noise inside an ellipsoid, zero outside."""
    rng = np.random.default_rng(7)
    axes = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in SHAPE], indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.7
    volumes = []
    for _ in range(count):
        phase = rng.uniform(0, 6, 3)
        tissue = 500 + 150 * sum(np.sin(5 * axis + p) for axis, p in zip(axes, phase, strict=True))
        noisy = tissue + rng.normal(0, 20, SHAPE).astype(np.float32)
        volumes.append(np.where(inside, noisy, 0).astype(np.int16))
    return volumes


# -- contenders: each prepares its files, and returns an endless stream of batches ----------------------


def memory_mapped_npy(work: Workspace, batch_size: int) -> Batches:
    path = work.folder / "patches.npy"
    if not path.exists():
        patches = [_crop(voxels, work.start()) for voxels in work.volumes for _ in range(PER_VOLUME)]
        np.save(path, np.stack(patches))
    mapped = np.load(path, mmap_mode="r")
    buffer = np.empty((batch_size, SIZE, SIZE, SIZE), np.float32)
    tensor = torch.from_numpy(buffer)[:, None]
    while True:
        for place, index in enumerate(work.rng.integers(0, len(mapped), batch_size)):
            np.copyto(buffer[place], mapped[index])
        yield tensor


def our_patch_cache(work: Workspace, batch_size: int) -> Batches:
    store = work.collection()
    info = build_patch_cache(
        store.uri,
        snapshot="benchmark",
        subjects=store.obs_subject_ids,
        patches=PatchesConfig(image="mr", size_voxels=(SIZE, SIZE, SIZE), per_volume=PER_VOLUME),
        out_dir=work.folder / "patches",
        budget=MemoryBudget(1024),
    )
    loader = patch_loader(info.path, batch_size, drop_last=True)
    while True:
        for batch in loader:
            yield batch["image"]


def our_volumes(work: Workspace, batch_size: int) -> Batches:
    loader = create_training_dataloader(
        work.collection().mr,
        batch_size=batch_size,
        patch_size=(SIZE, SIZE, SIZE),
        patches_per_volume=PER_VOLUME,
    )
    while True:
        for batch in loader:
            yield batch["image"]


def radiobject_loader(work: Workspace, batch_size: int) -> Batches:
    collections = import_module("radiobject.volume_collection")
    factory = import_module("radiobject.ml.factory")
    uri = str(work.folder / "radiobject")
    if Path(uri).exists():
        collection = collections.VolumeCollection(uri)
    else:
        pairs = [(path, f"s{i}") for i, path in enumerate(work.niftis())]
        collection = collections.VolumeCollection.from_niftis(uri, pairs, name="mr")
    loader = factory.create_training_dataloader(
        collection,
        batch_size=batch_size,
        patch_size=(SIZE, SIZE, SIZE),
        num_workers=0,
        patches_per_volume=PER_VOLUME,
    )
    while True:
        for batch in loader:
            yield batch["image"].float()


def zarr_crops(work: Workspace, batch_size: int) -> Batches:
    zarr = import_module("zarr")
    arrays = []
    for i, voxels in enumerate(work.volumes):
        path = work.folder / f"volume_{i}.zarr"
        if not path.exists():
            zarr.create_array(store=str(path), data=voxels, chunks=(SIZE, SIZE, SIZE))
        arrays.append(zarr.open_array(str(path), mode="r"))
    return _random_crops(work, batch_size, arrays)


def tensorstore_crops(work: Workspace, batch_size: int) -> Batches:
    tensorstore = import_module("tensorstore")
    arrays = []
    for i, voxels in enumerate(work.volumes):
        path = work.folder / f"volume_{i}.tensorstore"
        new = not path.exists()
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}
        if new:
            chunks = {"name": "regular", "configuration": {"chunk_shape": [SIZE] * 3}}
            codecs = [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}]
            spec["metadata"] = {
                "shape": list(SHAPE), "chunk_grid": chunks, "data_type": "int16", "codecs": codecs,
            }  # fmt: skip
        array = tensorstore.open(spec, create=new, open=True).result()
        if new:
            array.write(voxels).result()
        arrays.append(array)
    while True:
        batch = np.empty((batch_size, 1, SIZE, SIZE, SIZE), np.float32)
        for place in range(batch_size):
            x, y, z = work.start()
            array = arrays[int(work.rng.integers(len(arrays)))]
            batch[place, 0] = array[x : x + SIZE, y : y + SIZE, z : z + SIZE].read().result()
        yield torch.from_numpy(batch)


def blosc2_crops(work: Workspace, batch_size: int) -> Batches:
    blosc2 = import_module("blosc2")
    blosc2.set_nthreads(1)
    arrays = []
    for i, voxels in enumerate(work.volumes):
        path = work.folder / f"volume_{i}.b2nd"
        if not path.exists():
            # block and chunk sizes as nnU-Net chooses them for 64^3 patches
            blosc2.asarray(
                np.ascontiguousarray(voxels), urlpath=str(path), chunks=(SIZE,) * 3, blocks=(32,) * 3,
                cparams={"codec": blosc2.Codec.ZSTD, "clevel": 8},
            )  # fmt: skip
        arrays.append(blosc2.open(urlpath=str(path), mode="r", mmap_mode="r"))
    return _random_crops(work, batch_size, arrays)


def torchio_queue(work: Workspace, batch_size: int) -> Batches:
    tio = import_module("torchio")
    subjects = [tio.Subject(image=tio.ScalarImage(path)) for path in work.niftis()]
    dataset = tio.SubjectsDataset(subjects)
    while True:
        queue = tio.Queue(
            dataset,
            max_length=4 * PER_VOLUME,
            samples_per_volume=PER_VOLUME,
            sampler=tio.UniformSampler(SIZE),
        )
        for batch in tio.SubjectsLoader(queue, batch_size=batch_size):
            yield batch["image"][tio.DATA].float()


def monai_cache_dataset(work: Workspace, batch_size: int) -> Batches:
    data = import_module("monai.data")
    files = [{"image": str(path)} for path in work.niftis()]
    return _monai(data.CacheDataset(files, _monai_transforms(), progress=False), batch_size)


def monai_persistent_dataset(work: Workspace, batch_size: int) -> Batches:
    data = import_module("monai.data")
    files = [{"image": str(path)} for path in work.niftis()]
    folder = str(work.folder / "monai")
    return _monai(data.PersistentDataset(files, _monai_transforms(), cache_dir=folder), batch_size)


def _monai_transforms() -> Any:
    transforms = import_module("monai.transforms")
    return transforms.Compose(
        [
            transforms.LoadImaged("image", image_only=True, ensure_channel_first=True),
            transforms.RandSpatialCropSamplesd(
                "image", (SIZE, SIZE, SIZE), num_samples=PER_VOLUME, random_size=False
            ),
        ]
    )


def _monai(dataset: Any, batch_size: int) -> Batches:
    # many crops of one volume, then shuffled: the quickest way that MONAI documents
    flatten = import_module("monai.data").list_data_collate
    while True:
        for crops in torch.utils.data.DataLoader(dataset, batch_size=1, shuffle=True, collate_fn=flatten):
            images = crops["image"].as_tensor().float()
            order = torch.randperm(len(images))
            for first in range(0, len(images) - batch_size + 1, batch_size):
                yield images[order[first : first + batch_size]]


def _crop(array: Any, start: tuple[int, int, int]) -> NDArray[np.int16]:
    x, y, z = start
    return np.asarray(array[x : x + SIZE, y : y + SIZE, z : z + SIZE])


def _random_crops(work: Workspace, batch_size: int, arrays: list[Any]) -> Batches:
    while True:
        batch = np.empty((batch_size, 1, SIZE, SIZE, SIZE), np.float32)
        for place in range(batch_size):
            batch[place, 0] = _crop(arrays[int(work.rng.integers(len(arrays)))], work.start())
        yield torch.from_numpy(batch)


CONTENDERS: dict[str, Callable[[Workspace, int], Batches]] = {
    "memory-mapped npy (the limit)": memory_mapped_npy,
    "radiobject-assets: patch cache": our_patch_cache,
    "radiobject-assets: from volumes": our_volumes,
    "RadiObject 0.1.1": radiobject_loader,
    "zarr": zarr_crops,
    "tensorstore": tensorstore_crops,
    "blosc2 (nnU-Net's way)": blosc2_crops,
    "TorchIO Queue": torchio_queue,
    "MONAI CacheDataset": monai_cache_dataset,
    "MONAI PersistentDataset": monai_persistent_dataset,
}


def patches_per_second(batches: Batches, batch_size: int, seconds: float) -> float:
    """Throughput after one warm-up batch; every batch is touched, as a copy to a GPU would."""
    _check(next(batches), batch_size)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        count += len(next(batches))
    return count / (time.perf_counter() - start)


def _check(batch: torch.Tensor, batch_size: int) -> None:
    expected = (batch_size, 1, SIZE, SIZE, SIZE)
    if tuple(batch.shape) != expected or batch.dtype != torch.float32:
        raise ValueError(f"got {tuple(batch.shape)} {batch.dtype}, expected {expected} float32")


def measure(
    work: Workspace, batch_size: int, rounds: int, seconds: float, console: Console
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Patches a second of every contender, one number a round; and who was left out, with the reason."""
    streams: dict[str, Batches] = {}
    left_out: dict[str, str] = {}
    for name, contender in CONTENDERS.items():
        try:
            stream = contender(work, batch_size)
            _check(next(stream), batch_size)
            streams[name] = stream
        except ImportError as error:
            left_out[name] = f"{error.name} is not installed"
        except Exception as error:  # noqa: BLE001  (whatever fails in a peer is reported, the others go on)
            left_out[name] = f"failed: {type(error).__name__}: {error}"
    rates: dict[str, list[float]] = {name: [] for name in streams}
    names = list(streams)
    for number in range(rounds):
        console.print(f"batch {batch_size}, round {number + 1} of {rounds}", style="dim")
        first = number % len(names)
        for name in names[first:] + names[:first]:
            rates[name].append(patches_per_second(streams[name], batch_size, seconds))
    return rates, left_out


def rows(rates: dict[str, list[float]], batch_size: int) -> list[dict[str, Any]]:
    """One row a contender, medians first."""
    limit = statistics.median(rates[next(iter(CONTENDERS))])
    return [
        {
            "name": name,
            "batch_size": batch_size,
            "median_per_s": round(statistics.median(numbers)),
            "min_per_s": round(min(numbers)),
            "max_per_s": round(max(numbers)),
            "percent_of_limit": round(100 * statistics.median(numbers) / limit),
        }
        for name, numbers in rates.items()
    ]


COLUMNS = {
    "name": "batches from",
    "batch_size": "batch",
    "median_per_s": "patches/s",
    "min_per_s": "slowest",
    "max_per_s": "fastest",
    "percent_of_limit": "% of limit",
}


def main() -> int:
    """Measure, print the table, write `results/train.json`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--volumes", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[4, 32])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    options = parser.parse_args()
    console = wide_console()
    found: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Workspace(Path(folder), make_volumes(options.volumes))
        for batch_size in options.batch_sizes:
            rates, missing = measure(work, batch_size, options.rounds, options.seconds, console)
            found += rows(rates, batch_size)
            left_out |= missing
    title = f"{SIZE}^3 patches as float32 batches, {options.volumes} volumes, {options.rounds} rounds"
    show(title, found, COLUMNS, console)
    for name, reason in left_out.items():
        console.print(f"left out: {name}: {reason}", markup=False)
    written = {
        "volume": SHAPE,
        "patch": SIZE,
        "volumes": options.volumes,
        "contenders": found,
        "left_out": left_out,
    }
    console.print(f"written: {write_json('train', written, options.results)}")
    return int(any(reason.startswith("failed") for reason in left_out.values()))


if __name__ == "__main__":
    sys.exit(main())
