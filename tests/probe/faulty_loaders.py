"""Loaders with one fault each, made as real tools and users make them; `healthy` has none.

Each factory takes nothing and gives a `DataLoader`, as `module:factory` names it. What a case rests on is
said beside it.
"""

from __future__ import annotations

import ctypes
import fcntl
import gzip
import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

FOLDER = Path(os.environ.get("PROBE_FOLDER", "."))
SHAPE = (1, 8, 8, 8)


class Compose:
    """As torchvision's and MONAI's: a list of transforms, under `transforms`."""

    def __init__(self, transforms: list[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, value: Any) -> Any:
        for transform in self.transforms:
            value = transform(value)
        return value


class Scale:
    def __call__(self, value: torch.Tensor) -> torch.Tensor:
        return value / 100


class Standardize:
    """Zero mean, unit spread: of a constant image 0 / 0."""

    def __call__(self, value: torch.Tensor) -> torch.Tensor:
        return (value - value.mean()) / value.std()


class NormalizePhotograph:
    """As torchvision's `Normalize` with ImageNet's means: one for each of three channels, in place."""

    def __call__(self, value: torch.Tensor) -> torch.Tensor:
        means = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1, 1)
        return value.sub_(means)


class Volumes(Dataset[Any]):
    """Volumes that are made from their number; `read` may do anything else."""

    def __init__(
        self,
        n: int = 12,
        read: Callable[[int], torch.Tensor] | None = None,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.n, self.read, self.transform = n, read or volume, transform

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> torch.Tensor:
        value = self.read(index)
        return value if self.transform is None else self.transform(value)


def volume(index: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(index).normal(100, 20, SHAPE).astype(np.float32))


def loader(dataset: Dataset[Any], **settings: Any) -> DataLoader[Any]:
    return DataLoader(
        dataset, **{"batch_size": 2, "num_workers": 2, "multiprocessing_context": "fork", **settings}
    )


def healthy() -> DataLoader[Any]:
    return loader(Volumes(transform=Compose([Scale(), Standardize()])), shuffle=True)


def healthy_spawned() -> tuple[DataLoader[Any], DataLoader[Any]]:
    return loader(Volumes(), multiprocessing_context="spawn"), DataLoader(Volumes(n=4))


def _with_semaphores(index: int) -> torch.Tensor:
    used = {
        line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/sem.mp-" in line
    }
    (FOLDER / f"semaphores-{os.getpid()}").write_text("\n".join(used))
    return volume(index)


def says_its_semaphores() -> DataLoader[Any]:
    return loader(Volumes(read=_with_semaphores))


# -- data -----------------------------------------------------------------------------------------------


def _read_gzipped(index: int) -> torch.Tensor:
    with gzip.open(FOLDER / f"{index}.gz") as file:
        return torch.from_numpy(np.frombuffer(file.read(), np.float32).reshape(SHAPE).copy())


def corrupt_volume() -> DataLoader[Any]:
    """A download that broke off: the gzip stream ends before its end marker."""
    for index in range(12):
        (FOLDER / f"{index}.gz").write_bytes(gzip.compress(volume(index).numpy().tobytes()))
    (FOLDER / "7.gz").write_bytes((FOLDER / "7.gz").read_bytes()[:400])
    return loader(Volumes(read=_read_gzipped))


def _with_nan(index: int) -> torch.Tensor:
    value = volume(index)
    if index == 5:
        value[0, 1, 2, 3] = float("nan")
    return value


def nan_in_an_item() -> DataLoader[Any]:
    """As dose grids and resampled images have it outside of what was measured."""
    return loader(Volumes(read=_with_nan))


def _with_constant(index: int) -> torch.Tensor:
    return torch.zeros(SHAPE) if index == 4 else volume(index)


def nan_from_a_transform() -> DataLoader[Any]:
    """An empty image has no spread to divide by."""
    return loader(Volumes(read=_with_constant, transform=Compose([Scale(), Standardize()])))


def three_channels() -> DataLoader[Any]:
    return loader(Volumes(transform=Compose([Scale(), NormalizePhotograph()])))


def _ragged(index: int) -> torch.Tensor:
    return torch.zeros(1, 8, 8, 8 + (index == 9))


def ragged_shapes() -> DataLoader[Any]:
    """Scans of one protocol have one number of slices, but for some."""
    return loader(Volumes(read=_ragged))


def _one_of_many(index: int) -> torch.Tensor:
    if index == 7342:
        raise ValueError("expected 64 slices, found 63")
    return torch.zeros(2)


def one_of_10000() -> DataLoader[Any]:
    return loader(Volumes(n=10_000, read=_one_of_many), shuffle=True, batch_size=32)


# -- errors and ends ------------------------------------------------------------------------------------


def _unpicklable(index: int) -> torch.Tensor:
    class CodecError(Exception):
        """Of a library that makes its exceptions in a function, as ctypes and SWIG bindings do."""

    if index == 3:
        raise CodecError("bad marker")
    return volume(index)


def unpicklable_error() -> DataLoader[Any]:
    """PyTorch sends an exception's class by name: a local one is lost, and the loader waits for ever."""
    return loader(Volumes(read=_unpicklable))


def _exit_at_once(worker: int) -> None:
    os._exit(1)


def exit_before_batch_0() -> DataLoader[Any]:
    """A library that ends the process where it finds no licence or device."""
    return loader(Volumes(), worker_init_fn=_exit_at_once)


def _crash(index: int) -> torch.Tensor:
    if index == 6:
        ctypes.string_at(0)
    return volume(index)


def segfault() -> DataLoader[Any]:
    return loader(Volumes(read=_crash))


def _sleep(index: int) -> torch.Tensor:
    if index == 4:
        time.sleep(60)
    return volume(index)


def slow_item() -> DataLoader[Any]:
    return loader(Volumes(read=_sleep))


# -- the machine ----------------------------------------------------------------------------------------

_KEPT: list[Any] = []


def _too_large(index: int) -> torch.Tensor:
    if index == 8:
        _KEPT.append(torch.ones(2000, 2**18))
        time.sleep(2)
    return volume(index)


def out_of_memory() -> DataLoader[Any]:
    """2 GB for one item; the test's limit is less."""
    return loader(Volumes(read=_too_large))


def _leaves_open(index: int) -> torch.Tensor:
    _KEPT.append(open(os.devnull, "rb"))  # noqa: SIM115  (that is the fault)
    return volume(index)


def too_many_files() -> DataLoader[Any]:
    """A reader that is never closed, and the limit that many systems have (less of it, to be quick)."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96))
    return loader(Volumes(n=200, read=_leaves_open))


def leaves_files_open() -> DataLoader[Any]:
    """The same below the limit: it would be reached after some hundred items."""
    return loader(Volumes(n=24, read=_leaves_open))


def of_a_store() -> DataLoader[Any]:
    """A healthy data set of ours, whose store keeps files open for the next time."""
    from radiobject_assets.store import RadiObject
    from radiobject_assets.training import VolumeCollectionDataset

    return loader(VolumeCollectionDataset(RadiObject(os.environ["PROBE_STORE"]).collection("ct")))


def _large(index: int) -> torch.Tensor:
    return torch.zeros(4, 2**20)


def full_shared_memory() -> DataLoader[Any]:
    """16 MB an item where /dev/shm has 24: a container without --shm-size has 64."""
    return loader(Volumes(read=_large), batch_size=1)


# -- workers --------------------------------------------------------------------------------------------

_LOCK = threading.Lock()


def _hold_now_and_then() -> None:
    while True:
        with _LOCK:
            time.sleep(0.2)
        time.sleep(0.001)


def _with_lock(index: int) -> torch.Tensor:
    with _LOCK:
        return volume(index)


def deadlock_after_fork() -> DataLoader[Any]:
    """A thread of a logger holds a lock at the moment of the fork; in the child nobody releases it."""
    threading.Thread(target=_hold_now_and_then, daemon=True).start()
    return loader(Volumes(read=_with_lock))


_OWNER = os.getpid()


def _not_after_fork(index: int) -> torch.Tensor:
    if os.getpid() != _OWNER:
        raise RuntimeError("Cannot re-initialize in forked subprocess")
    return volume(index)


def not_fork_safe() -> DataLoader[Any]:
    """As CUDA, gRPC and others that remember in which process they were started."""
    return loader(Volumes(read=_not_after_fork))


class _SharedFile(Dataset[Any]):
    """One open file for all: a forked worker moves the place at which another one reads."""

    def __init__(self, path: Path, n: int) -> None:
        self.n, self.file = n, path.open("rb", buffering=0)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> torch.Tensor:
        self.file.seek(index * 4096)
        time.sleep(0.002)
        return torch.from_numpy(np.frombuffer(self.file.read(4096), np.uint8).copy())


def shared_offset() -> DataLoader[Any]:
    path = FOLDER / "all.raw"
    path.write_bytes(b"".join(bytes([index % 256]) * 4096 for index in range(400)))
    return loader(_SharedFile(path, 400))


def _exclusive(index: int) -> torch.Tensor:
    """A database that one process may open at a time, as LMDB and HDF5 files opened for writing."""
    if not _KEPT:
        _KEPT.append((FOLDER / "index.db").open("wb"))
        fcntl.flock(_KEPT[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    time.sleep(0.05)
    return volume(index)


def needs_two_workers() -> DataLoader[Any]:
    return loader(Volumes(read=_exclusive))


class _Reader:
    """What every real reader has: a handle that can't be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def _with_reader(index: int) -> dict[str, Any]:
    return {"image": volume(index), "reader": _Reader()}


def _first(items: list[Any]) -> Any:
    return items[0]


def batch_with_a_reader() -> DataLoader[Any]:
    return loader(Volumes(read=_with_reader), batch_size=1, collate_fn=_first)  # type: ignore[arg-type]


def lambda_under_spawn() -> DataLoader[Any]:
    return loader(Volumes(read=lambda index: volume(index)), multiprocessing_context="spawn")


def does_not_open() -> DataLoader[Any]:
    raise FileNotFoundError("there is no list of cases")
